"""Folders that skytwin wrote, and files, on this machine wherever they lie."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from skytwin.addresses import address_of
from skytwin.errors import SkytwinError

__all__ = ["at_hand", "called", "file_at_hand"]


def at_hand(folder: str | Path) -> Path:
    """The folder itself, or the copy of one at an address.

    Raises
    ------
    UsageError
        There is no finished folder at the address.
    DataError, Unreachable
        It cannot be read, or there is no room for it.
    """
    if address_of(folder) is None:
        return Path(folder)
    # What asks for files elsewhere is slow to import.
    from skytwin.images.remote_copy import local_artefact

    return local_artefact(folder)


def file_at_hand(path: str | Path) -> Path:
    """The file itself, or the copy of one at an address; errors are those of `at_hand`."""
    if address_of(path) is None:
        return Path(path)
    # As above.
    from skytwin.images.remote_copy import local_copy

    return local_copy(path)


@contextlib.contextmanager
def called(local: Path, name: str) -> Iterator[None]:
    """In errors, what a copy was made from in place of the copy."""
    try:
        yield
    except SkytwinError as error:
        raise type(error)(str(error).replace(str(local), name)) from None
