"""What a list is ordered by, written as a sum over the features of a vector.

With its length held fixed a vector's cosine similarity to a reference is linear in the vector:
``(x - mean) A . u / |z|``, where ``A`` brings features to the metric's space, ``z`` is the
vector there and ``u`` the reference's direction. The mean over references is linear too. The
Euclidean distance is linear with the direction between the two held fixed: ``(x - q) . e`` with
``e = (x - q) / |x - q|``. A learned logit is linear as it is, and so is its sum with a cosine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Self

import numpy as np

from skytwin.answers.search import Matches
from skytwin.embeddings.learned import Blend, Learned
from skytwin.embeddings.ranker import Combined, negative_share
from skytwin.errors import Mismatch, UsageError

__all__ = ["Kind", "Linear", "Scoring", "Space", "scoring"]

Kind = Literal["similarity", "minus distance", "logit", "score"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Linear:
    """A score that is a sum over features: ``base + sum(weights * x - offsets)``.

    Attributes
    ----------
    weights, offsets : ndarray, shape (D,), float64
    base : float
        What the sum does not split: the score of the average object, for a logit.
    """

    weights: np.ndarray
    offsets: np.ndarray
    base: float = 0.0

    @classmethod
    def of(cls, weights: np.ndarray, offset: float, centre: np.ndarray) -> Self:
        """``x . weights + offset``, parts counted from those of a vector ``centre`` (D,)."""
        w, c = np.asarray(weights, dtype=np.float64), np.asarray(centre, dtype=np.float64)
        if w.shape != c.shape or not np.isfinite(w).all():
            raise Mismatch(f"weights of shape {w.shape}; expected {c.shape}, all finite")
        return cls(weights=w, offsets=w * c, base=float(w @ c) + float(offset))

    def parts(self, x: np.ndarray) -> np.ndarray:
        """Each feature's part, shape (D,), in the score of a vector (D,)."""
        found: np.ndarray = self.weights * x.astype(np.float64) - self.offsets
        return found

    def value(self, x: np.ndarray) -> float:
        """The score of a vector (D,)."""
        return self.base + float(self.parts(x).sum())

    def cells(self, maps: np.ndarray) -> np.ndarray:
        """Each place's part, shape (h, w), in the score of the mean of maps (D, h, w)."""
        over = maps.shape[1] * maps.shape[2]
        found: np.ndarray = (np.tensordot(self.weights, maps, 1) - self.offsets.sum()) / over
        return found


@dataclass(frozen=True, eq=False, kw_only=True)
class Space:
    """Where the cosine is taken: ``z = (x - mean) @ matrix``.

    Attributes
    ----------
    mean : ndarray, shape (D,)
    matrix : ndarray, shape (D,) or (D, P)
        A vector stands for a diagonal matrix.
    """

    mean: np.ndarray
    matrix: np.ndarray

    def of(self, x: np.ndarray) -> np.ndarray:
        """Vectors (..., D) there."""
        centred = x.astype(np.float64) - self.mean
        return np.asarray(centred * self.matrix if self.matrix.ndim == 1 else centred @ self.matrix)

    def cosine_with(self, direction: np.ndarray, length: float) -> Linear:
        """The cosine with a direction there, linear in a vector whose length there is known."""
        weights = self.matrix * direction if self.matrix.ndim == 1 else self.matrix @ direction
        weights = weights / length if length > 0 else np.zeros_like(weights)
        return Linear(weights=weights, offsets=weights * self.mean)

    def pairs(self, one: np.ndarray, other: np.ndarray) -> np.ndarray:
        """The cosine of the means of two maps (D, h, w), split over pairs of places.

        Returns
        -------
        ndarray, shape (h, w, h', w')
        """
        z, y = (self.of(np.moveaxis(maps, 0, -1)) for maps in (one, other))
        lengths = float(_length(z.mean(axis=(0, 1))) * _length(y.mean(axis=(0, 1))))
        over = z.shape[0] * z.shape[1] * y.shape[0] * y.shape[1]
        products: np.ndarray = np.tensordot(z, y, (2, 2))
        return products / (lengths * over) if lengths > 0 else np.zeros_like(products)


@dataclass(frozen=True, eq=False, kw_only=True)
class Scoring:
    """The score of one object, as a sum over its features and over those of each reference.

    Attributes
    ----------
    kind : str
        ``"similarity"``: the mean cosine; ``"minus distance"``: of the Euclidean metric;
        ``"logit"``: of a learned combination; ``"score"``: of a direction that was given.
    match : Linear
        On the object's vector.
    references : tuple of Linear
        On each reference's own vector: its similarity to the object, or its own logit.
    space : Space or None
        Where the cosine is taken.
    """

    kind: Kind
    match: Linear
    references: tuple[Linear, ...]
    space: Space | None = None


def scoring(matches: Matches, x: np.ndarray, direction: Linear | None = None) -> Scoring:
    """What orders a list, at one vector.

    Parameters
    ----------
    matches : Matches
    x : ndarray, shape (D,)
    direction : Linear, optional
        Another score to split.

    Raises
    ------
    UsageError
        The list is ordered by ranks, or by a distance corrected for hubs: no sum over features.
    """
    ranker = matches.ranker
    if direction is not None:
        each = (direction,) * len(matches.references)
        return Scoring(kind="score", match=direction, references=each)
    if isinstance(ranker, Combined):
        return _combined(matches, ranker, x)
    if not isinstance(ranker, (Learned, Blend)):
        raise UsageError(
            "combine 'fusion' orders by ranks, which do not split over features; explain a list "
            "made with combine 'mean', 'min', 'logistic', 'lda' or 'mean+logistic'"
        )
    return Scoring(
        kind="logit",
        match=_logit(matches, ranker, x),
        references=tuple(_logit(matches, ranker, r.vector) for r in matches.references),
    )


def _logit(matches: Matches, ranker: Learned | Blend, x: np.ndarray) -> Linear:
    """A learned logit; in a blend, the cosine with the length of ``x`` held fixed."""
    if isinstance(ranker, Learned):
        mean = np.asarray(matches.embeddings.statistics.mean)
        return Linear.of(ranker.weights, ranker.offset, mean)
    lines, bases = [], []
    for member, centre, width in zip(ranker.members, ranker.centre, ranker.width, strict=True):
        if isinstance(member, Learned):
            line, base = _logit(matches, member, x), 0.0
        else:
            line = _combined(matches, member, x).match
            # What counts is the distance: the similarity less what it can be at most.
            base = -float(member.exact(x[None]).distance[0]) - line.value(x)
        lines.append((line.weights / width, line.offsets / width))
        bases.append((line.base + base - centre) / width)
    weights, offsets = (np.sum(part, axis=0) for part in zip(*lines, strict=True))
    return Linear(weights=weights, offsets=offsets, base=float(sum(bases)))


def _combined(matches: Matches, ranker: Combined, x: np.ndarray) -> Scoring:
    metric = str(matches.settings["metric"])
    if metric == "csls":
        raise UsageError(
            "metric 'csls' takes an object's neighbourhood into account, which does not split "
            "over features; explain a list made with metric 'standardized', which it corrects"
        )
    references = np.stack([r.vector for r in matches.references]).astype(np.float64)
    shares = _shares(ranker, x)
    if metric == "euclidean":
        return _euclidean(x.astype(np.float64), references, shares)
    space = _space(matches, metric)
    z, directions = space.of(x), space.of(references)
    length = float(_length(z))
    unit = directions / np.maximum(_length(directions), np.finfo(float).tiny)[:, None]
    own = z / length if length > 0 else np.zeros_like(z)
    return Scoring(
        kind="similarity",
        match=space.cosine_with(shares @ unit, length),
        references=tuple(space.cosine_with(own, float(_length(d))) for d in directions),
        space=space,
    )


def _euclidean(x: np.ndarray, references: np.ndarray, shares: np.ndarray) -> Scoring:
    apart = x - references
    lengths = _length(apart)
    unit = np.zeros_like(apart)
    np.divide(apart, lengths[:, None], out=unit, where=lengths[:, None] > 0)
    return Scoring(
        kind="minus distance",
        match=Linear(
            weights=-(shares @ unit), offsets=-np.einsum("i,ij,ij->j", shares, unit, references)
        ),
        references=tuple(Linear(weights=e, offsets=e * x) for e in unit),
    )


def _shares(ranker: Combined, x: np.ndarray) -> np.ndarray:
    """What each reference counts, (Q,), so that the distance is ``shares @ distances``."""
    if ranker.combine == "min":
        nearest = int(ranker.exact(x[None]).each[0].argmin())
        positive = np.eye(len(ranker.weights))[nearest]
    else:
        positive = ranker.weights / ranker.weights.sum()
    against = ranker.negative_weights
    if not len(against):
        return np.asarray(positive)
    return np.concatenate([positive, -negative_share(len(against)) * against / against.sum()])


def _space(matches: Matches, metric: str) -> Space:
    statistics = matches.embeddings.statistics
    dim = len(statistics.mean)
    if metric == "cosine":
        return Space(mean=np.zeros(dim), matrix=np.ones(dim))
    mean, inverse = np.asarray(statistics.mean), statistics.inverse_scale
    if metric == "standardized":
        return Space(mean=mean, matrix=inverse)
    sample = matches.embeddings.sample(matches.settings["seed"])
    return Space(mean=mean, matrix=inverse[:, None] * sample.whitening)


def _length(x: np.ndarray) -> np.ndarray:
    return np.asarray(np.sqrt(np.einsum("...j,...j->...", x, x)))
