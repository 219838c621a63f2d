"""What a search prints and saves: plain text, tables, pictures, a manifest."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from skytwin.answers.export import write_table
from skytwin.answers.search import Matches
from skytwin.answers.trust import Trust
from skytwin.embeddings.table import Embeddings
from skytwin.errors import UsageError
from skytwin.report_files import draw_pictures, query_folder, save_each, written

__all__ = ["Look", "describe_matches", "save_matches"]

_SHOWN_ROWS, _SHOWN_COLUMNS = 25, 9


@dataclass(frozen=True, kw_only=True)
class Look:
    """How pictures of matches are drawn."""

    label: str | None = None
    side: int = 5
    display: str | None = None
    cutouts: Path | None = None


def describe_matches(trusted: Trust) -> str:
    """The matches as an aligned table of text, after what is to be known of them."""
    matches = trusted.matches
    lines = [repr(matches)]
    if matches.excluded:
        lines.append(
            f"  {matches.excluded} object(s) left out: a reference, or at its place on the sky"
        )
    lines.append(f"  {matches.scanned}")
    if not len(matches):
        lines.append("  nothing lies within this distance; leave --radius out to see the nearest")
        return "\n".join(lines)
    lines += [f"  {line}" for line in trusted.lines]
    hidden = {"origin"} if len(matches.references) > 1 else {"origin", "reference"}
    return "\n".join([*lines, _text_table(trusted.table, hidden)])


def _text_table(table: pa.Table, hidden: set[str]) -> str:
    rows = table.slice(0, _SHOWN_ROWS).to_pylist()
    told = [
        name
        for name in table.column_names
        # A catalogue's own identifier often says what ours says.
        if name == "id" or (name not in hidden and any(str(r[name]) != r["id"] for r in rows))
    ]
    names = told[:_SHOWN_COLUMNS]
    cells = [[_cell(name, row[name]) for name in names] for row in rows]
    widths = [max(map(len, column)) for column in zip(names, *cells, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in [names, *cells]
    ]
    more = []
    if len(table) > _SHOWN_ROWS:
        more.append(f"{len(table) - _SHOWN_ROWS} more rows")
    if len(told) > len(names):
        more.append(f"{len(told) - len(names)} more columns")
    if more:
        lines.append(f"... {' and '.join(more)}; --out or --save keeps all")
    return "\n".join(lines)


def _cell(name: str, value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        # Six digits of a right ascension would be off by seconds of arc.
        return f"{value:.5f}" if name in ("ra", "dec") else f"{value:.6g}"
    text = " ".join(str(value).split())
    return text if len(text) <= 40 else f"{text[:37]}..."


def save_matches(trusted: Trust, out: Path | None, save: list[Path], look: Look) -> str:
    """Write a result folder and single files for some matches; say what was written."""
    matches, table = trusted.matches, trusted.table
    meta = matches.describe()
    save_each(save, lambda: _mosaic(matches, look), table, meta)
    if out is None:
        return written(save)
    blind = _no_mosaic(matches.embeddings, look)
    settings, source = matches.settings, matches.embeddings
    with query_folder(out, "matches", settings, matches.references, source) as where:
        for ending in ("vot", "csv", "parquet"):
            write_table(table, where / f"matches.{ending}", meta)
        (where / "report.txt").write_text(describe_matches(trusted) + "\n", encoding="utf-8")
        drawings = {"distances": lambda: _histogram(matches)}
        drawings |= _trust_drawings(trusted)
        if blind is None:
            drawings["mosaic"] = lambda: _mosaic(matches, look)
        if len(matches):
            draw_pictures(where, drawings, meta)
    return written([*save, out], blind)


def _mosaic(matches: Matches, look: Look) -> Any:
    from skytwin.answers import figures_mosaic
    from skytwin.images.display import parse_display

    return figures_mosaic.mosaic(
        matches,
        side=look.side,
        label=look.label,
        display=parse_display(look.display) if look.display else None,
        cutouts=matches.embeddings.cutouts(look.cutouts),
    )


def _no_mosaic(embeddings: Embeddings, look: Look) -> str | None:
    """Why a folder comes without a mosaic: nobody asked for one, so the rest is still written."""
    if look.cutouts is None:
        try:
            embeddings.cutouts()
        except UsageError as error:
            return str(error)
    return None


def _trust_drawings(trusted: Trust) -> dict[str, Any]:
    """What there is to draw of chance and probability, by file name."""
    from skytwin.answers import figures_trust

    drawings: dict[str, Any] = {}
    chance, calibration = trusted.significance, trusted.calibration
    if chance is not None and len(trusted.matches):
        drawings["chance"] = lambda: figures_trust.null_distribution(chance)
    if calibration is not None:
        drawings["reliability"] = lambda: figures_trust.reliability_diagram(calibration)
    return drawings


def _histogram(matches: Matches) -> Any:
    from skytwin.answers import figures_curves

    return figures_curves.distance_histogram(matches)
