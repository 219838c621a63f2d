"""Search at scale: the exact scan, float16, batches and indexes against the time to read the bytes.

Prints Markdown tables; all contenders of a table are timed in turn in one run. Vectors have the
spectrum of features of a network: clusters, and components whose variance decays as a power of
their number. Each kind of index is built in a process of its own, which says what it took, and is
asked with and without filters. ``--large`` only builds one, of 2.3 million x 1280 (12 GB of
vectors, 6 with ``--store float16``, and as much for the index while it is built), with
``--limit 4`` in a control group of 4 GB. *Own* memory is what the system cannot take back: mapped
files are not in it.

Run with ``OMP_NUM_THREADS=1`` for one core; ratios are worth more than milliseconds.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import multiprocessing
import os
import platform
import resource
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import faiss
import numpy as np
import pyarrow as pa
from memory_limit import limited, status
from rows import in_turns
from sklearn.neighbors import NearestNeighbors

from skytwin.answers.indexing import Built, build_index
from skytwin.answers.intervals import jeffreys
from skytwin.answers.query import reference_at
from skytwin.answers.ranking import How, make_ranker
from skytwin.answers.scan import find
from skytwin.embeddings.index import KINDS, Effort, Index
from skytwin.embeddings.neighbours import nearest
from skytwin.embeddings.neighbours_many import nearest_many
from skytwin.embeddings.ranker import Ranker
from skytwin.embeddings.table import Embeddings
from skytwin.embeddings.vectors import STORES, Store, Vectors, measure, stored_as, write_array
from skytwin.report_index import describe_index

CLUSTERS, DECAY, SHARD = 200, 0.8, 50_000
BATCH, INDEX_QUERIES = 100, 200
FILTERS, FILTER_QUERIES = (0.5, 0.1, 0.01, 0.001), 40


def features(rows: int, dim: int, seed: int) -> np.ndarray:
    """Non-negative vectors in clusters, component i varying as i^-0.8, (rows, dim) float32.

    On Galaxy Zoo 1 (2560 features of MobileNetV2, standardised) the deviations of the principal
    components fall as i^-0.65 from the 3rd to the 300th; of these they fall as i^-0.83.
    """
    shape = np.random.default_rng(0)
    inner = min(dim, 256)
    spread = np.arange(1, inner + 1) ** -DECAY
    mixing = shape.standard_normal((inner, dim)).astype(np.float32)
    centres = (shape.standard_normal((CLUSTERS, inner)) * spread).astype(np.float32)
    base = shape.uniform(0, 2, dim).astype(np.float32)
    rng = np.random.default_rng([seed, 1])
    latent = rng.standard_normal((rows, inner), dtype=np.float32) * (0.7 * spread).astype("f4")
    latent += centres[rng.integers(0, CLUSTERS, rows)]
    return np.maximum(latent @ mixing + base, 0)


def write(folder: Path, rows: int, dim: int, store: Store) -> Vectors:
    """Vectors on disk, shard by shard."""
    names = []
    for number, first in enumerate(range(0, rows, SHARD)):
        names.append(f"{number:06d}.npy")
        values = features(min(SHARD, rows - first), dim, number)
        write_array(stored_as(store, values), folder / names[-1])
    return Vectors.open(folder, names)


def table(title: str, runs: dict[str, Callable[[], object]], rounds: int) -> None:
    """Print the times of each, and how often the first they take."""
    medians = in_turns(runs, rounds, unseen=1)
    against, least = next(iter(medians.items()))
    print(f"\n| {title} | median, ms | over {against} |\n|---|---|---|", flush=True)
    for name, value in medians.items():
        print(f"| {name} | {1e3 * value:.2f} | {value / least:.2f} |")


def read(vectors: Vectors) -> None:
    """Every byte once: the sum of the numbers, in blocks."""
    for block in vectors.stored():
        np.ascontiguousarray(block.values).view(np.float32).sum()


def multiply(vectors: Vectors, matrix: np.ndarray) -> None:
    """The bare product of all vectors with a matrix, in blocks."""
    for block in vectors.stored(4096):
        block.values @ matrix


def scans(embeddings: Embeddings, rounds: int) -> None:
    vectors, stats = embeddings.vectors, embeddings.statistics
    half = Vectors([stored_as("float16", block.values) for block in vectors.blocks(SHARD)])
    narrow = Embeddings(half, embeddings.catalog, measure(half))
    queries = vectors.take(np.arange(BATCH))
    whole = np.asarray(vectors)
    tree = NearestNeighbors(n_neighbors=25, algorithm="brute").fit(whole)
    flat = faiss.IndexFlatL2(whole.shape[1])
    flat.add(whole)
    one, other = ranker(embeddings, [5]), ranker(narrow, [5])
    five = ranker(embeddings, [5, 6, 7, 8, 9])
    single = {
        "reading the bytes (float32)": lambda: read(vectors),
        "skytwin, exact": lambda: nearest(vectors, one, 25),
        "skytwin, exact, k = 1000": lambda: nearest(vectors, one, 1000),
        "skytwin, exact, mean of 5 references": lambda: nearest(vectors, five, 25),
        "reading the bytes (float16)": lambda: read(half),
        "skytwin, exact, float16": lambda: nearest(half, other, 25),
        "scikit-learn, brute force": lambda: tree.kneighbors(queries[:1]),
        "faiss IndexFlatL2": lambda: flat.search(queries[:1], 25),
    }
    table("one query", single, rounds)
    matrix = np.ascontiguousarray(queries.T)
    batch = {
        "the bare product (BLAS)": lambda: multiply(vectors, matrix),
        "skytwin, exact": lambda: nearest_many(vectors, stats, queries, 25, metric="standardized"),
        "skytwin, exact, float16": lambda: nearest_many(
            half, narrow.statistics, queries, 25, metric="standardized"
        ),
        "scikit-learn, brute force": lambda: tree.kneighbors(queries),
        "faiss IndexFlatL2": lambda: flat.search(queries, 25),
    }
    table(f"{BATCH} queries", batch, max(1, rounds // 3))


def ranker(embeddings: Embeddings, rows: Sequence[int]) -> Ranker:
    return make_ranker(
        embeddings, [reference_at(embeddings, row) for row in rows], How(combine="mean")
    )


def build(vectors: Path, out: Path, kind: str, queries: int) -> dict[str, float]:
    """Build an index and measure its recall: seconds, and the most memory, of this process."""
    embeddings = opened(Vectors.open(vectors, sorted(path.name for path in vectors.iterdir())))
    start, used = time.perf_counter(), time.process_time()
    ended, own = threading.Event(), [0.0]

    def watch() -> None:
        while not ended.wait(0.05):
            own[0] = max(own[0], status(os.getpid())["RssAnon"])

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        build_index(embeddings, out, kind=kind, queries=queries)
    finally:
        ended.set()
        watching.join()
    return {
        "wall": time.perf_counter() - start,
        "processors": time.process_time() - used,
        "own": own[0] / 1e3,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
    }


def built(
    vectors: Path, out: Path, kind: str, queries: int = 100, enter: Callable[[], None] | None = None
) -> Built:
    """An index that a process of its own has built, and what that took."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn, initializer=enter) as pool:
        took = pool.submit(build, vectors, out, kind, queries).result()
    found = Built(index=Index.open(out), added=0, source=None)
    print(
        f"\n{describe_index(found)}\nbuilt and measured in {took['wall']:.0f} s, "
        f"{took['processors']:.0f} s of processors; at most {took['own']:.2f} GB of its own, "
        f"{took['peak']:.2f} GB resident with mapped files"
    )
    return found


def indexes(embeddings: Embeddings, folder: Path, kinds: Sequence[str]) -> None:
    rows = np.random.default_rng(5).choice(len(embeddings), INDEX_QUERIES, replace=False)
    rankers = [ranker(embeddings, [row]) for row in rows]
    for kind in kinds:
        made = built(folder / "vectors", folder / kind, kind)
        index = made.index
        print("\n| nearest | recall | median, ms | 95 of 100, ms | of processors | exact, ms |")
        print("|---|---|---|---|---|---|")
        for depth, k in (("25", 25), ("1000", 1000)):
            recall = made.recall["standardized"][depth]
            effort = Effort(probes=recall["probes"], candidates=recall["candidates"])
            times, used, exact = [], [], []
            for number, each in enumerate(rankers):
                start, before = time.perf_counter(), time.process_time()
                index.nearest(embeddings.vectors, each, k, effort)
                times.append(1e3 * (time.perf_counter() - start))
                used.append(1e3 * (time.process_time() - before))
                if number % 20 == 0:
                    start = time.perf_counter()
                    nearest(embeddings.vectors, each, k)
                    exact.append(1e3 * (time.perf_counter() - start))
            print(
                f"| {k} | {recall['value']:.3f} | {statistics.median(times):.2f} | "
                f"{np.quantile(times, 0.95):.2f} | {statistics.median(used):.2f} | "
                f"{statistics.median(exact):.1f} |"
            )
        filtered(embeddings, index)


def filtered(embeddings: Embeddings, index: Index) -> None:
    """Recall of the nearest 25 that a filter leaves, as `find` answers: which way, and how long.

    A filter is random, or it keeps the objects nearest to one of them (a cluster); queries are
    objects that it keeps, or others.
    """
    count, how = len(embeddings), How(metric="standardized", combine="mean")
    rng = np.random.default_rng(6)
    centre = int(rng.integers(count))
    near = np.concatenate(
        [ranker(embeddings, [centre]).rough(block).lower for block in embeddings.vectors.blocks()]
    )
    order = {"random": rng.permutation(count), "a cluster": np.argsort(near)}
    print("\n| kept | of the objects | queries | by the index | recall@25 | s of processors |")
    print("|---|---|---|---|---|---|")
    for kind, objects in order.items():
        for share in FILTERS:
            keep = np.zeros(count, dtype=bool)
            keep[objects[: round(share * count)]] = True
            for where, among in (("kept", keep), ("others", ~keep)):
                shares, used, times = [], 0, []
                for row in rng.choice(np.flatnonzero(among), FILTER_QUERIES):
                    reference = [reference_at(embeddings, int(row))]
                    asked, given = make_ranker(embeddings, reference, how), keep.copy()
                    given[row] = False
                    start = time.process_time()
                    found = find(
                        embeddings, asked, how, reference,
                        k=25, radius=None, keep=given, exact=False, index=index,
                    )  # fmt: skip
                    times.append(time.process_time() - start)
                    truth = found.neighbours
                    if found.recorded["scan"] != "exact":
                        used += 1
                        truth = nearest(embeddings.vectors, asked, 25, keep=given)
                    shares.append(float(np.isin(truth.rows, found.neighbours.rows).mean()))
                lower, upper = jeffreys(np.array([sum(shares)]), np.array([len(shares)]))
                print(
                    f"| {kind}, {where} | {100 * share:g} % | {len(shares)} | {used} | "
                    f"{np.mean(shares):.3f} [{lower[0]:.3f}, {upper[0]:.3f}] | "
                    f"{statistics.median(times):.4f} |",
                    flush=True,
                )


def opened(vectors: Vectors) -> Embeddings:
    """An embedding of them."""
    ids = pa.array([f"o{row}" for row in range(len(vectors))], pa.string())
    return Embeddings(vectors, pa.table({"id": ids}), measure(vectors))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--kinds", nargs="*", choices=KINDS, default=list(KINDS))
    parser.add_argument("--folder", type=Path, help="Where the vectors and indexes go.")
    parser.add_argument("--store", choices=STORES, default="float32", help="What is on disk.")
    parser.add_argument("--large", action="store_true", help="Build 2.3 million x 1280 instead.")
    parser.add_argument("--limit", type=float, help="GB of memory that --large may take.")
    asked = parser.parse_args()
    names = ("numpy", "scikit-learn", "faiss-cpu")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)
    rows, dim = (2_300_000, 1280) if asked.large else (asked.rows, asked.dim)
    threads = os.environ.get("OMP_NUM_THREADS", "all")
    print(
        f"{rows} x {dim}; {os.cpu_count()} cores ({threads} used), {platform.machine()}; {versions}"
    )
    with tempfile.TemporaryDirectory(dir=asked.folder) as scratch:
        folder = Path(scratch)
        (folder / "vectors").mkdir()
        vectors = write(folder / "vectors", rows, dim, asked.store)
        if asked.large:
            with contextlib.ExitStack() as stack:
                way, enter = (
                    stack.enter_context(limited(int(asked.limit * 1e9)))
                    if asked.limit
                    else ("no limit", None)
                )
                kind = asked.kinds[0]
                built(folder / "vectors", folder / kind, kind, queries=50, enter=enter)
                print(f"memory: {way}")
            return 0
        embeddings = opened(vectors)
        scans(embeddings, asked.rounds)
        indexes(embeddings, folder, asked.kinds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
