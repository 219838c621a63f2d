"""How every embedding is finished: shards measured, catalogue beside them, folder sealed."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from skytwin.artefact import Manifest
from skytwin.embeddings.table import STATISTICS
from skytwin.embeddings.vectors import Statistics, Vectors, measure, write_array
from skytwin.images.catalog_file import CATALOG
from skytwin.run import Run

__all__ = ["finish_vectors", "shard_rows"]

_SHARD_BYTES = 256 << 20


def shard_rows(dim: int, itemsize: int = 4) -> int:
    """Vectors of ``dim`` numbers in a shard, at so many bytes a number."""
    return max(1, _SHARD_BYTES // (itemsize * dim))


def finish_vectors(
    run: Run,
    shards: Sequence[str],
    catalog: pa.Table,
    rejected: Iterable[tuple[str, str]],
    summary: Mapping[str, Any],
    statistics: Statistics | None = None,
) -> Manifest:
    """Measure the shards, write the catalogue and what was left out, seal the folder.

    Parameters
    ----------
    run : Run
        The shards lie in its folder.
    shards : sequence of str
        Their names, in order.
    catalog : pyarrow.Table
        Row-aligned with them.
    rejected : iterable of (id, reason)
    summary : mapping
        What the manifest says beside shape and count of rejected.
    statistics : Statistics, optional
        Of the vectors, where they are known; else they are measured.
    """
    vectors = Vectors.open(run.folder, list(shards))
    for name, values in vars(statistics or measure(vectors)).items():
        run.write(f"{STATISTICS}/{name}.npy", partial(write_array, values))
    run.write(CATALOG, lambda path: pq.write_table(catalog, path, compression="zstd"))
    left_out = list(rejected)
    run.write("rejected.csv", lambda path: _write_rejected(path, left_out))
    return run.finish({**summary, "shape": list(vectors.shape), "rejected": len(left_out)})


def _write_rejected(path: Path, rejected: Sequence[tuple[str, str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["id", "reason"])
        writer.writerows(rejected)
