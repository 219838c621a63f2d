"""The bands of a mosaic in memory, and the way between their pixels and the sky.

Pixels count from 0 at the centre of the first one of the array; ``xy`` has the axes
(object, x or y), x along a row.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import fitsio
import numpy as np
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS, NoConvergence
from astropy.wcs.utils import proj_plane_pixel_scales, wcs_to_celestial_frame

from skytwin.errors import BadImage, DataError, UsageError, in_words, unknown
from skytwin.images.columns import SkyPositions
from skytwin.images.packed import inflate
from skytwin.images.quiet import quiet
from skytwin.images.readers import is_fits, read_image
from skytwin.images.tables import table_stem

__all__ = ["Plane", "Sky", "load_planes"]

# What cfitsio takes for more than a file's name.
_SPECIAL = re.compile(r"[\[\]()#*?!+]")
_SCALED = {"BSCALE", "BZERO", "BLANK"}
_STEP = 4.0  # pixels to either side for a derivative


class Sky:
    """The celestial WCS of an image.

    Not for several threads at once: wcslib keeps state between calls.

    Parameters
    ----------
    wcs : astropy.wcs.WCS
        Two celestial axes.
    shape : (int, int)
        Rows and columns of the image.
    """

    def __init__(self, wcs: WCS, shape: tuple[int, int]) -> None:
        self._wcs, self._shape = wcs, shape
        self._frame = wcs_to_celestial_frame(wcs)
        self._axes = [wcs.wcs.lng, wcs.wcs.lat]
        scales = proj_plane_pixel_scales(wcs) * 3600
        square = scales.max() <= 1.1 * scales.min()
        #: Arcsec per pixel, the mean of the axes; None where pixels are far from square.
        self.pixel_scale: float | None = float(scales.mean()) if square else None

    def to_sky(self, xy: np.ndarray) -> SkyPositions:
        """Sky positions of pixels, shape (N, 2); NaN for those off the projection."""
        world = np.full(xy.shape, np.nan)
        known = np.isfinite(xy).all(axis=1)
        if known.any():
            world[known] = self._wcs.all_pix2world(xy[known], 0)[:, self._axes]
        known = np.isfinite(world).all(axis=1)
        ra, dec = np.full(len(xy), np.nan), np.full(len(xy), np.nan)
        if known.any():
            sky = SkyCoord(*world[known].T, unit="deg", frame=self._frame).icrs
            ra[known], dec[known] = sky.ra.deg, sky.dec.deg
        return SkyPositions(ra=ra, dec=dec)

    def to_pixels(self, sky: SkyPositions) -> np.ndarray:
        """Pixels of sky positions, shape (N, 2); NaN for those off the projection.

        A WCS fitted to an image means nothing far from it: what is further off than the image
        is large comes from the projection alone, without its distortion.
        """
        xy = np.full((len(sky), 2), np.nan)
        known = np.flatnonzero(sky.known)
        if not known.size:
            return xy
        there = SkyCoord(sky.ra[known], sky.dec[known], unit="deg").transform_to(self._frame)
        world = np.empty((len(known), 2))
        world[:, self._axes[0]] = there.spherical.lon.deg
        world[:, self._axes[1]] = there.spherical.lat.deg
        rough = self._wcs.wcs_world2pix(world, 0)
        if self._wcs.has_distortion:
            size = np.array(self._shape[::-1])
            near = ((rough > -size) & (rough < 2 * size)).all(axis=1)
            if near.any():
                rough[near] = self._distorted(world[near])
        xy[known] = rough
        return xy

    def _distorted(self, world: np.ndarray) -> np.ndarray:
        try:
            xy: np.ndarray = self._wcs.all_world2pix(world, 0)
        except NoConvergence as error:
            xy = error.best_solution
            for bad in (error.divergent, error.slow_conv):
                if bad is not None:
                    xy[bad] = np.nan
        return xy


@dataclass(frozen=True, eq=False, kw_only=True)
class Plane:
    """One band of a mosaic.

    Attributes
    ----------
    name : str
        The band.
    pixels : ndarray, shape (H, W)
        In the file's dtype; mapped from the file where that is plain FITS.
    unit : str or None
        As the file writes it.
    sky : Sky or None
        Where it lies; None without a celestial WCS.
    path : Path
        The file.
    """

    name: str
    pixels: np.ndarray
    unit: str | None
    sky: Sky | None
    path: Path

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        height, width = self.pixels.shape
        return height, width

    def onto(self, other: Plane, xy: np.ndarray, *, shift: bool = False) -> np.ndarray:
        """Affine maps from this plane's pixels to another's, near each of ``xy``.

        Parameters
        ----------
        other : Plane
            The band to map to.
        xy : ndarray, shape (N, 2)
            Pixels of this plane.
        shift : bool
            Take the planes for shifted against each other and no more, which is five times
            faster than to find the derivatives.

        Returns
        -------
        ndarray, shape (N, 2, 3)
            ``[:, :, 2]`` is the pixel of the other plane at the same place on the sky;
            ``[:, :, :2]`` the derivatives of its x and y by this plane's x and y. NaN where one
            of them has no sky there. Planes without a WCS are aligned.
        """
        maps = np.tile(np.eye(2, 3), (len(xy), 1, 1))
        if self.sky is None or other.sky is None or other.sky is self.sky:
            maps[:, :, 2] = xy
        elif shift:
            maps[:, :, 2] = other.sky.to_pixels(self.sky.to_sky(xy))
        else:
            steps = np.array([[0, 0], [_STEP, 0], [-_STEP, 0], [0, _STEP], [0, -_STEP]])
            around = (xy[:, None, :] + steps).reshape(-1, 2)
            there = other.sky.to_pixels(self.sky.to_sky(around)).reshape(len(xy), 5, 2)
            maps[:, :, 0] = (there[:, 1] - there[:, 2]) / (2 * _STEP)
            maps[:, :, 1] = (there[:, 3] - there[:, 4]) / (2 * _STEP)
            maps[:, :, 2] = there[:, 0]
        return maps


def load_planes(
    paths: Sequence[Path],
    *,
    hdu: str | int | Sequence[str | int] | None = None,
    bands: Sequence[str] | None = None,
) -> tuple[Plane, ...]:
    """The bands of a mosaic, from one file each or several in one.

    A band's name is that of ``bands``, else the FILTER of its header, else, in a file with
    several, its own name there or ``band1``, ``band2``, ...; else the file's stem.

    Parameters
    ----------
    paths : sequence of Path
        FITS (also ``.gz``, ``.bz2``, ``.fz``; a cube is several bands), or any image that
        `read_image` reads.
    hdu : str, int or a sequence of these, optional
        The extension(s) to read of each FITS file; the first image by default.
    bands : sequence of str, optional
        A name for each band, in order.

    Raises
    ------
    UsageError
        No such file or extension; names that are too few, too many or occur twice.
    DataError
        A file is damaged or holds no image.
    """
    planes: list[Plane] = []
    for path in map(Path, paths):
        if not path.is_file():
            raise UsageError(f"no file {str(path)!r}; expected a mosaic")
        planes += _load_fits(path, hdu) if is_fits(path.name) else _load_image(path)
    if not planes:
        raise UsageError("no mosaic given; expected one file or more")
    if bands is not None:
        if len(bands) != len(planes):
            raise UsageError(
                f"{len(bands)} band name(s) ({', '.join(bands)}) for {len(planes)} band(s) in "
                f"{len(paths)} file(s); give one name per band"
            )
        planes = [replace(p, name=name) for p, name in zip(planes, bands, strict=True)]
    names = [plane.name for plane in planes]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        files = ", ".join(plane.path.name for plane in planes if plane.name == twice)
        raise UsageError(f"band {twice!r} comes twice ({files}); name the bands with --bands")
    return tuple(planes)


def _load_image(path: Path) -> list[Plane]:
    try:
        image = read_image(path)
    except BadImage as error:
        raise DataError(f"cannot read the mosaic {str(path)!r}: {error}") from error
    count = len(image.pixels)
    numbered = tuple(f"band{i + 1}" for i in range(count))
    # Every gray picture calls its band "gray", which tells two of them no better than nothing.
    names = (table_stem(path),) if count == 1 else image.bands or numbered
    return [
        Plane(name=name, pixels=pixels, unit=image.unit, sky=None, path=path)
        for name, pixels in zip(names, image.pixels, strict=True)
    ]


def _load_fits(path: Path, hdu: str | int | Sequence[str | int] | None) -> list[Plane]:
    wanted = [hdu] if isinstance(hdu, (str, int)) else hdu
    try:
        with quiet(), _opened(path) as hdus:
            numbers = _chosen(path, hdus, wanted)
            return [plane for n in numbers for plane in _planes_of(path, hdus, n, len(numbers))]
    except (UsageError, DataError, MemoryError):
        raise
    except Exception as error:  # on a damaged file the libraries raise anything
        reason = in_words(error, 200)
        raise DataError(f"cannot read the mosaic {str(path)!r}: {reason}") from error


def _opened(path: Path) -> Any:
    if path.suffix.lower() not in {".gz", ".bz2"}:
        return fits.open(path, memmap=True)
    # In one go: astropy would decompress anew from the start whenever it looks back.
    return fits.open(BytesIO(inflate(path)), memmap=False)


def _chosen(path: Path, hdus: Any, wanted: Sequence[str | int] | None) -> list[int]:
    images = [n for n, hdu in enumerate(hdus) if hdu.is_image and len(hdu.shape) >= 2]
    if wanted is None:
        if not images:
            raise DataError(f"{str(path)!r} holds no image; expected a FITS mosaic")
        return images[:1]
    numbers = []
    for name in wanted:
        by_name = [n for n in images if hdus[n].name == str(name).upper()]
        by_number = [n for n in images if str(n) == str(name)]
        if not by_name + by_number:
            known = [f"{n} {hdus[n].name}".strip() for n in images]
            raise unknown("image extension", name, known, f"file {path.name}")
        numbers.append((by_name + by_number)[0])
    return numbers


def _planes_of(path: Path, hdus: Any, number: int, of: int) -> list[Plane]:
    hdu = hdus[number]
    header = hdu.header
    pixels = _pixels(path, hdu, number)
    sky = _sky(header, hdus, (pixels.shape[1], pixels.shape[2]))
    unit = str(header.get("BUNIT", "")).strip() or None
    found = next(
        (
            str(head[key]).strip()
            for head in (header, hdus[0].header)
            for key in ("FILTER", "BAND", "FILTNAM1")
            if str(head.get(key, "")).strip()
        ),
        None,
    )
    if of > 1 and "FILTER" not in header:
        found = hdu.name or None
    if len(pixels) == 1:
        names = [found or table_stem(path)]
    else:
        names = [f"band{i + 1}" for i in range(len(pixels))]
    return [
        Plane(name=name, pixels=plane, unit=unit, sky=sky, path=path)
        for name, plane in zip(names, pixels, strict=True)
    ]


def _pixels(path: Path, hdu: Any, number: int) -> np.ndarray:
    """The image, shape (C, H, W)."""
    tiled = isinstance(hdu, fits.CompImageHDU)
    packed = path.suffix.lower() in {".gz", ".bz2"}
    # cfitsio decodes tiles some thirty times faster; blank integers only astropy makes NaN.
    if tiled and not packed and "BLANK" not in hdu.header and not _SPECIAL.search(str(path)):
        data = fitsio.read(str(path), ext=number)
    elif not packed and _SCALED & set(hdu.header):
        # Numbers to be scaled cannot stay in the file.
        with fits.open(path, memmap=False) as hdus:
            data = hdus[number].data
    else:
        data = hdu.data
    if data is None or data.size == 0:
        raise DataError(f"{str(path)!r} holds an image without pixels")
    bands = [length for length in data.shape[:-2] if length > 1]
    if len(bands) > 1:
        raise DataError(
            f"{str(path)!r} holds an image of axes {' x '.join(map(str, data.shape))}; expected "
            "two axes, or three with the bands first"
        )
    pixels: np.ndarray = data.reshape((*(bands or [1]), *data.shape[-2:]))
    return pixels


def _sky(header: Any, hdus: Any, shape: tuple[int, int]) -> Sky | None:
    try:
        wcs = WCS(header, hdus, naxis=2)
        if not wcs.has_celestial or {wcs.wcs.lng, wcs.wcs.lat} != {0, 1}:
            return None
        return Sky(wcs, shape)
    except Exception:  # wcslib refuses odd headers with errors of every kind
        return None
