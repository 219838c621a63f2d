"""What ``skytwin certify`` prints and saves."""

from __future__ import annotations

from pathlib import Path

from skytwin.answers.certify import Certificate
from skytwin.answers.certify_plan import KIND, CertifyPlan
from skytwin.answers.certify_sheet import plan_sheet
from skytwin.answers.export import write_table
from skytwin.artefact import Manifest, Parent
from skytwin.embeddings.table import Embeddings
from skytwin.errors import UsageError
from skytwin.files import require_new, write_atomically
from skytwin.images.cutouts import Cutouts
from skytwin.run import require_free, result_folder

__all__ = ["check_targets", "save_certificate", "save_plan"]


def check_targets(out: Path | None, to_label: Path | None, sheet: Path | None) -> None:
    """Refuse places that are taken before any work is done.

    Raises
    ------
    OutputExists
        A folder with something in it, or a file, is there.
    UnknownName
        A file's ending is not that of its kind.
    """
    if out is not None:
        require_free(out)
    for path, ending in ((to_label, ".csv"), (sheet, ".png")):
        if path is not None:
            require_new(path, [ending])


def save_plan(
    plan: CertifyPlan, out: Path, to_label: Path | None, sheet: Path | None, cutouts: Path | None
) -> str:
    """Write a plan, the list to fill in and its pictures; returns what to say of it."""
    picture = plan_sheet(plan, _images(plan, cutouts)) if sheet is not None else None
    plan.save(out)
    lines = [
        f"round {plan.number} of {max(plan.schedule, plan.number)}: {len(plan)} objects to label, "
        f"of {plan.size}; {out}"
    ]
    if to_label is not None:
        write_table(plan.table, to_label, {})
        lines.append(f"  fill the column label of {to_label} with yes, no or unsure")
    else:
        lines.append(f"  copy {out / 'to_label.csv'} and fill its column label")
    if sheet is not None and picture is not None:
        write_atomically(sheet, picture)
        lines.append(f"  their pictures, numbered alike: {sheet}")
    verb = "run" if plan.finished else "next"
    lines.append(f"  then: skytwin certify {verb} {out} LABELS{' --out PLAN' * (verb == 'next')}")
    return "\n".join(lines)


def save_certificate(found: Certificate, out: Path, plan: Path) -> str:
    """Write the certified list, the bounds by rank and the summary; returns what to say."""
    meta = found.describe()
    manifest = Manifest.open(plan, KIND)
    parent = Parent(kind=KIND, path=str(plan.resolve()), fingerprint=manifest.fingerprint)
    with result_folder(
        out,
        kind="certificate",
        recipe={"labels": {"yes": found.yes, "no": found.no, "unclear": found.unclear}},
        summary={"size": found.size, "purity": found.purity, "confidence": found.confidence},
        inputs={"plan": parent.path},
        parents={"plan": parent},
    ) as where:
        for ending in ("vot", "csv", "parquet"):
            write_table(found.list, where / f"list.{ending}", meta)
        write_table(found.table, where / "by_rank.csv", meta)
        (where / "summary.txt").write_text(found.summary + "\n", encoding="utf-8")
    return f"  written to {out}: the list as VOTable, CSV and Parquet, the bounds by rank"


def _images(plan: CertifyPlan, cutouts: Path | None) -> Cutouts:
    if cutouts is not None:
        return Cutouts(cutouts)
    parent = plan.parents.get("embeddings")
    if parent is None or not parent.path:
        raise UsageError("this plan was not made from an embedding; say --cutouts FOLDER")
    return Embeddings.open(parent.path).cutouts()
