"""Masked autoregressive flows as NumPy arrays: their settings, and what they are fitted to.

A flow (Papamakarios, Pavlakou & Murray 2017, arXiv 1705.07057) turns vectors block by block into
standard normal noise. The density of a vector is that of its noise times how much the blocks
stretch (eq. 1 there). Shapes: ``x_ND`` vectors as stored, ``y_NP`` coordinates that the flow sees.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from scipy.linalg import eigh

from skytwin.errors import DataError, UsageError, unknown

__all__ = ["PRESETS", "Coordinates", "Flow", "FlowSettings", "fit_coordinates", "preset"]

_RANK = 1e-6  # of the largest variance; directions with less are not told apart from rounding
_FARTHEST = 1e15  # deviations


@dataclass(frozen=True, kw_only=True)
class FlowSettings:
    """Shape of a flow, and how it is trained.

    Attributes
    ----------
    blocks : int
        Autoregressive blocks, the order of the coordinates reversed from one to the next.
    hidden : tuple of int
        Units of the hidden layers of a block.
    most : int
        Coordinates at most; longer vectors are reduced to principal components.
    lr : float
        Of Adam.
    epochs : int
        At most.
    patience : int
        Epochs without a better validation likelihood before training stops.
    batch : int
    clip : float
        Longest gradient of a step.
    validation_share : float
        Share of the rows held back to decide when to stop.
    """

    blocks: int = 6
    hidden: tuple[int, ...] = (128, 128)
    most: int = 64
    lr: float = 1e-3
    epochs: int = 200
    patience: int = 10
    batch: int = 256
    clip: float = 10.0
    validation_share: float = 0.1

    def __post_init__(self) -> None:
        whole = (self.blocks, self.most, self.epochs, self.patience, self.batch, *self.hidden)
        if min(whole) < 1 or not self.hidden or self.lr <= 0 or self.clip <= 0:
            raise UsageError(f"flow settings {asdict(self)}; expected positive numbers")
        if not 0 < self.validation_share < 1:
            raise UsageError(f"validation share {self.validation_share}; expected between 0 and 1")


#: ``paper`` is that of Andrianomena & Tang 2023 (arXiv 2311.08331) for vectors of 256 numbers.
PRESETS: Mapping[str, FlowSettings] = MappingProxyType(
    {
        "default": FlowSettings(),
        "paper": FlowSettings(
            blocks=48, hidden=(512, 512), most=256, lr=5e-4, epochs=600, patience=30
        ),
    }
)


def preset(name: str) -> FlowSettings:
    """Settings by name, or an error that lists the names."""
    if name not in PRESETS:
        raise unknown("flow", name, PRESETS, "or name a folder that holds a fitted flow")
    return PRESETS[name]


@dataclass(frozen=True, eq=False, kw_only=True)
class Coordinates:
    """From stored vectors to what a flow sees.

    Every number is brought to mean 0 and deviation 1 over the training rows; those that never
    vary are left out. Principal components, each of deviation 1, take their place: a flow would
    spend its first blocks on finding them. Of longer vectors than the flow takes the leading ones
    are kept, and the logarithm of the length of what is left over becomes one more coordinate: an
    object that is odd in what was thrown away stays odd.

    Attributes
    ----------
    used : ndarray, shape (U,), int64
        Numbers of the vector that vary.
    mean, scale : ndarray, shape (U,), float64
    turn : ndarray, shape (U, C), float64
        Principal directions over their deviations.
    widths : ndarray, shape (C,), float64
        Those deviations.
    rest : tuple of float or None
        Mean and deviation of the logarithm of the length left over, and the smallest length that
        counts; None where nothing is.
    share : float
        Of the variance, kept in the coordinates.
    """

    used: np.ndarray
    mean: np.ndarray
    scale: np.ndarray
    turn: np.ndarray
    widths: np.ndarray
    rest: tuple[float, float, float] | None
    share: float

    @property
    def dim(self) -> int:
        """Coordinates of an object."""
        return len(self.widths) + (self.rest is not None)

    @property
    def log_volume(self) -> float:
        """To add to a log-density of the coordinates for one of the vectors.

        0 where something was reduced: there the density is that of the coordinates.
        """
        if len(self.widths) < len(self.used):
            return 0.0
        return -float(np.log(self.scale).sum() + np.log(self.widths).sum())

    def __call__(self, x_ND: np.ndarray) -> np.ndarray:
        """Coordinates ``(n, dim)`` float32 of vectors ``(n, D)``.

        Raises
        ------
        DataError
            NaN or infinity among the vectors.
        """
        z = (x_ND[:, self.used].astype(np.float64) - self.mean) / self.scale
        if not np.isfinite(z).all():
            bad = int((~np.isfinite(z).all(axis=1)).sum())
            raise DataError(f"{bad} vector(s) hold NaN or infinity; leave those objects out")
        y = z @ self.turn
        if self.rest is None:
            return _as_float32(y)
        middle, width, least = self.rest
        length = _left_over(z, y * self.widths)
        over = (np.log(np.maximum(length, least)) - middle) / width
        return _as_float32(np.concatenate([y, over[:, None]], axis=1))


def fit_coordinates(x_ND: np.ndarray, most: int) -> Coordinates:
    """Coordinates fitted on training rows.

    Parameters
    ----------
    x_ND : ndarray, shape (N, D)
    most : int
        Components at most; one in ten rows at most, too.

    Raises
    ------
    DataError
        The vectors do not vary, or hold NaN.
    """
    x = x_ND.astype(np.float64)
    if not np.isfinite(x).all():
        bad = int((~np.isfinite(x).all(axis=1)).sum())
        raise DataError(f"{bad} vector(s) hold NaN or infinity; leave those objects out")
    deviation = x.std(axis=0)
    used = np.flatnonzero(deviation > 1e-7 * np.abs(x.mean(axis=0)))
    if not len(used):
        raise DataError(f"the {len(x)} vectors are all alike; a density needs vectors that vary")
    x = x[:, used]
    mean, scale = x.mean(axis=0), deviation[used]
    z = (x - mean) / scale
    most = max(1, min(most, len(x) // 10))
    # One more than is kept tells whether anything is left over.
    variance, turned = _principal(z, most + 1)
    rank = int((variance > _RANK * variance[0]).sum())
    count = min(rank, most)
    widths = np.sqrt(variance[:count])
    turn = turned[:, :count] / widths
    rest = None
    share = min(float(variance[:count].sum() / len(used)), 1.0)
    if count < rank:
        length = _left_over(z, (z @ turn) * widths)
        least = float(max(np.quantile(length, 0.001), 1e-6))
        logs = np.log(np.maximum(length, least))
        rest = (float(logs.mean()), float(max(logs.std(), 1e-6)), least)
    return Coordinates(
        used=used, mean=mean, scale=scale, turn=turn, widths=widths, rest=rest, share=share
    )


def _principal(z_ND: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """The largest variances, in falling order, and their directions as columns."""
    count, dim = z_ND.shape
    small = z_ND.T @ z_ND if dim <= count else z_ND @ z_ND.T
    size = len(small)
    variance, turned = eigh(small / count, subset_by_index=[max(0, size - most), size - 1])
    variance, turned = np.maximum(variance[::-1], 0.0), turned[:, ::-1]
    if dim > count:
        kept = variance > _RANK * variance[0]
        variance = variance[kept]
        turned = z_ND.T @ turned[:, kept] / np.sqrt(variance * count)
    strongest = turned[np.abs(turned).argmax(axis=0), np.arange(turned.shape[1])]
    return variance, turned * np.where(strongest < 0, -1.0, 1.0)


def _as_float32(y: np.ndarray) -> np.ndarray:
    # Farther off nothing is told apart, and float32 would run over in the first block.
    return np.asarray(np.clip(y, -_FARTHEST, _FARTHEST), dtype=np.float32)


def _left_over(z: np.ndarray, along: np.ndarray) -> np.ndarray:
    """Length of what orthonormal components ``along`` leave of ``z``."""
    square = np.einsum("ij,ij->i", z, z) - np.einsum("ij,ij->i", along, along)
    return np.asarray(np.sqrt(np.maximum(square, 0.0)))


@dataclass(frozen=True, eq=False, kw_only=True)
class Flow:
    """A fitted flow.

    Attributes
    ----------
    settings : FlowSettings
    coordinates : Coordinates
    weights : mapping of str to ndarray
        ``"BLOCK.LAYER.weight"`` (out, in) and ``"BLOCK.LAYER.bias"`` (out,), float32, zero where
        a later coordinate would be seen. The last layer gives shift and scale of each coordinate
        in turn.
    curve : tuple of tuple of float
        Mean log-density of a training and of a validation row (nats), epoch by epoch.
    best : int
        Epoch that was kept, from 1.
    rows : dict of str to int
        ``train``, ``validation``, ``test``.
    held_out : ndarray, shape (test,), float64
        Log-likelihoods of the rows that neither trained nor stopped it.
    ids : ndarray of str, shape (train + validation,)
        What it has seen.
    places : ndarray, shape (train + validation, 2), float64, or None
        RA and Dec of those, degrees.
    encoder : mapping
        ``name``, ``fingerprint``, ``dim``, and ``embedding``: the fingerprint of what it was
        fitted on.
    seed : int
    """

    settings: FlowSettings
    coordinates: Coordinates
    weights: Mapping[str, np.ndarray]
    curve: tuple[tuple[float, float], ...]
    best: int
    rows: dict[str, int]
    held_out: np.ndarray
    ids: np.ndarray
    places: np.ndarray | None
    encoder: Mapping[str, Any]
    seed: int

    @property
    def parameters(self) -> int:
        """Weights and biases, those that are zero by construction included."""
        return sum(array.size for array in self.weights.values())

    @property
    def mean_held_out(self) -> float | None:
        """Mean log-likelihood of what it was tested on; None where that is no number."""
        mean = float(np.mean(self.held_out)) if len(self.held_out) else np.nan
        return mean if np.isfinite(mean) else None

    def __repr__(self) -> str:
        shape = " x ".join(map(str, self.settings.hidden))
        return f"Flow({self.settings.blocks} blocks of {shape}, {self.coordinates.dim} coordinates)"
