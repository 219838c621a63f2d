"""What happens between epochs: say how it goes, save, decide whether to go on."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save

from skytwin.artefact import PARTS
from skytwin.encoders.knn_probe import Probe
from skytwin.encoders.objective import Batch
from skytwin.encoders.train_loop import Diverged, Training
from skytwin.encoders.training_libraries import pl
from skytwin.encoders.training_set import TrainingSet
from skytwin.files import sync, write_atomically
from skytwin.progress import Progress

__all__ = ["BEST", "STATE", "Watch", "served_state"]

STATE = f"{PARTS}/state.ckpt"
BEST = f"{PARTS}/best.safetensors"
_SAVE_S = 120.0
_LOOKED_AT = 1024  # images that the alarm is raised for


def served_state(objective: Any) -> dict[str, torch.Tensor]:
    """Weights of what is served, on the CPU, contiguous."""
    state = objective.served.state_dict()
    return {key: value.detach().cpu().contiguous().clone() for key, value in state.items()}


class Watch(pl.Callback):
    """Saves after a segment; tells, remembers and decides after an epoch.

    Parameters
    ----------
    folder : Path
        The run's.
    data : TrainingSet
    bar : Progress
        Counts images.
    record : callable
        Takes an epoch's line; called in one process only.
    probe : Probe or None
    """

    def __init__(
        self,
        folder: Path,
        data: TrainingSet,
        bar: Progress,
        record: Callable[[dict[str, Any]], None],
        probe: Probe | None,
    ) -> None:
        self.folder, self.data, self.bar, self.record = folder, data, bar, record
        self.probe = probe
        self._saved = time.monotonic()

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: Any, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Progress."""
        loss = float(module.sums["loss"]) / max(1, module.count)
        epoch = min((module.global_step - 1) // module.schedule.epoch_steps, module.recipe.epochs)
        note = f"epoch {epoch + 1}/{module.recipe.epochs}, loss {loss:.4g}"
        if module.memory.said:
            note += f", {module.memory.said.partition(' (')[0]}"
        self.bar.advance(module.schedule.batch, note=note)

    def on_train_epoch_end(self, trainer: pl.Trainer, module: Any) -> None:
        """The end of a segment, and perhaps of an epoch."""
        over = (trainer.current_epoch + 1) % module.schedule.segments == 0
        line = self._epoch_ends(trainer, module) if over else None
        # Told before it is saved: killed in between, the epoch is repeated and told once more.
        if line is not None and trainer.is_global_zero:
            self.record(line)
        due = over or time.monotonic() - self._saved > _SAVE_S
        if trainer.strategy.broadcast(due):
            self._save(trainer)

    def _epoch_ends(self, trainer: pl.Trainer, module: Training) -> dict[str, Any]:
        epoch = (trainer.current_epoch + 1) // module.schedule.segments
        means = module.means()
        judged = means.get("validation_loss", means["loss"])
        if not math.isfinite(judged) or not _all_finite(module.objective):
            raise Diverged(f"in epoch {epoch} the loss or the weights are no numbers any more")
        z_ND = self._vectors(module, np.arange(min(_LOOKED_AT, self.data.count)))
        found, module.memory.said = module.result.alarm(z_ND, means)
        means |= found
        if self.probe is not None:
            means |= self.probe.score(lambda rows: self._vectors(module, rows))
        if trainer.logger is not None:
            trainer.logger.log_metrics(means, step=epoch)
        self._remember(trainer, module, judged)
        rate = module.trainer.optimizers[0].param_groups[0]["lr"]
        return {
            "epoch": epoch,
            "means": means,
            "lr": rate,
            "skipped": module.memory.skipped,
            "alarm": module.memory.said,
        }

    def _remember(self, trainer: pl.Trainer, module: Training, judged: float) -> None:
        memory, settings = module.memory, module.recipe.optimizer
        if judged < memory.best:
            memory.best, memory.since_best, memory.since_drop = judged, 0, 0
            if trainer.is_global_zero and module.recipe.validation.keep == "best":
                write_atomically(self.folder / BEST, save(served_state(module.result)))
        else:
            memory.since_best += 1
            memory.since_drop += 1
        if settings.schedule == "plateau" and memory.since_drop >= settings.patience:
            memory.factor *= settings.factor
            memory.since_drop = 0
        patience = module.recipe.validation.patience
        if patience and memory.since_best >= patience:
            memory.stopped = f"the validation loss has not fallen for {patience} epochs"
            trainer.should_stop = True

    def _save(self, trainer: pl.Trainer) -> None:
        partial = self.folder / PARTS / ".partial-state.ckpt"
        trainer.save_checkpoint(partial)
        if trainer.is_global_zero:
            sync(partial)
            partial.replace(self.folder / STATE)
        self._saved = time.monotonic()

    def _vectors(self, module: Training, places: np.ndarray) -> np.ndarray:
        """Vectors of images of the training set, in evaluation mode."""
        objective = module.result
        training = objective.training
        objective.eval()
        found = []
        with torch.no_grad():
            for start in range(0, len(places), 256):
                images = self.data.images[places[start : start + 256]].astype(np.float32)
                x = torch.from_numpy(images).to(module.device)
                found.append(objective.vectors(x).float().cpu().numpy())
        objective.train(training)
        return np.concatenate(found)


def _all_finite(module: Any) -> bool:
    return all(bool(torch.isfinite(value).all()) for value in module.state_dict().values())
