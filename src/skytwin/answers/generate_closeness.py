"""How close two sets of images are: two-sample tests on vectors, and the nearest images.

Two tests on vectors. The energy distance (Szekely & Rizzo 2013), over its largest possible value,
with a permutation test. And whether a classifier can tell the sets apart (Lopez-Paz & Oquab 2017,
arXiv 1610.06545): 0.5 is chance, 1 is always. A classifier that fails to tell them apart shows
no more than that this classifier, on these vectors and with so many images, fails.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.distance import cdist
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.model_selection import StratifiedKFold, cross_val_predict

from skytwin.answers.drift import Effect, compare_distances
from skytwin.errors import DataError, UsageError

__all__ = ["Comparison", "Nearest", "compare_vectors", "energy_test", "told_apart"]

FEWEST = 20  # of each set
_TREES, _FOLDS = 100, 5


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two sets of images, told apart or not.

    Attributes
    ----------
    judge : str
        What made the vectors.
    one, other : str
        The sets.
    count_one, count_other : int
    energy : float
        Energy distance over its largest value: 0 the same, 1 nothing in common.
    p : float
        Share of permutations with as large an energy distance.
    auc : Effect
        Of a classifier in cross-validation, with its interval; 0.5 is chance.
    """

    judge: str
    one: str
    other: str
    count_one: int
    count_other: int
    energy: float
    p: float
    auc: Effect


def compare_vectors(
    judge: str,
    one: tuple[str, np.ndarray],
    other: tuple[str, np.ndarray],
    *,
    permutations: int = 999,
    level: float = 0.95,
    seed: int = 0,
) -> Comparison:
    """Both tests on two sets of vectors.

    Parameters
    ----------
    judge : str
    one, other : (str, ndarray of shape (n, D) and (m, D))
        Name and vectors, at least 20 of each. They are standardised together.
    permutations : int
    level : float
        Of the interval.
    seed : int
    """
    a, b = _standardised(one[1], other[1])
    energy, p = energy_test(a, b, permutations=permutations, seed=seed)
    return Comparison(
        judge=judge,
        one=one[0],
        other=other[0],
        count_one=len(a),
        count_other=len(b),
        energy=energy,
        p=p,
        auc=told_apart(a, b, level=level, seed=seed),
    )


def energy_test(
    a_ND: np.ndarray, b_MD: np.ndarray, *, permutations: int = 999, seed: int = 0
) -> tuple[float, float]:
    """Normalised energy distance, and the share of permutations that reach it.

    ``(2 E|A-B| - E|A-A'| - E|B-B'|) / (2 E|A-B|)``, the means over all pairs, those of an object
    with itself included (Szekely & Rizzo 2013, eq. 6.1).

    Raises
    ------
    UsageError
        No permutation.
    """
    if permutations < 1:
        raise UsageError(f"{permutations} permutations; expected at least 1")
    both = np.concatenate([a_ND, b_MD]).astype(np.float64)
    apart = cdist(both, both)
    weight = np.concatenate([np.full(len(a_ND), 1 / len(a_ND)), np.full(len(b_MD), -1 / len(b_MD))])

    def distance(w_RN: np.ndarray) -> np.ndarray:
        return np.asarray(-np.einsum("rn,rn->r", w_RN @ apart, w_RN))

    found = float(distance(weight[None])[0])
    rng = np.random.default_rng([seed, 21])
    others = np.concatenate(
        [
            distance(rng.permuted(np.tile(weight, (min(100, permutations - start), 1)), axis=1))
            for start in range(0, permutations, 100)
        ]
    )
    between = float(apart[: len(a_ND), len(a_ND) :].mean())
    # Rounding aside, a permutation that changes nothing is as large.
    reach = int((others >= found * (1 - 1e-12)).sum())
    return (found / (2 * between) if between > 0 else 0.0), (1 + reach) / (1 + permutations)


def told_apart(a_ND: np.ndarray, b_MD: np.ndarray, *, level: float = 0.95, seed: int = 0) -> Effect:
    """Area under the ROC curve of extremely randomised trees that tell A from B.

    Every object is judged by trees that were grown without it, in 5 folds; the interval is a
    bootstrap of the objects' scores, the trees as they are.

    Raises
    ------
    DataError
        Fewer than 20 of either.
    """
    x = np.concatenate([a_ND, b_MD])
    y = np.repeat([0, 1], [len(a_ND), len(b_MD)])
    if min(len(a_ND), len(b_MD)) < FEWEST:
        raise DataError(f"{len(a_ND)} and {len(b_MD)} vectors; a comparison needs {FEWEST} of each")
    # Weights, so that a set that is larger is not found the likelier one.
    trees = ExtraTreesClassifier(
        _TREES, min_samples_leaf=3, class_weight="balanced", random_state=seed
    )
    folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=seed)
    score = cross_val_predict(trees, x, y, cv=folds, method="predict_proba")[:, 1]
    return compare_distances(score[y == 0], score[y == 1], level=level, seed=seed).auc


def _standardised(one: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """By mean and deviation of both together, so that no side is preferred."""
    both = np.concatenate([one, other]).astype(np.float64)
    deviation = both.std(axis=0)
    both = (both - both.mean(axis=0)) / np.where(deviation > 0, deviation, 1)
    return both[: len(one)], both[len(one) :]


class Nearest:
    """The nearest of many images, to each of some, as blocks of them go by.

    Parameters
    ----------
    wanted_NP : ndarray, shape (n, P), float32
        Images, flattened.

    Attributes
    ----------
    place : ndarray, shape (n,), int64
        Which of those shown is the nearest; -1 before any.
    distance : ndarray, shape (n,), float64
        Root mean square of the difference over the pixels.
    """

    def __init__(self, wanted_NP: np.ndarray) -> None:
        self._wanted = wanted_NP
        self.place = np.full(len(wanted_NP), -1, dtype=np.int64)
        self.distance = np.full(len(wanted_NP), np.inf)
        self._shown = 0

    def show(self, block_MP: np.ndarray) -> None:
        """Look at some more."""
        square = np.einsum("mp,mp->m", block_MP, block_MP, dtype=np.float64)
        rough = square - 2.0 * (self._wanted @ block_MP.T)
        best = rough.argmin(axis=1)
        # Of a copy the products above leave rounding alone: take the difference itself.
        apart = self._wanted - block_MP[best]
        exact = np.sqrt(np.mean(np.square(apart, dtype=np.float64), axis=1))
        nearer = exact < self.distance
        self.place[nearer] = best[nearer] + self._shown
        self.distance[nearer] = exact[nearer]
        self._shown += len(block_MP)

    def state(self) -> dict[str, np.ndarray]:
        """What it takes to go on."""
        return {
            "place": self.place,
            "distance": self.distance,
            "shown": np.array(self._shown),
        }

    def go_on(self, place: np.ndarray, distance: np.ndarray, shown: np.ndarray) -> None:
        """From where another stood that looked for the nearest of the same images."""
        self.place, self.distance, self._shown = place, distance, int(shown)
