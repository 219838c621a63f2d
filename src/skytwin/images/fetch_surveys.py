"""Services that cut images out of a survey: where they are asked, and what for.

- **SDSS SkyServer, ImgCutout**: colour JPEGs (i, r, g as red, green, blue). It cuts no FITS.
- **Legacy Surveys viewer**: FITS with one plane per band, or colour JPEGs.
- **CDS hips2fits** (Boch et al. 2020, ASPC 527, 121): any HiPS, as FITS or JPEG, resampled to
  the tangential projection.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode, urlsplit

from skytwin.errors import UsageError, one_of, unknown

__all__ = ["SURVEYS", "Request", "choose"]

_SDSS = "https://skyserver.sdss.org/{version}/SkyServerWS/ImgCutout/getjpeg"
_LEGACY = "https://www.legacysurvey.org/viewer/{kind}-cutout"
_HIPS = "https://alasky.cds.unistra.fr/hips-image-services/hips2fits"


@dataclass(frozen=True, kw_only=True)
class _Service:
    """What one service can do.

    ``scale`` is the survey's own pixel scale in arcsec, ``smallest`` and ``largest`` the sides in
    pixels that it cuts, ``rate`` the requests per second that are polite.
    """

    home: str
    formats: tuple[str, ...]
    part: str
    bands: tuple[str, ...] = ()
    colours: tuple[str, ...] = ()
    scale: float | None = None
    smallest: int = 1
    largest: int
    rate: float


#: By the word before the colon in ``--survey``.
SURVEYS: Mapping[str, _Service] = {
    "sdss": _Service(
        home=_SDSS,
        formats=("jpeg",),
        part="dr18",
        colours=("i", "r", "g"),
        scale=0.396,
        smallest=64,
        largest=2048,
        rate=2.0,
    ),
    "legacy": _Service(
        home=_LEGACY,
        formats=("fits", "jpeg"),
        part="ls-dr10",
        bands=("g", "r", "z"),
        colours=("z", "r", "g"),
        scale=0.262,
        largest=512,
        rate=2.0,
    ),
    "hips": _Service(home=_HIPS, formats=("fits", "jpeg"), part="", largest=5000, rate=5.0),
}


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is asked of a survey, the position aside.

    Attributes
    ----------
    survey : str
        ``"sdss:dr18"``, ``"legacy:ls-dr10"``, ``"hips:CDS/P/DSS2/red"``.
    base_url : str
        The service's address, without its parameters.
    pixels : int
        Side of the images.
    pixel_scale : float
        Arcsec per pixel.
    bands : tuple of str
        Planes of a FITS image, in order; empty where the service says.
    colours : tuple of str
        What red, green and blue of a JPEG are; empty where unknown.
    format : {"fits", "jpeg"}
    rate : float
        Requests per second that are polite.
    """

    survey: str
    base_url: str
    pixels: int
    pixel_scale: float
    bands: tuple[str, ...]
    colours: tuple[str, ...]
    format: str
    rate: float

    @property
    def ending(self) -> str:
        """Of the files."""
        return ".fits" if self.format == "fits" else ".jpg"

    @property
    def largest_answer(self) -> int:
        """Bytes beyond which an answer is not the image: doubles, in four planes or more."""
        return 2**20 + 8 * max(4, len(self.bands)) * self.pixels**2

    def url(self, ra: float, dec: float) -> str:
        """The address of one image; ``ra`` and ``dec`` in ICRS degrees."""
        kind, _, part = self.survey.partition(":")
        place = {"ra": f"{ra:.7f}", "dec": f"{dec:.7f}"}
        # As many digits as it takes; a rounded scale shifts the rim by pixels.
        scale = f"{self.pixel_scale:.10g}"
        asked: dict[str, str | int]
        if kind == "sdss":
            asked = {**place, "scale": scale, "width": self.pixels, "height": self.pixels}
        elif kind == "legacy":
            asked = {**place, "layer": part, "pixscale": scale, "size": self.pixels}
            if self.bands:
                asked["bands"] = "".join(self.bands)
        else:
            asked = {
                "hips": part,
                "width": self.pixels,
                "height": self.pixels,
                "fov": f"{self.pixels * self.pixel_scale / 3600:.10g}",
                "projection": "TAN",
                "coordsys": "icrs",
                **place,
                "format": "fits" if self.format == "fits" else "jpg",
            }
        return f"{self.base_url}?{urlencode(asked)}"


def choose(
    survey: str,
    *,
    size_arcsec: float,
    pixel_scale: float | None = None,
    bands: Sequence[str] | None = None,
    format: str | None = None,  # noqa: A002  (its name on the command line)
    base_url: str | None = None,
) -> Request:
    """What to ask a survey for, checked against what its service can do.

    Parameters
    ----------
    survey : str
        ``sdss`` or ``sdss:RELEASE``, ``legacy`` or ``legacy:LAYER``, ``hips:ID``.
    size_arcsec : float
        Side of the images.
    pixel_scale : float, optional
        Arcsec per pixel; the survey's own by default, needed for HiPS.
    bands : sequence of str, optional
        Bands of ``legacy``: g, r, z by default.
    format : {"fits", "jpeg"}, optional
        FITS where the service cuts it.
    base_url : str, optional
        Another server that answers in the same way, such as a mirror.

    Raises
    ------
    UnknownName
        No such survey or format.
    UsageError
        The service cannot do this.
    """
    kind, _, part = survey.partition(":")
    if kind not in SURVEYS:
        raise unknown("survey", survey, ("sdss", "legacy", "hips:ID"))
    service = SURVEYS[kind]
    part = part.strip() or service.part
    if not part:
        raise UsageError("--survey hips needs an identifier, e.g. hips:CDS/P/DSS2/red")
    asked = one_of("format", format or service.formats[0], ("fits", "jpeg"))
    if asked not in service.formats:
        raise UsageError(
            f"{kind} has no service that cuts {asked.upper()}; give --format "
            f"{service.formats[0]}, or another --survey (legacy, hips:ID)"
        )
    if bands is not None and (not service.bands or asked == "jpeg"):
        raise UsageError(
            f"--bands does not go with {asked.upper()} of {kind}: its bands are fixed; leave "
            "--bands out"
        )
    scale = service.scale if pixel_scale is None else pixel_scale
    if scale is None:
        raise UsageError("--survey hips needs --pixel-scale ARCSEC: a HiPS has none of its own")
    for name, value in (("--pixel-scale", scale), ("--size", size_arcsec)):
        if not 0 < value < math.inf:
            raise UsageError(f"{name} {value:g}; expected a positive number of arcsec")
    pixels = round(size_arcsec / scale)
    if not service.smallest <= pixels <= service.largest:
        raise UsageError(
            f"{size_arcsec:g} arcsec at {scale:g} arcsec per pixel are {pixels} pixels; {kind} "
            f"cuts {service.smallest} to {service.largest}: change --size or --pixel-scale"
        )
    home = base_url or service.home.format(version=part, kind=asked)
    _require_web(home)
    return Request(
        survey=f"{kind}:{part}",
        base_url=home.rstrip("?"),
        pixels=pixels,
        pixel_scale=scale,
        # The viewer's bands are single letters, "grz" as good as "g,r,z".
        bands=tuple("".join(bands or service.bands)) if asked == "fits" else (),
        colours=service.colours if asked == "jpeg" else (),
        format=asked,
        rate=service.rate,
    )


def _require_web(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(f"--base-url {url!r}; expected http://... or https://...")
    if parts.query or parts.fragment:
        raise UsageError(f"--base-url {url!r} has parameters; give the part before the '?'")
