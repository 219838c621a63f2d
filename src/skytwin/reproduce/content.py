"""What a section of a report says: tables, figures, and text whose numbers point into tables.

A number in a text is never written out: it is the place of a value in one of the section's tables,
and the page looks it up there. So what is read is what is stored.
"""

from __future__ import annotations

import functools
import json
import string
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from skytwin.answers.export import write_table
from skytwin.artefact import Manifest, Parent, canonical, from_dict, json_bytes
from skytwin.errors import UsageError
from skytwin.report_files import save_picture

__all__ = ["CONTENT", "Column", "Draft", "Number", "Role", "Style", "Written", "column", "shown"]

CONTENT = "content.json"
Style = Literal["text", "count", "share", "points", "lift", "number"]
Role = Literal["plain", "paper", "differences", "note"]


@dataclass(frozen=True, kw_only=True)
class Column:
    """How a column of a table is shown.

    Attributes
    ----------
    name : str
        In the table.
    head : str
        In the page.
    style : str
        See `shown`.
    lower, upper : str or None
        Columns with the ends of its interval.
    """

    name: str
    head: str
    style: Style = "text"
    lower: str | None = None
    upper: str | None = None


def column(name: str, head: str, style: Style = "text", *, ends: str | None = None) -> Column:
    """A `Column`; its interval ends in ``{ends}_lower`` and ``_upper``, or in those words alone."""
    if ends is None:
        return Column(name=name, head=head, style=style)
    lead = f"{ends}_" if ends else ""
    return Column(name=name, head=head, style=style, lower=f"{lead}lower", upper=f"{lead}upper")


@dataclass(frozen=True, kw_only=True)
class Number:
    """The place of a value in a table of the section, and how it is shown."""

    table: str
    row: int
    column: str
    style: Style
    lower: str | None = None
    upper: str | None = None


def shown(value: Any, style: Style) -> str:
    """A value as it stands in the page.

    ``share`` 0.415 is ``41.5 %``; ``points`` is a difference of shares, signed, in percentage
    points; ``lift`` has two or three digits and a cross; nothing, and NaN, is a dash.
    """
    if value is None or (isinstance(value, float) and value != value):
        return "–"
    if style == "text":
        return str(value)
    if style == "count":
        return f"{int(value):,}".replace(",", "\u202f")
    if style == "share":
        return f"{_digits(100 * value)} %"
    if style == "points":
        return f"{100 * value:+.1f}".replace("-", "−")
    if style == "lift":
        return f"×{_digits(value)}"
    return _digits(value)


def _digits(value: float) -> str:
    text = f"{value:#.3g}".rstrip(".") if abs(value) < 1000 else f"{value:.0f}"
    return "0" if value == 0 else text.replace("-", "−")


@dataclass(eq=False)
class Draft:
    """A section being written.

    Methods add blocks in reading order; `save` writes them.
    """

    tables: dict[str, pa.Table] = field(default_factory=dict)
    columns: dict[str, tuple[Column, ...]] = field(default_factory=dict)
    blocks: list[dict[str, Any]] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)

    def table(
        self,
        name: str,
        rows: Sequence[Mapping[str, Any]] | pa.Table,
        columns: Sequence[Column],
        caption: str = "",
        *,
        show: bool = True,
        most: int = 60,
    ) -> None:
        """Keep a table; show it, its first ``most`` rows, where ``show``."""
        kept = rows if isinstance(rows, pa.Table) else _as_table(rows)
        if name in self.tables:
            raise UsageError(f"two tables {name!r} in one section; give each a name of its own")
        self.tables[name], self.columns[name] = kept, tuple(columns)
        if show and len(kept):
            self.blocks.append({"kind": "table", "table": name, "caption": caption, "most": most})

    def row(self, table: str, **where: Any) -> int:
        """The one row of a table with these values."""
        rows = self.tables[table].to_pylist()
        found = [i for i, row in enumerate(rows) if all(row[k] == v for k, v in where.items())]
        if len(found) != 1:
            raise UsageError(f"{len(found)} rows of {table} with {where}; expected one")
        return found[0]

    def value(self, table: str, column: str, **where: Any) -> Any:
        """A value of a table, to decide what to say."""
        return self.tables[table][column][self.row(table, **where)].as_py()

    def at(
        self, table: str, column: str, *, style: Style = "text", interval: bool = True, **where: Any
    ) -> Number:
        """A value of a table, to stand in a text.

        It is shown as its column is, with its interval; in ``style`` where the page does not show
        the column.
        """
        plain = Column(name=column, head="", style=style)
        look = next((c for c in self.columns[table] if c.name == column), plain)
        return Number(
            table=table,
            row=self.row(table, **where),
            column=column,
            style=look.style,
            lower=look.lower if interval else None,
            upper=look.upper if interval else None,
        )

    def say(self, template: str, /, role: Role = "plain", **numbers: Number | str) -> None:
        """Add a paragraph; ``{name}`` stands for a number, or a text, given by that name."""
        self.blocks.append({"kind": "text", "role": role, "parts": _parts(template, numbers)})

    def heading(self, text: str) -> None:
        """Add a heading below the section's title."""
        self.blocks.append({"kind": "heading", "text": text})

    def figure(
        self, name: str, drawn: Any, caption: str, *, alt: str, **numbers: Number | str
    ) -> None:
        """Add a figure; ``alt`` says in words what it shows."""
        self.figures[name] = drawn
        parts = _parts(caption, numbers)
        self.blocks.append({"kind": "figure", "file": f"{name}.png", "alt": alt, "parts": parts})

    def save(self, folder: Path, meta: Mapping[str, str]) -> None:
        """Write tables as Parquet and CSV, figures as PNG, and what stands around them."""
        for name, table in self.tables.items():
            for ending in ("parquet", "csv"):
                write_table(table, folder / f"{name}.{ending}", meta)
        for name, drawn in self.figures.items():
            save_picture(drawn, folder / f"{name}.png", meta)
        looks = {name: [asdict(c) for c in cs] for name, cs in self.columns.items()}
        content = json.loads(canonical({"columns": looks, "blocks": self.blocks}))
        (folder / CONTENT).write_bytes(json_bytes(content))


def _as_table(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Rows that need not have all columns."""
    names = dict.fromkeys(name for row in rows for name in row)
    return pa.table({name: [row.get(name) for row in rows] for name in names})


def _parts(template: str, numbers: Mapping[str, Number | str]) -> list[Any]:
    parts: list[Any] = []
    for text, name, _, _ in string.Formatter().parse(template):
        if text:
            parts.append(text)
        if name is not None:
            given = numbers[name]
            parts.append(given if isinstance(given, str) else asdict(given))
    return parts


@dataclass(frozen=True, eq=False, kw_only=True)
class Written:
    """A finished section, read from its folder."""

    name: str
    folder: Path
    manifest: Manifest

    @functools.cached_property
    def content(self) -> dict[str, Any]:
        """Columns by table, and blocks in reading order."""
        found: dict[str, Any] = json.loads((self.folder / CONTENT).read_text(encoding="utf-8"))
        return found

    @functools.cached_property
    def tables(self) -> dict[str, pa.Table]:
        """Its tables by name."""
        return {p.stem: pq.read_table(p) for p in sorted(self.folder.glob("*.parquet"))}

    @property
    def columns(self) -> dict[str, tuple[Column, ...]]:
        """How its tables are shown, by name."""
        return {
            name: tuple(from_dict(Column, c) for c in columns)
            for name, columns in self.content["columns"].items()
        }

    def rows(self, table: str) -> list[dict[str, Any]]:
        """A table's rows; none where the section could not make it."""
        return self.tables[table].to_pylist() if table in self.tables else []

    def as_parent(self) -> Parent:
        """How what is made from this section refers to it."""
        return Parent(
            kind=self.manifest.kind,
            path=str(self.folder.resolve()),
            fingerprint=self.manifest.fingerprint,
        )
