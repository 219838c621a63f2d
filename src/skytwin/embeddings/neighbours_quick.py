"""The nearest reference objects of millions of others: a float32 product tells which may be.

What one product leaves over float64 settles, as in `skytwin.embeddings.neighbours_many`, whose
results these are.
"""

from __future__ import annotations

import numpy as np

from skytwin.embeddings.neighbours_many import NearestMany, nearest_many
from skytwin.embeddings.product import UNIT, product_error
from skytwin.embeddings.vectors import Statistics, Vectors

__all__ = ["nearest_of"]

_CELLS = 1 << 22  # products at a time
_GROUPED = 16  # columns of which the least is looked at first
_SPARE = 16  # candidates beyond those that are wanted
_MOST = 8  # times as many candidates as are wanted


def nearest_of(
    reference: np.ndarray, statistics: Statistics, queries: np.ndarray, k: int
) -> NearestMany:
    """The ``k`` nearest rows of a reference for each of many queries, by Euclidean distance.

    Equivalent to::

        nearest_many(Vectors([reference]), statistics, queries, k)

    several times faster: a row is looked at again only where its product says that it may be among
    the k + 16 nearest. Where rounding leaves open whether another is nearer than the k-th, that
    query is given to `nearest_many`.

    Parameters
    ----------
    reference : ndarray, shape (N, D), float32
    statistics : Statistics
        Of the reference.
    queries : ndarray, shape (n, D), float32
    k : int
    """
    whole = Vectors([reference])
    if len(reference) < 2 * _GROUPED * (k + _SPARE):
        return nearest_many(whole, statistics, queries, k)
    rows = np.empty((len(queries), k), dtype=np.int64)
    distance = np.empty((len(queries), k))
    sure = np.empty(len(queries), dtype=bool)
    square = statistics.norms[:, 0].astype(np.float32)
    longest = float(np.sqrt(statistics.norms[:, 0].max()))
    step = max(1, min(512, _CELLS // len(reference)))
    for first in range(0, len(queries), step):
        some = slice(first, first + step)
        with np.errstate(over="ignore", invalid="ignore"):  # a far query overflows: it is not sure
            rows[some], distance[some], sure[some] = _block(
                reference, square, longest, queries[some], k
            )
    if not sure.all():
        left = nearest_many(whole, statistics, queries[~sure], k)
        rows[~sure], distance[~sure] = left.rows, left.distance
    return NearestMany(rows=rows, distance=distance)


def _block(
    reference: np.ndarray, square: np.ndarray, longest: float, queries: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows and distances, each (q, k), and for which queries they are certain, (q,)."""
    count, dim = reference.shape
    wide = queries.astype(np.float64)
    own = np.vecdot(wide, wide)
    # Squared distances less the query's own square.
    rough = queries @ reference.T
    rough *= np.float32(-2.0)
    rough += square
    groups = count // _GROUPED
    least = rough[:, : groups * _GROUPED].reshape(len(queries), _GROUPED, groups).min(axis=1)
    place = k + _SPARE - 1
    limit = np.partition(least, place, axis=1)[:, place]
    limit[~np.isfinite(limit)] = -np.inf
    near = rough <= limit[:, None]
    near[np.count_nonzero(near, axis=1) > _MOST * (k + _SPARE)] = False  # many at one place
    flat = np.flatnonzero(near)
    query, row = np.divmod(flat, count)
    apart = reference[row].astype(np.float64)
    apart -= wide[query]
    distance = np.sqrt(np.vecdot(apart, apart))
    order = np.lexsort((row, distance, query))
    ends = np.searchsorted(query, np.arange(len(queries) + 1))
    enough = np.diff(ends) >= k
    at = np.where(enough[:, None], ends[:-1, None] + np.arange(k), 0)
    if not len(order):
        empty = np.zeros((len(queries), k))
        return empty.astype(np.int64), empty, enough
    found, length = row[order[at]], distance[order[at]]
    # All others are farther than their rough distance less what rounding can have added to it.
    error = (2 * product_error(dim) + 8 * UNIT) * longest * (np.sqrt(own) + longest)
    floor = limit.astype(np.float64) - error + own
    return found, length, enough & (length[:, -1] ** 2 < floor - 1e-12 * own)
