"""Explanations as figures: maps over the images, and what the separating features respond to."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from skytwin.answers.explain import Explanation, ScoreMap
from skytwin.answers.explain_features import SeparatingFeatures
from skytwin.answers.figures_style import INK, VERMILLION, new_figure, shorten, styled
from skytwin.encoders.feature_maps import spread
from skytwin.errors import UsageError
from skytwin.images.cutouts import Cutouts
from skytwin.images.display import Display, guess_origin, to_rgb

__all__ = ["exciting_objects", "explanations"]

# Lengths on the page, mm.
_TILE, _GAP, _LINE, _MARGIN, _GUTTER, _HEAD, _BAR = 26.0, 1.0, 2.9, 1.5, 4.0, 4.0, 7.0
_SMALL = 5.5  # points
_MAP_PIXELS = 256
_MOST_ROWS = 20
_COLOURS = "RdBu_r"  # red: makes alike; told apart with any kind of colour vision


@styled
def explanations(found: Sequence[Explanation], display: Display | None = None) -> Figure:
    """Each object beside the reference nearest to it, their maps over the images.

    Colours are the local score: its mean over the frame is the score. They are the same in all
    maps of the figure; the image beneath is grey.

    Parameters
    ----------
    found : sequence of Explanation
        With maps; up to 20.
    display : Display, optional
        See `skytwin.images.display.to_rgb`.

    Returns
    -------
    matplotlib.figure.Figure
        Four Axes a row: reference, its map, object, its map (two where the reference has no
        image), and one of the colour bar.

    Raises
    ------
    UsageError
        No map to draw, or more than 20 objects.
    """
    rows = [(e, e.map_query, e.map_match) for e in found if e.map_match is not None]
    if not rows or len(rows) > _MOST_ROWS:
        raise UsageError(f"{len(rows)} explanations with maps to draw; expected 1 to {_MOST_ROWS}")
    maps = [m for _, query, match in rows for m in (query, match) if m is not None]
    pictures = dict(zip(map(id, maps), _pictures(maps, rows[0][0], display), strict=True))
    densities = [np.abs(m.cells).max() * m.cells.size for m in maps]
    limit = float(max(densities)) or 1.0
    norm = Normalize(-limit, limit)
    page = _Page(len(rows), 4)
    page.write("reference, and where it is like the object", 0, 0, head=True, color=VERMILLION)
    page.write("object, and where it is like the references", 2, 0, head=True)
    for number, (explained, query, match) in enumerate(rows):
        if query is not None:
            page.caption(number, 0, shorten(query.name, 24), f"{query.value:.3g}")
            page.image(number, 0, pictures[id(query)])
            page.map(number, 1, query, pictures[id(query)], norm)
        if match is not None:
            place = "" if explained.rank is None else f"{explained.rank}   "
            page.caption(number, 2, shorten(place + match.name, 28), f"{explained.score:.3g}")
            page.image(number, 2, pictures[id(match)])
            page.map(number, 3, match, pictures[id(match)], norm)
    kind, grid = rows[0][0].kind, " x ".join(map(str, maps[0].cells.shape))
    page.colour_bar(norm, f"local {kind}, {grid} places;\nits mean over the frame is the {kind}")
    return page.figure


@styled
def exciting_objects(
    found: SeparatingFeatures,
    *,
    features: int = 6,
    objects: int = 8,
    cutouts: Cutouts | None = None,
    display: Display | None = None,
) -> Figure:
    """For each of the features that separate the list best, the objects that excite it most.

    Parameters
    ----------
    found : SeparatingFeatures
    features, objects : int
        Rows and columns.
    cutouts : Cutouts, optional
        The images, where they are not those the embedding remembers.
    display : Display, optional
        See `skytwin.images.display.to_rgb`.

    Returns
    -------
    matplotlib.figure.Figure
        One Axes per object; those of the list framed in colour.
    """
    embeddings = found.matches.embeddings
    source = cutouts if cutouts is not None else embeddings.cutouts()
    excited = found.exciting(features=features, objects=objects)
    ids = embeddings.ids[excited.rows]
    flux = source.pixels([source.index[str(name)] for name in ids.ravel()])
    tiles = to_rgb(flux, source.bands, display)
    tiles = _upright(_central(tiles, _crop(found, tiles.shape)), guess_origin(source) == "lower")
    tiles = tiles.reshape(*ids.shape, *tiles.shape[1:])
    listed = {*found.matches.rows.tolist()}
    page = _Page(len(ids), ids.shape[1], tile=15.5, bar=0.0)
    page.write(
        "features that separate the list from the background, and the objects that excite each "
        "most (framed: in the list)",
        0, 0, head=True,
    )  # fmt: skip
    by_number = {row["feature"]: row for row in found.table.to_pylist()}
    for row, feature in enumerate(excited.features.tolist()):
        entry = by_number[feature]
        more = "more" if entry["auc"] > 0.5 else "less"
        text = f"feature {feature}: {more} in the list, AUC {entry['auc']:.2f}"
        page.caption(row, 0, f"{text} [{entry['lower']:.2f}, {entry['upper']:.2f}]")
        for column, picture in enumerate(tiles[row]):
            axes = page.image(row, column, picture)
            if int(excited.rows[row, column]) in listed:
                axes.spines[:].set(visible=True, color=VERMILLION, linewidth=1.2)
    return page.figure


def _crop(found: SeparatingFeatures, shape: tuple[int, ...]) -> int:
    manifest = found.matches.embeddings.manifest
    recipe = manifest.recipe if manifest else {}
    return int(recipe.get("encoder", {}).get("prepare", {}).get("crop") or min(shape[1:3]))


def _pictures(
    maps: Sequence[ScoreMap], explained: Explanation, display: Display | None
) -> list[np.ndarray]:
    """The crop of every image, (crop, crop, 3), row 0 at the top; those alike in one call."""
    bands = explained.matches.embeddings.bands
    made: list[np.ndarray] = [np.empty(0)] * len(maps)
    kinds = {(m.image.shape, m.image.dtype) for m in maps}
    for kind in kinds:
        which = [i for i, m in enumerate(maps) if (m.image.shape, m.image.dtype) == kind]
        tiles = to_rgb(np.stack([maps[i].image for i in which]), bands, display)
        for i, tile in zip(which, tiles, strict=True):
            made[i] = _upright(_central(tile[None], maps[i].crop), maps[i].bottom_up)[0]
    return made


def _central(tiles: np.ndarray, crop: int) -> np.ndarray:
    height, width = tiles.shape[1:3]
    top, left = height // 2 - crop // 2, width // 2 - crop // 2
    return tiles[:, top : top + crop, left : left + crop]


def _upright(images: np.ndarray, bottom_up: bool) -> np.ndarray:
    return images[:, ::-1] if bottom_up else images


class _Page:
    """Rows of square tiles, each below a caption, with room for a colour bar below."""

    def __init__(self, rows: int, columns: int, tile: float = _TILE, bar: float = _BAR) -> None:
        self._tile, self._step = tile, tile + _LINE + _GAP
        pairs = (columns - 1) // 2 if bar else 0
        self._wide = 2 * _MARGIN + columns * (tile + _GAP) - _GAP + pairs * _GUTTER
        self._tall = 2 * _MARGIN + _HEAD + rows * self._step - _GAP + bar
        self._bar = bar
        self.figure = new_figure(self._wide, self._tall, constrained=False)

    def _left(self, column: int) -> float:
        return _MARGIN + column * (self._tile + _GAP) + (column // 2 * _GUTTER if self._bar else 0)

    def write(
        self, text: str, column: int, row: int, *, head: bool = False, color: str = INK,
        right: bool = False,
    ) -> None:  # fmt: skip
        """A line of text above a tile, or the head above its column."""
        x = self._left(column) + (self._tile if right else 0)
        y = _MARGIN + (0 if head else _HEAD + row * self._step)
        self.figure.text(
            x / self._wide, 1 - y / self._tall, text, fontsize=6.5 if head else _SMALL,
            va="top", ha="right" if right else "left", color=color,
        )  # fmt: skip

    def caption(self, row: int, column: int, left: str, right: str = "") -> None:
        """What stands above a tile; what is on the right stands above the next one's end."""
        self.write(left, column, row)
        if right:
            self.write(right, column + 1, row, right=True)

    def _axes(self, row: int, column: int) -> Axes:
        top = _MARGIN + _HEAD + row * self._step + _LINE
        bottom = self._tall - top - self._tile
        place = (
            self._left(column) / self._wide, bottom / self._tall,
            self._tile / self._wide, self._tile / self._tall,
        )  # fmt: skip
        axes = self.figure.add_axes(place, xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
        return axes

    def image(self, row: int, column: int, picture: np.ndarray) -> Axes:
        """A picture (H, W, 3)."""
        axes = self._axes(row, column)
        height, width = picture.shape[:2]
        axes.imshow(_reduced(picture), extent=(0, width, height, 0))
        return axes

    def map(
        self, row: int, column: int, found: ScoreMap, picture: np.ndarray, norm: Normalize
    ) -> None:
        """A map, the picture as contours above it."""
        axes = self._axes(row, column)
        height, width = picture.shape[:2]
        fine = spread(found.cells, _MAP_PIXELS) * _MAP_PIXELS**2
        place = (0, width, height, 0)
        axes.imshow(fine[::-1] if found.bottom_up else fine, cmap=_COLOURS, norm=norm, extent=place)
        grey = cv2.cvtColor(_reduced(picture), cv2.COLOR_RGB2GRAY).astype(np.float32)
        smooth = cv2.GaussianBlur(grey, (0, 0), max(1.0, grey.shape[1] / 50))
        low, high = np.quantile(smooth, (0.25, 1.0))
        if high > low:
            across, down = (
                (np.arange(n) + 0.5) * side / n
                for n, side in zip(smooth.shape[::-1], (width, height), strict=True)
            )
            levels = low + (high - low) * np.array([0.15, 0.4, 0.75])
            axes.contour(across, down, smooth, levels=levels, colors=INK, linewidths=0.45)

    def colour_bar(self, norm: Normalize, label: str) -> None:
        """What the colours mean, below the tiles."""
        place = (
            _MARGIN / self._wide,
            (_MARGIN + 2.6) / self._tall,
            (2 * self._tile + _GAP) / self._wide,
            1.8 / self._tall,
        )
        axes = self.figure.add_axes(place)
        bar = self.figure.colorbar(
            ScalarMappable(norm, _COLOURS), cax=axes, orientation="horizontal"
        )
        bar.outline.set_linewidth(0.4)
        axes.tick_params(labelsize=_SMALL, width=0.4, length=1.5, pad=1)
        self.figure.text(
            self._left(2) / self._wide,
            (_MARGIN + 4.4) / self._tall,
            label,
            fontsize=_SMALL,
            va="top",
        )


def _reduced(picture: np.ndarray) -> np.ndarray:
    """At most 256 pixels wide: more than a tile can show."""
    height, width = picture.shape[:2]
    if width <= _MAP_PIXELS:
        return np.ascontiguousarray(picture)
    size = (_MAP_PIXELS, max(1, round(_MAP_PIXELS * height / width)))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA))
