"""Exact neighbours: one blocked pass in float32 finds candidates, float64 settles them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from skytwin.embeddings.metric import Rough
from skytwin.embeddings.ranker import Ranker
from skytwin.embeddings.vectors import BLOCK_ROWS, Vectors
from skytwin.errors import UsageError
from skytwin.progress import Progress

__all__ = [
    "Neighbours",
    "Scan",
    "TopK",
    "Within",
    "nearest",
    "nearest_each",
    "rank_all",
    "rank_some",
    "selective",
    "within",
]

# So many rows are settled at a time, and so many scanned for several queries at once.
_SLICE, _SHARED_ROWS = 2048, 2048
# A filter that leaves less than one row in so many: those are settled, and nothing is scanned.
_SELECTIVE = 24


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

    def only(self, which: np.ndarray) -> Neighbours:
        """Some of them, by their place in the order."""
        return Neighbours(
            rows=self.rows[which], distance=self.distance[which], reference=self.reference[which]
        )


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
    return _first_of(vectors, ranker, keep, TopK(k))


def within(
    vectors: Vectors,
    ranker: Ranker,
    radius: float,
    *,
    keep: np.ndarray | None = None,
) -> Neighbours:
    """All rows at most ``radius`` away, exactly; parameters as in `nearest`."""
    return _first_of(vectors, ranker, keep, Within(radius))


def nearest_each(
    vectors: Vectors, rankers: Sequence[Ranker], k: int, *, quiet: bool = True
) -> list[Neighbours]:
    """The ``k`` nearest rows of several queries, in one pass over the vectors.

    Equivalent to::

        [nearest(vectors, ranker, k) for ranker in rankers]

    Parameters
    ----------
    vectors : Vectors, (N, D)
    rankers : sequence of Ranker
        Made for this set, of any kinds.
    k : int
    quiet : bool
        Show no progress.
    """
    scans = [Scan(ranker, TopK(k)) for ranker in rankers]
    with Progress("scan", len(vectors), unit="vectors", quiet=quiet) as bar:
        for block in vectors.stored(_SHARED_ROWS, release=True):
            for scan in scans:
                scan.look(block.start, scan.ranker.rough(block), None)
            bar.advance(len(block.values))
    return [scan.settle(vectors) for scan in scans]


def rank_all(vectors: Vectors, ranker: Ranker, *, keep: np.ndarray | None = None) -> Neighbours:
    """Every row, in order of distance; parameters as in `nearest`, of any set."""
    rows = np.arange(len(vectors)) if keep is None else np.flatnonzero(keep)
    return rank_some(vectors, ranker, rows)


def rank_some(vectors: Vectors, ranker: Ranker, rows: np.ndarray) -> Neighbours:
    """Some rows, in order of distance, in slices that bound the memory."""
    distance, reference = np.empty(len(rows)), np.empty(len(rows), dtype=np.int64)
    for first in range(0, len(rows), _SLICE):
        part = slice(first, first + _SLICE)
        found = ranker.exact(vectors.take(rows[part]))
        distance[part], reference[part] = found.distance, found.each.argmin(axis=1)
    order = np.lexsort((rows, distance))
    return Neighbours(rows=rows[order], distance=distance[order], reference=reference[order])


def selective(keep: np.ndarray | None, count: int) -> bool:
    """Whether a filter leaves so few of the rows that no scan is worth it."""
    return keep is not None and _SELECTIVE * int(np.count_nonzero(keep)) <= count


class TopK:
    """Keeps what may still be among the k nearest."""

    def __init__(self, k: int, limit: float = np.inf) -> None:
        if k < 1:
            raise UsageError(f"k = {k}; expected at least 1")
        self.k = k
        self.limit = limit
        #: The smallest upper bounds, at most k, in no order.
        self.upper = np.empty(0)

    def afresh(self) -> TopK:
        """For other rows, with the limit known so far."""
        return TopK(self.k, self.limit)

    def update(self, upper: np.ndarray) -> None:
        """Learn upper bounds of some rows: only the k smallest matter for the limit."""
        both = np.concatenate([self.upper, upper[upper <= self.limit]])
        if len(both) >= self.k:
            both = np.partition(both, self.k - 1)[: self.k]
            self.limit = float(both.max())
        self.upper = both

    def cut(self, found: Neighbours) -> Neighbours:
        """Of what was settled, in order, that which counts."""
        return found.only(np.arange(min(self.k, len(found.rows))))


class Within:
    """Keeps what may lie within a fixed distance."""

    def __init__(self, limit: float) -> None:
        if np.isnan(limit):
            raise UsageError(f"radius {limit}; expected a distance")
        self.limit = limit
        self.upper = np.empty(0)

    def afresh(self) -> Within:
        """For other rows."""
        return self

    def update(self, upper: np.ndarray) -> None:
        """A fixed limit learns nothing from what is found."""

    def cut(self, found: Neighbours) -> Neighbours:
        """Of what was settled, in order, that which counts."""
        return found.only(np.flatnonzero(found.distance <= self.limit))


class Scan:
    """One query's candidates, block after block."""

    def __init__(self, ranker: Ranker, rule: TopK | Within) -> None:
        self.ranker, self.rule = ranker, rule
        self._rows: list[np.ndarray] = []
        self._lows: list[np.ndarray] = []

    def look(self, start: int, bounds: Rough, keep: np.ndarray | None) -> None:
        """Take up the rows of a block, the first of which is row ``start``."""
        near = np.flatnonzero(bounds.lower <= self.rule.limit)
        if keep is not None:
            near = near[keep[near]]
        if not len(near):
            return
        self.rule.update(bounds.upper[near])
        lower = bounds.lower[near]
        alive = lower <= self.rule.limit
        self._rows.append(start + near[alive])
        self._lows.append(lower[alive])

    def candidates(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows that may count by what is known by now, int64, and their lower bounds."""
        rows = np.concatenate([*self._rows, np.empty(0, dtype=np.int64)]).astype(np.int64)
        lows = np.concatenate([*self._lows, np.empty(0)])
        alive = lows <= self.rule.limit
        return rows[alive], lows[alive]

    def settle(self, vectors: Vectors) -> Neighbours:
        """The exact distances of the candidates."""
        return self.rule.cut(rank_some(vectors, self.ranker, self.candidates()[0]))


def _first_of(
    vectors: Vectors, ranker: Ranker, keep: np.ndarray | None, rule: TopK | Within
) -> Neighbours:
    if selective(keep, len(vectors)):
        return rule.cut(rank_all(vectors, ranker, keep=keep))
    scan = Scan(ranker, rule)
    for block in vectors.stored(BLOCK_ROWS):
        here = None if keep is None else keep[block.rows]
        if here is None or here.any():
            scan.look(block.start, ranker.rough(block), here)
    return scan.settle(vectors)
