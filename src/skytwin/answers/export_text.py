"""Tables as CSV and ECSV."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import pyarrow as pa

from skytwin.answers.export_plain import PlainColumn, PlainTable

__all__ = ["csv_bytes", "csv_parts", "ecsv_parts"]

_ROWS_OF_ECSV = 10_000  # astropy keeps a Python object for every cell
_TO_QUOTE = re.compile(r'[",\r\n]|^\s|\s$')


def csv_bytes(table: pa.Table) -> bytes:
    """A table as RFC 4180 has it: UTF-8, a line of names, CRLF, quotes where they are needed.

    Missing values are empty, empty text is ``""``, lists are JSON.
    """
    return b"".join(csv_parts(table))


def csv_parts(table: pa.Table) -> Iterator[bytes]:
    """What `csv_bytes` gives, some rows at a time."""
    plain = PlainTable(table)
    yield _line(_quoted(column.name) for column in plain.sample()).encode("utf-8")
    for columns in plain.parts():
        cells = [_cells(column) for column in columns]
        yield "".join(_line(row) for row in zip(*cells, strict=True)).encode("utf-8")


def _line(cells: Iterable[str]) -> str:
    # A line of one missing value would be no line at all.
    return (",".join(cells) or '""') + "\r\n"


def _cells(column: PlainColumn) -> list[str]:
    if column.kind == "text":
        cells = [_quoted(str(value)) for value in column.values]
    elif column.kind == "bool":
        cells = ["true" if value else "false" for value in column.values]
    elif column.kind in ("list", "vector"):
        cells = [_quoted(_json(value)) for value in column.values]
    else:
        cells = column.values.astype(str).tolist()
    return ["" if gone else cell for cell, gone in zip(cells, column.null, strict=True)]


def _quoted(text: str) -> str:
    if text and not _TO_QUOTE.search(text):
        return text
    return '"' + text.replace('"', '""') + '"'


def _json(values: np.ndarray) -> str:
    return json.dumps([None if value != value else value for value in values.tolist()])


def ecsv_parts(table: pa.Table, meta: Mapping[str, str]) -> Iterator[bytes]:
    """A table as ECSV 1.0 by astropy, which strips blanks at the ends of text, some rows at a time.

    Missing and empty text are one.
    """
    for number, columns in enumerate(PlainTable(table).parts(_ROWS_OF_ECSV)):
        text = _ecsv(columns, meta)
        if number:
            lines = text.splitlines(keepends=True)
            header = next(n for n, line in enumerate(lines) if not line.startswith("# "))
            text = "".join(lines[header + 1 :])
        yield text.encode("utf-8")


def _ecsv(columns: list[PlainColumn], meta: Mapping[str, str]) -> str:
    # Slow to import, and no search needs it.
    from astropy.table import Column, MaskedColumn, Table

    result = Table(meta=dict(meta))
    for column in columns:
        tags = {
            "name": column.name,
            "unit": column.unit or None,
            "description": column.description or None,
            "meta": {"ucd": column.ucd} if column.ucd else None,
        }
        values = column.values
        if column.kind == "text":
            values = values.astype(str) if len(values) else np.zeros(0, dtype="U1")
        if column.null.any() and column.kind in ("bool", "int", "text"):
            result.add_column(MaskedColumn(values, mask=column.null, **tags))
        else:
            result.add_column(Column(values, **tags))
    stream = io.StringIO()
    result.write(stream, format="ascii.ecsv")
    return stream.getvalue()
