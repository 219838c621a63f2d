"""Delimited and whitespace-separated text -> Arrow, every identifier with all its digits."""

from __future__ import annotations

import csv
import functools
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pcsv

from skytwin.errors import DataError
from skytwin.images.columns import HEADERLESS
from skytwin.images.packed import inflate
from skytwin.images.table_astropy import read_sextractor, require_unique

__all__ = ["read_text", "without_null_type"]

_NULLS = ["", "--", "NaN", "nan", "-nan", "-NaN", "NULL", "null", "NA", "N/A", "n/a", "<NA>"]
_ZERO_FIRST = rb" *[+-]?0\d"
_LEADING_ZERO = re.compile(rb'[,;\t\n"]' + _ZERO_FIRST)
_WORD = re.compile(rb'"[^"]*"|\S+')
_LARGEST_BLOCK = (1 << 31) - 1
#: Beyond this a float64 no longer tells neighbouring integers apart.
_EXACT = float(1 << 53)


def read_text(path: Path, delimiters: str, whitespace: bool = False) -> pa.Table:
    """Delimited text; the delimiter is the first of ``delimiters`` in the first line of data.

    With ``whitespace``, a line without any of them is separated by blanks.
    """
    buffer = _content(path)
    skip, lines = _head(buffer)
    if not lines:
        raise DataError(f"table {str(path)!r} holds no rows")
    if whitespace and re.match(r"#\s*1\s+\S", lines[0]):
        return read_sextractor(path)
    delimiter = next((mark for mark in delimiters if mark in lines[-1]), delimiters[0])
    cells: Callable[[str], list[str]] = functools.partial(_cells, delimiter=delimiter)
    if whitespace and delimiter not in lines[-1]:
        buffer, skip, delimiter, cells = _as_tabs(buffer), 0, "\t", _words
    names = _names(lines, cells)
    skip += names.in_data
    if skip:
        buffer = buffer.slice(_offset_of_line(buffer, skip))
    if buffer.size == 0:
        raise DataError(f"table {str(path)!r} holds no rows")
    require_unique(names.columns, path)
    table = _parse_csv(buffer, names.columns, delimiter)
    return table.replace_schema_metadata({HEADERLESS: b"1"}) if names.headerless else table


@dataclass(frozen=True, kw_only=True)
class _Names:
    """Column names; ``in_data`` where the first line that is no comment holds them."""

    columns: list[str]
    in_data: bool = False
    headerless: bool = False


def _names(lines: list[str], cells: Callable[[str], list[str]]) -> _Names:
    """Column names from the comments and the first other line, ``lines[-1]``."""
    first = cells(lines[-1])
    numbers = [_is_number(cell) for cell in first]
    if len(lines) > 1 and any(numbers):
        above = cells(lines[-2].lstrip("# \t"))
        if len(above) == len(first) and not any(map(_is_number, above)):
            return _Names(columns=_filled(above))
    if all(numbers):
        return _Names(columns=_filled([""] * len(first)), headerless=True)
    return _Names(columns=_filled(first), in_data=True)


def _filled(names: list[str]) -> list[str]:
    return [name or f"col{i}" for i, name in enumerate(names, start=1)]


def _cells(line: str, delimiter: str) -> list[str]:
    return [
        cell.strip()
        for cell in next(csv.reader([line], delimiter=delimiter, skipinitialspace=True))
    ]


def _words(line: str) -> list[str]:
    return [word.decode().strip('"') for word in _WORD.findall(line.encode())]


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _content(path: Path) -> Any:
    """The file's bytes as an Arrow buffer, without a byte-order mark; mapped where plain."""
    if path.suffix.lower() == ".gz":
        buffer = pa.py_buffer(inflate(path))
    else:
        with pa.memory_map(str(path)) as file:
            buffer = file.read_buffer()
    marked = buffer.size >= 3 and buffer.slice(0, 3).to_pybytes() == b"\xef\xbb\xbf"
    return buffer.slice(3) if marked else buffer


def _head(buffer: Any) -> tuple[int, list[str]]:
    """How many lines lead up to the first of data or names, and those that are not blank."""
    found: list[str] = []
    head = buffer.slice(0, min(buffer.size, 1 << 20)).to_pybytes().decode("utf-8", "replace")
    for number, line in enumerate(re.split(r"\r\n|\n|\r", head)):
        if line.strip():
            found.append(line)
            if not line.lstrip().startswith("#"):
                return number, found
    return 0, []


def _offset_of_line(buffer: Any, number: int) -> int:
    offset = 0
    for match in re.finditer(rb"\r\n|\n|\r", buffer):
        number -= 1
        if number == 0:
            offset = match.end()
            break
    return offset or buffer.size


def _parse_csv(buffer: Any, names: list[str], delimiter: str) -> pa.Table:
    # One block, because Arrow settles a column's type on the first block alone.
    read = {"column_names": names, "block_size": min(buffer.size + 1, _LARGEST_BLOCK)}
    parse = pcsv.ParseOptions(delimiter=delimiter, newlines_in_values=True)

    def parsed(encoding: str = "utf8", **convert: Any) -> pa.Table:
        return pcsv.read_csv(
            pa.BufferReader(buffer),
            read_options=pcsv.ReadOptions(encoding=encoding, **read),
            parse_options=parse,
            convert_options=pcsv.ConvertOptions(
                null_values=_NULLS, strings_can_be_null=True, **convert
            ),
        )

    table, encoding = parsed(), "utf8"
    if any(pa.types.is_binary(entry.type) for entry in table.schema):
        encoding = "latin-1"
        table = parsed(encoding)
    doubtful = [
        entry.name
        for entry in table.schema
        if pa.types.is_temporal(entry.type)
        or (pa.types.is_floating(entry.type) and _may_have_lost_digits(table[entry.name]))
    ]
    if re.match(_ZERO_FIRST, buffer) or _LEADING_ZERO.search(buffer):
        doubtful += [entry.name for entry in table.schema if pa.types.is_integer(entry.type)]
    if doubtful:
        kinds = dict.fromkeys(doubtful, pa.string())
        texts = parsed(encoding, include_columns=doubtful, column_types=kinds)
        for name in doubtful:
            place = table.column_names.index(name)
            table = table.set_column(place, name, _retyped(table[name], texts[name]))
    return without_null_type(table)


def _may_have_lost_digits(values: pa.ChunkedArray) -> bool:
    largest = pc.max(pc.abs(values)).as_py()
    return largest is not None and _EXACT <= largest < 1e30


def _retyped(typed: pa.ChunkedArray, text: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column as its text has it, where the type Arrow inferred would lose some of it."""
    text = pc.utf8_trim_whitespace(text)
    if pa.types.is_temporal(typed.type):
        return text
    if pa.types.is_integer(typed.type):
        return text if pc.any(pc.match_substring_regex(text, r"^[+-]?0\d")).as_py() else typed
    if not pc.all(pc.match_substring_regex(text, r"^\d+$")).as_py():
        return typed
    try:
        return text.cast(pa.uint64())
    except pa.ArrowInvalid:
        return text


def without_null_type(table: pa.Table) -> pa.Table:
    """Columns of nothing but nulls as text: a type that every format can store."""
    for place, entry in enumerate(table.schema):
        if pa.types.is_null(entry.type):
            values = pa.nulls(table.num_rows, pa.string())
            table = table.set_column(place, entry.with_type(pa.string()), values)
    return table


def _as_tabs(buffer: Any) -> Any:
    """Whitespace-separated text as tab-separated, without comments."""
    rows = []
    for line in buffer.to_pybytes().splitlines():
        words = _WORD.findall(line)
        if words and not words[0].startswith(b"#"):
            rows.append(b"\t".join(words))
    return pa.py_buffer(b"\n".join(rows))
