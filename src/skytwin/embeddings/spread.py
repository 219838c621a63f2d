"""Exact neighbours where workers read the vectors: each finds the candidates of its shards.

A row's bounds hold wherever they were taken, so the rows whose lower bound reaches below the k-th
smallest upper bound of the whole set are the same however the set was divided, and in whatever
order the parts came. Their exact distances are taken here, as `skytwin.embeddings.neighbours`
takes them, so that these are the same to the last bit.
"""

from __future__ import annotations

import functools
import importlib
import io
import pickle
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from skytwin.artefact import Manifest
from skytwin.embeddings.engine import Engine, require_seen
from skytwin.embeddings.neighbours import (
    Neighbours,
    Scan,
    TopK,
    Within,
    rank_all,
    rank_some,
    selective,
)
from skytwin.embeddings.ranker import Ranker
from skytwin.embeddings.sample import Sample
from skytwin.embeddings.table import SHARDS, Embeddings, read_statistics
from skytwin.embeddings.vectors import BLOCK_ROWS, Statistics, Vectors
from skytwin.errors import Mismatch, UsageError
from skytwin.progress import Progress

__all__ = ["Spread"]

# What one task reads at least, where a shard has so much.
_TASK_BYTES = 64 << 20


class Spread:
    """An embedding that workers scan.

    Parameters
    ----------
    engine : Engine
    embeddings : Embeddings
        In a folder that all workers see.
    quiet : bool
        Show no progress.

    Raises
    ------
    UsageError
        The vectors are in memory, where no worker sees them.
    """

    def __init__(self, engine: Engine, embeddings: Embeddings, *, quiet: bool = True) -> None:
        if embeddings.folder is None or embeddings.manifest is None:
            raise UsageError(
                "workers open vectors by their folder, and these are in memory: keep them with "
                "skytwin adopt, or search without workers"
            )
        self._engine, self._embeddings, self._quiet = engine, embeddings, quiet
        self._folder = str(embeddings.folder.resolve())
        self._fingerprint = embeddings.manifest.fingerprint

    def nearest(self, ranker: Ranker, k: int, *, keep: np.ndarray | None = None) -> Neighbours:
        """The ``k`` nearest rows.

        Equivalent to `skytwin.embeddings.neighbours.nearest`.

        Parameters
        ----------
        ranker : Ranker
            Made for this set.
        k : int
        keep : ndarray of bool, shape (N,), optional
            Rows that may be returned.
        """
        return self._first_of(ranker, keep, TopK(k))

    def within(
        self, ranker: Ranker, radius: float, *, keep: np.ndarray | None = None
    ) -> Neighbours:
        """All rows at most ``radius`` away, exactly; parameters as in `nearest`."""
        return self._first_of(ranker, keep, Within(radius))

    def _first_of(self, ranker: Ranker, keep: np.ndarray | None, rule: TopK | Within) -> Neighbours:
        vectors = self._embeddings.vectors
        if selective(keep, len(vectors)):
            return rule.cut(rank_all(vectors, ranker, keep=keep))
        query = _Query(
            folder=self._folder,
            fingerprint=self._fingerprint,
            token=uuid.uuid4().hex,
            packed=_packed(ranker, self._embeddings.statistics),
        )
        rows, lows = [np.empty(0, dtype=np.int64)], [np.empty(0)]
        tasks = self._tasks(keep, rule)
        with Progress("scan", len(vectors), unit="vectors", quiet=self._quiet) as bar:
            for found in self._engine.in_order(_scanned, tasks, shared=query):
                rule.update(found.upper)
                rows.append(found.rows)
                lows.append(found.lower)
                bar.advance(found.looked)
        near = np.concatenate(rows)[np.concatenate(lows) <= rule.limit]
        return rule.cut(rank_some(vectors, ranker, near))

    def _tasks(self, keep: np.ndarray | None, rule: TopK | Within) -> Iterator[_Task]:
        """Runs of blocks; what was learned from those that are done limits the next."""
        for first, last in _runs(self._embeddings.vectors):
            here = None if keep is None else keep[first:last]
            if here is None or here.any():
                yield _Task(first=first, last=last, keep=here, rule=rule.afresh())


@dataclass(frozen=True, kw_only=True)
class _Query:
    """What all tasks of a search need; equal where it is one search."""

    folder: str
    fingerprint: str
    token: str
    packed: bytes = field(compare=False, repr=False)


@dataclass(frozen=True, eq=False, kw_only=True)
class _Task:
    """Some rows, which begin and end with a block, and what is known of the nearest so far."""

    first: int
    last: int
    keep: np.ndarray | None
    rule: TopK | Within


@dataclass(frozen=True, eq=False, kw_only=True)
class _Found:
    """Candidates among some rows, their lower bounds, and upper bounds of the nearest."""

    rows: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    looked: int


def _runs(vectors: Vectors) -> Iterator[tuple[int, int]]:
    """First row and end of what one task looks at: whole blocks, of one size or another."""
    first, held, end = 0, 0, 0
    for block in vectors.stored(BLOCK_ROWS):
        held, end = held + block.values.nbytes, block.rows.stop
        if held >= _TASK_BYTES:
            yield first, end
            first, held = end, 0
    if end > first:
        yield first, end


def _scanned(task: _Task, query: _Query) -> _Found:
    """On a worker: the blocks that the single process would look at, looked at alike."""
    vectors, ranker = _ready(query)
    scan = Scan(ranker, task.rule)
    for block in vectors.stored(BLOCK_ROWS, release=True):
        if not task.first <= block.start < task.last:
            continue
        keep = None
        if task.keep is not None:
            keep = task.keep[block.start - task.first : block.rows.stop - task.first]
        if keep is None or keep.any():
            scan.look(block.start, ranker.rough(block), keep)
    rows, lower = scan.candidates()
    return _Found(rows=rows, lower=lower, upper=task.rule.upper, looked=task.last - task.first)


@functools.lru_cache(maxsize=1)
def _ready(query: _Query) -> tuple[Vectors, Ranker]:
    """Once for each worker and search."""
    vectors, statistics = _opened(query.folder, query.fingerprint)
    found: Ranker = _Unpacker(io.BytesIO(query.packed), vectors, statistics).load()
    return vectors, found


@functools.lru_cache(maxsize=1)
def _opened(folder: str, fingerprint: str) -> tuple[Vectors, Statistics]:
    """The vectors without their catalogue, which a scan does not need."""
    require_seen(folder)
    path = Path(folder)
    manifest = Manifest.open(path, "embeddings")
    if manifest.fingerprint != fingerprint:
        raise Mismatch(f"{folder!r} is another embedding on a worker than it is here")
    names = sorted(name for name in manifest.files if name.startswith(f"{SHARDS}/"))
    vectors = Vectors.open(path, names)
    return vectors, read_statistics(path, vectors.shape)


def _packed(ranker: Ranker, statistics: Statistics) -> bytes:
    """A ranker without what lies in the embedding's folder; it holds functions, too."""
    cloudpickle = importlib.import_module("cloudpickle")  # comes with Dask

    class Packer(cloudpickle.CloudPickler):  # type: ignore[misc, name-defined]
        def persistent_id(self, thing: Any) -> Any:
            if thing is statistics:
                return ("statistics",)
            if isinstance(thing, Sample):
                # Of what is computed from it, that which another processor may round otherwise.
                white = vars(thing).get("whitening")
                return ("sample", thing.rows, thing.seed, white)
            return None

    stream = io.BytesIO()
    Packer(stream).dump(ranker)
    return stream.getvalue()


class _Unpacker(pickle.Unpickler):
    """What `_packed` packed, with this process's own view of the set."""

    def __init__(self, stream: io.BytesIO, vectors: Vectors, statistics: Statistics) -> None:
        super().__init__(stream)
        self._vectors, self._statistics = vectors, statistics

    def persistent_load(self, named: Any) -> Any:
        if named[0] == "statistics":
            return self._statistics
        _, rows, seed, white = named
        sample = Sample(
            rows=rows, vectors=self._vectors.take(rows), statistics=self._statistics, seed=seed
        )
        if white is not None:
            vars(sample)["whitening"] = white
        return sample
