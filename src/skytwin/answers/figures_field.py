"""Where the matches lie: on an image of the field, or on the sky."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, MaxNLocator, MultipleLocator

from skytwin.answers.figures_style import (
    BLUE,
    GREY,
    VERMILLION,
    YELLOW,
    axes_or_new,
    styled,
)
from skytwin.answers.search import Matches
from skytwin.errors import Mismatch, UsageError
from skytwin.images.columns import numbers
from skytwin.images.display import Origin, to_rgb

__all__ = ["field_map"]

_MOST_PIXELS = 2000
_NUMBERED = 50  # matches: more numbers than that hide the field
_HALF_SKY = 90.0  # degrees: beyond, no one scale fits a flat map
_WIDTH_MM, _TALLEST_MM = 86.0, 130.0


@dataclass(frozen=True, eq=False, kw_only=True)
class _Places:
    """Positions (n, 2) of the matches, of the references, and of every object."""

    matches: np.ndarray
    references: np.ndarray
    all: np.ndarray


@styled
def field_map(
    matches: Matches,
    ax: Axes | None = None,
    *,
    image: np.ndarray | None = None,
    x: str = "x",
    y: str = "y",
    origin: Origin = "upper",
) -> Axes:
    """Where the matches lie, numbered by rank (up to 50), and the references.

    Parameters
    ----------
    matches : Matches
    ax : Axes, optional
        Those of a new figure by default.
    image : ndarray, shape (H, W) or (H, W, 3), optional
        The field, in grey or as red, green, blue. Without it the map is of the sky: right
        ascension grows to the left, and a degree is as long in both directions.
    x, y : str
        Columns of the catalogue with the position in the image, pixels counted from 0.
    origin : {"upper", "lower"}
        Where row 0 of the image belongs: at the top, or at the bottom as in FITS.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    UsageError
        No image, and no sky positions to do without.
    UnknownName
        No such column.
    Mismatch
        The image has another shape.
    """
    if image is not None:
        places = _in_pixels(matches, x, y, np.shape(image))
        ax = _over_image(ax, np.asarray(image), origin)
        colour, outline = YELLOW, [withStroke(linewidth=1.2, foreground="black")]
    else:
        places, wide = _on_sky(matches)
        ax = _over_sky(ax, places, wide)
        colour, outline = BLUE, [withStroke(linewidth=1.2, foreground="white")]
    ax.scatter(
        places.matches[:, 0],
        places.matches[:, 1],
        s=34,
        facecolors="none",
        edgecolors=colour,
        linewidths=1.0,
        clip_on=False,
        label=f"{len(matches)} matches",
        zorder=3,
    )
    if len(matches) <= _NUMBERED:
        for rank, (across, up) in enumerate(places.matches, start=1):
            if np.isfinite(across) and np.isfinite(up):
                ax.annotate(
                    str(rank),
                    (across, up),
                    xytext=(3.2, 2.6),
                    textcoords="offset points",
                    fontsize=5.5,
                    color=colour,
                    path_effects=outline,
                    zorder=4,
                    annotation_clip=True,
                )
    if np.isfinite(places.references).all(axis=1).any():
        ax.scatter(
            places.references[:, 0],
            places.references[:, 1],
            s=52,
            marker="s",
            facecolors="none",
            edgecolors=VERMILLION,
            linewidths=1.5,
            clip_on=False,
            label="reference" if len(places.references) == 1 else "references",
            zorder=5,
        )
    ax.legend(
        loc="lower left",
        bbox_to_anchor=(0, 1),
        borderaxespad=0.2,
        ncols=3,
        labelcolor="#222222",
        handletextpad=0.3,
    )
    return ax


def _in_pixels(matches: Matches, x: str, y: str, shape: tuple[int, ...]) -> _Places:
    catalog = matches.embeddings.catalog
    for name in (x, y):
        matches.embeddings.column(name)  # names the columns there are
    every = np.stack([numbers(catalog, name) for name in (x, y)], axis=1)
    outside = ~((every > -1) & (every < np.array(shape[1::-1]))).all(axis=1)
    every[outside] = np.nan
    index = matches.embeddings.index
    own = [index[ref.id] for ref in matches.references if ref.id is not None and ref.id in index]
    return _Places(matches=every[matches.rows], references=every[own], all=every)


def _on_sky(matches: Matches) -> tuple[_Places, bool]:
    """Positions in degrees, and whether they cover too much of the sky for a flat map."""
    every = matches.embeddings.positions
    known = np.zeros((0, 2)) if every is None else every[np.isfinite(every).all(axis=1)]
    if every is None or not len(known):
        raise UsageError(
            "the objects have no sky positions; give the image of their field, with the columns "
            "of the pixel positions, or ingest with a catalogue that has RA and Dec"
        )
    own = np.array(
        [(ref.ra, ref.dec) for ref in matches.references if None not in (ref.ra, ref.dec)],
        dtype=float,
    ).reshape(-1, 2)
    angles = np.radians(known[:, 0])
    middle = np.degrees(np.arctan2(np.sin(angles).mean(), np.cos(angles).mean()))

    def around(positions: np.ndarray) -> np.ndarray:
        # One stretch of right ascension, also where the field lies across 0.
        ra = (positions[:, 0] - middle + 180.0) % 360.0 - 180.0 + middle
        return np.stack([ra, positions[:, 1]], axis=1)

    places = _Places(matches=around(every[matches.rows]), references=around(own), all=around(known))
    spread = np.ptp(places.all, axis=0)
    return places, bool(spread.max() > _HALF_SKY)


def _over_image(ax: Axes | None, image: np.ndarray, origin: Origin) -> Axes:
    if image.ndim == 2:
        picture = to_rgb(image[None, None], ("gray",), origin=origin)[0]
    elif image.ndim == 3 and image.shape[2] == 3:
        bands = ("red", "green", "blue")
        picture = to_rgb(image.transpose(2, 0, 1)[None], bands, origin=origin)[0]
    else:
        raise Mismatch(f"a field of shape {image.shape}; expected (H, W) or (H, W, 3)")
    height, width = picture.shape[:2]
    largest = max(height, width)
    if largest > _MOST_PIXELS:
        share = _MOST_PIXELS / largest
        size = (max(1, round(width * share)), max(1, round(height * share)))
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    ax = axes_or_new(ax, height_mm=min(12 + _WIDTH_MM * height / width, _TALLEST_MM))
    # The picture's row 0 is at the top by now; the axis counts as the catalogue does.
    edges = (-0.5, height - 0.5) if origin == "lower" else (height - 0.5, -0.5)
    ax.imshow(picture, extent=(-0.5, width - 0.5, *edges), aspect="equal")
    ax.set_xlabel("x (pixels)")
    ax.set_ylabel("y (pixels)")
    return ax


def _over_sky(ax: Axes | None, places: _Places, wide: bool) -> Axes:
    ax = axes_or_new(ax, height_mm=80)
    ax.scatter(
        places.all[:, 0],
        places.all[:, 1],
        s=2,
        color=GREY,
        alpha=0.5,
        linewidths=0,
        rasterized=True,
        label=f"all {len(places.all)}",
    )
    if not wide:
        middle = places.all[:, 1].mean()
        ax.set_aspect(1 / max(np.cos(np.radians(middle)), 0.01), adjustable="datalim")
    ax.invert_xaxis()
    ax.xaxis.set_major_locator(MultipleLocator(60) if wide else MaxNLocator(5))
    ax.yaxis.set_major_locator(MaxNLocator(5))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value % 360.0:.7g}"))
    ax.ticklabel_format(axis="y", useOffset=False)
    ax.set_xlabel("RA (deg, ICRS)")
    ax.set_ylabel("Dec (deg, ICRS)")
    return ax
