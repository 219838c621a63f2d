"""How far two groups differ in many covariates: effect sizes, intervals, permutation p-values.

The effect is Cliff's delta (Cliff 1993, Psychological Bulletin 114, 494): the probability that a
match is above a control less the probability that it is below, from -1 to 1. It knows only the
order of the values, so outliers and units do not matter.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import norm, rankdata

from skytwin.answers.intervals import jeffreys
from skytwin.errors import UsageError

__all__ = ["Effects", "effects", "explained", "permutation_p", "scores"]

_BATCH = 256  # permutations at a time
_TREES, _LEAF, _RIDGE = 100, 5, 3.0


@dataclass(frozen=True, eq=False, kw_only=True)
class Effects:
    """Cliff's delta of p covariates with its interval, each shape (p,).

    Attributes
    ----------
    delta, lower, upper : ndarray
        NaN where either group has no value.
    p : ndarray
        Of this covariate alone, two-sided.
    p_adjusted : ndarray
        Of all covariates together (family-wise).
    """

    delta: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    p: np.ndarray
    p_adjusted: np.ndarray


def effects(
    one: np.ndarray,
    other: np.ndarray,
    *,
    level: float = 0.95,
    permutations: int = 1999,
    seed: int = 0,
) -> Effects:
    """Compare two groups in many covariates at once.

    Parameters
    ----------
    one : ndarray, shape (n, p)
        NaN is missing.
    other : ndarray, shape (m, p)
    level : float
        Coverage of the intervals.
    permutations : int
    seed : int
        Of the permutations.

    Raises
    ------
    UsageError
        Fewer than 99 permutations: no p-value could be small.
    """
    if permutations < 99:
        raise UsageError(f"permutations {permutations}; expected at least 99")
    found = np.array([_cliff(a, b, level) for a, b in zip(one.T, other.T, strict=True)])
    delta, lower, upper = found.reshape(-1, 3).T
    p, adjusted = permutation_p(one, other, permutations=permutations, seed=seed)
    return Effects(delta=delta, lower=lower, upper=upper, p=p, p_adjusted=adjusted)


def _cliff(one: np.ndarray, other: np.ndarray, level: float) -> tuple[float, float, float]:
    """Delta with the asymmetric interval of Feng & Cliff 2004 (J. Mod. Appl. Stat. Meth. 3, 322).

    Where all of one group lie above all of the other, its variance is 0, and the end comes from
    the Jeffreys interval of as many successes as the smaller group has members.
    """
    a, b = np.sort(one[np.isfinite(one)]), np.sort(other[np.isfinite(other)])
    n, m = len(a), len(b)
    if not (n and m):
        return float("nan"), float("nan"), float("nan")
    below, upto = np.searchsorted(b, a, "left"), np.searchsorted(b, a, "right")
    above, from_ = np.searchsorted(a, b, "right"), np.searchsorted(a, b, "left")
    over_b = (below - (m - upto)) / m  # of each member of one, over the other
    over_a = ((n - above) - from_) / n
    delta = float(over_b.mean())
    if min(n, m) < 2:
        return delta, -1.0, 1.0
    untied = 1 - float((upto - below).sum()) / (n * m)
    within = n * m * (untied - delta**2)
    spread = m**2 * ((over_b - delta) ** 2).sum() + n**2 * ((over_a - delta) ** 2).sum()
    variance = max(
        (spread - within) / (n * m * (n - 1.0) * (m - 1.0)), (untied - delta**2) / (n * m - 1.0)
    )
    if variance <= 0:
        low, _ = jeffreys(np.array([min(n, m)]), np.array([min(n, m)]), level)
        end = 2 * float(low[0]) - 1
        if delta == 0:  # all alike
            return 0.0, 0.0, 0.0
        return (delta, end, 1.0) if delta > 0 else (delta, -1.0, -end)
    z = float(norm.ppf(0.5 + level / 2))
    reach = z * np.sqrt(variance) * np.sqrt((1 - delta**2) ** 2 + z**2 * variance)
    scale = 1 - delta**2 + z**2 * variance
    low, high = (delta - delta**3 - reach) / scale, (delta - delta**3 + reach) / scale
    return delta, max(-1.0, float(low)), min(1.0, float(high))


def permutation_p(
    one: np.ndarray, other: np.ndarray, *, permutations: int = 1999, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """P-values of the rank sum, each covariate alone and all together, each shape (p,).

    Who is a match is drawn anew among both groups. Together means family-wise, by the step-down
    largest statistic (Westfall & Young 1993, algorithm 2.8), which knows that covariates go
    together and so costs little where many of them say the same. A missing value stands at the
    middle rank.
    """
    ranks = _centred_ranks(np.concatenate([one, other]))
    n, total = len(one), len(one) + len(other)
    seen = np.abs(ranks[:n].sum(axis=0))
    order = np.argsort(-seen, kind="stable")
    alone, together = np.zeros(ranks.shape[1]), np.zeros(ranks.shape[1])
    rng = np.random.default_rng(seed)
    for start in range(0, permutations, _BATCH):
        count = min(_BATCH, permutations - start)
        drawn = np.zeros((count, total), dtype=np.float32)
        drawn[:, :n] = 1
        drawn = np.abs(rng.permuted(drawn, axis=1, out=drawn) @ ranks)
        alone += (drawn >= seen - 1e-6).sum(axis=0)
        largest = np.maximum.accumulate(drawn[:, order][:, ::-1], axis=1)[:, ::-1]
        together[order] += (largest >= seen[order] - 1e-6).sum(axis=0)
    p = (alone + 1) / (permutations + 1)
    adjusted = np.empty_like(p)
    adjusted[order] = np.maximum.accumulate((together[order] + 1) / (permutations + 1))
    return p, adjusted


def _centred_ranks(values: np.ndarray) -> np.ndarray:
    """Ranks of each column about their middle, in their standard deviation, float32."""
    ranks = np.asarray(rankdata(values, axis=0, nan_policy="omit"))
    ranks -= np.nanmean(np.where(np.isfinite(values).any(axis=0), ranks, 0.0), axis=0)
    ranks = np.nan_to_num(ranks)
    width = ranks.std(axis=0)
    np.divide(ranks, width, out=ranks, where=width > 0)
    return np.asarray(ranks, dtype=np.float32)


def scores(values: np.ndarray, among: np.ndarray) -> np.ndarray:
    """Where values stand among others, 0 to 1, ties in the middle; NaN stays.

    Parameters
    ----------
    values : ndarray, shape (n, p)
    among : ndarray, shape (m, p)

    Returns
    -------
    ndarray, shape (n, p)
    """
    result = np.full(values.shape, np.nan)
    for column, (mine, others) in enumerate(zip(values.T, among.T, strict=True)):
        known = np.sort(others[np.isfinite(others)])
        if not len(known):
            continue
        here = np.isfinite(mine)
        left, right = (np.searchsorted(known, mine[here], side) for side in ("left", "right"))
        result[here, column] = (left + right) / (2 * len(known))
    return result


def explained(
    given: tuple[np.ndarray, np.ndarray], wanted: tuple[np.ndarray, np.ndarray], *, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """What is left of some covariates once others are taken into account.

    Where an object stands in the covariates wanted is learned, on the controls, from where it
    stands in those given: by a ridge on their squares and products, and by a random forest
    (Breiman 2001) on what that leaves. Neither sees the control it speaks of: the ridge leaves
    each out in turn, the forest asks the trees that were grown without it.

    Parameters
    ----------
    given : two ndarrays, shapes (n, q) and (m, q)
        Of the matches and of the controls.
    wanted : two ndarrays, shapes (n, p) and (m, p)
    seed : int
        Of the forest.

    Returns
    -------
    two ndarrays, shapes (n, p) and (m, p)
        In shares of the controls, -1 to 1; NaN where the covariate wanted is missing.
    """
    from sklearn.ensemble import RandomForestRegressor  # takes a second to import

    matches, controls = (scores(part, wanted[1]) for part in wanted)
    x, y = (_filled(scores(part, given[1])) for part in given)
    target = _filled(controls)
    fit, own = _ridge(x, y, target)
    forest = RandomForestRegressor(
        _TREES, min_samples_leaf=_LEAF, max_features=0.5, oob_score=True, random_state=seed
    ).fit(y, np.squeeze(target - own, axis=1) if target.shape[1] == 1 else target - own)
    fit = fit + forest.predict(x).reshape(fit.shape)
    own = own + forest.oob_prediction_.reshape(own.shape)
    return matches - fit, controls - own


def _ridge(x: np.ndarray, y: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Predictions for ``x`` (n, q), and for each of ``y`` (m, q) from the others of ``y``."""
    from sklearn.preprocessing import PolynomialFeatures  # takes a second to import

    edge = 0.5 / len(y)
    squares = PolynomialFeatures(2)
    inside = squares.fit_transform(norm.ppf(np.clip(y, edge, 1 - edge)))
    outside = squares.transform(norm.ppf(np.clip(x, edge, 1 - edge)))
    inverse = np.linalg.inv(inside.T @ inside + _RIDGE * np.eye(inside.shape[1]))
    slopes = inverse @ inside.T @ target
    leverage = np.einsum("ij,jk,ik->i", inside, inverse, inside)[:, None]
    alone = (inside @ slopes - leverage * target) / np.maximum(1 - leverage, 1e-6)
    return np.clip(outside @ slopes, 0, 1), np.clip(alone, 0, 1)


def _filled(values: np.ndarray) -> np.ndarray:
    return np.where(np.isfinite(values), values, 0.5)
