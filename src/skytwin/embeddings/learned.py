"""Directions learned from the references against random background.

Both give every object the logit of being like the references; the distance is
``log(1 + exp(-logit))``, the cross-entropy of calling it one of them: 0 for a sure one, growing
without bound. The logit holds for as many references as background objects, so it ranks; a
probability comes from calibration on labels.

``logistic`` is ridge-regularised logistic regression on standardised features. ``lda`` is the
exemplar LDA of Hariharan, Malik & Ramanan (2012, ECCV, eq. 4): one covariance of the whole set,
shrunk towards the identity, serves every query.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.linear_model import LogisticRegression

from skytwin.embeddings.metric import Rough, Scorer, product, product_error
from skytwin.embeddings.ranker import Scores
from skytwin.embeddings.sample import Sample
from skytwin.embeddings.vectors import Block, Statistics
from skytwin.errors import DataError

__all__ = ["Learned", "learn_lda", "learn_logistic"]

BACKGROUND = 300
# Times the number of features: ridge per feature of a 1280-d network that did best is 1000.
RIDGE_PER_FEATURE = 0.8
SHRINKAGE = 0.5


@dataclass(frozen=True, eq=False, kw_only=True)
class Learned:
    """A linear logit of the stored vectors.

    Attributes
    ----------
    weights : ndarray, shape (D,), float64
        Of the vectors as stored.
    offset : float
        ``logit = vector . weights + offset``.
    statistics : Statistics
        Of the set it was made for.
    score : Scorer
        Distances to the positive references.
    """

    weights: np.ndarray
    offset: float
    statistics: Statistics
    score: Scorer

    def logit(self, vectors: np.ndarray) -> np.ndarray:
        """Of vectors (n, D), in float64."""
        # Row by row, not through BLAS: identical vectors must get identical distances.
        found: np.ndarray = (
            np.einsum("ij,j->i", vectors.astype(np.float64), self.weights) + self.offset
        )
        return found

    def rough(self, block: Block, /) -> Rough:
        """See `skytwin.embeddings.ranker.Ranker`."""
        matrix = self.weights.astype(np.float32)[:, None]
        logit = product(block.values, matrix)[:, 0] + self.offset
        length = np.sqrt(self.statistics.norms[block.rows, 0])
        width = float(np.linalg.norm(self.weights))
        slack = product_error(len(self.weights)) * width * length + 1e-12
        return Rough(lower=_distance(logit + slack), upper=_distance(logit - slack))

    def exact(self, vectors: np.ndarray, /) -> Scores:
        """See `skytwin.embeddings.ranker.Ranker`."""
        return Scores(distance=_distance(self.logit(vectors)), each=self.score.exact(vectors))


def _distance(logit: np.ndarray) -> np.ndarray:
    return np.asarray(np.logaddexp(0.0, -logit))


def learn_logistic(
    positives: np.ndarray,
    negatives: np.ndarray,
    weights: np.ndarray,
    sample: Sample,
    background: np.ndarray,
    score: Scorer,
) -> Learned:
    """Logistic regression of references against background.

    Parameters
    ----------
    positives, negatives : ndarray, shapes (P, D), (Q, D)
        Reference vectors; the negative ones may be none.
    weights : ndarray, shape (P + Q,)
        Of the references.
    sample : Sample
        Says how features are standardised.
    background : ndarray of bool, shape (M,)
        Rows of the sample that may serve; the first `BACKGROUND` of them do.
    score : Scorer
        Distances to the positive references, for `Scores.each`.

    Notes
    -----
    Positives weigh as much together as all that is negative, and negative references as much
    as the random objects, so that neither drowns among 300.
    """
    rows = _some(background)
    z = sample.standardized(
        np.concatenate([positives, negatives, sample.vectors[rows]]).astype(np.float32)
    )
    ahead, against = weights[: len(positives)], weights[len(positives) :]
    parts = [ahead / ahead.sum()]
    share = 0.5 if len(against) else 1.0
    if len(against):
        parts.append((1 - share) * against / against.sum())
    parts.append(np.full(len(rows), share / len(rows)))
    each = np.concatenate(parts) * len(z) / 2
    target = np.arange(len(z)) < len(positives)
    model = LogisticRegression(C=1.0 / (RIDGE_PER_FEATURE * z.shape[1]), max_iter=1000)
    model.fit(z, target, sample_weight=each)
    return _from_standardized(model.coef_[0], float(model.intercept_[0]), sample, score)


def learn_lda(
    positives: np.ndarray,
    negatives: np.ndarray,
    weights: np.ndarray,
    sample: Sample,
    background: np.ndarray,
    score: Scorer,
) -> Learned:
    """Exemplar LDA of references against background; parameters as in `learn_logistic`.

    Notes
    -----
    ``w = S^-1 (m+ - m-)`` with the background's covariance ``S`` shrunk by `SHRINKAGE`; ``m-``
    is the background's mean, or, with negative references, halfway from it to theirs.
    """
    known = sample.standardized()[background]
    if not len(known):
        raise DataError("no background object to learn against; the set holds only references")
    centre = known.mean(axis=0)
    ahead, against = weights[: len(positives)], weights[len(positives) :]
    plus = np.average(sample.standardized(positives), axis=0, weights=ahead)
    minus = centre
    if len(against):
        minus = 0.5 * (centre + np.average(sample.standardized(negatives), axis=0, weights=against))
    direction = sample.solve_covariance(plus - minus, SHRINKAGE)
    return _from_standardized(direction, -float(direction @ (plus + minus)) / 2, sample, score)


def _some(background: np.ndarray) -> np.ndarray:
    rows = np.flatnonzero(background)[:BACKGROUND]
    if not len(rows):
        raise DataError("no background object to learn against; the set holds only references")
    return rows


def _from_standardized(
    direction: np.ndarray, offset: float, sample: Sample, score: Scorer
) -> Learned:
    weights = direction * sample.statistics.inverse_scale
    return Learned(
        weights=weights,
        offset=offset - float(weights @ sample.statistics.mean),
        statistics=sample.statistics,
        score=score,
    )
