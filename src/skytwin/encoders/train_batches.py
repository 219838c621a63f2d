"""Which images a step sees, and its random numbers: both follow from the seed and its number.

So a state saved at any step leads to the same weights. What Lightning calls an epoch is a
*segment* here, a part of an epoch after which the state may be saved.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from skytwin.encoders.balance import draw
from skytwin.encoders.objective import Batch
from skytwin.encoders.training_set import TrainingSet
from skytwin.threads import Threads

__all__ = ["Schedule", "generator", "training_batches", "validation_batches"]

_SEGMENT_IMAGES = 16_384
_ORDER = 0  # of a seed's uses; those of the steps are in the loop


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How many steps there are, and of which epoch a step is.

    Attributes
    ----------
    images, batch, epochs : int
    """

    images: int
    batch: int
    epochs: int

    @property
    def epoch_steps(self) -> int:
        """Whole batches of an epoch."""
        return self.images // self.batch

    @property
    def steps(self) -> int:
        """Of the whole training."""
        return self.epoch_steps * self.epochs

    @property
    def segments(self) -> int:
        """Parts of an epoch."""
        return max(1, min(self.epoch_steps, round(self.images / _SEGMENT_IMAGES)))

    def segment(self, number: int) -> tuple[int, range]:
        """Epoch of a segment, and the batches of that epoch which are in it."""
        epoch, part = divmod(number, self.segments)
        return epoch, range(self._edge(part), self._edge(part + 1))

    def segment_of(self, step: int) -> int:
        """The segment that a step is in."""
        epoch, within = divmod(step, self.epoch_steps)
        part = next(p for p in range(self.segments) if within < self._edge(p + 1))
        return epoch * self.segments + part

    def _edge(self, part: int) -> int:
        return part * self.epoch_steps // self.segments


def generator(*numbers: int) -> torch.Generator:
    """Random numbers that follow from these numbers alone."""
    (state,) = np.random.SeedSequence(numbers).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state >> np.uint64(1)))


def training_batches(
    data: TrainingSet,
    schedule: Schedule,
    seed: int,
    step: Callable[[], int],
    rank: Callable[[], int],
    world: int,
    *,
    pinned: bool = False,
) -> _Loader:
    """An iterable of the batches of the current segment, this process's share of each.

    The segment goes by the step: Lightning, when it resumes, begins to read before it has counted
    the epoch that it begins. ``pinned``: in memory from which a GPU is sent them while it works.
    """
    return _Loader(
        data,
        lambda: _segment(data, schedule, seed, schedule.segment_of(step()), rank(), world),
        pinned,
    )


def validation_batches(
    data: TrainingSet,
    batch: int,
    rank: Callable[[], int],
    world: int,
    *,
    pinned: bool = False,
) -> _Loader:
    """An iterable of the validation images, in order, this process's share."""

    def every() -> Iterator[np.ndarray]:
        for start in range(data.count, len(data.images), batch):
            rows = np.arange(start, min(start + batch, len(data.images)))
            # As many in every process, since they compare theirs with each other's.
            rows = rows[: len(rows) // world * world]
            if len(rows):
                yield rows[rank() :: world]

    return _Loader(data, every, pinned)


class _Loader:
    """What Lightning can iterate over again and again; a batch is read during the step before."""

    def __init__(
        self, data: TrainingSet, rows: Callable[[], Iterator[np.ndarray]], pinned: bool
    ) -> None:
        self._data, self._rows, self._pinned = data, rows, pinned

    def __iter__(self) -> Iterator[Batch]:
        return Threads(1).in_order(self._take, self._rows())

    def _take(self, rows: np.ndarray, _: None) -> Batch:
        # Sorted, so that the disk is read forwards; within a batch the order means nothing.
        rows = np.sort(rows)
        data = self._data
        x_BCHW = torch.from_numpy(data.images[rows].astype(np.float32))
        condition = None if data.condition is None else torch.from_numpy(data.condition[rows])
        if self._pinned:
            x_BCHW = x_BCHW.pin_memory()
            condition = None if condition is None else condition.pin_memory()
        return Batch(x_BCHW=x_BCHW, condition_BK=condition)


def _segment(
    data: TrainingSet, schedule: Schedule, seed: int, number: int, rank: int, world: int
) -> Iterator[np.ndarray]:
    epoch, parts = schedule.segment(number)
    rng = np.random.default_rng([seed, _ORDER, epoch])
    order = rng.permutation(data.count) if data.rate is None else draw(data.rate, rng)
    for part in parts:
        rows = order[part * schedule.batch : (part + 1) * schedule.batch]
        yield rows[rank::world]
