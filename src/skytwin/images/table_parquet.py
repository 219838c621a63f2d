"""Parquet -> Arrow, from a file or from a stream of one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from skytwin.images.packed import require_likely
from skytwin.images.table_astropy import tagged
from skytwin.images.table_text import without_null_type

__all__ = ["read_parquet", "read_parquet_file"]


def read_parquet_file(path: Path) -> pa.Table:
    """A Parquet file with its units and descriptions, where astropy wrote them."""
    return read_parquet(path, path.stat().st_size)


def read_parquet(
    source: Path | BinaryIO, size: int, columns: Sequence[str] | None = None
) -> pa.Table:
    """As `read_parquet_file`, from a file or a stream of ``size`` bytes; some columns or all.

    Raises
    ------
    BadImage
        It unpacks to far more than its size; see `skytwin.images.packed`.
    """
    table = without_null_type(_within(source, size, columns))
    header = (table.schema.metadata or {}).get(b"table_meta_yaml")
    if header is None:
        return table
    from astropy.table import meta  # slow to import, and few files need it

    # astropy keeps units and descriptions in the schema's metadata, in YAML.
    for column in meta.get_header_from_yaml(header.decode().split("\n"))["datatype"]:
        place = table.schema.get_field_index(column["name"])
        if place >= 0:
            kind = table.schema.field(place).type
            table = table.set_column(place, tagged(column["name"], kind, column), table[place])
    return table


def _within(source: Path | BinaryIO, size: int, columns: Sequence[str] | None) -> pa.Table:
    """The table; refused where a few values are repeated until they would fill the memory."""
    mapped = isinstance(source, Path)
    wanted = None if columns is None else list(columns)
    # ParquetFile, because read_table would take a "name=value" folder for a partition.
    with pq.ParquetFile(source, memory_map=mapped) as file:
        require_likely(size, 4 * file.metadata.num_rows * file.metadata.num_columns, "the table")
        texts = [
            entry.name
            for entry in file.schema_arrow
            if pa.types.is_string(entry.type) or pa.types.is_large_string(entry.type)
        ]
    # Texts as distinct values and places among them: one that comes a million times is there once.
    with pq.ParquetFile(
        source, memory_map=mapped, read_dictionary=texts, pre_buffer=not mapped
    ) as file:
        if file.num_row_groups < 2:
            return _plain(file.read(wanted), size, texts)
        # One after the other, for each is there twice while its texts are written out.
        groups = (file.read_row_group(n, wanted) for n in range(file.num_row_groups))
        table = pa.concat_tables([_plain(group, size, texts) for group in groups])
    schema, columns = table.schema, list(table.columns)
    del table, groups
    for place, column in enumerate(columns):  # so that only one is there twice
        columns[place] = pa.table({"": column}).combine_chunks()[0]
    return pa.table(columns, schema=schema)


def _plain(table: pa.Table, size: int, texts: Sequence[str]) -> pa.Table:
    """The table with its texts written out, once it is known that they fit."""
    for name in texts:
        for chunk in table[name].chunks if name in table.column_names else ():
            if pa.types.is_dictionary(chunk.type):
                lengths = pc.binary_length(chunk.dictionary)
                require_likely(size, pc.sum(lengths.take(chunk.indices)).as_py() or 0, "the table")
    for place, entry in enumerate(table.schema):
        if pa.types.is_dictionary(entry.type):
            plain = entry.with_type(entry.type.value_type)
            table = table.set_column(place, plain, table[place].cast(plain.type))
    return table
