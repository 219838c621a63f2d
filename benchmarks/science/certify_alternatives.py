"""Other ways to certify, on the surveys of `certify_simulation`, with the same labels.

    python benchmarks/science/certify_alternatives.py

*Three rounds* and *two rounds* are what skytwin does. *One round* spreads all labels over layers
in geometric progression and tests outwards from the shallowest. *Betting* labels 30 at a time
where it pays most and multiplies bets on each object's label for every rank of a chain (Waudby-
Smith & Ramdas 2020, 2024; an e-value of 20 passes); it may be stopped and taken up at any time.
"""

from __future__ import annotations

import numpy as np
from certify_simulation import CONTROLS, ERROR, SHARE, SMALLEST, SURVEYS, oracle

from skytwin.answers.certify_bounds import Round, Sample, enough_positives, judge
from skytwin.answers.certify_design import SCHEDULE, _curves, decisive, draw, pilot, refine

CELLS = [
    ("good (AUC 0.983)", 0.01, 0.5),
    ("good (AUC 0.983)", 0.01, 0.9),
    ("excellent (AUC 0.998)", 0.01, 0.9),
    ("good (AUC 0.983)", 0.1, 0.8),
]
SIZE, BUDGET, SURVEYS_PER_CELL = 100_000, 200, 200


class Labeller:
    """Draws rounds and labels them by the truth."""

    def __init__(self, positive: np.ndarray, rng: np.random.Generator) -> None:
        self.positive, self.rng, self.sample = positive, rng, Sample.empty()
        self.rounds: list[Round] = []

    def label(self, planned: Round) -> tuple[np.ndarray, np.ndarray]:
        rank, depth = draw(planned, self.sample.rank, self.rng)
        order = self.rng.permutation(len(rank))
        rank, depth = rank[order], depth[order]
        yes = np.isin(rank, self.positive)
        self.sample = self.sample.with_round(rank, depth, yes)
        self.rounds.append(planned)
        return rank, yes

    def judge(self, purity: float) -> int:
        settings = {"purity": purity, "error": ERROR, "smallest": SMALLEST}
        return judge(self.sample, self.rounds, SIZE, **settings).size


def by_rounds(person: Labeller, purity: float, number: int) -> int:
    controls = round(CONTROLS * BUDGET)
    for share in SCHEDULE[number][:-1]:
        count = round(share * (BUDGET - controls))
        if not person.rounds:
            person.label(pilot(SIZE, count, SMALLEST))
        else:
            person.label(refine(SIZE, person.sample, count, purity, SMALLEST))
    left = BUDGET - controls - len(person.sample.rank)
    person.label(
        decisive(
            SIZE, person.sample, left, controls, purity=purity, error=ERROR, share=SHARE,
            smallest=SMALLEST, certified=0, rng=person.rng,
        )
    )  # fmt: skip
    return person.judge(purity)


def one_round(person: Labeller, purity: float) -> int:
    controls = round(CONTROLS * BUDGET)
    depths = np.round(np.geomspace(32, SIZE / 8, 10)).astype(int)
    count = (BUDGET - controls) // len(depths)
    chain = np.unique(np.round(np.geomspace(32, SIZE / 8, 120)).astype(int))
    person.label(
        Round(
            layers=(*((int(d), count) for d in depths), (SIZE, controls)),
            chain=tuple(int(k) for k in chain),
            share=1.0,
        )
    )
    return person.judge(purity)


def betting(person: Labeller, purity: float, batch: int = 30) -> int:
    controls = round(CONTROLS * BUDGET)
    left = BUDGET - controls
    person.label(pilot(SIZE, round(0.2 * left), SMALLEST))
    # The chain is settled by the pilot; the design of a test says where it should lie.
    chain = _chain(person, purity)
    wealth, passed = np.zeros(len(chain)), np.zeros(len(chain), dtype=bool)
    while len(person.sample.rank) < left:
        before = person.sample
        size = min(batch, left - len(before.rank))
        target = _test_of_100(person, purity)[-1]
        target = max(target, chain[min(passed.sum(), len(chain) - 1)])
        rank, yes = person.label(Round(layers=((int(target), size),)))
        for place, k in enumerate(chain):
            if k > target or passed[place]:
                continue
            inside = before.rank <= k
            pool, null = k - inside.sum(), enough_positives(k, purity) - 1
            null = null - (before.label[inside] == 1).sum()
            guess = _guess(before, k, pool)
            for positive in yes[rank <= k]:
                chance = min(max(null / pool, 0.0), 1.0)
                if chance >= 1 or null < 0:
                    passed[place] |= null < 0
                    break
                bet = chance + 0.8 * max(guess - chance, 0)
                wealth[place] += np.log(
                    bet / chance if positive and chance else (1 - bet) / (1 - chance)
                )
                passed[place] |= wealth[place] >= np.log(1 / ERROR)
                pool, null = pool - 1, null - positive
    failed = np.flatnonzero(~passed)
    reached = int(chain[failed[0] - 1]) if len(failed) and failed[0] else 0
    return max(reached if len(failed) else int(chain[-1]), person.judge(purity))


def _test_of_100(person: Labeller, purity: float) -> tuple[int, ...]:
    """The ranks that a round of 100 labels would test."""
    return decisive(
        SIZE, person.sample, 100, 0, purity=purity, error=ERROR, share=SHARE,
        smallest=SMALLEST, certified=0, rng=person.rng,
    ).chain  # fmt: skip


def _chain(person: Labeller, purity: float) -> np.ndarray:
    tested = _test_of_100(person, purity)
    ends = max(SMALLEST, 0.7 * tested[0]), 2 * tested[-1]
    return np.unique(np.round(np.geomspace(*ends, 30)).astype(int))


def _guess(sample: Sample, k: int, pool: int) -> float:
    """Purity of what is unlabelled within k, by the curves that designs are made with."""
    curves = _curves(SIZE)
    at = min(int(np.searchsorted(curves.k, k)), len(curves.k) - 1)
    expected = k * float(curves.weights(sample) @ curves.within[:, at])
    known = (sample.label[sample.rank <= k] == 1).sum()
    return float(np.clip((expected - known) / pool, 0.01, 0.99))


def main() -> None:
    ways = {
        "three rounds": lambda person, purity: by_rounds(person, purity, 3),
        "two rounds": lambda person, purity: by_rounds(person, purity, 2),
        "one round": one_round,
        "betting": betting,
    }
    print("| ranking | prevalence | P | " + " | ".join(ways) + " |")
    print("|---" * (3 + len(ways)) + "|")
    for name, prevalence, purity in CELLS:
        cells = []
        for way in ways.values():
            shares, false = [], 0
            for number in range(SURVEYS_PER_CELL):
                rng = np.random.default_rng([1, number])
                positive = SURVEYS[name](rng, SIZE, round(SIZE * prevalence), purity)
                size = way(Labeller(positive, rng), purity)
                inside = np.searchsorted(positive, size, side="right")
                false += size > 0 and inside < enough_positives(size, purity)
                shares.append(size / oracle(positive, purity))
            cells.append(f"{np.mean(shares):.2f} ({false / SURVEYS_PER_CELL:.3f})")
        print(f"| {name} | {prevalence} | {purity} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
