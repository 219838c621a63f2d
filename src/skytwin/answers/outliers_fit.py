"""Scores of sets of objects by methods fitted on a reference, which is itself scored crosswise."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from skytwin.answers.outliers_near import Near, nearest_of
from skytwin.answers.outliers_scores import (
    METHODS,
    Method,
    Scoring,
    fit_forest,
    fit_mahalanobis,
    percentile,
)
from skytwin.densities.flow import Flow, FlowSettings
from skytwin.densities.flow_fit import fit_flow, require_enough
from skytwin.densities.flow_likelihood import Likelihood
from skytwin.embeddings.neighbours_many import NearestMany, nearest_many
from skytwin.embeddings.table import Embeddings
from skytwin.embeddings.vectors import Vectors, measure
from skytwin.errors import DataError
from skytwin.images.folds import grouped_folds
from skytwin.images.groups import shared_places, sky_groups
from skytwin.progress import Progress

__all__ = [
    "ENSEMBLE",
    "NEAR",
    "Keep",
    "Part",
    "Scored",
    "encoder_of",
    "joined",
    "part_of",
    "score_sets",
]

NEAR = 25
_MEAN_OF = 10  # nearest, whose mean distance is the score
ENSEMBLE = "ensemble"
#: Where a training may keep what it takes to go on, by a name.
Keep = Callable[[str], Path]
Asked = Callable[["Part", np.ndarray], np.ndarray]
_AT_ONCE = 65_536


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
class Scored:
    """Scores of the objects of a part.

    Attributes
    ----------
    part : Part
    scores : dict of str to ndarray, shape (n,)
        By method; higher is odder. NaN where the flow has seen the object. ``ensemble`` is the
        mean of the percentiles.
    percentiles : dict of str to ndarray, shape (n,)
        Among the reference, 0 to 100; of the ensemble, too.
    near : Near
        The nearest reference object and the distance to it and to the 25th, the object's own group
        left out.
    near_percentile : ndarray, shape (n, 2)
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


def encoder_of(embeddings: Embeddings) -> dict[str, Any]:
    """What a flow remembers of the vectors it was fitted on."""
    return {
        "name": embeddings.encoder_name,
        "fingerprint": embeddings.encoder_fingerprint,
        "dim": embeddings.dim,
        "embedding": embeddings.as_parent().fingerprint,
    }


def score_sets(
    reference: Part,
    others: Mapping[str, Part],
    methods: tuple[Method, ...],
    flow: Flow | FlowSettings,
    *,
    folds: int,
    group_arcsec: float,
    seed: int,
    keep: Keep | None = None,
    quiet: bool = True,
) -> tuple[Scored, dict[str, Scored], list[Flow]]:
    """The reference scored crosswise, and other sets by the same models; the flows fitted.

    Parameters
    ----------
    reference : Part
    others : mapping of str to Part
        No object of the reference among them.
    methods : tuple of str
    flow : Flow or FlowSettings
        A fitted flow, or how to fit one to each fold.
    folds : int
        Parts of the reference, each scored by models fitted on the rest.
    group_arcsec : float
    seed : int
    keep : callable, optional
    quiet : bool
    """
    x = reference.vectors()
    fold = grouped_folds(reference.groups, folds, seed)
    held: dict[str, np.ndarray] = {}
    asked: dict[str, Asked] = {}  # how each method scores objects that are not in the reference
    beside = _beside(reference, x)
    near = beside(reference, x, quiet)
    ordinary = near.distance[:, [0, -1]]
    flows: list[Flow] = []
    for method in methods:
        if method == "knn":
            held[method] = near.distance[:, :_MEAN_OF].mean(axis=1)
            continue  # of others the neighbours are found anyway
        if isinstance(flow, Flow) and method == "flow":
            held[method] = _seen_apart(flow, reference, x, group_arcsec, quiet)
            asked[method] = _asks_flow(flow, group_arcsec)
            continue
        models: list[Scoring]
        if isinstance(flow, FlowSettings) and method == "flow":
            flows = _fit_flows(reference, x, fold, flow, folds, seed, keep, quiet)
            models = [_negative(Likelihood(one)) for one in flows]
        else:
            fit = fit_mahalanobis if method == "mahalanobis" else fit_forest
            with Progress(method, folds, unit="folds", quiet=quiet) as progress:
                models = []
                for number in range(folds):
                    models.append(fit(x[fold != number], seed))
                    progress.advance(1)
        held[method] = np.empty(len(x))
        for number, model in enumerate(models):
            held[method][fold == number] = model(x[fold == number])
        asked[method] = _asks(models)
    alone = _scored(reference, near, ordinary, held, held, fold, flow, itself=True)
    own = _with_ensemble(alone, alone, methods)

    def score(some: Part) -> Scored:
        x = some.vectors()
        found = beside(some, x, True)
        near_by = found.distance[:, :_MEAN_OF].mean(axis=1)[None]
        each: dict[str, np.ndarray] = {
            name: near_by if name == "knn" else asked[name](some, x) for name in methods
        }
        return _with_ensemble(_scored(some, found, ordinary, each, held, fold, flow), own, methods)

    return own, {name: _score_all(part, score, quiet) for name, part in others.items()}, flows


def _score_all(part: Part, score: Callable[[Part], Scored], quiet: bool) -> Scored:
    """A part scored so many of its objects at a time."""
    whole: Scored | None = None
    with Progress(part.name, len(part.rows), unit="objects", quiet=quiet) as progress:
        for start in range(0, len(part.rows), _AT_ONCE):
            found = score(part.some(slice(start, start + _AT_ONCE)))
            whole = whole or _room(part, found)
            for into, values in zip(_arrays(whole), _arrays(found), strict=True):
                into[start : start + len(values)] = values
            progress.advance(len(found.part.rows))
    assert whole is not None  # a part has objects
    return whole


def _room(part: Part, like: Scored) -> Scored:
    """What the scores of a part are written to."""

    def empty(array: np.ndarray) -> np.ndarray:
        return np.empty((len(part.rows), *array.shape[1:]), dtype=array.dtype)

    return Scored(
        part=part,
        scores={name: empty(array) for name, array in like.scores.items()},
        percentiles={name: empty(array) for name, array in like.percentiles.items()},
        near=Near(rows=empty(like.near.rows), distance=empty(like.near.distance), k=like.near.k),
        near_percentile=empty(like.near_percentile),
    )


def _arrays(scored: Scored) -> list[np.ndarray]:
    near = [scored.near.rows, scored.near.distance, scored.near_percentile]
    return [*scored.scores.values(), *scored.percentiles.values(), *near]


def _asks(models: list[Scoring]) -> Asked:
    return lambda _, x: np.stack([model(x) for model in models])


def _asks_flow(flow: Flow, group_arcsec: float) -> Asked:
    return lambda part, x: _seen_apart(flow, part, x, group_arcsec, True)[None]


def _scored(
    part: Part, near: NearestMany, ordinary: np.ndarray, each: dict[str, np.ndarray],
    held: dict[str, np.ndarray], fold: np.ndarray, flow: Flow | FlowSettings, *,
    itself: bool = False,
) -> Scored:  # fmt: skip
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
        percentiles[method] = percentile(found, reference, folds, itself=own)
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
        near_percentile=np.stack(nearest, axis=1),
    )


def _with_ensemble(one: Scored, reference: Scored, methods: tuple[Method, ...]) -> Scored:
    """The same with the mean of the percentiles, and its percentile among the reference."""
    means = []
    for scored in (one, reference):
        stacked = np.stack([scored.percentiles[method] for method in methods])
        known = ~np.isnan(stacked)
        total = np.where(known, stacked, 0.0).sum(axis=0)
        count = known.sum(axis=0)
        means.append(np.divide(total, count, out=np.full(len(total), np.nan), where=count > 0))
    own, ordinary = means
    fold = np.zeros(len(ordinary), dtype=np.int64)
    rank = percentile(own[None], ordinary, fold, itself=one is reference)
    return replace(
        one, scores={**one.scores, ENSEMBLE: own}, percentiles={**one.percentiles, ENSEMBLE: rank}
    )


def _beside(reference: Part, x: np.ndarray) -> Callable[[Part, np.ndarray, bool], NearestMany]:
    """Finds the nearest reference objects: Euclidean distance of standardized numbers.

    Not the cosine that a search goes by: that forgets the length of a vector, and many an outlier
    is one by its length alone.
    """
    largest = int(np.bincount(reference.groups).max())
    k = min(NEAR, len(x) - largest)
    if k < _MEAN_OF:
        raise DataError(
            f"{len(x)} reference objects, {largest} of them one object on the sky; expected at "
            f"least {_MEAN_OF} others for each"
        )
    known = measure(Vectors([x]))
    inverse = known.inverse_scale

    def standardized(given: np.ndarray) -> np.ndarray:
        return np.asarray((given - known.mean) * inverse, dtype=np.float32)

    ordinary = standardized(x)
    vectors = Vectors([ordinary])
    statistics = measure(vectors)

    def find(part: Part, given: np.ndarray, quiet: bool) -> NearestMany:
        z = standardized(given)
        if part is reference:
            own = reference.groups
            found = nearest_many(vectors, statistics, z, k, groups=own, own=own, quiet=quiet)
        else:
            found = nearest_of(ordinary, statistics, z, k)
        return NearestMany(rows=reference.rows[found.rows], distance=found.distance)

    return find


def _fit_flows(
    reference: Part, x: np.ndarray, fold: np.ndarray, settings: FlowSettings, folds: int,
    seed: int, keep: Keep | None, quiet: bool,
) -> list[Flow]:  # fmt: skip
    for number in range(folds):  # before anything is kept
        require_enough(int((fold != number).sum()))
    return [
        fit_flow(
            x,
            np.array(reference.embeddings.names(reference.rows), dtype=object),
            reference.groups,
            fold == number,
            settings,
            encoder=encoder_of(reference.embeddings),
            places=reference.places(),
            seed=seed + number,
            state=None if keep is None else keep(f"flow-{number}.safetensors"),
            what=f"flow {number + 1} of {folds}",
            quiet=quiet,
        )
        for number in range(folds)
    ]


def _negative(likelihood: Likelihood) -> Scoring:
    return lambda given: -likelihood(given)


def _seen_apart(
    flow: Flow, part: Part, x: np.ndarray, group_arcsec: float, quiet: bool
) -> np.ndarray:
    """Scores by a fitted flow; NaN for what it has seen."""
    scores = -Likelihood(flow)(x, quiet=quiet)
    ids = np.array(part.embeddings.names(part.rows), dtype=object)
    seen = shared_places(flow.places, part.places(), group_arcsec, len(ids))
    if flow.encoder.get("embedding") == part.embeddings.as_parent().fingerprint:
        seen |= np.isin(ids.astype(str), flow.ids.astype(str))
    if seen.all():
        raise DataError(
            f"{part.name}: the flow has seen all {len(ids)} objects; score others, or fit a flow "
            "anew (leave the folder out of --flow)"
        )
    scores[seen] = np.nan
    return scores
