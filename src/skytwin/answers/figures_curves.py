"""Purity, composition, distances and ablations as figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter, PercentFormatter

from skytwin.answers.figures_style import (
    BLUE,
    GREY,
    INK,
    SERIES,
    VERMILLION,
    axes_or_new,
    distance_label,
    shorten,
    styled,
)
from skytwin.answers.intervals import Proportion
from skytwin.answers.purity import Composition, PurityCurve, Threshold
from skytwin.answers.search import Matches
from skytwin.errors import UsageError, unknown

__all__ = ["ablation", "composition", "distance_histogram", "purity_curve"]

_MOST_POINTS = 1500  # of a curve: more than a page can show
_MOST_CLASSES = 12
_FEW = 20  # objects: below that, an interval's width says more of them than of the purity


@styled
def purity_curve(
    curve: PurityCurve,
    ax: Axes | None = None,
    *,
    threshold: Threshold | None = None,
    x: Literal["distance", "count"] = "distance",
    log_x: bool | None = None,
) -> Axes:
    """Purity within every distance, with its interval, above the base rate with its own.

    Parameters
    ----------
    curve : PurityCurve
    ax : Axes, optional
        Those of a new figure by default.
    threshold : Threshold, optional
        A cut to mark.
    x : {"distance", "count"}
        What runs to the right: distance, with the number of objects within on the upper axis,
        or that number itself.
    log_x : bool, optional
        Logarithmic; by default for ``count``.

    Returns
    -------
    matplotlib.axes.Axes
    """
    if x not in ("distance", "count"):
        raise unknown("horizontal axis", x, ("distance", "count"))
    ax = axes_or_new(ax)
    keep = _thin(curve.count)
    along = (curve.distance if x == "distance" else curve.count)[keep]
    level = f"{curve.base.level:.0%} interval"
    lower, upper = curve.interval(keep)
    ax.fill_between(
        along,
        lower,
        upper,
        step="post",
        color=BLUE,
        alpha=0.2,
        linewidth=0,
        label=level,
    )
    ax.step(along, curve.purity[keep], where="post", color=BLUE, label="purity")
    _base_line(ax, curve.base, f"base rate {_percent(curve.base.value)}")
    if threshold is not None:
        at = threshold.distance if x == "distance" else threshold.within.total
        ax.axvline(at, color=VERMILLION, linewidth=0.8, linestyle=":")
        ax.plot(
            at,
            threshold.within.value,
            "o",
            color=VERMILLION,
            markersize=4,
            label=f"{_percent(threshold.within.value)} of {threshold.within.total} objects "
            f"within {threshold.distance:.4g}",
        )
    if log_x if log_x is not None else x == "count":
        _log_axis(ax)
    ax.margins(x=0.02)
    ax.set_ylim(0, _ceiling(curve, keep))
    ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
    ax.set_ylabel(_purity_label(curve))
    if x == "distance":
        ax.set_xlabel(distance_label(curve))
        _count_axis(ax, curve)
    else:
        ax.set_xlabel("nearest objects")
    ax.legend(loc="upper right", frameon=True, framealpha=0.85, edgecolor="none")
    return ax


def _thin(count: np.ndarray) -> np.ndarray:
    """Points to draw, evenly in the logarithm of the count: purity moves by at most 1/count."""
    if len(count) <= _MOST_POINTS:
        return np.arange(len(count))
    wanted = np.geomspace(1, count[-1], _MOST_POINTS)
    return np.unique(np.minimum(np.searchsorted(count, wanted), len(count) - 1))


def _base_line(ax: Axes, base: Proportion, label: str) -> None:
    ax.axhspan(base.lower, base.upper, color=GREY, alpha=0.25, linewidth=0)
    ax.axhline(base.value, color=INK, linewidth=0.9, linestyle="--", label=label)


def _ceiling(curve: PurityCurve, drawn: np.ndarray) -> float:
    settled = drawn[curve.count[drawn] >= min(_FEW, curve.count[-1])]
    highest = max(curve.purity.max(), curve.interval(settled)[1].max(), curve.base.upper)
    return float(min(1.08 * highest, 1.03))


def _log_axis(ax: Axes) -> None:
    ax.set_xscale("log")
    # 1000, not 10 to a small 3.
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.xaxis.set_minor_formatter(NullFormatter())


def _count_axis(ax: Axes, curve: PurityCurve) -> None:
    """Decades of the number of objects within, above their distances."""
    upper = ax.secondary_xaxis("top")
    low, high = ax.get_xlim()
    places: list[float] = []
    labels: list[str] = []
    for count in [10**power for power in range(8, -1, -1)]:
        if count > curve.count[-1]:
            continue
        at = float(curve.distance[np.searchsorted(curve.count, count)])
        if all(abs(at - other) > 0.09 * (high - low) for other in places):
            places.append(at)
            labels.append(str(count))
    upper.set_xticks(places, labels)
    upper.tick_params(labelsize=7, width=0.6, length=2.5, labelcolor=INK, color=INK)
    upper.spines["top"].set_visible(True)
    upper.set_xlabel("objects within", labelpad=3)


@styled
def composition(comp: Composition, ax: Axes | None = None) -> Axes:
    """Each class's share of the nearest objects beside its base rate, with intervals.

    The text at the right of a class is its lift: share over base rate.

    Parameters
    ----------
    comp : Composition
    ax : Axes, optional
        Those of a new figure by default.

    Returns
    -------
    matplotlib.axes.Axes
    """
    classes, share, base = list(comp.classes), list(comp.share), list(comp.base)
    if len(classes) > _MOST_CLASSES:
        kept = _MOST_CLASSES - 1
        classes = [*classes[:kept], f"{len(classes) - kept} others"]
        share = [*share[:kept], _sum(share[kept:])]
        base = [*base[:kept], _sum(base[kept:])]
    ax = axes_or_new(ax, height_mm=24 + 7.5 * len(classes))
    place = np.arange(len(classes))
    for parts, offset, colour, label in (
        (share, -0.2, BLUE, f"nearest {comp.top}"),
        (base, 0.2, GREY, f"all {base[0].total} (base rate)"),
    ):
        values = np.array([part.value for part in parts])
        ax.barh(place + offset, values, 0.36, color=colour, label=label)
        ax.errorbar(
            values,
            place + offset,
            xerr=_spread(parts),
            fmt="none",
            ecolor=INK,
            elinewidth=0.8,
            capsize=1.5,
            capthick=0.8,
        )
    for row, (one, other) in enumerate(zip(share, base, strict=True)):
        ax.text(
            max(one.upper, other.upper),
            row,
            f"  ×{one.value / other.value:.2g}",
            va="center",
            fontsize=7,
        )
    ax.set_yticks(place, [shorten(name, 24) for name in classes])
    ax.tick_params(axis="y", length=0)
    ax.invert_yaxis()
    ax.set_xlim(0, max(p.upper for p in (*share, *base)) * 1.14)
    ax.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
    ax.set_xlabel("share")
    ax.set_ylabel(shorten(comp.column, 40))
    ax.legend(loc="lower right")
    return ax


def _sum(parts: Sequence[Proportion]) -> Proportion:
    return Proportion.of(sum(part.hits for part in parts), parts[0].total, parts[0].level)


def _spread(parts: Sequence[Proportion]) -> np.ndarray:
    """Lengths of error bars, shape (2, n)."""
    return np.array([[p.value - p.lower for p in parts], [p.upper - p.value for p in parts]]).clip(
        min=0
    )


@styled
def distance_histogram(found: Matches | PurityCurve, ax: Axes | None = None) -> Axes:
    """How far the objects are.

    Parameters
    ----------
    found : Matches or PurityCurve
        Of matches, their distances; of a curve, those of the positives and of the others, each
        as shares of its own number, so that rare positives are seen.
    ax : Axes, optional
        Those of a new figure by default.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    UsageError
        There is not one distance.
    """
    if not len(found):
        raise UsageError("no matches, so no distances to draw; widen the radius")
    ax = axes_or_new(ax, height_mm=60)
    if isinstance(found, Matches):
        ax.hist(
            found.distance,
            bins=_bins(found.distance, 30),
            color=BLUE,
            edgecolor="white",
            linewidth=0.4,
        )
        ax.set_ylabel("matches")
        ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    else:
        hits = np.diff(found.positives, prepend=0)
        others = np.diff(found.count, prepend=0) - hits
        bins = _bins(np.repeat(found.distance, hits + others), 60)
        ax.hist(
            found.distance,
            bins=bins,
            weights=others / max(others.sum(), 1),
            color=GREY,
            alpha=0.55,
            label=f"{others.sum()} others",
        )
        ax.hist(
            found.distance,
            bins=bins,
            weights=hits / hits.sum(),
            histtype="step",
            color=BLUE,
            linewidth=1.2,
            label=f"{hits.sum()} {_positive(found)}",
        )
        ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
        ax.set_ylabel("share of each, per bin")
        ax.legend(loc="best")
    ax.set_xlabel(distance_label(found))
    return ax


def _bins(distance: np.ndarray, most: int) -> list[float]:
    edges = np.histogram_bin_edges(distance, "auto")
    if len(edges) > most + 1:
        edges = np.histogram_bin_edges(distance, most)
    return [float(edge) for edge in edges]


@styled
def ablation(
    curves: Mapping[str, PurityCurve],
    ax: Axes | None = None,
    counts: Sequence[int] = (25, 100, 1000),
) -> Axes:
    """Purity of several searches side by side, at some numbers of nearest objects.

    Parameters
    ----------
    curves : mapping of str to PurityCurve
        Names, as they stand in the legend, and what was found.
    ax : Axes, optional
        Those of a new figure by default.
    counts : sequence of int
        Left out where a set has fewer labelled objects.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    UsageError
        Nothing to draw.
    """
    counts = [n for n in counts if any(1 <= n <= c.base.total for c in curves.values())]
    if not counts:
        raise UsageError("no purity to compare; give curves, and counts that they reach")
    ax = axes_or_new(ax)
    bases = [curve.base for curve in curves.values()]
    one_base = np.ptp([b.value for b in bases]) < 0.1 * min(b.upper - b.lower for b in bases)
    step = 0.7 / max(len(curves), 1)
    for number, (name, curve) in enumerate(curves.items()):
        colour, marker = SERIES[number % len(SERIES)]
        offset = (number - (len(curves) - 1) / 2) * step
        reached = [place for place, n in enumerate(counts) if n <= curve.base.total]
        parts = [curve.at_count(counts[place]).within for place in reached]
        along = np.array(reached) + offset
        values = [part.value for part in parts]
        ax.errorbar(
            along,
            values,
            yerr=_spread(parts),
            fmt=marker,
            color=colour,
            markersize=4,
            elinewidth=0.9,
            capsize=2,
            capthick=0.9,
            label=shorten(name, 32),
        )
        if not one_base:
            for at in along:
                ax.plot(
                    [at - 0.4 * step, at + 0.4 * step],
                    [curve.base.value] * 2,
                    color=colour,
                    linewidth=0.9,
                    linestyle="--",
                )
    if one_base:
        _base_line(ax, bases[0], f"base rate {_percent(bases[0].value)}")
    else:
        ax.plot([], [], color=INK, linewidth=0.9, linestyle="--", label="its base rate")
    ax.set_xticks(range(len(counts)), [f"nearest {count}" for count in counts])
    ax.tick_params(axis="x", length=0)
    ax.set_xlim(-0.5, len(counts) - 0.5)
    ax.set_ylim(0, min(1.03, ax.get_ylim()[1]))
    ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
    ax.set_ylabel(_purity_label(next(iter(curves.values()))))
    columns = 2 if max(map(len, curves)) <= 20 else 1
    ax.legend(loc="upper left", bbox_to_anchor=(0, -0.1), ncols=columns, columnspacing=1.2)
    return ax


def _percent(value: float) -> str:
    return f"{100 * value:.3g}%"


def _positive(curve: PurityCurve) -> str:
    return shorten(" or ".join(curve.positive), 30)


def _purity_label(curve: PurityCurve) -> str:
    return f"purity, {_positive(curve)}"
