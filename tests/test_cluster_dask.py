"""Every verb on a scheduler and workers that were started as processes of their own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from cluster import tree
from command import skytwin as command
from skytwin.embeddings import engine
from skytwin.errors import Unreachable

pytest.importorskip("distributed")
DASK = [sys.executable, "-m", "dask"]


@contextlib.contextmanager
def cluster(folder: Path, workers: int) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """Address of a scheduler, and its workers, without nannies that would start them anew."""
    where = folder / "scheduler.json"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    settings = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "DASK_DISTRIBUTED__LOGGING__DISTRIBUTED": "critical",
    }
    with contextlib.ExitStack() as stack:

        def start(*words: object) -> subprocess.Popen[bytes]:
            made = subprocess.Popen([*DASK, *map(str, words)], env=settings, cwd=folder, **quiet)
            stack.callback(made.wait)
            stack.callback(made.kill)
            return made

        start("scheduler", "--scheduler-file", where, "--host", "127.0.0.1", "--port", 0,
              "--dashboard-address", "127.0.0.1:0", "--no-dashboard")  # fmt: skip
        made = [
            start("worker", "--scheduler-file", where, "--host", "127.0.0.1", "--no-nanny",
                  "--nthreads", 1, "--no-dashboard", "--dashboard-address", "127.0.0.1:0")
            for _ in range(workers)
        ]  # fmt: skip
        import distributed

        until = time.monotonic() + 60
        while not (where.exists() and where.read_text()) and time.monotonic() < until:
            time.sleep(0.05)
        address = json.loads(where.read_text())["address"]
        with distributed.Client(address) as client:
            client.wait_for_workers(workers, timeout=60)
        yield address, made


@pytest.mark.slow
def test_all_verbs_and_a_worker_killed_for_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    count = 600
    np.savez(
        tmp_path / "stack.npz",
        images=rng.random((count, 20, 20)).astype(np.float32),
        ids=np.array([f"o{row}" for row in range(count)]),
        kind=rng.integers(0, 2, count),
    )
    there = tmp_path / "elsewhere"
    there.mkdir()

    def verbs(home: Path) -> dict[str, list[object]]:
        return {
            "cut": ["ingest", "stack.npz", "--quiet"],
            "emb": ["embed", home / "cut", "--encoder", "pca:6", "--orbit", "d4", "--quiet"],
            "found": ["search", home / "emb", "--like", "o3", "--like", "o8", "--null-queries", 0],
            "probe": ["probe", home / "emb", "--label", "kind", "--classifiers", "lr,rf", "--quiet",
                      "--folds", 2, "--repeats", 1, "--budget", "none", "--no-baselines"],
        }  # fmt: skip

    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    for name, words in verbs(tmp_path / "here").items():
        ended = command(*words, "--out", tmp_path / "here" / name)
        assert ended.code == 0, ended.err
    with cluster(there, 2) as (address, workers):
        home = tmp_path / "there"
        home.mkdir()
        for name, words in verbs(home).items():
            more = ["--out", home / name, "--dask", address]
            if name == "probe":  # in the middle of what takes longest, and nobody replaces it
                workers[0].send_signal(signal.SIGKILL)
            ended = command(*words, *more)
            assert ended.code == 0, ended.err
        files = {
            name: [tree(tmp_path / way / name) for way in ("here", "there")]
            for name in ("cut", "emb", "found", "probe")
        }
        workers[1].kill()
        workers[1].wait()
        ended = command(*verbs(home)["probe"], "--out", tmp_path / "x", "--dask", address)
        assert ended.code == 1
        assert "has no worker; start some" in ended.err
    for one, other in files.values():
        assert one == other


@pytest.mark.slow
def test_nobody_waits_for_ever_for_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "_LOOK", 0.2)
    monkeypatch.setattr(engine, "_PATIENCE", 1.0)
    with (
        cluster(tmp_path, 1) as (address, _),
        engine.open_engine(dask=address) as found,
        pytest.raises(Unreachable, match="has had no worker for .* start some"),
    ):
        assert found is not None
        list(found.in_order(os._exit, [1]))
