"""How many positives the whole survey holds, from the labels of a certificate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from skytwin.answers.certify_bounds import (
    UNKNOWN,
    Evidence,
    Round,
    Sample,
    evidence,
    known_positives,
)
from skytwin.answers.hypergeometric import fewest_positives

__all__ = ["Estimate", "Total", "positives_within", "total_positives"]

#: How the error of an interval for the whole survey is shared out: (head, tail).
_UPPER_SHARES = (0.1, 0.9)
_LOWER_SHARES = (0.7, 0.3)


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A number with the limits it lies between."""

    value: float
    lower: float
    upper: float


@dataclass(frozen=True, kw_only=True)
class Total(Estimate):
    """Positives in the whole survey, and what limits them from above.

    Attributes
    ----------
    cut : int
        The rank up to which the last test looked; 0 before any test.
    controls : int
        Objects drawn blindly beyond it, all that tells of the rest.
    """

    cut: int
    controls: int


def positives_within(sample: Sample, k: np.ndarray) -> np.ndarray:
    """Estimated positives within each rank, float64.

    Between two neighbouring depths every object had the same chance of a label, so the labelled
    ones' share of positives there stands for the rest. A stretch without labels takes its share
    from the next one that has some, or from the one before.
    """
    ranks = np.asarray(k, dtype=np.int64)
    sure = sample.label != UNKNOWN
    edges = np.unique(sample.depth)
    cell = np.searchsorted(edges, sample.rank)
    total = np.bincount(cell[sure], minlength=len(edges))
    positive = np.bincount(cell[sample.label == 1], minlength=len(edges))
    filled = np.flatnonzero(total)
    if not len(filled):
        return np.zeros(len(ranks))
    source = filled[np.minimum(np.searchsorted(filled, np.arange(len(edges))), len(filled) - 1)]
    rate = (positive / np.maximum(total, 1))[source]
    starts = np.concatenate([[0], edges])
    inside = np.clip(ranks[:, None] - starts[:-1], 0, np.diff(starts))
    order = np.sort(sample.rank[sure])
    seen = np.searchsorted(order, np.minimum(starts[:-1] + inside, ranks[:, None]), side="right")
    before = np.searchsorted(order, starts[:-1], side="right")
    unseen = inside - np.maximum(seen - before, 0)
    found: np.ndarray = known_positives(sample, ranks) + (unseen * rate).sum(axis=1)
    return found


def total_positives(sample: Sample, rounds: Sequence[Round], size: int, error: float) -> Total:
    """Positives in the whole survey, with limits for both sides together.

    The survey is cut where a round's test ends; head and tail have exact limits each, from labels
    drawn at random in them. Before any test the limits are what the labels alone imply.
    """
    value = float(positives_within(sample, np.array([size]))[0])
    lower = int((sample.label == 1).sum())
    upper, cut, controls = size - int((sample.label == 0).sum()), 0, 0
    for number, planned in enumerate(rounds):
        if planned.share <= 0:
            continue
        head = max((depth for depth, _ in planned.layers if depth < size), default=size)
        # Counted twice, unknown labels as negative for the lower and positive for the upper
        # limit; the upper limit is a lower limit of the negatives.
        low = _head_and_tail(sample, number, head, size, unknown_is=0)
        high = _head_and_tail(sample, number, head, size, unknown_is=1)
        hits = np.concatenate([low.hits, high.draws - high.hits])
        draws, pool = np.concatenate([[low.draws, low.pool], [high.draws, high.pool]], axis=1)
        errors = planned.share * error / 2 * np.array([*_LOWER_SHARES, *_UPPER_SHARES])
        fewest = fewest_positives(hits, draws, pool, errors)
        lower = max(lower, int((low.known + fewest[:2]).sum()))
        most = int((high.known + high.pool - fewest[2:]).sum())
        if cut == 0 or most < upper:
            upper, cut = min(upper, most), head
            controls = int(low.draws[1] if head < size else low.draws[0])
    upper = max(lower, upper)
    return Total(
        value=float(np.clip(value, lower, upper)),
        lower=float(lower),
        upper=float(upper),
        cut=cut,
        controls=controls,
    )


def _head_and_tail(
    sample: Sample, number: int, head: int, size: int, *, unknown_is: int
) -> Evidence:
    """What a round says of the ranks up to ``head`` and of those beyond it."""
    top = evidence(sample, number, [head], unknown_is=unknown_is)
    label = np.where(sample.label == UNKNOWN, unknown_is, sample.label) == 1
    tail = sample.rank > head
    fresh = tail & (sample.round == number) & (sample.depth >= size)
    before = tail & (sample.round <= number) & ~fresh
    return Evidence(
        k=np.array([head, size]),
        draws=np.append(top.draws, fresh.sum()),
        hits=np.append(top.hits, (fresh & label).sum()),
        pool=np.append(top.pool, size - head - before.sum()),
        known=np.append(top.known, (before & label).sum()),
    )
