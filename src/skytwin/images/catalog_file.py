"""The catalogue of a folder of cutouts or of an embedding, at rest."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from skytwin.artefact import reading

__all__ = ["CATALOG", "read_catalog"]

CATALOG = "catalog.parquet"


def read_catalog(folder: Path, count: int) -> pa.Table:
    """The catalogue of a folder, which must have so many rows, a group of them at a time.

    Equivalent to::

        pq.read_table(folder / CATALOG)

    which takes half as much memory again for what it holds at the same time.
    """
    with (
        reading(folder, CATALOG),
        pq.ParquetFile(folder / CATALOG, memory_map=True, pre_buffer=False) as stored,
    ):
        if stored.metadata.num_rows != count:
            raise ValueError(f"{stored.metadata.num_rows} rows for {count} objects")
        groups = [stored.read_row_group(n) for n in range(stored.num_row_groups)]
        table = pa.concat_tables(groups) if groups else stored.schema_arrow.empty_table()
        if not pa.types.is_string(table.schema.field("id").type):
            raise ValueError("no column id of text")
    pa.default_memory_pool().release_unused()
    return table
