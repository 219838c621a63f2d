"""An artefact being written: shard by shard and resumable, or small and at once.

An unfinished folder holds ``run.json`` and ``journal.jsonl`` in place of a manifest; the same
call resumes it, any other call is refused.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from skytwin.addresses import require_here
from skytwin.artefact import (
    JOURNAL,
    LOCK,
    MANIFEST,
    PARTIAL,
    PARTS,
    RUN,
    Manifest,
    Parent,
    canonical,
    damaged,
    json_bytes,
    seal,
)
from skytwin.errors import OutputExists
from skytwin.files import disk_errors, sync, write_atomically

__all__ = ["Run", "require_free", "result_folder"]


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
        self.recipe: dict[str, Any] = json.loads(canonical(dict(recipe)))
        self.inputs: dict[str, Any] = json.loads(canonical(dict(inputs)))
        self.parents = dict(parents or {})
        self.journal: list[dict[str, Any]] = []
        self.finished: Manifest | None = None
        self._lock: int | None = None
        self._created = False

    def __enter__(self) -> Self:
        require_here(self.folder)
        if self.folder.exists() and not self.folder.is_dir():
            raise OutputExists(f"{str(self.folder)!r} is a file; --out takes a folder")
        with disk_errors(self.folder):
            missing = [p for p in (self.folder, *self.folder.parents) if not p.exists()]
            self.folder.mkdir(parents=True, exist_ok=True)
            self._created = bool(missing)
            fresh_lock = not (self.folder / LOCK).exists()
            self._lock = _take_lock(self.folder, self.folder)
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
            self._clear()  # what a run leaves that was killed when it had just been finished
            raise OutputExists(
                f"{where} already holds a finished result; choose another --out or remove it"
            )
        if RUN not in held:
            if any(not name.startswith(PARTIAL) for name in held):
                raise OutputExists(
                    f"{where} holds {len(held)} file(s) that are no unfinished skytwin run; "
                    "choose an empty or new folder"
                )
            write_atomically(self.folder / RUN, json_bytes(self._identity()))
            return
        try:
            before = json.loads((self.folder / RUN).read_text(encoding="utf-8"))
        except ValueError:
            raise damaged(self.folder, f"{RUN} cannot be read") from None
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
        path = self.folder / JOURNAL
        first = not path.exists()
        with path.open("a", encoding="utf-8") as stream:
            stream.write(line)
            stream.flush()
            os.fsync(stream.fileno())
        if first:
            sync(self.folder)
        self.journal.append(json.loads(line))

    def write(self, name: str, write: bytes | Callable[[Path], object]) -> Path:
        """Write one file of the folder atomically (see `write_atomically`)."""
        path = self.folder / name
        if not path.parent.is_dir():
            path.parent.mkdir(parents=True)
            sync(self.folder)
        write_atomically(path, write)
        return path

    def finish(
        self, summary: Mapping[str, Any], hashes: Mapping[str, str] | None = None
    ) -> Manifest:
        """Seal the folder with its manifest. ``hashes`` saves reading files hashed before."""
        self.finished = seal(
            self.folder,
            kind=self.kind,
            recipe=self.recipe,
            summary=dict(summary),
            inputs=self.inputs,
            parents=self.parents,
            hashes=hashes,
        )
        # The manifest stands: a kill from here on leaves a finished folder with litter.
        self._clear()
        return self.finished

    def _clear(self) -> None:
        for name in (JOURNAL, RUN):
            (self.folder / name).unlink(missing_ok=True)
        shutil.rmtree(self.folder / PARTS, ignore_errors=True)

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
                _empty(self.folder)
        if self.finished is not None:
            # Only now: a lock that vanishes under a waiting writer would let in two.
            (self.folder / LOCK).unlink(missing_ok=True)
        self._release()
        if isinstance(error, OSError):
            with disk_errors(self.folder):
                raise error

    def _release(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _take_lock(folder: Path, target: Path) -> int:
    """Lock a folder, or raise `OutputExists`; closing the handle lets go of it."""
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        except FileNotFoundError:  # its last holder has just removed or renamed the folder
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(handle)
            raise OutputExists(
                f"another skytwin process is writing {str(target)!r}; "
                "wait for it or choose another --out"
            ) from None
        with contextlib.suppress(FileNotFoundError):
            if os.fstat(handle).st_ino == (folder / LOCK).stat().st_ino:
                return handle
        os.close(handle)


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


def require_free(folder: Path) -> None:
    """Refuse a folder that holds anything, or a file in its place (`OutputExists`)."""
    require_here(folder)
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

    What a killed run left under the temporary name is removed by the next one.

    Raises
    ------
    OutputExists
        The folder exists and is not empty, or another process is writing it.
    """
    target = Path(folder)
    require_free(target)
    temporary = target.with_name(f"{PARTIAL}-{target.name}")
    with disk_errors(target):
        lock = _take_lock(temporary, target)
        try:
            require_free(target)
            _empty(temporary)
            yield temporary
            seal(
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
        else:
            sync(target.parent)
            (target / LOCK).unlink(missing_ok=True)
        finally:
            os.close(lock)


def _empty(folder: Path) -> None:
    """Remove all but the lock."""
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif path.name != LOCK:
            path.unlink(missing_ok=True)
