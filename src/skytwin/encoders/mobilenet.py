"""Small convolutional MobileNetV4 in NumPy: what the bundled encoders run on where torch is not.

Qin et al. 2024 (arXiv 2404.10518), table "MNv4-Conv-S", at any width: blocks of depthwise and
pointwise convolutions, each with a batch normalisation, which is folded into its weights here. For
evaluation alone, in float32, from the weights of timm's ``mobilenetv4_conv_small*`` without
classifier. Equivalent to `checkpoint.TrainedNetwork` within rounding; a test holds them equal.

Shapes: ``x_NHWC`` images as they pass through, ``w_KLCD`` weights of a kernel of K x L pixels from
C to D channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
from safetensors.numpy import load_file

from skytwin.encoders.bundled import name_of
from skytwin.encoders.encoder import fingerprint
from skytwin.errors import DamagedArtefact, Mismatch

__all__ = ["PlainMobileNet", "can_run"]

_FAMILY = "mobilenetv4_conv_small"
# Layers that halve the image, and those that no ReLU follows.
_HALVING = ("conv_stem", "blocks.0.0", "blocks.1.0", "blocks.2.0.dw_mid", "blocks.3.0.dw_mid")
_LINEAR = ("dw_start", "pw_proj")
_PARTS = ("dw_start", "pw_exp", "dw_mid", "pw_proj")  # of an inverted bottleneck, in their order
_EPSILON = 1e-5  # of the batch normalisations
_IMAGES = 16  # of a pass, so that what passes between layers stays in the processor's cache


def can_run(name: str) -> bool:
    """Whether a network, ``"simclr:mobilenetv4_conv_small_050"``, is of this family."""
    return name.partition(":")[2].startswith(_FAMILY)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Layer:
    """A convolution with its normalisation; ``w_KLCD`` of C = 1 where it is depthwise."""

    w_KLCD: np.ndarray
    b_D: np.ndarray
    stride: int
    depthwise: bool
    relu: bool

    def __call__(self, x_NHWC: np.ndarray) -> np.ndarray:
        kernel, stride = self.w_KLCD.shape[0], self.stride
        height, width = (-(-side // stride) for side in x_NHWC.shape[1:3])
        edge = kernel // 2
        padded = np.pad(x_NHWC, ((0, 0), (edge, edge), (edge, edge), (0, 0))) if edge else x_NHWC
        # What each pixel of the kernel sees, for all places of the kernel at once.
        seen = [
            padded[:, row : row + stride * height : stride, col : col + stride * width : stride]
            for row in range(kernel)
            for col in range(kernel)
        ]
        if self.depthwise:
            w_KC = self.w_KLCD.reshape(len(seen), -1)
            y_NHWD: np.ndarray = seen[0] * w_KC[0]
            for part, w_C in zip(seen[1:], w_KC[1:], strict=True):
                y_NHWD += part * w_C
        else:
            w_CD = self.w_KLCD.reshape(-1, self.w_KLCD.shape[3])
            y_NHWD = (np.concatenate(seen, axis=3) if edge else x_NHWC) @ w_CD
        y_NHWD += self.b_D
        return np.maximum(y_NHWD, 0, out=y_NHWD) if self.relu else y_NHWD


class PlainMobileNet:
    """A trained network of this family, in evaluation mode, without torch.

    Parameters
    ----------
    name : str
        ``"simclr:mobilenetv4_conv_small_050"``.
    made_by : mapping
        How it was trained.
    weights : Path
        Of safetensors.

    Attributes
    ----------
    name : str
    dim : int
        Length of a vector.
    fingerprint : str
        Hash of name and weights, the same as under torch.

    Raises
    ------
    DamagedArtefact
        The file cannot be read.
    Mismatch
        It holds another network's weights.
    """

    def __init__(self, name: str, made_by: Mapping[str, Any], weights: Path) -> None:
        try:
            state = load_file(weights)
        except (OSError, safetensors.SafetensorError) as error:
            raise DamagedArtefact(
                f"{str(weights)!r} cannot be read ({error}); restore it"
            ) from error
        self.name, self._made_by, self._weights = name, dict(made_by), weights
        self.fingerprint = fingerprint(name, state)
        try:
            self._blocks = [_blocks(state, name) for name in _block_names(state)]
            self._head = _layer(state, "conv_head", "norm_head")
        except KeyError as error:
            raise Mismatch(
                f"weights {str(weights)!r} do not fit {name} (no {error}); give those of this very "
                "encoder"
            ) from error
        self.dim = len(self._head.b_D)

    def forward(self, x_BCHW: np.ndarray) -> np.ndarray:
        """Vectors ``(n, dim)`` of prepared images ``(n, channels, size, size)``."""
        x_NHWC = np.ascontiguousarray(np.moveaxis(x_BCHW, 1, -1), dtype=np.float32)
        parts = [self._pass(x_NHWC[at : at + _IMAGES]) for at in range(0, len(x_NHWC), _IMAGES)]
        return np.concatenate(parts)

    def describe(self) -> dict[str, Any]:
        """Recipe, seed, images it was trained on, and what became of the training."""
        return self._made_by

    def save(self, folder: Path) -> dict[str, Any]:  # noqa: ARG002  (the weights lie elsewhere)
        """Where the weights lie."""
        return {"weights": name_of(self._weights) or str(self._weights.resolve())}

    def _pass(self, x_NHWC: np.ndarray) -> np.ndarray:
        for layers, residual in self._blocks:
            y_NHWC = x_NHWC
            for layer in layers:
                y_NHWC = layer(y_NHWC)
            x_NHWC = y_NHWC + x_NHWC if residual else y_NHWC
        pooled = x_NHWC.mean(axis=(1, 2), keepdims=True)
        return self._head(pooled)[:, 0, 0]


def _block_names(state: Mapping[str, np.ndarray]) -> list[str]:
    """The stem and the blocks, in the order they are passed."""
    numbers = {tuple(map(int, key.split(".")[1:3])) for key in state if key.startswith("blocks.")}
    return ["conv_stem", *(f"blocks.{stage}.{block}" for stage, block in sorted(numbers))]


def _blocks(state: Mapping[str, np.ndarray], name: str) -> tuple[list[_Layer], bool]:
    """Layers of a block, and whether its input is added to what they give."""
    if name == "conv_stem":
        return [_layer(state, name, "bn1")], False
    if f"{name}.conv.weight" in state:
        return [_layer(state, f"{name}.conv", f"{name}.bn1")], False
    parts = [part for part in _PARTS if f"{name}.{part}.conv.weight" in state]
    layers = [_layer(state, f"{name}.{part}.conv", f"{name}.{part}.bn") for part in parts]
    first, last = state[f"{name}.{parts[0]}.conv.weight"], layers[-1]
    taken = first.shape[0] if layers[0].depthwise else first.shape[1]
    keeps_size = all(layer.stride == 1 for layer in layers)
    return layers, keeps_size and taken == len(last.b_D)


def _layer(state: Mapping[str, np.ndarray], conv: str, norm: str) -> _Layer:
    w_DCKL = state[f"{conv}.weight"]
    spread = np.sqrt(state[f"{norm}.running_var"] + np.float32(_EPSILON))
    scale_D = state[f"{norm}.weight"] / spread
    place = conv.removesuffix(".conv")
    return _Layer(
        w_KLCD=np.ascontiguousarray((w_DCKL * scale_D[:, None, None, None]).transpose(2, 3, 1, 0)),
        b_D=state[f"{norm}.bias"] - state[f"{norm}.running_mean"] * scale_D,
        stride=2 if place in _HALVING else 1,
        depthwise=".dw_" in conv,
        relu=not conv.rpartition(".conv")[0].endswith(_LINEAR),
    )
