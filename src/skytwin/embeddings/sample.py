"""A seeded sample of the set: what "background" means to the metrics and combinations."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from skytwin.embeddings.vectors import Statistics, Vectors
from skytwin.errors import UsageError

__all__ = ["SAMPLE_ROWS", "WHITE_COMPONENTS", "Sample", "draw"]

SAMPLE_ROWS = 3000
WHITE_COMPONENTS = 64


@dataclass(frozen=True, eq=False, kw_only=True)
class Sample:
    """Random rows of a set, standardised.

    Attributes
    ----------
    rows : ndarray, shape (M,), int64
        In random order: the first n are a random sample too.
    vectors : ndarray, shape (M, D), float32
        As stored.
    statistics : Statistics
        Of the whole set.
    seed : int
    """

    rows: np.ndarray
    vectors: np.ndarray
    statistics: Statistics
    seed: int

    def standardized(self, vectors: np.ndarray) -> np.ndarray:
        """Vectors (n, D) with every feature's mean 0 and deviation 1 over the whole set."""
        scaled: np.ndarray = (vectors.astype(np.float64) - self.statistics.mean) * (
            self.statistics.inverse_scale
        )
        return scaled

    @cached_property
    def scaled(self) -> np.ndarray:
        """The sample, standardised, (M, D) float64."""
        return self.standardized(self.vectors)

    @cached_property
    def whitening(self) -> np.ndarray:
        """(D, P) float64: standardised vectors times this have uncorrelated unit components.

        The P leading principal components of the sample, at most `WHITE_COMPONENTS`, at most a
        quarter of the rows, and none that hardly varies.
        """
        power, directions = self._components
        count = min(WHITE_COMPONENTS, max(1, len(self.rows) // 4))
        kept = np.flatnonzero(power > 1e-6 * power[-1])[-count:]
        white: np.ndarray = directions[:, kept] / np.sqrt(power[kept])
        return white

    def solve_covariance(self, right: np.ndarray, shrinkage: float) -> np.ndarray:
        """``S^-1 right`` for a (D,) vector, ``S`` the standardised features' covariance.

        ``S`` is shrunk towards the identity, times the mean variance, by the share
        ``shrinkage``, above 0.

        Notes
        -----
        With fewer rows than features the matrix of the rows' products is inverted instead
        (Woodbury): ``(aZ'Z + bI)^-1 = (I - Z'(ZZ' + b/a I)^-1 Z) / b``.
        """
        z = self._centred
        power = max(float(np.einsum("ij,ij->", z, z)) / z.size, 1e-300)
        part, whole = (1 - shrinkage) / len(z), shrinkage * power
        if len(z) >= z.shape[1]:
            return np.asarray(cho_solve(self._factor(part, whole), right))
        inner = cho_solve(self._factor(1.0, whole / part), z @ right)
        return np.asarray((right - z.T @ inner) / whole)

    def _factor(self, part: float, whole: float) -> tuple[np.ndarray, bool]:
        key = (part, whole)
        if key not in self._factors:
            z = self._centred
            product = z.T @ z if len(z) >= z.shape[1] else z @ z.T
            product = part * product
            product[np.diag_indices_from(product)] += whole
            self._factors[key] = cho_factor(product, lower=True, overwrite_a=True)
        return self._factors[key]

    @cached_property
    def _factors(self) -> dict[tuple[float, float], tuple[np.ndarray, bool]]:
        return {}

    @cached_property
    def _centred(self) -> np.ndarray:
        return np.asarray(self.scaled - self.scaled.mean(axis=0))

    @cached_property
    def _components(self) -> tuple[np.ndarray, np.ndarray]:
        """Variances, ascending, and directions (D, D) of the sample's principal components."""
        z = self._centred
        power, directions = np.linalg.eigh(z.T @ z / len(z))
        return np.maximum(power, 0.0), directions


def draw(
    vectors: Vectors, statistics: Statistics, *, seed: int = 0, count: int = SAMPLE_ROWS
) -> Sample:
    """Draw at most ``count`` rows without replacement."""
    if count < 1:
        raise UsageError(f"a sample of {count}; expected at least 1")
    rng = np.random.default_rng(seed)
    rows = rng.choice(len(vectors), size=min(count, len(vectors)), replace=False)
    return Sample(rows=rows, vectors=vectors.take(rows), statistics=statistics, seed=seed)
