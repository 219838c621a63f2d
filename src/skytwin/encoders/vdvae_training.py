"""The Very Deep VAE in the training loop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import nn

from skytwin.encoders.objective import Batch, Terms
from skytwin.encoders.on_device import turned
from skytwin.encoders.recipe import Recipe
from skytwin.encoders.served import VdvaeEncoder
from skytwin.encoders.vdvae import Vdvae
from skytwin.encoders.vdvae_collapse import collapse
from skytwin.encoders.vdvae_shape import VdvaeShape
from skytwin.encoders.views import generator_on

__all__ = ["VdvaeObjective", "shape_of"]


_TOP_FIRST = 100.0  # how much dearer other layers are at first


def shape_of(recipe: Recipe, channels: int) -> VdvaeShape:
    """The network that a recipe asks for.

    Raises
    ------
    UnknownName, UsageError
        As `VdvaeShape`.
    """
    given = {
        **recipe.vdvae,
        "size": recipe.input.size,
        "channels": channels,
        "conditions": len(recipe.conditions),
    }
    return VdvaeShape.from_dict(given)


class VdvaeObjective(nn.Module):
    """Minus the evidence lower bound, per dimension; images as they are, or turned by quarters."""

    masks = True

    def __init__(self, recipe: Recipe, channels: int) -> None:
        super().__init__()
        self.vdvae = Vdvae(shape_of(recipe, channels))
        self.dim = self.vdvae.shape.latent_dim
        self.settings, self.turned = recipe.loss, recipe.input.turned
        self.epochs = recipe.epochs

    def normalise(self, mean: Sequence[float], std: Sequence[float]) -> None:
        """Nothing: the likelihood is that of brightness in [0, 1]."""

    @property
    def served(self) -> nn.Module:
        """The whole network: it also generates."""
        return self.vdvae

    def forward(self, batch: Batch, generator: torch.Generator, progress: float) -> Terms:
        """The loss of one batch."""
        epoch, settings = progress * self.epochs, self.settings
        beta = settings.beta * _ramp(epoch, settings.beta_warmup_epochs)
        lower = beta * _TOP_FIRST ** (1 - _ramp(epoch, settings.top_first_epochs))
        x_BCHW = batch.x_BCHW
        if self.turned and self.training:
            which = torch.randint(8, (len(x_BCHW),), generator=generator)
            x_BCHW = turned(x_BCHW, "d4")[which.to(x_BCHW.device), torch.arange(len(x_BCHW))]
        draws = generator_on(x_BCHW.device, generator)
        elbo = self.vdvae(x_BCHW, batch.condition_BK, beta=lower, generator=draws)
        # The top layer has a weight of its own; else this is elbo.loss.
        cheaper = (lower - beta * settings.beta_top) * elbo.kl_LB[0].sum()
        loss = elbo.loss - cheaper / elbo.dims_B.sum().clamp_min(1)
        kl_L = elbo.kl_LB.detach().mean(dim=1)
        log = {
            "bits_per_dim": elbo.bits_per_dim,
            "reconstruction": elbo.reconstruction_B.detach().mean(),
            "kl": kl_L.sum(),
            **{f"kl_{layer}": value for layer, value in enumerate(kl_L)},
        }
        return Terms(loss=loss, log=log)

    def vectors(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """The representation ``(B, latent_dim)``."""
        z_BD: torch.Tensor = VdvaeEncoder(self.vdvae)(x_BCHW)
        return z_BD

    def alarm(self, z_ND: np.ndarray, means: Mapping[str, float]) -> tuple[dict[str, float], str]:
        """Whether the representation has collapsed onto the prior."""
        side = "validation_" if "validation_kl_0" in means else ""
        layers = len(self.vdvae.shape.latents)
        kl_LN = np.array([[means[f"{side}kl_{layer}"]] for layer in range(layers)])
        found = collapse(z_ND, kl_LN, prior_sigma_D=self.vdvae.top_prior_sigma().cpu().numpy())
        return {"active_units": float(found.active)}, found.text if found.alarm else ""

    def after_step(self, _progress: float) -> None:
        """Nothing."""


def _ramp(epoch: float, epochs: float) -> float:
    """From 0 to 1 over so many epochs; 1 where there are none."""
    return min(1.0, epoch / epochs) if epochs > 0 else 1.0
