"""What ``skytwin train`` prints and draws."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.csv as pc

from skytwin.artefact import Manifest
from skytwin.encoders.recipe import CURVES
from skytwin.files import require_new
from skytwin.report_files import PICTURES, save_picture, written

__all__ = ["check_targets", "describe", "leads", "save"]


def check_targets(save: Sequence[Path]) -> None:
    """Refuse pictures that could not be written, before hours of training."""
    for path in save:
        require_new(path, PICTURES)


def leads() -> bool:
    """Whether this is the process that reports: one of several does."""
    ranks = ("RANK", "SLURM_PROCID", "LOCAL_RANK")
    return all(os.environ.get(name, "0") == "0" for name in ranks)


def describe(folder: Path) -> str:
    """What was trained, on what, and how it went."""
    manifest = Manifest.open(folder, "encoder")
    summary, recipe = manifest.summary, manifest.recipe["recipe"]
    curves = read_curves(folder)
    lines = [
        f"Encoder({summary['encoder']}, {summary['dim']} numbers per image, {folder})",
        f"  {summary['parameters'] / 1e6:.2f} million parameters; trained on {summary['images']} "
        f"images of {recipe['input']['size']} pixels, {summary['epochs']} epochs; "
        f"validated on {summary['validation_images']}",
    ]
    lines += [f"  left out: {count} {why}" for why, count in summary["left_out"].items() if count]
    if (even := summary.get("balance")) is not None:
        drawn = ", ".join(
            f"{group} {images} ({share:.2f})"
            for group, images, share in zip(
                even["groups"], even["images"], even["share"], strict=True
            )
        )
        lines.append(f"  balanced in {even['column']}: images (share drawn) {drawn}")
    lines.append(f"  loss {_first_last(curves, 'loss')}")
    if "validation_loss" in curves:
        lines[-1] += f", validation {_first_last(curves, 'validation_loss')}"
    if "validation_bits_per_dim" in curves:
        lines[-1] += f"; {curves['validation_bits_per_dim'][-1]:.3f} bits per dimension"
    last = summary["last"]
    if "knn_accuracy" in last:
        lines.append(
            f"  kNN probe of {manifest.recipe['label']}: {last['knn_accuracy']:.3f} right of "
            f"{last['knn_images']:.0f} validation images (most frequent class "
            f"{last['knn_base_rate']:.3f})"
        )
    if summary["skipped_steps"]:
        lines.append(f"  steps left out for their gradient: {summary['skipped_steps']}")
    if summary["stopped"]:
        lines.append(f"  stopped: {summary['stopped']}")
    if summary["alarm"]:
        lines.append(f"  warning: {summary['alarm']}")
    lines.append(f"  next: skytwin embed CUTOUTS --encoder {folder} --orbit d4 --out EMB")
    return "\n".join(lines)


def save(folder: Path, paths: Sequence[Path]) -> str:
    """Draw the curves."""
    if not paths:
        return ""
    # matplotlib takes a second to import.
    from skytwin.answers.figures_train import draw_curves

    manifest = Manifest.open(folder, "encoder")
    title = f"{manifest.summary['encoder']}, {manifest.summary['images']} images"
    for path in paths:
        drawn = draw_curves(read_curves(folder), title)
        save_picture(drawn, path, {"skytwin": manifest.fingerprint})
    return written(list(paths))


def read_curves(folder: Path) -> dict[str, np.ndarray]:
    """The columns of ``curves.csv``."""
    table: Any = pc.read_csv(folder / CURVES)
    return {
        name: np.asarray(table[name].to_numpy(zero_copy_only=False), dtype=np.float64)
        for name in table.column_names
    }


def _first_last(curves: dict[str, np.ndarray], name: str) -> str:
    values = curves[name]
    return f"{values[0]:.4g} -> {values[-1]:.4g}" if len(values) > 1 else f"{values[-1]:.4g}"
