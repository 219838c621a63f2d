"""Drift between surveys, prevalence without labels, references far from all data."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from scipy.stats import energy_distance, gamma, ks_2samp, mannwhitneyu
from sklearn.neighbors import NearestNeighbors

from skytwin.answers.calibrate import Calibration, calibrate_distances
from skytwin.answers.drift import compare_distances
from skytwin.answers.drift_far import far_query
from skytwin.answers.drift_prevalence import estimate_prevalence
from skytwin.answers.figures_trust import distance_drift
from skytwin.answers.query import resolve
from skytwin.embeddings.table import Embeddings
from skytwin.errors import DataError, UsageError
from toys import labelled


@pytest.mark.parametrize("shift", [0.0, 0.4])
def test_effects_are_those_of_scipy(shift: float) -> None:
    rng = np.random.default_rng(0)
    a, b = np.round(rng.normal(0, 1, 700), 2), np.round(rng.normal(shift, 1, 300), 2)
    found = compare_distances(a, b)
    assert found.ks.value == pytest.approx(ks_2samp(a, b).statistic)
    assert found.auc.value == pytest.approx(mannwhitneyu(b, a).statistic / 700 / 300)
    between = np.abs(a[:, None] - b).mean()
    assert found.energy.value == pytest.approx(energy_distance(a, b) ** 2 / 2 / between)
    assert (found.median_here, found.median_there) == (np.median(a), np.median(b))
    for effect in (found.ks, found.energy, found.auc):
        assert effect.lower <= effect.value <= effect.upper


def test_binned_effects_of_many_objects_are_as_good() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.normal(0, 1, 40_000), rng.normal(0.3, 1.1, 30_000)
    found = compare_distances(a, b, resamples=50)
    assert found.ks.value == pytest.approx(ks_2samp(a, b).statistic, abs=2e-3)
    assert found.auc.value == pytest.approx(mannwhitneyu(b, a).statistic / 12e8, abs=1e-3)
    assert found.ks.upper - found.ks.lower < 0.02


def test_a_significant_nothing_is_no_drift() -> None:
    rng = np.random.default_rng(2)
    a, b = rng.normal(0, 1, 300_000), rng.normal(0.02, 1, 300_000)
    assert ks_2samp(a, b).pvalue < 1e-6
    found = compare_distances(a, b, resamples=100)
    assert found.verdict == "same"
    assert found.warning is None


def test_verdicts_and_warnings() -> None:
    rng = np.random.default_rng(3)
    a = rng.normal(1, 0.2, 2000)
    differ = compare_distances(a, rng.normal(1.2, 0.2, 2000), threshold=0.7)
    assert differ.verdict == "differ"
    assert differ.warning is not None
    assert "farther there; within 0.7 lie" in differ.warning.replace(")", "")
    few = compare_distances(a[:30], a[30:60])
    assert few.verdict == "unclear"
    assert few.warning is not None
    assert "too few objects" in few.warning
    # Alike on the whole, not where the threshold is.
    near = np.concatenate([a[:1900], rng.normal(0.2, 0.02, 60)])
    tail = compare_distances(a, near, threshold=0.3)
    assert tail.verdict == "same"
    assert tail.warning is not None
    assert "near the threshold" in tail.warning
    ax = distance_drift(tail)
    heights = [sum(p.get_height() for p in c.patches) for c in ax.containers if len(c) > 1]
    assert heights[0] == pytest.approx(1, abs=0.01)
    assert ax.get_title(loc="left") or ax.get_title()


def test_intervals_cover() -> None:
    from scipy.stats import norm

    rng = np.random.default_rng(4)
    ks = auc = 0
    for seed in range(40):
        found = compare_distances(
            rng.normal(0, 1, 400), rng.normal(0.5, 1, 400), resamples=200, seed=seed
        )
        ks += found.ks.lower <= 2 * norm.cdf(0.25) - 1 <= found.ks.upper
        auc += found.auc.lower <= norm.cdf(0.5 / np.sqrt(2)) <= found.auc.upper
    assert ks >= 32
    assert auc >= 34


def survey(
    rng: np.random.Generator, n: int, prevalence: float, stretch: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    positive = rng.random(n) < prevalence
    near, far = rng.gamma(4, 0.06, n), rng.gamma(12, 0.06, n)
    return np.where(positive, near, far) * stretch, positive


@functools.cache
def here(seed: int, n: int = 1000) -> Calibration:
    rng = np.random.default_rng(seed)
    return calibrate_distances(*survey(rng, n, 0.1), method="logistic")


@pytest.mark.parametrize("prevalence", [0.02, 0.4])
def test_prevalence_and_purity_there_without_labels(prevalence: float) -> None:
    rng = np.random.default_rng(5)
    covered = pure = refused = 0
    true, false = gamma.cdf(0.35, 4, scale=0.06), gamma.cdf(0.35, 12, scale=0.06)
    purity = prevalence * true / (prevalence * true + (1 - prevalence) * false)
    for seed in range(12):
        distance, _ = survey(rng, 4000, prevalence)
        found = estimate_prevalence(here(seed), distance, threshold=0.35, seed=seed)
        covered += found.there.lower <= prevalence <= found.there.upper
        refused += found.refused is not None
        if found.purity_there is not None:
            pure += found.purity_there.lower <= purity <= found.purity_there.upper
    assert covered >= 10
    assert refused <= 2
    assert pure >= 9


def test_corrected_probabilities_come_true() -> None:
    rng = np.random.default_rng(6)
    calibration = here(1, 5000)
    distance, positive = survey(rng, 20_000, 0.02)
    found = estimate_prevalence(calibration, distance)
    assert found.warning is not None
    assert "less frequent there" in found.warning
    p = calibration.predict(distance)
    corrected = found.correct(p)
    assert corrected.sum() == pytest.approx(positive.sum(), rel=0.2)
    assert p.sum() > 1.5 * positive.sum()
    error, error_before = ((q - positive) ** 2 for q in (corrected, p))
    assert error.mean() < error_before.mean()
    np.testing.assert_allclose(found.correct([0.0, 1.0]), [0, 1])


def test_the_same_prevalence_is_left_alone() -> None:
    rng = np.random.default_rng(7)
    found = estimate_prevalence(here(2), survey(rng, 5000, 0.1)[0])
    assert found.refused is None
    assert found.warning is None
    assert found.purity_there is None
    assert "prevalence" in found.summary


def test_another_survey_is_refused() -> None:
    rng = np.random.default_rng(8)
    for seed in range(5):
        distance, _ = survey(rng, 4000, 0.1, stretch=1.15)
        found = estimate_prevalence(here(seed), distance, threshold=0.3)
        assert found.refused is not None
        assert "label some objects there" in found.refused
        assert found.purity_there is None
        assert found.warning == found.summary == found.refused
        with pytest.raises(DataError, match="label some objects there"):
            found.correct([0.5])


def test_a_crowd_at_the_threshold_is_refused() -> None:
    """Only one object in twenty differs, but where the list is."""
    rng = np.random.default_rng(9)
    distance, _ = survey(rng, 4000, 0.0)
    crowd = rng.uniform(0.33, 0.35, 200)
    found = estimate_prevalence(here(3, 5000), np.append(distance, crowd), threshold=0.35)
    assert found.refused is not None


@pytest.fixture(scope="module")
def objects() -> Embeddings:
    return labelled(600, 12, 0.2)


@pytest.mark.parametrize("metric", ["standardized", "euclidean", "cosine"])
def test_nearest_are_those_of_scikit_learn(objects: Embeddings, metric: str) -> None:
    references = resolve(objects, ["s1", "s2", "s3"])
    found = far_query(objects, references, metric=metric, sample=597, seed=1)
    x = np.asarray(objects.vectors).astype(np.float64)
    if metric == "standardized":
        x = (x - x.mean(axis=0)) / x.std(axis=0)
    kind = "euclidean" if metric == "euclidean" else "cosine"
    distance, row = NearestNeighbors(n_neighbors=2, metric=kind).fit(x).kneighbors(x)
    np.testing.assert_allclose(found.nearest, distance[1:4, 1], atol=1e-9)
    assert found.nearest_ids == tuple(objects.ids[row[1:4, 1]])
    others = np.sort(np.delete(distance[:, 1], [1, 2, 3]))
    np.testing.assert_allclose(found.sample, others, atol=1e-9)
    tail = [(1 + (others >= d - 1e-9).sum()) / 598 for d in found.nearest]
    np.testing.assert_allclose(found.tail_probability, tail)


def test_a_reference_far_from_all_data_says_so(objects: Embeddings) -> None:
    far = np.zeros(12, dtype=np.float32)
    far[0] = 60.0
    found = far_query(objects, resolve(objects, [far, "s5"]), metric="euclidean")
    np.testing.assert_array_equal(found.far, [True, False])
    assert found.warning is not None
    assert found.warning.startswith("vector is farther from all data than all 400 sampled")
    usual = far_query(objects, resolve(objects, ["s5", "s9"]))
    assert usual.warning is None
    assert "0 of 2 references far" in usual.summary
    assert usual.table.num_rows == 2


def test_tail_probability_of_a_usual_object_is_uniform(objects: Embeddings) -> None:
    found = far_query(objects, resolve(objects, [f"s{i}" for i in range(200)]), sample=400, seed=2)
    assert abs(found.tail_probability.mean() - 0.5) < 0.07
    assert found.far.mean() < 0.02


def test_a_decision_from_few_warns_as_the_whole_sample_does(objects: Embeddings) -> None:
    edge = np.zeros(12, dtype=np.float32)
    asked = [np.float32(s) * (edge + np.eye(12, dtype=np.float32)[0]) for s in (3, 6, 9, 12, 60)]
    warned = []
    for like in [*asked, *(f"s{i}" for i in range(40))]:
        how = {"metric": "euclidean", "limit": 0.01, "seed": 3}
        whole = far_query(objects, resolve(objects, like), **how)
        decided = far_query(objects, resolve(objects, like), decide=True, **how)
        assert decided.far.tolist() == whole.far.tolist()
        assert decided.warning == whole.warning
        np.testing.assert_array_equal(decided.nearest, whole.nearest)
        assert len(decided.sample) in (48, 400)
        warned.append(len(decided.sample))
    assert set(warned) == {48, 400}


def test_another_entry_of_an_object_is_not_its_neighbour() -> None:
    rng = np.random.default_rng(10)
    x = np.repeat(rng.standard_normal((60, 8)), 2, axis=0)
    ra = np.repeat(np.linspace(10, 20, 60), 2)
    ids = [f"s{i}" for i in range(120)]
    with_sky = Embeddings.from_arrays(x, ids, {"ra": ra, "dec": np.zeros(120)})
    found = far_query(with_sky, resolve(with_sky, "s0"), sample=100, limit=0.05)
    assert found.nearest[0] > 0.01
    assert found.sample[0] > 0.01
    without = Embeddings.from_arrays(x, ids)
    assert far_query(without, resolve(without, "s0"), sample=100, limit=0.05).nearest[0] < 1e-9


def test_bad_input(objects: Embeddings) -> None:
    with pytest.raises(DataError, match="5 distances here; expected at least 20"):
        compare_distances(np.arange(5.0), np.arange(50.0))
    with pytest.raises(DataError, match="a distance there is NaN"):
        compare_distances(np.arange(50.0), np.append(np.arange(50.0), np.nan))
    with pytest.raises(UsageError, match="tolerance 2"):
        compare_distances(np.arange(50.0), np.arange(50.0), tolerance=2)
    with pytest.raises(DataError, match="3 distances there"):
        estimate_prevalence(here(0), np.arange(3.0))
    with pytest.raises(UsageError, match="a probability is not between 0 and 1"):
        estimate_prevalence(here(0), here(0).distance).correct([1.5])
    like = resolve(objects, "s1")
    with pytest.raises(UsageError, match="a sample of 5 objects"):
        far_query(objects, like, sample=5)
    with pytest.raises(UsageError, match="limit 0.003 with a sample of 100 objects"):
        far_query(objects, like, sample=100, limit=0.003)
    tiny = Embeddings.from_arrays(np.eye(6), list("abcdef"))
    with pytest.raises(DataError, match="5 objects beside the references"):
        far_query(tiny, resolve(tiny, "a"))
