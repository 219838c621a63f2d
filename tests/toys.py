"""Small real things that tests share: images in memory, and embeddings with known neighbours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from skytwin.embeddings.table import Embeddings
from skytwin.errors import BadImage
from skytwin.images.source import RawImage


@dataclass
class MemorySource:
    """Images held in memory; an entry that is text is a damaged image with that reason."""

    images: Sequence[RawImage | str]
    table: pa.Table | None = None
    ids: Sequence[str] = ()
    origins: Sequence[str] = ()
    recipe: Mapping[str, Any] = field(default_factory=dict)
    location: str = "memory"

    def __post_init__(self) -> None:
        if not self.ids:
            self.ids = [f"obj{i:04d}" for i in range(len(self.images))]
        self.origins = [f"{name}.fits" for name in self.ids]

    def read(self, index: int) -> RawImage:
        image = self.images[index]
        if isinstance(image, str):
            raise BadImage(image)
        return image


def blob(seed: int, size: int = 16, channels: int = 1) -> np.ndarray:
    """A noisy elongated blob, (C, H, W) float32."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] - size / 2 + 0.5
    angle, width = rng.uniform(0, np.pi), rng.uniform(1, size / 4)
    along = x * np.cos(angle) + y * np.sin(angle)
    across = -x * np.sin(angle) + y * np.cos(angle)
    base = np.exp(-0.5 * ((along / width) ** 2 + (across / 1.5) ** 2))
    noise = 0.02 * rng.standard_normal((channels, size, size))
    return (base * rng.uniform(0.5, 5, (channels, 1, 1)) + noise).astype(np.float32)


def raw(pixels: np.ndarray, **about: Any) -> RawImage:
    return RawImage(pixels=pixels, **about)


def labelled(n: int = 400, dim: int = 12, share: float = 0.2, seed: int = 0) -> Embeddings:
    """Two overlapping classes, ``a`` rare and ``b`` common, on a strip of sky."""
    rng = np.random.default_rng(seed)
    rare = rng.random(n) < share
    x = rng.standard_normal((n, dim)) + np.where(rare[:, None], 1.5, 0.0)
    return Embeddings.from_arrays(
        x,
        [f"s{i}" for i in range(n)],
        {
            "kind": np.where(rare, "a", "b"),
            "z": rng.uniform(0, 1, n),
            "ra": np.linspace(359.5, 360.5, n) % 360,
            "dec": rng.uniform(-1, 1, n),
        },
    )


@dataclass(frozen=True)
class Pixels:
    """Cutouts in memory, as `open_encoder` takes them."""

    images: np.ndarray
    bands: tuple[str, ...] = ("g", "r", "i")
    pixel_scale: float | None = 0.4

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.images.dtype

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return self.images.shape  # type: ignore[return-value]

    def flux(self, rows: np.ndarray) -> np.ndarray:
        return self.images[rows].astype(np.float32)


class ToyNetwork:
    """Three numbers that can be worked out by hand: the mean, a corner, its row's mean."""

    name, dim, fingerprint = "toy", 3, "toy-1"

    def forward(self, x: np.ndarray) -> np.ndarray:
        mean, corner, row = x.mean((1, 2, 3)), x[:, 0, 0, 0], x[:, 0, 0].mean(1)
        return np.stack([mean, corner, row], axis=1)

    def describe(self) -> dict[str, Any]:
        return {"made_of": "nothing"}

    def save(self, folder: Path) -> dict[str, Any]:
        return {}


def tilted_galaxies(count: int = 40) -> Pixels:
    """Three-band images of tilted ellipses of different sizes and colours, with noise."""
    random = np.random.default_rng(11)
    y, x = np.mgrid[:40, :40] - 20.0
    images = []
    for _ in range(count):
        angle, long, short = random.uniform(0, np.pi), *random.uniform(2, 9, 2)
        u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
        shape = np.exp(-((u / long) ** 2) - ((v / short) ** 2) + 0.01 * u)
        images.append(random.uniform(1, 5, (3, 1, 1)) * shape)
    return Pixels(
        (np.array(images) + random.normal(0, 0.05, (count, 3, 40, 40))).astype(np.float32)
    )


def random_weights(path: Path, seed: int = 2) -> Path:
    """Random weights of timm's smallest network."""
    import torch  # only tests of networks take it
    from safetensors.torch import save_file

    from skytwin.encoders.torchvision_guard import import_timm

    torch.manual_seed(seed)
    model = import_timm().create_model("test_efficientnet", pretrained=False, num_classes=0)
    save_file(model.state_dict(), path)
    return path


def difference(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a - b).max() / np.abs(b).max())


def assert_close(a: np.ndarray, b: np.ndarray) -> None:
    """Vectors equal to within rounding of 32-bit sums in another order."""
    assert a.shape == b.shape
    assert difference(a, b) < 1e-5
