"""How pure a list is, from labels drawn at random: exact tests on ranks and labels alone.

A survey of N objects stands in a fixed order, rank 1 the most alike. A `Round` draws objects to
label in layers: a layer is a simple random sample, without replacement, of the objects of rank at
most ``depth`` that have no label yet; shallow layers are drawn before deep ones. So whatever the
earlier rounds found, for every rank k the objects of a round that lie in the top k and come from
layers at least k deep are a simple random sample of what was unlabelled there, and the positives
among them are hypergeometric. Everything here rests on that fact alone; nothing is assumed of how
purity depends on rank.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from skytwin.answers.hypergeometric import chance_of_at_least, fewest_positives

__all__ = [
    "UNKNOWN",
    "Evidence",
    "Round",
    "Sample",
    "Verdict",
    "enough_positives",
    "evidence",
    "joint_lower",
    "judge",
    "known_positives",
    "lower_alone",
]

#: The label of an object whose class is not known: counted against every claim.
UNKNOWN = -1


@dataclass(frozen=True, kw_only=True)
class Round:
    """One batch of objects to label, and what its labels will be used to test.

    All of it is settled before the first of these labels is seen.

    Attributes
    ----------
    layers : tuple of (int, int)
        Depth and number of objects of each layer, the shallowest first.
    chain : tuple of int
        Ranks to test, in this order, until one fails.
    share : float
        Of the error allowed in all; 0 for a round that only finds out where to look.
    """

    layers: tuple[tuple[int, int], ...]
    chain: tuple[int, ...] = ()
    share: float = 0.0

    @property
    def count(self) -> int:
        """Objects to label."""
        return sum(count for _, count in self.layers)


@dataclass(frozen=True, eq=False, kw_only=True)
class Sample:
    """The objects labelled so far, n of them.

    Attributes
    ----------
    rank : ndarray, shape (n,), int64
        From 1; each occurs once.
    label : ndarray, shape (n,), int8
        1 positive, 0 not, `UNKNOWN`.
    round : ndarray, shape (n,), int64
        Which round drew it, from 0.
    depth : ndarray, shape (n,), int64
        Depth of the layer that drew it.
    """

    rank: np.ndarray
    label: np.ndarray
    round: np.ndarray
    depth: np.ndarray

    @classmethod
    def empty(cls) -> Sample:
        """No object yet."""
        none = np.empty(0, dtype=np.int64)
        return cls(rank=none, label=none.astype(np.int8), round=none, depth=none)

    def with_round(self, rank: np.ndarray, depth: np.ndarray, label: np.ndarray) -> Sample:
        """These objects and those of one more round."""
        number = int(self.round.max()) + 1 if len(self.round) else 0
        return Sample(
            rank=np.concatenate([self.rank, rank]),
            label=np.concatenate([self.label, label]).astype(np.int8),
            round=np.concatenate([self.round, np.full(len(rank), number, dtype=np.int64)]),
            depth=np.concatenate([self.depth, depth]),
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class Evidence:
    """What one round says of the top k, for each of m ranks k; every array has shape (m,).

    Attributes
    ----------
    k : ndarray
        The ranks.
    draws, hits : ndarray
        Objects drawn at random from the pool, and positives among them.
    pool : ndarray
        Objects of the top k that were not labelled when they were drawn.
    known : ndarray
        Positives of the top k that were known already.
    """

    k: np.ndarray
    draws: np.ndarray
    hits: np.ndarray
    pool: np.ndarray
    known: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The list that is certified.

    Attributes
    ----------
    size : int
        The top so many; 0 for none.
    certain : bool
        The labels alone prove it: so many of the list are known positives.
    passed : tuple of int
        Every rank within which the purity is certified, ascending.
    best_size, best_purity
        Where nothing is certified: the top ``best_size`` is at least ``best_purity`` pure.
    """

    size: int
    certain: bool
    passed: tuple[int, ...]
    best_size: int
    best_purity: float


def enough_positives(k: np.ndarray | int, purity: float) -> np.ndarray:
    """The fewest positives with which the top k is ``purity`` pure, int64."""
    # A purity such as 0.9 has no exact binary form: 0.9 * 10 must not need ten positives.
    return np.ceil(np.asarray(k) * purity - 1e-9).astype(np.int64)


def evidence(
    sample: Sample, number: int, k: Sequence[int] | np.ndarray, *, unknown_is: int = 0
) -> Evidence:
    """What round ``number`` says of the top k; an unknown label counts as ``unknown_is``."""
    ranks = np.asarray(k, dtype=np.int64)
    label = np.where(sample.label == UNKNOWN, unknown_is, sample.label) == 1
    inside = sample.rank[None, :] <= ranks[:, None]
    fresh = inside & (sample.round == number) & (sample.depth[None, :] >= ranks[:, None])
    before = inside & (sample.round <= number) & ~fresh
    return Evidence(
        k=ranks,
        draws=fresh.sum(axis=1),
        hits=(fresh & label).sum(axis=1),
        pool=ranks - before.sum(axis=1),
        known=(before & label).sum(axis=1),
    )


def judge(
    sample: Sample,
    rounds: Sequence[Round],
    size: int,
    *,
    purity: float,
    error: float,
    smallest: int,
) -> Verdict:
    """The largest list that is certified, with probability of a false one at most ``error``.

    Each round tests its ranks in an order fixed beforehand, each at the round's whole share of
    the error, and stops at the first that fails: fixed-sequence testing (Maurer, Hothorn &
    Lehmacher 1995), which is 'learn then test' (Angelopoulos, Bates, Candes, Jordan & Lei 2021)
    with hypergeometric p-values. Given all earlier rounds, a round errs with at most its share;
    the shares add up to at most 1.

    Parameters
    ----------
    sample : Sample
    rounds : sequence of Round
        Those that were labelled, in order.
    size : int
        Objects of the survey.
    purity : float
        What is asked of the list.
    error : float
        Allowed probability of certifying a list that is less pure.
    smallest : int
        Shorter lists are not certified.
    """
    passed: set[int] = set()
    for number, planned in enumerate(rounds):
        if planned.share > 0:
            found = evidence(sample, number, planned.chain)
            passed.update(_tested(found, purity, planned.share * error))
    counted = _proven(sample, size, purity, smallest)
    tested = max(passed, default=0)
    longest = max(tested, counted)
    if longest >= smallest:
        return Verdict(
            size=longest,
            certain=counted >= tested,
            passed=tuple(sorted({*passed, longest})),
            best_size=longest,
            best_purity=purity,
        )
    best_size, best_purity = _most_proven(sample, size, smallest)
    for number, planned in enumerate(rounds):
        if planned.share > 0 and planned.chain[0] >= smallest:
            # The first rank of a chain stays at the round's whole share for every lower purity:
            # these hypotheses are nested, and the first true one is all that can go wrong.
            found = evidence(sample, number, planned.chain[:1])
            fewest = found.known + fewest_positives(
                found.hits, found.draws, found.pool, planned.share * error
            )
            reached = float(fewest[0] / found.k[0])
            if reached > best_purity:
                best_size, best_purity = int(found.k[0]), reached
    return Verdict(size=0, certain=False, passed=(), best_size=best_size, best_purity=best_purity)


def _tested(found: Evidence, purity: float, level: float) -> list[int]:
    """The ranks of a chain before the first that fails."""
    needed = enough_positives(found.k, purity) - found.known
    null = np.clip(needed - 1, 0, found.pool)
    chance = chance_of_at_least(found.hits, found.draws, null, found.pool)
    chance = np.where(needed <= 0, 0.0, np.where(needed > found.pool, 1.0, chance))
    passing = np.logical_and.accumulate(chance <= level)
    return [int(rank) for rank in found.k[passing]]


def lower_alone(sample: Sample, rounds: Sequence[Round], k: np.ndarray, error: float) -> np.ndarray:
    """Lower limits of the positives within each rank, each for a rank chosen beforehand, int64."""
    best = known_positives(sample, k)
    for number, planned in enumerate(rounds):
        if planned.share > 0:
            depths = sorted(depth for depth, _ in planned.layers)
            # Beyond the layer that tests there are only controls: its own limit says more.
            head = depths[-2] if len(depths) > 1 else depths[-1]
            found = evidence(sample, number, np.minimum(k, head))
            level = planned.share * error
            limit = found.known + fewest_positives(found.hits, found.draws, found.pool, level)
            best = np.maximum(best, limit)
    return best


def joint_lower(
    sample: Sample, rounds: Sequence[Round], k: np.ndarray, error: float, knots: int = 16
) -> np.ndarray:
    """Lower limits of the positives within each rank, ascending, that hold all at once, int64.

    Bonferroni over at most ``knots`` ranks fixed by the plan, and between them the fact that
    positives within a rank are within every later one.
    """
    best = known_positives(sample, k)
    for number, planned in enumerate(rounds):
        if planned.share <= 0:
            continue
        depths = [depth for depth, _ in planned.layers]
        first = max(1, min(depths) // 64)
        at = np.unique(np.geomspace(first, min(depths), knots - len(depths) + 1).astype(np.int64))
        at = np.union1d(at, depths)
        found = evidence(sample, number, at)
        level = planned.share * error / len(at)
        limit = found.known + fewest_positives(found.hits, found.draws, found.pool, level)
        limit = np.concatenate([[0], np.maximum.accumulate(limit)])
        best = np.maximum(best, limit[np.searchsorted(at, k, side="right")])
    return np.maximum.accumulate(best)


def known_positives(sample: Sample, k: np.ndarray) -> np.ndarray:
    """Labelled positives within each rank, int64."""
    found: np.ndarray = np.searchsorted(np.sort(sample.rank[sample.label == 1]), k, side="right")
    return found


def _proven(sample: Sample, size: int, purity: float, smallest: int) -> int:
    """The longest list that known positives alone make pure enough; 0 where there is none."""
    positive = np.sort(sample.rank[sample.label == 1])
    count = np.arange(1, len(positive) + 1)
    reach = np.floor(count / purity + 1e-9).astype(np.int64)
    following = np.append(positive[1:] - 1, size)
    longest = np.minimum(reach, following)
    good = longest[(longest >= positive) & (longest >= smallest)]
    return int(good.max()) if len(good) else 0


def _most_proven(sample: Sample, size: int, smallest: int) -> tuple[int, float]:
    """The list with the highest purity that known positives alone prove."""
    positive = np.sort(sample.rank[sample.label == 1])
    if not len(positive):
        return 0, 0.0
    length = np.minimum(np.maximum(positive, smallest), size)
    share = np.searchsorted(positive, length, side="right") / length
    at = len(share) - 1 - int(np.argmax(share[::-1]))
    return int(length[at]), float(share[at])
