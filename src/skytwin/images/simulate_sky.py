"""What simulated surveys share: seeds, tiles on the sky, mixtures of classes, the rows of truth.

A survey is drawn in tiles of 64 objects that share their seeing or beam and their noise. All
randomness derives from the seed and a tile's or an object's number, so neither the number of
workers nor the size of the survey changes an object: a survey is the head of any larger one of
the same settings.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from scipy.special import ndtr, ndtri

from skytwin.errors import UsageError, unknown
from skytwin.images import arrow
from skytwin.images.cutouts import Geometry

__all__ = ["TILE", "Batch", "Columns", "Simulator", "mixture", "sky_positions"]

#: Objects of a tile, 8 x 8 on the sky.
TILE = 64
_SIDE = 8
# Frames of one tile are this many frames apart, less a jitter that never lets them overlap.
_CELL, _JITTER = 1.5, 1 / 6
_TILE_STAGE, _OBJECT_STAGE, _SURVEY_STAGE = 0, 1, 2

Columns = dict[str, np.ndarray]


@dataclass(frozen=True, eq=False, kw_only=True)
class Batch:
    """Objects of one tile without noise.

    Attributes
    ----------
    flux : ndarray, shape (n, C, H, W)
        Float32, seen through the PSF or beam, without noise and artefacts.
    truth : pyarrow.Table
        One row per object, units in the fields' metadata.
    """

    flux: np.ndarray
    truth: pa.Table


class Simulator(Protocol):
    """A survey that can be drawn tile by tile, in any process, in any order."""

    @property
    def kind(self) -> str:
        """``"optical"``, ``"radio"``."""
        ...

    @property
    def seed(self) -> int:
        """Of everything."""
        ...

    @property
    def geometry(self) -> Geometry:
        """What every image has in common."""
        ...

    def recipe(self) -> dict[str, Any]:
        """JSON-able settings that shape the images."""
        ...

    def fields(self) -> Sequence[pa.Field]:
        """The columns of `truth`, with their units."""
        ...

    def truth(self, tile: int) -> Columns:
        """The truth of all objects of a tile, each column of shape (TILE,)."""
        ...

    def batch(self, tile: int, count: int = TILE) -> Batch:
        """The first objects of a tile without noise, and their truth."""
        ...

    def render(self, tile: int, count: int = TILE) -> np.ndarray:
        """The first objects of a tile as the survey sees them, shape (count, C, H, W)."""
        ...


def tile_rng(seed: int, kind: int, tile: int) -> np.random.Generator:
    """The generator of what is drawn once per tile, the truth of its objects included."""
    return np.random.default_rng((seed, kind, _TILE_STAGE, tile))


def object_rng(seed: int, kind: int, row: int) -> np.random.Generator:
    """The generator of one object's details and noise."""
    # Its normal deviates, of which an image takes thousands, are the fastest.
    return np.random.Generator(np.random.SFC64((seed, kind, _OBJECT_STAGE, row)))


def check_frame(size: int, smallest: int, pixel_scale: float, depth: float) -> None:
    """Raise `UsageError` for a frame that cannot be drawn."""
    if not smallest <= size <= 2048:
        raise UsageError(
            f"size is {size} pixels; expected {smallest} to 2048: a smaller frame does not hold "
            "the objects, so cut the images with ingest --crop afterwards"
        )
    for name, value in (("pixel scale", pixel_scale), ("depth", depth)):
        if not 0 < value < math.inf:
            raise UsageError(f"{name} is {value}; expected a positive number")


def mixture(
    mix: Mapping[str, float] | None, default: Mapping[str, float]
) -> tuple[tuple[str, float], ...]:
    """The share of each class, in the order of ``default``, summing to 1.

    Classes that are named get the share given, the others share the rest as in ``default``. If
    nothing is left for them (the given shares sum to 1 or more), only those named are drawn, in
    proportion.

    Raises
    ------
    UnknownName
        There is no such class.
    UsageError
        A share is no number or negative, or nothing is left to draw.
    """
    given = dict(mix or {})
    for name, share in given.items():
        if name not in default:
            raise unknown("class", name, default, "name classes as in --mix merger=0.02")
        if not 0 <= share < math.inf:
            raise UsageError(f"the share of {name} is {share}; expected a number from 0 up")
    total = math.fsum(given.values())
    others = math.fsum(share for name, share in default.items() if name not in given)
    if total >= 1 or not others:
        if not total > 0:
            raise UsageError(
                "every class has the share 0, which leaves nothing to draw; give one of them a "
                "share above 0, as in --mix merger=0.02"
            )
        return tuple((name, given.get(name, 0.0) / total) for name in default)
    rest = (1 - total) / others
    return tuple((name, given.get(name, share * rest)) for name, share in default.items())


def choose(rng: np.random.Generator, mix: Sequence[tuple[str, float]]) -> np.ndarray:
    """A class for every object of a tile, dtype object (str)."""
    edges = np.cumsum([share for _, share in mix])
    drawn = np.searchsorted(edges / edges[-1], rng.random(TILE), side="right")
    return np.array([name for name, _ in mix], dtype=object)[drawn]


def lognormal(
    rng: np.random.Generator,
    median: float | np.ndarray,
    sigma: float | np.ndarray,
    low: float | np.ndarray,
    high: float | np.ndarray,
) -> np.ndarray:
    """Log-normal numbers within limits, shape (TILE,); ``sigma`` in e-folds."""
    at = [ndtr((np.log(limit) - np.log(median)) / sigma) for limit in (low, high)]
    drawn = ndtri(at[0] + rng.random(TILE) * (at[1] - at[0]))
    clipped: np.ndarray = np.clip(np.exp(np.log(median) + sigma * drawn), low, high)
    return clipped


def power_law(rng: np.random.Generator, slope: float, low: float, high: float) -> np.ndarray:
    """Numbers of density x^-(slope + 1) between two limits, shape (TILE,)."""
    ends = low**-slope, high**-slope
    drawn: np.ndarray = (ends[0] - rng.random(TILE) * (ends[0] - ends[1])) ** (-1 / slope)
    return drawn


@functools.lru_cache(maxsize=4)
def _strips(frame_deg: float) -> tuple[tuple[float, int], ...]:
    """Declination and number of tiles of each strip of sky, from the equator outwards."""
    side = _SIDE * _CELL * frame_deg
    strips = []
    for number in range(int(2 * 88 / side) + 1):
        dec = side * ((number + 1) // 2) * (1 if number % 2 else -1)
        edge = abs(dec) + side / 2
        if edge < 88 and (count := int(360 * math.cos(math.radians(edge)) / side)):
            strips.append((dec, count))
    return tuple(strips)


def require_room(count: int, frame_deg: float) -> None:
    """Raise `UsageError` if so many frames do not fit on the sky side by side."""
    room = TILE * sum(tiles for _, tiles in _strips(frame_deg))
    if count > room:
        raise UsageError(
            f"{count} frames of {frame_deg * 60:.3g} arcmin; at most {room} fit on the sky without "
            "overlap: ask for fewer, or for smaller frames (--size)"
        )


def sky_positions(
    rng: np.random.Generator, seed: int, tile: int, frame_deg: float
) -> tuple[np.ndarray, np.ndarray]:
    """ICRS degrees of a tile's objects, shape (TILE,) each; no two frames overlap.

    Tiles fill strips of constant declination, from the equator outwards; right ascension starts
    at a random value.
    """
    number, strips = tile, iter(_strips(frame_deg))
    dec, tiles = next(strips)
    while number >= tiles:
        number -= tiles
        dec, tiles = next(strips)
    first = 360 * number / tiles
    start = np.random.default_rng((seed, _SURVEY_STAGE)).uniform(0, 360)
    cell = _CELL * frame_deg
    slots = rng.permutation(TILE)
    jitter = rng.uniform(-_JITTER, _JITTER, (2, TILE))
    across, up = (
        (place - (_SIDE - 1) / 2 + shift) * cell
        for place, shift in zip((slots % _SIDE, slots // _SIDE), jitter, strict=True)
    )
    decs = dec + up
    return np.mod(start + first + across / np.cos(np.radians(decs)), 360.0), decs


POSITION_FIELDS = (
    arrow.field("ra", pa.float64(), unit="deg", ucd="pos.eq.ra;meta.main"),
    arrow.field("dec", pa.float64(), unit="deg", ucd="pos.eq.dec;meta.main"),
    arrow.field("tile", pa.int32(), description="field with one seeing or beam and noise"),
    arrow.field("x", pa.float32(), unit="pix", description="column of the centre, from 0"),
    arrow.field("y", pa.float32(), unit="pix", description="row of the centre, from 0"),
)


def as_table(columns: Columns, fields: Sequence[pa.Field], count: int | None = None) -> pa.Table:
    """Truth as a table; NaN stays NaN, None becomes null."""
    return pa.Table.from_arrays(
        [pa.array(columns[entry.name][:count], entry.type) for entry in fields],
        schema=pa.schema(list(fields)),
    )
