"""Where the objects of a set lie, whatever the set is kept as."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from skytwin.addresses import shown
from skytwin.artefact import MANIFEST, Manifest
from skytwin.embeddings.table import Embeddings
from skytwin.errors import UsageError
from skytwin.images.catalog import read_table
from skytwin.images.columns import sky_columns, sky_degrees
from skytwin.images.cutouts import Cutouts
from skytwin.images.tables import table_sha256

__all__ = ["places_of"]


def places_of(path: Path) -> tuple[str, np.ndarray | None, str]:
    """Name, positions (N, 2) in degrees, and fingerprint of cutouts, an embedding or a table.

    Raises
    ------
    UsageError
        The folder holds something else, or the table has no RA and Dec.
    """
    if (path / MANIFEST).is_file():
        manifest = Manifest.open(path)
        if manifest.kind not in ("cutouts", "embeddings"):
            raise UsageError(f"--exclude {str(path)!r} holds {manifest.kind}; expected cutouts")
        held = Cutouts(path) if manifest.kind == "cutouts" else Embeddings.open(path)
        return str(path), held.positions, manifest.fingerprint
    table = read_table(path)
    columns = sky_columns(table)
    if columns is None:
        raise UsageError(
            f"--exclude {str(path)!r} has no columns known as RA and Dec; call them ra and dec"
        )
    sky = sky_degrees(table, columns)
    return shown(path), np.stack([sky.ra, sky.dec], axis=1), table_sha256(path)
