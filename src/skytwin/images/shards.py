"""The files of the pixel array, made without the array: chunk by chunk, wherever there is time.

A file is its compressed chunks one after the other, then where each begins and how long it is,
then a checksum of that (Zarr's sharding codec, version 1.0, with the index at the end). Through
the array itself one process makes a file at a time, in threads of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from numcodecs.blosc import Blosc
from zarr.codecs import BloscCodec, Crc32cCodec

if TYPE_CHECKING:
    from skytwin.images.cutouts import Geometry

__all__ = ["COMPRESSOR", "chunk_rows", "fill_value", "joined", "packed_chunks"]

#: Of the array's chunks.
COMPRESSOR = BloscCodec(cname="zstd", clevel=3, shuffle="bitshuffle")


def chunk_rows(geometry: Geometry, shard_rows: int) -> int:
    """Images of a chunk of files of ``shard_rows`` images."""
    return min(geometry.chunk_rows, shard_rows)


def fill_value(geometry: Geometry) -> float | int:
    """What stands where there is no image."""
    return float("nan") if np.issubdtype(np.dtype(geometry.dtype), np.floating) else 0


def packed_chunks(
    pixels: np.ndarray, geometry: Geometry, shard_rows: int, *, threads: int = 1
) -> list[np.ndarray]:
    """The compressed chunks of some images, the first of which begins a chunk.

    Parameters
    ----------
    pixels : ndarray, shape (n, C, H, W)
        None of the images constant.
    geometry : Geometry
    shard_rows : int
        Images of a file.
    threads : int

    Returns
    -------
    list of ndarray, shape (bytes,), uint8
    """
    rows, dtype = chunk_rows(geometry, shard_rows), np.dtype(geometry.dtype)
    blosc = Blosc(
        cname=COMPRESSOR.cname.value,
        clevel=COMPRESSOR.clevel,
        shuffle=Blosc.BITSHUFFLE,
        typesize=dtype.itemsize,
    )

    def packed(start: int) -> np.ndarray:
        part = np.ascontiguousarray(pixels[start : start + rows], dtype=dtype.newbyteorder("<"))
        if len(part) < rows:
            whole = np.full((rows, *geometry.shape), fill_value(geometry), dtype=part.dtype)
            whole[: len(part)] = part
            part = whole
        return np.frombuffer(blosc.encode(part), dtype=np.uint8)

    starts = range(0, len(pixels), rows)
    if threads == 1:
        return [packed(start) for start in starts]
    with ThreadPoolExecutor(threads, thread_name_prefix="pack") as pool:
        return list(pool.map(packed, starts))


def joined(chunks: Sequence[np.ndarray], geometry: Geometry, shard_rows: int) -> list[np.ndarray]:
    """The parts that are, one after the other, a file of the array.

    Equivalent to writing the images to an array of `skytwin.images.cutouts.sized_pixels`.

    Parameters
    ----------
    chunks : sequence of ndarray
        Of `packed_chunks`, all of one file.
    geometry : Geometry
    shard_rows : int
        Images of a file; the last one may have fewer.
    """
    index = np.full((-(-shard_rows // chunk_rows(geometry, shard_rows)), 2), -1, dtype=np.int64)
    lengths = [len(chunk) for chunk in chunks]
    index[: len(chunks), 0] = np.cumsum([0, *lengths[:-1]])
    index[: len(chunks), 1] = lengths
    return [*chunks, _checked(index)]


def _checked(index: np.ndarray) -> np.ndarray:
    """With its checksum, as Zarr stores it."""
    store: dict[str, Any] = {}
    array = zarr.create_array(
        store, shape=index.shape, chunks=index.shape, dtype="<i8", fill_value=0,
        compressors=Crc32cCodec(),
    )  # fmt: skip
    array[:] = index
    return np.frombuffer(store["c/0/0"].to_bytes(), dtype=np.uint8)
