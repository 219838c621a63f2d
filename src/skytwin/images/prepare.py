"""What stands between the flux of a cutout and the input of a network."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, Protocol, Self

import cv2
import numpy as np

from skytwin.artefact import from_dict
from skytwin.errors import DataError, Mismatch, UsageError, unknown
from skytwin.images.framing import central
from skytwin.images.stretch import Stretch

__all__ = [
    "BandMix",
    "Interpolation",
    "PixelSource",
    "Prepare",
    "parse_bands",
    "parse_crop",
    "unnormalised",
]

BandMix = tuple[str, ...]
Interpolation = Literal["bilinear", "bicubic", "area", "nearest"]

_INTERPOLATIONS: dict[str, int] = {
    "bilinear": cv2.INTER_LINEAR,
    "bicubic": cv2.INTER_CUBIC,
    "area": cv2.INTER_AREA,
    "nearest": cv2.INTER_NEAREST_EXACT,
}


class PixelSource(Protocol):
    """Cutouts as an encoder sees them."""

    @property
    def bands(self) -> tuple[str, ...]:
        """One name per channel."""

    @property
    def pixel_scale(self) -> float | None:
        """Arcsec per pixel."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """What the pixels are stored as."""

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """``(N, C, H, W)``."""

    def flux(self, rows: np.ndarray, /) -> np.ndarray:
        """Images by row number, ``(n, C, H, W)`` float32, NaN where there is no data."""


@dataclass(frozen=True, kw_only=True)
class Prepare:
    """From flux ``(n, C, H, W)`` to network input ``(n, channels, size, size)``.

    In this order:

    1. the central ``crop`` pixels, so that an interval is measured on what the network sees;
    2. the bands chosen, or their averages, on the flux (no data in one is no data in the average);
    3. the stretch, to [0, 1];
    4. pixels without data take the median of their image and band (0 where it has no data at
       all): background, rather than an edge;
    5. the resize, each band by itself; what bicubic throws beyond [0, 1] is cut off;
    6. one band alone is repeated to ``channels``;
    7. ``(x - mean) / std``, channel by channel.

    Attributes
    ----------
    bands : tuple of str
        Names of the C bands of the flux, in their order.
    mix : tuple of tuple of str
        The bands averaged in each channel, ``(("g",), ("r", "i"))``: as many as ``channels``,
        or one. A stretch over all bands (``@image``) counts a repeated mix once.
    crop : int
        Central pixels kept of each side. Row ``H // 2`` becomes row ``crop // 2``.
    stretch : Stretch
        Settled: see `Stretch.resolve`.
    size, channels : int
        What the network takes.
    mean, std : tuple of float
        One per channel.
    interpolation : str
        OpenCV's ``"bilinear"``, ``"bicubic"`` (to enlarge), ``"area"`` (to shrink: the others
        skip pixels) or ``"nearest"``.
    """

    bands: tuple[str, ...]
    mix: tuple[BandMix, ...]
    crop: int
    stretch: Stretch
    size: int
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: Interpolation = "bilinear"

    def __post_init__(self) -> None:
        for name in (name for mix in self.mix for name in mix):
            if name not in self.bands:
                raise unknown("band", name, self.bands)
        if self.interpolation not in _INTERPOLATIONS:
            raise unknown("interpolation", self.interpolation, _INTERPOLATIONS)
        for what, value in (("crop", self.crop), ("size", self.size)):
            if value < 1:
                raise UsageError(f"{what} is {value}; expected at least 1 pixel")
        if len(self.mix) not in (1, self.channels):
            raise UsageError(
                f"{len(self.mix)} bands chosen for a network of {self.channels} channels; "
                f"choose 1 or {self.channels}"
            )
        if self.stretch.function == "lupton" and len(self.mix) != 3:
            raise UsageError(
                f"lupton mixes three bands, the reddest first; got {len(self.mix)}: choose them "
                "with --bands, e.g. --bands i,r,g"
            )
        if len(self.mean) != self.channels or len(self.std) != self.channels or 0 in self.std:
            raise UsageError(
                f"mean {self.mean} and std {self.std}; expected {self.channels} numbers each, "
                "none of std zero"
            )

    def __call__(self, flux: np.ndarray) -> np.ndarray:
        """Prepare a stack of images.

        Parameters
        ----------
        flux : ndarray, shape (n, C, H, W)
            NaN and infinities are no data.

        Returns
        -------
        ndarray, shape (n, channels, size, size), float32
            Finite, C-contiguous.

        Raises
        ------
        Mismatch
            Not C bands, or images smaller than the crop.
        """
        images = self.planes(flux)
        out = np.empty((len(images), self.channels, self.size, self.size), dtype=np.float32)
        resized = np.empty((images.shape[1], self.size, self.size), dtype=np.float32)
        mean, std = (np.array(v, dtype=np.float32)[:, None, None] for v in (self.mean, self.std))
        how = _INTERPOLATIONS[self.interpolation]
        repeated = list(self.channel_planes) if 1 < len(resized) < self.channels else None
        # Image by image, so that one is finished while it is in the processor's cache.
        for image, target in zip(images, out, strict=True):
            for band, plane in zip(image, resized, strict=True):
                cv2.resize(band, (self.size, self.size), dst=plane, interpolation=how)
            if self.interpolation == "bicubic":
                np.clip(resized, 0, 1, out=resized)
            np.subtract(resized if repeated is None else resized[repeated], mean, out=target)
            np.divide(target, std, out=target)
        return out

    def planes(self, flux: np.ndarray) -> np.ndarray:
        """The first four steps: what is left to do needs no flux, and can be done elsewhere.

        Parameters
        ----------
        flux : ndarray, shape (n, C, H, W)

        Returns
        -------
        ndarray, shape (n, P, crop, crop), float32
            In [0, 1], finite; a plane for each mix, once where it is repeated.

        Raises
        ------
        Mismatch
            As for a call.
        """
        if flux.ndim != 4 or flux.shape[1] != len(self.bands):
            raise Mismatch(
                f"images of shape {flux.shape}; expected (n, {len(self.bands)}, H, W) with the "
                f"bands {', '.join(self.bands)}"
            )
        if min(flux.shape[2:]) < self.crop:
            raise Mismatch(
                f"images of {flux.shape[3]}x{flux.shape[2]} pixels; this encoder looks at the "
                f"central {self.crop}x{self.crop}: give larger ones"
            )
        images = self.stretch(self._mixed(central(flux, self.crop)))
        _fill_gaps(images)
        return images

    @property
    def channel_planes(self) -> tuple[int, ...]:
        """Which of the planes each channel shows."""
        distinct = self._distinct
        if len(distinct) in (1, self.channels):
            return tuple(range(self.channels)) if len(distinct) > 1 else (0,) * self.channels
        return tuple(distinct.index(mix) for mix in self.mix)

    def resampling(self) -> np.ndarray:
        """The resize of planes as a matrix A, shape (size, crop): ``A @ plane @ A.T``."""
        unit = np.eye(self.crop, dtype=np.float32)
        how = _INTERPOLATIONS[self.interpolation]
        return np.asarray(cv2.resize(unit, (self.crop, self.size), interpolation=how))

    def gaps(self, flux: np.ndarray) -> np.ndarray:
        """Where a prepared image has no data: whatever takes from a pixel that has none.

        Parameters
        ----------
        flux : ndarray, shape (n, C, H, W)
            As for a call.

        Returns
        -------
        ndarray, shape (n, channels, size, size), bool
        """
        missing = ~np.isfinite(self._mixed(central(flux, self.crop)))
        out = np.zeros((*missing.shape[:2], self.size, self.size), dtype=bool)
        for image, band in np.argwhere(missing.any(axis=(2, 3))):
            plane = missing[image, band].astype(np.float32)
            how = cv2.INTER_AREA if self.size < self.crop else cv2.INTER_LINEAR
            out[image, band] = cv2.resize(plane, (self.size, self.size), interpolation=how) > 0
        return out[:, list(self.channel_planes)]

    @property
    def _distinct(self) -> list[BandMix]:
        """The mixes, each once."""
        # Lupton's colours come from its three bands at once, even where two are the same.
        return list(self.mix if self.stretch.function == "lupton" else dict.fromkeys(self.mix))

    def _mixed(self, flux: np.ndarray) -> np.ndarray:
        """The distinct mixes of bands, shape (n, P, H, W) float32."""
        index = [[self.bands.index(name) for name in mix] for mix in self._distinct]
        with np.errstate(invalid="ignore"):  # infinities that cancel
            return np.stack([flux[:, i].mean(axis=1, dtype=np.float32) for i in index], axis=1)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return {
            **{field.name: getattr(self, field.name) for field in fields(self)},
            "bands": list(self.bands),
            "mix": [list(mix) for mix in self.mix],
            "stretch": str(self.stretch),
            "mean": list(self.mean),
            "std": list(self.std),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Back from `to_dict`.

        Raises
        ------
        DataError
            A setting is unknown or missing.
        """
        missing = [name for name in cls.__dataclass_fields__ if name not in data]
        if missing:
            raise DataError(f"the stored preparation lacks {', '.join(missing)}")
        return from_dict(
            cls,
            {
                **data,
                "mix": tuple(map(tuple, data["mix"])),
                "stretch": Stretch.parse(data["stretch"]),
            },
        )


def unnormalised(
    like: PixelSource,
    *,
    crop: int,
    size: int,
    stretch: str,
    bands: str | None = None,
    interpolation: Interpolation | None = None,
) -> Prepare:
    """From the flux of such cutouts to [0, 1], a channel for every band chosen.

    Parameters
    ----------
    like : PixelSource
        Its bands and dtype.
    crop, size : int
        Central pixels that are looked at, and pixels of a side they are brought to.
    stretch : str
        See `Stretch.parse`; settled here for the dtype.
    bands : str, optional
        See `parse_bands`; by default all.
    interpolation : str, optional
        By default ``"area"`` to shrink and ``"bilinear"`` to enlarge.
    """
    mix = (
        parse_bands(bands, like.bands)
        if bands is not None
        else tuple((name,) for name in like.bands)
    )
    return Prepare(
        bands=tuple(like.bands),
        mix=mix,
        crop=crop,
        stretch=Stretch.parse(stretch).resolve(like.dtype),
        size=size,
        channels=len(mix),
        mean=(0.0,) * len(mix),
        std=(1.0,) * len(mix),
        interpolation=interpolation or ("area" if size < crop else "bilinear"),
    )


def parse_bands(text: str, available: Sequence[str]) -> tuple[BandMix, ...]:
    """``"i,r,g"`` (choose, in this order), ``"i,i,i"`` (repeat), ``"g+r+i"`` (average).

    Returns
    -------
    tuple of tuple of str
        For each channel the bands that are averaged in it.

    Raises
    ------
    UnknownName
        A band that the images lack.
    """
    mixes = tuple(tuple(name.strip() for name in part.split("+")) for part in text.split(","))
    for name in (name for mix in mixes for name in mix):
        if name not in available:
            raise unknown("band", name, available)
    return mixes


def parse_crop(text: str, pixel_scale: float | None) -> int:
    """``"64"`` or ``"64px"`` (pixels), ``"30arcsec"`` (to the nearest pixel) -> pixels.

    Parameters
    ----------
    text : str
    pixel_scale : float or None
        Arcsec per pixel.

    Raises
    ------
    UsageError
        Not a length, or an angle where the pixel scale is not known.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d*)?)\s*(|px|arcsec)\s*", text)
    if match is None or (match[2] != "arcsec" and not match[1].isdigit()):
        raise UsageError(f"crop {text!r}; expected pixels such as 64, or an angle such as 30arcsec")
    if match[2] != "arcsec":
        pixels = int(match[1])
    elif pixel_scale is None:
        raise UsageError(
            f"crop {text!r} needs the pixel scale, which these cutouts do not have; give pixels, "
            "or ingest them with --pixel-scale"
        )
    else:
        pixels = math.floor(float(match[1]) / pixel_scale + 0.5)
    if pixels < 1:
        raise UsageError(f"crop {text!r} is less than a pixel; give at least 1")
    return pixels


def _fill_gaps(images: np.ndarray) -> None:
    """Pixels without data take the median of the others of their image and band, in place."""
    gaps = np.isnan(images)
    for image, band in np.argwhere(gaps.any(axis=(2, 3))):
        plane, gap = images[image, band], gaps[image, band]
        plane[gap] = 0 if gap.all() else np.median(plane[~gap])
