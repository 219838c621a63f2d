"""What positions say of pairs: one place, overlapping frames, or too far apart for copies."""

from __future__ import annotations

import numpy as np

from skytwin.answers.leaks_pairs import Found
from skytwin.embeddings.table import Embeddings
from skytwin.errors import UsageError
from skytwin.images.columns import unit_vectors
from skytwin.images.groups import linked_groups, merge_groups, sky_groups, sky_pairs

__all__ = ["by_position", "linked", "move_elsewhere", "separations"]


def by_position(
    sets: tuple[Embeddings, ...],
    group_arcsec: float,
    frame_arcsec: float | None,
    found: Found,
    notes: list[str],
) -> bool:
    """Add pairs near each other on the sky; False where those of a frame are too many to list."""
    one, other = sets[0].positions, sets[1].positions if len(sets) == 2 else None
    if group_arcsec == 0:
        return True
    if one is None or (other is None and len(sets) == 2):
        notes.append("positions were not compared: no RA and Dec")
        return True
    at_once = sky_pairs(one, group_arcsec, other)
    if at_once is None:
        raise UsageError(
            f"group-arcsec {group_arcsec:g} makes more than half a million pairs; expected a "
            "radius within which two entries are one object"
        )
    found.add("same position", at_once[0])
    if frame_arcsec is None or frame_arcsec <= group_arcsec:
        return True
    overlapping = sky_pairs(one, frame_arcsec, other)
    if overlapping is None:
        notes.append(
            f"more than half a million pairs of frames overlap (nearer than {frame_arcsec:g} "
            "arcsec); they are in the fields, but not listed"
        )
        return False
    found.add("overlapping frames", overlapping[0])
    return True


def move_elsewhere(sets: tuple[Embeddings, ...], frame_arcsec: float | None, found: Found) -> None:
    """Images alike but too far apart on the sky to share a pixel are no copies."""
    if frame_arcsec is None:
        return
    pairs = found.of_kinds(("near-identical image", "overlapping frames"))
    apart = separations(sets, pairs[:, 0], pairs[:, 1])
    for one, two in pairs[apart > np.sqrt(2) * frame_arcsec]:
        found.pairs[int(one), int(two)].kind = "alike elsewhere"


def linked(sets: tuple[Embeddings, ...], pairs: np.ndarray, group_arcsec: float) -> np.ndarray:
    """Groups over the rows of all sets, one set after the other."""
    start = 0 if len(sets) == 1 else len(sets[0])
    count = sum(map(len, sets))
    groups = linked_groups(pairs + np.array([0, start]), count)
    places = [
        np.full((len(each), 2), np.nan) if each.positions is None else each.positions
        for each in sets
    ]
    return merge_groups(groups, sky_groups(np.concatenate(places), group_arcsec, count))


def separations(sets: tuple[Embeddings, ...], rows: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Of pairs, in arcsec, shape (n,); NaN where a position is not known."""
    one, two = sets[0].positions, sets[-1].positions
    if one is None or two is None:
        return np.full(len(rows), np.nan)
    chord = np.linalg.norm(unit_vectors(one[rows]) - unit_vectors(two[others]), axis=1)
    apart: np.ndarray = np.degrees(2 * np.arcsin(np.minimum(chord / 2, 1.0))) * 3600
    return apart
