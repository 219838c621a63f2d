"""Where on the sky a survey is, and parts of the sky to search within."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import astropy.units as u
import numpy as np

from skytwin.embeddings.table import Embeddings
from skytwin.errors import DataError, UsageError, unknown
from skytwin.images.columns import unit_vectors
from skytwin.images.moc import corners, cover, inside, read_moc, square_degrees
from skytwin.vo.footprint import image_arcsec
from skytwin.web.once import Once

__all__ = ["Sky"]

_MOST_CELLS, _PIXELS = 4000, 900
# A cell's edges are drawn straight: of larger ones they are not.
_LARGEST_CELLS = 4
#: With more objects: the cells that hold one, not the images themselves, which take minutes.
_MOST_IMAGES, _ORDER_OF_MANY = 30_000, 10


class Sky:
    """The footprint of an embedding, and MOCs of other things beside it.

    Parameters
    ----------
    embeddings : Embeddings
    mocs : tuple of Path
        ``.fits`` or ``.json``.

    Raises
    ------
    UsageError
        Two MOCs have one name; there are no positions to look for in them.
    DataError
        A file holds no MOC.
    """

    def __init__(self, embeddings: Embeddings, mocs: tuple[Path, ...]) -> None:
        self._embeddings = embeddings
        self.mocs: dict[str, Path] = {}
        self._read: dict[str, Any] = {}
        digest = hashlib.sha256()
        for path in mocs:
            name = path.stem
            if name in self.mocs:
                raise UsageError(f"two MOCs are called {name!r}; rename one of the files")
            self.mocs[name], self._read[name] = path, read_moc(path)
            digest.update(json_key(name) + path.read_bytes())
        self.fingerprint = digest.digest()
        if mocs and embeddings.positions is None:
            raise UsageError("--moc needs positions; ingest with a catalogue of RA and Dec")
        self._pool = ThreadPoolExecutor(1, "sky")
        self._answers: Once[Any] = Once(self._pool, room=64, waiting=16)

    @property
    def possible(self) -> bool:
        """Whether there are positions, and mocpy to draw a footprint of them."""
        return bool(len(self._known)) and importlib.util.find_spec("mocpy") is not None

    def close(self) -> None:
        """Let go of what runs."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def path(self, name: str) -> Path | None:
        """The file of a MOC; None for no name.

        Raises
        ------
        UnknownName
            No such MOC is served.
        """
        if not name:
            return None
        if name not in self.mocs:
            raise unknown("MOC", name, self.mocs, "" if self.mocs else "start with --moc FILE")
        return self.mocs[name]

    def within(self, name: str) -> np.ndarray:
        """Which objects lie within a MOC, (N,) bool.

        Raises
        ------
        UnknownName
            No such MOC is served.
        """
        self.path(name)
        try:
            return inside(self._embeddings.positions, self._read[name])
        except DataError:  # a list may be empty
            return np.zeros(len(self._embeddings), dtype=bool)

    async def facts(self) -> dict[str, Any]:
        """Areas, counts, and a circle around everything, as JSON."""
        found: dict[str, Any] = await self._answers.get("facts", self._facts)
        return found

    async def cells(self, name: str, ra: float, dec: float, radius: float) -> dict[str, Any]:
        """The cells of a footprint near a place, as coarse as a screen shows, as JSON.

        Parameters
        ----------
        name : str
            Of a MOC; empty: the survey's own footprint.
        ra, dec, radius : float
            A circle, in degrees.
        """
        self.path(name)
        found: dict[str, Any] = await self._answers.get(
            (name, ra, dec, radius), lambda: self._cells(name, ra, dec, radius)
        )
        return found

    @functools.cached_property
    def _known(self) -> np.ndarray:
        """Positions that are known, (n, 2) in degrees."""
        positions = self._embeddings.positions
        if positions is None:
            return np.empty((0, 2))
        return np.asarray(positions[np.isfinite(positions).all(axis=1)])

    @functools.cached_property
    def _own(self) -> tuple[Any, str]:
        size = image_arcsec(self._embeddings)
        if size is None or len(self._known) > _MOST_IMAGES:
            found = cover(self._known, None, order=_ORDER_OF_MANY)
        else:
            found = cover(self._known, size)
        return found.moc, found.summary

    def _moc(self, name: str) -> Any:
        return self._read[name] if name else self._own[0]

    def _facts(self) -> dict[str, Any]:
        self._check()
        centre = unit_vectors(self._known).mean(axis=0)
        length = float(np.linalg.norm(centre))
        if length < 1e-6:  # all around the sky
            ra, dec, radius = 180.0, 0.0, 180.0
        else:
            centre /= length
            ra = math.degrees(math.atan2(centre[1], centre[0])) % 360
            dec = math.degrees(math.asin(min(1.0, max(-1.0, centre[2]))))
            nearest = float((unit_vectors(self._known) @ centre).min())
            radius = math.degrees(math.acos(min(1.0, max(-1.0, nearest))))
        footprints = [self._fact("", self._own[1], len(self._known))]
        for name in self.mocs:
            area = square_degrees(self._read[name])
            about = f"{name} covers {area:.4g} square degrees"
            footprints.append(self._fact(name, about, int(self.within(name).sum())))
        return {
            "objects": len(self._known),
            "ra": ra,
            "dec": dec,
            "radius": radius,
            "footprints": footprints,
        }

    def _fact(self, name: str, about: str, count: int) -> dict[str, Any]:
        area = square_degrees(self._moc(name))
        return {"name": name, "about": about, "square_degrees": area, "objects": count}

    def _cells(self, name: str, ra: float, dec: float, radius: float) -> dict[str, Any]:
        self._check()
        from mocpy import MOC  # it need not be installed

        moc = self._moc(name)
        order = _order_of(2 * radius / _PIXELS)
        if radius < 90:
            depth = min(29, max(_LARGEST_CELLS, _order_of(radius / 20)))
            seen = MOC.from_cone(
                lon=ra * u.deg, lat=dec * u.deg, radius=radius * u.deg, max_depth=depth
            )
            moc = moc.intersection(seen)
        if order < int(moc.max_order):
            moc = moc.degrade_to_order(order)
        while len(numbers := moc.uniq_hpx) > _MOST_CELLS:
            moc = moc.degrade_to_order(int(moc.max_order) - 1)
        polygons = [np.empty((0, 4, 2))]
        orders = (np.floor(np.log2(numbers.astype(np.float64) / 4)) / 2).astype(np.int64)
        for one in np.unique(orders):
            here = numbers[orders == one].astype(np.int64) - 4 ** (int(one) + 1)
            finer = max(int(one), _LARGEST_CELLS)
            parts = 4 ** (finer - int(one))
            here = (here[:, None] * parts + np.arange(parts)).reshape(-1)
            polygons.append(corners(finer, here))
        found = np.concatenate(polygons).reshape(-1, 8)
        return {"order": int(moc.max_order), "cells": np.round(found, 6).tolist()}

    def _check(self) -> None:
        if not self.possible:
            raise UsageError("no sky to show: it needs positions, and mocpy (skytwin[vo])")


def _order_of(side: float) -> int:
    """The finest order whose cells are no smaller than a side in degrees."""
    return max(0, min(29, math.floor(math.log2(58.6323 / max(side, 1e-9)))))


def json_key(name: str) -> bytes:
    """A name that no other name and content run together to."""
    return f"{len(name)}:{name}".encode()
