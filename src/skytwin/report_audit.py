"""What ``skytwin audit`` prints and saves."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from skytwin.answers import figures_audit
from skytwin.answers.audit import Audit
from skytwin.answers.export import write_table
from skytwin.report_files import draw_pictures, written
from skytwin.run import result_folder

__all__ = ["describe", "save_audit"]


def describe(found: Audit) -> str:
    """The audit as text."""
    return found.summary


def save_audit(found: Audit, out: Path | None) -> str:
    """Write tables, figures, the summary and the manifest; returns what to say."""
    if out is None:
        return ""
    meta = found.describe()
    embeddings = found.matches.embeddings
    parent = embeddings.as_parent()
    tables: dict[str, pa.Table | None] = {
        "differences": found.differences.table,
        "labels": found.labels.table if found.labels is not None else None,
        "purity": found.purity,
        "stability": found.stability,
    }
    references = [r.told for r in found.matches.references]
    drawings = {"effects": lambda: figures_audit.audit_effects(found)}
    if found.stability is not None:
        drawings["stability"] = lambda: figures_audit.audit_stability(found)
    with result_folder(
        out,
        kind="audit",
        recipe={
            "search": found.matches.settings,
            "references": references,
            "audit": found.settings,
        },
        summary={
            "matches": found.measured,
            "controls": found.controls,
            "shortcuts": found.shortcuts,
            "shared": found.shared,
            "in_labels": found.in_labels,
        },
        inputs={"embedding": parent.path},
        parents={"embeddings": parent},
    ) as where:
        for name, table in tables.items():
            if table is not None:
                write_table(table, where / f"{name}.csv", meta)
                write_table(table, where / f"{name}.vot", meta)
        draw_pictures(where, drawings, meta)
        (where / "summary.txt").write_text(found.summary + "\n", encoding="utf-8")
    return written([out])
