"""A network on a GPU, with all that stands before it and needs no flux.

What travels there are the stretched planes of a cutout, not the image that the network takes, nor
its eight views: at 64 pixels brought to 224 that is a hundredth of the bytes. Two passes are under
way at a time, each in a stream of its own and from pinned memory, so that one is sent and fetched
while the network is busy with the other.

Shapes: ``x_BCHW`` prepared images, ``p_NPHW`` planes (`Prepare.planes`), ``z_BD`` vectors.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from skytwin.encoders.compiled import Compiled
from skytwin.encoders.encoder import Orbit, check_orbit
from skytwin.images.prepare import Prepare

__all__ = ["DeviceRun", "turned"]

_UNDER_WAY = 2


class DeviceRun:
    """Runs a model in evaluation mode, channels last; several threads may ask at once.

    Parameters
    ----------
    model : torch.nn.Module
    device : torch.device
        A GPU; on a CPU the same is done without streams, as the tests do.
    precision : {"f32", "bf16"}
    compiled : bool
        Have torch compile the model for the first batch it is given.
    """

    def __init__(
        self, model: Any, device: torch.device, precision: str = "f32", *, compiled: bool = False
    ) -> None:
        placed = model.eval().to(device=device, memory_format=torch.channels_last)
        self._model = Compiled(placed) if compiled else placed
        self._device, self._low = device, precision == "bf16"
        self._streams: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for _ in range(_UNDER_WAY):
            stream = None
            if device.type == "cuda":
                stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
            self._streams.put(stream)
        self._known: dict[Prepare, tuple[torch.Tensor, ...]] = {}
        self._learning = threading.Lock()

    def __call__(self, x_BCHW: np.ndarray) -> np.ndarray:
        """What the model makes of prepared images."""
        sent = self._pinned(x_BCHW)
        with self._pass():
            return self._fetched(self._forward(self._there(sent)))

    def vectors(self, p_NPHW: np.ndarray, prepare: Prepare, orbit: Orbit, batch: int) -> np.ndarray:
        """Vectors of images, the mean over an orbit's views.

        Equivalent to the model's outputs for ``orbit_views(prepare(flux), orbit)``, within
        rounding.

        Parameters
        ----------
        p_NPHW : ndarray, shape (n, P, crop, crop), float32
            ``prepare.planes(flux)``.
        prepare : Prepare
            What is left of it is done on the device.
        orbit : str
        batch : int
            At most so many views go through the model at a time.

        Returns
        -------
        ndarray, shape (n, D), float32
        """
        matrix, planes, mean, std = self._constants(prepare)
        sent = self._pinned(p_NPHW)
        with self._pass():
            x = matrix @ self._there(sent) @ matrix.T
            if prepare.interpolation == "bicubic":
                x = x.clamp(0, 1)
            views = turned((x[:, planes] - mean) / std, orbit)
            passes = [self._forward(some) for some in torch.split(views.flatten(0, 1), batch)]
            z_VND = torch.cat(passes).view(*views.shape[:2], -1)
            return self._fetched(z_VND.mean(dim=0))

    def _constants(self, prepare: Prepare) -> tuple[torch.Tensor, ...]:
        """Of the steps that are left: the resize, which plane a channel shows, mean, deviation."""
        with self._learning:
            if prepare not in self._known:
                made = (
                    torch.from_numpy(prepare.resampling()),
                    torch.tensor(prepare.channel_planes),
                    *(torch.tensor(v).view(-1, 1, 1) for v in (prepare.mean, prepare.std)),
                )
                self._known[prepare] = tuple(one.to(self._device) for one in made)
                if self._device.type == "cuda":  # other streams are to find them there
                    torch.cuda.synchronize(self._device)
            return self._known[prepare]

    @contextlib.contextmanager
    def _pass(self) -> Iterator[None]:
        stream = self._streams.get()
        try:
            with torch.inference_mode(), torch.cuda.stream(stream):
                yield
        finally:
            self._streams.put(stream)

    def _pinned(self, x: np.ndarray) -> torch.Tensor:
        sent = torch.from_numpy(np.ascontiguousarray(x, dtype=np.float32))
        return sent.pin_memory() if self._device.type == "cuda" else sent

    def _there(self, sent: torch.Tensor) -> torch.Tensor:
        return sent.to(self._device, non_blocking=True)

    def _forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        x = x_BCHW.contiguous(memory_format=torch.channels_last)
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._low):
            found: torch.Tensor = self._model(x)
        return found.float()

    @staticmethod
    def _fetched(z_BD: torch.Tensor) -> np.ndarray:
        """Waits for its own stream alone."""
        return np.asarray(z_BD.cpu().numpy())


def turned(x_BCHW: torch.Tensor, orbit: Orbit) -> torch.Tensor:
    """`skytwin.encoders.encoder.orbit_views` of tensors, shape (views, B, C, S, S)."""
    check_orbit(orbit)
    mirrored = x_BCHW.flip(-1)
    if orbit == "none":
        views = [x_BCHW]
    elif orbit == "flips":
        views = [x_BCHW, mirrored, x_BCHW.flip(-2), mirrored.flip(-2)]
    else:
        views = [v.rot90(turns, (-2, -1)) for v in (x_BCHW, mirrored) for turns in range(4)]
    return torch.stack(views)
