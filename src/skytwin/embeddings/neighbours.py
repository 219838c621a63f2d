"""Exact neighbours: one blocked pass in float32 finds candidates, float64 settles them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from skytwin.embeddings.ranker import Ranker
from skytwin.embeddings.vectors import Vectors
from skytwin.errors import UsageError

__all__ = ["Neighbours", "nearest", "rank_all", "within"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Neighbours:
    """Rows in order of distance; rows at the same distance in order of row.

    Attributes
    ----------
    rows : ndarray, shape (k,), int64
    distance : ndarray, shape (k,), float64
        To the whole query.
    reference : ndarray, shape (k,), int64
        Which positive reference is the nearest to the row.
    """

    rows: np.ndarray
    distance: np.ndarray
    reference: np.ndarray


def nearest(
    vectors: Vectors,
    ranker: Ranker,
    k: int,
    *,
    keep: np.ndarray | None = None,
) -> Neighbours:
    """The ``k`` nearest rows.

    Equivalent to::

        d = ranker.exact(vectors).distance
        np.lexsort((rows, d))[:k]

    without holding all distances: a block's rows survive where their lower bound reaches below
    the k-th smallest upper bound so far.

    Parameters
    ----------
    vectors : Vectors, (N, D)
    ranker : Ranker
        Made for this set.
    k : int
        How many; fewer come back where fewer are kept.
    keep : ndarray of bool, shape (N,), optional
        Rows that may be returned.
    """
    if k < 1:
        raise UsageError(f"k = {k}; expected at least 1")
    return _scan(vectors, ranker, keep, _TopK(k))


def within(
    vectors: Vectors,
    ranker: Ranker,
    radius: float,
    *,
    keep: np.ndarray | None = None,
) -> Neighbours:
    """All rows at most ``radius`` away, exactly; parameters as in `nearest`."""
    if np.isnan(radius):
        raise UsageError(f"radius {radius}; expected a distance")
    return _scan(vectors, ranker, keep, _Within(radius))


def rank_all(vectors: Vectors, ranker: Ranker, *, keep: np.ndarray | None = None) -> Neighbours:
    """Every row, in order of distance; parameters as in `nearest`, of any set."""
    rows = np.arange(len(vectors)) if keep is None else np.flatnonzero(keep)
    return _settle(vectors, ranker, rows)


class _TopK:
    """Keeps what may still be among the k nearest."""

    def __init__(self, k: int) -> None:
        self.k = k
        self.limit = np.inf
        self._upper = np.empty(0)

    def update(self, upper: np.ndarray) -> None:
        # Only the k smallest upper bounds matter for the limit.
        both = np.concatenate([self._upper, upper[upper <= self.limit]])
        if len(both) >= self.k:
            both = np.partition(both, self.k - 1)[: self.k]
            self.limit = float(both.max())
        self._upper = both

    def cut(self, found: Neighbours) -> Neighbours:
        return _first(found, np.arange(min(self.k, len(found.rows))))


class _Within:
    """Keeps what may lie within a fixed distance."""

    def __init__(self, radius: float) -> None:
        self.limit = radius

    def update(self, upper: np.ndarray) -> None:
        """A fixed limit learns nothing from what is found."""

    def cut(self, found: Neighbours) -> Neighbours:
        return _first(found, np.flatnonzero(found.distance <= self.limit))


def _scan(
    vectors: Vectors,
    ranker: Ranker,
    keep: np.ndarray | None,
    rule: _TopK | _Within,
) -> Neighbours:
    rows: list[np.ndarray] = []
    lows: list[np.ndarray] = []
    for block in vectors.blocks():
        here = None if keep is None else keep[block.rows]
        if here is not None and not here.any():
            continue
        bounds = ranker.rough(block)
        lower, upper = bounds.lower, bounds.upper
        if here is not None:
            lower, upper = np.where(here, lower, np.inf), np.where(here, upper, np.inf)
        rule.update(upper)
        alive = np.flatnonzero((lower <= rule.limit) & (lower < np.inf))
        rows.append(block.start + alive)
        lows.append(lower[alive])
    candidates = np.concatenate([*rows, np.empty(0, dtype=np.int64)]).astype(np.int64)
    if len(candidates):
        candidates = candidates[np.concatenate(lows) <= rule.limit]
    return rule.cut(_settle(vectors, ranker, candidates))


def _settle(vectors: Vectors, ranker: Ranker, rows: np.ndarray) -> Neighbours:
    """Exact distances of some rows, in slices that bound the memory, in order."""
    distance, reference = np.empty(len(rows)), np.empty(len(rows), dtype=np.int64)
    for first in range(0, len(rows), 2048):
        part = slice(first, first + 2048)
        found = ranker.exact(vectors.take(rows[part]))
        distance[part], reference[part] = found.distance, found.each.argmin(axis=1)
    order = np.lexsort((rows, distance))
    return Neighbours(rows=rows[order], distance=distance[order], reference=reference[order])


def _first(found: Neighbours, which: np.ndarray) -> Neighbours:
    return Neighbours(
        rows=found.rows[which], distance=found.distance[which], reference=found.reference[which]
    )
