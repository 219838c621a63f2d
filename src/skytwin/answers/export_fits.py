"""Tables as FITS binary tables.

FITS text is ASCII; other characters are written as UTF-8, as astropy and TOPCAT read and write
them. Trailing blanks of text are lost, as FITS has it.
"""

from __future__ import annotations

import io
import re
import unicodedata
from collections.abc import Iterable, Mapping

import numpy as np
import pyarrow as pa

from skytwin.answers.export_plain import PlainColumn, plain_columns

__all__ = ["fits_bytes"]

_CODES = {
    "bool": "L", "uint8": "B", "int16": "I", "int32": "J", "int64": "K", "float32": "E",
    "float64": "D",
}  # fmt: skip
_CARD = 80
_RESERVED = re.compile(
    r"SIMPLE|XTENSION|BITPIX|NAXIS\d*|EXTEND|[PG]COUNT|TFIELDS|THEAP|END|COMMENT|HISTORY|CONTINUE|"
    r"HIERARCH|LONGSTRN|CHECKSUM|DATASUM|DATE|EXT(NAME|VER|LEVEL)|B(SCALE|ZERO|LANK|UNIT)|"
    r"T(TYPE|FORM|UNIT|NULL|SCAL|ZERO|DISP|DIM|UCD|COMM)\d*|"
)


def fits_bytes(table: pa.Table, meta: Mapping[str, str]) -> bytes:
    """A table as the first extension of a FITS file.

    UCDs are in TUCDn, descriptions in TCOMMn. Missing integers are TNULLn; yes and no with
    missing values are 1, 0 and TNULLn, since readers take the null of FITS's own for no. Each
    entry of ``meta`` is a keyword, its full name in the comment, long values continued over
    cards, characters beyond ASCII and line ends escaped as Python escapes them.
    """
    # Slow to import, and no search needs it.
    from astropy.io import fits

    columns = plain_columns(table)
    names = _unique_names(column.name for column in columns)
    made = []
    for name, column in zip(names, columns, strict=True):
        code, values, null = _storage(column)
        unit = _ascii(column.unit.replace("µ", "u").replace("Å", "Angstrom"))
        made.append(fits.Column(name=name, format=code, array=values, null=null, unit=unit or None))
    hdu = fits.BinTableHDU.from_columns(made)
    header = hdu.header
    for number, column in enumerate(columns, start=1):
        for keyword, value in (("TUCD", column.ucd), ("TCOMM", column.description)):
            if value:
                header[f"{keyword}{number}"] = _ascii(value)
    used: set[str] = set()
    for entry, value in meta.items():
        keyword = _keyword(entry, used)
        used.add(keyword)
        header[keyword] = _card(entry, value, keyword)
    stream = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(stream)
    return stream.getvalue()


def _storage(column: PlainColumn) -> tuple[str, np.ndarray, int | None]:
    """Format code, values and TNULL of a column."""
    values = column.values
    if column.kind == "text":
        encoded = np.array([text.encode("utf-8") for text in values], dtype=bytes)
        return f"{max(1, encoded.dtype.itemsize)}A", encoded, None
    if column.kind == "list":
        code = _CODES[column.element.name]
        return f"Q{code}()", values, None
    if column.kind == "vector":
        return f"{values.shape[1]}{_CODES[values.dtype.name]}", values, None
    if column.kind in ("bool", "int") and column.null.any():
        values, blank = _with_blank(values.astype(np.uint8) if column.kind == "bool" else values,
                                    column.null)  # fmt: skip
        return _CODES[values.dtype.name], values, blank
    return _CODES[values.dtype.name], values, None


def _with_blank(values: np.ndarray, null: np.ndarray) -> tuple[np.ndarray, int]:
    """Integers with a number put in for the missing ones that none of the others has."""
    info = np.iinfo(values.dtype)
    taken = set(np.unique(values[~null]).tolist())
    ends = (info.max, info.min) if info.min == 0 else (info.min, info.max)
    free = next((end for end in ends if end not in taken), None)
    if free is None:
        between = range(info.min, info.max + 1)
        free = next((number for number in between if number not in taken), None)
    if free is None:
        return _with_blank(values.astype(np.int32), null)
    return np.where(null, values.dtype.type(free), values), int(free)


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
