"""What the command line prints and saves: plain text, tables, pictures, manifests."""

from __future__ import annotations

import csv
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from skytwin.answers.export import write_table
from skytwin.answers.purity import Carried, Composition, PurityCurve, Threshold
from skytwin.answers.ranking import how_named
from skytwin.answers.search import Matches
from skytwin.answers.trust import Trust
from skytwin.artefact import Manifest
from skytwin.embeddings.table import Embeddings
from skytwin.errors import UsageError, unknown
from skytwin.files import require_new, write_atomically
from skytwin.images.cutouts import REJECTED, Cutouts
from skytwin.report_files import draw_pictures, save_each, written
from skytwin.run import result_folder

__all__ = [
    "Look",
    "PurityFindings",
    "describe_cutouts",
    "describe_embeddings",
    "describe_folder",
    "describe_matches",
    "describe_purity",
    "save_matches",
    "save_purity",
    "save_sheet",
]

_SHOWN_ROWS, _SHOWN_COLUMNS, _SHOWN_CLASSES = 25, 9, 12


@dataclass(frozen=True, kw_only=True)
class Look:
    """How pictures of matches are drawn."""

    label: str | None = None
    side: int = 5
    display: str | None = None
    cutouts: Path | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class PurityFindings:
    """All that one ``skytwin purity`` found."""

    curve: PurityCurve
    name: str
    threshold: Threshold | None = None
    carried: Carried | None = None
    composition: Composition | None = None
    others: Mapping[str, PurityCurve]


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


def describe_purity(found: PurityFindings) -> str:
    """The purity at useful cuts, always with base rate and interval."""
    curve = found.curve
    level = f"{curve.base.level:.0%}"
    lines = [
        f"purity for {' or '.join(curve.positive)}, {how_named(curve.settings)}, "
        f"{len(curve.references)} reference(s); intervals are Jeffreys {level}",
        f"  base rate       {curve.base}"
        + (f"; {curve.unlabelled} object(s) without label not counted" if curve.unlabelled else "")
        + (f"; {curve.repeats} further entries of objects not counted" if curve.repeats else ""),
    ]
    lines += _at_counts(curve, "  ")
    if found.threshold is not None:
        lines.append(f"  threshold       {_cut(found.threshold)}")
    if found.carried is not None:
        lines += _carried(found.carried)
    for name, other in found.others.items():
        lines.append(f"  {name}: base rate {other.base}")
        lines += _at_counts(other, "    ")
    if found.composition is not None:
        comp = found.composition
        lines.append(f"  the nearest {comp.top} by {comp.column}:")
        classes = list(zip(comp.classes, comp.share, comp.base, strict=True))
        lines += [
            f"    {name}: {share}; base rate {base.value:.3g}, lift {share.value / base.value:.2f}"
            for name, share, base in classes[:_SHOWN_CLASSES]
        ]
        if len(classes) > _SHOWN_CLASSES:
            lines.append(f"    and {len(classes) - _SHOWN_CLASSES} more values")
    return "\n".join(lines)


def _at_counts(curve: PurityCurve, indent: str) -> list[str]:
    return [
        f"{indent}nearest {count:<6}  {_cut(curve.at_count(count))}"
        for count in (10, 25, 100, 1000)
        if count <= curve.base.total
    ]


def _cut(threshold: Threshold) -> str:
    if not threshold.within.total:
        return f"no labelled object within distance {threshold.distance:.4g}"
    return (
        f"{threshold.within}  lift {threshold.lift:.2f}  within distance {threshold.distance:.4g}"
    )


def _carried(carried: Carried) -> list[str]:
    lines = [
        f"  carried over    {carried.selected_there} object(s) within {carried.distance:.4g} there",
    ]
    if carried.shared:
        lines.append(
            f"    {carried.shared} more lie at places of this set: the threshold was chosen on "
            "them, and they are left out"
        )
    if carried.labelled:
        lines.append(
            f"    purity there  {carried.there}; base rate there {carried.base_there}; "
            f"here {carried.here}"
        )
    else:
        lines.append("    purity there  unknown: that set has no such labels")
    for part in (carried.drift, carried.prevalence):
        if part is not None:
            lines.append(f"    {part.summary}")
            if part.warning:
                lines.append(f"    warning: {part.warning}")
    return lines


def save_matches(trusted: Trust, out: Path | None, save: list[Path], look: Look) -> str:
    """Write a result folder and single files for some matches; say what was written."""
    matches, table = trusted.matches, trusted.table
    meta = matches.describe()
    save_each(save, lambda: _mosaic(matches, look), table, meta)
    if out is None:
        return written(save)
    blind = _no_mosaic(matches.embeddings, look)
    with _folder(out, "matches", matches.settings, matches.references, matches.embeddings) as where:
        for ending in ("vot", "csv", "parquet"):
            write_table(table, where / f"matches.{ending}", meta)
        (where / "report.txt").write_text(describe_matches(trusted) + "\n", encoding="utf-8")
        drawings = {"distances": lambda: _histogram(matches)}
        drawings |= trust_drawings(trusted)
        if blind is None:
            drawings["mosaic"] = lambda: _mosaic(matches, look)
        if len(matches):
            draw_pictures(where, drawings, meta)
    return written([*save, out], blind)


def save_purity(found: PurityFindings, out: Path | None, save: list[Path]) -> str:
    """Write a result folder and single files for a purity curve; say what was written."""
    from skytwin.answers import figures

    curve = found.curve
    meta = curve.describe()
    save_each(
        save, lambda: figures.purity_curve(curve, threshold=found.threshold), curve.table, meta
    )
    if out is None:
        return written(save)
    settings = {**curve.settings, "positive": list(curve.positive)}
    with _folder(out, "purity", settings, curve.references, curve.embeddings) as where:
        write_table(curve.table, where / "purity.csv", meta)
        write_table(curve.table, where / "purity.parquet", meta)
        (where / "report.txt").write_text(describe_purity(found) + "\n", encoding="utf-8")
        drawings: dict[str, Any] = {
            "purity": lambda: figures.purity_curve(curve, threshold=found.threshold),
            "distances": lambda: figures.distance_histogram(curve),
        }
        composition = found.composition
        if composition is not None:
            write_table(composition.table, where / "composition.csv", meta)
            drawings["composition"] = lambda: figures.composition(composition)
        if found.others:
            curves = {found.name: curve, **found.others}
            drawings["ablation"] = lambda: figures.ablation(curves)
        draw_pictures(where, drawings, meta)
    return written([*save, out])


def save_sheet(folder: Path, path: Path, display: str | None) -> None:
    """Write a contact sheet of the first cutouts of a folder."""
    from skytwin.images.display import contact_sheet_png, parse_display

    if path.suffix.lower() != ".png":
        raise unknown("picture format", path.suffix, [".png"])
    require_new(path)
    sheet = contact_sheet_png(Cutouts(folder), parse_display(display) if display else None)
    write_atomically(path, sheet)


def _folder(
    out: Path,
    kind: str,
    settings: Mapping[str, Any],
    references: tuple[Any, ...],
    embeddings: Embeddings,
) -> Any:
    parent = embeddings.as_parent()
    return result_folder(
        out,
        kind=kind,
        recipe={**settings, "references": [r.told for r in references]},
        summary={"objects": len(embeddings)},
        inputs={"embedding": parent.path},
        parents={"embeddings": parent},
    )


def _mosaic(matches: Matches, look: Look) -> Any:
    from skytwin.answers import figures
    from skytwin.images.display import parse_display

    return figures.mosaic(
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


def trust_drawings(trusted: Trust) -> dict[str, Any]:
    """What there is to draw of chance and probability, by file name."""
    from skytwin.answers import figures

    drawings: dict[str, Any] = {}
    chance, calibration = trusted.significance, trusted.calibration
    if chance is not None and len(trusted.matches):
        drawings["chance"] = lambda: figures.null_distribution(chance)
    if calibration is not None:
        drawings["reliability"] = lambda: figures.reliability_diagram(calibration)
    return drawings


def _histogram(matches: Matches) -> Any:
    from skytwin.answers import figures

    return figures.distance_histogram(matches)
