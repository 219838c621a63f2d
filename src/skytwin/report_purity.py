"""What a purity curve prints and saves: plain text, tables, pictures, a manifest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skytwin.answers.export import write_table
from skytwin.answers.purity import Carried, Composition, PurityCurve, Threshold
from skytwin.answers.ranking import how_named
from skytwin.report_files import draw_pictures, query_folder, save_each, written

__all__ = ["PurityFindings", "describe_purity", "save_purity"]

_SHOWN_CLASSES = 12


@dataclass(frozen=True, eq=False, kw_only=True)
class PurityFindings:
    """All that one ``skytwin purity`` found."""

    curve: PurityCurve
    name: str
    threshold: Threshold | None = None
    carried: Carried | None = None
    composition: Composition | None = None
    others: Mapping[str, PurityCurve]


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


def save_purity(found: PurityFindings, out: Path | None, save: list[Path]) -> str:
    """Write a result folder and single files for a purity curve; say what was written."""
    from skytwin.answers import figures_curves

    curve = found.curve
    meta = curve.describe()
    save_each(
        save,
        lambda: figures_curves.purity_curve(curve, threshold=found.threshold),
        curve.table,
        meta,
    )
    if out is None:
        return written(save)
    settings = {**curve.settings, "positive": list(curve.positive)}
    with query_folder(out, "purity", settings, curve.references, curve.embeddings) as where:
        write_table(curve.table, where / "purity.csv", meta)
        write_table(curve.table, where / "purity.parquet", meta)
        (where / "report.txt").write_text(describe_purity(found) + "\n", encoding="utf-8")
        drawings: dict[str, Any] = {
            "purity": lambda: figures_curves.purity_curve(curve, threshold=found.threshold),
            "distances": lambda: figures_curves.distance_histogram(curve),
        }
        composition = found.composition
        if composition is not None:
            write_table(composition.table, where / "composition.csv", meta)
            drawings["composition"] = lambda: figures_curves.composition(composition)
        if found.others:
            curves = {found.name: curve, **found.others}
            drawings["ablation"] = lambda: figures_curves.ablation(curves)
        draw_pictures(where, drawings, meta)
    return written([*save, out])
