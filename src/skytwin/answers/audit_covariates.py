"""The covariates of an audit: catalogue columns, and what images show, for chosen rows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from skytwin.answers.audit_images import FRAME, measure_images
from skytwin.images.cutouts import Cutouts
from skytwin.progress import Progress

__all__ = ["CATALOGUE", "Covariates", "catalogue_covariates", "image_covariates", "saturation"]

CATALOGUE = "catalogue"

_BATCH = 128
_MOST_COLUMNS = 300
# Columns that say how or where an object was observed, by their usual names.
_OBSERVING = re.compile(
    r"^(ra|dec|l|b|glon|glat|x|y|[xy]_?(pos|pix|centroid|image|winpos_image).*|run|rerun|camcol|"
    r"field|tile|ccd|chip|amp|detector|quadrant|plate|fiber|mjd|jd|night|date.*|airmass.*|"
    r"seeing.*|psf.*|fwhm.*|sky.*|back.*|noise.*|rms.*|exp_?time.*|nexp.*|depth.*|maglim.*|"
    r"ebv|e_bv.*|extinction.*|flags?(_.*)?|quality|mask.*|edge.*|zeropoint.*|zp.*|gain.*)$",
    re.IGNORECASE,
)
_PLACES = re.compile(r"^(ra|dec|x|y|[xy]_?(pos|pix|centroid|image))", re.IGNORECASE)


@dataclass(frozen=True, eq=False, kw_only=True)
class Covariates:
    """Numbers of n objects.

    Attributes
    ----------
    names, kinds : tuple of str, length p
        Kinds are those of `audit_images`, and ``"catalogue"``.
    values : ndarray, shape (n, p), float64
        NaN where there is none.
    skipped : tuple of (str, str)
        Columns left out, and why.
    """

    names: tuple[str, ...]
    kinds: tuple[str, ...]
    values: np.ndarray
    skipped: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(
        cls,
        columns: Sequence[tuple[str, str, np.ndarray]],
        count: int,
        skipped: Sequence[tuple[str, str]] = (),
    ) -> Self:
        """From columns of (name, kind, values)."""
        return cls(
            names=tuple(name for name, _, _ in columns),
            kinds=tuple(kind for _, kind, _ in columns),
            values=np.stack([v for _, _, v in columns], axis=1) if columns else _empty(count),
            skipped=tuple(skipped),
        )

    def beside(self, other: Covariates) -> Covariates:
        """These and others of the same objects."""
        taken = set(self.names)
        names = [f"{name} (image)" if name in taken else name for name in other.names]
        return Covariates(
            names=(*self.names, *names),
            kinds=(*self.kinds, *other.kinds),
            values=np.concatenate([self.values, other.values], axis=1),
            skipped=(*self.skipped, *other.skipped),
        )


def _empty(count: int) -> np.ndarray:
    return np.empty((count, 0))


def catalogue_covariates(table: pa.Table, rows: np.ndarray, used: Sequence[str] = ()) -> Covariates:
    """The numeric columns of a catalogue, for some rows.

    Truth values count as 0 and 1 and times as seconds. A place (RA, Dec, x, y) also counts by its
    distance from the middle, so that matches from all edges are seen. Where a column has gaps,
    ``"NAME missing"`` says for which objects.

    Parameters
    ----------
    table : pyarrow.Table
    rows : ndarray of int, shape (n,)
    used : sequence of str
        Conditions whose columns are left out: they define the list or the labels.
    """
    chosen = table.take(pa.array(rows))
    columns: list[tuple[str, str, np.ndarray]] = []
    skipped: list[tuple[str, str]] = []
    for entry in chosen.schema:
        name = entry.name
        values = _numbers(chosen[name])
        if name in {"id", "origin"} or values is None:
            continue
        why = _unusable(name, values, chosen, used)
        if why is None and len(columns) >= _MOST_COLUMNS:
            why = f"more than {_MOST_COLUMNS} columns"
        if why is not None:
            skipped.append((name, why))
            continue
        kind = FRAME if _OBSERVING.match(name) else CATALOGUE
        if name.lower() == "ra":
            values = _unwrapped(values)
        columns.append((name, kind, values))
        if kind == FRAME and _PLACES.match(name):
            middle = np.nanmedian(values)
            columns.append((f"{name} from the middle", FRAME, np.abs(values - middle)))
        gap = np.isnan(values)
        if gap.any() and not gap.all():
            columns.append((f"{name} missing", kind, gap.astype(np.float64)))
    return Covariates.of(columns, len(rows), skipped)


def _numbers(column: pa.ChunkedArray) -> np.ndarray | None:
    """A column as float64, NaN where none or infinite; None where it does not hold numbers."""
    kind = column.type
    if pa.types.is_date(kind) or pa.types.is_timestamp(kind):
        column = pc.cast(pc.cast(column, pa.timestamp("us")), pa.int64())
        kind = pa.int64()
    known = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_decimal)
    if not any(check(kind) for check in known):
        return None
    cast = pc.cast(
        pc.cast(column, pa.int8()) if pa.types.is_boolean(kind) else column, "float64", safe=False
    )
    values = np.array(cast.to_numpy(), dtype=np.float64)
    values[~np.isfinite(values)] = np.nan
    return values


def _unusable(name: str, values: np.ndarray, table: pa.Table, used: Sequence[str]) -> str | None:
    if any(re.search(rf"(?<!\w){re.escape(name)}(?!\w)", condition) for condition in used):
        return "part of a condition"
    known = values[~np.isnan(values)]
    if not len(known):
        return "no value"
    if len(known) == len(values) and (known == known[0]).all():
        return "one value throughout"
    if pa.types.is_integer(table.schema.field(name).type):
        ids = table["id"].to_pylist()
        if [str(v) for v in table[name].to_pylist()] == ids:
            return "the identifier"
    return None


def _unwrapped(ra: np.ndarray) -> np.ndarray:
    """Right ascension about its circular mean, so that 359 and 1 degrees are neighbours."""
    known = np.radians(ra[~np.isnan(ra)])
    middle = np.degrees(np.arctan2(np.sin(known).mean(), np.cos(known).mean()))
    return np.asarray((ra - middle + 180) % 360 - 180 + middle)


def image_covariates(
    cutouts: Cutouts,
    rows: np.ndarray,
    *,
    crop: int | None = None,
    extra: Sequence[np.ndarray] = (),
    quiet: bool = False,
) -> Covariates:
    """What `audit_images.measure_images` says of some cutouts, and of some images beside them.

    Parameters
    ----------
    cutouts : Cutouts
    rows : ndarray of int, shape (n,)
    crop : int, optional
        Central pixels to look at.
    extra : sequence of ndarray, each (C, H, W)
        Images framed as the cutouts are; they follow the rows.
    quiet : bool
        Show no progress.
    """
    top = saturation(cutouts.dtype)
    parts: list[dict[str, tuple[str, np.ndarray]]] = []
    with Progress("measure", len(rows) + len(extra), quiet=quiet) as bar:
        for start in range(0, len(rows), _BATCH):
            part = rows[start : start + _BATCH]
            parts.append(measure_images(cutouts.flux(part), cutouts.bands, crop=crop, top=top))
            bar.advance(len(part))
        if len(extra):
            stack = np.stack(list(extra))
            parts.append(measure_images(stack, cutouts.bands, crop=crop, top=top))
            bar.advance(len(extra))
    columns = [
        (name, kind, np.concatenate([part[name][1] for part in parts]))
        for name, (kind, _) in (parts[0] if parts else {}).items()
    ]
    return Covariates.of(columns, len(rows) + len(extra))


def saturation(dtype: np.dtype) -> float | None:
    """The largest value that a pixel can hold; None of floating point."""
    return float(np.iinfo(dtype).max) if dtype.kind in "ui" else None
