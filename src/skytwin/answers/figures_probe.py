"""How well a label is read from vectors."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter, ScalarFormatter

from skytwin.answers.figures_style import (
    GREY,
    INK,
    SERIES,
    axes_or_new,
    new_figure,
    shorten,
    styled,
)
from skytwin.answers.probe import Probe
from skytwin.answers.probe_score import Score

__all__ = [
    "probe_confusion",
    "probe_labels",
    "probe_reliability",
    "probe_roc",
    "probe_scores",
]

_NAMES = {"accuracy": "accuracy", "auc": "area under the ROC curve"}
_MOST_CLASSES = 12


@styled
def probe_scores(found: Probe) -> Figure:
    """Accuracy and AUC on the test rows by classifier, a colour for each set of vectors.

    Bars are intervals over resampled objects; the dashed line is the base rate, or chance.

    Parameters
    ----------
    found : Probe

    Returns
    -------
    matplotlib.figure.Figure
    """
    names = list(found.settings["classifiers"])
    count = len(found.sources)
    figure = new_figure(160, 22 + 4.2 * len(names) * max(count, 2) ** 0.8)
    axes = figure.subplots(1, 2, sharey=True)
    for ax, metric in zip(axes, _NAMES, strict=True):
        for number, source in enumerate(found.sources):
            cells = [found.score(name, source.name).metrics[metric] for name in names]
            value = np.array([cell.value for cell in cells])
            ends = np.array([[c.value - c.lower, c.upper - c.value] for c in cells]).T
            shift = 0.7 * ((number + 0.5) / count - 0.5)
            colour, marker = SERIES[number % len(SERIES)]
            ax.errorbar(
                value,
                np.arange(len(names)) + shift,
                xerr=np.maximum(ends, 0),
                fmt=marker,
                color=colour,
                markersize=3.5,
                elinewidth=0.9,
                label=shorten(source.name, 30),
            )
        base = found.base.value if metric == "accuracy" else 0.5
        ax.axvline(base, color=INK, linewidth=0.9, linestyle="--")
        ax.set_xlabel(_NAMES[metric])
        ax.set_xlim(None, 1.005)
        for place in range(1, len(names)):
            ax.axhline(place - 0.5, color=GREY, linewidth=0.3)
    axes[0].set_yticks(np.arange(len(names)), names)
    axes[0].set_ylim(len(names) - 0.5, -0.5)
    axes[0].xaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=min(count, 4))
    return figure


@styled
def probe_roc(found: Probe, classifier: str | None = None, ax: Axes | None = None) -> Axes:
    """ROC curves on the test rows: of each set of vectors, or of several classes of one.

    Parameters
    ----------
    found : Probe
    classifier : str, optional
        The most accurate by default.
    ax : Axes, optional
        Those of a new figure by default.

    Returns
    -------
    matplotlib.axes.Axes
    """
    ax = axes_or_new(ax)
    best = found.best
    name = classifier or best.classifier
    if len(found.classes) == 2:
        lines = [(s.name, found.score(name, s.name), 1) for s in found.sources]
        ax.set_title(f"{name}; positive: {found.classes[1]}")
    else:
        score = found.score(name, best.embedding)
        lines = [(c, score, k) for k, c in enumerate(found.classes[: len(SERIES)])]
        ax.set_title(f"{name}; each class against the rest")
    for number, (label, score, which) in enumerate(lines):
        fall_out, recall = _roc(score.outputs.values[:, which], found.truth == which)
        ax.plot(fall_out, recall, color=SERIES[number % len(SERIES)][0], label=shorten(label, 30))
    ax.plot([0, 1], [0, 1], color=INK, linewidth=0.7, linestyle="--")
    ax.set_xlabel("share of the others taken for it")
    ax.set_ylabel("recall")
    ax.set_aspect("equal")
    ax.legend(loc="lower right")
    return ax


def _roc(score: np.ndarray, positive: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    order = np.argsort(-score, kind="stable")
    last = np.append(np.diff(score[order]) != 0, True)
    hits, others = np.cumsum(positive[order])[last], np.cumsum(~positive[order])[last]
    return (
        np.concatenate([[0], others / max(others[-1], 1)]),
        np.concatenate([[0], hits / max(hits[-1], 1)]),
    )


@styled
def probe_reliability(found: Probe, embedding: str | None = None, ax: Axes | None = None) -> Axes:
    """What came true of probabilities on the test rows, by classifier.

    Of two classes the probability is the positive one's, of several the likeliest class's. Bars
    are Jeffreys intervals.

    Parameters
    ----------
    found : Probe
    embedding : str, optional
        That of the most accurate by default.
    ax : Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
    """
    ax = axes_or_new(ax)
    name = embedding or found.best.embedding
    scores = [each for each in found.scores if each.embedding == name]
    shown = [each for each in scores if each.reliability is not None]
    shown.sort(key=lambda each: each.metrics["brier"].value)
    for number, score in enumerate(shown[:4]):
        bins = score.reliability
        if bins is None:
            continue
        colour, marker = SERIES[number]
        ends = np.stack([bins.observed - bins.lower, bins.upper - bins.observed])
        ax.errorbar(
            bins.predicted + 0.004 * (number - 1.5),
            bins.observed,
            yerr=np.maximum(ends, 0),
            fmt=marker,
            color=colour,
            markersize=3,
            elinewidth=0.7,
            label=f"{score.classifier} (Brier {score.metrics['brier'].value:.3f})",
        )
    ax.plot([0, 1], [0, 1], color=INK, linewidth=0.7, linestyle="--")
    of = found.classes[1] if len(found.classes) == 2 else "the likeliest class"
    ax.set_xlabel(f"probability of {of}")
    ax.set_ylabel("came true")
    ax.set_title(shorten(name, 40))
    if shown:
        ax.legend(loc="upper left", bbox_to_anchor=(0, -0.17), ncols=2)
    return ax


@styled
def probe_confusion(found: Probe, score: Score | None = None, ax: Axes | None = None) -> Axes:
    """Classes of the test rows against what they were taken for, as counts.

    Parameters
    ----------
    found : Probe
    score : Score, optional
        The most accurate by default.
    ax : Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
    """
    score = score or found.best
    table = score.confusion[:_MOST_CLASSES, :_MOST_CLASSES]
    names = [shorten(name, 14) for name in found.classes[:_MOST_CLASSES]]
    ax = axes_or_new(ax)
    share = table / np.maximum(score.confusion.sum(axis=1)[:_MOST_CLASSES, None], 1)
    ax.imshow(share, cmap="Blues", vmin=0, vmax=2)
    for (row, column), count in np.ndenumerate(table):
        ax.text(column, row, str(count), ha="center", va="center", color=INK)
    turn = 90 if len(names) > 4 else 0
    ax.set_xticks(np.arange(len(names)), names, rotation=turn)
    ax.set_yticks(np.arange(len(names)), names)
    ax.set_xlabel("taken for")
    ax.set_ylabel("is")
    ax.set_title(f"{shorten(score.embedding, 24)}, {score.classifier}")
    return ax


@styled
def probe_labels(found: Probe, metric: str = "accuracy", ax: Axes | None = None) -> Axes:
    """Accuracy (or ``auc``) on the test rows by number of labels, one classifier each.

    Of every set of vectors the classifier that is best with all labels. Bands are intervals over
    draws of labels and test objects.

    Parameters
    ----------
    found : Probe
    metric : {"accuracy", "auc"}
    ax : Axes, optional

    Returns
    -------
    matplotlib.axes.Axes
    """
    ax = axes_or_new(ax)
    rows = found.curves.to_pylist()
    for number, source in enumerate(found.sources):
        own = [each for each in found.scores if each.embedding == source.name]
        best = max(own, key=lambda s: s.metrics[metric].value).classifier
        line = [r for r in rows if (r["embedding"], r["classifier"]) == (source.name, best)]
        along = [r["labels"] for r in line]
        colour, marker = SERIES[number % len(SERIES)]
        ax.fill_between(
            along,
            [r[f"{metric}_lower"] for r in line],
            [r[f"{metric}_upper"] for r in line],
            color=colour,
            alpha=0.12,
            linewidth=0,
        )
        ax.plot(
            along,
            [r[metric] for r in line],
            color=colour,
            marker=marker,
            markersize=3.5,
            label=f"{shorten(source.name, 24)}, {best}",
        )
    ax.axhline(
        found.base.value if metric == "accuracy" else 0.5,
        color=INK,
        linewidth=0.9,
        linestyle="--",
    )
    ax.set_xscale("log")
    ax.set_xticks(sorted({r["labels"] for r in rows}))
    ax.xaxis.set_major_formatter(ScalarFormatter())
    ax.minorticks_off()
    ax.set_xlabel("labelled objects")
    ax.set_ylabel(_NAMES[metric])
    ax.legend(loc="upper left", bbox_to_anchor=(0, -0.17), ncols=2)
    return ax
