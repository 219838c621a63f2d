"""One worker against two on work that the processor is busy with, and the process alone beside.

    python benchmarks/workers.py                       # embed, ingest, probe
    python benchmarks/workers.py --only ingest --rounds 5

The ways take turns. The workers are started before the clock runs, and have run each verb once on
a few objects, so that what is counted is the work: their start is counted apart. Each way must
give the same fingerprint, or nothing is printed. On a machine of two cores the process that keeps
the order shares them with its two workers.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
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

WAYS = ("the process alone", "1 worker", "2 workers")
#: Of a verb: a folder to write, the workers; gives the fingerprint of what was made.
Verb = Callable[[Path, "Engine | None"], str]


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


def verbs(scratch: Path, only: str | None, scale: float) -> dict[str, tuple[Verb, Verb, int, str]]:
    """By what is done: the verb, the same on little, how many units, which."""
    found: dict[str, tuple[Verb, Verb, int, str]] = {}
    many = partial(max, 1)
    if only in (None, "ingest"):
        for kind, write, count, pattern in (
            ("JPEG", write_images, many(round(40_000 * scale)), None),
            ("FITS of 3 bands", write_fits, many(round(12_000 * scale)), "{id}_{band}.fits"),
        ):
            for name, number in ((kind, count), (f"few {kind}", 40)):
                write(scratch / name, number)
            whole, few = (
                ingests(partial(FolderSource, scratch / name, pattern=pattern))
                for name in (kind, f"few {kind}")
            )
            found[f"ingest {count} {kind}, 64 px"] = (whole, few, count, "images/s")
    if only in (None, "embed"):
        count = many(round(4000 * scale))
        for name, number in (("images", count), ("few", 40)):
            write_images(scratch / name, number)
            about: dict[str, Any] = {"bands": list("gri"), "pixel_scale": 0.396, "quiet": True}
            skytwin.ingest(scratch / name, scratch / f"{name}.cut", **about)
        for spec in ("pca:64", "skytwin:optical"):
            few = embeds(scratch / "few.cut", spec.replace("64", "8"))
            whole = embeds(scratch / "images.cut", spec)
            found[f"embed {count}, {spec}, d4, torch"] = (whole, few, count, "images/s")
    if only in (None, "probe"):
        rows, dim = many(round(3000 * scale)), 640
        kind = np.random.default_rng(0).integers(0, 2, rows)
        x = features(rows, dim) + 0.1 * kind[:, None].astype(np.float32)
        for name, part in (("probed", rows), ("few probed", min(rows, 200))):
            ids = np.array([f"o{row}" for row in range(part)])
            np.savez(scratch / f"{name}.npz", vectors=x[:part], ids=ids, kind=kind[:part])
            adopt(scratch / f"{name}.npz", scratch / name, quiet=True)
        whole, few = probes(scratch / "probed", 20), probes(scratch / "few probed", 2)
        found[f"probe {rows} x {dim}, 4 classifiers, 20 folds"] = (whole, few, 21 * 4, "fits/s")
    return found


def measure(only: str | None, rounds: int, scale: float) -> list[Row]:
    """Medians over the rounds."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        for what, (whole, few, count, unit) in verbs(scratch, only, scale).items():
            seconds: dict[str, list[float]] = {way: [] for way in WAYS}
            starts: list[float] = []
            fingerprints = set()
            for _ in range(rounds):
                for number, way in enumerate(WAYS):
                    out = scratch / "out"
                    begun = time.perf_counter()
                    with open_engine(workers=number or None) as engine:
                        if number == 2:
                            starts.append(time.perf_counter() - begun)
                        few(out, engine)
                        shutil.rmtree(out)
                        begun = time.perf_counter()
                        fingerprints.add(whole(out, engine))
                        seconds[way].append(time.perf_counter() - begun)
                    shutil.rmtree(out)
            if len(fingerprints) != 1:
                raise SystemExit(f"{what}: the ways gave different results")
            median = {way: float(np.median(values)) for way, values in seconds.items()}
            ratio = float(np.median(np.divide(seconds[WAYS[1]], seconds[WAYS[2]])))
            notes = {
                WAYS[2]: f"{ratio:.2f} of one worker; started in {np.median(starts):.1f} s",
            }
            rows += [
                Row(what, way, count / value, unit, notes.get(way, ""))
                for way, value in median.items()
            ]
    return rows


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", choices=("embed", "ingest", "probe"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0, help="Times as many objects.")
    given = parser.parse_args()
    print(f"{table(measure(given.only, given.rounds, given.scale))}\n\n{machine()}")


if __name__ == "__main__":
    main()
