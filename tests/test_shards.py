"""Files of the pixel array that are put together chunk by chunk: the bytes that Zarr writes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import zarr

from skytwin.images.cutouts import PIXELS, Geometry, sized_pixels
from skytwin.images.shards import chunk_rows, joined, packed_chunks


@pytest.mark.parametrize(
    ("dtype", "shape", "rows", "count"),
    [
        ("float32", (3, 9, 9), 7, 7),
        ("float32", (1, 20, 20), 16, 5),
        ("float32", (2, 300, 300), 8, 7),
        ("float64", (1, 600, 600), 3, 2),
        ("uint8", (3, 64, 64), 256, 130),
        ("uint16", (1, 33, 35), 1024, 700),
        ("int16", (1, 64, 64), None, 300),
    ],
)
def test_the_bytes_are_those_of_the_array(
    dtype: str, shape: tuple[int, int, int], rows: int | None, count: int, tmp_path: Path
) -> None:
    geometry = Geometry(
        shape=shape, dtype=dtype, bands=tuple("gri"[: shape[0]]), unit=None, pixel_scale=None
    )
    rows = rows or geometry.shard_rows
    pixels = (np.random.default_rng(0).random((count, *shape)) * 200).astype(dtype)
    if dtype.startswith("float"):
        pixels[0, 0, :3] = np.nan
    sized_pixels(tmp_path, geometry, rows, count)
    zarr.open_array(tmp_path / PIXELS)[:] = pixels
    wanted = (tmp_path / PIXELS / "c/0/0/0/0").read_bytes()
    for threads in (1, 3):
        chunks = packed_chunks(pixels, geometry, rows, threads=threads)
        assert b"".join(part.tobytes() for part in joined(chunks, geometry, rows)) == wanted
    step = chunk_rows(geometry, rows)
    apart = [
        chunk
        for start in range(0, count, step)
        for chunk in packed_chunks(pixels[start : start + step], geometry, rows)
    ]
    assert [chunk.tobytes() for chunk in apart] == [chunk.tobytes() for chunk in chunks]
