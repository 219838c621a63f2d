"""What ``skytwin importance`` saves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from skytwin.answers.export import write_table
from skytwin.answers.importance import Importance
from skytwin.report_files import draw_pictures, save_each, written
from skytwin.run import result_folder

__all__ = ["save_importance"]


def save_importance(found: Importance, out: Path | None, save: list[Path]) -> str:
    """Write a result folder and single files; say what was written."""
    meta = found.describe()
    save_each(save, lambda: _drawn(found), found.table, meta)
    if out is None:
        return written(save)
    parent = found.embeddings.as_parent()
    with result_folder(
        out,
        kind="importance",
        recipe={
            "target": found.target,
            "trees": found.trees,
            "batch": found.batch,
            "test_share": found.test_share,
            "group_arcsec": found.group_arcsec,
            "repeats": found.repeats,
            "where": found.where,
            "seed": found.seed,
            "level": found.level,
        },
        summary={
            "r2": found.r2,
            "lower": found.lower,
            "upper": found.upper,
            "predicts": found.predicts,
            "trained": found.trained,
            "tested": found.tested,
        },
        inputs={"embedding": parent.path},
        parents={"embeddings": parent},
    ) as where:
        write_table(found.table, where / "importance.csv", meta)
        write_table(found.table, where / "importance.parquet", meta)
        (where / "report.txt").write_text(found.summary + "\n", encoding="utf-8")
        draw_pictures(where, {"importance": lambda: _drawn(found)}, meta)
    return written([*save, out])


def _drawn(found: Importance) -> Any:
    from skytwin.answers import figures_importance  # matplotlib only when a picture is drawn

    return figures_importance.importances(found)
