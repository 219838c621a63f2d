"""Threads that wait for servers, and that an interrupt need not wait for."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from types import TracebackType
from typing import Generic, ParamSpec, Self, TypeVar

__all__ = ["Waiters"]

T = TypeVar("T")
P = ParamSpec("P")


class Waiters(Generic[T]):
    """Some threads that call functions, as `concurrent.futures.ThreadPoolExecutor` does.

    Theirs are daemons: a thread that hangs on a silent server does not keep the process alive.

    Parameters
    ----------
    count : int
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._todo: SimpleQueue[tuple[Future[T], Callable[[], T]] | None] = SimpleQueue()

    def __enter__(self) -> Self:
        for _ in range(self._count):
            threading.Thread(target=self._work, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for _ in range(self._count):
            self._todo.put(None)

    def submit(self, call: Callable[P, T], *args: P.args, **named: P.kwargs) -> Future[T]:
        """Have a thread call a function."""
        future: Future[T] = Future()
        self._todo.put((future, lambda: call(*args, **named)))
        return future

    def _work(self) -> None:
        while (task := self._todo.get()) is not None:
            future, call = task
            try:
                future.set_result(call())
            except BaseException as error:  # handed on to whoever asks for the result
                future.set_exception(error)
