"""The catalogue of a set of cutouts: what the images say, joined to what a table says."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from skytwin.addresses import name_of
from skytwin.errors import UsageError
from skytwin.images import arrow
from skytwin.images.catalog import (
    SkyPositions,
    check_ids,
    join,
    read_table,
    sky_columns,
    sky_degrees,
)
from skytwin.images.hats import Hats
from skytwin.images.hats_rows import rows_by_id, rows_near
from skytwin.images.source import Listed
from skytwin.images.tables import hats_at, table_sha256
from skytwin.images.texts import Texts, text_array

__all__ = ["Assembled", "Catalog", "assemble"]


@dataclass(frozen=True, kw_only=True)
class Catalog:
    """A table to join to the images: by id, or on the sky where ``match_arcsec`` is given."""

    path: Path
    id_column: str | None = None
    ra_column: str | None = None
    dec_column: str | None = None
    match_arcsec: float | None = None

    def recipe(self) -> dict[str, Any]:
        """What shapes the join; the table by its content."""
        return {
            "sha256": table_sha256(self.path),
            "id_column": self.id_column,
            "ra_column": self.ra_column,
            "dec_column": self.dec_column,
            "match_arcsec": self.match_arcsec,
        }

    def read(self, ids: Sequence[str]) -> pa.Table:
        """The rows to join: of a HATS catalogue those of ``ids``; none yet where the sky decides.

        What does not fit is refused here, before hours of reading.
        """
        if self._hats is None:
            table = read_table(self.path)
        elif self.match_arcsec is None:
            table = rows_by_id(self._hats, ids, self.id_column)
        else:
            table = self._hats.schema.empty_table()
        self.check(table, ids)
        return table

    def around(self, table: pa.Table, sky: SkyPositions) -> pa.Table:
        """The rows to join once the images' positions are known."""
        if self._hats is None or self.match_arcsec is None:
            return table
        return rows_near(self._hats, sky, self.match_arcsec, self.ra_column, self.dec_column)

    @functools.cached_property
    def _hats(self) -> Hats | None:
        return hats_at(self.path)

    def check(self, table: pa.Table, ids: Sequence[str]) -> None:
        """Fail before hours of reading, not after: a join by id needs no pixel."""
        if self.match_arcsec is None:
            check_ids(ids, table, self.id_column)
        elif not 0 < self.match_arcsec <= 3600:
            raise UsageError(f"--match-arcsec {self.match_arcsec}; expected 0 to 3600")
        elif sky_columns(table, self.ra_column, self.dec_column) is None:
            raise UsageError(
                f"{name_of(self.path)} has no columns of sky positions; name them with "
                "--ra-column and --dec-column, or leave --match-arcsec out to join by id"
            )


@dataclass(frozen=True, eq=False, kw_only=True)
class Assembled:
    """The catalogue to store, and what did not fit."""

    table: pa.Table
    images_without_row: int
    rows_without_image: tuple[Mapping[str, str], ...]


def assemble(
    rows: pa.Table, source: Listed, catalog: Catalog | None, table: pa.Table | None
) -> Assembled:
    """Put the rows of the accepted objects together with the source's table and a catalogue.

    The first columns are ``id``, then ``ra`` and ``dec`` (ICRS degrees; the catalogue's where
    it has them, else the source's, else the image's centre) where any is known, and
    ``origin``; then the source's and the catalogue's own, their names made unique without
    regard to case.
    """
    index = rows["index"].to_numpy()
    ids = Texts(text_array(source.ids, index))
    extra: list[tuple[pa.Field, pa.ChunkedArray]] = []
    ra, dec = (rows[name].to_numpy().astype(float) for name in ("ra", "dec"))
    positions = SkyPositions(ra=ra, dec=dec)
    if source.table is not None:
        own = arrow.taken(source.table, pa.array(index))
        positions = _prefer(_sky(own), positions)
        extra += [(entry, own[entry.name]) for entry in own.schema]
    missing, left_over = 0, pa.table({})
    if catalog is not None and table is not None:
        joined = join(
            ids,
            catalog.around(table, positions),
            id_column=catalog.id_column,
            sky=positions if catalog.match_arcsec is not None else None,
            match_arcsec=catalog.match_arcsec,
            ra_column=catalog.ra_column,
            dec_column=catalog.dec_column,
        )
        positions = _prefer(_sky(joined.table, catalog), positions)
        extra += [(entry, joined.table[entry.name]) for entry in joined.table.schema]
        missing, left_over = len(joined.unmatched_images), joined.unmatched_rows
    fields = [arrow.field("id", pa.string(), ucd="meta.id;meta.main", description="object")]
    columns: list[Any] = [ids.array]
    if np.isfinite(positions.ra).any():
        for name, values in (("ra", positions.ra), ("dec", positions.dec)):
            fields.append(
                arrow.field(
                    name,
                    pa.float64(),
                    unit="deg",
                    ucd=f"pos.eq.{name};meta.main",
                    description=f"{'right ascension' if name == 'ra' else 'declination'}, ICRS",
                )
            )
            columns.append(pa.array(values, pa.float64(), from_pandas=True))
    fields.append(arrow.field("origin", pa.string(), description="where it was read"))
    columns.append(text_array(source.origins, index))
    _add_unique(fields, columns, extra)
    return Assembled(
        table=pa.Table.from_arrays(columns, schema=pa.schema(fields)),
        images_without_row=missing,
        rows_without_image=tuple(_left_out(left_over)),
    )


def _sky(table: pa.Table, catalog: Catalog | None = None) -> SkyPositions | None:
    columns = sky_columns(
        table, catalog.ra_column if catalog else None, catalog.dec_column if catalog else None
    )
    return None if columns is None else sky_degrees(table, columns)


def _prefer(first: SkyPositions | None, second: SkyPositions) -> SkyPositions:
    if first is None:
        return second
    known = np.isfinite(first.ra) & np.isfinite(first.dec)
    return SkyPositions(
        ra=np.where(known, first.ra, second.ra), dec=np.where(known, first.dec, second.dec)
    )


def _add_unique(
    fields: list[pa.Field], columns: list[Any], extra: list[tuple[pa.Field, pa.ChunkedArray]]
) -> None:
    # DuckDB and VOTable readers do not tell RA from ra, so names are unique without regard to
    # case. Positions are in the canonical columns already; so is an id that repeats ours.
    taken = {entry.name for entry in fields}
    repeated = {"ra", "dec"} & taken
    for entry, values in extra:
        name, number, lower = entry.name, 2, entry.name.lower()
        if lower in repeated or (lower == "id" and _same_text(values, columns[0])):
            continue
        while name.lower() in taken:
            name, number = f"{entry.name}_{number}", number + 1
        taken.add(name.lower())
        fields.append(entry.with_name(name))
        columns.append(values)


def _same_text(values: pa.ChunkedArray, ids: pa.Array) -> bool:
    if pa.types.is_string(values.type) or pa.types.is_integer(values.type):
        texts = values.cast(pa.string()).fill_null("None")
        return bool(texts.equals(pa.chunked_array([ids])))
    return bool([str(value) for value in values.to_pylist()] == ids.to_pylist())


def _left_out(rows: pa.Table) -> list[dict[str, str]]:
    result = []
    for row in rows.to_pylist():
        where = ", ".join(f"{name}={value}" for name, value in row.items() if value is not None)
        first = str(next(iter(row.values()), ""))
        result.append({"id": first, "origin": where, "reason": "catalogue row without image"})
    return result
