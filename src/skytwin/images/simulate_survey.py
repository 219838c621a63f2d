"""Settings of a simulated optical survey; they can be read without GalSim."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from skytwin.errors import UsageError, unknown
from skytwin.images.simulate_sky import check_frame, mixture

__all__ = ["OPTICAL_BANDS", "OPTICAL_MIX", "OpticalSettings"]

OPTICAL_BANDS = ("u", "g", "r", "i", "z")
#: Shares of the classes: about Galaxy Zoo's, with rare classes that can be found.
OPTICAL_MIX: Mapping[str, float] = MappingProxyType(
    {
        "elliptical": 0.50,
        "disk": 0.24,
        "edge-on": 0.13,
        "merger": 0.02,
        "agn-host": 0.04,
        "lens": 0.005,
        "star": 0.05,
        "artefact": 0.015,
    }
)


@dataclass(frozen=True, kw_only=True)
class OpticalSettings:
    """What shapes a simulated optical survey.

    Attributes
    ----------
    size : int
        Pixels of a side.
    pixel_scale : float
        Arcsec per pixel.
    bands : tuple of str
        Of SDSS: u, g, r, i, z.
    depth : float
        How many times fainter the noise is than SDSS's.
    mag_range : tuple of float
        Brightest and faintest r magnitude.
    neighbours : float
        Unrelated objects down to r = 22, per square degree.
    mix : tuple of (str, float)
        Shares of the classes.
    """

    size: int = 64
    pixel_scale: float = 0.396
    bands: tuple[str, ...] = ("g", "r", "i")
    depth: float = 1.0
    mag_range: tuple[float, float] = (14.0, 17.77)
    neighbours: float = 18_000.0
    mix: tuple[tuple[str, float], ...] = field(default_factory=lambda: mixture(None, OPTICAL_MIX))

    def __post_init__(self) -> None:
        check_frame(self.size, 32, self.pixel_scale, self.depth)
        if not 0.05 <= self.pixel_scale <= 0.6:
            raise UsageError(
                f"pixel scale {self.pixel_scale} arcsec; expected 0.05 to 0.6, which samples the "
                "seeing of 0.9 to 2 arcsec"
            )
        for band in self.bands:
            if band not in OPTICAL_BANDS:
                raise unknown("band", band, OPTICAL_BANDS)
        if not self.bands or len(set(self.bands)) < len(self.bands):
            raise UsageError(
                f"bands {','.join(self.bands) or '(none)'}; expected each of some once, as g,r,i"
            )
