"""Purity against controls that are alike in a covariate: is the list better than the covariate?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from scipy.optimize import linear_sum_assignment
from scipy.stats import norm

from skytwin.answers.audit_tests import scores
from skytwin.answers.intervals import Proportion

__all__ = ["matched_purity"]

_MOST = 500  # matches that are paired


def matched_purity(
    names: Sequence[str],
    matches: tuple[np.ndarray, np.ndarray],
    controls: tuple[np.ndarray, np.ndarray],
    *,
    level: float = 0.95,
    seed: int = 0,
) -> pa.Table:
    """Purity of the matches beside the rate of positives among matched controls.

    Each match is paired with one control, each control used once, so that the distances in the
    covariate (in ranks among the controls) add up to the least. If the list is no better than its
    pairs, the covariate alone makes it. The first row, ``(none)``, pairs with random controls;
    the last, ``(all)``, by all covariates at once, Euclidean in normal scores.

    Parameters
    ----------
    names : sequence of str, length p
    matches, controls : (values (n, p), positive (n,) bool)
        Those whose label is known.
    level : float
        Coverage of the intervals.
    seed : int
        Of who is left out of more than 500 matches or half of the controls, and of ties.

    Returns
    -------
    pyarrow.Table
        ``covariate``; ``pairs``; ``purity``, ``purity_lower``, ``purity_upper`` of the paired
        matches; ``controls``, ``controls_lower``, ``controls_upper``, the same of their controls;
        ``difference`` with ``difference_lower`` and ``difference_upper`` (Newcombe's hybrid of the
        two intervals, 1998, Statistics in Medicine 17, 873, as if unpaired); ``lift``; ``apart``,
        the median distance of a pair in ranks (0 to 1).
    """
    rng = np.random.default_rng(seed)
    values, positive = matches
    others, base = controls
    keep = rng.permutation(len(values))[: min(_MOST, max(1, len(others) // 2))]
    values, positive = values[keep], positive[keep]
    shuffled = rng.permutation(len(others))
    others, base = others[shuffled], base[shuffled]
    mine, theirs = scores(values, others), scores(others, others)
    rows = [_row("(none)", positive, base[: len(positive)], float("nan"), level)]
    for place, name in enumerate(names):
        one, two = np.flatnonzero(np.isfinite(mine[:, place])), np.isfinite(theirs[:, place])
        among = np.flatnonzero(two)
        if len(one) < 2 or len(among) < 2 * len(one) or np.ptp(theirs[among, place]) == 0:
            continue
        apart = np.abs(mine[one, place][:, None] - theirs[among, place])
        i, j = linear_sum_assignment(apart)
        rows.append(
            _row(name, positive[one[i]], base[among[j]], float(np.median(apart[i, j])), level)
        )
    if mine.shape[1] > 1:
        x, y = (norm.ppf(np.clip(_filled(s), 0.005, 0.995)) for s in (mine, theirs))
        apart = np.sqrt(np.maximum((x**2).sum(1)[:, None] + (y**2).sum(1) - 2 * x @ y.T, 0))
        i, j = linear_sum_assignment(apart)
        rows.append(_row("(all)", positive[i], base[j], float("nan"), level))
    return pa.Table.from_pylist(rows)


def _filled(values: np.ndarray) -> np.ndarray:
    return np.where(np.isfinite(values), values, 0.5)


def _row(
    name: str, positive: np.ndarray, base: np.ndarray, apart: float, level: float
) -> dict[str, object]:
    own = Proportion.of(int(positive.sum()), len(positive), level)
    other = Proportion.of(int(base.sum()), len(base), level)
    gap = own.value - other.value
    low = np.hypot(own.value - own.lower, other.upper - other.value)
    high = np.hypot(own.upper - own.value, other.value - other.lower)
    return {
        "covariate": name,
        "pairs": len(positive),
        "purity": own.value,
        "purity_lower": own.lower,
        "purity_upper": own.upper,
        "controls": other.value,
        "controls_lower": other.lower,
        "controls_upper": other.upper,
        "difference": gap,
        "difference_lower": float(gap - low),
        "difference_upper": float(gap + high),
        "lift": own.value / other.value if other.value else None,
        "apart": apart if np.isfinite(apart) else None,
    }
