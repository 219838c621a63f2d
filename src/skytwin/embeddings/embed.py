"""Cutouts x Encoder -> Embeddings: a few hundred images at a time, resumable at any moment."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa

from skytwin.artefact import PARTS
from skytwin.embeddings.parts import Elsewhere, encoded_parts
from skytwin.embeddings.store import finish_vectors, shard_rows
from skytwin.embeddings.table import ENCODER, SHARDS, Embeddings
from skytwin.embeddings.vectors import (
    Store,
    Vectors,
    stored_as,
    write_array,
)
from skytwin.encoders.encoder import Encoder
from skytwin.errors import DataError, Mismatch, UsageError
from skytwin.files import disk_errors, sync
from skytwin.images.compare import require_same_scale
from skytwin.images.cutouts import Cutouts
from skytwin.progress import Progress
from skytwin.run import Run

__all__ = ["embed_cutouts", "require_fits"]


def embed_cutouts(
    cutouts: Cutouts,
    encoder: Encoder,
    out: str | Path,
    *,
    batch: int | None = None,
    part_rows: int | None = None,
    store: Store = "float32",
    elsewhere: Elsewhere | None = None,
    quiet: bool = False,
) -> Embeddings:
    """Encode every cutout and store the vectors.

    Parameters
    ----------
    cutouts : Cutouts
    encoder : Encoder
    out : str or Path
        New folder, or that of an unfinished run of this call, which is resumed.
    batch : int, optional
        Images per pass through the network: by default 32, or 256 on a GPU.
    part_rows : int, optional
        Images after which what is done is safe from a kill: by default 256, or 4096 on a GPU.
    store : {"float32", "float16"}
        What a number is kept in: float16 halves the files and what a search reads, and keeps
        11 bits of each number (docs/performance.md).
    elsewhere : Elsewhere, optional
        The workers that encode, in place of this process.
    quiet : bool
        Show no progress.

    Returns
    -------
    Embeddings

    Raises
    ------
    UsageError
        A batch of no image; the folder holds something else.
    DataError
        No image gave a finite vector; float16 cannot hold one.

    Notes
    -----
    An image whose vector is not finite is left out and listed in ``rejected.csv``.
    """
    usual = (32, 256) if encoder.on_device is None else (256, 4096)
    batch = usual[0] if batch is None else batch
    part_rows = part_rows or usual[1]
    if batch < 1:
        raise UsageError(f"batch {batch}; expected at least 1 image")
    recipe = {"encoder": encoder.describe(), "part_rows": part_rows, "store": store}
    parents = {"cutouts": cutouts.as_parent()}
    # The batch moves the last bits of a vector, so a resumed run must keep to it.
    inputs = {"cutouts": str(cutouts.folder.resolve()), "batch": batch}
    with Run(out, kind="embeddings", recipe=recipe, inputs=inputs, parents=parents) as run:
        done = sum(entry["rows"] for entry in run.journal)
        place = _keep_encoder(run, encoder)
        count = len(cutouts)
        parts = [slice(a, min(a + part_rows, count)) for a in range(done, count, part_rows)]
        with Progress("embed", count, done=done, quiet=quiet) as bar:
            for vectors in encoded_parts(cutouts, encoder, place, parts, batch, elsewhere):
                # What cannot be stored is refused at once, not when all is done.
                stored_as(store, vectors[np.isfinite(vectors).all(axis=1)])
                name = f"{PARTS}/{len(run.journal):07d}.npy"
                run.write(name, partial(write_array, vectors))
                run.record({"rows": len(vectors), "file": name})
                bar.advance(len(vectors))
        _finish(run, cutouts, encoder, store)
    return Embeddings.open(out)


def require_fits(encoder: Encoder, cutouts: Cutouts) -> None:
    """Refuse cutouts that an encoder was not made for.

    Raises
    ------
    Mismatch
        Other bands or pixel scale; images smaller than the encoder's crop.
    """
    what = str(cutouts.folder)
    if cutouts.bands != encoder.bands:
        raise Mismatch(
            f"{what!r} has bands {', '.join(cutouts.bands)}; the encoder takes "
            f"{', '.join(encoder.bands)}"
        )
    require_same_scale(cutouts.pixel_scale, encoder.pixel_scale, what)
    if min(cutouts.shape[2:]) < encoder.prepare.crop:
        raise Mismatch(
            f"{what!r} has images of {cutouts.shape[2]} x {cutouts.shape[3]} pixels; the encoder "
            f"looks at the central {encoder.prepare.crop}"
        )


def _keep_encoder(run: Run, encoder: Encoder) -> Path:
    """Save what makes the vectors beside them: at once, for those who work elsewhere."""
    folder = run.folder / ENCODER
    with disk_errors(run.folder):
        folder.mkdir(exist_ok=True)
        encoder.save(folder)
        for path in folder.iterdir():
            sync(path)
    return folder


def _finish(run: Run, cutouts: Cutouts, encoder: Encoder, store: Store) -> None:
    """Gather the parts into shards, measure them, and seal the folder."""
    parts = Vectors.open(run.folder, [entry["file"] for entry in run.journal])
    finite = np.ones(len(parts), dtype=bool)
    for block in parts.blocks():
        finite[block.rows] = np.isfinite(block.values).all(axis=1)
    rows = np.flatnonzero(finite)
    if not len(rows):
        raise DataError(f"{encoder.name} gave no finite vector for any of {len(parts)} image(s)")
    shard = shard_rows(parts.shape[1], np.dtype(store).itemsize)
    for number, first in enumerate(range(0, len(rows), shard)):
        part = parts.take(rows[first : first + shard])
        run.write(f"{SHARDS}/{number:06d}.npy", partial(write_array, stored_as(store, part)))
    finish_vectors(
        run,
        [f"{SHARDS}/{n:06d}.npy" for n in range(-(-len(rows) // shard))],
        cutouts.catalog if finite.all() else cutouts.catalog.take(pa.array(rows)),
        [(name, "the network gave NaN or infinity") for name in cutouts.ids[~finite]],
        {
            "encoder": encoder.name,
            "encoder_fingerprint": encoder.fingerprint,
            "bands": list(cutouts.bands),
            "pixel_scale": cutouts.pixel_scale,
            "image_shape": list(cutouts.shape[1:]),
            "image_dtype": cutouts.dtype.name,
            "image_unit": cutouts.unit,
            "framing": cutouts.manifest.recipe["framing"],
            "absolute_stretch": encoder.prepare.stretch.absolute,
        },
    )
