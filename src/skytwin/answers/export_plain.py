r"""Columns of an Arrow table as every table format can hold them.

- Numbers missing in a column of floats are NaN: formats do not tell the two apart.
- Unsigned and 8-bit integers become the next wider signed ones (``uint8`` stays); ``uint64``
  beyond 63 bits becomes text, as dates, times (ISO 8601), binary data (hexadecimal) and nested
  values (JSON) do; decimals become floats.
- A list of numbers stays a list; one with missing elements becomes a list of floats.
- In text, line ends become ``\n``, and characters that no XML may hold become U+FFFD.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from skytwin.images.arrow import described

__all__ = ["PlainColumn", "PlainTable"]

Kind = Literal["bool", "int", "float", "text", "list", "vector"]

_UNPRINTABLE = r"[\x00-\x08\x0b\x0c\x0e-\x1f\x{FFFE}\x{FFFF}]"
_SAFE = 2**53  # integers beyond are not exact as floats
_ROWS_AT_ONCE = 50_000
# Columns that skytwin itself defines, where a table made elsewhere leaves them untagged.
_KNOWN = {
    "id": {"ucd": "meta.id;meta.main"},
    "ra": {"unit": "deg", "ucd": "pos.eq.ra;meta.main"},
    "dec": {"unit": "deg", "ucd": "pos.eq.dec;meta.main"},
}


@dataclass(frozen=True, eq=False, kw_only=True)
class PlainColumn:
    """One column.

    Attributes
    ----------
    name : str
    kind : str
        ``vector`` is a list of one length throughout.
    values : ndarray, shape (N,), or (N, n) of a vector
        ``bool``; ``uint8``, ``int16``, ``int32``, ``int64``; ``float32``, ``float64``; objects
        (str, or ndarray in lists). Where ``null``: False, 0, NaN, ``""``, an empty array.
    null : ndarray of bool, shape (N,)
    unit, ucd, description : str
        Empty where there is none.
    """

    name: str
    kind: Kind
    values: np.ndarray
    null: np.ndarray
    unit: str = ""
    ucd: str = ""
    description: str = ""

    @property
    def element(self) -> np.dtype[Any]:
        """Type of the numbers, those in lists included."""
        if self.kind != "list":
            return self.values.dtype
        return self.values[0].dtype if len(self.values) else np.dtype(np.float64)


class PlainTable:
    """An Arrow table as plain columns, some rows at a time.

    What only the whole of a column tells is settled at once: whether integers need be text, and
    whether lists are of one length. Columns of every part are then of one kind.

    Parameters
    ----------
    table : pyarrow.Table
    """

    def __init__(self, table: pa.Table) -> None:
        self._table = table
        self._forms = [_form(column) for column in table.columns]

    def __len__(self) -> int:
        return len(self._table)

    def parts(self, rows: int | None = None) -> Iterator[list[PlainColumn]]:
        """Every column, in order, of so many rows at a time; one part where there are none."""
        for piece in self._pieces(rows or _ROWS_AT_ONCE):
            yield self._columns(piece)

    def column(self, number: int) -> Iterator[PlainColumn]:
        """One column, some rows at a time."""
        for piece in self._pieces(_ROWS_AT_ONCE):
            yield self._column(piece, number)

    def sample(self) -> list[PlainColumn]:
        """Every column with one row, or none where the table has none."""
        return self._columns(self._table.slice(0, 1))

    def arrow(self, number: int) -> pa.ChunkedArray:
        """A column as it is."""
        return self._table.column(number)

    def _pieces(self, rows: int) -> Iterator[pa.Table]:
        for first in range(0, max(len(self), 1), rows):
            yield self._table.slice(first, rows)

    def _columns(self, table: pa.Table) -> list[PlainColumn]:
        return [self._column(table, number) for number in range(table.num_columns)]

    def _column(self, table: pa.Table, number: int) -> PlainColumn:
        entry, form = table.schema.field(number), self._forms[number]
        values, null = _plain(table.column(number).combine_chunks(), form)
        tags = described(entry)
        known = _KNOWN.get(entry.name, {})
        fits = form.kind == ("text" if entry.name == "id" else "float")
        if known and fits and "ucd" not in tags and tags.get("unit") in (None, known.get("unit")):
            tags = {**known, **tags}
        name = _clean_word(entry.name)
        return PlainColumn(name=name, kind=form.kind, values=values, null=null, **tags)


@dataclass(frozen=True, kw_only=True)
class _Form:
    kind: Kind
    floats: bool = False  # whether the integers of lists become floats


def _form(values: pa.ChunkedArray) -> _Form:
    kind = values.type
    if pa.types.is_dictionary(kind):
        found = [chunk.dictionary for chunk in values.chunks]
        return _form(pa.chunked_array(found, kind.value_type))
    if pa.types.is_boolean(kind):
        return _Form(kind="bool")
    if pa.types.is_integer(kind):
        return _Form(kind="text" if _beyond_signed(values) else "int")
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return _Form(kind="float")
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return _form_of_lists(values)
    return _Form(kind="text")


def _form_of_lists(values: pa.ChunkedArray) -> _Form:
    flat = pc.list_flatten(values)
    whole = pa.types.is_integer(flat.type) or pa.types.is_boolean(flat.type)
    if not (whole or pa.types.is_floating(flat.type)):
        return _Form(kind="text")
    floats = whole and flat.null_count > 0
    if floats and pa.types.is_integer(flat.type):
        largest = pc.max(pc.abs(flat)).as_py()
        if largest is not None and largest > _SAFE:
            return _Form(kind="text")
    if not floats and _beyond_signed(flat):
        return _Form(kind="text")
    lengths = pc.min_max(pc.list_value_length(values)).as_py()
    # Of one element, FITS and VOTable would make a plain number.
    same = not values.null_count and lengths["min"] == lengths["max"] and (lengths["min"] or 0) > 1
    return _Form(kind="vector" if same else "list", floats=floats)


def _beyond_signed(values: pa.ChunkedArray) -> bool:
    """Whether there are integers that 63 bits do not hold."""
    largest = pc.max(values).as_py() if pa.types.is_uint64(values.type) else None
    return largest is not None and largest > np.iinfo(np.int64).max


def _plain(values: pa.Array, form: _Form) -> tuple[np.ndarray, np.ndarray]:
    """Values and nulls of a part of a column."""
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    null = values.is_null().to_numpy(zero_copy_only=False)
    if form.kind == "bool":
        return values.fill_null(False).to_numpy(zero_copy_only=False).astype(bool), null
    if form.kind == "int":
        return _numbers(values.fill_null(0)), null
    if form.kind == "float":
        floats = _numbers(values)
        return floats, np.isnan(floats)
    if form.kind == "text":
        return _text(_as_text(values)), null
    lists = _lists(values, form)
    return (np.stack(list(lists)) if form.kind == "vector" else lists), null


def _numbers(values: pa.Array) -> np.ndarray:
    """Integers without nulls, floats or decimals, in a type that all formats have."""
    if pa.types.is_decimal(values.type):
        values = values.cast(pa.float64())
    numbers = values.to_numpy(zero_copy_only=False)
    wider = {"int8": np.int16, "uint16": np.int32, "uint32": np.int64, "uint64": np.int64,
             "float16": np.float32}  # fmt: skip
    result: np.ndarray = numbers.astype(wider.get(numbers.dtype.name, numbers.dtype), copy=False)
    return result


def _lists(values: pa.Array, form: _Form) -> np.ndarray:
    """Lists of numbers as an object array of arrays."""
    flat = values.flatten()
    if pa.types.is_boolean(flat.type):
        flat = flat.cast(pa.uint8())
    numbers = _numbers(flat.cast(pa.float64()) if form.floats else flat)
    lengths = pc.list_value_length(values).fill_null(0).to_numpy(zero_copy_only=False)
    ends = np.cumsum(lengths)
    result = np.empty(len(values), dtype=object)
    for row, (end, length) in enumerate(zip(ends, lengths, strict=True)):
        result[row] = numbers[end - length : end]
    return result


def _as_text(values: pa.Array) -> pa.Array:
    kind = values.type
    if pa.types.is_timestamp(kind):
        return pc.replace_substring(values.cast(pa.string()), " ", "T", max_replacements=1)
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return pa.array([None if v is None else v.hex() for v in values.to_pylist()], pa.string())
    try:
        return values.cast(pa.string())
    except pa.ArrowNotImplementedError:
        cells = [None if v is None else json.dumps(v, default=str) for v in values.to_pylist()]
        return pa.array(cells, pa.string())


def _text(values: pa.Array) -> np.ndarray:
    """Text as an object array, cleaned, nulls empty."""
    clean = pc.replace_substring_regex(values.cast(pa.string()), r"\r\n?", "\n")
    clean = pc.replace_substring_regex(clean, _UNPRINTABLE, "�")
    result: np.ndarray = clean.fill_null("").to_numpy(zero_copy_only=False)
    return result


def _clean_word(name: str) -> str:
    return " ".join(str(_text(pa.array([name]))[0]).split())
