"""FITS: pick the image HDUs and read their pixels, in physical units.

Reference: Pence et al. 2010, A&A 524, A42 (the standard, version 3.0); tile-compressed images
(``.fz``) are decoded by cfitsio, all else needs no more than the bytes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from io import SEEK_END, BytesIO
from pathlib import Path
from typing import BinaryIO

import fitsio
import numpy as np
from astropy.io import fits

from skytwin.errors import BadImage
from skytwin.images.fitsheader import DTYPES, Hdu, walk
from skytwin.images.packed import require_likely
from skytwin.images.pixels import check_size
from skytwin.images.placement import place
from skytwin.images.quiet import quiet
from skytwin.images.source import RawImage

__all__ = ["read_fits"]

_CHUNK = 1 << 24
_SHOWN = 20
# What cfitsio takes for a filter, an output name or an extension rather than for a file's name.
_SPECIAL = re.compile(r"[\[\]()#*?!]")


def read_fits(
    where: Path | tuple[str, bytes],
    stream: BinaryIO,
    hdu: Sequence[str | int] | None = None,
    *,
    packed: int | None = None,
) -> RawImage:
    """Read one image of a FITS file; see `skytwin.images.readers.read_image`.

    Parameters
    ----------
    where : Path or (str, bytes)
        Where ``stream`` comes from: a plain file is handed to cfitsio for a tiled image.
    stream : file
        The FITS content, decompressed, at its start.
    hdu : sequence of str or int, optional
        The HDUs that are the bands, by EXTNAME or number.
    packed : int, optional
        Bytes of the file that ``stream`` is unpacked from.
    """
    units = walk(stream)
    primary = next(units)
    if hdu is not None:
        chosen = _pick([primary, *units], hdu)
    elif primary.shape:
        chosen = [primary]
    else:
        chosen = _default([primary, *units])
    first = chosen[0]
    check_size(len(chosen), *first.shape)
    if not 2 <= len(first.shape) <= 3:
        raise BadImage(f"{len(first.shape)} axes (HDU {first.label}); expected 2 or 3")
    if packed is not None:
        require_likely(packed, sum(unit.size for unit in chosen))
    planes = [_pixels(where, stream, unit) for unit in chosen]
    pixels = planes[0] if len(first.shape) == 3 else np.stack(planes)
    placement = place(first.cards, (first.shape[-2], first.shape[-1]))
    return RawImage(
        pixels=pixels,
        bands=None if len(first.shape) == 3 else _bands(chosen, primary, picked=hdu is not None),
        unit=first.text("BUNIT"),
        pixel_scale=placement.pixel_scale,
        ra=placement.ra,
        dec=placement.dec,
    )


def _default(units: list[Hdu]) -> list[Hdu]:
    """The one image, or the images that are the bands, of a file without a primary image."""
    images = [unit for unit in units if unit.shape]
    if not images:
        raise BadImage(f"no HDU holds an image (found: {_labels(units)})")
    if len(images) > 1 and any(len(unit.shape) != 2 for unit in images):
        raise BadImage(f"several images, not all of two axes ({_labels(images)}); {_REMEDY}")
    if len({unit.shape for unit in images}) > 1:
        raise BadImage(f"images of different shape ({_labels(images)}); {_REMEDY}")
    return images


def _pick(units: list[Hdu], wanted: Sequence[str | int]) -> list[Hdu]:
    chosen = [_find(units, name) for name in wanted]
    if not chosen:
        raise BadImage(f"hdu names none; {_REMEDY}")
    for unit in chosen:
        if not unit.shape:
            raise BadImage(f"HDU {unit.label}; there are: {_labels(units)}")
    if len(chosen) > 1 and any(len(unit.shape) != 2 for unit in chosen):
        raise BadImage(f"bands must have two axes each ({_labels(chosen)})")
    if len({unit.shape for unit in chosen}) > 1:
        raise BadImage(f"bands of different shape ({_labels(chosen)})")
    return chosen


def _find(units: list[Hdu], wanted: str | int) -> Hdu:
    name = str(wanted).strip()
    found = [
        unit
        for unit in units
        if not isinstance(wanted, int) and (unit.text("EXTNAME") or "").upper() == name.upper()
    ]
    if not found and name.isdecimal():
        found = [unit for unit in units if unit.number == int(name)]
    if len(found) == 1:
        return found[0]
    what = (
        f"{len(found)} HDUs are named {name!r}; pick one by number" if found else f"no HDU {name!r}"
    )
    raise BadImage(f"{what}; there are: {_labels(units)}")


_REMEDY = "pick one or several with hdu, by name or number"


def _labels(units: Sequence[Hdu]) -> str:
    more = f", ... ({len(units)} in all)" if len(units) > _SHOWN else ""
    return ", ".join(unit.label for unit in units[:_SHOWN]) + more


def _bands(chosen: list[Hdu], primary: Hdu, *, picked: bool) -> tuple[str, ...] | None:
    """Names for one plane from its filter, for several from EXTNAME or their filters."""
    if len(chosen) == 1:
        name = chosen[0].text("FILTER", "BAND") or primary.text("FILTER", "BAND")
        if name is None and picked:
            name = chosen[0].text("EXTNAME")
        return None if name is None else (name,)
    for keywords in (("EXTNAME",), ("FILTER", "BAND")):
        names = [unit.text(*keywords) for unit in chosen]
        found = tuple(name for name in names if name is not None)
        if len(set(found)) == len(chosen):
            return found
    return None


def _pixels(where: Path | tuple[str, bytes], stream: BinaryIO, unit: Hdu) -> np.ndarray:
    """The image in physical units, native byte order, shape ``unit.shape``."""
    if unit.tiled:
        raw = _untile(where, stream, unit)
    else:
        stream.seek(unit.offset)
        # Not unit.size: parameters and groups, which no image has, may be said to be terabytes.
        size = abs(unit.bitpix) // 8 * math.prod(unit.shape)
        data = stream.read(size)
        _check_length(len(data), size, unit)
        stored = np.frombuffer(data, dtype=f">{DTYPES[unit.bitpix]}")
        raw = stored.astype(stored.dtype.newbyteorder("="))
    return _physical(raw.reshape(unit.shape), unit)


def _untile(where: Path | tuple[str, bytes], stream: BinaryIO, unit: Hdu) -> np.ndarray:
    """Decode a tile-compressed image; integers stay as stored."""
    _check_sum(stream, unit)
    if isinstance(where, Path) and _plain(where):
        _check_length(stream.seek(0, SEEK_END) - unit.offset, unit.size, unit)
        # cfitsio is some thirty times faster than astropy, but reads files only.
        with quiet(), fitsio.FITS(str(where.absolute())) as file:
            image = file[unit.number]
            image.ignore_scaling = unit.bitpix > 0
            raw = image.read()
    else:
        stream.seek(0)
        content = stream.read()
        _check_length(len(content) - unit.offset, unit.size, unit)
        with (
            quiet(),
            fits.open(BytesIO(content), do_not_scale_image_data=unit.bitpix > 0) as units,
        ):
            raw = np.array(units[unit.number].data)
    return np.asarray(raw).astype(DTYPES[unit.bitpix], copy=False)


def _check_sum(stream: BinaryIO, unit: Hdu) -> None:
    """Hold the data unit against its DATASUM (section 4.4.2.7 of the standard), where it has one.

    fpack writes one. A damaged tile can lead cfitsio's decoders out of the memory they may read,
    which ends the process.
    """
    said = str(unit.get("DATASUM") or "").strip()
    if not said.isdecimal():
        return
    stream.seek(unit.offset)
    data, left = b"", unit.size
    while left and (part := stream.read(min(left, _CHUNK))):  # terabytes may be said to be there
        data, left = data + part, left - len(part)
    words = np.frombuffer(data.ljust(-(-len(data) // 4) * 4, b"\0"), ">u4")
    total = int(words.sum(dtype=np.uint64))
    while total >> 32:  # carries go around
        total = (total & 0xFFFFFFFF) + (total >> 32)
    if total != int(said):
        raise BadImage(f"damaged: the data of HDU {unit.label} do not have the sum in its DATASUM")


def _check_length(found: int, size: int, unit: Hdu) -> None:
    if found < size:
        there = max(found, 0)
        raise BadImage(f"truncated: {there} of the {size} bytes of HDU {unit.label} are there")


def _plain(path: Path) -> bool:
    """Whether cfitsio opens the file of this very name, and nothing else."""
    return path.suffix.lower() not in {".gz", ".bz2"} and not _SPECIAL.search(str(path.absolute()))


def _physical(raw: np.ndarray, unit: Hdu) -> np.ndarray:
    """Apply BSCALE, BZERO and BLANK as astropy does.

    Integers that are only shifted to unsigned (or signed bytes) stay integers; scaled ones and
    those with a BLANK become float32, or float64 from 32 bits on; BLANK becomes NaN.
    """
    scale, zero = _number(unit, "BSCALE", 1.0), _number(unit, "BZERO", 0.0)
    if raw.dtype.kind == "f":
        if (scale, zero) == (1.0, 0.0):
            return raw
        with np.errstate(over="ignore", invalid="ignore"):
            scaled: np.ndarray = raw * raw.dtype.type(scale) + raw.dtype.type(zero)
        return scaled
    blank = unit.get("BLANK")
    if blank is None and unit.tiled:
        blank = unit.get("ZBLANK")
    bits = 8 * raw.dtype.itemsize
    if blank is None and scale == 1.0:
        if zero == 0.0:
            return raw
        if zero == (-128 if bits == 8 else 2 ** (bits - 1)):
            top = np.array(1 << (bits - 1), dtype=f"u{raw.dtype.itemsize}")
            shifted: np.ndarray = raw.view(top.dtype) ^ top
            return shifted.view("i1") if bits == 8 else shifted
    values: np.ndarray = raw.astype(np.float32 if bits <= 16 else np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        np.multiply(values, scale, out=values)
        np.add(values, zero, out=values)
    if blank is not None:
        values[raw == blank] = np.nan
    return values


def _number(unit: Hdu, keyword: str, default: float) -> float:
    value = unit.get(keyword)
    if value is None:
        return default
    if isinstance(value, str) or not math.isfinite(value):
        raise BadImage(f"damaged header of HDU {unit.number}: {keyword} is {value!r}")
    return float(value)
