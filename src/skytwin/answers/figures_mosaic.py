"""The nearest objects as a grid of pictures, the references beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from skytwin.answers.figures_style import (
    INK,
    VERMILLION,
    distance_label,
    new_figure,
    shorten,
    styled,
)
from skytwin.answers.query import Reference
from skytwin.answers.search import Matches
from skytwin.embeddings.table import Embeddings
from skytwin.errors import SkytwinError, UsageError
from skytwin.images.cutouts import Cutouts
from skytwin.images.display import Display, guess_origin, to_rgb

__all__ = ["Grid", "Look", "Tile", "cell", "encoded", "mosaic", "scale_bar"]

# Lengths on the page, mm.
_TILE, _GAP, _LINE, _MARGIN, _GUTTER, _HEAD = 15.5, 1.0, 2.7, 1.5, 3.5, 4.0
_SMALL, _TEXT = 5.5, 6.5  # points
_LETTER = 1.35  # mm, of the caption
_MOST_PIXELS = 256
_MAX_SIDE = 40
_NICE = (1.0, 2.0, 5.0)


@dataclass(frozen=True, eq=False, kw_only=True)
class Tile:
    """One place of the grid; ``picture`` (H, W, 3) is None where there is nothing to show."""

    picture: np.ndarray | None
    left: str
    right: str = ""
    below: str = ""


@styled
def mosaic(
    matches: Matches,
    side: int = 5,
    *,
    display: Display | None = None,
    label: str | None = None,
    cutouts: Cutouts | None = None,
    crop: int | None = None,
    show_reference: bool = True,
) -> Figure:
    """The nearest ``side`` x ``side`` matches, each with its rank and distance.

    Parameters
    ----------
    matches : Matches
        Places beyond the last match stay empty.
    side : int
        Rows and columns, up to 40.
    display : Display, optional
        How flux becomes brightness; see `skytwin.images.display.to_rgb`.
    label : str, optional
        A catalogue column written below each tile.
    cutouts : Cutouts, optional
        The images, where they are not those the embedding remembers.
    crop : int, optional
        Central pixels to show; by default those that the encoder was given.
    show_reference : bool
        Show the references in a column of their own, framed in colour; a reference without an
        image at hand (a vector, an image file) by its name.

    Returns
    -------
    matplotlib.figure.Figure
        One Axes per tile: the matches' in order of rank, then the references'.

    Raises
    ------
    UsageError
        The cutouts are not to be found; see `Embeddings.cutouts`.
    UnknownName
        No such column; the cutouts lack a match.
    """
    if not 1 <= side <= _MAX_SIDE:
        raise UsageError(f"a mosaic of {side} x {side}; expected a side of 1 to {_MAX_SIDE}")
    if crop is not None and crop < 1:
        raise UsageError(f"crop {crop}; expected at least 1 pixel")
    source = cutouts if cutouts is not None else matches.embeddings.cutouts()
    places = matches.references[:side] if show_reference else ()
    shown = min(len(matches), side * side)
    names = [str(name) for name in matches.ids[:shown]]
    known = [str(ref.id) for ref in places if _is_own(ref, source)]
    look = Look(display=display, crop=crop or encoded(matches.embeddings))
    # In one call: colours can be compared between the tiles of one call only.
    rows = [source.index[name] for name in [*names, *known]]
    pictures = look.pictures(source, rows)
    tiles = _match_tiles(matches, pictures[:shown], label)
    own = dict(zip(known, pictures[shown:], strict=True))
    references = [_reference_tile(ref, own, look, source.bands) for ref in places]
    grid = Grid(
        side,
        pictures.shape[1:3],
        f"nearest of {len(matches.embeddings)}; {distance_label(matches)}",
        labelled=label is not None,
        referenced=bool(places),
    )
    if places:
        grid.write_reference_head(_count(len(places), len(matches.references)))
    first: Axes | None = None
    for number, tile in enumerate(tiles):
        axes = grid.draw(tile, number // side, number % side)
        first = first or axes
    for number, tile in enumerate(references):
        axes = grid.draw(tile, number, None)
        first = axes if number == 0 and tile.picture is not None else first
    if first is not None and source.pixel_scale is not None:
        scale_bar(first, source.pixel_scale, pictures.shape[2])
    return grid.figure


@dataclass(frozen=True, kw_only=True)
class Look:
    """How images become pictures."""

    display: Display | None
    crop: int | None

    def pictures(self, cutouts: Cutouts, rows: Sequence[int]) -> np.ndarray:
        """Shape (n, H, W, 3), row 0 at the top. Cropped last: the sky is in the whole frame."""
        bottom_up = guess_origin(cutouts) == "lower"
        return self.of_flux(cutouts.pixels(rows), cutouts.bands, bottom_up)

    def of_flux(
        self,
        flux: np.ndarray,
        bands: Sequence[str],
        bottom_up: bool,
        beside: np.ndarray | None = None,
    ) -> np.ndarray:
        """The same of images (n, C, H, W) that lie in no set of cutouts; see `to_rgb`."""
        found = to_rgb(flux, bands, self.display, beside=beside)
        height, width = found.shape[1:3]
        if self.crop is not None and self.crop < min(height, width):
            top, left = height // 2 - self.crop // 2, width // 2 - self.crop // 2
            found = found[:, top : top + self.crop, left : left + self.crop]
        return found[:, ::-1] if bottom_up else found


def encoded(embeddings: Embeddings) -> int | None:
    """How many central pixels the encoder was given, where that is known."""
    recipe = embeddings.manifest.recipe if embeddings.manifest else {}
    found: int | None = recipe.get("encoder", {}).get("prepare", {}).get("crop")
    return found


def _match_tiles(matches: Matches, pictures: np.ndarray, label: str | None) -> list[Tile]:
    shown = len(pictures)
    below = [""] * shown
    if label is not None:
        values = matches.embeddings.column(label).take(matches.rows[:shown])
        below = [cell(value) for value in values.to_pylist()]
    return [
        Tile(
            picture=picture,
            left=str(rank),
            right=_three_digits(float(matches.distance[rank - 1])),
            below=below[rank - 1],
        )
        for rank, picture in enumerate(pictures, start=1)
    ]


def _three_digits(distance: float) -> str:
    # What is left of rounding between an object and its own copy is no distance.
    return "0" if distance < 1e-9 else f"{distance:#.3g}".rstrip(".")


def cell(value: object) -> str:
    """A value of a catalogue in a few letters."""
    if value is None:
        return ""
    return shorten(f"{value:.4g}" if isinstance(value, float) else str(value), 13)


def _reference_tile(
    reference: Reference, own: dict[str, np.ndarray], look: Look, bands: Sequence[str]
) -> Tile:
    picture: np.ndarray | None
    if reference.kind == "other embedding":
        # Another set may have another object by this id.
        picture = _from_elsewhere(reference.name, look)
    elif reference.image is not None:
        picture = look.of_flux(reference.image[None], bands, reference.bottom_up)[0]
    else:
        picture = own.get(reference.id or "")
    name = Path(reference.name).name
    return Tile(picture=picture, left=shorten(f"not {name}" if reference.negative else name, 12))


def _is_own(reference: Reference, cutouts: Cutouts) -> bool:
    return reference.kind == "object" and str(reference.id) in cutouts.index


def _from_elsewhere(name: str, look: Look) -> np.ndarray | None:
    folder, _, own_id = name.partition(":")
    try:
        cutouts = Embeddings.open(folder).cutouts()
        picture: np.ndarray = look.pictures(cutouts, [cutouts.index[own_id]])[0]
    except SkytwinError:  # moved since the search: its name has to do
        return None
    return picture


def _count(shown: int, references: int) -> str:
    if shown < references:
        return f"{shown} of {references} refs"
    return "reference" if references == 1 else "references"


class Grid:
    """Places on a page: ``side`` x ``side`` tiles, the references in a column on the left."""

    def __init__(
        self, side: int, shape: tuple[int, ...], caption: str, *, labelled: bool, referenced: bool
    ) -> None:
        height, width = shape
        self._tall = _TILE * height / width
        self._step = self._tall + _LINE * (2 if labelled else 1) + _GAP
        self._left = _MARGIN + (_TILE + _GUTTER if referenced else 0)
        grid = side * (_TILE + _GAP) - _GAP
        self._page = (
            self._left + max(grid, _LETTER * len(caption)) + _MARGIN,
            _MARGIN + _HEAD + side * self._step - _GAP + _MARGIN,
        )
        self.figure = new_figure(*self._page, constrained=False)
        self._write(caption, self._left, 0.0, size=_TEXT)

    def write_reference_head(self, text: str) -> None:
        """The caption of the column of references."""
        self._write(text, _MARGIN, 0.0, size=_TEXT, color=VERMILLION)

    def draw(self, tile: Tile, row: int, column: int | None) -> Axes:
        """Draw one tile; ``column`` None is that of the references."""
        left = _MARGIN if column is None else self._left + column * (_TILE + _GAP)
        top = _HEAD + row * self._step
        self._write(tile.left, left, top)
        self._write(tile.right, left + _TILE, top, align="right")
        self._write(tile.below, left, top + _LINE + self._tall + 0.5)
        wide, tall = self._page
        bottom = tall - _MARGIN - top - _LINE - self._tall
        axes = self.figure.add_axes(
            (left / wide, bottom / tall, _TILE / wide, self._tall / tall), xticks=[], yticks=[]
        )
        if tile.picture is None:
            axes.text(
                0.5,
                0.5,
                "no image",
                ha="center",
                va="center",
                fontsize=_SMALL,
                transform=axes.transAxes,
            )
        else:
            height, width = tile.picture.shape[:2]
            # In the image's own pixels, however much it is reduced.
            axes.imshow(_reduce(tile.picture), extent=(0, width, height, 0))
        for spine in axes.spines.values():
            spine.set_visible(column is None)
            spine.set(color=VERMILLION, linewidth=1.5)
        return axes

    def _write(
        self,
        text: str,
        x: float,
        y: float,
        *,
        size: float = _SMALL,
        align: str = "left",
        color: str = INK,
    ) -> None:
        """Text in a line whose top is ``y`` mm below the upper margin."""
        wide, tall = self._page
        self.figure.text(
            x / wide,
            1 - (_MARGIN + y) / tall,
            text,
            fontsize=size,
            ha=align,
            va="top",
            color=color,
        )


def _reduce(picture: np.ndarray) -> np.ndarray:
    """At most 256 pixels wide: more than a tile can show, and a PDF would carry them all."""
    height, width = picture.shape[:2]
    if width <= _MOST_PIXELS:
        return picture
    size = (_MOST_PIXELS, max(1, round(_MOST_PIXELS * height / width)))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA))


def scale_bar(axes: Axes, pixel_scale: float, width: int) -> None:
    """A bar of a round number of arcsec or arcmin, at most two fifths of the tile."""
    longest = 0.4 * width * pixel_scale
    unit, sign = (60.0, "′") if longest >= 60 else (1.0, "″")
    power = 10.0 ** np.floor(np.log10(longest / unit))
    length = max(nice * power for nice in _NICE if nice * power <= longest / unit)
    left, low = 0.06, 0.08
    picture = np.asarray(axes.images[0].get_array())
    corner = picture[-len(picture) // 4 :, : picture.shape[1] // 2]
    ink, paper = ("black", "white") if corner.mean() > 140 else ("white", "black")
    outline = [withStroke(linewidth=1.0, foreground=paper)]
    axes.plot(
        [left, left + length * unit / (pixel_scale * width)],
        [low, low],
        transform=axes.transAxes,
        color=ink,
        linewidth=1.2,
        solid_capstyle="butt",
    )
    axes.text(
        left,
        low + 0.04,
        f"{length:g}{sign}",
        transform=axes.transAxes,
        color=ink,
        fontsize=_SMALL,
        va="bottom",
        path_effects=outline,
    )
