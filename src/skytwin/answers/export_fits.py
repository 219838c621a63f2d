"""Tables as FITS binary tables.

FITS text is ASCII; other characters are written as UTF-8, as astropy and TOPCAT read and write
them. Trailing blanks of text are lost, as FITS has it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from skytwin.answers.export_plain import PlainColumn, PlainTable

__all__ = ["fits_parts"]

_CODES = {
    "bool": "L", "uint8": "B", "int16": "I", "int32": "J", "int64": "K", "float32": "E",
    "float64": "D",
}  # fmt: skip
_CARD = 80
_BLOCK = 2880
_RESERVED = re.compile(
    r"SIMPLE|XTENSION|BITPIX|NAXIS\d*|EXTEND|[PG]COUNT|TFIELDS|THEAP|END|COMMENT|HISTORY|CONTINUE|"
    r"HIERARCH|LONGSTRN|CHECKSUM|DATASUM|DATE|EXT(NAME|VER|LEVEL)|B(SCALE|ZERO|LANK|UNIT)|"
    r"T(TYPE|FORM|UNIT|NULL|SCAL|ZERO|DISP|DIM|UCD|COMM)\d*|"
)


def fits_parts(table: pa.Table, meta: Mapping[str, str]) -> Iterator[bytes]:
    """A table as the first extension of a FITS file, some rows at a time.

    UCDs are in TUCDn, descriptions in TCOMMn. Missing integers are TNULLn; yes and no with
    missing values are 1, 0 and TNULLn, since readers take the null of FITS's own for no. Each
    entry of ``meta`` is a keyword, its full name in the comment, long values continued over
    cards, characters beyond ASCII and line ends escaped as Python escapes them.

    The bytes are those of ``astropy.io.fits``, which writes the headers.
    """
    plain = PlainTable(table)
    stores = [_store(plain, number, column) for number, column in enumerate(plain.sample())]
    yield _headers(plain, stores, meta)
    written = 0
    starts = np.cumsum([0, *(store.heap for store in stores)])[:-1]
    for columns in plain.parts():
        made, starts = _rows(columns, stores, starts)
        written += len(made)
        yield made
    for number, store in enumerate(stores):
        if store.heap:
            for column in plain.column(number):
                made = _swapped(np.concatenate(column.values)).tobytes()
                written += len(made)
                yield made
    yield bytes(-written % _BLOCK)


@dataclass(frozen=True, kw_only=True)
class _Store:
    """How a column is stored: its format, that of a cell, TNULL, and bytes of all its lists."""

    code: str
    cell: Any
    null: int | None = None
    heap: int = 0


def _store(plain: PlainTable, number: int, column: PlainColumn) -> _Store:
    if column.kind == "text":
        longest = max(
            (len(text.encode("utf-8")) for part in plain.column(number) for text in part.values),
            default=0,
        )
        width = max(1, longest)
        return _Store(code=f"{width}A", cell=f"S{width}")
    if column.kind == "list":
        code, lengths = _CODES[column.element.name], pc.list_value_length(plain.arrow(number))
        most, total = pc.max(lengths).as_py() or 0, pc.sum(lengths).as_py() or 0
        heap = total * column.element.itemsize
        return _Store(code=f"Q{code}({most})", cell=(">i8", (2,)), heap=heap)
    if column.kind == "vector":
        width, kind = column.values.shape[1], column.values.dtype
        return _Store(code=f"{width}{_CODES[kind.name]}", cell=(kind.newbyteorder(">"), (width,)))
    kind, null = column.values.dtype, None
    if column.kind in ("bool", "int") and plain.arrow(number).null_count:
        kind = np.dtype(np.uint8) if column.kind == "bool" else kind
        kind, null = _blank(plain.arrow(number), kind)
    cell = np.dtype(np.uint8) if kind.name == "bool" else kind.newbyteorder(">")
    return _Store(code=_CODES[kind.name], null=null, cell=cell)


def _blank(values: pa.ChunkedArray, kind: np.dtype[Any]) -> tuple[np.dtype[Any], int]:
    """A number that stands for the missing ones and that none of the others has, and its type."""
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    ends = pc.min_max(values.cast(pa.uint8()) if pa.types.is_boolean(values.type) else values)
    taken: set[int | None] = {ends["min"].as_py(), ends["max"].as_py()}
    info = np.iinfo(kind)
    first, last = (info.max, info.min) if info.min == 0 else (info.min, info.max)
    if first in taken and last in taken:
        taken = set(pc.unique(values).to_pylist())
        between = range(info.min, info.max + 1)
        free = next((number for number in between if number not in taken), None)
        return (np.dtype(np.int32), np.iinfo(np.int32).min) if free is None else (kind, int(free))
    return kind, int(last if first in taken else first)


def _headers(plain: PlainTable, stores: list[_Store], meta: Mapping[str, str]) -> bytes:
    # Slow to import, and no search needs it.
    from astropy.io import fits

    columns = plain.sample()
    names = _unique_names(column.name for column in columns)
    made = []
    for name, column, store in zip(names, columns, stores, strict=True):
        unit = _ascii(column.unit.replace("µ", "u").replace("Å", "Angstrom"))
        made.append(fits.Column(name=name, format=store.code, null=store.null, unit=unit or None))
    hdu = fits.BinTableHDU.from_columns(made, nrows=0)
    header = hdu.header
    header["NAXIS2"] = len(plain)
    header["PCOUNT"] = sum(store.heap for store in stores)
    for number, (column, store) in enumerate(zip(columns, stores, strict=True), start=1):
        header[f"TFORM{number}"] = store.code
        for keyword, value in (("TUCD", column.ucd), ("TCOMM", column.description)):
            if value:
                header[f"{keyword}{number}"] = _ascii(value)
    used: set[str] = set()
    for entry, value in meta.items():
        keyword = _keyword(entry, used)
        used.add(keyword)
        header[keyword] = _card(entry, value, keyword)
    both: str = fits.PrimaryHDU().header.tostring() + header.tostring()
    return both.encode("ascii")


def _rows(
    columns: list[PlainColumn], stores: list[_Store], starts: np.ndarray
) -> tuple[bytes, np.ndarray]:
    """Rows as they lie in the file, and where in the heap the lists of the next rows begin."""
    fields = [(f"f{number}", store.cell) for number, store in enumerate(stores)]
    flat = [(name, *cell) if isinstance(cell, tuple) else (name, cell) for name, cell in fields]
    rows = np.empty(len(columns[0].values) if columns else 0, dtype=flat)
    starts = starts.copy()
    for number, (column, store) in enumerate(zip(columns, stores, strict=True)):
        cells = rows[f"f{number}"]
        if column.kind == "text":
            cells[:] = [text.encode("utf-8") for text in column.values]
        elif column.kind == "list":
            lengths = np.array([len(part) for part in column.values], dtype=np.int64)
            ends = starts[number] + np.cumsum(lengths) * column.element.itemsize
            cells[:, 0] = lengths
            cells[:, 1] = ends - lengths * column.element.itemsize
            starts[number] = ends[-1] if len(ends) else starts[number]
        elif column.kind == "bool" and store.null is None:
            cells[:] = np.where(column.values, ord("T"), ord("F"))
        else:
            cells[:] = column.values
            if store.null is not None:
                cells[column.null] = store.null
    return rows.tobytes(), starts


def _swapped(values: np.ndarray) -> np.ndarray:
    return values.astype(values.dtype.newbyteorder(">"))


def _ascii(text: str) -> str:
    plain = unicodedata.normalize("NFKD", text.replace("\n", " "))
    return plain.encode("ascii", "ignore").decode("ascii")


def _unique_names(names: Iterable[str]) -> list[str]:
    """Column names in ASCII, unique without regard to case, as FITS compares them."""
    result: list[str] = []
    for name in names:
        plain = _ascii(name).strip() or "column"
        free, number = plain, 2
        while free.lower() in {other.lower() for other in result}:
            free, number = f"{plain}_{number}", number + 1
        result.append(free)
    return result


def _card(name: str, value: str, keyword: str) -> tuple[str, str]:
    """Value and comment: the full name, where the keyword is another and there is room."""
    text = value.encode("unicode_escape").decode("ascii")
    comment = "" if keyword.lower() == name.lower() else _ascii(name)[:40]
    quoted = len(text.replace("'", "''")) + 2
    fits_with_comment = 10 + quoted + 3 + len(comment) <= _CARD
    return text, comment if fits_with_comment or 10 + quoted > _CARD else ""


def _keyword(name: str, used: set[str]) -> str:
    plain = re.sub("[^A-Z0-9_-]", "_", _ascii(name).upper())[:8]
    free, number = plain, 2
    while free in used or _RESERVED.fullmatch(free):
        free, number = f"{plain[: 8 - len(str(number)) - 1]}_{number}", number + 1
    return free
