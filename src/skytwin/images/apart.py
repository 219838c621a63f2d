"""Work on what comes from others by a process of its own, bounded in time and memory.

Such a process is a module that is run with ``python -P -m``: it takes its bounds as arguments and
what it works on from standard input. It gives its result on standard output; or it ends with
`REFUSED` and a reason in one line on standard error.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys

__all__ = ["REFUSED", "bound_this_process", "run_apart"]

REFUSED = 3


def run_apart(
    module: str, arguments: list[str], content: bytes, *, seconds: float
) -> subprocess.CompletedProcess[bytes] | None:
    """Run a module on some content; None where it took longer."""
    few = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    try:
        return subprocess.run(
            [sys.executable, "-P", "-m", module, *arguments],
            input=content,
            capture_output=True,
            timeout=seconds,
            env={**os.environ, **few},
            check=False,
        )
    except subprocess.TimeoutExpired:
        return None


def bound_this_process(memory: int, seconds: float) -> None:
    """Take no more than so many bytes and seconds of a processor, and write no file."""
    try:
        import resource  # not on Windows
    except ImportError:
        return
    whole = math.ceil(seconds)
    resource.setrlimit(resource.RLIMIT_CPU, (whole, whole))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    if sys.platform != "darwin":  # which knows no such limit
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
