"""NumPy's own format, read without pickles."""

from __future__ import annotations

import math
from typing import BinaryIO

import numpy as np

from skytwin.errors import BadImage
from skytwin.images.pixels import check_numeric, check_size, native
from skytwin.images.quiet import quiet
from skytwin.images.source import RawImage

__all__ = ["npy_header", "read_npy"]

_MAX_HEADER = 1 << 20


def npy_header(stream: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, Fortran order and type, leaving the stream at the first element.

    Raises
    ------
    BadImage
        An array of records, the only ones with a header of a later version.
    ValueError
        It is no such file, or its header is damaged.
    """
    with quiet():  # of headers that Python 2 wrote
        major, _ = np.lib.format.read_magic(stream)
        if major == 2:
            # NumPy would hold as much as the header says that it has.
            place = stream.tell()
            if int.from_bytes(stream.read(4), "little") > _MAX_HEADER:
                raise BadImage(f"damaged: its header says to have more than {_MAX_HEADER} bytes")
            stream.seek(place)
        if major == 1:
            return np.lib.format.read_array_header_1_0(stream)
        if major == 2:
            return np.lib.format.read_array_header_2_0(stream)
    raise BadImage("an array of records; expected numbers")


def read_npy(stream: BinaryIO) -> RawImage:
    """Read ``(H, W)``, ``(C, H, W)``, or ``(H, W, C)`` if the last axis alone has 5 or fewer.

    Raises
    ------
    BadImage
        Other shapes, other than numbers, or missing data.
    """
    shape, fortran, dtype = npy_header(stream)
    check_numeric(dtype)
    if not 2 <= len(shape) <= 3:
        raise BadImage(f"{len(shape)} axes; expected 2 or 3")
    check_size(*shape)
    size = math.prod(shape) * dtype.itemsize
    data = stream.read(size)
    if len(data) < size:
        raise BadImage(f"truncated: {len(data)} of {size} bytes are there")
    array = np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")
    if array.ndim == 2:
        array = array[None]
    elif shape[-1] <= 5 < shape[0]:
        array = np.moveaxis(array, -1, 0)
    return RawImage(pixels=native(array))
