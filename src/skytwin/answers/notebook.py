"""What a notebook shows of an answer. A representation never raises: it says what it lacks."""

from __future__ import annotations

import html
import io
from collections.abc import Callable, Sequence

import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from skytwin.answers.figures_curves import purity_curve
from skytwin.answers.figures_mosaic import mosaic
from skytwin.answers.figures_style import figure_of
from skytwin.answers.purity import PurityCurve
from skytwin.answers.search import Matches
from skytwin.images.display import data_uri

__all__ = ["curve_html", "matches_html"]

_ROWS, _COLUMNS, _SIDE = 10, 10, 5
_DPI = 130


def matches_html(matches: Matches) -> str:
    """The mosaic of some matches above the first rows of their table."""
    return _all_of(
        lambda: _facts(repr(matches)),
        lambda: _picture(lambda: mosaic(matches, side=_SIDE), "the nearest matches"),
        lambda: _table(matches.table),
    )


def curve_html(curve: PurityCurve) -> str:
    """The purity curve above what it says of the nearest 25, 100 and 1000 objects."""
    return _all_of(
        lambda: _facts(repr(curve)),
        lambda: _picture(lambda: purity_curve(curve), "purity against distance"),
        lambda: _table(_at_counts(curve)),
    )


def _all_of(*parts: Callable[[], str]) -> str:
    return "<div>" + "".join(_or_reason(part) for part in parts) + "</div>"


def _or_reason(part: Callable[[], str]) -> str:
    try:
        return part()
    except Exception as error:  # a representation that raises hides the object itself
        return _facts(f"not shown: {error}")


def _facts(text: str) -> str:
    return f"<p>{html.escape(text)}</p>"


def _picture(draw: Callable[[], Figure | Axes], what: str) -> str:
    stream = io.BytesIO()
    figure_of(draw()).savefig(stream, format="png", dpi=_DPI)
    return f'<img src="{data_uri(stream.getvalue())}" alt="{what}" style="max-width: 100%">'


def _at_counts(curve: PurityCurve) -> pa.Table:
    counts = [count for count in (25, 100, 1000) if count <= curve.base.total]
    cuts = [curve.at_count(count) for count in counts]
    return pa.table(
        {
            "objects": [cut.within.total for cut in cuts],
            "within distance": [cut.distance for cut in cuts],
            "purity": [cut.within.value for cut in cuts],
            "lower": [cut.within.lower for cut in cuts],
            "upper": [cut.within.upper for cut in cuts],
            "lift": [cut.lift for cut in cuts],
        }
    )


def _table(table: pa.Table) -> str:
    names = table.column_names[:_COLUMNS]
    rows = table.select(names).slice(0, _ROWS).to_pydict()
    lines = [_row("th", names)]
    lines += [
        _row("td", [_cell(value) for value in row]) for row in zip(*rows.values(), strict=True)
    ]
    left = len(table) - _ROWS
    more = _facts(f"and {left} more") if left > 0 else ""
    return f"<table>{''.join(lines)}</table>{more}"


def _row(tag: str, cells: Sequence[str]) -> str:
    return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"


def _cell(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)[:60]
