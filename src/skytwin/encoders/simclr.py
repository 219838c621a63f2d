"""SimCLR: two views of an image agree, those of different images do not.

Chen, Kornblith, Norouzi & Hinton 2020, arXiv:2002.05709. The loss compares each view with all
others of its batch, so it needs a large batch (the paper on radio galaxies takes 1024).
"""

from __future__ import annotations

import torch

from skytwin.encoders.objective import Batch, Terms, TwoViews, head, spread
from skytwin.encoders.recipe import Recipe
from skytwin.encoders.training_libraries import NTXentLoss

__all__ = ["SimClr"]


class SimClr(TwoViews):
    """NT-Xent of the projections (equation 1)."""

    def __init__(self, recipe: Recipe, channels: int) -> None:
        super().__init__(recipe, channels)
        self.projection = head(self.dim, recipe.head)
        self.loss = NTXentLoss(temperature=recipe.head.temperature, gather_distributed=True)

    def forward(self, batch: Batch, generator: torch.Generator, _progress: float) -> Terms:
        """The loss of one batch."""
        first, second = self.two_views(batch.x_BCHW, generator)
        z_first, z_second = self.backbone(first), self.backbone(second)
        loss = self.loss(self.projection(z_first).float(), self.projection(z_second).float())
        return Terms(loss=loss, log={"spread": spread(z_first)})
