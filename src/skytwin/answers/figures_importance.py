"""Importance of components against their mean value (Andrianomena & Tang 2023, figure 7)."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from skytwin.answers.figures_style import BLUE, GREY, INK, VERMILLION, new_figure, styled
from skytwin.answers.importance import Importance

__all__ = ["importances"]

_NAMED = 6


@styled
def importances(found: Importance) -> Figure:
    """Mean value of each component against its importance: impurity, and permutation.

    The components first by permutation are numbered; those that lose no more R2 than another one
    gains are grey. Where the forest predicts nothing the title says so.
    """
    figure = new_figure(160, 76)
    left, right = figure.subplots(1, 2, sharey=True)
    columns = {name: found.table[name].to_numpy() for name in found.table.column_names}
    counts = columns["permutation"] > found.noise
    for ax, name, label in (
        (left, "impurity", "impurity importance (training)"),
        (right, "permutation", "R2 lost when shuffled (held out)"),
    ):
        _panel(ax, columns, name, counts)
        ax.set_xlabel(label)
    named = np.flatnonzero(counts)[:_NAMED]
    right.errorbar(
        columns["permutation"][named], columns["mean"][named],
        xerr=columns["permutation_sd"][named], fmt="none", ecolor=VERMILLION, elinewidth=0.8,
    )  # fmt: skip
    for at in (-found.noise, found.noise):
        right.axvline(at, color=INK, linewidth=0.6, linestyle=":")
    left.set_ylabel("mean value of the component")
    said = f"R2 {found.r2:.2f} [{found.lower:.2f}, {found.upper:.2f}] on {found.tested} held out"
    left.set_title(f"{found.target}; {said}")
    if not found.predicts:
        right.set_title("not predicted: importances mean nothing", color=VERMILLION)
    return figure


def _panel(ax: Axes, columns: dict[str, np.ndarray], name: str, counts: np.ndarray) -> None:
    ax.tick_params(labelsize=7, width=0.6, length=2.5)
    for which, colour in ((~counts, GREY), (counts, BLUE)):
        ax.scatter(
            columns[name][which], columns["mean"][which], s=7, color=colour, linewidths=0,
            alpha=0.7, rasterized=True,
        )  # fmt: skip
    for row in np.flatnonzero(counts)[:_NAMED]:
        place = (float(columns[name][row]), float(columns["mean"][row]))
        ax.scatter(*place, s=12, color=VERMILLION, linewidths=0, zorder=3)
        ax.annotate(
            str(columns["component"][row]), place, xytext=(3, 2), textcoords="offset points",
            fontsize=6, color=INK,
        )  # fmt: skip
