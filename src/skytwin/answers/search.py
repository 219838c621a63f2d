"""The objects most like some references: `Matches`."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from skytwin.answers.query import Like, Reference, resolve, same_object
from skytwin.answers.where import matching_rows
from skytwin.embeddings.metric import Metric, check_metric, scorer
from skytwin.embeddings.neighbours import (
    Neighbours,
    check_combine,
    nearest,
    within,
)
from skytwin.embeddings.table import Embeddings
from skytwin.errors import DataError, UsageError
from skytwin.images import arrow

if TYPE_CHECKING:
    from astropy.table import Table

__all__ = ["DEFAULT_METRIC", "Matches", "search"]

DEFAULT_METRIC: Metric = "standardized"


@dataclass(frozen=True, eq=False, kw_only=True)
class Matches:
    """Objects in order of their distance to the references.

    Attributes
    ----------
    embeddings : Embeddings
        What was searched.
    references : tuple of Reference
        What it was searched for.
    rows : ndarray, shape (k,), int64
        Row numbers in the embedding.
    distance : ndarray, shape (k,), float64
    reference : ndarray, shape (k,), int64
        Index of the reference that is nearest to each match.
    settings : dict
        Metric, combination, k or radius, filter and exclusions, as recorded in manifests.
    excluded : int
        Rows left out as the references themselves or at their places on the sky.
    """

    embeddings: Embeddings
    references: tuple[Reference, ...]
    rows: np.ndarray
    distance: np.ndarray
    reference: np.ndarray
    settings: dict[str, Any]
    excluded: int

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def ids(self) -> np.ndarray:
        """Identifiers, shape (k,), dtype object (str)."""
        found: np.ndarray = self.embeddings.ids[self.rows]
        return found

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
                    description=f"{self.settings['metric']} distance to the references",
                ),
                self.distance,
            ),
            (
                arrow.field("reference", pa.string(), description="the nearest reference"),
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
            "references": ", ".join(reference.name for reference in self.references),
            **{name: str(value) for name, value in self.settings.items() if value is not None},
        }

    def mosaic(self, side: int = 5, **settings: Any) -> Any:
        """The nearest ``side`` x ``side`` as pictures; see `skytwin.figures.mosaic`."""
        from skytwin.answers.figures import mosaic  # matplotlib only when a picture is drawn

        return mosaic(self, side=side, **settings)

    def _repr_html_(self) -> str:
        from skytwin.answers.notebook import matches_html

        return str(matches_html(self))

    def __repr__(self) -> str:
        names = ", ".join(reference.name for reference in self.references)
        reach = f" to {self.distance[-1]:.4g}" if len(self) else ""
        return f"Matches({len(self)} like {names}, {self.settings['metric']} distance{reach})"


def search(
    embeddings: Embeddings,
    like: Like | Sequence[Like],
    *,
    k: int = 25,
    radius: float | None = None,
    metric: str = DEFAULT_METRIC,
    combine: str = "mean",
    where: str | None = None,
    include_self: bool = False,
    same_arcsec: float = 2.0,
    match_arcsec: float = 3.0,
    weights: str | Path | None = None,
) -> Matches:
    """Find the objects most like some references, exactly.

    Parameters
    ----------
    embeddings : Embeddings
        What to search.
    like : one or several of id, (ra, dec), image path, "EMBEDDING:ID", vector
        See `resolve`.
    k : int
        How many matches.
    radius : float, optional
        All matches within this distance, instead of ``k``.
    metric : {"standardized", "euclidean", "cosine"}
    combine : {"mean", "min"}
        How distances to several references become one.
    where : str, optional
        SQL condition on the catalogue.
    include_self : bool
        Keep the references themselves, and objects at their places on the sky.
    same_arcsec : float
        Two entries nearer than this are one object.
    match_arcsec : float
        How far from a position given as reference its object may lie.
    weights : path, optional
        The encoder's weights file, for an image as reference.

    Returns
    -------
    Matches

    Raises
    ------
    UsageError, Mismatch
        See `resolve`; the condition leaves nothing to search.
    """
    checked, over = check_metric(metric), check_combine(combine)
    references = resolve(embeddings, like, match_arcsec=match_arcsec, weights=weights)
    keep, excluded = _kept(embeddings, references, where, include_self, same_arcsec)
    score = scorer(checked, np.stack([r.vector for r in references]), embeddings.statistics)
    found: Neighbours
    if radius is None:
        found = nearest(embeddings.vectors, score, k, combine=over, keep=keep)
    else:
        found = within(embeddings.vectors, score, radius, combine=over, keep=keep)
    return Matches(
        embeddings=embeddings,
        references=references,
        rows=found.rows,
        distance=found.distance,
        reference=found.reference,
        excluded=excluded,
        settings={
            "metric": checked,
            "combine": over if len(references) > 1 else None,
            "k": k if radius is None else None,
            "radius": radius,
            "where": where,
            "include_self": include_self,
            "same_arcsec": same_arcsec,
        },
    )


def _kept(
    embeddings: Embeddings,
    references: Sequence[Reference],
    where: str | None,
    include_self: bool,
    same_arcsec: float,
) -> tuple[np.ndarray | None, int]:
    """Rows that may be returned (None: all), and how many the references took away."""
    if not same_arcsec >= 0:
        raise UsageError(f"same-arcsec {same_arcsec}; expected 0 or more")
    keep = np.ones(len(embeddings), dtype=bool)
    if where is not None:
        keep = matching_rows(embeddings.catalog, where)
        if not keep.any():
            raise DataError(f"no object fulfils {where!r}; loosen the condition")
    same = np.zeros(len(embeddings), dtype=bool)
    if not include_self:
        same = same_object(embeddings, references, same_arcsec) & keep
        keep &= ~same
        if not keep.any():
            raise DataError("nothing is left to search beside the references themselves")
    return (None if keep.all() else keep), int(same.sum())
