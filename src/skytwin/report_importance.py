"""What ``skytwin importance`` saves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from skytwin.answers.export import write_table
from skytwin.answers.importance import Importance
from skytwin.report_files import draw_pictures, save_each, written
from skytwin.run import Run

__all__ = ["save_importance"]


def save_importance(found: Importance, run: Run | None, save: list[Path]) -> str:
    """Write a result folder and single files; say what was written."""
    meta = found.describe()
    save_each(save, lambda: _drawn(found), found.table, meta)
    if run is None:
        return written(save)
    where = run.folder
    for ending in ("csv", "parquet"):
        write_table(found.table, where / f"importance.{ending}", meta, overwrite=True)
    (where / "report.txt").write_text(found.summary + "\n", encoding="utf-8")
    draw_pictures(where, {"importance": lambda: _drawn(found)}, meta)
    run.finish(
        {
            "r2": found.r2,
            "lower": found.lower,
            "upper": found.upper,
            "level": found.level,
            "predicts": found.predicts,
            "trained": found.trained,
            "tested": found.tested,
            "trees": found.trees,
        }
    )
    return written([*save, where])


def _drawn(found: Importance) -> Any:
    from skytwin.answers import figures_importance  # matplotlib only when a picture is drawn

    return figures_importance.importances(found)
