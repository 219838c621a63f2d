"""Splits that keep rows of one object together: no group of `skytwin.images.groups` is cut."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from skytwin.errors import Mismatch, UsageError
from skytwin.images.groups import in_order

__all__ = ["grouped_folds", "grouped_split", "straddling"]


def straddling(groups: np.ndarray, sides: Sequence[object] | np.ndarray) -> np.ndarray:
    """Rows of groups that are on more than one side, ascending, shape (n,) int64.

    Parameters
    ----------
    groups : ndarray, shape (N,), int
    sides : sequence, length N
        For example ``train`` or ``test``; None for a row that is on no side.
    """
    group = in_order(groups)
    given = np.asarray(sides, dtype=object)
    if len(given) != len(group):
        raise Mismatch(f"sides of {len(given)} rows and groups of {len(group)}; give one for each")
    known = np.array([side is not None for side in given], dtype=bool)
    if not known.any():
        return np.empty(0, dtype=np.int64)
    _, side = np.unique(given[known].astype(str), return_inverse=True)
    met = np.unique(np.stack([group[known], side], axis=1), axis=0)
    several = np.bincount(met[:, 0], minlength=int(group.max()) + 1) > 1
    return np.flatnonzero(several[group] & known).astype(np.int64)


def grouped_folds(
    groups: np.ndarray, folds: int, seed: int, stratify: Sequence[object] | np.ndarray | None = None
) -> np.ndarray:
    """Fold number of every row, 0 to ``folds - 1``, shape (N,) int64; no group is cut.

    The largest groups are dealt first, each to the fold that lacks most rows; rows that are
    groups of their own fill the folds up, so that sizes differ by more than one row per class
    only where large groups make them (the greedy rule of longest processing time, Graham 1969).

    Parameters
    ----------
    groups : ndarray, shape (N,), int
    folds : int
        At least 2, at most the number of groups.
    seed : int
        Of the order in which groups of one size are dealt.
    stratify : sequence, length N, optional
        Classes, each spread over the folds as evenly as its groups allow.

    Raises
    ------
    UsageError
        There are fewer groups than folds.
    Mismatch
        ``stratify`` is of another length.
    """
    group = in_order(groups)
    number = int(group.max()) + 1 if len(group) else 0
    if not 2 <= folds <= number:
        raise UsageError(
            f"{folds} folds of {number} groups; expected 2 folds or more and at most one a group"
        )
    return _deal(group, np.full(folds, 1 / folds), seed, stratify)


def grouped_split(
    groups: np.ndarray,
    share: float,
    seed: int,
    stratify: Sequence[object] | np.ndarray | None = None,
) -> np.ndarray:
    """Which rows are on the test side, about ``share`` of them, shape (N,) bool; no group is cut.

    Parameters
    ----------
    groups : ndarray, shape (N,), int
    share : float
        Between 0 and 1.
    seed : int
    stratify : sequence, length N, optional
        As in `grouped_folds`.

    Raises
    ------
    UsageError
        The share is not between 0 and 1, or one side would be empty.
    """
    if not 0 < share < 1:
        raise UsageError(f"share {share}; expected a number between 0 and 1")
    group = in_order(groups)
    parts = _deal(group, np.array([1 - share, share]), seed, stratify)
    test: np.ndarray = parts == 1
    if test.all() or not test.any():
        raise UsageError(
            f"share {share:g} of {int(group.max()) + 1 if len(group) else 0} groups leaves one "
            "side empty; choose another share"
        )
    return test


def _deal(
    group: np.ndarray,
    share: np.ndarray,
    seed: int,
    stratify: Sequence[object] | np.ndarray | None,
) -> np.ndarray:
    """Part of every row, such that part f has about ``share[f]`` of the rows of every class."""
    rng = np.random.default_rng(seed)
    kind = np.zeros(len(group), dtype=np.int64)
    if stratify is not None:
        if len(stratify) != len(group):
            raise Mismatch(
                f"stratify of {len(stratify)} rows and groups of {len(group)}; give one for each"
            )
        kind = np.unique(np.asarray(stratify).astype(str), return_inverse=True)[1].reshape(-1)
    # Rows still lacking, by part and class.
    lacking = share[:, None] * np.bincount(kind)
    size = np.bincount(group)
    part_of = np.zeros(len(size), dtype=np.int64)
    by_group = np.argsort(group, kind="stable")
    start = np.cumsum(size) - size
    several = rng.permutation(np.flatnonzero(size > 1))
    for one in several[np.argsort(-size[several], kind="stable")]:
        inside = np.bincount(
            kind[by_group[start[one] : start[one] + size[one]]], minlength=lacking.shape[1]
        )
        # Most wanted where what it brings is lacking; then where rows of any class are.
        wanted = lacking @ inside
        best = np.flatnonzero(wanted >= wanted.max() - 1e-9)
        chosen = best[np.argmax(lacking[best].sum(axis=1))]
        part_of[one] = chosen
        lacking[chosen] -= inside
    alone = rng.permutation(np.flatnonzero(size == 1))
    for each in range(lacking.shape[1]):
        singles = alone[kind[by_group[start[alone]]] == each]
        counts = _round(lacking[:, each], len(singles), lacking.sum(axis=1))
        part_of[singles] = np.repeat(np.arange(len(share)), counts)
        lacking[:, each] -= counts
    part: np.ndarray = part_of[group]
    return part


def _round(lacking: np.ndarray, count: int, total: np.ndarray) -> np.ndarray:
    """Whole numbers that add up to ``count``, in proportion to what is lacking.

    What rounding leaves over goes where the remainder, then the lack of rows in total, is largest.
    """
    positive = np.maximum(lacking, 0.0)
    exact = positive * (count / positive.sum()) if count else np.zeros(len(lacking))
    counts = np.floor(exact + 1e-9).astype(np.int64)
    order = np.lexsort((-total, -np.round(exact - counts, 9)))
    counts[order[: count - counts.sum()]] += 1
    return counts
