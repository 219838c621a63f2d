"""The same network looking at another part of an image, at other bands, through another stretch."""

from __future__ import annotations

import dataclasses

from skytwin.encoders.encoder import Encoder
from skytwin.errors import UsageError
from skytwin.images.prepare import PixelSource, parse_bands, parse_crop
from skytwin.images.stretch import Stretch

__all__ = ["adapted", "crop_pixels", "crops"]


def adapted(
    encoder: Encoder,
    cutouts_like: PixelSource,
    *,
    crop: str | None = None,
    bands: str | None = None,
    stretch: str | None = None,
) -> Encoder:
    """The same network, looking at another part, at other bands, or through another stretch.

    Parameters
    ----------
    encoder : Encoder
    cutouts_like : PixelSource
        What it shall look at.
    crop : str, optional
        Central part, as of `open_encoder`; brought to the size that the network takes.
    bands : str, optional
        Which of their bands stand for its own, in its order: see `parse_bands`.
    stretch : str, optional
        See `Stretch.parse`.

    Raises
    ------
    UnknownName
        No such band or stretch.
    UsageError
        Neither one band nor as many as the network takes; a crop larger than the frame.
    """
    prepare = encoder.prepare
    if bands is not None:
        given = tuple(cutouts_like.bands)
        prepare = dataclasses.replace(prepare, bands=given, mix=parse_bands(bands, given))
    if stretch is not None:
        settled = Stretch.parse(stretch).resolve(cutouts_like.dtype)
        prepare = dataclasses.replace(prepare, stretch=settled)
    frames = (prepare.crop,) if crop is None else crops(crop, cutouts_like)
    # One that was trained has one crop of its own.
    parts = [
        prepare
        if frame == prepare.crop
        else dataclasses.replace(
            prepare, crop=frame, interpolation="area" if prepare.size < frame else "bilinear"
        )
        for frame in frames
    ]
    return dataclasses.replace(encoder, prepare=parts[0], inner=tuple(parts[1:]))


def crops(text: str | None, source: PixelSource) -> tuple[int, ...]:
    """The crops that ``"64,96"`` names, the widest first."""
    parts = [None] if text is None else text.split(",")
    found = sorted((crop_pixels(part, source) for part in parts), reverse=True)
    if len(set(found)) < len(found):
        raise UsageError(f"crop {text!r} names one size twice; give each once")
    return tuple(found)


def crop_pixels(text: str | None, source: PixelSource) -> int:
    """Pixels of a side of the central part that ``"64"`` or ``"30arcsec"`` names; None: all.

    Raises
    ------
    UsageError
        It is larger than the frame; there is none, and the frame is no square.
    """
    height, width = source.shape[2:]
    if text is None:
        if height != width:
            raise UsageError(
                f"the cutouts are {width}x{height} pixels, and a network takes squares; choose "
                f"the central part with --crop, e.g. --crop {min(height, width)}"
            )
        return height
    pixels = parse_crop(text, source.pixel_scale)
    if pixels > min(height, width):
        raise UsageError(
            f"crop {text!r} is {pixels} pixels and the cutouts are {width}x{height}; choose at "
            f"most {min(height, width)}"
        )
    return pixels
