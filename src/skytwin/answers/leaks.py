"""One object more than once: same position, same image, nearly the same image, same vector.

What is counted must be counted once, and what was trained on must not be tested on. `find_twins`
lists the pairs that break this, within one embedding or between two, and numbers the groups that
keep every split and every count honest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from skytwin.answers.leaks_pairs import (
    FIELD_KINDS,
    OBJECT_KINDS,
    Found,
    Frames,
    image_pairs,
    open_frames,
)
from skytwin.answers.leaks_pixels import TURNS
from skytwin.answers.leaks_positions import (
    by_position,
    linked,
    move_elsewhere,
    separations,
)
from skytwin.answers.leaks_vectors import near_vectors, same_vectors, vector_distance
from skytwin.embeddings.table import Embeddings, require_comparable
from skytwin.errors import Mismatch, UsageError
from skytwin.images import arrow
from skytwin.images.cutouts import Cutouts
from skytwin.images.folds import straddling
from skytwin.images.groups import merge_groups

__all__ = ["Twins", "find_twins"]

_NONE = np.empty((0, 2), dtype=np.int64)


@dataclass(frozen=True, eq=False, kw_only=True)
class Twins:
    """Pairs of entries that show the same, and the groups they form.

    Attributes
    ----------
    embeddings : Embeddings
        N rows.
    other : Embeddings or None
        M rows, where two sets were compared; then only pairs between them are listed.
    rows, others : ndarray, shape (n,), int64
        The two entries of every pair; the second is a row of ``other`` where that is given.
    kind : ndarray, shape (n,), str
        One of `skytwin.answers.leaks_pairs.KINDS`: the strongest that applies.
    separation_arcsec, distance, similarity : ndarray, shape (n,), float64
        On the sky; ``1 - cos`` of standardised vectors; correlation of the images' textures.
        NaN where it is not known.
    turn : ndarray, shape (n,), int64
        Index into `skytwin.answers.leaks_pixels.TURNS`; -1 where images were not compared.
    shift : ndarray, shape (n, 2), int64
        Pixels in y and x by which the turned second image is moved.
    groups : ndarray, shape (N,), int64
        One number per object: rows of one number are to be counted once.
    fields : ndarray, shape (N,), int64
        Coarser: rows whose frames overlap share one, too. For splits of images.
    other_groups, other_fields : ndarray, shape (M,), or None
        The same of ``other``, in the same numbers: a number that occurs in both is an object
        that both sets have.
    threshold, unturned : float
        Similarity from which images counted as nearly the same: at any turn, and where the
        second lies as the first; NaN without images.
    typical : float
        Median distance of a vector to its third nearest; NaN where vectors were not compared.
    blank : int
        Images without any content; they are no copies of each other.
    settings : dict
    notes : tuple of str
        What could not be looked at, and why.
    """

    embeddings: Embeddings
    other: Embeddings | None
    rows: np.ndarray
    others: np.ndarray
    kind: np.ndarray
    separation_arcsec: np.ndarray
    distance: np.ndarray
    similarity: np.ndarray
    turn: np.ndarray
    shift: np.ndarray
    groups: np.ndarray
    fields: np.ndarray
    other_groups: np.ndarray | None
    other_fields: np.ndarray | None
    threshold: float
    unturned: float
    typical: float
    blank: int
    settings: dict[str, Any]
    notes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        return f"Twins({len(self)} pairs among {len(self.embeddings)} entries)"

    @property
    def objects(self) -> int:
        """How many objects the N rows are."""
        return len(np.unique(self.groups))

    @property
    def shared(self) -> np.ndarray:
        """Which rows of ``other`` are objects that this set has, too, shape (M,) bool."""
        if self.other_groups is None:
            raise UsageError("one embedding was looked at; give other=EMBEDDING to compare two")
        return np.isin(self.other_groups, self.groups)

    @property
    def table(self) -> pa.Table:
        """One row per pair."""
        second = self.embeddings if self.other is None else self.other
        known = self.turn >= 0
        names = np.array([*TURNS, None], dtype=object)[self.turn]
        columns = {
            arrow.field("kind", pa.string()): list(self.kind),
            arrow.field("id", pa.string(), ucd="meta.id"): list(self.embeddings.ids[self.rows]),
            arrow.field("other_id", pa.string(), ucd="meta.id"): list(second.ids[self.others]),
            arrow.field("separation", pa.float64(), unit="arcsec", ucd="pos.angDistance"): _known(
                self.separation_arcsec
            ),
            arrow.field(
                "distance", pa.float64(), description="1 - cos of the standardised vectors"
            ): _known(self.distance),
            arrow.field(
                "similarity", pa.float64(), description="correlation of the images' textures"
            ): _known(self.similarity),
            arrow.field(
                "turn", pa.string(), description="how the second image is turned to lie alike"
            ): list(names),
            arrow.field("shift_x", pa.int64(), unit="pix"): [
                int(s) if k else None for s, k in zip(self.shift[:, 1], known, strict=True)
            ],
            arrow.field("shift_y", pa.int64(), unit="pix"): [
                int(s) if k else None for s, k in zip(self.shift[:, 0], known, strict=True)
            ],
            arrow.field("row", pa.int64()): self.rows,
            arrow.field("other_row", pa.int64()): self.others,
        }
        return pa.Table.from_arrays(
            [pa.array(values, entry.type) for entry, values in columns.items()],
            schema=pa.schema(list(columns)),
        )

    def count(self, kind: str) -> int:
        """How many pairs are of a kind."""
        return int((self.kind == kind).sum())

    def differing(self, column: str, kinds: Sequence[str] = OBJECT_KINDS) -> pa.Table:
        """Pairs that a catalogue column tells apart: `table` with ``value`` and ``other_value``.

        Of a column of classes, labels that contradict each other; of a column that says train
        or test, leaks.

        Parameters
        ----------
        column : str
            A pair with an empty value is left out.
        kinds : sequence of str
            Which pairs to look at.

        Raises
        ------
        UnknownName
            There is no such column.
        """
        one, two = self._values(column)
        told = (one != two) & (one != None) & (two != None)  # noqa: E711  (element by element)
        keep = np.flatnonzero(told.astype(bool) & np.isin(self.kind, list(kinds)))
        found = self.table.take(pa.array(keep))
        for name, values in (("value", one), ("other_value", two)):
            entry = arrow.field(name, pa.string(), description=column)
            found = found.append_column(entry, pa.array(list(values[keep]), pa.string()))
        return found

    def straddling(self, column: str, *, frames: bool = True) -> np.ndarray:
        """Rows whose group is on more than one side of a split, shape (n,) int64.

        Parameters
        ----------
        column : str
            What says the side, for example ``split``.
        frames : bool
            Overlapping frames are one, too.
        """
        sides = _texts(self.embeddings, column)
        return straddling(self.fields if frames else self.groups, sides)

    def _values(self, column: str) -> tuple[np.ndarray, np.ndarray]:
        second = self.embeddings if self.other is None else self.other
        return _texts(self.embeddings, column)[self.rows], _texts(second, column)[self.others]

    def describe(self) -> dict[str, str]:
        """Where the pairs come from, for a table's header."""
        found = {"skytwin": "twins", "embedding": self.embeddings.as_parent().fingerprint}
        if self.other is not None:
            found["other"] = self.other.as_parent().fingerprint
        return {**found, **{name: str(value) for name, value in self.settings.items()}}


def find_twins(
    embeddings: Embeddings,
    *,
    other: Embeddings | None = None,
    cutouts: Cutouts | None = None,
    other_cutouts: Cutouts | None = None,
    group_arcsec: float = 2.0,
    images: bool = True,
    seed: int = 0,
    quiet: bool = False,
) -> Twins:
    """Find entries that show the same object.

    Parameters
    ----------
    embeddings : Embeddings
    other : Embeddings, optional
        Find what it shares with this one, instead of pairs within.
    cutouts, other_cutouts : Cutouts, optional
        The images, where they are not those the embeddings remember.
    group_arcsec : float
        Entries at most this far apart on the sky are one object; 0 leaves positions out.
    images : bool
        Compare images, where they are at hand.
    seed : int
        Of the samples that thresholds and principal components are measured on.
    quiet : bool
        Show no progress.

    Returns
    -------
    Twins

    Raises
    ------
    UsageError
        ``other`` is the same folder; the radius is negative.
    Mismatch
        Cutouts that the embedding was not made from.
    """
    if not group_arcsec >= 0:
        raise UsageError(f"group-arcsec {group_arcsec}; expected 0 or more")
    if other is not None and (other is embeddings or _one_folder(embeddings, other)):
        raise UsageError("the other embedding is the same one; leave it out to look within")
    sets = (embeddings,) if other is None else (embeddings, other)
    notes: list[str] = []
    found = Found()
    frames: Frames | None = None
    if images:
        opened = open_frames(sets, (cutouts, other_cutouts))
        if isinstance(opened, str):
            notes.append(opened)
        else:
            frames = opened
    frame_arcsec = frames.frame_arcsec if frames is not None else None
    listed = by_position(sets, group_arcsec, frame_arcsec, found, notes)
    comparable = _comparable(sets, notes)
    near = near_vectors(embeddings, other, seed=seed, quiet=quiet) if comparable else None
    same = same_vectors(embeddings, other) if comparable else _NONE
    threshold = unturned = float("nan")
    blank = 0
    if frames is not None:
        asked = _NONE if near is None else near.close
        outcome = image_pairs(frames, asked, found, seed=seed, quiet=quiet)
        threshold, unturned = outcome.threshold, outcome.unturned
        blank = int(outcome.blank[0].sum())
        if outcome.capped:
            notes.append("only the 30000 most promising pairs of images were compared closely")
        # Blank images have one vector, and nothing else in common.
        same = same[~(outcome.blank[0][same[:, 0]] & outcome.blank[-1][same[:, 1]])]
        move_elsewhere(sets, frame_arcsec, found)
    found.add("identical vector", same)
    if near is not None and frames is None:
        found.add("near-identical vector", near.close)
    pairs = found.ordered()
    rows, others = np.array([pair for pair, _ in pairs], dtype=np.int64).reshape(-1, 2).T
    groups = linked(sets, found.of_kinds(OBJECT_KINDS), group_arcsec)
    # Where overlaps are too many to list, those nearer than a frame are linked all the same.
    reach = group_arcsec if listed or frame_arcsec is None else max(group_arcsec, frame_arcsec)
    fields = merge_groups(groups, linked(sets, found.of_kinds(FIELD_KINDS), reach))
    count = len(embeddings)
    return Twins(
        embeddings=embeddings,
        other=other,
        rows=rows,
        others=others,
        kind=np.array([entry.kind for _, entry in pairs], dtype=object),
        separation_arcsec=separations(sets, rows, others),
        distance=(
            vector_distance(embeddings, other, rows, others)
            if comparable
            else np.full(len(rows), np.nan)
        ),
        similarity=np.array([entry.similarity for _, entry in pairs], dtype=np.float64),
        turn=np.array([entry.turn for _, entry in pairs], dtype=np.int64),
        shift=np.array([entry.shift for _, entry in pairs], dtype=np.int64).reshape(-1, 2),
        groups=groups[:count],
        fields=fields[:count],
        other_groups=None if other is None else groups[count:],
        other_fields=None if other is None else fields[count:],
        threshold=threshold,
        unturned=unturned,
        typical=near.typical if near is not None else float("nan"),
        blank=blank,
        settings={
            "group_arcsec": group_arcsec,
            "images": frames is not None,
            "threshold": None if np.isnan(threshold) else threshold,
            "threshold_unturned": None if np.isnan(unturned) else unturned,
            "seed": seed,
        },
        notes=tuple(notes),
    )


def _one_folder(one: Embeddings, other: Embeddings) -> bool:
    folders = [each.folder.resolve() if each.folder else None for each in (one, other)]
    return folders[0] is not None and folders[0] == folders[1]


def _comparable(sets: tuple[Embeddings, ...], notes: list[str]) -> bool:
    if len(sets) == 2:
        try:
            require_comparable(*sets)
        except Mismatch as reason:
            notes.append(f"vectors were not compared: {reason}")
            return False
    return True


def _texts(embeddings: Embeddings, column: str) -> np.ndarray:
    values = embeddings.column(column).cast(pa.string())
    return np.asarray(values.to_numpy(zero_copy_only=False), dtype=object)


def _known(values: np.ndarray) -> list[float | None]:
    return [None if np.isnan(value) else float(value) for value in values]
