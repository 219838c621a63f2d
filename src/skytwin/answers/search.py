"""The objects most like some references: `Matches`."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from skytwin.answers.query import Like, Reference, resolve
from skytwin.answers.ranking import (
    How,
    eligible,
    how_named,
    make_ranker,
    named,
)
from skytwin.answers.scan import find
from skytwin.embeddings.engine import Engine
from skytwin.embeddings.index import Index
from skytwin.embeddings.names import DEFAULT_COMBINE, DEFAULT_METRIC
from skytwin.embeddings.ranker import Ranker
from skytwin.embeddings.table import Embeddings
from skytwin.errors import UsageError
from skytwin.images import arrow

if TYPE_CHECKING:
    from astropy.table import Table

__all__ = ["Matches", "search"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Matches:
    """Objects in order of their distance to the references.

    Attributes
    ----------
    embeddings : Embeddings
        What was searched.
    references : tuple of Reference
        What it was searched for, the positive ones first.
    rows : ndarray, shape (k,), int64
        Row numbers in the embedding.
    distance : ndarray, shape (k,), float64
    reference : ndarray, shape (k,), int64
        Index of the positive reference that drew each match in: the nearest by the metric.
    settings : dict
        Metric, combination, k or radius, filter, exclusions, and exact or which index with its
        recall, as recorded in manifests.
    excluded : int
        Rows left out as the references themselves or at their places on the sky.
    ranker : Ranker
        Gives any vector its distance as it was given here.
    scanned : str
        Exact or which index with its recall, in a line of text.
    """

    embeddings: Embeddings
    references: tuple[Reference, ...]
    rows: np.ndarray
    distance: np.ndarray
    reference: np.ndarray
    settings: dict[str, Any]
    excluded: int
    ranker: Ranker
    scanned: str

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def ids(self) -> np.ndarray:
        """Identifiers, shape (k,), dtype object (str)."""
        return np.array(self.embeddings.names(self.rows), dtype=object)

    @functools.cached_property
    def table(self) -> pa.Table:
        """Rank, id, position, distance, nearest reference, then the catalogue's columns."""
        catalog = self.embeddings.catalog.take(pa.array(self.rows))
        names = [reference.name for reference in self.references]
        lead = [
            (arrow.field("rank", pa.int64(), ucd="meta.number"), np.arange(1, len(self) + 1)),
            (catalog.schema.field("id"), catalog["id"]),
        ]
        lead += [
            (catalog.schema.field(name), catalog[name])
            for name in ("ra", "dec")
            if name in catalog.column_names
        ]
        lead += [
            (
                arrow.field(
                    "distance",
                    pa.float64(),
                    description=f"{how_named(self.settings)} to the references",
                ),
                self.distance,
            ),
            (
                arrow.field("reference", pa.string(), description="the reference that drew it in"),
                [names[i] for i in self.reference],
            ),
        ]
        fields = [entry for entry, _ in lead]
        columns = [
            values if isinstance(values, pa.ChunkedArray) else pa.array(values, entry.type)
            for entry, values in lead
        ]
        taken = {entry.name for entry in fields}
        for entry in catalog.schema:
            if entry.name in {"id", "ra", "dec"}:
                continue
            name = entry.name if entry.name.lower() not in taken else f"{entry.name}_catalog"
            fields.append(entry.with_name(name))
            columns.append(catalog[entry.name])
        return pa.Table.from_arrays(columns, schema=pa.schema(fields))

    def to_astropy(self) -> Table:
        """The matches as an astropy table, units and UCDs kept."""
        return arrow.to_astropy(self.table, meta=self.describe())

    def to_pandas(self) -> Any:
        """The matches as a pandas DataFrame."""
        return self.table.to_pandas()

    def describe(self) -> dict[str, str]:
        """Where the matches come from, for a table's header."""
        parent = self.embeddings.as_parent()
        return {
            "skytwin": "matches",
            "embedding": parent.fingerprint,
            "encoder": self.embeddings.encoder_name,
            "references": named(self.references),
            **{name: str(value) for name, value in self.settings.items() if value is not None},
        }

    def mosaic(self, side: int = 5, **settings: Any) -> Any:
        """The nearest ``side`` x ``side`` as pictures; see `skytwin.figures.mosaic`."""
        from skytwin.answers.figures_mosaic import mosaic  # matplotlib only when a picture is drawn

        return mosaic(self, side=side, **settings)

    def _repr_html_(self) -> str:
        from skytwin.answers.notebook import matches_html

        return str(matches_html(self))

    def __repr__(self) -> str:
        reach = f" to {self.distance[-1]:.4g}" if len(self) else ""
        return (
            f"Matches({len(self)} like {named(self.references)}, {how_named(self.settings)}{reach})"
        )


def search(
    embeddings: Embeddings,
    like: Like | Sequence[Like],
    *,
    unlike: Like | Sequence[Like] = (),
    emphasis: Sequence[float] | None = None,
    k: int = 25,
    radius: float | None = None,
    metric: str = DEFAULT_METRIC,
    combine: str = DEFAULT_COMBINE,
    where: str | None = None,
    inside: str | Path | None = None,
    include_self: bool = False,
    same_arcsec: float = 2.0,
    match_arcsec: float = 3.0,
    weights: str | Path | None = None,
    seed: int = 0,
    exact: bool = False,
    index: str | Path | Index | None = None,
    engine: Engine | None = None,
    quiet: bool = True,
) -> Matches:
    """Find the objects most like some references.

    A large embedding with an index beside it (see `skytwin.answers.indexing.build_index`) is
    searched through that, where the recall of such queries was measured and reaches 0.99 of the
    nearest 25, or 0.95 of the nearest 1000; all else is searched exactly. Distances are always
    exact.

    Parameters
    ----------
    embeddings : Embeddings
        What to search.
    like : one or several of id, (ra, dec), image path, "EMBEDDING:ID", vector
        See `resolve`.
    unlike : none, one or several of the same
        Negative references.
    emphasis : sequence of float, optional
        Weights of the positive references.
    k : int
        How many matches.
    radius : float, optional
        All matches within this distance, instead of ``k``.
    metric : {"standardized", "euclidean", "cosine", "whitened", "csls"}
        See `skytwin.embeddings.metric`.
    combine : {"mean", "min", "fusion", "logistic", "lda"}
        How several references become one distance; see `skytwin.embeddings.ranker`.
    where : str, optional
        SQL condition on the catalogue.
    inside : path, optional
        A MOC, ``.fits`` or ``.json``: only objects within it.
    include_self : bool
        Keep the references themselves, and objects at their places on the sky.
    same_arcsec : float
        Two entries nearer than this are one object.
    match_arcsec : float
        How far from a position given as reference its object may lie.
    weights : path, optional
        The encoder's weights file, for an image as reference.
    seed : int
        Of the random background that learned combinations and some metrics take.
    exact : bool
        Use no index: nothing is missing.
    index : path or Index, optional
        The index to use, whatever the size of the set.
    engine : Engine, optional
        Workers that scan the vectors, exactly; see `skytwin.embeddings.engine.open_engine`.
    quiet : bool
        Show no progress of the workers.

    Returns
    -------
    Matches

    Raises
    ------
    UsageError, Mismatch
        See `resolve`; the condition leaves nothing to search; the index is of another embedding.
    """
    asked = How.of(metric=metric, combine=combine, seed=seed, same_arcsec=same_arcsec)
    references = resolve(
        embeddings,
        like,
        unlike=unlike,
        emphasis=emphasis,
        match_arcsec=match_arcsec,
        weights=weights,
    )
    if radius is not None and radius < 0 and not any(r.negative for r in references):
        raise UsageError(f"radius {radius:g}; expected a distance of 0 or more")
    keep, excluded = eligible(
        embeddings,
        references,
        same_arcsec=same_arcsec,
        where=where,
        inside=inside,
        include_self=include_self,
    )
    how = asked.settled(embeddings, references)
    ranker = make_ranker(embeddings, references, how)
    found = find(
        embeddings,
        ranker,
        how,
        references,
        k=k,
        radius=radius,
        keep=keep,
        exact=exact,
        index=index,
        engine=engine,
        quiet=quiet,
    )
    return Matches(
        embeddings=embeddings,
        references=references,
        rows=found.neighbours.rows,
        distance=found.neighbours.distance,
        reference=found.neighbours.reference,
        excluded=excluded,
        ranker=ranker,
        scanned=found.told,
        settings={
            **how.recorded(references, asked),
            "k": k if radius is None else None,
            "radius": radius,
            "where": where,
            "inside": str(inside) if inside is not None else None,
            "include_self": include_self,
            **found.recorded,
        },
    )
