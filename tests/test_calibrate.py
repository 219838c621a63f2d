"""Probabilities by distance, against surveys whose true probability is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss, log_loss

import skytwin
from skytwin.answers.calibrate import Calibration, calibrate, calibrate_distances
from skytwin.answers.calibrate_fit import FITS
from skytwin.answers.figures_trust import reliability_diagram
from skytwin.answers.labels import Labels
from skytwin.answers.search import search
from skytwin.errors import DataError, Mismatch, UnknownName, UsageError
from toys import labelled


def draw(n: int, seed: int, top: float = 0.9) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distances, labels, and the true probability, which falls with distance."""
    rng = np.random.default_rng(seed)
    distance = rng.gamma(4.0, 0.1, n)
    truth = top / (1 + np.exp(14 * (distance - 0.3)))
    return distance, rng.random(n) < truth, truth


@pytest.mark.parametrize("method", ["auto", "isotonic", "logistic"])
def test_probabilities_are_the_true_ones(method: str) -> None:
    distance, positive, truth = draw(3000, 1, top=1.0)
    found = calibrate_distances(distance, positive, method=method)
    assert np.abs(found.predict(distance) - truth).mean() < 0.03
    lower, upper = found.interval(distance)
    assert ((lower <= found.predict(distance)) & (found.predict(distance) <= upper)).all()
    assert (np.diff(found.predict(np.sort(distance))) <= 1e-12).all()
    if method != "isotonic":  # a step in its own right has no tight interval everywhere
        assert ((lower <= truth) & (truth <= upper)).mean() > 0.5
    assert found.warning is None


def test_scores_are_those_of_held_out_predictions() -> None:
    distance, positive, _ = draw(1500, 2)
    found = calibrate_distances(distance, positive, seed=4)
    assert found.brier == pytest.approx(brier_score_loss(positive, found.held_out))
    assert found.log_loss == pytest.approx(log_loss(positive, found.held_out))
    assert found.log_loss == min(found.tried.values())
    assert found.brier < found.brier_base
    assert found.brier_base == pytest.approx(positive.mean() * (1 - positive.mean()), rel=0.01)
    assert found.skill_lower < found.skill < found.skill_upper
    assert found.skill == pytest.approx(1 - found.brier / found.brier_base)
    # In-sample predictions would be better than those: they are held out.
    inside = found.predict(distance)
    assert brier_score_loss(positive, inside) < found.brier


def test_reliability_counts_every_label_once() -> None:
    distance, positive, _ = draw(2000, 3)
    found = calibrate_distances(distance, positive)
    bins = found.reliability
    assert bins.count.sum() == 2000
    assert (bins.observed * bins.count).sum() == pytest.approx(positive.sum())
    assert (bins.predicted * bins.count).sum() == pytest.approx(found.held_out.sum())
    inside = (bins.lower <= bins.predicted) & (bins.predicted <= bins.upper)
    assert inside.mean() >= 0.7
    assert bins.table.num_rows == len(bins.count)
    ax = reliability_diagram(found)
    points = next(c for c in ax.containers if "held out" in str(c.get_label()))
    np.testing.assert_allclose(points.lines[0].get_xdata(), bins.predicted)
    assert len(ax.texts) == len(bins.count)


def test_copies_of_an_object_do_not_vouch_for_it() -> None:
    """With every object eight times, only folds by group see that distances say nothing."""
    rng = np.random.default_rng(5)
    distance = np.repeat(rng.random(80), 8)
    positive = np.repeat(rng.random(80) < 0.5, 8)
    group = np.repeat(np.arange(80), 8)
    apart = calibrate_distances(distance, positive, method="isotonic")
    together = calibrate_distances(distance, positive, group, method="isotonic")
    assert together.log_loss > apart.log_loss
    assert together.warning is not None
    for name in np.unique(group):
        assert len(np.unique(together.held_out[group == name])) == 1


def test_distances_that_say_nothing_give_the_base_rate() -> None:
    rng = np.random.default_rng(6)
    found = calibrate_distances(rng.random(800), rng.random(800) < 0.3)
    assert np.ptp(found.predict([0.1, 0.9])) < 0.1
    assert found.warning is not None
    assert "not shown to be better than the base rate" in found.warning
    backwards = calibrate_distances(np.arange(200.0) + 1, np.arange(200) >= 100, method="logistic")
    assert np.ptp(backwards.probability) == 0
    assert backwards.predict(3.0)[0] == pytest.approx(0.5, abs=0.01)


def test_perfect_separation_stays_off_0_and_1() -> None:
    distance = np.concatenate([np.linspace(0.1, 0.2, 60), np.linspace(0.5, 0.9, 60)])
    for method in FITS:
        found = calibrate_distances(distance, np.arange(120) < 60, method=method)
        p = found.predict(distance)
        assert 0 < p.min() < 0.1 < 0.9 < p.max() < 1
        assert np.isfinite(found.log_loss)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 30), st.booleans()), min_size=25, max_size=80).filter(
        lambda rows: 0 < sum(hit for _, hit in rows) < len(rows)
    )
)
def test_fits_fall_and_are_probabilities(rows: list[tuple[int, bool]]) -> None:
    distance = np.array([d for d, _ in rows], dtype=float)
    positive = np.array([hit for _, hit in rows])
    weights = np.ones(len(rows))
    along = np.linspace(0.5, 40, 60)
    for fit in FITS.values():
        p = fit(distance, positive)(along)
        assert ((p > 0) & (p < 1)).all()
        assert (np.diff(p) <= 1e-12).all()
        np.testing.assert_allclose(p, fit(distance, positive, weights)(along))
        # An object with weight 2 is that object twice.
        double = fit(np.append(distance, distance[0]), np.append(positive, positive[0]))(along)
        weights2 = np.append(2.0, np.ones(len(rows) - 1))
        np.testing.assert_allclose(fit(distance, positive, weights2)(along), double, atol=1e-6)


@pytest.fixture(scope="module")
def curve() -> skytwin.PurityCurve:
    embeddings = labelled(900, 16, 0.2)
    kinds = np.array(embeddings.catalog["kind"].to_pylist())
    like = [str(name) for name in embeddings.ids[np.flatnonzero(kinds == "a")[:5]]]
    return skytwin.purity(embeddings, like, "kind=a", combine="mean")


def test_from_a_curve_from_matches_and_from_labels(curve: skytwin.PurityCurve) -> None:
    by_curve = calibrate(curve)
    assert by_curve.base.hits == curve.base.hits
    embeddings = curve.embeddings
    like = [reference.name for reference in curve.references]
    matches = search(embeddings, like, k=len(embeddings), combine="mean")
    by_matches = calibrate(matches, positive="kind=a")
    kinds = embeddings.catalog["kind"].to_pylist()
    answers = {
        str(name): "yes" if kind == "a" else "no"
        for name, kind in zip(embeddings.ids, kinds, strict=True)
    }
    by_labels = calibrate(matches, labels=answers)
    for other in (by_matches, by_labels):
        np.testing.assert_allclose(other.predict(curve.distance), by_curve.predict(curve.distance))
    some = {name: answers[name] for name in list(answers)[::2]}
    some |= dict.fromkeys(list(answers)[1:20:2], "unsure")
    half = calibrate(matches, labels=Labels.of_rows(list(some), list(some.values())))
    assert half.base.total == sum(
        answer != "unsure" and name not in like for name, answer in some.items()
    )
    assert isinstance(half, Calibration)
    assert "skill" in half.summary
    assert half.table.column_names == ["distance", "probability", "lower", "upper"]


def test_too_few_labels_say_how_many_more(curve: skytwin.PurityCurve) -> None:
    ids = [str(name) for name in curve.embeddings.ids[curve.ranked.rows]]
    few = {name: "yes" if i < 4 else "no" for i, name in enumerate(ids[:40])}
    with pytest.raises(DataError, match="4 labelled object.* positive of 40;.* 6 more"):
        calibrate(curve, labels=few)
    with pytest.raises(DataError, match="none of 40 labelled objects is positive"):
        calibrate(curve, labels=dict.fromkeys(ids[:40], "no"))
    with pytest.raises(DataError, match="none of 40 labelled objects is not positive"):
        calibrate(curve, labels=dict.fromkeys(ids[:40], "yes"))
    with pytest.raises(DataError, match="no object here has a label"):
        calibrate(curve, labels={"elsewhere": "yes"})


def test_bad_input(curve: skytwin.PurityCurve) -> None:
    with pytest.raises(UsageError, match="either positive=... or labels=..."):
        calibrate(curve, positive="kind=a", labels={"s1": "yes"})
    distance, positive, _ = draw(200, 7)
    with pytest.raises(UnknownName, match="unknown calibration method 'platt'"):
        calibrate_distances(distance, positive, method="platt")
    with pytest.raises(Mismatch, match="distances of shape"):
        calibrate_distances(distance, positive[:5])
    with pytest.raises(DataError, match="NaN or infinite"):
        calibrate_distances(np.append(distance, np.nan), np.append(positive, True))
    with pytest.raises(UsageError, match="log-logistic takes distances above 0"):
        calibrate_distances(distance - 1, positive, method="log-logistic")
    with pytest.raises(DataError, match="a distance is NaN"):
        calibrate_distances(distance, positive).predict(np.nan)
