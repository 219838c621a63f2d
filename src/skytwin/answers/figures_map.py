"""Maps as figures: coloured by a column, by how crowded they are, or made of the images."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from skytwin.answers.figures_style import (
    GREY,
    INK,
    SERIES,
    VERMILLION,
    axes_or_new,
    figure_of,
    new_figure,
    shorten,
    styled,
)
from skytwin.answers.maps import Map
from skytwin.answers.maps_place import Placement
from skytwin.errors import DataError, UsageError
from skytwin.images.columns import numbers
from skytwin.images.cutouts import Cutouts
from skytwin.images.display import Display, guess_origin, to_rgb

__all__ = ["image_map", "map_density", "map_placed", "map_scatter"]

_PALE = "#D5D5D5"
_MOST_CLASSES = len(SERIES)
_FEW_INTEGERS = 10
_ROBUST = (0.02, 0.98)
_MANY_SCALES = 20
_COLOURS = "viridis"
_TALL = 92.0  # mm
_TILE_PIXELS, _GAP_PIXELS = 64, 4
_MOST_NODES = 60


@styled
def map_scatter(found: Map, column: str, ax: Axes | None = None) -> Axes:
    """Every object as a dot, coloured by a column of the catalogue.

    Numbers get a colour bar from their 2nd to their 98th percentile, logarithmic where those are
    more than a factor of 20 apart; text and numbers of few
    whole values a legend; the seven most frequent classes have colours of their own. Objects
    without a value are pale, below the others.

    Parameters
    ----------
    found : Map
    column : str
    ax : Axes, optional
        Those of a new figure by default.

    Raises
    ------
    UnknownName
        No such column.
    DataError
        It has no value on this map.
    """
    values = found.column(column)
    ax = _plane(found, ax)
    size = _size(len(found))
    given: pa.ChunkedArray = pc.is_valid(values)
    has = np.asarray(given.to_numpy()).astype(bool)
    if _is_class(values):
        _classes(ax, found.xy, values, has, column, size)
        return ax
    number = numbers(found.catalog, column)
    has = np.isfinite(number)
    if not has.any():
        raise DataError(f"column {column!r} has no value for any object of the map")
    _dots(ax, found.xy[~has], _PALE, size, 1)
    low, high = np.quantile(number[has], _ROBUST)
    high = high if high > low else low + 1
    many_scales = low > 0 and high > _MANY_SCALES * low
    norm = LogNorm(low, high) if many_scales else Normalize(low, high)
    # In random order: the last of a file must not cover the first.
    order = np.random.default_rng(0).permutation(np.flatnonzero(has))
    drawn = ax.scatter(
        found.xy[order, 0], found.xy[order, 1], c=number[order], cmap=_COLOURS, norm=norm,
        s=size, linewidths=0, rasterized=True, zorder=2,
    )  # fmt: skip
    beyond = (bool((number[has] < low).any()), bool((number[has] > high).any()))
    _bar(ax, drawn, _label(found, column), beyond)
    if not has.all():
        _note(ax, f"pale: {int((~has).sum())} without a value")
    return ax


@styled
def map_density(found: Map, ax: Axes | None = None) -> Axes:
    """How many objects lie in each place of the map, on a logarithmic scale."""
    ax = _plane(found, ax)
    across = int(np.clip(np.sqrt(len(found) / 4), 8, 80))
    drawn = ax.hexbin(
        found.xy[:, 0], found.xy[:, 1], gridsize=across, mincnt=1, cmap=_COLOURS, linewidths=0.1
    )
    counts = np.asarray(drawn.get_array())
    drawn.set_norm(LogNorm(1, max(2.0, float(counts.max()))))
    _bar(ax, drawn, "objects per cell", (False, False))
    return ax


@styled
def map_placed(placed: Placement, ax: Axes | None = None) -> Axes:
    """Objects placed on a map, above those that shaped it.

    Open circles lie farther from every object of the map than 99 % of those lie from each
    other: their place means nothing.
    """
    found = placed.map
    ax = _plane(found, ax)
    _dots(ax, found.xy, _PALE, _size(len(found)), 1)
    far = placed.farther_than >= 0.99
    size = max(_size(len(placed)), 5.0)
    ax.scatter(
        placed.xy[~far, 0], placed.xy[~far, 1], s=size, color=SERIES[0][0], linewidths=0,
        rasterized=True, zorder=2, label=f"{int((~far).sum())} placed",
    )  # fmt: skip
    if far.any():
        ax.scatter(
            placed.xy[far, 0], placed.xy[far, 1], s=2 * size, facecolors="none",
            edgecolors=VERMILLION, linewidths=0.7, zorder=3,
            label=f"{int(far.sum())} unlike all on the map",
        )  # fmt: skip
    _legend(ax)
    return ax


@styled
def image_map(
    found: Map,
    cutouts: Cutouts,
    *,
    side: int = 16,
    display: Display | None = None,
    crop: int | None = None,
) -> Axes:
    """The map made of pictures: in each cell of a grid, the object nearest to its middle.

    Parameters
    ----------
    found : Map
    cutouts : Cutouts
        Holding the objects of the map.
    side : int
        Cells along the longer side, 2 to 60.
    display : Display, optional
        How flux becomes brightness.
    crop : int, optional
        Central pixels to show; all by default.

    Raises
    ------
    UsageError
        The grid is too small or too large.
    UnknownName
        The cutouts lack an object.
    """
    if not 2 <= side <= _MOST_NODES:
        raise UsageError(f"a grid of {side}; expected 2 to {_MOST_NODES} pictures across")
    rows, column, row, shape = _nodes(found.xy, side)
    names = [str(name) for name in found.ids[rows]]
    pictures = to_rgb(
        cutouts.pixels([cutouts.index[name] for name in names]),
        cutouts.bands,
        display,
        origin=guess_origin(cutouts),
    )
    pictures = _central(pictures, crop)
    step = _TILE_PIXELS + _GAP_PIXELS
    sheet = np.full((shape[1] * step, shape[0] * step, 3), 255, dtype=np.uint8)
    for picture, x, y in zip(pictures, column, row, strict=True):
        # Row 0 of the sheet is its top, row 0 of the grid its bottom.
        top, left = (shape[1] - 1 - int(y)) * step, int(x) * step
        sheet[top : top + _TILE_PIXELS, left : left + _TILE_PIXELS] = _tile(picture)
    wide = 160.0
    ax = new_figure(wide, wide * shape[1] / shape[0] + 7).add_subplot()
    ax.imshow(sheet, interpolation="antialiased")
    ax.set_axis_off()
    ax.set_title(f"{_title(found)}; {len(rows)} of them shown")
    return ax


def _plane(found: Map, ax: Axes | None) -> Axes:
    ax = axes_or_new(ax, height_mm=_TALL)
    ax.set_xticks([])
    ax.set_yticks([])
    ax.set_aspect("equal", adjustable="datalim")
    ax.spines[:].set_visible(False)
    if found.method == "pca":
        first, second = found.space.share[:2]
        ax.set_xlabel(f"first component ({first:.0%} of the variance)")
        ax.set_ylabel(f"second component ({second:.0%})")
    ax.set_title(_title(found))
    return ax


def _title(found: Map) -> str:
    name = shorten(found.origin.encoder_name, 22)
    return (
        f"{found.title} of {len(found)} objects, {name}; "
        f"trustworthiness {found.quality.trustworthiness:.2f}"
    )


def _size(count: int) -> float:
    """Area of a dot, square points: the more there are, the smaller."""
    return float(np.clip(9000 / count, 0.3, 12))


def _dots(ax: Axes, xy: np.ndarray, colour: str, size: float, order: int) -> None:
    ax.scatter(
        xy[:, 0], xy[:, 1], s=size, color=colour, linewidths=0, rasterized=True, zorder=order
    )


def _is_class(values: pa.ChunkedArray) -> bool:
    kind = values.type
    if pa.types.is_integer(kind):
        return len(pc.unique(values)) <= _FEW_INTEGERS
    return not (pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _classes(
    ax: Axes, xy: np.ndarray, values: pa.ChunkedArray, has: np.ndarray, column: str, size: float
) -> None:
    text = np.array([str(value) for value in values.to_pylist()], dtype=object)
    text[~has] = ""
    has = has & (text != "")
    if not has.any():
        raise DataError(f"column {column!r} has no value for any object of the map")
    names, counts = np.unique(text[has], return_counts=True)
    order = np.argsort(-counts, kind="stable")
    named = [str(name) for name in names[order]][:_MOST_CLASSES]
    colour = np.full(len(xy), GREY, dtype=object)
    for name, (own, _) in zip(named, SERIES, strict=False):
        colour[text == name] = own
    _dots(ax, xy[~has], _PALE, size, 1)
    mixed = np.random.default_rng(0).permutation(np.flatnonzero(has))
    ax.scatter(
        xy[mixed, 0],
        xy[mixed, 1],
        s=size,
        c=list(colour[mixed]),
        linewidths=0,
        rasterized=True,
        zorder=2,
    )
    rest = len(names) - len(named)
    entries = [
        (own, f"{shorten(name, 20)} ({int((text == name).sum())})")
        for name, (own, _) in zip(named, SERIES, strict=False)
    ]
    if rest:
        other = int((has & ~np.isin(text, named)).sum())
        entries.append((GREY, f"{rest} more ({other})"))
    if not has.all():
        entries.append((_PALE, f"no value ({int((~has).sum())})"))
    for own, label in entries:
        ax.scatter([], [], s=14, color=own, label=label)
    _legend(ax, column)


def _legend(ax: Axes, title: str | None = None) -> None:
    ax.legend(
        title=title,
        title_fontsize=7,
        loc="upper center",
        bbox_to_anchor=(0.5, 0.0),
        ncols=3,
        handletextpad=0.2,
    )


def _bar(ax: Axes, drawn: Any, label: str, beyond: tuple[bool, bool]) -> None:
    extend = {(False, False): "neither", (True, False): "min", (False, True): "max"}.get(
        beyond, "both"
    )
    bar = figure_of(ax).colorbar(
        drawn, ax=ax, extend=extend, fraction=0.04, pad=0.02, aspect=28, label=label
    )
    bar.outline.set_visible(False)
    if isinstance(drawn.norm, LogNorm):
        bar.ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        bar.ax.yaxis.set_minor_locator(NullLocator())
    bar.ax.tick_params(labelsize=7, width=0.6, length=2.5, color=INK, labelcolor=INK)


def _label(found: Map, column: str) -> str:
    tags = found.catalog.schema.field(column).metadata or {}
    unit = tags.get(b"unit", b"").decode()
    return f"{column} ({unit})" if unit else column


def _note(ax: Axes, text: str) -> None:
    ax.text(0, 0, text, transform=ax.transAxes, fontsize=6, va="bottom")


def _nodes(xy: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, tuple[int, int]]:
    """Rows nearest to the middles of their cells, with the cells' columns and rows."""
    low, high = np.quantile(xy, [0.001, 0.999], axis=0)
    step = float((high - low).max()) / side
    shape = np.maximum(np.ceil((high - low) / step - 1e-6), 1).astype(int)
    place = (xy - low) / step
    cell = np.floor(place).astype(int)
    inside = ((cell >= 0) & (cell < shape)).all(axis=1)
    kept = np.flatnonzero(inside)
    off = np.square(place[kept] - cell[kept] - 0.5).sum(axis=1)
    number = cell[kept, 1] * shape[0] + cell[kept, 0]
    order = np.lexsort((off, number))
    _, first = np.unique(number[order], return_index=True)
    rows = kept[order[first]]
    return rows, cell[rows, 0], cell[rows, 1], (int(shape[0]), int(shape[1]))


def _central(pictures: np.ndarray, crop: int | None) -> np.ndarray:
    height, width = pictures.shape[1:3]
    if crop is None or crop >= min(height, width):
        return pictures
    top, left = height // 2 - crop // 2, width // 2 - crop // 2
    return pictures[:, top : top + crop, left : left + crop]


def _tile(picture: np.ndarray) -> np.ndarray:
    """A picture within a square, in its own proportions."""
    height, width = picture.shape[:2]
    scale = _TILE_PIXELS / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST
    tile = np.full((_TILE_PIXELS, _TILE_PIXELS, 3), 255, dtype=np.uint8)
    top, left = (_TILE_PIXELS - size[1]) // 2, (_TILE_PIXELS - size[0]) // 2
    small = cv2.resize(np.ascontiguousarray(picture), size, interpolation=method)
    tile[top : top + size[1], left : left + size[0]] = small
    return tile
