"""How many processors a job may use, and work that is done on several at once."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, Protocol, TypeVar

__all__ = ["Threads", "a_few_ahead", "processor_count", "thread_count"]

T = TypeVar("T")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class Promised(Protocol[R_co]):
    """What a task will give."""

    def result(self) -> R_co:
        """What it gave, once it did."""

    def cancel(self) -> object:
        """Nobody asks for it any more."""


def processor_count() -> int:
    """The processors this process may run on."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def thread_count() -> int:
    """Threads that compute: ``OMP_NUM_THREADS`` where it is set, else one per processor."""
    wanted = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return int(wanted) if wanted.isdigit() and int(wanted) > 0 else processor_count()


def a_few_ahead(
    submit: Callable[[T], Promised[R]], tasks: Iterable[T], room: Callable[[], int]
) -> Iterator[R]:
    """What tasks give, in their order, so many of them under way or not yet handed over.

    Tasks are asked for as they are needed; those that nobody asks for any more are cancelled.
    """
    waiting: deque[Promised[R]] = deque()
    try:
        for task in tasks:
            waiting.append(submit(task))
            if len(waiting) >= room():
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for each in waiting:
            each.cancel()


class Threads:
    """Threads of this process, to be asked like the workers of `skytwin.embeddings.engine.Engine`.

    For work that lets go of the interpreter's lock. Nothing is copied.

    Parameters
    ----------
    workers : int
        How many.
    """

    def __init__(self, workers: int) -> None:
        self.workers = workers

    def in_order(
        self,
        function: Callable[[T, Any], R],
        tasks: Iterable[T],
        *,
        shared: Any = None,
        ahead: int = 2,
    ) -> Iterator[R]:
        """What the function gives for each task and ``shared``, in the order of the tasks.

        Parameters
        ----------
        function : callable
        tasks : iterable
        shared : object, optional
        ahead : int
            Tasks under way, or done and not yet handed over, for each thread.
        """
        asked: SimpleQueue[tuple[T, Future[R]] | None] = SimpleQueue()

        def work() -> None:
            while (one := asked.get()) is not None:
                task, later = one
                if not later.set_running_or_notify_cancel():
                    continue
                try:
                    later.set_result(function(task, shared))
                except BaseException as error:  # handed over to whoever asked
                    later.set_exception(error)

        def submit(task: T) -> Future[R]:
            later: Future[R] = Future()
            asked.put((task, later))
            return later

        # Not of a pool, whose end waits for what is under way: an interrupt should not.
        for _ in range(self.workers):
            threading.Thread(target=work, name="beside", daemon=True).start()
        try:
            yield from a_few_ahead(submit, tasks, lambda: ahead * self.workers)
        finally:
            for _ in range(self.workers):
                asked.put(None)
