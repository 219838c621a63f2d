"""Galaxies, stars and artefacts of known type, as SDSS would see them.

Distributions and their limits: ``docs/explanation/simulate.md``. Importing this needs GalSim.

References: Strateva et al. 2001, AJ 122, 1861 (colours); Shen et al. 2003, MNRAS 343, 978
(sizes); Lintott et al. 2008, MNRAS 389, 1179 (Galaxy Zoo's classes); York et al. 2000, AJ 120,
1579 (SDSS).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import scipy.fft

from skytwin.images import arrow
from skytwin.images.cutouts import Geometry
from skytwin.images.simulate_artefacts import ARTEFACTS, add_artefact
from skytwin.images.simulate_galaxies import COMPONENTS, draw_object
from skytwin.images.simulate_profiles import psf_transfer
from skytwin.images.simulate_sky import (
    POSITION_FIELDS,
    TILE,
    Batch,
    Columns,
    as_table,
    choose,
    lognormal,
    object_rng,
    sky_positions,
    tile_rng,
)
from skytwin.images.simulate_survey import OpticalSettings

__all__ = ["OpticalSimulator"]

_KIND = 2
_MARGIN = 16  # pixels around the frame whose light the PSF brings in
# Per band: rms of the sky and flux of an electron, nanomaggy (measured on SDSS frames; gain and
# zero point), seeing relative to r.
_DETECTOR: Mapping[str, tuple[float, float, float]] = {
    "u": (0.040, 0.0062, 1.10),
    "g": (0.0150, 0.00094, 1.07),
    "r": (0.0240, 0.00106, 1.00),
    "i": (0.0370, 0.00137, 0.96),
    "z": (0.150, 0.0072, 0.95),
}
# Magnitudes relative to r at redshift 0.1 (AB): old and young stars, an active nucleus.
_COLOURS: Mapping[str, tuple[float, float, float]] = {
    "u": (2.75, 1.45, 0.25),
    "g": (0.95, 0.40, 0.15),
    "r": (0.0, 0.0, 0.0),
    "i": (-0.41, -0.20, -0.10),
    "z": (-0.72, -0.32, -0.15),
}
_REDDENING = {"u": 2.5, "g": 2.2, "r": 0.0, "i": -0.5, "z": -0.8}  # of old stars, per redshift
_DISCS = ("disk", "edge-on")


@dataclass(frozen=True, kw_only=True)
class OpticalSimulator:
    """An optical survey, tile by tile; see `skytwin.images.simulate_sky.Simulator`."""

    settings: OpticalSettings = field(default_factory=OpticalSettings)
    seed: int = 0

    @property
    def kind(self) -> str:
        """``"optical"``."""
        return "optical"

    @property
    def geometry(self) -> Geometry:
        """Float32 nanomaggy."""
        s = self.settings
        return Geometry(
            shape=(len(s.bands), s.size, s.size),
            dtype="float32",
            bands=s.bands,
            unit="nanomaggy",
            pixel_scale=s.pixel_scale,
        )

    def recipe(self) -> dict[str, Any]:
        """The settings."""
        return asdict(self.settings)

    def fields(self) -> Sequence[pa.Field]:
        """The columns of `truth`."""
        per_band = []
        for band in self.settings.bands:
            per_band += [
                arrow.field(
                    f"flux_{band}",
                    _NUMBER,
                    unit="nanomaggy",
                    ucd=f"phot.flux;em.opt.{band.upper()}",
                ),
                arrow.field(f"mag_{band}", _NUMBER, unit="mag", ucd=f"phot.mag;em.opt.{band}"),
                arrow.field(f"noise_{band}", _NUMBER, unit="nanomaggy", description="sky rms"),
                arrow.field(f"seeing_{band}", _NUMBER, unit="arcsec", description="PSF FWHM"),
            ]
        return (*POSITION_FIELDS, *_FIELDS, *per_band)

    def truth(self, tile: int) -> Columns:
        """The truth of a tile's objects."""
        return self._plan(tile)[0]

    def batch(self, tile: int, count: int = TILE) -> Batch:
        """The first objects of a tile without noise, and their truth."""
        truth, parts = self._plan(tile)
        flux = self._draw(truth, parts, count, noise=False)
        return Batch(flux=flux, truth=as_table(truth, self.fields(), count))

    def render(self, tile: int, count: int = TILE) -> np.ndarray:
        """The first objects of a tile with noise and artefacts."""
        truth, parts = self._plan(tile)
        return self._draw(truth, parts, count, noise=True)

    def _plan(self, tile: int) -> tuple[Columns, np.ndarray]:
        """Truth, and the flux of each component in each band, shape (TILE, component, band)."""
        s, rng = self.settings, tile_rng(self.seed, _KIND, tile)
        seeing = float(lognormal(rng, 1.30, 0.14, 0.9, 2.0)[0])
        psf = rng.uniform((2.6, 0.0, 0.0), (4.5, 0.06, 180.0))
        sky = math.exp(0.08 * rng.standard_normal())
        ra, dec = sky_positions(rng, self.seed, tile, s.size * s.pixel_scale / 3600)
        kinds = choose(rng, s.mix)
        pick = {name: kinds == name for name, _ in s.mix}
        hosts = _hosts(rng, kinds, pick)
        disc = np.isin(hosts, _DISCS)
        # Euclidean counts within the limits, by inversion.
        low, high = (10 ** (0.6 * limit) for limit in s.mag_range)
        mag = np.log10(low + rng.random(TILE) * (high - low)) / 0.6
        redshift = lognormal(rng, 10 ** (-1.0 + 0.14 * (mag - 17)), 0.35, 0.01, 0.35)
        size = 10 ** (-0.13 * (mag - 17)) * lognormal(
            rng, np.where(hosts == "edge-on", 4.8, np.where(disc, 4.5, 3.3)), 0.32, 0.9, 12.0
        )
        face = rng.uniform(0.35, 1.0, TILE)  # cosine of the inclination
        thin = rng.uniform(0.14, 0.55, TILE)
        axis = np.where(disc, np.sqrt(face**2 * (1 - 0.15**2) + 0.15**2), 0.0)
        axis = np.where(hosts == "edge-on", thin, axis)
        axis = np.where(disc, axis, 1 - 0.75 * rng.beta(1.6, 2.0, TILE))
        truth: Columns = {
            "ra": ra,
            "dec": dec,
            "tile": np.full(TILE, tile),
            **dict(zip("xy", (s.size - 1) / 2 + rng.uniform(-0.7, 0.7, (2, TILE)), strict=True)),
            "morphology": kinds,
            "host": hosts,
            "redshift": redshift,
            "size_arcsec": size,
            "sersic_n": np.where(disc, 1.0, lognormal(rng, 3.8, 0.28, 2.0, 6.0)),
            "axis_ratio": axis,
            "inclination_deg": np.where(disc, np.degrees(np.arccos(face)), np.nan),
            "pa_deg": rng.uniform(0, 180, TILE),
            "bulge_fraction": np.where(disc, lognormal(rng, 0.16, 0.7, 0.01, 0.6), 1.0),
            "arm_strength": np.where(hosts == "disk", rng.beta(2, 1.6, TILE), np.nan),
            "arms": np.where(rng.random(TILE) < 0.85, 2, 3),
            "pitch_deg": rng.uniform(12, 32, TILE),
            "handedness": np.where(rng.random(TILE) < 0.5, "clockwise", "anticlockwise").astype(
                object
            ),
            "agn_fraction": _only(pick, "agn-host", rng.uniform(0.05, 0.7, TILE), 0.0),
            "companion_fraction": _only(pick, "merger", rng.uniform(0.12, 0.5, TILE), 0.0),
            "companion_arcsec": _only(pick, "merger", size * rng.uniform(0.8, 2.4, TILE)),
            "companion_pa_deg": _only(pick, "merger", rng.uniform(0, 360, TILE)),
            "tail_fraction": _only(pick, "merger", rng.uniform(0.02, 0.2, TILE), 0.0),
            "einstein_arcsec": _only(pick, "lens", lognormal(rng, 2.0, 0.35, 1.1, 5.0)),
            "arc_fraction": _only(pick, "lens", rng.uniform(0.08, 0.4, TILE), 0.0),
            "artefact": rng.choice(np.array(ARTEFACTS, dtype=object), TILE),
            "neighbours": rng.poisson(s.neighbours * s.size**2 * (s.pixel_scale / 3600) ** 2, TILE),
            "psf_beta": np.full(TILE, psf[0]),
            "psf_ellipticity": np.full(TILE, psf[1]),
            "psf_pa_deg": np.full(TILE, psf[2]),
        }
        truth["inclination_deg"][hosts == "edge-on"] = 90.0
        _blank(truth, hosts == "star", ("redshift", "size_arcsec", "sersic_n", "axis_ratio",
                                        "pa_deg", "bulge_fraction"))  # fmt: skip
        _blank(truth, hosts != "disk", ("handedness", "pitch_deg"))
        truth["arms"][hosts != "disk"] = 0
        _blank(truth, ~pick.get("artefact", np.zeros(TILE, bool)), ("artefact",))
        parts = self._parts(rng, truth, 10 ** (0.4 * (22.5 - mag)))
        for band, flux in zip(s.bands, parts.sum(axis=1).T, strict=True):
            truth[f"flux_{band}"] = flux
            truth[f"mag_{band}"] = 22.5 - 2.5 * np.log10(flux)
            rms, _, blur = _DETECTOR[band]
            rms *= sky * s.pixel_scale / 0.396 / s.depth
            truth[f"noise_{band}"] = np.full(TILE, rms)
            truth[f"seeing_{band}"] = np.full(TILE, seeing * blur)
        return truth, parts

    def _parts(self, rng: np.random.Generator, truth: Columns, flux_r: np.ndarray) -> np.ndarray:
        """Flux by component and band; colours from the age of each component's stars."""
        hosts, bulge = truth["host"], np.nan_to_num(truth["bulge_fraction"])
        galaxy = 1 - truth["agn_fraction"] - truth["companion_fraction"] - truth["arc_fraction"]
        galaxy -= truth["tail_fraction"]
        galaxy[hosts == "star"] = 0.0
        arms = np.nan_to_num(truth["arm_strength"])
        share = {
            "bulge": galaxy * bulge,
            "disc": galaxy * (1 - bulge),
            "companion": truth["companion_fraction"],
            "tail": truth["tail_fraction"],
            "arcs": truth["arc_fraction"],
            "point": np.where(hosts == "star", 1.0, truth["agn_fraction"]),
        }
        youth = rng.beta(2.0, 1.6, TILE)  # of the discs
        young = {
            "bulge": np.where(np.isin(hosts, _DISCS), 0.25 * youth, 0.0)
            + 0.20 * np.abs(rng.standard_normal(TILE)),
            "disc": np.clip(0.15 + 0.85 * youth + 0.1 * arms, 0, 1.15),
            "companion": rng.random(TILE),
            "tail": 0.4 + 0.6 * youth,
            "arcs": rng.uniform(0.8, 1.3, TILE),
            "point": np.zeros(TILE),
        }
        scatter = 0.07 * rng.standard_normal(TILE)
        locus = rng.beta(1.2, 1.5, TILE)  # of the stars
        old_redshift = np.nan_to_num(truth["redshift"], nan=0.1) - 0.1
        parts = np.empty((TILE, len(COMPONENTS), len(self.settings.bands)))
        for b, band in enumerate(self.settings.bands):
            old, fresh, nucleus = _COLOURS[band]
            for c, name in enumerate(COMPONENTS):
                age = young[name]
                colour = old + (fresh - old) * age
                colour = colour + _REDDENING[band] * old_redshift * np.clip(1 - age, 0, 1)
                if name == "point":
                    colour = np.where(hosts == "star", _star_colour(band, locus), nucleus)
                colour = colour + scatter * (band in "ug")
                parts[:, c, b] = flux_r * share[name] * 10 ** (-0.4 * colour)
        return parts

    def _draw(self, truth: Columns, parts: np.ndarray, count: int, *, noise: bool) -> np.ndarray:
        s, tile = self.settings, int(truth["tile"][0])
        side = scipy.fft.next_fast_len(s.size + 2 * _MARGIN, real=True)
        margin = (side - s.size) // 2
        inner = slice(margin, margin + s.size)
        transfer = np.stack(
            [
                psf_transfer(
                    side,
                    float(truth[f"seeing_{band}"][0]) / s.pixel_scale,
                    *(float(truth[f"psf_{part}"][0]) for part in ("beta", "ellipticity", "pa_deg")),
                )
                for band in s.bands
            ]
        )
        rms = np.array([truth[f"noise_{band}"][0] for band in s.bands], np.float32)
        electron = np.array([_DETECTOR[band][1] / s.depth**2 for band in s.bands], np.float32)
        variance, electron = (rms**2).reshape(-1, 1, 1), electron.reshape(-1, 1, 1)
        images = np.empty((count, len(s.bands), s.size, s.size), np.float32)
        for slot in range(count):
            row = {name: values[slot] for name, values in truth.items()}
            rng = object_rng(self.seed, _KIND, tile * TILE + slot)
            scene = draw_object(row, parts[slot], s, side, margin, rng)
            image = scene.seen(transfer)[:, inner, inner]
            if noise:
                image = np.ascontiguousarray(image)
                spread = np.maximum(image, 0)
                spread *= electron
                spread += variance
                np.sqrt(spread, out=spread)
                spread *= rng.standard_normal(image.shape, dtype=np.float32)
                image += spread
                if row["artefact"] is not None:
                    add_artefact(row["artefact"], image, rms, rng)
            images[slot] = image
        return images


def _hosts(
    rng: np.random.Generator, kinds: np.ndarray, pick: Mapping[str, np.ndarray]
) -> np.ndarray:
    """What kind of light the class is made of."""
    hosts = kinds.copy()
    mixed = np.isin(kinds, ("merger", "agn-host", "artefact"))
    drawn = np.where(rng.random(TILE) < 0.5, "disk", "elliptical").astype(object)
    hosts[mixed] = drawn[mixed]
    if "lens" in pick:
        hosts[pick["lens"]] = "elliptical"
    return hosts


def _only(
    pick: Mapping[str, np.ndarray], kind: str, values: np.ndarray, other: float = math.nan
) -> np.ndarray:
    return np.where(pick[kind], values, other) if kind in pick else np.full(TILE, other)


def _blank(truth: Columns, where: np.ndarray, names: Sequence[str]) -> None:
    for name in names:
        truth[name][where] = None if truth[name].dtype == object else np.nan


def _star_colour(band: str, locus: np.ndarray) -> np.ndarray:
    """The stellar locus, blue (0) to red (1), relative to r."""
    red = 0.15 + 1.25 * locus
    infra = 0.05 + 0.35 * locus + 0.9 * np.clip(locus - 0.7, 0, None)
    colours: dict[str, np.ndarray] = {
        "u": red + 0.9 + 1.4 * locus,
        "g": red,
        "r": np.zeros_like(locus),
        "i": -infra,
        "z": -1.6 * infra,
    }
    return colours[band]


_NUMBER = pa.float32()
_FIELDS = (
    arrow.field("morphology", pa.string(), ucd="src.morph.type"),
    arrow.field("host", pa.string(), description="light it is made of"),
    arrow.field("redshift", _NUMBER, ucd="src.redshift"),
    arrow.field(
        "size_arcsec",
        _NUMBER,
        unit="arcsec",
        ucd="phys.angSize",
        description="half-light radius of the elliptical or of the disc, major axis",
    ),
    arrow.field("sersic_n", _NUMBER, description="1: exponential disc"),
    arrow.field("axis_ratio", _NUMBER, description="edge-on: sech2 height over scale length"),
    arrow.field("inclination_deg", _NUMBER, unit="deg", description="of a disc; 90: edge-on"),
    arrow.field("pa_deg", _NUMBER, unit="deg", ucd="pos.posAng", description="N to E"),
    arrow.field("bulge_fraction", _NUMBER, description="of the galaxy's light in r"),
    arrow.field("arm_strength", _NUMBER, description="share of the full contrast of the arms"),
    arrow.field("arms", pa.int32()),
    arrow.field("pitch_deg", _NUMBER, unit="deg"),
    arrow.field("handedness", pa.string(), description="sense of turning, if arms trail"),
    arrow.field("agn_fraction", _NUMBER, description="share of r in the nucleus"),
    arrow.field("companion_fraction", _NUMBER, description="share of r"),
    arrow.field("companion_arcsec", _NUMBER, unit="arcsec", description="separation"),
    arrow.field("companion_pa_deg", _NUMBER, unit="deg", description="direction to it, N to E"),
    arrow.field("tail_fraction", _NUMBER, description="share of r in tidal tails"),
    arrow.field("einstein_arcsec", _NUMBER, unit="arcsec", description="Einstein radius"),
    arrow.field("arc_fraction", _NUMBER, description="share of r in lensed arcs"),
    arrow.field("artefact", pa.string()),
    arrow.field("neighbours", pa.int32(), description="unrelated objects in the frame"),
    arrow.field("psf_beta", _NUMBER, description="Moffat exponent"),
    arrow.field("psf_ellipticity", _NUMBER, description="reduced shear"),
    arrow.field("psf_pa_deg", _NUMBER, unit="deg"),
)
