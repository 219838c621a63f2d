"""Tables out, in the formats astronomers read: VOTable, FITS, Parquet, CSV, ECSV.

Values keep their type, units, UCDs and descriptions as far as the format has room for them;
`skytwin.answers.export_plain` says what becomes of values that only Arrow knows.
"""

from __future__ import annotations

import errno
import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from skytwin.answers.export_fits import fits_parts
from skytwin.answers.export_text import csv_parts, ecsv_parts
from skytwin.answers.export_votable import votable_bytes, votable_parts
from skytwin.errors import DataError, UsageError, unknown
from skytwin.files import require_new, write_atomically

__all__ = ["FORMATS", "write_new", "write_table"]

_ROWS_OF_A_GROUP = 2**20  # pyarrow's own


def write_table(
    table: pa.Table, path: str | Path, meta: Mapping[str, str], *, overwrite: bool = False
) -> None:
    """Write a table in the format that the ending of its name tells.

    The same table and meta give the same bytes.

    Parameters
    ----------
    table : pyarrow.Table
        Fields may carry ``unit``, ``ucd`` and ``description``; see `skytwin.images.arrow.field`.
    path : path
        ``.vot``, ``.votable``, ``.xml``: VOTable 1.4; ``.fits``, ``.fit``: binary table;
        ``.parquet``: with the metadata of VOParquet 1.0; ``.csv``: RFC 4180; ``.ecsv``.
    meta : mapping of str to str
        Where the table comes from: INFO elements, header keywords, file metadata, the ECSV
        header. CSV has no place for it.
    overwrite : bool
        Replace a file that is there.

    Raises
    ------
    UnknownName
        Another ending.
    OutputExists
        The file is there.
    UsageError
        Its folder is not, or may not be written in.
    """
    target = Path(path)
    ending = target.suffix.lower()
    if ending not in _WRITERS:
        raise unknown("format", ending or target.name, FORMATS)
    notes = {str(name): str(value) for name, value in meta.items()}
    write_new(target, lambda: _WRITERS[ending](table, notes), overwrite=overwrite)


def write_new(
    path: Path, content: Callable[[], bytes | Iterable[bytes]], *, overwrite: bool = False
) -> None:
    """Write a file, whole or not at all, where there is none.

    Parameters
    ----------
    path : Path
    content : callable
        Gives the bytes, or them part by part; called once it is known that they may be written.
    overwrite : bool
        Replace a file that is there.
    """
    where = repr(str(path))
    if not (overwrite and path.is_file()):
        require_new(path)
    made = content()
    try:
        write_atomically(path, made if isinstance(made, bytes) else _writer(made))
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DataError(f"disk full while writing {where}; make space and repeat") from error
        raise UsageError(f"cannot write {where} ({error.strerror}); choose another") from error


def _writer(parts: Iterable[bytes]) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with path.open("wb") as stream:
            stream.writelines(parts)

    return write


def _parquet_parts(table: pa.Table, meta: Mapping[str, str]) -> Iterator[bytes]:
    notes = {
        **(table.schema.metadata or {}),
        **{name.encode(): value.encode() for name, value in meta.items()},
        # VOParquet (IVOA note, 2024): units and UCDs where TOPCAT and astropy look for them.
        b"IVOA.VOTable-Parquet.version": b"1.0",
        b"IVOA.VOTable-Parquet.content": votable_bytes(table, meta, rows=False),
    }
    whole = table.replace_schema_metadata(notes)
    stream = _Passing()
    with pq.ParquetWriter(stream, whole.schema, compression="zstd") as writer:
        for first in range(0, max(len(whole), 1), _ROWS_OF_A_GROUP):
            writer.write_table(whole.slice(first, _ROWS_OF_A_GROUP))
            yield from stream.take()
    yield from stream.take()


class _Passing(io.RawIOBase):
    """A file to write to whose bytes are taken away part by part."""

    def __init__(self) -> None:
        super().__init__()
        self._parts: list[bytes] = []
        self._length = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._length

    def write(self, data: Any, /) -> int:
        self._parts.append(bytes(data))
        self._length += len(self._parts[-1])
        return len(self._parts[-1])

    def take(self) -> list[bytes]:
        taken, self._parts = self._parts, []
        return taken


def _csv_parts(
    table: pa.Table,
    meta: Mapping[str, str],  # noqa: ARG001  (no place)
) -> Iterable[bytes]:
    return csv_parts(table)


_WRITERS: dict[str, Callable[[pa.Table, Mapping[str, str]], Iterable[bytes]]] = {
    ".vot": votable_parts,
    ".votable": votable_parts,
    ".xml": votable_parts,
    ".fits": fits_parts,
    ".fit": fits_parts,
    ".parquet": _parquet_parts,
    ".csv": _csv_parts,
    ".ecsv": ecsv_parts,
}

#: Endings that `write_table` knows.
FORMATS = tuple(_WRITERS)
