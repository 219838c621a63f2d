"""Intervals of a stack of images at once: astropy.visualization's, one row of pixels per image.

Rows are ``(m, P)`` float32, NaN where there is no data; limits are two float64 arrays ``(m,)``,
NaN for a row without any finite pixel.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

__all__ = ["above_noise", "minmax", "percentiles", "zscale"]

Limits = tuple[np.ndarray, np.ndarray]

# The parameters of IRAF's zscale, at the values astropy gives them.
_SAMPLES, _CONTRAST, _MAX_REJECT, _MIN_PIXELS, _REJECT_SIGMA, _ITERATIONS = (
    1000,
    0.25,
    0.5,
    5,
    2.5,
    5,
)
# A scatter about the fitted line below this share of the pixels' size is rounding, which the
# clipping of a plain and of a vectorised fit would treat differently.
_ROUNDING = 1e-9


def minmax(rows: np.ndarray) -> Limits:
    """Smallest and largest finite pixel. Equivalent to ``MinMaxInterval`` row by row."""
    low = np.fmin.reduce(rows, axis=1).astype(np.float64)
    high = np.fmax.reduce(rows, axis=1).astype(np.float64)
    return low, high


def percentiles(rows: np.ndarray, lower: float, upper: float) -> Limits:
    """Two percentiles. Equivalent to ``AsymmetricPercentileInterval(lower, upper)`` row by row."""

    def whole(part: np.ndarray) -> Limits:
        low, high = np.percentile(part, (lower, upper), axis=1)
        return low.astype(np.float64), high.astype(np.float64)

    def one(pixels: np.ndarray) -> tuple[float, float]:
        low, high = np.percentile(pixels, (lower, upper))
        return float(low), float(high)

    return _by_row(rows, np.isfinite(rows).all(axis=1), whole, one)


def above_noise(rows: np.ndarray, sigma: float) -> Limits:
    """From so many sigma above the background to the brightest pixel.

    Background and noise are the median and 1.4826 times the median absolute deviation, as
    astropy's ``mad_std`` has it: radio maps are cut so before they are compared (Aniyan &
    Thorat 2017, section 3.2, at 3 sigma). Of an image that was cut so already, more than half
    of which is 0, the limits are 0 and the brightest pixel.
    """

    def whole(part: np.ndarray) -> Limits:
        middle = np.median(part, axis=1, keepdims=True).astype(np.float64)
        noise = 1.482602218505602 * np.median(np.abs(part - middle), axis=1)
        high = part.max(axis=1).astype(np.float64)
        return np.minimum(middle[:, 0] + sigma * noise, high), high

    def one(pixels: np.ndarray) -> tuple[float, float]:
        low, high = whole(pixels[None])
        return float(low[0]), float(high[0])

    return _by_row(rows, np.isfinite(rows).all(axis=1), whole, one)


def zscale(rows: np.ndarray) -> Limits:
    """IRAF's zscale. Equivalent to ``ZScaleInterval()`` row by row.

    Rows without gaps are fitted together; rows with NaN, and those whose sampled pixels lie so
    exactly on a line that only rounding is left to clip, go through astropy itself.
    """
    # astropy.visualization brings matplotlib along: a third of a second no other stretch needs.
    from astropy.visualization import ZScaleInterval

    interval = ZScaleInterval()
    together = np.isfinite(rows).all(axis=1)
    low, high, exact = _zscale_together(rows[together])
    fitted = np.flatnonzero(together)
    together[fitted[~exact]] = False
    return _by_row(rows, together, lambda _: (low[exact], high[exact]), interval.get_limits)


def _by_row(
    rows: np.ndarray,
    together: np.ndarray,
    whole: Callable[[np.ndarray], Limits],
    one: Callable[[np.ndarray], tuple[float, float]],
) -> Limits:
    """``whole`` for the rows marked ``together``, ``one`` for the finite pixels of the others."""
    low = np.full(len(rows), np.nan)
    high = np.full(len(rows), np.nan)
    if together.any():
        low[together], high[together] = whole(rows[together])
    for row in np.flatnonzero(~together):
        finite = rows[row][np.isfinite(rows[row])]
        if len(finite):
            low[row], high[row] = one(finite)
    return low, high


def _zscale_together(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Limits of rows without gaps, and which of them are safely those of astropy."""
    stride = max(1, int(rows.shape[1] / _SAMPLES))
    samples = np.sort(rows[:, ::stride][:, :_SAMPLES], axis=1).astype(np.float64)
    count, pixels = samples.shape
    low, high = samples[:, 0].copy(), samples[:, -1].copy()
    exact = np.ones(count, dtype=bool)
    fewest = max(_MIN_PIXELS, int(pixels * _MAX_REJECT))
    position = np.arange(pixels, dtype=np.float64)
    grow = max(1, int(pixels * 0.01))
    size = np.abs(samples).max(axis=1)
    bad = np.zeros(samples.shape, dtype=bool)
    good_before = np.full(count, pixels + 1)
    good = np.full(count, pixels)
    slope = np.zeros(count)
    for _ in range(_ITERATIONS):
        todo = np.flatnonzero((good < good_before) & (good >= fewest))
        if not len(todo):
            break
        slope[todo], flat = _fit_line(position, samples[todo], ~bad[todo])
        scatter = np.sqrt(_mean_where(np.square(flat - _mean_where(flat, ~bad[todo])), ~bad[todo]))
        exact[todo[scatter[:, 0] <= _ROUNDING * size[todo]]] = False
        bad[todo] = _dilate(bad[todo] | (np.abs(flat) > _REJECT_SIGMA * scatter), grow)
        good_before[todo] = good[todo]
        good[todo] = (~bad[todo]).sum(axis=1)
    kept = good >= fewest
    centre = (pixels - 1) // 2
    median = np.median(samples, axis=1)
    slope /= _CONTRAST
    low[kept] = np.maximum(low, median - (centre - 1) * slope)[kept]
    high[kept] = np.minimum(high, median + (pixels - centre) * slope)[kept]
    return low, high, exact


def _mean_where(values: np.ndarray, keep: np.ndarray) -> np.ndarray:
    return np.asarray(values.mean(axis=1, where=keep, keepdims=True))


def _fit_line(x: np.ndarray, y: np.ndarray, keep: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Least-squares line through the kept points of each row: its slopes, and the residuals."""
    middle = _mean_where(np.broadcast_to(x, y.shape), keep)
    from_middle = x - middle
    above = y - _mean_where(y, keep)
    slope = (from_middle * above).sum(axis=1, where=keep) / np.square(from_middle).sum(
        axis=1, where=keep
    )
    return slope, above - slope[:, None] * from_middle


def _dilate(mask: np.ndarray, width: int) -> np.ndarray:
    """Equivalent to ``np.convolve(row, np.ones(width, bool), mode="same")`` row by row."""
    before, after = width // 2, (width - 1) // 2
    padded = np.pad(mask, ((0, 0), (before + 1, after)))
    total = padded.cumsum(axis=1)
    return np.asarray(total[:, width:] > total[:, :-width])
