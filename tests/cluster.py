"""Workers that tests share, and what kills one of them in the middle of its task."""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from skytwin.embeddings.engine import Engine, open_engine


@functools.cache
def two_workers() -> Engine:
    """A scheduler and two processes, started once for all modules of tests."""
    stack = contextlib.ExitStack()
    engine = stack.enter_context(open_engine(workers=2))
    atexit.register(stack.close)
    assert engine is not None
    return engine


@contextlib.contextmanager
def one_killed(engine: Engine, name: str) -> Iterator[list[int]]:
    """SIGKILL a worker that has a task of that function; its process, once it is done."""
    client = engine._client
    processes = client.run(os.getpid)
    killed: list[int] = []
    over = threading.Event()

    def watch() -> None:
        while not over.is_set() and not killed:
            for worker, tasks in client.processing().items():
                if worker in processes and any(name in str(task) for task in tasks):
                    os.kill(processes[worker], signal.SIGKILL)
                    killed.append(processes[worker])
                    return
            time.sleep(0.002)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield killed
    finally:
        over.set()
        watcher.join()
    assert killed, f"no task of {name} was ever seen"


def tree(folder: Path) -> dict[str, bytes]:
    """Every file of a finished folder that its manifest answers for, and what that says of them."""
    from skytwin.artefact import Manifest

    manifest = Manifest.open(folder)
    files = {name: (folder / name).read_bytes() for name in manifest.files}
    return {**files, "fingerprint": manifest.fingerprint.encode()}
