"""Catalogue rows as JSON: no number that a browser would round, no NaN."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from skytwin.embeddings.table import Embeddings
from skytwin.errors import UsageError, unknown

__all__ = ["column_facts", "default_columns", "plain", "rows_of", "sorted_by"]

#: What a JavaScript number still holds exactly.
_SAFE = 2**53
_LEAD = ("id", "ra", "dec")
_SHOWN = 12
_LONGEST = 400


def plain(value: Any) -> Any:
    """A value of a catalogue as JSON has it; what JSON lacks becomes text or null."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if abs(value) < _SAFE else str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, bytes):
        value = value.decode("latin-1")
    if isinstance(value, (dt.date, dt.datetime)):
        value = value.isoformat()
    return str(value)[:_LONGEST]


def default_columns(embeddings: Embeddings) -> tuple[str, ...]:
    """The first columns beside identifier and position."""
    names = [name for name in embeddings.catalog.column_names if name not in _LEAD]
    return tuple(names[:_SHOWN])


def rows_of(
    embeddings: Embeddings, rows: Sequence[int] | np.ndarray, columns: Sequence[str]
) -> list[dict[str, Any]]:
    """Identifier, position, and some columns of some rows.

    Raises
    ------
    UnknownName
        No such column.
    """
    catalog = embeddings.catalog
    for name in columns:
        if name not in catalog.column_names:
            raise unknown("column", name, catalog.column_names)
    wanted = [name for name in dict.fromkeys(columns) if name != "id"]
    part = catalog.select(["id", *wanted]).take(pa.array(np.asarray(rows, dtype=np.int64)))
    found = []
    for number, record in enumerate(part.to_pylist()):
        position = _position(embeddings, int(rows[number]))
        found.append(
            {
                "row": int(rows[number]),
                "id": str(record.pop("id")),
                "ra": position[0],
                "dec": position[1],
                "columns": {name: plain(record[name]) for name in wanted},
            }
        )
    return found


def _position(embeddings: Embeddings, row: int) -> tuple[float | None, float | None]:
    if embeddings.positions is None:
        return None, None
    ra, dec = (plain(float(value)) for value in embeddings.positions[row])
    return ra, dec


def column_facts(embeddings: Embeddings) -> list[dict[str, Any]]:
    """Name, kind, unit and description of every column."""
    found = []
    for entry in embeddings.catalog.schema:
        about = {k.decode(): v.decode() for k, v in (entry.metadata or {}).items()}
        found.append(
            {
                "name": entry.name,
                "kind": "number" if _numeric(entry.type) else "text",
                "unit": about.get("unit") or None,
                "description": about.get("description") or None,
            }
        )
    return found


def sorted_by(column: pa.ChunkedArray, found: np.ndarray, descending: bool) -> np.ndarray:
    """Rows in the order of a column, those without a value last; equal ones by row."""
    kind = column.type
    if pa.types.is_nested(kind) or pa.types.is_binary(kind):
        raise UsageError(f"a column of type {kind} has no order; sort by another")
    table = pa.table({"value": column.take(pa.array(found)), "row": found})
    if pa.types.is_floating(column.type):  # NaN is no value
        table = table.set_column(0, "value", pc.if_else(pc.is_nan(table["value"]), None, table[0]))
    way = "descending" if descending else "ascending"
    order = pc.sort_indices(table, sort_keys=[("value", way), ("row", "ascending")])
    return np.asarray(found[order.to_numpy()])


def _numeric(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def column_values(
    embeddings: Embeddings, name: str, most: int = 15
) -> tuple[np.ndarray, tuple[str, ...] | None]:
    """A column for colours, (N,) float32, NaN where empty: numbers, or the number of a class.

    The classes are the most frequent ones; the others come together as the last.
    """
    column = embeddings.column(name)
    if _numeric(column.type):
        values = np.asarray(
            pc.cast(column, pa.float64(), safe=False).to_numpy(zero_copy_only=False)
        )
        return values.astype(np.float32), None
    texts = column.cast(pa.string()).combine_chunks()
    counts = sorted(
        ((int(c["counts"]), str(c["values"])) for c in _counted(texts)),
        key=lambda pair: (-pair[0], pair[1]),
    )
    names = [text for _, text in counts[:most]]
    others = len(counts) > most
    codes = pc.index_in(texts, value_set=pa.array(names, pa.string()))
    found = codes.to_numpy(zero_copy_only=False).astype(np.float32)
    if others:
        rest = np.isnan(found) & np.asarray(texts.is_valid())
        found[rest] = len(names)
        names.append(f"{len(counts) - most} others")
    return found, tuple(names)


def _counted(texts: pa.Array) -> list[dict[str, Any]]:
    return [one for one in texts.value_counts().to_pylist() if one["values"] is not None]
