"""Tables as VOTable 1.4 (IVOA recommendation, 2019)."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from skytwin.answers.export_plain import PlainColumn, plain_columns
from skytwin.images.quiet import quiet

__all__ = ["votable_bytes"]

_DATATYPES = {
    "bool": "boolean", "uint8": "unsignedByte", "int16": "short", "int32": "int", "int64": "long",
    "float32": "float", "float64": "double",
}  # fmt: skip
_READABLE_ROWS = 10_000
_FRAME = "ICRS"


def votable_bytes(
    table: pa.Table,
    meta: Mapping[str, str],
    *,
    rows: bool = True,
    readable_rows: int = _READABLE_ROWS,
) -> bytes:
    """A table as a VOTable document.

    Entries of ``meta`` are INFO elements; the columns ``ra`` and ``dec`` refer to the ICRS.
    Text beyond ASCII is ``unicodeChar``. Missing and empty text are one.

    Parameters
    ----------
    table : pyarrow.Table
    meta : mapping of str to str
    rows : bool
        Whether to write the rows, or only what the columns are.
    readable_rows : int
        As many rows are written as text (TABLEDATA), more as BINARY2.
    """
    # Slow to import, and no search needs it.
    from astropy.io.votable import tree

    columns = plain_columns(table)
    with quiet():  # of odd units and UCDs, which are the catalogue's own and stay
        document = tree.VOTableFile(version="1.4")
        resource = tree.Resource(type="results")
        document.resources.append(resource)
        for name, value in meta.items():
            info = tree.Info(name=name, value=value)
            info.ID = None  # a column may want it
            resource.infos.append(info)
        element = tree.TableElement(document)
        resource.tables.append(element)
        layout = "tabledata" if len(table) <= readable_rows else "binary2"
        for column in columns:
            element.fields.append(_field(tree, document, column, bounded=layout == "tabledata"))
        element.create_arrays(len(table) if rows else 0)
        _refer_to_frame(tree, resource, element.fields, columns)
        if rows:
            for field, column in zip(element.fields, columns, strict=True):
                _fill(element.array, field.ID, column)
        stream = io.BytesIO()
        document.to_xml(stream, tabledata_format=layout)
    return stream.getvalue()


def _field(tree: Any, document: Any, column: PlainColumn, *, bounded: bool) -> Any:
    settings: dict[str, str] = {}
    if column.kind == "text":
        plain = all(text.isascii() for text in column.values)
        # The longest text in units of UTF-16, of which some characters take two: readers then
        # need not guess. In BINARY2 older astropy takes the bound for a fixed length.
        longest = max((len(text.encode("utf-16-le")) // 2 for text in column.values), default=0)
        settings["datatype"] = "char" if plain else "unicodeChar"
        settings["arraysize"] = f"{max(longest, 1)}*" if bounded else "*"
    else:
        settings["datatype"] = _DATATYPES[column.element.name]
        if column.kind == "list":
            settings["arraysize"] = "*"
        elif column.kind == "vector":
            settings["arraysize"] = str(column.values.shape[1])
    for tag in ("unit", "ucd"):
        if value := getattr(column, tag):
            settings[tag] = value
    field = tree.Field(document, name=column.name, **settings)
    field.description = column.description or None
    return field


def _refer_to_frame(tree: Any, resource: Any, fields: Any, columns: list[PlainColumn]) -> None:
    """Say that the canonical positions are in the ICRS."""
    frame = _FRAME
    while any(frame == field.ID for field in fields):
        frame += "_"
    positions = [
        field
        for field, column in zip(fields, columns, strict=True)
        if column.name in ("ra", "dec") and column.ucd.startswith("pos.eq.")
    ]
    for field in positions:
        field.ref = frame
    if positions:
        resource.coordinate_systems.append(tree.CooSys(ID=frame, system=_FRAME))


def _fill(array: Any, name: str, column: PlainColumn) -> None:
    if column.kind == "list":
        for row, values in enumerate(column.values):
            array.data[name][row] = np.ma.array(values, mask=np.isnan(values))
    else:
        array[name] = column.values
    if column.kind in ("bool", "int"):
        array.mask[name] = column.null
