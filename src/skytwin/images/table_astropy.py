"""astropy tables -> Arrow, and the table formats that astropy reads: FITS, VOTable, ECSV.

What a column cannot hold in Arrow (complex numbers, arrays of more than two axes) is left out
and named in the schema metadata under ``dropped``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from io import SEEK_END, BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
from astropy.coordinates import SkyCoord
from astropy.io import fits, votable
from astropy.table import Table
from astropy.time import Time

from skytwin.errors import DataError
from skytwin.images import arrow
from skytwin.images.fitsheader import walk
from skytwin.images.packed import inflate

__all__ = [
    "from_astropy",
    "read_cat",
    "read_ecsv",
    "read_fits",
    "read_sextractor",
    "read_votable",
    "require_unique",
    "tagged",
]


_NROWS = re.compile(rb"""\bnrows\s*=\s*["']\s*(\d{1,20})""")
_SUBTYPE = re.compile(rb"""\bsubtype:[^\n]{0,40}?\[(\d{1,20}(?:,\d{1,20})*)\]""")


def require_unique(names: Iterable[str], path: Path) -> None:
    """Refuse a table with two columns of one name."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise DataError(
                f"table {str(path)!r} has two columns named {name!r}; every column needs a name "
                "of its own: rename one"
            )
        seen.add(name)


def _opened(path: Path) -> BinaryIO:
    """The file, decompressed: opened here, because astropy leaves a damaged one open."""
    if path.suffix.lower() == ".gz":
        return BytesIO(inflate(path))
    return path.open("rb")


def read_fits(path: Path) -> pa.Table:
    """The first table extension of a FITS file."""
    with _opened(path) as stream:
        _require_whole(path, stream)
        return _first_table(path, stream)


def _require_whole(path: Path, stream: BinaryIO) -> None:
    """Refuse a file whose headers claim more than it has: astropy would make room for it first."""
    length = stream.seek(0, SEEK_END)
    for unit in walk(stream):
        if unit.offset + unit.size > length:
            raise DataError(
                f"{str(path)!r} is cut short or damaged: HDU {unit.number} has {unit.size} bytes "
                f"by its header, {max(0, length - unit.offset)} are there"
            )
    stream.seek(0)


def _first_table(path: Path, stream: BinaryIO) -> pa.Table:
    with fits.open(stream, memmap=False) as hdus:
        tables = [
            (number, hdu)
            for number, hdu in enumerate(hdus)
            if isinstance(hdu, (fits.BinTableHDU, fits.TableHDU))
            and not isinstance(hdu, fits.CompImageHDU)
            and hdu.name != "LDAC_IMHEAD"
        ]
        if not tables:
            raise DataError(f"{str(path)!r} holds no table; expected a FITS file with one")
        number, hdu = tables[0]
        require_unique([name.strip() for name in hdu.columns.names], path)
        header, names = hdu.header, hdu.columns.names
        width = hdu.columns.dtype.itemsize
        if isinstance(hdu, fits.BinTableHDU) and width > header["NAXIS1"]:
            raise DataError(
                f"{str(path)!r} is damaged: the columns of HDU {number} take {width} bytes a row, "
                f"the rows have {header['NAXIS1']}"
            )
        tags = {
            name: {"ucd": header.get(f"TUCD{i}"), "description": header.get(f"TCOMM{i}")}
            for i, name in enumerate(names, start=1)
        }
        return from_astropy(Table.read(hdus, hdu=number, format="fits"), tags)


def read_votable(path: Path) -> pa.Table:
    """The first table of a VOTable that has rows."""
    with _opened(path) as stream:
        content = stream.read()
    _require_room(path, len(content), _NROWS.findall(content))
    tables = list(votable.parse(BytesIO(content), verify="ignore").iter_tables())
    if not tables:
        raise DataError(f"{str(path)!r} holds no table; expected a VOTable with one")
    first = next((table for table in tables if len(table.array)), tables[0])
    require_unique([entry.name for entry in first.fields], path)
    tags = {
        entry.name: {"ucd": entry.ucd, "description": entry.description} for entry in first.fields
    }
    return from_astropy(first.to_table(use_names_over_ids=True), tags)


def _require_room(path: Path, size: int, claims: list[bytes]) -> None:
    """Refuse a table that says to have more entries than its file has bytes.

    astropy makes room for as many as are said before it reads the first.
    """
    for claim in claims:
        count = math.prod(int(length) for length in claim.split(b","))
        if count > size:
            raise DataError(
                f"{str(path)!r} is damaged: it says to have {claim.decode()} entries, in "
                f"{size} bytes"
            )


def read_ecsv(path: Path) -> pa.Table:
    """An ECSV table."""
    with _opened(path) as stream:
        content = stream.read()
    _require_room(path, len(content), _SUBTYPE.findall(content))
    return from_astropy(Table.read(BytesIO(content), format="ascii.ecsv"))


def read_sextractor(path: Path) -> pa.Table:
    """A SExtractor catalogue of type ASCII_HEAD."""
    with _opened(path) as stream:
        return from_astropy(Table.read(stream, format="ascii.sextractor"))


def read_cat(path: Path) -> pa.Table:
    """A SExtractor catalogue: FITS_LDAC if it starts as FITS does, else ASCII_HEAD."""
    with _opened(path) as stream:
        head = stream.read(6)
    return read_fits(path) if head == b"SIMPLE" else read_sextractor(path)


def from_astropy(
    table: Table, tags: Mapping[str, Mapping[str, str | None]] | None = None
) -> pa.Table:
    """An astropy table as an Arrow table, units, UCDs and descriptions kept.

    Parameters
    ----------
    table : astropy.table.Table
        A SkyCoord column becomes two, in ICRS degrees; a Time column, ISO text.
    tags : mapping, optional
        Column name to its ``unit``, ``ucd`` and ``description`` where the columns lack them.
    """
    fields: list[pa.Field] = []
    columns: list[pa.Array] = []
    dropped: list[str] = []
    for name, column in _plain_columns(table):
        values = None if column is None else _to_arrow(column)
        if values is None:
            dropped.append(name)
            continue
        known = {
            "unit": getattr(column, "unit", None),
            "description": getattr(column, "description", None),
            "ucd": (getattr(column, "meta", None) or {}).get("ucd"),
        }
        extra = {key: value for key, value in (tags or {}).get(name, {}).items() if value}
        fields.append(tagged(name.strip(), values.type, {**known, **extra}))
        columns.append(values)
    notes = {b"dropped": ", ".join(dropped).encode()} if dropped else None
    return pa.Table.from_arrays(columns, schema=pa.schema(fields, metadata=notes))


def tagged(name: str, kind: pa.DataType, tags: Mapping[str, object]) -> pa.Field:
    """A field with those of ``unit``, ``ucd`` and ``description`` that ``tags`` has."""
    kept = {tag: str(tags[tag]).strip() for tag in ("unit", "ucd", "description") if tags.get(tag)}
    return arrow.field(name, kind, **kept)


def _plain_columns(table: Table) -> Iterable[tuple[str, Any]]:
    """Columns by name, positions and times taken apart; None for what has no plain form."""
    for name in table.colnames:
        column = table[name]
        if isinstance(column, SkyCoord):
            free = not {"ra", "dec"} & {other.lower() for other in table.colnames}
            prefix = "" if free else f"{name}_"
            yield f"{prefix}ra", column.icrs.ra
            yield f"{prefix}dec", column.icrs.dec
        elif isinstance(column, Time):
            yield name, np.ma.asarray(column.isot)
        elif hasattr(column, "dtype"):
            yield name, column
        else:
            yield name, None


def _to_arrow(column: Any) -> pa.Array | None:
    """One astropy column as an Arrow array; None where Arrow has no type for it."""
    data = np.asarray(np.ma.getdata(getattr(column, "value", column)))
    mask = np.ma.getmaskarray(column) if np.ma.isMaskedArray(column) else None
    if data.ndim > 2 or data.dtype.kind not in "biufSUOM":
        return None
    if data.dtype.kind == "S":
        data = np.char.decode(data, "utf-8", "replace")
    if data.dtype.kind in "UO":
        return _text_to_arrow(data, mask)
    if data.dtype.kind == "M":
        data = np.datetime_as_string(data)
    data = np.ascontiguousarray(data, dtype=data.dtype.newbyteorder("="))
    if data.dtype.kind == "f":
        mask = np.isnan(data) if mask is None else mask | np.isnan(data)
    flat = pa.array(data.ravel(), mask=None if mask is None else mask.ravel())
    if data.ndim == 1:
        return flat
    return pa.ListArray.from_arrays(np.arange(len(data) + 1, dtype=np.int32) * data.shape[1], flat)


def _text_to_arrow(data: np.ndarray, mask: np.ndarray | None) -> pa.Array | None:
    cells: list[Any] = data.tolist()
    if mask is not None:
        for row in np.flatnonzero(mask.reshape(len(cells), -1).all(axis=1)):
            cells[row] = None
    try:
        return pa.array([_cell(cell) for cell in cells])
    except (pa.ArrowInvalid, pa.ArrowTypeError):  # objects of several kinds
        return None


def _cell(cell: Any) -> Any:
    if isinstance(cell, bytes):
        cell = cell.decode("utf-8", "replace")
    if isinstance(cell, str):
        return cell.strip() or None
    if isinstance(cell, (list, np.ndarray)):
        return np.ma.asarray(cell).tolist()
    return cell
