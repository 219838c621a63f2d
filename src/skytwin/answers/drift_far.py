"""Is a reference far from all data? Its nearest neighbour against everybody's.

A search always returns something. If the nearest object is farther from a reference than nearly
all objects are from their nearest (Knorr & Ng 1998; Ramaswamy, Rastogi & Shim 2000, outliers by
distance to a neighbour), nothing like it is in the survey, or it was made in another way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from skytwin.answers.query import Reference, same_object
from skytwin.embeddings.metric import scorer
from skytwin.embeddings.names import DEFAULT_METRIC, SAMPLED, check_metric
from skytwin.embeddings.table import Embeddings
from skytwin.errors import DataError, UsageError
from skytwin.images.groups import rows_at
from skytwin.progress import Progress

__all__ = ["FarQuery", "far_query"]

_FEWEST, _LIMIT = 39, 0.003
_FIRST = 48  # what a decision is tried with before the whole sample is compared
_SLACK = 1e-9  # between the distance from one object to another, and back


@dataclass(frozen=True, eq=False, kw_only=True)
class FarQuery:
    """How far references are from their nearest objects, compared with objects of the survey.

    Attributes
    ----------
    names : tuple of str
        Of the positive references.
    nearest : ndarray, shape (P,), float64
        Distance of each to the nearest object of the survey, itself left out.
    nearest_ids : tuple of str
        Which that is.
    tail_probability : ndarray, shape (P,), float64
        Share of objects at least so far from their nearest, ``(1 + count) / (1 + S)``.
    sample : ndarray, shape (S,), float64
        Distances of random objects to their nearest, ascending; fewer than were asked for where
        these decided the matter.
    metric : str
    limit : float
        A smaller tail probability is warned of.
    """

    names: tuple[str, ...]
    nearest: np.ndarray
    nearest_ids: tuple[str, ...]
    tail_probability: np.ndarray
    sample: np.ndarray
    metric: str
    limit: float

    def __repr__(self) -> str:
        return f"FarQuery({self.summary})"

    @property
    def far(self) -> np.ndarray:
        """Which references are far from all data, (P,) bool."""
        return np.asarray(self.tail_probability <= self.limit)

    @property
    def table(self) -> pa.Table:
        """One row per reference."""
        return pa.table(
            {
                "reference": list(self.names),
                "nearest_distance": self.nearest,
                "nearest_id": list(self.nearest_ids),
                "tail_probability": self.tail_probability,
            }
        )

    @property
    def summary(self) -> str:
        """The answer in one line."""
        worst = int(self.tail_probability.argmin())
        return (
            f"{int(self.far.sum())} of {len(self.names)} references far from all data; "
            f"{self.names[worst]} is {self.nearest[worst]:.4g} from its nearest, farther than "
            f"{self._share(worst)} of objects are from theirs"
        )

    @property
    def warning(self) -> str | None:
        """What to beware of, in one line; None where there is nothing."""
        far = np.flatnonzero(self.far)
        if not len(far):
            return None
        worst = int(far[self.nearest[far].argmax()])
        more = f" ({len(far)} of {len(self.names)} references are so)" if len(far) > 1 else ""
        return (
            f"{self.names[worst]} is farther from all data than {self._share(worst)} of objects "
            f"are from their nearest ({self.nearest[worst]:.4g}; median "
            f"{np.median(self.sample):.4g}){more}: the survey may hold nothing like it, or it was "
            "made in another way"
        )

    def _share(self, place: int) -> str:
        nearer = int(np.searchsorted(self.sample, self.nearest[place]))
        text = f"{nearer / len(self.sample):.1%}"
        return f"all {len(self.sample)} sampled" if nearer == len(self.sample) else text


def far_query(
    embeddings: Embeddings,
    references: Sequence[Reference],
    *,
    metric: str = DEFAULT_METRIC,
    sample: int = 400,
    limit: float | None = None,
    same_arcsec: float = 2.0,
    decide: bool = False,
    seed: int = 0,
    quiet: bool = False,
) -> FarQuery:
    """Compare the references' distances to their nearest objects with those of random objects.

    Parameters
    ----------
    embeddings : Embeddings
        The survey; all of it is scanned, once.
    references : sequence of Reference
        Negative ones are left out.
    metric : str
        ``csls`` compares as ``standardized``: it is defined by neighbourhoods, which are the
        question here.
    sample : int
        Random objects, at least 39; all but the references, where there are fewer.
    limit : float, optional
        The tail probability that is warned of; at least ``1 / (sample + 1)``. By default 0.003,
        or that least one where it is larger.
    same_arcsec : float
        Entries nearer than this are one object, and not its neighbour.
    decide : bool
        Stop at a small part of the sample where this shows that no reference is far, as it does
        in nearly all cases: the warning is the same, the tail probability is coarser. It stops
        when even if no other object of the sample were so far, the tail probability would be
        above the limit (curtailed sampling).
    seed : int
    quiet : bool
        Show no progress.

    Raises
    ------
    UsageError
        A sample too small for the limit.
    DataError
        Too few objects.

    Notes
    -----
    Distances come from float32 products and are exact to about 1e-6.
    """
    if sample < _FEWEST:
        raise UsageError(f"a sample of {sample} objects; expected at least {_FEWEST}")
    if limit is not None and not 0 < limit < 1:
        raise UsageError(f"limit {limit}; expected a number between 0 and 1")
    checked = check_metric(metric)
    checked = "standardized" if checked == "csls" else checked
    positives = [reference for reference in references if not reference.negative]
    if not positives:
        raise UsageError("no positive reference; give at least one")
    own = [same_object(embeddings, [reference], same_arcsec) for reference in positives]
    free = np.flatnonzero(~np.any(own, axis=0))
    if len(free) < _FEWEST + 1:
        raise DataError(
            f"{len(free)} objects beside the references; expected at least {_FEWEST + 1} to say "
            "what is far"
        )
    rng = np.random.default_rng(seed)
    drawn = rng.choice(free, size=min(sample, len(free)), replace=False)
    least = 1 / (len(drawn) + 1)
    limit = max(_LIMIT, least) if limit is None else limit
    if limit < least:
        raise UsageError(
            f"limit {limit:g} with a sample of {len(drawn)} objects; expected at least "
            f"{least:.2g}, or a larger sample"
        )
    hidden = [np.flatnonzero(mask) for mask in own]
    hidden += rows_at(embeddings.positions, drawn, same_arcsec)
    vectors = np.concatenate(
        [np.stack([r.vector for r in positives]), embeddings.vectors.take(drawn)]
    )
    how: dict[str, Any] = {"metric": checked, "seed": seed, "quiet": quiet}
    first = len(positives)
    enough = first + min(_FIRST, len(drawn)) if decide else len(vectors)
    distance, row = _nearest(embeddings, vectors[:enough], hidden=hidden[:enough], **how)
    others, above = _farther(distance, first)
    if enough < len(vectors) and bool(((1 + above) / (1 + len(drawn)) <= limit).any()):
        more, _ = _nearest(embeddings, vectors[enough:], hidden=hidden[enough:], **how)
        distance = np.concatenate([distance, more])
        others, above = _farther(distance, first)
    return FarQuery(
        names=tuple(reference.name for reference in positives),
        nearest=distance[:first],
        nearest_ids=tuple(embeddings.names(row[:first])),
        tail_probability=(1 + above) / (1 + len(others)),
        sample=others,
        metric=checked,
        limit=limit,
    )


def _farther(distance: np.ndarray, first: int) -> tuple[np.ndarray, np.ndarray]:
    """The others' distances, ascending, and how many are at least each of the first."""
    others = np.sort(distance[first:])
    return others, len(others) - np.searchsorted(others, distance[:first] - _SLACK)


def _nearest(
    embeddings: Embeddings,
    vectors: np.ndarray,
    *,
    metric: str,
    hidden: list[np.ndarray],
    seed: int,
    quiet: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """Distance to the nearest row that is not hidden, and that row, each (Q,)."""
    checked = check_metric(metric)
    background = embeddings.sample(seed) if checked in SAMPLED else None
    score = scorer(checked, vectors, embeddings.statistics, background)
    column = np.repeat(np.arange(len(hidden)), [len(rows) for rows in hidden])
    rows = np.concatenate(hidden)
    best, where = np.full(len(vectors), np.inf), np.zeros(len(vectors), dtype=np.int64)
    with Progress("far", len(embeddings), unit="objects", quiet=quiet) as progress:
        for block in embeddings.vectors.blocks(4096):
            bounds = score.rough(block)
            distance = (bounds.lower + bounds.upper) / 2
            stop = block.start + len(block.values)
            here = (rows >= block.start) & (rows < stop)
            distance[rows[here] - block.start, column[here]] = np.inf
            low = distance.argmin(axis=0)
            value = distance[low, np.arange(len(vectors))]
            nearer = value < best
            best[nearer], where[nearer] = value[nearer], block.start + low[nearer]
            progress.advance(len(block.values))
    # Settled in float64, which is the same for all.
    for place in range(len(vectors)):
        exact = scorer(checked, vectors[place : place + 1], embeddings.statistics, background)
        best[place] = exact.exact(embeddings.vectors.take([int(where[place])]))[0, 0]
    return best, where
