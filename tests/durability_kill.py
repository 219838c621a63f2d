"""Kill a command at a random moment, again and again, until it ends; then hold it to the unbroken.

Run as a program: ``python tests/durability_kill.py --kills 100 --seed 0 [--only ingest,embed]``.
A further command takes one entry in `durability_verbs.KILLED`.

A moment is one of the operations on files below the folder of the result: every open, rename,
removal and new folder (Python's audit events), and every fsync, before and after it. Three kinds of
end are drawn in turn:

``kill``   SIGKILL at such an operation;
``power``  the same, and what was not yet fsynced is cut off at a random place, as when the power
           fails;
``clock``  SIGKILL after a random time, wherever the process is, in the middle of a write too.

Each process is a fork of one that has only imported things, since what is under test is what
happens after.
"""

from __future__ import annotations

import argparse
import faulthandler
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from durability_verbs import KILLED, content, load, prepare

WAYS = ("kill", "power", "clock")
_PATIENCE = 150.0  # seconds that a command may take; then it says where it is, and is ended
_MOST_TRIES = 8  # kills of one run, before it is let through
#: What the command says that is repeated after it was killed when it had just finished.
_FINISHED = ("already holds a finished result", "exists and is not empty")


@dataclass
class Trap:
    """Counts operations on files below a folder, and ends the process at one of them."""

    folder: str
    at: int
    power: bool
    draw: random.Random
    count: int = 0
    synced: dict[int, int] = field(default_factory=dict)  # inode: bytes that are on disk for good
    lock: Any = field(default_factory=threading.RLock)

    def set(self) -> None:
        """From here on operations count; what is there already is on disk for good."""
        for path in _files(Path(self.folder)):
            stat = path.stat()
            self.synced[stat.st_ino] = stat.st_size
        whole = os.fsync

        def fsync(handle: int) -> None:
            self.step()
            whole(handle)
            stat = os.fstat(handle)
            self.synced[stat.st_ino] = stat.st_size
            self.step()

        os.fsync = fsync  # type: ignore[assignment]
        sys.addaudithook(self.heard)

    def heard(self, event: str, args: tuple[Any, ...]) -> None:
        """An audit event of Python."""
        if event not in ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate"):
            return
        if not isinstance(args[0], (str, bytes, os.PathLike)):
            return
        path = os.path.abspath(os.fsdecode(args[0]))  # noqa: PTH100  (in every open of a process)
        if not path.startswith(self.folder):
            return
        self.step()
        if event == "open" and args[2] & os.O_TRUNC and os.path.exists(path):  # noqa: PTH110
            self.synced.pop(os.stat(path).st_ino, None)  # noqa: PTH116

    def step(self) -> None:
        """One operation more."""
        with self.lock:
            self.count += 1
            if self.count != self.at:
                return
            self.at = -1
            if self.power:
                for path in _files(Path(self.folder)):
                    self._cut(path)
            os.kill(os.getpid(), signal.SIGKILL)

    def _cut(self, path: Path) -> None:
        stat = path.stat()
        kept = self.synced.get(stat.st_ino, 0)
        if kept < stat.st_size:
            os.truncate(path, self.draw.randint(kept, stat.st_size))


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


@dataclass(frozen=True)
class Ended:
    """How a process ended."""

    code: int  # negative: a signal
    err: str
    count: int  # operations counted
    seconds: float


def run(
    words: Sequence[str], near: Path, *, at: int = 0, power: bool = False, after: float = 0.0,
    seed: int = 0,
) -> Ended:  # fmt: skip
    """Run a command in a fork; it dies at operation ``at``, or after so many seconds.

    One that is never done ends all, and says in which line each of its threads was.
    """
    said, counted = near.parent / "stderr", near.parent / "count"
    begun = time.monotonic()
    child = os.fork()
    if child == 0:
        _child(words, near, at, power, seed, said, counted)
    clock = threading.Timer(after or _PATIENCE + 10, os.kill, (child, signal.SIGKILL))
    clock.start()
    # Not yet reaped: until the clock is stopped its number is nobody else's.
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    clock.cancel()
    _, status = os.waitpid(child, 0)
    if time.monotonic() - begun > _PATIENCE:
        raise SystemExit(f"{' '.join(words)}: not done after {_PATIENCE:g} s\n{said.read_text()}")
    return Ended(
        code=os.waitstatus_to_exitcode(status),
        err=said.read_text(errors="replace"),
        count=int(counted.read_text()) if status == 0 else 0,
        seconds=time.monotonic() - begun,
    )


def _child(
    words: Sequence[str], near: Path, at: int, power: bool, seed: int, said: Path, counted: Path
) -> None:
    code: Any = 70
    try:
        handle = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        faulthandler.dump_traceback_later(_PATIENCE)
        from skytwin.cli import main

        trap = Trap(str(near), at, power, random.Random(seed))
        trap.set()
        sys.argv = ["skytwin", *words]
        try:
            main()
        except SystemExit as stop:
            code = stop.code or 0
        trap.at = -1
        counted.write_text(str(trap.count))
        sys.stdout.flush()
    except BaseException:  # what is not foreseen has to be seen
        import traceback

        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 70)


@dataclass
class Findings:
    """What the kills have shown."""

    kills: Counter[str] = field(default_factory=Counter)
    runs: int = 0
    wrong: list[str] = field(default_factory=list)


def punish(name: str, home: Path, kills: int, seed: int, findings: Findings) -> None:
    """Kill one command so many times in all, in runs of one to eight kills each."""
    draw = random.Random(f"{seed} {name}")
    near = home / "near"  # everything the command writes is below, and nothing else is
    out = near / "out"
    words = [each.format(home=home, out=out) for each in KILLED[name]]

    def fresh() -> None:
        shutil.rmtree(near, ignore_errors=True)
        near.mkdir()

    fresh()
    whole = run(words, near)
    if whole.code != 0:
        raise SystemExit(f"{name}: the unbroken run ended with {whole.code}: {whole.err}")
    want = content(near)
    done = 0
    while done < kills:
        fresh()
        findings.runs += 1
        told: list[str] = []
        tries = draw.randint(1, _MOST_TRIES)
        while True:
            how = WAYS[done % 3] if tries and done < kills else ""
            ended = run(
                words, near,
                at=draw.randint(1, whole.count) if how in ("kill", "power") else 0,
                power=how == "power",
                after=draw.uniform(0, whole.seconds) if how == "clock" else 0.0,
                seed=draw.randrange(1 << 30),
            )  # fmt: skip
            if ended.code == -signal.SIGKILL:
                told.append(how)
                findings.kills[how] += 1
                done, tries = done + 1, tries - 1
                wrong = _half_way(out)
                if wrong:
                    break
                continue
            over = ended.code == 0 or any(said in ended.err for said in _FINISHED)
            wrong = "" if over else f"ended with {ended.code}: {ended.err.strip()}"
            if over:
                wrong = _differs(want, content(near))
            break
        if wrong:
            findings.wrong.append(f"{name} after {', '.join(told)}: {wrong}")
            print(findings.wrong[-1], flush=True)


def _half_way(out: Path) -> str:
    """A killed run is either finished, whole in every byte, or says that it is not."""
    from skytwin.artefact import Manifest
    from skytwin.errors import SkytwinError, UsageError

    try:
        Manifest.open(out).verify(out, every_byte=True)
    except UsageError:
        return ""
    except SkytwinError as error:
        return f"left a folder that passes for finished: {error}"
    return ""


def _differs(want: dict[str, str], got: dict[str, str]) -> str:
    odd = sorted(name for name in want.keys() | got.keys() if want.get(name) != got.get(name))
    if not odd:
        return ""
    said = [
        f"{name} ({'missing' if name not in got else 'too many' if name not in want else 'other'})"
        for name in odd[:6]
    ]
    return f"differs from the unbroken run in {len(odd)} file(s): {', '.join(said)}"


def main() -> None:
    """Punish every command; exit 1 where anything is not as it was."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100, help="in all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default=",".join(KILLED), help="commands, with commas")
    given = parser.parse_args()
    names = given.only.split(",")
    load(names)
    findings = Findings()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        prepare(home, names)
        for number, name in enumerate(names):
            share = given.kills // len(names) + (number < given.kills % len(names))
            before, begun = findings.kills.total(), time.monotonic()
            punish(name, home, share, given.seed, findings)
            made = findings.kills.total() - before
            print(f"{name:<10} {made} kills, {time.monotonic() - begun:.0f} s", flush=True)
    said = ", ".join(f"{count} {how}" for how, count in sorted(findings.kills.items()))
    print(f"{findings.kills.total()} kills ({said}) in {findings.runs} runs, seed {given.seed}")
    print(f"{len(findings.wrong)} run(s) not as the unbroken one")
    sys.exit(bool(findings.wrong))


if __name__ == "__main__":
    main()
