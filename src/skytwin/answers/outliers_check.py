"""How well scores of oddness find what is known to be odd: AUROC, and purity of the first 50."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from scipy.stats import rankdata

from skytwin.answers.intervals import Proportion
from skytwin.answers.probe_metrics import Estimate, Outputs, Resamples, estimates, replicates
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
    found = []
    for method, given in scores.items():
        known = ~np.isnan(given)
        # Ranks, because a density of zero has an infinite score.
        rank, positive, group = rankdata(given[known]), truth[known], groups[known]
        if positive.all() or not positive.any():
            raise DataError(
                f"{what}: {int(positive.sum())} of {len(positive)} objects are positive; expected "
                "some, and some others"
            )
        order = np.argsort(-rank, kind="stable")
        _, at = np.unique(group[order], return_index=True)
        alone = positive[order[np.sort(at)]]
        outputs = Outputs(
            values=np.stack([-rank, rank], axis=1),
            probability=None,
            predicted=np.zeros(len(rank), dtype=np.int64),
        )
        label = positive.astype(np.int64)
        drawn = replicates(outputs, label, Resamples(group=group, count=_RESAMPLES, seed=seed))
        first = alone[:FIRST]
        found.append(
            Checked(
                what=what,
                method=method,
                auc=estimates(outputs, label, group, drawn, level)["auc"],
                purity=Proportion.of(int(first.sum()), len(first), level),
                base=Proportion.of(int(alone.sum()), len(alone), level),
            )
        )
    return tuple(found)
