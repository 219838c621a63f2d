"""`skytwin serve` under load: 200 requests a second for a minute, 100 000 x 1280.

    python benchmarks/serve_load.py [--rate 200] [--seconds 60] [--fresh 0.02]

Requests are sent when they are due, whether or not the ones before are answered, and a latency
counts from that moment: a stall is not hidden. Two processes share the machine, the server and
this one. What is asked for: thumbnails (60 %), rows of the catalogue (20 %), searches that were
asked for before (the rest), some of which the client still holds, and ``--fresh`` new searches.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from exact_scan import features
from rows import Row, machine, table

import skytwin
from skytwin.embeddings.adopt import adopt

ROWS, DIM, SIDE, POPULAR, CONNECTIONS = 100_000, 1280, 32, 100, 32
SERVE = "import typer; from skytwin.cli_serve import serve; typer.run(serve)"


def survey(folder: Path, rows: int) -> None:
    """Vectors and images of as many objects."""
    ids = np.array([f"o{row:06d}" for row in range(rows)])
    rng = np.random.default_rng(0)
    np.savez(folder / "vectors.npz", vectors=features(rows, DIM), ids=ids)
    images = rng.integers(0, 255, (rows, SIDE, SIDE), dtype=np.uint8)
    np.savez(folder / "images.npz", images=images, ids=ids)
    adopt(folder / "vectors.npz", folder / "emb", quiet=True)
    skytwin.ingest(folder / "images.npz", folder / "cut", quiet=True)


@dataclass
class Asked:
    """Latencies in seconds, by what was asked for, and answers that were none."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    failed: list[str] = field(default_factory=list)


class Connection:
    """One kept-alive connection, one request at a time."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def get(self, path: str, tag: str = "") -> tuple[int, str]:
        """Status and tag of an answer, its body read."""
        if self.streams is None:
            self.streams = await asyncio.open_connection("127.0.0.1", self.port)
        reader, writer = self.streams
        held = [f"If-None-Match: {tag}"] if tag else []
        lines = ["Host: 127.0.0.1", "Accept-Encoding: gzip", *held, "", ""]
        writer.write("\r\n".join([f"GET {path} HTTP/1.1", *lines]).encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        status = int(head.split(maxsplit=2)[1])
        fields = dict(line.split(": ", 1) for line in head.splitlines()[1:] if ": " in line)
        if status != 304:
            await reader.readexactly(int(fields.get("content-length", 0)))
        return status, fields.get("etag", "").replace("w/", "W/")


async def load(port: int, *, rate: float, seconds: float, fresh: float, rows: int) -> Asked:
    """Ask at a steady rate."""
    rng = np.random.default_rng(1)
    free: asyncio.Queue[Connection] = asyncio.Queue()
    for _ in range(CONNECTIONS):
        free.put_nowait(Connection(port))
    popular = [f"/api/search?like=o{row:06d}&k=100" for row in rng.integers(0, rows, POPULAR)]
    tags: dict[str, str] = {}
    new = itertools.count()
    found = Asked()

    async def one(kind: str, path: str, due: float, held: str) -> None:
        connection = await free.get()
        try:
            status, tag = await connection.get(path, held)
            if status not in {200, 304}:
                found.failed.append(f"{status} {path}")
            if tag:
                tags[path] = tag
        except (OSError, asyncio.IncompleteReadError) as error:
            found.failed.append(f"{error} {path}")
            connection.streams = None
        free.put_nowait(connection)
        found.seconds[kind].append(time.perf_counter() - due)

    for path in popular:  # as after some use
        await one("warming", path, time.perf_counter(), "")
    del found.seconds["warming"]
    begin = time.perf_counter() + 0.5
    running = set()
    for number in range(int(rate * seconds)):
        due = begin + number / rate
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        draw = rng.random()
        # Few objects are looked at often, many once.
        name = f"o{min(rows - 1, int(rng.pareto(0.6) * 50)):06d}"
        held = ""
        if draw < fresh:
            kind, path = "new search", f"/api/search?like=o{next(new) * 37 % rows:06d}&k=101"
        elif draw < 0.6 + fresh:
            kind, path = "thumbnail", f"/api/thumbnail/{name}?size=128"
        elif draw < 0.8 + fresh:
            kind, path = "row", f"/api/object/{name}"
        else:
            path = popular[int(rng.integers(POPULAR))]
            held = tags.get(path, "") if rng.random() < 0.5 else ""
            kind = "search that the client holds" if held else "search asked before"
        task = asyncio.create_task(one(kind, path, due, held))
        running.add(task)
        task.add_done_callback(running.discard)
    while running:
        await asyncio.sleep(0.05)
    return found


def measure(
    *, rate: float = 200, seconds: float = 60, fresh: float = 0.02, rows: int = ROWS
) -> list[Row]:
    """Percentiles by what was asked for."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        survey(folder, rows)
        command = [sys.executable, "-c", SERVE, folder / "emb", "--cutouts", folder / "cut"]
        one_thread = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        with subprocess.Popen(
            [str(word) for word in command],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **one_thread, "PYTHONUNBUFFERED": "1"},
        ) as server:
            try:
                assert server.stdout is not None
                address = server.stdout.readline().split(" at ")[1].strip().rstrip("/")
                port = int(address.rpartition(":")[2])
                found = asyncio.run(load(port, rate=rate, seconds=seconds, fresh=fresh, rows=rows))
                memory = _memory(server.pid)
            finally:
                server.terminate()
    every = [value for values in found.seconds.values() for value in values]
    lines = []
    for kind, values in [*sorted(found.seconds.items()), ("all", every)]:
        milli = np.array(values) * 1000
        shares = f"p99 {np.percentile(milli, 99):.0f} ms, worst {milli.max():.0f} ms"
        note = f"{len(values)} requests, {shares}"
        if kind == "all":
            wrong = ", ".join([f"{len(found.failed)} failed", *found.failed[:2]])
            note += f"; {wrong}; server {memory:.0f} MiB"
        way = f"{rate:g} requests/s"
        lines.append(Row(f"serve, {kind}", way, float(np.median(milli)), "ms", note))
    return lines


def _memory(process: int) -> float:
    """Memory of its own, in MiB: the vectors are mapped and shared."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(status.partition("RssAnon:")[2].split()[0]) / 1024


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rate", type=float, default=200)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--fresh", type=float, default=0.02, help="share of new searches")
    parser.add_argument("--rows", type=int, default=ROWS)
    given = parser.parse_args()
    before = machine()
    found = measure(rate=given.rate, seconds=given.seconds, fresh=given.fresh, rows=given.rows)
    print(f"{table(found)}\n\nBefore: {before}\nAfter:  {machine()}")


if __name__ == "__main__":
    main()
