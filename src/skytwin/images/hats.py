"""HATS catalogues: Parquet files by HEALPix cell, here or at an address, read cell by cell.

Reference: the HATS format of LSDB's catalogues, as the IVOA Note *HATS: A Standard for the
Hierarchical Adaptive Tiling Scheme in the Virtual Observatory* and the package ``hats`` describe
it: ``hats.properties`` (in older ones ``properties``), ``partition_info.csv``, and
``dataset/Norder=K/Dir=D/Npix=N.parquet`` (or a folder ``Npix=N`` of such files), the cells in the
nested scheme.
"""

from __future__ import annotations

import contextlib
import csv
import functools
import hashlib
import io
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from skytwin.addresses import address_of, shown
from skytwin.errors import BadImage, DataError, SkytwinError, in_words
from skytwin.images import arrow
from skytwin.images.moc import corners
from skytwin.images.table_parquet import read_parquet
from skytwin.progress import Progress
from skytwin.threads import a_few_ahead

if TYPE_CHECKING:
    from skytwin.images.remote import Entry, Remote

__all__ = ["Hats", "Partition", "is_hats"]

_PROPERTIES = ("hats.properties", "properties")
_COLLECTION, _PRIMARY = "collection.properties", "hats_primary_table_url"
_INFO, _DATASET = "partition_info.csv", "dataset"
_FILE = re.compile(r"Norder=(\d+)/Dir=\d+/Npix=(\d+)(?:\.parquet|/[^/]+\.parquet)")
_MOST_TEXT, _MOST_ROWS = 1 << 26, 50_000_000
_THREADS = 4
#: The sides of a cell are no great circles: they may lie a little farther out than its corners.
_BULGE = 1.15


@dataclass(frozen=True, kw_only=True)
class Partition:
    """One cell of the sky, and the files with its rows.

    Attributes
    ----------
    order, pixel : int
        Of the HEALPix cell, nested.
    files : tuple of str
        Below the catalogue's folder.
    """

    order: int
    pixel: int
    files: tuple[str, ...]

    @functools.cached_property
    def centre(self) -> tuple[np.ndarray, float]:
        """Unit vector (3,) of its middle, and the longest chord from there to a row of it."""
        cells = np.array([self.pixel])
        # The northern corner of its first child.
        middle = _unit(corners(self.order + 1, cells * 4)[0, 2])
        rim = _unit(corners(self.order, cells)[0])
        return middle, _BULGE * float(np.linalg.norm(rim - middle, axis=1).max())


def is_hats(path: Path) -> bool:
    """Whether a folder, here or at an address, holds a HATS catalogue or a collection of them."""
    marks = (*_PROPERTIES, _COLLECTION)
    if address_of(path) is None:
        return path.is_dir() and any((path / mark).is_file() for mark in marks)
    remote = _remote(path)
    return any(remote.has(mark) for mark in marks)


class Hats:
    """A HATS catalogue.

    Parameters
    ----------
    path : Path
        Its folder, or that of a collection, whose main catalogue it then is.

    Attributes
    ----------
    name : str
        The folder, for messages.
    properties : dict of str
    partitions : tuple of Partition

    Raises
    ------
    DataError
        It is damaged, or its files are not as the format has them.
    """

    def __init__(self, path: Path) -> None:
        self.name = shown(path)
        self._folder = path
        self._remote: Remote | None = None if address_of(path) is None else _remote(path)
        self._files = self._listed()
        if not any(mark in self._files for mark in _PROPERTIES) and _COLLECTION in self._files:
            self._enter(_properties(self._text(_COLLECTION)).get(_PRIMARY, ""))
        mark = next((mark for mark in _PROPERTIES if mark in self._files), None)
        if mark is None:
            raise DataError(f"{self.name!r} has no {_PROPERTIES[0]}; expected a HATS catalogue")
        self.properties = _properties(self._text(mark))
        self._marks = (mark, _INFO) if _INFO in self._files else (mark,)
        self.partitions = self._partitions()

    @functools.cached_property
    def schema(self) -> pa.Schema:
        """Names and types of the columns."""

        def first(source: Path | BinaryIO, _: int) -> pa.Table:
            with pq.ParquetFile(source) as file:
                return file.schema_arrow.empty_table()

        return self._tagged(self._parquet(self.partitions[0].files[0], first)).schema

    @functools.cached_property
    def sha256(self) -> str:
        """SHA-256 of its properties and list of cells, and of its files' names and sizes.

        The rows are not part of it: a catalogue may be larger than what can be read for a sum.
        Properties name the date and the number of rows.
        """
        digest = hashlib.sha256()
        for mark in self._marks:
            digest.update(self._text(mark).encode())
        for part in self.partitions:
            for file in part.files:
                digest.update(f"{file}\0{self._size(file)}\n".encode())
        return digest.hexdigest()

    def read(self, part: Partition, columns: Sequence[str] | None = None) -> pa.Table:
        """The rows of one cell, all columns or some.

        Raises
        ------
        DataError
            A file is missing or damaged.
        """
        tables = [
            self._parquet(file, lambda source, size: read_parquet(source, size, columns))
            for file in part.files
        ]
        return self._tagged(pa.concat_tables(tables, promote_options="permissive"))

    def read_all(self) -> pa.Table:
        """Every row, in the order of the cells on the sky.

        Raises
        ------
        DataError
            It has no rows, or more than are read whole.
        """
        rows = self.properties.get("hats_nrows", "")
        if rows.isdecimal() and int(rows) > _MOST_ROWS:
            raise DataError(
                f"{self.name!r} holds {int(rows):,} rows; no more than {_MOST_ROWS:,} are read "
                "whole: take a part of the sky with LSDB and save that"
            )
        return self.select(lambda _: None)

    def select(
        self,
        keep: Callable[[pa.Table], np.ndarray | None],
        columns: Sequence[str] | None = None,
        cells: Iterable[Partition] | None = None,
    ) -> pa.Table:
        """The rows that are wanted, a few cells at a time.

        Parameters
        ----------
        keep : callable
            Says which rows of a cell are wanted, (n,) bool; None for all.
        columns : sequence of str, optional
            What it needs to see; the other columns are read only of cells with rows wanted.
        cells : iterable of Partition, optional
            Those to look at; all by default.

        Returns
        -------
        pyarrow.Table
            In the order of the cells; it may have no rows.
        """
        wanted = sorted(
            self.partitions if cells is None else cells, key=lambda p: p.pixel << 2 * (29 - p.order)
        )

        def one(part: Partition) -> pa.Table | None:
            seen = self.read(part, columns)
            mask = keep(seen)
            if mask is not None and not mask.any():
                return None
            table = seen if columns is None else self.read(part)
            return table if mask is None else table.filter(pa.array(mask))

        found = []
        with Progress("catalogue", len(wanted), unit="cells") as bar:
            for table in _ahead(one, wanted):
                bar.advance(1)
                if table is not None and table.num_rows:
                    found.append(table)
        if not found:
            return self.schema.empty_table()
        return pa.concat_tables(found, promote_options="permissive")

    def near(self, places: np.ndarray, radius: float) -> list[Partition]:
        """The cells that may hold a row within a chord ``radius`` of unit vectors (n, 3)."""
        from scipy.spatial import cKDTree

        tree = cKDTree(places)
        return [
            part
            for part in self.partitions
            if tree.query(part.centre[0])[0] <= part.centre[1] + radius
        ]

    def _enter(self, name: str) -> None:
        """Go on with a catalogue of the collection."""
        name = name.rstrip("/").removeprefix("./")
        if not name or len(PurePosixPath(name).parts) != 1 or ".." in name or ":" in name:
            raise DataError(
                f"{self.name!r} is a collection whose main catalogue lies elsewhere ({name!r}); "
                "give the folder of that catalogue"
            )
        self.name = f"{self.name}/{name}"
        self._folder = self._folder / name
        below = f"{name}/"
        if self._remote is not None and not self._remote.lists:
            self._remote = _remote(self._folder)
            self._files = self._listed()
            return
        self._files = {
            file.removeprefix(below): entry
            for file, entry in self._files.items()
            if file.startswith(below)
        }

    def _listed(self) -> dict[str, Entry | None]:
        if self._remote is not None and self._remote.lists:
            return dict(self._remote.list())
        if self._remote is not None:  # a web server: what its table of cells names
            marks = (*_PROPERTIES, _COLLECTION, _INFO)
            return {m: self._remote.below(m) for m in marks if self._remote.has(m)}
        return {
            path.relative_to(self._folder).as_posix(): None
            for path in sorted(self._folder.rglob("*"))
            if path.is_file()
        }

    def _partitions(self) -> tuple[Partition, ...]:
        found: dict[tuple[int, int], list[str]] = {}
        for file in self._files:
            match = _FILE.fullmatch(file.removeprefix(f"{_DATASET}/"))
            if match and file.startswith(f"{_DATASET}/"):
                found.setdefault((int(match[1]), int(match[2])), []).append(file)
        stated = self._stated() if _INFO in self._files else set(found)
        if self._remote is not None and not self._remote.lists:
            found = {cell: [self._named(*cell)] for cell in stated}
        for order, pixel in sorted(stated):
            if not 0 <= order <= 29 or not 0 <= pixel < 12 * 4**order:
                raise DataError(f"{self.name!r} names a cell {pixel} of order {order}: no such")
            if (order, pixel) not in found:
                raise DataError(
                    f"{self.name!r} has no file for cell {pixel} of order {order}, which its "
                    f"{_INFO} names: it is not whole"
                )
        if not stated:
            raise DataError(f"{self.name!r} has no rows: no file Norder=K/Dir=D/Npix=N.parquet")
        return tuple(
            Partition(order=order, pixel=pixel, files=tuple(found[order, pixel]))
            for order, pixel in sorted(stated)
        )

    def _named(self, order: int, pixel: int) -> str:
        """The file of a cell where files cannot be listed."""
        ending = self.properties.get("hats_npix_suffix", ".parquet")
        if ending == "/":
            raise DataError(
                f"{self.name!r} has a folder of files for each cell, which a web server does not "
                "list; give another address of it, or copy it"
            )
        folder = pixel // 10_000 * 10_000
        file = f"{_DATASET}/Norder={order}/Dir={folder}/Npix={pixel}{ending}"
        self._files[file] = self._remote.unseen(file) if self._remote else None
        return file

    def _stated(self) -> set[tuple[int, int]]:
        try:
            rows = csv.DictReader(io.StringIO(self._text(_INFO)))
            return {(int(row["Norder"]), int(row["Npix"])) for row in rows}
        except (KeyError, TypeError, ValueError):
            raise DataError(
                f"{self.name!r}: {_INFO} cannot be read; expected the columns Norder and Npix"
            ) from None

    def _size(self, file: str) -> int:
        entry = self._files[file]
        return (entry.size or 0) if entry else (self._folder / file).stat().st_size

    def _text(self, file: str) -> str:
        if self._size(file) > _MOST_TEXT:
            raise DataError(f"{self.name}/{file} has {self._size(file)} bytes; too many")
        entry = self._files[file]
        content = (
            self._remote.read(entry)
            if self._remote is not None and entry is not None
            else (self._folder / file).read_bytes()
        )
        return content.decode("utf-8", "replace")

    @contextlib.contextmanager
    def _opened(self, file: str) -> Iterator[tuple[Path | BinaryIO, int]]:
        """A file to read Parquet from, and its size."""
        entry = self._files[file]
        if self._remote is None or entry is None:
            yield self._folder / file, self._size(file)
            return
        if entry.size is None:
            entry = self._remote.below(file)
        with self._remote.stream(entry) as stream:
            yield stream, entry.size or 0

    def _parquet(self, file: str, read: Callable[[Path | BinaryIO, int], pa.Table]) -> pa.Table:
        """What ``read`` takes from a file, asked again where an error elsewhere may pass."""
        where = f"{self.name}/{file}"

        def once() -> pa.Table:
            with self._opened(file) as (source, size):
                return read(source, size)

        try:
            return once() if self._remote is None else self._remote.again(once, where)
        except BadImage as error:
            raise DataError(f"cannot read {where!r}: {error}") from None
        except SkytwinError:
            raise
        except Exception as error:  # on a damaged file the libraries raise anything
            raise DataError(f"cannot read {where!r} ({in_words(error)})") from None

    def _tagged(self, table: pa.Table) -> pa.Table:
        """The table, the columns of its position marked as such."""
        for axis in ("ra", "dec"):
            name = self.properties.get(f"hats_col_{axis}")
            place = table.schema.get_field_index(name) if name else -1
            if name and place >= 0 and b"ucd" not in (table.schema.field(place).metadata or {}):
                kind = table.schema.field(place).type
                field = arrow.field(name, kind, unit="deg", ucd=f"pos.eq.{axis};meta.main")
                table = table.set_column(place, field, table[place])
        return table


def _remote(path: Path) -> Remote:
    # What asks for files elsewhere is slow to import.
    from skytwin.images.remote import Remote

    return Remote(address_of(path) or "")


def _properties(text: str) -> dict[str, str]:
    """Lines ``name = value`` of Java's properties."""
    pairs = (line.partition("=") for line in text.splitlines() if line.strip()[:1] not in "#!")
    return {name.strip(): value.strip() for name, mark, value in pairs if mark}


def _unit(places: np.ndarray) -> np.ndarray:
    """Unit vectors of RA and Dec in degrees, (..., 2) -> (..., 3)."""
    ra, dec = np.radians(places[..., 0]), np.radians(places[..., 1])
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=-1)


def _ahead(
    one: Callable[[Partition], pa.Table | None], parts: Sequence[Partition]
) -> Iterator[pa.Table | None]:
    """What ``one`` gives for each, in order; a few at a time."""
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="catalogue") as pool:
        yield from a_few_ahead(lambda part: pool.submit(one, part), parts, lambda: _THREADS)
