"""What ``skytwin compare`` saves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from skytwin.answers.compare import Comparison
from skytwin.answers.export import write_table
from skytwin.report_files import draw_pictures, save_each, written
from skytwin.run import Run

__all__ = ["save_comparison"]


def save_comparison(found: Comparison, run: Run | None, save: list[Path]) -> str:
    """Write a result folder and single files; say what was written."""
    meta = found.describe()
    save_each(save, lambda: _drawn(found), found.table, meta)
    if run is None:
        return written(save)
    where = run.folder
    for ending in ("csv", "parquet"):
        write_table(found.table, where / f"comparison.{ending}", meta, overwrite=True)
    (where / "report.txt").write_text(found.summary + "\n", encoding="utf-8")
    draw_pictures(where, {"comparison": lambda: _drawn(found)}, meta)
    run.finish({"best": " ".join(found.best), "base_rate": found.base.value})
    return written([*save, where])


def _drawn(found: Comparison) -> Any:
    from skytwin.answers import figures_compare  # matplotlib only when a picture is drawn

    return figures_compare.comparison(found)
