"""Which images are asked for, and the tables of those that came and those that did not."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from skytwin.errors import DataError, UsageError
from skytwin.images import arrow
from skytwin.images.catalog import id_texts, read_table, sky_columns, sky_degrees
from skytwin.images.columns import SkyColumns, SkyPositions, find_id_column, id_column
from skytwin.images.fetch_surveys import Request
from skytwin.images.positions import numbered
from skytwin.images.rows import first_duplicate
from skytwin.images.tables import table_stem

__all__ = ["IMAGES", "Wanted", "catalog_of", "failed_csv", "read_wanted"]

IMAGES = "images"
_SAFE = re.compile(r"[A-Za-z0-9_+][A-Za-z0-9_+.-]{0,99}")


@dataclass(frozen=True, eq=False, kw_only=True)
class Wanted:
    """The images asked for.

    Attributes
    ----------
    table : pyarrow.Table
        As given.
    ids : tuple of str, length N
    files : tuple of str
        Where each image is put, below the folder of the run.
    sky : SkyPositions
    columns : SkyColumns
    id_name : str or None
        The columns that position and identifier are from.
    """

    table: pa.Table
    ids: tuple[str, ...]
    files: tuple[str, ...]
    sky: SkyPositions
    columns: SkyColumns
    id_name: str | None


def read_wanted(
    path: Path, request: Request, name: str | None, ra: str | None, dec: str | None
) -> Wanted:
    """Read a table of positions.

    Raises
    ------
    UsageError
        A column is unknown, or no position is recognised.
    DataError
        No rows, values out of range, or an identifier that is missing or comes twice.
    """
    table = read_table(path)
    columns = sky_columns(table, ra, dec)
    if columns is None:
        raise UsageError(
            f"no sky position among the columns of {path.name} "
            f"({', '.join(table.column_names[:12])}); name them with --ra-column and --dec-column"
        )
    if not len(table):
        raise DataError(f"{path.name} has no rows")
    found = id_column(table, name) if name is not None else find_id_column(table)
    if found is None:
        ids = numbered(table_stem(path), len(table))
    else:
        texts = id_texts(table, found)
        twice = first_duplicate(texts.drop_null().to_pylist())
        if twice is not None or texts.null_count:
            what = "a gap" if twice is None else f"{twice!r} more than once"
            raise DataError(
                f"the column {found!r} of {path.name} has {what}; every object needs an id of its "
                "own: mend it or name another --id-column"
            )
        ids = tuple(texts.to_pylist())
    return Wanted(
        table=table,
        ids=ids,
        files=tuple(f"{IMAGES}/{name}{request.ending}" for name in _file_names(ids)),
        sky=sky_degrees(table, columns),
        columns=columns,
        id_name=found,
    )


def _file_names(ids: Sequence[str]) -> Sequence[str]:
    """The identifiers, or numbers where one of them cannot name a file on every system."""
    if all(map(_SAFE.fullmatch, ids)) and len({name.lower() for name in ids}) == len(ids):
        return ids
    return numbered("object", len(ids))


def catalog_of(request: Request, wanted: Wanted, came: Mapping[int, Mapping[str, Any]]) -> pa.Table:
    """The rows whose images came: name, place, scale, where from, then the table's own columns.

    Parameters
    ----------
    request : Request
    wanted : Wanted
    came : mapping of int to mapping
        By row: ``url`` and ``date``.
    """
    rows = sorted(came)
    text, real = pa.string(), pa.float64()
    stems = [Path(wanted.files[row]).name[: -len(request.ending)] for row in rows]
    entries = [came[row] for row in rows]
    lead = {
        arrow.field("id", text, ucd="meta.id;meta.main"): stems,
        arrow.field("ra", real, unit="deg", ucd="pos.eq.ra;meta.main"): wanted.sky.ra[rows],
        arrow.field("dec", real, unit="deg", ucd="pos.eq.dec;meta.main"): wanted.sky.dec[rows],
        arrow.field(
            "pixel_scale",
            real,
            unit="arcsec",
            ucd="phys.angSize;instr.pixel",
            description="side of a pixel",
        ): [request.pixel_scale] * len(rows),
        arrow.field("image_url", text, ucd="meta.ref.url"): [e["url"] for e in entries],
        arrow.field(
            "fetched", text, ucd="time.processing", description="when the image came, UTC"
        ): [e["date"] for e in entries],
    }
    taken = {entry.name for entry in lead}
    fields, columns = list(lead), [pa.array(v, f.type) for f, v in lead.items()]
    own = wanted.table.take(pa.array(rows))
    for entry in own.schema:
        same = entry.name == wanted.id_name and own[entry.name].to_pylist() == stems
        if same or entry.name.lower() in {"ra", "dec"} & {
            wanted.columns.ra.lower(), wanted.columns.dec.lower()
        }:  # fmt: skip
            continue
        name = entry.name if entry.name.lower() not in taken else f"{entry.name}_given"
        fields.append(entry.with_name(name))
        columns.append(own[entry.name])
    return pa.Table.from_arrays(columns, schema=pa.schema(fields))


def failed_csv(request: Request, wanted: Wanted, reasons: Mapping[int, str]) -> bytes:
    """The rows whose images did not come, and why."""
    stream = io.StringIO(newline="")
    writer = csv.writer(stream)
    writer.writerow(["id", "ra", "dec", "reason", "url"])
    for row, reason in sorted(reasons.items()):
        known = bool(wanted.sky.known[row])
        ra, dec = float(wanted.sky.ra[row]), float(wanted.sky.dec[row])
        where = [ra, dec] if known else ["", ""]
        writer.writerow([wanted.ids[row], *where, reason, request.url(ra, dec) if known else ""])
    return stream.getvalue().encode()
