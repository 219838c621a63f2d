"""The rows of a HATS catalogue that some images may want, read cell by cell."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.spatial import cKDTree

from skytwin.errors import DataError
from skytwin.images.catalog import id_texts, join
from skytwin.images.columns import SkyPositions, id_column, sky_columns, sky_degrees
from skytwin.images.hats import Hats

__all__ = ["rows_by_id", "rows_near"]


def rows_by_id(catalog: Hats, ids: Sequence[str], name: str | None) -> pa.Table:
    """The rows whose identifier is one of ``ids``.

    Raises
    ------
    UnknownName
        There is no such column.
    DataError
        None has; a file is damaged.
    """
    column = id_column(catalog.schema.empty_table(), name)
    wanted = pc.utf8_trim_whitespace(pa.array([str(i) for i in ids], pa.string()))

    def keep(rows: pa.Table) -> np.ndarray:
        found = pc.is_in(id_texts(rows, column), value_set=wanted, skip_nulls=True)
        return np.asarray(found.to_numpy(zero_copy_only=False))

    table = catalog.select(keep, [column])
    if not table.num_rows:  # says that nothing fits, with an example of either side
        join(ids, catalog.read(catalog.partitions[0]), id_column=name)
    return table


def rows_near(
    catalog: Hats, sky: SkyPositions, arcsec: float, ra: str | None, dec: str | None
) -> pa.Table:
    """The rows within ``arcsec`` of a position.

    Raises
    ------
    DataError
        There is none; a file is damaged.
    """
    found = sky_columns(catalog.schema.empty_table(), ra, dec)
    if found is None or not sky.known.any():
        return catalog.schema.empty_table()
    places = sky.directions[sky.known]
    # A little more than the angle: the join decides.
    chord = 2 * np.sin(np.radians(arcsec / 3600) / 2) * (1 + 1e-6) + 1e-12
    tree = cKDTree(places)

    def keep(rows: pa.Table) -> np.ndarray:
        where = sky_degrees(rows, found)
        mask = np.zeros(rows.num_rows, dtype=bool)
        if where.known.any():
            distance, _ = tree.query(where.directions[where.known], distance_upper_bound=chord)
            mask[where.known] = np.isfinite(distance)
        return mask

    table = catalog.select(keep, [found.ra, found.dec], catalog.near(places, chord))
    if not table.num_rows:
        raise DataError(
            f"no row of {catalog.name!r} lies within {arcsec:g} arcsec of an image; check that "
            "both are ICRS degrees, or give a larger --match-arcsec"
        )
    return table
