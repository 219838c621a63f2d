"""What a format is to the harness, and how a case of it ends."""

from __future__ import annotations

import csv
import functools
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np
import pyarrow.parquet as pq

__all__ = [
    "ENDINGS",
    "Absurd",
    "Format",
    "Outcome",
    "command",
    "function",
    "ingested",
    "parsed",
    "sealed",
]

#: The three good ends, and the bad one.
ENDINGS = ("accepted", "listed", "refused", "FAULT")

Absurd = Callable[[Path, np.random.Generator], str]
Judge = Callable[[Path, str], tuple[str, str]]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a case ended.

    Attributes
    ----------
    format, number, damage : str, int, str
        Which case, and what was done to the input.
    ended : str
        ``accepted``: used, the damage did no harm or cannot be told from another content;
        ``listed``: left out, with the reason in ``rejected.csv``; ``refused``: a `SkytwinError`
        and one line; or ``FAULT``.
    said : str
        The reason given, or what is wrong.
    where : str
        The function of skytwin that an error passed through last.
    seconds, megabytes : float
        Wall clock, and how far the memory grew.
    """

    format: str
    number: int
    damage: str
    ended: str
    said: str
    where: str
    seconds: float
    megabytes: float

    @property
    def fault(self) -> bool:
        """Whether it ended as nothing may."""
        return self.ended == "FAULT"


@dataclass(frozen=True, kw_only=True)
class Format:
    """A kind of input.

    Attributes
    ----------
    name : str
    make : callable
        Fills a folder with valid input.
    run : callable
        Uses what is in the folder, which is also the working directory; gives back what was
        raised.
    judge : callable
        The folder and what was printed, after a run without error, to an ending and a reason.
    targets : tuple of str
        Patterns of the files that blind damage is done to.
    absurd : tuple of callable
        Damage that knows the format: works on the folder, and says what it did.
    after : callable, optional
        Done to the folder after the damage: a manifest sealed anew.
    command : bool
        Whether ``run`` is the command line, and so prints one line for an error.
    imports : tuple of str
        What damaged input may have imported, and valid input has not.
    """

    name: str
    make: Callable[[Path], object]
    run: Callable[[Path], BaseException | None]
    judge: Judge
    targets: tuple[str, ...]
    absurd: tuple[Absurd, ...] = ()
    after: Callable[[Path], object] | None = None
    command: bool = True
    imports: tuple[str, ...] = ()


def command(*words: str) -> Callable[[Path], BaseException | None]:
    """The command line in this process, through its real entry point."""

    def run(work: Path) -> BaseException | None:
        from skytwin import cli

        raised: list[BaseException] = []
        app = parsed()

        def watched(**options: object) -> object:
            # `main` makes one line of every error; which it was, only this can tell.
            try:
                return app(**options)
            except Exception as error:
                if not hasattr(error, "format_message"):
                    raised.append(error)
                raise

        with (
            mock.patch.object(cli, "app", watched),
            mock.patch.object(sys, "argv", ["skytwin", *words]),
        ):
            try:
                cli.main()
            except SystemExit as end:
                if end.code and not raised:
                    return RuntimeError(f"exit {end.code} without an error of its own")
            except Exception as error:
                return error
        return raised[0] if raised else None

    return run


@functools.lru_cache(maxsize=1)
def parsed() -> Callable[..., object]:
    """The command with its options read from the functions' signatures, which takes a while."""
    import typer

    from skytwin import cli

    return typer.main.get_command(cli.app)


def function(call: Callable[[Path], object]) -> Callable[[Path], BaseException | None]:
    """A function of the package, for what no command reads in little time."""

    def run(work: Path) -> BaseException | None:
        try:
            call(work)
        except Exception as error:
            return error
        return None

    return run


def used(work: Path, out: str) -> tuple[str, str]:
    """Whatever went through was used."""
    return "accepted", ""


def ingested(*wanted: str, of: int = 0) -> Judge:
    """Every image is in the cutouts or in the report; by name, or ``of`` so many at least."""

    def judge(work: Path, out: str) -> tuple[str, str]:
        ids = pq.read_table(work / "out" / "catalog.parquet")["id"].to_pylist()
        with (work / "out" / "rejected.csv").open(encoding="utf-8", newline="") as stream:
            listed = {row["id"]: row["reason"] for row in csv.DictReader(stream)}
        missing = [name for name in wanted if name not in ids and name not in listed]
        if missing:
            return "FAULT", f"silence: {missing} neither used nor listed"
        if len(ids) + len(listed) < of:
            return "FAULT", f"silence: {len(ids)} used, {len(listed)} listed, of {of}"
        if listed:
            reason = next(iter(listed.values()))
            return "listed", reason
        return "accepted", ""

    return judge


def sealed(valid: Callable[[Path], bool]) -> Judge:
    """A folder under a manifest: what was altered may not be used."""

    def judge(work: Path, out: str) -> tuple[str, str]:
        if valid(work):
            return "accepted", "the content is what it was"
        return "FAULT", "silence: used, though a file is not what the manifest says"

    return judge
