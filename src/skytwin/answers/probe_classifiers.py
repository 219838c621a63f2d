"""Classifiers by name, all on standardised vectors.

The first six are those of Andrianomena & Tang (2023, arXiv 2311.08331, Table 1) with their
settings. ``svc`` at gamma 0.2 takes one class for all where vectors have more than some hundred
numbers; ``svc-scale`` has scikit-learn's default. ``lda`` is linear discriminant analysis with
the covariance of Ledoit & Wolf (2004). ``linear`` is logistic regression whose penalty and
temperature (Guo et al. 2017) come from grouped cross-validation within the training rows.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve, lstsq
from scipy.optimize import minimize_scalar
from scipy.special import expit, log_softmax, softmax
from sklearn.ensemble import (
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC
from threadpoolctl import threadpool_limits

from skytwin.answers.probe_metrics import Outputs
from skytwin.errors import DataError, UsageError, unknown
from skytwin.images.folds import grouped_folds

__all__ = [
    "CLASSIFIERS",
    "LINEAR",
    "PAPER",
    "Fitted",
    "Linear",
    "check_classifiers",
    "fit_classifier",
    "standardisation",
    "undisturbed",
]

PAPER = ("knn", "rf", "svc", "lr", "gb", "ext")
CLASSIFIERS = (*PAPER, "svc-scale", "lda", "linear")
#: Those whose decision is a weighted sum, and that can be kept.
LINEAR = ("lr", "lda", "linear")

_FORESTS = ("rf", "ext")
_PENALTIES = np.logspace(-5, 1, 7)
_INNER_FOLDS = 5
_BLOCK = 4096


class Fitted(Protocol):
    """A classifier that has seen its training rows."""

    def outputs(self, x: np.ndarray, /) -> Outputs:
        """What it says of standardised vectors, shape (n, D)."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Linear:
    """Classes by weighted sums of standardised features.

    Attributes
    ----------
    coefficients : ndarray, shape (1, D) for two classes, else (K, D), float64
    intercept : ndarray, shape (1,) or (K,), float64
    """

    coefficients: np.ndarray
    intercept: np.ndarray

    def logits(self, x: np.ndarray) -> np.ndarray:
        """The weighted sums, shape (n, 1) or (n, K)."""
        return np.asarray(x @ self.coefficients.T + self.intercept)

    def outputs(self, x: np.ndarray, /) -> Outputs:
        """Probabilities are logistic or softmax."""
        return from_logits(self.logits(x))


def from_logits(logits: np.ndarray) -> Outputs:
    """Outputs of logits, shape (n, 1) for two classes, else (n, K)."""
    if logits.shape[1] == 1:
        z = logits[:, 0]
        return Outputs(
            values=np.stack([-z, z], axis=1),
            probability=np.stack([expit(-z), expit(z)], axis=1),
            predicted=(z > 0).astype(np.int64),
        )
    chance = softmax(logits, axis=1)
    return Outputs(values=chance, probability=chance, predicted=logits.argmax(axis=1))


@dataclass(frozen=True, eq=False, kw_only=True)
class _Sklearn:
    estimator: Any
    classes: int

    def outputs(self, x: np.ndarray, /) -> Outputs:
        if isinstance(self.estimator, SVC):
            decision = self.estimator.decision_function(x)
            values = np.stack([-decision, decision], axis=1) if decision.ndim == 1 else decision
            return Outputs(values=values, probability=None, predicted=self.estimator.predict(x))
        chance = np.zeros((len(x), self.classes))
        chance[:, self.estimator.classes_] = self.estimator.predict_proba(x)
        return Outputs(values=chance, probability=chance, predicted=chance.argmax(axis=1))


def check_classifiers(names: Sequence[str]) -> tuple[str, ...]:
    """The names, each once, or an error that says which there are."""
    found = tuple(dict.fromkeys(names))
    if not found:
        raise UsageError(f"no classifier; expected some of {', '.join(CLASSIFIERS)}")
    for name in found:
        if name not in CLASSIFIERS:
            raise unknown("classifier", name, CLASSIFIERS)
    return found


def standardisation(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and scale of every feature, each (D,) float64; 1 for a feature that never varies."""
    mean, square = x.mean(axis=0, dtype=np.float64), np.zeros(x.shape[1])
    for begin in range(0, len(x), _BLOCK):
        off = x[begin : begin + _BLOCK] - mean
        square += np.einsum("ij,ij->j", off, off)
    scale = np.sqrt(square / len(x))
    # Rounding leaves a feature that never varies a width of a few ulps.
    return mean, np.where(scale <= 1e-7 * np.abs(mean), 1.0, scale)


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """What every fit is made within, wherever it runs; entered by one thread for all.

    Sums are made by one thread: with more they are rounded in another order. After the paper's
    1000 steps the weights of a logistic regression are taken as they are, without a warning.
    """
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield


def fit_classifier(
    name: str,
    x: np.ndarray,
    truth: np.ndarray,
    group: np.ndarray,
    classes: int,
    *,
    seed: int = 0,
    jobs: int = 1,
) -> Fitted:
    """Fit one classifier; within `undisturbed`.

    Parameters
    ----------
    name : str
        One of `CLASSIFIERS`.
    x : ndarray, shape (n, D), float64
        Standardised vectors.
    truth, group : ndarray, shape (n,), int
        Number of the class, all of which occur, and of the object.
    classes : int
        K.
    seed : int
    jobs : int
        Threads of the forests.
    """
    if len(np.unique(truth)) < classes:
        raise DataError(
            f"{len(np.unique(truth))} of {classes} classes among {len(truth)} training rows; "
            "expected all: objects with several labels leave too few, give each object one label"
        )
    if name == "lr":
        basis, inner = _narrowed(x)
        return _widened(_logistic(inner, truth, 1.0, 1e-6), basis)
    if name == "lda":
        return _discriminant(x, truth, classes)
    if name == "linear":
        return _tuned(x, truth, group, classes, seed)
    estimator: Any
    if name == "knn":
        estimator = KNeighborsClassifier(min(20, len(x)))
    elif name == "rf":
        estimator = RandomForestClassifier(260, random_state=seed, n_jobs=jobs)
    elif name == "ext":
        estimator = ExtraTreesClassifier(400, random_state=seed, n_jobs=jobs)
    elif name == "gb":
        estimator = GradientBoostingClassifier(n_estimators=250, random_state=seed)
    else:
        estimator = SVC(C=100, gamma=0.2 if name == "svc" else "scale")
    estimator.fit(x, truth)
    if name in _FORESTS:
        estimator.n_jobs = 1  # trees that are asked side by side add up in any order
    return _Sklearn(estimator=estimator, classes=classes)


def _narrowed(x: np.ndarray) -> tuple[np.ndarray | None, np.ndarray]:
    """An orthonormal basis (D, n) of the rows and the rows in it; no basis where n >= D.

    A quadratic penalty does not change with the axes, so a fit in this basis is the fit, but
    for where the solver stops.
    """
    if len(x) >= x.shape[1]:
        return None, x
    basis, inner = np.linalg.qr(x.T)
    return basis, np.ascontiguousarray(inner.T)


def _widened(found: LogisticRegression, basis: np.ndarray | None, temperature: float = 1) -> Linear:
    weights = found.coef_ if basis is None else found.coef_ @ basis.T
    return Linear(coefficients=weights / temperature, intercept=found.intercept_ / temperature)


def _logistic(
    x: np.ndarray, truth: np.ndarray, penalty: float, tolerance: float = 1e-4
) -> LogisticRegression:
    return LogisticRegression(C=penalty, max_iter=1000, tol=tolerance).fit(x, truth)


def _tuned(x: np.ndarray, truth: np.ndarray, group: np.ndarray, classes: int, seed: int) -> Linear:
    """Logistic regression; C and temperature of the least held-out log loss."""
    basis, inner = _narrowed(x)
    objects = min(len(np.unique(group[truth == k])) for k in range(classes))
    folds = min(_INNER_FOLDS, objects)
    if folds < 2:
        return _widened(_logistic(inner, truth, 0.01), basis)
    part = grouped_folds(group, folds, seed, stratify=truth)
    logits = np.zeros((len(_PENALTIES), len(x), 1 if classes == 2 else classes))
    for fold in range(folds):
        out = part == fold
        if len(np.unique(truth[~out])) < classes:  # only where one object has several classes
            return _widened(_logistic(inner, truth, 0.01), basis)
        seen = inner[~out]
        for place, penalty in enumerate(_PENALTIES):
            fit = _logistic(seen, truth[~out], float(penalty))
            found = fit.decision_function(inner[out])
            logits[place, out] = found[:, None] if found.ndim == 1 else found
    scored = [_temperature(each, truth) for each in logits]
    best = int(np.argmin([loss for _, loss in scored]))
    return _widened(_logistic(inner, truth, float(_PENALTIES[best])), basis, scored[best][0])


def _temperature(logits: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """What to divide logits by for the least log loss, and that loss."""
    both = np.concatenate([np.zeros_like(logits), logits], axis=1)
    full = both if logits.shape[1] == 1 else logits
    rows = np.arange(len(truth))

    def loss(log_temperature: float) -> float:
        return float(-log_softmax(full / np.exp(log_temperature), axis=1)[rows, truth].mean())

    found = minimize_scalar(loss, bounds=(-5.0, 5.0), method="bounded")
    return float(np.exp(found.x)), float(found.fun)


def _discriminant(x: np.ndarray, truth: np.ndarray, classes: int) -> Linear:
    """Linear discriminant analysis, the covariance of each class shrunk.

    Equivalent to::

        LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto").fit(x, truth)

    without a matrix of D x D where there are fewer rows than features.
    """
    prior = np.bincount(truth, minlength=classes) / len(truth)
    means = np.stack([x[truth == k].mean(axis=0) for k in range(classes)])
    rows, diagonal = [], np.zeros(x.shape[1])
    long = len(x) >= x.shape[1]
    for k in range(classes):
        off = x[truth == k]
        off -= means[k]
        scale = np.sqrt(np.einsum("ij,ij->j", off, off) / len(off))
        scale = np.where(scale <= 1e-12, 1.0, scale)
        off /= scale
        shrinkage, level = _ledoit_wolf(off)
        off *= scale * np.sqrt(prior[k] * (1 - shrinkage) / len(off))
        # Where there are more rows than features, their products are all that is needed.
        rows.append(off.T @ off if long else off)
        diagonal += prior[k] * shrinkage * level * scale**2
    solve = _solve_products if long else _solve_rows
    coefficients = solve(rows, diagonal, means.T).T
    intercept = np.log(prior) - 0.5 * np.einsum("kd,kd->k", means, coefficients)
    if classes == 2:
        coefficients, intercept = np.diff(coefficients, axis=0), np.diff(intercept)
    return Linear(coefficients=coefficients, intercept=intercept)


def _ledoit_wolf(x: np.ndarray) -> tuple[float, float]:
    """Shrinkage and mean variance of centred rows, (n, D), without their covariance."""
    count, dim = x.shape
    lengths = np.einsum("ij,ij->i", x, x)
    level = float(lengths.sum() / (count * dim))
    products = x @ x.T if count < dim else x.T @ x  # of either, the squares add up alike
    spread = float(np.einsum("ij,ij->", products, products) / count**2)
    fourth = float((lengths**2).sum() / count)
    delta = (spread - dim * level**2) / dim
    beta = min((fourth - spread) / (dim * count), delta)
    return (beta / delta if beta > 0 else 0.0), level


def _solve_rows(several: list[np.ndarray], diagonal: np.ndarray, right: np.ndarray) -> np.ndarray:
    """``(rows.T @ rows + diag(diagonal))^-1 @ right``, shape (D, K); fewer rows than D."""
    rows = np.concatenate(several)
    if diagonal.min() > 0:
        # Woodbury's identity.
        scaled = rows / diagonal
        try:
            small = cho_factor(np.eye(len(rows)) + scaled @ rows.T)
        except LinAlgError:
            return _solve_products([rows.T @ rows], diagonal, right)
        lifted = right / diagonal[:, None]
        return np.asarray(lifted - scaled.T @ cho_solve(small, rows @ lifted))
    return _solve_products([rows.T @ rows], diagonal, right)


def _solve_products(
    several: list[np.ndarray], diagonal: np.ndarray, right: np.ndarray
) -> np.ndarray:
    """The same from the products ``rows.T @ rows`` of each class."""
    whole = np.sum(several, axis=0) + np.diag(diagonal)
    try:
        return np.asarray(cho_solve(cho_factor(whole), right))
    except LinAlgError:
        return np.asarray(lstsq(whole, right)[0])
