"""Intervals of proportions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import betaincinv

from skytwin.errors import UsageError

__all__ = ["Proportion", "jeffreys"]


@dataclass(frozen=True, kw_only=True)
class Proportion:
    """A share with its interval.

    Attributes
    ----------
    hits, total : int
        So many out of so many.
    value : float
        ``hits / total``; NaN out of none.
    lower, upper : float
        Jeffreys interval.
    level : float
        Its coverage.
    """

    hits: int
    total: int
    value: float
    lower: float
    upper: float
    level: float

    @classmethod
    def of(cls, hits: int, total: int, level: float = 0.95) -> Proportion:
        """The proportion ``hits / total`` with its Jeffreys interval."""
        lower, upper = jeffreys(np.array([hits]), np.array([total]), level)
        return cls(
            hits=int(hits),
            total=int(total),
            value=hits / total if total else float("nan"),
            lower=float(lower[0]),
            upper=float(upper[0]),
            level=level,
        )

    def __str__(self) -> str:
        return (
            f"{self.value:.3g} [{self.lower:.3g}, {self.upper:.3g}] ({self.hits} of {self.total})"
        )


def jeffreys(
    hits: np.ndarray, total: np.ndarray, level: float = 0.95
) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper ends of the Jeffreys interval of ``hits / total``, element by element.

    The quantiles of Beta(hits + 1/2, total - hits + 1/2), the lower end set to 0 where there is
    no hit and the upper to 1 where there is nothing else (Brown, Cai & DasGupta 2001, section
    4.1.2).
    """
    if not 0 < level < 1:
        raise UsageError(f"interval level {level}; expected a number between 0 and 1")
    x, n = np.asarray(hits, dtype=float), np.asarray(total, dtype=float)
    tail = (1 - level) / 2
    lower = np.where(x > 0, betaincinv(x + 0.5, n - x + 0.5, tail), 0.0)
    upper = np.where(x < n, betaincinv(x + 0.5, n - x + 0.5, 1 - tail), 1.0)
    return lower, upper
