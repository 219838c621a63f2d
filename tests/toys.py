"""Small real things that tests share: images in memory, and embeddings with known neighbours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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
