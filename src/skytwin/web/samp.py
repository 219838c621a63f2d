"""The server's place at the SAMP hub: tables to TOPCAT and Aladin, and what is picked there."""

from __future__ import annotations

import asyncio
import importlib.util
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import pyarrow as pa

from skytwin.answers.query import resolve
from skytwin.answers.search import Matches
from skytwin.embeddings.table import Embeddings
from skytwin.errors import DataError, SkytwinError, Unreachable
from skytwin.vo import require_extra
from skytwin.web.ask import likes
from skytwin.web.once import Busy

if TYPE_CHECKING:
    from skytwin.vo.samp import Desk, Question, Sent

__all__ = ["Heard", "Samp"]

_T = TypeVar("_T")
_KEPT, _WAITING, _LOAD_S = 100, 8, 20


@dataclass(frozen=True, kw_only=True)
class Heard:
    """What a SAMP client pointed at.

    Attributes
    ----------
    number : int
        Counts from 1 while the server runs.
    client : str
        Its name.
    like : tuple of str
        Identifiers of the objects meant.
    problem : str
        Why there are none; else empty.
    """

    number: int
    client: str
    like: tuple[str, ...]
    problem: str


class Samp:
    """Sends matches to SAMP clients and remembers what they point at.

    The hub is connected to when it is first needed, and again where another one has taken its
    place. What waits for other programs runs in threads of its own: a program that does not
    answer keeps no page waiting but the one that asked.

    Parameters
    ----------
    embeddings : Embeddings
        What is pointed at is looked up in it.
    """

    def __init__(self, embeddings: Embeddings) -> None:
        self._embeddings = embeddings
        self._pool = ThreadPoolExecutor(2, "samp")
        self._lock = threading.Lock()
        self._desk: Desk | None = None
        self._listener: threading.Thread | None = None
        self._wanted = False
        self._waiting, self._last = 0, 0
        self._heard: deque[Heard] = deque(maxlen=_KEPT)

    @property
    def possible(self) -> bool:
        """Whether pyvo is installed."""
        return importlib.util.find_spec("pyvo") is not None

    @property
    def listening(self) -> bool:
        """Whether what clients point at is remembered."""
        return self._wanted and self._listener is not None and self._listener.is_alive()

    def received(self, after: int) -> dict[str, Any]:
        """What clients pointed at after a number, the latest hundred of it."""
        heard = [one for one in tuple(self._heard) if one.number > after]
        return {
            "listening": self.listening,
            "last": self._last,
            "received": [
                {
                    "number": one.number,
                    "client": one.client,
                    "like": list(one.like),
                    "problem": one.problem,
                }
                for one in heard
            ],
        }

    async def clients(self) -> dict[str, Any]:
        """Whether there is a hub, and the programs that take tables."""
        names: list[str] = []
        problem = ""
        try:
            found = await self._apart(lambda: self._at_hub(lambda desk: desk.clients()))
            names = sorted(found.values(), key=str.lower)
        except Unreachable as reason:
            problem = str(reason)
        return {
            "hub": not problem,
            "problem": problem,
            "clients": names,
            "listening": self.listening,
            "last": self._last,
        }

    async def send(self, matches: Matches, table: pa.Table, to: str) -> Sent:
        """Have clients load a table of matches.

        Raises
        ------
        Unreachable, UnknownName, DataError
            See `skytwin.vo.samp.Desk.send`.
        """

        def sent(desk: Desk) -> Sent:
            return desk.send_matches(matches, to, table, timeout_s=_LOAD_S)

        return await self._apart(lambda: self._at_hub(sent))

    async def listen(self, on: bool) -> None:
        """Remember what clients point at from now on, or no longer.

        Raises
        ------
        Unreachable
            There is no hub.
        """
        self._wanted = False
        if on:
            await self._apart(self.start)

    def start(self) -> None:
        """Listen; blocks while the hub is asked.

        Raises
        ------
        Unreachable
            There is no hub.
        """

        def bound(desk: Desk) -> None:
            if self._listener is None or not self._listener.is_alive():
                desk.listen()
                self._listener = threading.Thread(target=self._hear, args=[desk], daemon=True)
                self._listener.start()

        self._at_hub(bound)
        self._wanted = True

    def close(self) -> None:
        """Take leave of the hub."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        if self._desk is not None:
            self._leave(self._desk)

    async def _apart(self, work: Callable[[], _T]) -> _T:
        if self._waiting >= _WAITING:
            raise Busy(f"{_WAITING} requests wait for other programs already; ask again later")
        self._waiting += 1
        running = asyncio.ensure_future(
            asyncio.get_running_loop().run_in_executor(self._pool, work)
        )
        running.add_done_callback(self._done)
        return await asyncio.shield(running)  # what was begun is finished, whoever goes away

    def _done(self, running: asyncio.Future[Any]) -> None:
        self._waiting -= 1
        if not running.cancelled():
            running.exception()  # nobody may be left to whom it matters

    def _at_hub(self, work: Callable[[Desk], _T]) -> _T:
        """Do something at the hub: where it has gone, at the one that came after it."""
        held = self._desk
        if held is not None:
            try:
                held.clients()
                return work(held)
            except Unreachable:
                self._leave(held)
        return work(self._open())

    def _open(self) -> Desk:
        require_extra("SAMP", "pyvo")
        from skytwin.vo.samp import Desk  # pyvo need not be installed

        with self._lock:
            if self._desk is None:
                self._desk = Desk().__enter__()
            return self._desk

    def _leave(self, desk: Desk) -> None:
        with self._lock:
            if self._desk is desk:
                self._desk = None
                desk.__exit__()

    def _hear(self, desk: Desk) -> None:
        for question in desk.questions():
            if self._wanted:
                self._take(desk, question)
        self._leave(desk)

    def _take(self, desk: Desk, question: Question) -> None:
        like: tuple[str, ...] = ()
        problem = ""
        try:
            meant = likes(self._embeddings, None, desk.references(question))
            found = resolve(self._embeddings, meant)
            like = tuple(dict.fromkeys(str(one.id) for one in found))
        except SkytwinError as reason:
            problem = str(reason)
        except Exception as reason:  # a message of another program must not end the listening
            problem = str(DataError(f"a message that cannot be used ({type(reason).__name__})"))
        self._last += 1
        heard = Heard(number=self._last, client=question.client, like=like, problem=problem)
        self._heard.append(heard)
