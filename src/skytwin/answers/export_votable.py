"""Tables as VOTable 1.4 (IVOA recommendation, 2019)."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from skytwin.answers.export_binary2 import binary2_rows
from skytwin.answers.export_plain import PlainColumn, PlainTable
from skytwin.images.quiet import quiet

__all__ = ["votable_bytes", "votable_parts"]

_DATATYPES = {
    "bool": "boolean", "uint8": "unsignedByte", "int16": "short", "int32": "int", "int64": "long",
    "float32": "float", "float64": "double",
}  # fmt: skip
_READABLE_ROWS = 10_000
_FRAME, _CLOCK = "ICRS", "UTC"
_OPEN = b'   <DATA>\n    <BINARY2>\n     <STREAM encoding="base64">\n'
_CLOSE = b"     </STREAM>\n    </BINARY2>\n   </DATA>\n"
# What the schema lets a UCD be, and DALI 1.1 a time in UTC.
_UCD = re.compile(r"[A-Za-z0-9_.:;\-]*")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")


@dataclass(frozen=True, kw_only=True)
class _Text:
    """What all rows of a column of text tell: ``longest`` in units of UTF-16; UTC ``times``."""

    ascii: bool = True
    longest: int = 0
    times: bool = False


def votable_bytes(
    table: pa.Table,
    meta: Mapping[str, str],
    *,
    rows: bool = True,
    readable_rows: int = _READABLE_ROWS,
) -> bytes:
    """What `votable_parts` gives, as one.

    Parameters
    ----------
    table : pyarrow.Table
    meta : mapping of str to str
    rows : bool
        Whether to write the rows, or only what the columns are.
    readable_rows : int
        As many rows are written as text (TABLEDATA), more as BINARY2.
    """
    if not rows:
        plain = PlainTable(table)
        readable = len(plain) <= readable_rows
        return _document(plain, _texts(plain), meta, [], readable=readable)
    return b"".join(votable_parts(table, meta, readable_rows=readable_rows))


def votable_parts(
    table: pa.Table, meta: Mapping[str, str], *, readable_rows: int = _READABLE_ROWS
) -> Iterator[bytes]:
    """A table as a VOTable document, some rows at a time.

    Entries of ``meta`` are INFO elements. The columns ``ra`` and ``dec`` refer to the ICRS by
    COOSYS, and by the utypes of a group (Demleitner et al. 2010, *Referencing STC in VOTable*,
    IVOA note 2.0); times in UTC refer to a TIMESYS. Text beyond ASCII is ``unicodeChar``.
    Missing and empty text are one. A UCD that no VOTable may hold goes into the description.

    The bytes are those of ``astropy.io.votable``, which writes all but the rows of BINARY2.

    Parameters
    ----------
    table : pyarrow.Table
    meta : mapping of str to str
    readable_rows : int
        As many rows are written as text (TABLEDATA) and in one part, more as BINARY2.
    """
    plain = PlainTable(table)
    texts = _texts(plain)
    if len(plain) <= readable_rows:
        (columns,) = plain.parts(max(len(plain), 1))
        yield _document(plain, texts, meta, columns, readable=True)
        return
    document = _document(plain, texts, meta, [], readable=False)
    before, end, after = document.rpartition(b"  </TABLE>\n")
    yield before + _OPEN
    left = b""
    for columns in plain.parts():
        # Three bytes are four characters: what is left over waits for the next rows.
        left += binary2_rows(columns, [text.ascii for text in texts])
        whole = len(left) - len(left) % 3
        yield base64.b64encode(left[:whole])
        left = left[whole:]
    yield base64.b64encode(left) + _CLOSE + end + after


def _document(
    plain: PlainTable,
    texts: list[_Text],
    meta: Mapping[str, str],
    rows: list[PlainColumn],
    *,
    readable: bool,
) -> bytes:
    """The document with these rows, or with none."""
    # Slow to import, and no search needs it.
    from astropy.io.votable import tree

    columns = plain.sample()
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
        for column, text in zip(columns, texts, strict=True):
            element.fields.append(_field(tree, document, column, text, bounded=readable))
        element.create_arrays(len(rows[0].values) if rows else 0)
        _refer_to_frame(tree, resource, element, columns)
        _refer_to_clock(tree, resource, element.fields, columns, texts)
        for field, column in zip(element.fields, rows, strict=False):
            _fill(element.array, field.ID, column)
        stream = io.BytesIO()
        document.to_xml(
            stream,
            tabledata_format="tabledata" if readable else "binary2",
            # astropy's quicker writer puts a byte behind its memory (astropy/astropy#20419).
            _debug_python_based_parser=True,
        )
    return stream.getvalue()


def _texts(plain: PlainTable) -> list[_Text]:
    """What all rows tell, column by column."""
    return [
        _text(plain.column(number)) if column.kind == "text" else _Text()
        for number, column in enumerate(plain.sample())
    ]


def _text(parts: Iterator[PlainColumn]) -> _Text:
    plain, longest, times = True, 0, True
    for part in parts:
        plain = plain and all(text.isascii() for text in part.values)
        units = (len(text.encode("utf-16-le")) // 2 for text in part.values)
        longest = max(longest, max(units, default=0))
        times = times and len(part.values) > 0 and all(map(_TIME.fullmatch, part.values))
    return _Text(ascii=plain, longest=longest, times=times)


def _field(tree: Any, document: Any, column: PlainColumn, text: _Text, *, bounded: bool) -> Any:
    settings: dict[str, str] = {}
    if column.kind == "text":
        # The longest text in units of UTF-16, of which some characters take two: readers then
        # need not guess. In BINARY2 older astropy takes the bound for a fixed length.
        settings["datatype"] = "char" if text.ascii else "unicodeChar"
        settings["arraysize"] = f"{max(text.longest, 1)}*" if bounded else "*"
    else:
        settings["datatype"] = _DATATYPES[column.element.name]
        if column.kind == "list":
            settings["arraysize"] = "*"
        elif column.kind == "vector":
            settings["arraysize"] = str(column.values.shape[1])
    description = column.description
    if column.unit:
        settings["unit"] = column.unit
    if _UCD.fullmatch(column.ucd):
        settings |= {"ucd": column.ucd} if column.ucd else {}
    else:
        description = f"{description} (UCD: {column.ucd})".strip()
    field = tree.Field(document, name=column.name, **settings)
    field.description = description or None
    return field


def _refer_to_frame(tree: Any, resource: Any, element: Any, columns: list[PlainColumn]) -> None:
    """Say that the canonical positions are in the ICRS."""
    fields = element.fields
    frame = _free(_FRAME, fields)
    positions = {
        column.name: field
        for field, column in zip(fields, columns, strict=True)
        # A cone search has to give the old UCDs, such as POS_EQ_RA_MAIN.
        if column.name in ("ra", "dec") and column.ucd.lower().startswith(("pos.eq.", "pos_eq_"))
    }
    if not positions:
        return
    for field in positions.values():
        field.ref = frame
    resource.coordinate_systems.append(tree.CooSys(ID=frame, system=_FRAME))
    if len(positions) < 2:
        return
    group = tree.Group(element, utype="stc:CatalogEntryLocation")
    group.entries.append(
        tree.Param(
            element,
            name="CoordRefFrame",
            ID=_free("CoordRefFrame", fields),
            datatype="char",
            arraysize=str(len(_FRAME)),
            value=_FRAME,
            utype="stc:AstroCoordSystem.SpaceFrame.CoordRefFrame",
        )
    )
    for number, name in enumerate(("ra", "dec"), start=1):
        utype = f"stc:AstroCoords.Position2D.Value2.C{number}"
        # astropy lets a reference have a utype where it is told that the document may.
        told = {"version_1_2_or_later": True}
        group.entries.append(
            tree.FieldRef(element, ref=positions[name].ID, utype=utype, config=told)
        )
    element.groups.append(group)


def _refer_to_clock(
    tree: Any, resource: Any, fields: Any, columns: list[PlainColumn], texts: list[_Text]
) -> None:
    """Say of times that end in ``Z`` that they are UTC."""
    clock = _free(_CLOCK, fields)
    times = [
        field
        for field, column, text in zip(fields, columns, texts, strict=True)
        if text.times and column.ucd.startswith("time.")
    ]
    for field in times:
        field.ref, field.xtype = clock, "timestamp"
    if times:
        system = tree.TimeSys(ID=clock, timescale=_CLOCK, refposition="TOPOCENTER")
        resource.time_systems.append(system)


def _free(name: str, fields: Any) -> str:
    """An identifier that no field has."""
    while any(name == field.ID for field in fields):
        name += "_"
    return name


def _fill(array: Any, name: str, column: PlainColumn) -> None:
    if column.kind == "list":
        for row, values in enumerate(column.values):
            array.data[name][row] = np.ma.array(values, mask=np.isnan(values))
    else:
        array[name] = column.values
    if column.kind in ("bool", "int"):
        array.mask[name] = column.null
