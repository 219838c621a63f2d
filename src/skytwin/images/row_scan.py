"""Finding a few rows by identifier in a large table, without making a dictionary of it."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from skytwin.errors import DataError, unknown
from skytwin.images.rows import RowIndex

__all__ = ["ScannedIndex"]

_SCANS = 32  # about what making the dictionary costs
_NOTES = 100_000


class ScannedIndex(RowIndex):
    """Row numbers of unique string identifiers, as `RowIndex` gives them.

    The first few are found by reading through the column: a dictionary of 5 million identifiers
    takes ten seconds and a gigabyte. Who asks for more gets the dictionary.

    Parameters
    ----------
    ids : pyarrow.ChunkedArray of string, length N

    Raises
    ------
    DataError
        An identifier that is asked for occurs twice.
    """

    def __init__(self, ids: pa.ChunkedArray) -> None:
        self._ids = ids
        self._found: dict[str, int | None] = {}
        self._noted: dict[str, int] = {}

    def note(self, names: Sequence[str], rows: Sequence[int] | np.ndarray) -> None:
        """Remember where some identifiers are."""
        if len(self._noted) > _NOTES:
            self._noted.clear()
        self._noted.update(zip(names, map(int, rows), strict=True))

    def __contains__(self, name: str) -> bool:
        return self._find(name) is not None

    def __getitem__(self, name: str) -> int:
        found = self._find(name)
        if found is None:
            raise unknown("id", name, self._ids.slice(0, 20_000).to_pylist())
        return found

    @functools.cached_property
    def _whole(self) -> RowIndex:
        return RowIndex(np.asarray(self._ids.to_numpy(zero_copy_only=False)))

    def _find(self, name: str) -> int | None:
        if name in self._noted:
            return self._noted[name]
        if len(self._found) >= _SCANS:
            known = name in self._whole
            return self._whole[name] if known else None
        if name not in self._found:
            self._found[name] = self._scan(name)
        return self._found[name]

    def _scan(self, name: str) -> int | None:
        rows, start = [], 0
        for chunk in self._ids.chunks:
            rows += [start + i for i in pc.indices_nonzero(pc.equal(chunk, name)).to_pylist()]
            start += len(chunk)
        if len(rows) > 1:
            raise DataError(
                f"duplicate id {name!r}; every object needs an id of its own: rename it, or "
                "name another id column"
            )
        return rows[0] if rows else None
