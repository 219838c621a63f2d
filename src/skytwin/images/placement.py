"""Where a frame lies on the sky: its pixel scale and centre, from a FITS header's WCS cards."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

import astropy.units as u
import numpy as np
from astropy.coordinates import FK5, ICRS, CartesianRepresentation, Galactic
from astropy.time import Time
from astropy.wcs import WCS, WCSSUB_CELESTIAL, Wcsprm

from skytwin.images.quiet import quiet

__all__ = ["NOWHERE", "Placement", "place"]

_KEYWORDS = re.compile(
    rb"WCSAXES|C(RPIX|RVAL|DELT|TYPE|UNIT|ROTA)\d+|(PC|CD)(\d+_\d+|\d{6})|P[VS]\d+_\d+"
    rb"|LONPOLE|LATPOLE|RADESYS|RADECSYS|EQUINOX|EPOCH|[AB]P?_(ORDER|\d+_\d+)"
)

# wcslib's parser runs for ever on bytes that the standard does not allow in a header.
_PRINTABLE = bytes(byte if 32 <= byte < 127 else 32 for byte in range(256))


@dataclass(frozen=True, kw_only=True)
class Placement:
    """A frame's place on the sky.

    Attributes
    ----------
    pixel_scale : float or None
        Arcsec per pixel: the mean over the two axes.
    ra, dec : float or None
        The frame's centre, ICRS degrees.
    """

    pixel_scale: float | None = None
    ra: float | None = None
    dec: float | None = None


NOWHERE = Placement()


def place(cards: Mapping[bytes, bytes], shape: tuple[int, int]) -> Placement:
    """The placement that a header gives a frame; `NOWHERE` without a usable celestial WCS.

    Only the WCS cards are parsed, by wcslib itself, which is some ten times faster than a
    whole `astropy.wcs.WCS`. Equivalent to::

        wcs = WCS(header).celestial
        proj_plane_pixel_scales(wcs).mean() * 3600
        wcs.pixel_to_world((W - 1) / 2, (H - 1) / 2).icrs

    Parameters
    ----------
    cards : mapping
        Keyword to its 80-byte card. Distortions as SIP and TPV count, tables of them do not.
    shape : (int, int)
        Rows and columns.
    """
    wanted = [card for keyword, card in cards.items() if _is_wcs(keyword)]
    if not any(card.startswith(b"CTYPE") for card in wanted):
        return NOWHERE
    header = b"".join(wanted).translate(_PRINTABLE)
    x, y = (shape[1] - 1) / 2, (shape[0] - 1) / 2
    try:
        with quiet():
            return _celestial(header, x, y)
    except Exception:  # wcslib and the frames refuse odd headers with errors of every kind
        return NOWHERE


@functools.lru_cache(maxsize=4096)
def _is_wcs(keyword: bytes) -> bool:
    return _KEYWORDS.fullmatch(keyword) is not None


def _celestial(header: bytes, x: float, y: float) -> Placement:
    whole = Wcsprm(header, relax=True)
    whole.fix()
    whole.set()
    if {whole.lng, whole.lat} != {0, 1}:  # the sky is not in the image's two fastest axes
        return NOWHERE
    wcs = whole.sub([WCSSUB_CELESTIAL])
    wcs.set()
    matrix = wcs.get_cdelt()[:, None] * wcs.get_pc()
    # wcslib gives the celestial axes in degrees whatever CUNIT says.
    scale = float(np.sqrt((matrix**2).sum(axis=0)).mean()) * 3600
    pixel_scale = scale if math.isfinite(scale) and scale > 0 else None
    rotation = _to_icrs(wcs.lngtyp, wcs.radesys, None if np.isnan(wcs.equinox) else wcs.equinox)
    if rotation is None or any(name.endswith("-SIP") for name in wcs.ctype):
        sky = WCS(header).celestial.pixel_to_world(x, y).icrs
        ra, dec = float(sky.ra.deg), float(sky.dec.deg)
    else:
        world = wcs.p2s(np.array([[x, y]]), 0)["world"][0]
        ra, dec = _rotate(rotation, math.radians(world[wcs.lng]), math.radians(world[wcs.lat]))
    if not (math.isfinite(ra) and math.isfinite(dec)):
        return Placement(pixel_scale=pixel_scale)
    return Placement(pixel_scale=pixel_scale, ra=ra, dec=dec)


@functools.lru_cache(maxsize=64)
def _to_icrs(longitude: str, radesys: str, equinox: float | None) -> np.ndarray | None:
    """The rotation from a frame to ICRS; None for a frame that is not a mere rotation away."""
    if longitude == "RA" and radesys == "ICRS":
        return np.eye(3)
    frame: FK5 | Galactic
    if longitude == "RA" and radesys == "FK5":
        frame = FK5(equinox=Time(2000.0 if equinox is None else equinox, format="jyear"))
    elif longitude == "GLON":
        frame = Galactic()
    else:
        return None
    axes = frame.realize_frame(CartesianRepresentation(np.eye(3) * u.one))
    rotation: np.ndarray = axes.transform_to(ICRS()).cartesian.xyz.value
    return rotation


def _rotate(rotation: np.ndarray, longitude: float, latitude: float) -> tuple[float, float]:
    flat = math.cos(latitude)
    east = (flat * math.cos(longitude), flat * math.sin(longitude), math.sin(latitude))
    x, y, z = (float(value) for value in rotation @ np.array(east))
    return math.degrees(math.atan2(y, x)) % 360.0, math.degrees(math.atan2(z, math.hypot(x, y)))
