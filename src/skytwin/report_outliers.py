"""What ``skytwin outliers`` saves."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from skytwin.answers.export import write_table
from skytwin.answers.outliers import Outliers
from skytwin.answers.outliers_check import Checked
from skytwin.answers.outliers_settings import OutlierSettings
from skytwin.artefact import VERIFIED, Manifest, Parent
from skytwin.densities.flow_store import KIND, save_flow
from skytwin.embeddings.table import Embeddings
from skytwin.errors import SkytwinError
from skytwin.images.cutouts import Cutouts
from skytwin.images.display import Display
from skytwin.report_files import draw_pictures, resumed, save_each, written
from skytwin.run import Run

__all__ = ["outliers_run", "save_outliers"]


def outliers_run(
    out: Path | None,
    settings: OutlierSettings,
    embeddings: Embeddings,
    reference: Embeddings | None,
    against: dict[str, Embeddings],
    label: str | None,
) -> AbstractContextManager[Run | None]:
    """The folder to write; see `skytwin.report_files.resumed`."""
    sets = {"embeddings": embeddings, "reference": reference or embeddings}
    sets |= {f"against {name}": each for name, each in against.items()}
    parents = {name: each.as_parent() for name, each in sets.items()}
    if "flow" in settings.methods and Path(settings.flow).is_dir():
        fingerprint = Manifest.open(settings.flow, KIND).fingerprint
        place = str(Path(settings.flow).resolve())
        parents["flow"] = Parent(kind=KIND, path=place, fingerprint=fingerprint)
    return resumed(out, "outliers", {**settings.as_dict(), "label": label}, parents)


def save_outliers(
    found: Outliers,
    run: Run | None,
    save: Sequence[Path],
    *,
    display: Display | None = None,
    cutouts: Cutouts | None = None,
    side: int = 6,
) -> str:
    """Write tables, pictures and the flow; say what was written."""
    from skytwin.answers import figures_outliers  # matplotlib only when a picture is drawn

    meta = found.describe()
    save_each(save, lambda: figures_outliers.score_histograms(found), found.table, meta)
    if run is None:
        return written(save)
    where = run.folder
    for name in ("outliers.parquet", "outliers.csv", "outliers.vot", "checks.csv"):
        (where / name).unlink(missing_ok=True)  # of a run killed while it was writing
    for name in ("outliers.parquet", "outliers.csv", "outliers.vot"):
        write_table(found.table, where / name, meta)
    if found.checks:
        write_table(Checked.table(found.checks), where / "checks.csv", meta)
    (where / "report.txt").write_text(found.summary + "\n", encoding="utf-8")
    drawings: dict[str, Any] = {
        "histograms": lambda: figures_outliers.score_histograms(found),
        "neighbours": lambda: figures_outliers.neighbour_distances(found),
    }
    blind = None
    try:
        source = cutouts or found.embeddings.cutouts()
    except SkytwinError as error:
        blind = str(error)
    else:
        drawings["mosaic"] = lambda: figures_outliers.oddest(
            found, side, cutouts=source, display=display
        )
    draw_pictures(where, drawings, meta)
    if found.flows and not (where / "flow").exists():
        save_flow(found.flows[0], where / "flow", parents={"embeddings": run.parents["reference"]})
    # The record of the last check of a folder within a folder would change under the seal.
    (where / "flow" / VERIFIED).unlink(missing_ok=True)
    run.finish(
        {
            "objects": len(found.table),
            "reference_objects": len(found.reference.part.rows),
            "checks": Checked.table(found.checks).to_pylist() if found.checks else [],
            "held_out": [flow.mean_held_out for flow in found.flows],
        }
    )
    return written([*save, where], blind)
