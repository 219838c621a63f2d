"""One array of many images, with columns beside it: HDF5, NPY, NPZ, Zarr."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from skytwin.errors import BadImage, DataError, UsageError, in_words, unknown
from skytwin.images.arrayfiles import StoredArray, choose, open_arrays
from skytwin.images.packed import require_likely
from skytwin.images.pixels import check_size, native
from skytwin.images.source import RawImage
from skytwin.images.texts import Texts, numbered, twice_among

__all__ = ["ArraySource", "columns_beside", "identifiers", "short_names"]

_ID_NAMES = ("id", "ids", "objid", "object_id", "name")
_TEXT = "SUTO"  # kinds of NumPy types that text comes in
_AT_ONCE = 65_536
_LAYOUTS = {3: ("NHW",), 4: ("NCHW", "NHWC")}


class ArraySource:
    """The images of an array file.

    One-dimensional arrays as long as the images become columns of ``table``.

    Parameters
    ----------
    path : Path
        ``.h5 .hdf5 .npy .npz``, or Zarr as a folder or zip.
    dataset : str, optional
        The array of images; needed if several numeric ones have 3 or 4 axes.
    ids : str, optional
        The array of identifiers; by default one called id, ids, objid, object_id or name, if its
        values are unique, else row numbers.
    bands : sequence of str, optional
        Names for the channels, in place of the attribute ``bands``.
    layout : str, optional
        ``"NHW"``, ``"NCHW"`` or ``"NHWC"``. Four axes are NCHW by default, unless the last has
        at most 5 elements and the second has more.

    Raises
    ------
    UsageError
        No such file or array, several candidates, a layout or bands that do not fit.
    DataError
        A damaged file, one without images, ids that are not unique.

    Notes
    -----
    The array's attributes ``unit``, ``pixel_scale`` (arcsec) and ``bands`` are used if present.
    """

    def __init__(
        self,
        path: Path,
        *,
        dataset: str | None = None,
        ids: str | None = None,
        bands: Sequence[str] | None = None,
        layout: str | None = None,
    ) -> None:
        self.location = str(path)
        arrays = open_arrays(path)
        name = choose(path, arrays, dataset, axes=tuple(_LAYOUTS), what="images")
        self._array = array = arrays[name]
        self._layout = _layout(name, array.shape, layout)
        count, channels = array.shape[0], _channels(array.shape, self._layout)
        check_size(*array.shape[1:])
        if not count:
            raise DataError(f"{name!r} in {self.location!r} holds no images: {array.shape}")
        whole = math.prod(array.shape) * array.dtype.itemsize
        require_likely(_bytes_of(path), whole, f"{name!r} in {self.location!r}")
        attributes = array.attributes
        self._bands = _bands(bands, attributes.get("bands"), channels, name)
        self._unit = _text(attributes["unit"]) if "unit" in attributes else None
        self._pixel_scale = _scale(attributes.get("pixel_scale"))
        columns = columns_beside(arrays, count)
        id_name, found = identifiers(columns, ids, count, self.location)
        self.ids: Sequence[str] = found
        kept = {key: value for key, value in columns.items() if key != id_name}
        self.table = pa.table(short_names(kept)) if kept else None
        self.origins: Sequence[str] = numbered(count, f"{path.name}[", "]")
        self.recipe: Mapping[str, Any] = {
            "dataset": name,
            "ids": id_name,
            "layout": self._layout,
            "bands": None if bands is None else list(bands),
        }

    def read(self, index: int) -> RawImage:
        """Read one image; see `skytwin.images.source.ImageSource.read`."""
        try:
            row = np.asarray(self._array.row(index))
        except Exception as error:  # damage shows as another error in every format
            reason = in_words(error)
            raise BadImage(f"cannot be read: {reason}") from None
        if self._layout == "NHW":
            row = row[None]
        elif self._layout == "NHWC":
            row = np.moveaxis(row, -1, 0)
        return RawImage(
            pixels=native(row), bands=self._bands, unit=self._unit, pixel_scale=self._pixel_scale
        )


def _bytes_of(path: Path) -> int:
    """What a file, or all files of a folder, take."""
    files = [path] if path.is_file() else [part for part in path.rglob("*") if part.is_file()]
    return sum(part.stat().st_size for part in files)


def _layout(name: str, shape: tuple[int, ...], wanted: str | None) -> str:
    known = _LAYOUTS[len(shape)]
    if wanted is not None:
        if wanted not in known:
            raise UsageError(f"layout {wanted!r} for {name!r} of {shape}; expected {_or(known)}")
        return wanted
    if len(shape) == 3:
        if shape[2] <= 5 < shape[1]:
            raise UsageError(
                f"{name!r} of {shape} looks like one colour image; put it in a folder of images, "
                "or say layout='NHW' if it is many"
            )
        return "NHW"
    return "NHWC" if shape[3] <= 5 and shape[1] > shape[3] else "NCHW"


def _channels(shape: tuple[int, ...], layout: str) -> int:
    return {"NHW": 1, "NCHW": shape[1], "NHWC": shape[-1]}[layout]


def _bands(
    wanted: Sequence[str] | None, said: object, channels: int, name: str
) -> tuple[str, ...] | None:
    if wanted is not None:
        bands = tuple(wanted)
    elif said is None:
        return None
    else:
        given = (
            _text(said).split(",") if isinstance(said, str | bytes) else np.asarray(said).ravel()
        )
        bands = tuple(_text(band).strip() for band in given)
    if len(bands) != channels:
        raise UsageError(
            f"{len(bands)} bands {bands} for {name!r}, which has {channels} channel(s)"
        )
    return bands


def _scale(said: object) -> float | None:
    try:
        scale = float(np.asarray(said, dtype=float))
    except (TypeError, ValueError):
        return None
    return scale if np.isfinite(scale) and scale > 0 else None


def columns_beside(arrays: Mapping[str, StoredArray], count: int) -> dict[str, pa.Array]:
    """The one-dimensional arrays of that length, and the fields of such arrays of records."""
    found: dict[str, pa.Array] = {}
    for name, array in arrays.items():
        if array.shape != (count,):
            continue
        try:
            if array.dtype.kind in _TEXT:
                column = _text_column(array.part, count)
                found |= {name: column} if column is not None else {}
                continue
            values = array.whole()
        except Exception as error:  # damage shows as another error in every format
            reason = in_words(error)
            raise DataError(f"column {name!r} cannot be read: {reason}") from None
        parts = {name: values}
        if values.dtype.names is not None:
            parts = {f"{name}/{key}": values[key] for key in values.dtype.names}
        for key, part in parts.items():
            column = _column(part)
            if column is not None:
                found[key] = column
    return found


def _column(values: np.ndarray) -> pa.Array | None:
    """An Arrow array; None for what is neither numbers nor text."""
    if values.ndim != 1:
        return None
    if values.dtype.kind in _TEXT:
        return _text_column(lambda first, stop: values[first:stop], len(values))
    if values.dtype.kind not in "biuf":
        return None
    # Parquet has no half floats.
    wide = np.float32 if values.dtype == np.float16 else values.dtype.newbyteorder("=")
    return pa.array(values.astype(wide))


def _text_column(part: Callable[[int, int], np.ndarray], count: int) -> pa.Array | None:
    """An Arrow array of what is read part by part; None where some of it is no text."""
    parts = []
    for first in range(0, count, _AT_ONCE):
        entries = part(first, min(first + _AT_ONCE, count)).tolist()
        if not all(isinstance(entry, str | bytes) for entry in entries):
            return None
        parts.append(pa.array([_text(entry) for entry in entries], pa.string()))
    return pa.concat_arrays(parts) if parts else pa.array([], pa.string())


def identifiers(
    columns: Mapping[str, pa.Array], wanted: str | None, count: int, location: str
) -> tuple[str | None, Texts]:
    """The name of the column of identifiers, if one is, and the identifiers."""
    if wanted is not None:
        name = wanted.strip("/")
        if name not in columns:
            raise unknown("dataset of ids", wanted, columns)
        ids = _as_ids(columns[name])
        if ids is None:
            raise DataError(
                f"ids {wanted!r} in {location!r} are {columns[name].type}; expected text"
            )
        twice = twice_among(ids)
        if twice is not None:
            raise DataError(
                f"ids {wanted!r} in {location!r} are not unique ({twice!r} comes twice)"
            )
        return name, Texts(ids)
    for known in _ID_NAMES:
        for name, column in columns.items():
            if name.rpartition("/")[2].lower() != known:
                continue
            ids = _as_ids(column)
            if ids is not None and twice_among(ids) is None:
                return name, Texts(ids)
    return None, numbered(count, width=len(str(count - 1)))


def _as_ids(column: pa.Array) -> pa.Array | None:
    if not (pa.types.is_integer(column.type) or pa.types.is_string(column.type)):
        return None
    return column.cast(pa.string())


def short_names(columns: Mapping[str, pa.Array]) -> dict[str, pa.Array]:
    """Columns named without their group, where that leaves the names unique."""
    short = [name.rpartition("/")[2] for name in columns]
    return {
        part if short.count(part) == 1 else name: column
        for (name, column), part in zip(columns.items(), short, strict=True)
    }


def _text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _or(names: Sequence[str]) -> str:
    return " or ".join(repr(name) for name in names)
