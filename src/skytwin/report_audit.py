"""What ``skytwin audit`` prints and saves."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from skytwin.answers import figures_audit, figures_style
from skytwin.answers.audit import Audit
from skytwin.answers.export import write_table
from skytwin.artefact import Parent
from skytwin.run import require_free, result_folder

__all__ = ["check_targets", "describe", "save_audit"]

_PICTURES = (".png", ".pdf")


def check_targets(out: Path | None) -> None:
    """Refuse a folder that is taken before any work is done.

    Raises
    ------
    OutputExists
        A folder with something in it, or a file, is there.
    """
    if out is not None:
        require_free(out)


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
    references = [f"{r.kind}: {r.name}" for r in found.matches.references]
    drawings = {"effects": figures_audit.audit_effects(found)}
    if found.stability is not None:
        drawings["stability"] = figures_audit.audit_stability(found)
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
        parents={"embeddings": Parent(**vars(parent))},
    ) as where:
        for name, table in tables.items():
            if table is not None:
                write_table(table, where / f"{name}.csv", meta)
                write_table(table, where / f"{name}.vot", meta)
        for name, drawn in drawings.items():
            for ending in _PICTURES:
                figures_style.save(drawn, where / f"{name}{ending}", meta)
        (where / "summary.txt").write_text(found.summary + "\n", encoding="utf-8")
    return f"written: {out}"
