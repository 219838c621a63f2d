"""How odd an object is, by four methods; each is fitted on some objects and scores others.

``knn`` is the mean Euclidean distance, of standardized numbers, to the ten nearest objects
(Ramaswamy, Rastogi & Shim 2000; Angiulli & Pizzuti 2002). ``mahalanobis`` is the distance from the
mean in units of the covariance, shrunk towards a sphere (Ledoit & Wolf 2004). ``forest``
is the isolation forest (Liu, Ting & Zhou 2008). ``flow`` is the negative log-likelihood of a masked
autoregressive flow (Papamakarios et al. 2017; for radio galaxies Andrianomena & Tang 2023). A
higher score is odder.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from sklearn.covariance import ledoit_wolf
from sklearn.ensemble import IsolationForest

from skytwin.errors import DataError, UsageError, one_of

__all__ = [
    "METHODS",
    "Method",
    "Scoring",
    "check_methods",
    "fit_forest",
    "fit_mahalanobis",
    "percentile",
]

Method = Literal["knn", "mahalanobis", "forest", "flow"]
METHODS: tuple[Method, ...] = get_args(Method)
#: Vectors (n, D) to scores (n,).
Scoring = Callable[[np.ndarray], np.ndarray]
_TREES = 300
_MOST_FITTED = 20_000
_BLOCK = 4096


def check_methods(names: tuple[str, ...]) -> tuple[Method, ...]:
    """Known methods, each once, in the order given."""
    found = tuple(dict.fromkeys(one_of("method", name, METHODS) for name in names))
    if not found:
        raise UsageError(f"no method; expected one or more of {', '.join(METHODS)}")
    return found


def fit_mahalanobis(x_ND: np.ndarray, seed: int) -> Scoring:
    """Mahalanobis distance from the mean; at most 20 000 rows, drawn at random, are fitted."""
    x = _some(x_ND, seed).astype(np.float64)
    mean, scale = x.mean(axis=0), x.std(axis=0)
    used = np.flatnonzero(scale > 1e-7 * np.abs(mean))
    if not len(used):
        raise DataError(f"the {len(x)} vectors are all alike; outliers need vectors that vary")
    mean, scale = mean[used], scale[used]
    covariance, _ = ledoit_wolf((x[:, used] - mean) / scale, assume_centered=True)
    factor = cho_factor(covariance, lower=True)

    def score(given: np.ndarray) -> np.ndarray:
        z = (given[:, used].astype(np.float64) - mean) / scale
        square: np.ndarray = np.einsum("ij,ji->i", z, cho_solve(factor, z.T))
        return np.asarray(np.sqrt(square))

    return _blockwise(score)


def fit_forest(x_ND: np.ndarray, seed: int) -> Scoring:
    """Isolation forest of 300 trees, each of 256 objects: 0 to 1, about 0.5 for the ordinary."""
    x = _some(x_ND, seed)
    forest = IsolationForest(n_estimators=_TREES, random_state=seed).fit(x)
    return _blockwise(lambda given: -forest.score_samples(given))


def percentile(
    each_KN: np.ndarray, held: np.ndarray, fold: np.ndarray, *, itself: bool = False
) -> np.ndarray:
    """Percentile of objects among reference objects, shape (n,), 0 to 100; NaN stays NaN.

    100 (1 - p) with the cross-conformal p-value of Vovk (2015, eq. 11): of the reference objects
    those count whose score, by the model that did not see them, is at least that of the object by
    the same model.

    Parameters
    ----------
    each_KN : ndarray, shape (K, n)
        Scores of the objects by the model of each fold.
    held : ndarray, shape (R,)
        Scores of the reference objects by the model that did not see them; NaN do not count.
    fold : ndarray, shape (R,), int
        Whose model that was, below K.
    itself : bool
        The objects are among the reference.
    """
    known = ~np.isnan(held)
    above = np.zeros(each_KN.shape[1])
    for number, scores in enumerate(each_KN):
        values = np.sort(held[known & (fold == number)])
        above += len(values) - np.searchsorted(values, scores, side="left")
    total = int(known.sum()) + (not itself)
    found = 100.0 * (1.0 - (above + (not itself)) / max(total, 1))
    return np.where(np.isnan(each_KN).any(axis=0), np.nan, found)


def _some(x_ND: np.ndarray, seed: int) -> np.ndarray:
    if len(x_ND) <= _MOST_FITTED:
        return x_ND
    rng = np.random.default_rng([seed, 2])
    return np.asarray(x_ND[np.sort(rng.choice(len(x_ND), _MOST_FITTED, replace=False))])


def _blockwise(score: Scoring) -> Scoring:
    def whole(given: np.ndarray) -> np.ndarray:
        parts = [score(given[at : at + _BLOCK]) for at in range(0, len(given), _BLOCK)]
        return np.concatenate([*parts, np.empty(0)])

    return whole
