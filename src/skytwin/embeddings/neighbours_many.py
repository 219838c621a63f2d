"""The nearest objects of many objects at once, exactly: one product of matrices per block.

Of each block those rows are kept whose lower bound reaches below what is already known to hold k
objects; float64 settles them, as in `skytwin.embeddings.neighbours`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from skytwin.embeddings.metric import Near, Scorer, scorer
from skytwin.embeddings.names import Metric
from skytwin.embeddings.vectors import Block, Statistics, Vectors
from skytwin.errors import UsageError
from skytwin.progress import Progress

__all__ = ["NearestMany", "nearest_many"]

_QUERIES, _ROWS = 256, 4096  # at a time


@dataclass(frozen=True, eq=False, kw_only=True)
class NearestMany:
    """Of n objects the k nearest each, in order.

    Attributes
    ----------
    rows : ndarray, shape (n, k), int64
        Of the reference.
    distance : ndarray, shape (n, k), float64
    """

    rows: np.ndarray
    distance: np.ndarray


def nearest_many(
    reference: Vectors,
    statistics: Statistics,
    queries: np.ndarray,
    k: int,
    *,
    metric: Metric = "euclidean",
    groups: np.ndarray | None = None,
    own: np.ndarray | None = None,
    quiet: bool = True,
) -> NearestMany:
    """The ``k`` nearest rows of the reference for every query.

    Equivalent to, for each query::

        nearest(reference, ranker, k, keep=groups != own)

    Parameters
    ----------
    reference : Vectors
    statistics : Statistics
        Of the reference.
    queries : ndarray, shape (n, D)
    k : int
        So many rows must be left for every query.
    metric : {"euclidean", "cosine", "standardized"}
    groups, own : ndarray, shapes (N,) and (n,), int, optional
        Rows of a query's own group do not count for it.
    quiet : bool

    Raises
    ------
    UsageError
        More neighbours than there are rows.
    """
    if not 1 <= k <= len(reference):
        raise UsageError(f"k = {k}; expected 1 to {len(reference)}, the number of vectors")
    rows = np.empty((len(queries), k), dtype=np.int64)
    distance = np.empty((len(queries), k))
    with Progress("neighbours", len(queries), unit="objects", quiet=quiet) as progress:
        for start in range(0, len(queries), _QUERIES):
            some = slice(start, start + _QUERIES)
            score = scorer(metric, queries[some], statistics)
            mine = None if own is None else own[some]
            found = _candidates(reference, score, len(queries[some]), k, groups, mine)
            for number, candidates in enumerate(found):
                place = start + number
                single = scorer(metric, queries[place : place + 1], statistics)
                exact = single.exact(reference.take(candidates))[:, 0]
                order = np.lexsort((candidates, exact))[:k]
                rows[place], distance[place] = candidates[order], exact[order]
            progress.advance(len(found))
    return NearestMany(rows=rows, distance=distance)


def _candidates(
    reference: Vectors, score: Scorer, count: int, k: int,
    groups: np.ndarray | None, own: np.ndarray | None,
) -> list[np.ndarray]:  # fmt: skip
    """Rows that may be among the k nearest, query by query."""
    best = np.full((count, k), np.inf)  # the smallest upper bounds so far
    limit = np.full(count, np.inf)
    rows: list[np.ndarray] = []
    columns: list[np.ndarray] = []
    lows: list[np.ndarray] = []
    for block in _growing(reference, 2 * k):
        near = score.near(block, limit)
        if groups is not None and own is not None:
            near = near.only(groups[block.rows][near.row] != own[near.column])
        _learn(best, limit, near.only(near.upper < limit[near.column]))
        near = near.only(near.lower <= limit[near.column])
        rows.append(block.start + near.row)
        columns.append(near.column)
        lows.append(near.lower)
    row, column, low = (np.concatenate(parts) for parts in (rows, columns, lows))
    alive = low <= limit[column]
    row, column = row[alive], column[alive]
    order = np.argsort(column, kind="stable")
    return np.split(row[order], np.searchsorted(column[order], np.arange(1, count)))


def _growing(reference: Vectors, first: int) -> Iterator[Block]:
    """Blocks, the first ones small: until limits are known, all of a block is near."""
    width = max(64, first)
    for block in reference.stored(_ROWS, release=True):
        done = 0
        while done < len(block.values):
            part = block.values[done : done + width]
            yield Block(start=block.start + done, values=part)
            done += len(part)
            width *= 2


def _learn(best: np.ndarray, limit: np.ndarray, near: Near) -> None:
    """Let upper bounds in where they are among the k smallest of their query, (Q, k)."""
    if not len(near.row):
        return
    order = np.argsort(near.column, kind="stable")
    asked, first, count = np.unique(near.column[order], return_index=True, return_counts=True)
    k = best.shape[1]
    both = np.full((len(asked), k + int(count.max())), np.inf)
    both[:, :k] = best[asked]
    number = np.repeat(np.arange(len(asked)), count)
    both[number, k + np.arange(len(order)) - first[number]] = near.upper[order]
    both.partition(k - 1, axis=1)
    best[asked] = both[:, :k]
    limit[asked] = both[:, k - 1]
