"""How many processors a job may use."""

from __future__ import annotations

import os

__all__ = ["processor_count", "thread_count"]


def processor_count() -> int:
    """The processors this process may run on."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def thread_count() -> int:
    """Threads that compute: ``OMP_NUM_THREADS`` where it is set, else one per processor."""
    wanted = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return int(wanted) if wanted.isdigit() and int(wanted) > 0 else processor_count()
