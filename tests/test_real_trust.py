"""What distances mean on Galaxy Zoo 1: chance, probabilities, prevalence, far references."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from query_algebra import images

import skytwin
from skytwin.answers.calibrate import calibrate, calibrate_distances
from skytwin.answers.drift import compare_distances
from skytwin.answers.drift_far import far_query
from skytwin.answers.drift_prevalence import estimate_prevalence
from skytwin.answers.query import resolve
from skytwin.answers.search import search
from skytwin.answers.significance import significance
from skytwin.embeddings.table import Embeddings

pytestmark = [pytest.mark.real, pytest.mark.slow]


@pytest.fixture(scope="module")
def gz1(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Embeddings:
    folder = tmp_path_factory.mktemp("trust")
    # Principal components: the network takes minutes, and what is tested is not the encoder.
    return skytwin.embed(images(made), "pca:48", folder / "emb", crop=64, orbit="d4", quiet=True)


@pytest.fixture(scope="module")
def label(gz1: Embeddings) -> np.ndarray:
    return np.array(gz1.catalog["morphology"].to_pylist())


def some_of(gz1: Embeddings, label: np.ndarray, kind: str, seed: int) -> list[str]:
    rng = np.random.default_rng(seed)
    return [str(n) for n in gz1.ids[rng.choice(np.flatnonzero(label == kind), 5, replace=False)]]


def test_references_that_share_something_are_told_from_those_that_do_not(
    gz1: Embeddings, label: np.ndarray
) -> None:
    share: dict[str, list[float]] = {"EdgeOn": [], "Merger": []}
    for kind, found in share.items():
        for seed in range(8):
            like = some_of(gz1, label, kind, seed)
            matches = search(gz1, like, k=50, combine="mean")
            given = significance(matches, seed=seed, quiet=True)
            found.append(float(given.expected_random[-1]) / 50)
            assert (given.q_value >= 0.02).all()  # one class in six is in every null
    print({kind: np.round(np.median(found), 2) for kind, found in share.items()})
    assert np.median(share["EdgeOn"]) < 0.6 * np.median(share["Merger"])


def test_probabilities_come_true_on_objects_left_out(gz1: Embeddings, label: np.ndarray) -> None:
    curve = skytwin.purity(
        gz1, some_of(gz1, label, "EdgeOn", 0), "morphology=EdgeOn", combine="mean"
    )
    distance, positive = curve.ranked.distance, label[curve.ranked.rows] == "EdgeOn"
    half = np.random.default_rng(0).random(len(distance)) < 0.5
    found = calibrate_distances(distance[half], positive[half])
    p = found.predict(distance[~half])
    print(found.summary, f"other half: {p.sum():.0f} predicted, {positive[~half].sum()} are")
    assert found.skill_lower > 0
    assert p.sum() == pytest.approx(positive[~half].sum(), rel=0.15)
    error = ((p - positive[~half]) ** 2).mean()
    assert error < ((positive[half].mean() - positive[~half]) ** 2).mean()  # by the base rate
    assert error == pytest.approx(found.brier, rel=0.15)
    bins = calibrate(curve).reliability
    assert ((bins.lower <= bins.predicted) & (bins.predicted <= bins.upper)).mean() >= 0.6


def test_another_prevalence_is_found_without_labels(gz1: Embeddings, label: np.ndarray) -> None:
    curve = skytwin.purity(
        gz1, some_of(gz1, label, "EdgeOn", 1), "morphology=EdgeOn", combine="mean"
    )
    distance, positive = curve.ranked.distance, label[curve.ranked.rows] == "EdgeOn"
    covered = 0
    for seed in range(6):
        rng = np.random.default_rng(seed)
        here = rng.random(len(distance)) < 0.5
        there = ~here & (~positive | (rng.random(len(distance)) < 0.2))
        calibration = calibrate_distances(distance[here], positive[here], method="isotonic")
        found = estimate_prevalence(calibration, distance[there], seed=seed)
        truth = positive[there].mean()
        print(f"{found.summary}; in truth {truth:.3g}")
        covered += found.refused is None and found.there.lower <= truth <= found.there.upper
    assert covered >= 5


def test_a_picture_that_is_no_galaxy_is_far(
    gz1: Embeddings, label: np.ndarray, tmp_path: Path
) -> None:
    own = gz1.cutouts().flux(slice(0, 1))[0]
    noise = np.random.default_rng(0).integers(0, 256, own.shape).astype(np.uint8)
    for name, picture in (("noise", noise), ("negative", 255 - own.astype(np.uint8))):
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.moveaxis(picture, 0, 2)[..., ::-1])
    strange = [tmp_path / "noise.png", tmp_path / "negative.png"]
    like = resolve(gz1, [*strange, *some_of(gz1, label, "EdgeOn", 0)])
    found = far_query(gz1, like, metric="euclidean", quiet=True)
    print(found.table.to_pydict(), found.warning)
    assert found.far[1]
    assert not found.far[2:].any()
    assert found.warning is not None


def test_halves_of_one_survey_do_not_drift(gz1: Embeddings, label: np.ndarray) -> None:
    matches = search(gz1, some_of(gz1, label, "EdgeOn", 0), k=len(gz1), combine="mean")
    half = np.random.default_rng(0).random(len(matches)) < 0.5
    found = compare_distances(matches.distance[half], matches.distance[~half])
    print(found.summary)
    assert found.verdict == "same"
    other = compare_distances(matches.distance[half], 1.1 * matches.distance[~half])
    assert other.verdict != "same"
