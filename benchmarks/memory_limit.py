"""Does it work on more than fits into memory? Commands on many rows under a limit, as Markdown.

``python benchmarks/memory_limit.py --rows 5000000 --limit 2.0 [--only search,map]``

Makes a table and vectors of so many objects (64 numbers each; 1.28 GB for 5 million), and runs
every command as a process of its own that may take no more memory than the limit, in GB (1e9
bytes). The limit is that of a control group where one can be made: it counts all that the process
holds, the pages of files that it has in memory too, which the system takes back when it must. Else
it is RLIMIT_DATA, which counts what cannot be taken back. The table says which it was, and the most
that could not be taken back ("own", RssAnon) and that was in memory in all (VmHWM).
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

DIM, KINDS = 64, 12
_BLOCK = 100_000
_PYTHON = [sys.executable, "-c", "from skytwin.cli import main; main()"]

#: By name; in order, since they take what those before them made.
COMMANDS = {
    "adopt": "adopt {home}/vectors.npy --catalog {home}/table.parquet --out {home}/emb",
    "info": "info {home}/emb --verify",
    "search": "search {home}/emb --like o0000007 -k 100 --out {home}/matches",
    "search several": "search {home}/emb --like o0000007 --like o0000019 --where mag<19 -k 1000 "
    "--save {home}/many.parquet",
    "purity": "purity {home}/emb --like o0000007 --positive kind=k07 --out {home}/purity",
    "outliers": "outliers {home}/emb --methods knn,mahalanobis,forest --reference-rows {some} "
    "--positive kind=k11 --out {home}/odd",
    "map pca": "map {home}/emb --method pca --sample {some} --out {home}/map-pca",
    "map": "map {home}/emb --method tsne --sample {few} --color kind --out {home}/map",
    "map onto": "map {home}/emb --onto {home}/map-pca --out {home}/placed",
    "ingest": "ingest {home}/images.npy --out {home}/cut",
    "embed": "embed {home}/cut --encoder pca:8 --out {home}/pca",
}


def write_inputs(home: Path, rows: int) -> None:
    """Vectors of a dozen kinds of objects, one of them rare; their table; tiny images."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(KINDS, DIM)).astype(np.float32)
    shape = (rows, DIM)
    vectors = np.lib.format.open_memmap(home / "vectors.npy", "w+", np.float32, shape)
    schema = pa.schema(
        {"id": pa.string(), "ra": pa.float64(), "dec": pa.float64(), "mag": pa.float32(),
         "kind": pa.string()}
    )  # fmt: skip
    with pq.ParquetWriter(home / "table.parquet", schema) as table:
        for first in range(0, rows, _BLOCK):
            some = np.arange(first, min(first + _BLOCK, rows))
            kind = np.where(rng.random(len(some)) < 0.001, KINDS - 1, some % (KINDS - 1))
            vectors[some] = centres[kind] + rng.standard_normal((len(some), DIM), np.float32)
            # All over the sky: uniform in the sine of the declination.
            columns = [
                [f"o{row:07d}" for row in some], rng.uniform(0, 360, len(some)),
                np.degrees(np.arcsin(rng.uniform(-1, 1, len(some)))),
                rng.uniform(15, 22, len(some)).astype(np.float32), [f"k{k:02d}" for k in kind],
            ]  # fmt: skip
            table.write_table(pa.table([pa.array(c) for c in columns], schema=schema))
    vectors.flush()
    shape = (rows, 8, 8)
    images = np.lib.format.open_memmap(home / "images.npy", "w+", np.uint8, shape)
    for first in range(0, len(images), _BLOCK):
        some = images[first : first + _BLOCK]
        some[:] = rng.integers(0, 255, some.shape, dtype=np.uint8)
    images.flush()


@dataclass(frozen=True)
class Used:
    """What a command took."""

    code: int
    seconds: float
    own_mb: float
    all_mb: float
    said: str


def run(words: list[str], enter: Callable[[], None]) -> Used:
    """Run a command, ``enter`` being called in its process first; watch its memory."""
    begun = time.monotonic()
    with tempfile.TemporaryFile("w+") as said:
        job = subprocess.Popen(
            [*_PYTHON, *words], stdout=said, stderr=said, preexec_fn=enter,
            env={**os.environ, "OMP_NUM_THREADS": "2"},
        )  # fmt: skip
        own = whole = 0.0
        while job.poll() is None:
            now = status(job.pid)
            own, whole = max(own, now.get("RssAnon", 0.0)), max(whole, now.get("VmHWM", 0.0))
            time.sleep(0.02)
        said.seek(0)
        text = said.read().strip()
    return Used(
        code=job.returncode, seconds=time.monotonic() - begun, own_mb=own, all_mb=whole, said=text
    )


def status(pid: int) -> dict[str, float]:
    """Memory of a process, MB (1e6 bytes), by the names that Linux gives it."""
    with contextlib.suppress(OSError):
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        pairs = (line.split(":", 1) for line in lines)
        return {k: int(v.split()[0]) * 1.024e-3 for k, v in pairs if v.endswith(" kB")}
    return {}


def _join(group: Path) -> None:
    (group / "cgroup.procs").write_text(str(os.getpid()))


@contextlib.contextmanager
def limited(limit: int) -> Iterator[tuple[str, Callable[[], None]]]:
    """How the limit is set, and what a process does to be under it."""
    for base, name in ((Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"),
                       (Path("/sys/fs/cgroup"), "memory.max")):  # fmt: skip
        group = base / f"skytwin-{os.getpid()}"
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            (group / name).write_text(str(limit))
            yield "control group", functools.partial(_join, group)
            return
        except FileNotFoundError:  # a group without a limit on memory
            continue
        finally:
            group.rmdir()

    def enter() -> None:
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))

    yield "RLIMIT_DATA", enter


def main() -> None:
    """Run the commands; exit 1 where one did not end well."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--limit", type=float, default=2.0, help="GB")
    parser.add_argument("--only", default=",".join(COMMANDS))
    parser.add_argument("--folder", type=Path, help="where the data are kept for the next time")
    given = parser.parse_args()
    with contextlib.ExitStack() as stack:
        home = given.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        home.mkdir(exist_ok=True)
        if not (home / "images.npy").exists():
            write_inputs(home, given.rows)
        how, enter = stack.enter_context(limited(int(given.limit * 1e9)))
        print(f"{given.rows:,} rows of {DIM}, {given.limit:g} GB by {how}\n")
        print("| command | s | own MB | in memory MB | ended |\n|---|---:|---:|---:|---|")
        failed = []
        for name in given.only.split(","):
            numbers = {"some": max(1000, given.rows // 500), "few": max(1000, given.rows // 2000)}
            line = COMMANDS[name].split()
            used = run([word.format(home=home, **numbers) for word in line], enter)
            ended = "well" if used.code == 0 else f"{used.code}"
            cells = [name, f"{used.seconds:.1f}", f"{used.own_mb:.0f}", f"{used.all_mb:.0f}", ended]
            print(f"| {' | '.join(cells)} |", flush=True)
            if used.code:
                failed.append(f"{name}: {used.said[-1500:]}")
    for line in failed:
        print(f"\n{line}", file=sys.stderr)
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
