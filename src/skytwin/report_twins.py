"""What ``skytwin twins`` prints and saves."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from skytwin.answers.export import write_table
from skytwin.answers.leaks import Twins
from skytwin.answers.leaks_pairs import FIELD_KINDS, KINDS
from skytwin.errors import SkytwinError
from skytwin.images.cutouts import Cutouts
from skytwin.report_files import check_targets, draw_pictures, save_each, written
from skytwin.run import result_folder

__all__ = ["TwinFindings", "check_targets", "describe", "save"]

_SHOWN = 20
_MOST_PICTURES = 24


@dataclass(frozen=True, eq=False, kw_only=True)
class TwinFindings:
    """All that one ``skytwin twins`` found, and how to show it.

    Attributes
    ----------
    twins : Twins
    label : str or None
        Column of classes that should agree within an object.
    split : str or None
        Column that says train or test.
    display : str or None
        Stretch of the pictures.
    cutouts, other_cutouts : Cutouts or None
        Where the images are, if they were moved.
    """

    twins: Twins
    label: str | None = None
    split: str | None = None
    display: str | None = None
    cutouts: Cutouts | None = None
    other_cutouts: Cutouts | None = None


def describe(found: TwinFindings) -> str:
    """How many pairs of each kind, how many objects, what disagrees, and the first pairs."""
    twins = found.twins
    count = len(twins.embeddings)
    lines = [
        repr(twins)
        if twins.other is None
        else f"Twins({len(twins)} pairs between {count} entries and {len(twins.other)} others)"
    ]
    lines += [f"  {kind:<22} {twins.count(kind)}" for kind in KINDS if twins.count(kind)]
    if twins.other is None:
        lines.append(f"  {count} entries are {twins.objects} objects")
    else:
        shared = int(twins.shared.sum())
        lines.append(f"  {shared} of {len(twins.other)} entries there are objects that are here")
    if twins.blank:
        lines.append(f"  {twins.blank} image(s) without content: no copies of each other")
    if not np.isnan(twins.threshold):
        lines.append(
            f"  images count as nearly the same from r = {twins.unturned:.4f} as they lie, "
            f"{twins.threshold:.4f} turned"
        )
    lines += [f"  {note}" for note in twins.notes]
    if found.label is not None:
        lines += _told_apart(twins.differing(found.label), found.label, "labels that disagree")
    if found.split is not None:
        pairs = twins.differing(found.split, FIELD_KINDS)
        lines += _told_apart(pairs, found.split, "pairs on two sides of the split")
        if twins.other is None:
            rows = twins.straddling(found.split)
            lines.append(f"    {len(rows)} entries in groups that the split cuts")
    return "\n".join([*lines, *_listed(twins)])


def save(found: TwinFindings, out: Path | None, save: list[Path]) -> str:
    """Write a result folder and single files; say what was written."""
    twins = found.twins
    meta = twins.describe()
    save_each(save, lambda: _picture(found), twins.table, meta)
    if out is None:
        return written(save)
    parents = {"embeddings": twins.embeddings.as_parent()}
    if twins.other is not None:
        parents["other"] = twins.other.as_parent()
    blind = None
    with result_folder(
        out,
        kind="twins",
        recipe={**twins.settings, "label": found.label, "split": found.split},
        summary={
            "pairs": len(twins),
            "entries": len(twins.embeddings),
            "objects": twins.objects,
            **{kind: twins.count(kind) for kind in KINDS},
        },
        inputs={name: parent.path for name, parent in parents.items()},
        parents=parents,
    ) as where:
        for ending in ("vot", "csv", "parquet"):
            write_table(twins.table, where / f"pairs.{ending}", meta)
        write_table(_groups(twins), where / "groups.parquet", meta)
        write_table(_groups(twins), where / "groups.csv", meta)
        (where / "report.txt").write_text(describe(found) + "\n", encoding="utf-8")
        if found.label is not None:
            write_table(twins.differing(found.label), where / "disagreeing.csv", meta)
        if found.split is not None:
            pairs = twins.differing(found.split, FIELD_KINDS)
            write_table(pairs, where / "across_split.csv", meta)
        if len(twins):
            try:
                drawn = _picture(found)
            except SkytwinError as reason:
                blind = str(reason)
            else:
                draw_pictures(where, {"pairs": lambda: drawn}, meta)
    return written([*save, out], blind, "pictures")


def _told_apart(pairs: pa.Table, column: str, what: str) -> list[str]:
    lines = [f"  {what} ({column}): {len(pairs)}"]
    lines += [
        f"    {row['id']} {row['value']}; {row['other_id']} {row['other_value']}: {row['kind']}"
        for row in pairs.slice(0, _SHOWN).to_pylist()
    ]
    if len(pairs) > _SHOWN:
        lines.append(f"    and {len(pairs) - _SHOWN} more")
    return lines


def _listed(twins: Twins) -> list[str]:
    """The first pairs as aligned text."""
    names = ("kind", "id", "other_id", "separation", "similarity", "turn", "shift_x", "shift_y")
    rows = twins.table.select(list(names)).slice(0, _SHOWN).to_pylist()
    if not rows:
        return []
    cells = [list(names), *([_cell(row[name]) for name in names] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(names))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    ]
    more = len(twins) - len(rows)
    return [*lines, *([f"... and {more} more pairs; --out or --save keeps all"] if more else [])]


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _groups(twins: Twins) -> pa.Table:
    """Every entry with the numbers of its object and of its field, those of ``other`` last."""
    ids = list(twins.embeddings.ids)
    columns: dict[str, Any] = {
        "id": pa.array(ids, pa.string()),
        "object": twins.groups,
        "field": twins.fields,
    }
    table = pa.table(columns)
    if twins.other is None or twins.other_groups is None:
        return table
    there = pa.table(
        {
            "id": pa.array(list(twins.other.ids), pa.string()),
            "object": twins.other_groups,
            "field": twins.other_fields,
        }
    )
    both = pa.concat_tables([table, there])
    return both.append_column("set", pa.array(["first"] * len(table) + ["other"] * len(there)))


def _picture(found: TwinFindings) -> Any:
    from skytwin.answers.figures_twins import twin_pairs
    from skytwin.images.display import parse_display

    return twin_pairs(
        found.twins,
        _MOST_PICTURES,
        label=found.label or found.split,
        display=parse_display(found.display) if found.display else None,
        cutouts=found.cutouts,
        other_cutouts=found.other_cutouts,
    )
