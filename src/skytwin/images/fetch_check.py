"""Is an answer the image that was asked for?

Services answer with status 200 and an HTML page, a picture of another size, or a blank one where
the survey has no data.
"""

from __future__ import annotations

import math

import numpy as np

from skytwin.errors import BadImage
from skytwin.images.fetch_surveys import Request
from skytwin.images.fetch_web import Passing, Refused, told
from skytwin.images.ingest import check_content
from skytwin.images.readers import read_image
from skytwin.images.source import RawImage

__all__ = ["check_image"]

_SIGNATURES = {"fits": b"SIMPLE  =", "jpeg": b"\xff\xd8\xff"}
#: Outside its footprint SDSS draws words on one colour. Of 3380 galaxies of Galaxy Zoo one has
#: more than 0.17 of its pixels of one value (0.92: a frame's end).
_MOST_OF_ONE_VALUE = 0.5
_SCALE_TOLERANCE = 0.02
_PLACE_TOLERANCE_PIXELS = 2.0


def check_image(content: bytes, request: Request, ra: float, dec: float) -> None:
    """Hold an answer against what was asked.

    Parameters
    ----------
    content : bytes
    request : Request
    ra, dec : float
        ICRS degrees.

    Raises
    ------
    Passing
        Another attempt may give the image: a message, a damaged file, another size, scale or
        place.
    Refused
        The survey has no data there.
    """
    if not content.startswith(_SIGNATURES[request.format]):
        words = told(content)
        what = f"a page or message ({words})" if words else f"{len(content)} bytes of something"
        raise Passing(f"no {request.format.upper()}: {what}")
    try:
        image = read_image((f"answer{request.ending}", content))
    except BadImage as error:
        raise Passing(f"a damaged image: {error}") from None
    planes, height, width = image.pixels.shape
    if (height, width) != (request.pixels, request.pixels):
        raise Passing(f"{width} x {height} pixels; expected {request.pixels} x {request.pixels}")
    if request.bands and planes != len(request.bands):
        raise Passing(f"{planes} plane(s); expected {len(request.bands)}")
    _check_place(image, request, ra, dec)
    try:
        check_content(image.pixels)
    except BadImage as error:
        raise Refused(f"no data there: {error}") from None
    if request.survey.startswith("sdss") and (share := _of_one_value(image)) > _MOST_OF_ONE_VALUE:
        raise Refused(f"no data there: {share:.0%} of the pixels are one colour")


def _check_place(image: RawImage, request: Request, ra: float, dec: float) -> None:
    """Scale and place, where the file tells them."""
    scale = image.pixel_scale
    if scale is not None and not math.isclose(scale, request.pixel_scale, rel_tol=_SCALE_TOLERANCE):
        raise Passing(f"{scale:.4g} arcsec per pixel; expected {request.pixel_scale:.4g}")
    if image.ra is None or image.dec is None:
        return
    east = (image.ra - ra + 180) % 360 - 180
    away = math.hypot(east * math.cos(math.radians(dec)), image.dec - dec) * 3600
    if away > _PLACE_TOLERANCE_PIXELS * request.pixel_scale:
        raise Passing(f"an image of another place, {away:.3g} arcsec away")


def _of_one_value(image: RawImage) -> float:
    """Largest share of pixels of a JPEG that are the same in every channel."""
    colours = np.zeros(image.pixels.shape[1:], dtype=np.uint32)
    for channel in image.pixels:
        colours = colours * 256 + channel
    counts = np.unique(colours, return_counts=True)[1]
    return float(counts.max() / colours.size)
