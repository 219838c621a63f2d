"""An audit as lines of text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pyarrow as pa

if TYPE_CHECKING:
    from skytwin.answers.audit import Audit

__all__ = ["audit_lines"]


def audit_lines(found: Audit) -> Iterator[str]:
    """The findings, the most worrying first."""
    total = len(found.matches.embeddings)
    yield (
        f"{found.measured} matches against {found.controls} random others of {total}, "
        f"{found.differences.table.num_rows} covariates"
    )
    groups = (
        ("shortcut", "SUSPECT: references and matches share what no object should decide"),
        ("references only", "the references share a defect that the matches have not followed"),
        ("matches only", "the matches differ, the references do not"),
        ("shared", "references and matches share it: is that what you want?"),
        ("with the object", "differs, but no more than the objects' light explains"),
    )
    if not found.shortcuts:
        yield "no shortcut found"
    for verdict, title in groups:
        names = found.differences.named(verdict)  # type: ignore[arg-type]
        if names:
            yield f"{title}:"
        yield from (_line(found.differences.row(name)) for name in names)
    if found.in_labels:
        yield "the labels go with it, so a purity cannot tell it from the class:"
        yield from (_line(found.labels.row(n)) for n in found.in_labels if found.labels)
    yield from _purity_lines(found.purity)
    yield from _stability_lines(found.stability)
    yield from (f"note: {note}" for note in found.notes)


def _line(row: dict[str, Any]) -> str:
    text = (
        f"  {row['covariate']:<24} {row['delta']:+.2f} [{row['lower']:+.2f}, {row['upper']:+.2f}]"
        f"  p {row['p_adjusted']:.2g}  {row['matches']:.4g} against {row['controls']:.4g}"
    )
    if row["left"] is not None:
        text += f"; beyond the objects' light {row['left']:+.2f}"
    if row["references"] is not None:
        text += f"; references {row['references']:+.2f}"
    return text


def _purity_lines(table: pa.Table | None) -> Iterator[str]:
    if table is None:
        return
    rows = {row["covariate"]: row for row in table.to_pylist()}
    told = [name for name in ("(none)", "(all)") if name in rows]
    alone = [row for name, row in rows.items() if not name.startswith("(")]
    worst = min(alone, key=lambda row: row["difference"], default=None)
    yield "purity against controls alike in"
    for name in [*told, *([worst["covariate"]] if worst else [])]:
        row = rows[name]
        yield (
            f"  {_plain(name):<24} {row['purity']:.3g} [{row['purity_lower']:.3g}, "
            f"{row['purity_upper']:.3g}] against {row['controls']:.3g} "
            f"[{row['controls_lower']:.3g}, {row['controls_upper']:.3g}], {row['pairs']} pairs"
        )


def _plain(name: str) -> str:
    return {"(none)": "nothing", "(all)": "all at once"}.get(name, name)


def _stability_lines(table: pa.Table | None) -> Iterator[str]:
    if table is None:
        return
    rows = table.to_pylist()
    yield f"of the first {rows[0]['top']} stay, among random others; among those ranked next"
    for row in rows:
        close = "" if row["close"] is None else f"; {row['close']:.2f}"
        yield (
            f"  {row['change']:<24} {row['share']:.2f} [{row['lower']:.2f}, {row['upper']:.2f}]"
            f"{close}; rank moves by {row['moved']:.0f}"
        )
