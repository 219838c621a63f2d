"""Scores of sets of objects by methods fitted on a reference, which is itself scored crosswise."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from skytwin.answers.outliers_scores import Method, Scoring, fit_forest, fit_mahalanobis
from skytwin.answers.outliers_sets import (
    Part,
    Scored,
    as_arrays,
    from_arrays,
    scored_by,
    with_ensemble,
)
from skytwin.answers.resume import Arrays, Job, Steps
from skytwin.densities.flow import Flow, FlowSettings
from skytwin.densities.flow_fit import fit_flow, require_enough
from skytwin.densities.flow_likelihood import Likelihood
from skytwin.embeddings.neighbours_many import NearestMany, nearest_many
from skytwin.embeddings.neighbours_quick import nearest_of
from skytwin.embeddings.table import Embeddings
from skytwin.embeddings.vectors import Vectors, measure
from skytwin.errors import DataError
from skytwin.images.folds import grouped_folds
from skytwin.images.groups import shared_places
from skytwin.progress import Progress

__all__ = ["NEAR", "encoder_of", "score_sets"]

NEAR = 25
_MEAN_OF = 10  # nearest, whose mean distance is the score
Asked = Callable[[Part, np.ndarray], np.ndarray]
_AT_ONCE = 65_536


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
    steps: Steps | None = None,
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
    steps : Steps, optional
    quiet : bool
    """
    kept = Steps() if steps is None else steps
    x = reference.vectors()
    fold = grouped_folds(reference.groups, folds, seed)
    if isinstance(flow, FlowSettings) and "flow" in methods:
        for number in range(folds):  # before anything is kept
            require_enough(int((fold != number).sum()))
    held: dict[str, np.ndarray] = {}
    asked: dict[str, Asked] = {}  # how each method scores objects that are not in the reference
    beside = _beside(reference, x)
    near = _kept_near(kept, lambda: beside(reference, x, quiet))
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
            flows = _fit_flows(reference, x, fold, flow, folds, seed, kept, quiet)
            models = [_negative(Likelihood(one)) for one in flows]
        else:
            fit = fit_mahalanobis if method == "mahalanobis" else fit_forest
            with Progress(method, folds, unit="folds", quiet=quiet) as progress:
                models = []
                for number in range(folds):
                    models.append(fit(x[fold != number], seed))
                    progress.advance(1)
        held[method] = _crosswise(kept, method, models, x, fold)
        asked[method] = _asks(models)
    alone = scored_by(reference, near, ordinary, held, held, fold, flow, itself=True)
    own = with_ensemble(alone, alone, methods)

    def score(some: Part) -> Scored:
        x = some.vectors()
        found = beside(some, x, True)
        near_by = found.distance[:, :_MEAN_OF].mean(axis=1)[None]
        each: dict[str, np.ndarray] = {
            name: near_by if name == "knn" else asked[name](some, x) for name in methods
        }
        return with_ensemble(scored_by(some, found, ordinary, each, held, fold, flow), own, methods)

    found = {
        name: _score_all(kept, name, part, score, near.rows.shape[1], quiet)
        for name, part in others.items()
    }
    return own, found, flows


def _kept_near(kept: Steps, find: Callable[[], NearestMany]) -> NearestMany:
    """Neighbours of the reference, found once."""

    def arrays() -> Arrays:
        found = find()
        return {"rows": found.rows, "distance": found.distance}

    [made] = kept.make("nearest", [Job(step=("nearest",), make=arrays)])
    return NearestMany(rows=made["rows"], distance=made["distance"])


def _crosswise(
    kept: Steps, method: Method, models: list[Scoring], x: np.ndarray, fold: np.ndarray
) -> np.ndarray:
    """The reference scored by the models that have not seen it, once."""

    def arrays() -> Arrays:
        held = np.empty(len(x))
        for number, model in enumerate(models):
            held[fold == number] = model(x[fold == number])
        return {"held": held}

    [made] = kept.make(method, [Job(step=("held", method), make=arrays)])
    return made["held"]


def _score_all(
    kept: Steps, name: str, part: Part, score: Callable[[Part], Scored], k: int, quiet: bool
) -> Scored:
    """A part scored so many of its objects at a time."""
    whole: dict[str, np.ndarray] = {}
    count = len(part.rows)
    steps = {at: ("scores", name, str(at)) for at in range(0, count, _AT_ONCE)}
    done = sum(min(_AT_ONCE, count - at) for at, step in steps.items() if step in kept)
    with Progress(part.name, count, done=done, unit="objects", quiet=quiet) as progress:
        for at, step in steps.items():
            if step not in kept:
                kept.put(step, as_arrays(score(part.some(slice(at, at + _AT_ONCE)))))
                progress.advance(min(_AT_ONCE, count - at))
            for key, values in kept.take(step).items():
                room = whole.setdefault(key, np.empty((count, *values.shape[1:]), values.dtype))
                room[at : at + len(values)] = values
    return from_arrays(part, whole, k)


def _asks(models: list[Scoring]) -> Asked:
    return lambda _, x: np.stack([model(x) for model in models])


def _asks_flow(flow: Flow, group_arcsec: float) -> Asked:
    return lambda part, x: _seen_apart(flow, part, x, group_arcsec, True)[None]


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
    seed: int, kept: Steps, quiet: bool,
) -> list[Flow]:  # fmt: skip
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
            state=kept.place(f"flow-{number}.safetensors"),
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
