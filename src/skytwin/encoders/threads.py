"""How many processors a job may use."""

from __future__ import annotations

import os

__all__ = ["thread_count"]


def thread_count() -> int:
    """``OMP_NUM_THREADS`` where it is set, else the processors this process may run on."""
    wanted = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if wanted.isdigit() and int(wanted) > 0:
        return int(wanted)
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
