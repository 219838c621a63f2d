"""Figures of a study of radio galaxies that no single verb draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from skytwin.answers.figures_mosaic import Grid, Look, Tile
from skytwin.answers.figures_style import (
    BLUE,
    GREY,
    INK,
    SERIES,
    VERMILLION,
    new_figure,
    shorten,
    styled,
)
from skytwin.images.cutouts import Cutouts

__all__ = ["chosen_scores", "densities", "lowest"]

_TICKS: dict[str, Any] = {"labelsize": 7, "width": 0.6, "length": 2.5}
Rows = Sequence[Mapping[str, Any]]


@styled
def chosen_scores(rows: Rows) -> Figure:
    """Accuracy and AUC of the chosen classifiers, one line a representation, the paper's below.

    Parameters
    ----------
    rows : sequence of dict
        ``encoder``, ``rule``, ``classifier``, ``accuracy``, ``auc`` with ends, ``base_rate``.
    """
    names = list(dict.fromkeys(row["encoder"] for row in rows))
    rules = list(dict.fromkeys(row["rule"] for row in rows))
    figure = new_figure(170, 24 + 8.5 * len(names))
    panels = figure.subplots(1, 2, sharey=True)
    looks = ((BLUE, "o"), (VERMILLION, "^"), (INK, "s"))
    for ax, metric, label in zip(
        panels, ("accuracy", "auc"), ("accuracy", "area under the ROC curve"), strict=True
    ):
        ax.tick_params(**_TICKS)
        for number, (rule, (colour, marker)) in enumerate(zip(rules, looks, strict=False)):
            shift = (0.17, -0.17, 0.0)[number]
            for row in (each for each in rows if each["rule"] == rule):
                y = -names.index(row["encoder"]) + shift
                ends = row.get(f"{metric}_lower"), row.get(f"{metric}_upper")
                if ends[0] is not None:
                    ax.plot(ends, [y, y], color=colour, linewidth=0.9)
                ax.plot(row[metric], y, marker, color=colour, markersize=3.8)
        if metric == "accuracy":
            ax.axvline(rows[0]["base_rate"], color=INK, linewidth=0.9, linestyle="--")
        else:
            ax.axvline(0.5, color=INK, linewidth=0.9, linestyle="--")
        ax.set_xlabel(label)
        ax.set_xlim(None, 1.005)
    panels[0].set_yticks([-place for place in range(len(names))], [shorten(n, 38) for n in names])
    panels[0].set_ylim(-len(names) + 0.4, 0.6)
    for rule, (colour, marker) in zip(rules, looks, strict=False):
        panels[0].plot([], [], marker, color=colour, markersize=3.8, label=rule)
    panels[0].plot([], [], color=INK, linewidth=0.9, linestyle="--", label="base rate, or chance")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4)
    return figure


@styled
def densities(sets: Mapping[str, np.ndarray]) -> Figure:
    """Log-likelihood of every set on one axis, on the left and right its extremes piled up.

    Parameters
    ----------
    sets : mapping of str to ndarray, shape (n,)
        The reference first.
    """
    figure = new_figure(140, 72)
    ax = figure.add_subplot()
    ax.tick_params(**_TICKS)
    values = list(sets.values())
    first = values[0][np.isfinite(values[0])]
    low, high = np.quantile(first, [0.005, 0.999])
    edges = np.linspace(low - 0.5 * (high - low), high + 0.1 * (high - low), 61)
    for (name, given), (colour, _) in zip(sets.items(), SERIES, strict=False):
        # What is infinitely unlikely is piled up with the rest.
        clipped = np.clip(np.nan_to_num(given, nan=edges[0]), edges[0], edges[-1])
        ax.hist(
            clipped, bins=edges.tolist(), weights=np.full(len(given), 1 / len(given)),
            histtype="step", color=colour, linewidth=1.2,
            label=f"{shorten(name, 34)} ({len(given)})",
        )  # fmt: skip
    if any((given < edges[0]).any() for given in values):
        ax.annotate(
            "all below", (0.0, 1.0), xycoords="axes fraction", ha="left", va="bottom", fontsize=6,
            color=GREY,
        )  # fmt: skip
    ax.set_xlim(edges[0], edges[-1])
    ax.set_xlabel("log-likelihood (nats)")
    ax.set_ylabel("share of the set")
    ax.legend(loc="upper left" if np.median(first) > edges.mean() else "upper right")
    return figure


@styled
def lowest(
    cutouts: Cutouts, names: Sequence[str], left: Sequence[str], below: Sequence[str],
    caption: str, *, side: int, crop: int | None,
) -> Figure:  # fmt: skip
    """Pictures in order, each with words above and below.

    Parameters
    ----------
    cutouts : Cutouts
    names : sequence of str
        Identifiers, at most ``side`` squared.
    left, below : sequence of str
    caption : str
    side : int
    crop : int or None
        Central pixels to show.
    """
    pictures = Look(display=None, crop=crop).pictures(
        cutouts, [cutouts.index[name] for name in names]
    )
    grid = Grid(side, pictures.shape[1:3], caption, labelled=True, referenced=False)
    for number, picture in enumerate(pictures):
        tile = Tile(picture=picture, left=left[number], below=below[number])
        grid.draw(tile, number // side, number % side)
    return grid.figure
