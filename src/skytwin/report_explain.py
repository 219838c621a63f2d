"""What ``skytwin explain`` prints and saves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from matplotlib.figure import Figure

from skytwin.answers.explain import Explanation, ScoreMap
from skytwin.answers.explain_features import SeparatingFeatures
from skytwin.answers.export import write_table
from skytwin.answers.figures_explain import exciting_objects, explanations
from skytwin.answers.search import Matches
from skytwin.errors import UsageError
from skytwin.images.cutouts import Cutouts
from skytwin.images.display import parse_display
from skytwin.report_files import PICTURES, draw_pictures, save_each, written
from skytwin.report_files import check_targets as check_files
from skytwin.run import result_folder

__all__ = ["Explained", "check_targets", "describe", "save"]

_SHOWN = 5


@dataclass(frozen=True, eq=False, kw_only=True)
class Explained:
    """All that one ``skytwin explain`` found."""

    matches: Matches
    each: Sequence[Explanation]
    features: SeparatingFeatures
    cutouts: Cutouts | None = None
    display: str | None = None

    @property
    def has_maps(self) -> bool:
        """Whether the scores are split over pixels."""
        return any(found.map_match is not None for found in self.each)


def check_targets(out: Path | None, save: Sequence[Path], *, pixels: bool) -> None:
    """Refuse what could not be written before anything is computed.

    Raises
    ------
    OutputExists
        A folder with something in it, or a file, is there.
    UnknownName
        A file's ending is not that of a table or picture.
    UsageError
        A picture of maps is asked for, and no maps.
    """
    check_files(out, save)
    for path in save:
        if not pixels and path.suffix.lower() in PICTURES:
            raise UsageError(
                f"--save {path.name} is a picture of maps, which --features-only leaves out; "
                "save a table, or leave --features-only out"
            )


def describe(found: Explained) -> str:
    """The explanations as text: where, which features, and what sets the list apart."""
    lines = [repr(found.matches)]
    for one in found.each:
        lines += _describe_one(one)
    return "\n".join([*lines, *_describe_features(found.features)])


def _describe_one(found: Explanation) -> list[str]:
    rank = "" if found.rank is None else f" (rank {found.rank})"
    base = f", of which {found.base:.4g} is the average object's" if found.base else ""
    lines = [
        f"{found.id}{rank}: {found.kind} {found.score:.4g}{base}, distance {found.distance:.4g}"
    ]
    own = found.map_match
    if own is not None:
        lines.append(
            f"  where     {_half(own.cells.ravel(), 'places')}; {_central(own)}; "
            f"maps add up within {found.residual:.0e}"
        )
    part = found.features["part"].to_numpy()
    strongest = np.argsort(-np.abs(part), kind="stable")[:_SHOWN]
    best = ", ".join(
        f"{row['feature']} ({row['part']:+.2g})"
        for row in found.features.take(strongest).to_pylist()
    )
    return [*lines, f"  features  {_half(part, 'features')}; the most: {best}"]


def _half(parts: np.ndarray, what: str) -> str:
    """How few make half of what speaks for the object."""
    falling = np.sort(parts[parts > 0])[::-1]
    if not len(falling):
        return f"none of {len(parts)} {what} speaks for it"
    few = int(np.searchsorted(np.cumsum(falling), falling.sum() / 2)) + 1
    return (
        f"for {falling.sum():.3g}, against {abs(parts[parts < 0].sum()):.3g}; half of what is "
        f"for it in {few} of {len(parts)} {what}"
    )


def _central(found: ScoreMap) -> str:
    if not found.value:
        return "nothing to split"
    return f"{found.central / found.value:.0%} in the central quarter of the frame (evenly: 25%)"


def _describe_features(found: SeparatingFeatures) -> list[str]:
    total = len(found.table)
    lines = [
        f"features that separate the {len(found.matches)} matches from {len(found.background)} "
        f"others: {found.significant} of {total} with q <= 0.05, best AUC {found.best:.3f}",
    ]
    if len(found.random_best):
        low, high = found.random_best.min(), found.random_best.max()
        lines.append(
            f"  around {len(found.random_best)} random objects: "
            f"{np.median(found.random_significant):.0f} (median), best AUC {low:.3f} to "
            f"{high:.3f}; a list is chosen by its features, so any list has some"
        )
    lines += [
        f"  feature {row['feature']:<5} AUC {row['auc']:.3f} [{row['lower']:.3f}, "
        f"{row['upper']:.3f}], difference {row['difference']:+.2f} sigma, q {row['q']:.1e}; "
        f"random lists {row['random']:.2f}"
        for row in found.table.slice(0, _SHOWN).to_pylist()
    ]
    return lines


def save(found: Explained, out: Path | None, save: Sequence[Path]) -> str:
    """Write a result folder and single files; say what was written."""
    meta = found.matches.describe()
    table = _long(found.each)
    save_each(save, lambda: _maps(found), table, meta)
    if out is not None:
        _save_folder(found, table, out)
    blind = _blind(found) if out is not None else None
    paths = [*save, *([out] if out is not None else [])]
    return written(paths, blind, "pictures of objects")


def _save_folder(found: Explained, table: pa.Table, out: Path) -> None:
    matches, meta = found.matches, found.matches.describe()
    parent = matches.embeddings.as_parent()
    drawings: dict[str, Callable[[], Figure]] = {}
    if found.has_maps:
        drawings["maps"] = lambda: _maps(found)
    if _blind(found) is None:
        display = parse_display(found.display) if found.display else None
        drawings["features"] = lambda: exciting_objects(
            found.features, cutouts=found.cutouts, display=display
        )
    with result_folder(
        out,
        kind="explanation",
        recipe={
            **matches.settings,
            "references": [r.told for r in matches.references],
            "explained": [one.id for one in found.each],
            "average": max((one.average for one in found.each), default=0),
            "background": len(found.features.background),
            "lists": len(found.features.random_best),
            "seed": found.features.seed,
        },
        summary={
            "objects": len(matches.embeddings),
            "largest_residual": max((one.residual for one in found.each), default=0.0),
        },
        inputs={"embedding": parent.path},
        parents={"embeddings": parent},
    ) as where:
        for ending in ("csv", "parquet"):
            write_table(table, where / f"parts.{ending}", meta)
            write_table(found.features.table, where / f"separating.{ending}", meta)
        (where / "report.txt").write_text(describe(found) + "\n", encoding="utf-8")
        if found.has_maps:
            _save_maps(found.each, where / "maps.npz")
        draw_pictures(where, drawings, meta)


def _save_maps(each: Sequence[Explanation], path: Path) -> None:
    """Maps in pixels of the cutouts, ``match_N`` and ``query_N`` for the N-th explained."""
    arrays: dict[str, Any] = {}
    for number, one in enumerate(each, start=1):
        for name, found in (("match", one.map_match), ("query", one.map_query)):
            if found is not None:
                arrays[f"{name}_{number}"] = found.on_cutout
                arrays[f"{name}_{number}_cells"] = found.cells
    np.savez_compressed(path, ids=np.array([one.id for one in each]), **arrays)


def _long(each: Sequence[Explanation]) -> pa.Table:
    """Every explained object's features, one below the other."""
    parts = [
        one.features.add_column(0, "id", pa.array([one.id] * len(one.features))) for one in each
    ]
    return pa.concat_tables(parts)


def _maps(found: Explained) -> Figure:
    display = parse_display(found.display) if found.display else None
    return explanations(found.each, display)


def _blind(found: Explained) -> str | None:
    """Why there are no pictures, where nobody insisted on them."""
    if found.cutouts is None:
        try:
            found.matches.embeddings.cutouts()
        except UsageError as error:
            return str(error)
    return None
