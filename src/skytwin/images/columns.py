"""Which columns of a table hold the identifier, the sky position and the pixel position.

Names are compared without regard to case. A column that is asked for by name must exist.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from skytwin.errors import DataError, UnknownName, UsageError, unknown
from skytwin.images import arrow

__all__ = [
    "HEADERLESS",
    "PixelColumns",
    "SkyColumns",
    "SkyPositions",
    "canonical_positions",
    "find_id_column",
    "id_column",
    "numbers",
    "pixel_columns",
    "sky_columns",
    "sky_degrees",
    "unit_vectors",
]

#: Key in the schema metadata of a text table whose first line was data already.
HEADERLESS = b"headerless"

_ID_NAMES = (
    "id", "objid", "object_id", "objectid", "obj_id", "source_id", "sourceid", "specobjid",
    "coadd_object_id", "targetid", "galaxy_id", "galaxyid", "dr7objid", "dr8objid", "iauname",
    "designation", "name", "objname", "object_name", "source_name", "number",
)  # fmt: skip

_EQUATORIAL = (
    ("ra", "dec"), ("ra_deg", "dec_deg"), ("radeg", "decdeg"), ("radeg", "dedeg"),
    ("raj2000", "dej2000"), ("raj2000", "decj2000"), ("_raj2000", "_dej2000"),
    ("ra_icrs", "de_icrs"), ("ra_icrs", "dec_icrs"), ("_ra_icrs", "_de_icrs"),
    ("_ra", "_dec"), ("_ra", "_de"), ("ra_j2000", "dec_j2000"), ("ra2000", "dec2000"),
    ("ra_2000", "dec_2000"), ("alpha_j2000", "delta_j2000"),
    ("alphawin_j2000", "deltawin_j2000"), ("alpha_sky", "delta_sky"), ("ramean", "decmean"),
    ("meanra", "meandec"), ("s_ra", "s_dec"), ("coord_ra", "coord_dec"),
    ("right_ascension", "declination"), ("ra_hms", "dec_dms"),
)  # fmt: skip

_GALACTIC = (
    ("glon", "glat"), ("l", "b"), ("_glon", "_glat"), ("gal_l", "gal_b"), ("gal_lon", "gal_lat"),
)  # fmt: skip

# x, y, and the pixel number of the first pixel's centre in the programs that use the name.
_PIXEL = (
    ("x", "y", 0), ("x_image", "y_image", 1), ("xwin_image", "ywin_image", 1),
    ("xpos", "ypos", 0), ("x_pos", "y_pos", 0), ("xpix", "ypix", 0), ("x_pix", "y_pix", 0),
    ("x_pixel", "y_pixel", 0), ("xcentroid", "ycentroid", 0), ("x_centroid", "y_centroid", 0),
    ("xcenter", "ycenter", 0), ("x_center", "y_center", 0), ("x_fit", "y_fit", 0),
    ("x_init", "y_init", 0), ("xc", "yc", 0), ("col", "row", 0),
)  # fmt: skip

_DEGREES = {
    "": 1.0, "deg": 1.0, "degree": 1.0, "degrees": 1.0, "rad": 180 / np.pi,
    "radian": 180 / np.pi, "radians": 180 / np.pi, "arcmin": 1 / 60, "arcsec": 1 / 3600,
    "mas": 1 / 3.6e6,
}  # fmt: skip
_HOURS = {"h", "hr", "hour", "hours", "hourangle"}

_DECIMAL = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
_SEXAGESIMAL = (
    r"^(?P<sign>[+-]?)(?P<whole>\d{1,3})(?:\s*[:hd°]\s*|\s+)"
    r"(?P<minutes>\d{1,2})(?:\s*[:m'′]\s*|\s+)"
    r"(?P<seconds>\d{1,2}(?:\.\d*)?)\s*[s\"″]?$"
)


@dataclass(frozen=True, kw_only=True)
class SkyColumns:
    """The two columns of a sky position.

    Attributes
    ----------
    ra, dec : str
        Longitude's and latitude's column.
    frame : {"icrs", "galactic"}
        What they are coordinates in.
    """

    ra: str
    dec: str
    frame: Literal["icrs", "galactic"] = "icrs"


@dataclass(frozen=True, eq=False, kw_only=True)
class SkyPositions:
    """Positions on the sky: ``ra`` in [0, 360) and ``dec``, ICRS degrees, shape (N,).

    Both are NaN where the position is not known.
    """

    ra: np.ndarray
    dec: np.ndarray

    def __len__(self) -> int:
        return len(self.ra)

    @property
    def known(self) -> np.ndarray:
        """Where there is a position, shape (N,), bool."""
        known: np.ndarray = np.isfinite(self.ra) & np.isfinite(self.dec)
        return known

    @property
    def directions(self) -> np.ndarray:
        """Points on the unit sphere, shape (N, 3); NaN where there is no position."""
        return unit_vectors(np.stack([self.ra, self.dec], axis=1))


@dataclass(frozen=True, kw_only=True)
class PixelColumns:
    """The two columns of a pixel position, and the number of the first pixel's centre (0, 1)."""

    x: str
    y: str
    origin: int = 0


def unit_vectors(positions: np.ndarray) -> np.ndarray:
    """Points on the unit sphere, shape (n, 3), of RA and Dec in degrees, shape (n, 2)."""
    ra, dec = np.radians(positions).T
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=1)


def find_id_column(table: pa.Table) -> str | None:
    """The column that by its name holds identifiers, or None."""
    return next((found for name in _ID_NAMES if (found := _find(table, name))), None)


def id_column(table: pa.Table, name: str | None = None) -> str:
    """The column of identifiers: the one named, or the first whose name says so.

    Raises
    ------
    UnknownName
        There is no such column, or none whose name says so.
    """
    if name is not None:
        return _require(table, name)
    found = find_id_column(table)
    if found is None:
        raise UnknownName(
            f"no column of identifiers among {', '.join(table.column_names[:12])}; name it with "
            "--id-column"
        )
    return found


def sky_columns(
    table: pa.Table, ra: str | None = None, dec: str | None = None
) -> SkyColumns | None:
    """The columns of the sky position: those named, or those known by their names or UCDs.

    Equatorial coordinates come before galactic ones.

    Returns
    -------
    SkyColumns or None
        None where nothing is named and nothing recognised.

    Raises
    ------
    UsageError
        Only one of the two is named.
    UnknownName
        There is no such column.
    """
    if (ra is None) != (dec is None):
        raise UsageError("one of --ra-column and --dec-column is missing; give both or neither")
    if ra is not None and dec is not None:
        lon, lat = _require(table, ra), _require(table, dec)
        galactic = (lon.lower(), lat.lower()) in _GALACTIC
        return SkyColumns(ra=lon, dec=lat, frame="galactic" if galactic else "icrs")
    for first, second in _EQUATORIAL:
        if (lon_ := _find(table, first)) and (lat_ := _find(table, second)):
            return SkyColumns(ra=lon_, dec=lat_)
    lon_, lat_ = _find_ucd(table, "pos.eq.ra"), _find_ucd(table, "pos.eq.dec")
    if lon_ and lat_:
        return SkyColumns(ra=lon_, dec=lat_)
    for first, second in _GALACTIC:
        if (lon_ := _find(table, first)) and (lat_ := _find(table, second)):
            return SkyColumns(ra=lon_, dec=lat_, frame="galactic")
    return None


def pixel_columns(
    table: pa.Table, x: str | None = None, y: str | None = None
) -> PixelColumns | None:
    """The columns of the pixel position: those named, or those known by their names.

    SExtractor's ``X_IMAGE``, ``Y_IMAGE`` count from 1, all others from 0. Two columns without
    names are x and y.

    Raises
    ------
    UsageError
        Only one of the two is named.
    UnknownName
        There is no such column.
    """
    if (x is None) != (y is None):
        raise UsageError("one of --x-column and --y-column is missing; give both or neither")
    if x is not None and y is not None:
        across, up = _require(table, x), _require(table, y)
        named = (across.lower(), up.lower())
        origin = next((base for *pair, base in _PIXEL if tuple(pair) == named), 0)
        return PixelColumns(x=across, y=up, origin=int(origin))
    for first, second, base in _PIXEL:
        if (across_ := _find(table, first)) and (up_ := _find(table, second)):
            return PixelColumns(x=across_, y=up_, origin=base)
    if HEADERLESS in (table.schema.metadata or {}) and table.num_columns == 2:
        return PixelColumns(x=table.column_names[0], y=table.column_names[1])
    return None


def sky_degrees(table: pa.Table, columns: SkyColumns) -> SkyPositions:
    """Sky positions of the rows, ICRS degrees.

    Numbers are degrees unless the column's unit says otherwise. Text is decimal degrees or
    sexagesimal (``12:34:56.7``, ``12h34m56.7s``, ``12 34 56.7``; right ascension in hours unless
    written with ``d`` or ``°``).

    Raises
    ------
    DataError
        A value is no number or angle, is out of range (right ascension -180 to 360,
        declination -90 to 90), or its unit is no angle; the first such row is named, from 1.
    """
    hours = columns.frame == "icrs"
    ra = _degrees(table, columns.ra, in_hours=hours)
    dec = _degrees(table, columns.dec, in_hours=False)
    _require_range(columns.ra, ra, -180.0, 360.0)
    _require_range(columns.dec, dec, -90.0, 90.0)
    missing = np.isnan(ra) | np.isnan(dec)
    ra[missing] = dec[missing] = np.nan
    if columns.frame == "galactic":
        ra, dec = _galactic_to_icrs(ra, dec)
    ra = np.mod(ra, 360.0)
    ra[ra == 360.0] = 0.0  # of a negative number too small to matter
    return SkyPositions(ra=ra, dec=dec)


def numbers(table: pa.Table, name: str) -> np.ndarray:
    """A column as float64, shape (N,), NaN for nulls.

    Raises
    ------
    DataError
        The column holds something else.
    """
    try:
        return _floats(table[name].cast(pa.float64()))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise DataError(
            f"column {name!r} holds {table[name].type}, not numbers; name another one"
        ) from None


def canonical_positions(catalog: pa.Table) -> np.ndarray | None:
    """RA and Dec in degrees of a catalogue that skytwin wrote, shape (N, 2), NaN where unknown.

    None where it has no positions.
    """
    if not {"ra", "dec"} <= set(catalog.column_names):
        return None
    both = [catalog[name].to_numpy().astype(np.float64) for name in ("ra", "dec")]
    return np.stack(both, axis=1)


def _floats(values: pa.Array | pa.ChunkedArray) -> np.ndarray:
    return np.array(values.to_numpy(zero_copy_only=False), dtype=np.float64)


def _find(table: pa.Table, name: str) -> str | None:
    names: Sequence[str] = table.column_names
    if name in names:
        return name
    return next((other for other in names if other.lower() == name.lower()), None)


def _require(table: pa.Table, name: str) -> str:
    found = _find(table, name)
    if found is None:
        raise unknown("column", name, table.column_names)
    return found


def _find_ucd(table: pa.Table, ucd: str) -> str | None:
    tagged = [
        (entry.name, described.lower().replace("_", ".").split(";"))
        for entry in table.schema
        if (described := arrow.described(entry).get("ucd", ""))
    ]
    main = [name for name, words in tagged if words[0] == ucd and "meta.main" in words]
    plain = [name for name, words in tagged if words == [ucd]]
    return next(iter(main + plain), None)


def _degrees(table: pa.Table, name: str, *, in_hours: bool) -> np.ndarray:
    entry, values = table.schema.field(name), table[name]
    unit = arrow.described(entry).get("unit", "").strip("[] ").lower()
    if pa.types.is_string(entry.type) or pa.types.is_large_string(entry.type):
        return _angles(name, values, unit, in_hours=in_hours)
    return numbers(table, name) * _per_unit(name, unit, in_hours=in_hours)


def _per_unit(name: str, unit: str, *, in_hours: bool) -> float:
    if in_hours and unit in _HOURS:
        return 15.0
    if unit not in _DEGREES:
        raise DataError(
            f"column {name!r} has the unit {unit!r}; expected degrees, radians, arcminutes, "
            "arcseconds or, for right ascension, hours"
        )
    return _DEGREES[unit]


def _angles(name: str, values: pa.ChunkedArray, unit: str, *, in_hours: bool) -> np.ndarray:
    """Degrees from text, decimal or sexagesimal."""
    text = pc.utf8_trim_whitespace(values.combine_chunks())
    text = pc.replace_substring(text, "−", "-")  # as papers print it
    decimal = pc.match_substring_regex(text, _DECIMAL)
    plain = _floats(pc.if_else(decimal, text, None).cast(pa.float64()))
    parts = pc.extract_regex(text, _SEXAGESIMAL)
    bad = pc.and_(pc.is_valid(text), pc.and_(pc.is_null(parts), pc.invert(decimal)))
    if (row := pc.index(bad, True).as_py()) >= 0:
        raise DataError(
            f"row {row + 1}: {name} = {text[row].as_py()!r} is no angle; expected degrees or "
            "12:34:56.7"
        )
    whole, minutes, seconds = (
        _floats(pc.struct_field(parts, part).cast(pa.float64()))
        for part in ("whole", "minutes", "seconds")
    )
    _require_range(f"{name} (minutes)", minutes, 0.0, 59.0, "")
    _require_range(f"{name} (seconds)", seconds, 0.0, 60.0, "")
    negative = pc.equal(pc.struct_field(parts, "sign"), "-").fill_null(False)
    sign = np.where(negative.to_numpy(zero_copy_only=False), -1.0, 1.0)
    in_degrees = pc.any(pc.match_substring_regex(text, "[d°]")).as_py()
    scale = 15.0 if in_hours and not in_degrees else 1.0
    angle = sign * scale * (whole + minutes / 60 + seconds / 3600)
    factor = _per_unit(name, unit, in_hours=in_hours) if np.isfinite(plain).any() else 1.0
    return np.where(np.isnan(plain), angle, plain * factor)


def _require_range(
    name: str, values: np.ndarray, low: float, high: float, unit: str = " degrees"
) -> None:
    bad = np.flatnonzero(~((values >= low) & (values <= high)) & ~np.isnan(values))
    if bad.size:
        row = int(bad[0])
        more = f" (and {bad.size - 1} more)" if bad.size > 1 else ""
        raise DataError(
            f"row {row + 1}: {name} = {values[row]:g}{more}; expected {low:g} to {high:g}{unit}; "
            "leave the cell blank where no position is known"
        )


def _galactic_to_icrs(lon: np.ndarray, lat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    # Rarely needed, and slow to import.
    from astropy.coordinates import SkyCoord

    known = np.isfinite(lon)
    ra, dec = np.full_like(lon, np.nan), np.full_like(lat, np.nan)
    if known.any():
        sky = SkyCoord(l=lon[known], b=lat[known], unit="deg", frame="galactic").icrs
        ra[known], dec[known] = sky.ra.deg, sky.dec.deg
    return ra, dec
