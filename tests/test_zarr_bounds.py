"""Chunks of Zarr arrays that unpack to more than they should, by every codec."""

from __future__ import annotations

import bz2
import gzip
import lzma
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
import zarr
from zarr.codecs import BloscCodec, GzipCodec, ZstdCodec

from damage.bombs import blosc_bomb, zstd_bomb
from skytwin.errors import BadImage, DataError
from skytwin.images import packed, zarr_bounds
from skytwin.images.arrayfiles import open_arrays
from skytwin.images.arrays import ArraySource

N = 6  # MB that a bomb unpacks to
IMAGES = np.random.default_rng(0).normal(size=(9, 8, 8)).astype(np.float32)
HONEST: list[dict[str, Any]] = [
    {"zarr_format": 2},
    {"zarr_format": 3},
    {"shards": (4, 8, 8)},
    {"shards": (4, 8, 8), "compressors": BloscCodec()},
    {"compressors": None},
    {"compressors": GzipCodec()},
    {"compressors": BloscCodec()},
    {"compressors": ZstdCodec()},
    *(
        {"zarr_format": 2, "compressors": each()}
        for each in (numcodecs.Blosc, numcodecs.BZ2, numcodecs.GZip, numcodecs.LZ4, numcodecs.LZMA,
                     numcodecs.Zlib, numcodecs.Zstd)
    ),
]  # fmt: skip
ZEROS = bytes(N << 20)
BOMBS: dict[str, tuple[Any, Callable[[], bytes]]] = {
    "zstd, size said": (ZstdCodec(), lambda: bytes(numcodecs.Zstd().encode(ZEROS))),
    "zstd, size not said": (ZstdCodec(), lambda: zstd_bomb(N)),
    "zstd, frames": (ZstdCodec(), lambda: bytes(numcodecs.Zstd().encode(ZEROS[: 1 << 20])) * N),
    "blosc": (BloscCodec(), lambda: blosc_bomb(N)),
    "gzip": (GzipCodec(), lambda: gzip.compress(ZEROS, 1)),
    "gzip members": (GzipCodec(), lambda: gzip.compress(ZEROS[: 1 << 20], 1) * N),
    "gzip, nothing first": (GzipCodec(), lambda: gzip.compress(b"") + gzip.compress(ZEROS, 1)),
    "zlib": (numcodecs.Zlib(), lambda: zlib.compress(ZEROS, 1)),
    "bz2": (numcodecs.BZ2(), lambda: bz2.compress(ZEROS[: 1 << 20]) * N),
    "lzma": (numcodecs.LZMA(), lambda: lzma.compress(ZEROS, preset=0)),
    "lz4": (numcodecs.LZ4(), lambda: struct.pack("<I", N << 20) + bytes(50)),
}


@pytest.mark.parametrize("how", HONEST, ids=range(len(HONEST)))
def test_honest_chunks_are_read(how: dict[str, Any], tmp_path: Path) -> None:
    made = zarr.create_array(
        tmp_path / "a.zarr", shape=IMAGES.shape, chunks=(2, 8, 8), dtype="f4", **how
    )
    made[...] = IMAGES
    found = open_arrays(tmp_path / "a.zarr")["array"]
    np.testing.assert_array_equal(found.whole(), IMAGES)
    np.testing.assert_array_equal(found.row(8), IMAGES[8])
    np.testing.assert_array_equal(found.part(3, 8), IMAGES[3:8])


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_before_it_is_unpacked(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (zarr_bounds, packed):
        monkeypatch.setattr(module, "FREE", 1 << 22)
    codec, make = BOMBS[name]
    version = 3 if type(codec).__module__.startswith("zarr.") else 2
    path = tmp_path / "a.zarr"
    made = zarr.create_array(
        path, shape=IMAGES.shape, chunks=(3, 8, 8), dtype="f4", compressors=codec,
        zarr_format=version,
    )  # fmt: skip
    made[...] = IMAGES
    bomb = make()
    (path / ("0.0.0" if version == 2 else "c/0/0/0")).write_bytes(bomb)
    source = ArraySource(path)
    with pytest.raises(BadImage, match=r"unpacks to \d+ MB or more"):
        source.read(1)
    np.testing.assert_array_equal(source.read(3).pixels[0], IMAGES[3])


@pytest.mark.parametrize(("codec", "bomb"), [(ZstdCodec(), zstd_bomb), (BloscCodec(), blosc_bomb)])
def test_two_gigabytes_are_not_held(
    codec: Any, bomb: Callable[[int], bytes], tmp_path: Path
) -> None:
    path = tmp_path / "a.zarr"
    zarr.create_array(path, data=IMAGES, chunks=(3, 8, 8), compressors=codec)
    (path / "c/0/0/0").write_bytes(bomb(2048))
    source = ArraySource(path)
    tracemalloc.start()
    with pytest.raises(BadImage, match="unpacks to"):
        source.read(1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10e6


def test_a_chunk_as_large_as_its_shape_says_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (zarr_bounds, packed):
        monkeypatch.setattr(module, "FREE", 150_000)
    values = np.random.default_rng(1).normal(size=(200, 30, 30)).astype(np.float32)
    zarr.create_array(tmp_path / "a.zarr", data=values, chunks=(200, 30, 30))
    np.testing.assert_array_equal(open_arrays(tmp_path / "a.zarr")["array"].whole(), values)


def test_compressed_twice_is_refused(tmp_path: Path) -> None:
    zarr.create_array(
        tmp_path / "a.zarr", data=IMAGES, compressors=[GzipCodec(), ZstdCodec()], chunks=(2, 8, 8)
    )
    with pytest.raises(DataError, match="compressed more than once"):
        open_arrays(tmp_path / "a.zarr")


@pytest.mark.parametrize("size", [0, 1, 255, 256, 70_000, 131_072, 131_073, 1_000_000])
def test_what_zstd_blocks_hold_is_hardly_more_than_they_do(size: int) -> None:
    rng = np.random.default_rng(size)
    for data in (bytes(size), rng.bytes(size), b"abc" * (size // 3)):
        made = bytes(numcodecs.Zstd(level=3).encode(data))
        assert len(data) <= zarr_bounds._zstd(made, 1 << 40) <= len(data) + (1 << 17)
        cut = made[: len(made) // 2]
        assert zarr_bounds._zstd(cut, 1 << 40) <= len(data) + (1 << 17)
