"""Tail probabilities and q-values: exact where they should be, controlled where truth is known."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom

from skytwin.answers.figures_trust import null_distribution
from skytwin.answers.ranking import How, make_ranker
from skytwin.answers.search import search
from skytwin.answers.significance import significance
from skytwin.answers.significance_null import draw_queries, null_distances
from skytwin.embeddings.table import Embeddings
from skytwin.errors import DataError, UnknownName, UsageError
from toys import labelled

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks" / "science"))
import significance_null as simulation


@pytest.fixture(scope="module")
def survey() -> Embeddings:
    return labelled(600, 12, 0.1)


def of_kind(embeddings: Embeddings, kind: str, count: int) -> list[str]:
    kinds = np.array(embeddings.catalog["kind"].to_pylist())
    return [str(name) for name in embeddings.ids[np.flatnonzero(kinds == kind)[:count]]]


@pytest.mark.parametrize("references", [1, 5])
def test_tail_probability_is_uniform_for_random_references(references: int) -> None:
    count = 120
    p = simulation.tail_probabilities(references, count, seed=references, size=300)
    assert p.min() >= 0.01
    for level in (0.05, 0.1, 0.5):
        # Exactly valid: more often than this by chance once in a thousand.
        assert (p <= level).sum() <= binom.ppf(0.999, count, level)
        assert (p <= level).sum() >= binom.ppf(0.001, count, level - 0.01)


@pytest.mark.parametrize(("references", "combine"), [(1, "mean"), (5, "mean"), (5, "min")])
def test_q_values_of_clumps_are_kept(references: int, combine: str) -> None:
    false, found = simulation.mixture(
        simulation.Mixture(size=2000, clump=60),
        references,
        6,
        3,
        combine,
        "standardized",
        "alike",
    )
    levels = np.array(simulation.Q_LEVELS)
    assert (false.mean(axis=0)[:4] <= levels[:4] + 0.02).all()
    assert (np.diff(found, axis=1) >= 0).all()
    assert found[:, -1].mean() > 0.6


def test_groups_of_random_objects_do_not_control_the_rate() -> None:
    """Why q-values are made from groups as alike as the references."""
    false, _ = simulation.mixture(
        simulation.Mixture(size=2000, clump=60), 5, 3, 3, "mean", "standardized", "random"
    )
    assert false[:, simulation.Q_LEVELS.index(0.1)].mean() > 0.4


@pytest.mark.parametrize(
    ("metric", "combine"),
    [
        *(("standardized", c) for c in ("mean", "min", "logistic", "lda", "mean+logistic")),
        *((m, "mean") for m in ("euclidean", "cosine", "whitened", "csls")),
        ("euclidean", "min"),
    ],
)
def test_fast_counts_are_those_of_one_ranker_each(
    survey: Embeddings, metric: str, combine: str
) -> None:
    like = of_kind(survey, "a", 3)
    unlike = () if combine == "min" else of_kind(survey, "b", 2)
    matches = search(survey, like, unlike=unlike, k=40, metric=metric, combine=combine)
    how = How.of(metric=metric, combine=combine, seed=0, same_arcsec=2.0)
    rng = np.random.default_rng(0)
    pool = np.arange(300, 600)
    sample = rng.choice(pool, 100, replace=False)
    queries = draw_queries(survey, matches.references, how, "random", pool, 20, rng)
    fast = null_distances(
        survey, matches.references, how, matches.ranker, queries,
        rows=matches.rows, distance=matches.distance, sample=sample,
    )  # fmt: skip
    negatives = [r for r in matches.references if r.negative]
    nearer, counted, pooled = np.zeros(40), np.zeros(40), []
    for chosen in queries:
        group = search(survey, [str(n) for n in survey.ids[chosen]], k=1, metric=metric,
                       combine=combine).references  # fmt: skip
        ranker = make_ranker(survey, [*group, *negatives], how)
        free = ~np.isin(matches.rows, chosen)
        near = ranker.exact(survey.vectors.take(matches.rows)).distance <= matches.distance + 1e-6
        nearer, counted = nearer + (near & free), counted + free
        others = sample[~np.isin(sample, chosen)]
        pooled.append(ranker.exact(survey.vectors.take(others)).distance)
    np.testing.assert_array_equal(fast.counted, counted)
    np.testing.assert_allclose(fast.nearer, nearer, atol=1)
    np.testing.assert_allclose(fast.pooled, np.sort(np.concatenate(pooled)), atol=2e-4)


@pytest.mark.parametrize("combine", ["fusion", "lda", "auto"])
def test_learned_and_ranked_combinations(survey: Embeddings, combine: str) -> None:
    matches = search(survey, of_kind(survey, "a", 5), k=20, combine=combine)
    found = significance(matches, null_queries=19, sample=100, quiet=True)
    assert ((found.tail_probability >= 0.05) & (found.tail_probability <= 1)).all()
    assert (np.diff(found.q_value) >= 0).all()


def test_alike_groups_are_as_alike(survey: Embeddings) -> None:
    matches = search(survey, of_kind(survey, "a", 5), k=1, metric="euclidean")
    how = How.of(metric="euclidean", combine="mean", seed=0, same_arcsec=2.0)
    rng = np.random.default_rng(0)

    def spread(rows: np.ndarray) -> float:
        x = survey.vectors.take(rows)
        apart = np.sqrt(((x[:, None] - x) ** 2).sum(axis=2))
        return float(apart[apart.sum(axis=1).argmin()].sum() / (len(rows) - 1))

    own = spread(np.array([survey.index[r.id] for r in matches.references if r.id]))
    drawn = {
        null: draw_queries(survey, matches.references, how, null, np.arange(600), 40, rng)  # type: ignore[arg-type]
        for null in ("alike", "random")
    }
    assert all(len(set(query)) == 5 for queries in drawn.values() for query in queries)
    alike, random = (np.median([spread(q) for q in drawn[n]]) for n in ("alike", "random"))
    assert abs(alike - own) < 0.5 * abs(random - own)


def test_q_values_are_what_their_definition_says(survey: Embeddings) -> None:
    matches = search(survey, of_kind(survey, "a", 4), k=60, combine="mean")
    found = significance(matches, seed=3)
    within = np.array([(found.null <= d).sum() for d in matches.distance])
    expected = found.searched * (1 + within) / (1 + len(found.null))
    np.testing.assert_allclose(found.expected, expected)
    rate = expected / np.arange(1, 61)
    q = [min(1.0, rate[i:].min()) for i in range(60)]
    np.testing.assert_allclose(found.q_value, q)
    assert found.accepted(1.0) == 60
    assert found.accepted(float(found.q_value[9])) >= 10
    assert found.table.column_names == ["tail_probability", "expected", "q_value"]
    again = significance(matches, seed=3)
    np.testing.assert_array_equal(found.q_value, again.q_value)
    assert (significance(matches, seed=4).expected != found.expected).any()


def test_what_cannot_be_resolved_is_below_its_limit() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1500, 16))
    x[:30] = 6 + 0.05 * rng.standard_normal((30, 16))
    embeddings = Embeddings.from_arrays(x, [f"s{i}" for i in range(1500)])
    matches = search(embeddings, ["s0", "s1", "s2"], k=27, metric="euclidean")
    found = significance(matches, null="random")
    assert found.tail_text[0] == "< 0.01"
    assert found.q_text[0].startswith("< ")
    assert found.q_value[0] == pytest.approx(1497 / (len(found.null) + 1) / 27)
    assert "< " in found.summary
    assert found.warning is None
    hardly = significance(search(embeddings, ["s100", "s200", "s300"], k=200, metric="euclidean"))
    assert hardly.warning is not None
    assert "share too little" in hardly.warning


def test_an_object_and_its_other_entry_are_not_their_own_null() -> None:
    rng = np.random.default_rng(1)
    x = rng.standard_normal((120, 6))
    ra, dec = np.linspace(10, 20, 120), np.zeros(120)
    x[1], ra[1] = x[0], ra[0]  # the same object twice
    embeddings = Embeddings.from_arrays(x, [f"s{i}" for i in range(120)], {"ra": ra, "dec": dec})
    matches = search(embeddings, "s5", k=119, combine="mean")
    how = How.of(metric="standardized", combine="mean", seed=0, same_arcsec=2.0)
    queries = np.arange(120)[:, None]  # every object is a null query once
    found = null_distances(
        embeddings, matches.references, how, matches.ranker, queries,
        rows=matches.rows, distance=matches.distance, sample=np.arange(120),
    )  # fmt: skip
    expected = np.where(np.isin(matches.rows, [0, 1]), 118, 119)
    np.testing.assert_array_equal(found.counted, expected)
    assert len(found.pooled) == 120 * 120 - 120 - 2
    assert found.pooled[0] > 0.01


def test_references_among_the_matches_have_no_numbers(survey: Embeddings) -> None:
    like = of_kind(survey, "a", 3)
    inside = search(survey, like, k=30, include_self=True, combine="mean")
    found = significance(inside)
    own = np.isin(inside.ids, like)
    assert own.sum() == 3
    assert np.isnan(found.q_value[own]).all()
    assert np.isnan(found.tail_probability[own]).all()
    without = significance(search(survey, like, k=27, combine="mean"))
    np.testing.assert_array_equal(found.q_value[~own], without.q_value)


def test_only_what_was_searched_is_drawn_from(survey: Embeddings) -> None:
    matches = search(survey, of_kind(survey, "a", 3), k=20, where="z < 0.3", combine="mean")
    found = significance(matches)
    assert found.searched < 300
    nothing = search(survey, of_kind(survey, "a", 3), radius=0.0, combine="mean")
    empty = significance(nothing)
    assert len(empty) == 0
    assert empty.summary == "no match beside the references"
    assert empty.warning is None
    with pytest.raises(UsageError, match="no matches to hold against chance"):
        null_distribution(empty)


def test_figure_marks_every_match(survey: Embeddings) -> None:
    found = significance(search(survey, of_kind(survey, "a", 4), k=33, combine="mean"))
    ax = null_distribution(found)
    marks = [line for line in ax.lines if line.get_label() == "33 matches"]
    np.testing.assert_array_equal(marks[0].get_xdata(), found.distance)
    legend = ax.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == [
        "to 4 objects at random", "to 4 objects as alike as the references", "33 matches",
    ]  # fmt: skip


def test_settings_out_of_range(survey: Embeddings) -> None:
    matches = search(survey, "s1", k=5, combine="mean")
    with pytest.raises(UsageError, match="9 null queries; expected at least 19"):
        significance(matches, null_queries=9)
    with pytest.raises(UsageError, match="a sample of 3 objects"):
        significance(matches, sample=3)
    with pytest.raises(UnknownName, match="unknown null 'same'"):
        significance(matches, null="same")
    with pytest.raises(UsageError, match="q-value 0"):
        significance(matches).accepted(0)
    tiny = Embeddings.from_arrays(np.eye(5), list("abcde"))
    with pytest.raises(DataError, match="2 objects were searched"):
        significance(search(tiny, ["a", "b", "c"], k=2, combine="mean"))
