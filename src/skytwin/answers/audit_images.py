"""What can be measured on an image without knowing what it shows, for `skytwin.audit`.

Two kinds of numbers. Those of the frame (background, noise, gaps, borders, seams, saturation) are
measured away from the object, so that a large galaxy moves them as little as possible. Those of
the object (flux, size, concentration, shape, colour, neighbours) come from the source nearest the
centre as sep finds it (Barbary 2016, JOSS 1, 58, after Bertin & Arnouts 1996).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import cv2
import numpy as np
import sep

from skytwin.images.framing import central

__all__ = ["DEFECT", "FRAME", "OBJECT", "background", "measure_images", "row_median"]

DEFECT, FRAME, OBJECT = "defect", "frame", "object"

_CLIP, _CLIPS = 3.0, 5
# Of the width: a seam must show in each of these, and no object fills them all alike.
_PARTS = ((0.0, 0.15), (0.15, 0.3), (0.3, 0.5), (0.5, 0.7), (0.7, 0.85), (0.85, 1.0))
_REACH = 2  # rows on either side that a seam's step is measured over
_SEAM = 1.5  # pixel noises: less is not called a seam, smooth light makes as much
_THRESHOLD = 3.0  # sigma, of the detection
_MIN_AREA = 5  # pixels
_SAMPLE = 3000  # pixels for level and noise
_LARGEST = 192  # pixels of a side for shapes: larger frames are shrunk first


def measure_images(
    flux: np.ndarray, bands: Sequence[str], *, crop: int | None = None, top: float | None = None
) -> dict[str, tuple[str, np.ndarray]]:
    """Covariates of some images.

    Parameters
    ----------
    flux : ndarray, shape (n, C, H, W)
        NaN and infinities are no data.
    bands : sequence of str, length C
    crop : int, optional
        Measure on the central pixels only: what the encoder sees.
    top : float, optional
        The largest value that a pixel can hold (255 of 8-bit pictures): such pixels count as
        saturated. Without it, those that share their band's highest value, if several do.

    Returns
    -------
    dict of str to (kind, ndarray of shape (n,), float64)
        Kind is `FRAME` or `OBJECT`. NaN where it cannot be measured.
    """
    x = np.array(flux, dtype=np.float32)
    if crop is not None:
        x = central(x, crop)
    bad = ~np.isfinite(x)
    x = np.where(bad, np.float32(np.nan), x)
    found = _gaps(x, bad, top)
    level, noise = background(x)
    # An image of one value has no noise; what is measured in its units is then undefined.
    unit = np.where(noise > 0, noise, np.nan)
    for place, band in enumerate(bands):
        found[f"background {band}"] = (FRAME, level[:, place])
        found[f"noise {band}"] = (FRAME, noise[:, place])
    flat = x - level[:, :, None, None].astype(np.float32)
    found |= _edges(flat, unit)
    found |= _objects(flat, np.asarray(bad.any(axis=1)), tuple(bands))
    return found


def background(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Level and pixel noise outside the central circle, each (n, C) float64.

    The level is the mean within 3 sigma of the median, by the width of the fainter half, which
    the object's light does not widen; the noise is that of differences between neighbours, in
    which smooth light cancels. Both come in fractions of a step of 8-bit pictures.
    """
    height, width = x.shape[2:]
    rows, columns = np.mgrid[:height, :width]
    away = np.hypot(rows - height // 2, columns - width // 2) > 0.4 * min(height, width)
    if away.sum() < 16:
        away = np.ones_like(away)
    places = np.flatnonzero(away & (columns < width - 1))
    places = places[:: max(1, len(places) // _SAMPLE)]
    plain = x.reshape(*x.shape[:2], -1)
    here = plain[..., places]
    steps = np.sort(np.abs(plain[..., places + 1] - here), axis=-1)
    return clipped_mean(here), _width(steps) / np.sqrt(2)


def _width(steps: np.ndarray) -> np.ndarray:
    """Root mean square of sorted sizes (..., m) within four times their 68th percentile."""
    high = np.isfinite(steps).sum(axis=-1)
    scale = _between(steps, np.zeros_like(high), high, 0.683)
    reach = 4 * np.where(scale > 0, scale, np.inf)
    with np.errstate(invalid="ignore"):
        inside = steps <= reach[..., None]
    squares = np.where(inside, steps, 0).astype(np.float64) ** 2
    count = inside.sum(axis=-1)
    mean = np.divide(squares.sum(axis=-1), count, out=np.zeros(count.shape), where=count > 0)
    return np.where(high > 0, np.sqrt(mean), np.nan)


def clipped_mean(values: np.ndarray) -> np.ndarray:
    """Mean of the last axis within 3 sigma of its median, NaN left out; NaN of nothing."""
    order = np.sort(values, axis=-1)
    low = np.zeros(order.shape[:-1], dtype=np.int64)
    high = np.isfinite(order).sum(axis=-1)
    for _ in range(_CLIPS):
        median = _between(order, low, high, 0.5)
        sigma = median - _between(order, low, high, 0.1587)
        reach = _CLIP * np.where(sigma > 0, sigma, np.inf)
        with np.errstate(invalid="ignore"):
            new_low = (order < (median - reach)[..., None]).sum(axis=-1)
            new_high = (order <= (median + reach)[..., None]).sum(axis=-1)
        if np.array_equal(new_low, low) and np.array_equal(new_high, high):
            break
        low, high = new_low, new_high
    place = np.arange(order.shape[-1])
    inside = (place >= low[..., None]) & (place < high[..., None])
    total = np.where(inside, order, 0).sum(axis=-1, dtype=np.float64)
    count = inside.sum(axis=-1)
    mean = np.divide(total, count, out=np.zeros(count.shape), where=count > 0)
    return np.where(count > 0, mean, np.nan)


def row_median(values: np.ndarray) -> np.ndarray:
    """Median of the last axis, NaN left out; NaN of nothing. Float64."""
    order = np.sort(values, axis=-1)
    high = np.isfinite(order).sum(axis=-1)
    return _between(order, np.zeros_like(high), high, 0.5)


def _between(order: np.ndarray, low: np.ndarray, high: np.ndarray, share: float) -> np.ndarray:
    """Quantile of the sorted values from place ``low`` to before ``high``."""
    last = max(order.shape[-1] - 1, 0)
    if not order.shape[-1]:
        return np.full(order.shape[:-1], np.nan)
    place = low + share * np.maximum(high - 1 - low, 0)
    under = np.clip(np.floor(place).astype(np.int64), 0, last)
    over = np.clip(np.ceil(place).astype(np.int64), 0, last)
    one, two = (
        np.take_along_axis(order, p[..., None], axis=-1)[..., 0].astype(np.float64)
        for p in (under, over)
    )
    return np.where(high > low, one + (two - one) * (place - under), np.nan)


def _gaps(x: np.ndarray, bad: np.ndarray, top: float | None) -> dict[str, tuple[str, np.ndarray]]:
    """Shares of pixels without data, of zeros, and of saturated ones."""
    height, width = x.shape[2:]
    ring = np.ones((height, width), dtype=bool)
    edge = _ring(height, width)
    ring[edge:-edge, edge:-edge] = False
    missing = np.asarray(bad.any(axis=1))
    zero = (x == 0).all(axis=1)
    highest = np.fmax.reduce(x.reshape(*x.shape[:2], -1), axis=-1)[..., None, None]
    if top is None:
        at_top = x == highest
        count = at_top.sum(axis=(2, 3))
        saturated = np.where(count > 1, count, 0).max(axis=1) / (height * width)
    else:
        saturated = (x >= top).mean(axis=(2, 3)).max(axis=1)
    return {
        "gaps": (DEFECT, missing.mean(axis=(1, 2))),
        "gaps at border": (DEFECT, missing[:, ring].mean(axis=1)),
        "zeros": (FRAME, zero.mean(axis=(1, 2))),
        "saturated": (FRAME, saturated),
    }


def _ring(height: int, width: int) -> int:
    return max(1, min(height, width) // 24)


def _edges(flat: np.ndarray, unit: np.ndarray) -> dict[str, tuple[str, np.ndarray]]:
    """Steps at the border, seams and tilt, the largest of the bands, in units of pixel noise."""
    height, width = flat.shape[2:]
    edge = _ring(height, width)
    outer = np.zeros((height, width), dtype=bool)
    inner = np.zeros_like(outer)
    outer[:] = True
    outer[edge:-edge, edge:-edge] = False
    inner[edge:-edge, edge:-edge] = True
    inner[3 * edge : -3 * edge, 3 * edge : -3 * edge] = False
    border = (row_median(flat[:, :, outer]) - row_median(flat[:, :, inner])) / unit
    step, line = _seams(flat)
    tall, wide = max(1, height // 8), max(1, width // 8)
    sides = [
        row_median(part.reshape(*flat.shape[:2], -1))
        for part in (
            flat[:, :, :tall],
            flat[:, :, -tall:],
            flat[..., :wide],
            flat[..., -wide:],
        )
    ]
    tilt = np.maximum(np.abs(sides[0] - sides[1]), np.abs(sides[2] - sides[3])) / unit
    return {
        "border step": (FRAME, _largest(border)),
        "seam step": (DEFECT, _above(_largest(step / unit))),
        "seam line": (DEFECT, _above(_largest(line / unit))),
        "background tilt": (FRAME, _largest(tilt)),
    }


def _largest(values: np.ndarray) -> np.ndarray:
    """Of the bands the value farthest from 0, its sign kept, (n, C) -> (n,)."""
    place = np.where(np.isnan(values), -1.0, np.abs(values)).argmax(axis=1)
    return np.asarray(np.take_along_axis(values, place[:, None], axis=1)[:, 0])


def _above(seam: np.ndarray) -> np.ndarray:
    return np.asarray(np.where(seam < _SEAM, 0.0, seam))


def _seams(flat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Largest step and largest line across the frame, each (n, C), in flux.

    A step is a difference of level between the rows (or columns) before and after; a line
    differs from what lies on both sides of it. Either counts only as far as all six parts of
    the row show it alike: a seam runs through, an object does not.
    """
    best_step = np.zeros(flat.shape[:2])
    best_line = np.zeros(flat.shape[:2])
    for image in (flat, np.swapaxes(flat, 2, 3)):
        length, across = image.shape[2:]
        margin, reach = _ring(length, across), _REACH  # the outermost rows are the border's
        if length < 2 * margin + 4 * reach + 1:
            continue
        cuts = [(round(a * across), round(b * across)) for a, b in _PARTS]
        parts = np.stack([row_median(image[..., a:b]) for a, b in cuts])
        centre = np.arange(margin + 2 * reach, length - margin - 2 * reach + 1)
        total = np.cumsum(parts, axis=-1)
        total = np.concatenate([np.zeros_like(total[..., :1]), total], axis=-1)
        rise = [
            total[..., at + reach] - 2 * total[..., at] + total[..., at - reach]
            for at in (centre, centre - reach, centre + reach)
        ]
        # Light that falls off smoothly rises as much a little before and after.
        step = (rise[0] - (rise[1] + rise[2]) / 2) / reach
        best_step = np.fmax(best_step, _lopsided(_shared(step)))
        row = np.arange(margin + 2, length - margin - 2)
        # A line through the middle may be a galaxy seen from its edge.
        row = row[np.abs(row - length // 2) > length // 8]
        low, high = (parts[..., row] - parts[..., row + d] for d in (-2, 2))
        line = np.where(low * high > 0, np.where(np.abs(low) < np.abs(high), low, high), 0.0)
        best_line = np.fmax(best_line, np.abs(_shared(line)).max(axis=-1))
    return best_step, best_line


def _shared(parts: np.ndarray) -> np.ndarray:
    """What all parts have in common, with its sign, (parts, n, C, places) -> (n, C, places)."""
    size = np.abs(parts).min(axis=0)
    alike = (np.sign(parts) == np.sign(parts[0])).all(axis=0)
    return np.where(alike & np.isfinite(size), np.copysign(size, parts[0]), 0.0)


def _lopsided(steps: np.ndarray) -> np.ndarray:
    """The largest step, less that of the other sign half a turn away, (n, C, places) -> (n, C).

    The light of an object that fills the frame steps up to its centre and down beyond it.
    """
    wide = np.pad(steps[..., ::-1], [(0, 0), (0, 0), (2, 2)])
    near = np.lib.stride_tricks.sliding_window_view(wide, 5, axis=-1)
    answer = np.where(steps > 0, -near.min(axis=-1), near.max(axis=-1)).clip(min=0)
    return np.asarray((np.abs(steps) - answer).clip(min=0).max(axis=-1))


def _objects(
    flat: np.ndarray, bad: np.ndarray, bands: tuple[str, ...]
) -> dict[str, tuple[str, np.ndarray]]:
    """Flux, size, shape and colours of the central source, and its neighbours."""
    names = ["flux", "signal to noise", "half-light radius", "concentration", "axis ratio"]
    names += ["asymmetry", "peak", "neighbours"]
    pairs = list(itertools.pairwise(bands))
    names += [f"colour {one}, {two}" for one, two in pairs]
    rows = np.array([_object(image, gap, len(pairs)) for image, gap in zip(flat, bad, strict=True)])
    rows = rows.reshape(len(flat), len(names))
    return {name: (OBJECT, rows[:, place]) for place, name in enumerate(names)}


def _object(image: np.ndarray, gap: np.ndarray, pairs: int) -> list[float]:
    """Numbers of one image (C, H, W), background taken off; NaN where no source is found."""
    nothing = [np.nan] * 7
    shrink = max(1.0, max(image.shape[1:]) / _LARGEST)
    if shrink > 1:
        size = (round(image.shape[2] / shrink), round(image.shape[1] / shrink))
        gap = cv2.resize(gap.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST_EXACT) > 0
        filled = np.nan_to_num(image)
        image = np.stack([cv2.resize(b, size, interpolation=cv2.INTER_AREA) for b in filled])
    # What lies in a gap is masked below; its value must only be finite.
    clean = np.nan_to_num(image, nan=0.0)
    light = np.ascontiguousarray(clean.mean(axis=0), dtype=np.float32)
    noise = _scatter(light[~gap])
    if not noise > 0:
        return [*nothing, 0.0, *[np.nan] * pairs]
    found, segments = sep.extract(
        light,
        _THRESHOLD,
        err=noise,
        mask=gap,
        minarea=_MIN_AREA,
        deblend_cont=0.01,
        segmentation_map=True,
    )
    height, width = light.shape
    if not len(found):
        return [*nothing, 0.0, *[np.nan] * pairs]
    apart = np.hypot(found["x"] - width // 2, found["y"] - height // 2)
    own = int(segments[height // 2, width // 2])
    chosen = own - 1 if own > 0 else int(apart.argmin())
    if apart[chosen] > 0.25 * min(height, width) and own == 0:
        return [*nothing, float(len(found)), *[np.nan] * pairs]
    source = found[chosen]
    mine = segments == chosen + 1
    total = light[mine].sum(dtype=np.float64)
    radii = _radii(light, gap | ((segments > 0) & ~mine), source)
    sums = clean[:, mine].sum(axis=1, dtype=np.float64)
    reach = np.abs(sums[:-1]) + np.abs(sums[1:])
    with np.errstate(invalid="ignore", divide="ignore"):
        colours = (sums[:-1] - sums[1:]) / reach
        concentration = 5 * np.log10(radii[2] / radii[0])
    return [
        float(total),
        float(total / (noise * np.sqrt(mine.sum()))),
        float(radii[1] * shrink),
        float(concentration),
        float(source["b"] / source["a"]) if source["a"] > 0 else np.nan,
        _asymmetry(light, mine),
        float(source["peak"]),
        float(len(found) - 1),
        *map(float, colours),
    ]


def _scatter(values: np.ndarray) -> float:
    """Width of the fainter half: that of the sky, correlated from pixel to pixel or not."""
    if not values.size:
        return 0.0
    low, middle = np.quantile(values, [0.1587, 0.5]) if values.size > 1 else (0.0, 0.0)
    faint = values[values < middle]
    # More than a third of the pixels alike: rounded, or an empty frame.
    return float(middle - low) or float(
        np.sqrt(np.mean((faint - middle) ** 2)) if faint.size else 0
    )


def _radii(light: np.ndarray, mask: np.ndarray, source: np.void) -> np.ndarray:
    """Radii within which lie 20, 50 and 80 % of the light, in pixels (Bershady et al. 2000)."""
    reach = max(2.0, min(6 * float(source["a"]), min(light.shape) / 2))
    radii, _ = sep.flux_radius(
        light, [source["x"]], [source["y"]], [reach], [0.2, 0.5, 0.8], mask=mask, subpix=1
    )
    return np.where(radii[0] > 0, radii[0], np.nan)


def _asymmetry(light: np.ndarray, mine: np.ndarray) -> float:
    """Share of the light that half a turn about the centre does not find again, 0 to 1.

    After Abraham et al. 1996 (MNRAS 279, L47), about the pixel of the segment's barycentre.
    """
    rows, columns = np.nonzero(mine)
    weights = np.maximum(light[rows, columns], 0).astype(np.float64)
    if not weights.sum() > 0:
        return float("nan")
    middle = np.average(np.stack([rows, columns]), axis=1, weights=weights)
    other = np.rint(2 * middle[:, None] - np.stack([rows, columns])).astype(np.int64)
    inside = ((other >= 0) & (other < np.array(light.shape)[:, None])).all(axis=0)
    own, turned = light[rows[inside], columns[inside]], light[tuple(other[:, inside])]
    total = np.abs(own).sum(dtype=np.float64)
    return float(np.abs(own - turned).sum(dtype=np.float64) / (2 * total)) if total > 0 else np.nan
