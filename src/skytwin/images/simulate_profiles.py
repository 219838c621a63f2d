"""Light profiles of simulated galaxies on the pixel grid, before and through the PSF.

A profile is split by a Gaussian window: what lies outside it is smooth and sampled on the pixels;
what lies inside, the cusp, is sampled finely and goes straight into the Fourier transform, where
no flux or centroid is lost to the pixel grid. There both meet the PSF, which GalSim provides, and
the pixel's own response. Pixel positions are (column, row) from 0; position angles run from north
(row 0) to east (column 0).

References: Sersic 1963; Ciotti & Bertin 1999, A&A 352, 447 (normalisation); van der Kruit &
Searle 1981, A&A 95, 105 (edge-on discs); Kormann, Schneider & Bartelmann 1994, A&A 284, 285
(isothermal ellipsoid); Rowe et al. 2015, A&C 10, 121 (GalSim).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import galsim
import numpy as np
import scipy.fft
from scipy.special import gamma, gammaincinv, ive, k1

__all__ = [
    "Light",
    "Scene",
    "Shape",
    "edge_on",
    "lensed",
    "point",
    "psf_transfer",
    "sersic",
    "spiral",
]

# The cusp: window's sigma in pixels; half-width and samples per pixel, of all and of the middle.
_WINDOW, _CUSP = 1.0, ((4.1, 5), (0.5, 20))
_FINE = 2  # samples per pixel and axis of what is thin everywhere
_ARM_CORE = 0.5  # the arms set in at this many scale lengths


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Where an elliptical profile lies.

    Attributes
    ----------
    x, y : float
        Centre, pixels.
    size : float
        Half-light radius of the major axis, pixels.
    axis_ratio : float
    pa_deg : float
    """

    x: float
    y: float
    size: float
    axis_ratio: float
    pa_deg: float

    def axes(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Coordinates along the major axis and across, anticlockwise, for row and column."""
        angle = math.radians(self.pa_deg)
        sin, cos = np.float32(math.sin(angle)), np.float32(math.cos(angle))
        dx, dy = (x - self.x).astype(np.float32), (y - self.y).astype(np.float32)
        return -dx * sin - dy * cos, -dx * cos + dy * sin


@dataclass(frozen=True, eq=False, kw_only=True)
class Light:
    """Unit flux: surface brightness at pixel centres plus a transform, either may be None.

    Attributes
    ----------
    stamp : ndarray, shape (P, P), or None
    spectrum : ndarray, shape (P, P // 2 + 1), complex, or None
    """

    stamp: np.ndarray | None = None
    spectrum: np.ndarray | None = None


class Scene:
    """What is in one frame of P x P pixels in C bands."""

    def __init__(self, bands: int, side: int) -> None:
        self.canvas = np.zeros((bands, side, side), np.float32)
        self._spectrum = np.zeros((bands, side, side // 2 + 1), np.complex64)

    def add(self, light: Light, flux: np.ndarray) -> None:
        """Add light of the given flux in each band."""
        per_band = flux.astype(np.float32)[:, None, None]
        if light.stamp is not None:
            self.canvas += per_band * light.stamp
        if light.spectrum is not None:
            self._spectrum += per_band * light.spectrum

    def seen(self, transfer: np.ndarray) -> np.ndarray:
        """Through the PSF, integrated over pixels, shape (C, P, P) float32."""
        spectrum = scipy.fft.rfft2(self.canvas)
        spectrum += self._spectrum
        spectrum *= transfer
        seen: np.ndarray = scipy.fft.irfft2(spectrum, s=self.canvas.shape[1:])
        return seen


@functools.lru_cache(maxsize=4)
def _frequencies(side: int) -> tuple[np.ndarray, np.ndarray]:
    return np.fft.fftfreq(side), np.fft.rfftfreq(side)


def _waves(frequency: np.ndarray, at: np.ndarray | float) -> np.ndarray:
    turns = -2j * math.pi * np.multiply.outer(frequency, at)
    wave: np.ndarray = np.exp(turns).astype(np.complex64)
    return wave


def psf_transfer(
    side: int, fwhm_px: float, beta: float, ellipticity: float, pa_deg: float
) -> np.ndarray:
    """Transfer function of a Moffat PSF and of the pixel, shape (side, side // 2 + 1)."""
    psf = galsim.Moffat(beta=beta, fwhm=fwhm_px).shear(
        g=ellipticity, beta=(90 - pa_deg) * galsim.degrees
    )
    image = psf.drawImage(nx=side, ny=side, scale=1.0, method="no_pixel", use_true_center=False)
    kernel = np.roll(image.array, (-(side // 2), -(side // 2)), axis=(0, 1))
    ky, kx = _frequencies(side)
    # What the wings carry beyond the canvas belongs to the flux that is stated.
    transfer = scipy.fft.rfft2(kernel / kernel.sum()) * np.sinc(ky)[:, None] * np.sinc(kx)
    # A smooth end at the pixels' Nyquist frequency: a sharp one rings around bright stars.
    ends = [np.clip((0.5 - np.abs(k)) / 0.1, 0, 1) for k in (ky, kx)]
    soft = [end**2 * (3 - 2 * end) for end in ends]
    transfer *= soft[0][:, None] * soft[1]
    result: np.ndarray = transfer.astype(np.complex64)
    return result


def point(side: int, x: float, y: float) -> Light:
    """An unresolved source."""
    ky, kx = _frequencies(side)
    return Light(spectrum=_waves(ky, y)[:, None] * _waves(kx, x))


def _cusped(
    side: int, x: float, y: float, profile: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> Light:
    """A profile that peaks sharply at (x, y), about which it is symmetric, and nowhere else."""
    at = np.arange(side, dtype=np.float32)
    fall = np.float32(-0.5 / _WINDOW**2)
    wide, high = (np.exp(fall * (at - np.float32(c)) ** 2) for c in (x, y))
    stamp = profile(at[None, :], at[:, None]) * (1 - high[:, None] * wide)
    middle: Any = 0.0
    for (half, steps), hole in zip(_CUSP, (_CUSP[1][0], 0.0), strict=True):
        places, window, *waves = _cusp_waves(side, half, steps)
        light = profile(places[None, :] + np.float32(x), places[:, None] + np.float32(y))
        light *= window
        if hole:
            inside = np.abs(places) < hole
            light[np.ix_(inside, inside)] = 0
        # The profile is the same on both sides of its centre: only even terms remain.
        for sign, (up, across) in zip((1, -1), waves, strict=True):
            middle = middle + sign * (up @ light @ across)
    return Light(stamp=stamp, spectrum=point(side, x, y).spectrum * middle)


@functools.lru_cache(maxsize=8)
def _cusp_waves(side: int, half: float, steps: int) -> tuple[Any, ...]:
    """Places, window, and the cosines and sines of both axes."""
    places = ((np.arange(round(2 * half * steps)) + 0.5) / steps - half).astype(np.float32)
    window = np.exp(-0.5 / _WINDOW**2 * places**2) / steps
    waves = [_waves(frequency, places) for frequency in _frequencies(side)]
    return (
        places,
        (window[:, None] * window).astype(np.float32),
        (waves[0].real.copy(), waves[1].real.T.copy()),
        (waves[0].imag.copy(), waves[1].imag.T.copy()),
    )


def _thin(side: int, fine: np.ndarray) -> Light:
    """Light from samples that lie closer than pixels: its transform below their Nyquist."""
    whole = scipy.fft.rfft2(fine.astype(np.float32))
    half = side // 2
    rows = np.concatenate((whole[: side - half], whole[-half:]))[:, : half + 1]
    ky, kx = _frequencies(side)
    shift = 0.5 / _FINE - 0.5
    return Light(spectrum=rows * (_waves(ky, shift)[:, None] * _waves(kx, shift)) / _FINE**2)


def _fine_places(side: int) -> np.ndarray:
    places: np.ndarray = (np.arange(side * _FINE) + 0.5) / _FINE - 0.5
    return places.astype(np.float32)


@functools.lru_cache(maxsize=4096)
def _sersic_norm(n: float) -> tuple[float, float]:
    b = float(gammaincinv(2 * n, 0.5))
    return b, float(2 * math.pi * n * b ** (-2 * n) * gamma(2 * n))


def sersic(side: int, shape: Shape, n: float) -> Light:
    """A Sersic profile of unit flux.

    Equivalent to::

        galsim.Sersic(n, half_light_radius=size * sqrt(q)).shear(q=q, beta=...)
    """
    b, area = _sersic_norm(round(n, 4))
    q, power = shape.axis_ratio, np.float32(0.5 / n)
    along, across = np.float32(1 / shape.size**2), np.float32(1 / (shape.size * q) ** 2)
    peak, b32 = np.float32(1 / (area * shape.size**2 * q)), np.float32(-b)

    def profile(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        u, v = shape.axes(x, y)
        value = np.power(u * u * along + v * v * across, power)
        value *= b32
        np.exp(value, out=value)
        value *= peak
        light: np.ndarray = value
        return light

    return _cusped(side, shape.x, shape.y, profile)


def spiral(
    side: int,
    shape: Shape,
    *,
    arms: int,
    pitch_deg: float,
    clockwise: bool,
    phase: float,
    strength: float,
) -> Light:
    """An exponential disc with logarithmic arms, of unit flux.

    ``clockwise`` as in Galaxy Zoo: the galaxy seems to turn clockwise, its arms trail, shown with
    row 0 on top. Beyond half a scale length the arms hold the share ``strength`` of the light;
    over every ring it averages to the plain exponential disc.
    """
    h = shape.size / 1.678347
    q, sharp = shape.axis_ratio, 1.6
    peak = np.float32(1 / (2 * math.pi * h * h * q))
    core, full = np.float32(_ARM_CORE**2), np.float32(strength)
    wind = np.float32((1 if clockwise else -1) / math.tan(math.radians(pitch_deg)))
    mean = np.float32(full / ive(0, sharp))

    def smooth(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        u, v = shape.axes(x, y)
        r2 = (u * u + v * v * np.float32(1 / q**2)) * np.float32(1 / h**2)
        light: np.ndarray = np.exp(-np.sqrt(r2)) * peak * (1 - full * (r2 / (r2 + core)) ** 2)
        return light

    at = np.arange(side, dtype=np.float32)
    u, v = shape.axes(at[None, :], at[:, None])
    v *= np.float32(1 / q)
    r2 = (u * u + v * v) * np.float32(1 / h**2) + np.float32(1e-6)
    angle = np.arctan2(v, u) - wind * np.float32(0.5) * np.log(r2)
    ridge = np.exp(np.float32(sharp) * (np.cos(arms * angle + np.float32(phase)) - 1)) * mean
    disc = _cusped(side, shape.x, shape.y, smooth)
    in_arms = np.exp(-np.sqrt(r2)) * peak * (r2 / (r2 + core)) ** 2 * ridge
    return Light(stamp=disc.stamp + in_arms, spectrum=disc.spectrum)


def edge_on(side: int, shape: Shape, *, dust: float) -> Light:
    """A disc seen exactly from its edge, of unit flux: (R/h) K1(R/h) sech^2(z/z0).

    ``shape.size`` is 1.678 h, ``shape.axis_ratio`` is z0/h, and ``dust`` the depth of a lane that
    dims the plane.
    """
    h = shape.size / 1.678347
    z0 = h * shape.axis_ratio
    at = _fine_places(side)
    u, v = shape.axes(at[None, :], at[:, None])
    table, steps = _k1_table()
    places = np.minimum(np.abs(u) * np.float32(steps / h) + np.float32(0.5), len(table) - 1)
    radial = table[places.astype(np.int32)]
    # sech^2 by one exponential.
    fall = np.exp(np.abs(v) * np.float32(-2 / z0))
    upright = 4 * fall / (1 + fall) ** 2
    light = radial * upright * (1 - np.float32(dust) * upright)
    # Integrals: pi/2 * 2 h along, 2 z0 (1 - 2/3 dust) up.
    norm = math.pi * h * 2 * z0 * (1 - dust * 2 / 3)
    return _thin(side, light * np.float32(1 / norm))


@functools.lru_cache(maxsize=1)
def _k1_table() -> tuple[np.ndarray, int]:
    """Values of x K1(x), so close that the nearest will do, and their number per unit of x."""
    steps = 500
    x = np.arange(1, 20 * steps) / steps
    return np.concatenate(([1.0], x * k1(x))).astype(np.float32), steps


def lensed(side: int, lens: Shape, einstein: float, source: Shape, *, reach: float = 3.2) -> Light:
    """An exponential source behind a singular isothermal ellipsoid, normalised to unit flux.

    ``lens`` gives centre, axis ratio and position angle of the mass, ``einstein`` its radius in
    pixels, ``source`` the unlensed source in the same pixels. Rays are traced from 6 x 6 points
    of every pixel within ``reach`` Einstein radii.
    """
    steps = 3
    at = _fine_places(side)
    near = [np.flatnonzero(np.abs(at - c) <= reach * einstein) for c in (lens.y, lens.x)]
    within = ((np.arange(steps) + 0.5) / steps - 0.5) / _FINE
    y, x = ((at[i][:, None] + within).ravel() for i in near)
    x, y = x[None, :], y[:, None]
    u, v = (part.astype(np.float64) for part in lens.axes(x, y))
    q = min(lens.axis_ratio, 0.995)
    f, scale = math.sqrt(1 - q * q), einstein * math.sqrt(q)
    psi = np.sqrt(q * q * u * u + v * v) + 1e-9
    bent_u = u - scale / f * np.arctan(f * u / psi)
    bent_v = v - scale / f * np.arctanh(f * v / psi)
    angle = math.radians(lens.pa_deg)
    sin, cos = math.sin(angle), math.cos(angle)
    back_x = lens.x - bent_u * sin - bent_v * cos
    back_y = lens.y - bent_u * cos + bent_v * sin
    su, sv = source.axes(back_x, back_y)
    radius = np.sqrt(su * su + (sv / source.axis_ratio) ** 2) / source.size
    light = np.exp(-1.678347 * radius).reshape(len(near[0]), steps, len(near[1]), steps)
    fine = np.zeros((len(at), len(at)), np.float32)
    fine[np.ix_(*near)] = light.mean(axis=(1, 3))
    total = float(fine.sum()) / _FINE**2
    return _thin(side, fine / np.float32(total) if total > 0 else fine)
