"""Answers kept by what was asked, and worked out once however many ask at a time."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Executor
from typing import Generic, TypeVar

from skytwin.errors import SkytwinError

__all__ = ["Busy", "Once"]

T = TypeVar("T")


class Busy(SkytwinError):
    """So many wait already that one more is told to come back."""


class Once(Generic[T]):
    """A bounded memory of answers.

    Parameters
    ----------
    pool : Executor
        Where answers are worked out.
    room : int
        What may be kept, in units of ``size``; the one used longest ago goes first.
    waiting : int
        How many may be worked on at a time.
    size : callable, optional
        Of one answer; 1 by default.
    """

    def __init__(
        self,
        pool: Executor,
        *,
        room: int,
        waiting: int,
        size: Callable[[T], int] = lambda _: 1,
    ) -> None:
        self._pool, self._room, self._waiting, self._size = pool, room, waiting, size
        self._kept: OrderedDict[Hashable, T] = OrderedDict()
        self._running: dict[Hashable, asyncio.Future[T]] = {}
        self._used = 0

    def __len__(self) -> int:
        return len(self._kept)

    def peek(self, key: Hashable) -> T | None:
        """The answer if it is there already."""
        found = self._kept.get(key)
        if found is not None:
            self._kept.move_to_end(key)
        return found

    async def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """The answer to a question, made if nobody has yet.

        An answer is finished and kept even if the client that asked for it goes away.

        Raises
        ------
        Busy
            Too many wait.
        """
        found = self.peek(key)
        if found is not None:
            return found
        if key not in self._running:
            if len(self._running) >= self._waiting:
                raise Busy(f"{self._waiting} requests are waiting already; ask again in a moment")
            running = asyncio.ensure_future(
                asyncio.get_running_loop().run_in_executor(self._pool, make)
            )
            self._running[key] = running
            running.add_done_callback(lambda done: self._finish(key, done))
        return await asyncio.shield(self._running[key])

    def _finish(self, key: Hashable, done: asyncio.Future[T]) -> None:
        self._running.pop(key, None)
        if done.cancelled() or done.exception() is not None:
            return
        self._kept[key] = done.result()
        self._used += self._size(done.result())
        while self._used > self._room and len(self._kept) > 1:
            _, old = self._kept.popitem(last=False)
            self._used -= self._size(old)
