"""What goes wrong in an image: trails, cosmic rays, saturated stars, edges, bad columns."""

from __future__ import annotations

import math

import numpy as np

__all__ = ["ARTEFACTS", "add_artefact"]

ARTEFACTS = (
    "trail",
    "cosmic-rays",
    "saturated-star",
    "edge",
    "hot-columns",
    "scattered-light",
)
_FULL_WELL = 60.0  # nanomaggy per pixel of SDSS's saturation


def add_artefact(kind: str, image: np.ndarray, rms: np.ndarray, rng: np.random.Generator) -> None:
    """Spoil an image, shape (C, H, W), in place; ``rms`` is the noise of each band.

    SDSS takes its bands minutes apart, so trails and cosmic rays are in one of them.
    """
    bands, height, width = image.shape
    band = int(rng.integers(bands))
    y, x = np.indices((height, width), dtype=np.float32)
    if kind == "trail":
        angle = rng.uniform(0, math.pi)
        away = (x - rng.uniform(0.2, 0.8) * width) * math.sin(angle)
        away = away - (y - rng.uniform(0.2, 0.8) * height) * math.cos(angle)
        profile = np.exp(-0.5 * (away / rng.uniform(1.2, 2.0)) ** 2)
        image[band] += rms[band] * rng.uniform(20, 200) * profile
    elif kind == "cosmic-rays":
        for _ in range(int(rng.integers(2, 10))):
            hit = int(rng.integers(bands))
            length, angle = rng.exponential(5.0) + 1, rng.uniform(0, 2 * math.pi)
            along = np.arange(0, length, 0.5)
            columns = (rng.uniform(0, width) + along * math.cos(angle)).astype(int)
            rows = (rng.uniform(0, height) + along * math.sin(angle)).astype(int)
            inside = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
            image[hit, rows[inside], columns[inside]] += rms[hit] * rng.uniform(50, 500)
    elif kind == "saturated-star":
        _bleed(image, x, y)
    elif kind == "edge":
        side, depth = int(rng.integers(4)), rng.uniform(0.15, 0.6)
        across = (x / width, 1 - x / width, y / height, 1 - y / height)[side]
        image[:, across < depth] = np.nan
    elif kind == "hot-columns":
        for column in rng.integers(0, width, int(rng.integers(1, 4))):
            image[band, :, column] += rms[band] * rng.uniform(10, 100)
    else:
        angle = rng.uniform(0, 2 * math.pi)
        slope = (x * math.cos(angle) + y * math.sin(angle)) / width
        glow = np.exp(rng.uniform(0.5, 2.5) * (slope - slope.max()))
        image += glow * (rms * rng.uniform(2, 12, bands))[:, None, None].astype(np.float32)


def _bleed(image: np.ndarray, x: np.ndarray, y: np.ndarray) -> None:
    """Spikes, a clipped core, and charge that runs down the columns."""
    row, column = np.unravel_index(int(np.argmax(image[0])), image.shape[1:])
    for band in image:
        excess = float((band - _FULL_WELL).clip(min=0).sum())
        dx, dy = np.abs(x - column), np.abs(y - row)
        reach = 4 + 0.12 * math.sqrt(excess)
        spikes = np.exp(-(dx + dy) / reach) * (np.exp(-(dx**2)) + np.exp(-(dy**2)))
        band += 0.02 * _FULL_WELL * spikes * min(excess / 2000, 5)
        np.minimum(band, _FULL_WELL, out=band)
        length = excess / _FULL_WELL / 6
        band[(dx < 1.5) & (dy < length)] = _FULL_WELL
