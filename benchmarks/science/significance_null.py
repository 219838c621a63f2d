"""What tail probabilities and q-values are worth, on surveys with known truth, as Markdown tables.

    python benchmarks/science/significance_null.py                       # simulated surveys
    python benchmarks/science/significance_null.py --embedding FOLDER \\
        --positive morphology=EdgeOn --positive morphology=Merger        # one's own, with labels

*Uniform*: references drawn at random, an object chosen beforehand; its tail probability must be at
most ``a`` in at most a share ``a`` of the cases. *Mixture*: a survey of a broad background and
clumps of objects that belong together; references from one clump, and every match of another origin
is false. *Embedding*: random references of a class, and the share of the class among the matches;
then probabilities, all other objects labelled.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

import skytwin
from skytwin.answers.calibrate import calibrate
from skytwin.answers.search import search
from skytwin.answers.significance import significance
from skytwin.embeddings.table import Embeddings
from skytwin.images.where import positive_rows

LEVELS = (0.01, 0.05, 0.1, 0.5)
Q_LEVELS = (0.01, 0.05, 0.1, 0.2, 0.5)


def wrapped(vectors: np.ndarray) -> Embeddings:
    return Embeddings.from_arrays(vectors, [f"o{i}" for i in range(len(vectors))])


def names(embeddings: Embeddings, rows: np.ndarray) -> list[str]:
    return [str(name) for name in embeddings.ids[rows]]


def tail_probabilities(
    references: int, count: int, seed: int, *, size: int = 600, dim: int = 8, hubs: bool = True
) -> np.ndarray:
    """Tail probabilities of one object chosen beforehand, references random, shape (count,)."""
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((size, dim))
    if hubs:  # uneven density, and objects that are near to everything
        vectors *= rng.gamma(2.0, 0.5, size)[:, None]
    embeddings = wrapped(vectors)
    found = np.empty(count)
    for number in range(count):
        drawn = rng.choice(size, references + 1, replace=False)
        matches = search(
            embeddings, names(embeddings, drawn[1:]), k=size, metric="euclidean", combine="mean"
        )
        given = significance(matches, null="random", sample=100, seed=number, quiet=True)
        found[number] = given.tail_probability[matches.rows == drawn[0]][0]
    return found


@dataclass(frozen=True)
class Mixture:
    """Clumps of ``clump`` objects, ``separation`` from the background's centre, in its midst."""

    size: int = 4000
    clumps: int = 8
    clump: int = 100
    dim: int = 24
    width: float = 0.5
    separation: float = 2.0
    #: Width of a background of ``crowd`` objects around the first clump: what is confused with it.
    crowd: int = 0

    def draw(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Vectors (N, D), and which clump each object is of, -1 for none."""
        vectors = rng.standard_normal((self.size, self.dim))
        origin = np.full(self.size, -1)
        for number in range(self.clumps):
            part = slice(number * self.clump, (number + 1) * self.clump)
            centre = rng.standard_normal(self.dim)
            centre *= self.separation / np.linalg.norm(centre) * np.sqrt(self.dim) / 2
            vectors[part] = centre + self.width * vectors[part]
            origin[part] = number
            if number == 0 and self.crowd:
                crowd = slice(self.size - self.crowd, self.size)
                vectors[crowd] = centre + 1.1 * self.width * vectors[crowd]
        return vectors, origin


def mixture(
    kind: Mixture, references: int, count: int, seed: int, combine: str, metric: str, null: str
) -> tuple[np.ndarray, np.ndarray]:
    """False discovery proportions and shares found at `Q_LEVELS`, each shape (count, levels)."""
    false, found = np.zeros((2, count, len(Q_LEVELS)))
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        vectors, origin = kind.draw(rng)
        embeddings = wrapped(vectors)
        like = rng.choice(kind.clump, references, replace=False)
        matches = search(
            embeddings, names(embeddings, like), k=1000, metric=metric, combine=combine
        )
        given = significance(matches, null=null, sample=1000, seed=number, quiet=True)
        true = origin[matches.rows] == 0
        for place, level in enumerate(Q_LEVELS):
            chosen = given.accepted(level)
            false[number, place] = (~true[:chosen]).sum() / max(chosen, 1)
            found[number, place] = true[:chosen].sum() / (kind.clump - references)
    return false, found


@dataclass(frozen=True)
class Row:
    references: int
    purity: float
    q: float
    random: float
    tail: float
    accepted: int
    purity_accepted: float


def of_class(
    embeddings: Embeddings,
    positive: np.ndarray,
    references: int,
    k: int,
    draws: int,
    seed: int,
    **how: str,
) -> list[Row]:
    """Random references of a class: what the distances say, and what is true."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(draws):
        like = rng.choice(np.flatnonzero(positive), references, replace=False)
        matches = search(embeddings, names(embeddings, like), k=max(k, 500), **how)  # type: ignore[arg-type]
        given = significance(matches, seed=int(rng.integers(2**31)), quiet=True)
        hits = positive[matches.rows]
        accepted = given.accepted(0.2)
        rows.append(
            Row(
                references=references,
                purity=float(hits[:k].mean()),
                q=float(given.q_value[k - 1]),
                random=float(given.expected_random[k - 1] / k),
                tail=float(np.median(given.tail_probability[:k])),
                accepted=accepted,
                purity_accepted=float(hits[:accepted].mean()) if accepted else float("nan"),
            )
        )
    return rows


def simulated(quick: bool) -> Iterator[str]:
    count = 100 if quick else 1000
    yield "| references | " + " | ".join(f"p <= {a:g}" for a in LEVELS) + " |"
    yield "|---|" + "---|" * len(LEVELS)
    for references in (1, 5):
        p = tail_probabilities(references, count, seed=references)
        shares = " | ".join(f"{(p <= a).mean():.3f}" for a in LEVELS)
        yield f"| {references} | {shares} |"
    yield ""
    kinds = {
        "clumps apart": Mixture(),
        "clumps in the crowd": Mixture(separation=1.0),
        "broad clumps": Mixture(width=0.8),
        "a second class beside": Mixture(crowd=200),
    }
    yield (
        "| survey | references | combine | null | "
        + " | ".join(f"q <= {q:g}" for q in Q_LEVELS)
        + " |"
    )
    yield "|---|---|---|---|" + "---|" * len(Q_LEVELS)
    for name, kind in kinds.items():
        for references, combine in ((1, "mean"), (5, "mean"), (5, "min")):
            for null in ("alike", "random")[: 1 if references == 1 else 2]:
                false, found = mixture(
                    kind, references, 10 if quick else 100, 7, combine, "standardized", null
                )
                cells = " | ".join(
                    f"{f:.3f} ({s:.2f})" for f, s in zip(false.mean(0), found.mean(0), strict=True)
                )
                yield f"| {name} | {references} | {combine} | {null} | {cells} |"


def real(embeddings: Embeddings, conditions: Sequence[str], draws: int) -> Iterator[str]:
    yield (
        "| class | base rate | references | combine | purity at 50 | q at 50 | "
        "random / 50 | tail p | with q <= 0.2 | purity there |"
    )
    yield "|" + "---|" * 10
    masks = {text: positive_rows(embeddings.catalog, (text,))[0] for text in conditions}
    masks["any object"] = np.ones(len(embeddings), dtype=bool)
    for text, positive in masks.items():
        for references, combine in (
            (1, "mean"),
            (5, "mean"),
            (10, "mean"),
            (5, "min"),
            (5, "auto"),
        ):
            rows = of_class(embeddings, positive, references, 50, draws, seed=3, combine=combine)
            purity, q, random, tail = (
                [getattr(row, name) for row in rows] for name in ("purity", "q", "random", "tail")
            )
            some = [row for row in rows if row.accepted]
            inside = f"{np.mean([r.purity_accepted for r in some]):.2f}" if some else ""
            yield (
                f"| {text} | {positive.mean():.3f} | {references} | {combine} | "
                f"{np.mean(purity):.2f} | {spread(q)} | {spread(random)} | "
                f"{np.median(tail):.3f} | {len(some)} of {draws} lists, "
                f"median {np.median([r.accepted for r in some]) if some else 0:.0f} | {inside} |"
            )


def probabilities(embeddings: Embeddings, conditions: Sequence[str]) -> Iterator[str]:
    yield (
        "| class | combine | chosen | base rate | at the first match | log loss (base) | "
        "Brier (base) | skill | bins that agree |"
    )
    yield "|" + "---|" * 9
    for text in conditions:
        positive = positive_rows(embeddings.catalog, (text,))[0]
        rng = np.random.default_rng(0)
        like = names(embeddings, rng.choice(np.flatnonzero(positive), 5, replace=False))
        for combine in ("mean", "auto"):
            found = calibrate(skytwin.purity(embeddings, like, text, combine=combine))
            bins = found.reliability
            agree = (bins.lower <= bins.predicted) & (bins.predicted <= bins.upper)
            yield (
                f"| {text} | {combine} | {found.method} | {found.base.value:.3f} | "
                f"{found.probability[0]:.2f} | {found.log_loss:.3f} ({found.log_loss_base:.3f}) | "
                f"{found.brier:.3f} ({found.brier_base:.3f}) | {found.skill:.2f} "
                f"[{found.skill_lower:.2f}, {found.skill_upper:.2f}] | "
                f"{agree.sum()} of {len(agree)} |"
            )


def spread(values: list[float]) -> str:
    low, middle, high = np.quantile(values, [0.1, 0.5, 0.9])
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--embedding")
    parser.add_argument("--positive", action="append", default=[])
    parser.add_argument("--draws", type=int, default=30)
    given = parser.parse_args()
    if given.embedding:
        opened = skytwin.open(given.embedding)
        lines = itertools.chain(
            real(opened, given.positive, given.draws),
            [""],
            probabilities(opened, given.positive),
        )
    else:
        lines = simulated(given.quick)
    for line in lines:
        print(line, flush=True)


if __name__ == "__main__":
    main()
