"""Outliers drawn: histograms of scores, distances to neighbours, the oddest as a mosaic."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from skytwin.answers.figures_mosaic import (
    Grid,
    Look,
    Tile,
    cell,
    encoded,
    scale_bar,
)
from skytwin.answers.figures_style import (
    GREY,
    SERIES,
    VERMILLION,
    new_figure,
    shorten,
    styled,
)
from skytwin.answers.outliers import Outliers
from skytwin.answers.outliers_sets import ENSEMBLE
from skytwin.errors import UsageError
from skytwin.images.cutouts import Cutouts
from skytwin.images.display import Display

__all__ = ["neighbour_distances", "oddest", "score_histograms"]

_BINS = 50
_NAMED = 5
_LABELS = {
    "knn": "mean distance to the 10 nearest",
    "mahalanobis": "Mahalanobis distance",
    "forest": "isolation forest score",
    "flow": "log-likelihood (nats)",
    ENSEMBLE: "mean of the percentiles",
}
_MOST_SIDE = 40


@styled
def score_histograms(found: Outliers) -> Figure:
    """Scores of every set on one axis, a panel for each method and one for all together.

    The likelihood is drawn as it is, the oddest on the left; all others have them on the right.
    What lies far beyond the reference is piled up in the last bin.
    """
    names = list(found.settings.methods) + ([ENSEMBLE] if len(found.settings.methods) > 1 else [])
    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    figure = new_figure(62 * columns, 46 * rows + 8)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax, method in zip(panels, names, strict=False):
        _histogram(ax, found, method)
    for ax in panels[len(names) :]:
        ax.set_axis_off()
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=min(4, len(labels)), fontsize=7)
    return figure


def _histogram(ax: Axes, found: Outliers, method: str) -> None:
    ax.tick_params(labelsize=7, width=0.6, length=2.5)
    sign = -1.0 if method == "flow" else 1.0
    values = {}
    for name, scored in found.sets.items():
        given = scored.scores[method]
        values[name] = sign * given[~np.isnan(given)]
    low, high, piled = _range(list(values.values()), sign)
    for (name, given), (colour, _) in zip(values.items(), SERIES, strict=False):
        edges = np.linspace(low, high, _BINS + 1)
        weights = np.full(len(given), 1 / max(len(given), 1))
        ax.hist(
            np.clip(given, low, high), bins=edges.tolist(), weights=weights, histtype="step",
            color=colour, linewidth=1.1, label=f"{shorten(name, 24)} ({len(given)})",
        )  # fmt: skip
    if piled:
        side = "left" if sign < 0 else "right"
        ax.annotate(
            "all beyond" if side == "right" else "all below",
            (1.0 if side == "right" else 0.0, 1.0), xycoords="axes fraction", ha=side, va="top",
            fontsize=5.5, color=GREY,
        )  # fmt: skip
    ax.set_xlim(low, high)
    ax.set_xlabel(_LABELS[method])
    ax.set_ylabel("share of the set")


def _range(values: list[np.ndarray], sign: float) -> tuple[float, float, bool]:
    """From the least odd of all to as far beyond the reference as it is wide, or to the oddest."""
    finite = [each[np.isfinite(each)] for each in values]
    reference = sign * finite[0]
    every = sign * np.concatenate(finite)
    low, top = float(every.min()), float(every.max())
    ordinary, far = np.quantile(reference, [0.001, 0.999])
    limit = min(top, float(far + 1.5 * (far - ordinary)))
    low = max(low, float(ordinary - 1.5 * (far - ordinary)))
    if limit <= low:
        limit = low + 1.0
    infinite = any(not np.isfinite(each).all() for each in values)
    ends = (low, limit) if sign > 0 else (-limit, -low)
    return *ends, top > limit or infinite


@styled
def neighbour_distances(found: Outliers) -> Figure:
    """How far the nearest and the 25th neighbour are: all objects, and the five oddest."""
    figure = new_figure(140, 62)
    order = found.order[:_NAMED]
    for ax, place, label in zip(
        figure.subplots(1, 2), (0, -1), ("nearest", f"{found.scored.near.k}th"),
        strict=True,
    ):  # fmt: skip
        ax.tick_params(labelsize=7, width=0.6, length=2.5)
        ordinary = found.reference.near.distance[:, place]
        odd = found.scored.near.distance[order, place]
        ends = min(ordinary.min(), odd.min()), max(ordinary.max(), odd.max())
        ax.hist(ordinary, bins=_BINS, range=ends, histtype="stepfilled", color=GREY, alpha=0.5)
        for rank, value in enumerate(odd, start=1):
            ax.axvline(value, color=VERMILLION, linewidth=0.8)
            ax.annotate(
                str(rank), (value, 1.0 - 0.07 * (rank - 1)), xycoords=("data", "axes fraction"),
                xytext=(-1.5, 0), textcoords="offset points", ha="right", va="top", fontsize=6,
                color=VERMILLION,
            )  # fmt: skip
        ax.set_xlabel(f"distance to the {label} reference object")
    figure.axes[0].set_ylabel("reference objects")
    figure.axes[0].set_title(f"in red the {len(order)} oddest, by rank")
    return figure


@styled
def oddest(
    found: Outliers,
    side: int = 6,
    *,
    cutouts: Cutouts | None = None,
    display: Display | None = None,
) -> Figure:
    """The oddest ``side`` x ``side`` objects, with rank, ensemble percentile and label.

    Raises
    ------
    UsageError
        The cutouts are not to be found; see `Embeddings.cutouts`.
    """
    if not 1 <= side <= _MOST_SIDE:
        raise UsageError(f"a mosaic of {side} x {side}; expected a side of 1 to {_MOST_SIDE}")
    source = cutouts if cutouts is not None else found.embeddings.cutouts()
    order = found.order[: side * side]
    part = found.scored.part
    rows = part.rows[order]
    names = part.embeddings.names(rows)
    look = Look(display=display, crop=encoded(part.embeddings))
    pictures = look.pictures(source, [source.index[name] for name in names])
    below = [""] * len(names)
    if found.label is not None:
        values = part.embeddings.column(found.label).take(rows).to_pylist()
        below = [cell(value) for value in values]
    percentiles = found.scored.percentiles[ENSEMBLE][order]
    grid = Grid(
        side,
        pictures.shape[1:3],
        f"oddest of {len(part.rows)}; percentile among {shorten(found.reference.part.name, 24)}",
        labelled=found.label is not None,
        referenced=False,
    )
    first: Axes | None = None
    for number, picture in enumerate(pictures):
        tile = Tile(
            picture=picture,
            left=str(number + 1),
            right=f"{percentiles[number]:.2f}",
            below=below[number],
        )
        axes = grid.draw(tile, number // side, number % side)
        first = first or axes
    if first is not None and source.pixel_scale is not None:
        scale_bar(first, source.pixel_scale, pictures.shape[2])
    return grid.figure
