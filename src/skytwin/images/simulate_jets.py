"""The intrinsic shapes of simulated radio galaxies, as weighted points."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import ndtri

__all__ = ["Points", "draw_source"]

# Jets by what fills them, first and second side.
_SIDES = {
    "FRI": ("plume", "plume"),
    "FRII": ("lobe", "lobe"),
    "hybrid": ("plume", "lobe"),
    "wide-angle-tail": ("tail", "tail"),
    "head-tail": ("tail", "tail"),
    "double-double": ("relic", "relic"),
}
_MODES = 12
_ALONG = np.linspace(0, 1, 97)


@dataclass(frozen=True, eq=False, kw_only=True)
class Points:
    """Points of light: pixel positions (column, row; from 0) and flux, shape (n,) each."""

    x: np.ndarray
    y: np.ndarray
    flux: np.ndarray

    @classmethod
    def join(cls, parts: Sequence[Points]) -> Points:
        """All of them."""
        x, y, flux = (np.concatenate([getattr(p, of) for p in parts]) for of in ("x", "y", "flux"))
        return cls(x=x, y=y, flux=flux)

    def on_grid(self, side: int, margin: int) -> np.ndarray:
        """Each point shared among its 4 x 4 pixels by cubic interpolation, shape (side, side).

        Keeps flux, centroid and width; weights may be negative, until a beam smooths them.
        Points off the grid are lost.
        """
        x, y, flux = self.x + margin, self.y + margin, self.flux
        inside = (x >= 1) & (y >= 1) & (x < side - 2) & (y < side - 2)
        if not inside.all():
            x, y, flux = x[inside], y[inside], flux[inside]
        column, row = x.astype(np.int64), y.astype(np.int64)
        across, up = _cubic(x - column), _cubic(y - row) * flux
        first = (row - 1) * side + column - 1
        steps = (side * np.arange(4)[:, None] + np.arange(4)).reshape(16, 1)
        weights = (up[:, None] * across[None, :]).reshape(16, -1)
        grid = np.bincount((first + steps).ravel(), weights.ravel(), minlength=side * side)
        return grid.reshape(side, side).astype(np.float32)


def _cubic(t: np.ndarray) -> np.ndarray:
    """Lagrange's weights of the pixels at -1, 0, 1 and 2 for a point at t in [0, 1), (4, n)."""
    a, b, c = t + 1, t - 1, t - 2
    return np.stack((t * b * c / -6, a * b * c / 2, a * t * c / -2, a * t * b / 6))


def draw_source(row: Mapping[str, Any], pixel_scale: float, rng: np.random.Generator) -> Points:
    """A source of the given truth; what the truth leaves open comes from ``rng``."""
    kind, size = row["morphology"], row["las_arcsec"] / pixel_scale
    if kind == "compact":
        along = _blob(0.0, 0.0, size / math.sqrt(8 * math.log(2)), row["flux"], flat=0.5)
        return _place(along, row)
    rest = 1 - row["core_fraction"]
    share = rest / (1 + row["side_flux_ratio"])
    fluxes = [share, rest - share]
    lengths = [row["arm_ratio"], 1.0]
    if rng.random() < 0.5:  # the brighter side is as often the longer one
        fluxes.reverse()
    ridges = _ridges(kind, math.radians(row["bend_deg"]), lengths, rng)
    reach = size / _extent(ridges)
    parts = [Points(x=np.zeros(1), y=np.zeros(1), flux=np.array([row["core_fraction"]]))]
    for side, ridge, length, flux in zip(_SIDES[kind], ridges, lengths, fluxes, strict=True):
        parts += _fill(side, ridge * reach, length * reach, flux, rng)
    whole = Points.join(parts)
    return _place(Points(x=whole.x, y=whole.y, flux=whole.flux * row["flux"]), row)


def _place(points: Points, row: Mapping[str, Any]) -> Points:
    """Turn the source's axis from +x to its position angle and move it to its centre.

    North is up (towards row 0) and east is left.
    """
    angle = math.radians(row["pa_deg"])
    east, north = math.sin(angle), math.cos(angle)
    return Points(
        x=row["x"] - points.x * east - points.y * north,
        y=row["y"] - points.x * north + points.y * east,
        flux=points.flux,
    )


def _ridges(
    kind: str, bend: float, lengths: list[float], rng: np.random.Generator
) -> list[np.ndarray]:
    """Ridge lines of both sides, shape (2, 97) each, starting at the core; length as given."""
    s = _ALONG
    if kind in ("wide-angle-tail", "head-tail"):
        where = rng.uniform(0.25, 0.6) if kind == "wide-angle-tail" else rng.uniform(0.05, 0.15)
        turn = bend * np.clip(s / where, 0, 1) ** 2
        wiggle = rng.uniform(0.0, 0.25) * np.sin(2 * math.pi * rng.uniform(0.5, 1) * s)
        headings = (turn + wiggle, math.pi - turn + wiggle)
    else:
        signs = rng.choice([-1.0, 1.0], 2)
        ramp = s ** rng.uniform(0.5, 2)
        waves = rng.uniform(0.0, 0.3) * np.sin(
            2 * math.pi * (rng.uniform(0.5, 1.5) * s + rng.random())
        )
        headings = (
            signs[0] * bend * ramp + waves,
            math.pi + signs[1] * bend * ramp + rng.choice([-1.0, 1.0]) * waves,
        )
    ridges = []
    for heading, length in zip(headings, lengths, strict=True):
        steps = np.stack((np.cos(heading), np.sin(heading)))[:, 1:] * (length / 96)
        ridges.append(np.concatenate((np.zeros((2, 1)), np.cumsum(steps, axis=1)), axis=1))
    return ridges


def _extent(ridges: list[np.ndarray]) -> float:
    ends = np.concatenate([ridge[:, ::8] for ridge in ridges], axis=1)
    return float(np.hypot(*(ends[:, :, None] - ends[:, None, :])).max())


def _fill(
    side: str, ridge: np.ndarray, length: float, flux: float, rng: np.random.Generator
) -> list[Points]:
    """The points of one side; ``length`` in pixels."""
    s, z, across, waves = _grid(_steps(length))
    if side == "lobe" or side == "relic":
        hot = rng.uniform(0.0, 0.35) if side == "lobe" else rng.uniform(0.0, 0.15)
        start = rng.uniform(0.05, 0.7) if side == "lobe" else rng.uniform(0.5, 0.75)
        inside = np.clip((s - start) / (1 - start), 0, None)
        bright = inside ** rng.uniform(0.3, 1.5) * (s > start)
        width = length * rng.uniform(0.12, 0.32) * np.sqrt(np.clip(inside * (1.04 - inside), 0, 1))
        bright = bright * np.sqrt(np.clip(1.04 - inside, 0, 1))
        jet, jet_width = rng.uniform(0.0, 0.08), 0.01 * length
    else:
        hot, jet, jet_width = 0.0, 0.0, 0.0
        fall = rng.uniform(0.15, 0.6) if side == "plume" else rng.uniform(0.2, 0.8)
        gap = rng.uniform(0.02, 0.35)
        bright = np.exp(-s / fall) * (1 - np.exp(-((s / gap) ** 2)))
        # A plume that fades to nothing before its end would be shorter than its truth.
        bright += rng.uniform(0.03, 0.10) * bright.max() * (s > 0.1)
        flare = rng.uniform(0.06, 0.22) if side == "plume" else rng.uniform(0.06, 0.16)
        width = length * (0.01 + flare * s ** rng.uniform(0.8, 1.6))
    texture = np.exp(rng.normal(0, 0.25, _MODES) @ waves).reshape(len(s), len(z))
    weight = bright[:, None] * texture * across
    weight *= flux * (1 - hot) * (1 - jet) / weight.sum()
    parts = [_spread(ridge, s, z, width + 0.8, weight)]
    if jet:
        thin = np.broadcast_to(across / len(s), weight.shape)
        parts.append(_spread(ridge, s, z, jet_width + 0.1, thin * flux * (1 - hot) * jet))
    if hot:
        at = int(96 * rng.uniform(0.90, 0.98))
        spot = rng.uniform(0.02, 0.07) * length + 1.0
        parts.append(_blob(ridge[0, at], ridge[1, at], spot, flux * hot))
    if side == "relic":  # the younger pair of a double-double
        inner = rng.uniform(0.35, 0.7)
        parts = [Points(x=p.x, y=p.y, flux=p.flux * (1 - inner)) for p in parts]
        at = int(96 * rng.uniform(0.15, 0.4))
        parts.append(_blob(ridge[0, at], ridge[1, at], 0.03 * length + 1.0, flux * inner))
    return parts


def _spread(
    ridge: np.ndarray, s: np.ndarray, z: np.ndarray, width: np.ndarray | float, weight: np.ndarray
) -> Points:
    """Points across a ridge line; ``width`` is the Gaussian sigma at each step."""
    at = s * 96
    low = np.minimum(at.astype(int), 95)
    step = at - low
    ahead = ridge[:, low + 1] - ridge[:, low]
    x, y = ridge[:, low] + ahead * step
    across = width / np.hypot(*ahead)
    return Points(
        x=(x[:, None] - (across * ahead[1])[:, None] * z).ravel(),
        y=(y[:, None] + (across * ahead[0])[:, None] * z).ravel(),
        flux=weight.ravel(),
    )


def _blob(x: float, y: float, sigma: float, flux: float, flat: float = 1.0) -> Points:
    """A Gaussian of 7 x 7 points; ``flat`` is its axis ratio."""
    u, v = _disc(7)
    return Points(x=x + sigma * u, y=y + (sigma * flat) * v, flux=np.full(49, flux / 49))


def _steps(length: float) -> tuple[int, int]:
    """Points along and across a side, by its length in pixels: less than a beam apart."""
    if length < 12:
        return 20, 5
    return (40, 9) if length < 32 else (88, 15)


@functools.lru_cache(maxsize=8)
def _grid(steps: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Places along, places across (in sigmas), their shares, and smooth waves over both."""
    s = (np.arange(steps[0]) + 0.5) / steps[0]
    z = np.linspace(-2.2, 2.2, steps[1])
    rng = np.random.default_rng(0)
    waves = [
        np.cos(
            2 * math.pi * (rng.uniform(0.5, 4) * s[:, None] + rng.uniform(-0.6, 0.6) * z)
            + rng.uniform(0, 2 * math.pi)
        )
        for _ in range(_MODES)
    ]
    weights = np.exp(-0.5 * z**2)
    return s, z, weights / weights.sum(), np.stack(waves).reshape(_MODES, -1)


@functools.lru_cache(maxsize=8)
def _disc(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Places that share a round Gaussian of sigma 1 evenly."""
    z = np.asarray(ndtri((np.arange(count) + 0.5) / count))
    u, v = np.meshgrid(z / z.std(), z / z.std())
    return u.ravel(), v.ravel()
