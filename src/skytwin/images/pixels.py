"""What every reader demands of an array before it is an image."""

from __future__ import annotations

import math

import numpy as np

from skytwin.errors import BadImage

__all__ = ["MAX_PIXELS", "check_numeric", "check_size", "native"]

MAX_PIXELS = 2**28


def check_size(*shape: int) -> None:
    """Refuse an empty array, and one so large that decoding it may take the memory.

    Raises
    ------
    BadImage
        An axis is empty, or there are more than `MAX_PIXELS` elements.
    """
    size = "x".join(map(str, shape))
    if min(shape) < 1:
        raise BadImage(f"no pixels ({size})")
    if math.prod(shape) > MAX_PIXELS:
        raise BadImage(f"{size} is more than the {MAX_PIXELS} pixels that one image may have")


def check_numeric(dtype: np.dtype) -> None:
    """Refuse what is no real number.

    Raises
    ------
    BadImage
        Complex numbers, text, Python objects, records.
    """
    if dtype.kind not in "biuf":
        raise BadImage(f"pixels of type {dtype}; expected integers or floats")


def native(array: np.ndarray) -> np.ndarray:
    """A contiguous array of its own, in native byte order; booleans as uint8.

    Raises
    ------
    BadImage
        Its numbers are not real.
    """
    check_numeric(array.dtype)
    dtype = np.dtype(np.uint8) if array.dtype.kind == "b" else array.dtype.newbyteorder("=")
    return np.array(array, dtype=dtype, order="C")
