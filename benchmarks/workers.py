"""One worker against two on work that the processor is busy with, and the process alone beside.

    python benchmarks/workers.py                       # ingest, embed, search, probe
    python benchmarks/workers.py --only ingest --rounds 5

The ways take turns. The workers are started before the clock runs, and have run each verb once on
a few objects, so that what is counted is the work: their start is counted apart. Each way must
give the same result, or nothing is printed.

Beside the ratio stands where the processors' time went. On a machine of two cores the process
that keeps the order, and the scheduler within it, share them with its two workers. With W1 and W2
the seconds of the workers where there is one and where there are two, and C those of that process,
two workers can at most be W1 / max(W2 / 2, (W2 + C) / cores) times one ("time allows"). W2 beyond
W1 is what workers do twice, and what two busy cores take from each other; "idle" is time in which
a core had nothing to do here: a part that one process does alone, or the disk.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from embed_cpu import write_images
from exact_scan import features
from rows import Row, machine, table

import skytwin
from skytwin.answers.probe import probe
from skytwin.answers.search import search
from skytwin.artefact import Manifest
from skytwin.embeddings.adopt import adopt
from skytwin.embeddings.embed import embed_cutouts
from skytwin.embeddings.engine import Engine, open_engine
from skytwin.embeddings.parts import Elsewhere
from skytwin.encoders.bundled import PREFIX, bundled_folder
from skytwin.encoders.load import load_saved, open_encoder
from skytwin.images.folder import FolderSource
from skytwin.images.ingest import ingest_source
from skytwin.images.ingest_elsewhere import Elsewhere as ReadElsewhere
from skytwin.report_probe import save_probe
from skytwin.threads import processor_count

WAYS = ("the process alone", "1 worker", "2 workers")
VERBS = ("ingest", "embed", "search", "probe")
#: Of a verb: a folder to write, the workers; gives the fingerprint of what was made.
Verb = Callable[[Path, "Engine | None"], str]


@dataclass(frozen=True, kw_only=True)
class Spent:
    """Seconds: by the clock, and of processors' time, in all workers, in the thread that keeps
    the order, and in the other threads of its process (the scheduler).
    """

    clock: float
    workers: float
    client: float
    scheduler: float

    @classmethod
    def by(cls, verb: Verb, out: Path, engine: Engine | None) -> tuple[Spent, str]:
        """A verb, and the fingerprint of what it made."""
        before = _now(engine)
        made = verb(out, engine)
        return cls(**{name: value - before[name] for name, value in _now(engine).items()}), made

    @classmethod
    def median(cls, several: list[Spent]) -> Spent:
        """Of each by itself."""
        names = ("clock", "workers", "client", "scheduler")
        return cls(**{n: float(np.median([getattr(one, n) for one in several])) for n in names})

    def __str__(self) -> str:
        parts = (("workers", self.workers), ("client", self.client), ("scheduler", self.scheduler))
        return ", ".join(f"{name} {value:.2f} s" for name, value in parts)


def _now(engine: Engine | None) -> dict[str, float]:
    workers = {} if engine is None else engine._client.run(time.process_time)
    here, all_here = time.thread_time(), time.process_time()
    return {
        "clock": time.perf_counter(),
        "workers": sum(workers.values()),
        "client": here,
        "scheduler": all_here - here,
    }


def write_fits(folder: Path, count: int) -> None:
    """Three bands of 64 pixels an object, one FITS file each, with a header as surveys write it."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    for number in range(count):
        for band in "gri":
            image = fits.PrimaryHDU(rng.poisson(40, (64, 64)).astype(np.float32))
            image.header.update(
                {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 150 + number / 1e4,
                 "CRVAL2": 2.0, "CRPIX1": 32.5, "CRPIX2": 32.5, "CDELT1": -7e-5, "CDELT2": 7e-5,
                 "BUNIT": "nJy"}
            )  # fmt: skip
            image.writeto(folder / f"o{number:06d}_{band}.fits")


def ingests(source: Callable[[], FolderSource]) -> Verb:
    def run(out: Path, engine: Engine | None) -> str:
        elsewhere = None if engine is None else ReadElsewhere(workers=engine, open=source)
        made = ingest_source(source(), out, elsewhere=elsewhere, threads=1, quiet=True)
        return made.manifest.fingerprint

    return run


def embeds(cutouts: Path, spec: str) -> Verb:
    opened = skytwin.Cutouts(cutouts)
    if spec.startswith(PREFIX):
        encoder = replace(load_saved(bundled_folder(spec), runtime="torch"), orbit="d4")
    else:
        encoder = open_encoder(spec, cutouts_like=opened, orbit="d4")

    def run(out: Path, engine: Engine | None) -> str:
        elsewhere = None if engine is None else Elsewhere(engine=engine, runtime="torch")
        found = embed_cutouts(opened, encoder, out, elsewhere=elsewhere, quiet=True)
        assert found.manifest is not None
        return found.manifest.fingerprint

    return run


def probes(embedding: Path, folds: int) -> Verb:
    found = skytwin.Embeddings.open(embedding)

    def run(out: Path, engine: Engine | None) -> str:
        how: dict[str, Any] = {"classifiers": ["rf", "lda", "svc-scale", "linear"], "folds": folds}
        made = probe(found, "kind", repeats=1, budget=[], engine=engine, out=out, **how)
        save_probe(made, out, [], [])
        return Manifest.open(out).fingerprint

    return run


def searches(embedding: Path, references: int) -> Verb:
    found = skytwin.Embeddings.open(embedding)
    like = [str(name) for name in found.ids[:references]]

    def run(out: Path, engine: Engine | None) -> str:
        made = search(found, like, metric="csls", k=100, exact=True, engine=engine)
        out.mkdir()
        return hashlib.sha256(made.rows.tobytes() + made.distance.tobytes()).hexdigest()

    return run


def adopted(folder: Path, rows: int, dim: int) -> Path:
    """Vectors of objects of two kinds that differ a little."""
    kind = np.random.default_rng(0).integers(0, 2, rows)
    x = features(rows, dim) + 0.1 * kind[:, None].astype(np.float32)
    ids = np.array([f"o{row}" for row in range(rows)])
    np.savez(folder.with_suffix(".npz"), vectors=x, ids=ids, kind=kind)
    adopt(folder.with_suffix(".npz"), folder, quiet=True)
    return folder


def verbs(scratch: Path, only: str | None, scale: float) -> dict[str, tuple[Verb, Verb, int, str]]:
    """By what is done: the verb, the same on little, how many units, which."""
    found: dict[str, tuple[Verb, Verb, int, str]] = {}
    many = partial(max, 1)
    if only in (None, "ingest"):
        for kind, write, count, pattern in (
            ("JPEG", write_images, many(round(24_000 * scale)), None),
            ("FITS of 3 bands", write_fits, many(round(7000 * scale)), "{id}_{band}.fits"),
        ):
            for name, number in ((kind, count), (f"few {kind}", 40)):
                write(scratch / name, number)
            whole, few = (
                ingests(partial(FolderSource, scratch / name, pattern=pattern))
                for name in (kind, f"few {kind}")
            )
            found[f"ingest {count} {kind}, 64 px"] = (whole, few, count, "images/s")
    if only in (None, "embed"):
        count = many(round(1536 * scale))
        for name, number in (("images", count), ("few", 40)):
            write_images(scratch / name, number)
            about: dict[str, Any] = {"bands": list("gri"), "pixel_scale": 0.396, "quiet": True}
            skytwin.ingest(scratch / name, scratch / f"{name}.cut", **about)
        spec = "skytwin:optical"
        whole, few = (embeds(scratch / f"{name}.cut", spec) for name in ("images", "few"))
        found[f"embed {count}, {spec}, d4, torch"] = (whole, few, count, "images/s")
    if only in (None, "search"):
        rows = many(round(200_000 * scale))
        whole = searches(adopted(scratch / "searched", rows, 128), 2)
        few = searches(adopted(scratch / "few searched", min(rows, 2000), 128), 2)
        found[f"search {rows} x 128, csls"] = (whole, few, rows, "objects/s")
    if only in (None, "probe"):
        rows, dim, folds = many(round(1000 * scale)), 256, 24
        whole = probes(adopted(scratch / "probed", rows, dim), folds)
        few = probes(adopted(scratch / "few probed", min(rows, 200), dim), 2)
        fits = 4 * (folds + 1)
        found[f"probe {rows} x {dim}, 4 classifiers, {folds} folds"] = (whole, few, fits, "fits/s")
    return found


def measure(only: str | None, rounds: int, scale: float) -> list[Row]:
    """Medians over the rounds."""
    rows = []
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        engines: dict[str, Engine | None] = {}
        for number, way in enumerate(WAYS):
            begun = time.perf_counter()
            engines[way] = stack.enter_context(open_engine(workers=number or None))
            started = time.perf_counter() - begun
        for what, (whole, few, count, unit) in verbs(scratch, only, scale).items():
            for way, engine in engines.items():
                few(scratch / f"few {way}", engine)
                shutil.rmtree(scratch / f"few {way}")
            spent: dict[str, list[Spent]] = {way: [] for way in WAYS}
            made = set()
            for number in range(rounds):
                for way, engine in engines.items():
                    out = scratch / f"out {number}"  # a worker knows nothing of another round's
                    one, fingerprint = Spent.by(whole, out, engine)
                    spent[way].append(one)
                    made.add(fingerprint)
                    shutil.rmtree(out)
            if len(made) != 1:
                raise SystemExit(f"{what}: the ways gave different results")
            median = {way: Spent.median(values) for way, values in spent.items()}
            notes = {WAYS[1]: str(median[WAYS[1]]), WAYS[2]: _explained(spent, median)}
            rows += [
                Row(what, way, count / one.clock, unit, notes.get(way, ""))
                for way, one in median.items()
            ]
        rows[0] = replace(rows[0], note=f"two workers start in {started:.1f} s")
    return rows


def _explained(spent: dict[str, list[Spent]], median: dict[str, Spent]) -> str:
    """Two workers against one, and against what processors' time allows."""
    one, two, cores = median[WAYS[1]], median[WAYS[2]], processor_count()
    pairs = zip(spent[WAYS[1]], spent[WAYS[2]], strict=True)
    ratio = float(np.median([before.clock / after.clock for before, after in pairs]))
    here = two.client + two.scheduler
    allowed = one.workers / max(two.workers / 2, (two.workers + here) / cores)
    idle = 1 - (two.workers + here) / (cores * two.clock)
    return (
        f"{ratio:.2f} of one worker; time allows {allowed:.2f}; {two}; "
        f"{100 * max(idle, 0):.0f} % of {cores} cores idle"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", choices=VERBS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0, help="Times as many objects.")
    given = parser.parse_args()
    print(f"{table(measure(given.only, given.rounds, given.scale))}\n\n{machine()}")


if __name__ == "__main__":
    main()
