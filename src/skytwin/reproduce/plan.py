"""A study: sections in order, each kept in a folder and made anew only where its inputs changed.

A section's folder is taken as it is where its manifest records the same settings, the same code
and the same parents, by fingerprint, and its files are what they were; else it is made again.
What a killed run finished is finished.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.metadata
import inspect
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from skytwin.artefact import LOCK, MANIFEST, RUN, VERIFIED, Manifest, Parent, canonical, json_bytes
from skytwin.errors import OutputExists, SkytwinError
from skytwin.files import disk_errors, hash_file, write_atomically
from skytwin.reproduce.content import Draft, Written
from skytwin.reproduce.page import INDEX, PAGE_CODE, Facts, render
from skytwin.run import result_folder

__all__ = ["ARTEFACTS", "SECTIONS", "Done", "Section", "Study", "claimed", "run_study"]

SECTIONS, ARTEFACTS = "sections", "artefacts"
_SECTION_KIND, _REPORT_KIND = "report-section", "report"
_OWN = {INDEX, MANIFEST, RUN, LOCK, VERIFIED, SECTIONS, ARTEFACTS}

Write = Callable[[Draft, Any, Mapping[str, Written]], None]


@dataclass(frozen=True, eq=False, kw_only=True)
class Section:
    """One section of a study.

    Attributes
    ----------
    name, title : str
        In the folder's name, and in the page.
    source : str
        The place in the paper that it follows.
    write : callable
        ``write(draft, given, earlier)``: fills the draft. A function of a module, not a closure:
        the module's source is part of what decides whether a kept section still holds.
    given : object
        What ``write`` works on.
    settings : dict
        Every setting that shapes it.
    parents : dict of str to Parent
        The artefacts it is made from.
    uses : tuple of str
        Sections it is made from.
    """

    name: str
    title: str
    source: str
    write: Write
    given: Any
    settings: Mapping[str, Any] = field(default_factory=dict)
    parents: Mapping[str, Parent] = field(default_factory=dict)
    uses: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False, kw_only=True)
class Study:
    """A paper's study.

    Attributes
    ----------
    name, title : str
    facts : Facts
        What stands at the head of the page.
    sections : tuple of Section
        In reading order; those that use others are written after them.
    """

    name: str
    title: str
    facts: Facts
    sections: tuple[Section, ...]


@dataclass(frozen=True, kw_only=True)
class Done:
    """What became of one section, or of the page."""

    name: str
    outcome: Literal["made", "kept"]
    seconds: float


@contextlib.contextmanager
def claimed(out: Path, study: str) -> Iterator[None]:
    """Hold a report's folder: nobody else's files are in it, nobody else writes.

    Raises
    ------
    OutputExists
        It is a file, holds anything that is no report of this study, or is being written.
    """
    where = repr(str(out))
    if out.exists() and not out.is_dir():
        raise OutputExists(f"{where} is a file; --out takes a folder")
    with disk_errors(out):
        _require_own(out, study)
        out.mkdir(parents=True, exist_ok=True)
        lock = os.open(out / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise OutputExists(
                    f"another skytwin process is writing {where}; wait for it or choose another "
                    "--out"
                ) from None
            if not (out / MANIFEST).exists():
                write_atomically(out / RUN, json_bytes({"kind": _REPORT_KIND, "study": study}))
            for litter in (*out.glob(".partial-*"), *(out / SECTIONS).glob(".partial-*")):
                shutil.rmtree(litter) if litter.is_dir() else litter.unlink()
            yield
        finally:
            os.close(lock)


def _require_own(out: Path, study: str) -> None:
    held = {p.name for p in out.iterdir()} if out.is_dir() else set()
    held = {name for name in held if not name.startswith(".partial-")}
    if not held - {LOCK}:
        return
    where, other = repr(str(out)), held - _OWN
    if other:
        raise OutputExists(
            f"{where} holds {min(other)!r}, which is no part of a report; choose another --out"
        )
    before: Any = None
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        if MANIFEST in held:
            manifest = json.loads((out / MANIFEST).read_text(encoding="utf-8"))
            before = manifest["recipe"]["study"] if manifest["kind"] == _REPORT_KIND else None
        else:
            before = json.loads((out / RUN).read_text(encoding="utf-8"))["study"]
    if before != study:
        raise OutputExists(
            f"{where} holds {f'a report of {before}' if before else 'no report'}; choose another "
            "--out"
        )


def run_study(
    study: Study, out: Path, *, tell: Callable[[str], None] = lambda _: None
) -> tuple[Done, ...]:
    """Write what is missing or out of date of a report's sections, then its page.

    Parameters
    ----------
    study : Study
    out : path
        The report's folder, held with `claimed`.
    tell : callable
        Is told what is done.

    Returns
    -------
    tuple of Done
        In the order of the work, the page last.
    """
    number = {section.name: i for i, section in enumerate(study.sections, start=1)}
    folder = {
        section.name: out / SECTIONS / f"{number[section.name]:02d}-{section.name}"
        for section in study.sections
    }
    _drop_others(out, set(folder.values()))
    found: dict[str, Written] = {}
    done = []
    for at, section in enumerate(_in_order(study.sections), start=1):
        start = time.monotonic()
        head = f"section {at} of {len(study.sections)}: {section.title}"
        kept = _kept(section, folder[section.name], found)
        if kept is None:
            tell(f"{head} ...")
        found[section.name] = kept or _made(section, folder[section.name], found)
        seconds = time.monotonic() - start
        outcome: Literal["made", "kept"] = "made" if kept is None else "kept"
        done.append(Done(name=section.name, outcome=outcome, seconds=seconds))
        tell(f"{head}: {'unchanged' if kept else f'done in {seconds:.0f} s'}")
    written = {section.name: found[section.name] for section in study.sections}
    done.append(_page(study, out, written))
    tell(f"page: {'unchanged' if done[-1].outcome == 'kept' else 'written'}")
    return tuple(done)


def _in_order(sections: Sequence[Section]) -> list[Section]:
    """Those that use others last, and after them; else as they are read."""
    order: list[Section] = []
    left = sorted(sections, key=lambda section: bool(section.uses))
    while left:
        known = {section.name for section in order}
        ready = next(s for s in left if set(s.uses) <= known)
        order.append(ready)
        left.remove(ready)
    return order


def _identity(
    section: Section, found: Mapping[str, Written]
) -> tuple[dict[str, Any], dict[str, Parent]]:
    recipe = {
        "section": section.name,
        "settings": dict(section.settings),
        "skytwin": importlib.metadata.version("skytwin"),
        "code": _code(section.write),
    }
    parents = {**section.parents, **{name: found[name].as_parent() for name in section.uses}}
    return json.loads(canonical(recipe)), parents


def _code(function: Write) -> str:
    """Hash of the file that a function stands in."""
    return hash_file(Path(inspect.getfile(function)))


def _kept(section: Section, folder: Path, found: Mapping[str, Written]) -> Written | None:
    recipe, parents = _identity(section, found)
    try:
        manifest = Manifest.open(folder, _SECTION_KIND)
    except SkytwinError:  # not there, or no longer what it was: it is made again
        return None
    before = {name: parent.fingerprint for name, parent in manifest.parents.items()}
    now = {name: parent.fingerprint for name, parent in parents.items()}
    if manifest.recipe != recipe or before != now:
        return None
    return Written(name=section.name, folder=folder, manifest=manifest)


def _made(section: Section, folder: Path, found: Mapping[str, Written]) -> Written:
    recipe, parents = _identity(section, found)
    draft = Draft()
    section.write(draft, section.given, found)
    shutil.rmtree(folder, ignore_errors=True)
    with result_folder(
        folder,
        kind=_SECTION_KIND,
        recipe=recipe,
        summary={"title": section.title, "tables": {n: len(t) for n, t in draft.tables.items()}},
        inputs={name: parent.path for name, parent in parents.items()},
        parents=parents,
    ) as where:
        meta = {"skytwin": f"reproduce, section {section.name}"}
        draft.save(where, meta | {name: parent.fingerprint for name, parent in parents.items()})
    manifest = Manifest.open(folder, _SECTION_KIND)
    return Written(name=section.name, folder=folder, manifest=manifest)


def _drop_others(out: Path, wanted: set[Path]) -> None:
    """Sections of an earlier run that this one has no place for."""
    for path in sorted((out / SECTIONS).glob("*")):
        if path.is_dir() and path not in wanted:
            shutil.rmtree(path)


def _page(study: Study, out: Path, written: Mapping[str, Written]) -> Done:
    start = time.monotonic()
    recipe = {"study": study.name, "page": PAGE_CODE, "facts": study.facts.as_dict()}
    recipe = json.loads(canonical(recipe))
    parents = {name: section.as_parent() for name, section in written.items()}
    try:
        before = Manifest.open(out, _REPORT_KIND)
    except SkytwinError:
        pass
    else:
        old = {name: parent.fingerprint for name, parent in before.parents.items()}
        if before.recipe == recipe and old == {n: p.fingerprint for n, p in parents.items()}:
            return Done(name="page", outcome="kept", seconds=time.monotonic() - start)
    sections = [(section, written[section.name]) for section in study.sections]
    temporary = out / ".partial-page"
    with result_folder(
        temporary,
        kind=_REPORT_KIND,
        recipe=recipe,
        summary={"title": study.title, "sections": len(sections)},
        inputs={},
        parents=parents,
    ) as where:
        (where / INDEX).write_text(
            render(
                study.title,
                study.facts,
                [(s.title, s.source, w, f"{SECTIONS}/{w.folder.name}") for s, w in sections],
            ),
            encoding="utf-8",
        )
    # The page first: a kill between the two leaves a page that its manifest disowns.
    for name in (INDEX, MANIFEST):
        (temporary / name).replace(out / name)
    shutil.rmtree(temporary)
    (out / RUN).unlink(missing_ok=True)
    return Done(name="page", outcome="made", seconds=time.monotonic() - start)
