"""Optimisers and learning-rate schedules of the training loop."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from skytwin.encoders.recipe_settings import OptimizerSettings
from skytwin.encoders.training_libraries import LARS, cosine_warmup_schedule

__all__ = ["make_optimizer", "warmup_cosine"]

# lightly's LARS leaves out its scaling where the decay is 0; this is nothing beside any weight.
_NO_DECAY = 1e-30


def make_optimizer(
    named: Iterable[tuple[str, torch.nn.Parameter]], settings: OptimizerSettings
) -> torch.optim.Optimizer:
    """The optimiser of a recipe.

    Biases and normalisations (parameters of fewer than two axes) do not decay and, in LARS
    (You, Gitman & Ginsburg 2017, arXiv:1708.03888), are not scaled, as in SimCLR and BYOL.

    Parameters
    ----------
    named : iterable of (str, Parameter)
        Those that are trained.
    settings : OptimizerSettings
    """
    weights: list[torch.nn.Parameter] = []
    others: list[torch.nn.Parameter] = []
    for _, parameter in named:
        if parameter.requires_grad:
            (weights if parameter.ndim > 1 else others).append(parameter)
    decay = settings.weight_decay
    if settings.name == "lars":
        decay = max(decay, _NO_DECAY)
    groups: list[dict[str, Any]] = [
        {"params": weights, "weight_decay": decay},
        {"params": others, "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if settings.name == "lars":
        lars: torch.optim.Optimizer = LARS(groups, lr=settings.lr, momentum=settings.momentum)
        return lars
    if settings.name == "sgd":
        return torch.optim.SGD(groups, lr=settings.lr, momentum=settings.momentum)
    if settings.name == "rmsprop":
        return torch.optim.RMSprop(groups, lr=settings.lr, momentum=settings.momentum)
    return torch.optim.AdamW(groups, lr=settings.lr, betas=(settings.momentum, 0.999))


def warmup_cosine(step: int, steps: int, warmup: int, *, cosine: bool) -> float:
    """Factor of the learning rate at a step: up a line, then down half a cosine (or level)."""
    if not cosine:
        return min(1.0, (step + 1) / warmup) if warmup else 1.0
    return float(
        cosine_warmup_schedule(
            step=min(step, steps - 1),
            max_steps=steps,
            start_value=1.0,
            end_value=0.0,
            warmup_steps=min(warmup, steps - 1),
            warmup_start_value=0.0,
        )
    )
