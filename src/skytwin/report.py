"""What the command line prints of a folder: plain text, and a picture of its cutouts."""

from __future__ import annotations

import csv
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from skytwin.artefact import Manifest
from skytwin.embeddings.table import Embeddings
from skytwin.errors import unknown
from skytwin.files import require_new, write_atomically
from skytwin.images.at_hand import at_hand
from skytwin.images.cutouts import REJECTED, Cutouts

__all__ = ["describe_cutouts", "describe_embeddings", "describe_folder", "save_sheet"]


def describe_cutouts(cutouts: Cutouts) -> str:
    """What was ingested, and what was left out and why."""
    summary = cutouts.manifest.summary
    lines = [
        f"{cutouts!r}",
        f"  {cutouts.dtype} in {cutouts.unit or 'no stated unit'}; "
        f"{len(cutouts.catalog.column_names)} columns; {cutouts.folder}",
    ]
    if summary["images_without_catalog_row"]:
        count = summary["images_without_catalog_row"]
        lines.append(f"  {count} image(s) have no catalogue row: kept, their columns empty")
    reasons = _reasons(cutouts.folder / REJECTED)
    if reasons:
        lines.append(f"  left out ({sum(reasons.values())}), listed in {REJECTED}:")
        lines += [f"    {count} x {reason}" for reason, count in reasons.most_common(8)]
        if len(reasons) > 8:
            lines.append(f"    and {len(reasons) - 8} more reasons")
    return "\n".join(lines)


def _reasons(path: Path) -> Counter[str]:
    csv.field_size_limit(sys.maxsize)  # a reason may quote what was found
    with path.open(encoding="utf-8", newline="") as stream:
        return Counter(row["reason"] for row in csv.DictReader(stream))


def describe_embeddings(embeddings: Embeddings) -> str:
    """What was embedded, with which encoder."""
    lines = [f"{embeddings!r}"]
    rejected = embeddings.manifest.summary["rejected"] if embeddings.manifest else 0
    if rejected:
        lines.append(f"  left out ({rejected}), listed in {REJECTED}: no finite vector")
    return "\n".join(lines)


def describe_folder(folder: Path, *, verify: bool) -> str:
    """Kind, recipe, parents and size of an artefact."""
    folder = at_hand(folder)
    manifest = Manifest.open(folder)
    if verify:
        manifest.verify(folder, every_byte=True)
    size = sum(entry["bytes"] for entry in manifest.files.values())
    lines = [
        f"{folder}: {manifest.kind}, {len(manifest.files)} files, {size / 1e6:.1f} MB"
        + (", every byte verified" if verify else ""),
        f"  fingerprint  {manifest.fingerprint}",
    ]
    for title, content in (
        ("summary", manifest.summary),
        ("recipe", manifest.recipe),
        ("inputs", manifest.inputs),
        ("versions", manifest.versions),
    ):
        lines += [f"  {title}", *_nested(content, "    ")]
    for name, parent in manifest.parents.items():
        lines.append(f"  made from {name}: {parent.path} ({parent.fingerprint[:12]})")
    return "\n".join(lines)


def _nested(content: Mapping[str, Any], indent: str) -> list[str]:
    """Settings as indented lines; those that were not given are left out."""
    lines = []
    for name, value in content.items():
        if isinstance(value, Mapping):
            inner = _nested(value, indent + "  ")
            lines += [f"{indent}{name}", *inner] if inner else []
        elif isinstance(value, list):
            lines += [f"{indent}{name}: {', '.join(map(str, value))}"] if value else []
        elif value is not None:
            lines.append(f"{indent}{name}: {value}")
    return lines


def save_sheet(folder: Path, path: Path, display: str | None) -> None:
    """Write a contact sheet of the first cutouts of a folder."""
    from skytwin.images.display import contact_sheet_png, parse_display

    if path.suffix.lower() != ".png":
        raise unknown("picture format", path.suffix, [".png"])
    require_new(path)
    sheet = contact_sheet_png(Cutouts(folder), parse_display(display) if display else None)
    write_atomically(path, sheet)
