"""Progress of long jobs: a bar on a terminal, plain lines elsewhere; both with rate and ETA."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self, TextIO

__all__ = ["Progress", "clock"]


def clock(seconds: float) -> str:
    """``3725`` -> ``'1:02:05'``; unknown (NaN, infinite) -> ``'?'``."""
    if not 0 <= seconds < 1e9:
        return "?"
    minutes, second = divmod(int(seconds + 0.5), 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour}:{minute:02d}:{second:02d}" if hour else f"{minute}:{second:02d}"


class Progress:
    """Count towards a known total on standard error.

    Parameters
    ----------
    what : str
        The verb shown, e.g. ``"embed"``.
    total : int
        Number of items in all, those done in an earlier run included.
    done : int
        Items an earlier run left done: shown, but not counted in the rate.
    unit : str
        What is counted, e.g. ``"images"``.
    quiet : bool
        Show nothing.
    every_s : float
        Seconds between plain lines where standard error is not a terminal.
    """

    def __init__(
        self,
        what: str,
        total: int,
        *,
        done: int = 0,
        unit: str = "images",
        quiet: bool = False,
        every_s: float = 10.0,
        stream: TextIO | None = None,
    ) -> None:
        self.what, self.total, self.unit, self.quiet = what, total, unit, quiet
        self.done = self._start_done = done
        self._stream = stream or sys.stderr
        self._terminal = self._stream.isatty()
        self._every = 0.1 if self._terminal else every_s
        self._start = self._last = time.monotonic()
        self._said = False
        self._note = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # A plain log needs no closing line for a job that was over before its first.
        if not self.quiet and (self._said or self._terminal):
            self._write(end=True)

    def advance(self, count: int, note: str = "") -> None:
        """Count ``count`` more items as done, and show it, with a note, when it is time to."""
        self.done += count
        self._note = note
        now = time.monotonic()
        if not self.quiet and now - self._last >= self._every:
            self._last = now
            self._write()

    def _write(self, end: bool = False) -> None:
        elapsed = time.monotonic() - self._start
        rate = (self.done - self._start_done) / elapsed if elapsed > 0 else 0.0
        eta = (self.total - self.done) / rate if rate > 0 else float("nan")
        share = self.done / self.total if self.total else 1.0
        when = f"took {clock(elapsed)}" if end else f"ETA {clock(eta)}"
        facts = f"{self.done}/{self.total} {self.unit} ({share:.0%})  {rate:.3g}/s  {when}"
        if self._note:
            facts += f"  {self._note}"
        if self._terminal:
            bar = "━" * round(24 * share)
            self._stream.write(f"\r\x1b[2K{self.what} {bar:<24} {facts}" + ("\n" if end else ""))
        else:
            self._stream.write(f"{self.what}: {facts}\n")
        self._stream.flush()
        self._said = True
