"""Log-likelihoods under a flow, fast, on a CPU, without torch.

The masks are multiplied into the weights once. Hidden units stand in the order of how many
coordinates they see, so that a masked weight is a staircase; it is cut into strips, and of each
strip only the columns that are not zero are multiplied. Some hundred objects at a time stay in the
processor's cache, one thread each. Shapes: ``x_DB`` coordinates, ``h_HB`` hidden units; objects are
columns.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from skytwin.densities.flow import Coordinates, Flow
from skytwin.progress import Progress
from skytwin.threads import thread_count

__all__ = ["Likelihood"]

_STRIPS = 4
_OBJECTS = 256  # at a time
_VECTORS = 4096  # whose coordinates are computed at a time
# zuko's MonotonicAffineTransform keeps the logarithm of a scale between -/+ this.
_MOST_LOG_SCALE = -math.log(1e-3)


@dataclass(frozen=True, eq=False, kw_only=True)
class _Strip:
    """Rows ``[first, stop)`` of a layer, and the inputs ``[low, high)`` that they see."""

    first: int
    stop: int
    low: int
    high: int
    weight: np.ndarray


@dataclass(frozen=True, eq=False, kw_only=True)
class _Layer:
    size: int
    strips: tuple[_Strip, ...]
    bias: np.ndarray  # (size, 1)

    def into(self, x: np.ndarray, out: np.ndarray) -> None:
        """``out = W x + b``."""
        for strip in self.strips:
            rows = out[strip.first : strip.stop]
            if strip.high > strip.low:
                np.matmul(strip.weight, x[strip.low : strip.high], out=rows)
            else:
                rows[...] = 0.0
        out += self.bias


class Likelihood:
    """Log-likelihoods of vectors under a flow.

    Equivalent to ``zuko``'s own::

        flow = zuko.flows.MAF(dim, transforms=blocks, hidden_features=hidden)
        flow().log_prob(coordinates(x)) + coordinates.log_volume

    within float32 rounding; a test holds them equal.

    Parameters
    ----------
    flow : Flow
    """

    def __init__(self, flow: Flow) -> None:
        self._coordinates: Coordinates = flow.coordinates
        layers = len(flow.settings.hidden) + 1
        self._blocks = [
            _layers(flow.weights, block, layers) for block in range(flow.settings.blocks)
        ]

    def __call__(
        self, x_ND: np.ndarray, *, threads: int | None = None, quiet: bool = True
    ) -> np.ndarray:
        """Log-likelihoods, shape (n,) float64, nats, of vectors (n, D).

        -inf where a vector is so far off that its density is no float32.

        Raises
        ------
        DataError
            NaN or infinity among the vectors.
        """
        found = np.empty(len(x_ND))
        with Progress("flow", len(x_ND), unit="objects", quiet=quiet) as progress:
            for start in range(0, len(x_ND), _VECTORS):
                y = self._coordinates(x_ND[start : start + _VECTORS])
                found[start : start + len(y)] = self.of_coordinates(y, threads=threads)
                progress.advance(len(y))
        return found + self._coordinates.log_volume

    def of_coordinates(self, y_NP: np.ndarray, *, threads: int | None = None) -> np.ndarray:
        """Log-density, shape (n,) float64, of coordinates (n, P) float32."""
        if not len(y_NP):
            return np.empty(0)
        parts = [y_NP[at : at + _OBJECTS] for at in range(0, len(y_NP), _OBJECTS)]
        workers = min(len(parts), threads or thread_count())
        # One thread for each part: what stands between two products runs side by side, too.
        with threadpool_limits(1, "blas"), ThreadPoolExecutor(workers) as pool:
            found = np.concatenate(list(pool.map(self._part, parts)))
        return np.where(np.isnan(found), -np.inf, found)

    def _part(self, y_BP: np.ndarray) -> np.ndarray:
        x = np.ascontiguousarray(y_BP.T, dtype=np.float32)
        dim, count = x.shape
        outs = [np.empty((layer.size, count), dtype=np.float32) for layer in self._blocks[0]]
        total = np.zeros(count)
        # Errors of one thread are not those of another: each is told anew.
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            for layers in self._blocks:
                given = x
                for layer, out in zip(layers, outs, strict=True):
                    layer.into(given, out)
                    if out is not outs[-1]:
                        np.maximum(out, 0.0, out=out)
                    given = out
                shift, scale = given[:dim], given[dim:]
                bounded = np.abs(scale)
                bounded *= np.float32(1 / _MOST_LOG_SCALE)
                bounded += 1.0
                scale /= bounded
                total += scale.sum(axis=0)
                np.exp(scale, out=scale)
                x *= scale
                x += shift
            square = np.einsum("db,db->b", x, x, dtype=np.float64)
        return np.asarray(total - 0.5 * square - 0.5 * dim * math.log(2 * math.pi))


def _layers(weights: Mapping[str, np.ndarray], block: int, count: int) -> list[_Layer]:
    """A block's layers, hidden units in order of what they see, shifts before scales."""
    made: list[_Layer] = []
    columns: np.ndarray | None = None
    for number in range(count):
        weight, bias = (weights[f"{block}.{number}.{part}"] for part in ("weight", "bias"))
        last = number == count - 1
        if last:
            rows = np.concatenate([np.arange(0, len(bias), 2), np.arange(1, len(bias), 2)])
        else:
            rows = np.argsort((weight != 0).sum(axis=1), kind="stable")
        ordered = weight[rows] if columns is None else weight[rows][:, columns]
        strips = [
            _strip(ordered, int(part[0]), int(part[-1]) + 1)
            for part in np.array_split(np.arange(len(rows)), _STRIPS * (1 + last))
            if len(part)
        ]
        bias_column = np.ascontiguousarray(bias[rows][:, None], dtype=np.float32)
        made.append(_Layer(size=len(rows), strips=tuple(strips), bias=bias_column))
        columns = rows
    return made


def _strip(weight: np.ndarray, first: int, stop: int) -> _Strip:
    seen = np.flatnonzero((weight[first:stop] != 0).any(axis=0))
    low, high = (int(seen[0]), int(seen[-1]) + 1) if len(seen) else (0, 0)
    part = np.ascontiguousarray(weight[first:stop, low:high], dtype=np.float32)
    return _Strip(first=first, stop=stop, low=low, high=high, weight=part)
