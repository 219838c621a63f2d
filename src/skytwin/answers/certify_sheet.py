"""The objects to label as one picture, numbered in the blind order."""

from __future__ import annotations

import cv2
import numpy as np

from skytwin.answers.certify_plan import CertifyPlan
from skytwin.errors import UsageError
from skytwin.images.cutouts import Cutouts
from skytwin.images.display import Display, guess_origin, png_bytes, to_rgb

__all__ = ["plan_sheet"]

_TILE, _HEAD, _GAP = 128, 18, 4


def plan_sheet(
    plan: CertifyPlan, cutouts: Cutouts, display: Display | None = None, *, columns: int = 10
) -> bytes:
    """A contact sheet of the objects to label, each below its number in ``plan.table``.

    Parameters
    ----------
    plan : CertifyPlan
    cutouts : Cutouts
        Images of the survey, found by identifier.
    display : Display, optional
        See `skytwin.images.display.to_rgb`.
    columns : int
        Tiles in a row.

    Returns
    -------
    bytes
        A PNG file.

    Raises
    ------
    UnknownName
        An object has no image.
    """
    if columns < 1:
        raise UsageError(f"columns {columns}; expected at least 1")
    rows = np.array([cutouts.index[str(name)] for name in plan.ids])
    tiles = to_rgb(cutouts.pixels(rows), cutouts.bands, display, origin=guess_origin(cutouts))
    height, width = tiles.shape[1:3]
    tall = max(1, round(_TILE * height / width))
    across, down = _TILE + _GAP, tall + _HEAD + _GAP
    sheet = np.full(
        (-(-len(rows) // columns) * down, min(columns, len(rows)) * across, 3), 255, np.uint8
    )
    method = cv2.INTER_AREA if width > _TILE else cv2.INTER_NEAREST
    for number, tile in enumerate(tiles):
        top, left = number // columns * down, number % columns * across
        cv2.putText(
            sheet, str(number + 1), (left + 2, top + _HEAD - 5), cv2.FONT_HERSHEY_SIMPLEX, 0.45,
            (0, 0, 0), 1, cv2.LINE_AA,
        )  # fmt: skip
        small = cv2.resize(tile, (_TILE, tall), interpolation=method)
        sheet[top + _HEAD : top + _HEAD + tall, left : left + _TILE] = small
    return png_bytes(sheet)
