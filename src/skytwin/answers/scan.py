"""Exact scan or index: which of the two answers a search, and what that means."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from skytwin.answers.query import Reference
from skytwin.answers.ranking import LEARNED, How
from skytwin.artefact import MANIFEST
from skytwin.embeddings.engine import Engine
from skytwin.embeddings.index import FEW_HIDDEN, Effort, Index, default_folder
from skytwin.embeddings.neighbours import Neighbours, nearest, selective, within
from skytwin.embeddings.ranker import Ranker
from skytwin.embeddings.spread import Spread
from skytwin.embeddings.table import Embeddings
from skytwin.errors import Mismatch, UsageError

__all__ = ["DEPTHS", "Found", "find", "kind_of"]

#: Recall is measured among so many nearest.
DEPTHS = (25, 1000)
# A scan of less takes about as long as opening an index (benchmarks/search_scale.py).
WORTH_BYTES = 1 << 29
# To rank so many exactly takes some hundredths of a second, and misses none.
_FEW_KEPT = 16 * DEPTHS[-1]


@dataclass(frozen=True, eq=False, kw_only=True)
class Found:
    """Neighbours, and how they were looked for.

    Attributes
    ----------
    neighbours : Neighbours
    told : str
        Exact or which index, with its recall, in a line of text.
    recorded : dict
        The same as manifests keep it: ``scan`` ("exact" or the kind of index), ``index`` (its
        fingerprint) and ``recall`` (value, ends of its interval, depth).
    """

    neighbours: Neighbours
    told: str
    recorded: dict[str, Any]


@dataclass(frozen=True, eq=False, kw_only=True)
class _Route:
    """An index with the effort that reached the recall it was measured at.

    ``among``: of what a filter leaves, only what is so near of all has that recall.
    """

    index: Index
    effort: Effort
    recall: dict[str, Any]
    depth: int
    among: int | None


def kind_of(how: How, references: int) -> str | None:
    """Under what name the recall of such a query is measured; None where it is not."""
    if references == 1 and how.combine not in LEARNED:
        return how.metric
    return how.combine if how.metric == "standardized" else None


def find(
    embeddings: Embeddings,
    ranker: Ranker,
    how: How,
    references: Sequence[Reference],
    *,
    k: int,
    radius: float | None,
    keep: np.ndarray | None,
    exact: bool,
    index: str | Path | Index | None,
    engine: Engine | None = None,
    quiet: bool = True,
) -> Found:
    """The nearest rows, from an index where there is one that serves, else exactly.

    Parameters
    ----------
    embeddings, ranker, how, references
        The query, its combination settled.
    k, radius, keep
        As `skytwin.embeddings.neighbours.nearest` and `within` take them.
    exact : bool
        Use no index.
    index : path or Index, optional
        The index to use, whatever the size of the set.
    engine : Engine, optional
        Workers that scan the vectors, exactly.
    quiet : bool
        Show no progress of the workers.

    Raises
    ------
    UsageError
        Both an index and the exact scan were asked for, or an index and workers.
    Mismatch
        The index that was named is of another embedding.
    """
    if exact and index is not None:
        raise UsageError("--exact uses no index; leave out --exact or --index")
    if engine is not None and index is not None:
        raise UsageError(
            "an index is searched in one process; leave out --index, or --workers and --dask"
        )
    count = len(embeddings) if keep is None else int(np.count_nonzero(keep))
    routes: list[_Route] | str = ""
    if not exact and engine is None:
        routes = _routes(embeddings, how, len(references), k, radius, keep, index)
    if isinstance(routes, list):
        for route in routes:
            found = route.index.nearest(
                embeddings.vectors, ranker, k, route.effort, keep=keep, among=route.among
            )
            if len(found.rows) == min(k, count):
                return _indexed(found, route, len(references))
        routes = (
            f"the index gave fewer than {k} among the nearest {routes[-1].depth}; the filter "
            f"leaves {count} of {len(embeddings)}"
        )
    spread = None if engine is None else Spread(engine, embeddings, quiet=quiet)
    return Found(
        neighbours=_scanned(embeddings, ranker, k, radius, keep, spread),
        told=f"exact scan of {count} objects" + (f": {routes}" if routes else ""),
        recorded={"scan": "exact", "index": None, "recall": None},
    )


def _scanned(
    embeddings: Embeddings,
    ranker: Ranker,
    k: int,
    radius: float | None,
    keep: np.ndarray | None,
    spread: Spread | None,
) -> Neighbours:
    if spread is not None:
        if radius is None:
            return spread.nearest(ranker, k, keep=keep)
        return spread.within(ranker, radius, keep=keep)
    if radius is None:
        return nearest(embeddings.vectors, ranker, k, keep=keep)
    return within(embeddings.vectors, ranker, radius, keep=keep)


def _indexed(found: Neighbours, route: _Route, references: int) -> Found:
    recall, name = route.recall, f"recall@{route.depth}"
    asked = "queries" if references == 1 else f"queries of {recall['references']} references"
    value = f"{recall['value']:.3f} [{recall['lower']:.3f}, {recall['upper']:.3f}]"
    return Found(
        neighbours=found,
        told=f"approximate, {route.index.kind} index: {name} {value}, measured on "
        f"{recall['queries']} {asked}; --exact misses nothing",
        recorded={
            "scan": route.index.kind,
            "index": route.index.manifest.fingerprint,
            "recall": {"depth": route.depth} | {e: recall[e] for e in ("value", "lower", "upper")},
        },
    )


def _routes(
    embeddings: Embeddings,
    how: How,
    references: int,
    k: int,
    radius: float | None,
    keep: np.ndarray | None,
    index: str | Path | Index | None,
) -> list[_Route] | str:
    """An index that serves, with the efforts to try in turn, or why there is none.

    Nothing, where nobody would expect one.
    """
    found = _opened(embeddings, index)
    if isinstance(found, str):
        return found
    if radius is not None:
        return "an index cannot give all within a radius"
    kind = kind_of(how, references)
    measured = found.manifest.summary["recall"].get(kind)
    if measured is None:
        name = how.metric if references == 1 else f"{how.metric} {how.combine}"
        return f"the index does not serve {name}"
    if k > DEPTHS[-1]:
        return f"the recall of the index is known for the nearest {DEPTHS[-1]}"
    count = len(embeddings) if keep is None else int(np.count_nonzero(keep))
    if selective(keep, len(embeddings)) and count <= _FEW_KEPT:
        return f"the filter leaves {count} of {len(embeddings)}"
    # The nearest k of a tenth of the set are about the nearest 10 k of all, if it is a random
    # tenth: whether they are is seen from what is found.
    made_up_for = len(embeddings) - count <= FEW_HIDDEN
    wanted = k if made_up_for else round(k * len(embeddings) / max(count, 1))
    depths = [depth for depth in DEPTHS if depth >= min(wanted, DEPTHS[-1])]
    worst = measured[str(depths[0])]
    if not worst["reached"]:
        return f"the index finds only {worst['value']:.2f} of the nearest {depths[0]} by {kind}"
    return [
        _Route(
            index=found,
            effort=Effort(probes=recall["probes"], candidates=recall["candidates"]),
            recall=recall,
            depth=depth,
            # Of the nearest, some are missing: what it finds first is among them for certain.
            among=None if made_up_for else int(depth * recall["value"]),
        )
        for depth, recall in ((depth, measured[str(depth)]) for depth in depths)
        if recall["reached"]
    ]


def _opened(embeddings: Embeddings, index: str | Path | Index | None) -> Index | str:
    if isinstance(index, Index):
        return index
    if index is not None:
        return Index.open(index, embeddings)
    if embeddings.folder is None or embeddings.vectors.nbytes < WORTH_BYTES:
        return ""
    place = default_folder(embeddings.folder)
    if not (place / MANIFEST).is_file():
        return ""
    if importlib.util.find_spec("faiss") is None:
        return f"{place.name} needs faiss, which is not installed"
    try:
        return Index.open(place, embeddings)
    except Mismatch:
        return f"{place.name} is the index of another embedding"
