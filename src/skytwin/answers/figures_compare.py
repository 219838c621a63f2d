"""Ways of searching side by side."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter, ScalarFormatter

from skytwin.answers.compare import Comparison
from skytwin.answers.figures_style import BLUE, INK, SERIES, axes_or_new, shorten, styled

__all__ = ["comparison"]

_MOST_LINES = 7


@styled
def comparison(found: Comparison, ax: Axes | None = None) -> Axes:
    """Purity by way of searching: a dot each, or curves over the number of references.

    Over the number of negatives where only that was varied. Bars and bands are intervals over
    the draws; the dashed line is the base rate. Of many ways the curves show the best seven.

    Parameters
    ----------
    found : Comparison
    ax : Axes, optional
        Those of a new figure by default.

    Returns
    -------
    matplotlib.axes.Axes
    """
    rows = found.table.to_pylist()
    label = f"purity of nearest {found.top}, {shorten(' or '.join(found.positive), 30)}"
    for axis in ("references", "negatives"):
        if len({row[axis] for row in rows}) > 1:
            ax = axes_or_new(ax)
            _curves(ax, rows, axis)
            ax.set_ylabel(label)
            ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
            ax.axhline(found.base.value, color=INK, linewidth=0.9, linestyle="--")
            ax.set_ylim(0, None)
            return ax
    ax = axes_or_new(ax, height_mm=12 + 6.0 * len(rows))
    places = np.arange(len(rows))[::-1]
    value = np.array([row["purity"] for row in rows])
    spread = np.array([[v - r["lower"], r["upper"] - v] for v, r in zip(value, rows, strict=True)])
    ax.errorbar(
        value, places, xerr=spread.T, fmt="o", color=BLUE, markersize=4, elinewidth=0.9, capsize=2
    )
    ax.set_yticks(places, [f"{row['metric']}, {row['combine']}" for row in rows])
    ax.axvline(found.base.value, color=INK, linewidth=0.9, linestyle="--", label="base rate")
    ax.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
    ax.set_xlim(0, None)
    ax.set_xlabel(label)
    ax.legend(loc="lower right")
    return ax


def _curves(ax: Axes, rows: list[dict[str, float]], axis: str) -> None:
    names: dict[tuple[object, object], None] = {}
    largest = max(row[axis] for row in rows)
    for row in sorted(rows, key=lambda r: -r["purity"]):
        if row[axis] == largest:
            names.setdefault((row["metric"], row["combine"]))
    for number, (metric, combine) in enumerate(list(names)[:_MOST_LINES]):
        # The other number, where it varies too, at its largest.
        own = [r for r in rows if (r["metric"], r["combine"]) == (metric, combine)]
        other = "negatives" if axis == "references" else "references"
        fixed = max(r[other] for r in own)
        line = sorted((r for r in own if r[other] == fixed), key=lambda r: r[axis])
        colour, marker = SERIES[number % len(SERIES)]
        along = [r[axis] for r in line]
        ax.fill_between(
            along,
            [r["lower"] for r in line],
            [r["upper"] for r in line],
            color=colour,
            alpha=0.12,
            linewidth=0,
        )
        ax.plot(
            along,
            [r["purity"] for r in line],
            color=colour,
            marker=marker,
            markersize=4,
            label=f"{metric}, {combine}",
        )
    if axis == "references" and min(r[axis] for r in rows) > 0:
        ax.set_xscale("log")
        ax.set_xticks(sorted({r[axis] for r in rows}))
        ax.xaxis.set_major_formatter(ScalarFormatter())
        ax.minorticks_off()
    ax.set_xlabel(f"number of {'positive ' if axis == 'references' else ''}{axis}")
    ax.legend(loc="upper left", bbox_to_anchor=(0, -0.14), ncols=2)
