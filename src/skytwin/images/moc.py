"""Footprints on the sky as multi-order coverage maps, for other programs and as a filter.

Reference: Fernique et al. 2022, *MOC: Multi-Order Coverage map*, IVOA recommendation 2.0.
"""

from __future__ import annotations

import importlib.util
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from skytwin.errors import DataError, UsageError, unknown
from skytwin.files import require_new, write_atomically
from skytwin.progress import Progress

__all__ = ["MOC_ENDINGS", "Footprint", "corners", "cover", "inside", "read_moc", "square_degrees"]

_FORMATS = {".fits": "fits", ".json": "json"}
MOC_ENDINGS = tuple(_FORMATS)
_FINEST = 29
#: Side of a HEALPix cell of order 0, in arcsec: the square root of its area.
_SIDE_0 = math.sqrt(4 * math.pi / 12) * math.degrees(1) * 3600
_CELLS_A_SIDE, _AT_A_TIME = 4, 10_000
_LARGEST = 36_000.0


@dataclass(frozen=True, eq=False, kw_only=True)
class Footprint:
    """The sky that images cover.

    Attributes
    ----------
    moc : mocpy.MOC
    order : int
        Of its smallest cells.
    objects : int
        Images that it is made of; those without a position are left out.
    size_arcsec : float or None
        Side of the images; None where only their centres are known.
    """

    moc: Any
    order: int
    objects: int
    size_arcsec: float | None

    @property
    def square_degrees(self) -> float:
        """Area, the rims of the cells included."""
        return square_degrees(self.moc)

    @property
    def summary(self) -> str:
        """Plain text, one line."""
        side = _SIDE_0 / 2**self.order
        what = f"images of {self.size_arcsec:.4g} arcsec" if self.size_arcsec else "positions"
        return (
            f"{self.objects} {what} cover {self.square_degrees:.4g} square degrees; order "
            f"{self.order}, cells of {side:.3g} arcsec"
        )

    def save(self, path: Path) -> None:
        """Write a file, ``.fits`` or ``.json``.

        Raises
        ------
        UnknownName, OutputExists, UsageError
            See `skytwin.files.require_new`.
        """
        require_new(path, MOC_ENDINGS)
        kind = _FORMATS[path.suffix.lower()]
        write_atomically(path, lambda place: self.moc.save(str(place), format=kind))


def cover(
    positions: np.ndarray | None,
    size_arcsec: float | None,
    *,
    order: int | None = None,
    quiet: bool = True,
) -> Footprint:
    """The sky covered by square images around positions, north up.

    Parameters
    ----------
    positions : ndarray, shape (N, 2), or None
        RA and Dec in degrees, NaN where unknown.
    size_arcsec : float or None
        Side of the images; where it is not known, the cells that hold a position are covered.
    order : int, optional
        HEALPix order of the smallest cells, 0 to 29; by default a side has four cells or more.
    quiet : bool
        Show no progress.

    Raises
    ------
    UsageError
        No positions; neither size nor order.
    """
    _require_mocpy()
    import astropy.units as u
    from mocpy import MOC

    known = np.empty((0, 2)) if positions is None else positions
    known = known[np.isfinite(known).all(axis=1)]
    if not len(known):
        raise UsageError("a footprint needs positions; ingest with a catalogue of RA and Dec")
    if order is None:
        if size_arcsec is None:
            raise UsageError("the size of the images is not known; give --order 0 to 29")
        order = math.ceil(math.log2(max(1.0, _CELLS_A_SIDE * _SIDE_0 / size_arcsec)))
        order = min(_FINEST, order)
    if not 0 <= order <= _FINEST:
        raise UsageError(f"order {order}; expected 0 to {_FINEST}")
    if size_arcsec is not None and not 0 < size_arcsec < _LARGEST:
        raise UsageError(f"images of {size_arcsec:g} arcsec; expected 0 to {_LARGEST:g}")
    moc = MOC.new_empty(order)
    with Progress("footprint", len(known), unit="positions", quiet=quiet) as bar:
        for start in range(0, len(known), _AT_A_TIME):
            ra, dec = known[start : start + _AT_A_TIME].T * u.deg
            if size_arcsec is None:
                part = MOC.from_lonlat(ra, dec, max_norder=order)
            else:
                part = MOC.from_boxes(
                    lon=ra,
                    lat=dec,
                    a=size_arcsec / 2 * u.arcsec,
                    b=size_arcsec / 2 * u.arcsec,
                    angle=0 * u.deg,
                    max_depth=order,
                    union_strategy="small_boxes",
                    n_threads=1,
                )
            moc = moc.union(part)
            bar.advance(len(ra))
    return Footprint(moc=moc, order=order, objects=len(known), size_arcsec=size_arcsec)


def read_moc(path: Path) -> Any:
    """Read a MOC, ``.fits`` or ``.json``.

    Raises
    ------
    UnknownName
        Another ending.
    UsageError
        No such file.
    DataError
        It holds no MOC of the sky.
    """
    _require_mocpy()
    from mocpy import MOC

    kind = _FORMATS.get(path.suffix.lower())
    if kind is None:
        raise unknown("MOC format", path.suffix or path.name, MOC_ENDINGS)
    if not path.is_file():
        raise UsageError(f"no file {str(path)!r}; expected a MOC")
    try:
        moc = MOC.load(str(path), format=kind)
    except Exception as error:  # the reader meets damage with errors of every kind
        line = " ".join(str(error).split())[:160]
        raise DataError(f"{str(path)!r} holds no MOC of the sky ({line})") from None
    if not isinstance(moc, MOC):
        raise DataError(f"{str(path)!r} holds a MOC of something else than the sky")
    return moc


def inside(positions: np.ndarray | None, moc: Any) -> np.ndarray:
    """Which positions, (N, 2) in degrees, lie within a MOC: (N,) bool, no where unknown.

    Raises
    ------
    UsageError
        There are no positions.
    DataError
        None lies within.
    """
    import astropy.units as u

    if positions is None:
        raise UsageError("--inside needs positions; ingest with a catalogue of RA and Dec")
    found = np.zeros(len(positions), dtype=bool)
    known = np.flatnonzero(np.isfinite(positions).all(axis=1))
    ra, dec = positions[known].T * u.deg
    found[known] = moc.contains_lonlat(ra, dec)
    if not found.any():
        raise DataError("no object lies inside the MOC; check that it is of the same sky")
    return found


def square_degrees(moc: Any) -> float:
    """Area of a MOC."""
    return float(moc.sky_fraction) * 4 * math.pi * math.degrees(1) ** 2


def corners(order: int, cells: np.ndarray) -> np.ndarray:
    """Corners of HEALPix cells of one order, in the nested scheme, as a polygon runs.

    Reference: Gorski et al. 2005, *HEALPix*, ApJ 622, 759: the cells of section 4, each corner by
    its place on one of the twelve faces.

    Parameters
    ----------
    order : int
        0 to 29.
    cells : ndarray, shape (n,), int
        Numbers, from 0.

    Returns
    -------
    ndarray, shape (n, 4, 2), float64
        RA and Dec in degrees: south, east, north, west.
    """
    cells = np.asarray(cells, dtype=np.int64)
    face, within = cells >> 2 * order, cells & (4**order - 1)
    x, y = np.zeros((2, len(cells)), dtype=np.int64)
    for bit in range(order):
        x |= (within >> 2 * bit & 1) << bit
        y |= (within >> 2 * bit + 1 & 1) << bit
    # On a face x and y run from 0 to 1; its southern corner is (0, 0).
    along = (x[:, None] + np.array([0, 1, 1, 0])) / 2**order
    across = (y[:, None] + np.array([0, 0, 1, 1])) / 2**order
    ring = np.array([2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4])[face][:, None] - along - across
    near = np.minimum(1.0, np.minimum(ring, 4.0 - ring))  # less than 1: in a polar cap
    belt = np.degrees(np.arcsin(np.clip((2.0 - ring) * 2 / 3, -1, 1)))
    cap = np.sign(2.0 - ring) * (90.0 - 2 * np.degrees(np.arcsin(near / math.sqrt(6.0))))
    east = np.array([1, 3, 5, 7, 0, 2, 4, 6, 1, 3, 5, 7])[face][:, None] * near + along - across
    ra = 45.0 * np.divide(east, near, out=np.zeros_like(east), where=near > 0) % 360.0
    return np.stack([ra, np.where(near < 1.0, cap, belt)], axis=2)


def _require_mocpy() -> None:
    if importlib.util.find_spec("mocpy") is None:
        raise UsageError("a footprint needs mocpy, which is not installed; install skytwin[vo]")
