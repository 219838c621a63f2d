"""Directions learned from the references against random background.

Both give every object the logit of being like the references; the distance is
``log(1 + exp(-logit))``, the cross-entropy of calling it one of them: 0 for a sure one, growing
without bound. The logit holds for as many references as background objects, so it ranks; a
probability comes from calibration on labels.

``logistic`` is ridge-regularised logistic regression on standardised features. ``lda`` is the
exemplar LDA of Hariharan, Malik & Ramanan (2012, ECCV, eq. 4): one covariance of the whole set,
shrunk towards the identity, serves every query. A `Blend` adds up several scores, each brought
to unit deviation over random objects.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import expit
from threadpoolctl import threadpool_limits

from skytwin.embeddings.metric import Rough, Scorer
from skytwin.embeddings.product import product, product_error
from skytwin.embeddings.ranker import Combined, Scores, negative_share
from skytwin.embeddings.sample import Sample
from skytwin.embeddings.vectors import Block, Statistics
from skytwin.errors import DataError

__all__ = ["Blend", "Learned", "blend", "learn_lda", "learn_logistic"]

BACKGROUND = 300
# Times the number of features: ridge per feature of a 1280-d network that did best is 1000.
RIDGE_PER_FEATURE = 0.8
SHRINKAGE = 0.8
COMBINED_WEIGHT = 2.0


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

    def rough_logit(self, block: Block) -> Rough:
        """Bounds on the logit, (n,) each."""
        matrix = self.weights.astype(np.float32)[:, None]
        logit = product(block.values, matrix)[:, 0] + self.offset
        length = np.sqrt(self.statistics.norms[block.rows, 0])
        width = float(np.linalg.norm(self.weights))
        slack = product_error(len(self.weights)) * width * length + 1e-12
        return Rough(lower=logit - slack, upper=logit + slack)

    def rough(self, block: Block, /) -> Rough:
        """See `skytwin.embeddings.ranker.Ranker`."""
        return _as_distance(self.rough_logit(block))

    def exact(self, vectors: np.ndarray, /) -> Scores:
        """See `skytwin.embeddings.ranker.Ranker`."""
        return Scores(distance=_distance(self.logit(vectors)), each=self.score.exact(vectors))


@dataclass(frozen=True, eq=False, kw_only=True)
class Blend:
    """A weighted sum of scores, each with mean 0 and deviation 1 over random objects.

    The score of a `Combined` member is its distance with the sign turned, that of a `Learned`
    one its logit; the distance is ``log(1 + exp(-sum))``.

    Attributes
    ----------
    members : tuple of Combined or Learned
        One is a `Combined`, which gives the distances to each reference.
    centre, width : ndarray, shape (members,)
        Mean of their scores over the random objects, and deviation over the member's weight.
    """

    members: tuple[Combined | Learned, ...]
    centre: np.ndarray
    width: np.ndarray

    def rough(self, block: Block, /) -> Rough:
        """See `skytwin.embeddings.ranker.Ranker`."""
        lower, upper = np.zeros(len(block.values)), np.zeros(len(block.values))
        for member, centre, width in zip(self.members, self.centre, self.width, strict=True):
            if isinstance(member, Learned):
                bounds = member.rough_logit(block)
                low, high = bounds.lower, bounds.upper
            else:
                bounds = member.rough(block)
                low, high = -bounds.upper, -bounds.lower
            lower += (low - centre) / width
            upper += (high - centre) / width
        return _as_distance(Rough(lower=lower - 1e-12, upper=upper + 1e-12))

    def exact(self, vectors: np.ndarray, /) -> Scores:
        """See `skytwin.embeddings.ranker.Ranker`."""
        total, each = np.zeros(len(vectors)), np.empty((len(vectors), 0))
        for member, centre, width in zip(self.members, self.centre, self.width, strict=True):
            if isinstance(member, Learned):
                score = member.logit(vectors)
            else:
                found = member.exact(vectors)
                score, each = -found.distance, found.each
            total += (score - centre) / width
        return Scores(distance=_distance(total), each=each)


def blend(members: Sequence[Combined | Learned], background: np.ndarray) -> Blend:
    """Add up scores, that of a `Combined` twice.

    Parameters
    ----------
    members : sequence of Combined or Learned
    background : ndarray, shape (n, D)
        Random vectors, over which each score is brought to mean 0 and deviation 1.
    """
    scores = np.stack([_score(member, background) for member in members])
    weight = np.array([COMBINED_WEIGHT if isinstance(m, Combined) else 1.0 for m in members])
    width = scores.std(axis=1) / weight
    return Blend(
        members=tuple(members),
        centre=scores.mean(axis=1),
        width=np.where(width > 0, width, 1.0),
    )


def _score(member: Combined | Learned, vectors: np.ndarray) -> np.ndarray:
    if isinstance(member, Learned):
        return member.logit(vectors)
    return -member.exact(vectors).distance


def _distance(logit: np.ndarray) -> np.ndarray:
    return np.asarray(np.logaddexp(0.0, -logit))


def _as_distance(logit: Rough) -> Rough:
    return Rough(lower=_distance(logit.upper), upper=_distance(logit.lower))


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
    Positives weigh as much together as all that is negative, of which negative references have
    the share `negative_share`: as single objects among 300 they would drown.
    """
    rows = _some(background)
    z = sample.standardized(
        np.concatenate([positives, negatives, sample.vectors[rows]]).astype(np.float32)
    )
    ahead, against = weights[: len(positives)], weights[len(positives) :]
    parts = [ahead / ahead.sum()]
    share = negative_share(len(against))
    if len(against):
        parts.append(share * against / against.sum())
    parts.append(np.full(len(rows), (1 - share) / len(rows)))
    each = np.concatenate(parts) * len(z) / 2
    target = np.arange(len(z)) < len(positives)
    # The weights lie in the span of the rows, mostly far fewer than there are features.
    basis, within = np.linalg.qr(z.T)
    # Matrices so small lose more to threads that wait for each other than they gain.
    with threadpool_limits(1):
        coefficients, intercept = _regress(
            within.T, target, each, ridge=RIDGE_PER_FEATURE * z.shape[1]
        )
    return _from_standardized(basis @ coefficients, intercept, sample, score)


def _regress(
    x: np.ndarray, target: np.ndarray, weights: np.ndarray, ridge: float
) -> tuple[np.ndarray, float]:
    """Coefficients (r,) and intercept of ridge-regularised logistic regression.

    Equivalent to::

        LogisticRegression(C=1 / ridge).fit(x, target, sample_weight=weights)

    of scikit-learn, which takes longer to import than a search of 100 000 objects takes.
    """
    # Slow to import, and only learned directions need it.
    from scipy.optimize import minimize

    sign, total = np.where(target, 1.0, -1.0), weights.sum()
    share, penalty = weights / total, ridge / total

    def loss(found: np.ndarray) -> tuple[float, np.ndarray]:
        margin = sign * (x @ found[:-1] + found[-1])
        pull = -sign * share * expit(-margin)
        value = share @ np.logaddexp(0.0, -margin) + penalty / 2 * (found[:-1] @ found[:-1])
        return value, np.append(pull @ x + penalty * found[:-1], pull.sum())

    found = minimize(
        loss,
        np.zeros(x.shape[1] + 1),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": 1000, "gtol": 1e-6, "ftol": 64 * np.finfo(float).eps},
    ).x
    return found[:-1], float(found[-1])


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
    is the background's mean, or, with negative references, `negative_share` of the way to
    theirs. The score is brought to mean 0 and deviation 1 over the background: so small a sample
    of so many features makes LDA's own logit far too sure, and surer for references that are
    less alike.
    """
    known = sample.scaled[background]
    if not len(known):
        raise DataError("no background object to learn against; the set holds only references")
    centre = known.mean(axis=0)
    ahead, against = weights[: len(positives)], weights[len(positives) :]
    plus = np.average(sample.standardized(positives), axis=0, weights=ahead)
    minus = centre
    if len(against):
        share = negative_share(len(against))
        theirs = np.average(sample.standardized(negatives), axis=0, weights=against)
        minus = (1 - share) * centre + share * theirs
    direction = sample.solve_covariance(plus - minus, SHRINKAGE)
    scores = known @ direction
    width = float(scores.std()) or 1.0
    return _from_standardized(direction / width, -float(scores.mean()) / width, sample, score)


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
