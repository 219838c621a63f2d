"""What ``skytwin compare`` saves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from skytwin.answers.compare import Comparison
from skytwin.answers.export import write_table
from skytwin.report_files import draw_pictures, save_each, written
from skytwin.run import result_folder

__all__ = ["save_comparison"]


def save_comparison(found: Comparison, out: Path | None, save: list[Path]) -> str:
    """Write a result folder and single files; say what was written."""
    meta = found.describe()
    save_each(save, lambda: _drawn(found), found.table, meta)
    if out is None:
        return written(save)
    parent = found.embeddings.as_parent()
    with result_folder(
        out,
        kind="comparison",
        recipe={
            "positive": list(found.positive),
            "top": found.top,
            "draws": found.draws,
            "seed": found.seed,
        },
        summary={"best": " ".join(found.best), "base_rate": found.base.value},
        inputs={"embedding": parent.path},
        parents={"embeddings": parent},
    ) as where:
        write_table(found.table, where / "comparison.csv", meta)
        write_table(found.table, where / "comparison.parquet", meta)
        (where / "report.txt").write_text(found.summary + "\n", encoding="utf-8")
        draw_pictures(where, {"comparison": lambda: _drawn(found)}, meta)
    return written([*save, out])


def _drawn(found: Comparison) -> Any:
    from skytwin.answers import figures  # matplotlib only when a picture is drawn

    return figures.comparison(found)
