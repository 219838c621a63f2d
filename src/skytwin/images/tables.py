"""Tables in: CSV and other text, FITS, VOTable, ECSV, SExtractor, Parquet -> Arrow.

Every column keeps its unit, UCD and description as metadata of its Arrow field.
"""

from __future__ import annotations

import contextlib
import functools
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa

from skytwin.addresses import address_of, name_of, shown
from skytwin.errors import BadImage, DataError, SkytwinError, UnknownName, UsageError, in_words
from skytwin.files import hash_file
from skytwin.images.at_hand import called, file_at_hand
from skytwin.images.hats import Hats, is_hats
from skytwin.images.table_astropy import (
    read_cat,
    read_ecsv,
    read_fits,
    read_votable,
    require_unique,
)
from skytwin.images.table_parquet import read_parquet_file
from skytwin.images.table_text import read_text

__all__ = ["hats_at", "read_table", "table_sha256", "table_stem"]


def read_table(path: Path) -> pa.Table:
    """Read a table, its format told by the ending of its name, or a HATS catalogue's folder.

    It may lie at an address, ``s3://bucket/table.fits``: see `skytwin.images.remote_copy`.
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
    hats = hats_at(path)
    if hats is not None:
        return hats.read_all()
    with _copied(path) as here:
        return _read_file(here)


def table_sha256(path: Path) -> str:
    """SHA-256 of a table's file; of a HATS catalogue, see `skytwin.images.hats.Hats.sha256`."""
    path = Path(path)
    hats = hats_at(path)
    if hats is not None:
        return hats.sha256
    with _copied(path) as here:
        return hash_file(here)


def hats_at(path: Path) -> Hats | None:
    """The HATS catalogue in a folder; None for a table in a file."""
    return Hats(path) if _ending(path) not in _READERS and is_hats(path) else None


@contextlib.contextmanager
def _copied(path: Path) -> Iterator[Path]:
    """A file on this machine; errors name what the user named."""
    if address_of(path) is None:
        yield path
        return
    _require_known(path)
    here = file_at_hand(path)
    with called(here, shown(path)):
        yield here


def _require_known(path: Path) -> None:
    if _ending(path) not in _READERS:
        raise UnknownName(
            f"unknown table format {name_of(path)!r}; expected a name ending in "
            f"{', '.join(_READERS)} (.gz allowed for all but .parquet), or a HATS catalogue"
        )


def _read_file(path: Path) -> pa.Table:
    _require_known(path)
    reader = _READERS[_ending(path)]
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
    name = name_of(path)
    for packed in (".gz", ".bz2", ".fz"):
        name = name.removesuffix(packed)
    return Path(name).stem


def _ending(path: Path) -> str:
    name = Path(name_of(path))
    ending = name.suffix.lower()
    if ending == ".gz":
        inner = Path(name.stem).suffix.lower()
        return ending if inner == ".parquet" else inner
    return ending


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
    ".parquet": read_parquet_file,
}
