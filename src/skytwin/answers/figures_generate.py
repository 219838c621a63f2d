"""Generated images as figures: un-picked, all of a figure in one stretch.

Images are shown as the network sees them, 0 black and 1 white, three bands and more in the
colours that `skytwin.images.display` gives them. Residuals are blue where the reconstruction is
brighter than the image and red where it is fainter.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from skytwin.answers.figures_style import (
    BLUE,
    GREEN,
    GREY,
    INK,
    VERMILLION,
    new_figure,
    styled,
)
from skytwin.answers.generate import Generated
from skytwin.images.display import guess_origin
from skytwin.images.filters import colour_channels

__all__ = [
    "generated_closeness",
    "generated_interpolations",
    "generated_nearest",
    "generated_reconstructions",
    "generated_samples",
    "generated_temperatures",
]

_TILE, _GAP, _LEFT, _TOP = 13.0, 0.8, 21.0, 6.0  # mm
_SMALL = 6.5
_MOST_PAIRS = 16


@styled
def generated_samples(found: Generated, across: int = 8) -> Figure:
    """The first samples of the seed, none left out."""
    images = _pictures(found, found.images)
    rows = [images[start : start + across] for start in range(0, len(images), across)]
    wanted = "".join(f", {name} = {value:g}" for name, value in found.conditions.items())
    latents = "; top latents as those of images" if found.latents == "fitted" else ""
    head = f"{len(images)} samples, un-picked; temperature {found.temperature:g}{wanted}{latents}"
    return _grid(rows, [""] * len(rows), head, left=2.0)


@styled
def generated_nearest(found: Generated, across: int = 8) -> Figure:
    """Samples above the training image nearest to each, with the distance and its percentile.

    The percentile is that among the distances of held-out images, as they are reconstructed.
    """
    count = min(len(found.images), _MOST_PAIRS)
    samples = _pictures(found, found.images[:count])
    near = _pictures(found, found.panels.nearest[:count])
    kind = "training image" if found.real.trained else "image"
    rows, names, notes = [], [], []
    for start in range(0, count, across):
        part = slice(start, min(start + across, count))
        table = found.table.slice(start, part.stop - start)
        rows += [samples[part], near[part]]
        names += ["sample", "nearest"]
        notes += [
            [""] * (part.stop - start),
            [
                f"{row['distance']:.3f}  {row['percentile_reconstructed']:.0f}%"
                for row in table.to_pylist()
            ],
        ]
    head = f"nearest {kind} of each; distance, percentile among held-out"
    return _grid(rows, names, head, notes=notes)


@styled
def generated_reconstructions(found: Generated) -> Figure:
    """Held-out images, their reconstructions, what is left, and the top latent's alone."""
    panels = found.panels
    left = (panels.real - panels.reconstructed).mean(axis=1)
    reach = float(np.quantile(np.abs(left), 0.999)) or 1.0
    rows = [
        _pictures(found, panels.real),
        _pictures(found, panels.reconstructed),
        _residuals(found, left, reach),
        _pictures(found, panels.top),
    ]
    names = ["held-out", "reconstruction", f"residual ±{reach:.2f}", "top latent alone"]
    return _grid(rows, names, "held-out images in random order; one stretch")


@styled
def generated_interpolations(found: Generated) -> Figure:
    """From one held-out image to another, linear in the posterior means of all layers."""
    rows = [_pictures(found, row) for row in found.panels.interpolated]
    return _grid(rows, [""] * len(rows), "from one held-out image to another", left=2.0)


@styled
def generated_temperatures(found: Generated) -> Figure:
    """The same random numbers at several temperatures."""
    panels = found.panels
    rows = [_pictures(found, row) for row in panels.sweep]
    names = [f"T = {value:g}" for value in panels.temperatures]
    return _grid(rows, names, "the same random numbers at each temperature")


@styled
def generated_closeness(found: Generated) -> Figure:
    """Distributions of samples, held-out images and reconstructions, and AUC by judge."""
    likelihood = found.log_likelihood
    panels = 4 + (likelihood is not None)
    rows = -(-panels // 2)
    figure = new_figure(160, 58 * rows)
    axes = list(figure.subplots(rows, 2).flat)
    for ax in axes:
        ax.tick_params(labelsize=7, width=0.6, length=2.5)
    _judged(axes[0], found)
    for ax, one in zip(axes[1:3], found.properties, strict=True):
        _histograms(
            ax,
            {
                "samples": one.samples,
                "held-out images": one.held,
                "reconstructions": one.reconstructed,
            },
        )
        ax.set_xlabel(f"{one.name} ({one.unit})")
    copies = found.copies
    _histograms(
        axes[3],
        {
            "samples": found.table["distance"].to_numpy(),
            "held-out images": copies.held,
            "reconstructions": copies.reconstructed,
        },
    )
    kind = "training image" if found.real.trained else "image"
    axes[3].set_xlabel(f"distance to the nearest {kind}")
    axes[1].legend()
    if likelihood is not None:
        _histograms(axes[4], likelihood)
        axes[4].set_xlabel("log likelihood of the code")
        axes[4].legend()
    for ax in axes[panels:]:
        ax.set_visible(False)
    return figure


def _judged(ax: Axes, found: Generated) -> None:
    """AUC of each judge and pair with its interval."""
    judges = list(dict.fromkeys(one.judge for one in found.comparisons))
    pairs = list(dict.fromkeys((one.one, one.other) for one in found.comparisons))
    colours = (VERMILLION, BLUE, GREEN, GREY)
    for one in found.comparisons:
        pair = pairs.index((one.one, one.other))
        y = -judges.index(one.judge) + 0.27 - 0.18 * pair
        ax.plot([one.auc.lower, one.auc.upper], [y, y], color=colours[pair], linewidth=1)
        ax.plot(one.auc.value, y, "o", color=colours[pair], markersize=3)
    for pair, (first, second) in enumerate(pairs):
        ax.plot([], [], "o-", color=colours[pair], markersize=3, label=f"{first} : {second}")
    ax.axvline(0.5, color=INK, linewidth=0.6, linestyle=":")
    ax.set_yticks([-place for place in range(len(judges))], [_short(name) for name in judges])
    ax.set_ylim(-len(judges) + 0.5, 0.5)
    ax.set_xlabel("told apart (AUC): 0.5 not at all, 1 always")
    ax.set_title(" ")
    ax.legend(loc="lower center", bbox_to_anchor=(0.45, 1.0), ncols=2, fontsize=6, columnspacing=1)


def _short(name: str) -> str:
    method, _, rest = name.partition(":")
    return method if rest else name


def _histograms(ax: Axes, sets: dict[str, np.ndarray]) -> None:
    """Outlines over common bins, up to where one value in 200 lies beyond."""
    both = np.concatenate(list(sets.values()))
    low, high = np.quantile(both, [0.0025, 0.9975])
    edges = np.linspace(low, high if high > low else low + 1, 25)
    for (name, values), colour in zip(sets.items(), (VERMILLION, INK, BLUE), strict=True):
        ax.hist(
            np.clip(values, edges[0], edges[-1]), bins=edges.tolist(), histtype="step",
            density=True, color=colour, label=name, linewidth=1.1,
        )  # fmt: skip
    ax.set_yticks([])
    ax.set_ylabel("share")


def _pictures(found: Generated, x_NCHW: np.ndarray) -> np.ndarray:
    """Images in [0, 1] as ``(N, H, W, 3)``, row 0 on top."""
    x = np.clip(x_NCHW, 0, 1)
    if x.shape[1] == 1:
        rgb = np.repeat(x, 3, axis=1)
    else:
        chosen = colour_channels(found.channels, None, False)
        rgb = x[:, chosen] if len(chosen) == 3 else np.repeat(x.mean(axis=1)[:, None], 3, axis=1)
    return _upright(found, np.moveaxis(rgb, 1, -1))


def _residuals(found: Generated, left_NHW: np.ndarray, reach: float) -> np.ndarray:
    """White where nothing is left, red where the image is brighter, blue where it is fainter."""
    share = np.clip(left_NHW / reach, -1, 1)[..., None]
    red, blue = np.array([0.70, 0.09, 0.17]), np.array([0.13, 0.40, 0.67])
    ends = np.where(share > 0, red, blue)
    return _upright(found, 1 + np.abs(share) * (ends - 1))


def _upright(found: Generated, pictures: np.ndarray) -> np.ndarray:
    return pictures[:, ::-1] if guess_origin(found.real.cutouts) == "lower" else pictures


def _grid(
    rows: Sequence[np.ndarray],
    names: Sequence[str],
    head: str,
    *,
    left: float = _LEFT,
    notes: Sequence[Sequence[str]] = (),
) -> Figure:
    """Rows of pictures, each with a name on its left and a note below each picture."""
    across = max(len(row) for row in rows)
    line = [3.0 if notes and any(notes[number]) else 0.0 for number in range(len(rows))]
    wide = max(left + across * (_TILE + _GAP) + 2.0, 60.0)
    tall = _TOP + sum(_TILE + _GAP + extra for extra in line) + 2.0
    figure = new_figure(wide, tall, constrained=False)
    figure.text(2.0 / wide, 1 - 1.2 / tall, head, va="top", fontsize=7.5)
    down = _TOP
    for number, row in enumerate(rows):
        bottom = (tall - down - _TILE) / tall
        figure.text(
            2.0 / wide, bottom + _TILE / tall / 2, names[number], va="center", fontsize=_SMALL
        )
        # One picture for the row: a page of axes takes seconds to draw.
        span = len(row) * (_TILE + _GAP) - _GAP
        ax = figure.add_axes((left / wide, bottom, span / wide, _TILE / tall))
        ax.imshow(_strip(row), interpolation="nearest", aspect="auto")
        ax.set_axis_off()
        for place, note in enumerate(notes[number] if notes else ()):
            x = left + place * (_TILE + _GAP)
            figure.text(x / wide, bottom - 0.4 / tall, note, va="top", fontsize=5.5)
        down += _TILE + _GAP + line[number]
    return figure


def _strip(row: np.ndarray) -> np.ndarray:
    """Pictures ``(n, H, W, 3)`` side by side, white between them, enlarged by whole pixels."""
    factor = max(1, -(-96 // row.shape[2]))
    large = np.repeat(np.repeat(row, factor, axis=1), factor, axis=2)
    gap = max(1, round(_GAP / _TILE * large.shape[2]))
    padded = np.pad(large, ((0, 0), (0, 0), (0, gap), (0, 0)), constant_values=1.0)
    return np.asarray(np.concatenate(list(padded), axis=1)[:, :-gap])
