"""SimSiam: BYOL without the slow copy; the gradient is stopped on one side.

Chen & He 2021, arXiv:2011.10566.
"""

from __future__ import annotations

import torch

from skytwin.encoders.objective import Batch, Terms, TwoViews, head, spread
from skytwin.encoders.recipe import Recipe
from skytwin.encoders.training_libraries import NegativeCosineSimilarity

__all__ = ["SimSiam"]


class SimSiam(TwoViews):
    """Negative cosine of prediction and projection, both ways (equation 2)."""

    def __init__(self, recipe: Recipe, channels: int) -> None:
        super().__init__(recipe, channels)
        self.projection = head(self.dim, recipe.head)
        self.prediction = head(recipe.head.out, recipe.head)
        self.cosine = NegativeCosineSimilarity()

    def forward(self, batch: Batch, generator: torch.Generator, _progress: float) -> Terms:
        """The loss of one batch."""
        first, second = self.two_views(batch.x_BCHW, generator)
        z_first = self.backbone(first)
        made_first = self.projection(z_first)
        made_second = self.projection(self.backbone(second))
        said_first = self.prediction(made_first).float()
        said_second = self.prediction(made_second).float()
        loss = self.cosine(said_first, made_second.detach().float()) / 2
        loss = loss + self.cosine(said_second, made_first.detach().float()) / 2
        return Terms(loss=loss, log={"spread": spread(z_first)})
