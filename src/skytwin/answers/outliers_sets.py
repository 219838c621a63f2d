"""What outlier methods say of some objects: scores, percentiles, distances to the ordinary."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from skytwin.answers.outliers_scores import METHODS, Method, percentile
from skytwin.densities.flow import Flow, FlowSettings
from skytwin.embeddings.neighbours_many import NearestMany
from skytwin.embeddings.table import Embeddings
from skytwin.errors import DataError
from skytwin.images.groups import sky_groups

__all__ = [
    "ENSEMBLE",
    "Near",
    "Part",
    "Scored",
    "as_arrays",
    "from_arrays",
    "joined",
    "part_of",
    "scored_by",
    "with_ensemble",
]

ENSEMBLE = "ensemble"
_SCORES, _PERCENTILES = "score ", "percentile "  # before a method's name


@dataclass(frozen=True, eq=False, kw_only=True)
class Part:
    """Some objects of an embedding.

    Attributes
    ----------
    name : str
    embeddings : Embeddings
    rows : ndarray, shape (n,), int64
    groups : ndarray, shape (n,), int64
        Objects on the sky.
    """

    name: str
    embeddings: Embeddings
    rows: np.ndarray
    groups: np.ndarray

    def vectors(self) -> np.ndarray:
        """Shape (n, D) float32.

        Raises
        ------
        DataError
            NaN or infinity among them.
        """
        x = self.embeddings.vectors.take(self.rows)
        bad = np.flatnonzero(~np.isfinite(x).all(axis=1))
        if len(bad):
            raise DataError(
                f"{self.name}: {len(bad)} vector(s) hold NaN or infinity, e.g. "
                f"{self.embeddings.ids[self.rows[bad[0]]]}; leave those objects out with --where"
            )
        return x

    def some(self, which: slice | np.ndarray) -> Part:
        """The part at some of its places."""
        return replace(self, rows=self.rows[which], groups=self.groups[which])

    def places(self) -> np.ndarray | None:
        """RA and Dec in degrees, shape (n, 2)."""
        found = self.embeddings.positions
        return None if found is None else found[self.rows]


def part_of(name: str, embeddings: Embeddings, rows: np.ndarray, group_arcsec: float) -> Part:
    """Some rows of an embedding, grouped on the sky."""
    found = embeddings.positions
    positions = None if found is None else found[rows]
    groups = sky_groups(positions, group_arcsec, len(rows))
    return Part(name=name, embeddings=embeddings, rows=rows, groups=groups)


@dataclass(frozen=True, eq=False, kw_only=True)
class Near:
    """Of n objects the nearest of a reference, and how far away its k-th nearest is.

    Attributes
    ----------
    rows : ndarray, shape (n,), int64
        The nearest.
    distance : ndarray, shape (n, 2), float64
        To the nearest, and to the k-th.
    k : int
    """

    rows: np.ndarray
    distance: np.ndarray
    k: int

    @classmethod
    def of(cls, found: NearestMany) -> Near:
        """What is kept of all k."""
        return cls(
            rows=found.rows[:, 0].copy(),
            distance=found.distance[:, [0, -1]],
            k=found.rows.shape[1],
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class Scored:
    """Scores of the objects of a part.

    Attributes
    ----------
    part : Part
    scores : dict of str to ndarray, shape (n,)
        By method; higher is odder. NaN where the flow has seen the object. ``ensemble`` is the
        mean of the percentiles.
    percentiles : dict of str to ndarray, shape (n,), float32
        Among the reference, 0 to 100; of the ensemble, too.
    near : Near
        The nearest reference object and the distance to it and to the 25th, the object's own group
        left out.
    near_percentile : ndarray, shape (n, 2), float32
        Percentiles of the distance to the nearest and to the 25th among those of the reference.
    """

    part: Part
    scores: dict[str, np.ndarray]
    percentiles: dict[str, np.ndarray]
    near: Near
    near_percentile: np.ndarray


def joined(whole: Part, one: Scored, other: Scored) -> Scored:
    """Scores of a part from those of two halves of it; the other's are used up."""
    halves = [np.searchsorted(whole.rows, half.part.rows) for half in (one, other)]

    def put(mine: np.ndarray, more: np.ndarray) -> np.ndarray:
        both = np.empty((len(whole.rows), *mine.shape[1:]), dtype=mine.dtype)
        for places, values in zip(halves, (mine, more), strict=True):
            both[places] = values
        return both

    names = list(one.scores)
    return Scored(
        part=whole,
        scores={name: put(one.scores[name], other.scores.pop(name)) for name in names},
        percentiles={
            name: put(one.percentiles[name], other.percentiles.pop(name)) for name in names
        },
        near=Near(
            rows=put(one.near.rows, other.near.rows),
            distance=put(one.near.distance, other.near.distance),
            k=one.near.k,
        ),
        near_percentile=put(one.near_percentile, other.near_percentile),
    )


def as_arrays(scored: Scored) -> dict[str, np.ndarray]:
    """All that is said of each object."""
    return {
        **{f"{_SCORES}{name}": values for name, values in scored.scores.items()},
        **{f"{_PERCENTILES}{name}": values for name, values in scored.percentiles.items()},
        "near": scored.near.rows,
        "near distance": scored.near.distance,
        "near percentile": scored.near_percentile,
    }


def from_arrays(part: Part, arrays: Mapping[str, np.ndarray], k: int) -> Scored:
    """What `as_arrays` was made of; ``k`` is that of the neighbours."""

    def named(start: str) -> dict[str, np.ndarray]:
        return {
            name.removeprefix(start): values
            for name, values in arrays.items()
            if name.startswith(start)
        }

    return Scored(
        part=part,
        scores=named(_SCORES),
        percentiles=named(_PERCENTILES),
        near=Near(rows=arrays["near"], distance=arrays["near distance"], k=k),
        near_percentile=arrays["near percentile"],
    )


def scored_by(
    part: Part, near: NearestMany, ordinary: np.ndarray, each: dict[str, np.ndarray],
    held: dict[str, np.ndarray], fold: np.ndarray, flow: Flow | FlowSettings, *,
    itself: bool = False,
) -> Scored:  # fmt: skip
    """Scores and percentiles of a part from what the models of the folds say of it.

    Parameters
    ----------
    part : Part
    near : NearestMany
        Reference objects nearest to each of n.
    ordinary : ndarray, shape (N, 2), float64
        Distances to the nearest and to the k-th within the reference.
    each : dict of str to ndarray, shape (n,) or (models, n)
        By method; the median over its models is the score.
    held : dict of str to ndarray, shape (N,)
        Of the reference, each object by the model that has not seen it.
    fold : ndarray, shape (N,), int64
        That model's number.
    flow : Flow or FlowSettings
    itself : bool
        The part is the reference.
    """
    scores: dict[str, np.ndarray] = {}
    percentiles: dict[str, np.ndarray] = {}
    for method in (name for name in METHODS if name in each):
        found = np.atleast_2d(each[method])
        scores[method] = np.median(found, axis=0)
        reference, folds, own = held[method], fold, itself
        if method == "flow" and isinstance(flow, Flow):
            # Those that the flow was tested on when it was fitted.
            reference, own = -flow.held_out, False
        if len(found) == 1:
            folds = np.zeros(len(reference), dtype=np.int64)
        # To seven digits: for millions of objects the room counts.
        percentiles[method] = percentile(found, reference, folds, itself=own).astype(np.float32)
    nearest = [
        percentile(
            near.distance[None, :, place],
            ordinary[:, place],
            np.zeros(len(ordinary), dtype=np.int64),
            itself=itself,
        )
        for place in (0, -1)
    ]
    return Scored(
        part=part,
        scores=scores,
        percentiles=percentiles,
        near=Near.of(near),
        near_percentile=np.stack(nearest, axis=1, dtype=np.float32, casting="same_kind"),
    )


def with_ensemble(one: Scored, reference: Scored, methods: tuple[Method, ...]) -> Scored:
    """The same with the mean of the percentiles, and its percentile among the reference."""
    means = []
    for scored in (one, reference):
        stacked = np.stack([scored.percentiles[method] for method in methods], dtype=np.float64)
        known = ~np.isnan(stacked)
        total = np.where(known, stacked, 0.0).sum(axis=0)
        count = known.sum(axis=0)
        means.append(np.divide(total, count, out=np.full(len(total), np.nan), where=count > 0))
    own, ordinary = means
    fold = np.zeros(len(ordinary), dtype=np.int64)
    rank = percentile(own[None], ordinary, fold, itself=one is reference)
    return replace(
        one,
        scores={**one.scores, ENSEMBLE: own},
        percentiles={**one.percentiles, ENSEMBLE: rank.astype(np.float32)},
    )
