"""Whether two sets of images may be compared: pixel scale and flux."""

from __future__ import annotations

import numpy as np

from skytwin.errors import Mismatch

__all__ = ["arcsec", "require_same_flux", "require_same_scale", "same_scale"]


def same_scale(one: float | None, other: float | None) -> bool:
    """Whether two pixel scales agree within 1 %; an unknown one agrees only with an unknown."""
    if one is None or other is None:
        return one is other
    return abs(one / other - 1) < 0.01


def arcsec(scale: float | None) -> str:
    """A pixel scale as text."""
    return "unknown" if scale is None else f'{scale:.4g}"'


def require_same_scale(got: float | None, want: float | None, what: str) -> None:
    """Refuse another pixel scale; one that is unknown on either side passes.

    Raises
    ------
    Mismatch
        They differ by 1 % or more.
    """
    if got is not None and want is not None and not same_scale(got, want):
        raise Mismatch(f"{what} has {arcsec(got)} per pixel; expected {arcsec(want)}: resample it")


def require_same_flux(
    got: tuple[np.dtype[np.generic], str | None],
    want: tuple[np.dtype[np.generic], str | None],
    what: str,
) -> None:
    """Refuse flux of another kind, where a stretch has fixed limits.

    Parameters
    ----------
    got, want : (dtype, unit)

    Raises
    ------
    Mismatch
        Integers against floats, or another unit.
    """
    if got[0].kind != want[0].kind or got[1] != want[1]:
        raise Mismatch(
            f"{what} holds {got[0]} in {got[1] or 'no unit'}, the embedding was made from "
            f"{want[0]} in {want[1] or 'no unit'}, and its stretch has fixed limits: embed "
            "again with --stretch minmax, clip:0.5,99.5 or sigma:3, which adapt to each image"
        )
