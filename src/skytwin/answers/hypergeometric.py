"""Exact limits from a simple random sample without replacement: the hypergeometric law.

Equal to `scipy.stats.hypergeom` where that is exact, for whole arrays at once and for pools of
up to 1e9 objects.
"""

from __future__ import annotations

import numpy as np
from scipy.special import betaln

__all__ = ["chance_of_at_least", "fewest_positives"]


def chance_of_at_least(
    hits: np.ndarray, draws: np.ndarray, positives: np.ndarray, pool: np.ndarray
) -> np.ndarray:
    """Probability of at least ``hits`` positives in a simple random sample, element by element.

    Equivalent to::

        scipy.stats.hypergeom.sf(hits - 1, pool, positives, draws)

    in one pass over all elements, for pools up to 1e9 and samples up to thousands.
    """
    hits, draws, positives, pool = (
        np.atleast_1d(np.asarray(v, dtype=np.float64)) for v in (hits, draws, positives, pool)
    )
    hits, draws, positives, pool = np.broadcast_arrays(hits, draws, positives, pool)
    # Summed over the negatives drawn, of which there are few where purity is high.
    most = int(max(0.0, float((draws - hits).max(initial=0.0))))
    misses = np.arange(most + 1, dtype=np.float64)
    negatives = (pool - positives)[:, None]
    drawn = draws[:, None]
    possible = (
        (misses <= (draws - hits)[:, None])
        & (misses <= negatives)
        & (drawn - misses <= positives[:, None])
        & (drawn >= misses)
    )
    safe = np.where(possible, misses, np.maximum(0, drawn - positives[:, None]))
    log_chance = (
        _log_choose(negatives, safe)
        + _log_choose(positives[:, None], drawn - safe)
        - _log_choose(pool[:, None], drawn)
    )
    total: np.ndarray = np.where(possible, np.exp(np.where(possible, log_chance, 0.0)), 0.0).sum(1)
    np.minimum(total, 1.0, out=total)
    return total


def fewest_positives(
    hits: np.ndarray, draws: np.ndarray, pool: np.ndarray, error: np.ndarray | float
) -> np.ndarray:
    """Lower confidence limit of the positives in a pool, exact, element by element, int64.

    The smallest number under which at least ``hits`` in ``draws`` is likelier than ``error``.
    """
    hits, draws, pool, level = np.broadcast_arrays(
        *(np.atleast_1d(np.asarray(v)) for v in (hits, draws, pool, error))
    )
    low, high = hits.astype(np.int64), (pool - (draws - hits)).astype(np.int64)
    while (low < high).any():
        middle = (low + high) // 2
        likely = chance_of_at_least(hits, draws, middle, pool) > level
        high = np.where(likely, middle, high)
        low = np.where(likely, low, np.minimum(middle + 1, high))
    return low


def _log_choose(n: np.ndarray, k: np.ndarray) -> np.ndarray:
    # Through the beta function: differences of log-gammas lose all digits at n = 1e9.
    result: np.ndarray = -np.log1p(n) - betaln(n - k + 1, k + 1)
    return result
