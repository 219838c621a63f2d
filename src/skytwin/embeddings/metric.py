"""Distances between vectors: euclidean, cosine, standardized, whitened, csls.

``standardized`` is the cosine distance after every feature is brought to zero mean and unit
standard deviation over the whole set: the metric that did best on Galaxy Zoo. ``whitened`` is
the cosine distance between the leading principal components, each brought to unit deviation.
``csls`` corrects the standardized distance for hubs, objects that are near to everything
(Conneau et al. 2018, eq. 4), with neighbourhoods taken from a random sample.

The first three are one product of the stored vectors with a matrix of transformed references,
plus numbers kept per row, so that a scan reads each byte once. That product is in float32, and
bounded (`skytwin.embeddings.product`): float64 settles what its bounds leave open. The last two are
computed in float64 throughout.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from skytwin.embeddings.names import Metric
from skytwin.embeddings.product import UNIT, narrow_product, product, product_error
from skytwin.embeddings.sample import Sample
from skytwin.embeddings.vectors import LONGEST, Block, Statistics, cache_rows, widened
from skytwin.errors import DataError, Mismatch, UsageError

__all__ = [
    "Near",
    "Rough",
    "Scorer",
    "scorer",
]

_CSLS_NEIGHBOURS = 10
# Two float64 products of another order differ by less.
_SLACK = 1e-9


@dataclass(frozen=True, eq=False, kw_only=True)
class Rough:
    """Bounds of distances, each (n, Q) float64: the exact value lies between."""

    lower: np.ndarray
    upper: np.ndarray


@dataclass(frozen=True, eq=False, kw_only=True)
class Near:
    """Bounds of m distances of a block, each (m,): of its row ``row`` to reference ``column``."""

    row: np.ndarray
    column: np.ndarray
    lower: np.ndarray
    upper: np.ndarray

    def only(self, some: np.ndarray) -> Near:
        """Some of them: bool (m,), or their places."""
        return Near(
            row=self.row[some],
            column=self.column[some],
            lower=self.lower[some],
            upper=self.upper[some],
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class Scorer:
    """Distances to Q references, roughly for whole blocks and exactly for chosen rows.

    Attributes
    ----------
    rough : callable
        Block -> `Rough`.
    exact : callable
        Vectors (n, D) -> distances (n, Q) in float64.
    references : ndarray, shape (Q, D), optional
        What the distances are to.
    weighted : callable, optional
        Where a weighted sum of the distances costs no more than one of them: weights (Q,) ->
        what bounds that sum for a block, (n,) each.
    reach : callable, optional
        What `near` gives, where that costs less than bounds of all distances.
    """

    rough: Callable[[Block], Rough]
    exact: Callable[[np.ndarray], np.ndarray]
    references: np.ndarray | None = None
    weighted: Callable[[np.ndarray], Callable[[Block], Rough]] | None = None
    reach: Callable[[Block, np.ndarray], Near] | None = None

    def near(self, block: Block, limit: np.ndarray) -> Near:
        """Bounds of the distances whose lower bound is not above their reference's limit, (Q,)."""
        if self.reach is not None:
            return self.reach(block, limit)
        bounds = self.rough(block)
        row, column = np.nonzero(bounds.lower <= limit)
        lower, upper = bounds.lower[row, column], bounds.upper[row, column]
        return Near(row=row, column=column, lower=lower, upper=upper)


def scorer(
    metric: Metric,
    references: np.ndarray,
    statistics: Statistics,
    sample: Sample | None = None,
) -> Scorer:
    """Prepare a metric for some references.

    Parameters
    ----------
    metric : str
        One of `METRICS`.
    references : ndarray, shape (Q, D)
    statistics : Statistics
        Of the set that will be scanned; ``standardized`` takes mean and scale from it.
    sample : Sample, optional
        Of that set; ``whitened`` and ``csls`` need one.
    """
    references = np.asarray(references, dtype=np.float64)
    dim = references.shape[1]
    if dim != len(statistics.mean):
        raise Mismatch(
            f"reference vectors have {dim} numbers; the embedding has {len(statistics.mean)}: "
            "embed both with the same encoder"
        )
    if not np.isfinite(references).all():
        raise DataError("a reference vector holds NaN or infinity; choose another reference")
    # With the set's, no longer than LONGEST, products stay within float32.
    if np.linalg.norm(references, axis=1).max(initial=0.0) > 100 * LONGEST:
        raise DataError(
            f"a reference vector is longer than {100 * LONGEST:g}; choose another reference"
        )
    if metric == "euclidean":
        return _euclidean(references, statistics)
    if metric == "cosine":
        return _cosine(references, statistics, np.zeros(dim), np.ones(dim), 0)
    if metric == "standardized":
        return _cosine(references, statistics, statistics.mean, statistics.inverse_scale, 1)
    if sample is None:
        raise UsageError(f"metric {metric!r} needs a sample of the set; see sample.draw")
    return _whitened(references, sample) if metric == "whitened" else _csls(references, sample)


def _euclidean(references: np.ndarray, statistics: Statistics) -> Scorer:
    matrix = np.ascontiguousarray(references.T, dtype=np.float32)
    own = np.einsum("ij,ij->i", references, references)
    gamma = product_error(len(matrix))

    def bounds(
        norms: np.ndarray, own: np.ndarray, product: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        square = norms + own - 2.0 * product
        slack = 2.0 * gamma * np.sqrt(np.abs(norms * own)) + 1e-12 * (norms + own)
        return np.sqrt(np.maximum(square - slack, 0.0)), np.sqrt(np.maximum(square + slack, 0.0))

    def rough(block: Block) -> Rough:
        norms = statistics.norms[block.rows, 0][:, None]
        lower, upper = bounds(norms, own, product(block.values, matrix))
        return Rough(lower=lower, upper=upper)

    def near(block: Block, limit: np.ndarray) -> Near:
        norms, found = statistics.norms[block.rows, 0], narrow_product(block.values, matrix)
        with np.errstate(over="ignore", invalid="ignore"):  # lengths may be a stranger's
            # lower <= limit where product - norm / 2 >= (own - slack - limit^2) / 2; what float32
            # rounds away of the left side is less than `lost`.
            widest = np.abs(norms).max(initial=0.0)
            slack = 2.0 * gamma * np.sqrt(widest * own) + 1e-12 * (widest + own)
            lost = 4 * UNIT * (np.sqrt(widest * own) + widest)
            half = (0.5 * norms).astype(np.float32)[:, None]
            row, column = _reaching(found - half, 0.5 * (own - slack - limit**2) - lost)
            lower, upper = bounds(norms[row], own[column], found[row, column].astype(np.float64))
        return Near(row=row, column=column, lower=lower, upper=upper).only(lower <= limit[column])

    def exact(vectors: np.ndarray) -> np.ndarray:
        found = np.empty((len(vectors), len(references)))
        for column, reference in zip(found.T, references, strict=True):
            for some, apart in _parts(vectors):
                apart -= reference
                column[some] = np.sqrt(np.vecdot(apart, apart))
        return found

    return Scorer(rough=rough, reach=near, exact=exact, references=references)


def _cosine(
    references: np.ndarray,
    statistics: Statistics,
    mean: np.ndarray,
    inverse_scale: np.ndarray,
    which: int,
) -> Scorer:
    direction = _unit((references - mean) * inverse_scale)

    def exact(vectors: np.ndarray) -> np.ndarray:
        found = np.empty((len(vectors), len(direction)))
        for some, z in _parts(vectors):
            z -= mean
            z *= inverse_scale
            found[some] = _cosine_distance(z, direction)
        return found

    def weighted(weights: np.ndarray) -> Callable[[Block], Rough]:
        # Every distance is 1 less a product over one and the same length: so is their sum.
        total = (weights @ direction)[None]
        combined, _ = _projected(statistics, total, mean, inverse_scale, which, weights.sum())

        def sums(block: Block) -> Rough:
            bounds = combined(block)
            return Rough(lower=bounds.lower[:, 0], upper=bounds.upper[:, 0])

        return sums

    rough, near = _projected(statistics, direction, mean, inverse_scale, which, 1.0)
    return Scorer(
        rough=rough,
        reach=near,
        exact=exact,
        references=references,
        weighted=weighted,
    )


def _projected(
    statistics: Statistics,
    direction: np.ndarray,
    mean: np.ndarray,
    inverse_scale: np.ndarray,
    which: int,
    at_zero: float,
) -> tuple[Callable[[Block], Rough], Callable[[Block, np.ndarray], Near]]:
    """Bounds of ``at_zero`` less the products of unit vectors with directions (Q, D)."""
    weights = direction * inverse_scale
    matrix = np.ascontiguousarray(weights.T, dtype=np.float32)
    offset = weights @ mean
    width = np.sqrt(np.einsum("ij,ij->i", weights, weights))
    gamma = product_error(len(matrix))

    def lengths(block: Block) -> tuple[np.ndarray, np.ndarray]:
        """What a product is divided by, inverted, (n,), and by how much it may be wrong, (Q,)."""
        square = statistics.norms[block.rows]
        some = square[:, which] > 0
        # A vector of no length has no direction: as far from all as a right angle.
        over = np.zeros(len(square))
        np.sqrt(square[:, which], out=over, where=some)
        np.divide(1.0, over, out=over, where=some)
        # The widest of the block serves all of it: one number in place of one per row.
        with np.errstate(over="ignore", invalid="ignore"):  # lengths may be a stranger's
            ratio = square[:, 0] * over**2
        return over, width * np.sqrt(ratio.max(initial=0.0))

    def rough(block: Block) -> Rough:
        over, widest = lengths(block)
        distance = product(block.values, matrix)
        distance -= offset
        distance *= -over[:, None]
        distance += at_zero
        slack = gamma * widest + 1e-12
        upper = distance + slack
        distance -= slack
        return Rough(lower=distance, upper=upper)

    def near(block: Block, limit: np.ndarray) -> Near:
        (over, widest), found = lengths(block), narrow_product(block.values, matrix)
        slack = gamma * widest + 1e-12
        with np.errstate(over="ignore", invalid="ignore"):
            cosine = found - offset.astype(np.float32)
            cosine *= over.astype(np.float32)[:, None]
            # What float32 rounds away of these is less than `lost`.
            lost = 4 * UNIT * (widest + np.abs(offset) * over.max(initial=0.0) + abs(at_zero))
            row, column = _reaching(cosine, at_zero - slack - limit - lost)
        distance = (found[row, column] - offset[column]) * -over[row] + at_zero
        lower, upper = distance - slack[column], distance + slack[column]
        return Near(row=row, column=column, lower=lower, upper=upper).only(lower <= limit[column])

    return rough, near


def _reaching(values: np.ndarray, least: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of float32 values (n, Q) that are not below what their column asks, (Q,)."""
    # Rounded downwards; what is no number stays, for float64 to judge.
    floor = np.nextafter(least.astype(np.float32), np.float32(-np.inf))
    found = np.flatnonzero(~(values < floor))
    return found // values.shape[1], found % values.shape[1]


def _whitened(references: np.ndarray, sample: Sample) -> Scorer:
    direction = _unit(sample.standardized(references) @ sample.whitening)

    def exact(vectors: np.ndarray) -> np.ndarray:
        z = sample.standardized(vectors) @ sample.whitening
        return _without_noise(_cosine_distance(z, direction))

    return Scorer(rough=_rough_from(exact), exact=exact)


def _csls(references: np.ndarray, sample: Sample) -> Scorer:
    direction = _unit(sample.standardized(references))
    around = _unit(sample.scaled)
    of_references = _nearness(direction, around)

    def exact(vectors: np.ndarray) -> np.ndarray:
        z = _unit(sample.standardized(vectors))
        similarity = 1.0 - _cosine_distance(z, direction)
        csls = 2.0 * similarity - of_references - _nearness(z, around)[:, None]
        # CSLS lies between -4 and 4: so scaled, the distance is never negative.
        return _without_noise((4.0 - csls) / 2.0)

    return Scorer(rough=_rough_from(exact), exact=exact)


def _without_noise(distance: np.ndarray) -> np.ndarray:
    # A product through BLAS differs in its last digits with a row's place: drop those.
    return np.asarray(np.round(distance, 12))


def _nearness(z: np.ndarray, around: np.ndarray) -> np.ndarray:
    """Mean cosine to the nearest of the sample, (n,); an object is not its own neighbour."""
    cosine = z @ around.T
    cosine[cosine > 1.0 - _SLACK] = -1.0
    count = min(_CSLS_NEIGHBOURS, cosine.shape[1])
    nearest: np.ndarray = np.partition(cosine, -count, axis=1)[:, -count:].mean(axis=1)
    return nearest


def _rough_from(exact: Callable[[np.ndarray], np.ndarray]) -> Callable[[Block], Rough]:
    def rough(block: Block) -> Rough:
        # In slices: a whole block in float64 and its products would not stay small.
        parts = [widened(block.values[i : i + 2048]) for i in range(0, len(block.values), 2048)]
        found = np.concatenate([exact(part) for part in parts])
        return Rough(lower=found - _SLACK, upper=found + _SLACK)

    return rough


def _parts(vectors: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Vectors (n, D) in float64, as many at a time as stay in the cache, in one space for all."""
    count, dim = vectors.shape
    step = cache_rows(4 * dim)
    space = np.empty((min(step, count), dim))
    for first in range(0, count, step):
        part = space[: min(step, count - first)]
        np.copyto(part, vectors[first : first + step])
        yield slice(first, first + len(part)), part


def _cosine_distance(z: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """Of vectors (n, D) from directions (Q, D) of unit length, (n, Q)."""
    length = np.sqrt(np.vecdot(z, z))
    found = np.zeros((len(z), len(direction)))
    for column, d in zip(found.T, direction, strict=True):
        # Row by row, not as a product of matrices: identical vectors get identical distances.
        np.divide(np.vecdot(z, d), length, out=column, where=length > 0)
    # Rounding must not make a distance negative.
    return np.maximum(1.0 - found, 0.0)


def _unit(x: np.ndarray) -> np.ndarray:
    length = np.sqrt(np.einsum("ij,ij->i", x, x))[:, None]
    unit = np.zeros_like(x)
    np.divide(x, length, out=unit, where=length > 0)
    return unit
