"""How well images are reconstructed, beside what linear codes make of them.

A Very Deep VAE holds more latent numbers than the image has pixels (its layer at full size alone
has ``z_channels`` per pixel), so principal components of as many numbers give the image back to
the last bit, and nothing beats them. A number drawn from a wide posterior says little, though.
What a code costs is its KL divergence from the prior, in nats; the fair rival is the linear code
that costs as much: principal components, each with the noise that is cheapest for a Gaussian
(Cover & Thomas 2006, section 10.3.3), decoded from one draw as the network's code is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from skytwin.errors import DataError

__all__ = ["LinearCode", "ReconstructionError", "linear_errors", "measured_error"]

_RESAMPLES = 1000


@dataclass(frozen=True, kw_only=True, eq=False)
class ReconstructionError:
    """Mean squared error of a kind of reconstruction on held-out images.

    Attributes
    ----------
    name : str
    numbers : int
        Numbers that the code of an image holds.
    nats : float
        What it costs; NaN where numbers are given exactly.
    value, lower, upper : float
        Mean over the images of the squared error per pixel, images in [0, 1], and its interval
        (bootstrap of the images).
    errors : ndarray, shape (n,)
        Of each image.
    """

    name: str
    numbers: int
    nats: float
    value: float
    lower: float
    upper: float
    errors: np.ndarray


@dataclass(frozen=True, kw_only=True, eq=False)
class LinearCode:
    """Principal components of images, all that there are.

    Attributes
    ----------
    mean : ndarray, shape (P,)
    components : ndarray, shape (K, P)
        Orthonormal rows, by falling variance.
    variance : ndarray, shape (K,)
        Over the images it was fitted on.
    images : int
        How many those were.
    """

    mean: np.ndarray
    components: np.ndarray
    variance: np.ndarray
    images: int

    @classmethod
    def fit(cls, x_NP: np.ndarray) -> LinearCode:
        """Of images, flattened.

        Raises
        ------
        DataError
            They are all alike.
        """
        mean = x_NP.mean(axis=0, dtype=np.float64)
        apart = x_NP - mean
        # The smaller of the two squares, which has the same values.
        if len(x_NP) < x_NP.shape[1]:
            power, left = np.linalg.eigh(apart @ apart.T)
            keep = _found(power)
            rows = (left[:, keep].T @ apart) / np.sqrt(power[keep])[:, None]
        else:
            power, right = np.linalg.eigh(apart.T @ apart)
            keep = _found(power)
            rows = right[:, keep].T
        if not len(keep):
            raise DataError("the images are all alike once prepared; there is nothing to code")
        return cls(mean=mean, components=rows, variance=power[keep] / len(x_NP), images=len(x_NP))

    def numbers(self, x_NP: np.ndarray, count: int) -> np.ndarray:
        """The first components ``(N, count)`` of images."""
        return np.asarray((x_NP - self.mean) @ self.components[:count].T)

    def image(self, y_NK: np.ndarray) -> np.ndarray:
        """Images ``(N, P)`` of their first components."""
        return np.asarray(y_NK @ self.components[: y_NK.shape[1]] + self.mean)

    def at_nats(self, x_NP: np.ndarray, nats: float, seed: int) -> tuple[np.ndarray, int, float]:
        """Images of one draw from the linear Gaussian code that costs so much on them.

        A component of variance v above the level t is kept as ``a y`` plus noise of variance
        ``a t``, ``a = 1 - t / v``; the prior of that is normal with variance ``a v``. The level
        is the one at which the mean KL over these images is `nats`.

        Returns
        -------
        image : ndarray, shape (N, P)
        numbers : int
            Components above the level.
        nats : float
        """
        y_NK = self.numbers(x_NP, len(self.variance))
        square_K = np.square(y_NK).mean(axis=0)
        v_K = self.variance

        def cost(level: float) -> float:
            v, square = v_K[v_K > level], square_K[v_K > level]
            share = level / v
            return float(0.5 * (share - 1 + (1 - share) * square / v - np.log(share)).sum())

        low, high = float(v_K[0]) * 1e-12, float(v_K[0])
        for _ in range(100):
            level = float(np.sqrt(low * high))
            low, high = (level, high) if cost(level) > nats else (low, level)
        count = int((v_K > high).sum())
        share_K = 1 - high / v_K[:count]
        noise = np.random.default_rng([seed, 31]).standard_normal((len(x_NP), count))
        drawn = share_K * y_NK[:, :count] + np.sqrt(share_K * high) * noise
        return self.image(drawn), count, cost(high)


def _found(power: np.ndarray) -> np.ndarray:
    """Places of the variances that are no rounding, the largest first."""
    order = np.argsort(-power)
    kept = power[order] > max(float(power.max()), 0.0) * 1e-10
    return order[kept & (power[order] > 0)]


def measured_error(
    name: str,
    image: np.ndarray,
    truth: np.ndarray,
    data: np.ndarray,
    *,
    numbers: int,
    nats: float = float("nan"),
    level: float = 0.95,
    seed: int = 0,
) -> ReconstructionError:
    """The error of some reconstructions, pixels without data left out.

    Parameters
    ----------
    name : str
    image, truth : ndarray, shape (n, ...)
    data : ndarray of bool, shape (n, ...)
        Where the true image has data.
    numbers : int
    nats : float
    level : float
    seed : int
    """
    n = len(truth)
    square = np.square(image.reshape(n, -1) - truth.reshape(n, -1), dtype=np.float64)
    seen = data.reshape(n, -1)
    each = (square * seen).sum(axis=1) / np.maximum(seen.sum(axis=1), 1)
    rng = np.random.default_rng([seed, 32])
    again = each[rng.integers(n, size=(_RESAMPLES, n))].mean(axis=1)
    lower, upper = np.quantile(again, [(1 - level) / 2, (1 + level) / 2])
    return ReconstructionError(
        name=name,
        numbers=numbers,
        nats=nats,
        value=float(each.mean()),
        lower=float(lower),
        upper=float(upper),
        errors=each,
    )


def linear_errors(
    code: LinearCode,
    truth: np.ndarray,
    data: np.ndarray,
    sizes: Sequence[int],
    nats: float,
    *,
    level: float = 0.95,
    seed: int = 0,
) -> list[ReconstructionError]:
    """Errors of the mean image, of some numbers of components, and of the code that costs `nats`.

    Parameters
    ----------
    code : LinearCode
    truth : ndarray, shape (n, C, H, W)
    data : ndarray of bool, shape (n, C, H, W)
    sizes : sequence of int
        Numbers of components; more than there are count as all.
    nats : float
    """
    x_NP = truth.reshape(len(truth), -1).astype(np.float64)

    def measured(name: str, image: np.ndarray, numbers: int, cost: float) -> ReconstructionError:
        return measured_error(
            name, image, truth, data, numbers=numbers, nats=cost, level=level, seed=seed
        )

    found = [measured("mean image", np.broadcast_to(code.mean, x_NP.shape), 0, 0.0)]
    for size in sorted(set(sizes)):
        count = min(size, len(code.variance))
        image = code.image(code.numbers(x_NP, count))
        name = f"PCA, {size} numbers" + (f" ({count} are all)" if count < size else "")
        found.append(measured(name, image, count, float("nan")))
    image, count, cost = code.at_nats(x_NP, nats, seed)
    return [*found, measured("linear code of equal cost", image, count, cost)]
