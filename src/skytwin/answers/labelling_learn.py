"""The ranking learnt again from labels, and the orders in which to label on.

The model is that of ``combine="logistic"``: ridge-regularised logistic regression on
standardised features, objects labelled yes against those labelled no and a random background
(`skytwin.embeddings.learned.learn_logistic`). Its uncertainty is Laplace's approximation around
it (Rasmussen & Williams 2006, Gaussian Processes for Machine Learning, section 3.4, for a linear
kernel).
"""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.special import expit
from scipy.special import logit as logit_of

from skytwin.answers.calibrate_fit import fit_logistic
from skytwin.answers.query import Reference, same_object
from skytwin.embeddings.learned import BACKGROUND, RIDGE_PER_FEATURE, learn_logistic
from skytwin.embeddings.metric import scorer
from skytwin.embeddings.product import product
from skytwin.embeddings.ranker import negative_share
from skytwin.embeddings.table import Embeddings
from skytwin.errors import UsageError

__all__ = ["FEWEST", "LEARNT", "LearntOrder", "Relearnt", "relearn"]

LearntOrder = Literal["top", "uncertain", "gain"]
LEARNT: tuple[LearntOrder, ...] = ("top", "uncertain", "gain")
#: Labels yes, and labels no, from which probabilities are told.
FEWEST = 5
#: `gain` looks so many objects ahead, among so many of the most probable ones.
AHEAD, POOL = 25, 500
# Prior variance of the intercept, in that of a coefficient: it is hardly held back.
_LEVEL = 10.0
# Of each answer; a line through more is no better, and leaving more out takes long.
_LEFT_OUT = 150


@dataclass(frozen=True, eq=False, kw_only=True)
class Relearnt:
    """Scores of all objects, learnt from labels.

    Attributes
    ----------
    embeddings : Embeddings
    logit : ndarray, shape (N,), float64
        0 for as many labelled yes as background: it ranks.
    probability : ndarray or None, shape (N,), float64
        Of a yes, calibrated on the labels, each left out in turn; None with fewer than `FEWEST`
        of either, or where those left out are ranked no better than by chance.
    rows, positive : ndarray, shape (n,)
        The labelled rows, and which are yes.
    free : ndarray of bool, shape (N,)
        Rows that are no reference, nor lie at the place of one.
    references : int
    seconds : float
        That it took.
    """

    embeddings: Embeddings
    logit: np.ndarray
    probability: np.ndarray | None
    rows: np.ndarray
    positive: np.ndarray
    free: np.ndarray
    references: int
    seconds: float
    posterior: Posterior

    @property
    def note(self) -> str:
        """What the probabilities are, in a line."""
        yes = int(self.positive.sum())
        if self.probability is None and min(yes, len(self.rows) - yes) >= FEWEST:
            return (
                "no probabilities: labels that are left out rank no better than chance, so the "
                "score does not either"
            )
        if self.probability is None:
            return (
                f"no probabilities yet: they take {FEWEST} labels yes and {FEWEST} no; the score "
                "ranks"
            )
        return (
            "probabilities are calibrated on the labels, each left out in turn, and hold for "
            "objects such as were labelled"
        )

    @functools.cached_property
    def top(self) -> np.ndarray:
        """All free rows, the most probable first; equal ones by row."""
        order = np.argsort(-self.logit, kind="stable")
        return np.asarray(order[self.free[order]])

    def order(self, name: LearntOrder) -> np.ndarray:
        """All free rows in an order; in the last two, those that are labelled come last.

        ``top``
            The most probable first.
        ``uncertain``
            Nearest to a probability of one half first (Lewis & Gale 1994, SIGIR, uncertainty
            sampling); of a logit of 0 while there are no probabilities.
        ``gain``
            See `gain`; beyond the `POOL` most probable ones as ``top``.
        """
        if name == "top":
            return self.top
        open_ = np.ones(len(self.logit), dtype=bool)
        open_[self.rows] = False
        ahead, labelled = self.top[open_[self.top]], self.top[~open_[self.top]]
        if name == "uncertain":
            offset = (
                np.abs(self.logit[ahead])
                if self.probability is None
                else np.abs(self.probability[ahead] - 0.5)
            )
            ahead = ahead[np.argsort(offset, kind="stable")]
        else:
            worth = self._gain(ahead[:POOL])
            first = ahead[:POOL][np.argsort(-worth, kind="stable")]
            ahead = np.concatenate([first, ahead[POOL:]])
        return np.concatenate([ahead, labelled])

    def _gain(self, rows: np.ndarray) -> np.ndarray:
        mean = self.logit[rows]
        spread = self.posterior.covariance(self.embeddings.vectors.take(rows))
        if self.probability is not None:
            # Platt's line turns the logit into that of the probability.
            known = self.probability
            low, high = int(np.argmin(self.logit)), int(np.argmax(self.logit))
            width = self.logit[high] - self.logit[low]
            slope = (logit_of(known[high]) - logit_of(known[low])) / max(width, 1e-300)
            mean, spread = logit_of(known[rows]), spread * slope**2
        return gain(mean, spread)


@dataclass(frozen=True, eq=False, kw_only=True)
class Posterior:
    """Laplace's approximation around the coefficients.

    Attributes
    ----------
    z : ndarray, shape (n, D)
        What it was learnt from, standardised: yes, no, background.
    logit : ndarray, shape (n,)
    target : ndarray of bool, shape (n,)
    weight : ndarray, shape (n,)
    embeddings : Embeddings
    seed : int
        Of the sample.
    """

    z: np.ndarray
    logit: np.ndarray
    target: np.ndarray
    weight: np.ndarray
    embeddings: Embeddings
    seed: int

    def covariance(self, vectors: np.ndarray) -> np.ndarray:
        """Of the logits of vectors (m, D), (m, m)."""
        x = self._raised(self.embeddings.sample(self.seed).standardized(vectors))
        return self._product(x)

    def left_out(self, places: np.ndarray) -> np.ndarray:
        """Logits of some of the objects, each as learnt from the others, (places,).

        One Newton step away from the whole (Rad & Maleki 2020, J. R. Stat. Soc. B 82, 965).
        """
        spread = np.diag(self._product(self._raised(self.z[places])))
        logit, weight = self.logit[places], self.weight[places]
        p = expit(logit)
        rest = np.maximum(1 - spread * weight * p * (1 - p), 1e-6)
        return np.asarray(logit + spread * weight * (p - self.target[places]) / rest)

    def _product(self, x: np.ndarray) -> np.ndarray:
        """``x (r I + Z' W Z)^-1 x'`` for the ridge ``r`` and ``W = weight p (1 - p)``.

        With fewer objects than features ``(x x' - x Z' (r W^-1 + Z Z')^-1 Z x') / r`` (Woodbury).
        """
        if not self._wide:
            return np.asarray(x @ cho_solve(self._factor, x.T))
        cross = x @ self._raised(self.z).T
        found: np.ndarray = x @ x.T - cross @ cho_solve(self._factor, cross.T)
        return found / self._ridge

    def _raised(self, z: np.ndarray) -> np.ndarray:
        """With a feature for the intercept."""
        level = np.sqrt(_LEVEL * self._ridge)
        return np.concatenate([z, np.full((len(z), 1), level)], axis=1)

    @property
    def _wide(self) -> bool:
        return len(self.z) <= self.embeddings.dim

    @property
    def _ridge(self) -> float:
        return RIDGE_PER_FEATURE * self.embeddings.dim

    @functools.cached_property
    def _factor(self) -> tuple[np.ndarray, bool]:
        p, z = expit(self.logit), self._raised(self.z)
        bend = np.maximum(self.weight * p * (1 - p), 1e-12)
        if self._wide:
            inner = z @ z.T
            inner[np.diag_indices_from(inner)] += self._ridge / bend
        else:
            inner = (z * bend[:, None]).T @ z
            inner[np.diag_indices_from(inner)] += self._ridge
        factor, lower = cho_factor(inner, lower=True, overwrite_a=True)
        return factor, lower


def gain(mean: np.ndarray, covariance: np.ndarray, ahead: int = AHEAD) -> np.ndarray:
    """How many yes to expect of each object and of the ``ahead`` best after it, (m,).

    The score of efficient nonmyopic search (Jiang, Malkomes, Converse, Shofner, Moseley & Garnett
    2017, ICML, eq. 6): the probability of the object itself, plus the sum of the largest
    ``ahead`` probabilities of the others as they would be once its answer is known, averaged
    over the answer. An object whose answer would move many others is worth more than its own
    probability.

    Parameters
    ----------
    mean : ndarray, shape (m,)
        Logits.
    covariance : ndarray, shape (m, m)
        Of the logits. An answer moves them by one Newton step; a probability is the logistic of
        a Gaussian (MacKay 1992, Neural Computation 4, 720, eq. 12).
    ahead : int
    """
    count = len(mean)
    if count < 2:
        return np.ones(count)
    variance = np.diag(covariance)
    p = _mean_probability(mean, variance)
    bend = p * (1 - p)
    step = 1 / (1 + variance * bend)
    left = np.maximum(variance[None, :] - covariance**2 * (bend * step)[:, None], 0.0)
    worth = np.array(p)
    most = min(ahead, count - 1)
    for answer, chance in ((1.0, p), (0.0, 1 - p)):
        moved = mean[None, :] + covariance * ((answer - p) * step)[:, None]
        then = _mean_probability(moved, left)
        np.fill_diagonal(then, 0.0)
        worth += chance * np.partition(then, count - most, axis=1)[:, count - most :].sum(axis=1)
    return worth


def _mean_probability(mean: np.ndarray, variance: np.ndarray) -> np.ndarray:
    return np.asarray(expit(mean / np.sqrt(1 + np.pi / 8 * variance)))


def relearn(
    embeddings: Embeddings,
    rows: np.ndarray,
    positive: np.ndarray,
    *,
    references: Sequence[Reference] = (),
    same_arcsec: float = 2.0,
    seed: int = 0,
) -> Relearnt:
    """Learn from labelled objects what to look at next.

    The same labels, references and seed give the same answer.

    Parameters
    ----------
    embeddings : Embeddings
    rows : ndarray of int, shape (n,)
        Labelled objects, ascending.
    positive : ndarray of bool, shape (n,)
        Which of them are yes.
    references : sequence of Reference
        Count as labelled, the negative ones as no, but are not offered.
    same_arcsec : float
        What lies nearer to a reference is the same object.
    seed : int
        Of the background, presumed to be no.

    Raises
    ------
    UsageError
        Nothing is yes.
    DataError
        Every object is labelled: there is no background.
    """
    begun = time.perf_counter()
    ahead = [r.vector for r in references if not r.negative]
    against = [r.vector for r in references if r.negative]
    if not (ahead or positive.any()):
        raise UsageError(
            "nothing to learn from: no reference, and no object is labelled yes; give like, or "
            "label in the order random first"
        )
    taken = embeddings.vectors.take(rows)
    plus = np.concatenate([taken[positive], *(v[None] for v in ahead)])
    minus = np.concatenate([taken[~positive], *(v[None] for v in against)])
    sample = embeddings.sample(seed)
    background = ~np.isin(sample.rows, rows)
    background &= ~same_object(embeddings, references, same_arcsec, sample.rows)
    score = scorer("standardized", plus, embeddings.statistics)
    weights = np.ones(len(plus) + len(minus))
    learnt = learn_logistic(plus, minus, weights, sample, background, score)
    matrix = learnt.weights.astype(np.float32)[:, None]
    parts = [product(b.values, matrix)[:, 0] for b in embeddings.vectors.stored(release=True)]
    logit = np.concatenate(parts) + learnt.offset
    behind = sample.vectors[np.flatnonzero(background)[:BACKGROUND]]
    every = np.concatenate([plus, minus, behind])
    posterior = Posterior(
        z=sample.standardized(every),
        logit=learnt.logit(every),
        target=np.arange(len(every)) < len(plus),
        weight=_weights(len(plus), len(minus), len(behind)),
        embeddings=embeddings,
        seed=seed,
    )
    yes = int(positive.sum())
    return Relearnt(
        embeddings=embeddings,
        logit=logit,
        probability=_probability(posterior, logit, yes, len(plus), len(rows) - yes),
        rows=rows,
        positive=positive,
        free=~same_object(embeddings, references, same_arcsec),
        references=len(references),
        seconds=time.perf_counter() - begun,
        posterior=posterior,
    )


def _weights(plus: int, minus: int, behind: int) -> np.ndarray:
    """What `learn_logistic` gives each object to say."""
    share = negative_share(minus)
    parts = [np.full(plus, 1 / plus), np.full(minus, share / max(minus, 1))]
    parts.append(np.full(behind, (1 - share) / behind))
    return np.concatenate(parts) * (plus + minus + behind) / 2


def _probability(
    posterior: Posterior, logit: np.ndarray, yes: int, plus: int, no: int
) -> np.ndarray | None:
    """Platt's line through labels that were not learnt from; references are no labels."""
    if min(yes, no) < FEWEST:
        return None
    parts = [_some(yes), plus + _some(no)]
    places = np.concatenate(parts)
    weight = np.repeat([yes / len(parts[0]), no / len(parts[1])], [len(part) for part in parts])
    predict = fit_logistic(-posterior.left_out(places), posterior.target[places], weight)
    found = predict(-logit)
    return None if np.ptp(found) == 0 else np.asarray(found)


def _some(count: int) -> np.ndarray:
    """All of so many places, or `_LEFT_OUT` of them, evenly."""
    return np.unique(np.linspace(0, count - 1, min(count, _LEFT_OUT)).round().astype(np.int64))
