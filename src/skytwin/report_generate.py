"""What ``skytwin generate`` saves."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from skytwin.answers.export import write_table
from skytwin.answers.generate import Generated
from skytwin.answers.generate_judges import Judge
from skytwin.artefact import VERIFIED, Manifest, Parent
from skytwin.densities.flow_store import KIND
from skytwin.images.cutouts import Cutouts
from skytwin.images.ingest import ingest_source
from skytwin.images.source import RawImage
from skytwin.report_files import draw_pictures, resumed, save_each, written
from skytwin.run import Run

if TYPE_CHECKING:
    from skytwin.encoders.generator import Generator

__all__ = ["generated_run", "save_generated"]

_SAMPLES = "samples"


def generated_run(
    out: Path | None,
    generator: Generator,
    cutouts: Cutouts,
    judges: Sequence[Judge],
    flow: Path | None,
    settings: Mapping[str, Any],
) -> AbstractContextManager[Run | None]:
    """The folder to write; see `skytwin.report_files.resumed`."""
    place = str(generator.folder.resolve())
    fingerprint = generator.manifest.fingerprint
    parents = {
        "encoder": Parent(kind="encoder", path=place, fingerprint=fingerprint),
        "cutouts": cutouts.as_parent(),
    }
    if flow is not None:
        fingerprint = Manifest.open(flow, KIND).fingerprint
        parents["flow"] = Parent(kind=KIND, path=str(flow.resolve()), fingerprint=fingerprint)
    asked = [{"name": one.name, "fingerprint": one.fingerprint} for one in judges]
    recipe = {**settings, "judges": asked}
    return resumed(out, "generated", recipe, parents, {"device": generator.device})


def save_generated(found: Generated, run: Run | None, save: list[Path]) -> str:
    """Write a result folder and single files; say what was written."""
    meta = found.describe()
    figures = _figures(found)
    save_each(save, figures["samples"], found.table, meta)
    if run is None:
        return written(save)
    where, real = run.folder, found.real
    _write_samples(found, where / _SAMPLES)
    for name, table in (
        ("samples.csv", found.table),
        ("samples.parquet", found.table),
        ("closeness.csv", _comparisons(found)),
        ("reconstruction.csv", _errors(found)),
    ):
        write_table(table, where / name, meta, overwrite=True)
    np.save(where / "codes.npy", found.codes)
    (where / "report.txt").write_text(found.summary + "\n", encoding="utf-8")
    draw_pictures(where, figures, meta)
    run.finish(
        {
            "shape": list(found.images.shape),
            "unit": "prepared, 0 to 1",
            "measured": len(found.table),
            "held": len(real.held),
            "among": len(real.among),
            "trained_split": real.trained,
            "bits_per_dim": list(found.bits_per_dim),
            "nearer_than_held_out": found.copies.nearer.value,
            "auc": {
                f"{one.judge}: {one.one}, {one.other}": one.auc.value for one in found.comparisons
            },
            "error": {one.name: one.value for one in found.errors},
        }
    )
    return written([*save, where])


class _Samples:
    """Samples as a source of images; see `skytwin.images.source.ImageSource`."""

    def __init__(self, found: Generated) -> None:
        self._found = found
        count = len(found.images)
        self.table: pa.Table | None = found.table.slice(0, count).drop_columns(["id"])
        self.ids: Sequence[str] = found.table["id"].to_pylist()[:count]
        self.origins: Sequence[str] = self.ids
        self.recipe: Mapping[str, Any] = found.describe()
        self.location = f"samples of {found.generator.folder}"

    def read(self, index: int) -> RawImage:
        """One sample."""
        return RawImage(
            pixels=self._found.images[index],
            bands=self._found.channels,
            unit=None,
            pixel_scale=self._found.pixel_scale,
        )


def _write_samples(found: Generated, folder: Path) -> Cutouts:
    """The samples as cutouts, which every other verb takes."""
    if folder.exists():  # of a run killed while it was saving
        shutil.rmtree(folder)
    made = ingest_source(_Samples(found), folder, verb="write", quiet=True)
    # When it was last read is no part of the result.
    with contextlib.suppress(OSError):
        (folder / VERIFIED).unlink()
    return made


def _comparisons(found: Generated) -> pa.Table:
    every = found.comparisons
    return pa.table(
        {
            "judge": [one.judge for one in every],
            "one": [one.one for one in every],
            "other": [one.other for one in every],
            "count_one": [one.count_one for one in every],
            "count_other": [one.count_other for one in every],
            "auc": [one.auc.value for one in every],
            "auc_lower": [one.auc.lower for one in every],
            "auc_upper": [one.auc.upper for one in every],
            "energy": [one.energy for one in every],
            "p": [one.p for one in every],
        }
    )


def _errors(found: Generated) -> pa.Table:
    every = found.errors
    return pa.table(
        {
            "reconstruction": [one.name for one in every],
            "numbers": [one.numbers for one in every],
            "nats": [one.nats for one in every],
            "error": [one.value for one in every],
            "lower": [one.lower for one in every],
            "upper": [one.upper for one in every],
        }
    )


def _figures(found: Generated) -> dict[str, Callable[[], Any]]:
    def drawn(name: str) -> Callable[[], Any]:
        def draw() -> Any:
            # matplotlib only when a picture is drawn
            from skytwin.answers import figures_generate

            return getattr(figures_generate, f"generated_{name}")(found)

        return draw

    names = (
        "samples", "nearest", "reconstructions", "interpolations", "temperatures", "closeness",
    )  # fmt: skip
    return {name: drawn(name) for name in names}
