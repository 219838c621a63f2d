"""Finding rows by identifier."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from skytwin.errors import DataError, unknown

__all__ = ["RowIndex"]


class RowIndex:
    """Row numbers of unique string identifiers.

    Parameters
    ----------
    ids : ndarray of str, shape (N,)

    Raises
    ------
    DataError
        An identifier occurs twice.
    """

    def __init__(self, ids: np.ndarray) -> None:
        self._rows = {str(name): row for row, name in enumerate(ids)}
        if len(self._rows) != len(ids):
            first = first_duplicate(ids)
            raise DataError(
                f"duplicate id {first!r}; every object needs an id of its own: rename it, or "
                "name another id column"
            )

    def note(self, names: Sequence[str], rows: Sequence[int] | np.ndarray) -> None:
        """Where some identifiers are, for an index that would have to look for them."""

    def __contains__(self, name: str) -> bool:
        return name in self._rows

    def __getitem__(self, name: str) -> int:
        try:
            return self._rows[name]
        except KeyError:
            raise unknown("id", name, self._rows) from None


def first_duplicate(ids: Iterable[object]) -> str | None:
    """The first identifier that occurs a second time."""
    seen: set[str] = set()
    for name in map(str, ids):
        if name in seen:
            return name
        seen.add(name)
    return None
