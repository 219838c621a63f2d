"""The probability of being positive, by distance, from labels.

Candidates are isotonic regression (Zadrozny & Elkan 2002), kept off 0 and 1 by one object at the
base rate in every step, and logistic regression on the distance or its logarithm with Platt's
(1999) targets. Grouped cross-validated log loss chooses; what is reported of the fit is measured on
the same held-out predictions. Isotonic regression needs more labels than logistic regression
(Niculescu-Mizil & Caruana 2005), so it is a candidate from 50 positives and 50 others on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from skytwin.answers.calibrate_fit import FITS, Reliability, reliability
from skytwin.answers.intervals import Proportion
from skytwin.answers.labels import UNSURE, YES, Labels, read_labels
from skytwin.answers.search import Matches
from skytwin.errors import DataError, Mismatch, UsageError, unknown
from skytwin.images.folds import grouped_folds
from skytwin.images.groups import sky_groups
from skytwin.images.where import positive_rows

if TYPE_CHECKING:
    from skytwin.answers.purity import PurityCurve

__all__ = ["METHODS", "Calibration", "Reliability", "calibrate", "calibrate_distances"]

METHODS = ("isotonic", "logistic", "log-logistic")
_FEWEST, _FEWEST_ISOTONIC = 10, 50  # of positives, and of others
_RESAMPLES, _KNOTS = 200, 400


@dataclass(frozen=True, eq=False, kw_only=True)
class Calibration:
    """Probability of being positive as a function of distance.

    It holds for objects drawn as the labelled ones were, at their base rate: labels of the bright
    objects, or of those that looked promising, say nothing of the others. For another survey see
    `skytwin.answers.drift_prevalence`.

    Attributes
    ----------
    method : str
        One of `METHODS`.
    knots : ndarray, shape (m,), float64
        Distances, ascending, between which probabilities are interpolated.
    probability, lower, upper : ndarray, shape (m,), float64
        At the knots, with the interval of a bootstrap over groups.
    base : Proportion
        Positives among the labelled objects.
    log_loss, log_loss_base : float
        Mean of ``-log p`` of what came true, in nats, held out: of these probabilities, and of the
        base rate alone.
    brier, brier_base : float
        Mean squared error (Brier 1950), likewise.
    skill, skill_lower, skill_upper : float
        ``1 - brier / brier_base`` with its interval: 0 is no better than the base rate, 1 perfect.
    tried : dict of str to float
        Held-out log loss of every candidate.
    reliability : Reliability
    distance, positive : ndarray, shape (n,)
        The labelled objects.
    held_out : ndarray, shape (n,), float64
        Predictions by fits without the object's fold.
    folds, seed : int
    level : float
        Coverage of the intervals.
    """

    method: str
    knots: np.ndarray
    probability: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    base: Proportion
    log_loss: float
    log_loss_base: float
    brier: float
    brier_base: float
    skill: float
    skill_lower: float
    skill_upper: float
    tried: dict[str, float]
    reliability: Reliability
    distance: np.ndarray
    positive: np.ndarray
    held_out: np.ndarray
    folds: int
    seed: int
    level: float

    def __repr__(self) -> str:
        return f"Calibration({self.summary})"

    def predict(self, distance: np.ndarray | Sequence[float] | float) -> np.ndarray:
        """Probability of being positive at some distances, (n,).

        Beyond the nearest and the farthest labelled object it is that of those.
        """
        return self._at(distance, self.probability)

    def interval(
        self, distance: np.ndarray | Sequence[float] | float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper limits of the probability at some distances, each (n,)."""
        return self._at(distance, self.lower), self._at(distance, self.upper)

    def _at(self, distance: np.ndarray | Sequence[float] | float, values: np.ndarray) -> np.ndarray:
        given = np.atleast_1d(np.asarray(distance, dtype=np.float64))
        if np.isnan(given).any():
            raise DataError("a distance is NaN; expected numbers")
        return np.asarray(np.interp(given, self.knots, values))

    @property
    def table(self) -> pa.Table:
        """Probability by distance."""
        return pa.table(
            {
                "distance": self.knots,
                "probability": self.probability,
                "lower": self.lower,
                "upper": self.upper,
            }
        )

    @property
    def summary(self) -> str:
        """The answer in one line."""
        return (
            f"{self.method} from {self.base.total} labels, base rate {self.base}; Brier score "
            f"{self.brier:.3g} (base rate alone {self.brier_base:.3g}): skill {self.skill:.2g} "
            f"[{self.skill_lower:.2g}, {self.skill_upper:.2g}]"
        )

    @property
    def warning(self) -> str | None:
        """What to beware of, in one line; None where there is nothing."""
        if self.skill_lower > 0:
            return None
        return (
            "the probabilities are not shown to be better than the base rate of "
            f"{self.base.value:.3g} alone (skill {self.skill:.2g} [{self.skill_lower:.2g}, "
            f"{self.skill_upper:.2g}]): the distances do not tell positives from others, or the "
            "labels are too few"
        )


def calibrate(
    found: PurityCurve | Matches,
    *,
    positive: str | Sequence[str] | None = None,
    labels: str | Path | Labels | object = None,
    method: str = "auto",
    folds: int = 5,
    group_arcsec: float = 2.0,
    level: float = 0.95,
    seed: int = 0,
) -> Calibration:
    """Turn distances into probabilities.

    Parameters
    ----------
    found : PurityCurve or Matches
        Objects by distance. Of matches, enough that the farthest are mostly not positive.
    positive : str or sequence of str, optional
        ``"column=value"`` or an SQL condition on the catalogue; several are joined by or. A
        curve's own by default.
    labels : path, Labels, table, or mapping of id to answer, optional
        Instead of ``positive``; see `skytwin.answers.labels.read_labels`. Those unsure, and for
        objects not in ``found``, count for nothing.
    method, folds, level, seed
        As in `calibrate_distances`.
    group_arcsec : float
        Entries nearer than this on the sky, or linked by such, go into one fold.

    Raises
    ------
    UsageError
        Neither or both of ``positive`` and ``labels``; an unknown method.
    DataError
        Too few labels, or all alike.
    """
    embeddings = found.embeddings
    if isinstance(found, Matches):
        rows, distance = found.rows, found.distance
    else:
        rows, distance = found.ranked.rows, found.ranked.distance
        if positive is None and labels is None:
            positive = found.positive
    if (positive is None) == (labels is None):
        raise UsageError("give either positive=... or labels=..., to say which are positive")
    if labels is not None:
        answers = read_labels(labels).of([str(name) for name in embeddings.ids[rows]])
        hits, known = answers == YES, answers != UNSURE
    else:
        conditions = (positive,) if isinstance(positive, str) else tuple(positive or ())
        every, labelled = positive_rows(embeddings.catalog, conditions)
        hits, known = every[rows], labelled[rows]
    positions = None if embeddings.positions is None else embeddings.positions[rows]
    groups = sky_groups(positions, group_arcsec, len(rows))
    return calibrate_distances(
        distance[known],
        hits[known],
        groups[known],
        method=method,
        folds=folds,
        level=level,
        seed=seed,
    )


def calibrate_distances(
    distance: np.ndarray,
    positive: np.ndarray,
    groups: np.ndarray | None = None,
    *,
    method: str = "auto",
    folds: int = 5,
    level: float = 0.95,
    seed: int = 0,
) -> Calibration:
    """Turn distances into probabilities, from labelled distances alone.

    Parameters
    ----------
    distance : ndarray, shape (n,)
    positive : ndarray of bool, shape (n,)
    groups : ndarray of int, shape (n,), optional
        Objects of one group are kept together in folds and resamples.
    method : {"auto", "isotonic", "logistic", "log-logistic"}
        ``auto``: the least held-out log loss. That choice is part of no fold, so a loss is better
        than it should be by the little that three candidates allow.
    folds : int
        Of the cross-validation.
    level : float
        Coverage of the intervals.
    seed : int
    """
    distance = np.asarray(distance, dtype=np.float64)
    positive = np.asarray(positive, dtype=bool)
    if distance.shape != positive.shape or distance.ndim != 1:
        raise Mismatch(
            f"distances of shape {distance.shape} and labels of {positive.shape}; expected (n,) "
            "of both"
        )
    if not np.isfinite(distance).all():
        raise DataError("a distance is NaN or infinite; leave those objects out")
    group = (
        np.arange(len(distance)) if groups is None else np.unique(groups, return_inverse=True)[1]
    )
    _require_enough(positive, group)
    base = Proportion.of(int(positive.sum()), len(positive), level)
    part = grouped_folds(group, folds, seed, stratify=positive)
    out, base_out = _out_of_fold(distance, positive, part, _candidates(method, distance, positive))
    tried = {name: _log_loss(p, positive) for name, p in out.items()}
    chosen = min(tried, key=lambda name: tried[name])
    held_out = out[chosen]
    rng = np.random.default_rng(seed)
    knots = np.unique(np.quantile(distance, np.linspace(0, 1, _KNOTS), method="nearest"))
    # The near end is where positives are: every one of theirs counts.
    near = np.quantile(distance[positive], np.linspace(0, 1, _KNOTS // 2), method="nearest")
    knots = np.unique(np.concatenate([knots, near]))
    lower, upper = _spread(chosen, distance, positive, group, knots, level, rng)
    probability = FITS[chosen](distance, positive)(knots)
    error, error_base = (held_out - positive) ** 2, (base_out - positive) ** 2
    low, high = _skill_interval(error, error_base, group, level, rng)
    return Calibration(
        method=chosen,
        knots=knots,
        probability=probability,
        lower=np.minimum(lower, probability),
        upper=np.maximum(upper, probability),
        base=base,
        log_loss=tried[chosen],
        log_loss_base=_log_loss(base_out, positive),
        brier=float(error.mean()),
        brier_base=float(error_base.mean()),
        skill=float(1 - error.sum() / error_base.sum()),
        skill_lower=low,
        skill_upper=high,
        tried=tried,
        reliability=reliability(held_out, positive, level),
        distance=distance,
        positive=positive,
        held_out=held_out,
        folds=folds,
        seed=seed,
        level=level,
    )


def _require_enough(positive: np.ndarray, group: np.ndarray) -> None:
    hits = len(np.unique(group[positive]))
    others = len(np.unique(group[~positive]))
    if not len(positive):
        raise DataError("no object here has a label; label some, or check the ids of the labels")
    for have, what in ((hits, "positive"), (others, "not positive")):
        if have == 0:
            raise DataError(
                f"none of {len(positive)} labelled objects is {what}; a probability takes both "
                f"kinds: label at least {_FEWEST} that are"
            )
        if have < _FEWEST:
            raise DataError(
                f"{have} labelled object(s) {what} of {len(positive)}; a probability takes at "
                f"least {_FEWEST} of each kind: label until there are {_FEWEST - have} more"
            )


def _candidates(method: str, distance: np.ndarray, positive: np.ndarray) -> list[str]:
    if method != "auto":
        if method not in METHODS:
            raise unknown("calibration method", method, ("auto", *METHODS))
        if method == "log-logistic" and not (distance > 0).all():
            raise UsageError("log-logistic takes distances above 0; choose logistic or isotonic")
        return [method]
    names = ["logistic"]
    if (distance > 0).all():
        names.append("log-logistic")
    if min(positive.sum(), (~positive).sum()) >= _FEWEST_ISOTONIC:
        names.append("isotonic")
    return names


def _out_of_fold(
    distance: np.ndarray, positive: np.ndarray, part: np.ndarray, names: list[str]
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Held-out predictions of each candidate, and of the base rate, each (n,)."""
    found = {name: np.empty(len(distance)) for name in names}
    base = np.empty(len(distance))
    for fold in range(int(part.max()) + 1):
        out = part == fold
        base[out] = positive[~out].mean()
        for name, values in found.items():
            values[out] = FITS[name](distance[~out], positive[~out])(distance[out])
    return found, base


def _spread(
    name: str,
    distance: np.ndarray,
    positive: np.ndarray,
    group: np.ndarray,
    knots: np.ndarray,
    level: float,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Limits at the knots from groups drawn anew, each (m,)."""
    count = int(group.max()) + 1
    found: list[np.ndarray] = []
    while len(found) < _RESAMPLES:
        drawn = np.bincount(rng.integers(count, size=count), minlength=count)[group]
        if 0 < (drawn * positive).sum() < drawn.sum():
            found.append(FITS[name](distance, positive, drawn.astype(np.float64))(knots))
    tail = (1 - level) / 2
    lower, upper = np.quantile(found, [tail, 1 - tail], axis=0)
    return lower, upper


def _skill_interval(
    error: np.ndarray,
    error_base: np.ndarray,
    group: np.ndarray,
    level: float,
    rng: np.random.Generator,
) -> tuple[float, float]:
    ours, theirs = np.bincount(group, error), np.bincount(group, error_base)
    drawn = [rng.integers(len(ours), size=len(ours)) for _ in range(_RESAMPLES)]
    skill = [1 - ours[some].sum() / theirs[some].sum() for some in drawn]
    tail = (1 - level) / 2
    lower, upper = np.quantile(skill, [tail, 1 - tail])
    return float(lower), float(upper)


def _log_loss(probability: np.ndarray, positive: np.ndarray) -> float:
    return float(-np.log(np.where(positive, probability, 1 - probability)).mean())
