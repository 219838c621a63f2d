"""Tables in: CSV and other text, FITS, VOTable, ECSV, SExtractor, Parquet -> Arrow.

Every column keeps its unit, UCD and description as metadata of its Arrow field.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from astropy.table import meta

from skytwin.errors import BadImage, DataError, SkytwinError, UnknownName, UsageError, in_words
from skytwin.images.packed import require_likely
from skytwin.images.table_astropy import (
    read_cat,
    read_ecsv,
    read_fits,
    read_votable,
    require_unique,
    tagged,
)
from skytwin.images.table_text import read_text, without_null_type

__all__ = ["read_table", "table_stem"]


def read_table(path: Path) -> pa.Table:
    """Read a table, its format told by the ending of its name.

    Accepted are ``.csv``, ``.tsv``, ``.txt``, ``.dat`` (delimited or whitespace-separated text;
    lines starting with ``#`` ahead of the data are comments, the last of which may hold the
    names), ``.cat`` (SExtractor, ASCII_HEAD or FITS_LDAC), ``.fits``, ``.fit`` (first table),
    ``.vot``, ``.votable``, ``.xml``, ``.ecsv``, each also with ``.gz``, and ``.parquet``.

    Integers of any length stay exact, numbers with leading zeros and dates stay text, and
    masked, blank or NaN cells become nulls. Text without a line of names gets ``col1``,
    ``col2``, ... and `columns.HEADERLESS` in the schema metadata.

    Returns
    -------
    pyarrow.Table
        At least one row; column names unique.

    Raises
    ------
    UsageError
        There is no such file.
    UnknownName
        The ending is none of these.
    DataError
        The file is damaged, holds no rows, or names two columns alike.
    """
    path = Path(path)
    reader = _READERS.get(_ending(path))
    if reader is None:
        raise UnknownName(
            f"unknown table format {path.name!r}; expected a name ending in "
            f"{', '.join(_READERS)} (.gz allowed for all but .parquet)"
        )
    if not path.is_file():
        raise UsageError(f"no file {str(path)!r}; expected a table")
    if path.stat().st_size == 0:
        raise DataError(f"table {str(path)!r} is empty (0 bytes)")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            table = reader(path)
    except BadImage as error:
        raise DataError(f"cannot read {str(path)!r}: {error}") from None
    except SkytwinError:
        raise
    except MemoryError:
        raise DataError(f"table {str(path)!r} takes more memory than there is") from None
    except Exception as error:  # on a damaged file the libraries raise anything
        reason = in_words(error, 200)
        raise DataError(
            f"cannot read {str(path)!r} as a {_ending(path)} table: {reason}"
        ) from error
    require_unique(table.column_names, path)
    if table.num_rows == 0 or table.num_columns == 0:
        raise DataError(f"table {str(path)!r} holds no rows")
    return table


def table_stem(path: Path) -> str:
    """The file's name without its ending(s): ``a/galaxies.csv.gz`` -> ``galaxies``."""
    name = path.name
    for packed in (".gz", ".bz2", ".fz"):
        name = name.removesuffix(packed)
    return Path(name).stem


def _ending(path: Path) -> str:
    ending = path.suffix.lower()
    if ending == ".gz":
        inner = Path(path.stem).suffix.lower()
        return ending if inner == ".parquet" else inner
    return ending


def _read_parquet(path: Path) -> pa.Table:
    table = without_null_type(_within(path))
    for place, entry in enumerate(table.schema):
        if pa.types.is_dictionary(entry.type):
            plain = entry.with_type(entry.type.value_type)
            table = table.set_column(place, plain, table[place].cast(plain.type))
    header = (table.schema.metadata or {}).get(b"table_meta_yaml")
    if header is None:
        return table
    # astropy keeps units and descriptions in the schema's metadata, in YAML.
    for column in meta.get_header_from_yaml(header.decode().split("\n"))["datatype"]:
        place = table.schema.get_field_index(column["name"])
        if place >= 0:
            kind = table.schema.field(place).type
            table = table.set_column(place, tagged(column["name"], kind, column), table[place])
    return table


def _within(path: Path) -> pa.Table:
    """The table; refused where a few values are repeated until they would fill the memory."""
    size = path.stat().st_size
    # ParquetFile, because read_table would take a "name=value" folder for a partition.
    with pq.ParquetFile(path, memory_map=True) as file:
        require_likely(size, 4 * file.metadata.num_rows * file.metadata.num_columns, "the table")
        texts = [
            entry.name
            for entry in file.schema_arrow
            if pa.types.is_string(entry.type) or pa.types.is_large_string(entry.type)
        ]
    # Texts as distinct values and places among them: one that comes a million times is there once.
    with pq.ParquetFile(path, memory_map=True, read_dictionary=texts) as file:
        table = file.read()
    for name in texts:
        for chunk in table[name].chunks:
            if pa.types.is_dictionary(chunk.type):
                lengths = pc.binary_length(chunk.dictionary)
                require_likely(size, pc.sum(lengths.take(chunk.indices)).as_py() or 0, "the table")
    return table


_READERS: dict[str, Callable[[Path], pa.Table]] = {
    ".csv": functools.partial(read_text, delimiters=",;\t"),
    ".tsv": functools.partial(read_text, delimiters="\t"),
    ".txt": functools.partial(read_text, delimiters=",;\t", whitespace=True),
    ".dat": functools.partial(read_text, delimiters=",;\t", whitespace=True),
    ".cat": read_cat,
    ".fits": read_fits,
    ".fit": read_fits,
    ".vot": read_votable,
    ".votable": read_votable,
    ".xml": read_votable,
    ".ecsv": read_ecsv,
    ".parquet": _read_parquet,
}
