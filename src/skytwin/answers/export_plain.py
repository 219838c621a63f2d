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
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from skytwin.images.arrow import described

__all__ = ["PlainColumn", "plain_columns"]

Kind = Literal["bool", "int", "float", "text", "list", "vector"]

_UNPRINTABLE = r"[\x00-\x08\x0b\x0c\x0e-\x1f\x{FFFE}\x{FFFF}]"
_SAFE = 2**53  # integers beyond are not exact as floats
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


def plain_columns(table: pa.Table) -> list[PlainColumn]:
    """Every column of a table, in order."""
    columns = []
    for entry in table.schema:
        kind, values, null = _plain(table[entry.name].combine_chunks())
        tags = described(entry)
        known = _KNOWN.get(entry.name, {})
        fits = kind == ("text" if entry.name == "id" else "float")
        if known and fits and "ucd" not in tags and tags.get("unit") in (None, known.get("unit")):
            tags = {**known, **tags}
        columns.append(
            PlainColumn(name=_clean_word(entry.name), kind=kind, values=values, null=null, **tags)
        )
    return columns


def _plain(values: pa.Array) -> tuple[Kind, np.ndarray, np.ndarray]:
    kind = values.type
    if pa.types.is_dictionary(kind):
        return _plain(values.dictionary_decode())
    if pa.types.is_decimal(kind):
        return _plain(values.cast(pa.float64()))
    null = values.is_null().to_numpy(zero_copy_only=False)
    if pa.types.is_boolean(kind):
        return "bool", values.fill_null(False).to_numpy(zero_copy_only=False).astype(bool), null
    if pa.types.is_integer(kind):
        wide = _signed(values.fill_null(0).to_numpy(zero_copy_only=False))
        if wide is None:
            return "text", _text(values.cast(pa.string())), null
        return "int", wide, null
    if pa.types.is_floating(kind):
        floats = values.to_numpy(zero_copy_only=False)
        floats = floats.astype(np.float32 if floats.dtype.itemsize == 2 else floats.dtype)
        return "float", floats, np.isnan(floats)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        lists = _lists(values)
        if lists is not None:
            return *_as_vector(lists, null), null
    return "text", _text(_as_text(values)), null


def _signed(values: np.ndarray) -> np.ndarray | None:
    """Integers in a type that all formats have; None where there is none wide enough."""
    wider = {"int8": np.int16, "uint16": np.int32, "uint32": np.int64, "uint64": np.int64}
    name = values.dtype.name
    if name == "uint64" and len(values) and values.max() > np.iinfo(np.int64).max:
        return None
    return values.astype(wider.get(name, values.dtype))


def _lists(values: pa.Array) -> np.ndarray | None:
    """Lists of numbers as an object array of arrays; None of anything else."""
    flat = values.flatten()
    if pa.types.is_boolean(flat.type):
        flat = flat.cast(pa.uint8())
    if not (pa.types.is_integer(flat.type) or pa.types.is_floating(flat.type)):
        return None
    if flat.null_count and pa.types.is_integer(flat.type):
        largest = pc.max(pc.abs(flat)).as_py()
        if largest is not None and largest > _SAFE:
            return None
        flat = flat.cast(pa.float64())
    kind, numbers, _ = _plain(flat)
    if kind == "text":
        return None
    lengths = pc.list_value_length(values).fill_null(0).to_numpy(zero_copy_only=False)
    ends = np.cumsum(lengths)
    result = np.empty(len(values), dtype=object)
    for row, (end, length) in enumerate(zip(ends, lengths, strict=True)):
        result[row] = numbers[end - length : end]
    return result


def _as_vector(lists: np.ndarray, null: np.ndarray) -> tuple[Kind, np.ndarray]:
    lengths = {len(part) for part in lists}
    # Of one element, FITS and VOTable would make a plain number.
    if len(lengths) == 1 and min(lengths) > 1 and not null.any():
        return "vector", np.stack(list(lists))
    return "list", lists


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
