"""Files that are whole or not there: written beside, flushed, renamed."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from skytwin.addresses import require_here
from skytwin.errors import DataError, OutputExists, UsageError, unknown

__all__ = ["disk_errors", "hash_file", "require_new", "sync", "write_atomically"]


def hash_file(path: Path) -> str:
    """SHA-256 of a file's content, as hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_atomically(path: Path, write: bytes | Callable[[Path], object]) -> None:
    """Write a file under a temporary name, flush it to disk, then rename it into place.

    ``write`` is the content, or a function that writes the file it is given the path of; the
    temporary name keeps the ending, for writers that go by it.
    """
    temporary = path.with_name(f".partial-{os.getpid()}-{path.name}")
    try:
        if isinstance(write, bytes):
            temporary.write_bytes(write)
        else:
            write(temporary)
        sync(temporary)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync(path.parent)


def require_new(path: Path, endings: Sequence[str] = ()) -> None:
    """Refuse a file that could not be written, before the work that fills it.

    Raises
    ------
    UnknownName
        The name ends in none of ``endings``, where any are given.
    OutputExists
        Something is there already.
    UsageError
        Its folder is not there.
    """
    require_here(path)
    if endings and path.suffix.lower() not in endings:
        raise unknown("format", path.suffix or path.name, endings)
    if path.exists():
        raise OutputExists(f"{str(path)!r} exists; choose another name or remove it")
    if not path.parent.is_dir():
        raise UsageError(f"no folder {str(path.parent)!r} to write {path.name} in; make it first")


def sync(path: Path) -> None:
    """Flush a file or folder to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Turn the operating system's refusals into one clear line."""
    try:
        yield
    except OSError as error:
        where = repr(str(folder))
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DataError(
                f"disk full while writing {where}; what was finished is intact: make space and "
                "repeat the command to resume"
            ) from error
        if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
            raise UsageError(f"may not write in {where} ({error.strerror})") from error
        raise
