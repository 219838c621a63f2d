"""The nearest of many objects at once: no distance is passed over, whatever rounds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skytwin.embeddings.metric import scorer
from skytwin.embeddings.neighbours_many import nearest_many
from skytwin.embeddings.sample import draw
from skytwin.embeddings.vectors import Vectors, measure, stored_as
from skytwin.errors import DataError

PLAIN = ["euclidean", "cosine", "standardized"]


def some(rng: np.random.Generator, n: int, d: int) -> np.ndarray:
    """Vectors in a few clumps, some the same, one of no length."""
    x = rng.standard_normal((5, d))[rng.integers(0, 5, n)] + 0.1 * rng.standard_normal((n, d))
    x[rng.random(n) < 0.2] = x[0]
    x[n // 2] = 0
    return x.astype(np.float32)


@settings(max_examples=80, deadline=None)
@given(
    st.integers(2, 120), st.integers(1, 40), st.integers(1, 20), st.integers(0, 2**32 - 1),
    st.sampled_from([*PLAIN, "whitened", "csls"]), st.sampled_from([-30, -12, -3, 0, 3, 10]),
    st.sampled_from(["same", "far apart", "off centre"]),
)  # fmt: skip
def test_what_is_near_is_what_all_the_bounds_say(
    n: int, d: int, queries: int, seed: int, metric: Any, power: int, kind: str
) -> None:
    rng = np.random.default_rng(seed)
    x = some(rng, n, d)
    if kind == "far apart":
        x *= (10.0 ** rng.uniform(-6, 6, (n, 1))).astype(np.float32)
    if kind == "off centre":
        x += np.float32(1000)
    if metric in PLAIN:
        x = (x * 10.0**power).astype(np.float32)
    vectors = Vectors([x])
    statistics = measure(vectors)
    sample = draw(vectors, statistics)
    score = scorer(metric, x[rng.integers(0, n, queries)], statistics, sample)
    block = next(iter(vectors.stored(n)))
    bounds = score.rough(block)
    middle = np.median(bounds.lower, axis=0)
    for limit in (np.full(queries, np.inf), middle, bounds.lower.min(axis=0), -np.ones(queries)):
        near = score.near(block, limit)
        row, column = np.nonzero(bounds.lower <= limit)
        np.testing.assert_array_equal(near.row, row)
        np.testing.assert_array_equal(near.column, column)
        np.testing.assert_array_equal(near.lower, bounds.lower[row, column])
        np.testing.assert_array_equal(near.upper, bounds.upper[row, column])


@pytest.mark.parametrize("metric", PLAIN)
@pytest.mark.parametrize("store", ["float32", "float16"])
def test_equal_to_all_distances_in_order(metric: Any, store: Any) -> None:
    rng = np.random.default_rng(3)
    x = stored_as(store, some(rng, 9000, 24))
    vectors = Vectors(np.array_split(x, 3))
    statistics = measure(vectors)
    queries = vectors.take(np.arange(0, 9000, 30))
    groups = rng.integers(0, 400, 9000)
    own = groups[::30]
    exact = scorer(metric, queries, statistics).exact(vectors.take(np.arange(9000))).T
    for k in (1, 25, 300):
        for apart in (False, True):
            hidden = (groups == own[:, None]) if apart else np.zeros((300, 9000), dtype=bool)
            distance = np.where(hidden, np.inf, exact)
            order = np.argsort(distance, axis=1, kind="stable")[:, :k]
            found = nearest_many(
                vectors, statistics, queries, k, metric=metric,
                groups=groups if apart else None, own=own if apart else None,
            )  # fmt: skip
            np.testing.assert_array_equal(found.rows, order)
            np.testing.assert_array_equal(
                found.distance, np.take_along_axis(distance, order, axis=1)
            )


def test_vectors_too_long_for_float32_are_refused() -> None:
    x = some(np.random.default_rng(0), 50, 4)
    statistics = measure(Vectors([x]))
    long = x.copy()
    long[7] *= 1e19
    with pytest.raises(DataError, match="vector of row 7 is .* long; expected at most 1e[+]18"):
        measure(Vectors([long]))
    with pytest.raises(DataError, match="a reference vector is longer than 1e[+]20"):
        scorer("euclidean", 1e3 * long[[7]], statistics)
