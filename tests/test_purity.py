from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta

import skytwin
from skytwin.answers.intervals import Proportion, jeffreys
from skytwin.embeddings.table import Embeddings
from skytwin.errors import DataError, Mismatch, UsageError
from toys import labelled


def test_the_curve_counts_what_brute_force_counts() -> None:
    emb = labelled()
    curve = skytwin.purity(emb, "s7", "kind=a", metric="euclidean")
    x = np.asarray(emb.vectors).astype(float)
    distance = np.sqrt(((x - x[7]) ** 2).sum(1))
    others = np.arange(400) != 7
    hit = np.array(emb.catalog["kind"].to_pylist()) == "a"
    for at in (0, 10, 100, 397, 398):
        inside = others & (distance <= curve.distance[at] + 1e-12)
        assert curve.count[at] == inside.sum()
        assert curve.positives[at] == (inside & hit).sum()
        assert curve.purity[at] == pytest.approx((inside & hit).sum() / inside.sum())
    assert curve.purity[-1] == curve.base.value == pytest.approx(hit[others].mean())
    assert curve.lift[-1] == pytest.approx(1.0)
    assert (np.diff(curve.distance) > 0).all()
    assert ((curve.lower <= curve.purity) & (curve.purity <= curve.upper)).all()


def test_references_are_in_no_number() -> None:
    curve = skytwin.purity(labelled(), rare()[:5], "kind=a")
    assert curve.base.total == 395
    assert curve.base.hits == len(rare()) - 5


@given(st.integers(0, 500), st.integers(0, 500), st.sampled_from([0.68, 0.95, 0.99]))
def test_jeffreys_is_the_quantile_of_its_beta(hits: int, misses: int, level: float) -> None:
    total = hits + misses
    lower, upper = jeffreys(np.array([hits]), np.array([total]), level)
    truth = beta(hits + 0.5, misses + 0.5)
    assert lower[0] == pytest.approx(0 if hits == 0 else truth.ppf((1 - level) / 2), abs=1e-9)
    assert upper[0] == pytest.approx(1 if misses == 0 else truth.ppf((1 + level) / 2), abs=1e-9)


@pytest.mark.parametrize(("share", "total"), [(0.02, 100), (0.5, 50), (0.3, 200)])
def test_jeffreys_covers_about_as_often_as_it_says(share: float, total: int) -> None:
    hits = np.random.default_rng(1).binomial(total, share, 4000)
    lower, upper = jeffreys(hits, np.full(4000, total))
    assert 0.92 < ((lower <= share) & (share <= upper)).mean() < 0.99


def test_objects_at_one_distance_come_in_together() -> None:
    x = np.array([[0.0], [1], [1], [1], [2]])
    emb = Embeddings.from_arrays(x, list("abcde"), {"k": ["p", "p", "n", "n", "p"]})
    curve = skytwin.purity(emb, "a", "k=p", metric="euclidean")
    assert list(curve.count) == [3, 4]
    assert list(curve.positives) == [1, 2]


def rare(seed: int = 0) -> list[str]:
    emb = labelled(seed=seed)
    return [str(emb.ids[i]) for i, k in enumerate(emb.catalog["kind"].to_pylist()) if k == "a"]


def test_thresholds() -> None:
    curve = skytwin.purity(labelled(), rare()[:3], "kind=a", metric="euclidean")
    cut = curve.at_purity(0.5)
    assert cut.within.value >= 0.5
    assert (curve.purity[curve.distance > cut.distance] < 0.5).all()
    again = curve.at_distance(cut.distance)
    assert again.within == cut.within
    assert curve.at_distance(0.0).within.total == 0
    assert curve.at_count(25).within.total == 25
    assert curve.at_count(10**6).within.total == 397
    with pytest.raises(UsageError, match="at most 1"):
        curve.at_purity(1.5)


def test_a_purity_out_of_reach_names_the_best() -> None:
    x = np.arange(10.0)[:, None]
    emb = Embeddings.from_arrays(x, list("abcdefghij"), {"k": list("pnpppppnnn")})
    curve = skytwin.purity(emb, "a", "k=p", metric="euclidean")
    with pytest.raises(DataError, match=r"purity 0\.95 is not reached.*the best is 0\.833"):
        curve.at_purity(0.95)


def test_labels_that_are_missing_are_not_counted() -> None:
    x = np.arange(6.0)[:, None]
    emb = Embeddings.from_arrays(x, list("abcdef"), {"k": ["p", None, "p", "n", None, "n"]})
    curve = skytwin.purity(emb, "a", "k=p", metric="euclidean")
    assert (curve.base.hits, curve.base.total, curve.unlabelled) == (1, 3, 2)
    assert list(curve.distance) == [2, 3, 5]
    with pytest.raises(DataError, match="check the value's spelling"):
        skytwin.purity(emb, "a", "k=q")
    with pytest.raises(UsageError, match="unknown column 'kk'"):
        skytwin.purity(emb, "a", "kk=p")
    emb = Embeddings.from_arrays(x, list("abcdef"), {"k": ["p", None, None, None, None, None]})
    with pytest.raises(DataError, match="no object but the references has a label"):
        skytwin.purity(emb, "a", "k=p")


def test_positives_by_value_number_condition_or_several() -> None:
    emb = labelled()
    base = skytwin.purity(emb, "s7", "kind=a").base.hits
    assert skytwin.purity(emb, "s7", "kind = 'a'").base.hits == base
    assert skytwin.purity(emb, "s7", ["kind=a", "kind=b"]).base.hits == 399
    z = np.array(emb.catalog["z"].to_pylist())
    assert skytwin.purity(emb, "s7", "z > 0.5").base.hits == (np.delete(z, 7) > 0.5).sum()
    table = Embeddings.from_arrays(np.eye(4), "abcd", {"n": [1, 2, 3, 3]})
    assert skytwin.purity(table, "a", "n=3").base.hits == 2
    with pytest.raises(UsageError, match="holds numbers"):
        skytwin.purity(table, "a", "n=three")


def test_composition_is_a_count_of_the_top() -> None:
    emb = labelled()
    curve = skytwin.purity(emb, "s7", "kind=a")
    comp = curve.composition("kind", top=50)
    top = np.array(emb.catalog["kind"].to_pylist())[curve.ranked.rows[:50]]
    assert dict(zip(comp.classes, (s.hits for s in comp.share), strict=True)) == {
        "a": (top == "a").sum(),
        "b": (top == "b").sum(),
    }
    assert sum(b.hits for b in comp.base) == 399
    assert comp.table["lift"].to_pylist()[0] == pytest.approx(
        comp.share[0].value / comp.base[0].value
    )
    with pytest.raises(UsageError, match="unknown column"):
        curve.composition("class")


def test_a_threshold_is_carried_over_with_the_first_sets_scaling() -> None:
    here, there = labelled(seed=1), labelled(seed=2)
    first = rare(seed=1)[0]
    curve = skytwin.purity(here, first, "kind=a", combine="mean")
    cut = curve.at_purity(0.5)
    carried = curve.carry_to(there, cut)
    x, y = (np.asarray(e.vectors).astype(float) for e in (here, there))
    z = (y - x.mean(0)) / x.std(0)
    row = here.index[first]
    q = (x[row] - x.mean(0)) / x.std(0)
    distance = 1 - (z @ q) / np.linalg.norm(z, axis=1) / np.linalg.norm(q)
    inside = (distance <= cut.distance) & (np.arange(400) != row)
    assert carried.selected_there == inside.sum()
    hit = np.array(there.catalog["kind"].to_pylist()) == "a"
    assert carried.there.hits == (inside & hit).sum()
    assert carried.here == cut.within
    bare = Embeddings.from_arrays(y, [f"t{i}" for i in range(400)])
    carried = curve.carry_to(bare, cut)
    assert not carried.labelled
    assert carried.there.total == 0
    with pytest.raises(Mismatch, match="vectors of 5 numbers"):
        curve.carry_to(Embeddings.from_arrays(np.eye(5), "abcde"), cut)


@settings(max_examples=30)
@given(st.integers(0, 30), st.integers(1, 30))
def test_a_proportion_contains_its_value(hits: int, misses: int) -> None:
    found = Proportion.of(hits, hits + misses)
    assert found.lower <= found.value <= found.upper
