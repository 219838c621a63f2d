"""The ranking that a certificate speaks of: every object of the sky once, no reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from skytwin.answers.query import same_object
from skytwin.answers.search import Matches
from skytwin.artefact import Parent
from skytwin.errors import DataError, UsageError
from skytwin.images.groups import first_rows, sky_groups
from skytwin.images.rows import first_duplicate

__all__ = ["Ranking", "ranked_objects"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Ranking:
    """Objects in order, and where the order comes from.

    Attributes
    ----------
    objects : pyarrow.Table
        ``row``, ``id``, and ``ra``, ``dec`` where known, the most alike first.
    settings : dict
        As recorded in manifests.
    parents : dict of str to Parent
    """

    objects: pa.Table
    settings: dict[str, Any]
    parents: dict[str, Parent]


def ranked_objects(ranking: Matches | Sequence[str], group_arcsec: float) -> Ranking:
    """Every object once, in order of rank.

    Parameters
    ----------
    ranking : Matches or sequence of str
        All objects by distance, or their identifiers in order.
    group_arcsec : float
        Entries nearer than this, or linked by such, are one object.

    Raises
    ------
    UsageError
        The matches are only the first few.
    DataError
        An identifier occurs twice; nothing is ranked.
    """
    if not group_arcsec >= 0:
        raise UsageError(f"group-arcsec {group_arcsec}; expected 0 or more")
    if not isinstance(ranking, Matches):
        names = [str(name) for name in ranking]
        if not names:
            raise DataError("nothing is ranked; give the identifiers of all objects in order")
        twice = first_duplicate(names)
        if twice is not None:
            raise DataError(f"duplicate id {twice!r} in the ranking; every object occurs once")
        rows = pa.array(np.arange(len(names)))
        return Ranking(
            objects=pa.table({"row": rows, "id": pa.array(names, pa.string())}),
            settings={"ids": "as given"},
            parents={},
        )
    embeddings = ranking.embeddings
    limit = ranking.settings.get("k")
    whole = len(embeddings) - ranking.excluded
    if limit is not None and len(ranking) == limit < whole:
        raise UsageError(
            f"a ranking of {len(ranking)} among {len(embeddings)} objects; a certificate speaks of "
            "them all: search with k = len(embeddings)"
        )
    kept = np.asarray(ranking.rows)
    groups = sky_groups(embeddings.positions, group_arcsec, len(embeddings))
    own = groups[same_object(embeddings, ranking.references, group_arcsec)]
    kept = kept[~np.isin(groups[kept], own)]
    kept = kept[first_rows(groups[kept])]
    names = ["id", *(name for name in ("ra", "dec") if embeddings.positions is not None)]
    objects = embeddings.catalog.select(names).take(pa.array(kept))
    return Ranking(
        objects=objects.add_column(0, "row", pa.array(kept)),
        settings={
            **ranking.settings,
            "references": [r.told for r in ranking.references],
            "entries_of_one_object": len(ranking) - len(kept),
        },
        parents={"embeddings": embeddings.as_parent()},
    )
