"""One way to order a set by its likeness to references, for every verb that needs an order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from skytwin.answers.query import Reference, same_object
from skytwin.answers.where import matching_rows
from skytwin.embeddings.learned import learn_lda, learn_logistic
from skytwin.embeddings.metric import DEFAULT_METRIC, SAMPLED, Metric, check_metric, scorer
from skytwin.embeddings.ranker import (
    DEFAULT_COMBINE,
    Combine,
    Combined,
    Fused,
    Ranker,
    check_combine,
)
from skytwin.embeddings.table import Embeddings
from skytwin.errors import DataError, UsageError

__all__ = [
    "How",
    "eligible",
    "how_named",
    "make_ranker",
    "named",
]

LEARNED: tuple[Combine, ...] = ("logistic", "lda")


@dataclass(frozen=True, kw_only=True)
class How:
    """How a set is ordered.

    Attributes
    ----------
    metric : str
        One of `skytwin.embeddings.metric.METRICS`.
    combine : str
        One of `skytwin.embeddings.ranker.COMBINATIONS`.
    seed : int
        Of the sample of the set that learned combinations and some metrics need.
    same_arcsec : float
        Two entries nearer than this on the sky are one object.
    """

    metric: Metric = DEFAULT_METRIC
    combine: Combine = DEFAULT_COMBINE
    seed: int = 0
    same_arcsec: float = 2.0

    @classmethod
    def of(cls, *, metric: str, combine: str, seed: int, same_arcsec: float) -> How:
        """Check what a user named.

        Raises
        ------
        UnknownName
            No such metric or combination.
        UsageError
            The two do not go together.
        """
        checked, over = check_metric(metric), check_combine(combine)
        if over in LEARNED and checked != "standardized":
            raise UsageError(
                f"combine {over!r} learns on standardised features; metric {metric!r} goes with "
                "mean, min or fusion"
            )
        if not same_arcsec >= 0:
            raise UsageError(f"same-arcsec {same_arcsec}; expected 0 or more")
        return cls(metric=checked, combine=over, seed=seed, same_arcsec=same_arcsec)

    def recorded(self, references: Sequence[Reference]) -> dict[str, Any]:
        """As recorded in manifests; what has no bearing on these references is None."""
        positives = [r for r in references if not r.negative]
        weights = [r.weight for r in positives]
        single = len(references) == 1 and self.combine not in LEARNED
        sampled = self.combine in LEARNED or self.metric in SAMPLED
        return {
            **asdict(self),
            "combine": None if single else self.combine,
            "seed": self.seed if sampled else None,
            "emphasis": weights if len(set(weights)) > 1 else None,
        }


def make_ranker(embeddings: Embeddings, references: Sequence[Reference], how: How) -> Ranker:
    """Prepare distances to a query, features scaled as in ``embeddings``.

    Parameters
    ----------
    embeddings : Embeddings
        The set that gives means, scales, ranks and background.
    references : sequence of Reference
        At least one of them positive.
    how : How
    """
    positives = [r for r in references if not r.negative]
    negatives = [r for r in references if r.negative]
    if not positives:
        raise UsageError("only negative references; give at least one object to look for")
    ahead = np.stack([r.vector for r in positives])
    against = (
        np.stack([r.vector for r in negatives]) if negatives else np.empty((0, ahead.shape[1]))
    )
    weights = np.array([r.weight for r in positives])
    negative_weights = np.array([r.weight for r in negatives])
    learned = how.combine in LEARNED
    sample = embeddings.sample(how.seed) if learned or how.metric in SAMPLED else None
    if learned and sample is not None:
        score = scorer(how.metric, ahead, embeddings.statistics)
        learn = learn_logistic if how.combine == "logistic" else learn_lda
        background = ~same_object(embeddings, references, how.same_arcsec)[sample.rows]
        every = np.concatenate([weights, negative_weights])
        return learn(ahead, against, every, sample, background, score)
    vectors = np.concatenate([ahead, against])
    score = scorer(how.metric, vectors, embeddings.statistics, sample)
    if how.combine == "fusion":
        return Fused.over(embeddings.vectors, score, weights, negative_weights)
    if how.combine == "min" and np.ptp(weights) > 0:
        raise UsageError("combine 'min' takes the nearest reference, whatever its emphasis")
    return Combined(
        score=score,
        combine="min" if how.combine == "min" else "mean",
        weights=weights,
        negative_weights=negative_weights,
    )


def eligible(
    embeddings: Embeddings,
    references: Sequence[Reference],
    *,
    same_arcsec: float,
    where: str | None = None,
    include_self: bool = False,
) -> tuple[np.ndarray | None, int]:
    """Rows that may be listed or counted (None: all), and how many the references took away.

    Raises
    ------
    DataError
        Nothing is left.
    """
    keep = np.ones(len(embeddings), dtype=bool)
    if where is not None:
        keep = matching_rows(embeddings.catalog, where)
        if not keep.any():
            raise DataError(f"no object fulfils {where!r}; loosen the condition")
    same = np.zeros(len(embeddings), dtype=bool)
    if not include_self:
        same = same_object(embeddings, references, same_arcsec) & keep
        keep &= ~same
        if not keep.any():
            raise DataError("nothing is left to search beside the references themselves")
    return (None if keep.all() else keep), int(same.sum())


def named(references: Sequence[Reference]) -> str:
    """The references in a line of text: ``"a, b, not c"``."""
    return ", ".join(f"not {r.name}" if r.negative else r.name for r in references)


def how_named(settings: Mapping[str, Any]) -> str:
    """The distance in a few words: ``"standardized distance, mean"``."""
    combine = settings.get("combine")
    if combine in LEARNED:
        return f"{combine} distance"
    return f"{settings['metric']} distance" + (f", {combine}" if combine else "")
