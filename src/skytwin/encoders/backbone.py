"""Pretrained networks of timm, served without their classifier.

A vector is what the classifier would have seen: the pooled features of the penultimate layer,
after the network's own pooling (Doorenbos et al. 2022, A&A 666, A171, for EfficientNet-B0).

Shapes: ``x_BCHW`` prepared images, ``z_BD`` vectors.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import torch
from huggingface_hub import constants as hub_constants
from huggingface_hub.utils import get_session  # type: ignore[attr-defined]
from safetensors.torch import load_file

from skytwin.encoders.encoder import fingerprint
from skytwin.encoders.on_device import DeviceRun
from skytwin.encoders.runtime import (
    Engine,
    Precision,
    Run,
    check_precision,
    choose_device,
    choose_runtime,
    engine_run,
    keep_memory,
    openvino_run,
    torch_run,
)
from skytwin.encoders.torchvision_guard import import_timm
from skytwin.errors import DataError, Mismatch, Unreachable, UsageError, in_words, unknown
from skytwin.files import hash_file

__all__ = ["BackboneNetwork", "open_backbone"]

timm = import_timm()

DEFAULT_SIZE = 224
_HUB_TIMEOUT_S = 5
_HUB_PREFIXES = ("hf_hub:", "hf-hub:")


class _UpToPooling(torch.nn.Module):
    """A network of timm without its pooling and what follows, sharing its weights."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.model.forward_features(x_BCHW)
        return features


class BackboneNetwork:
    """A timm network in evaluation mode, on one device.

    Attributes
    ----------
    name : str
        ``"timm:NAME"``.
    size, channels : int
        The images it takes: ``(n, channels, size, size)``.
    mean, std : tuple of float
        What it was trained to see subtracted from, and divided into, pixels in [0, 1].
    dim : int
        Length of a vector.
    fingerprint : str
        Hash of timm's name and all weights.
    on_device : DeviceRun or None
        Where it runs on a GPU: what takes planes there in place of prepared images.
    """

    def __init__(
        self,
        name: str,
        model: Any,
        *,
        size: int | None,
        device: torch.device,
        runtime: Engine,
        precision: Precision,
        weights: Path | None,
        made_by: Mapping[str, Any],
    ) -> None:
        config = model.pretrained_cfg
        self.name = name
        self.channels, native, _ = config["input_size"]
        self.size = _input_size(name, size, native, fixed=config.get("fixed_input_size", False))
        self.mean = _per_channel(config["mean"], self.channels)
        self.std = _per_channel(config["std"], self.channels)
        self.fingerprint = fingerprint(
            name, {key: value.numpy() for key, value in model.state_dict().items()}
        )
        self._weights = weights
        self._made_by = {**made_by, "runtime": runtime}
        self._run = torch_run(model, device, precision)
        # OpenVINO has a copy of its own: torch's is let go.
        self._model, self._device = (None if runtime == "openvino" else model), device
        self._features: Run | None = None
        self.dim = self._measure_dim()
        if runtime != "torch":
            self._run = engine_run(
                model, runtime, channels=self.channels, size=self.size, device=device,
                precision=precision,
            )  # fmt: skip
        self.on_device = self._run if isinstance(self._run, DeviceRun) else None

    def forward(self, x_BCHW: np.ndarray) -> np.ndarray:
        """Vectors ``(n, dim)`` of prepared images ``(n, channels, size, size)``."""
        return self._run(np.ascontiguousarray(x_BCHW, dtype=np.float32))

    def features(self, x_BCHW: np.ndarray) -> np.ndarray:
        """What comes before the pooling, as timm has it, for instance maps ``(n, D, h, w)``.

        Run by OpenVINO on a CPU where it is installed, which is prepared at the first call.

        Raises
        ------
        UsageError
            The network was opened with OpenVINO, which was given the whole of it.
        """
        if self._features is None:
            if self._model is None:
                raise UsageError(f"{self.name} runs with OpenVINO; open it with runtime='torch'")
            part = _UpToPooling(self._model)
            if choose_runtime("auto", self._device) == "openvino":
                self._features = openvino_run(part, self.channels, self.size)
            else:
                self._features = torch_run(part, self._device)
        return self._features(np.ascontiguousarray(x_BCHW, dtype=np.float32))

    def describe(self) -> dict[str, Any]:
        """Where the weights came from, and their file's hash."""
        return self._made_by

    def save(self, _folder: Path, /) -> dict[str, Any]:
        """Write nothing: weights stay in their file, or in the hub's cache."""
        return {"weights": None if self._weights is None else str(self._weights.resolve())}

    def _measure_dim(self) -> int:
        try:
            z_BD = self.forward(np.zeros((1, self.channels, self.size, self.size), np.float32))
        except (RuntimeError, AssertionError) as error:
            raise UsageError(
                f"{self.name} does not take images of {self.size} pixels ({in_words(error)}); "
                "choose another --size"
            ) from error
        if z_BD.ndim != 2:
            raise UsageError(
                f"{self.name} gives maps of shape {z_BD.shape[1:]}, not vectors; choose another"
            )
        if not np.isfinite(z_BD).all():
            raise DataError(f"{self.name} gives NaN or infinity with these weights; get them anew")
        return int(z_BD.shape[1])


def open_backbone(
    name: str,
    *,
    weights: str | Path | None = None,
    size: int | None = None,
    device: str = "auto",
    runtime: str = "auto",
    precision: str = "f32",
) -> BackboneNetwork:
    """A network of timm, with pretrained weights.

    Parameters
    ----------
    name : str
        ``"timm:NAME"`` for a model of timm, optionally with the tag of its weights, or
        ``"timm:hf_hub:ORG/NAME"`` for one on the Hugging Face hub.
    weights : path, optional
        A ``.safetensors`` file with the network's state. By default they are fetched from the
        hub, or taken from its cache.
    size : int, optional
        Pixels of a side of the input; by default 224, or what the network is fixed to.
    device : str
        ``"cpu"``, ``"cuda"``, or ``"auto"``: cuda where there is one.
    runtime : str
        ``"torch"``, ``"compiled"`` (by torch), ``"openvino"``, or ``"auto"``: OpenVINO on a CPU
        where it is installed.
    precision : str
        ``"f32"``, or ``"bf16"``: faster on processors with units for it, vectors within about 7 %.

    Raises
    ------
    UnknownName
        No such model.
    UsageError
        A weights file of another format or that does not exist, an impossible size or device.
    Mismatch
        Weights of another network.
    Unreachable
        No weights given, and none could be fetched.
    """
    chosen = choose_device(device)
    engine = choose_runtime(runtime, chosen)
    precise = check_precision(precision, chosen, engine)
    if chosen.type == "cpu":
        keep_memory()
    model_name = name.removeprefix("timm:")
    on_hub = model_name.startswith(_HUB_PREFIXES)
    if not on_hub:
        _check_known(model_name)
    if weights is None:
        model = _fetch(model_name)
        made_by: dict[str, Any] = {"weights": "pretrained", "weights_sha256": None}
        file = None
    else:
        file = Path(weights)
        state = _read(file)
        if on_hub:
            with _hub_or_cache(model_name):
                model = timm.create_model(model_name, pretrained=False, num_classes=0)
        else:
            model = timm.create_model(model_name, pretrained=False, num_classes=0)
        ignored = _load(model, state, file, name)
        made_by = {"weights": "file", "weights_sha256": hash_file(file), "ignored_keys": ignored}
    return BackboneNetwork(
        name,
        model,
        size=size,
        device=chosen,
        runtime=engine,
        precision=precise,
        weights=file,
        made_by=made_by,
    )


def _check_known(model_name: str) -> None:
    architecture, dot, _ = model_name.partition(".")
    if not timm.is_model(architecture):
        raise unknown("encoder", f"timm:{model_name}", [f"timm:{n}" for n in timm.list_models()])
    tagged = timm.list_pretrained(f"{architecture}.*") if dot else [model_name]
    if model_name not in tagged:
        raise unknown("encoder", f"timm:{model_name}", [f"timm:{n}" for n in tagged])


def _fetch(model_name: str) -> Any:
    if not model_name.startswith(_HUB_PREFIXES) and not timm.is_model_pretrained(model_name):
        raise UsageError(
            f"timm has no pretrained weights for {model_name}; give some with "
            "--weights FILE.safetensors, or choose another model"
        )
    with _hub_or_cache(model_name):
        # With the classifier it was trained with timm loads strictly; asked for a network
        # without one, it would leave at random whatever the file lacks.
        model = timm.create_model(model_name, pretrained=True)
    model.reset_classifier(0)
    return model


@contextlib.contextmanager
def _hub_or_cache(model_name: str) -> Iterator[None]:
    """Let timm ask the hub if it answers, and only the hub's cache if not; one error for all.

    Asked while out of reach, the hub's client would try again and again for most of a minute.
    """
    offline = hub_constants.HF_HUB_OFFLINE
    hub_constants.HF_HUB_OFFLINE = offline or not _hub_answers()
    try:
        yield
    except Exception as error:  # of the network, of the hub, or of what was fetched
        why = (
            "the hub does not answer and its cache lacks them"
            if hub_constants.HF_HUB_OFFLINE
            else in_words(error)
        )
        raise Unreachable(
            f"no weights could be fetched for {model_name!r} ({why}); give them with "
            "--weights FILE.safetensors"
        ) from error
    finally:
        hub_constants.HF_HUB_OFFLINE = offline


def _hub_answers() -> bool:
    try:
        get_session().head(hub_constants.ENDPOINT, timeout=_HUB_TIMEOUT_S)
    except Exception:  # the client's errors have changed their family with its versions
        return False
    return True


def _read(file: Path) -> dict[str, torch.Tensor]:
    if file.suffix != ".safetensors":
        raise UsageError(
            f"weights {str(file)!r}: expected a .safetensors file, which can hold no code; convert "
            "a PyTorch one with safetensors.torch.save_file(torch.load(FILE, weights_only=True), "
            "'FILE.safetensors')"
        )
    if not file.is_file():
        raise UsageError(f"no weights file {str(file)!r}")
    try:
        return load_file(file)
    except safetensors.SafetensorError as error:
        raise DataError(
            f"weights {str(file)!r} cannot be read ({in_words(error)}); get the file anew"
        ) from error


def _load(model: Any, state: dict[str, torch.Tensor], file: Path, name: str) -> list[str]:
    """Load a state strictly, but for a classifier, which the model has not; name what is left."""
    classifiers = model.pretrained_cfg.get("classifier") or ()
    prefixes = (classifiers,) if isinstance(classifiers, str) else tuple(classifiers)
    wanted = model.state_dict()
    ignored = sorted(
        key for key in state if key not in wanted and key.rpartition(".")[0] in prefixes
    )
    missing = sorted(wanted.keys() - state.keys())
    unexpected = sorted(state.keys() - wanted.keys() - set(ignored))
    shapes = [k for k in wanted if k in state and wanted[k].shape != state[k].shape]
    said = [
        f"{len(keys)} {what} (e.g. {keys[0]})"
        for what, keys in (
            ("missing", missing),
            ("unexpected", unexpected),
            ("of another shape", shapes),
        )
        if keys
    ]
    if said:
        raise Mismatch(
            f"weights {str(file)!r} do not fit {name}: of {len(wanted)} arrays "
            f"{', '.join(said)}; give the weights of this very model"
        )
    model.load_state_dict({key: value for key, value in state.items() if key in wanted})
    return ignored


def _input_size(name: str, size: int | None, native: int, *, fixed: bool) -> int:
    if fixed and size not in (None, native):
        raise UsageError(f"{name} takes images of {native} pixels only; got --size {size}")
    return size or (native if fixed else DEFAULT_SIZE)


def _per_channel(values: tuple[float, ...], channels: int) -> tuple[float, ...]:
    """One value per channel; a network of other than three often keeps ImageNet's three."""
    if len(values) != channels:
        return (float(np.mean(values)),) * channels
    return tuple(map(float, values))
