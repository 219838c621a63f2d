"""How far a map can be trusted: trustworthiness and continuity (Venna & Kaski 2001).

Both run from 0 to 1. Trustworthiness falls where the map brings together what is apart,
continuity where it tears apart what is close. Neighbour preservation is the plain share of an
object's neighbours that are its neighbours on the map.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from skytwin.errors import UsageError
from skytwin.progress import Progress

__all__ = ["MEASURES", "Quality", "measure_quality"]

MEASURES = ("trustworthiness", "continuity", "preservation")
_POOL, _QUERIES = 50_000, 3000
_NUMBERS, _PAIRS = 64_000_000, 100_000_000
_CHUNK = 64


@dataclass(frozen=True, kw_only=True)
class Quality:
    """How well neighbourhoods survive on the map.

    Attributes
    ----------
    trustworthiness, continuity, preservation : float
        Means over the objects looked at.
    components : tuple of three float
        The same of the first two principal components, which cost nothing.
    chance : tuple of three float
        The same of a map that places objects at random.
    neighbours : int
        How many nearest objects count.
    objects, among : int
        So many objects were looked at, with their neighbours among so many.
    """

    trustworthiness: float
    continuity: float
    preservation: float
    components: tuple[float, float, float]
    chance: tuple[float, float, float]
    neighbours: int
    objects: int
    among: int

    @property
    def lines(self) -> list[str]:
        """As a table of plain text."""
        values = (self.trustworthiness, self.continuity, self.preservation)
        head = f"{self.neighbours} neighbours of {self.objects} objects among {self.among}"
        rows = zip(MEASURES, values, self.components, self.chance, strict=True)
        return [
            f"  {head:<44}{'map':>7}{'2 PCs':>8}{'chance':>8}",
            *(f"    {n:<42}{v:>7.3f}{pc:>8.3f}{by_chance:>8.3f}" for n, v, pc, by_chance in rows),
        ]


def measure_quality(
    prepared: Callable[[np.ndarray], np.ndarray],
    xy: np.ndarray,
    leading: np.ndarray,
    dim: int,
    *,
    neighbours: int = 15,
    seed: int = 0,
    quiet: bool = True,
) -> Quality:
    """Hold a map against the space it is of.

    Parameters
    ----------
    prepared : callable
        Rows of the map -> vectors (n, D) whose Euclidean distance is that of the space.
    xy : ndarray, shape (N, 2)
    leading : ndarray, shape (N, 2)
        First two principal components.
    dim : int
        D.
    neighbours : int
        At most so many; of very few objects, fewer than half of them.
    seed : int
        Of the objects looked at, 3000 or fewer, and of those among which neighbours are sought,
        50 000 or fewer.
    quiet : bool
    """
    count = len(xy)
    if count < 4:
        raise UsageError(f"{count} objects; a map needs at least 4")
    rng = np.random.default_rng([seed, 2])
    among = min(count, _POOL, max(5000, _NUMBERS // dim))
    pool = np.sort(rng.choice(count, among, replace=False))
    looked = min(among, _QUERIES, max(300, _PAIRS // among))
    asked = np.sort(rng.choice(among, looked, replace=False))
    k = min(neighbours, (among - 1) // 2)
    full = np.concatenate([prepared(pool[i : i + 4096]) for i in range(0, among, 4096)])
    spaces = [full, np.asarray(xy[pool], dtype=float), np.asarray(leading[pool], dtype=float)]
    squares = [np.einsum("ij,ij->i", space, space) for space in spaces]
    sums = np.zeros((2, 3))
    with Progress("quality", looked, unit="objects", quiet=quiet) as bar:
        for start in range(0, looked, _CHUNK):
            rows = asked[start : start + _CHUNK]
            true, *flat = (_apart(s, q, rows) for s, q in zip(spaces, squares, strict=True))
            for which, apart in enumerate(flat):
                sums[which] += _penalties(true, apart, k)
            bar.advance(len(rows))
    found = _scores(sums / looked, k, among)
    return Quality(
        trustworthiness=found[0][0],
        continuity=found[0][1],
        preservation=found[0][2],
        components=found[1],
        chance=_by_chance(k, among),
        neighbours=k,
        objects=looked,
        among=among,
    )


def _apart(space: np.ndarray, squares: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Squared distances (n, N); an object is infinitely far from itself."""
    apart: np.ndarray = squares[rows, None] + squares - 2 * (space[rows] @ space.T)
    apart[np.arange(len(rows)), rows] = np.inf
    return apart


def _penalties(true: np.ndarray, flat: np.ndarray, k: int) -> np.ndarray:
    """Sums over objects: excess ranks of map neighbours, of true neighbours, and shared ones."""
    near_true = np.argpartition(true, k - 1, axis=1)[:, :k]
    near_flat = np.argpartition(flat, k - 1, axis=1)[:, :k]
    shared = sum(len(np.intersect1d(a, b)) for a, b in zip(near_true, near_flat, strict=True))
    return np.array([_excess(true, near_flat, k), _excess(flat, near_true, k), shared], dtype=float)


def _excess(apart: np.ndarray, near: np.ndarray, k: int) -> float:
    total = 0
    for row, found in zip(apart, near, strict=True):
        rank = np.searchsorted(np.sort(row), row[found]) + 1
        total += int(np.maximum(rank - k, 0).sum())
    return float(total)


def _scores(mean: np.ndarray, k: int, among: int) -> list[tuple[float, float, float]]:
    worst = k * (2 * among - 3 * k - 1) / 2
    return [(1 - float(t) / worst, 1 - float(c) / worst, float(p) / k) for t, c, p in mean]


def _by_chance(k: int, among: int) -> tuple[float, float, float]:
    # Of a random map every rank 1 ... N - 1 is as likely.
    random = k * (among - 1 - k) * (among - k) / (2 * (among - 1))
    return _scores(np.array([[random, random, k * k / (among - 1)]]), k, among)[0]
