"""Do two surveys have the same distances? Effect sizes with intervals, and a plain answer.

With enough objects any two surveys differ significantly, so it is the size of the difference that
is measured: the Kolmogorov-Smirnov distance, the normalised energy distance (Szekely & Rizzo 2013,
section 2) and the area under the ROC curve, each with a bootstrap interval. All three come from
one table of counts in at most 2048 bins with equal shares of both surveys, so that a million
objects take no longer than a thousand.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa

from skytwin.answers.intervals import Proportion
from skytwin.errors import DataError, UsageError

__all__ = ["Drift", "Effect", "compare_distances"]

_BINS = 2048
_FEWEST = 20


@dataclass(frozen=True, kw_only=True)
class Effect:
    """A difference and its interval."""

    value: float
    lower: float
    upper: float

    def __str__(self) -> str:
        return f"{self.value:.3g} [{self.lower:.3g}, {self.upper:.3g}]"


@dataclass(frozen=True, eq=False, kw_only=True)
class Drift:
    """How far two distributions of distances differ.

    Attributes
    ----------
    ks : Effect
        The largest difference between the shares of objects within one distance.
    energy : Effect
        Energy distance over its largest possible value: 0 the same, 1 nothing in common.
    auc : Effect
        Chance that an object there is farther than one here, ties counted half: 0.5 is alike.
    median_here, median_there : float
    within_here, within_there : Proportion or None
        Objects within the threshold, where there is one.
    verdict : {"same", "differ", "unclear"}
        ``differ``: the whole interval of ``ks`` is above ``tolerance``; ``same``: below. Of too
        few objects neither can be said.
    tolerance : float
        The largest ``ks`` that is taken for none.
    distances_here, distances_there : ndarray, shape (n,), (m,), float64
    threshold : float or None
    level : float
        Coverage of the intervals.
    """

    ks: Effect
    energy: Effect
    auc: Effect
    median_here: float
    median_there: float
    within_here: Proportion | None
    within_there: Proportion | None
    verdict: Literal["same", "differ", "unclear"]
    tolerance: float
    distances_here: np.ndarray
    distances_there: np.ndarray
    threshold: float | None
    level: float

    def __repr__(self) -> str:
        return f"Drift({self.summary})"

    @property
    def summary(self) -> str:
        """The answer in one line."""
        said = {"same": "alike", "differ": "different", "unclear": "not told apart from alike"}
        return (
            f"distances {said[self.verdict]}: KS {self.ks}, energy {self.energy}, AUC {self.auc}; "
            f"median {self.median_here:.4g} here, {self.median_there:.4g} there"
        )

    @property
    def warning(self) -> str | None:
        """What to beware of, in one line; None where there is nothing."""
        tail = self._tail
        if self.verdict == "differ":
            way = "farther" if self.auc.value > 0.5 else "nearer"
            return (
                f"the distances there differ from those here (KS {self.ks}, more than "
                f"{self.tolerance:g}; {max(self.auc.value, 1 - self.auc.value):.0%} of pairs are "
                f"{way} there){tail}: a threshold from here means another thing there"
            )
        if tail:
            return (
                f"near the threshold the distances differ{tail}: either the class is more or less "
                "frequent there, or the surveys differ"
            )
        if self.verdict == "unclear":
            return (
                f"too few objects to say whether the distances differ (KS {self.ks}, tolerance "
                f"{self.tolerance:g}): compare more"
            )
        return None

    @property
    def _tail(self) -> str:
        """The shares within the threshold, where their intervals are apart."""
        here, there = self.within_here, self.within_there
        if here is None or there is None:
            return ""
        if here.lower <= there.upper and there.lower <= here.upper:
            return ""
        return f"; within {self.threshold:.4g} lie {here} here and {there} there"

    @property
    def table(self) -> pa.Table:
        """One row per effect."""
        names = ("ks", "energy", "auc")
        effects = [self.ks, self.energy, self.auc]
        return pa.table(
            {
                "effect": list(names),
                "value": [e.value for e in effects],
                "lower": [e.lower for e in effects],
                "upper": [e.upper for e in effects],
            }
        )


def compare_distances(
    here: np.ndarray,
    there: np.ndarray,
    *,
    threshold: float | None = None,
    tolerance: float = 0.1,
    level: float = 0.95,
    resamples: int = 500,
    seed: int = 0,
) -> Drift:
    """Compare the distances of two surveys to the same references.

    Parameters
    ----------
    here, there : ndarray, shape (n,), (m,)
        Of all objects, or of a random sample; measured alike, features scaled as here.
    threshold : float, optional
        A distance that is to be carried over: objects within it are compared too.
    tolerance : float
        The largest ``ks`` that is taken for none.
    level : float
        Coverage of the intervals.
    resamples : int
        Of the bootstrap. The intervals of ``ks`` and ``energy``, which chance can only enlarge,
        are reflected about the value (Davison & Hinkley 1997, eq. 5.6) and never below 0.
        Of 500 objects each, nominal 95 % hold in 87 to 96 % of simulated cases.
    seed : int

    Raises
    ------
    DataError
        A survey has fewer than 20 distances, or one that is not finite.
    UsageError
        A setting is out of range.
    """
    if not 0 < tolerance < 1:
        raise UsageError(f"tolerance {tolerance}; expected a number between 0 and 1")
    if not 0 < level < 1:
        raise UsageError(f"interval level {level}; expected a number between 0 and 1")
    a, b = _checked(here, "here"), _checked(there, "there")
    edges = _edges(a, b)
    rng = np.random.default_rng(seed)
    centres = _centres(a, b, edges)
    count_a, count_b = _counts(a, edges), _counts(b, edges)
    value = _effects(count_a[None], count_b[None], centres)[:, 0]
    again = _effects(
        rng.multinomial(len(a), count_a / len(a), size=resamples),
        rng.multinomial(len(b), count_b / len(b), size=resamples),
        centres,
    )
    tail = (1 - level) / 2
    low, high = np.quantile(again, [tail, 1 - tail], axis=1)
    ks, energy = (
        Effect(
            value=float(value[i]),
            lower=float(np.clip(2 * value[i] - high[i], 0, value[i])),
            upper=float(np.clip(2 * value[i] - low[i], value[i], 1)),
        )
        for i in (0, 1)
    )
    auc = Effect(value=float(value[2]), lower=float(low[2]), upper=float(high[2]))
    verdict: Literal["same", "differ", "unclear"] = "unclear"
    if ks.lower > tolerance:
        verdict = "differ"
    elif ks.upper <= tolerance:
        verdict = "same"
    inside = [
        None if threshold is None else Proportion.of(int((x <= threshold).sum()), len(x), level)
        for x in (a, b)
    ]
    return Drift(
        ks=ks,
        energy=energy,
        auc=auc,
        median_here=float(np.median(a)),
        median_there=float(np.median(b)),
        within_here=inside[0],
        within_there=inside[1],
        verdict=verdict,
        tolerance=tolerance,
        distances_here=a,
        distances_there=b,
        threshold=threshold,
        level=level,
    )


def _checked(distance: np.ndarray, where: str) -> np.ndarray:
    x = np.asarray(distance, dtype=np.float64)
    if x.ndim != 1 or len(x) < _FEWEST:
        raise DataError(
            f"{x.size} distances {where}; expected at least {_FEWEST} to compare two surveys"
        )
    if not np.isfinite(x).all():
        raise DataError(f"a distance {where} is NaN or infinite; leave those objects out")
    return x


def _edges(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Upper ends of bins, ascending: every distance, or evenly spread ones where they are many."""
    half = np.linspace(0, 1, _BINS // 2 + 1)
    parts = [
        np.unique(x) if len(x) <= _BINS // 2 else np.quantile(x, half, method="nearest")
        for x in (a, b)
    ]
    return np.unique(np.concatenate(parts))


def _counts(x: np.ndarray, edges: np.ndarray) -> np.ndarray:
    place = np.searchsorted(edges, x)
    return np.bincount(np.minimum(place, len(edges) - 1), minlength=len(edges))


def _centres(a: np.ndarray, b: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Mean distance in every bin, (bins,)."""
    both = np.concatenate([a, b])
    place = np.minimum(np.searchsorted(edges, both), len(edges) - 1)
    count = np.bincount(place, minlength=len(edges))
    total = np.bincount(place, both, minlength=len(edges))
    return np.where(count > 0, total / np.maximum(count, 1), edges)


def _effects(a: np.ndarray, b: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """KS, normalised energy, AUC of pairs of counts, each (r, bins), as (3, r)."""
    p, q = a / a.sum(axis=1, keepdims=True), b / b.sum(axis=1, keepdims=True)
    F, G = np.cumsum(p, axis=1), np.cumsum(q, axis=1)
    ks = np.abs(F - G).max(axis=1)
    gap = np.diff(centres)
    # E|X - Y| and 2 E|X - Y| - E|X - X'| - E|Y - Y'|, in one dimension.
    between = (F[:, :-1] * (1 - G[:, :-1]) + G[:, :-1] * (1 - F[:, :-1])) @ gap
    square = 2 * ((F - G)[:, :-1] ** 2) @ gap
    energy = np.divide(square, 2 * between, out=np.zeros(len(ks)), where=between > 0)
    auc = (q * (F - p / 2)).sum(axis=1)
    return np.stack([ks, energy, auc])
