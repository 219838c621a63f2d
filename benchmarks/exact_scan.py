"""The exact scan against scikit-learn and faiss Flat: one query, 25 neighbours, one run.

Everything runs on all cores; the contenders are timed in turn, so that a slow moment hits all
alike. The neighbours are held against float64 brute force.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import faiss
import numpy as np
from rows import Row, in_turns, machine, table
from sklearn.neighbors import NearestNeighbors

from skytwin.embeddings import vectors as stored
from skytwin.embeddings.metric import scorer
from skytwin.embeddings.names import METRICS, Metric
from skytwin.embeddings.neighbours import nearest
from skytwin.embeddings.ranker import Combined
from skytwin.embeddings.sample import draw

ROWS, DIM, K, ROUNDS = 100_000, 1280, 25, 15


def features(rows: int, dim: int, seed: int = 0) -> np.ndarray:
    """Non-negative, correlated and of unequal scale, as pooled features of a network are."""
    rng = np.random.default_rng(seed)
    mixing = rng.standard_normal((64, dim)).astype(np.float32)
    scale = rng.uniform(0.05, 1.0, dim).astype(np.float32)
    base = rng.standard_normal((rows, 64)).astype(np.float32)
    return np.maximum(base @ mixing * scale * 0.1 + scale, 0)


def measure() -> list[Row]:
    """Medians over the rounds."""
    x = features(ROWS, DIM)
    query = x[[4321]]
    with tempfile.TemporaryDirectory() as folder:
        names = []
        for number, part in enumerate(np.array_split(x, 2)):
            names.append(f"{number}.npy")
            np.save(Path(folder) / names[-1], part)
        vectors = stored.Vectors.open(Path(folder), names)
        stats = stored.measure(vectors)
        sample = draw(vectors, stats)

        def one(metric: Metric, references: np.ndarray) -> Combined:
            return Combined(
                score=scorer(metric, references, stats, sample),
                combine="mean",
                weights=np.ones(len(references)),
                negative_weights=np.empty(0),
            )

        tree = NearestNeighbors(n_neighbors=K, algorithm="brute").fit(x)
        flat = faiss.IndexFlatL2(DIM)
        flat.add(x)
        rows: dict[str, Callable[[], object]] = {
            "scikit-learn NearestNeighbors, euclidean": lambda: tree.kneighbors(query),
            "faiss IndexFlatL2": lambda: flat.search(query, K),
            "reading the same bytes (NumPy sum)": lambda: [
                b.values.sum() for b in vectors.blocks()
            ],
        }
        for metric in METRICS:
            rows[f"skytwin, {metric}"] = lambda m=metric: nearest(vectors, one(m, query), K)
        rows["skytwin, standardized, 5 references"] = lambda: nearest(
            vectors, one("standardized", x[:5]), K
        )
        medians = in_turns(rows, ROUNDS, unseen=1)
        truth = ((x.astype(np.float64) - query.astype(np.float64)) ** 2).sum(1)
        order = np.lexsort((np.arange(ROWS), truth))[:K]
        same = (nearest(vectors, one("euclidean", query), K).rows == order).all()
    if not same:
        raise SystemExit("the neighbours are not those of float64 brute force")
    what = f"exact scan, {ROWS} x {DIM} float32, {K} nearest"
    return [Row(what, name, 1e3 * median, "ms") for name, median in medians.items()]


if __name__ == "__main__":
    print(f"{table(measure())}\n\n{machine()}")
