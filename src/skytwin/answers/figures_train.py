"""Curves of a training run."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

__all__ = ["draw_curves"]

_MOST_LAYERS = 12


def draw_curves(curves: Mapping[str, np.ndarray], title: str) -> Figure:
    """Loss of training and validation, and what else was measured, over the epochs.

    Parameters
    ----------
    curves : mapping of str to ndarray
        Columns of ``curves.csv``; NaN where nothing was measured.
    title : str

    Returns
    -------
    matplotlib.figure.Figure
    """
    epoch = curves["epoch"]
    panels: list[tuple[str, list[tuple[str, str]]]] = [
        ("loss", [("loss", "training"), ("validation_loss", "validation")])
    ]
    if "knn_accuracy" in curves:
        shown = [("knn_accuracy", "kNN probe"), ("knn_base_rate", "most frequent class")]
        panels.append(("accuracy (validation)", shown))
    layers = sorted(
        (name for name in curves if name.startswith("validation_kl_")),
        key=lambda name: int(name.rpartition("_")[2]),
    )
    if layers:
        some = layers[:: -(-len(layers) // _MOST_LAYERS)]
        panels.append(("KL per layer (nats)", [(n, n.rpartition("_")[2]) for n in some]))
    elif "vector_spread" in curves:
        panels.append(("spread of the vectors", [("vector_spread", "0: collapsed, 1: sphere")]))
    figure = Figure(figsize=(4.2 * len(panels), 3.4), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False)
    for axis, (name, lines) in zip(axes[0], panels, strict=True):
        for column, label in lines:
            if column in curves:
                marker = "." if len(epoch) < 30 else ""
                axis.plot(epoch, curves[column], label=label, marker=marker)
        axis.set(xlabel="epoch", ylabel=name)
        axis.legend(fontsize="small", ncols=2 if len(lines) > 6 else 1)
        axis.grid(alpha=0.3)
    figure.suptitle(title, fontsize="medium")
    return figure
