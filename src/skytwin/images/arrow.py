"""Arrow tables with the units and UCDs astronomers expect, to and from astropy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from skytwin.errors import UsageError

if TYPE_CHECKING:
    from astropy.table import Table

__all__ = ["described", "field", "from_any", "taken", "to_astropy"]

_TAGS = ("unit", "ucd", "description")


def field(name: str, kind: pa.DataType, **tags: str) -> pa.Field:
    """An Arrow field carrying ``unit``, ``ucd`` and ``description`` as metadata."""
    return pa.field(name, kind, metadata={k: v for k, v in tags.items() if v} or None)


def described(entry: pa.Field) -> dict[str, str]:
    """The unit, UCD and description of a field, those that are there."""
    metadata = entry.metadata or {}
    return {tag: metadata[tag.encode()].decode() for tag in _TAGS if metadata.get(tag.encode())}


def from_any(table: object) -> pa.Table:
    """An Arrow table from an Arrow, astropy or pandas table or a mapping of columns.

    Raises
    ------
    UsageError
        It is none of these.
    """
    if isinstance(table, pa.Table):
        return table
    if isinstance(table, Mapping):
        return pa.table({str(name): np.asarray(values) for name, values in table.items()})
    # By what they offer, so that neither library has to be imported to be recognised.
    if hasattr(table, "itercols"):
        fields, columns = [], []
        for column in table.itercols():
            values = np.asarray(column)
            mask = np.asarray(column.mask) if hasattr(column, "mask") else None
            native = (
                values.astype(values.dtype.newbyteorder("=")) if values.dtype.byteorder else values
            )
            array = pa.array(native.tolist() if native.dtype.kind in "SU" else native, mask=mask)
            unit = str(column.unit) if getattr(column, "unit", None) else ""
            fields.append(field(column.name, array.type, unit=unit))
            columns.append(array)
        return pa.Table.from_arrays(columns, schema=pa.schema(fields))
    if hasattr(table, "iloc"):
        return pa.Table.from_pandas(table, preserve_index=False)
    raise UsageError(
        f"table of type {type(table).__name__}; expected a pyarrow, astropy or pandas table, or "
        "a dict of columns"
    )


def taken(table: pa.Table, rows: pa.Array) -> pa.Table:
    """Some rows of a table; nothing is copied where they are all of it, in its order."""
    whole = len(rows) == table.num_rows and not rows.null_count
    plain = all(column.num_chunks == 1 for column in table.columns)
    if whole and plain and np.array_equal(rows.to_numpy(), np.arange(len(rows))):
        return table
    return table.take(rows)


def to_astropy(table: pa.Table, meta: Mapping[str, object] | None = None) -> Table:
    """An astropy table with masked columns for nulls, and units, UCDs and descriptions set."""
    # astropy.table is slow to import, and a search that prints text does not need it.
    from astropy.table import Column, MaskedColumn, Table

    result = Table(meta=dict(meta or {}))
    for entry in table.schema:
        values = table[entry.name].combine_chunks()
        tags = described(entry)
        extra = {"ucd": tags["ucd"]} if "ucd" in tags else {}
        data, mask = _masked(values)
        settings = {
            "name": entry.name,
            "unit": tags.get("unit"),
            "description": tags.get("description"),
            "meta": extra,
        }
        column = (
            MaskedColumn(data, mask=mask, **settings) if mask.any() else Column(data, **settings)
        )
        result[entry.name] = column
    return result


def _masked(values: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    mask = values.is_null().to_numpy(zero_copy_only=False)
    kind = values.type
    if pa.types.is_dictionary(kind):
        values, kind = values.dictionary_decode(), kind.value_type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return np.array(values.fill_null("").to_pylist(), dtype=str), mask
    if pa.types.is_boolean(kind):
        return values.fill_null(False).to_numpy(zero_copy_only=False).astype(bool), mask
    if pa.types.is_integer(kind):
        return values.fill_null(0).to_numpy(zero_copy_only=False), mask
    if pa.types.is_floating(kind):
        data = values.to_numpy(zero_copy_only=False)
        # A missing number is NaN in every format; a mask on top would say it twice.
        return data, np.zeros(len(data), dtype=bool)
    return np.array(["" if v is None else str(v) for v in values.to_pylist()], dtype=str), mask
