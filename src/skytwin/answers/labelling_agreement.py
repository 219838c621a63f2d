"""How far people agree: Krippendorff's alpha for answers without an order.

Krippendorff (2011, Computing Krippendorff's Alpha-Reliability, University of Pennsylvania),
section C: any number of people, answers may be missing. 1 is perfect agreement, 0 what chance
gives, below it people disagree on purpose.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

__all__ = ["Agreement", "agreement", "alpha"]

LEVEL = 0.95
#: Fewer objects say nothing.
FEWEST = 5
_DRAWS = 2000


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Krippendorff's alpha with an interval.

    Attributes
    ----------
    value : float
    lower, upper : float
        Percentiles of `_DRAWS` bootstrap samples of the objects.
    level : float
        Their coverage, about.
    objects : int
        Objects that two or more people answered.
    pairs : int
        Pairs of answers to the same object.
    """

    value: float
    lower: float
    upper: float
    level: float
    objects: int
    pairs: int

    def __str__(self) -> str:
        return (
            f"Krippendorff's alpha {self.value:.3f} [{self.lower:.3f}, {self.upper:.3f}] "
            f"({self.objects} objects answered by two or more, {self.pairs} pairs)"
        )


def agreement(answers: Mapping[str, Mapping[str, str]], *, seed: int = 0) -> Agreement | None:
    """Agreement of the people who answered.

    Parameters
    ----------
    answers : mapping of str to (mapping of str to str)
        Answers by object, by person. Objects that one person answered say nothing.
    seed : int
        Of the bootstrap.

    Returns
    -------
    Agreement or None
        None where fewer than `FEWEST` objects have two answers, or all answers are the same.
    """
    counts = _counts(people.values() for people in answers.values())
    if len(counts) < FEWEST:
        return None
    value = float(alpha(counts, np.ones((1, len(counts))))[0])
    if np.isnan(value):
        return None
    # Objects answered alike are interchangeable: a sample is how often each kind was drawn.
    kinds, often = np.unique(counts, axis=0, return_counts=True)
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(len(counts), often / len(counts), size=_DRAWS)
    found = alpha(kinds, drawn)
    # A sample in which all answers are the same has no disagreement to measure chance by.
    found = np.where(np.isnan(found), 1.0, found)
    tail = (1 - LEVEL) / 2
    lower, upper = np.quantile(found, (tail, 1 - tail))
    each = counts.sum(axis=1)
    return Agreement(
        value=value,
        lower=float(lower),
        upper=float(upper),
        level=LEVEL,
        objects=len(counts),
        pairs=int((each * (each - 1) // 2).sum()),
    )


def _counts(objects: Iterable[Iterable[str]]) -> np.ndarray:
    """How often each answer was given to each object with two or more, (objects, answers)."""
    several = [list(given) for given in objects]
    several = [given for given in several if len(given) > 1]
    names = {name: i for i, name in enumerate(sorted({a for given in several for a in given}))}
    counts = np.zeros((len(several), len(names)), dtype=np.int64)
    for row, given in zip(counts, several, strict=True):
        np.add.at(row, [names[answer] for answer in given], 1)
    return counts


def alpha(counts: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Krippendorff's alpha, nominal, of weighted objects.

    Parameters
    ----------
    counts : ndarray of int, shape (objects, answers)
        How often each answer was given; two or more per object.
    weights : ndarray, shape (draws, objects)
        How often each object counts.

    Returns
    -------
    ndarray, shape (draws,)
        NaN where all answers are the same.

    Notes
    -----
    ``1 - (n - 1) sum_{c != k} o_ck / sum_{c != k} n_c n_k``, where an object with m answers adds
    ``n_uc (n_uk - [c = k]) / (m - 1)`` to the coincidences ``o_ck``.
    """
    each = counts.sum(axis=1)
    apart = (counts * (each[:, None] - counts)).sum(axis=1) / (each - 1)
    observed = weights @ apart
    total = weights @ counts
    n = total.sum(axis=1)
    expected = n**2 - (total**2).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(1 - (n - 1) * observed / expected)
