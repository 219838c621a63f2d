"""The space a map is made of: vectors prepared as a metric sees them, and their main components."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import pyarrow as pa

from skytwin.embeddings.table import Embeddings
from skytwin.embeddings.vectors import Statistics
from skytwin.errors import DataError, one_of
from skytwin.progress import Progress

__all__ = ["METRICS", "SHARES", "Metric", "Space", "Variance", "check_metric", "fit_space"]

Metric = Literal["standardized", "cosine", "euclidean"]
METRICS: tuple[Metric, ...] = get_args(Metric)
#: Shares of the variance whose number of components is told.
SHARES = (0.90, 0.95, 0.99)
_FIT_ROWS = 100_000
_BLOCK = 4096


def check_metric(name: str) -> Metric:
    """A metric that maps know, or an error that lists them."""
    return one_of("metric of a map", name, METRICS)


@dataclass(frozen=True, eq=False, kw_only=True)
class Space:
    """Vectors as a metric sees them, and their principal components.

    Attributes
    ----------
    metric : str
        ``standardized`` and ``cosine`` bring every vector to length 1, so that the Euclidean
        distance orders pairs as the cosine distance does.
    mean, inverse_scale : ndarray, shape (D,), float64
        Subtracted from, and multiplied with, every stored vector.
    centre : ndarray, shape (D,), float64
        Mean of the prepared vectors.
    components : ndarray, shape (D, P), float64
        Orthonormal, the one of most variance first, the largest entry of each positive.
    share : ndarray, shape (P,), float64
        Of the variance of the prepared vectors.
    """

    metric: Metric
    mean: np.ndarray
    inverse_scale: np.ndarray
    centre: np.ndarray
    components: np.ndarray
    share: np.ndarray

    def prepared(self, vectors: np.ndarray) -> np.ndarray:
        """Stored vectors (n, D) as the metric sees them, less their centre, float64."""
        z = _prepare(vectors, self.mean, self.inverse_scale, self.metric)
        z -= self.centre
        return z

    def scores(self, vectors: np.ndarray) -> np.ndarray:
        """Principal components of stored vectors, (n, P) float32."""
        found: np.ndarray = (self.prepared(vectors) @ self.components).astype(np.float32)
        return found


@dataclass(frozen=True, eq=False, kw_only=True)
class Variance:
    """How the variance is spread over principal components.

    Attributes
    ----------
    standardized, raw : ndarray, shape (min(n, D),), float64
        Share of each component, largest first: of features brought to unit deviation, and of
        the vectors as they are.
    rows : int
        Objects it was measured on.
    """

    standardized: np.ndarray
    raw: np.ndarray
    rows: int

    @staticmethod
    def needed(shares: np.ndarray, share: float) -> int:
        """How many leading components carry ``share`` of the variance."""
        return int(np.searchsorted(np.cumsum(shares), share - 1e-12)) + 1

    @property
    def table(self) -> pa.Table:
        """``vectors``, ``share`` and ``components``: how many carry that share."""
        rows = [
            {"vectors": name, "share": share, "components": self.needed(shares, share)}
            for name, shares in (("standardized", self.standardized), ("raw", self.raw))
            for share in SHARES
        ]
        return pa.Table.from_pylist(rows)


def fit_space(
    embeddings: Embeddings,
    rows: np.ndarray,
    metric: Metric,
    count: int,
    *,
    seed: int = 0,
    quiet: bool = True,
) -> tuple[Space, Variance]:
    """Main components of some rows, as a metric sees them.

    Parameters
    ----------
    embeddings : Embeddings
        Its means and scales standardise, those of the rows do not.
    rows : ndarray, shape (n,), int
        Of more than 100 000 the components are those of a random sample of so many.
    metric : str
        One of `METRICS`.
    count : int
        At most so many components.
    seed : int
        Of the sample.
    quiet : bool

    Raises
    ------
    DataError
        NaN among the vectors, or they vary in fewer than 2 directions.
    """
    if len(rows) > _FIT_ROWS:
        rng = np.random.default_rng([seed, 1])
        rows = np.sort(rng.choice(rows, _FIT_ROWS, replace=False))
    statistics, dim = embeddings.statistics, embeddings.dim
    mean, inverse = _scaling(statistics, metric, dim)
    wanted: tuple[tuple[str, Callable[[np.ndarray], np.ndarray]], ...] = (
        ("map", lambda x: _prepare(x, mean, inverse, metric)),
        (
            "standardized",
            lambda x: _prepare(x, statistics.mean, statistics.inverse_scale, "euclidean"),
        ),
        ("raw", lambda x: _prepare(x, statistics.mean, np.ones(dim), "euclidean")),
    )
    share: dict[str, np.ndarray] = {}
    centre, directions = np.empty(0), np.empty(0)
    with Progress("components", 3 * len(rows), unit="vectors", quiet=quiet) as bar:
        for name, prepare in wanted:
            own, power, turned = _components(
                _blocks(embeddings, rows, prepare, bar), len(rows), dim, axes=name == "map"
            )
            if not power.size or power[0] <= 0:
                raise DataError(
                    f"the {len(rows)} vectors are all alike; a map needs vectors that vary"
                )
            share[name] = power / power.sum()
            if name == "map":
                centre, directions = own, turned
    kept = int((share["map"] > 1e-10 * share["map"][0]).sum())
    if kept < 2:
        raise DataError("the vectors vary in 1 direction; a map needs at least 2")
    kept = min(kept, count)
    space = Space(
        metric=metric,
        mean=mean,
        inverse_scale=inverse,
        centre=centre,
        components=np.ascontiguousarray(directions[:, :kept]),
        share=share["map"][:kept],
    )
    found = Variance(standardized=share["standardized"], raw=share["raw"], rows=len(rows))
    return space, found


def _scaling(statistics: Statistics, metric: Metric, dim: int) -> tuple[np.ndarray, np.ndarray]:
    if metric == "standardized":
        return np.array(statistics.mean, dtype=float), statistics.inverse_scale
    return np.zeros(dim), np.ones(dim)


def _prepare(
    vectors: np.ndarray, mean: np.ndarray, inverse_scale: np.ndarray, metric: Metric
) -> np.ndarray:
    z: np.ndarray = (vectors.astype(np.float64) - mean) * inverse_scale
    if not np.isfinite(z).all():
        bad = int((~np.isfinite(z).all(axis=1)).sum())
        raise DataError(f"{bad} vector(s) hold NaN or infinity; leave those objects out")
    if metric != "euclidean":
        length = np.sqrt(np.einsum("ij,ij->i", z, z))[:, None]
        np.divide(z, length, out=z, where=length > 0)
    return z


def _blocks(
    embeddings: Embeddings,
    rows: np.ndarray,
    prepare: Callable[[np.ndarray], np.ndarray],
    bar: Progress,
) -> Iterator[np.ndarray]:
    for start in range(0, len(rows), _BLOCK):
        some = rows[start : start + _BLOCK]
        yield prepare(embeddings.vectors.take(some))
        bar.advance(len(some))


def _components(
    blocks: Iterator[np.ndarray], count: int, dim: int, *, axes: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Centre (D,), variances descending, and directions (D, P) where asked for."""
    if count <= dim:
        z = np.concatenate(list(blocks))
        centre = z.mean(axis=0)
        z -= centre
        product = z @ z.T / count
    else:
        z = np.empty((0, dim))
        total, square = np.zeros(dim), np.zeros((dim, dim))
        for block in blocks:
            total += block.sum(axis=0)
            square += block.T @ block
        centre = total / count
        product = square / count - np.outer(centre, centre)
    if not axes:
        return centre, np.maximum(np.linalg.eigvalsh(product)[::-1], 0.0), np.empty((dim, 0))
    power, turned = np.linalg.eigh(product)
    power, turned = np.maximum(power[::-1], 0.0), turned[:, ::-1]
    if count <= dim:
        kept = power > 1e-10 * power[0] if power[0] > 0 else np.zeros(count, dtype=bool)
        turned = z.T @ turned[:, kept] / np.sqrt(power[kept] * count)
    strongest = turned[np.abs(turned).argmax(axis=0), np.arange(turned.shape[1])]
    return centre, power, turned * np.where(strongest < 0, -1.0, 1.0)
