"""Vectors that are the same, or far nearer to each other than objects of the survey are.

Neighbours are found in few dimensions: the leading principal components of the standardised
vectors of unit length. The projection is orthonormal, so that no distance grows in it, and a
near copy stays near. The distances that are reported are those of all dimensions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial import cKDTree
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

from skytwin.embeddings.table import Embeddings
from skytwin.embeddings.vectors import Statistics, Vectors
from skytwin.progress import Progress
from skytwin.threads import thread_count

__all__ = [
    "Near",
    "NearVectors",
    "near_vectors",
    "nearest_in",
    "nearest_vectors",
    "nearest_within",
    "row_digests",
    "same_pairs",
    "same_vectors",
    "vector_distance",
]

_DIMS = 32
_SAMPLE = 4096  # rows that the components are found from
_ROWS_AT_ONCE = 4096
_NEIGHBOURS = 3
_CLOSE = 0.05


@dataclass(frozen=True, eq=False, kw_only=True)
class Near:
    """Rows and their nearest neighbours.

    Attributes
    ----------
    rows, others : ndarray, shape (n,), int64
        Pairs: a row, and one of its nearest in the set that was looked into.
    rank : ndarray, shape (n,), int64
        0 is the nearest of its row.
    distance : ndarray, shape (n,), float64
    """

    rows: np.ndarray
    others: np.ndarray
    rank: np.ndarray
    distance: np.ndarray

    def only(self, some: np.ndarray) -> Near:
        """Some of the pairs, bool (n,)."""
        return Near(
            rows=self.rows[some],
            others=self.others[some],
            rank=self.rank[some],
            distance=self.distance[some],
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class NearVectors:
    """Pairs of near vectors.

    Attributes
    ----------
    close : ndarray, shape (n, 2), int64
        Pairs at most a twentieth of ``typical`` apart, among each row's three nearest.
    typical : float
        Median distance to the third nearest, which hardly any copy is.
    """

    close: np.ndarray
    typical: float


def near_vectors(
    one: Embeddings, other: Embeddings | None = None, *, seed: int = 0, quiet: bool = True
) -> NearVectors:
    """Near vectors within one embedding, or between two.

    Of equal vectors the first speaks for all: `same_vectors` has the others.
    """
    here = np.arange(len(one))
    if other is None:
        here = np.unique(_digests(one.vectors), return_index=True)[1]
        here.sort()
    if len(here) < 1 + (other is None):
        return NearVectors(close=np.empty((0, 2), dtype=np.int64), typical=float("nan"))
    looked = one.vectors if len(here) == len(one) else Vectors([one.vectors.take(here)])
    there = None if other is None else other.vectors

    def distances(found: Near) -> np.ndarray:
        second = looked if there is None else there
        return _distances(looked, second, one.statistics, found.rows, found.others)

    points, within = _projections(looked, there, one.statistics, _DIMS, seed)
    some = np.random.default_rng(seed).permutation(len(points))[:_SAMPLE]
    usual = nearest_in(points, within, _NEIGHBOURS, asked=np.sort(some))
    typical = float(np.median(distances(usual.only(usual.rank == usual.rank.max()))))
    # For unit vectors 1 - cos is half the squared distance; what is too far in few dimensions is
    # too far in all.
    reach = np.sqrt(2 * (_CLOSE * typical + 1e-6))
    found = nearest_within(points, within, _NEIGHBOURS, reach, quiet=quiet)
    found = found.only(distances(found) <= _CLOSE * typical)
    others = found.others if other is not None else here[found.others]
    close = np.stack([here[found.rows], others], axis=1)
    if other is None:
        close = np.sort(close, axis=1)
    return NearVectors(close=np.unique(close, axis=0), typical=typical)


def same_vectors(one: Embeddings, other: Embeddings | None = None) -> np.ndarray:
    """Pairs of rows with equal vectors, shape (n, 2) int64; see `same_pairs`."""
    return same_pairs(_digests(one.vectors), None if other is None else _digests(other.vectors))


def same_pairs(one: np.ndarray, other: np.ndarray | None = None) -> np.ndarray:
    """Pairs of rows with equal digests, shape (n, 2) int64.

    Within one set, the first of its kind with each later one: m equal rows are m - 1 pairs.
    Between two sets, every row with the first equal one of the other set.
    """
    values, start, place = np.unique(one, return_index=True, return_inverse=True)
    place = place.reshape(-1)
    if other is None:
        first = start[place]
        later = np.flatnonzero(first != np.arange(len(one)))
        return np.stack([first[later], later], axis=1).astype(np.int64)
    there, there_start = np.unique(other, return_index=True)
    pairs = []
    for known, first, asked, flip in (
        (there, there_start, one, False),
        (values, start, other, True),
    ):
        at = np.minimum(np.searchsorted(known, asked), len(known) - 1)
        rows = np.flatnonzero(known[at] == asked)
        both = [rows, first[at[rows]]]
        pairs.append(np.stack(both[::-1] if flip else both, axis=1))
    return np.unique(np.concatenate(pairs), axis=0).astype(np.int64)


def vector_distance(
    one: Embeddings, other: Embeddings | None, rows: np.ndarray, others: np.ndarray
) -> np.ndarray:
    """``1 - cos`` of standardised vectors, pair by pair, shape (n,) float64."""
    looked = one.vectors if other is None else other.vectors
    return _distances(one.vectors, looked, one.statistics, rows, others)


def _digests(vectors: Vectors) -> np.ndarray:
    """A digest of every vector, shape (N,) of 16 bytes: equal for equal vectors."""
    parts = [row_digests(np.asarray(block.values)) for block in vectors.blocks()]
    return np.concatenate(parts)


def row_digests(rows: np.ndarray) -> np.ndarray:
    """A digest of every row's bytes, shape (n,) of 16 bytes (BLAKE2b)."""
    rows = np.ascontiguousarray(rows)
    return np.array(
        [hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in rows], dtype="S16"
    )


def nearest_vectors(
    vectors: Vectors,
    statistics: Statistics,
    neighbours: int,
    *,
    other: Vectors | None = None,
    dims: int = _DIMS,
    seed: int = 0,
) -> Near:
    """Every vector's nearest ones, by the angle between standardised vectors.

    Parameters
    ----------
    vectors : Vectors, (N, D)
    statistics : Statistics
        By whose mean and scale both sets are standardised.
    neighbours : int
        How many of each.
    other : Vectors, (M, D), optional
        Where to look; by default among the others of the same set.
    dims : int
        Principal components that neighbours are looked for in.
    seed : int
        Of the sample that the components come from.

    Returns
    -------
    Near
        ``distance`` is ``1 - cos`` over all dimensions, as in the metric ``standardized``.
    """
    found = nearest_in(*_projections(vectors, other, statistics, dims, seed), neighbours)
    looked = vectors if other is None else other
    distance = _distances(vectors, looked, statistics, found.rows, found.others)
    return replace(found, distance=distance)


def _projections(
    vectors: Vectors, other: Vectors | None, statistics: Statistics, dims: int, seed: int
) -> tuple[np.ndarray, np.ndarray | None]:
    """Points of few dimensions, no farther apart than in all of them."""
    components = _components(vectors, statistics, dims, seed)
    here = _project(vectors, statistics, components)
    return here, None if other is None else _project(other, statistics, components)


def nearest_in(
    points: np.ndarray,
    other: np.ndarray | None,
    neighbours: int,
    *,
    asked: np.ndarray | None = None,
    quiet: bool = True,
) -> Near:
    """Every point's nearest ones, by exact Euclidean distance; few dimensions, shape (n, d).

    Parameters
    ----------
    points : ndarray, shape (n, d)
    other : ndarray, shape (m, d), or None
        Where to look; None for among the other points.
    neighbours : int
        How many of each; fewer where there are fewer.
    asked : ndarray of int, ascending, optional
        Points whose neighbours are wanted; by default all.
    quiet : bool
        Show no progress.
    """
    within = points if other is None else other
    wanted = np.arange(len(points)) if asked is None else asked
    # A point is among its own neighbours, not always as the first: copies are as near.
    count = min(neighbours + (other is None), len(within))
    index = NearestNeighbors(n_neighbors=max(count, 1), algorithm="brute").fit(within)
    return _collected(points, wanted, index.kneighbors, neighbours, other is None, quiet)


def nearest_within(
    points: np.ndarray,
    other: np.ndarray | None,
    neighbours: int,
    reach: float,
    *,
    quiet: bool = True,
) -> Near:
    """Those of `nearest_in` that are at most ``reach`` away; quick where there are few."""
    within = points if other is None else other
    tree = cKDTree(within)
    count = min(neighbours + (other is None), len(within))

    def query(some: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        found = tree.query(
            some, k=range(1, count + 1), distance_upper_bound=np.nextafter(reach, np.inf),
            workers=thread_count(),
        )  # fmt: skip
        return found[0], found[1]

    found = _collected(points, np.arange(len(points)), query, neighbours, other is None, quiet)
    return found.only(np.isfinite(found.distance))


def _collected(
    points: np.ndarray,
    wanted: np.ndarray,
    query: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]],
    neighbours: int,
    own: bool,
    quiet: bool,
) -> Near:
    """Neighbours of some points, block by block, themselves left out where they are among them."""
    parts = []
    with Progress("neighbours", len(wanted), unit="objects", quiet=quiet) as bar:
        for first in range(0, len(wanted), _ROWS_AT_ONCE):
            some = wanted[first : first + _ROWS_AT_ONCE]
            parts.append(query(points[some]))
            bar.advance(len(some))
    distance, found = (np.concatenate(one) for one in zip(*parts, strict=True))
    rows = np.repeat(wanted, distance.shape[1])
    others, apart = found.reshape(-1).astype(np.int64), distance.reshape(-1).astype(np.float64)
    if own:
        keep = others != rows
        rows, others, apart = rows[keep], others[keep], apart[keep]
    start = np.searchsorted(rows, rows, side="left")
    rank = np.arange(len(rows)) - start
    near = Near(rows=rows, others=others, rank=rank, distance=apart)
    return near.only(rank < neighbours)


def _distances(
    one: Vectors, two: Vectors, statistics: Statistics, rows: np.ndarray, others: np.ndarray
) -> np.ndarray:
    distance = np.empty(len(rows))
    for first in range(0, len(distance), _ROWS_AT_ONCE):
        part = slice(first, first + _ROWS_AT_ONCE)
        here = _directions(one.take(rows[part]), statistics)
        there = _directions(two.take(others[part]), statistics)
        distance[part] = np.maximum(1.0 - np.einsum("ij,ij->i", here, there), 0.0)
    return distance


def _directions(x: np.ndarray, statistics: Statistics) -> np.ndarray:
    z = (x.astype(np.float64) - statistics.mean) * statistics.inverse_scale
    length = np.sqrt(np.einsum("ij,ij->i", z, z))[:, None]
    return np.asarray(np.divide(z, length, out=np.zeros_like(z), where=length > 0))


def _components(vectors: Vectors, statistics: Statistics, dims: int, seed: int) -> np.ndarray:
    """Orthonormal directions, shape (d, D)."""
    count, dim = vectors.shape
    if dim <= dims:
        return np.eye(dim)
    rng = np.random.default_rng(seed)
    some = np.sort(rng.choice(count, min(_SAMPLE, count), replace=False))
    z = _directions(vectors.take(some), statistics)
    if len(z) <= dims:  # fewer objects than components: any orthonormal directions will do
        return np.linalg.qr(rng.standard_normal((dim, dims)))[0].T
    solver = PCA(dims, svd_solver="randomized", random_state=seed).fit(z)
    return np.asarray(solver.components_)


def _project(vectors: Vectors, statistics: Statistics, components: np.ndarray) -> np.ndarray:
    result = np.empty((len(vectors), len(components)), dtype=np.float32)
    for block in vectors.blocks(_ROWS_AT_ONCE):
        result[block.rows] = _directions(block.values, statistics) @ components.T
    return result
