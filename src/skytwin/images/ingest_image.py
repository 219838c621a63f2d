"""One image on its way into cutouts: brought to its frame, held against those before it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from skytwin.errors import BadImage, UsageError
from skytwin.images.compare import arcsec, same_scale
from skytwin.images.cutouts import Geometry
from skytwin.images.framing import Framing
from skytwin.images.source import ImageSource, RawImage

__all__ = ["Changes", "Kind", "check_content", "read_framed", "unlike"]


@dataclass(frozen=True, kw_only=True)
class Changes:
    """What becomes of every image that is read.

    Attributes
    ----------
    framing : Framing
    pixel_scale : float or None
        Arcsec per pixel as the images are read; overrules their own.
    unit : str or None
        Flux unit; overrules the files'.
    """

    framing: Framing
    pixel_scale: float | None
    unit: str | None


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What an image must have in common with the others.

    Attributes
    ----------
    geometry : Geometry
    named : bool
        Whether its file names the bands.
    """

    geometry: Geometry
    named: bool

    @classmethod
    def of(cls, image: RawImage) -> Kind:
        """That of one image."""
        channels, height, width = image.pixels.shape
        geometry = Geometry(
            shape=(channels, height, width),
            dtype=image.pixels.dtype.name,
            bands=image.bands or tuple(f"band{i + 1}" for i in range(channels)),
            unit=image.unit,
            pixel_scale=image.pixel_scale,
        )
        return cls(geometry=geometry, named=bool(image.bands))


def read_framed(source: ImageSource, index: int, changes: Changes) -> RawImage | BadImage:
    """One image as it will be stored, or why it cannot be."""
    try:
        image = source.read(index)
        if changes.pixel_scale is not None or changes.unit is not None:
            image = replace(
                image,
                pixel_scale=changes.pixel_scale or image.pixel_scale,
                unit=changes.unit or image.unit,
            )
        check_content(image.pixels)
        return changes.framing.apply(image)
    except BadImage as reason:
        return reason


def check_content(pixels: np.ndarray) -> None:
    """Refuse pixels that show nothing.

    Raises
    ------
    BadImage
        None at all, none finite, or all the same.
    """
    if pixels.size == 0:
        raise BadImage(f"empty image of shape {pixels.shape}")
    finite = pixels
    if np.issubdtype(pixels.dtype, np.floating):
        finite = pixels[np.isfinite(pixels)]
        if finite.size == 0:
            raise BadImage("no finite pixel (all NaN)")
    if finite.min() == finite.max():
        raise BadImage(f"constant image: every pixel is {finite.flat[0]}")


def unlike(kind: Kind, want: Geometry, origin: str) -> str | None:
    """Why an image cannot stand beside the first one; None where it can.

    Raises
    ------
    UsageError
        It has another height or width, which the user has to settle.
    """
    now = kind.geometry
    if now.shape[0] != want.shape[0] or (kind.named and now.bands != want.bands):
        return f"bands {', '.join(now.bands)}; expected {', '.join(want.bands)}"
    if now.shape != want.shape:
        height, width = now.shape[1:]
        raise UsageError(
            f"images of mixed shape: {origin} is {height} x {width}, "
            f"those before it {want.shape[1]} x {want.shape[2]}; give --crop PIXELS "
            "(central cut) or --size PIXELS (resample)"
        )
    if now.dtype != want.dtype:
        return f"pixels are {now.dtype}; expected {want.dtype} like the first image"
    if now.unit != want.unit:
        return (
            f"flux in {now.unit or 'no stated unit'}; expected {want.unit or 'no stated unit'} "
            "like the first image (--unit overrules)"
        )
    if not same_scale(now.pixel_scale, want.pixel_scale):
        return (
            f"pixel scale {arcsec(now.pixel_scale)}; expected {arcsec(want.pixel_scale)} "
            "like the first image"
        )
    return None
