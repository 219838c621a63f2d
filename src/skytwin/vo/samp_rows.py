"""What a SAMP client points at, as references of a search."""

from __future__ import annotations

import math
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import pyarrow as pa

from skytwin.errors import UsageError
from skytwin.images.catalog import id_texts, read_table
from skytwin.images.columns import find_id_column, sky_columns, sky_degrees

__all__ = ["position_text", "require_rows", "rows_of_file"]


def position_text(ra: object, dec: object) -> str:
    """Degrees as a search takes them: ``"RA,DEC"``.

    Raises
    ------
    UsageError
        They are none.
    """
    try:
        east, north = float(str(ra)), float(str(dec))
    except ValueError:
        raise UsageError(f"position {ra!r}, {dec!r}; expected degrees") from None
    if not (math.isfinite(east) and -90 <= north <= 90):
        raise UsageError(f"position {ra!r}, {dec!r}; expected degrees")
    return f"{east % 360},{north}"


def require_rows(rows: list[int], count: int) -> None:
    """Rows of a table of so many, or a `UsageError`."""
    if not 0 <= min(rows) <= max(rows) < count:
        raise UsageError(f"row {max(rows)} of a table of {count} rows")


def rows_of_file(url: str, rows: list[int]) -> list[str]:
    """Ids, or else positions, of rows of a table that another program has loaded.

    Raises
    ------
    UsageError
        It lies in no file, has no such row, or neither ids nor positions.
    DataError
        It cannot be read.
    """
    parts = urlsplit(url)
    if parts.scheme != "file" or parts.netloc not in ("", "localhost"):
        raise UsageError(
            f"a row of a table that skytwin did not send ({url or 'no address'}); save the table "
            "as a file and load it from there, or point at the sky"
        )
    table = read_table(Path(unquote(parts.path)))
    require_rows(rows, len(table))
    part = table.take(pa.array(np.array(rows)))
    name = find_id_column(part)
    if name is not None:
        return [str(one) for one in id_texts(part, name).to_pylist()]
    columns = sky_columns(part)
    if columns is None:
        raise UsageError(f"{Path(parts.path).name} has neither ids nor positions")
    sky = sky_degrees(part, columns)
    return [position_text(ra, dec) for ra, dec in zip(sky.ra, sky.dec, strict=True)]
