"""Coverage and length of certified lists on simulated surveys, as a Markdown table.

    python benchmarks/science/certify_simulation.py            # 1000 surveys per cell
    python benchmarks/science/certify_simulation.py --quick    # 40 per cell

Every cell draws its surveys anew: the positives' ranks, then the labels of all rounds as
`skytwin.answers.certify_plan` would ask for them. *Any* is the
share of surveys in which a list is certified, *false* that of surveys in which the
certified list is less pure than asked; *list* is the certified length over the oracle's, the
longest list that is pure enough in truth. *Total* is how often the interval of the number of
positives in the survey misses it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr
from scipy.stats import binom, hypergeom

from skytwin.answers.certify_bounds import Sample, enough_positives, judge
from skytwin.answers.certify_design import SCHEDULE, decisive, draw, pilot, refine
from skytwin.answers.certify_total import total_positives

ERROR, SHARE, SMALLEST, CONTROLS = 0.05, 0.9, 5, 0.1
SIZES = {0.1: 10**5, 0.01: 10**5, 0.001: 10**5, 1e-4: 10**6}
PURITIES, BUDGETS = (0.5, 0.8, 0.9), (100, 200, 500)
#: Random numbers, size of the survey, positives, purity asked -> the positives' ranks, ascending.
Survey = Callable[[np.random.Generator, int, int, float], np.ndarray]


def binormal(separation: float) -> Survey:
    """Scores N(0, 1), of positives N(separation, 1)."""

    def ranks(rng: np.random.Generator, size: int, count: int, _purity: float) -> np.ndarray:
        tail = 1 - ndtr(np.sort(rng.normal(separation, 1, count))[::-1])
        share = np.diff(tail, prepend=0.0, append=1.0).clip(0)
        ahead = np.cumsum(rng.multinomial(size - count, share / share.sum()))[:-1]
        return ahead + np.arange(1, count + 1)

    return ranks


def stretches(*parts: tuple[float, float]) -> Survey:
    """Some of the positives (share, local purity over the purity asked), the rest beyond."""

    def ranks(rng: np.random.Generator, size: int, count: int, purity: float) -> np.ndarray:
        placed, start = [], 0
        for share, local in parts:
            some = round(share * count)
            length = max(some, round(some / min(1.0, local * purity))) if some else 0
            placed.append(start + 1 + rng.choice(length, some, replace=False))
            start += length
        rest = count - sum(map(len, placed))
        placed.append(start + 1 + rng.choice(size - start, rest, replace=False))
        return np.sort(np.concatenate(placed))

    return ranks


def just_short(_rng: np.random.Generator, _size: int, count: int, purity: float) -> np.ndarray:
    """As pure as can be without any list being pure enough: every certificate is false."""
    return np.floor(np.arange(1, count + 1) / purity + 1e-9).astype(np.int64) + 1


def shuffled(rng: np.random.Generator, size: int, count: int, _purity: float) -> np.ndarray:
    """Labels that have nothing to do with the rank."""
    return np.sort(1 + rng.choice(size, count, replace=False))


SURVEYS: dict[str, Survey] = {
    "poor (AUC 0.92)": binormal(2.0),
    "good (AUC 0.983)": binormal(3.0),
    "excellent (AUC 0.998)": binormal(4.0),
    "rises again": stretches((0.05, 0.6), (0.65, 9.0)),
    "cliff": stretches((0.7, 9.0)),
    "just short of P": just_short,
    "shuffled": shuffled,
}


@dataclass(frozen=True)
class Cell:
    false: np.ndarray
    size: np.ndarray
    oracle: np.ndarray
    total_missed: np.ndarray

    @property
    def share(self) -> np.ndarray:
        some = self.oracle > 0
        return self.size[some] / self.oracle[some]


def oracle(positive: np.ndarray, purity: float) -> int:
    """The longest list that is pure enough; 0 below the shortest that is ever certified."""
    following = np.append(positive[1:] - 1, np.iinfo(np.int64).max)
    reach = np.floor(np.arange(1, len(positive) + 1) / purity + 1e-9).astype(np.int64)
    longest = np.minimum(reach, following)
    good = longest[(longest >= positive) & (longest >= SMALLEST)]
    return int(good.max()) if len(good) else 0


def one(
    rng: np.random.Generator, size: int, positive: np.ndarray, purity: float, budget: int
) -> tuple[int, float, float]:
    """Plan, label and certify one survey: certified length, limits of the total."""
    controls = round(CONTROLS * budget)
    counts = np.diff(np.round(np.cumsum(SCHEDULE[3]) * (budget - controls)), prepend=0).astype(int)
    sample, rounds = Sample.empty(), []
    for number, count in enumerate(counts):
        if number == 0:
            planned = pilot(size, count, SMALLEST)
        elif number < len(counts) - 1:
            planned = refine(size, sample, count, purity, SMALLEST)
        else:
            count = budget - controls - len(sample.rank)
            planned = decisive(
                size, sample, count, controls, purity=purity, error=ERROR, share=SHARE,
                smallest=SMALLEST, certified=0, rng=rng,
            )  # fmt: skip
        rank, depth = draw(planned, sample.rank, rng)
        at = np.minimum(np.searchsorted(positive, rank), len(positive) - 1)
        sample = sample.with_round(rank, depth, (positive[at] == rank).astype(np.int8))
        rounds.append(planned)
    verdict = judge(sample, rounds, size, purity=purity, error=ERROR, smallest=SMALLEST)
    total = total_positives(sample, rounds, size, ERROR)
    return verdict.size, total.lower, total.upper


def run(
    survey: Survey, prevalence: float, purity: float, budget: int, count: int, seed: int
) -> Cell:
    """Simulate ``count`` surveys."""
    size = SIZES[prevalence]
    positives = round(size * prevalence)
    rows = []
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        positive = survey(rng, size, positives, purity)
        length, low, high = one(rng, size, positive, purity, budget)
        inside = int(np.searchsorted(positive, length, side="right"))
        rows.append(
            (
                length > 0 and inside < int(enough_positives(length, purity)),
                length,
                oracle(positive, purity),
                not low <= positives <= high,
            )
        )
    false, length, best, missed = (np.array(column) for column in zip(*rows, strict=True))
    return Cell(false=false, size=length, oracle=best, total_missed=missed)


def most_false(count: int, chance: float = 1e-3) -> int:
    """As many false certificates as 5 % allows by chance, at this one-sided probability."""
    return int(binom.isf(chance, count, ERROR))


def ideal(survey: Survey, prevalence: float, purity: float, draws: int, seed: int) -> float:
    """Expected length, as a share of the oracle's, of one exact test at the best rank, known."""
    size = SIZES[prevalence]
    lengths = []
    for number in range(5):
        rng = np.random.default_rng([seed, number])
        positive = survey(rng, size, round(size * prevalence), purity)
        end = oracle(positive, purity)
        if end == 0:
            continue
        best = min(end, draws)
        for k in np.unique(np.geomspace(min(draws + 1, end), end, 25).astype(int)):
            inside = int(np.searchsorted(positive, k, side="right"))
            n = min(draws, k)
            hits = np.arange(n + 1)
            null = int(enough_positives(k, purity)) - 1
            passing = hits[hypergeom.sf(hits - 1, k, null, n) <= ERROR]
            if len(passing):
                best = max(best, k * hypergeom.sf(passing[0] - 1, k, inside, n))
        lengths.append(best / end)
    return float(np.mean(lengths)) if lengths else float("nan")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="40 surveys per cell")
    parser.add_argument("--surveys", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--prevalence", type=float, action="append", choices=list(SIZES))
    settings = parser.parse_args()
    count = 40 if settings.quick else settings.surveys
    start, worst, allowed = time.monotonic(), 0.0, most_false(count)
    print(
        "| ranking | prevalence | P | budget | any | false | list, mean | median | ideal | total |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for name, survey in SURVEYS.items():
        for prevalence in settings.prevalence or SIZES:
            for purity in PURITIES:
                for budget in BUDGETS:
                    cell = run(survey, prevalence, purity, budget, count, settings.seed)
                    worst = max(worst, float(cell.false.mean()))
                    if cell.false.sum() > allowed:
                        raise SystemExit(f"{name}, {prevalence}, {purity}: {cell.false.mean()}")
                    share = cell.share
                    some = len(share) > 0.5 * count
                    floor = ideal(survey, prevalence, purity, round(0.9 * budget), 0)
                    lengths = (
                        f"{share.mean():.2f} | {np.median(share):.2f} | {floor:.2f}"
                        if some
                        else "- | - | -"
                    )
                    print(
                        f"| {name} | {prevalence:g} | {purity} | {budget} | "
                        f"{(cell.size > 0).mean():.3f} | {cell.false.mean():.3f} | {lengths} | "
                        f"{cell.total_missed.mean():.3f} |",
                        flush=True,
                    )
    print(
        f"\n{count} surveys per cell, seed {settings.seed}; worst cell {worst:.3f} false "
        f"(chance alone allows {allowed / count:.3f}); {time.monotonic() - start:.0f} s"
    )


if __name__ == "__main__":
    main()
