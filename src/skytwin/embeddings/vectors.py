"""N vectors of D numbers, kept in memory-mapped shards."""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from skytwin.errors import DataError, UsageError
from skytwin.images.quiet import quiet

__all__ = [
    "LONGEST",
    "STORES",
    "Block",
    "Statistics",
    "Store",
    "Vectors",
    "cache_rows",
    "mapped",
    "measure",
    "steady_scale",
    "stored_as",
    "widened",
    "write_array",
]

#: What a number is stored in: 4 bytes, or 2 that keep 11 bits of it.
Store = Literal["float32", "float16"]
STORES: tuple[Store, ...] = get_args(Store)

BLOCK_ROWS = 16384
#: Products of vectors of this length are no larger than float32 can hold.
LONGEST = 1e18
# What a processor core keeps near at hand.
_CACHE_BYTES = 1 << 20
# Bits of float16 that lie where float32 has its own name 2**112 times too small a number.
_REBIAS, _SIGN_AND_VALUE = np.float32(2.0**112), np.int32(~0x70000000)


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
    """A (N, D) array in shards, read as float32 as it is needed.

    Parameters
    ----------
    shards : sequence of ndarray, each (n_i, D) float32 or float16
        In row order; memory maps or plain arrays.

    Attributes
    ----------
    shape : tuple of int
        ``(N, D)``.
    dtype : numpy.dtype
        float32: what is read, whatever is stored.
    nbytes : int
        As stored.
    """

    def __init__(self, shards: Sequence[np.ndarray]) -> None:
        if not shards:
            raise DataError("no vectors; expected at least one shard")
        self._shards = list(shards)
        # Rows of a memory map cost more to pick than those of the array that it is.
        self._plain = [np.asarray(shard) for shard in shards]
        self._starts = np.concatenate([[0], np.cumsum([len(s) for s in shards])])
        self.shape = (int(self._starts[-1]), int(shards[0].shape[1]))
        self.dtype = np.dtype(np.float32)
        self.nbytes = sum(shard.nbytes for shard in shards)

    @classmethod
    def open(cls, folder: Path, names: Sequence[str]) -> Vectors:
        """Memory-map the shards of a folder.

        Raises
        ------
        DataError
            They are no arrays of float32 or float16 that fit each other.
        """
        shards = [mapped(folder / name) for name in names]
        for name, shard in zip(names, shards, strict=True):
            alike = shard.ndim == 2 and shard.shape[1:] == shards[0].shape[1:]
            if not alike or shard.dtype.name not in STORES:
                raise DataError(
                    f"{str(folder / name)!r} holds {shard.dtype} {shard.shape}; expected vectors, "
                    "float32 or float16, all of one length"
                )
        return cls(shards)

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("vectors in shards cannot become one array without a copy")
        whole = np.concatenate([widened(shard) for shard in self._shards])
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
        order = None
        if not (wanted[1:] >= wanted[:-1]).all():
            order = np.argsort(wanted, kind="stable")
            wanted = wanted[order]
        ends = np.searchsorted(wanted, self._starts)
        for number in np.flatnonzero(np.diff(ends)):
            here, shard = slice(ends[number], ends[number + 1]), self._plain[number]
            rows = wanted[here] - self._starts[number]
            if order is not None:
                result[order[here]] = widened(shard[rows])
            elif shard.dtype == np.float16:
                widened(shard[rows], result[here])
            else:
                # The rows were looked at above: without "clip" they would be copied once more.
                np.take(shard, rows, axis=0, out=result[here], mode="clip")
        return result

    def blocks(self, rows: int = BLOCK_ROWS, *, release: bool = False) -> Iterator[Block]:
        """All vectors in order, float32, at most ``rows`` at a time.

        Parameters
        ----------
        rows : int
        release : bool
            Let the system take back what was read: a set larger than memory passes through
            without filling it.
        """
        for block in self.stored(rows, release=release):
            yield Block(start=block.start, values=widened(block.values))

    def stored(self, rows: int = BLOCK_ROWS, *, release: bool = False) -> Iterator[Block]:
        """As `blocks`, but in the numbers that are stored, and without copying."""
        for start, shard in zip(self._starts[:-1], self._shards, strict=True):
            for first in range(0, len(shard), rows):
                yield Block(start=int(start) + first, values=shard[first : first + rows])
                if release:
                    _let_go(shard, first, rows)

    def release(self) -> None:
        """Let the system take back all that was read."""
        for shard in self._shards:
            _let_go(shard, 0, len(shard))


def cache_rows(dim: int) -> int:
    """Rows of ``dim`` float32 numbers that stay in a processor's cache while they are used."""
    return max(16, _CACHE_BYTES // (4 * dim))


def widened(values: np.ndarray, into: np.ndarray | None = None) -> np.ndarray:
    """Numbers (n, D) as float32; those that are float32 are given back as they are.

    Equivalent to::

        values.astype(np.float32)

    for finite numbers, several times faster: of a float16 the bits are moved to where float32
    has them, and its exponent is set right by a product, which is exact.

    Parameters
    ----------
    values : ndarray, shape (n, D), float32 or float16
    into : ndarray, shape (m, D), float32, m >= n, optional
        What to write to.
    """
    if values.dtype != np.float16:
        return values
    count, dim = values.shape
    out = np.empty((count, dim), dtype=np.float32) if into is None else into[:count]
    step = cache_rows(dim)
    for first in range(0, count, step):
        part = values[first : first + step].view(np.int16)
        wide = out[first : first + step]
        bits = wide.view(np.int32)
        np.copyto(bits, part)
        np.left_shift(bits, 13, out=bits)
        np.bitwise_and(bits, _SIGN_AND_VALUE, out=bits)
        np.multiply(wide, _REBIAS, out=wide)
    return out


def stored_as(store: Store, values: np.ndarray) -> np.ndarray:
    """Numbers (n, D) as they are to be stored.

    Raises
    ------
    DataError
        float16 cannot hold them.
    """
    if store == "float32":
        return np.ascontiguousarray(values, dtype=np.float32)
    largest = float(np.abs(values).max(initial=0.0))
    if largest > float(np.finfo(np.float16).max):
        raise DataError(f"a vector holds {largest:.4g}; float16 reaches to 65504: store as float32")
    return np.ascontiguousarray(values, dtype=np.float16)


def mapped(path: Path) -> np.ndarray:
    """A ``.npy`` file, memory-mapped."""
    with quiet():  # of headers that were altered
        found: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    return found


def write_array(values: np.ndarray, path: Path) -> None:
    """Write a ``.npy`` file."""
    # As np.save writes it, whose own error on a full disk does not say that the disk is full.
    with path.open("wb") as stream:
        header = np.lib.format.header_data_from_array_1_0(values)
        np.lib.format.write_array_header_1_0(stream, header)
        stream.write(np.ascontiguousarray(values).data)


def _let_go(shard: np.ndarray, first: int, rows: int) -> None:
    """Drop the pages of some rows of a memory map from this process."""
    held: Any = shard.base
    advice = getattr(mmap, "MADV_DONTNEED", None)  # not on every system
    if not isinstance(held, mmap.mmap) or advice is None:
        return
    header = len(held) - shard.nbytes
    begin = (header + first * shard.strides[0]) // mmap.PAGESIZE * mmap.PAGESIZE
    end = min(header + (first + rows) * shard.strides[0], len(held))
    held.madvise(advice, begin, end - begin)


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
        A vector holds NaN or infinity, or is longer than `LONGEST`.
    """
    count, dim = vectors.shape
    mean, square, seen = np.zeros(dim), np.zeros(dim), 0
    for block in vectors.blocks(4096, release=True):
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
    scale = steady_scale(np.sqrt(square / max(count, 1)), mean)
    result = Statistics(mean=mean, scale=scale, norms=np.empty((count, 2)))
    inverse = result.inverse_scale
    for block in vectors.blocks(4096, release=True):
        x = block.values.astype(np.float64)
        result.norms[block.rows, 0] = np.einsum("ij,ij->i", x, x)
        z = (x - mean) * inverse
        result.norms[block.rows, 1] = np.einsum("ij,ij->i", z, z)
    length = np.sqrt(result.norms[:, 0].max(initial=0.0))
    if length > LONGEST:
        raise DataError(
            f"vector of row {int(result.norms[:, 0].argmax())} is {length:.3g} long; expected at "
            f"most {LONGEST:g}, so that float32 can hold its products: divide all by one number"
        )
    return result


def steady_scale(scale: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Deviations with 0 in place of what rounding leaves of a feature that never varies."""
    return np.where(scale <= 1e-7 * np.abs(mean), 0.0, scale)
