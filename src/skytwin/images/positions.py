"""Tables of positions -> where to cut a mosaic: identifiers, pixels, sky, and the columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from skytwin.addresses import name_of
from skytwin.errors import DataError, UsageError
from skytwin.images import arrow, columns
from skytwin.images.catalog import id_texts, read_table
from skytwin.images.columns import (
    HEADERLESS,
    PixelColumns,
    SkyColumns,
    SkyPositions,
    pixel_columns,
    sky_columns,
    sky_degrees,
)
from skytwin.images.planes import Plane
from skytwin.images.rows import first_duplicate
from skytwin.images.tables import table_stem

__all__ = ["PositionColumns", "Positions", "numbered", "read_positions", "with_positions"]


@dataclass(frozen=True, kw_only=True)
class PositionColumns:
    """The columns of a table of positions, where their names do not say what they are.

    Attributes
    ----------
    ra, dec : str or None
        Position on the sky.
    x, y : str or None
        Position in pixels of the reference band.
    id : str or None
        Identifier.
    origin : {0, 1} or None
        The number of the first pixel's centre; by the columns' names (1 for SExtractor's
        ``X_IMAGE``, ``Y_IMAGE``, else 0) if None.
    """

    ra: str | None = None
    dec: str | None = None
    x: str | None = None
    y: str | None = None
    id: str | None = None
    origin: int | None = None

    def __post_init__(self) -> None:
        if (self.ra or self.dec) and (self.x or self.y):
            raise UsageError(
                "positions both on the sky (--ra-column, --dec-column) and in pixels (--x-column, "
                "--y-column); give one pair"
            )
        if self.origin not in (None, 0, 1):
            raise UsageError(f"pixel origin {self.origin}; expected 0 or 1")


@dataclass(frozen=True, eq=False, kw_only=True)
class Positions:
    """Where objects are, N of them.

    Attributes
    ----------
    ids : tuple of str, length N
        Unique.
    xy : ndarray, shape (N, 2)
        Pixel of the reference band, from 0; NaN where unknown.
    sky : SkyPositions or None
        None where nothing tells.
    table : pyarrow.Table
        ``x``, ``y``, ``ra``, ``dec`` (the last two where known), then the given columns.
    how : tuple of str
        What each table's positions were taken from, e.g. ``"sky: RA, DEC"``.
    """

    ids: tuple[str, ...]
    xy: np.ndarray
    sky: SkyPositions | None
    table: pa.Table
    how: tuple[str, ...]


def read_positions(paths: Sequence[Path], reference: Plane, named: PositionColumns) -> Positions:
    """Read tables of positions on a mosaic.

    Sky positions come before pixels where a table has both and the mosaic a WCS. Identifiers are
    those of the table if it has them, all there and each once, else the table's name and the
    row's number: ``galaxies-00001``. Columns of the table that are in the way of ``x``, ``y``,
    ``ra``, ``dec`` and are not what these were taken from are called ``..._given``.

    Parameters
    ----------
    paths : sequence of Path
        One table or several; of several, a column ``source_table`` tells which.
    reference : Plane
        The band that pixel positions refer to.
    named : PositionColumns
        What the columns are, where their names do not say.

    Raises
    ------
    UsageError
        A column is unknown, or no position is recognised.
    DataError
        A table is damaged, its values are out of range, or an identifier occurs twice.
    """
    parts = [_read_one(Path(path), reference, named) for path in paths]
    ids = tuple(name for part in parts for name in part.ids)
    twice = first_duplicate(ids)
    if twice is not None:
        raise DataError(
            f"id {twice!r} occurs more than once in {', '.join(Path(p).name for p in paths)}; "
            "every object needs an id of its own: rename it or name another --id-column"
        )
    if len(parts) == 1:
        return parts[0]
    tables = [
        part.table.append_column(
            arrow.field("source_table", pa.string(), description="table the position is from"),
            pa.array([table_stem(Path(path))] * len(part.ids), pa.string()),
        )
        for part, path in zip(parts, paths, strict=True)
    ]
    try:
        table = pa.concat_tables(tables, promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"tables of positions do not go together: {reason}") from error
    skies = [part.sky for part in parts if part.sky is not None]
    together = SkyPositions(
        ra=np.concatenate([sky.ra for sky in skies] or [np.empty(0)]),
        dec=np.concatenate([sky.dec for sky in skies] or [np.empty(0)]),
    )
    return Positions(
        ids=ids,
        xy=np.concatenate([part.xy for part in parts]),
        sky=together if len(together) == len(ids) else None,
        table=table,
        how=tuple(how for part in parts for how in part.how),
    )


def _read_one(path: Path, reference: Plane, named: PositionColumns) -> Positions:
    table = read_table(path)
    found = _choose(table, path, reference, named)
    sky: SkyPositions | None
    if isinstance(found, SkyColumns):
        given = sky_degrees(table, found)
        sky, xy = given, _on_reference(reference, given)
        how = f"sky: {found.ra}, {found.dec}"
    else:
        origin = found.origin if named.origin is None else named.origin
        xy = np.stack([columns.numbers(table, name) for name in (found.x, found.y)], axis=1)
        xy -= origin
        xy[~np.isfinite(xy).all(axis=1)] = np.nan
        sky = _beside_pixels(table, reference, xy)
        how = f"pixels from {origin}: {found.x}, {found.y}"
    id_name, ids = _ids(table, path, named.id)
    own = _without_used(table, found, id_name)
    return Positions(
        ids=ids,
        xy=xy,
        sky=sky,
        table=with_positions(own, xy, sky),
        how=(f"{name_of(path)}: {how}",),
    )


def _choose(
    table: pa.Table, path: Path, reference: Plane, named: PositionColumns
) -> SkyColumns | PixelColumns:
    if named.x or named.y:
        pixels = pixel_columns(table, named.x, named.y)
    else:
        sky = sky_columns(table, named.ra, named.dec)
        if sky is not None and reference.sky is not None:
            return sky
        if named.ra or named.dec:
            raise UsageError(
                f"positions on the sky are asked for, but {reference.path.name} has no celestial "
                "WCS; give pixel positions (--x-column, --y-column)"
            )
        pixels = pixel_columns(table)
        if pixels is None and sky is not None:
            raise DataError(
                f"{path.name} holds sky positions ({sky.ra}, {sky.dec}), but "
                f"{reference.path.name} has no celestial WCS to place them with; give a mosaic "
                "with a WCS, or pixel positions"
            )
    if pixels is None:
        raise UsageError(
            f"no position among the columns of {path.name} ({', '.join(table.column_names[:12])});"
            " name them with --ra-column and --dec-column, or --x-column and --y-column"
        )
    return pixels


def _on_reference(reference: Plane, sky: SkyPositions) -> np.ndarray:
    if reference.sky is None:
        return np.full((len(sky), 2), np.nan)
    return reference.sky.to_pixels(sky)


def _beside_pixels(table: pa.Table, reference: Plane, xy: np.ndarray) -> SkyPositions | None:
    if reference.sky is not None:
        return reference.sky.to_sky(xy)
    found = sky_columns(table)
    return None if found is None else sky_degrees(table, found)


def _ids(table: pa.Table, path: Path, name: str | None) -> tuple[str | None, tuple[str, ...]]:
    stem = table_stem(path)
    if name is None:
        found = columns.find_id_column(table)
        if found is None:
            return None, numbered(stem, table.num_rows)
        try:
            texts = id_texts(table, found)
        except DataError:  # nobody said that this column must be it
            return None, numbered(stem, table.num_rows)
        if texts.null_count or len(texts.unique()) < len(texts):
            # A name may be left out or shared (the knots of one galaxy); an id may not.
            if "name" not in found.lower():
                twice = first_duplicate(texts.drop_null().to_pylist())
                what = "gaps" if twice is None else f"{twice!r} more than once"
                raise DataError(
                    f"the column {found!r} of {path.name} has {what}; every object needs an id "
                    "of its own: mend it, rename it to have the objects numbered, or name "
                    "another --id-column"
                )
            return None, numbered(stem, table.num_rows)
        return found, tuple(texts.to_pylist())
    found = columns.id_column(table, name)
    texts = id_texts(table, found)
    if texts.null_count:
        row = texts.is_null().index(True).as_py()
        raise DataError(f"row {row + 1} of {path.name} has no id in the column {found!r}")
    return found, tuple(texts.to_pylist())


def numbered(stem: str, count: int) -> tuple[str, ...]:
    """``stem-00001``, ``stem-00002``, ...: as many as wanted, all of one length."""
    width = max(5, len(str(count)))
    return tuple(f"{stem}-{i:0{width}d}" for i in range(1, count + 1))


def _without_used(
    table: pa.Table, used: SkyColumns | PixelColumns, id_name: str | None
) -> pa.Table:
    """The table without what ``ids``, ``x``, ``y``, ``ra``, ``dec`` will say as well."""
    if isinstance(used, SkyColumns):
        pair, same = (used.ra, used.dec), {"ra", "dec"}
    else:
        pair, same = (used.x, used.y), {"x", "y"}
    nameless = HEADERLESS in (table.schema.metadata or {})
    dropped = [name for name in pair if nameless or name.lower() in same]
    if id_name is not None and id_name.lower() == "id":
        dropped.append(id_name)
    return table.drop_columns(dropped)


def with_positions(table: pa.Table, xy: np.ndarray, sky: SkyPositions | None) -> pa.Table:
    """A table with ``x``, ``y`` and, if known, ``ra``, ``dec`` ahead of its own columns."""
    new: list[tuple[pa.Field, np.ndarray]] = [
        (
            arrow.field(
                axis,
                pa.float64(),
                unit="pix",
                ucd=f"pos.cartesian.{axis}",
                description="pixel of the reference band, the first is 0",
            ),
            xy[:, column],
        )
        for column, axis in enumerate("xy")
    ]
    if sky is not None:
        new += [
            (
                arrow.field(
                    name,
                    pa.float64(),
                    unit="deg",
                    ucd=f"pos.eq.{name};meta.main",
                    description=f"{about}, ICRS",
                ),
                values,
            )
            for name, about, values in (
                ("ra", "right ascension", sky.ra),
                ("dec", "declination", sky.dec),
            )
        ]
    taken = {entry.name for entry, _ in new} | {"id", "source_table"}
    arrays = [pa.array(values, from_pandas=True) for _, values in new]
    fields = [entry for entry, _ in new]
    names = {name.lower() for name in table.column_names} | taken
    for entry, values in zip(table.schema, table.columns, strict=True):
        name = entry.name
        if name.lower() in taken:
            name = f"{name}_given"
            while name.lower() in names:
                name += "_"
            names.add(name.lower())
        fields.append(entry.with_name(name))
        arrays.append(values)
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields))
