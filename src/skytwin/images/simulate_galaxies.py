"""One object of a simulated optical survey: its components put together."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from skytwin.images.simulate_jets import Points
from skytwin.images.simulate_profiles import (
    Light,
    Scene,
    Shape,
    edge_on,
    lensed,
    point,
    sersic,
    spiral,
)
from skytwin.images.simulate_survey import OpticalSettings

__all__ = ["COMPONENTS", "draw_object"]

COMPONENTS = ("bulge", "disc", "companion", "tail", "arcs", "point")
_KNOTS = 8


def draw_object(
    row: Mapping[str, Any],
    parts: np.ndarray,
    settings: OpticalSettings,
    side: int,
    margin: int,
    rng: np.random.Generator,
) -> Scene:
    """The scene of one object of known truth, and of the neighbours drawn from ``rng``.

    ``parts`` is the flux of each of `COMPONENTS` in each band; the frame begins ``margin``
    pixels into the canvas of ``side`` pixels.
    """
    flux = dict(zip(COMPONENTS, parts, strict=True))
    scale = settings.pixel_scale
    scene = Scene(parts.shape[1], side)
    x, y = float(row["x"]) + margin, float(row["y"]) + margin
    if row["host"] != "star":
        shape = Shape(
            x=x,
            y=y,
            size=float(row["size_arcsec"]) / scale,
            axis_ratio=float(row["axis_ratio"]),
            pa_deg=float(row["pa_deg"]),
        )
        _galaxy(scene, row, flux, shape, rng)
        if row["morphology"] == "merger":
            _merger(scene, row, flux, shape, scale, rng)
        if row["morphology"] == "lens":
            _lens(scene, row, flux, shape, scale, rng)
    if row["host"] == "star" or row["agn_fraction"]:
        scene.add(point(side, x, y), flux["point"])
    if row["artefact"] == "saturated-star":
        where = margin + rng.uniform(0.1, 0.9, 2) * settings.size
        scene.add(point(side, *where), _colour(rng, rng.uniform(8.5, 12.0), settings.bands))
    for _ in range(int(row["neighbours"])):
        _neighbour(scene, settings, margin, rng)
    return scene


def _galaxy(
    scene: Scene,
    row: Mapping[str, Any],
    flux: Mapping[str, np.ndarray],
    shape: Shape,
    rng: np.random.Generator,
) -> None:
    side = scene.canvas.shape[-1]
    if row["host"] == "elliptical":
        scene.add(sersic(side, shape, float(row["sersic_n"])), flux["bulge"] + flux["disc"])
        return
    edge = row["host"] == "edge-on"
    bulge = Shape(
        x=shape.x,
        y=shape.y,
        size=max(0.6, shape.size * rng.uniform(0.12, 0.3)),
        axis_ratio=rng.uniform(0.6, 0.9) if edge else 0.5 + 0.5 * shape.axis_ratio,
        pa_deg=shape.pa_deg,
    )
    scene.add(sersic(side, bulge, rng.uniform(1.5, 3.0)), flux["bulge"])
    if edge:
        dust = rng.uniform(0.3, 0.85) if rng.random() < 0.5 else 0.0
        scene.add(edge_on(side, shape, dust=dust), flux["disc"])
        return
    strength, phase = float(row["arm_strength"]), rng.uniform(0, 2 * math.pi)
    disc = spiral(
        side,
        shape,
        arms=int(row["arms"]),
        pitch_deg=float(row["pitch_deg"]),
        clockwise=row["handedness"] == "clockwise",
        phase=phase,
        strength=strength,
    )
    knots = rng.uniform(0.0, 0.12) * strength
    scene.add(disc, flux["disc"] * (1 - knots))
    if knots:
        scene.add(_knots(side, shape, row, phase, rng), flux["disc"] * knots)


def _knots(
    side: int, shape: Shape, row: Mapping[str, Any], phase: float, rng: np.random.Generator
) -> Light:
    """Star-forming regions along the arms."""
    h, m = shape.size / 1.678347, int(row["arms"])
    radius = h * rng.uniform(0.7, 2.8, _KNOTS)
    wind = (1 if row["handedness"] == "clockwise" else -1) / math.tan(
        math.radians(float(row["pitch_deg"]))
    )
    angle = (2 * math.pi * rng.integers(0, m, _KNOTS) - phase) / m
    angle = angle + wind * np.log(radius / h) + rng.normal(0, 0.15, _KNOTS)
    u, v = radius * np.cos(angle), radius * np.sin(angle) * shape.axis_ratio
    turn = math.radians(shape.pa_deg)
    weights = rng.exponential(1.0, _KNOTS)
    return _points(
        side,
        shape.x - u * math.sin(turn) - v * math.cos(turn),
        shape.y - u * math.cos(turn) + v * math.sin(turn),
        weights / weights.sum(),
    )


def _merger(
    scene: Scene,
    row: Mapping[str, Any],
    flux: Mapping[str, np.ndarray],
    shape: Shape,
    scale: float,
    rng: np.random.Generator,
) -> None:
    """A second galaxy, and a tail from either."""
    side = scene.canvas.shape[-1]
    away, toward = float(row["companion_arcsec"]) / scale, math.radians(row["companion_pa_deg"])
    other = Shape(
        x=shape.x - away * math.sin(toward),
        y=shape.y - away * math.cos(toward),
        size=shape.size * rng.uniform(0.4, 0.9),
        axis_ratio=rng.uniform(0.3, 0.9),
        pa_deg=rng.uniform(0, 180),
    )
    scene.add(sersic(side, other, rng.choice([1.0, 1.5, 3.5])), flux["companion"])
    # Tails curve away from both, on opposite sides, and fade.
    s = np.linspace(0.02, 1, 60)
    sense = rng.choice([-1.0, 1.0])
    xs, ys, weights = [], [], []
    for start, way in ((shape, toward + math.pi), (other, toward)):
        length = shape.size * rng.uniform(2.0, 4.5)
        heading = way + sense * (rng.uniform(0.8, 2.2) * s - 0.6)
        step = length / len(s)
        ridge_x = start.x - np.cumsum(np.sin(heading)) * step
        ridge_y = start.y - np.cumsum(np.cos(heading)) * step
        for shift in np.linspace(-1.5, 1.5, 7):
            out = shift * (0.08 + 0.12 * s) * shape.size
            xs.append(ridge_x + out * np.cos(heading))
            ys.append(ridge_y - out * np.sin(heading))
            weights.append(np.exp(-s / 0.5 - 0.5 * shift**2))
    weight = np.concatenate(weights)
    tail = _points(side, np.concatenate(xs), np.concatenate(ys), weight / weight.sum())
    scene.add(tail, flux["tail"])


def _lens(
    scene: Scene,
    row: Mapping[str, Any],
    flux: Mapping[str, np.ndarray],
    shape: Shape,
    scale: float,
    rng: np.random.Generator,
) -> None:
    radius = float(row["einstein_arcsec"]) / scale
    off, way = radius * rng.uniform(0.0, 0.45), rng.uniform(0, 2 * math.pi)
    source = Shape(
        x=shape.x + off * math.cos(way),
        y=shape.y + off * math.sin(way),
        size=rng.uniform(0.15, 0.4) / scale,
        axis_ratio=rng.uniform(0.4, 1.0),
        pa_deg=rng.uniform(0, 180),
    )
    arcs = lensed(scene.canvas.shape[-1], shape, radius, source)
    scene.add(arcs, flux["arcs"])


def _neighbour(
    scene: Scene, settings: OpticalSettings, margin: int, rng: np.random.Generator
) -> None:
    """An unrelated star or galaxy, brighter ones rarer, anywhere in the frame."""
    side = scene.canvas.shape[-1]
    x, y = margin + rng.uniform(-0.5, settings.size - 0.5, 2)
    mag = 22.0 + math.log10(max(rng.random(), 1e-3)) / 0.35
    flux = _colour(rng, mag, settings.bands)
    if rng.random() < 0.45:
        scene.add(point(side, x, y), flux)
        return
    shape = Shape(
        x=x,
        y=y,
        size=rng.uniform(0.5, 1.3) * 10 ** (0.1 * (21 - mag)) / settings.pixel_scale,
        axis_ratio=rng.uniform(0.3, 1.0),
        pa_deg=rng.uniform(0, 180),
    )
    scene.add(sersic(side, shape, 1.0), flux)


def _colour(rng: np.random.Generator, mag: float, bands: tuple[str, ...]) -> np.ndarray:
    """Flux per band of something ordinary of an r magnitude."""
    tint = rng.uniform(0.15, 1.1)
    colours = {"u": 2.2 * tint, "g": tint, "r": 0.0, "i": -0.4 * tint, "z": -0.65 * tint}
    return np.array([10 ** (0.4 * (22.5 - mag - colours[band])) for band in bands])


def _points(side: int, x: np.ndarray, y: np.ndarray, flux: np.ndarray) -> Light:
    return Light(stamp=Points(x=x, y=y, flux=flux).on_grid(side, 0))
