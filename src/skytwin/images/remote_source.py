"""Images elsewhere: a folder is read file by file, an array file or archive by way of a copy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import pyarrow as pa

from skytwin.errors import BadImage, UsageError
from skytwin.images.members import MAX_IN_MEMORY, hidden
from skytwin.images.remote import Entry, Remote, state_of
from skytwin.images.source import ImageSource, RawImage

__all__ = ["RemoteFolder", "RemoteSource"]

T = TypeVar("T")

_THREADS = 16
_IN_FLIGHT = 1 << 28  # bytes that all threads together hold of files


class RemoteFolder:
    """The files below an address, as `skytwin.images.members.Members`.

    Parameters
    ----------
    remote : Remote
    entries : mapping of str to Entry
        What `Remote.list` found.
    """

    def __init__(self, remote: Remote, entries: Mapping[str, Entry]) -> None:
        self._remote, self._entries = remote, entries
        self.names = [name for name in entries if not hidden(name)]

    def fetch(self, name: str) -> tuple[str, bytes]:
        """The name and the content of one file."""
        entry = self._entries[name]
        if entry.size is None:  # a web server's list of files tells none
            entry = self._ask(lambda: self._remote.below(name))
        if entry.size is None or entry.size > MAX_IN_MEMORY:
            size = "of unknown size" if entry.size is None else f"{entry.size} bytes"
            raise BadImage(f"{size}; at most {MAX_IN_MEMORY} bytes are read")
        content = self._ask(lambda: self._remote.read(entry))
        if len(content) != entry.size:
            raise BadImage(f"{len(content)} bytes came; {entry.size} were listed")
        return name, content

    @staticmethod
    def _ask(ask: Callable[[], T]) -> T:
        """One file that is gone is left out; what bars all of them ends the run."""
        try:
            return ask()
        except UsageError as error:
            raise BadImage(str(error)) from None

    @property
    def threads(self) -> int:
        """How many to read at a time: enough to hide latency, few where files are large."""
        largest = max((entry.size or 1 << 24 for entry in self._entries.values()), default=1)
        return max(2, min(_THREADS, _IN_FLIGHT // max(1, largest)))

    @property
    def state(self) -> str:
        """Another one where a file was changed."""
        return state_of(self._entries)


class RemoteSource:
    """A source of images at an address.

    Parameters
    ----------
    source : ImageSource
        What reads them.
    location : str
        The address, without what opens it.
    state : str
        Another one where what lies there was changed: a run is not resumed then.
    threads : int, optional
        How many images to read at a time.
    """

    def __init__(
        self, source: ImageSource, *, location: str, state: str, threads: int | None = None
    ) -> None:
        self._source = source
        self.location, self.state, self.threads = location, state, threads
        self.ids: Sequence[str] = source.ids
        self.origins: Sequence[str] = source.origins
        self.table: pa.Table | None = source.table
        self.recipe: Mapping[str, Any] = source.recipe

    def read(self, index: int) -> RawImage:
        """Read one image; see `skytwin.images.source.ImageSource.read`."""
        return self._source.read(index)
