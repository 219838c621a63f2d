"""What every reader hands over: one image, and a numbered row of images to draw from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

__all__ = ["ImageSource", "Listed", "RawImage"]


@dataclass(frozen=True, eq=False, kw_only=True)
class RawImage:
    """One image as its file holds it.

    Attributes
    ----------
    pixels : ndarray, shape (C, H, W)
        In the file's own dtype (native byte order); NaN where a float image has no data.
        Row 0 is the first row of the file: the lowest in a FITS image, the top of a JPEG.
    bands : tuple of str or None
        One name per channel; None where the file does not name them.
    unit : str or None
        The flux's unit as the file writes it.
    pixel_scale : float or None
        Arcsec per pixel, from the WCS.
    ra, dec : float or None
        Sky position of the image's centre, ICRS degrees.
    """

    pixels: np.ndarray
    bands: tuple[str, ...] | None = None
    unit: str | None = None
    pixel_scale: float | None = None
    ra: float | None = None
    dec: float | None = None


class Listed(Protocol):
    """A numbered row of objects.

    Attributes
    ----------
    ids : sequence of str
        The identifier of each, in reading order; unique.
    origins : sequence of str
        Where each lies, for reports: ``"a/b.fits"``, ``"cube.h5[12]"``.
    table : pyarrow.Table or None
        Columns that came along, row-aligned with ``ids``
        (labels of an archive, positions of a detection), without the id itself.
    """

    ids: Sequence[str]
    origins: Sequence[str]
    table: pa.Table | None


class ImageSource(Listed, Protocol):
    """A numbered row of images to ingest.

    Attributes
    ----------
    recipe : mapping
        JSON-able settings that shape what is read (not where it lies).
    location : str
        Where the source lies, for the manifest.
    """

    recipe: Mapping[str, Any]
    location: str

    def read(self, index: int) -> RawImage:
        """Read one image; safe to call from several threads at once.

        Raises
        ------
        BadImage
            The image is missing, damaged, or cannot be used; the message is the reason.
        """
        ...
