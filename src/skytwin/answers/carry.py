"""A threshold found on one set, applied to another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from skytwin.answers.calibrate import calibrate
from skytwin.answers.drift import Drift, compare_distances
from skytwin.answers.drift_prevalence import Prevalence, estimate_prevalence
from skytwin.answers.intervals import Proportion
from skytwin.answers.ranking import eligible, once_each
from skytwin.embeddings.neighbours import rank_all
from skytwin.embeddings.table import Embeddings, require_comparable
from skytwin.errors import DataError, UsageError
from skytwin.images.groups import shared_places, sky_groups
from skytwin.images.where import positive_rows

if TYPE_CHECKING:
    from skytwin.answers.purity import PurityCurve, Threshold

__all__ = ["Carried", "carry"]


@dataclass(frozen=True, kw_only=True)
class Carried:
    """A threshold found on one set, applied to another.

    Attributes
    ----------
    distance : float
        The cut, from the first set.
    here, there : Proportion
        Positives within it, on the first and on the second set.
    base_here, base_there : Proportion
        Base rates of the two sets.
    selected_there : int
        Objects within it on the second set, labelled or not.
    labelled : bool
        Whether the second set has the labels; without them ``there`` is out of none.
    shared : int
        Entries of the second set that are objects of the first, by sky position: the threshold
        was chosen on them, and they are in no number here.
    drift : Drift or None
        How the distances of the two sets differ; None where there are too few.
    prevalence : Prevalence or None
        Base rate and purity there, estimated from the distances alone; None where there are too
        few labels here.
    """

    distance: float
    here: Proportion
    there: Proportion
    base_here: Proportion
    base_there: Proportion
    selected_there: int
    labelled: bool
    shared: int
    drift: Drift | None
    prevalence: Prevalence | None


def carry(curve: PurityCurve, other: Embeddings, threshold: Threshold, seed: int = 0) -> Carried:
    """Apply a threshold to another set; see `PurityCurve.carry_to`."""
    require_comparable(curve.embeddings, other)
    settings = curve.settings
    keep, _ = eligible(other, curve.references, same_arcsec=settings["same_arcsec"])
    free = np.ones(len(other), dtype=bool) if keep is None else keep
    known_here = shared_places(
        curve.embeddings.positions, other.positions, settings["group_arcsec"], len(other)
    )
    shared = int((known_here & free).sum())
    free &= ~known_here
    if not free.any():
        raise DataError(
            "every object of the other set is one of the first; a threshold is carried to others"
        )
    hits, known = np.zeros((2, len(other)), dtype=bool)
    try:
        hits, known = positive_rows(other.catalog, curve.positive)
    except UsageError:
        # A survey without the labels is what a threshold is carried to.
        labelled = False
    else:
        labelled = True
    groups = sky_groups(other.positions, settings["group_arcsec"], len(other))
    ranked, hits, known = once_each(
        rank_all(other.vectors, curve.ranker, keep=free), groups, hits, known
    )
    inside = ranked.distance <= threshold.distance
    level = curve.base.level
    return Carried(
        distance=threshold.distance,
        here=threshold.within,
        there=Proportion.of(int(hits[inside].sum()), int(known[inside].sum()), level),
        base_here=curve.base,
        base_there=Proportion.of(int(hits.sum()), int(known.sum()), level),
        selected_there=int(inside.sum()),
        labelled=labelled,
        shared=shared,
        drift=_drift(curve, ranked.distance, threshold.distance, seed),
        prevalence=_prevalence(curve, ranked.distance, threshold.distance, seed),
    )


def _drift(curve: PurityCurve, there: np.ndarray, threshold: float, seed: int) -> Drift | None:
    try:
        return compare_distances(curve.ranked.distance, there, threshold=threshold, seed=seed)
    except DataError:  # too few objects to compare
        return None


def _prevalence(
    curve: PurityCurve, there: np.ndarray, threshold: float, seed: int
) -> Prevalence | None:
    try:
        known = calibrate(curve, seed=seed)
        return estimate_prevalence(known, there, threshold=threshold, seed=seed)
    except DataError:  # too few labels here to know the two kinds' distances
        return None
