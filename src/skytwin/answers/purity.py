"""How pure is the list: positives among all objects within every distance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from skytwin.answers.carry import Carried, carry
from skytwin.answers.intervals import Proportion, jeffreys
from skytwin.answers.query import Like, Reference, resolve
from skytwin.answers.ranking import (
    How,
    eligible,
    make_ranker,
    named,
    once_each,
)
from skytwin.embeddings.names import DEFAULT_COMBINE, DEFAULT_METRIC
from skytwin.embeddings.neighbours import Neighbours, rank_all
from skytwin.embeddings.ranker import Ranker
from skytwin.embeddings.table import Embeddings
from skytwin.errors import DataError, UsageError
from skytwin.images import arrow
from skytwin.images.groups import sky_groups
from skytwin.images.where import positive_rows

if TYPE_CHECKING:
    from astropy.table import Table

__all__ = ["Carried", "Composition", "PurityCurve", "Threshold", "purity"]

_TOLD = 100_000


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """A cut in distance and what lies within it.

    Attributes
    ----------
    distance : float
        The cut; objects at this distance are in.
    within : Proportion
        Positives among the labelled objects within it.
    lift : float
        Purity over base rate.
    """

    distance: float
    within: Proportion
    lift: float


@dataclass(frozen=True, eq=False, kw_only=True)
class Composition:
    """What the nearest objects are, by class.

    Attributes
    ----------
    column : str
        The catalogue column.
    top : int
        How many of the nearest were counted, labelled ones only.
    classes : tuple of str
        Most frequent in the top first.
    share : tuple of Proportion
        Of the top.
    base : tuple of Proportion
        Of all labelled objects.
    """

    column: str
    top: int
    classes: tuple[str, ...]
    share: tuple[Proportion, ...]
    base: tuple[Proportion, ...]

    @property
    def table(self) -> pa.Table:
        """One row per class: count, share with interval, base rate, lift."""
        return pa.table(
            {
                self.column: list(self.classes),
                "count": [p.hits for p in self.share],
                "share": [p.value for p in self.share],
                "lower": [p.lower for p in self.share],
                "upper": [p.upper for p in self.share],
                "base_rate": [p.value for p in self.base],
                "lift": [s.value / b.value for s, b in zip(self.share, self.base, strict=True)],
            }
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class PurityCurve:
    """Purity within every distance, converging to the base rate.

    Attributes
    ----------
    distance : ndarray, shape (M,), float64
        Every distance at which labelled objects lie, ascending.
    count, positives : ndarray, shape (M,), int64
        Labelled objects, and positives among them, at most so far away.
    purity : ndarray, shape (M,), float64
        ``positives / count``.
    base : Proportion
        Positives among all labelled objects, the references left out.
    unlabelled : int
        Objects whose label is unknown: in no number here.
    repeats : int
        Entries that are another one's object, by sky position: every object is counted once, as
        its nearest entry, and is positive if any of its entries is.
    embeddings, references, positive, settings
        What was asked.
    ranked : Neighbours
        Every object but the references once, in order of distance.
    ranker : Ranker
        Gives any vector its distance as it was given here.
    """

    distance: np.ndarray
    count: np.ndarray
    positives: np.ndarray
    purity: np.ndarray
    base: Proportion
    unlabelled: int
    repeats: int
    embeddings: Embeddings
    references: tuple[Reference, ...]
    positive: tuple[str, ...]
    settings: dict[str, Any]
    ranked: Neighbours
    ranker: Ranker

    def __len__(self) -> int:
        return len(self.distance)

    def __repr__(self) -> str:
        return (
            f"PurityCurve({' or '.join(self.positive)}; {self.base.total} labelled objects, "
            f"base rate {self.base})"
        )

    def _repr_html_(self) -> str:
        from skytwin.answers.notebook import curve_html

        return curve_html(self)

    @property
    def lift(self) -> np.ndarray:
        """Purity over base rate, shape (M,)."""
        return self.purity / self.base.value

    def interval(self, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper ends of the Jeffreys interval of some of the M purities.

        Each holds for a distance chosen beforehand; a distance chosen by looking at the curve is
        flattered by it.
        """
        return jeffreys(self.positives[at], self.count[at], self.base.level)

    @property
    def lower(self) -> np.ndarray:
        """Lower ends of all intervals, shape (M,)."""
        return self.interval(np.arange(len(self)))[0]

    @property
    def upper(self) -> np.ndarray:
        """Upper ends of all intervals, shape (M,)."""
        return self.interval(np.arange(len(self)))[1]

    @property
    def table(self) -> pa.Table:
        """The curve as columns; of more than 100 000 distances the nearest, then ever fewer."""
        at = np.arange(len(self))
        if len(at) > _TOLD:
            at = np.unique(np.geomspace(1, len(at), _TOLD).astype(np.int64) - 1)
        lower, upper = self.interval(at)
        return pa.table(
            {
                "distance": self.distance[at],
                "count": self.count[at],
                "positives": self.positives[at],
                "purity": self.purity[at],
                "lower": lower,
                "upper": upper,
                "lift": self.lift[at],
            }
        )

    def to_astropy(self) -> Table:
        """The curve as an astropy table."""
        return arrow.to_astropy(self.table, meta=self.describe())

    def to_pandas(self) -> Any:
        """The curve as a pandas DataFrame."""
        return self.table.to_pandas()

    def describe(self) -> dict[str, str]:
        """Where the curve comes from, for a table's header."""
        return {
            "skytwin": "purity",
            "embedding": self.embeddings.as_parent().fingerprint,
            "encoder": self.embeddings.encoder_name,
            "references": named(self.references),
            "positive": " or ".join(self.positive),
            "base_rate": str(self.base),
            **{name: str(value) for name, value in self.settings.items() if value is not None},
        }

    def at_count(self, count: int) -> Threshold:
        """The cut that takes in at least ``count`` labelled objects (all, where fewer are)."""
        if count < 1:
            raise UsageError(f"count {count}; expected at least 1")
        return self._threshold(min(int(np.searchsorted(self.count, count)), len(self) - 1))

    def at_distance(self, distance: float) -> Threshold:
        """What lies within a distance."""
        if not (distance >= 0 or any(r.negative for r in self.references)):
            raise UsageError(f"radius {distance}; expected a distance of 0 or more")
        last = int(np.searchsorted(self.distance, distance, side="right")) - 1
        if last < 0:
            none = Proportion.of(0, 0, self.base.level)
            return Threshold(distance=distance, within=none, lift=float("nan"))
        found = self._threshold(last)
        return Threshold(distance=distance, within=found.within, lift=found.lift)

    def at_purity(self, purity: float) -> Threshold:
        """The widest cut within which the measured purity is at least ``purity``.

        Raises
        ------
        DataError
            No cut reaches it; the best one is named.
        """
        if not 0 < purity <= 1:
            raise UsageError(f"purity {purity}; expected above 0 and at most 1")
        reached = np.flatnonzero(self.purity >= purity)
        if len(reached):
            return self._threshold(int(reached[-1]))
        best = self._threshold(int(np.argmax(self.purity)))
        raise DataError(
            f"purity {purity:g} is not reached at any distance; the best is {best.within} at "
            f"distance {best.distance:.4g}: ask for less, or give more references"
        )

    def _threshold(self, at: int) -> Threshold:
        within = Proportion.of(int(self.positives[at]), int(self.count[at]), self.base.level)
        return Threshold(
            distance=float(self.distance[at]), within=within, lift=within.value / self.base.value
        )

    def carry_to(self, other: Embeddings, threshold: Threshold, *, seed: int = 0) -> Carried:
        """Apply a threshold found here to another set, distances measured as they were here.

        Objects of this set that are in the other too, by sky position, are left out. The
        distances of the two sets are compared, and the base rate and purity there estimated
        from them.

        Raises
        ------
        Mismatch
            The other set was made by another encoder, or from other bands or pixel scale.
        """
        return carry(self, other, threshold, seed)

    def composition(self, column: str, top: int = 1000) -> Composition:
        """What the nearest ``top`` labelled objects are, by a catalogue column."""
        if top < 1:
            raise UsageError(f"top {top}; expected at least 1")
        labels = self.embeddings.column(column).cast(pa.string())
        values = labels.to_numpy(zero_copy_only=False)[self.ranked.rows]
        labelled = np.array([value for value in values if value is not None], dtype=object)
        if not len(labelled):
            raise DataError(f"column {column!r} is empty for every object")
        head = labelled[:top]
        names, totals = np.unique(labelled.astype(str), return_counts=True)
        counts = {str(n): int((head == n).sum()) for n in names}
        order = sorted(range(len(names)), key=lambda i: (-counts[str(names[i])], str(names[i])))
        level = self.base.level
        return Composition(
            column=column,
            top=len(head),
            classes=tuple(str(names[i]) for i in order),
            share=tuple(Proportion.of(counts[str(names[i])], len(head), level) for i in order),
            base=tuple(Proportion.of(int(totals[i]), len(labelled), level) for i in order),
        )


def purity(
    embeddings: Embeddings,
    like: Like | Sequence[Like],
    positive: str | Sequence[str],
    *,
    unlike: Like | Sequence[Like] = (),
    emphasis: Sequence[float] | None = None,
    metric: str = DEFAULT_METRIC,
    combine: str = DEFAULT_COMBINE,
    same_arcsec: float = 2.0,
    group_arcsec: float = 2.0,
    match_arcsec: float = 3.0,
    level: float = 0.95,
    weights: str | Path | None = None,
    seed: int = 0,
) -> PurityCurve:
    """Measure purity against distance on labelled objects (Doorenbos et al. 2022, section 4).

    Parameters
    ----------
    embeddings : Embeddings
        A set with labels in its catalogue.
    like : one or several references
        As in `skytwin.search`. They, and objects at their places on the sky, are in no number.
    positive : str or sequence of str
        ``"column=value"`` or an SQL condition; several are joined by or.
    unlike, emphasis, metric, combine, same_arcsec, match_arcsec, weights, seed
        As in `skytwin.search`.
    group_arcsec : float
        Entries nearer than this on the sky, or linked by such, are one object.
    level : float
        Coverage of the intervals.

    Returns
    -------
    PurityCurve

    Raises
    ------
    DataError
        No labelled object, or none that is positive.
    """
    conditions = (positive,) if isinstance(positive, str) else tuple(positive)
    if not conditions:
        raise UsageError("no positive class; give at least one column=value")
    asked = How.of(metric=metric, combine=combine, seed=seed, same_arcsec=same_arcsec)
    references = resolve(
        embeddings,
        like,
        unlike=unlike,
        emphasis=emphasis,
        match_arcsec=match_arcsec,
        weights=weights,
    )
    how = asked.settled(embeddings, references)
    ranker = make_ranker(embeddings, references, how)
    hits, known = positive_rows(embeddings.catalog, conditions)
    groups = sky_groups(embeddings.positions, group_arcsec, len(embeddings))
    keep, _ = eligible(embeddings, references, same_arcsec=same_arcsec, groups=groups)
    every = rank_all(embeddings.vectors, ranker, keep=keep)
    ranked, hits, counted = once_each(every, groups, hits, known)
    what = " or ".join(conditions)
    if not counted.any():
        raise DataError(f"no object but the references has a label for {what}")
    base = Proportion.of(int(hits.sum()), int(counted.sum()), level)
    if base.hits == 0:
        raise DataError(f"no object but the references fulfils {what}; check the value's spelling")
    distance = ranked.distance[counted]
    total = np.arange(1, len(distance) + 1)
    found = np.cumsum(hits[counted])
    # Objects at one distance come in together: no order among them has a meaning.
    last = np.append(np.flatnonzero(np.diff(distance) > 0), len(distance) - 1)
    return PurityCurve(
        distance=distance[last],
        count=total[last],
        positives=found[last],
        purity=found[last] / total[last],
        base=base,
        unlabelled=int((~counted).sum()),
        repeats=len(every.rows) - len(ranked.rows),
        embeddings=embeddings,
        references=references,
        positive=conditions,
        settings={**how.recorded(references, asked), "group_arcsec": group_arcsec},
        ranked=ranked,
        ranker=ranker,
    )
