"""Contenders timed in turns, what was found of each, and the one table that all of them print."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

__all__ = ["Row", "in_turns", "machine", "table"]

_LIBRARIES = ("numpy", "scikit-learn", "faiss-cpu", "torch", "openvino", "zuko")


Name = TypeVar("Name")


@dataclass(frozen=True)
class Row:
    """One contender. The first of each ``what`` is what a user would run instead.

    ``median`` is over rounds in which the contenders took turns; a unit per second is better when
    larger, any other when smaller.
    """

    what: str
    way: str
    median: float
    unit: str
    note: str = ""


def in_turns(
    contenders: Mapping[Name, Callable[[], object]], rounds: int, *, unseen: int = 0
) -> dict[Name, float]:
    """Median seconds of each, one after the other in every round; the first rounds may not count.

    So what else the machine does in the meantime meets all of them.
    """
    taken: dict[Name, list[float]] = {name: [] for name in contenders}
    for _ in range(unseen + rounds):
        for name, run in contenders.items():
            start = time.perf_counter()
            run()
            taken[name].append(time.perf_counter() - start)
    return {name: statistics.median(each[unseen:]) for name, each in taken.items()}


def table(rows: Iterable[Row]) -> str:
    """Markdown, with how many times better each is than the first of its kind."""
    lines = ["| what | way | median | of the first | |", "|---|---|---|---|---|"]
    first: dict[str, Row] = {}
    for row in rows:
        base = first.setdefault(row.what, row)
        better = row.median / base.median if row.unit.endswith("/s") else base.median / row.median
        what = row.what if base is row else ""
        lines.append(
            f"| {what} | {row.way} | {row.median:.4g} {row.unit} | {better:.2f} | {row.note} |"
        )
    return "\n".join(lines)


def machine() -> str:
    """Processor, load, versions: one line."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor() or platform.machine(),
    )
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in _LIBRARIES)
    return (
        f"{len(os.sched_getaffinity(0))} cores of {model}, load {os.getloadavg()[0]:.1f}; Python "
        f"{platform.python_version()}, {versions}"
    )
