"""What the training loop asks of a method: a loss for a batch, and the network it leaves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from torch import nn

from skytwin.encoders.recipe import Recipe
from skytwin.encoders.recipe_settings import HeadSettings
from skytwin.encoders.served import make_backbone
from skytwin.encoders.training_libraries import ProjectionHead
from skytwin.encoders.views import random_views

__all__ = ["Batch", "Objective", "Terms", "TwoViews", "head", "spread"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Batch:
    """Images as the loop hands them over.

    Attributes
    ----------
    x_BCHW : Tensor
        Stretched, in [0, 1]; NaN without data where the method masks it, else filled.
    condition_BK : Tensor or None
        Standardised catalogue columns.
    """

    x_BCHW: torch.Tensor
    condition_BK: torch.Tensor | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class Terms:
    """A batch's loss, and what is worth a curve; all means over its images."""

    loss: torch.Tensor
    log: dict[str, torch.Tensor] = field(default_factory=dict)


class Objective(Protocol):
    """One method: an `nn.Module` whose parameters are trained."""

    #: Whether missing pixels come as NaN.
    masks: bool

    @property
    def served(self) -> nn.Module:
        """The part that `skytwin embed` runs."""

    def normalise(self, mean: Sequence[float], std: Sequence[float], /) -> None:
        """Mean and deviation of each channel over the training images."""

    def __call__(self, batch: Batch, generator: torch.Generator, progress: float, /) -> Terms:
        """The loss at ``progress`` (0 to 1) of the training; randomness from the generator."""

    def after_step(self, progress: float, /) -> None:
        """What moves once the weights have, such as BYOL's target."""

    def vectors(self, x_BCHW: torch.Tensor, /) -> torch.Tensor:
        """The representation ``(B, D)``."""

    def alarm(
        self, z_ND: np.ndarray, means: Mapping[str, float], /
    ) -> tuple[dict[str, float], str]:
        """What an epoch's vectors and means say of a collapse: numbers, and a warning or ``""``."""


class TwoViews(nn.Module):
    """What SimCLR, BYOL and SimSiam share: a backbone that sees two views of each image.

    The representation is the backbone's, never a head's.
    """

    masks = False

    def __init__(self, recipe: Recipe, channels: int) -> None:
        super().__init__()
        self.settings = recipe.views
        self.backbone, self.dim = make_backbone(recipe.backbone, channels, recipe.input.size)
        self.mean: torch.Tensor
        self.std: torch.Tensor
        self.register_buffer("mean", torch.zeros(1, channels, 1, 1), persistent=False)
        self.register_buffer("std", torch.ones(1, channels, 1, 1), persistent=False)

    def normalise(self, mean: Sequence[float], std: Sequence[float]) -> None:
        """Subtract and divide so in every channel, from here on."""
        self.mean.copy_(torch.tensor(mean).view(1, -1, 1, 1))
        self.std.copy_(torch.tensor(std).view(1, -1, 1, 1))

    @property
    def served(self) -> nn.Module:
        """The backbone."""
        return self.backbone

    def vectors(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """The backbone's pooled features ``(B, dim)`` of stretched images."""
        z_BD: torch.Tensor = self.backbone((x_BCHW - self.mean) / self.std)
        return z_BD

    def two_views(
        self, x_BCHW: torch.Tensor, generator: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Two views of each image, normalised."""
        first, second = (
            ((random_views(x_BCHW, self.settings, generator) - self.mean) / self.std).contiguous(
                memory_format=torch.channels_last
            )
            for _ in range(2)
        )
        return first, second

    def alarm(self, z_ND: np.ndarray, _means: Mapping[str, float]) -> tuple[dict[str, float], str]:
        """Vectors that all point one way carry nothing."""
        value = float(spread(torch.from_numpy(z_ND)))
        return {"vector_spread": value}, "COLLAPSED: all vectors alike" if value < 0.02 else ""

    def after_step(self, progress: float) -> None:
        """Nothing, unless a method has a target that follows."""


def spread(z_BD: torch.Tensor) -> torch.Tensor:
    """Deviation of the normalised vectors, times the root of their length: 1 where they fill the
    sphere, 0 where they have collapsed onto one (Chen & He 2021, arXiv:2011.10566, figure 2).
    """
    unit = nn.functional.normalize(z_BD.detach().float(), dim=1)
    value: torch.Tensor = unit.std(dim=0, correction=0).mean() * z_BD.shape[1] ** 0.5
    return value


def head(width: int, settings: HeadSettings) -> ProjectionHead:
    """One hidden layer, as in the paper (Andrianomena & Tang 2023, arXiv:2311.08331)."""
    return ProjectionHead(
        [
            (width, settings.hidden, nn.BatchNorm1d(settings.hidden), nn.ReLU()),
            (settings.hidden, settings.out, None, None),
        ]
    )
