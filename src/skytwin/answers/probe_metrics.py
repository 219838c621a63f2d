"""How good predictions of classes are, with intervals from resampled objects."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.stats import binom, norm
from scipy.stats import t as student

from skytwin.answers.calibrate_fit import Reliability, reliability
from skytwin.answers.intervals import jeffreys
from skytwin.errors import UsageError

__all__ = [
    "Estimate",
    "Outputs",
    "Resamples",
    "area",
    "calibration_error",
    "confusion",
    "cross_validated",
    "estimates",
    "holm",
    "mcnemar",
    "measure",
    "reliability_of",
    "replicates",
]

_AT_ONCE = 4_000_000  # weights held in memory
_SHARES = ("accuracy", "balanced", "specificity", "recall")


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A number and its interval."""

    value: float
    lower: float
    upper: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.lower:.3f}, {self.upper:.3f}]"


@dataclass(frozen=True, eq=False, kw_only=True)
class Outputs:
    """What a classifier says of n objects.

    Attributes
    ----------
    values : ndarray, shape (n, K), float64
        The larger, the more of that class; what the area under the ROC curve is taken of.
    probability : ndarray, shape (n, K), float64, or None
        None for classifiers without.
    predicted : ndarray, shape (n,), int64
        Number of the class.
    """

    values: np.ndarray
    probability: np.ndarray | None
    predicted: np.ndarray


@dataclass(frozen=True, eq=False, kw_only=True)
class Resamples:
    """Objects drawn anew with all their rows.

    Attributes
    ----------
    group : ndarray, shape (n,), int64
        Object of every row.
    count : int
        How many resamples.
    seed : int
    """

    group: np.ndarray
    count: int
    seed: int

    def blocks(self) -> Iterator[np.ndarray]:
        """Weights of the rows, shape (b, n) float64, some resamples at a time; always the same."""
        rng = np.random.default_rng(self.seed)
        group = np.unique(self.group, return_inverse=True)[1]
        number = int(group.max()) + 1
        step = max(1, _AT_ONCE // len(self.group))
        for start in range(0, self.count, step):
            drawn = [
                np.bincount(rng.integers(number, size=number), minlength=number)
                for _ in range(min(step, self.count - start))
            ]
            yield np.array(drawn, dtype=np.float64)[:, group]


def measure(outputs: Outputs, truth: np.ndarray, weight: np.ndarray) -> dict[str, np.ndarray]:
    """Metrics for each row of weights, NaN where a class has no weight.

    ``accuracy``; ``auc``, of several classes the mean of each against the rest; ``balanced``, the
    mean of the classes' recalls; of two classes ``specificity`` (recall of the first) and
    ``recall`` (of the second); with probabilities ``brier``, the mean squared error of the second
    class's probability, of several classes summed over them.

    Parameters
    ----------
    outputs : Outputs
    truth : ndarray, shape (n,), int
    weight : ndarray, shape (b, n), float64

    Returns
    -------
    dict of str to ndarray, shape (b,)
    """
    classes = outputs.values.shape[1]
    right = (outputs.predicted == truth).astype(np.float64)
    recalls = []
    with np.errstate(invalid="ignore", divide="ignore"):
        for each in range(classes):
            own = (truth == each).astype(np.float64)
            recalls.append((weight @ (own * right)) / (weight @ own))
        total = weight.sum(axis=1)
        found = {
            "accuracy": (weight @ right) / total,
            "auc": _auc(outputs.values, truth, weight),
            "balanced": np.mean(recalls, axis=0),
        }
        if classes == 2:
            found |= {"specificity": recalls[0], "recall": recalls[1]}
        if outputs.probability is not None:
            error = (outputs.probability - np.eye(classes)[truth]) ** 2
            squared = error[:, 1] if classes == 2 else error.sum(axis=1)
            found["brier"] = (weight @ squared) / total
    return found


def _auc(values: np.ndarray, truth: np.ndarray, weight: np.ndarray) -> np.ndarray:
    classes = values.shape[1]
    which = [1] if classes == 2 else range(classes)
    return np.asarray(
        np.mean([_binary_auc(values[:, k], truth == k, weight) for k in which], axis=0)
    )


def _binary_auc(score: np.ndarray, positive: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Share of weighted pairs in order, ties counted half, shape (b,)."""
    order = np.argsort(score, kind="stable")
    starts = np.flatnonzero(np.concatenate([[True], np.diff(score[order]) > 0]))
    sorted_weight, hit = weight[:, order], positive[order].astype(np.float64)
    above = np.add.reduceat(sorted_weight * hit, starts, axis=1)
    below = np.add.reduceat(sorted_weight * (1 - hit), starts, axis=1)
    pairs = (above * (np.cumsum(below, axis=1) - below / 2)).sum(axis=1)
    return np.asarray(pairs / (above.sum(axis=1) * below.sum(axis=1)))


def replicates(outputs: Outputs, truth: np.ndarray, again: Resamples) -> dict[str, np.ndarray]:
    """Metrics of every resample, each shape (count,)."""
    parts = [measure(outputs, truth, weight) for weight in again.blocks()]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def estimates(
    outputs: Outputs,
    truth: np.ndarray,
    group: np.ndarray,
    drawn: dict[str, np.ndarray],
    level: float,
) -> dict[str, Estimate]:
    """Metrics with percentile intervals over resampled objects.

    A bootstrap that never saw an error has no width: shares are never given less than the Jeffreys
    interval of so many objects, and an area of 0 or 1 takes method 5 of Newcombe (2006).

    Parameters
    ----------
    outputs : Outputs
    truth, group : ndarray, shape (n,), int
    drawn : dict of str to ndarray
        As `replicates` has them.
    level : float
    """
    values = measure(outputs, truth, np.ones((1, len(truth))))
    classes = outputs.values.shape[1]
    objects = [len(np.unique(group[truth == k])) for k in range(classes)]
    counts = {"accuracy": len(np.unique(group)), "specificity": objects[0], "recall": objects[-1]}
    tail = (1 - level) / 2
    found = {}
    for name, given in values.items():
        value = float(given[0])
        lower, upper = np.nanquantile(drawn[name], [tail, 1 - tail])
        if name in _SHARES:
            # The balanced accuracy rests on each class: its rarest is where it can go wrong.
            number = counts.get(name, classes * min(objects))
            low, high = jeffreys(np.array([value * number]), np.array([number]), level)
            lower, upper = min(lower, low[0]), max(upper, high[0])
        elif name == "auc":
            found[name] = area(value, drawn[name], objects, level)
            continue
        found[name] = Estimate(value=value, lower=float(lower), upper=float(upper))
    return found


def area(value: float, drawn: np.ndarray, objects: Sequence[int], level: float) -> Estimate:
    """An area under the curve with the interval that `estimates` gives it.

    Parameters
    ----------
    value : float
    drawn : ndarray, shape (count,)
        Of resamples.
    objects : sequence of int
        How many there are of each class.
    level : float
    """
    if value in (0.0, 1.0):
        lower, upper = _newcombe(value, min(objects), sum(objects) - min(objects), level)
    else:
        tail = (1 - level) / 2
        lower, upper = np.nanquantile(drawn, [tail, 1 - tail])
    return Estimate(value=value, lower=float(lower), upper=float(upper))


def _newcombe(value: float, one: int, other: int, level: float) -> tuple[float, float]:
    """Limits of an area of 0 or 1 between so many objects of two kinds."""
    z = norm.ppf((1 + level) / 2)
    half = (one + other) / 2 - 1

    def off(area: float) -> float:
        spread = 1 + half * ((1 - area) / (2 - area) + area / (1 + area))
        return float((1 - area) ** 2 - z**2 * area * (1 - area) * spread / (one * other))

    edge = brentq(off, 1e-12, 1 - 1e-12)
    return (edge, 1.0) if value == 1 else (0.0, 1 - edge)


def cross_validated(each: np.ndarray, folds: int, level: float) -> Estimate:
    """Mean over folds with the corrected resampled t interval (Nadeau & Bengio 2003).

    Parameters
    ----------
    each : ndarray, shape (repeats * folds,)
    folds : int
    level : float
    """
    known = each[np.isfinite(each)]
    if len(known) < 2:  # a class missing from fold after fold
        return Estimate(value=float("nan"), lower=float("nan"), upper=float("nan"))
    value = float(known.mean())
    spread = np.sqrt(known.var(ddof=1) * (1 / len(known) + 1 / (folds - 1)))
    reach = float(student.ppf((1 + level) / 2, len(known) - 1) * spread)
    return Estimate(value=value, lower=max(0.0, value - reach), upper=min(1.0, value + reach))


def confusion(truth: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """How many of each class (row) were taken for which (column), shape (K, K) int64."""
    return np.bincount(truth * classes + predicted, minlength=classes**2).reshape(classes, classes)


def reliability_of(outputs: Outputs, truth: np.ndarray, level: float) -> Reliability | None:
    """What came true of probabilities: of the second class, or of several classes the likeliest."""
    if outputs.probability is None:
        return None
    if outputs.probability.shape[1] == 2:
        return reliability(outputs.probability[:, 1], truth == 1, level)
    likeliest = outputs.probability.argmax(axis=1)
    return reliability(outputs.probability.max(axis=1), likeliest == truth, level)


def calibration_error(found: Reliability) -> float:
    """Expected calibration error: mean gap between prediction and outcome over ten bins."""
    gap = np.abs(found.predicted - found.observed)
    return float((gap * found.count).sum() / found.count.sum())


def mcnemar(one: np.ndarray, other: np.ndarray) -> tuple[int, int, float]:
    """Exact McNemar test of two classifiers on the same objects.

    Parameters
    ----------
    one, other : ndarray of bool, shape (n,)
        Where each is right.

    Returns
    -------
    only_one, only_other : int
        Objects that only the one, or only the other has right.
    p : float
        Two-sided.
    """
    if one.shape != other.shape:
        raise UsageError(f"outcomes of {one.shape} and {other.shape} objects; expected the same")
    first, second = int((one & ~other).sum()), int((other & ~one).sum())
    p = min(1.0, 2 * float(binom.cdf(min(first, second), first + second, 0.5)))
    return first, second, p


def holm(p: Sequence[float]) -> list[float]:
    """Holm's (1979) adjusted p-values, in the given order."""
    order = np.argsort(p, kind="stable")
    adjusted = np.empty(len(p))
    adjusted[order] = np.maximum.accumulate(
        np.minimum(1.0, np.asarray(p)[order] * (len(p) - np.arange(len(p))))
    )
    return [float(value) for value in adjusted]
