"""From distances to several references to one number per object.

A `Ranker` gives every object its distance to a whole query. ``mean`` and ``min`` combine the
distances to the positive references; ``fusion`` combines ranks (Cormack, Clarke & Buettcher
2009); learned directions are in `skytwin.embeddings.learned`.

A scan asks for bounds first (`Ranker.rough`), and for exact values where they matter.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from skytwin.embeddings.metric import Rough, Scorer
from skytwin.embeddings.vectors import Block, Vectors
from skytwin.errors import UsageError

__all__ = [
    "Combined",
    "Fused",
    "Ranker",
    "Scores",
    "check_emphasis",
    "negative_share",
]

# Negative references weigh together at most half of what the positive ones do (Rocchio's usual
# ratio is 0.2 to 1), and half of that where there are twenty: a few are the accidents of a few.
_MOST_NEGATIVE, _HALF_AT = 0.5, 20
_FUSION_RANK = 60.0


def negative_share(count: int) -> float:
    """What ``count`` negative references weigh together, those positive weighing 1."""
    return _MOST_NEGATIVE * count / (count + _HALF_AT)


@dataclass(frozen=True, eq=False, kw_only=True)
class Scores:
    """Exact distances of n objects.

    Attributes
    ----------
    distance : ndarray, shape (n,), float64
        To the whole query.
    each : ndarray, shape (n, P), float64
        To each positive reference, by the metric.
    """

    distance: np.ndarray
    each: np.ndarray


class Ranker(Protocol):
    """Distances of objects to a query."""

    def rough(self, block: Block, /) -> Rough:
        """Bounds, (n,) each, on the distances of a block of the very set it was made for."""

    def exact(self, vectors: np.ndarray, /) -> Scores:
        """Distances of vectors (n, D) of any set."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Combined:
    """Weighted mean, or smallest, of the distances to the positive references.

    Attributes
    ----------
    score : Scorer
        To all references, the positive ones first.
    combine : {"mean", "min"}
    weights : ndarray, shape (P,)
        Of the positive references.
    negative_weights : ndarray, shape (Q - P,)
        The weighted mean distance to negative references, times `negative_share`, is taken away
        (Rocchio 1971): what lies near them moves back.
    """

    score: Scorer
    combine: Literal["mean", "min"]
    weights: np.ndarray
    negative_weights: np.ndarray

    def rough(self, block: Block, /) -> Rough:
        """See `Ranker`."""
        if self._weighted is not None:
            return self._weighted(block)
        bounds = self.score.rough(block)
        count = len(self.weights)
        lower, upper = self._positive(bounds.lower), self._positive(bounds.upper)
        if len(self.negative_weights):
            lower = lower - self._negative(bounds.upper[:, count:])
            upper = upper - self._negative(bounds.lower[:, count:])
        return Rough(lower=lower, upper=upper)

    def exact(self, vectors: np.ndarray, /) -> Scores:
        """See `Ranker`."""
        distances = self.score.exact(vectors)
        each = distances[:, : len(self.weights)]
        combined = self._positive(each)
        if len(self.negative_weights):
            combined = combined - self._negative(distances[:, len(self.weights) :])
        return Scores(distance=combined, each=each)

    @functools.cached_property
    def _weighted(self) -> Callable[[Block], Rough] | None:
        """The bounds of a mean at the price of those of one distance, where that can be."""
        if self.combine != "mean" or self.score.weighted is None:
            return None
        share = negative_share(len(self.negative_weights))
        against = -share * self.negative_weights / max(self.negative_weights.sum(), 1e-300)
        return self.score.weighted(np.concatenate([self.weights / self.weights.sum(), against]))

    def _positive(self, distances: np.ndarray) -> np.ndarray:
        each = distances[:, : len(self.weights)]
        if each.shape[1] == 1:
            return each[:, 0]
        smallest: np.ndarray = each.min(axis=1)
        return smallest if self.combine == "min" else _average(each, self.weights)

    def _negative(self, distances: np.ndarray) -> np.ndarray:
        share = negative_share(len(self.negative_weights))
        return share * _average(distances, self.negative_weights)


def _average(distances: np.ndarray, weights: np.ndarray) -> np.ndarray:
    if np.ptp(weights) == 0:
        return np.asarray(distances.mean(axis=1))
    # Column by column, not through BLAS: identical vectors must get identical distances.
    share = weights / weights.sum()
    total = distances[:, 0] * share[0]
    for column, part in zip(distances.T[1:], share[1:], strict=True):
        total = total + column * part
    return np.asarray(total)


@dataclass(frozen=True, eq=False, kw_only=True)
class Fused:
    """Reciprocal rank fusion: each reference ranks the set, and the ranks are combined.

    The distance is ``1 - sum_i w_i 61 / (60 + rank_i)`` with weights that add up to 1: zero for
    an object that every reference ranks first. An object of another set is given the rank that
    it would have in this one.

    Attributes
    ----------
    score : Scorer
        To all references, the positive ones first.
    sorted : ndarray, shape (Q, N)
        Distances of the whole set to each reference, ascending.
    weights : ndarray, shape (Q,)
        Negative for negative references.
    positives : int
    """

    score: Scorer
    sorted: np.ndarray
    weights: np.ndarray
    positives: int

    @classmethod
    def over(
        cls, vectors: Vectors, score: Scorer, weights: np.ndarray, negative_weights: np.ndarray
    ) -> Fused:
        """Rank a whole set by each reference: one pass that holds N distances per reference."""
        each = np.concatenate([score.exact(block.values) for block in vectors.blocks(4096)])
        signed = [weights / weights.sum()]
        if len(negative_weights):
            share = negative_share(len(negative_weights))
            signed.append(-share * negative_weights / negative_weights.sum())
        return cls(
            score=score,
            sorted=np.sort(each.T, axis=1),
            weights=np.concatenate(signed),
            positives=len(weights),
        )

    def rough(self, block: Block, /) -> Rough:
        """See `Ranker`."""
        found = self.exact(block.values).distance
        return Rough(lower=found, upper=found)

    def exact(self, vectors: np.ndarray, /) -> Scores:
        """See `Ranker`."""
        distances = self.score.exact(vectors)
        total = np.ones(len(vectors))
        for column, ordered, weight in zip(distances.T, self.sorted, self.weights, strict=True):
            rank = np.searchsorted(ordered, column, side="left") + 1
            total -= weight * (_FUSION_RANK + 1) / (_FUSION_RANK + rank)
        return Scores(distance=total, each=distances[:, : self.positives])


def check_emphasis(emphasis: Sequence[float] | None, count: int) -> np.ndarray:
    """Weights of ``count`` references, all 1 where none are given."""
    if emphasis is None:
        return np.ones(count)
    weights = np.asarray(emphasis, dtype=np.float64)
    if weights.shape != (count,) or not (np.isfinite(weights).all() and (weights > 0).all()):
        given = ", ".join(f"{value:g}" for value in weights.ravel())
        raise UsageError(f"emphasis {given}; expected {count} positive numbers, one per reference")
    return weights
