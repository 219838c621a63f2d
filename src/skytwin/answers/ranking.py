"""One way to order a set by its likeness to references, for every verb that needs an order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from skytwin.answers.query import Reference, same_object
from skytwin.embeddings.learned import Learned, blend, learn_lda, learn_logistic
from skytwin.embeddings.metric import scorer
from skytwin.embeddings.names import (
    DEFAULT_COMBINE,
    DEFAULT_METRIC,
    SAMPLED,
    Combine,
    Metric,
    check_combine,
    check_metric,
)
from skytwin.embeddings.neighbours import Neighbours
from skytwin.embeddings.ranker import Combined, Fused, Ranker
from skytwin.embeddings.table import Embeddings
from skytwin.errors import DataError, UsageError
from skytwin.images.groups import first_rows
from skytwin.images.moc import inside as within_moc
from skytwin.images.moc import read_moc
from skytwin.images.where import matching_rows

__all__ = [
    "How",
    "eligible",
    "how_named",
    "make_ranker",
    "named",
    "once_each",
]

LEARNED: tuple[Combine, ...] = ("logistic", "lda", "mean+logistic")
_ENOUGH_TO_CHOOSE, _MOST_HELD_OUT = 3, 10
_HELD_OUT_AMONG = 1000
# So many times nearer the front has ``lda`` to rank references left out than the mean does.
LDA_BETTER = 1.5


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

    def settled(self, embeddings: Embeddings, references: Sequence[Reference]) -> How:
        """The same with ``auto`` replaced by what it chooses for these references.

        With the standardized metric: ``lda`` where it ranks the references, each left out in
        turn, clearly better than ``mean``, else ``mean+logistic`` (see
        docs/explanation/combining.md). No label but the references is seen. Of two, where
        leaving one out says little: ``mean+logistic``. Of one, and with another metric: the
        plain distance.
        """
        if self.combine != "auto":
            return self
        # One object is a point, not a direction: learned from it, brightness counts for likeness.
        if self.metric != "standardized" or len(references) == 1:
            return replace(self, combine="mean")
        if sum(not r.negative for r in references) >= _ENOUGH_TO_CHOOSE:
            mean, lda = (_held_out_rank(embeddings, references, self, c) for c in ("mean", "lda"))
            if mean > LDA_BETTER * lda:
                return replace(self, combine="lda")
        return replace(self, combine="mean+logistic")

    def recorded(self, references: Sequence[Reference], asked: How) -> dict[str, Any]:
        """As recorded in manifests; what has no bearing on these references is None.

        ``asked`` is what this was settled from.
        """
        positives = [r for r in references if not r.negative]
        weights = [r.weight for r in positives]
        single = len(references) == 1 and self.combine not in LEARNED
        sampled = self.combine in LEARNED or self.metric in SAMPLED
        return {
            **asdict(self),
            "combine": None if single else self.combine,
            "seed": self.seed if sampled else None,
            "chosen_by": asked.combine if asked.combine != self.combine else None,
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
    if not any(not r.negative for r in references):
        raise UsageError("only negative references; give at least one object to look for")
    chosen = how.settled(embeddings, references).combine
    if chosen == "fusion":
        found = _combined(embeddings, references, how, "mean")
        return Fused.over(embeddings.vectors, found.score, found.weights, found.negative_weights)
    if chosen not in LEARNED:
        return _combined(embeddings, references, how, chosen)
    return _learned(embeddings, references, how, chosen)


def _learned(
    embeddings: Embeddings, references: Sequence[Reference], how: How, combine: Combine
) -> Ranker:
    sample = embeddings.sample(how.seed)
    ahead, against, weights, negative_weights = _split(references)
    score = scorer(how.metric, ahead, embeddings.statistics)
    background = ~same_object(embeddings, references, how.same_arcsec, sample.rows)
    every = np.concatenate([weights, negative_weights])
    members: list[Combined | Learned] = []
    for name in combine.split("+"):
        if name == "mean":
            members.append(_combined(embeddings, references, how, "mean"))
        else:
            learn = learn_logistic if name == "logistic" else learn_lda
            members.append(learn(ahead, against, every, sample, background, score))
    return members[0] if len(members) == 1 else blend(members, sample.vectors[background])


def _combined(
    embeddings: Embeddings, references: Sequence[Reference], how: How, combine: Combine
) -> Combined:
    ahead, against, weights, negative_weights = _split(references)
    sample = embeddings.sample(how.seed) if how.metric in SAMPLED else None
    vectors = np.concatenate([ahead, against])
    score = scorer(how.metric, vectors, embeddings.statistics, sample)
    if combine == "min" and np.ptp(weights) > 0:
        raise UsageError("combine 'min' takes the nearest reference, whatever its emphasis")
    return Combined(
        score=score,
        combine="min" if combine == "min" else "mean",
        weights=weights,
        negative_weights=negative_weights,
    )


def _split(
    references: Sequence[Reference],
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Vectors (P, D) and (Q, D) of positive and negative references, and their weights."""
    ahead = [r for r in references if not r.negative]
    against = [r for r in references if r.negative]
    vectors = np.stack([r.vector for r in ahead])
    none = np.empty((0, vectors.shape[1]))
    return (
        vectors,
        np.stack([r.vector for r in against]) if against else none,
        np.array([r.weight for r in ahead]),
        np.array([r.weight for r in against]),
    )


def _held_out_rank(
    embeddings: Embeddings, references: Sequence[Reference], how: How, combine: Combine
) -> float:
    """Share of random objects ahead of a reference left out, geometric mean over references.

    Each positive reference in turn (the first ten) is left out and looked for with the others,
    among a thousand random objects; 1 would be last of all.
    """
    sample = embeddings.sample(how.seed)
    free = ~same_object(embeddings, references, how.same_arcsec, sample.rows)
    random = sample.vectors[free][:_HELD_OUT_AMONG]
    positives = [i for i, r in enumerate(references) if not r.negative]
    shares = []
    for left_out in positives[:_MOST_HELD_OUT]:
        rest = [r for i, r in enumerate(references) if i != left_out]
        ranker = make_ranker(embeddings, rest, replace(how, combine=combine))
        own = ranker.exact(references[left_out].vector[None]).distance[0]
        ahead = int((ranker.exact(random).distance < own).sum())
        shares.append(np.log((1 + ahead) / (1 + len(random))))
    return float(np.exp(np.mean(shares)))


def eligible(
    embeddings: Embeddings,
    references: Sequence[Reference],
    *,
    same_arcsec: float,
    where: str | None = None,
    inside: str | Path | None = None,
    include_self: bool = False,
    groups: np.ndarray | None = None,
) -> tuple[np.ndarray | None, int]:
    """Rows that may be listed or counted (None: all), and how many the references took away.

    With ``groups`` (N,), every entry of a reference's group is taken away.

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
    if inside is not None:
        keep &= within_moc(embeddings.positions, read_moc(Path(inside)))
        if not keep.any():
            raise DataError(f"no object is left inside {str(inside)!r}; loosen the conditions")
    same = np.zeros(len(embeddings), dtype=bool)
    if not include_self:
        same = same_object(embeddings, references, same_arcsec)
        if groups is not None:
            same |= np.isin(groups, groups[same])
        same &= keep
        keep &= ~same
        if not keep.any():
            raise DataError("nothing is left to search beside the references themselves")
    return (None if keep.all() else keep), int(same.sum())


def once_each(
    ranked: Neighbours, groups: np.ndarray, hits: np.ndarray, known: np.ndarray
) -> tuple[Neighbours, np.ndarray, np.ndarray]:
    """The nearest entry of every object, and whether any of its entries is positive, labelled.

    Parameters
    ----------
    ranked : Neighbours
    groups : ndarray, shape (N,), int64
        Which rows are one object.
    hits, known : ndarray of bool, shape (N,)
        By row of the set.

    Returns
    -------
    Neighbours, hits, known
        All of one length, in order of distance.
    """
    first = first_rows(groups[ranked.rows])
    hit, label = np.zeros((2, int(groups.max()) + 1), dtype=bool)
    hit[groups[hits]] = True
    label[groups[known]] = True
    group = groups[ranked.rows[first]]
    kept = Neighbours(
        rows=ranked.rows[first], distance=ranked.distance[first], reference=ranked.reference[first]
    )
    return kept, hit[group], label[group]


def named(references: Sequence[Reference]) -> str:
    """The references in a line of text: ``"a, b, not c"``."""
    return ", ".join(f"not {r.name}" if r.negative else r.name for r in references)


def how_named(settings: Mapping[str, Any]) -> str:
    """The distance in a few words: ``"standardized distance, mean"``."""
    combine = settings.get("combine")
    if combine in LEARNED:
        return f"{combine} distance"
    return f"{settings['metric']} distance" + (f", {combine}" if combine else "")
