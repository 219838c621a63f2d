"""The training loop, on Lightning: whatever is killed goes on as if nothing had happened."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any

import torch

from skytwin.encoders.objective import Batch, Objective
from skytwin.encoders.optimizers import make_optimizer, warmup_cosine
from skytwin.encoders.recipe import Recipe
from skytwin.encoders.train_batches import Schedule, generator
from skytwin.encoders.training_libraries import pl
from skytwin.errors import DataError

__all__ = ["Diverged", "Memory", "Training"]

_BAD_STEPS = 25
_STEP, _VALIDATE = 1, 2  # what a seed is for


class Diverged(DataError):
    """The loss or the weights are no numbers any more."""


@dataclass(kw_only=True)
class Memory:
    """What the loop remembers from epoch to epoch; saved with its state."""

    best: float = math.inf
    since_best: int = 0  # epochs
    since_drop: int = 0  # epochs, for the plateau
    factor: float = 1.0
    skipped: int = 0
    bad_in_a_row: int = 0
    stopped: str | None = None
    steps: int = 0
    said: str = ""  # the latest alarm


class Training(pl.LightningModule):
    """An objective, its running mean, and its optimiser."""

    def __init__(self, objective: Objective, recipe: Recipe, schedule: Schedule, seed: int) -> None:
        super().__init__()
        self.objective: Any = objective
        self.recipe, self.schedule, self.seed = recipe, schedule, seed
        self.average: Any = None
        if recipe.ema > 0:
            self.average = copy.deepcopy(objective)
            self.average.requires_grad_(False)
        self.memory = Memory()
        self.sums: dict[str, torch.Tensor] = {}
        self.count = 0
        self.validated: dict[str, torch.Tensor] = {}
        self.validated_count = 0

    @property
    def result(self) -> Any:
        """The objective whose weights are kept: the running mean where there is one."""
        return self.objective if self.average is None else self.average

    @property
    def at(self) -> float:
        """How much of the training is done, 0 to 1."""
        return self.global_step / max(1, self.schedule.steps)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """As Lightning asks."""
        return make_optimizer(self.objective.named_parameters(), self.recipe.optimizer)

    def transfer_batch_to_device(
        self, batch: Batch, device: torch.device, dataloader_idx: int
    ) -> Batch:
        """As Lightning asks."""
        condition = batch.condition_BK
        return Batch(
            x_BCHW=batch.x_BCHW.to(device, non_blocking=True),
            condition_BK=None if condition is None else condition.to(device, non_blocking=True),
        )

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """The learning rate of this step."""
        settings, steps = self.recipe.optimizer, self.schedule.steps
        warmup = round(settings.warmup_epochs * self.schedule.epoch_steps)
        factor = warmup_cosine(
            self.global_step, steps, warmup, cosine=settings.schedule == "cosine"
        )
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = settings.lr * factor * self.memory.factor

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        """The loss of a batch; its randomness follows from seed, step and process."""
        step = self.global_step
        torch.manual_seed(generator(self.seed, _STEP, step, self.global_rank).initial_seed())
        draws = generator(self.seed, _STEP, step, self.global_rank, 1)
        terms = self.objective(batch, draws, self.at)
        self._add({"loss": terms.loss.detach(), **terms.log})
        loss: torch.Tensor = terms.loss
        return loss

    def _add(self, log: dict[str, torch.Tensor]) -> None:
        self.count += 1
        for name, value in log.items():
            self.sums[name] = self.sums.get(name, torch.zeros(())) + value.detach().float().cpu()

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Leave out a step whose gradient is no number or too long; shorten one that is long."""
        settings = self.recipe.optimizer
        grads = [p.grad for p in self.objective.parameters() if p.grad is not None]
        norm = float(torch.nn.utils.get_total_norm(grads))
        finite = math.isfinite(norm)
        self.memory.bad_in_a_row = 0 if finite else self.memory.bad_in_a_row + 1
        if not finite or (settings.skip > 0 and norm > settings.skip):
            self.memory.skipped += 1
            optimizer.zero_grad(set_to_none=True)
            if self.memory.bad_in_a_row >= _BAD_STEPS:
                raise Diverged(f"the gradient was no number {_BAD_STEPS} times in a row")
        elif settings.clip > 0 and norm > settings.clip:
            for grad in grads:
                grad.mul_(settings.clip / norm)

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        """What follows the weights."""
        self.memory.steps = self.global_step
        self.objective.after_step(self.at)
        if self.average is not None:
            # A mean over the first steps would be a mean with the random beginning.
            decay = min(self.recipe.ema, self.global_step / (self.global_step + 10))
            with torch.no_grad():
                pairs = zip(
                    self.average.state_dict().values(),
                    self.objective.state_dict().values(),
                    strict=True,
                )
                for kept, new in pairs:
                    if kept.is_floating_point():
                        kept.lerp_(new, 1 - decay)
                    else:
                        kept.copy_(new)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """The same loss, with the same random numbers in every epoch."""
        draws = generator(self.seed, _VALIDATE, batch_idx, self.global_rank)
        terms = self.result(batch, draws, 1.0)
        size = len(batch.x_BCHW)
        self.validated_count += size
        for name, value in {"loss": terms.loss, **terms.log}.items():
            held = self.validated.get(name, torch.zeros(()))
            self.validated[name] = held + value.detach().float().cpu() * size

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """What the loop remembers goes with the weights."""
        checkpoint["memory"] = vars(self.memory)
        checkpoint["sums"], checkpoint["count"] = self.sums, self.count

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """As `on_save_checkpoint`."""
        self.memory = Memory(**checkpoint["memory"])
        self.sums, self.count = checkpoint["sums"], checkpoint["count"]

    def means(self) -> dict[str, float]:
        """Means over the epoch so far, of all processes; then begin anew."""
        found = {
            name: float(self._everywhere(value / max(1, self.count)))
            for name, value in self.sums.items()
        }
        held = {
            f"validation_{name}": float(self._everywhere(value / max(1, self.validated_count)))
            for name, value in self.validated.items()
        }
        self.sums, self.count, self.validated, self.validated_count = {}, 0, {}, 0
        return {**found, **held}

    def _everywhere(self, value: torch.Tensor) -> torch.Tensor:
        mean = self.trainer.strategy.reduce(value.to(self.device), reduce_op="mean")
        return torch.as_tensor(mean)
