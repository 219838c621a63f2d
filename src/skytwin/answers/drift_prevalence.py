"""Another survey, another prevalence: how many positives are there, without labels there.

Where the two surveys differ only in how frequent the class is, the distances there are a mixture
of the positives' and the others' distances here, and its proportion is the prevalence there. It is
estimated by maximum likelihood, the fixed point of the EM of Saerens, Latinne & Decaestecker
(2002, eq. 2.9), on counts in bins of distance. Probabilities are then corrected by the change of
odds (Elkan 2001, theorem 2). Whether the distances there are such a mixture is tested; if they are
visibly not, there is no corrected number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from skytwin.answers.calibrate import Calibration
from skytwin.answers.drift import Effect
from skytwin.errors import DataError, UsageError

__all__ = ["Prevalence", "estimate_prevalence"]

_FEWEST = 10  # positives, others, and objects there
_EDGES = 6  # quantiles of the positives, and of the others, that bound the bins
_STEPS = 60


@dataclass(frozen=True, eq=False, kw_only=True)
class Prevalence:
    """The share of positives in another survey, and what follows from it.

    Attributes
    ----------
    here, there : Effect
        Prevalence among the labelled objects here, and estimated there.
    misfit : float
        Total variation between the distances there and the best mixture: the share of objects
        there whose distance is not explained.
    misfit_expected : float
        What chance alone brings in 19 of 20 cases.
    refused : str or None
        Why there is no corrected number.
    threshold : float or None
    purity_here, purity_there : Effect or None
        Within the threshold: measured here, corrected there; None without a threshold or where
        it is refused.
    within_there, predicted_there : int, float or None
        Objects within the threshold there, and how many the mixture says.
    level : float
        Coverage of the intervals.
    """

    here: Effect
    there: Effect
    misfit: float
    misfit_expected: float
    refused: str | None
    threshold: float | None
    purity_here: Effect | None
    purity_there: Effect | None
    within_there: int | None
    predicted_there: float | None
    level: float

    def __repr__(self) -> str:
        return f"Prevalence({self.summary})"

    def correct(self, probability: np.ndarray | Sequence[float]) -> np.ndarray:
        """Probabilities from here, as they are there, (n,).

        Raises
        ------
        DataError
            The correction is refused.
        """
        if self.refused is not None:
            raise DataError(self.refused)
        p = np.asarray(probability, dtype=np.float64)
        if not ((p >= 0) & (p <= 1)).all():
            raise UsageError("a probability is not between 0 and 1")
        here, there = self.here.value, self.there.value
        yes, no = p * there / here, (1 - p) * (1 - there) / (1 - here)
        return np.asarray(np.divide(yes, yes + no, out=np.zeros_like(yes), where=yes + no > 0))

    @property
    def summary(self) -> str:
        """The answer in one line."""
        if self.refused is not None:
            return self.refused
        lead = f"prevalence {self.here} here, {self.there} there"
        if self.purity_here is None or self.purity_there is None:
            return lead
        return (
            f"{lead}; within {self.threshold:.4g} purity {self.purity_here} here, "
            f"{self.purity_there} there"
        )

    @property
    def warning(self) -> str | None:
        """What to beware of, in one line; None where there is nothing."""
        if self.refused is not None:
            return self.refused
        if self.there.lower <= self.here.upper and self.here.lower <= self.there.upper:
            return None
        more = "more" if self.there.value > self.here.value else "less"
        return (
            f"the class is {more} frequent there ({self.there}, here {self.here}), if that is all "
            "that differs: use the corrected purity and probabilities"
        )


def estimate_prevalence(
    calibration: Calibration,
    there: np.ndarray,
    *,
    threshold: float | None = None,
    tolerance: float = 0.05,
    level: float = 0.95,
    resamples: int = 500,
    seed: int = 0,
) -> Prevalence:
    """Estimate the prevalence of a class in a survey without labels.

    Parameters
    ----------
    calibration : Calibration
        Holds the labelled distances here.
    there : ndarray, shape (m,)
        Distances of all objects there, or of a random sample, measured as they were here.
    threshold : float, optional
        A distance that is to be carried over.
    tolerance : float
        The misfit that is let pass even where it is more than chance.
    level : float
        Coverage of the intervals, of a bootstrap over labelled objects here and objects there.
    resamples : int
    seed : int

    Raises
    ------
    DataError
        Too few objects; a distance that is not finite.

    Notes
    -----
    It is refused (`Prevalence.refused`) where the misfit is both more than chance brings and more
    than ``tolerance``, or where the number of objects within the threshold is off by a quarter
    and by more than chance. A change that imitates a mixture, such as a new class at the
    distances of the positives, cannot be seen from distances.
    """
    if not 0 < level < 1:
        raise UsageError(f"interval level {level}; expected a number between 0 and 1")
    if not 0 <= tolerance < 1:
        raise UsageError(f"tolerance {tolerance}; expected a number from 0 to 1")
    target = np.asarray(there, dtype=np.float64)
    if target.ndim != 1 or len(target) < _FEWEST:
        raise DataError(f"{target.size} distances there; expected at least {_FEWEST}")
    if not np.isfinite(target).all():
        raise DataError("a distance there is NaN or infinite; leave those objects out")
    hits = calibration.distance[calibration.positive]
    others = calibration.distance[~calibration.positive]
    edges = _bins(hits, others, threshold)
    positives, negatives, found = (
        np.bincount(np.searchsorted(edges, x), minlength=len(edges) + 1)
        for x in (hits, others, target)
    )
    rng = np.random.default_rng(seed)
    labelled = len(hits) + len(others)
    # Objects here are drawn anew with their labels, so that the prevalence here varies too.
    number = np.clip(rng.binomial(labelled, len(hits) / labelled, resamples), 1, labelled - 1)
    drawn_hits = rng.multinomial(number, positives / len(hits))
    drawn_others = rng.multinomial(labelled - number, negatives / len(others))
    drawn_there = rng.multinomial(len(target), found / len(target), size=resamples)
    share = _mixture(positives[None], negatives[None], found[None])
    again = _mixture(drawn_hits, drawn_others, drawn_there)
    misfit = float(_misfit(positives[None], negatives[None], found[None], share)[0])
    # The same with objects there drawn from the mixture: what misfit chance alone brings.
    fitted = _fitted(positives[None], negatives[None], share)[0]
    drawn_fit = rng.multinomial(len(target), fitted, size=resamples)
    chance = _misfit(
        drawn_hits, drawn_others, drawn_fit, _mixture(drawn_hits, drawn_others, drawn_fit)
    )
    expected = float(np.quantile(chance, 0.95))
    tail = [(1 - level) / 2, (1 + level) / 2]
    here_value = len(hits) / labelled
    here = _effect(here_value, number / labelled, tail)
    result = _effect(float(share[0]), again, tail)
    refused = None
    if misfit > expected and misfit > tolerance:
        refused = (
            f"the distances there are no mixture of those of positives and others here: "
            f"{misfit:.1%} of the objects are not explained, chance alone brings up to "
            f"{expected:.1%}; the surveys differ in more than the prevalence, so no corrected "
            "number is given: label some objects there"
        )
    within = predicted = None
    purity_here = purity_there = None
    if threshold is not None:
        within = int((target <= threshold).sum())
        true, several_true = _within(hits, threshold, resamples, rng)
        false, several_false = _within(others, threshold, resamples, rng)
        predicted = len(target) * float(share[0] * true + (1 - share[0]) * false)
        mixed = again * several_true + (1 - again) * several_false
        low, high = np.quantile(rng.binomial(len(target), np.clip(mixed, 0, 1)), [0.005, 0.995])
        off = abs(within - predicted) > 0.25 * max(predicted, 1.0)
        if refused is None and off and not low <= within <= high:
            refused = (
                f"within {threshold:.4g} lie {within} objects there, and a mixture of positives "
                f"and others here would have {predicted:.3g}: the surveys differ there in more "
                "than the prevalence, so no corrected number is given: label some objects there"
            )
        if true + false > 0:
            purity_here = _effect(
                float(_purity(here_value, true, false)),
                _purity(number / labelled, several_true, several_false),
                tail,
            )
        if true + false > 0 and refused is None:
            purity_there = _effect(
                float(_purity(float(share[0]), true, false)),
                _purity(again, several_true, several_false),
                tail,
            )
    return Prevalence(
        here=here,
        there=result,
        misfit=misfit,
        misfit_expected=expected,
        refused=refused,
        threshold=threshold,
        purity_here=purity_here,
        purity_there=purity_there,
        within_there=within,
        predicted_there=predicted,
        level=level,
    )


def _effect(value: float, again: np.ndarray, tail: list[float]) -> Effect:
    """Percentile limits or those reflected about the value, whichever are wider.

    Densities drawn anew are noisier than the ones they are drawn from, which moves the share:
    either kind alone covers too little where the class is rare.
    """
    known = again[np.isfinite(again)]
    low, high = np.quantile(known, tail) if len(known) else (value, value)
    lower, upper = min(low, 2 * value - high, value), max(high, 2 * value - low, value)
    return Effect(value=value, lower=float(max(lower, 0.0)), upper=float(min(upper, 1.0)))


def _within(
    distance: np.ndarray, threshold: float, resamples: int, rng: np.random.Generator
) -> tuple[float, np.ndarray]:
    """Share within a threshold, and shares it may be (Jeffreys), (r,).

    A bootstrap of none within would always be none.
    """
    inside = int((distance <= threshold).sum())
    several = rng.beta(inside + 0.5, len(distance) - inside + 0.5, resamples)
    return inside / len(distance), several


def _purity(
    prevalence: float | np.ndarray, true: float | np.ndarray, false: float | np.ndarray
) -> np.ndarray:
    """Share of positives within a cut that takes so much of them and of the others."""
    yes, no = np.asarray(prevalence * true), np.asarray((1 - prevalence) * false)
    return np.asarray(np.divide(yes, yes + no, out=np.full(yes.shape, np.nan), where=yes + no > 0))


def _bins(hits: np.ndarray, others: np.ndarray, threshold: float | None) -> np.ndarray:
    """Upper edges of all bins but the last, ascending: the threshold is one of them."""
    some = np.linspace(0, 1, _EDGES + 1)[1:-1]
    edges = np.concatenate([np.quantile(x, some, method="nearest") for x in (hits, others)])
    return np.unique(np.append(edges, [] if threshold is None else [threshold]))


def _densities(hits: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Shares per bin, (r, bins) each; one more object of each, spread as all are, for the gaps."""
    both = hits + others + 1e-3
    both = both / both.sum(axis=1, keepdims=True)
    f, g = hits + both, others + both
    return f / f.sum(axis=1, keepdims=True), g / g.sum(axis=1, keepdims=True)


def _mixture(hits: np.ndarray, others: np.ndarray, there: np.ndarray) -> np.ndarray:
    """Proportion of positives that makes the counts there most likely, (r,).

    The log likelihood is concave in it, so its slope is bisected; EM ends at the same point.
    """
    f, g = _densities(hits, others)
    low, high = np.zeros(len(f)), np.ones(len(f))
    for _ in range(_STEPS):
        middle = (low + high) / 2
        mixed = middle[:, None] * f + (1 - middle[:, None]) * g
        rising = (there * (f - g) / mixed).sum(axis=1) > 0
        low, high = np.where(rising, middle, low), np.where(rising, high, middle)
    return (low + high) / 2


def _fitted(hits: np.ndarray, others: np.ndarray, share: np.ndarray) -> np.ndarray:
    f, g = _densities(hits, others)
    mixed: np.ndarray = share[:, None] * f + (1 - share[:, None]) * g
    return np.asarray(mixed / mixed.sum(axis=1, keepdims=True))


def _misfit(
    hits: np.ndarray, others: np.ndarray, there: np.ndarray, share: np.ndarray
) -> np.ndarray:
    """Total variation between the counts there and the mixture, (r,)."""
    found = there / there.sum(axis=1, keepdims=True)
    apart: np.ndarray = np.abs(found - _fitted(hits, others, share)).sum(axis=1) / 2
    return apart
