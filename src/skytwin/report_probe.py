"""What ``skytwin probe`` and ``skytwin predict`` print and save."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from skytwin.answers.export import write_table
from skytwin.answers.probe import Probe, probe_run
from skytwin.answers.probe_fit import Predictions
from skytwin.answers.probe_kept import KeptProbe
from skytwin.answers.probe_metrics import Estimate
from skytwin.artefact import Manifest, Parent
from skytwin.report_files import draw_pictures, save_each, written
from skytwin.run import result_folder

__all__ = ["describe", "save_predictions", "save_probe"]


def describe(found: Probe) -> str:
    """Plain text: the objects, the table, what tells embeddings apart, and few labels."""
    labelled, classes = found.labelled, found.classes
    objects = len({int(each) for each in labelled.group[labelled.test]})
    of = (
        f"{classes[0]} or {classes[1]} (positive)"
        if len(classes) == 2
        else f"{len(classes)} classes ({', '.join(classes)})"
    )
    lines = [
        f"{found.label} read from vectors: {of}; {int((~labelled.test).sum())} training rows, "
        f"{len(found.truth)} test rows of {objects} objects",
        f"  base rate {found.base}: always the most frequent class",
    ]
    if labelled.left_out:
        said = [f"{count} {why}" for why, count in labelled.left_out.items()]
        lines.append(f"  left out: {', '.join(said)}")
    lines += [f"  {note}" for note in found.notes]
    lines += _aligned(found)
    lines += _compared(found)
    lines += _few(found)
    best, tried = found.best, sum(not score.baseline for score in found.scores)
    flattered = f"; of {tried} tried, so flattered" if tried > 1 else ""
    judge = ": judge by the column CV accuracy" if flattered and best.cv_accuracy else ""
    lines.append(f"  best on the test rows: {best.embedding}, {best.classifier}{flattered}{judge}")
    return "\n".join(lines)


def _aligned(found: Probe) -> list[str]:
    two = len(found.classes) == 2
    heads = ["", "accuracy", "AUC", "balanced"]
    heads += ["specificity", "recall"] if two else []
    heads += ["Brier", "ECE"] + (["CV accuracy", "CV AUC"] if found.settings["folds"] else [])
    rows = [heads]
    last = ""
    for score in found.scores:
        if score.embedding != last:
            last = score.embedding
            rows.append([f"{last} ({score.dim})"])
        cells = score.metrics
        row = [f"  {score.classifier}", str(cells["accuracy"]), str(cells["auc"])]
        names = ["balanced", *(("specificity", "recall") if two else ()), "brier"]
        row += [_short(cells.get(name)) for name in names]
        row.append("-" if score.calibration_error is None else f"{score.calibration_error:.3f}")
        if found.settings["folds"]:
            row += [str(score.cv_accuracy), str(score.cv_auc)]
        rows.append(row)
    full = [row for row in rows if len(row) > 1]
    widths = [max(len(row[at]) for row in full) for at in range(len(heads))]
    return [
        "  " + "  ".join(f"{cell:<{widths[at]}}" for at, cell in enumerate(row)).rstrip()
        if len(row) > 1
        else f"  {row[0]}"
        for row in rows
    ]


def _short(cell: Estimate | None) -> str:
    return "-" if cell is None else f"{cell.value:.3f}"


def _compared(found: Probe) -> list[str]:
    baselines = {source.name for source in found.sources if source.baseline}
    rows = [row for row in found.comparisons.to_pylist() if row["other"] not in baselines]
    if not rows:
        return []
    lines = [f"  same test rows, paired; Holm over all {len(found.comparisons)} comparisons"]
    for row in rows:
        gap = Estimate(
            value=row["accuracy_difference"],
            lower=row["accuracy_difference_lower"],
            upper=row["accuracy_difference_upper"],
        )
        lines.append(
            f"    {row['classifier']:<10}{row['one']} less {row['other']}: accuracy {gap}, AUC "
            f"{row['auc_difference']:+.3f}, McNemar {row['only_one_right']} against "
            f"{row['only_other_right']}, p {row['p']:.2g} (Holm {row['p_holm']:.2g})"
        )
    return lines


def _few(found: Probe) -> list[str]:
    best = found.best.classifier
    rows = [row for row in found.curves.to_pylist() if row["classifier"] == best]
    if not rows:
        return []
    lines = [f"  accuracy by number of labels, {best}"]
    for source in found.sources:
        cells = [
            f"{row['labels']}: {row['accuracy']:.3f}"
            for row in rows
            if row["embedding"] == source.name
        ]
        lines.append(f"    {source.name}  {', '.join(cells)}")
    return lines


def save_probe(
    found: Probe, out: Path | None, save: Sequence[Path], kept: Sequence[KeptProbe] = ()
) -> str:
    """Write a result folder and single files; say what was written."""
    meta = found.describe()
    save_each(save, lambda: _drawings(found)["scores"](), found.table, meta)
    if out is None:
        return written(save)
    with probe_run(out, found.embeddings, found.settings) as run:
        where = run.folder
        for name, table in (
            ("table", found.table),
            ("comparisons", found.comparisons),
            ("labels", found.curves),
            ("test_rows", found.predictions),
        ):
            write_table(table, where / f"{name}.csv", meta, overwrite=True)
            write_table(table, where / f"{name}.parquet", meta, overwrite=True)
        (where / "report.txt").write_text(describe(found) + "\n", encoding="utf-8")
        for number, each in enumerate(kept, 1):
            each.save(where, number)
        draw_pictures(where, _drawings(found), meta)
        run.finish(
            {
                "classes": list(found.classes),
                "test_rows": len(found.truth),
                "base_rate": found.base.value,
                "best": f"{found.best.embedding}, {found.best.classifier}",
                "kept": [each.classifier for each in kept],
            }
        )
    return written([*save, out])


def _drawings(found: Probe) -> dict[str, Callable[[], Any]]:
    from skytwin.answers import figures_probe as draw  # matplotlib only when a picture is drawn

    drawings: dict[str, Callable[[], Any]] = {
        "scores": lambda: draw.probe_scores(found),
        "roc": lambda: draw.probe_roc(found),
        "reliability": lambda: draw.probe_reliability(found),
        "confusion": lambda: draw.probe_confusion(found),
    }
    if len(found.curves):
        drawings["labels"] = lambda: draw.probe_labels(found)
    return drawings


def save_predictions(
    found: Predictions, out: Path | None, save: Sequence[Path], probe: Path
) -> str:
    """Write a result folder and single files; say what was written."""
    meta = found.describe()
    for path in save:
        write_table(found.table, path, meta)
    if out is None:
        return written(save)
    parents = [each.as_parent() for each in found.embeddings]
    kept = Manifest.open(probe, "probe").fingerprint
    with result_folder(
        out,
        kind="predictions",
        recipe={
            "label": found.probe.label,
            "classifier": found.probe.classifier,
            "where": found.where,
            "seed": found.seed,
        },
        summary={
            "objects": len(found.table),
            "left_out": found.left_out,
            "absent": found.absent,
            "drift": None if found.drift is None else found.drift.verdict,
        },
        inputs={"embeddings": [parent.path for parent in parents], "probe": str(probe)},
        parents={
            **{f"embeddings_{number}": parent for number, parent in enumerate(parents, 1)},
            "probe": Parent(kind="probe", path=str(probe.resolve()), fingerprint=kept),
        },
    ) as where:
        for ending in ("vot", "csv", "parquet"):
            write_table(found.table, where / f"predictions.{ending}", meta)
        (where / "report.txt").write_text(found.summary + "\n", encoding="utf-8")
    return written([*save, out])
