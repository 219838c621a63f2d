"""What ``skytwin generate`` saves."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from skytwin.answers.export import write_table
from skytwin.answers.generate import Generated
from skytwin.artefact import VERIFIED, Parent
from skytwin.images.cutouts import Cutouts
from skytwin.images.ingest import ingest_source
from skytwin.images.source import RawImage
from skytwin.report_files import draw_pictures, save_each, written
from skytwin.run import result_folder

__all__ = ["save_generated"]

_SAMPLES = "samples"


def save_generated(found: Generated, out: Path | None, save: list[Path]) -> str:
    """Write a result folder and single files; say what was written."""
    meta = found.describe()
    figures = _figures(found)
    save_each(save, figures["samples"], found.table, meta)
    if out is None:
        return written(save)
    generator, real = found.generator, found.real
    with result_folder(
        out,
        kind="generated",
        recipe={
            "count": len(found.images),
            "temperature": found.temperature,
            "conditions": found.conditions,
            "judges": sorted({one.judge for one in found.comparisons}),
            "measured": len(found.table),
            "held": len(real.held),
            "among": len(real.among),
            "isophote": found.isophote,
            "level": found.level,
            "seed": found.seed,
        },
        summary={
            "shape": list(found.images.shape),
            "unit": "prepared, 0 to 1",
            "trained_split": real.trained,
            "bits_per_dim": list(found.bits_per_dim),
            "nearer_than_held_out": found.copies.nearer.value,
            "auc": {
                f"{one.judge}: {one.one}, {one.other}": one.auc.value for one in found.comparisons
            },
            "error": {one.name: one.value for one in found.errors},
        },
        inputs={"encoder": str(generator.folder.resolve()), "data": str(real.cutouts.folder)},
        parents={
            "encoder": Parent(
                kind="encoder",
                path=str(generator.folder.resolve()),
                fingerprint=generator.manifest.fingerprint,
            ),
            "cutouts": real.cutouts.as_parent(),
        },
    ) as where:
        _write_samples(found, where / _SAMPLES)
        write_table(found.table, where / "samples.csv", meta)
        write_table(found.table, where / "samples.parquet", meta)
        write_table(_comparisons(found), where / "closeness.csv", meta)
        write_table(_errors(found), where / "reconstruction.csv", meta)
        np.save(where / "codes.npy", found.codes)
        (where / "report.txt").write_text(found.summary + "\n", encoding="utf-8")
        draw_pictures(where, figures, meta)
    return written([*save, out])


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
