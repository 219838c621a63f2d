"""A HATS catalogue's folder as its specification has it, with an arithmetic of its own."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq


def cell_of(order: int, ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
    """HEALPix cells in the nested scheme (Gorski et al. 2005, sections 4 and 5)."""
    z, side = np.sin(np.radians(dec)), 2**order
    turn = ra / 90 % 4
    cap = np.abs(z) > 2 / 3
    up, down = turn - 0.75 * z + 0.5, turn + 0.75 * z + 0.5  # between the caps
    p, m = np.floor(up).astype(int), np.floor(down).astype(int)
    belt = np.where(p == m, p % 4 + 4, np.where(p < m, p % 4, m % 4 + 8))
    column = np.minimum(turn.astype(int), 3)
    sigma = np.sqrt(3 * (1 - np.abs(z)))
    t = turn - column
    face = np.where(cap, np.where(z > 0, column, column + 8), belt)
    x_cap = np.where(z > 0, 1 - (1 - t) * sigma, t * sigma)
    y_cap = np.where(z > 0, 1 - t * sigma, (1 - t) * sigma)
    x = np.where(cap, x_cap, down % 1)
    y = np.where(cap, y_cap, 1 - up % 1)
    ix, iy = (np.clip((v * side).astype(int), 0, side - 1) for v in (x, y))
    number = np.zeros(len(ra), dtype=np.int64)
    for bit in range(order):
        number |= (ix >> bit & 1) << 2 * bit | (iy >> bit & 1) << 2 * bit + 1
    return face * 4**order + number


def rows(count: int = 600, seed: int = 0) -> pa.Table:
    rng = np.random.default_rng(seed)
    return pa.table(
        {
            "source_id": np.arange(count) + 2**60,
            "RAJ": rng.uniform(0, 360, count),
            "DEJ": np.degrees(np.arcsin(rng.uniform(-1, 1, count))),
            "mag": rng.normal(20, 1, count),
            "class": [("star", "galaxy")[i % 2] for i in range(count)],
        }
    )


def write_hats(
    folder: Path, table: pa.Table, *, leaves: bool = False, old: bool = False, info: bool = True
) -> Path:
    """A catalogue as the specification has it: order 1, but order 2 in the northern faces."""
    ra, dec = table["RAJ"].to_numpy(), table["DEJ"].to_numpy()
    one, two = cell_of(1, ra, dec), cell_of(2, ra, dec)
    cells = defaultdict(list)
    for row in range(len(table)):
        cells[(2, int(two[row])) if one[row] < 16 else (1, int(one[row]))].append(row)
    deepest = cell_of(29, ra, dec)
    for (order, pixel), taken in cells.items():
        part = table.take(pa.array(taken)).append_column(
            "_healpix_29", pa.array(deepest[taken], pa.int64())
        )
        part = part.sort_by("_healpix_29")
        place = folder / f"dataset/Norder={order}/Dir={pixel // 10_000 * 10_000}"
        place.mkdir(parents=True, exist_ok=True)
        if leaves:
            (place / f"Npix={pixel}").mkdir()
            half = len(part) // 2
            pq.write_table(part.slice(0, half), place / f"Npix={pixel}/part0.parquet")
            pq.write_table(part.slice(half), place / f"Npix={pixel}/part1.parquet")
        else:
            pq.write_table(part, place / f"Npix={pixel}.parquet")
    pq.write_metadata(part.schema, folder / "dataset/_common_metadata")
    if info:
        lines = ["Norder,Npix", *(f"{order},{pixel}" for order, pixel in sorted(cells))]
        (folder / "partition_info.csv").write_text("\n".join(lines) + "\n")
    (folder / ("properties" if old else "hats.properties")).write_text(
        "#HATS catalog\nobs_collection = made\ndataproduct_type = object\n"
        f"hats_nrows = {len(table)}\nhats_col_ra = RAJ\nhats_col_dec = DEJ\nhats_version = v0.1\n"
        f"hats_npix_suffix = {'/' if leaves else '.parquet'}\nhats_col_healpix = _healpix_29\n"
        "hats_col_healpix_order = 29\nhats_order = 2\n"
    )
    return folder
