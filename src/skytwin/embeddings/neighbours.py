"""Exact neighbours: one blocked pass in float32 finds candidates, float64 settles them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from skytwin.embeddings.metric import Scorer
from skytwin.embeddings.vectors import Vectors
from skytwin.errors import UsageError, unknown

__all__ = [
    "COMBINATIONS",
    "Combine",
    "Neighbours",
    "check_combine",
    "nearest",
    "rank_all",
    "within",
]

Combine = Literal["mean", "min"]
COMBINATIONS: tuple[Combine, ...] = get_args(Combine)


def check_combine(name: str) -> Combine:
    """A known combination's name, or an error that lists them."""
    for combine in COMBINATIONS:
        if combine == name:
            return combine
    raise unknown("combination", name, COMBINATIONS)


@dataclass(frozen=True, eq=False, kw_only=True)
class Neighbours:
    """Rows in order of distance; rows at the same distance in order of row.

    Attributes
    ----------
    rows : ndarray, shape (k,), int64
    distance : ndarray, shape (k,), float64
        Combined over the references.
    reference : ndarray, shape (k,), int64
        Which reference is the nearest to the row.
    """

    rows: np.ndarray
    distance: np.ndarray
    reference: np.ndarray


def nearest(
    vectors: Vectors,
    score: Scorer,
    k: int,
    *,
    combine: Combine = "mean",
    keep: np.ndarray | None = None,
) -> Neighbours:
    """The ``k`` nearest rows.

    Equivalent to::

        d = combine(score.exact(vectors), axis=1)
        np.lexsort((rows, d))[:k]

    without holding all distances: a block's rows survive where their lower bound reaches below
    the k-th smallest upper bound so far.

    Parameters
    ----------
    vectors : Vectors, (N, D)
    score : Scorer
    k : int
        How many; fewer come back where fewer are kept.
    combine : {"mean", "min"}
        Over the references.
    keep : ndarray of bool, shape (N,), optional
        Rows that may be returned.
    """
    if k < 1:
        raise UsageError(f"k = {k}; expected at least 1")
    return _scan(vectors, score, combine, keep, _TopK(k))


def within(
    vectors: Vectors,
    score: Scorer,
    radius: float,
    *,
    combine: Combine = "mean",
    keep: np.ndarray | None = None,
) -> Neighbours:
    """All rows at most ``radius`` away, exactly; parameters as in `nearest`."""
    if not radius >= 0:
        raise UsageError(f"radius {radius}; expected a distance of 0 or more")
    return _scan(vectors, score, combine, keep, _Within(radius))


def rank_all(
    vectors: Vectors, score: Scorer, *, combine: Combine = "mean", keep: np.ndarray | None = None
) -> Neighbours:
    """Every row, in order of distance; parameters as in `nearest`."""
    rows = np.arange(len(vectors)) if keep is None else np.flatnonzero(keep)
    return _settle(vectors, score, rows, combine)


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
    score: Scorer,
    combine: Combine,
    keep: np.ndarray | None,
    rule: _TopK | _Within,
) -> Neighbours:
    over = _combiner(combine)
    rows: list[np.ndarray] = []
    lows: list[np.ndarray] = []
    for block in vectors.blocks():
        here = None if keep is None else keep[block.rows]
        if here is not None and not here.any():
            continue
        bounds = score.rough(block)
        lower, upper = over(bounds.lower), over(bounds.upper)
        if here is not None:
            lower, upper = np.where(here, lower, np.inf), np.where(here, upper, np.inf)
        rule.update(upper)
        alive = np.flatnonzero((lower <= rule.limit) & (lower < np.inf))
        rows.append(block.start + alive)
        lows.append(lower[alive])
    candidates = np.concatenate([*rows, np.empty(0, dtype=np.int64)]).astype(np.int64)
    if len(candidates):
        candidates = candidates[np.concatenate(lows) <= rule.limit]
    return rule.cut(_settle(vectors, score, candidates, combine))


def _combiner(combine: Combine) -> Callable[[np.ndarray], np.ndarray]:
    if combine == "mean":
        return lambda d: d[:, 0] if d.shape[1] == 1 else d.mean(axis=1)
    return lambda d: d[:, 0] if d.shape[1] == 1 else d.min(axis=1)


def _settle(vectors: Vectors, score: Scorer, rows: np.ndarray, combine: Combine) -> Neighbours:
    """Exact distances of some rows, in slices that bound the memory, in order."""
    over = _combiner(combine)
    distance, reference = np.empty(len(rows)), np.empty(len(rows), dtype=np.int64)
    for first in range(0, len(rows), 2048):
        part = slice(first, first + 2048)
        each = score.exact(vectors.take(rows[part]))
        distance[part], reference[part] = over(each), each.argmin(axis=1)
    order = np.lexsort((rows, distance))
    return Neighbours(rows=rows[order], distance=distance[order], reference=reference[order])


def _first(found: Neighbours, which: np.ndarray) -> Neighbours:
    return Neighbours(
        rows=found.rows[which], distance=found.distance[which], reference=found.reference[which]
    )
