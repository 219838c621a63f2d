"""Which objects to label next: rounds that find where purity falls, then test there.

The model of purity against rank in this file only chooses where to look. Wrong, it costs length
of the list; never validity, which rests on `skytwin.answers.certify_bounds` alone.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
from scipy.special import expit, ndtri

from skytwin.answers.certify_bounds import Round, Sample

__all__ = ["SCHEDULE", "decisive", "draw", "pilot", "refine"]

#: Shares of the budget (controls aside) by number of rounds; the last round is the one that tests.
SCHEDULE: dict[int, tuple[float, ...]] = {2: (0.25, 0.75), 3: (0.15, 0.2, 0.65)}

#: Neighbouring ranks of the grid that designs are made on differ by this factor.
_STEP = 1.05
_CURVES = 64


class _Curves:
    """A family of curves of local purity against rank, with all that designs need of it.

    ``purity(r) = ceiling / (1 + (r / r_half)^slope)``, on a geometric grid of ranks.

    Attributes
    ----------
    k : ndarray, shape (G,), int64
        The grid.
    log_yes, log_no : ndarray, shape (G, C)
        Log probability that an object there is positive, or is not, under each curve.
    within : ndarray, shape (C, G)
        Purity of the top k under each curve.
    """

    def __init__(self, size: int) -> None:
        points = 2 + int(np.log(size) / np.log(_STEP))
        self.k = np.unique(np.round(np.geomspace(1, size, points)).astype(np.int64))
        log_k = np.log(self.k)
        half = np.linspace(-1.0, np.log(size) + 1.0, 60)
        slope = np.array([0.35, 0.6, 1.0, 1.7, 3.0, 8.0])
        ceiling = np.array([1.0, 0.98, 0.93, 0.8, 0.55, 0.25, 1.0])
        # The last kind begins low, as where the references' twins are of another class.
        begins = np.array([1.0] * 6 + [0.5])
        h, s, top = (
            a.ravel()[:, None] for a in np.meshgrid(half, slope, np.arange(7), indexing="ij")
        )
        local = ceiling[top] * expit(s * (h - log_k))
        local *= 1 - (1 - begins[top]) * expit(4 * (h - 2 - log_k))
        # Nothing is certain: one stray label must not rule out every curve.
        local = np.clip(local + 1e-5, 1e-5, 1 - 1e-3)
        # Rank first: the ranks that were labelled are rows that lie together.
        self.log_yes = np.ascontiguousarray(np.log(local).T)
        self.log_no = np.ascontiguousarray(np.log1p(-local).T)
        self.within = np.cumsum(local * np.diff(self.k, prepend=0), axis=1) / self.k

    def weights(self, sample: Sample) -> np.ndarray:
        """Posterior weight of each curve, shape (C,), from a uniform prior."""
        at = np.minimum(np.searchsorted(self.k, sample.rank), len(self.k) - 1)
        yes = np.bincount(at[sample.label == 1], minlength=len(self.k))
        no = np.bincount(at[sample.label == 0], minlength=len(self.k))
        seen = np.flatnonzero(yes + no)
        fit = yes[seen] @ self.log_yes[seen] + no[seen] @ self.log_no[seen]
        weight: np.ndarray = np.exp(fit - fit.max())
        weight /= weight.sum()
        return weight

    def last(self, reached: np.ndarray) -> np.ndarray:
        """The last grid position where each curve has reached a mark, 0 where none, (C,)."""
        backwards = reached[:, ::-1].argmax(axis=1)
        found: np.ndarray = np.where(reached.any(axis=1), reached.shape[1] - 1 - backwards, 0)
        return found

    def quantiles(self, last: np.ndarray, weight: np.ndarray, at: Sequence[float]) -> np.ndarray:
        """Weighted quantiles of grid positions (C,)."""
        mass = np.bincount(last, weights=weight, minlength=len(self.k)).cumsum()
        found: np.ndarray = np.searchsorted(mass, np.asarray(at) * mass[-1])
        return found.clip(max=len(self.k) - 1)


@functools.lru_cache(maxsize=4)
def _curves(size: int) -> _Curves:
    return _Curves(size)


@functools.lru_cache(maxsize=16)
def _pure(size: int, purity: float) -> np.ndarray:
    """Where each curve is last pure enough, (C,)."""
    curves = _curves(size)
    return curves.last(curves.within >= purity)


@functools.lru_cache(maxsize=64)
def _provable(size: int, purity: float, count: int, error: float) -> np.ndarray:
    """Where each curve is last so pure that ``count`` labels can show it, (C,)."""
    curves = _curves(size)
    k = curves.k
    drawn = np.minimum(count, k)
    spread = np.sqrt(purity * (1 - purity) * (1 - drawn / k) / drawn)
    needed = np.minimum(purity - ndtri(error) * spread + 0.5 / drawn * (spread > 0), 1 - 1e-4)
    return curves.last(curves.within >= needed)


def pilot(size: int, count: int, smallest: int) -> Round:
    """A first look: equally many objects from each of some depths in geometric progression."""
    shallow = min(size, max(20, smallest))
    depths = np.unique(np.round(np.geomspace(shallow, size, 10)).astype(np.int64))
    return Round(layers=_layers(depths, np.full(len(depths), 1.0), count))


def refine(size: int, sample: Sample, count: int, purity: float, smallest: int) -> Round:
    """A closer look around the rank where purity, by what is known, falls below the mark."""
    curves = _curves(size)
    at = curves.quantiles(_pure(size, purity), curves.weights(sample), (0.1, 0.3, 0.5, 0.7, 0.9))
    depths = np.minimum(np.maximum(curves.k[at], smallest), size)
    unique, weight = np.unique(depths, return_counts=True)
    return Round(layers=_layers(unique, weight.astype(float), count))


def decisive(
    size: int,
    sample: Sample,
    count: int,
    controls: int,
    *,
    purity: float,
    error: float,
    share: float,
    smallest: int,
    certified: int,
    rng: np.random.Generator,
) -> Round:
    """The round whose labels certify: one layer as deep as is worth testing, and controls.

    Depth and first rank of the chain are those with the longest expected list over curves drawn
    from the posterior, labels simulated.

    Parameters
    ----------
    size : int
        Objects of the survey.
    sample : Sample
        What is known.
    count : int
        Objects to label, controls not among them.
    controls : int
        Objects drawn from the whole survey.
    purity, error, share, smallest
        As in `certify_bounds`.
    certified : int
        The list that earlier rounds have certified, which this one is to lengthen.
    rng : numpy.random.Generator
        For the simulation.
    """
    curves = _curves(size)
    weight = curves.weights(sample)
    # Labelling so many, everything down to this rank can be known outright.
    full = min(size, count + _contiguous(sample.rank, count))
    marks = (0.15, 0.3, 0.45, 0.6, 0.75, 0.9)
    ends = np.unique(curves.quantiles(_provable(size, purity, count, error * share), weight, marks))
    if certified:
        further = np.searchsorted(curves.k, certified * np.array([1.1, 1.25, 1.5]))
        ends = np.union1d(ends, further.clip(max=len(curves.k) - 1))
    shortest = max(smallest, certified + 1)
    ends = np.unique(ends[curves.k[ends] > max(full, shortest)])
    chain: tuple[int, ...] = ()
    if len(ends):
        drawn = np.searchsorted(np.cumsum(weight), (np.arange(_CURVES) + 0.5) / _CURVES)
        within = curves.within[np.minimum(drawn, len(weight) - 1)]
        chain = _best_chain(curves.k, within, ends, count, purity, error * share, shortest, rng)
        chain = tuple(k for k in chain if k > full)
    depth = chain[-1] if chain else full
    layers = [(depth, min(count, depth))] + ([(size, controls)] if controls else [])
    if depth == size:
        layers = [(size, count + controls)]
    return Round(layers=tuple(layers), chain=chain or (depth,), share=share)


def _best_chain(
    k: np.ndarray,
    within: np.ndarray,
    ends: np.ndarray,
    count: int,
    purity: float,
    error: float,
    shortest: int,
    rng: np.random.Generator,
) -> tuple[int, ...]:
    """Ranks to test, outwards, with the longest certified list on average over the curves."""
    best, chosen = -1.0, (0, 0)
    misses_within = (1 - within) * k
    for end in ends:
        start = int(np.searchsorted(k, max(0.4 * k[end], shortest)))
        ranks = k[start : end + 1]
        rate = min(1.0, count / ranks[-1])
        drawn = ranks * rate
        left = np.sqrt(1 - rate)
        allowed = drawn * (1 - purity) + left * ndtri(error) * np.sqrt(
            drawn * purity * (1 - purity)
        )
        allowed -= 0.5 * (left > 0)
        misses = misses_within[:, start : end + 1]
        new = np.maximum(np.diff(misses, axis=1, prepend=0.0), 0.0) * rate
        passed = np.cumsum(rng.poisson(new), axis=1) <= allowed
        for first in range(0, len(ranks), 4):
            run = np.logical_and.accumulate(passed[:, first:], axis=1).sum(axis=1)
            reached = np.where(run > 0, ranks[np.maximum(first + run - 1, 0)], 0).mean()
            if reached > best:
                best, chosen = float(reached), (start + first, int(end))
    return tuple(int(rank) for rank in k[chosen[0] : chosen[1] + 1])


def draw(
    planned: Round, taken: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """The ranks that a round labels, and the depth of the layer that drew each, (n,) int64.

    Parameters
    ----------
    planned : Round
    taken : ndarray, shape (m,), int64
        Ranks drawn in earlier rounds.
    rng : numpy.random.Generator
    """
    known = np.sort(taken)
    ranks, depths = [], []
    for depth, count in planned.layers:
        inside = known[: np.searchsorted(known, depth, side="right")]
        free = depth - len(inside)
        at = rng.choice(free, min(count, free), replace=False)
        # The at-th rank that is free: as many places on as taken ranks lie before it.
        found = 1 + at + np.searchsorted(inside - 1 - np.arange(len(inside)), at, side="right")
        known = np.sort(np.concatenate([known, found]))
        ranks.append(found)
        depths.append(np.full(len(found), depth))
    return (
        np.concatenate(ranks).astype(np.int64),
        np.concatenate(depths).astype(np.int64),
    )


def _layers(depths: np.ndarray, weight: np.ndarray, count: int) -> tuple[tuple[int, int], ...]:
    """Counts in proportion to the weights that add up to ``count``; empty layers left out."""
    until = np.round(np.cumsum(weight) / weight.sum() * count).astype(int)
    counts = np.diff(until, prepend=0)
    return tuple((int(d), int(c)) for d, c in zip(depths, counts, strict=True) if c)


def _contiguous(rank: np.ndarray, count: int) -> int:
    """How many of the labelled ranks are passed on the way to ``count`` unlabelled ones."""
    known = np.sort(rank)
    before = known - 1 - np.arange(len(known))
    return int(np.searchsorted(before, count, side="left"))
