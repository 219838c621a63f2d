"""Radio galaxies of known type and size, as FIRST or NVSS would see them.

Every source is two jets from a core. A jet is a ridge line with a brightness and a width along
it, filled with weighted points that are laid on the pixel grid and convolved with the beam.
Distributions and their limits: ``docs/explanation/simulate.md``.

References: Fanaroff & Riley 1974, MNRAS 167, 31P (classes); Becker, White & Helfand 1995, ApJ
450, 559 (FIRST); Condon et al. 1998, AJ 115, 1693 (NVSS); Porter & Scaife 2023, RASTI 2, 293
(MiraBest: sizes, fluxes, the making of 8-bit images).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
import scipy.fft

from skytwin.errors import UsageError
from skytwin.images import arrow
from skytwin.images.cutouts import Geometry
from skytwin.images.simulate_jets import Points, draw_source
from skytwin.images.simulate_sky import (
    POSITION_FIELDS,
    TILE,
    Batch,
    Columns,
    as_table,
    check_frame,
    choose,
    lognormal,
    mixture,
    object_rng,
    power_law,
    sky_positions,
    tile_rng,
)

__all__ = ["RADIO_MIX", "RadioSettings", "RadioSimulator", "as_published"]

#: Shares of the classes: MiraBest's, and unresolved sources.
RADIO_MIX: Mapping[str, float] = MappingProxyType(
    {
        "compact": 0.15,
        "FRI": 0.36,
        "FRII": 0.41,
        "hybrid": 0.023,
        "wide-angle-tail": 0.035,
        "head-tail": 0.012,
        "double-double": 0.01,
    }
)
_KIND = 1
_FR = {
    "FRI": "FRI",
    "FRII": "FRII",
    "hybrid": "Hybrid",
    "wide-angle-tail": "FRI",
    "head-tail": "FRI",
    "double-double": "FRII",
}
# Median largest angular size in arcsec and its scatter in e-folds. MiraBest's catalogue has 58 and
# 32 for FRI and FRII, but its images reach 1.6 and 1.3 times as far as its sizes say.
_SIZES = {
    "compact": (1.5, 0.6),
    "FRI": (85.0, 0.65),
    "FRII": (44.0, 0.80),
    "hybrid": (51.0, 0.46),
    "wide-angle-tail": (85.0, 0.50),
    "head-tail": (57.0, 0.45),
    "double-double": (150.0, 0.45),
}
# Median share of the flux in the core.
_CORES = {
    "compact": 0.0,
    "FRI": 0.05,
    "FRII": 0.03,
    "hybrid": 0.06,
    "wide-angle-tail": 0.08,
    "head-tail": 0.15,
    "double-double": 0.03,
}
_BENDS = {"wide-angle-tail": (20.0, 60.0), "head-tail": (78.0, 90.0)}
_LARGEST_ARCSEC = 260.0
# Shares of the noise and their scales, in beams.
_NOISE_SCALES = ((0.7, 0.27), (0.3, 1.17))


@dataclass(frozen=True, kw_only=True)
class RadioSettings:
    """What shapes a simulated radio survey.

    Attributes
    ----------
    size : int
        Pixels of a side.
    pixel_scale : float
        Arcsec per pixel.
    beam_arcsec : float
        Full width at half maximum of the round Gaussian beam.
    noise : float
        Median rms, Jy/beam; that of tiles scatters by 8 %.
    min_flux, max_flux : float
        Limits of the total flux, Jy.
    las_scale : float
        Factor on the angular sizes of MiraBest.
    neighbours : float
        Mean number of unrelated sources in a frame.
    sidelobes : float
        Height of the six-armed residual sidelobes relative to the beam, at most.
    eight_bit : bool
        Make images the way MiraBest was made: see `as_published`.
    band : str
    mix : tuple of (str, float)
        Shares of the classes.
    """

    size: int = 150
    pixel_scale: float = 1.8
    beam_arcsec: float = 5.4
    noise: float = 1.6e-4
    min_flux: float = 0.035
    max_flux: float = 3.0
    las_scale: float = 1.0
    neighbours: float = 0.5
    sidelobes: float = 0.008
    eight_bit: bool = False
    band: str = "1.4GHz"
    mix: tuple[tuple[str, float], ...] = field(default_factory=lambda: mixture(None, RADIO_MIX))

    def __post_init__(self) -> None:
        check_frame(self.size, 32, self.pixel_scale, 1.0)
        if not self.beam_arcsec >= 2 * self.pixel_scale:
            raise UsageError(
                f"beam of {self.beam_arcsec} arcsec on pixels of {self.pixel_scale} arcsec; "
                "expected at least 2 pixels: give a smaller --pixel-scale"
            )

    @property
    def largest_arcsec(self) -> float:
        """Sources are no larger than this, so that they fit into the frame."""
        return min(_LARGEST_ARCSEC * self.las_scale, 0.95 * self.size * self.pixel_scale)


@dataclass(frozen=True, kw_only=True)
class RadioSimulator:
    """A radio survey, tile by tile; see `skytwin.images.simulate_sky.Simulator`."""

    settings: RadioSettings = field(default_factory=RadioSettings)
    seed: int = 0

    @property
    def kind(self) -> str:
        """``"radio"``."""
        return "radio"

    @property
    def geometry(self) -> Geometry:
        """One band, Jy/beam; counts without a unit where ``eight_bit``."""
        s = self.settings
        return Geometry(
            shape=(1, s.size, s.size),
            dtype="uint8" if s.eight_bit else "float32",
            bands=(s.band,),
            unit=None if s.eight_bit else "Jy/beam",
            pixel_scale=s.pixel_scale,
        )

    def recipe(self) -> dict[str, Any]:
        """The settings."""
        return asdict(self.settings)

    def fields(self) -> Sequence[pa.Field]:
        """The columns of `truth`."""
        return _FIELDS

    def truth(self, tile: int) -> Columns:
        """The truth of a tile's objects."""
        s, rng = self.settings, tile_rng(self.seed, _KIND, tile)
        noise = s.noise * math.exp(0.08 * rng.standard_normal())
        sidelobes, angle = s.sidelobes * rng.random(), rng.uniform(0, 60)
        ra, dec = sky_positions(rng, self.seed, tile, s.size * s.pixel_scale / 3600)
        kinds = choose(rng, s.mix)
        pick = {name: kinds == name for name in RADIO_MIX}
        median, sigma = (np.array([_SIZES[kind][i] for kind in kinds]) for i in (0, 1))
        scale = np.where(pick["compact"], 1.0, s.las_scale)
        largest = np.where(pick["compact"], 0.6 * s.beam_arcsec, s.largest_arcsec)
        smallest = np.where(pick["compact"], 0.05, 1.1) * s.beam_arcsec
        las = lognormal(rng, median * scale, sigma, smallest, largest)
        flux = power_law(rng, 0.9, s.min_flux, s.max_flux)
        core = lognormal(rng, np.array([_CORES[k] or 0.01 for k in kinds]), 0.9, 1e-4, 0.6)
        core[pick["compact"]] = 0.0
        bend = np.abs(4.0 * rng.standard_normal(TILE))
        for name, (low, high) in _BENDS.items():
            bend = np.where(pick[name], rng.uniform(low, high, TILE), bend)
        arms = np.exp(-np.abs(0.2 * rng.standard_normal(TILE)))
        sides = np.exp(-np.abs(0.5 * rng.standard_normal(TILE)))
        for values in (bend, arms, sides):
            values[pick["compact"]] = np.nan
        centre = (s.size - 1) / 2 + rng.uniform(-0.5, 0.5, (2, TILE))
        return {
            "ra": ra,
            "dec": dec,
            "tile": np.full(TILE, tile),
            "x": centre[0],
            "y": centre[1],
            "morphology": kinds,
            "fr": np.array([_FR.get(kind) for kind in kinds], dtype=object),
            "flux": flux,
            "las_arcsec": las,
            "pa_deg": rng.uniform(0, 180, TILE),
            "core_fraction": core,
            "bend_deg": bend,
            "arm_ratio": arms,
            "side_flux_ratio": sides,
            "neighbours": rng.poisson(s.neighbours, TILE),
            "noise": np.full(TILE, noise),
            "beam_arcsec": np.full(TILE, s.beam_arcsec),
            "sidelobes": np.full(TILE, sidelobes),
            "sidelobe_pa_deg": np.full(TILE, angle),
        }

    def batch(self, tile: int, count: int = TILE) -> Batch:
        """The first objects of a tile without noise, and their truth."""
        truth = self.truth(tile)
        flux = self._draw(truth, count, noise=False)
        return Batch(flux=flux, truth=as_table(truth, self.fields(), count))

    def render(self, tile: int, count: int = TILE) -> np.ndarray:
        """The first objects of a tile with noise."""
        truth = self.truth(tile)
        images = self._draw(truth, count, noise=True)
        return as_published(images, float(truth["noise"][0])) if self.settings.eight_bit else images

    def _draw(self, truth: Columns, count: int, *, noise: bool) -> np.ndarray:
        s = self.settings
        side, tile = _canvas(s.size, s.beam_arcsec / s.pixel_scale), int(truth["tile"][0])
        grain = _grain(side, s.beam_arcsec / s.pixel_scale) * np.float32(truth["noise"][0])
        kernel = _beam(
            side,
            s.beam_arcsec / s.pixel_scale,
            float(truth["sidelobes"][0]),
            float(truth["sidelobe_pa_deg"][0]),
        )
        margin = (side - s.size) // 2
        inner = slice(margin, margin + s.size)
        images = np.empty((count, 1, s.size, s.size), np.float32)
        for slot in range(count):
            row = {name: values[slot] for name, values in truth.items()}
            rng = object_rng(self.seed, _KIND, tile * TILE + slot)
            points = draw_source(row, s.pixel_scale, rng)
            if row["neighbours"]:
                others = [_unrelated(s, rng) for _ in range(int(row["neighbours"]))]
                points = Points.join([points, *others])
            spectrum = scipy.fft.rfft2(points.on_grid(side, margin))
            spectrum *= kernel
            if noise:
                white = rng.standard_normal((*spectrum.shape, 2), dtype=np.float32)
                spectrum += white.view(np.complex64)[..., 0] * grain
            seen = scipy.fft.irfft2(spectrum, s=(side, side))
            images[slot, 0] = seen[inner, inner]
        return images


def as_published(images: np.ndarray, noise: float | np.ndarray) -> np.ndarray:
    """8-bit images as MiraBest's were made of FIRST's.

    What is fainter than 3 sigma, or outside the circle that touches the frame, is set to 0; the
    rest is scaled so that the brightest pixel is 255, and cut to integers. With astropy's
    sigma-clipped noise of the whole map, this gives 24 published images, whose FITS files are
    public, to the last pixel.

    Parameters
    ----------
    images : ndarray, shape (n, C, H, W)
        Flux.
    noise : float or ndarray, shape (n,)
        Rms of the noise, in the same unit.

    Returns
    -------
    ndarray, shape (n, C, H, W)
        uint8.
    """
    y, x = np.indices(images.shape[-2:]) - (np.array(images.shape[-2:]) / 2).reshape(2, 1, 1)
    limit = 3 * np.broadcast_to(np.asarray(noise, float), len(images)).reshape(-1, 1, 1, 1)
    kept = (images >= limit) & (np.hypot(x, y) <= images.shape[-1] / 2)
    clipped = np.where(kept, images, 0.0)
    peak = clipped.max(axis=(1, 2, 3), keepdims=True)
    return (255 * (clipped / np.where(peak > 0, peak, 1.0))).astype(np.uint8)


def _unrelated(s: RadioSettings, rng: np.random.Generator) -> Points:
    """A compact or slightly extended source anywhere in the frame."""
    half, scale = s.size / 2, s.pixel_scale
    flux = min(0.002 * rng.random() ** (-1 / 0.9), 0.1)
    x, y = rng.uniform(-half, half, 2) + half
    dx, dy = rng.normal(0, 0.25 * s.beam_arcsec / scale, 2)
    share = rng.uniform(0.4, 1.0)
    return Points(
        x=np.array([x + dx, x - dx]),
        y=np.array([y + dy, y - dy]),
        flux=flux * np.array([share, 1 - share]),
    )


def _canvas(size: int, beam_px: float) -> int:
    """Pixels of a side with a margin, so that what lies outside shines into the frame."""
    wanted = size + 2 * math.ceil(1.6 * beam_px)
    while (side := int(scipy.fft.next_fast_len(wanted, real=True))) % 2 != size % 2:
        wanted = side + 1
    return side


@functools.lru_cache(maxsize=8)
def _beam(side: int, beam_px: float, sidelobes: float, angle_deg: float) -> np.ndarray:
    """Transfer function from Jy per pixel to Jy/beam.

    Sidelobes have no net flux.
    """
    at = np.fft.fftfreq(side, 1 / side)
    y, x = np.meshgrid(at, at, indexing="ij")
    r = np.hypot(x, y)
    sigma = beam_px / math.sqrt(8 * math.log(2))
    spokes = np.exp(4 * (np.cos(6 * (np.arctan2(y, x) - math.radians(angle_deg))) - 1))
    waves = np.cos(2 * math.pi * r / (2.5 * beam_px)) / (1 + r / (4 * beam_px))
    pattern = np.where(r > beam_px, spokes * waves, 0.0)
    pattern -= pattern.mean()
    ky, kx = np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None, :]
    # In Fourier space, so that the flux is exact however few pixels sample the beam.
    gauss = 2 * math.pi * sigma**2 * np.exp(-2 * (math.pi * sigma) ** 2 * (ky**2 + kx**2))
    transfer = gauss + sidelobes * scipy.fft.rfft2(pattern).real
    return np.asarray(transfer, dtype=np.float32)


@functools.lru_cache(maxsize=8)
def _grain(side: int, beam_px: float) -> np.ndarray:
    """Amplitudes of the noise in Fourier space: with complex white noise they give rms 1.

    Its autocorrelation is the sum of two Gaussians that fits 24 FIRST images: most of the noise
    is finer than the beam, a third is coarser.
    """
    ky, kx = np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None, :]
    turns = (2 * math.pi * beam_px) ** 2 * (ky**2 + kx**2)
    power = sum(share * width**2 * np.exp(-turns * width**2) for share, width in _NOISE_SCALES)
    # Columns between the first and the last stand for two frequencies; each of the two real
    # numbers behind a complex one has the variance 1.
    twice = np.full(kx.shape, 2.0)
    twice[0, 0] = 1.0
    if side % 2 == 0:
        twice[0, -1] = 1.0
    variance = float((power * twice * 2).sum()) / side**4
    return np.sqrt(power / variance).astype(np.float32)


_NUMBER = pa.float32()
_FIELDS = (
    *POSITION_FIELDS,
    arrow.field("morphology", pa.string(), ucd="src.morph.type"),
    arrow.field("fr", pa.string(), description="Fanaroff-Riley class; null: compact"),
    arrow.field("flux", _NUMBER, unit="Jy", ucd="phot.flux.density", description="in all"),
    arrow.field(
        "las_arcsec",
        _NUMBER,
        unit="arcsec",
        ucd="phys.angSize",
        description="largest distance between two points of the ridge lines; compact: FWHM",
    ),
    arrow.field("pa_deg", _NUMBER, unit="deg", ucd="pos.posAng", description="of the axis, N to E"),
    arrow.field("core_fraction", _NUMBER, description="share of the flux"),
    arrow.field("bend_deg", _NUMBER, unit="deg", description="turn of each jet"),
    arrow.field("arm_ratio", _NUMBER, description="length, shorter to longer side"),
    arrow.field("side_flux_ratio", _NUMBER, description="flux, fainter to brighter side"),
    arrow.field("neighbours", pa.int32(), description="unrelated sources drawn in the frame"),
    arrow.field("noise", _NUMBER, unit="Jy/beam", description="rms"),
    arrow.field("beam_arcsec", _NUMBER, unit="arcsec", description="FWHM"),
    arrow.field("sidelobes", _NUMBER, description="residual sidelobes, relative to the beam"),
    arrow.field("sidelobe_pa_deg", _NUMBER, unit="deg"),
)
