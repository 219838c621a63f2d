"""Packed content that unpacks to far more than images or tables would: refused before it is held.

What is compressed a hundredfold is nearly all one value, which is no image; an honest file of that
kind can be unpacked by whoever made it.
"""

from __future__ import annotations

import bz2
import gzip
from pathlib import Path

from skytwin.errors import BadImage

__all__ = ["FREE", "RATIO", "inflate", "require_likely"]

FREE = 2**28  # bytes that nobody asks about
RATIO = 100
_STEP = 2**22


def require_likely(packed: int, unpacked: int, what: str = "the file") -> None:
    """Refuse content of more than `FREE` bytes and more than `RATIO` times its packed size.

    Raises
    ------
    BadImage
        It is so.
    """
    if unpacked > max(FREE, RATIO * packed):
        raise BadImage(
            f"{what} unpacks to {unpacked >> 20} MB or more from {packed / 2**20:.3g} MB, "
            f"{RATIO} times its size: damaged, or made to fill the memory; if it is neither, "
            "unpack it yourself"
        )


def inflate(path: Path) -> bytes:
    """The content of a ``.gz`` or ``.bz2`` file.

    Raises
    ------
    BadImage
        It unpacks to far more than its size; see `require_likely`.
    OSError, EOFError, zlib.error
        It is damaged.
    """
    size, parts, total = path.stat().st_size, [], 0
    unpack = bz2.open if path.suffix.lower() == ".bz2" else gzip.open
    with unpack(path) as stream:
        while part := stream.read(_STEP):
            total += len(part)
            require_likely(size, total)
            parts.append(part)
    return b"".join(parts)
