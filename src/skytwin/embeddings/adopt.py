"""Vectors made elsewhere -> Embeddings: any network's, with any catalogue."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa

from skytwin.addresses import shown
from skytwin.embeddings.store import finish_vectors, shard_rows
from skytwin.embeddings.table import SHARDS, Embeddings
from skytwin.embeddings.vectors import write_array
from skytwin.errors import DataError
from skytwin.files import hash_file
from skytwin.images.catalog import id_column, id_texts
from skytwin.images.ingest_rows import Catalog, assemble
from skytwin.images.tables import read_table
from skytwin.images.texts import Texts
from skytwin.images.vectorfile import VectorFile
from skytwin.progress import Progress
from skytwin.run import Run

__all__ = ["adopt"]

_AT_ONCE = 16_384


def adopt(
    vectors: str | Path,
    out: str | Path,
    *,
    catalog: str | Path | None = None,
    id_name: str | None = None,
    dataset: str | None = None,
    ids: str | None = None,
    made_by: str = "own vectors",
    quiet: bool = False,
) -> Embeddings:
    """Make an embedding of vectors that another tool computed.

    Parameters
    ----------
    vectors : path
        ``.npy .npz .h5 .hdf5`` or Zarr: an array (N, D) of real numbers, kept as float32. Arrays
        of length N beside it become columns.
    out : path
        New folder, or that of an unfinished run of this very call, which is resumed.
    catalog : path, optional
        A table: joined by identifier where the vectors come with some, else row by row.
    id_name : str, optional
        Its column of identifiers.
    dataset, ids : str, optional
        Names of the arrays of vectors and of identifiers, where the file holds several.
    made_by : str
        What made them. Embeddings adopted under one name can be compared with each other.
    quiet : bool
        Show no progress.

    Returns
    -------
    Embeddings

    Raises
    ------
    UsageError
        No such file, array or column.
    DataError
        No vector is finite; a catalogue of another length; ids that are not unique.

    Notes
    -----
    A row with NaN or infinity is left out and listed in ``rejected.csv``. There is no encoder:
    an image file cannot be a reference.
    """
    _adopt(vectors, out, catalog, id_name, dataset, ids, made_by, quiet)
    return Embeddings.open(out)


def _adopt(
    vectors: str | Path, out: str | Path, catalog: str | Path | None, id_name: str | None,
    dataset: str | None, ids: str | None, made_by: str, quiet: bool,
) -> None:  # fmt: skip
    """Write the folder; what was held for it is let go."""
    source = VectorFile(Path(vectors), dataset=dataset, ids=ids)
    joined = Catalog(path=Path(catalog), id_column=id_name) if catalog is not None else None
    table = read_table(joined.path) if joined else None
    if joined is not None and table is not None:
        if source.id_name is None:
            source.ids, found = _row_by_row(source, table, id_name)
            joined = replace(joined, id_column=found)
        joined.check(table, source.ids)
    recipe = {
        "made_by": made_by,
        "vectors_sha256": _digest(Path(vectors)),
        "dataset": source.name,
        "ids": source.id_name,
        "catalog": joined.recipe() if joined else None,
    }
    inputs = {"vectors": source.location, "catalog": shown(catalog) if catalog else None}
    with Run(out, kind="embeddings", recipe=recipe, inputs=inputs) as run:
        _take(run, source, quiet)
        finite = np.ones(len(source.ids), dtype=bool)
        for entry in run.journal:
            finite[entry["rejected"]] = False
        if not finite.any():
            raise DataError(f"none of {len(source.ids)} vector(s) in {source.location!r} is finite")
        index = np.flatnonzero(finite)
        nowhere = np.full(len(index), np.nan)
        rows = pa.table({"index": index, "ra": nowhere, "dec": nowhere})
        finish_vectors(
            run,
            [entry["file"] for entry in run.journal if entry["rows"]],
            assemble(rows, source, joined, table).table,
            [(source.ids[row], "NaN or infinity") for row in np.flatnonzero(~finite).tolist()],
            {
                "encoder": made_by,
                "encoder_fingerprint": hashlib.sha256(f"adopted {made_by}".encode()).hexdigest(),
            },
        )


def _take(run: Run, source: VectorFile, quiet: bool) -> None:
    """Write the finite rows shard by shard; the journal says which were left out."""
    step = shard_rows(source.shape[1])
    done = min(len(run.journal) * step, len(source.ids))
    with Progress("adopt", len(source.ids), done=done, unit="vectors", quiet=quiet) as bar:
        for first in range(done, len(source.ids), step):
            values = source.block(first, min(first + step, len(source.ids)))
            finite = _finite(values)
            name = f"{SHARDS}/{len(run.journal):06d}.npy"
            if finite.any():
                kept = values if finite.all() else values[finite]
                run.write(name, partial(write_array, kept))
            rejected = first + np.flatnonzero(~finite)
            run.record({"file": name, "rows": int(finite.sum()), "rejected": rejected.tolist()})
            bar.advance(len(values))


def _finite(values: np.ndarray) -> np.ndarray:
    """Which vectors (n, D) hold neither NaN nor infinity, shape (n,) bool."""
    parts = np.split(values, range(_AT_ONCE, len(values), _AT_ONCE))
    return np.concatenate([np.isfinite(part).all(axis=1) for part in parts])


def _row_by_row(source: VectorFile, table: pa.Table, name: str | None) -> tuple[Texts, str]:
    """Identifiers for vectors that come without: the table's, row by row."""
    if len(table) != len(source.ids):
        raise DataError(
            f"a catalogue of {len(table)} rows for {len(source.ids)} vectors without identifiers; "
            "expected a row for each, in their order, or name the vectors' identifiers with --ids"
        )
    found = id_column(table, name)
    texts = id_texts(table, found)
    if texts.null_count:
        row = texts.is_null().index(True).as_py()
        raise DataError(f"column {found!r} has no identifier in row {row}; expected one in each")
    return Texts(texts), found


def _digest(path: Path) -> str:
    """SHA-256 of a file, or of the names and contents in a folder."""
    if path.is_file():
        return hash_file(path)
    whole = hashlib.sha256()
    for part in sorted(p for p in path.rglob("*") if p.is_file()):
        whole.update(f"{part.relative_to(path).as_posix()}\0{hash_file(part)}\n".encode())
    return whole.hexdigest()
