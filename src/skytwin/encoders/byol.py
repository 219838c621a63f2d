"""BYOL: a network predicts what a slowly following copy of itself says of another view.

Grill et al. 2020, arXiv:2006.07733. No negatives; what keeps it from collapse is the predictor,
the stopped gradient and the target's slowness.
"""

from __future__ import annotations

import copy

import torch
from torch import nn

from skytwin.encoders.objective import Batch, Terms, TwoViews, head, spread
from skytwin.encoders.recipe import Recipe
from skytwin.encoders.training_libraries import (
    NegativeCosineSimilarity,
    cosine_schedule,
    update_momentum,
)

__all__ = ["Byol"]


class Byol(TwoViews):
    """Mean squared error of normalised predictions (equation 2): 2 - 2 cosine, both ways."""

    def __init__(self, recipe: Recipe, channels: int) -> None:
        super().__init__(recipe, channels)
        self.projection = head(self.dim, recipe.head)
        self.prediction = head(recipe.head.out, recipe.head)
        self.target = copy.deepcopy(nn.Sequential(self.backbone, self.projection))
        self.target.requires_grad_(False)
        self.decay = recipe.head.decay
        self.cosine = NegativeCosineSimilarity()

    def forward(self, batch: Batch, generator: torch.Generator, _progress: float) -> Terms:
        """The loss of one batch."""
        first, second = self.two_views(batch.x_BCHW, generator)
        z_first = self.backbone(first)
        said_first = self.prediction(self.projection(z_first)).float()
        said_second = self.prediction(self.projection(self.backbone(second))).float()
        with torch.no_grad():
            target_first, target_second = self.target(first).float(), self.target(second).float()
        cosines = self.cosine(said_first, target_second) + self.cosine(said_second, target_first)
        return Terms(loss=4 + 2 * cosines, log={"spread": spread(z_first)})

    def after_step(self, progress: float) -> None:
        """The target follows; its decay rises to 1 along half a cosine (section 3.2)."""
        decay = cosine_schedule(round(progress * 10_000), 10_001, self.decay, 1.0)
        update_momentum(self.backbone, self.target[0], decay)
        update_momentum(self.projection, self.target[1], decay)
