"""Rows that are one object.

A survey lists the same object more than once: where two fields overlap, where a pipeline broke a
galaxy into pieces, where two catalogues were joined. If one entry trains and another tests, or
if both are counted, the result says more than the data do. Everything here works on group
numbers: an int64 for each row, 0, 1, 2, ... in the order of each group's first row.
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from skytwin.errors import DataError, Mismatch, UsageError
from skytwin.images.columns import unit_vectors

__all__ = [
    "first_rows",
    "in_order",
    "linked_groups",
    "merge_groups",
    "rows_at",
    "shared_places",
    "sky_groups",
    "sky_pairs",
]

_PAIRS_AT_ONCE = 20_000_000  # 16 bytes each
_LISTED = 500_000


def sky_groups(positions: np.ndarray | None, group_arcsec: float, count: int) -> np.ndarray:
    """Group number of every row, linked on the sky, shape (N,) int64.

    Friends of friends: two entries at most ``group_arcsec`` apart are one object, and so are the
    two ends of a chain of such. Angles are compared as chords between unit vectors, which holds
    across RA 0 and at the poles, and to 1e-9 arcsec at any separation below a degree.

    Parameters
    ----------
    positions : ndarray, shape (N, 2), or None
        RA and Dec in degrees. A row with NaN is a group of its own; None: every row is.
    group_arcsec : float
        0 groups nothing.
    count : int
        N.

    Raises
    ------
    UsageError
        The radius is negative or not a number.
    Mismatch
        The positions are not N x 2.
    """
    if not group_arcsec >= 0:
        raise UsageError(f"group-arcsec {group_arcsec}; expected 0 or more")
    if positions is None or group_arcsec == 0:
        return np.arange(count, dtype=np.int64)
    positions = np.asarray(positions, dtype=np.float64)
    if positions.shape != (count, 2):
        raise Mismatch(f"positions of shape {positions.shape}; expected ({count}, 2)")
    known = np.flatnonzero(np.isfinite(positions).all(axis=1))
    # Entries at the very same place count once: a thousand of them would be a million pairs.
    places, place = _distinct(positions[known])
    linked = _friends(unit_vectors(places), _chord(group_arcsec))
    group = np.arange(count, dtype=np.int64)
    group[known] = count + linked[place]
    return in_order(group)


def _distinct(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distinct rows of an array (n, 2), and which of them each row is.

    Equivalent to ``np.unique(points, axis=0, return_inverse=True)``, in half the memory.
    """
    order = np.lexsort((points[:, 1], points[:, 0]))
    new = np.ones(len(order), dtype=bool)
    new[1:] = (points[order[1:]] != points[order[:-1]]).any(axis=1)
    which = np.empty(len(order), dtype=np.int64)
    which[order] = np.cumsum(new) - 1
    return points[order[new]], which


def sky_pairs(
    positions: np.ndarray, arcsec: float, other: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray] | None:
    """Pairs of rows at most so far apart, and how far; None where they are too many to list.

    Parameters
    ----------
    positions : ndarray, shape (N, 2)
        RA and Dec in degrees; a row with NaN is in no pair.
    arcsec : float
    other : ndarray, shape (M, 2), optional
        Where the second row of each pair is from; by default the same set, each pair once.

    Returns
    -------
    rows : ndarray, shape (n, 2), int64
    separation : ndarray, shape (n,), float64
        In arcsec.
    """
    known = [
        np.flatnonzero(np.isfinite(given).all(axis=1))
        for given in (positions, positions if other is None else other)
    ]
    points = [
        unit_vectors(np.asarray(given, dtype=np.float64)[rows])
        for given, rows in zip(
            (positions, positions if other is None else other), known, strict=True
        )
    ]
    if not len(known[0]) or not len(known[1]):
        return np.empty((0, 2), dtype=np.int64), np.empty(0)
    trees = [cKDTree(each) for each in points]
    chord = _chord(arcsec)
    count = trees[0].count_neighbors(trees[1], chord)
    if (count - len(known[0])) / 2 > _LISTED if other is None else count > _LISTED:
        return None
    if other is None:
        pairs = trees[0].query_pairs(chord, output_type="ndarray")
    else:
        found = trees[0].query_ball_tree(trees[1], chord)
        one = np.repeat(np.arange(len(found)), [len(each) for each in found])
        two = np.array([row for each in found for row in each], dtype=np.int64)
        pairs = np.stack([one, two], axis=1)
    length = np.linalg.norm(points[0][pairs[:, 0]] - points[1][pairs[:, 1]], axis=1)
    apart = np.degrees(2 * np.arcsin(np.minimum(length / 2, 1.0))) * 3600
    rows = np.stack([known[0][pairs[:, 0]], known[1][pairs[:, 1]]], axis=1).astype(np.int64)
    order = np.lexsort((rows[:, 1], rows[:, 0]))
    return rows[order], apart[order]


def rows_at(positions: np.ndarray | None, rows: np.ndarray, arcsec: float) -> list[np.ndarray]:
    """For each of some rows, all rows at most ``arcsec`` from it, itself among them.

    Parameters
    ----------
    positions : ndarray, shape (N, 2), or None
        RA and Dec in degrees. A row with NaN is alone; None: every row is.
    rows : ndarray, shape (n,), int64
    arcsec : float
        0: every row is alone.
    """
    if positions is None or arcsec == 0:
        return [np.array([row]) for row in rows]
    order = np.argsort(positions[:, 1], kind="stable")  # NaN last
    dec = positions[order, 1]
    reach = arcsec / 3600 * (1 + 1e-9) + 1e-12
    found = []
    for row in rows:
        low = np.searchsorted(dec, positions[row, 1] - reach, side="left")
        high = np.searchsorted(dec, positions[row, 1] + reach, side="right")
        near = order[low:high]
        chords = np.linalg.norm(
            unit_vectors(positions[near]) - unit_vectors(positions[[row]]), axis=1
        )
        near = near[chords <= _chord(arcsec)]
        found.append(np.union1d(near, [row]))
    return found


def shared_places(
    positions: np.ndarray | None, other: np.ndarray | None, arcsec: float, count: int
) -> np.ndarray:
    """Which rows of another set lie at a place of this one, shape (M,) bool.

    Parameters
    ----------
    positions, other : ndarray, shapes (N, 2) and (M, 2), or None
        RA and Dec in degrees of the two sets; without them nothing is shared.
    arcsec : float
        0: nothing is shared.
    count : int
        M.
    """
    shared = np.zeros(count, dtype=bool)
    if positions is None or other is None or arcsec == 0:
        return shared
    here, there = (np.flatnonzero(np.isfinite(given).all(axis=1)) for given in (positions, other))
    if len(here) and len(there):
        tree = cKDTree(unit_vectors(np.asarray(positions, dtype=np.float64)[here]))
        points = unit_vectors(np.asarray(other, dtype=np.float64)[there])
        shared[there] = tree.query(points)[0] <= _chord(arcsec)
    return shared


def in_order(groups: np.ndarray) -> np.ndarray:
    """The same groups, shape (N,) int64, numbered in order of first row.

    Raises
    ------
    DataError
        Not one whole number for each row.
    """
    groups = np.asarray(groups)
    if groups.ndim != 1 or groups.dtype.kind not in "iu":
        raise DataError(
            f"groups of shape {groups.shape} and type {groups.dtype}; expected one whole number "
            "for each row"
        )
    _, first, group = np.unique(groups, return_index=True, return_inverse=True)
    order = np.empty(len(first), dtype=np.int64)
    order[np.argsort(first)] = np.arange(len(first))
    return order[group.reshape(-1)]


def linked_groups(pairs: np.ndarray, count: int) -> np.ndarray:
    """Group number of every row, shape (N,) int64, where pairs of rows, shape (n, 2), are one."""
    ones = np.ones(len(pairs), dtype=bool)
    links = coo_array((ones, (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    return in_order(connected_components(links, directed=False)[1])


def merge_groups(*groups: np.ndarray) -> np.ndarray:
    """Rows that any of several groupings puts together, shape (N,) int64.

    For example those at one place on the sky, and those with the same picture.

    Parameters
    ----------
    *groups : ndarray, shape (N,), int
        Group numbers of the same N rows; only who shares one matters.

    Raises
    ------
    UsageError
        No grouping.
    Mismatch
        They are of different lengths.
    """
    if not groups:
        raise UsageError("no groups to merge; give at least one grouping")
    lengths = {len(group) for group in groups}
    if len(lengths) > 1:
        raise Mismatch(f"groups of {sorted(lengths)} rows; expected groups of the same rows")
    merged = in_order(groups[0])
    for group in groups[1:]:
        # Each group of either grouping is a node, each row a link between its two.
        links = np.stack([merged, in_order(group) + len(merged)], axis=1)
        merged = in_order(linked_groups(links, 2 * len(merged))[merged])
    return merged


def first_rows(groups: np.ndarray) -> np.ndarray:
    """The first row of every group, ascending, shape (number of groups,) int64."""
    return np.sort(np.unique(groups, return_index=True)[1]).astype(np.int64)


def _chord(arcsec: float) -> float:
    """The chord of an angle, and so little more that a separation of just that much counts."""
    angle = min(np.radians(arcsec / 3600), np.pi)
    return float(2 * np.sin(angle / 2) * (1 + 1e-9) + 4e-16)


def _friends(points: np.ndarray, chord: float) -> np.ndarray:
    """Group number of points on the sphere, linked at most ``chord`` apart."""
    count = len(points)
    if count < 2:
        return np.zeros(count, dtype=np.int64)
    tree = cKDTree(points)
    if (tree.count_neighbors(tree, chord) - count) / 2 <= _PAIRS_AT_ONCE:
        return linked_groups(tree.query_pairs(chord, output_type="ndarray"), count)
    # A crowd: so many rows at a time that their pairs fit in memory.
    pairs = np.cumsum(tree.query_ball_point(points, chord, return_length=True))
    cuts = np.searchsorted(pairs, np.arange(_PAIRS_AT_ONCE, pairs[-1], _PAIRS_AT_ONCE))
    linked = np.arange(count, dtype=np.int64)
    for rows in np.split(np.arange(count), np.unique(cuts)):
        if not len(rows):
            continue
        met = cKDTree(points[rows]).sparse_distance_matrix(tree, chord, output_type="coo_matrix")
        found = linked_groups(np.stack([rows[met.row], met.col], axis=1), count)
        linked = merge_groups(linked, found)
    return linked
