"""Sections as one HTML page that needs nothing beside itself.

Pictures lie in the page; there is no script, no font and no style from elsewhere. Every number is a
``<data>`` element whose ``title`` names the table, row and column it was read from.
"""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jinja2
import pyarrow as pa
from PIL import Image

from skytwin.files import hash_file
from skytwin.reproduce.content import Column, Number, Written, shown

__all__ = ["INDEX", "PAGE_CODE", "Facts", "render"]

INDEX = "index.html"
_TEMPLATES = Path(__file__).parent / "templates"
_LOSSLESS_UP_TO = 200_000  # bytes
_QUALITY = 90


def _page_code() -> str:
    """Hash of what shapes a page beside its content."""
    digest = hashlib.sha256()
    sources = [Path(__file__), Path(__file__).parent / "content.py", *sorted(_TEMPLATES.iterdir())]
    for path in sources:
        if path.is_file():
            digest.update(hash_file(path).encode())
    return digest.hexdigest()


PAGE_CODE = _page_code()


@dataclass(frozen=True, kw_only=True)
class Facts:
    """The head of a page.

    Attributes
    ----------
    lead : tuple of str
        Paragraphs: what was reproduced on what.
    cited : tuple of (str, str)
        Papers and their addresses.
    rows : tuple of (str, str)
        What was used, by name.
    """

    lead: tuple[str, ...]
    cited: tuple[tuple[str, str], ...]
    rows: tuple[tuple[str, str], ...]

    def as_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)


def render(title: str, facts: Facts, sections: Sequence[tuple[str, str, Written, str]]) -> str:
    """The page as text.

    Parameters
    ----------
    title : str
    facts : Facts
    sections : sequence of (title, source, Written, place)
        In reading order; ``place`` is the section's folder relative to the page.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html").render(
        title=title,
        facts=facts,
        style=(_TEMPLATES / "report.css").read_text(encoding="utf-8"),
        sections=[_section(i, *section) for i, section in enumerate(sections, start=1)],
    )


def _section(number: int, title: str, source: str, written: Written, place: str) -> dict[str, Any]:
    manifest = written.manifest
    return {
        "number": number,
        "name": written.name,
        "title": title,
        "source": source,
        "place": place,
        "fingerprint": manifest.fingerprint,
        "blocks": [_block(block, written, place) for block in written.content["blocks"]],
        "tables": sorted(written.tables),
        "settings": _flat(manifest.recipe["settings"]),
        "versions": ", ".join(f"{k} {v}" for k, v in manifest.versions.items()),
        "parents": [
            {"name": name, "kind": p.kind, "path": p.path, "fingerprint": p.fingerprint}
            for name, p in manifest.parents.items()
        ],
    }


def _flat(settings: Mapping[str, Any], lead: str = "") -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for name, value in settings.items():
        if isinstance(value, Mapping):
            found += _flat(value, f"{lead}{name}.")
        elif value is not None:
            found.append(
                (
                    f"{lead}{name}",
                    ", ".join(map(str, value)) if isinstance(value, list) else str(value),
                )
            )
    return found


def _block(block: Mapping[str, Any], written: Written, place: str) -> dict[str, Any]:
    made = dict(block)
    if "parts" in block:
        made["parts"] = [
            part if isinstance(part, str) else _number(Number(**part), written, place)
            for part in block["parts"]
        ]
    if block["kind"] == "figure":
        made["source"] = _picture(written.folder / block["file"])
    if block["kind"] == "table":
        name = block["table"]
        made |= _table(
            written.tables[name], written.columns[name], f"{place}/{name}.parquet", block["most"]
        )
    return made


def _number(number: Number, written: Written, place: str) -> dict[str, Any]:
    table = written.tables[number.table]
    look = Column(
        name=number.column, head="", style=number.style, lower=number.lower, upper=number.upper
    )
    return _cell(table, number.row, look, f"{place}/{number.table}.parquet")


def _table(table: pa.Table, columns: Sequence[Column], file: str, most: int) -> dict[str, Any]:
    rows = min(len(table), most)
    return {
        "file": file,
        "heads": [{"text": c.head, "right": c.style != "text"} for c in columns],
        "rows": [[_cell(table, row, c, file) for c in columns] for row in range(rows)],
        "more": len(table) - rows,
    }


def _cell(table: pa.Table, row: int, look: Column, file: str) -> dict[str, Any]:
    """A value, and the ends of its interval, each with its place."""

    def one(column: str) -> dict[str, Any]:
        value = table[column][row].as_py()
        return {
            "value": ""
            if value is None
            else repr(value)
            if isinstance(value, float)
            else str(value),
            "text": shown(value, look.style),
            "from": f"{file}, row {row}, {column}",
        }

    made: dict[str, Any] = {"main": one(look.name), "right": look.style != "text", "ends": []}
    if look.lower is not None and look.upper is not None:
        ends = [one(look.lower), one(look.upper)]
        for end in ends:
            end["text"] = end["text"].removesuffix(" %").removeprefix("×")
        made["ends"] = ends if ends[0]["text"] != "–" else []
    return made


def _picture(path: Path) -> str:
    """A picture as a data address: WebP, without loss where that is small."""
    with Image.open(path) as opened:
        picture = opened.convert("RGB")
    stream = io.BytesIO()
    picture.save(stream, "WEBP", lossless=True, method=4)
    if stream.tell() > _LOSSLESS_UP_TO:
        stream = io.BytesIO()
        picture.save(stream, "WEBP", quality=_QUALITY, method=4)
    return f"data:image/webp;base64,{base64.b64encode(stream.getvalue()).decode()}"
