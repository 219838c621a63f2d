"""Where the top latents of samples come from: the network's prior, or what images' latents are.

The prior takes the numbers of the top latent as independent; those of images are not, and images of
independent ones are none that the network was trained on. A density fitted to the latents of
training images afterwards leaves the network as it is ("ex-post density estimation", Ghosh et al.
2020, arXiv 1903.12436, section 4). Here it is one Gaussian with all covariances, so that it may be
fitted to fewer images than a mixture needs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from sklearn.covariance import ledoit_wolf

__all__ = ["LATENTS", "FittedLatents", "Latents"]

Latents = Literal["prior", "fitted"]
LATENTS: tuple[Latents, ...] = get_args(Latents)
_DRAW = 46  # sets these random numbers apart from others of a seed


@dataclass(frozen=True, eq=False, kw_only=True)
class FittedLatents:
    """A Gaussian of top latents; its mean is linear in conditions, where there are any.

    Attributes
    ----------
    weights : ndarray, shape (1 + K, D)
        The mean, and what each standardised condition adds.
    factor : ndarray, shape (D, D)
        A square root of the covariance, shrunk towards a sphere (Ledoit & Wolf 2004).
    """

    weights: np.ndarray
    factor: np.ndarray

    @classmethod
    def fit(cls, z_ND: np.ndarray, condition_NK: np.ndarray | None) -> FittedLatents:
        """Of draws from the posteriors of N images; conditions that are NaN count as the mean."""
        z, design = z_ND.astype(np.float64), _design(condition_NK, len(z_ND))
        weights = np.linalg.lstsq(design, z, rcond=None)[0]
        covariance, _ = ledoit_wolf(z - design @ weights, assume_centered=True)
        values, axes = np.linalg.eigh(covariance)
        return cls(weights=weights, factor=axes * np.sqrt(np.maximum(values, 0)))

    def draw(
        self,
        count: int,
        temperature: float,
        condition_NK: np.ndarray | None,
        *,
        seed: int,
        first: int,
        batch: int,
    ) -> np.ndarray:
        """Top latents, shape (count, D) float32.

        Parameters
        ----------
        count : int
        temperature : float
            Times the deviations from the mean.
        condition_NK : ndarray, shape (count, K), or None
        seed : int
        first, batch : int
            So many latents of the seed are passed over, a multiple of ``batch``; the first of a
            seed are the same however many follow.
        """
        numbers = range(first // batch, -(-(first + count) // batch))
        shape = (batch, len(self.factor))
        noise = [np.random.default_rng([seed, _DRAW, n]).standard_normal(shape) for n in numbers]
        away = np.concatenate([one @ self.factor.T for one in noise])[:count]
        middle = _design(condition_NK, count) @ self.weights
        return np.asarray(middle + temperature * away, dtype=np.float32)


def _design(condition_NK: np.ndarray | None, count: int) -> np.ndarray:
    """A column of ones, then the conditions."""
    ones = np.ones((count, 1))
    return ones if condition_NK is None else np.hstack([ones, np.nan_to_num(condition_NK)])
