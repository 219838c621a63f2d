"""Combinations of references against what they are defined as."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression

import skytwin
from skytwin.answers.query import Reference
from skytwin.answers.ranking import How, make_ranker
from skytwin.embeddings.learned import BACKGROUND, RIDGE_PER_FEATURE, SHRINKAGE
from skytwin.embeddings.metric import scorer
from skytwin.embeddings.names import COMBINATIONS, METRICS
from skytwin.embeddings.ranker import Ranker
from skytwin.errors import DataError, UnknownName, UsageError

N, D = 900, 12


@pytest.fixture(scope="module")
def survey() -> skytwin.Embeddings:
    """900 objects, the first 60 of which are shifted along one direction."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((N, D)) @ rng.standard_normal((D, D))
    x[:60] += 2.5 * rng.standard_normal(D)
    x[700] = x[3]
    kind = np.where(np.arange(N) < 60, "odd", "plain")
    return skytwin.Embeddings.from_arrays(x, [f"s{i}" for i in range(N)], {"kind": kind})


def standardized(survey: skytwin.Embeddings) -> np.ndarray:
    x = np.asarray(survey.vectors, dtype=np.float64)
    z: np.ndarray = (x - x.mean(0)) / x.std(0)
    return z


def references(
    survey: skytwin.Embeddings, rows: list[int], negative: tuple[int, ...] = ()
) -> list[Reference]:
    return [
        Reference(
            name=f"s{i}",
            id=f"s{i}",
            kind="object",
            vector=survey.vectors[i],
            negative=i in negative,
        )
        for i in rows
    ]


def ranker_of(survey: skytwin.Embeddings, rows: list[int], *negative: int, **how: Any) -> Ranker:
    return make_ranker(survey, references(survey, rows, negative), How(**how))


EVERY = [("standardized", combine) for combine in COMBINATIONS] + [
    (metric, "mean") for metric in METRICS
]


@pytest.mark.parametrize(("metric", "combine"), EVERY)
@pytest.mark.parametrize("negative", [(), (500, 501)])
def test_the_contract_of_every_ranker(
    survey: skytwin.Embeddings, metric: str, combine: str, negative: tuple[int, ...]
) -> None:
    found = ranker_of(survey, [0, 1, 2, *negative], *negative, metric=metric, combine=combine)
    x = np.asarray(survey.vectors)
    scores = found.exact(x)
    assert scores.distance.shape == (N,)
    assert scores.each.shape == (N, 3)
    assert np.isfinite(scores.distance).all()
    if not negative:
        assert (scores.distance >= 0).all()
    for block in survey.vectors.blocks(256):
        bounds = found.rough(block)
        exact = scores.distance[block.rows]
        assert (bounds.lower <= exact).all()
        assert (exact <= bounds.upper).all()
        assert (bounds.upper - bounds.lower).max() < 1e-3 * max(1.0, exact.max())
    # A row's distance does not hang on its neighbours in the block.
    np.testing.assert_array_equal(
        found.exact(x[[700, 3, 5]]).distance[:2], [scores.distance[3]] * 2
    )
    listed = skytwin.search(
        survey,
        ["s0", "s1", "s2"],
        unlike=[f"s{i}" for i in negative],
        k=50,
        metric=metric,
        combine=combine,
    )
    left = np.setdiff1d(np.arange(N), [0, 1, 2, *negative])
    order = left[np.lexsort((left, scores.distance[left]))]
    np.testing.assert_array_equal(listed.rows, order[:50])
    np.testing.assert_array_equal(listed.reference, scores.each[listed.rows].argmin(1))


def test_weighted_mean_and_negatives_by_hand(survey: skytwin.Embeddings) -> None:
    z = standardized(survey)
    apart = cdist(z, z[[0, 1, 500]], "cosine")
    found = skytwin.search(
        survey, ["s0", "s1"], unlike="s500", emphasis=[3, 1], k=N, combine="mean"
    )
    want = (3 * apart[:, 0] + apart[:, 1]) / 4 - 0.5 / 21 * apart[:, 2]
    np.testing.assert_allclose(found.distance, want[found.rows], atol=1e-6)
    assert found.settings["emphasis"] == [3.0, 1.0]
    assert found.references[2].negative
    assert "s500" not in found.ids


def test_reciprocal_rank_fusion_by_hand(survey: skytwin.Embeddings) -> None:
    z = standardized(survey)
    apart = cdist(z, z[[0, 1]], "cosine")
    apart[[0, 1], [0, 1]] = 0
    rank = apart.argsort(0, kind="stable").argsort(0) + 1
    rank[700, :] = rank[3, :]  # at one distance, at one rank: the better of the two
    want = 1 - (61 / (60 + rank)).mean(1)
    found = ranker_of(survey, [0, 1], combine="fusion").exact(np.asarray(survey.vectors))
    np.testing.assert_allclose(found.distance, want, atol=1e-3)


def test_whitened_is_the_cosine_between_scikit_learns_components(
    survey: skytwin.Embeddings,
) -> None:
    white = PCA(whiten=True, svd_solver="full").fit_transform(standardized(survey))
    found = ranker_of(survey, [4], metric="whitened").exact(np.asarray(survey.vectors))
    # The sample is the whole set here, and all twelve components are kept.
    np.testing.assert_allclose(found.distance, cdist(white, white[[4]], "cosine")[:, 0], atol=1e-6)


def test_csls_by_its_definition(survey: skytwin.Embeddings) -> None:
    cosine = 1 - cdist(standardized(survey), standardized(survey), "cosine")
    others = np.where(cosine > 1 - 1e-9, -1, cosine)
    near = np.sort(others, axis=1)[:, -10:].mean(1)
    csls = 2 * cosine[:, 4] - near[4] - near
    found = ranker_of(survey, [4], metric="csls").exact(np.asarray(survey.vectors))
    np.testing.assert_allclose(found.distance, (4 - csls) / 2, atol=1e-6)


def test_logistic_is_scikit_learns_with_balanced_classes(survey: skytwin.Embeddings) -> None:
    z, rows = standardized(survey), [0, 1, 2, 3, 4]
    drawn = survey.sample(7).rows
    background = drawn[~np.isin(drawn, rows)][:BACKGROUND]
    x = np.concatenate([z[rows], z[background]])
    model = LogisticRegression(C=1 / (RIDGE_PER_FEATURE * D), class_weight="balanced", tol=1e-8)
    model.fit(x, np.arange(len(x)) < 5)
    found = ranker_of(survey, rows, combine="logistic", seed=7)
    distance = found.exact(np.asarray(survey.vectors)).distance
    np.testing.assert_allclose(distance, -np.log(model.predict_proba(z)[:, 1]), rtol=2e-2)


def test_exemplar_lda_ranks_as_scikit_learns_shrunk_lda(survey: skytwin.Embeddings) -> None:
    z, rows = standardized(survey), [0, 1, 2, 3, 4]
    covariance = (1 - SHRINKAGE) * np.cov(z.T, bias=True) + SHRINKAGE * np.eye(D)
    rest = np.setdiff1d(np.arange(N), rows)
    want = z @ np.linalg.solve(covariance, z[rows].mean(0) - z[rest].mean(0))
    found = ranker_of(survey, rows, combine="lda").exact(np.asarray(survey.vectors)).distance
    np.testing.assert_array_equal(np.argsort(-want)[:100], np.argsort(found)[:100])
    # And an independent implementation, whose covariance is that within the classes.
    labels = (np.arange(N) < 60).astype(int)
    lda = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=SHRINKAGE).fit(z, labels)
    whole = ranker_of(survey, list(range(60)), combine="lda").exact(np.asarray(survey.vectors))
    assert (
        np.corrcoef(lda.decision_function(z), np.argsort(np.argsort(-whole.distance)))[0, 1] > 0.9
    )


def test_negatives_push_their_like_down(survey: skytwin.Embeddings) -> None:
    for combine in COMBINATIONS:
        plain = skytwin.search(survey, ["s0", "s1"], k=N, combine=combine)
        turned = skytwin.search(survey, ["s0", "s1"], unlike="s500", k=N, combine=combine)
        near = skytwin.search(survey, "s500", k=20, combine="mean").rows
        before = np.flatnonzero(np.isin(plain.rows, near)).mean()
        assert np.flatnonzero(np.isin(turned.rows, near)).mean() > before, combine


def test_a_blend_is_the_sum_of_its_standardised_members(survey: skytwin.Embeddings) -> None:
    rows, x = [0, 1, 2], np.asarray(survey.vectors)
    mean = -ranker_of(survey, rows, combine="mean").exact(x).distance
    logit = -np.log(np.expm1(ranker_of(survey, rows, combine="logistic").exact(x).distance))
    rest = np.setdiff1d(np.arange(N), rows)
    total = sum(w * (s - s[rest].mean()) / s[rest].std() for w, s in ((2, mean), (1, logit)))
    found = ranker_of(survey, rows, combine="mean+logistic").exact(x).distance
    np.testing.assert_allclose(found, np.log1p(np.exp(-total)), rtol=1e-6, atol=1e-9)


def test_auto_takes_lda_where_it_ranks_references_left_out_better() -> None:
    # Two strong common factors hide from the cosine a class that differs across them.
    rng = np.random.default_rng(1)
    x = 3 * rng.standard_normal((N, 2)) @ rng.standard_normal((2, 60))
    x += 0.3 * rng.standard_normal((N, 60))
    x[:40] += 0.8 * np.where(np.arange(60) % 2, 1, -1)
    hidden = skytwin.Embeddings.from_arrays(x, [f"s{i}" for i in range(N)])
    found = skytwin.search(hidden, ["s0", "s1", "s2", "s3", "s4"], k=30)
    assert (found.settings["combine"], found.settings["chosen_by"]) == ("lda", "auto")
    assert (found.rows < 40).mean() > 0.9
    assert "lda distance" in repr(found)
    two = skytwin.search(hidden, ["s0", "s1"], k=30)
    assert two.settings["combine"] == "mean+logistic"
    euclidean = skytwin.search(hidden, ["s0", "s1", "s2"], metric="euclidean")
    assert euclidean.settings["combine"] == "mean"


def test_auto_keeps_the_blend_for_a_plain_class(survey: skytwin.Embeddings) -> None:
    found = skytwin.search(survey, ["s0", "s1", "s2", "s3", "s4"], k=20)
    assert found.settings["combine"] == "mean+logistic"


def test_the_seed_moves_the_background_and_is_recorded(survey: skytwin.Embeddings) -> None:
    one, same, other = (
        skytwin.search(survey, ["s0", "s1"], combine="logistic", seed=seed) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one.distance, same.distance)
    assert not np.array_equal(one.distance, other.distance)
    assert one.settings["seed"] == 1
    assert skytwin.search(survey, "s0", combine="mean").settings["seed"] is None


def test_bad_input(survey: skytwin.Embeddings) -> None:
    with pytest.raises(UsageError, match="'s0' is given as a positive and as a negative"):
        skytwin.search(survey, ["s0", "s1"], unlike="s0")
    with pytest.raises(UsageError, match="emphasis 1, 2; expected 3 positive numbers"):
        skytwin.search(survey, ["s0", "s1", "s2"], emphasis=[1, 2])
    with pytest.raises(UsageError, match="emphasis 1, -2"):
        skytwin.search(survey, ["s0", "s1"], emphasis=[1, -2])
    with pytest.raises(UsageError, match="whatever its emphasis"):
        skytwin.search(survey, ["s0", "s1"], emphasis=[1, 2], combine="min")
    with pytest.raises(UsageError, match="'logistic' learns on standardised features"):
        skytwin.search(survey, "s0", combine="logistic", metric="euclidean")
    with pytest.raises(UnknownName, match="unknown combination 'median'"):
        skytwin.search(survey, "s0", combine="median")
    with pytest.raises(UsageError, match="needs a sample"):
        scorer("csls", np.ones((1, D)), survey.statistics)
    few = skytwin.Embeddings.from_arrays(np.eye(3), "abc")
    with pytest.raises(DataError, match="no background object"):
        skytwin.search(few, ["a", "b", "c"], combine="lda", include_self=True)
