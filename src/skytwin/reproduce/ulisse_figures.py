"""Figures of a ULISSE study that no single verb draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, PercentFormatter

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

__all__ = ["bands", "carried", "curves", "ladder", "selected", "shares"]

_WIDE = 180.0  # mm
_TICKS: dict[str, Any] = {"labelsize": 7, "width": 0.6, "length": 2.5}
Rows = Sequence[Mapping[str, Any]]


def _panels(count: int, height_mm: float, *, share_y: bool = False) -> tuple[Figure, list[Any]]:
    columns = min(count, 3)
    lines = -(-count // columns)
    figure = new_figure(max(90.0, _WIDE * columns / 3), height_mm * lines)
    axes = figure.subplots(lines, columns, squeeze=False, sharey=share_y).ravel()
    for ax in axes:
        ax.tick_params(**_TICKS)
    for ax in axes[count:]:
        ax.set_axis_off()
    return figure, list(axes[:count])


@styled
def curves(rows: Rows, titles: Mapping[str, str], lines: Mapping[str, np.ndarray]) -> Figure:
    """Purity against how much of the set is taken in, one panel a class.

    Parameters
    ----------
    rows : sequence of dict
        ``kind``, ``way``, ``share``, ``purity``, ``purity_lower``, ``purity_upper``, ``base_rate``.
    titles : mapping
        Ways and how the legend calls them, the paper's first.
    lines : mapping
        Kind to purity of every single prototype the paper's way, shape (draws, shares).
    """
    kinds = list(dict.fromkeys(row["kind"] for row in rows))
    figure, axes = _panels(len(kinds), 66)
    for ax, kind in zip(axes, kinds, strict=True):
        own = [row for row in rows if row["kind"] == kind]
        for number, way in enumerate(titles):
            line = [row for row in own if row["way"] == way]
            if not line:
                continue
            x = np.array([row["share"] for row in line])
            colour = SERIES[number % len(SERIES)][0]
            if number == 0:
                ax.plot(x, lines[kind].T, color=colour, alpha=0.18, linewidth=0.5)
            ax.fill_between(
                x,
                [row["purity_lower"] for row in line],
                [row["purity_upper"] for row in line],
                color=colour,
                alpha=0.2,
                linewidth=0,
            )
            ax.plot(x, [row["purity"] for row in line], color=colour, label=titles[way])
        ax.axhline(own[0]["base_rate"], color=INK, linewidth=0.9, linestyle="--", label="base rate")
        ax.set_xscale("log")
        ax.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{100 * v:g}%"))
        ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
        ax.set_ylim(0, None)
        ax.set_title(shorten(kind, 34))
        ax.set_xlabel("nearest, share of the set")
    axes[0].set_ylabel("purity")
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=2)
    return figure


@styled
def carried(
    rows: Rows, paper: Sequence[tuple[str, float, float]], base: Mapping[str, float]
) -> Figure:
    """Lift where a threshold was chosen against lift where it was carried, one panel a rule.

    Parameters
    ----------
    rows : sequence of dict
        ``kind``, ``rule``, ``lift_here``, ``lift_there`` of every prototype.
    paper : sequence of (name, lift here, lift there)
    base : mapping
        Kind to base rate, for the legend.
    """
    rules = list(dict.fromkeys(row["rule"] for row in rows))
    figure, axes = _panels(len(rules), 78)
    kinds = list(base)
    for ax, rule in zip(axes, rules, strict=True):
        for number, kind in enumerate(kinds):
            colour, marker = SERIES[number % len(SERIES)]
            own = [r for r in rows if (r["rule"], r["kind"]) == (rule, kind)]
            own = [r for r in own if np.isfinite(r["lift_there"])]
            ax.plot(
                [r["lift_here"] for r in own],
                [r["lift_there"] for r in own],
                marker,
                color=colour,
                markersize=3.5,
                alpha=0.7,
                label=f"{shorten(kind, 26)} (base {100 * base[kind]:.3g}%)",
            )
        for name, here, there in paper:
            ax.plot(here, there, "*", color=INK, markersize=8)
            ax.annotate(
                f"paper, {name}  ", (here, there), fontsize=6, va="bottom", ha="right", color=INK
            )
        top = max(*ax.get_xlim(), *ax.get_ylim())
        ax.plot([0, top], [0, top], color=GREY, linewidth=0.7, linestyle=":")
        ax.axhline(1, color=INK, linewidth=0.8, linestyle="--")
        ax.set_xlim(0, 1.04 * top)
        ax.set_ylim(-0.03 * top, 1.04 * top)
        ax.set_title(rule)
        ax.set_xlabel("lift on the first half")
    axes[0].set_ylabel("lift on the second half")
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=min(len(kinds), 3))
    return figure


@styled
def shares(rows: Rows, top: int) -> Figure:
    """Each class's share of the nearest beside its base rate, a panel per class of prototypes."""
    kinds = list(dict.fromkeys(row["kind"] for row in rows))
    classes = len({row["class"] for row in rows})
    figure, axes = _panels(len(kinds), 22 + 6.5 * classes, share_y=True)
    for ax, kind in zip(axes, kinds, strict=True):
        own = sorted((r for r in rows if r["kind"] == kind), key=lambda r: r["base_rate"])
        place = np.arange(len(own))
        value = np.array([row["share"] for row in own])
        error = np.array([[row["share_lower"] for row in own], [row["share_upper"] for row in own]])
        ax.barh(place + 0.2, value, 0.36, color=BLUE, label=f"nearest {top}")
        ax.errorbar(
            value,
            place + 0.2,
            xerr=np.abs(error - value),
            fmt="none",
            ecolor=INK,
            elinewidth=0.8,
            capsize=1.5,
        )
        ax.barh(place - 0.2, [row["base_rate"] for row in own], 0.36, color=GREY, label="base rate")
        ax.set_yticks(place, [shorten(row["class"], 20) for row in own])
        ax.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
        ax.set_title(f"prototypes: {shorten(kind, 26)}")
        ax.set_xlabel("share")
    axes[0].legend(loc="lower right")
    return figure


@styled
def bands(rows: Rows, cost: float) -> Figure:
    """Purity with one band less purity with three, one dot a prototype, one column a class."""
    kinds = list(dict.fromkeys((row["set"], row["kind"]) for row in rows))
    figure = new_figure(max(90.0, 24.0 * len(kinds) + 30), 70)
    ax = figure.add_subplot()
    ax.tick_params(**_TICKS)
    ax.axhspan(-cost, 0, color=GREY, alpha=0.18, linewidth=0, label="paper: costs up to this")
    ax.axhline(0, color=INK, linewidth=0.8)
    for number, key in enumerate(kinds):
        change = np.array([r["change"] for r in rows if (r["set"], r["kind"]) == key])
        spot = number + np.linspace(-0.22, 0.22, len(change))
        ax.plot(spot, change, "o", color=BLUE, markersize=3.5, alpha=0.75)
        ax.plot([number - 0.3, number + 0.3], [change.mean()] * 2, color=VERMILLION, linewidth=1.6)
    ax.set_xticks(range(len(kinds)), [f"{shorten(k, 16)}\n{shorten(s, 18)}" for s, k in kinds])
    ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{100 * v:+.0f}" if v else "0"))
    ax.set_ylabel("points of purity, one band less three")
    ax.legend(loc="best")
    return figure


@styled
def ladder(rows: Rows) -> Figure:
    """Purity step by step from the paper's way on, one panel a class."""
    kinds = list(dict.fromkeys(row["kind"] for row in rows))
    figure, axes = _panels(len(kinds), 24 + 6.5 * len({r["step"] for r in rows}), share_y=True)
    for ax, kind in zip(axes, kinds, strict=True):
        own = [row for row in rows if row["kind"] == kind]
        place = np.arange(len(own))[::-1]
        value = np.array([row["purity"] for row in own])
        ends = np.array([[row["lower"] for row in own], [row["upper"] for row in own]])
        ax.errorbar(
            value,
            place,
            xerr=np.abs(ends - value),
            fmt="o",
            color=BLUE,
            markersize=4,
            elinewidth=0.9,
            capsize=2,
        )
        ax.axvline(own[0]["base_rate"], color=INK, linewidth=0.9, linestyle="--")
        ax.set_yticks(place, [row["step"] for row in own])
        ax.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
        ax.set_xlim(0, None)
        ax.set_title(shorten(kind, 34))
        ax.set_xlabel("purity of the nearest 100" if own[0]["top"] == 100 else "purity")
    return figure


@styled
def selected(rows: Rows) -> Figure:
    """Share of each set within the threshold: chosen here, applied there, one panel a class."""
    kinds = list(dict.fromkeys(row["kind"] for row in rows))
    figure, axes = _panels(len(kinds), 64)
    for ax, kind in zip(axes, kinds, strict=True):
        own = [row for row in rows if row["kind"] == kind]
        here = np.array([row["share_here"] for row in own])
        there = np.array([row["share_there"] for row in own])
        ax.plot(range(len(own)), here, "_", color=INK, markersize=8, label="this survey")
        ax.plot(range(len(own)), there, "o", color=BLUE, markersize=4, label="the other survey")
        ax.set_xticks([])
        ax.set_yscale("symlog", linthresh=1e-3)
        ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{100 * v:g}%"))
        ax.set_ylim(-2e-4, 1.2)
        ax.set_title(shorten(kind, 34))
        ax.set_xlabel("prototypes")
    axes[0].set_ylabel("share within the threshold")
    axes[0].legend(loc="best")
    return figure
