"""What all figures share: colours, sizes, and saving them with where they come from."""

from __future__ import annotations

import functools
import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, ParamSpec, TypeVar

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from skytwin.answers.export import write_new
from skytwin.answers.purity import PurityCurve
from skytwin.answers.ranking import how_named
from skytwin.answers.search import Matches
from skytwin.errors import unknown

__all__ = [
    "BLUE",
    "GREY",
    "INK",
    "MM",
    "SERIES",
    "VERMILLION",
    "YELLOW",
    "axes_or_new",
    "distance_label",
    "figure_of",
    "new_figure",
    "save",
    "shorten",
    "styled",
]

# Okabe & Ito (2008): told apart with any kind of colour vision.
BLUE, ORANGE, GREEN, VERMILLION = "#0072B2", "#E69F00", "#009E73", "#D55E00"
SKY, PURPLE, YELLOW = "#56B4E9", "#CC79A7", "#F0E442"
INK, GREY = "#222222", "#8A8A8A"
#: Colour and marker of one curve among several.
SERIES = tuple(zip((BLUE, ORANGE, GREEN, VERMILLION, PURPLE, SKY, INK), "os^DvPX", strict=True))

MM = 1 / 25.4  # of an inch
WIDTH_MM = 100.0  # a column of a journal, or a little more
_DPI = 200

_STYLE: dict[Any, Any] = {
    "font.size": 7.5,
    "axes.labelsize": 7.5,
    "axes.titlesize": 7.5,
    "axes.titlelocation": "left",
    "axes.linewidth": 0.6,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": INK,
    "lines.linewidth": 1.2,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "legend.handlelength": 1.6,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "text.parse_math": False,  # a condition or an id may hold a dollar sign
    "pdf.fonttype": 42,  # text stays text in an editor, as journals ask for
}
_TICKS: dict[str, Any] = {
    "labelsize": 7,
    "width": 0.6,
    "length": 2.5,
    "color": INK,
    "labelcolor": INK,
}

P = ParamSpec("P")
R = TypeVar("R")


def styled(draw: Callable[P, R]) -> Callable[P, R]:
    """Draw in this style, whatever the user's matplotlibrc says, and leave theirs as it was."""

    @functools.wraps(draw)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        with mpl.rc_context(_STYLE):
            return draw(*args, **kwargs)

    return wrapped


def new_figure(
    width_mm: float = WIDTH_MM, height_mm: float = 70.0, *, constrained: bool = True
) -> Figure:
    """A figure that no global list knows of, so that it goes when its last user goes."""
    layout: Literal["constrained"] | None = "constrained" if constrained else None
    return Figure(figsize=(width_mm * MM, height_mm * MM), layout=layout)


def axes_or_new(ax: Axes | None, height_mm: float = 70.0) -> Axes:
    """The axes given, or those of a new figure."""
    if ax is None:
        ax = new_figure(height_mm=height_mm).add_subplot()
        # Ticks are made when they are drawn, out of reach of this module's style.
        ax.tick_params(**_TICKS)
    return ax


def figure_of(drawn: Figure | Axes) -> Figure:
    """The whole figure that something was drawn in."""
    figure = drawn.figure if isinstance(drawn, Axes) else drawn
    return figure.figure if isinstance(figure, SubFigure) else figure


def shorten(text: str, length: int) -> str:
    """``text``, its middle left out where it is longer than ``length``."""
    if len(text) <= length:
        return text
    head = (length - 1) // 2
    return f"{text[:head]}…{text[len(text) - (length - 1 - head) :]}"


def distance_label(found: Matches | PurityCurve) -> str:
    """What the distances are."""
    references = len(found.references)
    over = f" over {references} references" if references > 1 else ""
    return how_named(found.settings) + over


def save(
    drawn: Figure | Axes, path: str | Path, metadata: Mapping[str, str], *, overwrite: bool = False
) -> None:
    """Write a figure as PNG (200 dots per inch) or PDF, told by the file's ending.

    The same figure gives the same bytes.

    Parameters
    ----------
    drawn : Figure or Axes
        What the functions of `skytwin.figures` return.
    path : path
        Ending in ``.png`` or ``.pdf``.
    metadata : mapping
        Where the figure comes from, as `Matches.describe` has it. Kept in the file: as text
        chunks in PNG, as JSON among the keywords in PDF.
    overwrite : bool
        Replace a file that is there.

    Raises
    ------
    UnknownName
        Another ending.
    OutputExists
        The file is there.
    UsageError
        Its folder is not.
    """
    target = Path(path)
    figure = figure_of(drawn)
    kind = target.suffix.lower()
    notes: dict[str, str | None]
    if kind == ".png":
        notes = {_latin(name)[:79]: str(value) for name, value in metadata.items() if name}
    elif kind == ".pdf":
        keywords = json.dumps(dict(metadata), default=str)
        notes = {"Subject": "made with skytwin", "Keywords": keywords, "CreationDate": None}
    else:
        raise unknown("picture format", kind or target.name, (".png", ".pdf"))

    def draw() -> bytes:
        stream = io.BytesIO()
        with mpl.rc_context(_STYLE):
            figure.savefig(stream, format=kind[1:], dpi=_DPI, metadata=notes)
        return stream.getvalue()

    write_new(target, draw, overwrite=overwrite)


def _latin(text: str) -> str:
    return text.encode("latin-1", "replace").decode("latin-1")
