"""Trained networks as they are served: without heads, targets or losses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from skytwin.encoders.recipe import Recipe
from skytwin.encoders.torchvision_guard import import_timm
from skytwin.encoders.vdvae import Vdvae, VdvaeShape
from skytwin.errors import UsageError, in_words, unknown

__all__ = ["VdvaeEncoder", "make_backbone", "network_name", "served_network"]

timm = import_timm()


class VdvaeEncoder(nn.Module):
    """What `skytwin embed` runs: the mean of the top latent's posterior, conditions unknown."""

    def __init__(self, vdvae: Vdvae) -> None:
        super().__init__()
        self.vdvae = vdvae

    def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        """The representation ``(B, latent_dim)``."""
        count = self.vdvae.shape.conditions
        unknown = x_BCHW.new_full((len(x_BCHW), count), float("nan")) if count else None
        return self.vdvae.encode(x_BCHW, unknown)


def make_backbone(name: str, channels: int, size: int) -> tuple[nn.Module, int]:
    """An untrained model of timm without classifier, and the length of its vectors.

    Raises
    ------
    UnknownName
        timm has no such model.
    UsageError
        It does not take images of this size or number of bands.
    """
    if not timm.is_model(name):
        raise unknown("backbone", name, timm.list_models())
    try:
        model = timm.create_model(name, pretrained=False, num_classes=0, in_chans=channels)
        model.eval()
        with torch.no_grad():
            z_BD = model(torch.zeros(1, channels, size, size))
    except (RuntimeError, AssertionError, TypeError, ValueError) as error:
        raise UsageError(
            f"backbone {name} does not take {channels} band(s) of {size} pixels "
            f"({in_words(error, 120)}); choose another or another input.size"
        ) from error
    return model.train(), int(z_BD.shape[1])


def network_name(recipe: Recipe) -> str:
    """``"simclr:resnet34"``, ``"vdvae"``: as it stands in a saved encoder."""
    return recipe.method if recipe.method == "vdvae" else f"{recipe.method}:{recipe.backbone}"


def served_network(
    name: str, made_by: Mapping[str, Any], channels: int, size: int
) -> tuple[nn.Module, nn.Module]:
    """An empty network to load weights into, and what of it makes vectors (it shares them)."""
    method, _, backbone = name.partition(":")
    if method == "vdvae":
        vdvae = Vdvae(VdvaeShape.from_dict(dict(made_by["shape"])))
        return vdvae, VdvaeEncoder(vdvae)
    model, _ = make_backbone(backbone, channels, size)
    return model, model
