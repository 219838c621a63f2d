"""Catalogues one below the other, for sets that become one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from skytwin.errors import DataError, Mismatch
from skytwin.images.arrow import described

__all__ = ["stacked"]


def stacked(parts: Sequence[tuple[Path, pa.Table]]) -> pa.Table:
    """Catalogues one below the other; a column that a part lacks is empty there.

    Parameters
    ----------
    parts : sequence of (path, pyarrow.Table)
        Where each set lies, and its catalogue, which has an ``id``.

    Raises
    ------
    DataError
        An id that two parts share.
    Mismatch
        A column in two units, or of types that do not go together.
    """
    owner: dict[str, Path] = {}
    units: dict[str, tuple[str | None, Path]] = {}
    for folder, catalog in parts:
        for name in catalog["id"].to_pylist():
            if name in owner:
                raise DataError(
                    f"id {name!r} is in {owner[name]} and in {folder}; every object needs an id of "
                    "its own: leave one of them out with ingest, or rename it"
                )
            owner[name] = folder
        for field in catalog.schema:
            own = described(field).get("unit")
            unit, first = units.setdefault(field.name, (own, folder))
            if own != unit:
                raise Mismatch(
                    f"column {field.name!r} is in {unit or 'no unit'} in {first}, and in "
                    f"{own or 'no unit'} in {folder}: ingest both in one unit"
                )
    try:
        return pa.concat_tables([catalog for _, catalog in parts], promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise Mismatch(f"the catalogues do not fit together: {error}") from error
