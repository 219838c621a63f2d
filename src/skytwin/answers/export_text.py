"""Tables as CSV and ECSV."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import pyarrow as pa

from skytwin.answers.export_plain import PlainColumn, plain_columns

__all__ = ["csv_bytes", "csv_parts", "ecsv_bytes"]

_ROWS_AT_ONCE = 50_000
_TO_QUOTE = re.compile(r'[",\r\n]|^\s|\s$')


def csv_bytes(table: pa.Table) -> bytes:
    """A table as RFC 4180 has it: UTF-8, a line of names, CRLF, quotes where they are needed.

    Missing values are empty, empty text is ``""``, lists are JSON.
    """
    return b"".join(csv_parts(table))


def csv_parts(table: pa.Table) -> Iterator[bytes]:
    """What `csv_bytes` gives, some rows at a time."""
    names = [column.name for column in plain_columns(table.slice(0, 0))]
    yield _line(map(_quoted, names)).encode("utf-8")
    # What a list holds is settled by all of its column.
    whole = any(pa.types.is_nested(kind) for kind in table.schema.types)
    step = max(len(table), 1) if whole else _ROWS_AT_ONCE
    for first in range(0, len(table), step):
        cells = [_cells(column) for column in plain_columns(table.slice(first, step))]
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


def ecsv_bytes(table: pa.Table, meta: Mapping[str, str]) -> bytes:
    """A table as ECSV 1.0 by astropy, which strips blanks at the ends of text.

    Missing and empty text are one.
    """
    # Slow to import, and no search needs it.
    from astropy.table import Column, MaskedColumn, Table

    result = Table(meta=dict(meta))
    for column in plain_columns(table):
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
    return stream.getvalue().encode("utf-8")
