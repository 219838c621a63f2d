"""Filling an index block by block: what is held at a time does not grow with the set.

Cells (k-means on a sample) and the range of every number are learned once; then each block of
vectors becomes codes, written and journalled, so that a killed build goes on where it was. The
lists are put together at the end, file to file. An index of some of the rows gives its cells,
ranges and codes, and only the other rows are added to it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from skytwin.artefact import PARTS
from skytwin.embeddings.index import (
    INDEX,
    LISTS,
    ORDER,
    SIZES,
    Index,
    IndexKind,
    library,
    list_layout,
    read_inner,
)
from skytwin.embeddings.vectors import Statistics, Vectors, write_array
from skytwin.progress import Progress
from skytwin.run import Run

__all__ = ["Source", "fill", "plan"]

_BLOCK_BYTES, _MOST_BLOCKS = 64 << 20, 400
_ROWS_PER_CELL, _ITERATIONS = 40, 10
_LINKS, _BREADTH = 32, 80  # of the graph: neighbours per object, and looked at to find them
_TRAINED = f"{PARTS}/trained.faiss"


@dataclass(frozen=True, eq=False, kw_only=True)
class Source:
    """An index of some of the rows that is carried on.

    Attributes
    ----------
    index : Index
    first : int
        Row of the new set at which its rows begin.
    """

    index: Index
    first: int

    @property
    def rows(self) -> np.ndarray:
        """Rows of the new set, in the order of the index's entries."""
        return np.asarray(np.load(self.index.folder / ORDER) + self.first)


def plan(kind: IndexKind, count: int, dim: int, seed: int) -> dict[str, Any]:
    """The settings of an index of ``count`` vectors, as its recipe keeps them."""
    settings: dict[str, Any] = {
        "kind": kind,
        "seed": seed,
        "block_rows": max(256, _BLOCK_BYTES // (4 * dim), -(-count // _MOST_BLOCKS)),
    }
    if kind == "hnsw-sq8":
        return {**settings, "links": _LINKS, "breadth": _BREADTH, "sample": min(count, 100_000)}
    most = max(1, min(4 * int(count**0.5), count // _ROWS_PER_CELL))
    cells = 1 << (most.bit_length() - 1)
    return {
        **settings,
        "cells": cells,
        "iterations": _ITERATIONS,
        "sample": min(count, max(_ROWS_PER_CELL * cells, 10_000)),
    }


def fill(
    run: Run, vectors: Vectors, statistics: Statistics, source: Source | None, *, quiet: bool
) -> None:
    """Write all files of an index.

    Parameters
    ----------
    run : Run
        Of kind "index", with the recipe that `plan` gave, or that of the source.
    vectors, statistics
        Of the set; its means and scales are taken where there is no source.
    source : Source, optional
    quiet : bool
    """
    space = statistics if source is None else source.index.space
    for name in ("mean", "scale"):
        run.write(f"{name}.npy", partial(write_array, np.asarray(getattr(space, name))))
    order = np.arange(len(vectors))
    if source is not None:
        taken = source.rows
        others = np.ones(len(vectors), dtype=bool)
        others[taken] = False
        order = np.concatenate([taken, np.flatnonzero(others)])
    run.write(ORDER, partial(write_array, order))
    job = _Job(run=run, vectors=vectors, space=space, order=order, source=source, quiet=quiet)
    if run.recipe["kind"] == "hnsw-sq8":
        _fill_graph(job)
    else:
        _fill_lists(job)


@dataclass(frozen=True, eq=False, kw_only=True)
class _Job:
    run: Run
    vectors: Vectors
    space: Statistics
    order: np.ndarray
    source: Source | None
    quiet: bool

    def units(self, rows: np.ndarray) -> np.ndarray:
        """Vectors of some rows as the index takes them: standardised, at unit length, float32."""
        z = self.vectors.take(rows)
        self.vectors.release()
        z -= self.space.mean.astype(np.float32)
        z *= self.space.inverse_scale.astype(np.float32)
        length = np.sqrt(np.einsum("ij,ij->i", z, z))[:, None]
        z /= np.where(length > 0, length, 1)
        return z

    def sample(self) -> np.ndarray:
        """Random rows to learn from, as `units` gives them."""
        recipe, count = self.run.recipe, len(self.vectors)
        rng = np.random.default_rng(recipe["seed"])
        rows = np.sort(rng.choice(count, size=recipe["sample"], replace=False))
        step = recipe["block_rows"]
        drawn = np.empty((len(rows), self.vectors.shape[1]), dtype=np.float32)
        for first in range(0, len(rows), step):
            drawn[first : first + step] = self.units(rows[first : first + step])
        return drawn

    def blocks(self, done: int) -> Iterator[tuple[int, np.ndarray]]:
        """Entries from ``done`` on: where each block begins, and its vectors."""
        step = self.run.recipe["block_rows"]
        with Progress("index", len(self.order), done=done, unit="vectors", quiet=self.quiet) as bar:
            for first in range(done, len(self.order), step):
                rows = self.order[first : first + step]
                yield first, self.units(rows)
                bar.advance(len(rows))


def _fill_lists(job: _Job) -> None:
    run, held = job.run, 0 if job.source is None else len(job.source.index)
    if not run.journal:
        if job.source is not None:
            run.write(_TRAINED, (job.source.index.folder / INDEX).read_bytes())
        else:
            run.write(_TRAINED, partial(_write_faiss, _train_cells(job)))
        run.record({"step": "trained"})
    inner = library().read_index(str(run.folder / _TRAINED))
    blocks = [entry for entry in run.journal if entry["step"] == "codes"]
    for first, units in job.blocks(held + sum(entry["entries"] for entry in blocks)):
        name = f"{PARTS}/{first:012d}.codes"
        cells, codes = _encoded(inner, units)
        by_cell = np.argsort(cells, kind="stable")
        run.write(name, codes[by_cell].tobytes() + (first + by_cell).astype(np.int64).tobytes())
        sizes = np.bincount(cells, minlength=inner.nlist)
        run.write(f"{PARTS}/{first:012d}.npy", partial(write_array, sizes))
        run.record({"step": "codes", "name": name, "entries": len(units)})
    _put_together(job, inner)


def _train_cells(job: _Job) -> Any:
    """Learn the cells, one pass over the sample at a time, then the range of every number."""
    faiss, recipe = library(), job.run.recipe
    units = job.sample()
    dim, cells = units.shape[1], recipe["cells"]
    rounds = recipe["iterations"] if cells > 1 else 1
    centres = faiss.IndexFlatIP(dim)
    with Progress("train", rounds * len(units), unit="vectors", quiet=job.quiet) as bar:
        found = None
        for _ in range(rounds):
            clustering = faiss.Clustering(dim, cells)
            clustering.seed, clustering.niter, clustering.spherical = recipe["seed"], 1, True
            clustering.min_points_per_centroid = 1  # no warning: a small set has small cells
            if found is not None:
                faiss.copy_array_to_vector(found, clustering.centroids)
            centres.reset()
            clustering.train(units, centres)
            found = faiss.vector_to_array(clustering.centroids)
            bar.advance(len(units))
    inner = faiss.IndexIVFScalarQuantizer(
        centres, dim, cells, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT
    )
    inner.train(units)
    return inner


def _encoded(inner: Any, units: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cell (n,) and code (n, code_size) of every vector."""
    whole = inner.sa_encode(units)
    lead = whole.shape[1] - inner.code_size  # the cell's number, lowest byte first
    weight = 256 ** np.arange(lead, dtype=np.int64)
    return whole[:, :lead].astype(np.int64) @ weight, whole[:, lead:]


@dataclass(frozen=True, eq=False, kw_only=True)
class _Codes:
    """Codes and numbers of entries in one file, cell by cell."""

    handle: int
    sizes: np.ndarray
    code_at: np.ndarray
    id_at: np.ndarray
    code_size: int

    @classmethod
    def of_part(cls, path: Path, code_size: int) -> _Codes:
        sizes = np.load(path.with_suffix(".npy"))
        before = np.cumsum(sizes) - sizes
        return cls(
            handle=os.open(path, os.O_RDONLY),
            sizes=sizes,
            code_at=before * code_size,
            id_at=sizes.sum() * code_size + before * 8,
            code_size=code_size,
        )

    @classmethod
    def of_index(cls, folder: Path, code_size: int) -> _Codes:
        sizes = np.load(folder / SIZES)
        capacity, offset = list_layout(sizes, code_size)
        return cls(
            handle=os.open(folder / LISTS, os.O_RDONLY),
            sizes=sizes,
            code_at=offset,
            id_at=offset + capacity * code_size,
            code_size=code_size,
        )

    def read(self, cell: int) -> tuple[bytes, bytes]:
        count = int(self.sizes[cell])
        codes = os.pread(self.handle, count * self.code_size, int(self.code_at[cell]))
        return codes, os.pread(self.handle, count * 8, int(self.id_at[cell]))


def _put_together(job: _Job, inner: Any) -> None:
    run, size = job.run, inner.code_size
    names = [run.folder / entry["name"] for entry in run.journal if entry["step"] == "codes"]
    parts = [_Codes.of_part(name, size) for name in names]
    if job.source is not None:
        parts.insert(0, _Codes.of_index(job.source.index.folder, size))
    try:
        sizes = np.sum([part.sizes for part in parts], axis=0)
        run.write(LISTS, lambda path: _write_lists(path, parts, sizes, size))
    finally:
        for part in parts:
            os.close(part.handle)
    run.write(SIZES, partial(write_array, sizes))
    run.write(INDEX, partial(_write_faiss, inner))


def _write_lists(path: Path, parts: Sequence[_Codes], sizes: np.ndarray, size: int) -> None:
    capacity, _ = list_layout(sizes, size)
    with path.open("wb") as stream:
        for cell, spare in enumerate(capacity - sizes):
            held = [part.read(cell) for part in parts]
            stream.writelines(codes for codes, _ in held)
            stream.write(bytes(int(spare) * size))
            stream.writelines(ids for _, ids in held)
            stream.write(bytes(int(spare) * 8))


def _fill_graph(job: _Job) -> None:
    faiss, run = library(), job.run
    recipe, before = run.recipe, None
    if run.journal:
        before = run.folder / run.journal[-1]["name"]
        inner = faiss.read_index(str(before))
    elif job.source is not None:
        inner = read_inner(job.source.index.folder, job.source.index.manifest, mapped=False)
    else:
        dim, bytes_each = job.vectors.shape[1], faiss.ScalarQuantizer.QT_8bit
        inner = faiss.IndexHNSWSQ(dim, bytes_each, recipe["links"], faiss.METRIC_L2)
        inner.hnsw.efConstruction = recipe["breadth"]
        inner.train(job.sample())
    saved = inner.ntotal
    for first, units in job.blocks(inner.ntotal):
        # Of each block its own, so that a resumed build draws what an unbroken one does.
        inner.hnsw.rng = faiss.RandomGenerator(recipe["seed"] + first)
        inner.add(units)
        # The whole graph is written each time: the larger it is, the more is added first.
        if inner.ntotal < len(job.order) and inner.ntotal >= 1.25 * saved:
            saved, name = inner.ntotal, f"{PARTS}/{inner.ntotal:012d}.faiss"
            run.write(name, partial(_write_faiss, inner))
            run.record({"step": "graph", "name": name})
            if before is not None:
                before.unlink(missing_ok=True)
            before = run.folder / name
    run.write(INDEX, partial(_write_faiss, inner))


def _write_faiss(inner: Any, path: Path) -> None:
    library().write_index(inner, str(path))
