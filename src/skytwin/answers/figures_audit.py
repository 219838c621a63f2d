"""An audit as figures: how far the matches differ, and how far the list stays."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from skytwin.answers.audit import Audit
from skytwin.answers.figures_style import (
    BLUE,
    GREY,
    INK,
    VERMILLION,
    axes_or_new,
    shorten,
    styled,
)
from skytwin.errors import UsageError

__all__ = ["audit_effects", "audit_stability"]

_MOST = 40  # covariates
# Colour, marker and words of each verdict, the most worrying first.
_VERDICTS = {
    "shortcut": (VERMILLION, "D", "suspected shortcut"),
    "references only": ("#CC79A7", "P", "a defect of the references only"),
    "matches only": ("#E69F00", "^", "matches differ, references do not"),
    "shared": (BLUE, "s", "references and matches share it: wanted?"),
    "with the object": ("#56B4E9", "v", "explained by the objects' light"),
    "no difference": (GREY, "o", "no difference"),
}


@styled
def audit_effects(found: Audit, ax: Axes | None = None) -> Axes:
    """How far the matches differ from the controls in each covariate, with intervals.

    Small ticks are the references. The largest effects come first, up to 40.

    Parameters
    ----------
    found : Audit
    ax : Axes, optional
        Those of a new figure by default.

    Returns
    -------
    matplotlib.axes.Axes
    """
    rows = [row for row in found.differences.table.to_pylist() if row["delta"] is not None]
    order = list(_VERDICTS)
    rows.sort(key=lambda row: (order.index(row["verdict"]), -abs(row["delta"])))
    rows = rows[:_MOST]
    if not rows:
        raise UsageError("no covariate could be compared, so there is nothing to draw")
    ax = axes_or_new(ax, height_mm=30 + 4.2 * len(rows))
    least = found.settings["effect"]
    ax.axvspan(-least, least, color=GREY, alpha=0.13, linewidth=0)
    ax.axvline(0, color=INK, linewidth=0.6)
    for verdict, (colour, marker, words) in _VERDICTS.items():
        places = [place for place, row in enumerate(rows) if row["verdict"] == verdict]
        if not places:
            continue
        delta = np.array([rows[place]["delta"] for place in places])
        ends = np.array([(rows[p]["lower"], rows[p]["upper"]) for p in places])
        ax.errorbar(
            delta,
            places,
            xerr=np.stack([delta - ends[:, 0], ends[:, 1] - delta]).clip(min=0),
            fmt=marker,
            color=colour,
            markersize=3.5,
            elinewidth=0.9,
            capsize=1.5,
            capthick=0.8,
            label=words,
        )
    marked = [(p, r["references"]) for p, r in enumerate(rows) if r["references"] is not None]
    if marked:
        where, lean = zip(*marked, strict=True)
        ax.plot(lean, where, "|", color=INK, markersize=5, markeredgewidth=0.9, label="references")
    ax.set_yticks(range(len(rows)), [shorten(row["covariate"], 28) for row in rows])
    ax.tick_params(axis="y", length=0)
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.set_xlim(-1.04, 1.04)
    ax.set_xlabel("Cliff's delta of the matches over random others")
    ax.legend(loc="upper right", bbox_to_anchor=(1, -10 / (4.2 * len(rows))), ncols=1)
    return ax


@styled
def audit_stability(found: Audit, ax: Axes | None = None) -> Axes:
    """Share of the first matches that stays after each change, with intervals.

    Parameters
    ----------
    found : Audit
        With a stability test.
    ax : Axes, optional
        Those of a new figure by default.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    UsageError
        There was no such test.
    """
    if found.stability is None:
        raise UsageError("this audit has no stability test; give images, and stability above 0")
    rows = found.stability.to_pylist()
    ax = axes_or_new(ax, height_mm=26 + 6.5 * len(rows))
    place = np.arange(len(rows))
    for name, low, high, offset, colour, words in (
        ("share", "lower", "upper", -0.19, BLUE, "among random others"),
        ("close", "close_lower", "close_upper", 0.19, GREY, "among those ranked next"),
    ):
        if any(row[name] is None for row in rows):
            continue
        value, under, over = (np.array([row[key] for row in rows]) for key in (name, low, high))
        ax.barh(place + offset, value, 0.34, color=colour, label=words)
        ax.errorbar(
            value,
            place + offset,
            xerr=np.stack([value - under, over - value]).clip(min=0),
            fmt="none",
            ecolor=INK,
            elinewidth=0.8,
            capsize=1.5,
            capthick=0.8,
        )
    ax.set_yticks(place, [shorten(row["change"], 30) for row in rows])
    ax.tick_params(axis="y", length=0)
    ax.invert_yaxis()
    ax.set_xlim(0, 1.03)
    ax.xaxis.set_major_formatter(PercentFormatter(1.0))
    ax.set_xlabel(f"of the first {rows[0]['top']} matches stay")
    ax.legend(loc="upper right", bbox_to_anchor=(1, -10 / (6.5 * len(rows))), ncols=1)
    return ax
