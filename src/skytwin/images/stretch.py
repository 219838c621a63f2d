"""From flux to brightness in [0, 1]: an interval, and a function within it.

The definitions are those of ``astropy.visualization``, for whole stacks of images and with gaps
(NaN, and infinities, which count as no data). The network's stretch is saved with its vectors.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np

from skytwin.errors import Mismatch, UsageError, unknown
from skytwin.images.limits import above_noise, minmax, percentiles, zscale

__all__ = ["Stretch"]

# Names of the parameters; where a default is None, the parameter must be given.
_INTERVALS: dict[str, dict[str, float | None]] = {
    "auto": {},
    "none": {},
    "minmax": {},
    "zscale": {},
    "sigma": {"sigma": 3.0},
    "range": {"low": None, "high": None},
    "clip": {"lower": None, "upper": None},
}
_FUNCTIONS: dict[str, dict[str, float | None]] = {
    "linear": {},
    "sqrt": {},
    "asinh": {"a": 0.1},
    "log": {"a": 1000.0},
    "lupton": {"stretch": 5.0, "Q": 8.0, "minimum": 0.0},
}
_ALLOWED = {
    "range": "range:LOW,HIGH takes two fluxes, LOW below HIGH, e.g. range:0,255",
    "clip": "clip:LOWER,UPPER takes two percentiles, 0 <= LOWER < UPPER <= 100, e.g. clip:0.5,99.5",
    "sigma": "sigma:K takes one number from -100 to 100, e.g. sigma:3",
    "asinh": "asinh:A takes one number from 1e-6 to 1e9, e.g. asinh:0.1",
    "log": "log:A takes one number from 1e-6 to 1e9, e.g. log:1000",
    "lupton": "lupton:stretch=S,Q=Q,minimum=M takes S > 0 in flux units and Q from 1e-6 to 1e10, "
    "e.g. lupton:stretch=0.5,Q=8,minimum=0",
}
_UNWRITTEN = ("auto", "none")  # the intervals that are not spelled out
_WHOLE_RANGE = {"uint8": (0.0, 255.0), "uint16": (0.0, 65535.0)}


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """An interval of flux, and a function that maps it onto [0, 1].

    Written as text, ``INTERVAL``, ``FUNCTION`` or ``INTERVAL+FUNCTION``, e.g. ``"asinh"``,
    ``"log:1000"``, ``"clip:0.5,99.5"``, ``"zscale+asinh:0.1"``, ``"range:0,255"``,
    ``"lupton:stretch=0.5,Q=8,minimum=0"``; see `parse`.

    Attributes
    ----------
    interval : str
        ``"minmax"``; ``"clip"``, percentiles; ``"zscale"``, IRAF's;
        ``"sigma"``, above the noise; ``"range"``, two fluxes;
        ``"none"``, of ``lupton`` alone; ``"auto"``, which `resolve` settles by the dtype of
        the images.
    limits : tuple of float
        The two percentiles of ``clip``, the two fluxes of ``range``, the multiple of
        ``sigma``.
    function : str
        ``"linear"``, ``"sqrt"``, ``"asinh"``, ``"log"``, or ``"lupton"``: the colours of three
        bands by Lupton et al. 2004 (PASP 116, 133), as ``astropy``'s ``make_lupton_rgb``. It
        takes exactly three bands, **the reddest first**, and has no interval of its own.
    parameters : tuple of float
        ``(a,)`` of ``asinh`` and ``log``; ``(stretch, Q, minimum)`` of ``lupton``.
    per : str
        ``"band"``: an interval for each band of each image; ``"image"``, written ``@image`` at
        the end: one for all bands of an image, which keeps the colours.
    """

    interval: str = "auto"
    limits: tuple[float, ...] = ()
    function: str = "linear"
    parameters: tuple[float, ...] = ()
    per: Literal["band", "image"] = "band"

    def __post_init__(self) -> None:
        if self.interval not in _INTERVALS:
            raise unknown("interval", self.interval, _INTERVALS)
        if self.function not in _FUNCTIONS:
            raise unknown("stretch", self.function, _FUNCTIONS)
        if self.per not in ("band", "image"):
            raise unknown("interval choice", self.per, ("band", "image"))
        if self.function == "lupton" and self.interval == "auto":
            object.__setattr__(self, "interval", "none")
        limits = _complete(self.interval, _INTERVALS[self.interval], self.limits)
        parameters = _complete(self.function, _FUNCTIONS[self.function], self.parameters)
        object.__setattr__(self, "limits", limits)
        object.__setattr__(self, "parameters", parameters)
        self._check()

    def _check(self) -> None:
        numbers = (*self.limits, *self.parameters)
        good = all(np.isfinite(numbers))
        if self.interval in ("range", "clip"):
            low, high = self.limits
            good &= low < high
            if self.interval == "clip":
                good &= low >= 0 and high <= 100
            if not good:
                raise _bad(self.interval, self.limits)
        if self.interval == "sigma" and not (good and abs(self.limits[0]) <= 100):
            raise _bad(self.interval, self.limits)
        if self.function in ("asinh", "log"):
            good &= 1e-6 <= self.parameters[0] <= 1e9
        if self.function == "lupton":
            good &= self.parameters[0] > 0 and 1e-6 <= self.parameters[1] <= 1e10
        if not good:
            raise _bad(self.function, self.parameters)
        if (self.function == "lupton") != (self.interval == "none"):
            raise UsageError(
                f"lupton takes no interval and {self.function!r} needs one; got "
                f"{self.interval!r} with {self.function!r}: write lupton alone, with minimum= "
                "for the flux that is black"
            )
        if self.per == "image" and (self.interval == "range" or self.function == "lupton"):
            raise UsageError(
                "@image goes with an interval measured on the image (minmax, clip, zscale, sigma); "
                "range and lupton treat all bands alike already"
            )

    @classmethod
    def parse(cls, text: str) -> Self:
        """The stretch that ``text`` names; ``str(stretch)`` is the way back.

        Parameters
        ----------
        text : str
            ``[INTERVAL+]FUNCTION`` or ``INTERVAL``, with ``@image`` at the end for one
            interval over all bands. Intervals: ``minmax``, ``clip:LOWER,UPPER``, ``zscale``,
            ``sigma:K`` (from K sigma above the background to the brightest pixel),
            ``range:LOW,HIGH``. Functions: ``linear``, ``sqrt``, ``asinh[:A]``, ``log[:A]``,
            ``lupton[:stretch=S,Q=Q,minimum=M]``.

        Raises
        ------
        UnknownName
            No such interval or function.
        UsageError
            A parameter is not what the interval or function takes.
        """
        body, at, per = "".join(text.split()).partition("@")
        if at and per != "image":
            raise unknown("stretch ending", f"@{per}", ("@image",))
        # A plus sign within a number such as 1e+5 joins nothing.
        words = re.split(r"(?<![0-9.][eE])\+", body)
        named = [_word(word) for word in words]
        kinds = [name in _INTERVALS for name, _ in named]
        if kinds not in ([True], [False], [True, False]):
            raise UsageError(
                f"stretch {text!r} is neither INTERVAL, FUNCTION nor INTERVAL+FUNCTION; "
                "e.g. zscale+asinh:0.1"
            )
        chosen = dict(zip(kinds, named, strict=True))
        interval, limits = chosen.get(True, ("auto", ()))
        function, parameters = chosen.get(False, ("linear", ()))
        return cls(
            interval=interval,
            limits=limits,
            function=function,
            parameters=parameters,
            per="image" if at else "band",
        )

    def __str__(self) -> str:
        parts = []
        if self.interval not in _UNWRITTEN:
            parts.append(_write(self.interval, self.limits))
        if self.function == "lupton":
            names = _FUNCTIONS["lupton"]
            pairs = zip(names, self.parameters, strict=True)
            parts.append("lupton:" + ",".join(f"{name}={_number(v)}" for name, v in pairs))
        elif self.function != "linear" or not parts:
            parts.append(_write(self.function, self.parameters))
        return "+".join(parts) + ("@image" if self.per == "image" else "")

    @property
    def absolute(self) -> bool:
        """Whether the result depends on the unit of the flux (range and lupton), and so may only
        be compared between images of one unit.
        """
        return self.interval == "range" or self.function == "lupton"

    def resolve(self, dtype: np.dtype | str) -> Stretch:
        """Settle the interval for images stored as ``dtype``.

        A function alone takes the whole range of an 8- or 16-bit picture (0 to 255, or 65535),
        whose zero means black, and the smallest and largest pixel of anything else.
        """
        if self.interval != "auto":
            return self
        limits = _WHOLE_RANGE.get(np.dtype(dtype).name)
        return Stretch(
            interval="range" if limits else "minmax",
            limits=limits or (),
            function=self.function,
            parameters=self.parameters,
            per="band" if limits else self.per,
        )

    def __call__(self, flux: np.ndarray) -> np.ndarray:
        """Stretch a stack of images.

        Parameters
        ----------
        flux : ndarray, shape (n, C, H, W)
            NaN and infinities are no data.

        Returns
        -------
        ndarray, shape (n, C, H, W), float32
            In [0, 1]; NaN where there is no data. An image or band of one value is 0
            throughout. Where percentiles or zscale leave an interval of no width, what lies
            above it is 1.

        Raises
        ------
        UsageError
            The interval is still to be settled by `resolve`.
        Mismatch
            ``lupton`` with other than three bands.
        """
        images = np.array(flux, dtype=np.float32, order="C")  # its rows below are views
        if images.ndim != 4:
            raise Mismatch(f"a stretch takes (n, C, H, W) images; got the shape {images.shape}")
        images[~np.isfinite(images)] = np.nan
        if self.function == "lupton":
            return _lupton(images, *self.parameters)
        count, bands, height, width = images.shape
        if self.per == "image":
            rows = images.reshape(count, bands * height * width)
        else:
            rows = images.reshape(count * bands, height * width)
        # An interval next to nothing makes infinities of what lies outside, which are clipped.
        with np.errstate(invalid="ignore", over="ignore"):
            _normalise(rows, *self._limits(rows))
            self._apply(rows)
        return images

    def _limits(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if self.interval == "minmax":
            return minmax(rows)
        if self.interval == "clip":
            return percentiles(rows, *self.limits)
        if self.interval == "zscale":
            return zscale(rows)
        if self.interval == "sigma":
            return above_noise(rows, *self.limits)
        if self.interval == "range":
            low, high = (np.full(len(rows), limit) for limit in self.limits)
            return low, high
        raise UsageError(f"stretch {str(self)!r} has no interval yet; resolve(dtype) chooses it")

    def _apply(self, rows: np.ndarray) -> None:
        if self.function == "sqrt":
            np.sqrt(rows, out=rows)
        elif self.function == "asinh":
            (a,) = self.parameters
            np.arcsinh(np.divide(rows, a, out=rows), out=rows)
            rows /= np.arcsinh(1 / a)
        elif self.function == "log":
            (a,) = self.parameters
            np.log1p(np.multiply(rows, a, out=rows), out=rows)
            rows /= np.log1p(a)
        np.minimum(rows, 1, out=rows)  # the last division may round up


def _normalise(rows: np.ndarray, low: np.ndarray, high: np.ndarray) -> None:
    """Map ``low..high`` of each row onto 0..1, clipped, in place."""
    span = (high - low).astype(np.float32)
    flat = ~(span > 0)
    rows -= low.astype(np.float32)[:, None]
    rows /= np.where(flat, 1, span)[:, None]
    if flat.any():
        # The limit of an ever narrower interval.
        rows[flat] = np.where(rows[flat] > 0, 1, np.minimum(rows[flat], 0))
    np.clip(rows, 0, 1, out=rows)


def _lupton(images: np.ndarray, stretch: float, softening: float, minimum: float) -> np.ndarray:
    """Lupton et al. 2004 as in ``make_lupton_rgb(*image, minimum=m, stretch=s, Q=q)``."""
    if images.shape[1] != 3:
        raise Mismatch(
            f"lupton mixes three bands, the reddest first; got {images.shape[1]}; "
            "choose them with --bands, e.g. --bands i,r,g"
        )
    images -= np.float32(minimum)
    intensity = images.mean(axis=1, keepdims=True)
    slope = 0.1 / np.arcsinh(0.1 * softening)
    with np.errstate(invalid="ignore", divide="ignore"):
        mapped = np.arcsinh(intensity / stretch * softening) * slope
        images *= np.where(intensity <= 0, 0, mapped / intensity)
        np.maximum(images, 0, out=images)
        images /= np.maximum(images.max(axis=1, keepdims=True), 1)
    return images


def _word(text: str) -> tuple[str, tuple[float, ...]]:
    """``"clip:1,99"`` -> ``("clip", (1.0, 99.0))``, keywords put in their order."""
    name, colon, rest = text.partition(":")
    known = {**_INTERVALS, **_FUNCTIONS}
    if name in _UNWRITTEN or name not in known:
        raise unknown("stretch", name, [other for other in known if other not in _UNWRITTEN])
    given: dict[str, float] = {}
    for place, part in enumerate(rest.split(",") if colon else []):
        key, equals, value = part.partition("=") if "=" in part else ("", "", part)
        key = key if equals else dict(enumerate(known[name])).get(place, "")
        if key not in known[name] or key in given:
            raise _bad(name, rest)
        try:
            given[key] = float(value)
        except ValueError:
            raise _bad(name, rest) from None
    values = {**known[name], **given}
    if None in values.values():
        raise _bad(name, rest)
    return name, tuple(value for value in values.values() if value is not None)


def _complete(
    name: str, parameters: Mapping[str, float | None], values: tuple[float, ...]
) -> tuple[float, ...]:
    given = tuple(float(value) for value in values)
    default = tuple(value for value in parameters.values() if value is not None)
    if not given and len(default) == len(parameters):
        return default
    if len(given) != len(parameters):
        raise _bad(name, values)
    return given


def _bad(name: str, got: object) -> UsageError:
    text = ",".join(map(_number, got)) if isinstance(got, tuple) else str(got)
    allowed = _ALLOWED.get(name, f"{name} takes no parameters")
    return UsageError(f"{name}: got {text or 'no parameters'}; {allowed}")


def _write(name: str, values: tuple[float, ...]) -> str:
    return f"{name}:{','.join(map(_number, values))}" if values else name


def _number(value: float) -> str:
    """The shortest text that reads back as the same float, without a plus sign."""
    text = repr(float(value)).replace("e+", "e")
    return text.removesuffix(".0")
