"""Everything skytwin raises on purpose.

::

    SkytwinError                what went wrong, in one line
    ├── UsageError              the call itself is off (exit 2)
    │   ├── UnknownName         no such id, column, encoder, metric, band, format
    │   └── OutputExists        the output folder is not free to write in
    └── DataError               the call is fine, the data are not (exit 1)
        ├── BadImage            one image cannot be used; ingest lists it and goes on
        ├── DamagedArtefact     a folder does not match its manifest
        ├── Mismatch            two things that do not belong together (bands, scale, encoder)
        └── Unreachable         something outside (a model hub, an archive) did not answer

Every message says what was wrong, what was found, what was expected and what to do.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import TypeVar

__all__ = [
    "BadImage",
    "DamagedArtefact",
    "DataError",
    "Mismatch",
    "OutputExists",
    "SkytwinError",
    "UnknownName",
    "Unreachable",
    "UsageError",
    "in_words",
    "one_of",
    "unknown",
]


T = TypeVar("T")


class SkytwinError(Exception):
    """Base of every error skytwin raises on purpose; ``exit_code`` is what the CLI leaves with."""

    exit_code = 1


class UsageError(SkytwinError):
    """The call itself is off."""

    exit_code = 2


class UnknownName(UsageError):
    """A name that does not exist: an id, column, encoder, metric, band or format."""


class OutputExists(UsageError):
    """The output folder holds something that must not be overwritten."""


class DataError(SkytwinError):
    """The data cannot do what was asked."""


class BadImage(DataError):
    """One image cannot be used. The message is the reason that lands in ``rejected.csv``."""


class DamagedArtefact(DataError):
    """A folder whose files do not match its manifest."""


class Mismatch(DataError):
    """Artefacts that do not belong together."""


class Unreachable(DataError):
    """Something outside this machine did not answer."""


def unknown(what: str, got: object, known: Iterable[object], remedy: str = "") -> UnknownName:
    """An `UnknownName` that names the nearest known spellings.

    Parameters
    ----------
    what : str
        The kind of name, e.g. ``"column"``.
    got : object
        What was given.
    known : iterable
        What would have been accepted.
    remedy : str
        What to do, when choosing a known name is not the whole answer.
    """
    names = [str(name) for name in known]
    # Comparing a misspelt id with every one of a million takes longer than it helps.
    close = difflib.get_close_matches(str(got), names[:20_000], n=3, cutoff=0.5)
    shown = close or names[:12]
    more = "" if close or len(names) <= 12 else f", ... ({len(names)} in all)"
    lead = "did you mean" if close else "known"
    hint = f"; {lead}: {', '.join(shown)}{more}" if shown else "; there are none"
    return UnknownName(f"unknown {what} {str(got)!r}{hint}{'; ' + remedy if remedy else ''}")


def one_of(what: str, got: object, known: Sequence[T]) -> T:
    """The known name that was given, of its own type; else `unknown` is raised."""
    for name in known:
        if name == got:
            return name
    raise unknown(what, got, known)


def in_words(error: Exception, most: int = 160) -> str:
    """What another library says is wrong, in one line; its kind where it says nothing."""
    return " ".join(str(error).split())[:most] or type(error).__name__
