"""Images for eyes: RGB pictures of cutouts. Nothing here reaches a network's input."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Sequence
from typing import Literal, TypeAlias

import cv2
import numpy as np

from skytwin.errors import Mismatch
from skytwin.images.brightness import Display, band_widths, brightness, parse_display
from skytwin.images.cutouts import Cutouts
from skytwin.images.filters import colour_channels

__all__ = [
    "NO_DATA",
    "Display",
    "Origin",
    "balance_of",
    "contact_sheet_html",
    "contact_sheet_png",
    "data_uri",
    "guess_origin",
    "parse_display",
    "png_bytes",
    "to_rgb",
]

Origin: TypeAlias = Literal["upper", "lower"]

#: Colour (red, green, blue) of pixels without data: of no astronomical image, and never white.
NO_DATA = (94, 110, 138)

_PICTURE = ("red", "green", "blue")
_FITS_NAME = re.compile(r"\.(fits?|fts)(\.(fz|gz|bz2|xz|z))?\b", re.IGNORECASE)


def to_rgb(
    flux: np.ndarray,
    bands: Sequence[str],
    display: Display | None = None,
    *,
    origin: Origin = "upper",
    beside: np.ndarray | None = None,
) -> np.ndarray:
    """Pictures of a stack of images.

    Parameters
    ----------
    flux : ndarray, shape (n, C, H, W)
        NaN and infinities are no data.
    bands : sequence of str, length C
        Names of the channels.
    display : Display, optional
        By default, pictures (dtype uint8; or channels red, green, blue, all between 0 and 255
        or between 0 and 1) are shown as they are, anything else by ``Display()``.
    origin : {"upper", "lower"}
        Where row 0 belongs; see `guess_origin`.
    beside : ndarray, shape (m, K), optional
        `balance_of` other images: bands are brought into balance over those too.

    Returns
    -------
    ndarray, shape (n, H, W, 3), uint8
        Row 0 at the top. Pixels without data in a shown band have the colour `NO_DATA`.

    Raises
    ------
    UnknownName
        A band to display is not there.
    Mismatch
        The shape is no stack of images with these bands.

    Notes
    -----
    One band is grey. Of several the reddest becomes red and the bluest blue: by wavelength
    where all are known filters (GALEX, ugrizy, UBVRI, JHK, HST and JWST, WISE, IRAC; a prefix
    such as ``sdss_`` does not matter), else in their order, which is taken to run from blue to
    red, and from red to blue in pictures. Two bands leave green to their mean; of more
    than three, i, r and g are shown where all three are there, else the reddest, the middle and
    the bluest.

    Every image has its own brightness scale. Bands are brought into balance over the whole
    stack, each to the same median interval, so that an average object is white and differences
    of colour within one call are real.
    """
    images = np.asarray(flux)
    if images.ndim != 4 or images.shape[1] != len(bands) or 0 in images.shape[1:]:
        raise Mismatch(
            f"images of shape {images.shape} with {len(bands)} band(s); expected (n, C, H, W) "
            "with a name for each of the C bands"
        )
    shown, chosen = _shown(images, bands, display)
    channels = shown.shape[1]
    if not len(shown):
        return np.zeros((0, *images.shape[2:], 3), dtype=np.uint8)
    empty = np.isnan(shown).any(axis=1)
    bright = brightness(shown, chosen, beside)
    if channels == 2:
        bright = np.stack([bright[:, 0], bright.mean(axis=1), bright[:, 1]], axis=1)
    elif channels == 1:
        bright = np.repeat(1 - bright if chosen.invert else bright, 3, axis=1)
    result = np.rint(np.nan_to_num(bright) * 255).astype(np.uint8).transpose(0, 2, 3, 1)
    result[empty] = NO_DATA
    return np.ascontiguousarray(result[:, ::-1] if origin == "lower" else result)


def balance_of(flux: np.ndarray, bands: Sequence[str], display: Display | None) -> np.ndarray:
    """What `to_rgb` takes as ``beside`` of some images (m, C, H, W), shape (m, K)."""
    return band_widths(*_shown(np.asarray(flux), bands, display))


def _shown(
    images: np.ndarray, bands: Sequence[str], display: Display | None
) -> tuple[np.ndarray, Display]:
    """The bands that are shown, (n, K, H, W) with NaN where there is no data, and how."""
    white = _picture_white(images, bands)
    chosen = display or (
        Display()
        if white is None
        else Display(interval="range", low=0.0, high=white, function="linear")
    )
    channels = colour_channels(tuple(bands), chosen.bands, picture=white is not None)
    with np.errstate(over="ignore"):  # too bright for float32 is no data
        shown = images[:, channels].astype(np.float32)
    shown[~np.isfinite(shown)] = np.nan
    return shown, chosen


def _picture_white(images: np.ndarray, bands: Sequence[str]) -> float | None:
    """The value that is white where the images are pictures already."""
    if images.dtype == np.uint8:
        return 255.0
    if tuple(band.lower() for band in bands) != _PICTURE or not images.size:
        return None
    low, high = np.fmin.reduce(images, axis=None), np.fmax.reduce(images, axis=None)
    if low >= 0 and high <= 255:
        return 255.0 if high > 1 else 1.0
    return None


def guess_origin(cutouts: Cutouts) -> Origin:
    """Where row 0 of these images belongs: at the bottom if they come from FITS, else on top.

    Cutouts keep the rows in the order of their files, and FITS files start at the bottom.
    """
    first = str(cutouts.catalog["origin"][0].as_py()) if len(cutouts) else ""
    return "lower" if _FITS_NAME.search(first) else "upper"


def png_bytes(image: np.ndarray) -> bytes:
    """An image as a PNG file.

    Parameters
    ----------
    image : ndarray, shape (H, W, 3) or (H, W), uint8
        Row 0 at the top; channels red, green, blue.
    """
    pixels = np.ascontiguousarray(image if image.ndim == 2 else image[:, :, ::-1])
    return bytes(cv2.imencode(".png", pixels)[1])


def data_uri(png: bytes) -> str:
    """A PNG file as text that stands in an HTML page."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def contact_sheet_png(cutouts: Cutouts, display: Display | None = None, side: int = 5) -> bytes:
    """The first ``side`` x ``side`` cutouts in one picture, as a PNG file."""
    flux = cutouts.pixels(slice(0, side * side))
    tiles = to_rgb(flux, cutouts.bands, display, origin=guess_origin(cutouts))
    return png_bytes(_sheet(tiles, side))


def contact_sheet_html(cutouts: Cutouts) -> str:
    """The first 25 cutouts as one inline picture, above a line of facts."""
    count, channels, height, width = cutouts.shape
    facts = [
        f"{count} cutouts of {height} x {width} pixels",
        f"{'band' if channels == 1 else 'bands'} {', '.join(cutouts.bands)}",
        f'{cutouts.pixel_scale:.3g}" per pixel' if cutouts.pixel_scale else "",
        f"{cutouts.dtype}{f' in {cutouts.unit}' if cutouts.unit else ''}",
    ]
    line = f"<div>{html.escape('; '.join(filter(None, facts)))}</div>"
    try:
        sheet = data_uri(contact_sheet_png(cutouts))
    except Exception as error:  # what shows an object must never fail
        return f"<div>{html.escape(f'no pictures: {error}')}</div>{line}"
    return f'<img src="{sheet}" alt="the first cutouts" style="max-width: 100%">{line}'


def _sheet(tiles: np.ndarray, side: int, pixels: int = 128, gap: int = 3) -> np.ndarray:
    """Tiles in rows of ``side`` on white, each ``pixels`` wide."""
    height, width = tiles.shape[1:3]
    tall = max(1, round(pixels * height / width))
    rows = -(-len(tiles) // side)
    columns = min(side, len(tiles))
    sheet = np.full(
        (rows * (tall + gap) - gap, columns * (pixels + gap) - gap, 3), 255, dtype=np.uint8
    )
    method = cv2.INTER_AREA if pixels < width else cv2.INTER_NEAREST
    for number, tile in enumerate(tiles):
        top, left = number // side * (tall + gap), number % side * (pixels + gap)
        small = cv2.resize(tile, (pixels, tall), interpolation=method)
        sheet[top : top + tall, left : left + pixels] = small
    return sheet
