"""Files elsewhere, by fsspec: looked up, listed and read, again after a while if need be.

Credentials come from fsspec's own configuration and from the environment of the package that
knows the place (s3fs, gcsfs, ...); none of our options takes any.
"""

from __future__ import annotations

import hashlib
import importlib
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, TypeVar, cast

from skytwin.addresses import shown
from skytwin.errors import DataError, SkytwinError, Unreachable, UsageError
from skytwin.images.fetch_web import Manners

__all__ = ["Entry", "Remote", "state_of"]

T = TypeVar("T")

#: Pauses before the next attempt: full jitter, up to 1, 2, 4 and 8 s.
MANNERS = Manners(rate=1.0, retries=4, backoff_s=1.0)
_STAMPS = (
    "ETag", "etag", "md5Hash", "Content-MD5", "LastModified", "Last-Modified",
    "last_modified", "updated", "mtime", "modified",
)  # fmt: skip
_FINAL = (
    FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, ImportError,
    NotImplementedError, TypeError, ValueError,
)  # fmt: skip
_OPENS = re.compile(r"(://)[^/@\s]*@|\?[^\s'\")]*=[^\s'\")]*")
_PASSING_STATUS = {408, 425, 429, *range(500, 600)}
_PACKAGES = {
    "s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs",
    "abfss": "adlfs", "http": "aiohttp", "https": "aiohttp", "sftp": "paramiko", "ssh": "paramiko",
    "smb": "smbprotocol",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One file elsewhere.

    Attributes
    ----------
    path : str
        As its file system has it.
    size : int or None
        Bytes; None where the server does not tell.
    stamp : str or None
        What changes with the content: an ETag, or a time.
    """

    path: str
    size: int | None
    stamp: str | None


class Remote:
    """What lies at an address: a file, or a folder of them.

    Parameters
    ----------
    address : str
        As `skytwin.addresses.address_of` gives it.

    Attributes
    ----------
    address, shown : str
        The address, with and without what opens it.
    root : str
        As its file system has it.

    Raises
    ------
    UsageError
        fsspec or the package for this kind of address is missing, or there is no such kind.
    """

    def __init__(self, address: str) -> None:
        self.address, self.shown = address, shown(address)
        self._fs, self.root = _file_system(address, self.shown)
        self._fs.invalidate_cache()  # of what was listed before

    def info(self) -> Entry | None:
        """The file at the address; None for a folder.

        Raises
        ------
        UsageError
            There is neither.
        """
        found = self.again(lambda: self._fs.info(self.root), self.shown)
        return None if found.get("type") == "directory" else _entry(found, self.root)

    def has(self, name: str) -> bool:
        """Whether there is a file of that name below the address."""
        where = f"{self.root.rstrip('/')}/{name}"
        return bool(self.again(lambda: self._fs.isfile(where), f"{self.shown}/{name}"))

    def below(self, name: str) -> Entry:
        """A file by its name below the address."""
        where = f"{self.root.rstrip('/')}/{name}"
        return _entry(self.again(lambda: self._fs.info(where), f"{self.shown}/{name}"), where)

    @property
    def lists(self) -> bool:
        """Whether files can be listed; a web server has pages in place of folders."""
        return "http" not in _protocols(self._fs)

    def unseen(self, name: str) -> Entry:
        """A file below the address, nobody having asked whether it is there."""
        return Entry(path=f"{self.root.rstrip('/')}/{name}", size=None, stamp=None)

    def list(self) -> dict[str, Entry]:
        """Every file below the address, by relative name."""
        found = self.again(lambda: self._fs.find(self.root, detail=True), self.shown)
        prefix = self.root.rstrip("/") + "/"
        entries = {}
        for path, about in sorted(found.items()):
            name = path.removeprefix(prefix)
            parts = name.split("/")
            # A name that leads elsewhere is none; one that ends in / stands for a folder.
            if path.startswith(prefix) and not {"", ".", ".."} & set(parts):
                entries[name] = _entry(about, path)
        return entries

    def read(self, entry: Entry, start: int | None = None, end: int | None = None) -> bytes:
        """The content of a file, or the bytes from ``start`` to ``end`` of it."""
        where = self._of(entry)
        return bytes(self.again(lambda: self._fs.cat_file(entry.path, start=start, end=end), where))

    def stream(self, entry: Entry) -> BinaryIO:
        """A file opened for reading here and there, as Parquet is read."""
        opened = self.again(lambda: self._fs.open(entry.path, "rb"), self._of(entry))
        return cast("BinaryIO", opened)

    def takes_ranges(self, entry: Entry) -> bool:
        """Whether parts of a file can be asked for by themselves."""
        if self.lists:
            return True
        about = self.again(lambda: self._fs.info(entry.path), self._of(entry))
        return bool(about.get("partial"))

    def again(self, ask: Callable[[], T], where: str) -> T:
        """What ``ask`` gives, asked again after a pause where the error may pass.

        Raises
        ------
        UsageError
            There is nothing at the address.
        DataError
            It may not be read.
        Unreachable
            No attempt succeeded.
        """
        attempt = 0
        while True:
            attempt += 1
            try:
                return ask()
            except SkytwinError:
                raise
            except Exception as caught:  # every file system has its own
                error = _cause(caught)
                final = _final(error, where)
                if final is not None:
                    raise final from None
                if attempt > MANNERS.retries:
                    raise Unreachable(
                        f"{where!r} did not answer ({_words(error)}; {attempt} attempts); "
                        "repeat the command later"
                    ) from None
                time.sleep(MANNERS.wait(0, attempt))

    def _of(self, entry: Entry) -> str:
        below = entry.path.removeprefix(self.root.rstrip("/"))
        return self.shown + below if below != entry.path else self.shown


def state_of(entries: Mapping[str, Entry]) -> str:
    """SHA-256 over names, sizes and stamps: another one where a file was changed."""
    digest = hashlib.sha256()
    for name, entry in sorted(entries.items()):
        digest.update(f"{name}\0{entry.size}\0{entry.stamp}\n".encode())
    return digest.hexdigest()


def _file_system(address: str, name: str) -> tuple[Any, str]:
    scheme = address.partition("://")[0]
    try:
        registry = importlib.import_module("fsspec.registry")
    except ImportError:
        raise UsageError(
            f"{name!r} is an address, which needs fsspec: pip install 'skytwin[remote]'"
        ) from None
    try:
        kind = registry.get_filesystem_class(scheme)
    except ValueError:
        raise UsageError(
            f"unknown kind of address {scheme}:// in {name!r}; expected s3, gs, https, file or "
            "another one that fsspec knows"
        ) from None
    except ImportError as error:
        package = _PACKAGES.get(scheme)
        remedy = f"pip install {package}" if package else _words(error)
        raise UsageError(f"{name!r} needs a package that is not installed: {remedy}") from None
    try:
        return kind(**kind._get_kwargs_from_urls(address)), kind._strip_protocol(address)
    except Exception as error:  # every file system has its own
        raise _final(error, name) or Unreachable(
            f"{name!r} cannot be opened ({_words(error)})"
        ) from None


def _protocols(fs: Any) -> tuple[str, ...]:
    return (fs.protocol,) if isinstance(fs.protocol, str) else tuple(fs.protocol)


def _entry(about: Mapping[str, Any], path: str) -> Entry:
    size = about.get("size")
    stamps = (about[key] for key in _STAMPS if about.get(key))
    stamp = next(stamps, None)
    return Entry(
        path=str(about.get("name") or path),
        size=None if size is None else int(size),
        stamp=None if stamp is None else str(stamp),
    )


def _words(error: Exception) -> str:
    """What another package says, without what opens an address in it."""
    return _OPENS.sub(r"\1", " ".join(str(error).split()))[:160] or type(error).__name__


def _cause(error: Exception) -> Exception:
    """What aiohttp said: fsspec takes every server that cannot be reached for a missing file."""
    cause = error.__cause__
    if isinstance(cause, Exception) and type(cause).__module__.startswith("aiohttp"):
        return cause
    return error


def _final(error: Exception, where: str) -> DataError | UsageError | None:
    """An error that no repetition mends, in our words; None for one that may pass."""
    status = getattr(error, "status", None) or getattr(error, "code", None)
    barred = status in (401, 403) or "Credentials" in type(error).__name__
    if isinstance(error, PermissionError) or barred:
        return DataError(
            f"may not read {where!r} ({_words(error)[:100]}); credentials come from the "
            "environment or fsspec's configuration: see how-to/remote of the documentation"
        )
    if isinstance(error, FileNotFoundError) or status == 404:
        return UsageError(f"nothing at {where!r}: no such file, folder or bucket")
    if isinstance(error, _FINAL) or (
        isinstance(status, int) and 400 <= status < 600 and status not in _PASSING_STATUS
    ):
        return DataError(f"cannot read {where!r} ({_words(error)})")
    return None
