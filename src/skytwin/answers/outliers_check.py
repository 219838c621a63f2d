"""How well scores of oddness find what is known to be odd: AUROC, and purity of the first 50."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from scipy.stats import rankdata

from skytwin.answers.intervals import Proportion
from skytwin.answers.probe_metrics import Estimate, Resamples, area
from skytwin.errors import DataError

__all__ = ["FIRST", "Checked", "check_scores"]

FIRST = 50
_RESAMPLES = 500


@dataclass(frozen=True, kw_only=True)
class Checked:
    """How well one method finds the positives.

    Attributes
    ----------
    what : str
        What is to be found.
    method : str
    auc : Estimate
        Share of pairs of a positive and another object in which the positive is the odder;
        bootstrap of the objects on the sky.
    purity : Proportion
        Positives among the 50 oddest objects.
    base : Proportion
        Positives among all.
    """

    what: str
    method: str
    auc: Estimate
    purity: Proportion
    base: Proportion

    @property
    def line(self) -> str:
        """One line of a report."""
        return f"    {self.method:<12}AUROC {self.auc}   purity {self.purity}"

    @staticmethod
    def table(rows: tuple[Checked, ...]) -> pa.Table:
        """One row each."""
        return pa.Table.from_pylist(
            [
                {
                    "what": row.what,
                    "method": row.method,
                    "auc": row.auc.value,
                    "auc_lower": row.auc.lower,
                    "auc_upper": row.auc.upper,
                    "first": row.purity.total,
                    "hits": row.purity.hits,
                    "purity": row.purity.value,
                    "purity_lower": row.purity.lower,
                    "purity_upper": row.purity.upper,
                    "base_rate": row.base.value,
                    "positives": row.base.hits,
                    "objects": row.base.total,
                }
                for row in rows
            ]
        )


def check_scores(
    what: str,
    scores: Mapping[str, np.ndarray],
    truth: np.ndarray,
    groups: np.ndarray,
    *,
    level: float,
    seed: int,
) -> tuple[Checked, ...]:
    """Hold every method's scores against the truth.

    Parameters
    ----------
    what : str
    scores : mapping of str to ndarray, shape (n,)
        By method; higher is odder. Objects with NaN do not count.
    truth : ndarray, shape (n,), bool
    groups : ndarray, shape (n,), int
        Objects on the sky: drawn anew together, and counted once among the first 50.
    level : float
        Coverage of the intervals.
    seed : int
        Of the bootstrap.

    Raises
    ------
    DataError
        There are no positives, or nothing else.
    """
    areas = _areas(what, scores, truth, groups, seed)
    found = []
    for method, given in scores.items():
        known = ~np.isnan(given)
        positive, group = truth[known], groups[known]
        order = np.argsort(-rankdata(given[known]), kind="stable")
        _, at = np.unique(group[order], return_index=True)
        alone = positive[order[np.sort(at)]]
        objects = [len(np.unique(group[positive == kind])) for kind in (False, True)]
        value, drawn = areas[method]
        first = alone[:FIRST]
        found.append(
            Checked(
                what=what,
                method=method,
                auc=area(value, drawn, objects, level),
                purity=Proportion.of(int(first.sum()), len(first), level),
                base=Proportion.of(int(alone.sum()), len(alone), level),
            )
        )
    return tuple(found)


def _areas(
    what: str, scores: Mapping[str, np.ndarray], truth: np.ndarray, groups: np.ndarray, seed: int
) -> dict[str, tuple[float, np.ndarray]]:
    """The area of every method, and those of the resamples, (500,).

    Equivalent to `skytwin.answers.probe_metrics.replicates`, whose resamples these are; methods
    that score the same objects share them, and no resample is sorted. All sums are of whole and
    half numbers and so exact in any order.
    """
    alike: dict[bytes, list[str]] = {}
    for method, given in scores.items():
        alike.setdefault(np.packbits(np.isnan(given)).tobytes(), []).append(method)
    found = {}
    for methods in alike.values():
        known = ~np.isnan(scores[methods[0]])
        positive = truth[known]
        if positive.all() or not positive.any():
            raise DataError(
                f"{what}: {int(positive.sum())} of {len(positive)} objects are positive; expected "
                "some, and some others"
            )
        curves = [_Curve(scores[method][known], positive) for method in methods]
        again = Resamples(group=groups[known], count=_RESAMPLES, seed=seed)
        drawn = [[curve.area(row) for curve in curves] for some in again.blocks() for row in some]
        ones = np.ones(len(positive))
        for method, curve, values in zip(methods, curves, zip(*drawn, strict=True), strict=True):
            found[method] = (curve.area(ones), np.array(values))
    return found


class _Curve:
    """Where scores lie among those of the positives."""

    def __init__(self, scores: np.ndarray, positive: np.ndarray) -> None:
        edges = np.unique(scores[positive])
        place = np.searchsorted(edges, scores)
        met = edges[np.minimum(place, len(edges) - 1)] == scores
        # Odd numbers for the scores of positives, even ones for what lies between.
        self._place = 2 * place + (met & (place < len(edges)))
        self._positive = np.flatnonzero(positive)
        self._count = 2 * len(edges) + 1

    def area(self, weight: np.ndarray) -> float:
        """Share of weighted pairs in order, ties counted half; NaN where one kind has no weight."""
        every = np.bincount(self._place, weight, self._count)
        rows = self._positive
        above = np.bincount(self._place[rows], weight[rows], self._count)
        below = every - above
        pairs = (above * (np.cumsum(below) - below / 2)).sum()
        with np.errstate(invalid="ignore"):
            return float(pairs / (above.sum() * below.sum()))
