"""Probabilities that fall with distance, fitted to labels, and what came true of predictions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from scipy.optimize import isotonic_regression
from scipy.special import expit

from skytwin.answers.intervals import jeffreys

__all__ = [
    "FITS",
    "Predict",
    "Reliability",
    "fit_isotonic",
    "fit_log_logistic",
    "fit_logistic",
    "reliability",
]

#: Distances (n,) -> probabilities (n,).
Predict = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, eq=False, kw_only=True)
class Reliability:
    """What came true of held-out predictions, bin by bin.

    Attributes
    ----------
    predicted : ndarray, shape (b,), float64
        Mean prediction of the bin.
    observed, lower, upper : ndarray, shape (b,), float64
        Share of positives with its Jeffreys interval.
    count : ndarray, shape (b,), int64
        Labelled objects.
    """

    predicted: np.ndarray
    observed: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    count: np.ndarray

    @property
    def table(self) -> pa.Table:
        """One row per bin."""
        return pa.table(vars(self))


def fit_isotonic(
    distance: np.ndarray, positive: np.ndarray, weight: np.ndarray | None = None
) -> Predict:
    """Isotonic regression, each step with one more object at the base rate."""
    weight = np.ones(len(distance)) if weight is None else weight
    base = np.average(positive, weights=weight)
    x, place = np.unique(distance, return_inverse=True)
    total = np.bincount(place, weight)
    hits = np.bincount(place, weight * positive)
    kept = total > 0
    x, total, hits = x[kept], total[kept], hits[kept]
    step = isotonic_regression(hits / total, weights=total, increasing=False).x
    start = np.concatenate([[True], np.diff(step) < 0])
    block = np.cumsum(start) - 1
    size, inside = np.bincount(block, total), np.bincount(block, hits)
    # Small steps are moved more than large ones, which may put them out of order: once more.
    moved = isotonic_regression((inside + base) / (size + 1), weights=size + 1, increasing=False).x
    return lambda d: np.interp(d, x, moved[block])


def fit_logistic(
    distance: np.ndarray, positive: np.ndarray, weight: np.ndarray | None = None
) -> Predict:
    """``1 / (1 + exp(a + b d))`` with Platt's targets; constant where b would be negative."""
    weight = np.ones(len(distance)) if weight is None else weight
    hits = weight[positive].sum()
    others = weight.sum() - hits
    target = np.where(positive, (hits + 1) / (hits + 2), 1 / (others + 2))
    base = float(np.average(target, weights=weight))
    centre = np.average(distance, weights=weight)
    scale = float(np.sqrt(np.average((distance - centre) ** 2, weights=weight)))
    if scale == 0:
        return lambda d: np.full(len(d), base)
    along = (distance - centre) / scale
    # The loss is convex: if it does not fall towards a negative slope here, it does nowhere.
    if weight @ ((target - base) * along) >= 0:
        return lambda d: np.full(len(d), base)
    beta = _newton(np.stack([np.ones(len(distance)), along], axis=1), target, weight, base)
    return lambda d: np.clip(expit(beta[0] + beta[1] * (d - centre) / scale), 1e-12, 1 - 1e-12)


def _newton(x: np.ndarray, target: np.ndarray, weight: np.ndarray, base: float) -> np.ndarray:
    """Coefficients (2,) of the least weighted log loss, by Newton steps that are halved as needed.

    Targets off 0 and 1 keep them finite.
    """

    def loss(beta: np.ndarray) -> float:
        logit = x @ beta
        return float(weight @ (np.logaddexp(0.0, logit) - target * logit))

    beta = np.array([np.log(base / (1 - base)), 0.0])
    now = loss(beta)
    for _ in range(50):
        p = expit(x @ beta)
        slope = x.T @ (weight * (target - p))
        bend = (x * (weight * p * (1 - p))[:, None]).T @ x
        step = np.linalg.solve(bend + 1e-10 * np.trace(bend) * np.eye(2), slope)
        if slope @ step < 1e-12 * (1 + abs(now)):
            break
        while (then := loss(beta + step)) > now and np.abs(step).max() > 1e-12:
            step = step / 2
        beta, now = beta + step, then
    return beta


def fit_log_logistic(
    distance: np.ndarray, positive: np.ndarray, weight: np.ndarray | None = None
) -> Predict:
    """`fit_logistic` on the logarithm of the distance."""
    inner = fit_logistic(np.log(distance), positive, weight)
    least = distance.min()
    return lambda d: inner(np.log(np.maximum(d, least)))


#: By name; each takes distances, labels and optional weights.
FITS: dict[str, Callable[..., Predict]] = {
    "isotonic": fit_isotonic,
    "logistic": fit_logistic,
    "log-logistic": fit_log_logistic,
}


def reliability(probability: np.ndarray, positive: np.ndarray, level: float) -> Reliability:
    """Ten bins of equal width, those without an object left out."""
    place = np.minimum((probability * 10).astype(int), 9)
    count = np.bincount(place, minlength=10)
    kept = count > 0
    hits = np.bincount(place, positive, minlength=10)[kept].astype(np.int64)
    mean = np.bincount(place, probability, minlength=10)[kept]
    count = count[kept].astype(np.int64)
    lower, upper = jeffreys(hits, count, level)
    return Reliability(
        predicted=mean / count, observed=hits / count, lower=lower, upper=upper, count=count
    )
