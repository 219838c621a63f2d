"""Rows of a VOTable in the BINARY2 serialisation (VOTable 1.4, section 5.4), all columns at once.

Equivalent to the rows that ``astropy.io.votable`` writes one cell at a time; a test holds them
equal.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from skytwin.answers.export_plain import PlainColumn

__all__ = ["binary2_rows"]


def binary2_rows(columns: Sequence[PlainColumn], plain: Sequence[bool]) -> bytes:
    """Rows as they lie in the stream, before base64.

    Parameters
    ----------
    columns : sequence of PlainColumn
        Some rows of every column.
    plain : sequence of bool
        Which columns of text are ASCII throughout; the others are in UTF-16.
    """
    # A bit for each column, set where the value is missing. NaN says so itself, and so does "".
    gone = [column.null & (column.kind in ("bool", "int")) for column in columns]
    flags = np.packbits(np.stack(gone, axis=1), axis=1)
    cells = [_fixed([flags])]
    for fixed, run in itertools.groupby(
        zip(columns, plain, strict=True), key=lambda pair: pair[0].kind not in ("text", "list")
    ):
        if fixed:
            cells.append(_fixed([_big_endian(column) for column, _ in run]))
        else:
            cells += [_variable(column, ascii_only) for column, ascii_only in run]
    return b"".join(itertools.chain.from_iterable(zip(*cells, strict=True)))


def _big_endian(column: PlainColumn) -> np.ndarray:
    if column.kind == "bool":
        return np.where(column.values, np.uint8(ord("T")), np.uint8(ord("F")))
    return column.values.astype(column.values.dtype.newbyteorder(">"))


def _fixed(values: Sequence[np.ndarray]) -> list[bytes]:
    """Cells of neighbouring columns of fixed length, as one for each row."""
    fields = [(f"f{n}", each.dtype, each.shape[1:]) for n, each in enumerate(values)]
    rows = np.empty(len(values[0]), dtype=fields)
    for name, each in zip(rows.dtype.names or (), values, strict=True):
        rows[name] = each
    width = rows.dtype.itemsize
    data = rows.tobytes()
    return [data[at : at + width] for at in range(0, len(data), width)]


def _variable(column: PlainColumn, ascii_only: bool) -> list[bytes]:
    """Cells that begin with their length."""
    if column.kind == "text":
        code, unit = ("ascii", 1) if ascii_only else ("utf-16-be", 2)
        cells = [text.encode(code) for text in column.values]
    else:
        unit = column.element.itemsize
        cells = [_elements(values) for values in column.values]
    return [(len(cell) // unit).to_bytes(4, "big") + cell for cell in cells]


def _elements(values: np.ndarray) -> bytes:
    if values.dtype.kind == "f":
        values = np.where(np.isnan(values), values.dtype.type(np.nan), values)  # one NaN of many
    return values.astype(values.dtype.newbyteorder(">")).tobytes()
