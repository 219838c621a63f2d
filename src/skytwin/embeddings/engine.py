"""Where independent tasks run: the processes of a Dask scheduler, in order, lost workers replaced.

What a task gives must not depend on where it runs, so that a result is the same to the last bit
whatever the number of workers. Folders are named by their paths: every worker must see them.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from skytwin.errors import Unreachable, UsageError

__all__ = ["Engine", "open_engine"]

T = TypeVar("T")
R = TypeVar("R")

# Tasks under way for each worker: one runs, one waits.
_AHEAD = 2


class Engine:
    """A Dask scheduler's workers.

    Attributes
    ----------
    workers : int
        How many there were when it was opened.
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        self.workers = max(1, len(client.scheduler_info(n_workers=-1)["workers"]))

    def in_order(self, function: Callable[[T], R], tasks: Iterable[T]) -> Iterator[R]:
        """What the function gives for each task, in the order of the tasks.

        At most two tasks for each worker are under way, so that memory stays bounded.

        Raises
        ------
        SkytwinError
            As the function raised it.
        Unreachable
            A task has lost one worker after another, or the scheduler is gone.
        """
        from distributed.client import FutureCancelledError
        from distributed.scheduler import KilledWorker

        waiting: deque[Any] = deque()
        try:
            for task in tasks:
                waiting.append(self._client.submit(function, task, pure=False))
                if len(waiting) >= _AHEAD * self.workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except (KilledWorker, FutureCancelledError, OSError) as error:
            raise Unreachable(
                f"the Dask workers were lost ({type(error).__name__}: "
                f"{' '.join(str(error).split())[:120]}); see the scheduler's log, then repeat the "
                "command to resume"
            ) from None
        finally:
            for future in waiting:
                future.cancel()


@contextlib.contextmanager
def open_engine(*, dask: str | None = None, workers: int | None = None) -> Iterator[Engine | None]:
    """Connect to a scheduler, or start one here; None where neither is asked for.

    Parameters
    ----------
    dask : str, optional
        Address of a scheduler: ``tcp://host:8786``.
    workers : int, optional
        Start so many processes of one thread each on this machine.

    Raises
    ------
    UsageError
        Both are given; Dask is not installed; no worker is asked for.
    Unreachable
        No scheduler answers, or it has no worker.
    """
    if dask is None and workers is None:
        yield None
        return
    if dask is not None and workers is not None:
        raise UsageError("--dask names a scheduler and --workers starts one; give one of them")
    if importlib.util.find_spec("distributed") is None:
        raise UsageError("Dask is not installed; install skytwin[cluster]")
    if workers is not None and workers < 1:
        raise UsageError(f"{workers} workers; expected at least 1")
    # A library of 0.6 s that few commands need.
    import distributed

    start: Any = distributed.LocalCluster
    connect: Any = distributed.Client

    with contextlib.ExitStack() as stack:
        stack.enter_context(_quiet())
        if workers is not None:
            cluster = stack.enter_context(
                start(
                    n_workers=workers,
                    threads_per_worker=1,
                    processes=True,
                    dashboard_address="127.0.0.1:0",
                    host="127.0.0.1",
                    # Processes share the processors: each keeps to one.
                    env={"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
                )
            )
            client = stack.enter_context(connect(cluster))
        else:
            try:
                client = stack.enter_context(connect(dask, timeout=10))
            except (OSError, ValueError) as error:
                raise Unreachable(
                    f"no Dask scheduler answers at {dask!r} ({' '.join(str(error).split())[:80]}); "
                    "expected an address such as tcp://host:8786"
                ) from None
            if not client.scheduler_info(n_workers=-1)["workers"]:
                raise Unreachable(f"the Dask scheduler at {dask!r} has no worker; start some")
        yield Engine(client)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Dask's own log would run through the progress; its errors reach the caller anyway."""
    log = logging.getLogger("distributed")
    before = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(before)
