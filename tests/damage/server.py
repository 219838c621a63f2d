"""Runs cases of one format in forked processes under bounds, and says how each ended.

The server imports what the command imports, then forks: a child takes cases one after the other,
each with its own folder, and is replaced after a number of them, or once it has died. So a case
costs no start of Python, and one that takes its process down takes nothing else.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import select
import shutil
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

from .case import Format, Outcome, parsed
from .mutate import mutate

__all__ = ["BOUNDS", "serve"]

#: Seconds of processor and of wall clock, and bytes of memory and of address space, for one case.
BOUNDS = {"cpu": 5, "wall": 10, "rss": 768 << 20, "address": 3 << 30}
_PER_CHILD = 25
_HUNGRY = ("MemoryError", "Unable to allocate", "Cannot allocate", "malloc", "realloc", "bad_alloc")


def serve(
    format_: Format, seed: int, numbers: Sequence[int], home: Path, keep: Path | None = None
) -> Iterator[Outcome]:
    """How each case ends, in order.

    Parameters
    ----------
    format_ : Format
    seed : int
    numbers : sequence of int
        Which cases.
    home : Path
        An empty folder to work in.
    keep : Path, optional
        Where to leave the damaged inputs.
    """
    valid = home / "valid"
    valid.mkdir()
    # Fresh processes make and try the valid input, so that the server has no thread to fork.
    _in_child(lambda: format_.make(valid))
    for name in (*_in_child(lambda: _modules(format_, valid, home)), *format_.imports):
        if name in sys.modules:
            continue
        try:
            importlib.import_module(name)
        except Exception:  # names that a package makes up while it is imported
            continue
    parsed()
    if threading.active_count() > 1:
        raise RuntimeError("a thread runs in the server, which may not be forked then")
    todo = list(numbers)
    while todo:
        before = len(todo)
        for outcome in _some(format_, seed, todo[:_PER_CHILD], home, keep):
            todo.remove(outcome.number)
            if outcome.fault and len(numbers) > 1:
                # Alone, so that no earlier case can have had a hand in it.
                outcome = next(iter(_some(format_, seed, [outcome.number], home, keep)), outcome)
            yield outcome
        if len(todo) == before:
            raise RuntimeError(f"{format_.name} {todo[0]}: its input takes too long to make")


def _in_child(work: Any) -> Any:
    """What a function gives back, run in a process of its own."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        try:
            text = json.dumps({"value": work()})
        except BaseException:
            text = json.dumps({"error": traceback.format_exc()})
        with os.fdopen(write, "w") as stream:
            stream.write(text)
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as stream:
        text = stream.read()
    os.waitpid(child, 0)
    answer = json.loads(text or '{"error": "it died"}')
    if "error" in answer:
        raise RuntimeError(f"the valid input cannot be made or used: {answer['error']}")
    return answer["value"]


def _modules(format_: Format, valid: Path, home: Path) -> list[str]:
    """What the command imports; the valid input has to be accepted."""
    work = home / "try"
    shutil.copytree(valid, work, symlinks=True)
    outcome = _try(format_, work)
    if outcome.ended != "accepted":
        raise RuntimeError(f"{format_.name}: the valid input was {outcome.ended}: {outcome.said}")
    shutil.rmtree(work)
    return [name for name in sys.modules if not name.startswith("__")]


def _some(
    format_: Format, seed: int, numbers: Sequence[int], home: Path, keep: Path | None
) -> Iterator[Outcome]:
    """Outcomes of the cases that one child gets through."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        try:
            _child(format_, seed, numbers, home, keep, write)
        except BaseException:
            os.write(write, (json.dumps({"broken": traceback.format_exc()}) + "\n").encode())
        os._exit(0)
    os.close(write)
    begun: dict[str, Any] | None = None
    stop = False
    for line in _lines(read, child):
        if line is None:
            stop = True
            break
        if "broken" in line:
            raise RuntimeError(line["broken"])
        if "begun" in line:
            begun = line
        else:
            begun = None
            yield Outcome(**line)
    os.close(read)
    _, status = os.waitpid(child, 0)
    if begun is not None:
        number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        why = f"died by {signal.Signals(number).name}" if number else "ended without a word"
        if stop or number == signal.SIGXCPU:
            why = f"hung: more than {BOUNDS['cpu']} s of processor or {BOUNDS['wall']} s of time"
        yield Outcome(
            format=format_.name, number=begun["begun"], damage=begun["damage"], ended="FAULT",
            said=why, where="", seconds=float(BOUNDS["wall"] if stop else 0), megabytes=0.0,
        )  # fmt: skip


def _lines(read: int, child: int) -> Iterator[dict[str, Any] | None]:
    """What the child says; None once it says nothing for too long, and is killed."""
    kept = b""
    while True:
        # Making an absurd input takes seconds too; those are the harness's own.
        ready, _, _ = select.select([read], [], [], 2 * BOUNDS["wall"])
        if not ready:
            os.kill(child, signal.SIGKILL)
            yield None
            return
        part = os.read(read, 1 << 16)
        if not part:
            return
        *lines, kept = (kept + part).split(b"\n")
        for line in lines:
            yield json.loads(line)


def _child(
    format_: Format,
    seed: int,
    numbers: Sequence[int],
    home: Path,
    keep: Path | None,
    write: int,
) -> None:
    space = int(_status("VmSize")) * 1024 + BOUNDS["address"]
    resource.setrlimit(resource.RLIMIT_AS, (space, space))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for number in numbers:
        work = home / f"case-{number}"
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(home / "valid", work, symlinks=True)
        damage = mutate(format_, work, seed, number)
        if keep is not None:
            shutil.rmtree(keep, ignore_errors=True)
            shutil.copytree(work, keep, symlinks=True, ignore=_no_pipes)
        os.write(write, (json.dumps({"begun": number, "damage": damage}) + "\n").encode())
        outcome = _try(format_, work)
        told = {**vars(outcome), "number": number, "damage": damage}
        os.write(write, (json.dumps(told) + "\n").encode())
        shutil.rmtree(work, ignore_errors=True)


def _no_pipes(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if not (Path(folder) / name).is_file()
            and not (Path(folder) / name).is_dir()]  # fmt: skip


def _status(name: str) -> str:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return line.split()[1]
    raise RuntimeError(f"no {name}")


def _try(format_: Format, work: Path) -> Outcome:
    """Run the command in a folder with its input, and judge what came out."""
    os.chdir(work)
    spent = resource.getrusage(resource.RUSAGE_SELF)
    used = int(spent.ru_utime + spent.ru_stime) + 1
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (used + BOUNDS["cpu"], hard))
    with warnings.catch_warnings(), _Captured(work) as captured:
        # As a user has it, but every time: the first case must not keep the others silent.
        warnings.simplefilter("always")
        for kind in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
            warnings.simplefilter("ignore", kind)
        Path("/proc/self/clear_refs").write_text("5")  # forget the peak
        before, began = int(_status("VmRSS")), time.monotonic()
        raised = format_.run(work)
        seconds, peak = time.monotonic() - began, int(_status("VmHWM"))
    out, err = captured.out, captured.err
    resource.setrlimit(resource.RLIMIT_CPU, (hard, hard))
    grown = (peak - before) / 1024
    ended, said, where = _judged(format_, work, raised, out, err)
    if ended != "FAULT" and grown * 2**20 > BOUNDS["rss"]:
        ended, said = "FAULT", f"{grown:.0f} MB of memory; {said}"
    elif ended != "FAULT" and any(word in said + err for word in _HUNGRY):
        ended, said = "FAULT", f"asked for more memory than there is: {said}"
    elif ended != "FAULT" and seconds > BOUNDS["wall"]:
        ended, said = "FAULT", f"{seconds:.0f} s; {said}"
    return Outcome(
        format=format_.name, number=0, damage="", ended=ended, said=said, where=where,
        seconds=round(seconds, 3), megabytes=round(grown, 1),
    )  # fmt: skip


def _judged(
    format_: Format, work: Path, raised: BaseException | None, out: str, err: str
) -> tuple[str, str, str]:
    from skytwin.errors import SkytwinError

    if raised is not None and not isinstance(raised, SkytwinError):
        frames = [
            f for f in traceback.extract_tb(raised.__traceback__) if "/skytwin/" in f.filename
        ]
        where = f"{Path(frames[-1].filename).name}:{frames[-1].name}" if frames else ""
        text = " ".join(str(raised).split())[:200]
        return "FAULT", f"{type(raised).__name__}: {text}", where
    if raised is not None:
        lines = err.splitlines()
        if format_.command and (len(lines) != 1 or not lines[0].startswith("skytwin: error: ")):
            return "FAULT", f"not one line on standard error: {err[:300]!r}", ""
        return "refused", " ".join(str(raised).split()), ""
    if err:
        return "FAULT", f"a word on standard error: {err[:300]!r}", ""
    ended, said = format_.judge(work, out)
    return ended, said, ""


class _Captured:
    """Standard output and error as files, for C libraries too."""

    def __init__(self, work: Path) -> None:
        self._paths = (work / ".stdout", work / ".stderr")
        self.out = self.err = ""

    def __enter__(self) -> Self:
        sys.stdout.flush()
        sys.stderr.flush()
        self._kept = [os.dup(1), os.dup(2)]
        for number, path in zip((1, 2), self._paths, strict=True):
            file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            os.dup2(file, number)
            os.close(file)
        return self

    def __exit__(self, *_: object) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, kept in zip((1, 2), self._kept, strict=True):
            os.dup2(kept, number)
            os.close(kept)
        self.out, self.err = (path.read_text("utf-8", "replace") for path in self._paths)
        for path in self._paths:
            path.unlink()
