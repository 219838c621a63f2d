"""Chunks of a Zarr array that unpack to far more than its shape says: refused before they are.

Zarr's decoders take as much memory as a chunk asks for, whatever the array's description says.
"""

from __future__ import annotations

import bz2
import lzma
import math
import struct
import zlib
from collections.abc import Callable, Iterable
from typing import Any

import zarr
from zarr.abc.store import ByteRequest
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import WrapperStore

from skytwin.errors import BadImage, DataError
from skytwin.images.packed import FREE, require_likely

__all__ = ["bounded"]

_SLACK = 8  # times what the shape says: filters may widen numbers
_STEP = 1 << 22
_DEFLATE = 1032  # the most that a byte of it unpacks to
_BLOCK = 1 << 17  # the most that a compressed block of Zstandard unpacks to
_ZSTD, _SKIPPABLE = 0xFD2FB528, 0x184D2A5
#: Bytes that a chunk unpacks to, or more than are allowed.
_Measure = Callable[[bytes, int], int]


def bounded(array: zarr.Array[Any]) -> zarr.Array[Any]:
    """The same array, whose chunks are looked at before they are unpacked.

    Reading one that unpacks to more than 256 MB, and to more than a hundred times its size or
    eight times what its shape says, raises `BadImage`.

    Raises
    ------
    DataError
        Its chunks are compressed more than once: what they unpack to cannot be told.
    """
    packers = [name for name in map(_name, _codecs(array)) if name in _MEASURES]
    if len(packers) > 1:
        raise DataError(
            f"{array.path or 'the array'!r} is compressed more than once ({', '.join(packers)}); "
            "write it anew with one compressor"
        )
    if not packers:
        return array
    whole = array.shards or array.chunks
    shape = _SLACK * math.prod(whole) * array.dtype.itemsize
    store = _Bounded(array.store)
    store.measure, store.most = _MEASURES[packers[0]], max(FREE, shape)
    return zarr.open_array(store=store, path=array.path, mode="r")


def _codecs(array: zarr.Array[Any]) -> Iterable[Any]:
    return (*array.filters, *array.compressors)


def _name(codec: Any) -> str:
    """What a codec is called, in either version of the format."""
    settings = getattr(codec, "codec_config", None) or {}
    name = getattr(codec, "codec_id", None) or settings.get("id") or type(codec).__name__
    return str(name).lower().removesuffix("codec")


class _Bounded(WrapperStore[Any]):
    """A store that hands out no chunk that is too large unpacked."""

    measure: _Measure
    most: int

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        found = await super().get(key, prototype, byte_range)
        if found is not None and not key.endswith((".json", ".zarray", ".zattrs", ".zgroup")):
            self._check(key, found.to_bytes())
        return found

    async def get_partial_values(
        self,
        prototype: BufferPrototype,
        key_ranges: Iterable[tuple[str, ByteRequest | None]],
    ) -> list[Buffer | None]:
        return [await self.get(key, prototype, part) for key, part in key_ranges]

    def _check(self, key: str, packed: bytes) -> None:
        unpacked = self.measure(packed, self.most)
        require_likely(len(packed), unpacked, f"chunk {key!r}")
        if unpacked > self.most:
            raise BadImage(
                f"chunk {key!r} unpacks to {unpacked >> 20} MB or more, over {_SLACK} times what "
                "its shape says: damaged, or made to fill the memory"
            )


def _blosc(packed: bytes, most: int) -> int:  # noqa: ARG001
    return int(struct.unpack_from("<I", packed, 4)[0]) if len(packed) >= 16 else 0


def _lz4(packed: bytes, most: int) -> int:  # noqa: ARG001
    return int(struct.unpack_from("<I", packed)[0]) if len(packed) >= 4 else 0


def _deflate(packed: bytes, most: int) -> int:
    if len(packed) * _DEFLATE <= FREE:
        return 0
    # 47: zlib or gzip, whichever it is.
    return _unpacked(lambda: zlib.decompressobj(47), packed, most)


def _bz2(packed: bytes, most: int) -> int:
    return _unpacked(bz2.BZ2Decompressor, packed, most)


def _lzma(packed: bytes, most: int) -> int:
    return _unpacked(lambda: lzma.LZMADecompressor(memlimit=FREE), packed, most)


def _unpacked(decoder: Callable[[], Any], packed: bytes, most: int) -> int:
    """How much streams one after another unpack to, as far as ``most``; little is held."""
    total, left = 0, packed
    try:
        while left and total <= most:
            stream = decoder()
            while not stream.eof and total <= most:
                part = stream.decompress(left, _STEP)
                left = getattr(stream, "unconsumed_tail", b"")
                total += len(part)
                if not (part or left or stream.eof):
                    return total  # it breaks off
            left = stream.unused_data
    except (zlib.error, lzma.LZMAError, OSError):
        pass  # who decodes it says so
    return total


def _zstd(packed: bytes, most: int) -> int:
    """What frames say they unpack to, or the most that their blocks can, whichever is more."""
    total, at = 0, 0
    try:
        while at < len(packed) and total <= most:
            (magic,) = struct.unpack_from("<I", packed, at)
            if magic >> 4 == _SKIPPABLE:
                at += 8 + struct.unpack_from("<I", packed, at + 4)[0]
                continue
            if magic != _ZSTD:
                break
            said, at, sums = _zstd_head(packed, at + 4)
            unpacked, last = 0, False
            while not last and total + unpacked <= most:
                head = int.from_bytes(packed[at : at + 3], "little")
                last, kind, size = bool(head & 1) or at + 3 > len(packed), head >> 1 & 3, head >> 3
                unpacked += _BLOCK if kind == 2 else size
                at += 3 + (1 if kind == 1 else size)
            at += sums
            total += max(said, unpacked)
    except struct.error:
        pass  # it breaks off: who decodes it says so
    return total


def _zstd_head(packed: bytes, at: int) -> tuple[int, int, int]:
    """Content size (0 where it is not said), where the blocks begin, bytes of the checksum."""
    (about,) = struct.unpack_from("B", packed, at)
    single = about >> 5 & 1
    at += 1 + (1 - single) + (0, 1, 2, 4)[about & 3]
    length = (single, 2, 4, 8)[about >> 6]
    if at + length > len(packed):
        raise struct.error
    said = int.from_bytes(packed[at : at + length], "little") + (256 if length == 2 else 0)
    return said, at + length, 4 * (about >> 2 & 1)


_MEASURES: dict[str, _Measure] = {
    "blosc": _blosc,
    "bz2": _bz2,
    "gzip": _deflate,
    "lz4": _lz4,
    "lzma": _lzma,
    "zlib": _deflate,
    "zstd": _zstd,
}
