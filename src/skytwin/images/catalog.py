"""Catalogues: a table in, its rows joined to images by identifier or matched on the sky."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.spatial import cKDTree

from skytwin.errors import DataError, UsageError
from skytwin.images import arrow, columns
from skytwin.images.columns import (
    PixelColumns,
    SkyColumns,
    SkyPositions,
    id_column,
    pixel_columns,
    sky_columns,
    sky_degrees,
)
from skytwin.images.tables import read_table
from skytwin.images.texts import text_array, twice_among

__all__ = [
    "Joined",
    "PixelColumns",
    "SkyColumns",
    "SkyPositions",
    "check_ids",
    "id_column",
    "id_texts",
    "join",
    "pixel_columns",
    "read_table",
    "sky_columns",
    "sky_degrees",
]

_ARCSEC_PER_RADIAN = float(np.degrees(1) * 3600)
#: Beyond this a float64 no longer tells neighbouring integers apart.
_EXACT = 2.0**53


@dataclass(frozen=True, eq=False, kw_only=True)
class Joined:
    """A catalogue brought into the order of a list of images.

    Attributes
    ----------
    table : pyarrow.Table
        One row per image; nulls where the catalogue has none. After a match on the sky its last
        column is ``match_arcsec``.
    unmatched_images : tuple of str
        Images without a row, in order.
    unmatched_rows : pyarrow.Table
        Columns ``id``, ``ra``, ``dec`` (text, null where unknown): rows without an image.
    how : {"id", "sky"}
        What they were joined by.
    """

    table: pa.Table
    unmatched_images: tuple[str, ...]
    unmatched_rows: pa.Table
    how: Literal["id", "sky"]


def join(
    ids: Sequence[str],
    catalog: pa.Table,
    *,
    id_column: str | None = None,
    sky: SkyPositions | None = None,
    match_arcsec: float | None = None,
    ra_column: str | None = None,
    dec_column: str | None = None,
) -> Joined:
    """Bring a catalogue's rows into the order of the images.

    By identifier unless ``match_arcsec`` is given: texts are compared, white space around them
    aside, and a catalogue's column named ``id`` is left out because it repeats the images'. On
    the sky: each image takes its nearest row within ``match_arcsec``; of several images that
    want one row, the nearest has it and the others have none. A column named ``id`` is then
    called ``catalog_id``.

    Parameters
    ----------
    ids : sequence of str, length N
        The images' identifiers.
    catalog : pyarrow.Table
        The rows to bring.
    id_column, ra_column, dec_column : str, optional
        Columns of the catalogue, where their names do not say what they are.
    sky : SkyPositions, optional
        The images' positions, shape (N,).
    match_arcsec : float, optional
        Match on the sky within this angle.

    Raises
    ------
    UsageError
        A column is unknown or not to be found; the angle is no positive number.
    DataError
        An identifier occurs twice in the catalogue; nothing matches; positions are missing or
        out of range.
    """
    if match_arcsec is None:
        return _join_by_id(ids, catalog, id_column)
    if not 0 < match_arcsec < np.inf:
        raise UsageError(f"--match-arcsec {match_arcsec}; expected a positive angle in arcsec")
    found = sky_columns(catalog, ra_column, dec_column)
    if found is None:
        raise UsageError(
            f"no sky position among the columns {', '.join(catalog.column_names[:12])}; name "
            "them with --ra-column and --dec-column, or leave --match-arcsec out to join by id"
        )
    if sky is None or not sky.known.any():
        raise DataError(
            "the images have no sky positions to match a catalogue with; join by id instead "
            "(leave --match-arcsec out)"
        )
    return _join_on_sky(ids, catalog, sky, found, match_arcsec, id_column)


def id_texts(table: pa.Table, name: str) -> pa.Array:
    """A column of identifiers as text, exactly; null where blank.

    Raises
    ------
    DataError
        The column holds no identifiers, or numbers too long for their type.
    """
    values = table[name].combine_chunks()
    kind = values.type
    if pa.types.is_floating(kind):
        return _whole_numbers_as_text(values, name)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_integer(kind):
        text = pc.utf8_trim_whitespace(values.cast(pa.string()))
        return pc.if_else(pc.equal(text, ""), None, text)
    raise DataError(f"column {name!r} holds {kind}, not identifiers; name another --id-column")


def _whole_numbers_as_text(values: pa.Array, name: str) -> pa.Array:
    values = pc.if_else(pc.is_nan(values), None, values)
    known = values.drop_null().to_numpy(zero_copy_only=False)
    if known.size and np.abs(known).max() >= _EXACT:
        raise DataError(
            f"column {name!r} holds identifiers as floating-point numbers and has lost digits of "
            f"them (e.g. {known[np.argmax(np.abs(known))]:.17g}); store it as integers or text"
        )
    if np.array_equal(known, np.rint(known)):
        return values.cast(pa.int64()).cast(pa.string())
    return values.cast(pa.string())


def check_ids(ids: Sequence[str], catalog: pa.Table, id_column: str | None = None) -> None:
    """Raise what `join` by identifier would, without joining."""
    _rows_by_id(ids, catalog, id_column)


def _rows_by_id(ids: Sequence[str], catalog: pa.Table, name: str | None) -> tuple[str, pa.Array]:
    """The column of identifiers, and the row of each image, null where it has none."""
    name = id_column(catalog, name)
    keys = id_texts(catalog, name)
    twice = twice_among(keys)
    if twice is not None:
        raise DataError(
            f"id {twice!r} occurs more than once in the catalogue's column {name!r}; keep one "
            "row per object, or name another --id-column"
        )
    wanted = pc.utf8_trim_whitespace(text_array(ids))
    if not keys.null_count and wanted.equals(keys):
        return name, pa.array(np.arange(len(keys), dtype=np.int32))
    rows = pc.index_in(wanted, value_set=keys, skip_nulls=True)
    if rows.null_count == len(rows):
        example = keys.drop_null()
        raise DataError(
            f"no image has a row in the catalogue by id: images are named like "
            f"{wanted[0].as_py() if len(wanted) else ''!r}, the column {name!r} holds "
            f"{example[0].as_py() if len(example) else ''!r}; name another --id-column, or match "
            "on the sky with --match-arcsec"
        )
    return name, rows


def _join_by_id(ids: Sequence[str], catalog: pa.Table, name: str | None) -> Joined:
    name, rows = _rows_by_id(ids, catalog, name)
    table = catalog.drop_columns([name]) if name.lower() == "id" else catalog
    where = sky_columns(catalog)
    return _joined(
        ids, catalog, arrow.taken(table, rows), rows, where=where, id_name=name, how="id"
    )


def _join_on_sky(
    ids: Sequence[str],
    catalog: pa.Table,
    images: SkyPositions,
    where: SkyColumns,
    match_arcsec: float,
    id_name: str | None,
) -> Joined:
    rows, arcsec = nearest_on_sky(images, sky_degrees(catalog, where))
    ok = arcsec <= match_arcsec
    if not ok.any():
        raise DataError(
            f"no catalogue row lies within {match_arcsec:g} arcsec of an image; the nearest is "
            f"{np.nanmin(arcsec, initial=np.inf):.4g} arcsec away: check that both are ICRS "
            "degrees, or give a larger --match-arcsec"
        )
    # A row goes to its nearest image; of equals, to the first.
    order = np.lexsort((np.arange(len(rows)), arcsec))
    order = order[ok[order]]
    _, first = np.unique(rows[order], return_index=True)
    mine = np.zeros(len(rows), dtype=bool)
    mine[order[first]] = True
    taken = pa.array(rows, pa.int64(), mask=~mine)
    table = catalog.take(taken)
    table = _without_id(table)
    if "match_arcsec" in table.column_names:
        table = table.drop_columns(["match_arcsec"])
    distance = pa.array(arcsec, pa.float64(), mask=~mine)
    about = arrow.field(
        "match_arcsec",
        pa.float64(),
        unit="arcsec",
        ucd="pos.angDistance",
        description="distance of the catalogue's position from the image's",
    )
    return _joined(
        ids,
        catalog,
        table.append_column(about, distance),
        taken,
        where=where,
        id_name=id_name or columns.find_id_column(catalog),
        how="sky",
    )


def _without_id(table: pa.Table) -> pa.Table:
    """The table with its ``id`` (and ``ID``) called ``catalog_id`` (and ``catalog_id_2``)."""
    names: list[str] = []
    taken = set(table.column_names)
    for name in table.column_names:
        number, free = 1, name
        if name.lower() == "id":
            free = "catalog_id"
            while free in taken:
                number += 1
                free = f"catalog_id_{number}"
            taken.add(free)
        names.append(free)
    return table.rename_columns(names)


def _joined(
    ids: Sequence[str],
    catalog: pa.Table,
    table: pa.Table,
    rows: pa.Array,
    *,
    where: SkyColumns | None,
    id_name: str | None,
    how: Literal["id", "sky"],
) -> Joined:
    alone = np.flatnonzero(rows.is_null().to_numpy(zero_copy_only=False))
    lonely = text_array(ids, alone).to_pylist()
    used = np.zeros(catalog.num_rows, dtype=bool)
    used[rows.drop_null().to_numpy()] = True
    unused = catalog.filter(pa.array(~used))
    names = {
        "id": id_name and id_column(catalog, id_name),
        "ra": where and where.ra,
        "dec": where and where.dec,
    }
    left_over = {
        key: _texts(unused[name]) if name else pa.nulls(unused.num_rows, pa.string())
        for key, name in names.items()
    }
    return Joined(
        table=table,
        unmatched_images=tuple(lonely),
        unmatched_rows=pa.table(left_over),
        how=how,
    )


def _texts(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column as text; a column of lists, which have none, as nulls."""
    if pa.types.is_nested(values.type):
        return pa.chunked_array([pa.nulls(len(values), pa.string())])
    return values.cast(pa.string())


def nearest_on_sky(positions: SkyPositions, others: SkyPositions) -> tuple[np.ndarray, np.ndarray]:
    """The nearest of ``others`` to each position: row numbers and distances in arcsec, shape (N,).

    Nearest chord between unit vectors, so that neither the poles nor RA 0 are special. Equivalent
    to::

        SkyCoord(positions).match_to_catalog_sky(SkyCoord(others))

    Row -1 and distance infinity where a position is not known.
    """
    rows = np.full(len(positions), -1, dtype=np.int64)
    arcsec = np.full(len(positions), np.inf)
    here, there = np.flatnonzero(positions.known), np.flatnonzero(others.known)
    if here.size and there.size:
        tree = cKDTree(others.directions[there])
        chord, found = tree.query(positions.directions[here])
        rows[here] = there[found]
        arcsec[here] = 2 * np.arcsin(np.minimum(chord / 2, 1)) * _ARCSEC_PER_RADIAN
    return rows, arcsec
