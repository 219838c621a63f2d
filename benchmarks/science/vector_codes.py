"""What smaller vectors cost in purity on Galaxy Zoo 1, as a Markdown table.

    SKYTWIN_DATA=... python benchmarks/science/vector_codes.py FOLDER [--draws 30] 2> /dev/null

FOLDER is that of ``query_algebra.py``: it holds the embedding, or it is made there. What comes back
from the codes is searched with the default combination and five references drawn as `compare` draws
them. *At unit length* are the standardised vectors brought to length 1, as an index keeps them;
everything below that line is made from those. *Re-ranked* puts the nearest so many by the codes in
order by the full vectors, which may then lie on a slower disk. Components and codebooks are fitted
on the set itself, without labels (faiss complains of too few objects for its codebooks).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import faiss
import numpy as np
from query_algebra import CLASSES, embedding
from scipy.stats import t as student

from skytwin.answers.query import reference_at
from skytwin.answers.ranking import How, eligible, make_ranker
from skytwin.embeddings.neighbours import nearest
from skytwin.embeddings.table import Embeddings
from skytwin.embeddings.vectors import Statistics, Vectors
from skytwin.images.where import positive_rows

REFERENCES = 5
HOW = How.of(metric="standardized", combine="auto", seed=0, same_arcsec=2.0)


@dataclass(frozen=True)
class Way:
    """One way of storing: its bytes per object and what is searched."""

    name: str
    bytes: int
    stored: Embeddings
    rerank: int | None = None


def codec(factory: str, u: np.ndarray) -> np.ndarray:
    """What comes back from faiss codes."""
    index = faiss.index_factory(u.shape[1], factory)
    index.train(u)
    decoded: np.ndarray = index.sa_decode(index.sa_encode(u))
    return decoded


def principal(u: np.ndarray, count: int) -> tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]:
    """The first components, and the way back."""
    mean = u.mean(axis=0)
    _, _, axes = np.linalg.svd(u - mean, full_matrices=False)
    axes = axes[:count]
    return (u - mean) @ axes.T, lambda y: y @ axes + mean


def ways(full: Embeddings) -> list[Way]:
    """All ways of storing, largest first."""
    vectors = full.vectors[:].astype(np.float64)
    statistics = full.statistics
    z = (vectors - statistics.mean) * statistics.inverse_scale
    u = (z / np.linalg.norm(z, axis=1, keepdims=True)).astype(np.float32)

    def back(decoded: np.ndarray) -> Embeddings:
        # In the old units, so that the old means and scales hold.
        there = np.asarray(decoded, dtype=np.float64)
        x = there * statistics.scale + statistics.mean
        norms = np.stack([(x**2).sum(1), (there**2).sum(1)], axis=1)
        kept = Statistics(mean=statistics.mean, scale=statistics.scale, norms=norms)
        return Embeddings(Vectors([x.astype(np.float32)]), full.catalog, kept)

    dim = u.shape[1]
    few, restore = principal(u, 128)
    sq, pq = codec("SQ8", few), codec("OPQ64,PQ64", few)
    return [
        Way(f"float32, {dim} numbers", 4 * dim, full),
        Way(f"float16, {dim} numbers", 2 * dim, back(z.astype(np.float16))),
        Way("at unit length, float32", 4 * dim, back(u)),
        Way("at unit length, 8 bits", dim, back(codec("SQ8", u))),
        Way("128 principal components, float32", 512, back(restore(few))),
        Way("128 principal components, 8 bits", 128, back(restore(sq))),
        Way("128 components in a 64-byte code", 64, back(restore(pq))),
        Way("the same, 400 re-ranked", 64, back(restore(pq)), 400),
        Way("the same, 1000 re-ranked", 64, back(restore(pq)), 1000),
    ]


def found(
    way: Way, full: Embeddings, rows: np.ndarray, counted: np.ndarray, top: int
) -> np.ndarray:
    """The nearest ``top`` rows that count, references left out."""
    query = [reference_at(way.stored, int(row)) for row in rows]
    keep, _ = eligible(full, query, same_arcsec=HOW.same_arcsec)
    keep = counted if keep is None else keep & counted
    ranker = make_ranker(way.stored, query, HOW)
    first = nearest(way.stored.vectors, ranker, way.rerank or top, keep=keep).rows
    if way.rerank is None:
        return first
    exact = make_ranker(full, [reference_at(full, int(row)) for row in rows], HOW)
    order = np.argsort(exact.exact(full.vectors.take(first)).distance, kind="stable")
    return first[order][:top]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--draws", type=int, default=30)
    parser.add_argument("--top", type=int, default=100)
    given = parser.parse_args()
    full = embedding(given.folder, "best")
    stored = ways(full)
    purity = np.empty((len(stored), len(CLASSES), given.draws))
    same = np.empty_like(purity)
    base = []
    for column, conditions in enumerate(CLASSES.values()):
        hits, counted = positive_rows(full.catalog, conditions)
        pool = np.flatnonzero(hits & counted)
        base.append(len(pool) / counted.sum())
        for draw in range(given.draws):
            rows = np.random.default_rng([0, draw]).permutation(pool)[:REFERENCES]
            truth = np.empty(0)
            for line, way in enumerate(stored):
                nearby = found(way, full, rows, counted, given.top)
                truth = nearby if line == 0 else truth
                purity[line, column, draw] = hits[nearby].mean()
                same[line, column, draw] = np.isin(nearby, truth).mean()
    half = student.ppf(0.975, given.draws - 1) / np.sqrt(given.draws)
    names = [f"{name} (base {rate:.3f})" for name, rate in zip(CLASSES, base, strict=True)]
    print(
        f"Purity of the nearest {given.top}, {REFERENCES} references, {given.draws} draws; in "
        "brackets the change against float32 with its 95 % interval.\n"
    )
    print(f"| stored as | bytes | {' | '.join(names)} | of the same list |")
    print("|---|---|" + "---|" * (len(names) + 1))
    for line, way in enumerate(stored):
        cells = []
        for column in range(len(names)):
            apart = purity[line, column] - purity[0, column]
            cell = f"{purity[line, column].mean():.3f}"
            if line:
                cell += f" ({apart.mean():+.3f} ± {half * apart.std(ddof=1):.3f})"
            cells.append(cell)
        print(f"| {way.name} | {way.bytes} | {' | '.join(cells)} | {same[line].mean():.3f} |")


if __name__ == "__main__":
    main()
