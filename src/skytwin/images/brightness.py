"""Brightness for eyes: which flux is black, which is white, and the curve between.

In colour, one curve is applied to the mean of the bands and every band is scaled by what the
mean was scaled by, so that colours survive the stretch and saturated cores do not turn white
(Lupton et al. 2004, PASP 116, 133).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from skytwin.errors import UsageError, unknown
from skytwin.images import limits
from skytwin.images.stretch import Stretch

__all__ = ["Display", "brightness", "parse_display"]

_INTERVALS = ("auto", "clip", "minmax", "zscale", "range")
_FUNCTIONS = ("asinh", "log", "linear", "sqrt")
# The automatic interval, in units of the noise about the sky: how far below the sky is black,
# where the curve turns from linear, how far above the sky white is at least.
_BLACK, _KNEE, _WHITE = 0.5, 5.0, 15.0
_WHITE_PERCENTILE, _MINUS_SIGMA = 99.9, 15.87
_KNEE_RANGE = (0.005, 0.5)  # of the interval


@dataclass(frozen=True, kw_only=True)
class Display:
    """How flux becomes brightness on a page.

    Attributes
    ----------
    interval : {"auto", "clip", "minmax", "zscale", "range"}
        What is black and what is white. ``auto``: black just below the sky, white at the 99.9th
        percentile but at least 15 times the noise, both measured in the frame's border.
        ``clip``: two percentiles. ``minmax``, ``zscale``: as in `Stretch`. ``range``: two fluxes.
    low, high : float or None
        The percentiles of ``clip``, the fluxes of ``range``.
    function : {"asinh", "log", "linear", "sqrt"}
        Brightness within the interval, as in `Stretch`.
    a : float or None
        Parameter of ``asinh`` and ``log``; None ties it to the noise under ``auto``, so that
        the curve is linear up to a few times the noise, and is 0.1 and 1000 elsewhere.
    bands : tuple of str or None
        One band (grey), two or three (colour), the reddest first; None chooses, see `to_rgb`.
    per_band : bool
        Scale every band on its own: more contrast, no colours to trust.
    invert : bool
        Dark on bright, of one band alone.
    """

    interval: str = "auto"
    low: float | None = None
    high: float | None = None
    function: str = "asinh"
    a: float | None = None
    bands: tuple[str, ...] | None = None
    per_band: bool = False
    invert: bool = False

    def __post_init__(self) -> None:
        if self.interval not in _INTERVALS:
            raise unknown("display interval", self.interval, _INTERVALS)
        if self.function not in _FUNCTIONS:
            raise unknown("display function", self.function, _FUNCTIONS)
        if self.bands is not None and not 1 <= len(self.bands) <= 3:
            raise UsageError(
                f"{len(self.bands)} bands to display; expected 1 to 3, the reddest first"
            )
        # The stretch of the same words checks its parameters.
        Stretch(
            interval=self.interval,
            limits=self.limits,
            function=self.function,
            parameters=() if self.a is None else (self.a,),
        )

    @property
    def limits(self) -> tuple[float, ...]:
        """Those of ``low`` and ``high`` that are given."""
        return tuple(value for value in (self.low, self.high) if value is not None)


def parse_display(text: str) -> Display:
    """The display that ``text`` names, in the words of `Stretch.parse`.

    Parameters
    ----------
    text : str
        A function (``"asinh"``, ``"asinh:0.02"``, ``"log"``, ``"sqrt"``, ``"linear"``), an
        interval (``"clip:1,99"``, ``"minmax"``, ``"zscale"``, ``"range:0,50"``; linear within
        it), or both: ``"clip:1,99+asinh:0.02"``.

    Raises
    ------
    UsageError, UnknownName
        The text is none of these.
    """
    found = Stretch.parse(text)
    if found.function == "lupton":
        raise UsageError(
            f"display {text!r}: three bands are always shown by the rule of Lupton et al.; give "
            f"the curve alone: {', '.join(_FUNCTIONS)}"
        )
    low, high = found.limits or (None, None)
    named = re.search(r"(asinh|log):", text)
    return Display(
        interval=found.interval,
        low=low,
        high=high,
        function=found.function,
        a=found.parameters[0] if named else None,
    )


def brightness(
    images: np.ndarray, display: Display, widths: np.ndarray | None = None
) -> np.ndarray:
    """Flux (n, C, H, W), NaN where there is no data, as brightness in [0, 1]; NaN stays.

    ``widths`` (m, C) are the `band_widths` of others that bands are brought into balance with.
    Equivalent to::

        brightness(np.concatenate([images, others]), display)[: len(images)]
    """
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        if display.per_band:
            return _each_band(images, display)
        return _together(images, display, widths)


def band_widths(images: np.ndarray, display: Display) -> np.ndarray:
    """From black to white in every band of images (n, C, H, W): (n, C)."""
    count, channels, *frame = images.shape
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        planes = _interval(images.reshape(count * channels, *frame), display)
        width: np.ndarray = (planes.white - planes.black).reshape(count, channels)
    return width


def _each_band(images: np.ndarray, display: Display) -> np.ndarray:
    """Brightness in [0, 1], every band by its own interval and curve; NaN stays."""
    count, channels, height, width = images.shape
    alone = images.reshape(count * channels, 1, height, width)
    return _together(alone, display).reshape(images.shape)


def _together(images: np.ndarray, display: Display, widths: np.ndarray | None = None) -> np.ndarray:
    """Brightness in [0, 1], one curve for the mean of the bands; NaN stays."""
    count, channels, *frame = images.shape
    planes = _interval(images.reshape(count * channels, *frame), display)
    black = planes.black.reshape(count, channels)
    bright = images - black[:, :, None, None]
    if display.interval != "range":
        width = planes.white.reshape(count, channels) - black
        every = width if widths is None else np.concatenate([width, widths])
        bright *= _balance(every)[None, :, None, None]
    mean = bright.mean(axis=1)
    scale = _interval(mean, display)
    # Black is 0 by now; under range the mean's interval is that of every band.
    top = scale.white if display.interval != "range" else scale.white - scale.black
    bright /= _above_zero(mean, top)[:, None, None, None]
    mean = bright.mean(axis=1, keepdims=True)
    knee = np.clip(scale.knee / top, *_KNEE_RANGE)[:, None, None, None]
    bright *= np.where(mean > 0, _curve(mean, display, knee) / mean, 0)
    np.maximum(bright, 0, out=bright)
    bright /= np.maximum(bright.max(axis=1, keepdims=True), 1)
    return np.asarray(bright, dtype=np.float32)


@dataclass(frozen=True, eq=False, kw_only=True)
class _Interval:
    """Of m planes, each (m,): the fluxes of black, of white, and that where the curve bends."""

    black: np.ndarray
    white: np.ndarray
    knee: np.ndarray


def _interval(planes: np.ndarray, display: Display) -> _Interval:
    rows = planes.reshape(len(planes), -1)
    if display.interval == "auto":
        return _by_sky(planes, rows)
    if display.interval == "minmax":
        black, white = limits.minmax(rows)
    elif display.interval == "zscale":
        black, white = limits.zscale(rows)
    elif display.interval == "clip":
        black, white = limits.percentiles(rows, *display.limits)
    else:
        black, white = (np.full(len(rows), limit) for limit in display.limits)
    return _Interval(black=black, white=white, knee=np.full(len(rows), np.nan))


def _by_sky(planes: np.ndarray, rows: np.ndarray) -> _Interval:
    border = np.ones(planes.shape[1:], dtype=bool)
    wide = max(1, min(border.shape) // 10)
    border[wide:-wide, wide:-wide] = False
    low, sky = limits.percentiles(planes[:, border], _MINUS_SIGMA, 50.0)
    lost = np.isnan(sky)
    if lost.any():
        low[lost], sky[lost] = limits.percentiles(rows[lost], _MINUS_SIGMA, 50.0)
    noise = sky - low  # of the fainter half: sources stand on the other side
    peak = limits.percentiles(rows, 0.0, _WHITE_PERCENTILE)[1]
    return _Interval(
        black=sky - _BLACK * noise,
        white=np.maximum(peak, sky + _WHITE * noise),
        knee=np.where(noise > 0, _KNEE * noise, np.nan),
    )


def _above_zero(planes: np.ndarray, top: np.ndarray) -> np.ndarray:
    """Where white is, above black at 0: the brightest pixel where the interval has no width."""
    peak = np.fmax.reduce(planes.reshape(len(planes), -1), axis=1)
    found = np.where(top > 0, top, peak)
    return np.where(found > 0, found, 1.0)


def _balance(width: np.ndarray) -> np.ndarray:
    """Factors (C,) that bring the median interval of every band to the same width."""
    typical = np.array([np.median(w[w > 0]) if (w > 0).any() else np.nan for w in width.T])
    if np.isnan(typical).all():
        return np.ones(len(typical))
    factors: np.ndarray = np.nan_to_num(np.nanmean(typical) / typical, nan=1.0)
    return factors


def _curve(flux: np.ndarray, display: Display, knee: np.ndarray) -> np.ndarray:
    """Brightness of flux, both in [0, 1]; ``knee`` (NaN: none) stands in for no ``a``."""
    x: np.ndarray = np.clip(flux, 0, 1)
    if display.function == "sqrt":
        x = np.sqrt(x)
    elif display.function == "asinh":
        a = np.nan_to_num(knee, nan=0.1) if display.a is None else display.a
        x = np.arcsinh(x / a) / np.arcsinh(1 / a)
    elif display.function == "log":
        a = np.nan_to_num(1 / knee, nan=1000.0) if display.a is None else display.a
        x = np.log1p(a * x) / np.log1p(a)
    return x
