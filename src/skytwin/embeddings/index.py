"""Approximate neighbours: an index of unit vectors gives candidates, exact distances rank them.

The index holds every vector standardised (by means and scales of its own, fixed when it was
trained), at unit length, one byte a number. Near a reference in the standardized metric is near
there; for other distances it is a guess. So what comes from the index are candidates: the query's
own ranker gives each its exact distance. No distance is approximate; an object may be missing,
and how many are was measured (`skytwin.answers.indexing`).

``ivf-sq8`` keeps the vectors of a cell together, and reads the cells nearest to the query (Jegou,
Douze & Schmid 2011); its lists stay on disk and are mapped. ``hnsw-sq8`` walks along a graph of
near vectors (Malkov & Yashunin 2020): faster, and held in memory.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from skytwin.artefact import Manifest
from skytwin.embeddings.learned import Blend, Learned
from skytwin.embeddings.neighbours import Neighbours, rank_some
from skytwin.embeddings.ranker import Combined, Ranker, negative_share
from skytwin.embeddings.table import Embeddings
from skytwin.embeddings.vectors import Statistics, Vectors, mapped
from skytwin.errors import DamagedArtefact, Mismatch, UsageError, in_words
from skytwin.run import Run

__all__ = ["FEW_HIDDEN", "KINDS", "Effort", "Index", "IndexKind", "default_folder", "library"]

IndexKind = Literal["ivf-sq8", "hnsw-sq8"]
KINDS: tuple[IndexKind, ...] = get_args(IndexKind)

INDEX, LISTS, ORDER, SIZES = "index.faiss", "lists.bin", "order.npy", "sizes.npy"
#: So few rows that may not be given, the references and their like, are made up for.
FEW_HIDDEN = 64


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How hard to search.

    Attributes
    ----------
    probes : int
        Cells that are read (``nprobe``), or for a graph the length of its list of what is still
        to be visited (``efSearch``).
    candidates : int
        Rows that are ranked exactly.
    """

    probes: int
    candidates: int


class Index:
    """Candidates for the neighbours of a query; open it with `Index.open`.

    Attributes
    ----------
    kind : {"ivf-sq8", "hnsw-sq8"}
    folder : Path
    manifest : Manifest
        Its summary holds the measured recall.
    """

    def __init__(self, folder: Path, manifest: Manifest, inner: Any) -> None:
        self.folder, self.manifest = folder, manifest
        self.kind: IndexKind = manifest.recipe["kind"]
        self._inner = inner
        self._order = mapped(folder / ORDER)
        self.space = read_space(folder)

    @classmethod
    def open(cls, folder: str | Path, embeddings: Embeddings | None = None) -> Index:
        """Open a folder that `skytwin.answers.indexing.build_index` wrote.

        Parameters
        ----------
        folder : path
        embeddings : Embeddings, optional
            What will be searched.

        Raises
        ------
        UsageError
            The folder is no index, or faiss is not installed.
        Mismatch
            It was made for another embedding.
        DamagedArtefact
            A file is not what it was when the folder was finished.
        """
        path = Path(folder)
        # faiss trusts what it reads: the hashes are held against the manifest first.
        manifest = Manifest.open(path, "index")
        if embeddings is not None:
            require_parent(path, manifest, embeddings)
        return cls(path, manifest, read_inner(path, manifest))

    @classmethod
    def of_run(cls, run: Run, summary: Mapping[str, Any]) -> Index:
        """What a build has written, before it is finished: to measure its recall."""
        draft = Manifest(
            kind="index",
            recipe=run.recipe,
            summary=dict(summary),
            inputs={},
            parents=run.parents,
            files={},
        )
        return cls(run.folder, draft, read_inner(run.folder, draft))

    def __len__(self) -> int:
        return len(self._order)

    def __repr__(self) -> str:
        return f"Index({self.kind}, {len(self)} x {len(self.space.mean)}, {self.folder})"

    def candidates(self, directions: np.ndarray, effort: Effort) -> np.ndarray:
        """Rows near each of some directions, nearest first as far as the index can tell.

        Parameters
        ----------
        directions : ndarray, shape (Q, D)
            In the index's space, see `directions`.
        effort : Effort

        Returns
        -------
        ndarray, shape (Q, effort.candidates), int64
            -1 where there are no more.
        """
        faiss = library()
        length = np.linalg.norm(directions, axis=1, keepdims=True)
        query = np.ascontiguousarray(directions / np.where(length > 0, length, 1), dtype=np.float32)
        count = min(effort.candidates, len(self))
        if self.kind == "ivf-sq8":
            how = faiss.SearchParametersIVF(nprobe=effort.probes)
        else:
            how = faiss.SearchParametersHNSW(efSearch=max(effort.probes, count))
        found = self._inner.search(query, count, params=how)[1]
        return np.where(found >= 0, self._order[found], -1)

    def nearest(
        self,
        vectors: Vectors,
        ranker: Ranker,
        k: int,
        effort: Effort,
        *,
        keep: np.ndarray | None = None,
        among: int | None = None,
    ) -> Neighbours:
        """The ``k`` nearest rows among the candidates, at exact distances.

        With every cell probed and every row a candidate, equivalent to
        `skytwin.embeddings.neighbours.nearest`. Fewer than ``k`` may come back.

        Parameters
        ----------
        vectors : Vectors, (N, D)
        ranker : Ranker
            Made for this set, of a kind that `directions` knows.
        k : int
        effort : Effort
        keep : ndarray of bool, shape (N,), optional
            Rows that may be given. A few others, the references, are made up for by as many
            more candidates; where it hides many, they stand among the candidates.
        among : int, optional
            Only those of the so many nearest candidates, kept or not.
        """
        directions = self.directions(ranker)
        if directions is None:
            raise UsageError("this query has no direction in the index; search exactly")
        hidden = 0 if keep is None else len(keep) - int(np.count_nonzero(keep))
        extra = hidden if hidden <= FEW_HIDDEN else 0
        more = Effort(probes=effort.probes, candidates=effort.candidates + extra)
        rows = self.candidates(directions, more).ravel()
        # In order, so that the vectors are read forwards; several directions share some.
        rows = np.sort(rows[rows >= 0]) if len(directions) == 1 else np.unique(rows[rows >= 0])
        found = rank_some(vectors, ranker, rows)
        counted = np.arange(len(rows) if among is None else min(among + extra, len(rows)))
        if keep is not None:
            counted = counted[keep[found.rows[counted]]]
        return found.only(counted[:k])

    def directions(self, ranker: Ranker) -> np.ndarray | None:
        """What to look for in the index's space for a query, (Q, D); None where nothing serves.

        A mean of cosine distances falls along one direction, the mean of the references' own;
        a learned logit along that of its weights. The smallest of several distances is looked
        for from each reference.
        """
        if isinstance(ranker, Combined):
            if ranker.score.references is None:
                return None
            unit = self.standardized(ranker.score.references)
            count = len(ranker.weights)
            ahead = unit[:count]
            if ranker.combine == "mean":
                ahead = np.average(ahead, axis=0, weights=ranker.weights)[None]
            if len(ranker.negative_weights):
                against = np.average(unit[count:], axis=0, weights=ranker.negative_weights)
                ahead = ahead - negative_share(len(ranker.negative_weights)) * against
            return np.asarray(ahead)
        if isinstance(ranker, Learned):
            return np.asarray(ranker.weights * self.space.scale)[None]
        if isinstance(ranker, Blend):
            return self._blended(ranker)
        return None

    def standardized(self, vectors: np.ndarray) -> np.ndarray:
        """Vectors (n, D) as they lie in the index, at unit length, float64."""
        z = (vectors.astype(np.float64) - self.space.mean) * self.space.inverse_scale
        length = np.linalg.norm(z, axis=1, keepdims=True)
        return np.asarray(z / np.where(length > 0, length, 1))

    def _blended(self, ranker: Blend) -> np.ndarray | None:
        total = np.zeros((1, len(self.space.mean)))
        for member, width in zip(ranker.members, ranker.width, strict=True):
            direction = self.directions(member)
            if direction is None or len(direction) != 1:
                return None
            # A logit grows with a vector's length: taken as that of most vectors.
            length = self.manifest.summary["length"] if isinstance(member, Learned) else 1.0
            total += direction * (length / width)
        return np.asarray(total)


def default_folder(embedding: Path) -> Path:
    """Where the index of an embedding is looked for: ``NAME.index`` beside it."""
    whole = embedding.resolve()
    return whole.with_name(f"{whole.name}.index")


def library() -> Any:
    """faiss, or an error that says how to get it."""
    try:
        return importlib.import_module("faiss")
    except ImportError as error:
        raise UsageError(
            "an index needs faiss, which is not installed; install it with "
            "pip install 'skytwin[index]', or search with --exact"
        ) from error


def require_parent(folder: Path, manifest: Manifest, embeddings: Embeddings) -> None:
    """Refuse an index of another embedding."""
    want, made_for = embeddings.as_parent(), manifest.parents["embeddings"]
    if made_for.fingerprint != want.fingerprint:
        raise Mismatch(
            f"{str(folder)!r} is the index of another embedding ({made_for.path or 'arrays'}, "
            f"fingerprint {made_for.fingerprint[:12]}, not {want.fingerprint[:12]}): make one with "
            "skytwin index, or search with --exact"
        )


def read_space(folder: Path) -> Statistics:
    """The means and scales that an index was trained with."""
    mean, scale = (np.load(folder / f"{name}.npy") for name in ("mean", "scale"))
    return Statistics(mean=mean, scale=scale, norms=np.empty((0, 2)))


def read_inner(folder: Path, manifest: Manifest, *, mapped: bool = True) -> Any:
    """What faiss keeps, from files that were held against their manifest.

    The index itself, and for cells their lists, are mapped unless ``mapped`` is False: only what
    a search touches is read.
    """
    faiss = library()
    graph = manifest.recipe["kind"] == "hnsw-sq8"
    try:
        inner = faiss.read_index(
            str(folder / INDEX), faiss.IO_FLAG_MMAP_IFC if graph and mapped else 0
        )
    except RuntimeError as error:
        raise DamagedArtefact(
            f"{str(folder)!r}: faiss {faiss.__version__} cannot read {INDEX} "
            f"({in_words(error, 80)}); make the index anew"
        ) from None
    if graph:
        return inner
    sizes = np.load(folder / SIZES)
    lists = faiss.OnDiskInvertedLists(inner.nlist, inner.code_size, str(folder / LISTS))
    capacity, offset = list_layout(sizes, inner.code_size)
    table = np.ascontiguousarray(np.stack([sizes, capacity, offset], axis=1), dtype=np.uint64)
    faiss.memcpy(lists.lists.data(), faiss.swig_ptr(table), table.nbytes)
    lists.totsize, lists.read_only = (folder / LISTS).stat().st_size, True
    # Threads that read ahead take longer to start than the lists take to read.
    lists.prefetch_nthread = 0
    lists.do_mmap()
    lists.this.disown()  # the index frees it
    inner.replace_invlists(lists, True)
    inner.ntotal = int(sizes.sum())
    return inner


def list_layout(sizes: np.ndarray, code_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Room of every list, in entries, and where it begins, in bytes: codes, then numbers."""
    capacity = -(-sizes // 8) * 8  # so that the 8-byte numbers begin at a multiple of 8
    room = capacity * (code_size + 8)
    return capacity, np.cumsum(room) - room
