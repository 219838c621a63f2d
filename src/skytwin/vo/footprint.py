"""The footprint of a survey, from what it is kept as."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from skytwin.artefact import MANIFEST, Manifest
from skytwin.embeddings.table import Embeddings
from skytwin.errors import UsageError
from skytwin.images.catalog import read_table, sky_columns, sky_degrees
from skytwin.images.cutouts import Cutouts
from skytwin.images.moc import Footprint, cover

__all__ = ["footprint", "image_arcsec"]


def footprint(
    source: str | Path,
    *,
    order: int | None = None,
    size_arcsec: float | None = None,
    quiet: bool = True,
) -> Footprint:
    """The sky that the images of a survey cover.

    Parameters
    ----------
    source : path
        Cutouts, an embedding, or a table with RA and Dec.
    order : int, optional
        HEALPix order of the smallest cells; by default a side of an image has four cells or more.
    size_arcsec : float, optional
        Side of the images, where it is not known or another one is meant.
    quiet : bool
        Show no progress.

    Raises
    ------
    UsageError
        There are no positions; neither order nor size is known.
    """
    path = Path(source)
    if not (path / MANIFEST).is_file():
        table = read_table(path)
        columns = sky_columns(table)
        if columns is None:
            raise UsageError(
                f"{path.name} has no columns known as RA and Dec; call them ra and dec"
            )
        sky = sky_degrees(table, columns)
        return cover(np.stack([sky.ra, sky.dec], axis=1), size_arcsec, order=order, quiet=quiet)
    kind = Manifest.open(path).kind
    held: Cutouts | Embeddings
    if kind == "cutouts":
        held = Cutouts(path)
    elif kind == "embeddings":
        held = Embeddings.open(path)
    else:
        raise UsageError(f"{str(path)!r} holds {kind}; expected cutouts or an embedding")
    size = image_arcsec(held) if size_arcsec is None else size_arcsec
    return cover(held.positions, size, order=order, quiet=quiet)


def image_arcsec(held: Cutouts | Embeddings) -> float | None:
    """Side of a survey's images in arcsec, where it is known."""
    side = None
    if isinstance(held, Cutouts):
        side = held.shape[-1]
    elif held.manifest is not None and held.manifest.summary.get("image_shape"):
        side = held.manifest.summary["image_shape"][-1]
    return None if side is None or held.pixel_scale is None else float(side * held.pixel_scale)
