"""A stage's result: one folder with a ``manifest.json``.

The manifest says what the folder holds, the recipe it was made with, its parents' fingerprints,
and the SHA-256 of every file. `skytwin.run` writes such folders.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import shutil
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from skytwin.errors import DamagedArtefact, DataError, SkytwinError, UsageError, in_words
from skytwin.files import hash_file, sync, write_atomically
from skytwin.threads import processor_count

__all__ = ["Manifest", "Parent", "from_dict", "seal"]

T = TypeVar("T")

SCHEMA = 1
MANIFEST, RUN, JOURNAL = "manifest.json", "run.json", "journal.jsonl"
LOCK, VERIFIED = ".lock", ".verified.json"
PARTS = "parts"  # what a run keeps until it is finished
LOG = "tensorboard"  # names the time and the process: no part of what was found
PARTIAL = ".partial"  # in the name of what is still being written
_BOOKKEEPING = {MANIFEST, RUN, JOURNAL, LOCK, VERIFIED}
_LIBRARIES = (
    "numpy",
    "astropy",
    "zarr",
    "pyarrow",
    "opencv-python-headless",
    "torch",
    "timm",
    "zuko",
)


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
        ``"cutouts"``, ``"encoder"``, ``"embeddings"``, ``"matches"``, ``"purity"``, ``"map"``, ...
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
        manifest = read_manifest(path)
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
                raise damaged(folder, f"{name} is missing") from None
            if stat.st_size != want["bytes"]:
                raise damaged(folder, f"{name} has {stat.st_size} bytes, not {want['bytes']}")
            if known.get(name) != [stat.st_size, stat.st_mtime_ns, want["sha256"]]:
                stale.append(name)
        if not stale:
            return
        with ThreadPoolExecutor(processor_count()) as pool:
            for name, digest in zip(
                stale, pool.map(lambda n: hash_file(folder / n), stale), strict=True
            ):
                if digest != self.files[name]["sha256"]:
                    raise damaged(folder, f"the content of {name} has changed")
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


def read_manifest(path: Path) -> Manifest:
    """Read a folder's manifest, held against itself; its files are left aside."""
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
        _check_types(path, manifest)
        whole = manifest.fingerprint == _fingerprint(manifest)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OSError) as error:
        raise damaged(path, f"{MANIFEST} cannot be read ({in_words(error, 120)})") from None
    if not whole:
        raise damaged(path, f"{MANIFEST} was edited (its fingerprint does not fit its content)")
    return manifest


def _check_types(folder: Path, manifest: Manifest) -> None:
    """Refuse what is not as `Manifest` says, and names of files that lie elsewhere."""
    for name in ("recipe", "summary", "inputs", "parents", "files", "versions"):
        if not isinstance(getattr(manifest, name), dict):
            raise TypeError(f"{name} is no object")
    for parent in manifest.parents.values():
        if not all(isinstance(value, str) for value in vars(parent).values()):
            raise TypeError("a parent is no text")
    for name, entry in manifest.files.items():
        if type(entry["bytes"]) is not int or not isinstance(entry["sha256"], str):
            raise TypeError(f"the entry of {name}")
        path = PurePosixPath(name)
        place = folder / name
        if path.is_absolute() or ".." in path.parts or (place.exists() and not place.is_file()):
            raise ValueError(f"{name!r} is no file of this folder")


@contextlib.contextmanager
def reading(folder: Path, what: str) -> Iterator[None]:
    """Any library's error over content that the hashes vouch for becomes a `DamagedArtefact`.

    Who makes a folder makes its manifest too, so a fitting hash says nothing of the content.
    """
    try:
        yield
    except SkytwinError:
        raise
    except Exception as error:
        raise DamagedArtefact(
            f"{str(folder)!r}: {what} cannot be read ({in_words(error, 120)}); restore it or "
            "make it anew"
        ) from None


def damaged(folder: Path, why: str) -> DamagedArtefact:
    """A `DamagedArtefact` that says what does not fit."""
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
    return hashlib.sha256(canonical(content).encode()).hexdigest()


def canonical(data: object) -> str:
    """JSON with one spelling for one content; what JSON cannot hold is an error."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False)


def json_bytes(data: object) -> bytes:
    """JSON for people to read."""
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


def _sweep(folder: Path) -> None:
    """Remove what killed writers left behind."""
    for path in sorted(folder.rglob(f"*{PARTIAL}*")):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _content(folder: Path) -> Iterator[Path]:
    """The files that make up a result, in order of name."""
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = path.relative_to(folder).as_posix()
        if name not in _BOOKKEEPING and not name.startswith((f"{PARTS}/", f"{LOG}/")):
            yield path


def seal(
    folder: Path,
    *,
    kind: str,
    recipe: dict[str, Any],
    summary: dict[str, Any],
    inputs: dict[str, Any],
    parents: dict[str, Parent],
    hashes: Mapping[str, str] | None = None,
) -> Manifest:
    """Hash every file of a folder, flush it to disk, and write the manifest that finishes it."""
    known = hashes or {}
    _sweep(folder)
    files = {}
    for path in _content(folder):
        name = path.relative_to(folder).as_posix()
        sync(path)
        files[name] = {
            "bytes": path.stat().st_size,
            "sha256": known.get(name) or hash_file(path),
        }
    for path in {(folder / name).parent for name in files}:
        sync(path)
    draft = Manifest(
        kind=kind,
        recipe=json.loads(canonical(recipe)),
        summary=json.loads(canonical(summary)),
        inputs=inputs,
        parents=parents,
        files=files,
        versions=_versions(),
    )
    manifest = Manifest(**{**vars(draft), "fingerprint": _fingerprint(draft)})
    _write_verified(folder, files)
    write_atomically(folder / MANIFEST, json_bytes(manifest.as_dict()))
    return manifest


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
