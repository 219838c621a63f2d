"""Commands as processes of their own, each a fork of one that has imported what they need.

For what is killed and repeated many times: to import torch and Lightning takes seconds, to train
what a test trains less than one. What happens after the imports is as in `command.process`.
"""

from __future__ import annotations

import faulthandler
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any, Self

from command import Outcome

_PATIENCE = 240.0  # seconds that one command may take, the first with the imports


class Forks:
    """Runs commands in forks of one process; within ``with``.

    Parameters
    ----------
    modules : str
        What is imported before, once.
    """

    def __init__(self, *modules: str) -> None:
        self._modules = modules

    def __enter__(self) -> Self:
        self._near = tempfile.TemporaryDirectory()
        self._server = subprocess.Popen(
            [sys.executable, "-W", "error", __file__, *self._modules],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        return self

    def __exit__(self, *_: object) -> None:
        with self._server:
            assert self._server.stdin is not None
            self._server.stdin.close()
        self._near.cleanup()

    def __call__(self, *words: object, before: str = "") -> Outcome:
        """Run a command, some Python put before it."""
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        out, err = (Path(self._near.name) / name for name in ("out", "err"))
        task = {"words": list(map(str, words)), "before": before, "out": str(out), "err": str(err)}
        late = threading.Timer(_PATIENCE, os.killpg, (self._server.pid, signal.SIGKILL))
        late.start()
        self._server.stdin.write(json.dumps(task) + "\n")
        self._server.stdin.flush()
        code = self._server.stdout.readline()
        late.cancel()
        assert code, (
            f"{' '.join(task['words'])}: took more than {_PATIENCE:g} s, or the imports failed\n"
            f"{err.read_text() if err.exists() else ''}"
        )
        return Outcome(code=int(code), out=out.read_text(), err=err.read_text())


def _serve(modules: list[str]) -> dict[str, Any] | None:
    """In the process that forks: None when there is nothing more to do; in a fork, its task."""
    # The workers of a test runner are deaf to interrupts, and so is what they start.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for module in modules:
        importlib.import_module(module)
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            return dict(json.loads(line))
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)
    return None


def _become(task: dict[str, Any]) -> None:
    for handle, path, how in (
        (0, os.devnull, os.O_RDONLY),
        (1, task["out"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
        (2, task["err"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
    ):
        opened = os.open(path, how, 0o644)
        os.dup2(opened, handle)
        os.close(opened)
    faulthandler.dump_traceback_later(_PATIENCE - 10)
    sys.argv = ["skytwin", *task["words"]]
    exec(task["before"], {"__name__": "before"})
    from skytwin.cli import main

    main()


if __name__ == "__main__" and (given := _serve(sys.argv[1:])) is not None:
    _become(given)
