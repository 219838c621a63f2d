"""The files of a folder or of an archive, by relative path; nothing is ever extracted to disk."""

from __future__ import annotations

import os
import tarfile
import threading
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, Self

from skytwin.errors import BadImage, DataError, UsageError
from skytwin.images.packed import require_likely

__all__ = ["ARCHIVE_SUFFIXES", "Members", "TarEntry", "hidden", "is_archive", "open_members"]

_PACKED_TARS = (".tar.gz", ".tgz")
ARCHIVE_SUFFIXES = (".zip", ".tar", *_PACKED_TARS)

MAX_IN_MEMORY = 2**31


class Members(Protocol):
    """Files to draw from.

    Attributes
    ----------
    names : list of str
        Relative paths with ``/``, without hidden files.
    """

    names: list[str]

    def fetch(self, name: str) -> Path | tuple[str, bytes]:
        """A file as `skytwin.images.readers.read_image` takes it; safe in several threads.

        Raises
        ------
        BadImage
            The archive's copy is damaged.
        """
        ...


def is_archive(path: Path) -> bool:
    """Whether a file's name ends like an archive's."""
    return path.name.lower().endswith(ARCHIVE_SUFFIXES)


def open_members(path: Path, keep: Callable[[str], bool]) -> Members:
    """List a folder or an archive.

    Parameters
    ----------
    path : Path
        A folder, or a file that `is_archive`.
    keep : callable
        Which names are wanted: a compressed tar holds the content of these in memory.

    Raises
    ------
    UsageError
        There is no such folder or archive, or a compressed tar is too large for the memory.
    DataError
        The archive is damaged.
    """
    if path.is_dir():
        return _Folder(path)
    if not path.is_file():
        raise UsageError(f"no file or folder {str(path)!r}; expected a folder of images")
    if not is_archive(path):
        raise UsageError(
            f"{str(path)!r} is no folder and no archive ({', '.join(ARCHIVE_SUFFIXES)})"
        )
    try:
        if path.name.lower().endswith(".zip"):
            return _Zip(path)
        if path.name.lower().endswith(".tar"):
            return _Tar(path)
        return _PackedTar(path, keep)
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, OSError) as error:
        raise DataError(
            f"the archive {str(path)!r} is damaged ({error}); fetch it anew, or unpack what is "
            "left of it and give the folder"
        ) from None


def hidden(name: str) -> bool:
    """Whether a file, or a folder on the way to it, is one that a listing leaves out."""
    return any(part.startswith(".") for part in name.split("/"))


class _Folder:
    def __init__(self, path: Path) -> None:
        self._path = path
        self.names: list[str] = []
        for folder, subfolders, files in os.walk(path):
            subfolders[:] = [name for name in subfolders if not name.startswith(".")]
            inside = Path(folder).relative_to(path).as_posix()
            prefix = "" if inside == "." else f"{inside}/"
            self.names += [f"{prefix}{name}" for name in files if not name.startswith(".")]

    def fetch(self, name: str) -> Path:
        return self._path / name


class _Zip:
    def __init__(self, path: Path) -> None:
        self._zip = zipfile.ZipFile(path)
        self._lock = threading.Lock()
        entries = self._zip.infolist()
        names = (entry.filename for entry in entries if not entry.is_dir())
        # An archive may hold a name twice; the last one counts.
        self.names = list(dict.fromkeys(name for name in names if not hidden(name)))

    def fetch(self, name: str) -> tuple[str, bytes]:
        try:
            with self._lock:
                entry = self._zip.getinfo(name)
                if entry.file_size > MAX_IN_MEMORY:
                    raise BadImage(f"{entry.file_size} bytes unpacked; at most {MAX_IN_MEMORY}")
                require_likely(entry.compress_size, entry.file_size)
                # So many bytes and no more, whatever they unpack to.
                with self._zip.open(entry) as stream:
                    return name, stream.read(entry.file_size)
        except BadImage:
            raise
        except Exception as error:  # zipfile meets damage, and passwords, with errors of every kind
            raise BadImage(f"damaged in the archive: {error}") from None


class _Tar:
    def __init__(self, path: Path) -> None:
        self._path = path
        with tarfile.open(path, "r:", tarinfo=TarEntry) as tar:
            self._places = {
                _clean(entry.name): (entry.offset_data, entry.size)
                for entry in tar
                if _usable(entry)
            }
        self.names = list(self._places)

    def fetch(self, name: str) -> tuple[str, bytes]:
        offset, size = self._places[name]
        if size > MAX_IN_MEMORY:
            raise BadImage(f"{size} bytes; at most {MAX_IN_MEMORY} are read")
        try:
            with self._path.open("rb") as stream:
                stream.seek(offset)
                return name, stream.read(size)
        except OSError as error:
            raise BadImage(f"the archive cannot be read: {error.strerror}") from None


class _PackedTar:
    def __init__(self, path: Path, keep: Callable[[str], bool]) -> None:
        self._content: dict[str, bytes] = {}
        names: dict[str, None] = {}
        total = 0
        packed = path.stat().st_size
        with tarfile.open(path, "r|gz", tarinfo=TarEntry) as tar:
            for entry in tar:
                require_likely(packed, entry.offset_data + entry.size, repr(str(path)))
                name = _clean(entry.name)
                if not _usable(entry):
                    continue
                names[name] = None
                if not keep(name):
                    continue
                total += entry.size
                if total > MAX_IN_MEMORY:
                    raise UsageError(
                        f"{str(path)!r} holds more than {MAX_IN_MEMORY >> 30} GiB of images, "
                        "which would have to be held in memory; unpack it and give the folder"
                    )
                content = tar.extractfile(entry)
                self._content[name] = b"" if content is None else content.read()
        self.names = list(names)

    def fetch(self, name: str) -> tuple[str, bytes]:
        return name, self._content[name]


class TarEntry(tarfile.TarInfo):
    """A member of a tar that ends as tar files do.

    `tarfile` takes a header that is damaged, or missing, for the end of the archive: what comes
    after it would be lost without a word. Give this class as ``tarinfo``.
    """

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """The entry of a header block; see `tarfile.TarInfo.frombuf`.

        Raises
        ------
        tarfile.ReadError
            The block is no header, and not the zeros that mark the end.
        """
        try:
            return super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if len(buf) == tarfile.BLOCKSIZE and not any(buf):
                raise
            raise tarfile.ReadError(str(error) if buf else "it has no end") from None


def _clean(name: str) -> str:
    return name.removeprefix("./").lstrip("/")


def _usable(entry: tarfile.TarInfo) -> bool:
    return entry.isfile() and not entry.issparse() and not hidden(_clean(entry.name))
