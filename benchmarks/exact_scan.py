"""The exact scan against scikit-learn and faiss Flat: one query, 25 neighbours, one run.

Prints one Markdown table: medians in milliseconds and ratios, the machine and the versions.
Everything runs on all cores; the three are timed in turn, so that a slow moment hits all alike.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import faiss
import numpy as np
from sklearn.neighbors import NearestNeighbors

from skytwin.embeddings.metric import scorer
from skytwin.embeddings.names import METRICS, Metric
from skytwin.embeddings.neighbours import nearest
from skytwin.embeddings.ranker import Combined
from skytwin.embeddings.sample import draw
from skytwin.embeddings.vectors import Vectors, measure

ROWS, DIM, K, ROUNDS = 100_000, 1280, 25, 15


def features(rows: int, dim: int, seed: int = 0) -> np.ndarray:
    """Non-negative, correlated and of unequal scale, as pooled features of a network are."""
    rng = np.random.default_rng(seed)
    mixing = rng.standard_normal((64, dim)).astype(np.float32)
    scale = rng.uniform(0.05, 1.0, dim).astype(np.float32)
    base = rng.standard_normal((rows, 64)).astype(np.float32)
    return np.maximum(base @ mixing * scale * 0.1 + scale, 0)


def main() -> int:
    x = features(ROWS, DIM)
    query = x[[4321]]
    with tempfile.TemporaryDirectory() as folder:
        names = []
        for number, part in enumerate(np.array_split(x, 2)):
            names.append(f"{number}.npy")
            np.save(Path(folder) / names[-1], part)
        vectors = Vectors.open(Path(folder), names)
        stats = measure(vectors)
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
        times: dict[str, list[float]] = {name: [] for name in rows}
        for _ in range(ROUNDS + 1):
            for name, run in rows.items():
                start = time.perf_counter()
                run()
                times[name].append(1e3 * (time.perf_counter() - start))
        truth = ((x.astype(np.float64) - query.astype(np.float64)) ** 2).sum(1)
        order = np.lexsort((np.arange(ROWS), truth))[:K]
        same = (nearest(vectors, one("euclidean", query), K).rows == order).all()
    medians = {name: statistics.median(values[1:]) for name, values in times.items()}
    reference = medians["scikit-learn NearestNeighbors, euclidean"]
    versions = {n: importlib.metadata.version(n) for n in ("numpy", "scikit-learn", "faiss-cpu")}
    machine = f"{os.cpu_count()} cores, {platform.machine()}"
    print(f"\n{ROWS} x {DIM} float32, k = {K}; {machine}; {versions}")
    print(f"equal to float64 brute force: {'yes' if same else 'NO'}\n")
    print("| scan | median, ms | scikit-learn / this |\n|---|---|---|")
    for name, value in medians.items():
        print(f"| {name} | {value:.1f} | {reference / value:.1f} |")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
