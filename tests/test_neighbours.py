"""The exact scan against float64 brute force and scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics.pairwise import cosine_distances
from sklearn.neighbors import NearestNeighbors

from skytwin.embeddings.metric import scorer
from skytwin.embeddings.names import METRICS, check_combine, check_metric
from skytwin.embeddings.neighbours import nearest, rank_all, within
from skytwin.embeddings.ranker import Combined, Ranker
from skytwin.embeddings.sample import draw
from skytwin.embeddings.vectors import Vectors, measure
from skytwin.errors import DataError, Mismatch, UnknownName, UsageError


def shards(x: np.ndarray, count: int) -> Vectors:
    return Vectors(np.array_split(x, count))


def ranker(
    x: np.ndarray, q: np.ndarray, metric: Any, combine: Any = "mean", negatives: int = 0
) -> Ranker:
    """Distances to some references, the last ``negatives`` of them negative."""
    vectors = Vectors([x])
    statistics = measure(vectors)
    score = scorer(metric, q, statistics, draw(vectors, statistics))
    return Combined(
        score=score,
        combine=combine,
        weights=np.ones(len(q) - negatives),
        negative_weights=np.ones(negatives),
    )


def brute(x: np.ndarray, q: np.ndarray, metric: str) -> np.ndarray:
    """Distances by their definition, float64, with scikit-learn for the cosine."""
    x, q = x.astype(np.float64), q.astype(np.float64)
    if metric == "euclidean":
        return np.sqrt(((x[:, None] - q[None]) ** 2).sum(-1))
    if metric == "standardized":
        mean, scale = x.mean(0), x.std(0)
        inverse = np.where(scale > 1e-7 * np.abs(mean), 1 / np.where(scale > 0, scale, 1), 0)
        x, q = (x - mean) * inverse, (q - mean) * inverse
    return np.asarray(cosine_distances(x, q))


def like_features(rng: np.random.Generator, n: int, d: int) -> np.ndarray:
    """Non-negative, sparse and far from the origin, as pooled network features are."""
    x = np.maximum(rng.standard_normal((n, d)) * rng.uniform(0.01, 3, d) + rng.uniform(0, 2, d), 0)
    return x.astype(np.float32)


@pytest.mark.parametrize("metric", ["euclidean", "cosine", "standardized"])
@pytest.mark.parametrize("combine", ["mean", "min"])
@pytest.mark.parametrize("references", [1, 5])
def test_nearest_within_and_ranking_equal_brute_force(
    metric: Any, combine: Any, references: int
) -> None:
    rng = np.random.default_rng(3)
    x = like_features(rng, 40_000, 24)
    x[100] = x[7]  # a tie
    q = x[[7, 1, 2, 3, 4][:references]]
    distances = brute(x, q, metric)
    combined = distances.mean(1) if combine == "mean" else distances.min(1)
    vectors = shards(x, 3)
    score = ranker(x, q, metric, combine)
    for k in (1, 25, 1000):
        found = nearest(vectors, score, k)
        np.testing.assert_allclose(found.distance, np.sort(combined)[:k], atol=1e-12)
        np.testing.assert_allclose(found.distance, combined[found.rows], atol=1e-12)
        assert (found.reference == distances[found.rows].argmin(1)).all()
    radius = float(np.sort(combined)[300])
    inside = within(vectors, score, radius + 1e-11)
    assert set(inside.rows) == set(np.flatnonzero(combined <= radius + 1e-11))
    ranked = rank_all(vectors, score)
    np.testing.assert_allclose(ranked.distance, np.sort(combined), atol=1e-12)
    assert sorted(ranked.rows) == list(range(len(x)))


def test_equal_to_scikit_learn_row_by_row() -> None:
    x = like_features(np.random.default_rng(0), 5000, 64)
    truth = NearestNeighbors(n_neighbors=50, algorithm="brute").fit(x.astype(np.float64))
    distance, rows = truth.kneighbors(x[[11]].astype(np.float64))
    vectors = shards(x, 4)
    found = nearest(vectors, ranker(x, x[[11]], "euclidean"), 50)
    assert (found.rows == rows[0]).all()
    # scikit-learn expands the square, and so calls the object's distance to itself 1e-7.
    np.testing.assert_allclose(found.distance, distance[0], atol=1e-6)
    assert found.distance[0] == 0


def test_identical_vectors_come_in_row_order_at_identical_distance() -> None:
    x = like_features(np.random.default_rng(1), 600, 40)
    twins = [3, 77, 300, 599]
    x[twins] = x[3]
    vectors = shards(x, 2)
    for metric in METRICS:
        found = nearest(vectors, ranker(x, x[[10]], metric), 600)
        places = [int(np.flatnonzero(found.rows == twin)[0]) for twin in twins]
        assert places == list(range(places[0], places[0] + 4))
        assert len(set(found.distance[places])) == 1


def test_a_cancellation_that_float32_alone_gets_wrong() -> None:
    # Vectors far from the origin and close together: |x|^2 - 2 x.q + |q|^2 loses every digit.
    rng = np.random.default_rng(5)
    x = (1000 + 1e-3 * rng.standard_normal((3000, 32))).astype(np.float32)
    truth = brute(x, x[[0]], "euclidean")[:, 0]
    vectors = shards(x, 1)
    found = nearest(vectors, ranker(x, x[[0]], "euclidean"), 100)
    np.testing.assert_allclose(found.distance, np.sort(truth)[:100], rtol=1e-12, atol=1e-12)


def test_only_kept_rows_come_back() -> None:
    x = like_features(np.random.default_rng(2), 1000, 8)
    vectors = shards(x, 2)
    score = ranker(x, x[[5]], "cosine")
    keep = np.zeros(1000, dtype=bool)
    keep[[10, 500, 900]] = True
    assert set(nearest(vectors, score, 25, keep=keep).rows) == {10, 500, 900}
    assert set(within(vectors, score, 3.0, keep=keep).rows) == {10, 500, 900}
    assert set(rank_all(vectors, score, keep=keep).rows) == {10, 500, 900}


def test_vectors_without_length_and_features_without_width() -> None:
    x = like_features(np.random.default_rng(4), 50, 6)
    x[:, 2] = 7.25
    x[9] = 0
    vectors = shards(x, 1)
    statistics = measure(vectors)
    assert statistics.scale[2] > 0  # row 9 differs
    found = rank_all(vectors, ranker(x, x[[0]], "cosine"))
    assert found.distance[list(found.rows).index(9)] == 1.0
    x[9] = x[8]
    statistics = measure(shards(x, 1))
    assert statistics.inverse_scale[2] == 0
    assert np.isfinite(rank_all(shards(x, 1), ranker(x, x[[0]], "standardized")).distance).all()


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 200), st.integers(1, 12), st.integers(1, 5), st.integers(0, 2**32 - 1),
    st.sampled_from(["euclidean", "cosine", "standardized"]),
)  # fmt: skip
def test_any_shape(n: int, d: int, pieces: int, seed: int, metric: Any) -> None:
    rng = np.random.default_rng(seed)
    x = (rng.standard_normal((n, d)) * 10.0 ** rng.integers(-6, 6)).astype(np.float32)
    vectors = shards(x, min(pieces, n))
    found = nearest(vectors, ranker(x, x[:1], metric), n)
    truth = brute(x, x[:1], metric)[:, 0]
    np.testing.assert_allclose(found.distance, np.sort(truth), atol=1e-7 * max(1, truth.max()))


def test_statistics_equal_numpy_over_shards() -> None:
    x = like_features(np.random.default_rng(6), 9000, 5)
    found = measure(shards(x, 4))
    np.testing.assert_allclose(found.mean, x.astype(float).mean(0), rtol=1e-12)
    np.testing.assert_allclose(found.scale, x.astype(float).std(0), rtol=1e-10)
    z = (x - found.mean) / found.scale
    np.testing.assert_allclose(found.norms[:, 1], (z**2).sum(1), rtol=1e-10)


def test_vectors_by_row_slice_and_whole() -> None:
    x = like_features(np.random.default_rng(7), 10, 3)
    vectors = shards(x, 3)
    np.testing.assert_array_equal(np.asarray(vectors), x)
    np.testing.assert_array_equal(vectors[[9, 0, 4]], x[[9, 0, 4]])
    np.testing.assert_array_equal(vectors[2:7:2], x[2:7:2])
    np.testing.assert_array_equal(vectors[5], x[5])
    with pytest.raises(UsageError, match=r"expected 0\.\.9"):
        vectors.take([10])


def test_bad_input() -> None:
    x = like_features(np.random.default_rng(8), 20, 3)
    vectors = shards(x, 1)
    statistics = measure(vectors)
    score = ranker(x, x[:1], "cosine")
    with pytest.raises(UsageError, match="k = 0"):
        nearest(vectors, score, 0)
    with pytest.raises(UsageError, match="radius"):
        within(vectors, score, float("nan"))
    with pytest.raises(Mismatch, match="4 numbers"):
        scorer("cosine", np.ones((1, 4)), statistics)
    with pytest.raises(DataError, match="NaN"):
        scorer("cosine", np.full((1, 3), np.nan), statistics)
    with pytest.raises(UnknownName, match=r"unknown metric 'euclid'.*euclidean"):
        check_metric("euclid")
    with pytest.raises(UnknownName, match="combination"):
        check_combine("median")
    x[4, 1] = np.inf
    with pytest.raises(DataError, match="row 4"):
        measure(shards(x, 1))
