"""What distances mean, as figures: null distributions, reliability, drift."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullFormatter, PercentFormatter

from skytwin.answers.calibrate import Calibration
from skytwin.answers.drift import Drift
from skytwin.answers.figures_style import (
    BLUE,
    GREY,
    INK,
    VERMILLION,
    axes_or_new,
    styled,
)
from skytwin.answers.significance import Significance
from skytwin.errors import UsageError

__all__ = ["distance_drift", "null_distribution", "reliability_diagram"]

_BINS = 60


@styled
def null_distribution(found: Significance, ax: Axes | None = None) -> Axes:
    """Distances to groups of other objects, with the matches marked below.

    Parameters
    ----------
    found : Significance
    ax : Axes, optional
        Those of a new figure by default.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    UsageError
        There is no match.
    """
    if not len(found):
        raise UsageError("no matches to hold against chance; widen the radius")
    ax = axes_or_new(ax, height_mm=60)
    low = min(float(found.distance[0]), float(found.null_random[0]), float(found.null[0]))
    high = max(*(float(np.quantile(null, 0.999)) for null in (found.null, found.null_random)),
               float(found.distance[-1]))  # fmt: skip
    bins = np.linspace(low, high, _BINS + 1)
    objects = "1 object" if found.references == 1 else f"{found.references} objects"
    _outline(ax, found.null_random, bins, GREY, f"to {objects} at random", filled=True)
    if found.references > 1 and found.null is not found.null_random:
        _outline(ax, found.null, bins, INK, f"to {objects} as alike as the references")
    ax.set_yscale("log")
    # 0.001, not 10 to a small -3.
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.yaxis.set_minor_formatter(NullFormatter())
    ax.set_ylabel("share of all objects, per bin")
    # Below the axis' foot, so that no bar hides them.
    ax.plot(
        found.distance,
        np.full(len(found), -0.035),
        "|",
        transform=ax.get_xaxis_transform(),
        color=VERMILLION,
        markersize=7,
        markeredgewidth=0.6,
        clip_on=False,
        label=f"{len(found)} matches",
    )
    ax.axvline(found.distance[-1], color=VERMILLION, linewidth=0.8, linestyle=":")
    ax.tick_params(axis="x", pad=6)
    ax.set_xlabel("distance")
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=1, borderaxespad=0.2)
    return ax


def _outline(
    ax: Axes, values: np.ndarray, bins: np.ndarray, colour: str, label: str, *, filled: bool = False
) -> None:
    weights = np.full(len(values), 1 / max(len(values), 1))
    edges = [float(edge) for edge in bins]
    if filled:
        ax.hist(values, bins=edges, weights=weights, color=colour, alpha=0.55, label=label)
    else:
        ax.hist(
            values, bins=edges, weights=weights, histtype="step", color=colour, linewidth=1.2,
            label=label,
        )  # fmt: skip


@styled
def reliability_diagram(found: Calibration, ax: Axes | None = None) -> Axes:
    """What came true of held-out predictions, bin by bin, with intervals and numbers of objects.

    Parameters
    ----------
    found : Calibration
    ax : Axes, optional
        Those of a new figure by default.

    Returns
    -------
    matplotlib.axes.Axes
    """
    ax = axes_or_new(ax, height_mm=80)
    bins = found.reliability
    ax.plot([0, 1], [0, 1], color=INK, linewidth=0.9, linestyle="--", label="as predicted")
    ax.axhline(
        found.base.value,
        color=GREY,
        linewidth=0.9,
        linestyle=":",
        label=f"base rate {100 * found.base.value:.3g}%",
    )
    ax.errorbar(
        bins.predicted,
        bins.observed,
        yerr=np.array([bins.observed - bins.lower, bins.upper - bins.observed]).clip(min=0),
        fmt="o",
        color=BLUE,
        markersize=4,
        elinewidth=0.9,
        capsize=2,
        capthick=0.9,
        label=f"{found.method}, held out, {found.level:.0%} intervals",
    )
    for x, y, count in zip(bins.predicted, bins.upper, bins.count, strict=True):
        ax.annotate(str(count), (x, y), (0, 2), textcoords="offset points", ha="center", fontsize=6)
    ax.set_xlim(-0.02, 1.02)
    ax.set_ylim(-0.02, 1.08)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    ax.set_xlabel("predicted probability")
    ax.set_ylabel("share that is positive")
    ax.legend(loc="upper left")
    return ax


@styled
def distance_drift(found: Drift, ax: Axes | None = None) -> Axes:
    """Distances of two surveys to the same references, each as shares of its own number.

    Parameters
    ----------
    found : Drift
    ax : Axes, optional
        Those of a new figure by default.

    Returns
    -------
    matplotlib.axes.Axes
    """
    ax = axes_or_new(ax, height_mm=60)
    both = np.concatenate([found.distances_here, found.distances_there])
    low, high = (float(end) for end in np.quantile(both, [0, 0.999]))
    bins = np.linspace(low, high, _BINS + 1)
    here, there = found.distances_here, found.distances_there
    _outline(ax, here, bins, GREY, f"here, {len(here)} objects", filled=True)
    _outline(ax, there, bins, BLUE, f"there, {len(there)} objects")
    if found.threshold is not None:
        ax.axvline(
            found.threshold, color=VERMILLION, linewidth=0.8, linestyle=":", label="threshold"
        )
    ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
    ax.set_ylabel("share of each, per bin")
    ax.set_xlabel("distance")
    ax.set_title(f"KS {found.ks}")
    ax.legend(loc="best")
    return ax
