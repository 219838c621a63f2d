"""Scores of sets of objects by methods fitted on a reference, which is itself scored crosswise."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

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
from skytwin.images.groups import grouped_folds, shared_places, sky_groups
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
    near : NearestMany
        The 25 nearest reference objects, the object's own group left out.
    near_percentile : ndarray, shape (n, 2)
        Percentiles of the distance to the nearest and to the 25th among those of the reference.
    """

    part: Part
    scores: dict[str, np.ndarray]
    percentiles: dict[str, np.ndarray]
    near: NearestMany
    near_percentile: np.ndarray


def joined(whole: Part, one: Scored, other: Scored) -> Scored:
    """Scores of a part from those of two halves of it."""
    halves = [(np.searchsorted(whole.rows, half.part.rows), half) for half in (one, other)]

    def put(of: Callable[[Scored], np.ndarray]) -> np.ndarray:
        first = of(one)
        both = np.empty((len(whole.rows), *first.shape[1:]), dtype=first.dtype)
        for places, half in halves:
            both[places] = of(half)
        return both

    names = list(one.scores)
    return Scored(
        part=whole,
        scores={name: put(partial(_score_of, name)) for name in names},
        percentiles={name: put(partial(_percentile_of, name)) for name in names},
        near=NearestMany(
            rows=put(lambda half: half.near.rows), distance=put(lambda half: half.near.distance)
        ),
        near_percentile=put(lambda half: half.near_percentile),
    )


def _score_of(name: str, one: Scored) -> np.ndarray:
    return one.scores[name]


def _percentile_of(name: str, one: Scored) -> np.ndarray:
    return one.percentiles[name]


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
    own = _scored(reference, near, near, held, held, fold, flow, itself=True)
    found_sets = {}
    for name, part in others.items():
        beside_part, each = _ask_all(part, methods, asked, beside, quiet)
        found_sets[name] = _scored(part, beside_part, near, each, held, fold, flow)
    return (
        _with_ensemble(own, own, methods),
        {name: _with_ensemble(one, own, methods) for name, one in found_sets.items()},
        flows,
    )


def _ask_all(
    part: Part,
    methods: tuple[Method, ...],
    asked: Mapping[str, Asked],
    beside: Callable[[Part, np.ndarray, bool], NearestMany],
    quiet: bool,
) -> tuple[NearestMany, dict[str, np.ndarray]]:
    """Neighbours and scores (K, n) of a part, so many of its objects at a time."""
    nears: list[NearestMany] = []
    each: dict[str, list[np.ndarray]] = {method: [] for method in methods}
    with Progress(part.name, len(part.rows), unit="objects", quiet=quiet) as progress:
        for start in range(0, len(part.rows), _AT_ONCE):
            some = part.some(slice(start, start + _AT_ONCE))
            x = some.vectors()
            nears.append(beside(some, x, True))
            for method in methods:
                if method == "knn":
                    scores = nears[-1].distance[:, :_MEAN_OF].mean(axis=1)[None]
                else:
                    scores = asked[method](some, x)
                each[method].append(scores)
            progress.advance(len(some.rows))
    near = NearestMany(
        rows=np.concatenate([one.rows for one in nears]),
        distance=np.concatenate([one.distance for one in nears]),
    )
    return near, {method: np.concatenate(parts, axis=1) for method, parts in each.items()}


def _asks(models: list[Scoring]) -> Asked:
    return lambda _, x: np.stack([model(x) for model in models])


def _asks_flow(flow: Flow, group_arcsec: float) -> Asked:
    return lambda part, x: _seen_apart(flow, part, x, group_arcsec, True)[None]


def _scored(
    part: Part, near: NearestMany, ordinary: NearestMany, each: dict[str, np.ndarray],
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
            ordinary.distance[:, place],
            np.zeros(len(ordinary.distance), dtype=np.int64),
            itself=itself,
        )
        for place in (0, -1)
    ]
    return Scored(
        part=part,
        scores=scores,
        percentiles=percentiles,
        near=near,
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

    vectors = Vectors([standardized(x)])
    statistics = measure(vectors)

    def find(part: Part, given: np.ndarray, quiet: bool) -> NearestMany:
        own = part.groups if part is reference else None
        z = standardized(given)
        found = nearest_many(
            vectors, statistics, z, k, groups=reference.groups, own=own, quiet=quiet
        )
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
            reference.embeddings.ids[reference.rows],
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
    ids = part.embeddings.ids[part.rows]
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
