"""Bringing images to one frame: central crop, then resampling."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from skytwin.errors import BadImage, UsageError
from skytwin.images.source import RawImage

__all__ = ["Framing", "central"]


def central(pixels: np.ndarray, size: int) -> np.ndarray:
    """The central ``size`` x ``size`` pixels of the last two axes.

    Pixel ``(H // 2, W // 2)``, the centre by the convention of the cutters, becomes pixel
    ``(size // 2, size // 2)``.

    Raises
    ------
    BadImage
        The image is smaller than that.
    """
    height, width = pixels.shape[-2:]
    if height < size or width < size:
        raise BadImage(f"image of {height} x {width} is smaller than the crop of {size}")
    top, left = height // 2 - size // 2, width // 2 - size // 2
    return pixels[..., top : top + size, left : left + size]


@dataclass(frozen=True, kw_only=True)
class Framing:
    """Central crop, then resampling, both in pixels; None leaves the image as it is.

    Resampling is by area where it shrinks and bilinear where it enlarges; a pixel that draws
    on one without data has none itself. The pixel scale follows.
    """

    crop: int | None = None
    size: int | None = None

    def __post_init__(self) -> None:
        for name, value in (("crop", self.crop), ("size", self.size)):
            if value is not None and not 1 <= value <= 1 << 14:
                raise UsageError(f"{name} {value} pixels; expected 1 to {1 << 14}")

    def apply(self, image: RawImage) -> RawImage:
        """The image cropped and resampled."""
        pixels, scale = image.pixels, image.pixel_scale
        if self.crop is not None:
            pixels = np.ascontiguousarray(central(pixels, self.crop))
        if self.size is not None and pixels.shape[1:] != (self.size, self.size):
            height, width = pixels.shape[1:]
            if height != width:
                raise BadImage(f"image of {height} x {width} is not square; crop it first")
            method = cv2.INTER_AREA if self.size < height else cv2.INTER_LINEAR
            wide = pixels if pixels.dtype in (np.uint8, np.uint16) else pixels.astype(np.float64)
            planes = [cv2.resize(p, (self.size, self.size), interpolation=method) for p in wide]
            if np.issubdtype(pixels.dtype, np.integer):
                planes = [np.rint(plane) for plane in planes]
            scale = scale * height / self.size if scale else None
            pixels = np.stack(planes).astype(pixels.dtype)
        return RawImage(**{**vars(image), "pixels": pixels, "pixel_scale": scale})
