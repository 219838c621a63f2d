"""Copies of files elsewhere, kept in the user's cache and held against what they were made from.

A copy lies under a key of its address, size and stamp (ETag or time of change): when these are
others, it is made anew. It is read again only if it is still the file that was written, and a
copy that was broken off goes on where it stopped.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

import pooch

from skytwin.addresses import address_of, name_of
from skytwin.artefact import MANIFEST, Manifest, read_manifest
from skytwin.errors import DamagedArtefact, DataError, UsageError
from skytwin.files import disk_errors, write_atomically
from skytwin.images.at_hand import called
from skytwin.images.remote import Entry, Remote, state_of
from skytwin.progress import Progress
from skytwin.threads import a_few_ahead

__all__ = ["cache_folder", "local_artefact", "local_copy"]

THREADS = 16
_PIECE, _PIECES_AHEAD = 8 << 20, 8
_ABOUT, _LOCK, _PARTIAL = "about.json", ".lock", ".partial-"
_MANIFEST_BYTES = 1 << 28


def cache_folder() -> Path:
    """Where copies are kept: below the user's cache, which ``XDG_CACHE_HOME`` moves."""
    return Path(pooch.os_cache("skytwin")) / "remote"


def local_copy(path: str | Path, *, folder: bool = False) -> Path:
    """A file on this machine, or a folder if wanted: the path itself, or a copy.

    Raises
    ------
    UsageError
        There is nothing at the address.
    DataError, Unreachable
        It cannot be read, or there is no room for it.
    """
    address = address_of(path)
    if address is None:
        return Path(path)
    remote = Remote(address)
    if address.startswith(("file:", "local:")):
        return Path(remote.root)
    entry = remote.info()
    if entry is None and not folder:
        raise UsageError(f"{remote.shown!r} is a folder; expected a file")
    if entry is None:
        return _folder_copy(remote, remote.list())
    return _file_copy(remote, entry)


def local_artefact(path: str | Path) -> Path:
    """A folder that skytwin wrote, on this machine: the path itself, or a copy.

    Its manifest is read each time; the files it names are copied once, and held against their
    sums.

    Raises
    ------
    UsageError
        There is no such folder at the address.
    DamagedArtefact
        A file is not what its manifest says.
    DataError, Unreachable
        It cannot be read, or there is no room for it.
    """
    address = address_of(path)
    if address is None:
        return Path(path)
    remote = Remote(address)
    if address.startswith(("file:", "local:")):
        return Path(remote.root)
    if not remote.has(MANIFEST):
        raise UsageError(
            f"{remote.shown!r} has no {MANIFEST}; expected a finished folder that skytwin wrote"
        )
    about = remote.below(MANIFEST)
    if about.size is None or about.size > _MANIFEST_BYTES:
        raise DataError(f"the manifest of {remote.shown!r} has {about.size} bytes; too many")
    content = remote.read(about)
    place = _place("folders", remote.shown, hashlib.sha256(content).hexdigest())
    folder = place / _name(remote)
    with disk_errors(cache_folder()), _alone(place):
        if not (folder / MANIFEST).is_file():
            with called(place, remote.shown):
                manifest = _stated(place, content)
            root = remote.root.rstrip("/")
            entries = {
                name: Entry(path=f"{root}/{name}", size=want["bytes"], stamp=want["sha256"])
                for name, want in manifest.files.items()
            }
            _fill(remote, entries, folder)
            try:
                with called(folder, remote.shown):
                    manifest.verify(folder, every_byte=True)
            except DamagedArtefact:
                shutil.rmtree(folder)
                raise
            write_atomically(folder / MANIFEST, content)
    return folder


def _stated(place: Path, content: bytes) -> Manifest:
    """A manifest, checked in itself, from its bytes."""
    draft = place / ".manifest"
    draft.mkdir(exist_ok=True)
    (draft / MANIFEST).write_bytes(content)
    try:
        return read_manifest(draft)
    finally:
        shutil.rmtree(draft)


def _file_copy(remote: Remote, entry: Entry) -> Path:
    place = _place("files", remote.shown, state_of({"": entry}))
    file = place / _name(remote)
    with disk_errors(cache_folder()), _alone(place):
        if entry.stamp is None or not _as_written(place, [file]):
            file.unlink(missing_ok=True)
            _require_room(remote, entry.size or 0)
            with Progress("copy", max(1, (entry.size or 0) >> 20), unit="MB") as bar:
                _copy(remote, entry, file, lambda done: bar.advance(done >> 20))
            if remote.info() != entry:
                file.unlink()
                raise DataError(f"{remote.shown!r} was changed while it was copied; repeat")
            _vouch(place, remote, [file])
            _tell(remote, file.stat().st_size, file)
    return file


def _folder_copy(remote: Remote, entries: Mapping[str, Entry]) -> Path:
    place = _place("files", remote.shown, state_of(entries))
    folder = place / _name(remote)
    with disk_errors(cache_folder()), _alone(place):
        files = [folder / name for name in entries]
        stamped = all(entry.stamp is not None for entry in entries.values())
        if not stamped or not _as_written(place, files):
            _fill(remote, entries, folder)
            _vouch(place, remote, files)
    return folder


def _fill(remote: Remote, entries: Mapping[str, Entry], folder: Path) -> None:
    """Copy files into a folder, those aside that an earlier attempt copied."""
    missing = {}
    for name, entry in entries.items():
        if ".." in PurePosixPath(name).parts or PurePosixPath(name).is_absolute():
            raise DataError(f"{remote.shown!r} names the file {name!r}, which lies elsewhere")
        file = folder / name
        if not (file.is_file() and file.stat().st_size == entry.size):
            missing[name] = entry
    folder.mkdir(parents=True, exist_ok=True)
    size = sum(entry.size or 0 for entry in missing.values())
    _require_room(remote, size)

    def one(name: str) -> None:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        _copy(remote, missing[name], file, lambda _: None)

    with (
        Progress("copy", len(entries), done=len(entries) - len(missing), unit="files") as bar,
        ThreadPoolExecutor(THREADS, thread_name_prefix="copy") as pool,
    ):
        try:
            for _ in pool.map(one, missing):
                bar.advance(1)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    _tell(remote, size, folder)


def _copy(remote: Remote, entry: Entry, file: Path, say: Callable[[int], None]) -> None:
    """One file, its pieces side by side; goes on where an earlier attempt stopped."""
    partial = file.with_name(f"{_PARTIAL}{file.name}")
    pieces = entry.size is not None and (entry.size <= _PIECE or remote.takes_ranges(entry))
    with partial.open("r+b" if partial.exists() and entry.stamp else "wb") as target:
        if pieces:
            start = min(target.seek(0, os.SEEK_END), entry.size or 0) // _PIECE * _PIECE
            target.seek(start)
            say(start)
            for piece in _pieces(remote, entry, start):
                target.write(piece)
                say(len(piece))
        else:

            def whole() -> None:
                target.seek(0)
                with remote.stream(entry) as source:
                    while piece := source.read(_PIECE):
                        target.write(piece)
                        say(len(piece))

            remote.again(whole, remote.shown)
        target.truncate()
        size = target.tell()
        target.flush()
        os.fsync(target.fileno())
    if entry.size is not None and size != entry.size:
        partial.unlink()
        raise DataError(f"{remote.shown!r} gave {size} bytes; expected {entry.size}: repeat")
    partial.replace(file)


def _pieces(remote: Remote, entry: Entry, start: int) -> Iterator[bytes]:
    """The content from ``start`` on, in order, a few pieces under way at a time."""
    size = entry.size or 0
    if size <= _PIECE:
        yield remote.read(entry)
        return
    with ThreadPoolExecutor(_PIECES_AHEAD, thread_name_prefix="copy") as pool:
        yield from a_few_ahead(
            lambda first: pool.submit(remote.read, entry, first, min(first + _PIECE, size)),
            range(start, size, _PIECE),
            lambda: _PIECES_AHEAD,
        )


def _name(remote: Remote) -> str:
    """What a copy is called: as what it was made from, which the reader tells by its ending."""
    name = name_of(remote.shown)
    return name if name not in ("", ".", "..") else "copy"


def _place(kind: str, name: str, state: str) -> Path:
    key = hashlib.sha256(f"{name}\0{state}".encode()).hexdigest()[:24]
    place = cache_folder() / kind / key
    with disk_errors(cache_folder()):
        place.mkdir(parents=True, exist_ok=True)
    return place


@contextlib.contextmanager
def _alone(place: Path) -> Iterator[None]:
    """One process at a time; the next finds what the first has copied."""
    handle = os.open(place / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _vouch(place: Path, remote: Remote, files: list[Path]) -> None:
    """Note what was written, so that a later change of a copy is seen."""
    stats = [file.stat() for file in files]
    about = {"address": remote.shown, "files": [[s.st_size, s.st_mtime_ns] for s in stats]}
    write_atomically(place / _ABOUT, json.dumps(about).encode())


def _as_written(place: Path, files: list[Path]) -> bool:
    try:
        about = json.loads((place / _ABOUT).read_text(encoding="utf-8"))
        stats = [file.stat() for file in files]
        return bool(about["files"] == [[s.st_size, s.st_mtime_ns] for s in stats])
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _require_room(remote: Remote, size: int) -> None:
    free = shutil.disk_usage(cache_folder()).free
    if size > free:
        raise DataError(
            f"{remote.shown!r} has {size / 1e9:.3g} GB, the cache {str(cache_folder())!r} room "
            f"for {free / 1e9:.3g}; let XDG_CACHE_HOME name a folder on a larger disk"
        )


def _tell(remote: Remote, size: int, where: Path) -> None:
    """One line: a copy takes room that its owner may want back."""
    sys.stderr.write(f"copied {remote.shown} ({_bytes(size)}) to {where}\n")
    sys.stderr.flush()


def _bytes(size: int) -> str:
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= scale:
            return f"{size / scale:.3g} {unit}"
    return f"{size} bytes"
