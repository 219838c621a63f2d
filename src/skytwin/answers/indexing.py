"""Building an index, and measuring what it misses before anybody relies on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from skytwin.answers.indexing_recall import RECALL_QUERIES, measure_recall
from skytwin.artefact import MANIFEST, Manifest, Parent
from skytwin.embeddings.index import KINDS, Index, IndexKind, default_folder, library
from skytwin.embeddings.index_build import Source, fill, plan
from skytwin.embeddings.table import Embeddings
from skytwin.errors import UsageError, one_of
from skytwin.run import Run

__all__ = ["Built", "build_index"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Built:
    """A finished index.

    Attributes
    ----------
    index : Index
    added : int
        Vectors that were added to those of the index it carries on.
    source : Parent or None
        That index.
    """

    index: Index
    added: int
    source: Parent | None

    @property
    def recall(self) -> Mapping[str, Any]:
        """By kind of query, then by depth ("25", "1000"): effort, value, interval, reached."""
        found: Mapping[str, Any] = self.index.manifest.summary["recall"]
        return found


def build_index(
    embeddings: Embeddings,
    out: str | Path | None = None,
    *,
    kind: IndexKind | str = "ivf-sq8",
    anew: bool = False,
    queries: int = RECALL_QUERIES,
    seed: int = 0,
    quiet: bool = False,
) -> Built:
    """Build an index, block by block, and measure its recall.

    Parameters
    ----------
    embeddings : Embeddings
    out : path, optional
        New folder, or that of an unfinished build, which is resumed; by default
        ``NAME.index`` beside the embedding, where `search` looks for it.
    kind : {"ivf-sq8", "hnsw-sq8"}
        See `skytwin.embeddings.index`.
    anew : bool
        Learn cells and ranges anew, even where a part of a joined embedding has an index whose
        could be carried on.
    queries : int
        Objects whose neighbours are compared with the exact ones.
    seed : int
        Of the sample that is learned from, and of the choice of queries.
    quiet : bool
        Show no progress.

    Raises
    ------
    UsageError
        faiss is not installed; vectors from arrays without ``out``.
    OutputExists
        There is something else already.

    Notes
    -----
    What was written is the same, byte for byte, whether or not it was killed and resumed; a
    graph (``hnsw-sq8``) only where one thread builds it (``OMP_NUM_THREADS=1``).
    """
    chosen = one_of("kind of index", kind, KINDS)
    library()
    if queries < 1:
        raise UsageError(f"{queries} queries; expected at least 1 to measure recall on")
    if out is None and embeddings.folder is None:
        raise UsageError("vectors from arrays have no folder; say with out= where the index goes")
    target = Path(out) if out is not None else default_folder(Path(str(embeddings.folder)))
    source = None if anew else _source(embeddings, chosen)
    parents = {"embeddings": embeddings.as_parent()}
    recipe = plan(chosen, len(embeddings), embeddings.dim, seed)
    if source is not None:
        old = source.index
        parents["index"] = Parent(
            kind="index",
            path=str(old.folder.resolve()),
            fingerprint=old.manifest.fingerprint,
        )
        # Cells and links stay as they were learned.
        recipe = {**old.manifest.recipe, "block_rows": recipe["block_rows"], "seed": seed}
    recipe["queries"] = queries
    inputs = {"embedding": parents["embeddings"].path}
    with Run(target, kind="index", recipe=recipe, inputs=inputs, parents=parents) as run:
        fill(run, embeddings.vectors, embeddings.statistics, source, quiet=quiet)
        carried_on = len(source.index) if source is not None else 0
        summary = {
            "shape": [len(embeddings), embeddings.dim],
            "carried_on": carried_on,
            "length": _usual_length(embeddings),
        }
        index = Index.of_run(run, summary)
        recall = measure_recall(embeddings, index, queries=queries, seed=seed, quiet=quiet)
        run.finish({**summary, "recall": recall})
    return Built(
        index=Index.open(target, embeddings),
        added=len(embeddings) - carried_on,
        source=parents.get("index"),
    )


def _usual_length(embeddings: Embeddings) -> float:
    """Mean length of the standardised vectors."""
    return float(np.sqrt(embeddings.statistics.norms[:, 1]).mean())


def _source(embeddings: Embeddings, kind: IndexKind) -> Source | None:
    """The index of the largest part of a joined embedding, where one is beside it."""
    parts = embeddings.manifest.summary.get("parts", []) if embeddings.manifest else []
    parents = embeddings.manifest.parents if embeddings.manifest else {}
    first, best = 0, None
    for number, rows in enumerate(parts, start=1):
        parent = parents[f"part {number}"]
        place = default_folder(Path(parent.path))
        if (place / MANIFEST).is_file():
            made = Manifest.open(place, "index")
            fits = made.parents["embeddings"].fingerprint == parent.fingerprint
            if fits and made.recipe["kind"] == kind and (best is None or rows > best[1]):
                best = (place, rows, first)
        first += rows
    return None if best is None else Source(index=Index.open(best[0]), first=best[2])
