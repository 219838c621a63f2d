"""Many texts without a Python object each: identifiers and origins of millions of objects."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from skytwin.images.rows import first_duplicate

__all__ = ["Texts", "numbered", "text_array", "twice_among"]

_AT_ONCE = 65_536


class Texts(Sequence[str]):
    """A sequence of texts, kept as Arrow keeps them.

    Equivalent to ``array.to_pylist()``, in a tenth of the memory.

    Parameters
    ----------
    array : pyarrow.Array of string, without nulls
    """

    def __init__(self, array: pa.Array) -> None:
        self.array = array

    def __len__(self) -> int:
        return len(self.array)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            rows = np.arange(*index.indices(len(self)))
            return list(self.array.take(pa.array(rows)).to_pylist())
        text: str = self.array[int(index)].as_py()
        return text

    def __iter__(self) -> Iterator[str]:
        for first in range(0, len(self.array), _AT_ONCE):
            yield from self.array.slice(first, _AT_ONCE).to_pylist()


def numbered(count: int, before: str = "", after: str = "", width: int = 0) -> Texts:
    """The numbers from 0 as texts, filled up with zeros on the left.

    Equivalent to ``[f"{before}{number:0{width}d}{after}" for number in range(count)]``.
    """
    parts = []
    for first in range(0, count, _AT_ONCE):
        number = pa.array(np.arange(first, min(first + _AT_ONCE, count))).cast(pa.string())
        padded = pc.utf8_lpad(number, width, "0")
        parts.append(pc.binary_join_element_wise(before, padded, after, ""))
    return Texts(pa.concat_arrays(parts) if parts else pa.array([], pa.string()))


def text_array(texts: Sequence[str], rows: np.ndarray | None = None) -> pa.Array:
    """Texts, or those of some rows, as an Arrow array."""
    if not isinstance(texts, Texts):
        wanted = texts if rows is None else (texts[row] for row in rows.tolist())
        return pa.array([str(text) for text in wanted], pa.string())
    if rows is None or (len(rows) == len(texts) and (np.diff(rows) == 1).all()):
        return texts.array
    return texts.array.take(pa.array(rows))


def twice_among(texts: pa.Array) -> str | None:
    """The first text that occurs a second time, if one does; nulls do not count.

    Equivalent to ``first_duplicate(texts.drop_null().to_pylist())``.
    """
    known = texts.drop_null()
    marks = _marks(known)
    order = np.sort(marks)
    several = np.unique(order[1:][order[1:] == order[:-1]])
    rows = np.flatnonzero(np.isin(marks, several))
    return first_duplicate(Texts(known.take(pa.array(rows))))


def _marks(texts: pa.Array) -> np.ndarray:
    """A number for each text, shape (n,) uint64: the same for the same, else hardly ever."""
    longest = pc.max(pc.binary_length(texts)).as_py() or 0
    weight = np.random.default_rng(0).integers(1, 2**64, longest, dtype=np.uint64)
    marks = np.empty(len(texts), dtype=np.uint64)
    for first in range(0, len(texts), _AT_ONCE):
        part = texts.slice(first, _AT_ONCE)
        _, ends, data = part.buffers()
        end = np.frombuffer(ends, np.int32)[part.offset : part.offset + len(part) + 1]
        size = np.diff(end)
        letter = np.frombuffer(data or b"", np.uint8)[end[0] : end[-1]].astype(np.uint64)
        place = np.arange(len(letter)) - np.repeat(end[:-1] - end[0], size)
        total = np.concatenate([np.zeros(1, np.uint64), np.cumsum((letter + 1) * weight[place])])
        marks[first : first + len(part)] = total[end[1:] - end[0]] - total[end[:-1] - end[0]]
    return marks
