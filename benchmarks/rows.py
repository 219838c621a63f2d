"""What a benchmark found, one line per contender, and the one table that all of them print."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Row", "machine", "table"]

_LIBRARIES = ("numpy", "scikit-learn", "faiss-cpu", "torch", "openvino", "zuko")


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
