"""Pairs that show the same, side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from skytwin.answers.figures_style import GREY, INK, new_figure, shorten, styled
from skytwin.answers.leaks import Twins
from skytwin.answers.leaks_pixels import TURNS
from skytwin.errors import UsageError, unknown
from skytwin.images.cutouts import Cutouts
from skytwin.images.display import Display, guess_origin, to_rgb

__all__ = ["twin_pairs"]

# Lengths on the page, mm.
_TILE, _GAP, _LINE, _MARGIN, _GUTTER = 19.0, 0.8, 2.6, 2.0, 4.0
_TEXT = 5.5  # points
_LETTERS = 14  # under one tile


@styled
def twin_pairs(
    twins: Twins,
    most: int = 12,
    *,
    columns: int = 3,
    kinds: Sequence[str] | None = None,
    label: str | None = None,
    display: Display | None = None,
    cutouts: Cutouts | None = None,
    other_cutouts: Cutouts | None = None,
) -> Figure:
    """Pairs of images side by side, in the order of `Twins.table`.

    Parameters
    ----------
    twins : Twins
    most : int
        How many pairs at most.
    columns : int
        Pairs in one row.
    kinds : sequence of str, optional
        Only pairs of these kinds; all by default.
    label : str, optional
        A catalogue column to write under each image.
    display : Display, optional
        How flux becomes brightness; see `skytwin.images.display.to_rgb`.
    cutouts, other_cutouts : Cutouts, optional
        The images, where they are not those the embeddings remember.

    Returns
    -------
    matplotlib.figure.Figure
        Two Axes for each pair.

    Raises
    ------
    UsageError
        There is no pair to draw; the images are not to be found.
    UnknownName
        No such column.
    """
    if most < 1 or columns < 1:
        raise UsageError(f"{most} pairs in {columns} columns; expected at least 1 of each")
    shown = np.arange(len(twins))
    if kinds is not None:
        shown = np.flatnonzero(np.isin(twins.kind, list(kinds)))
    shown = shown[:most]
    if not len(shown):
        raise UsageError("no pair to draw; nothing of these kinds was found")
    second = twins.embeddings if twins.other is None else twins.other
    sets = (twins.embeddings, second)
    for each in sets:
        if label is not None and label not in each.catalog.column_names:
            raise unknown("column", label, each.catalog.column_names)
    given = (cutouts, cutouts if twins.other is None else other_cutouts)
    sources = [images or each.cutouts() for each, images in zip(sets, given, strict=True)]
    pictures, texts = [], []
    for embeddings, source, rows in zip(
        sets, sources, (twins.rows[shown], twins.others[shown]), strict=True
    ):
        names = [str(name) for name in embeddings.ids[rows]]
        pixels = source.pixels([source.index[name] for name in names])
        pictures.append(to_rgb(pixels, source.bands, display, origin=guess_origin(source)))
        values = [""] * len(names)
        if label is not None:
            column = embeddings.column(label).take(rows).to_pylist()
            values = ["" if value is None else shorten(str(value), _LETTERS) for value in column]
        texts.append(list(zip(names, values, strict=True)))
    return _draw(twins, shown, pictures, texts, columns, labelled=label is not None)


def _draw(
    twins: Twins,
    shown: np.ndarray,
    pictures: list[np.ndarray],
    texts: list[list[tuple[str, str]]],
    columns: int,
    *,
    labelled: bool,
) -> Figure:
    columns = min(columns, len(shown))
    tall = _TILE * max(picture.shape[1] / picture.shape[2] for picture in pictures)
    step = tall + _LINE * (4 if labelled else 3) + _GAP
    across = 2 * _TILE + _GAP + _GUTTER
    wide = 2 * _MARGIN + columns * across - _GUTTER
    high = 2 * _MARGIN + math.ceil(len(shown) / columns) * step - _GAP
    figure = new_figure(wide, high, constrained=False)

    def write(text: str, x: float, y: float, colour: str = INK) -> None:
        figure.text(x / wide, 1 - y / high, text, fontsize=_TEXT, va="top", color=colour)

    for number, pair in enumerate(shown):
        left = _MARGIN + number % columns * across
        top = _MARGIN + number // columns * step
        write(str(twins.kind[pair]), left, top)
        write(_facts(twins, int(pair)), left, top + _LINE, GREY)
        for side, (images, words) in enumerate(zip(pictures, texts, strict=True)):
            x = left + side * (_TILE + _GAP)
            bottom = high - top - 2 * _LINE - tall
            axes = figure.add_axes(
                (x / wide, bottom / high, _TILE / wide, tall / high), xticks=[], yticks=[]
            )
            axes.imshow(images[number])
            for spine in axes.spines.values():
                spine.set_visible(False)
            name, value = words[number]
            write(shorten(name, _LETTERS), x, top + 2 * _LINE + tall + 0.4)
            write(value, x, top + 3 * _LINE + tall + 0.4, GREY)
    return figure


def _facts(twins: Twins, pair: int) -> str:
    """How alike, how far apart, and how the second is moved."""
    facts = []
    if not np.isnan(twins.similarity[pair]):
        facts.append(f"r = {twins.similarity[pair]:.4f}")
    if not np.isnan(twins.separation_arcsec[pair]):
        apart = twins.separation_arcsec[pair]
        facts.append(f"{apart:.3g}″ apart" if apart < 3600 else f"{apart / 3600:.3g}° apart")
    if twins.turn[pair] > 0:
        facts.append(TURNS[twins.turn[pair]])
    dy, dx = twins.shift[pair]
    if dy or dx:
        facts.append(f"shift {dx}, {dy}")
    return "; ".join(facts)
