"""Mosaics with positions, or with sources to detect -> one cutout per object.

Every band is cut around the same place on the sky. Where a band's pixels are the reference
band's but for a shift, its own nearest whole pixel is taken and no value is touched; where their
scale differs by more than 1 % or their orientation by more than 1 degree, the band is
interpolated on the reference band's pixels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from scipy import ndimage

from skytwin.addresses import shown
from skytwin.errors import BadImage, DataError, Mismatch, UsageError, unknown
from skytwin.images.at_hand import file_at_hand
from skytwin.images.columns import SkyPositions
from skytwin.images.detect import DetectSettings, detect
from skytwin.images.planes import Plane, load_planes
from skytwin.images.positions import (
    PositionColumns,
    Positions,
    numbered,
    read_positions,
    with_positions,
)
from skytwin.images.source import RawImage
from skytwin.images.tables import table_sha256, table_stem

__all__ = ["MosaicSource", "frame_start"]

_SAME_SCALE, _SAME_ANGLE = 0.01, np.radians(1.0)
_FAR = 1e9  # pixels; what lies beyond is off any image


def frame_start(xy: np.ndarray, size: int) -> np.ndarray:
    """The first pixel of the frame of ``size`` pixels around a position, any shape.

    The position's nearest whole pixel (halves upwards) becomes pixel ``size // 2`` of the frame,
    counted from 0, for odd sizes and for even ones.
    """
    near = np.clip(np.nan_to_num(xy, nan=-_FAR), -_FAR, _FAR)
    return np.asarray(np.floor(near + 0.5).astype(np.int64) - size // 2)


class MosaicSource:
    """Cutouts of a mosaic: an `ImageSource`.

    Parameters
    ----------
    paths : sequence of Path
        One file per band, or one with several bands (a FITS cube, a colour picture).
    positions : sequence of Path
        Tables of positions; sky positions are used through each band's WCS, pixels refer to the
        reference band. Or:
    detect : DetectSettings
        Find the sources on the mean of the bands.
    size : int
        Side of a cutout in pixels of the reference band. The object's nearest pixel becomes
        pixel ``size // 2``, see `frame_start`.
    bands : tuple of str, optional
        A name per band; else as `load_planes` has it.
    hdu : str, int or a sequence of these, optional
        The extension(s) of each FITS file.
    ra_column, dec_column, x_column, y_column, id_column : str, optional
        Columns of the tables, where their names do not say what they are.
    pixel_origin : {0, 1}, optional
        The number of the first pixel's centre in the tables; by the columns' names if None.
    position_band : str, optional
        The reference band; the first by default.

    Attributes
    ----------
    ids, origins, table, recipe, location
        As `ImageSource` has them.
    bands : tuple of str
        In the order of the files.
    dtype : numpy.dtype
        Of every cutout: the mosaic's, or floating if some need NaN where the mosaic ends.

    Raises
    ------
    UsageError
        The call does not fit the files: names, columns, neither positions nor detection.
    DataError
        A file is damaged, no position lies on the mosaic, nothing is detected.
    Mismatch
        Bands of different units, or that cannot be aligned.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        *,
        positions: Sequence[Path] = (),
        detect: DetectSettings | None = None,
        size: int,
        bands: tuple[str, ...] | None = None,
        hdu: str | int | Sequence[str | int] | None = None,
        ra_column: str | None = None,
        dec_column: str | None = None,
        x_column: str | None = None,
        y_column: str | None = None,
        id_column: str | None = None,
        pixel_origin: int | None = None,
        position_band: str | None = None,
    ) -> None:
        if bool(positions) == (detect is not None):
            raise UsageError("a mosaic needs either a table of positions or detection; give one")
        if not 1 <= size <= 1 << 14:
            raise UsageError(f"size {size} pixels; expected 1 to {1 << 14}")
        named = PositionColumns(
            ra=ra_column,
            dec=dec_column,
            x=x_column,
            y=y_column,
            id=id_column,
            origin=pixel_origin,
        )
        self._size = size
        self._planes = load_planes([file_at_hand(path) for path in paths], hdu=hdu, bands=bands)
        self.bands = tuple(plane.name for plane in self._planes)
        if position_band is not None and position_band not in self.bands:
            raise unknown("band", position_band, self.bands)
        first = 0 if position_band is None else self.bands.index(position_band)
        self._reference = self._planes[first]
        self._unit = _common_unit(self._planes)
        self._resampled = [_needs_resampling(self._reference, plane) for plane in self._planes]
        if detect is None:
            where = read_positions(positions, self._reference, named)
        else:
            where = self._detect(detect)
        self.ids: Sequence[str] = where.ids
        self.table: pa.Table | None = where.table
        nowhere = np.full(len(where.ids), np.nan)
        self._xy, self._sky = where.xy, where.sky or SkyPositions(ra=nowhere, dec=nowhere)
        # Maps from the reference band's pixels to each band's, (N, 2, 3).
        self._maps = [
            self._reference.onto(plane, where.xy, shift=not done)
            for plane, done in zip(self._planes, self._resampled, strict=True)
        ]
        # First pixels of the frames, (C, N, 2).
        self._starts = np.stack([frame_start(maps[:, :, 2], size) for maps in self._maps])
        self._shares = np.stack(
            [
                _share_inside(maps, plane.shape, size, resampled=done)
                for maps, plane, done in zip(self._maps, self._planes, self._resampled, strict=True)
            ]
        )
        self._require_some_inside()
        self.dtype = self._common_dtype()
        reference = self._reference.path.name
        self.origins: Sequence[str] = [f"{reference}[x={x:.1f}, y={y:.1f}]" for x, y in where.xy]
        self.location = ", ".join(shown(path) for path in paths)
        self.recipe: Mapping[str, Any] = {
            "source": "mosaic",
            "size": size,
            "bands": list(self.bands),
            "reference_band": self._reference.name,
            "resampled_bands": [
                name for name, done in zip(self.bands, self._resampled, strict=True) if done
            ],
            "hdu": hdu if hdu is None or isinstance(hdu, (str, int)) else list(hdu),
            "positions": list(where.how),
            "positions_sha256": [table_sha256(Path(path)) for path in positions],
            "detect": None if detect is None else asdict(detect),
        }

    def __len__(self) -> int:
        return len(self.ids)

    def read(self, index: int) -> RawImage:
        """Cut one object out of every band; NaN where the frame runs over a mosaic's edge.

        Raises
        ------
        BadImage
            The position is unknown or outside the mosaic, or less than half of the frame lies on
            it in some band.
        """
        if not np.isfinite(self._xy[index]).all():
            raise BadImage("no position: unknown in the table, or not on the mosaic's projection")
        worst = int(np.argmin(self._shares[:, index]))
        share = float(self._shares[worst, index])
        if share <= 0:
            raise BadImage(f"position outside the mosaic (band {self.bands[worst]})")
        if share < 0.5:
            raise BadImage(
                f"{1 - share:.0%} of the frame lies outside the mosaic (band {self.bands[worst]})"
            )
        pixels = np.stack([self._cut(band, index) for band in range(len(self._planes))])
        ra, dec = float(self._sky.ra[index]), float(self._sky.dec[index])
        known = math.isfinite(ra) and math.isfinite(dec)
        return RawImage(
            pixels=pixels,
            bands=self.bands,
            unit=self._unit,
            pixel_scale=self._reference.sky.pixel_scale if self._reference.sky else None,
            ra=ra if known else None,
            dec=dec if known else None,
        )

    def positions_in_cutout(self, index: int) -> np.ndarray:
        """Where the object's position falls in its cutout, by each band's WCS.

        Returns
        -------
        ndarray, shape (C, 2)
            x, y in pixels of the cutout, from 0: within half a pixel of ``size // 2``.
        """
        # A band that is resampled has the reference band's pixels.
        return np.stack(
            [
                self._xy[index] - frame_start(self._xy[index], self._size)
                if self._resampled[band]
                else maps[index, :, 2] - self._starts[band, index]
                for band, maps in enumerate(self._maps)
            ]
        )

    def _cut(self, band: int, index: int) -> np.ndarray:
        plane, onto, size = self._planes[band], self._maps[band][index], self._size
        if self._resampled[band]:
            start = frame_start(self._xy[index], size) - self._xy[index]
            return _resample(plane.pixels, onto, start, size).astype(self.dtype)
        x, y = (int(v) for v in self._starts[band, index])
        height, width = plane.shape
        empty = np.nan if self.dtype.kind == "f" else 0
        frame = np.full((size, size), empty, dtype=self.dtype)
        top, bottom, left, right = max(y, 0), min(y + size, height), max(x, 0), min(x + size, width)
        frame[top - y : bottom - y, left - x : right - x] = plane.pixels[top:bottom, left:right]
        return frame

    def _common_dtype(self) -> np.dtype[Any]:
        dtype = np.result_type(*(plane.pixels.dtype.newbyteorder("=") for plane in self._planes))
        worst = self._shares.min(axis=0)
        if any(self._resampled) or ((worst >= 0.5) & (worst < 1)).any():
            dtype = np.result_type(dtype, np.float32)
        return dtype

    def _require_some_inside(self) -> None:
        if (self._shares.min(axis=0) >= 0.5).any():
            return
        height, width = self._reference.shape
        known = self._xy[np.isfinite(self._xy).all(axis=1)]
        example = (
            f"; the first one is at x={known[0, 0]:.1f}, y={known[0, 1]:.1f}" if len(known) else ""
        )
        raise DataError(
            f"none of {len(self._xy)} positions lies on the mosaic of {width} x {height} pixels "
            f"({self._reference.path.name}){example}; check the columns and their units"
        )

    def _detect(self, settings: DetectSettings) -> Positions:
        reference = self._reference
        found = detect(self._detection_image(), settings, unit=self._unit)
        xy = np.stack([found["x"].to_numpy(), found["y"].to_numpy()], axis=1)
        sky: SkyPositions | None = reference.sky.to_sky(xy) if reference.sky else None
        return Positions(
            ids=numbered(table_stem(reference.path), len(xy)),
            xy=xy,
            sky=sky,
            table=with_positions(found.drop_columns(["x", "y"]), xy, sky),
            how=("detected",),
        )

    def _detection_image(self) -> np.ndarray:
        """The mean of the bands on the reference band's pixels, each shifted by whole pixels.

        Bands of other scale or orientation are left out. Shape (H, W), float32.
        """
        reference = self._reference
        height, width = reference.shape
        total = np.zeros((height, width), dtype=np.float32)
        count = np.zeros((height, width), dtype=np.uint16)
        centre = np.array([[(width - 1) / 2, (height - 1) / 2]])
        for plane, skipped in zip(self._planes, self._resampled, strict=True):
            if skipped:
                continue
            dx, dy = np.rint(reference.onto(plane, centre)[0, :, 2] - centre[0]).astype(int)
            rows = slice(max(0, -dy), max(0, min(height, plane.shape[0] - dy)))
            cols = slice(max(0, -dx), max(0, min(width, plane.shape[1] - dx)))
            part = plane.pixels[rows.start + dy : rows.stop + dy, cols.start + dx : cols.stop + dx]
            good = np.isfinite(part)
            total[rows, cols] += np.where(good, part, 0)
            count[rows, cols] += good
        with np.errstate(invalid="ignore"):
            total /= count
        return total


def _common_unit(planes: Sequence[Plane]) -> str | None:
    units = {plane.unit for plane in planes if plane.unit is not None}
    if len(units) > 1:
        shown = ", ".join(f"{plane.name} in {plane.unit or 'none'}" for plane in planes)
        raise Mismatch(f"bands of different units: {shown}; convert them to one first")
    # A unit that only some bands state is not one to claim for all.
    return planes[0].unit if all(plane.unit == planes[0].unit for plane in planes) else None


def _needs_resampling(reference: Plane, plane: Plane) -> bool:
    """Whether a band's pixels are more than a shift away from the reference band's."""
    if (reference.sky is None) != (plane.sky is None):
        without = plane if plane.sky is None else reference
        raise Mismatch(
            f"band {without.name} ({without.path.name}) has no celestial WCS but another band "
            "has; bands can only be aligned if all have one or none has"
        )
    if plane.sky is None and plane.shape != reference.shape:
        raise Mismatch(
            f"bands without a WCS must be aligned, of one shape: {reference.name} is "
            f"{reference.shape[0]} x {reference.shape[1]}, {plane.name} {plane.shape[0]} x "
            f"{plane.shape[1]} pixels; reproject them to one grid first"
        )
    height, width = reference.shape
    derivatives = reference.onto(plane, np.array([[(width - 1) / 2, (height - 1) / 2]]))[0, :, :2]
    if not np.isfinite(derivatives).all():
        raise Mismatch(f"bands {reference.name} and {plane.name} show different parts of the sky")
    scales = np.linalg.svd(derivatives, compute_uv=False)
    turn = np.arctan2(derivatives[1, 0] - derivatives[0, 1], derivatives[0, 0] + derivatives[1, 1])
    mirrored = np.linalg.det(derivatives) < 0
    return bool(mirrored or np.abs(scales - 1).max() > _SAME_SCALE or abs(turn) > _SAME_ANGLE)


def _share_inside(
    maps: np.ndarray, shape: tuple[int, int], size: int, *, resampled: bool
) -> np.ndarray:
    """The share of each frame that lies on a band's image, shape (N,).

    Of a band that is resampled: the share of the box around the frame.
    """
    share = np.ones(len(maps))
    for axis, length in enumerate(reversed(shape)):
        start, side = frame_start(maps[:, axis, 2], size).astype(float), np.full(len(maps), size)
        if resampled:
            side = np.abs(maps[:, axis, :2]).sum(axis=1) * size
            start += (size - side) / 2
        inside = np.minimum(start + side, length) - np.maximum(start, 0)
        share *= np.clip(np.nan_to_num(inside / side), 0, 1)
    return share


def _resample(image: np.ndarray, onto: np.ndarray, start: np.ndarray, size: int) -> np.ndarray:
    """A frame of the reference band's pixels, bilinearly interpolated from another band.

    Each pixel is the mean over as many points as it covers pixels of the band along either axis.
    Values are those of the band's own pixels (a brightness): flux per pixel is not scaled by the
    pixels' area. A pixel that draws on NaN, or on what is off the image, is NaN.

    Parameters
    ----------
    image : ndarray, shape (H, W)
        The band.
    onto : ndarray, shape (2, 3)
        From pixels of the reference band, relative to the object, to those of ``image``.
    start : ndarray, shape (2,)
        x, y of the frame's first pixel relative to the object.
    size : int
        Side of the frame.

    Returns
    -------
    ndarray, shape (size, size), float64
    """
    points = max(1, int(np.ceil(np.linalg.svd(onto[:, :2], compute_uv=False).max() - _SAME_SCALE)))
    steps = np.arange(size)[:, None] + (np.arange(points) + 0.5) / points - 0.5
    x, y = np.meshgrid(steps.ravel() + start[0], steps.ravel() + start[1])
    across, up = (onto[axis, 0] * x + onto[axis, 1] * y + onto[axis, 2] for axis in (0, 1))
    # Only the part of the image that is needed goes to floating point.
    top, left = (int(max(0, np.floor(v.min()) - 1)) for v in (up, across))
    bottom, right = (int(max(0, np.ceil(v.max()) + 2)) for v in (up, across))
    part = np.asarray(image[top:bottom, left:right], dtype=np.float64)
    if part.size == 0:
        return np.full((size, size), np.nan)
    fine = ndimage.map_coordinates(
        part, [up - top, across - left], order=1, mode="constant", cval=np.nan
    )
    return np.asarray(fine.reshape(size, points, size, points).mean(axis=(1, 3)))
