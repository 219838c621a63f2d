"""Addresses of other archives' pages about a place on the sky."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlencode

__all__ = ["object_links"]


def object_links(ra: float, dec: float, *, radius_arcsec: float = 10.0) -> Mapping[str, str]:
    """Pages of SIMBAD, NED, the Legacy Surveys' viewer, Aladin Lite and SDSS about a place.

    Parameters
    ----------
    ra, dec : float
        ICRS degrees.
    radius_arcsec : float
        How far around SIMBAD and NED look.
    """
    place = f"{ra:.6f} {dec:+.6f}"
    asked: dict[str, tuple[str, dict[str, str]]] = {
        "SIMBAD": (
            "https://simbad.cds.unistra.fr/simbad/sim-coo",
            {"Coord": place, "Radius": f"{radius_arcsec:g}", "Radius.unit": "arcsec"},
        ),
        "NED": (
            "https://ned.ipac.caltech.edu/conesearch",
            {
                "search_type": "Near Position Search",
                "coordinates": f"{ra:.6f}d {dec:+.6f}d",
                "radius": f"{radius_arcsec / 60:.6g}",
                "in_csys": "Equatorial",
                "in_equinox": "J2000.0",
            },
        ),
        "Legacy Survey": (
            "https://www.legacysurvey.org/viewer",
            {"ra": f"{ra:.6f}", "dec": f"{dec:.6f}", "layer": "ls-dr10", "zoom": "15"},
        ),
        "Aladin Lite": (
            "https://aladin.cds.unistra.fr/AladinLite/",
            {"target": place, "fov": "0.05"},
        ),
        "SDSS": (
            "https://skyserver.sdss.org/dr18/VisualTools/navi",
            {"ra": f"{ra:.6f}", "dec": f"{dec:.6f}", "scale": "0.2"},
        ),
    }
    return {name: f"{home}?{urlencode(query)}" for name, (home, query) in asked.items()}
