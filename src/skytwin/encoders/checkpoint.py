"""Networks that skytwin trained: weights in safetensors beside ``encoder.json``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import torch
from safetensors.torch import load_file, save

from skytwin.encoders.bundled import WEIGHTS_FILE, name_of, weights_path
from skytwin.encoders.encoder import fingerprint
from skytwin.encoders.on_device import DeviceRun
from skytwin.encoders.runtime import (
    check_precision,
    choose_device,
    choose_runtime,
    engine_run,
    torch_run,
)
from skytwin.encoders.served import served_network
from skytwin.errors import DamagedArtefact, Mismatch, in_words
from skytwin.files import write_atomically

__all__ = ["WEIGHTS_FILE", "TrainedNetwork", "load_trained"]


class TrainedNetwork:
    """A network trained without labels, in evaluation mode.

    Attributes
    ----------
    name : str
        ``"simclr:resnet34"``, ``"vdvae"``.
    dim : int
        Length of a vector.
    fingerprint : str
        Hash of name and weights.
    on_device : DeviceRun or None
        Where it runs on a GPU: what takes planes there in place of prepared images.
    """

    def __init__(
        self,
        name: str,
        state: Mapping[str, torch.Tensor],
        made_by: Mapping[str, Any],
        *,
        channels: int,
        size: int,
        weights: Path | None = None,
        device: str = "auto",
        runtime: str = "auto",
        precision: str = "f32",
    ) -> None:
        chosen = choose_device(device)
        engine = choose_runtime(runtime, chosen)
        precise = check_precision(precision, chosen, engine)
        whole, encoder = served_network(name, made_by, channels, size)
        whole.load_state_dict(state)
        self.name = name
        self.fingerprint = fingerprint(name, {key: t.numpy() for key, t in state.items()})
        self._state, self._made_by, self._weights = dict(state), dict(made_by), weights
        encoder.eval().requires_grad_(False)
        self._run = torch_run(encoder, chosen, precise)
        self.dim = int(self.forward(np.zeros((1, channels, size, size), np.float32)).shape[1])
        if engine != "torch":
            self._run = engine_run(
                encoder, engine, channels=channels, size=size, device=chosen, precision=precise
            )
        self.on_device = self._run if isinstance(self._run, DeviceRun) else None

    def forward(self, x_BCHW: np.ndarray) -> np.ndarray:
        """Vectors ``(n, dim)`` of prepared images ``(n, channels, size, size)``."""
        return self._run(np.ascontiguousarray(x_BCHW, dtype=np.float32))

    def describe(self) -> dict[str, Any]:
        """Recipe, seed, images it was trained on, and what became of the training."""
        return self._made_by

    def save(self, folder: Path) -> dict[str, Any]:
        """Write the weights, unless they lie in an encoder's folder already."""
        if self._weights is not None:
            return {"weights": name_of(self._weights) or str(self._weights.resolve())}
        write_atomically(folder / WEIGHTS_FILE, save(self._state))
        return {"weights": WEIGHTS_FILE}


def load_trained(
    folder: Path,
    name: str,
    made_by: Mapping[str, Any],
    files: Mapping[str, Any],
    *,
    channels: int,
    size: int,
    weights: str | Path | None = None,
    device: str = "auto",
    runtime: str = "auto",
    precision: str = "f32",
) -> TrainedNetwork:
    """Back from `TrainedNetwork.save`.

    Raises
    ------
    UsageError
        The weights are no longer where they were.
    Mismatch
        They are of another network, or another version's.
    DamagedArtefact
        The file cannot be read.
    """
    path = weights_path(folder, name, files, weights)
    try:
        state = load_file(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise DamagedArtefact(f"{str(path)!r} cannot be read ({error}); restore it") from error
    try:
        return TrainedNetwork(
            name,
            state,
            made_by,
            channels=channels,
            size=size,
            weights=path,
            device=device,
            runtime=runtime,
            precision=precision,
        )
    except RuntimeError as error:
        raise Mismatch(
            f"weights {str(path)!r} do not fit {name} "
            f"({in_words(error, 120)}); give those of this very encoder, or "
            "use the version of skytwin it was trained with"
        ) from error
