"""How every verb grows: seconds, memory and bytes on disk from ten thousand objects upwards.

    python benchmarks/growth.py FOLDER                              # 1e4, 1e5, 1e6: some hours
    python benchmarks/growth.py FOLDER --rows 10000 100000 --verbs search twins
    python benchmarks/growth.py FOLDER --report                     # the tables and the picture

Every measurement is a process of its own, its line added to ``FOLDER/growth.csv`` when it is done;
what is there already is not measured again. Vectors are synthetic, with clusters and a spectrum as
Galaxy Zoo's have (`search_scale.features`) and a class that is 1 % of all; images: noise with a
disc. The first search checks every byte of the embedding, as after a copy; later ones do not.
Memory is the largest resident set, files mapped into memory included. Processor seconds, of all
cores together, change little with what else the machine does; seconds are for an idle one.
"""

from __future__ import annotations

import argparse
import csv
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from matplotlib.figure import Figure
from rows import machine
from search_scale import features

DIM, SIDE, BLOCK = 256, 32, 100_000
FIELDS = ("verb", "rows", "seconds", "processor_s", "memory_mb", "disk_mb")


def prepare(folder: Path, rows: int) -> None:
    """Vectors, images and a catalogue of so many objects."""
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / "catalog.parquet").exists():
        return
    shape = (rows, DIM)
    kept = np.lib.format.open_memmap(folder / "vectors.npy", "w+", np.float32, shape)
    rng = np.random.default_rng(0)
    for first in range(0, rows, BLOCK):
        kept[first : first + BLOCK] = features(min(BLOCK, rows - first), DIM, seed=first)
    rare = rng.random(rows) < 0.01
    where = np.flatnonzero(rare)
    direction = rng.standard_normal(DIM).astype(np.float32)
    for part in np.array_split(where, max(1, len(where) // BLOCK)):
        kept[part] += 0.5 * direction
    kept.flush()
    if rows <= 1_000_000:
        y, x = np.mgrid[:SIDE, :SIDE] - SIDE / 2
        disc = 60 * np.exp(-np.hypot(x, y) / 4)
        shown = (rows, SIDE, SIDE)
        images = np.lib.format.open_memmap(folder / "images.npy", "w+", np.uint8, shown)
        for first in range(0, rows, BLOCK):
            count = min(BLOCK, rows - first)
            bright = rng.uniform(0.5, 3, (count, 1, 1))
            sky = rng.normal(20, 4, (count, SIDE, SIDE))
            images[first : first + count] = np.clip(disc * bright + sky, 0, 255)
        images.flush()
    # Over the whole sky, so that no two objects are one.
    table = {
        "id": [f"{row:08d}" for row in range(rows)],
        "ra": rng.uniform(0, 360, rows),
        "dec": np.degrees(np.arcsin(rng.uniform(-1, 1, rows))),
        "kind": np.where(rare, "rare", "common"),
        "split": np.where(rng.random(rows) < 0.8, "train", "test"),
        "size_arcsec": rng.lognormal(1, 0.5, rows),
    }
    pq.write_table(pa.table(table), folder / "catalog.parquet")


def commands(folder: Path) -> dict[str, list[str]]:
    """Every verb as a user calls it; a result goes to a new folder of the verb's name."""
    emb, catalog = str(folder / "adopt"), str(folder / "catalog.parquet")
    pixels, index = str(folder / "embed"), str(folder / "index")
    like = ["--like", "00000042", "--like", "00000077"]
    # What an array's rows are called: their numbers, as wide as the last.
    wide = len(str(max(int(folder.name or 1) - 1, 0)))
    seen = ["--like", f"{42:0{wide}d}", "--like", f"{77:0{wide}d}"]
    return {
        "adopt": ["adopt", str(folder / "vectors.npy"), "--catalog", catalog],
        "ingest": ["ingest", str(folder / "images.npy"), "--pixel-scale", "1"],
        "embed": ["embed", str(folder / "ingest"), "--encoder", "pca:64"],
        "search": ["search", emb, *like, "--exact"],
        "index": ["index", emb],
        "search index": ["search", emb, *like, "--index", index],
        "purity": ["purity", emb, *like, "--positive", "kind=rare"],
        "compare": ["compare", emb, "--positive", "kind=rare"],
        "certify plan": ["certify", "plan", emb, *like],
        "audit": ["audit", pixels, *seen],
        "twins": ["twins", emb],
        "outliers": ["outliers", emb],
        "probe": ["probe", emb, "--label", "kind", "--split", "split"],
        "importance": ["importance", emb, "--target", "size_arcsec"],
        "map": ["map", emb],
    }


def size(folder: Path) -> int:
    """Bytes of all files."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


#: Ten colours, so that the verbs after them need another mark.
MARKS = ("o-", "s--")
#: A child's largest memory counts that of the process it was forked from: fork from a small one.
LAUNCHER = """
import resource, subprocess, sys
status = subprocess.run(sys.argv[2:], stdout=open(sys.argv[1], "w"), stderr=subprocess.STDOUT)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_maxrss, used.ru_utime + used.ru_stime)
sys.exit(status.returncode)
"""


def measure(command: list[str], out: Path, limit: float) -> tuple[float, float, float] | None:
    """Seconds, processor seconds and largest memory (MB); None where the time ran out."""
    shutil.rmtree(out, ignore_errors=True)
    verb, log = Path(sys.executable).with_name("skytwin"), out.with_name(f"{out.name}.log")
    whole = [str(log), str(verb), *command, "--out", str(out)]
    launcher = [sys.executable, "-S", "-c", LAUNCHER, *whole]
    start = time.perf_counter()
    # A session of its own, so that a verb that takes too long is ended with its launcher.
    with subprocess.Popen(launcher, stdout=subprocess.PIPE, start_new_session=True) as child:
        try:
            told, _ = child.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            return None
    if child.returncode:
        raise SystemExit(f"{' '.join(command)}: {log.read_text()[-500:]}")
    peak, used = told.split()
    return time.perf_counter() - start, float(used), int(peak) / 1e3


def run(place: Path, sizes: Iterable[int], verbs: Iterable[str], limit: float) -> None:
    """Measure what ``growth.csv`` does not hold."""
    table = place / "growth.csv"
    place.mkdir(parents=True, exist_ok=True)
    if not table.exists():
        table.write_text(",".join(FIELDS) + "\n")
    done = {(line["verb"], int(line["rows"])) for line in read(table)}
    for rows in sizes:
        folder = place / str(rows)
        prepare(folder, rows)
        ready = commands(folder)
        for verb in verbs:
            out = folder / verb.replace(" ", "-")
            if (verb, rows) in done:
                continue
            found = measure(ready[verb], out, limit)
            numbers = ("", "", "") if found is None else tuple(f"{n:.2f}" for n in found)
            line = (verb, str(rows), *numbers, f"{size(out) / 1e6:.2f}" if out.exists() else "")
            with table.open("a") as stream:
                stream.write(",".join(line) + "\n")
            print("  ".join(line), flush=True)


def read(table: Path) -> list[dict[str, str]]:
    """Lines of the table."""
    with table.open(newline="") as stream:
        return list(csv.DictReader(stream))


def exponent(rows: np.ndarray, values: np.ndarray) -> float:
    """Slope in a log-log plot over the two largest sizes: what further growth will be like."""
    return float(np.diff(np.log(values[-2:]))[0] / np.diff(np.log(rows[-2:]))[0])


def report(place: Path) -> None:
    """A table of each quantity, and one picture."""
    lines = read(place / "growth.csv")
    verbs = list(dict.fromkeys(line["verb"] for line in lines))
    sizes = sorted({int(line["rows"]) for line in lines})
    figure = Figure(figsize=(12, 8), layout="constrained")
    axes = figure.subplots(2, 2).ravel()
    shown: list[tuple[str, str, Callable[[float], str]]] = [
        ("seconds", "seconds", lambda v: f"{v:.1f}"),
        ("processor_s", "processor seconds", lambda v: f"{v:.1f}"),
        ("memory_mb", "largest memory, MB", lambda v: f"{v:.0f}"),
        ("disk_mb", "on disk, MB", lambda v: f"{v:.1f}"),
    ]
    for axis, (key, name, text) in zip(axes, shown, strict=True):
        print(f"\n| {name} | {' | '.join(f'{n:,}' for n in sizes)} | exponent |")
        print("|---|" + "---|" * (len(sizes) + 1))
        for verb in verbs:
            known = {
                int(line["rows"]): float(line[key])
                for line in lines
                if line["verb"] == verb and line[key]
            }
            counts = np.array(sorted(known))
            values = np.array([known[n] for n in counts])
            cells = [text(known[n]) if n in known else "" for n in sizes]
            slope = f"{exponent(counts, values):.2f}" if len(counts) > 1 and values.all() else ""
            print(f"| {verb} | {' | '.join(cells)} | {slope} |")
            axis.loglog(counts, values, MARKS[verbs.index(verb) // 10], ms=4, label=verb)
        axis.set(xlabel="objects", ylabel=name)
        axis.grid(alpha=0.3)
    axes[0].legend(fontsize="x-small", ncols=2)
    figure.savefig(place / "growth.png", dpi=120)
    print(f"\n{machine()}; {DIM} numbers an object, images of {SIDE} pixels")


def main() -> None:
    """Measure, then report."""
    verbs = list(commands(Path()))
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--verbs", nargs="+", default=verbs, help=", ".join(verbs))
    parser.add_argument("--limit", type=float, default=3600, help="seconds that a verb may take")
    parser.add_argument("--report", action="store_true")
    given = parser.parse_args()
    if not given.report:
        run(given.folder, given.rows, given.verbs, given.limit)
    report(given.folder)


if __name__ == "__main__":
    main()
