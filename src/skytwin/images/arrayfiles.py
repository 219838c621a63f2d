"""Array files as named arrays to draw rows from: HDF5, NPY, NPZ, Zarr."""

from __future__ import annotations

import functools
import math
import threading
import zipfile
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, cast

import h5py
import numpy as np
import zarr
from zarr.storage import ZipStore

from skytwin.errors import BadImage, DataError, UsageError, in_words, unknown
from skytwin.images.npy import npy_header
from skytwin.images.packed import require_likely
from skytwin.images.quiet import quiet
from skytwin.images.zarr_bounds import bounded

__all__ = [
    "ARRAY_SUFFIXES",
    "ZARR_MARKS",
    "StoredArray",
    "choose",
    "is_array_file",
    "open_arrays",
]

_HDF5 = (".h5", ".hdf5")
ARRAY_SUFFIXES = (*_HDF5, ".npz", ".npy", ".zarr", ".zarr.zip")

ZARR_MARKS = ("zarr.json", ".zgroup", ".zarray")
# Neighbouring rows share a compressed chunk: it is kept, else every row would unpack it anew.
_CHUNK_CACHE = 2**27
_DEEPEST = 100


@dataclass(frozen=True, kw_only=True, eq=False)
class StoredArray:
    """An array in a file.

    Attributes
    ----------
    shape : tuple of int
    dtype : dtype
    row : callable
        Row number to that row's elements; safe in several threads.
    part : callable
        First row and the one after the last to the elements of those, text as in ``whole``.
    whole : callable
        All elements; text as ``str`` objects or as bytes.
    attributes : mapping
        What the file says of the array.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    row: Callable[[int], np.ndarray]
    part: Callable[[int, int], np.ndarray]
    whole: Callable[[], np.ndarray]
    attributes: Mapping[str, Any] = field(default_factory=dict)


def is_array_file(path: Path) -> bool:
    """Whether a path is one for `open_arrays`, by its suffix or, for Zarr, its content."""
    name = path.name.lower()
    if path.is_dir():
        return name.endswith(".zarr") or any((path / mark).is_file() for mark in ZARR_MARKS)
    return name.endswith(ARRAY_SUFFIXES) or (
        name.endswith(".zip") and _zipped_root(path) is not None
    )


def choose(
    path: Path,
    arrays: Mapping[str, StoredArray],
    wanted: str | None,
    *,
    axes: Collection[int],
    what: str,
) -> str:
    """The array that is meant: the one named, or the only one of real numbers in so many axes.

    Parameters
    ----------
    path : Path
        Where they lie, for a message.
    arrays : mapping
    wanted : str or None
    axes : collection of int
    what : str
        What such an array holds, for a message.

    Raises
    ------
    UnknownName
        There is none of that name.
    UsageError
        It is of another shape; there are several, and none was named.
    DataError
        There is none.
    """
    shown = {name: f"{name} {array.dtype} {array.shape}" for name, array in arrays.items()}
    expected = f"expected real numbers in {' or '.join(map(str, sorted(axes)))} axes"
    candidates = [
        name
        for name, array in arrays.items()
        if len(array.shape) in axes and array.dtype.kind in "biuf"
    ]
    if wanted is not None:
        name = wanted.strip("/")
        if name not in arrays:
            raise unknown("dataset", wanted, candidates or arrays)
        if name not in candidates:
            raise UsageError(f"dataset {shown[name]}; {expected}")
        return name
    if len(candidates) == 1:
        return candidates[0]
    if candidates:
        raise UsageError(
            f"{str(path)!r} holds several arrays of {what}: "
            f"{'; '.join(shown[name] for name in candidates)}; choose one with --dataset"
        )
    there = "; ".join(shown.values()) or "no array at all"
    raise DataError(f"{str(path)!r} holds no array of {what} ({there}); {expected}")


def _zipped_root(path: Path) -> str | None:
    """The folder inside a zip that is a Zarr: the zip's own root, or the one folder zipped."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if name.count("/") <= 1]
    except (zipfile.BadZipFile, OSError):
        return None
    roots = [folder for folder, _, name in (n.rpartition("/") for n in names) if name in ZARR_MARKS]
    return min(roots, key=len, default=None)


def open_arrays(path: Path) -> dict[str, StoredArray]:
    """The arrays in a file, by name; their elements are read when asked for.

    Raises
    ------
    UsageError
        No such file, or one of another kind.
    DataError
        The file is damaged.
    """
    if not path.exists():
        raise UsageError(
            f"no file {str(path)!r}; expected one ending in {', '.join(ARRAY_SUFFIXES)}"
        )
    if not is_array_file(path):
        raise UsageError(f"{str(path)!r} is no array file; expected {', '.join(ARRAY_SUFFIXES)}")
    if not (path.is_file() or path.is_dir()):
        raise DataError(f"{str(path)!r} is a pipe or a device; expected a file")
    name = path.name.lower()
    opener = _zarr
    for suffixes, known in ((_HDF5, _hdf5), (".npz", _npz), (".npy", _npy)):
        if path.is_file() and name.endswith(suffixes):
            opener = known
    try:
        return opener(path)
    except (BadImage, DataError) as error:
        raise DataError(f"{str(path)!r}: {error}") from None
    except Exception as error:  # each library has its own errors for damage
        reason = in_words(error)
        raise DataError(f"{str(path)!r} cannot be read: {reason}; fetch or write it anew") from None


def _hdf5(path: Path) -> dict[str, StoredArray]:
    # h5py serialises calls itself, so one handle serves all threads.
    file = h5py.File(path, "r", rdcc_nbytes=_CHUNK_CACHE)
    found: dict[str, StoredArray] = {}

    def add(name: str, item: h5py.Dataset) -> None:
        text = h5py.check_string_dtype(item.dtype) is not None

        def whole() -> np.ndarray:
            return np.asarray(item.asstr(errors="replace")[()] if text else item[()])

        def part(first: int, stop: int) -> np.ndarray:
            return np.asarray((item.asstr(errors="replace") if text else item)[first:stop])

        found[name] = StoredArray(
            shape=item.shape,
            dtype=item.dtype,
            row=item.__getitem__,
            part=part,
            whole=whole,
            attributes=dict(item.attrs),
        )

    for name, item in _datasets(file):
        if item.shape is not None:
            add(name, item)
    return found


def _datasets(file: h5py.File) -> Iterator[tuple[str, h5py.Dataset]]:
    """Every dataset once, by its path; links to elsewhere are not followed.

    `visititems` takes minutes over some thousand groups in each other.
    """
    seen = set()
    groups: list[tuple[tuple[str, ...], h5py.Group]] = [((), file)]
    while groups:
        path, group = groups.pop()
        below = []
        for name in group:
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                continue
            item = group[name]
            address = h5py.h5o.get_info(item.id).addr
            if address in seen:
                continue
            seen.add(address)
            if isinstance(item, h5py.Dataset):
                yield "/".join((*path, name)), item
            elif isinstance(item, h5py.Group):
                below.append(((*path, name), item))
        if below and len(path) >= _DEEPEST:
            raise DataError(f"its groups lie more than {_DEEPEST} deep in each other")
        groups += reversed(below)


def _npy(path: Path) -> dict[str, StoredArray]:
    with path.open("rb") as stream:
        npy_header(stream)
    with quiet():
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    return {"array": _in_memory(array.shape, array.dtype, lambda: array)}


def _npz(path: Path) -> dict[str, StoredArray]:
    found = {}
    with zipfile.ZipFile(path) as archive:
        for entry in archive.namelist():
            if not entry.endswith(".npy"):
                continue
            with archive.open(entry) as stream:
                try:
                    shape, _, dtype = npy_header(cast("BinaryIO", stream))
                except BadImage:
                    continue  # records, which are no images
            size = archive.getinfo(entry)
            require_likely(size.compress_size, size.file_size, f"{entry!r}")
            needed = math.prod(shape) * dtype.itemsize
            if needed > size.file_size:
                raise DataError(f"{entry!r} has {size.file_size} bytes; its header says {needed}")
            if not dtype.hasobject:
                name = entry.removesuffix(".npy")
                load = functools.partial(_load_member, path, name)
                found[name] = _in_memory(shape, dtype, _once(load))
    return found


def _load_member(path: Path, name: str) -> np.ndarray:
    with quiet(), np.load(path, allow_pickle=False) as archive:
        return np.asarray(archive[name])


def _once(load: Callable[[], np.ndarray]) -> Callable[[], np.ndarray]:
    """``load``, called once however many threads ask."""
    lock = threading.Lock()
    kept: list[np.ndarray] = []

    def get() -> np.ndarray:
        with lock:
            if not kept:
                kept.append(load())
        return kept[0]

    return get


def _in_memory(
    shape: tuple[int, ...], dtype: np.dtype, get: Callable[[], np.ndarray]
) -> StoredArray:
    return StoredArray(
        shape=shape,
        dtype=dtype,
        row=lambda index: get()[index],
        part=lambda first, stop: get()[first:stop],
        whole=get,
    )


def _zarr(path: Path) -> dict[str, StoredArray]:
    with quiet():
        if path.is_dir():
            root = zarr.open(path, mode="r")
        else:
            root = zarr.open(ZipStore(path, mode="r"), path=_zipped_root(path) or "", mode="r")
        if isinstance(root, zarr.Array):
            return {"array": _zarr_array(root)}
        return {
            name: _zarr_array(item)
            for name, item in sorted(root.members(max_depth=None))
            if isinstance(item, zarr.Array)
        }


def _zarr_array(array: zarr.Array[Any]) -> StoredArray:
    array = bounded(array)
    rows = array.chunks[0] if array.ndim else 1

    @functools.lru_cache(maxsize=max(1, min(8, _CHUNK_CACHE // _bytes_of(array, rows))))
    def chunk(number: int) -> np.ndarray:
        return np.asarray(array[number * rows : (number + 1) * rows])

    def row(index: int) -> np.ndarray:
        block: np.ndarray = chunk(index // rows)[index % rows]
        return block

    def part(first: int, stop: int) -> np.ndarray:
        pieces = []
        for number in range(first // rows, -(-stop // rows)):
            begin = number * rows
            pieces.append(chunk(number)[max(first - begin, 0) : stop - begin])
        return np.concatenate(pieces)

    return StoredArray(
        shape=array.shape,
        dtype=np.dtype(array.dtype),
        row=row,
        part=part,
        whole=lambda: np.asarray(array[...]),
        attributes=array.attrs.asdict(),
    )


def _bytes_of(array: zarr.Array[Any], rows: int) -> int:
    return max(1, rows * array.nbytes // max(1, array.shape[0] if array.ndim else 1))
