"""Sources in a mosaic, found with sep (Barbary 2016, JOSS 1, 58), after Bertin & Arnouts 1996.

Made for isolated to moderately crowded fields with a smooth background; very extended objects
lose light to the background mesh, and are broken up by deblending, unless ``back_size`` is well
above their size.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import sep

from skytwin.errors import DataError, UsageError
from skytwin.images import arrow

__all__ = ["DetectSettings", "detect"]

# sep keeps its buffers' sizes in global variables.
_LOCK = threading.Lock()
_PIXEL_STACK, _OBJECT_LIMIT = 300_000, 1024


@dataclass(frozen=True, kw_only=True)
class DetectSettings:
    """How sources are found.

    Attributes
    ----------
    threshold_sigma : float
        Detection threshold above the background, in its global rms.
    min_area : int
        Pixels above the threshold, connected, that make a source.
    deblend_contrast : float
        A peak's share of the flux that makes it a source of its own (0 splits all, 1 none).
    max_objects : int or None
        Keep this many, the brightest.
    back_size : int
        Side of the background mesh's boxes in pixels.
    """

    threshold_sigma: float = 3.0
    min_area: int = 5
    deblend_contrast: float = 0.005
    max_objects: int | None = None
    back_size: int = 64

    def __post_init__(self) -> None:
        for name, ok, expected in (
            ("threshold_sigma", 0 < self.threshold_sigma < np.inf, "a positive number"),
            ("min_area", self.min_area >= 1, "1 or more pixels"),
            ("deblend_contrast", 0 <= self.deblend_contrast <= 1, "0 to 1"),
            ("max_objects", self.max_objects is None or self.max_objects >= 1, "1 or more"),
            ("back_size", self.back_size >= 4, "4 or more pixels"),
        ):
            if not ok:
                raise UsageError(f"{name} {getattr(self, name)}; expected {expected}")


def detect(image: np.ndarray, settings: DetectSettings, *, unit: str | None = None) -> pa.Table:
    """Sources of an image, brightest first.

    Parameters
    ----------
    image : ndarray, shape (H, W)
        NaN and infinite pixels are masked.
    settings : DetectSettings
        Threshold, smallest area, deblending, background.
    unit : str, optional
        The pixels' unit, for the columns' metadata.

    Returns
    -------
    pyarrow.Table
        ``x``, ``y`` (barycentre, pixels from 0), ``flux`` (isophotal, background subtracted),
        ``peak``, ``snr`` (peak over the background's rms), ``npix``, ``a``, ``b`` (rms along the
        axes, pixels), ``theta`` (of the major axis from x towards y, degrees), ``flag`` (sep's
        extraction flags).

    Raises
    ------
    DataError
        Nothing lies above the threshold, or the background has no scatter to measure it in.
    """
    pixels = np.array(image, dtype=np.float32, order="C")
    mask = ~np.isfinite(pixels)
    if mask.all():
        raise DataError("the mosaic holds no finite pixel to detect sources on")
    pixels[mask] = 0.0
    height, width = pixels.shape
    background = sep.Background(
        pixels,
        mask=mask,
        bw=min(settings.back_size, width),
        bh=min(settings.back_size, height),
    )
    rms = float(background.globalrms)
    # Where there is none, sep makes it 1.
    if not rms > 0 or (rms == 1.0 and _half_alike(pixels[~mask])):
        raise DataError(
            "the mosaic's background has no scatter, so a threshold in sigma means nothing; give "
            "a table of positions instead of detecting"
        )
    background.subfrom(pixels)
    found = _extract(pixels, mask, rms, settings)
    if len(found) == 0:
        raise DataError(
            f"no source above {settings.threshold_sigma:g} sigma (background rms {rms:.4g}) with "
            f"{settings.min_area} or more pixels; lower the threshold or the area"
        )
    # Position breaks ties, so that the order never depends on the library's.
    found = found[np.lexsort((found["x"], found["y"], -found["flux"]))][: settings.max_objects]
    return _as_table(found, rms, unit or "")


def _half_alike(values: np.ndarray) -> bool:
    return bool(np.median(np.abs(values - np.median(values))) == 0)


def _extract(
    pixels: np.ndarray, mask: np.ndarray, rms: float, settings: DetectSettings
) -> np.ndarray:
    """``sep.extract`` with buffers as large as the field needs."""
    stack, objects = _PIXEL_STACK, _OBJECT_LIMIT
    while True:
        try:
            with _LOCK:
                sep.set_extract_pixstack(stack)
                sep.set_sub_object_limit(objects)
                found: np.ndarray = sep.extract(
                    pixels,
                    settings.threshold_sigma,
                    err=rms,
                    mask=mask,
                    minarea=settings.min_area,
                    deblend_cont=settings.deblend_contrast,
                )
            return found
        except Exception as error:  # sep raises bare Exceptions
            if "pixel buffer full" in str(error) and stack < pixels.size:
                stack = min(4 * stack, pixels.size)
            elif "deblending overflow" in str(error) and objects < 1 << 20:
                objects *= 8
            else:
                raise DataError(f"sources cannot be detected: {error}") from error


def _as_table(found: np.ndarray, rms: float, unit: str) -> pa.Table:
    peak = found["peak"].astype(np.float64)
    columns = (
        ("x", found["x"], "pix", "pos.cartesian.x", "barycentre, the first pixel is 0"),
        ("y", found["y"], "pix", "pos.cartesian.y", "barycentre, the first pixel is 0"),
        ("flux", found["flux"], unit, "phot.flux", "isophotal, background subtracted"),
        ("peak", peak, unit, "phot.flux;stat.max", "highest pixel, background subtracted"),
        ("snr", peak / rms, "", "stat.snr", "peak over the background's rms"),
        ("npix", found["npix"], "", "meta.number", "pixels above the threshold"),
        ("a", found["a"], "pix", "phys.angSize.smajAxis", "rms along the major axis"),
        ("b", found["b"], "pix", "phys.angSize.sminAxis", "rms along the minor axis"),
        ("theta", np.degrees(found["theta"]), "deg", "pos.posAng", "major axis, from x to y"),
        ("flag", found["flag"], "", "meta.code", "extraction flags of sep"),
    )
    fields, arrays = [], []
    for name, data, column_unit, ucd, description in columns:
        kind = np.int64 if data.dtype.kind in "iu" else np.float64
        arrays.append(pa.array(np.ascontiguousarray(data, dtype=kind)))
        fields.append(
            arrow.field(name, arrays[-1].type, unit=column_unit, ucd=ucd, description=description)
        )
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields))
