"""TIFF through tifffile: numeric types as they are, pages as bands."""

from __future__ import annotations

import logging
import math
import struct
import zlib
from typing import Any, BinaryIO

import numpy as np
import tifffile

from skytwin.errors import BadImage
from skytwin.images.pixels import check_numeric, check_size, native
from skytwin.images.source import RawImage

__all__ = ["read_tiff"]

# tifffile logs what it also raises; without a handler of their own those lines go to stderr.
logging.getLogger("tifffile").addHandler(logging.NullHandler())

_ALPHA = {tifffile.EXTRASAMPLE.ASSOCALPHA, tifffile.EXTRASAMPLE.UNASSALPHA}
_DEFLATED = {tifffile.COMPRESSION.ADOBE_DEFLATE, tifffile.COMPRESSION.DEFLATE}
_COLOUR = {tifffile.PHOTOMETRIC.RGB, tifffile.PHOTOMETRIC.YCBCR}
_MOST_PAGES = 4096
_RGB = ("red", "green", "blue")


def read_tiff(stream: BinaryIO) -> RawImage:
    """Read a TIFF: its pages are the bands, or the samples of its only page are.

    Three samples of a colour page, and a palette, become red, green and blue; alpha is dropped.
    Values stay as written: those of a "white is zero" page are not inverted.

    Raises
    ------
    BadImage
        Pages of different shape, more than one axis besides rows and columns, missing data, or a
        compression that needs the package imagecodecs.
    """
    _check_chain(stream)
    with tifffile.TiffFile(stream) as file:
        series = list(file.series)
        page = file.pages.first
        shapes = {(one.shape, one.axes) for one in series}
        if len(shapes) != 1:
            sizes = ", ".join("x".join(map(str, one.shape)) for one in series[:5])
            raise BadImage(f"pages of different shape ({sizes or 'none'}); expected one shape")
        check_size(len(series), *series[0].shape)
        check_numeric(np.dtype(series[0].dtype))
        expected, found = math.prod(page.chunked), len(page.dataoffsets)
        if found != expected and not page.is_contiguous:
            raise BadImage(f"damaged .tif file: {found} of {expected} parts of a page are there")
        for one in series:
            for part in one.pages:
                _check_parts(part, file.filehandle.size)
        try:
            arrays = [one.asarray(maxworkers=1) for one in series]
        except ValueError as error:
            if "imagecodecs" not in str(error):
                raise
            method = tifffile.COMPRESSION(page.compression).name
            raise BadImage(
                f"TIFF compression {method} needs the package imagecodecs; install it, or write "
                "the file without compression"
            ) from None
        array, axes = arrays[0], series[0].axes
        if len(series) > 1:
            array, axes = np.stack(arrays), f"Q{axes}"
        planes, letters = _planes(array, axes)
        bands = None
        if (
            page.photometric == tifffile.PHOTOMETRIC.PALETTE
            and letters == ""
            and page.colormap is not None
        ):
            planes, bands = (page.colormap >> 8).astype(np.uint8)[:, planes[0]], _RGB
        elif letters == "S":
            alpha = sum(sample in _ALPHA for sample in page.extrasamples)
            planes = planes[: len(planes) - alpha]
            if page.photometric in _COLOUR and len(planes) == 3:
                bands = _RGB
    return RawImage(pixels=native(planes), bands=bands)


def _check_parts(page: tifffile.TiffPage | tifffile.TiffFrame | None, size: int) -> None:
    """Refuse a page whose parts lie beyond the file, or unpack to more than it has.

    tifffile makes room for as many bytes as are said to be there, and unpacks all that there are.
    """
    if page is None:
        return
    for offset, count in zip(page.dataoffsets, page.databytecounts, strict=False):
        if count and offset + count > size:
            raise BadImage(f"truncated: a part of {count} bytes at {offset}, of a file of {size}")
        frame: Any = page.keyframe
        if frame.compression in _DEFLATED:
            with page.parent.filehandle.lock:
                page.parent.filehandle.seek(offset)
                packed = page.parent.filehandle.read(count)
            most = math.prod(frame.chunks) * frame.dtype.itemsize
            if len(zlib.decompressobj().decompress(packed, most + 1)) > most:
                raise BadImage(f"damaged .tif file: a part has more than its {most} bytes")


def _check_chain(stream: BinaryIO) -> None:
    """Refuse pages that lead back to earlier ones, which tifffile would follow for ever."""
    head = stream.read(16)
    order = "<" if head[:2] == b"II" else ">"
    big = head[2:4] in {b"+\0", b"\0+"}  # BigTIFF: version 43
    count, entry, pointer = (
        (f"{order}Q", 20, f"{order}Q") if big else (f"{order}H", 12, f"{order}I")
    )

    def number(form: str, at: int) -> int:
        stream.seek(at)
        data = stream.read(struct.calcsize(form))
        return int(struct.unpack(form, data)[0]) if len(data) == struct.calcsize(form) else 0

    seen: set[int] = set()
    page = number(pointer, 8 if big else 4)
    while page:
        if page in seen:
            raise BadImage("damaged .tif file: its pages lead back to themselves")
        if len(seen) >= _MOST_PAGES:
            raise BadImage(f"more than {_MOST_PAGES} pages; expected one per band")
        seen.add(page)
        after = page + struct.calcsize(count) + entry * number(count, page)
        page = number(pointer, after) if after < 2**62 else 0
    stream.seek(0)


def _planes(array: np.ndarray, axes: str) -> tuple[np.ndarray, str]:
    """``(C, H, W)``, and the letter of the axis that C is (none for a single plane)."""
    kept = [at for at, letter in enumerate(axes) if letter in "YX" or array.shape[at] > 1]
    letters = "".join(axes[at] for at in kept)
    others = letters.replace("YX", "", 1)
    if "YX" not in letters or len(others) > 1:
        raise BadImage(f"axes {axes} of {array.shape}; expected rows, columns and at most one more")
    planes = array.reshape([array.shape[at] for at in kept])
    if not others:
        return planes[None], ""
    return np.moveaxis(planes, letters.index(others), 0), others
