"""Several embeddings by one encoder as one: what a survey's next release is added with.

Vectors are linked, not copied, where the parts lie on the same disk. Means and scales come from
those of the parts (Chan et al. 1983), so that one pass over the vectors is enough.
"""

from __future__ import annotations

import csv
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from skytwin.artefact import Manifest
from skytwin.embeddings.store import finish_vectors
from skytwin.embeddings.table import ENCODER, SHARDS, Embeddings, require_comparable
from skytwin.embeddings.vectors import (
    STORES,
    Statistics,
    Store,
    Vectors,
    mapped,
    measure,
    steady_scale,
    stored_as,
)
from skytwin.errors import Mismatch, UsageError, one_of
from skytwin.files import sync
from skytwin.images.cutouts import REJECTED
from skytwin.images.stacked import stacked
from skytwin.progress import Progress
from skytwin.run import Run

__all__ = ["join"]

_ALIKE = ("image_shape", "framing", "image_unit", "image_dtype", "absolute_stretch")
_ROWS = 4096


def join(
    parts: Sequence[Embeddings | str | Path],
    out: str | Path,
    *,
    store: Store | None = None,
    quiet: bool = False,
) -> Embeddings:
    """Make one embedding of several.

    Parameters
    ----------
    parts : sequence of Embeddings or path
        Made by the same encoder with the same settings; their rows follow one another.
    out : path
        New folder, or that of an unfinished run of this call, which is resumed.
    store : {"float32", "float16"}, optional
        What a number is kept in; as it is in the parts by default. One part alone may be stored
        anew so.
    quiet : bool
        Show no progress.

    Returns
    -------
    Embeddings

    Raises
    ------
    UsageError
        No part to join; one that is in no folder.
    Mismatch
        Another encoder, bands, pixel scale or frame; a column of another type.
    DataError
        An id that two parts share; a number that float16 cannot hold.
    """
    opened = [p if isinstance(p, Embeddings) else Embeddings.open(p) for p in parts]
    if store is not None:
        one_of("store", store, STORES)
    if not opened or (len(opened) == 1 and store is None):
        raise UsageError(f"{len(opened)} embedding(s) to join; expected two or more")
    _check(opened)
    catalog = stacked([(_home(part)[0], part.catalog) for part in opened])
    parents = {f"part {n}": part.as_parent() for n, part in enumerate(opened, start=1)}
    with Run(
        out,
        kind="embeddings",
        recipe={"joined": len(opened), "store": store},
        inputs={"parts": [parent.path for parent in parents.values()]},
        parents=parents,
    ) as run:
        names: list[str] = []
        total = sum(len(part) for part in opened)
        done = sum(entry["rows"] for entry in run.journal)
        with Progress("join", total, done=done, unit="vectors", quiet=quiet) as bar:
            for part in opened:
                for shard in _shards(part):
                    name = f"{SHARDS}/{len(names):06d}.npy"
                    names.append(name)
                    if len(names) <= len(run.journal):
                        continue
                    values = mapped(shard)
                    run.write(name, partial(_store, shard, values, store))
                    run.record({"file": name, "rows": len(values)})
                    bar.advance(len(values))
        vectors = Vectors.open(run.folder, names)
        statistics = measure(vectors) if store is not None else _merged(opened, vectors)
        _copy_encoder(opened[0], run.folder)
        finish_vectors(
            run,
            names,
            catalog,
            [line for part in opened for line in _rejected(part)],
            {**_home(opened[0])[1].summary, "parts": [len(part) for part in opened]},
            statistics,
        )
    return Embeddings.open(out)


def _home(part: Embeddings) -> tuple[Path, Manifest]:
    if part.folder is None or part.manifest is None:
        raise UsageError("vectors from arrays cannot be joined; embeddings in folders can")
    return part.folder, part.manifest


def _check(parts: Sequence[Embeddings]) -> None:
    wanted = _home(parts[0])[1].summary
    for part in parts:
        folder, manifest = _home(part)
        require_comparable(parts[0], part)
        for key in _ALIKE:
            if wanted.get(key) != manifest.summary.get(key):
                raise Mismatch(
                    f"{folder} has {key.replace('_', ' ')} {manifest.summary.get(key)}; expected "
                    f"{wanted.get(key)}: ingest and embed the parts alike"
                )


def _shards(part: Embeddings) -> list[Path]:
    folder, manifest = _home(part)
    return [folder / name for name in sorted(manifest.files) if name.startswith(f"{SHARDS}/")]


def _store(shard: Path, values: np.ndarray, store: Store | None, path: Path) -> None:
    """A shard as it is, linked where it can be, or in other numbers."""
    if store is None or values.dtype == np.dtype(store):
        try:
            path.hardlink_to(shard)
        except OSError:  # another disk
            shutil.copyfile(shard, path)
        return
    made = np.lib.format.open_memmap(path, "w+", np.dtype(store), values.shape)
    for block in Vectors([values]).blocks(_ROWS, release=True):
        made[block.rows] = stored_as(store, block.values)
    made.flush()


def _merged(parts: Sequence[Embeddings], vectors: Vectors) -> Statistics:
    """Means and scales from those of the parts, lengths from one pass."""
    count, mean, square = 0, np.zeros(vectors.shape[1]), np.zeros(vectors.shape[1])
    for part in parts:
        own, total = part.statistics, count + len(part)
        delta = own.mean - mean
        square += own.scale**2 * len(part) + delta**2 * (count * len(part) / total)
        mean += delta * (len(part) / total)
        count = total
    found = Statistics(
        mean=mean,
        scale=steady_scale(np.sqrt(square / count), mean),
        norms=np.empty((count, 2)),
    )
    found.norms[:, 0] = np.concatenate([part.statistics.norms[:, 0] for part in parts])
    inverse = found.inverse_scale
    for block in vectors.blocks(_ROWS, release=True):
        z = (block.values.astype(np.float64) - mean) * inverse
        found.norms[block.rows, 1] = np.einsum("ij,ij->i", z, z)
    return found


def _rejected(part: Embeddings) -> list[tuple[str, str]]:
    """What was left out of a part, and why."""
    path = _home(part)[0] / REJECTED
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as stream:
        return [(row["id"], row["reason"]) for row in csv.DictReader(stream)]


def _copy_encoder(part: Embeddings, folder: Path) -> None:
    made_by = _home(part)[0] / ENCODER
    if made_by.is_dir():
        shutil.copytree(made_by, folder / ENCODER, dirs_exist_ok=True)
        for path in (folder / ENCODER).rglob("*"):
            sync(path)
