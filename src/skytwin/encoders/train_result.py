"""What a training run leaves: weights, preparation, curves, and what is to be known of them."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path
from typing import Any

import safetensors.torch

from skytwin.encoders.checkpoint import TrainedNetwork
from skytwin.encoders.encoder import Encoder
from skytwin.encoders.recipe import CURVES, Recipe
from skytwin.encoders.served import network_name
from skytwin.encoders.train_loop import Diverged, Training
from skytwin.encoders.train_watch import BEST, served_state
from skytwin.encoders.training_set import Rows, TrainingSet
from skytwin.images.cutouts import Cutouts
from skytwin.images.prepare import Prepare
from skytwin.run import Run

__all__ = ["note_epoch", "write_encoder"]


def write_encoder(
    run: Run,
    cutouts: Cutouts,
    recipe: Recipe,
    prepare: Prepare,
    data: TrainingSet,
    rows: Rows,
    module: Training,
    failure: Diverged | None,
) -> None:
    """Weights, curves and what is to be known of them; then seal the folder."""
    curve = _curve(run)
    best = run.folder / BEST
    kept_best = recipe.validation.keep == "best" and best.is_file() and failure is None
    state = safetensors.torch.load_file(best) if kept_best else served_state(module.result)
    made_by: dict[str, Any] = {
        "recipe": recipe.to_dict(),
        "seed": run.recipe["seed"],
        "cutouts": cutouts.manifest.fingerprint,
        "images": data.count,
        "validation_images": len(data.images) - data.count,
        "steps": int(module.memory.steps),
        "kept": "best" if kept_best else "last",
        "stopped": module.memory.stopped,
    }
    if recipe.method == "vdvae":
        made_by["shape"] = module.result.vdvae.shape.to_dict()
    final = prepare
    if recipe.method != "vdvae":
        final = dataclasses.replace(prepare, mean=data.mean, std=data.std)
    network = TrainedNetwork(
        network_name(recipe),
        state,
        made_by,
        channels=final.channels,
        size=final.size,
        device="cpu",
        runtime="torch",
    )
    encoder = Encoder(network=network, prepare=final, pixel_scale=cutouts.pixel_scale)
    encoder.save(run.folder)
    _write_curves(run)
    conditions = rows.conditions
    last = curve[-1] if curve else {"means": {}, "alarm": ""}
    run.finish(
        {
            "encoder": encoder.name,
            "encoder_fingerprint": encoder.fingerprint,
            "dim": encoder.dim,
            "parameters": sum(value.numel() for value in state.values()),
            "bands": list(cutouts.bands),
            "pixel_scale": cutouts.pixel_scale,
            "image_dtype": cutouts.dtype.name,
            "image_unit": cutouts.unit,
            "absolute_stretch": final.stretch.absolute,
            "images": data.count,
            "validation_images": len(data.images) - data.count,
            "left_out": rows.left_out,
            "epochs": len(curve),
            "skipped_steps": module.memory.skipped,
            "stopped": module.memory.stopped,
            "kept": made_by["kept"],
            "last": last["means"],
            "alarm": last["alarm"] or None,
            "conditions": None
            if conditions is None
            else {"names": conditions.names, "mean": conditions.mean, "std": conditions.std},
            "balance": None
            if rows.balance is None
            else {
                "column": rows.balance.column,
                "groups": list(rows.balance.groups),
                "images": list(rows.balance.images),
                "share": list(rows.balance.share),
            },
        }
    )


def note_epoch(run: Run, line: dict[str, Any]) -> None:
    """Put an epoch into the journal, and bring the table of curves up to date."""
    run.record(line)
    _write_curves(run)


def _curve(run: Run) -> list[dict[str, Any]]:
    """Each epoch's line once: a killed run may have told one twice."""
    epochs = {line["epoch"]: line for line in run.journal if "epoch" in line}
    return [epochs[number] for number in sorted(epochs)]


def _write_curves(run: Run) -> None:
    curve = _curve(run)
    names = list(dict.fromkeys(name for line in curve for name in line["means"]))

    def write(path: Path) -> None:
        with path.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(["epoch", "lr", "skipped", *names])
            for line in curve:
                values = [line["means"].get(name, "") for name in names]
                writer.writerow([line["epoch"], line["lr"], line["skipped"], *values])

    run.write(CURVES, write)
