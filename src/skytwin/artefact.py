"""A stage's result: one folder with a ``manifest.json``, written so that a kill loses nothing.

A finished folder holds ``manifest.json``: what it is, the recipe it was made with, its
parents' fingerprints, and the SHA-256 of every file. An unfinished one holds ``run.json`` and
``journal.jsonl`` instead; the same call resumes it, any other call is refused.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import importlib.metadata
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from skytwin.errors import DamagedArtefact, DataError, OutputExists, UsageError

__all__ = [
    "PARTS",
    "Manifest",
    "Parent",
    "Run",
    "from_dict",
    "require_free",
    "result_folder",
    "write_atomically",
]

T = TypeVar("T")

SCHEMA = 1
MANIFEST, RUN, JOURNAL = "manifest.json", "run.json", "journal.jsonl"
LOCK, VERIFIED = ".lock", ".verified.json"
PARTS = "parts"  # what a run keeps until it is finished
_BOOKKEEPING = {MANIFEST, RUN, JOURNAL, LOCK, VERIFIED}
_LIBRARIES = ("numpy", "astropy", "zarr", "pyarrow", "opencv-python-headless", "torch", "timm")


@dataclass(frozen=True, kw_only=True)
class Parent:
    """The artefact that a result was made from."""

    kind: str
    path: str
    fingerprint: str


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a finished folder says of itself.

    Attributes
    ----------
    kind : str
        ``"cutouts"``, ``"embeddings"``, ``"matches"``, ``"purity"``.
    recipe : dict
        Every setting that shaped the content, seeds included.
    summary : dict
        Shapes, units, counts.
    inputs : dict
        Where the inputs lay: recorded, compared on resume, not part of the fingerprint.
    parents : dict of str to Parent
        The artefacts this one was made from.
    files : dict
        Relative path to ``{"bytes": int, "sha256": str}``.
    fingerprint : str
        SHA-256 over kind, recipe, summary, the parents' fingerprints and the files' hashes.
    """

    kind: str
    recipe: dict[str, Any]
    summary: dict[str, Any]
    inputs: dict[str, Any]
    parents: dict[str, Parent]
    files: dict[str, dict[str, Any]]
    versions: dict[str, str] = field(default_factory=dict)
    fingerprint: str = ""

    @classmethod
    def open(cls, folder: str | Path, kind: str | None = None) -> Manifest:
        """Read a finished folder's manifest and hold its files against it.

        Files whose size and time stamp are those of the last full check are not read again
        (as git does it); any other file is hashed.

        Raises
        ------
        UsageError
            The folder does not exist, is no artefact, or one of another kind.
        DamagedArtefact
            The manifest or a file is not what it was when the folder was finished.
        """
        path = Path(folder)
        if not path.is_dir():
            raise UsageError(f"no folder {str(path)!r}; expected one that skytwin wrote")
        if not (path / MANIFEST).is_file():
            if (path / RUN).is_file():
                raise UsageError(
                    f"{str(path)!r} is an unfinished run; repeat the command that wrote it "
                    "to resume and finish it"
                )
            raise UsageError(f"{str(path)!r} has no {MANIFEST}; expected a folder skytwin wrote")
        manifest = _read_manifest(path)
        if kind is not None and manifest.kind != kind:
            raise UsageError(f"{str(path)!r} holds {manifest.kind}; expected {kind}")
        manifest.verify(path)
        return manifest

    def verify(self, folder: Path, *, every_byte: bool = False) -> None:
        """Hold the files against the manifest; ``every_byte`` trusts no time stamp."""
        known = {} if every_byte else _read_verified(folder)
        stale: list[str] = []
        for name, want in self.files.items():
            try:
                stat = (folder / name).stat()
            except OSError:
                raise _damaged(folder, f"{name} is missing") from None
            if stat.st_size != want["bytes"]:
                raise _damaged(folder, f"{name} has {stat.st_size} bytes, not {want['bytes']}")
            if known.get(name) != [stat.st_size, stat.st_mtime_ns, want["sha256"]]:
                stale.append(name)
        if not stale:
            return
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for name, digest in zip(
                stale, pool.map(lambda n: hash_file(folder / n), stale), strict=True
            ):
                if digest != self.files[name]["sha256"]:
                    raise _damaged(folder, f"the content of {name} has changed")
        _write_verified(folder, self.files)

    def as_dict(self) -> dict[str, Any]:
        """The JSON form, keys in reading order."""
        return {
            "kind": self.kind,
            "schema": SCHEMA,
            "fingerprint": self.fingerprint,
            "summary": self.summary,
            "recipe": self.recipe,
            "inputs": self.inputs,
            "parents": {name: vars(parent) for name, parent in self.parents.items()},
            "versions": self.versions,
            "files": self.files,
        }


def _read_manifest(path: Path) -> Manifest:
    try:
        data = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        if data["schema"] != SCHEMA:
            raise DamagedArtefact(
                f"{str(path)!r} has manifest schema {data['schema']}; this skytwin reads "
                f"{SCHEMA}; make the folder anew with this version"
            )
        manifest = Manifest(
            kind=data["kind"],
            recipe=data["recipe"],
            summary=data["summary"],
            inputs=data["inputs"],
            parents={name: Parent(**parent) for name, parent in data["parents"].items()},
            files=data["files"],
            versions=data["versions"],
            fingerprint=data["fingerprint"],
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _damaged(path, f"{MANIFEST} cannot be read ({error!r})") from None
    if manifest.fingerprint != _fingerprint(manifest):
        raise _damaged(path, f"{MANIFEST} was edited (its fingerprint does not fit its content)")
    return manifest


def _damaged(folder: Path, why: str) -> DamagedArtefact:
    return DamagedArtefact(
        f"{str(folder)!r} does not match its manifest: {why}; restore it or make it anew"
    )


def _fingerprint(manifest: Manifest) -> str:
    content = {
        "kind": manifest.kind,
        "schema": SCHEMA,
        "recipe": manifest.recipe,
        "summary": manifest.summary,
        "parents": {name: parent.fingerprint for name, parent in manifest.parents.items()},
        "files": {name: entry["sha256"] for name, entry in manifest.files.items()},
    }
    return hashlib.sha256(_canonical(content).encode()).hexdigest()


def _canonical(data: object) -> str:
    return json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False)


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


def sync(path: Path) -> None:
    """Flush a file or folder to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _json_bytes(data: object) -> bytes:
    return (json.dumps(data, indent=1, allow_nan=False) + "\n").encode()


def _versions() -> dict[str, str]:
    found = {"skytwin": importlib.metadata.version("skytwin")}
    for name in _LIBRARIES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def _read_verified(folder: Path) -> dict[str, list[Any]]:
    try:
        data = json.loads((folder / VERIFIED).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


def _write_verified(folder: Path, files: Mapping[str, Mapping[str, Any]]) -> None:
    seen = {}
    for name, entry in files.items():
        stat = (folder / name).stat()
        seen[name] = [stat.st_size, stat.st_mtime_ns, entry["sha256"]]
    # A read-only folder is checked in full each time instead.
    with contextlib.suppress(OSError):
        write_atomically(folder / VERIFIED, json.dumps(seen).encode())


def _seal(
    folder: Path,
    *,
    kind: str,
    recipe: dict[str, Any],
    summary: dict[str, Any],
    inputs: dict[str, Any],
    parents: dict[str, Parent],
    hashes: Mapping[str, str] | None = None,
) -> Manifest:
    """Hash every file of a folder and write the manifest that finishes it."""
    known = hashes or {}
    files = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = path.relative_to(folder).as_posix()
        if name in _BOOKKEEPING or name.startswith(f"{PARTS}/"):
            continue
        if ".partial" in path.name:  # left behind by a killed writer
            path.unlink()
            continue
        files[name] = {
            "bytes": path.stat().st_size,
            "sha256": known.get(name) or hash_file(path),
        }
    draft = Manifest(
        kind=kind,
        recipe=json.loads(_canonical(recipe)),
        summary=json.loads(_canonical(summary)),
        inputs=inputs,
        parents=parents,
        files=files,
        versions=_versions(),
    )
    manifest = Manifest(**{**vars(draft), "fingerprint": _fingerprint(draft)})
    _write_verified(folder, files)
    write_atomically(folder / MANIFEST, _json_bytes(manifest.as_dict()))
    return manifest


class Run:
    """A folder being written, shard by shard: locked, journalled, resumable.

    Use as a context manager. A shard counts as done once `record` has put its line in the
    journal; whatever a killed run left beyond that is written again.

    Parameters
    ----------
    folder : str or Path
        Must be absent, empty, or an unfinished run of this very kind, recipe, inputs and
        parents (which is then resumed).
    kind, recipe, inputs, parents
        As in `Manifest`.

    Raises
    ------
    OutputExists
        The folder holds anything else, or another process is writing it.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        kind: str,
        recipe: Mapping[str, Any],
        inputs: Mapping[str, Any],
        parents: Mapping[str, Parent] | None = None,
    ) -> None:
        self.folder = Path(folder)
        self.kind = kind
        # Through JSON and back, so that what is compared on resume is what was stored.
        self.recipe: dict[str, Any] = json.loads(_canonical(dict(recipe)))
        self.inputs: dict[str, Any] = json.loads(_canonical(dict(inputs)))
        self.parents = dict(parents or {})
        self.journal: list[dict[str, Any]] = []
        self.finished: Manifest | None = None
        self._lock: int | None = None
        self._created = False

    def __enter__(self) -> Self:
        if self.folder.exists() and not self.folder.is_dir():
            raise OutputExists(f"{str(self.folder)!r} is a file; --out takes a folder")
        with _disk_errors(self.folder):
            missing = [p for p in (self.folder, *self.folder.parents) if not p.exists()]
            self.folder.mkdir(parents=True, exist_ok=True)
            self._created = bool(missing)
            fresh_lock = not (self.folder / LOCK).exists()
            self._lock = os.open(self.folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                self._release()
                raise OutputExists(
                    f"another skytwin process is writing {str(self.folder)!r}; "
                    "wait for it or choose another --out"
                ) from None
            try:
                self._claim()
            except BaseException:
                if fresh_lock:
                    (self.folder / LOCK).unlink(missing_ok=True)
                self._release()
                raise
        return self

    def _claim(self) -> None:
        held = {p.name for p in self.folder.iterdir()} - {LOCK}
        where = repr(str(self.folder))
        if MANIFEST in held:
            raise OutputExists(
                f"{where} already holds a finished result; choose another --out or remove it"
            )
        if RUN not in held:
            if any(not name.startswith(".partial-") for name in held):
                raise OutputExists(
                    f"{where} holds {len(held)} file(s) that are no unfinished skytwin run; "
                    "choose an empty or new folder"
                )
            write_atomically(self.folder / RUN, _json_bytes(self._identity()))
            return
        try:
            before = json.loads((self.folder / RUN).read_text(encoding="utf-8"))
        except ValueError:
            raise _damaged(self.folder, f"{RUN} cannot be read") from None
        changed = list(_differences(before, self._identity()))
        if changed:
            raise OutputExists(
                f"{where} holds an unfinished run with other settings ({'; '.join(changed[:3])}); "
                "repeat that command to finish it, remove the folder, or choose another --out"
            )
        self.journal = _read_journal(self.folder)

    def _identity(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "recipe": self.recipe,
            "inputs": self.inputs,
            "parents": {name: parent.fingerprint for name, parent in self.parents.items()},
        }

    def record(self, entry: Mapping[str, Any]) -> None:
        """Add a line to the journal: what it names is on disk for good."""
        line = json.dumps(dict(entry), allow_nan=False) + "\n"
        with (self.folder / JOURNAL).open("a", encoding="utf-8") as stream:
            stream.write(line)
            stream.flush()
            os.fsync(stream.fileno())
        self.journal.append(json.loads(line))

    def write(self, name: str, write: bytes | Callable[[Path], object]) -> Path:
        """Write one file of the folder atomically (see `write_atomically`)."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, write)
        return path

    def finish(
        self, summary: Mapping[str, Any], hashes: Mapping[str, str] | None = None
    ) -> Manifest:
        """Seal the folder with its manifest. ``hashes`` saves reading files hashed before."""
        self.finished = _seal(
            self.folder,
            kind=self.kind,
            recipe=self.recipe,
            summary=dict(summary),
            inputs=self.inputs,
            parents=self.parents,
            hashes=hashes,
        )
        # The manifest stands: a kill from here on leaves a finished folder with litter.
        for name in (JOURNAL, RUN):
            (self.folder / name).unlink(missing_ok=True)
        shutil.rmtree(self.folder / PARTS, ignore_errors=True)
        return self.finished

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.finished is None and not self.journal:
            # Nothing worth resuming: leave the place as it was found.
            if self._created:
                shutil.rmtree(self.folder, ignore_errors=True)
            else:
                for path in self.folder.iterdir():
                    if path.is_dir():
                        shutil.rmtree(path, ignore_errors=True)
                    else:
                        path.unlink(missing_ok=True)
        if self.finished is not None:
            # Only now: a lock that vanishes under a waiting writer would let in two.
            (self.folder / LOCK).unlink(missing_ok=True)
        self._release()
        if isinstance(error, OSError):
            with _disk_errors(self.folder):
                raise error

    def _release(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _differences(before: Any, now: Any, name: str = "") -> Iterator[str]:
    if isinstance(before, dict) and isinstance(now, dict):
        # What a user set comes first: a digest says only that something differs.
        for key in sorted({*before, *now}, key=lambda k: ("sha256" in k or k == "fingerprint", k)):
            yield from _differences(before.get(key), now.get(key), f"{name}.{key}" if name else key)
    elif before != now:
        yield f"{name}: {_short(before)} then, {_short(now)} now"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _read_journal(folder: Path) -> list[dict[str, Any]]:
    path = folder / JOURNAL
    if not path.exists():
        return []
    entries: list[dict[str, Any]] = []
    kept = 0
    for line in path.read_bytes().splitlines(keepends=True):
        # A kill in the middle of a write leaves one torn line, always the last.
        try:
            entry = json.loads(line)
        except ValueError:
            break
        if not line.endswith(b"\n"):
            break
        entries.append(entry)
        kept += len(line)
    with path.open("r+b") as stream:
        stream.truncate(kept)
    return entries


@contextlib.contextmanager
def _disk_errors(folder: Path) -> Iterator[None]:
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


def require_free(folder: Path) -> None:
    """Refuse a folder that holds anything, or a file in its place (`OutputExists`)."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputExists(f"{str(folder)!r} exists and is not empty; choose another --out")


@contextlib.contextmanager
def result_folder(
    folder: str | Path,
    *,
    kind: str,
    recipe: Mapping[str, Any],
    summary: Mapping[str, Any],
    inputs: Mapping[str, Any],
    parents: Mapping[str, Parent],
) -> Iterator[Path]:
    """A small result's folder: filled under a temporary name, sealed, then moved into place.

    Raises
    ------
    OutputExists
        The folder exists and is not empty.
    """
    target = Path(folder)
    require_free(target)
    temporary = target.with_name(f".partial-{os.getpid()}-{target.name}")
    with _disk_errors(target):
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        try:
            yield temporary
            _seal(
                temporary,
                kind=kind,
                recipe=dict(recipe),
                summary=dict(summary),
                inputs=dict(inputs),
                parents=dict(parents),
            )
            temporary.replace(target)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise


def from_dict(cls: type[T], data: Mapping[str, Any]) -> T:
    """A settings dataclass from its stored form; an unknown key is an error."""
    known = cls.__dataclass_fields__  # type: ignore[attr-defined]
    for key in data:
        if key not in known:
            raise DataError(
                f"unknown setting {key!r} for {cls.__name__}; known: {', '.join(known)}"
            )
    values = {key: tuple(v) if isinstance(v, list) else v for key, v in data.items()}
    return cls(**values)
