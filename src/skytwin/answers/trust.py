"""What a list of matches is worth: chance, far references, and probabilities from labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from skytwin.answers.drift_far import FarQuery, far_query
from skytwin.answers.ranking import eligible
from skytwin.answers.search import Matches
from skytwin.answers.significance import Significance, significance
from skytwin.embeddings.neighbours import rank_all
from skytwin.errors import DataError
from skytwin.images import arrow

if TYPE_CHECKING:
    from skytwin.answers.calibrate import Calibration
    from skytwin.answers.labels import Labels

__all__ = ["Trust", "trust"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Trust:
    """Matches with what can be said of them.

    Attributes
    ----------
    matches : Matches
    significance : Significance or None
        Against random references; None where it was not asked for or the set is too small.
    far : FarQuery or None
        References far from all data; likewise.
    calibration : Calibration or None
        Where labels were given.
    notes : tuple of str
        Why something could not be said.
    """

    matches: Matches
    significance: Significance | None
    far: FarQuery | None
    calibration: Calibration | None
    notes: tuple[str, ...]

    @property
    def table(self) -> pa.Table:
        """The matches' table with ``tail_probability``, ``q_value`` and ``probability``."""
        table = self.matches.table
        place = table.column_names.index("reference") + 1
        if self.calibration is not None:
            entry = arrow.field(
                "probability", pa.float64(), description="of being positive, from labels"
            )
            values = self.calibration.predict(self.matches.distance)
            table = _inserted(table, place, entry, pa.array(values))
        if self.significance is not None:
            found = self.significance.table
            for name in ("q_value", "tail_probability"):
                table = _inserted(table, place, found.schema.field(name), found[name])
        return table

    @property
    def lines(self) -> list[str]:
        """Warnings first, then what was found, in plain text."""
        parts = (self.far, self.significance, self.calibration)
        warnings = [part.warning for part in parts if part is not None and part.warning]
        lines = [f"warning: {text}" for text in warnings]
        if self.significance is not None and len(self.matches):
            lines.append(self.significance.summary)
        if self.calibration is not None:
            lines.append(self.calibration.summary)
        return [*lines, *self.notes]


def trust(
    matches: Matches,
    *,
    positive: str | Sequence[str] | None = None,
    labels: str | Path | Labels | object = None,
    null_queries: int | None = None,
    group_arcsec: float = 2.0,
    seed: int = 0,
    quiet: bool = True,
) -> Trust:
    """Say what a list of matches is worth.

    Parameters
    ----------
    matches : Matches
    positive, labels
        Either gives probabilities, see `skytwin.answers.calibrate.calibrate`: of labelled objects
        at all distances, not only of these matches.
    null_queries : int, optional
        See `skytwin.answers.significance.significance`; 0 leaves chance out.
    group_arcsec : float
        Entries nearer than this on the sky are one object.
    seed : int
        Of the null queries, the samples and the folds.
    quiet : bool
        Show no progress.

    Raises
    ------
    DataError
        Labels were given, but too few.
    """
    notes: list[str] = []
    found: Significance | None = None
    far: FarQuery | None = None
    if null_queries != 0:
        try:
            found = significance(matches, null_queries=null_queries, seed=seed, quiet=quiet)
            far = far_query(
                matches.embeddings,
                matches.references,
                metric=matches.settings["metric"],
                same_arcsec=matches.settings["same_arcsec"],
                decide=True,
                seed=seed,
                quiet=quiet,
            )
        except DataError as reason:
            notes.append(f"not compared with chance: {reason}")
    calibration = None
    if positive is not None or labels is not None:
        # Slow to import, and most searches have no labels.
        from skytwin.answers.calibrate import calibrate

        calibration = calibrate(
            _all(matches), positive=positive, labels=labels, group_arcsec=group_arcsec, seed=seed
        )
    return Trust(
        matches=matches,
        significance=found,
        far=far,
        calibration=calibration,
        notes=tuple(notes),
    )


def _all(matches: Matches) -> Matches:
    """Every object but the references, in order of distance."""
    settings = matches.settings
    keep, _ = eligible(matches.embeddings, matches.references, same_arcsec=settings["same_arcsec"])
    ranked = rank_all(matches.embeddings.vectors, matches.ranker, keep=keep)
    return replace(matches, rows=ranked.rows, distance=ranked.distance, reference=ranked.reference)


def _inserted(table: pa.Table, place: int, entry: pa.Field, values: object) -> pa.Table:
    name = entry.name
    if name in table.column_names:  # the catalogue has one of its own
        at = table.column_names.index(name)
        table = table.set_column(at, table.schema.field(at).with_name(f"{name}_catalog"), table[at])
    return table.add_column(place, entry, values)
