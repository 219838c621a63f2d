"""Where independent tasks run: the processes of a Dask scheduler, in order, lost workers replaced.

What a task gives must not depend on where it runs, so that a result is the same to the last bit
whatever the number of workers. Folders are named by their paths: every worker must see them.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import logging
import platform
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from skytwin.errors import Mismatch, Unreachable, UsageError, in_words
from skytwin.threads import a_few_ahead

__all__ = ["Engine", "Kept", "Later", "open_engine", "require_seen"]

T = TypeVar("T")
R = TypeVar("R")

# Tasks under way for each thread of a worker: one runs, one waits.
_AHEAD = 2
# Of what others wait for, to Dask.
_SOON = 10
# Seconds after which workers that came or went are counted anew.
_RECOUNT = 2.0
# Seconds after which a task that takes long is looked after, and for which there may be no worker:
# a cluster's next job has to come through its queue.
_LOOK = 10.0
_PATIENCE = 1800.0
# What Dask does while nothing happens, in every process: a tenth of a processor's time in all, and
# a moment of whatever computes there, up to a hundred times a second.
_SETTINGS = {
    "distributed.worker.profile.enabled": False,
    "distributed.admin.tick.interval": "500ms",
    "distributed.admin.system-monitor.interval": "10s",
    "distributed.worker.memory.monitor-interval": "10s",
}
#: What must be the same on both sides for the same bits.
_LIBRARIES = ("skytwin", "numpy", "scipy", "scikit-learn")


@dataclass(frozen=True, eq=False)
class Kept:
    """What stays on a worker as long as this is referred to."""

    future: Any


@dataclass(frozen=True, eq=False)
class Later:
    """What a task will give."""

    future: Any

    def done(self) -> bool:
        """Whether it need not be waited for."""
        return bool(self.future.done())

    def result(self) -> Any:
        """What it gave, once it did; errors as of `Engine.in_order`."""
        from distributed.client import FutureCancelledError
        from distributed.scheduler import KilledWorker

        seen = time.monotonic()  # that there was a worker
        try:
            while not self.done():
                try:
                    return self.future.result(timeout=_LOOK)
                except TimeoutError:
                    if self.future.client.scheduler_info()["workers"]:
                        seen = time.monotonic()
                    elif time.monotonic() - seen > _PATIENCE:
                        raise Unreachable(
                            f"the Dask scheduler has had no worker for {_PATIENCE / 60:.0f} "
                            "minutes; start some, then repeat the command to resume"
                        ) from None
            return self.future.result()
        except (KilledWorker, FutureCancelledError, OSError) as error:
            raise Unreachable(
                f"the Dask workers were lost ({type(error).__name__}: {in_words(error, 120)}); "
                "see the scheduler's log, then repeat the command to resume"
            ) from None

    def cancel(self) -> None:
        """Nobody waits for it any more."""
        self.future.cancel()


class Engine:
    """A Dask scheduler's workers.

    Attributes
    ----------
    workers : int
        How many tasks they ran at once when it was opened: one per thread.
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        self.workers = self._threads()
        self._counted = time.monotonic()

    def _threads(self) -> int:
        workers = self._client.scheduler_info(n_workers=-1)["workers"].values()
        return max(1, sum(int(each["nthreads"]) for each in workers))

    def _room(self) -> int:
        """Tasks that may run at once by now: a cluster's jobs come and go."""
        if time.monotonic() - self._counted > _RECOUNT:
            self._counted = time.monotonic()
            self.workers = self._threads()
        return self.workers

    def in_order(
        self,
        function: Callable[..., R],
        tasks: Iterable[T],
        *,
        shared: Any = None,
        ahead: int = _AHEAD,
    ) -> Iterator[R]:
        """What the function gives for each task, in the order of the tasks.

        Tasks are asked for as they are needed: so many for each thread of the workers are under
        way, or done and not yet handed over, so that memory stays bounded.

        Parameters
        ----------
        function : callable
            Takes a task, and ``shared`` where there is one.
        tasks : iterable
        shared : object, optional
            What all tasks need: sent once, and again to a worker that replaces a lost one.
        ahead : int
            Tasks under way per thread: more where they take different times and give little.

        Raises
        ------
        SkytwinError
            As the function raised it.
        Unreachable
            A task has lost one worker after another, no worker has come for half an hour, or the
            scheduler is gone.
        """
        # Held by the scheduler as a task of its own: what a lost worker had is made again.
        held = () if shared is None else (self._submit(_same, shared),)
        yield from a_few_ahead(
            lambda task: Later(self._submit(function, task, *held)),
            tasks,
            lambda: ahead * self._room(),
        )

    def kept(
        self, function: Callable[..., Any], tasks: Iterable[T], *, shared: Any = None
    ) -> Iterator[tuple[Any, Kept]]:
        """As `in_order`, of functions that give two things: one comes here, one stays there.

        Parameters
        ----------
        function : callable
            Takes a task, and ``shared`` where there is one; gives a pair.
        tasks : iterable
        shared : object, optional

        Yields
        ------
        first : object
            Of the pair.
        second : Kept
            That of the pair, on its worker until nobody refers to it. Lost with its worker, it
            is made again.
        """
        waiting: deque[tuple[Later, Kept]] = deque()
        try:
            held = () if shared is None else (self._submit(_same, shared),)
            for task in tasks:
                both = self._submit(function, task, *held)
                told = Later(self._submit(_first, both, priority=_SOON))
                waiting.append((told, Kept(both)))
                if len(waiting) >= _AHEAD * self._room():
                    first, second = waiting.popleft()
                    yield first.result(), second
            while waiting:
                first, second = waiting.popleft()
                yield first.result(), second
        finally:
            for first, _ in waiting:
                first.cancel()

    def of_kept(self, function: Callable[..., Any], task: Any, kept: Sequence[Kept]) -> Later:
        """What a function gives for a task and what workers have kept, ahead of other tasks."""
        return Later(
            self._submit(
                _with_second, function, task, *(each.future for each in kept), priority=_SOON
            )
        )

    def kept_of(self, function: Callable[..., Any], task: Any, kept: Sequence[Kept]) -> Kept:
        """As `of_kept`, but it stays where it was made, for others."""
        given = (each.future for each in kept)
        return Kept(self._submit(_as_second, function, task, *given, priority=_SOON))

    def _submit(self, function: Callable[..., Any], *given: Any, priority: int = 0) -> Any:
        with warnings.catch_warnings():
            # What is shared may be large: it is sent once.
            warnings.filterwarnings("ignore", "Sending large graph", UserWarning)
            return self._client.submit(function, *given, pure=False, priority=priority)


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
    Mismatch
        Its workers have no skytwin, or other versions.
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

    dask_settings: Any = importlib.import_module("dask").config
    start: Any = distributed.LocalCluster
    connect: Any = distributed.Client

    with contextlib.ExitStack() as stack:
        stack.enter_context(_quiet())
        # The workers that are started here take these settings over.
        stack.enter_context(dask_settings.set(_SETTINGS))
        if workers is not None:
            try:
                cluster = stack.enter_context(
                    start(
                        n_workers=workers,
                        threads_per_worker=1,
                        processes=True,
                        dashboard_address="127.0.0.1:0",
                        host="127.0.0.1",
                        # What is mapped counts as used: no reason to end a worker.
                        memory_limit=0,
                        silence_logs=logging.CRITICAL,
                        # Processes share the processors: each keeps to one.
                        env={"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
                    )
                )
            except (RuntimeError, OSError) as error:
                raise Unreachable(
                    f"the worker processes did not start ({in_words(error, 80)}); if this is a "
                    "script, put what it does under `if __name__ == '__main__':`"
                ) from None
            client = stack.enter_context(connect(cluster))
        else:
            try:
                client = stack.enter_context(connect(dask, timeout=10))
            except (OSError, ValueError) as error:
                raise Unreachable(
                    f"no Dask scheduler answers at {dask!r} ({in_words(error, 80)}); "
                    "expected an address such as tcp://host:8786"
                ) from None
            if not client.scheduler_info(n_workers=-1)["workers"]:
                raise Unreachable(f"the Dask scheduler at {dask!r} has no worker; start some")
            _require_alike(client)
        yield Engine(client)


def require_seen(path: str) -> None:
    """Said by a worker that does not see what it is to read.

    Raises
    ------
    Unreachable
        There is nothing of that name on its machine.
    """
    if not Path(path).exists():
        raise Unreachable(
            f"the worker on {platform.node()} sees no {path!r}; all workers must see the same "
            "folders under the same paths"
        )


def _require_alike(client: Any) -> None:
    """Other versions may give other bits, or not know the tasks at all."""
    here = _versions()
    for worker, there in client.run(_versions, on_error="return").items():
        if isinstance(there, Exception):
            raise Mismatch(
                f"the Dask worker {worker} cannot run skytwin ({in_words(there, 80)}); install "
                f"skytwin {here['skytwin']} there, with the libraries that are here"
            )
        other = [name for name in here if there.get(name) != here[name]]
        if other:
            name = other[0]
            raise Mismatch(
                f"the Dask worker {worker} has {name} {there.get(name)}; here it is {here[name]}: "
                "the same bits need the same versions"
            )


def _versions() -> dict[str, str]:
    found = {name: importlib.metadata.version(name) for name in _LIBRARIES}
    return {"Python": ".".join(platform.python_version_tuple()[:2]), **found}


def _same(value: T) -> T:
    return value


def _first(pair: tuple[T, Any]) -> T:
    return pair[0]


def _with_second(function: Callable[..., R], task: Any, *pairs: tuple[Any, Any]) -> R:
    return function(task, *(second for _, second in pairs))


def _as_second(function: Callable[..., R], task: Any, *pairs: tuple[Any, Any]) -> tuple[None, R]:
    return None, _with_second(function, task, *pairs)


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
