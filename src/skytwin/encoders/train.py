"""Train an encoder without labels, from cutouts to a folder that ``embed`` takes."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import signal
import warnings
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from skytwin.encoders.knn_probe import make_probe
from skytwin.encoders.methods import make_objective
from skytwin.encoders.objective import Objective
from skytwin.encoders.recipe import Recipe
from skytwin.encoders.runtime import choose_device, keep_memory
from skytwin.encoders.train_batches import Schedule, training_batches, validation_batches
from skytwin.encoders.train_loop import Diverged, Training
from skytwin.encoders.train_result import note_epoch, write_encoder
from skytwin.encoders.train_watch import STATE, Watch
from skytwin.encoders.training_libraries import TensorBoardLogger, pl
from skytwin.encoders.training_set import TrainingSet, choose_rows, prepare_images
from skytwin.errors import UsageError
from skytwin.images.cutouts import Cutouts
from skytwin.images.prepare import unnormalised
from skytwin.progress import Progress
from skytwin.run import Run

__all__ = ["train_encoder"]

_PRECISION = {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}
_WAITED_FOR = "prepared"


def train_encoder(
    cutouts: Cutouts,
    recipe: Recipe,
    out: str | Path,
    *,
    crop: int,
    seed: int = 0,
    where: str | None = None,
    exclude: Sequence[tuple[str, np.ndarray | None, str]] = (),
    exclude_arcsec: float = 5.0,
    label: str | None = None,
    device: str = "auto",
    devices: int = 1,
    nodes: int = 1,
    quiet: bool = False,
) -> Path:
    """Train an encoder.

    Parameters
    ----------
    cutouts : Cutouts
    recipe : Recipe
    out : path
        New folder, or that of an unfinished run of this call, which goes on where it was.
    crop : int
        Central pixels that are looked at.
    seed : int
        Of everything random.
    where : str, optional
        SQL condition on the catalogue: train on these only.
    exclude : sequence of (name, positions, fingerprint)
        Sets whose objects are left out, by their place on the sky.
    exclude_arcsec : float
    label : str, optional
        Column for the kNN probe; no label enters the training.
    device : str
        ``"auto"``, ``"cpu"``, ``"cuda"``.
    devices, nodes : int
        Processes (GPUs) of each machine, and machines; more than one work by DDP.
    quiet : bool

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    UsageError
        The recipe does not fit the images or the machine.
    Diverged
        The loss is no number any more; what the last good epoch left is kept.
    """
    target = choose_device(device)
    if target.type == "cpu":
        keep_memory()
        if recipe.precision == "16":
            raise UsageError("precision 16 is for GPUs; use bf16 or 32 on a CPU")
    world = devices * nodes
    if recipe.batch % world:
        raise UsageError(f"batch {recipe.batch} on {world} devices; choose a multiple of {world}")
    rows = choose_rows(
        cutouts,
        recipe.validation,
        seed=seed,
        where=where,
        exclude=[(name, positions) for name, positions, _ in exclude],
        exclude_arcsec=exclude_arcsec,
        conditions=recipe.conditions,
        balance=recipe.balance,
    )
    if recipe.batch > len(rows.train):
        raise UsageError(
            f"a batch of {recipe.batch} from {len(rows.train)} training images; choose at most "
            f"--set batch={len(rows.train)}"
        )
    settings = recipe.input
    prepare = unnormalised(
        cutouts, crop=crop, size=settings.size, stretch=settings.stretch, bands=settings.bands
    )
    probe = make_probe(cutouts, rows, label, recipe.validation.neighbours, seed) if label else None
    torch.manual_seed(seed)
    objective = make_objective(recipe, prepare.channels)
    rank = _rank()
    told = {
        "recipe": recipe.to_dict(),
        "crop": crop,
        "seed": seed,
        "where": where,
        "exclude": [fingerprint for _, _, fingerprint in exclude],
        "exclude_arcsec": exclude_arcsec if exclude else None,
        "rows": rows.digest(),
        "label": label,
        "world": world,
        "device": target.type,
    }
    folder = Path(out)
    with contextlib.ExitStack() as stack:
        run = None
        if rank == 0:
            inputs = {
                "cutouts": str(cutouts.folder.resolve()),
                "exclude": [name for name, _, _ in exclude],
            }
            run = stack.enter_context(
                Run(
                    folder,
                    kind="encoder",
                    recipe=told,
                    inputs=inputs,
                    parents={"cutouts": cutouts.as_parent()},
                )
            )
        data = prepare_images(
            cutouts,
            rows,
            prepare,
            folder,
            masked=recipe.method == "vdvae",
            leader=rank == 0,
            quiet=quiet or rank > 0,
        )
        if run is not None and not run.journal:
            # From here on there is something that is worth keeping when the run is killed.
            run.record({_WAITED_FOR: len(data.images)})
        module, failure = _fit(
            folder,
            data,
            objective,
            recipe,
            seed,
            run,
            probe,
            target,
            devices,
            nodes,
            quiet or rank > 0,
        )
        if run is not None:
            write_encoder(run, cutouts, recipe, prepare, data, rows, module, failure)
    if failure is not None:
        raise failure
    return folder


def _rank() -> int:
    """The number of this process, as Lightning and the common launchers of clusters say it."""
    for name in ("RANK", "SLURM_PROCID", "LOCAL_RANK"):
        if name in os.environ:
            return int(os.environ[name])
    return 0


def _fit(
    folder: Path,
    data: TrainingSet,
    objective: Objective,
    recipe: Recipe,
    seed: int,
    run: Run | None,
    probe: Any,
    target: torch.device,
    devices: int,
    nodes: int,
    quiet: bool,
) -> tuple[Training, Diverged | None]:
    """Train, from the saved state if there is one."""
    objective.normalise(data.mean, data.std)
    schedule = Schedule(images=data.count, batch=recipe.batch, epochs=recipe.epochs)
    module = Training(objective, recipe, schedule, seed)
    world = devices * nodes
    state = folder / STATE
    saved = torch.load(state, weights_only=True, map_location="cpu") if state.is_file() else None
    done = 0
    if saved is not None:
        done = int(saved["global_step"])
        if saved["memory"]["stopped"] is not None or done >= schedule.steps:
            module.load_state_dict(saved["state_dict"])
            module.on_load_checkpoint(saved)
            return module, None
    images = schedule.steps * recipe.batch
    failure = None
    with (
        _calm(),
        Progress("train", images, done=done * recipe.batch, quiet=quiet) as bar,
    ):
        watch = Watch(
            folder, data, bar, (lambda _: None) if run is None else partial(note_epoch, run), probe
        )
        trainer = pl.Trainer(
            accelerator="gpu" if target.type == "cuda" else "cpu",
            devices=devices,
            num_nodes=nodes,
            strategy="ddp" if world > 1 else "auto",
            sync_batchnorm=world > 1 and target.type == "cuda",
            precision=_PRECISION[recipe.precision],  # type: ignore[arg-type]
            max_epochs=recipe.epochs * schedule.segments,
            check_val_every_n_epoch=schedule.segments,
            num_sanity_val_steps=0,
            logger=_logger(folder),
            callbacks=[watch],
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
        )
        share: dict[str, Any] = {
            "rank": lambda: trainer.global_rank,
            "world": world,
            "pinned": target.type == "cuda",
        }
        batches = training_batches(data, schedule, seed, lambda: module.global_step, **share)
        validation = (
            validation_batches(data, recipe.batch, **share)
            if len(data.images) > data.count
            else None
        )
        try:
            trainer.fit(
                module,
                batches,
                validation,
                ckpt_path=None if saved is None else state,
                weights_only=True,
            )
        except SystemExit:
            if not trainer.interrupted:
                raise
            raise KeyboardInterrupt from None  # which Lightning has made an exit of
        except Diverged as error:
            if not state.is_file():
                raise Diverged(f"{error}; lower optimizer.lr, or look for odd images") from None
            good = torch.load(state, weights_only=True, map_location="cpu")
            module.load_state_dict(good["state_dict"])
            module.on_load_checkpoint(good)
            module.memory.stopped = str(error)
            failure = Diverged(
                f"{error}; {str(folder)!r} holds the encoder as it was after step "
                f"{good['global_step']}: lower optimizer.lr and train anew"
            )
    return module, failure


def _logger(folder: Path) -> Any:
    if importlib.util.find_spec("tensorboard") is None:
        return False
    return TensorBoardLogger(folder, name="tensorboard", version="")


@contextlib.contextmanager
def _calm() -> Iterator[None]:
    """Lightning without its advice and its announcements."""
    loggers = [logging.getLogger(name) for name in ("pytorch_lightning", "lightning.pytorch")]
    levels = [logger.level for logger in loggers]
    interrupt = signal.getsignal(signal.SIGINT)
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="pytorch_lightning")
            warnings.filterwarnings("ignore", message=".*LeafSpec.*", category=FutureWarning)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        # Interrupted, Lightning would leave the process deaf to further interrupts.
        with contextlib.suppress(ValueError):  # not in the main thread
            signal.signal(signal.SIGINT, interrupt)
