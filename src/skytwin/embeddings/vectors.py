"""N vectors of D numbers, kept in memory-mapped shards."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from skytwin.errors import DataError, UsageError

__all__ = ["Block", "Statistics", "Vectors", "measure"]

BLOCK_ROWS = 16384


@dataclass(frozen=True, eq=False, kw_only=True)
class Block:
    """Consecutive rows: ``values`` (n, D), the first of which is row ``start``."""

    start: int
    values: np.ndarray

    @property
    def rows(self) -> slice:
        """Where the block stands in the whole."""
        return slice(self.start, self.start + len(self.values))


class Vectors:
    """A (N, D) float32 array in shards, read as it is needed.

    Parameters
    ----------
    shards : sequence of ndarray, each (n_i, D) float32
        In row order; memory maps or plain arrays.
    """

    def __init__(self, shards: Sequence[np.ndarray]) -> None:
        if not shards:
            raise DataError("no vectors; expected at least one shard")
        self._shards = list(shards)
        self._starts = np.concatenate([[0], np.cumsum([len(s) for s in shards])])
        self.shape = (int(self._starts[-1]), int(shards[0].shape[1]))
        self.dtype = np.dtype(np.float32)

    @classmethod
    def open(cls, folder: Path, names: Sequence[str]) -> Vectors:
        """Memory-map the shards of a folder."""
        return cls([np.load(folder / name, mmap_mode="r") for name in names])

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("vectors in shards cannot become one array without a copy")
        whole = np.concatenate(self._shards)
        return whole.astype(dtype, copy=False) if dtype is not None else whole

    def __getitem__(self, rows: int | slice | Sequence[int] | np.ndarray) -> np.ndarray:
        if isinstance(rows, (int, np.integer)):
            return np.asarray(self.take([int(rows)])[0])
        if isinstance(rows, slice):
            return self.take(np.arange(*rows.indices(len(self))))
        return self.take(rows)

    def take(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """The vectors of some rows, (n, D) float32, in the order asked for."""
        wanted = np.asarray(rows, dtype=np.int64)
        if wanted.size and not (wanted.min() >= 0 and wanted.max() < len(self)):
            raise UsageError(f"rows {wanted.min()}..{wanted.max()}; expected 0..{len(self) - 1}")
        result = np.empty((len(wanted), self.shape[1]), dtype=np.float32)
        shard = np.searchsorted(self._starts, wanted, side="right") - 1
        for number in np.unique(shard):
            here = shard == number
            result[here] = self._shards[number][wanted[here] - self._starts[number]]
        return result

    def blocks(self, rows: int = BLOCK_ROWS) -> Iterator[Block]:
        """All vectors in order, at most ``rows`` at a time, without copying."""
        for start, shard in zip(self._starts[:-1], self._shards, strict=True):
            for first in range(0, len(shard), rows):
                yield Block(start=int(start) + first, values=shard[first : first + rows])


@dataclass(frozen=True, eq=False, kw_only=True)
class Statistics:
    """What the metrics need to know of the whole set, measured once.

    Attributes
    ----------
    mean, scale : ndarray, shape (D,), float64
        Mean and standard deviation (ddof 0) of every feature.
    norms : ndarray, shape (N, 2), float64
        Squared length of every vector as it is, and after standardising.
    """

    mean: np.ndarray
    scale: np.ndarray
    norms: np.ndarray

    @property
    def inverse_scale(self) -> np.ndarray:
        """``1 / scale``, and 0 for a feature that never varies: it tells nothing apart."""
        inverse = np.zeros_like(self.scale)
        np.divide(1.0, self.scale, out=inverse, where=self.scale > 0)
        return inverse


def measure(vectors: Vectors) -> Statistics:
    """Measure a set's statistics in two passes, in float64 (Chan et al. 1983 merging).

    Raises
    ------
    DataError
        A vector holds NaN or infinity.
    """
    count, dim = vectors.shape
    mean, square, seen = np.zeros(dim), np.zeros(dim), 0
    for block in vectors.blocks(4096):
        x = block.values.astype(np.float64)
        if not np.isfinite(x).all():
            bad = np.flatnonzero(~np.isfinite(x).all(axis=1))
            raise DataError(
                f"vector of row {block.start + int(bad[0])} holds NaN or infinity "
                f"({len(bad)} such row(s) in its block); leave those objects out"
            )
        own = x.mean(axis=0)
        delta, total = own - mean, seen + len(x)
        square += ((x - own) ** 2).sum(axis=0) + delta**2 * (seen * len(x) / total)
        mean += delta * (len(x) / total)
        seen = total
    scale = np.sqrt(square / max(count, 1))
    # Rounding leaves a feature that never varies a width of a few ulps: call that none.
    scale[scale <= 1e-7 * np.abs(mean)] = 0.0
    result = Statistics(mean=mean, scale=scale, norms=np.empty((count, 2)))
    inverse = result.inverse_scale
    for block in vectors.blocks(4096):
        x = block.values.astype(np.float64)
        result.norms[block.rows, 0] = np.einsum("ij,ij->i", x, x)
        z = (x - mean) * inverse
        result.norms[block.rows, 1] = np.einsum("ij,ij->i", z, z)
    return result
