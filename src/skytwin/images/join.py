"""Several sets of cutouts as one: to train on a simulated survey and a real one, for instance."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from skytwin.errors import Mismatch, UsageError
from skytwin.images import arrow
from skytwin.images.cutouts import Cutouts
from skytwin.images.ingest import ingest_source
from skytwin.images.source import RawImage
from skytwin.images.stacked import stacked

__all__ = ["join_cutouts"]

_ROWS = 64  # images read at a time
_PART = "part"


def join_cutouts(
    parts: Sequence[Cutouts | str | Path], out: str | Path, *, quiet: bool = False
) -> Cutouts:
    """Make one set of cutouts of several; images are copied.

    Parameters
    ----------
    parts : sequence of Cutouts or path
        Of one number of pixels, one kind of number, the same bands, unit and pixel scale; their
        rows follow one another. A column ``part`` has the name of the folder a row comes from.
    out : path
        New folder, or that of an unfinished run of this call, which is resumed.
    quiet : bool
        Show no progress.

    Returns
    -------
    Cutouts

    Raises
    ------
    UsageError
        Fewer than two parts.
    Mismatch
        Images of another kind; a column of another unit or type.
    DataError
        An id that two parts share.
    """
    opened = [part if isinstance(part, Cutouts) else Cutouts(part) for part in parts]
    if len(opened) < 2:
        raise UsageError(f"{len(opened)} set of cutouts to join; expected two or more")
    for part in opened[1:]:
        _require_alike(opened[0], part)
    parents = {f"part {n}": part.as_parent() for n, part in enumerate(opened, start=1)}
    return ingest_source(_Joined(opened), out, parents=parents, verb="join", quiet=quiet)


def _require_alike(first: Cutouts, part: Cutouts) -> None:
    kinds = [
        {
            "images": " x ".join(map(str, each.shape[1:])),
            "numbers": str(each.dtype),
            "bands": ", ".join(each.bands),
            "unit": each.unit,
            "pixel scale": each.pixel_scale,
        }
        for each in (first, part)
    ]
    for name, wanted in kinds[0].items():
        if kinds[1][name] != wanted:
            raise Mismatch(
                f"{part.folder} has {name} {kinds[1][name]}; expected {wanted}, as in "
                f"{first.folder}: ingest the parts alike"
            )


class _Joined:
    """The images of several sets as one row; see `skytwin.images.source.ImageSource`."""

    def __init__(self, parts: Sequence[Cutouts]) -> None:
        self._parts = parts
        self._first = np.cumsum([0, *map(len, parts)])
        whole = stacked([(part.folder, _named(part)) for part in parts])
        self.ids: Sequence[str] = whole["id"].to_pylist()
        self.origins: Sequence[str] = [
            f"{part.folder.name}[{row}]" for part in parts for row in range(len(part))
        ]
        self.table: pa.Table = whole.drop_columns(["id", "origin"])
        self.recipe: Mapping[str, Any] = {"joined": len(parts)}
        self.location = ", ".join(str(part.folder.resolve()) for part in parts)
        # Neighbouring images lie in one compressed piece.
        self._block = functools.lru_cache(maxsize=8)(self._read_block)

    def read(self, index: int) -> RawImage:
        """One image; see `skytwin.images.source.ImageSource.read`."""
        number = int(np.searchsorted(self._first, index, side="right")) - 1
        part, row = self._parts[number], index - int(self._first[number])
        return RawImage(
            pixels=self._block(number, row // _ROWS)[row % _ROWS],
            bands=part.bands,
            unit=part.unit,
            pixel_scale=part.pixel_scale,
        )

    def _read_block(self, number: int, block: int) -> np.ndarray:
        return self._parts[number].pixels(slice(block * _ROWS, (block + 1) * _ROWS))


def _named(part: Cutouts) -> pa.Table:
    """A catalogue that says where it comes from."""
    if _PART in part.catalog.schema.names:  # joined before
        return part.catalog
    names = pa.array([part.folder.name] * len(part), pa.string())
    return part.catalog.append_column(
        arrow.field(_PART, pa.string(), description="set it comes from"), names
    )
