"""Null queries: what the distances to as many random objects look like.

A null query is as many objects of the survey as there are positive references, at a random place,
with the same weights, metric, combination and negative references. Distances to it are needed for
the matches and for a random sample of rows only, so no survey is scanned.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
from threadpoolctl import threadpool_limits

from skytwin.answers.query import Reference, same_object
from skytwin.answers.ranking import LEARNED, How, make_ranker
from skytwin.embeddings.learned import COMBINED_WEIGHT, Learned
from skytwin.embeddings.metric import Rough, Scorer, scorer
from skytwin.embeddings.names import SAMPLED, Metric, check_combine
from skytwin.embeddings.ranker import Combined, Ranker
from skytwin.embeddings.sample import Sample
from skytwin.embeddings.table import Embeddings
from skytwin.embeddings.vectors import Block, Statistics
from skytwin.errors import one_of
from skytwin.images.groups import sky_groups
from skytwin.progress import Progress

__all__ = [
    "NULLS",
    "Null",
    "NullDistances",
    "check_null",
    "draw_queries",
    "null_distances",
    "same_objects",
]

Null = Literal["alike", "random"]
NULLS: tuple[Null, ...] = get_args(Null)

_ROWS_AT_ONCE = 2048
# Two float64 products of another order differ by less.
_SLACK = 1e-9
_OTHERS = 20_000  # rows among which the others of a group are looked for
_CHOICE = 5  # of which so many are as good as one another
# Distances to all null queries at once, of one block of rows.
_NUMBERS_AT_ONCE = 30_000_000

#: Rows -> distances to every null query (n, M).
Measure = Callable[[np.ndarray], np.ndarray]


def check_null(name: str) -> Null:
    """A known kind of null query, or an error that lists them."""
    return one_of("null", name, NULLS)


@dataclass(frozen=True, eq=False, kw_only=True)
class NullDistances:
    """Distances of some rows to null queries, counted.

    Attributes
    ----------
    nearer : ndarray, shape (k,), int64
        For each match, the null queries that are at least as near to it as the query is.
    counted : ndarray, shape (k,), int64
        For each match, the null queries that it, or another entry of it, is no part of.
    pooled : ndarray, shape (n,), float64
        Distances of the sampled rows to all null queries, ascending.
    """

    nearer: np.ndarray
    counted: np.ndarray
    pooled: np.ndarray


def draw_queries(
    embeddings: Embeddings,
    references: tuple[Reference, ...],
    how: How,
    null: Null,
    pool: np.ndarray,
    queries: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Rows of null queries, shape (M, P), each without repetition.

    Parameters
    ----------
    null : {"alike", "random"}
        ``random``: every object of a query is drawn at random. ``alike``: one is, and the others
        lie as far from it as the references lie from the one in their midst (or as near to that
        as the survey allows). A group of random objects is spread over the whole survey, and
        everything is farther from it than from a close group; only a group as close can be
        compared.
    pool : ndarray of int64
        Rows to draw from.
    """
    vectors = np.stack([r.vector for r in references if not r.negative])
    size = len(vectors)
    if null == "random" or size == 1:
        return np.stack([rng.choice(pool, size=size, replace=False) for _ in range(queries)])
    # Hub-corrected distances need a slow look at the neighbourhood of every object.
    metric = "standardized" if how.metric == "csls" else how.metric
    background = embeddings.sample(how.seed) if metric in SAMPLED else None
    apart = scorer(metric, vectors, embeddings.statistics, background).exact(vectors)
    middle = int(apart.sum(axis=1).argmin())
    wanted = np.sort(np.delete(apart[middle], middle))
    first = rng.choice(pool, size=queries, replace=queries > len(pool))
    others = rng.choice(pool, size=min(_OTHERS, len(pool)), replace=False)
    groups = same_objects(embeddings, np.concatenate([first, others]), how.same_arcsec)
    distance = np.concatenate(
        [
            _bounds(embeddings, metric, embeddings.vectors.take(first), background, part)
            for part in np.array_split(others, -(-len(others) // _ROWS_AT_ONCE))
        ]
    )
    distance[groups[queries:, None] == groups[:queries]] = np.inf
    drawn = np.empty((queries, size), dtype=np.int64)
    for number, column in enumerate(distance.T):
        drawn[number, 0] = first[number]
        for place, far in enumerate(wanted, start=1):
            likely = np.argpartition(np.abs(column - far), _CHOICE)[:_CHOICE]
            chosen = rng.choice(likely[np.isfinite(column[likely])])
            drawn[number, place] = others[chosen]
            column[chosen] = np.inf
    return drawn


def null_distances(
    embeddings: Embeddings,
    references: tuple[Reference, ...],
    how: How,
    ranker: Ranker,
    queries: np.ndarray,
    *,
    rows: np.ndarray,
    distance: np.ndarray,
    sample: np.ndarray,
    quiet: bool = False,
) -> NullDistances:
    """Hold the matches and a sample of rows against null queries.

    Parameters
    ----------
    embeddings : Embeddings
    references : tuple of Reference
        Those of the query; the positive ones are replaced by random objects.
    how : How
        Metric and combination of the query.
    ranker : Ranker
        That of the query.
    queries : ndarray, shape (M, P), int64
        Rows of the null queries.
    rows, distance : ndarray, shape (k,)
        The matches.
    sample : ndarray, shape (S,), int64
        Random rows.
    quiet : bool
        Show no progress where rankers are learned anew.

    Notes
    -----
    A pair of a row and a null query that holds it, or another entry of it on the sky, is not
    counted: no match is a reference either.

    With ``mean`` and ``min`` the distances to the null queries are lower bounds, the float32
    product less the bound of its rounding: of two numbers that float32 cannot tell apart the
    null is held to be the nearer.
    """
    known = [rows, sample, queries.ravel()]
    if how.combine in LEARNED:
        known.append(embeddings.sample(how.seed).rows)
    involved = np.unique(np.concatenate(known))
    groups = same_objects(embeddings, involved, how.same_arcsec)

    def part_of(some: np.ndarray) -> np.ndarray:
        """Which rows belong to which null query, (n, M) bool."""
        own = groups[np.searchsorted(involved, some)]
        theirs = groups[np.searchsorted(involved, queries)]
        inside = np.zeros((len(some), len(queries)), dtype=bool)
        for column in theirs.T:
            inside |= own[:, None] == column
        return inside

    if isinstance(ranker, Combined):
        measure = _combined(embeddings, references, how, ranker, queries)
    elif how.combine in LEARNED:
        measure = _learned(embeddings, references, how, queries, part_of, quiet)
    else:
        measure = _one_by_one(embeddings, references, how, queries, quiet)
    step = max(1, min(_ROWS_AT_ONCE, _NUMBERS_AT_ONCE // queries.size))
    blocks = [sample[i : i + step] for i in range(0, len(sample), step)]
    pooled = [measure(block)[~part_of(block)] for block in blocks]
    nearer, counted = np.zeros((2, len(rows)), dtype=np.int64)
    for i in range(0, len(rows), step):
        part = slice(i, i + step)
        free = ~part_of(rows[part])
        near = measure(rows[part]) <= distance[part, None] + _SLACK
        nearer[part], counted[part] = (near & free).sum(axis=1), free.sum(axis=1)
    return NullDistances(nearer=nearer, counted=counted, pooled=np.sort(np.concatenate(pooled)))


def same_objects(embeddings: Embeddings, rows: np.ndarray, same_arcsec: float) -> np.ndarray:
    """A number for each of some rows, equal for entries of one object on the sky, shape (n,)."""
    positions = None if embeddings.positions is None else embeddings.positions[rows]
    return sky_groups(positions, same_arcsec, len(rows))


def _combined(
    embeddings: Embeddings,
    references: tuple[Reference, ...],
    how: How,
    ranker: Combined,
    queries: np.ndarray,
) -> Measure:
    """All null queries as one set of references, then combined query by query."""
    background = embeddings.sample(how.seed) if how.metric in SAMPLED else None
    ahead = embeddings.vectors.take(queries.ravel())
    negatives = [reference.vector for reference in references if reference.negative]
    away = (
        scorer(how.metric, np.stack(negatives), embeddings.statistics, background)
        if negatives
        else None
    )
    # The query's own way to combine, given distances in place of vectors.
    combine = replace(ranker, score=Scorer(rough=_no_bounds, exact=lambda each: each))
    width = queries.shape[1]

    def measure(rows: np.ndarray) -> np.ndarray:
        lower = _bounds(embeddings, how.metric, ahead, background, rows)
        against = None if away is None else away.exact(embeddings.vectors.take(rows))
        found = np.empty((len(rows), len(queries)))
        for number in range(len(queries)):
            each = lower[:, number * width : (number + 1) * width]
            if against is not None:
                each = np.concatenate([each, against], axis=1)
            found[:, number] = combine.exact(each).distance
        return found

    return measure


def _bounds(
    embeddings: Embeddings,
    metric: Metric,
    vectors: np.ndarray,
    background: Sample | None,
    rows: np.ndarray,
) -> np.ndarray:
    """Lower bounds of the distances of some rows to vectors (Q, D), shape (n, Q)."""
    whole = embeddings.statistics
    # What a block is told of its rows, of rows that do not follow one another.
    here = Statistics(mean=whole.mean, scale=whole.scale, norms=whole.norms[rows])
    score = scorer(metric, vectors, here, background)
    block = Block(start=0, values=embeddings.vectors.take(rows))
    return np.asarray(np.maximum(score.rough(block).lower, 0.0))


def _no_bounds(block: Block) -> Rough:
    raise NotImplementedError("distances that are given are not scanned for")


def _learned(
    embeddings: Embeddings,
    references: tuple[Reference, ...],
    how: How,
    queries: np.ndarray,
    part_of: Callable[[np.ndarray], np.ndarray],
    quiet: bool,
) -> Measure:
    """Each null query learned, then all directions multiplied with the rows at once.

    Equivalent to ``make_ranker(...).exact(...).distance``, but for the rounding.
    """
    names = how.combine.split("+")
    learned = [name for name in names if name != "mean"]
    weights = np.empty((len(learned), len(queries), embeddings.dim))
    offset = np.empty((len(learned), len(queries)))
    # Many small fits: threads that wait for each other take longer than one alone.
    with (
        threadpool_limits(limits=1),
        Progress("significance", len(queries), unit="null queries", quiet=quiet) as progress,
    ):
        for number, chosen in enumerate(queries):
            group = _as_references(embeddings, references, chosen)
            for place, name in enumerate(learned):
                found = make_ranker(embeddings, group, replace(how, combine=check_combine(name)))
                if not isinstance(found, Learned):
                    raise TypeError(f"combine {name!r} gave {type(found).__name__}")
                weights[place, number], offset[place, number] = found.weights, found.offset
            progress.advance(1)
    plain = None
    if "mean" in names:
        mean = make_ranker(embeddings, references, replace(how, combine="mean"))
        if isinstance(mean, Combined):
            plain = _combined(embeddings, references, how, mean, queries)

    def scores(rows: np.ndarray) -> list[np.ndarray]:
        values = embeddings.vectors.take(rows).astype(np.float64)
        found = [values @ w.T + o for w, o in zip(weights, offset, strict=True)]
        return found if plain is None else [-plain(rows), *found]

    if len(names) == 1:
        return lambda rows: np.logaddexp(0.0, -scores(rows)[0])
    # As `skytwin.embeddings.learned.blend` brings scores to one width.
    background = embeddings.sample(how.seed).rows
    step = max(1, min(_ROWS_AT_ONCE, _NUMBERS_AT_ONCE // queries.size))
    parts = [scores(background[i : i + step]) for i in range(0, len(background), step)]
    negatives = [reference for reference in references if reference.negative]
    inside = part_of(background)
    inside |= same_object(embeddings, negatives, how.same_arcsec, background)[:, None]
    known = [
        np.ma.masked_array(np.concatenate([part[i] for part in parts]), mask=inside)
        for i in range(len(names))
    ]
    centre = [np.asarray(each.mean(axis=0)) for each in known]
    weight = [COMBINED_WEIGHT if name == "mean" else 1.0 for name in names]
    width = [np.asarray(each.std(axis=0)) / w for each, w in zip(known, weight, strict=True)]

    def measure(rows: np.ndarray) -> np.ndarray:
        total = np.zeros((len(rows), len(queries)))
        for score, middle, spread in zip(scores(rows), centre, width, strict=True):
            total += (score - middle) / np.where(spread > 0, spread, 1.0)
        return np.asarray(np.logaddexp(0.0, -total))

    return measure


def _one_by_one(
    embeddings: Embeddings,
    references: tuple[Reference, ...],
    how: How,
    queries: np.ndarray,
    quiet: bool,
) -> Measure:
    """A ranker of its own for each null query, as ranks need."""
    rankers = []
    with Progress("significance", len(queries), unit="null queries", quiet=quiet) as progress:
        for chosen in queries:
            group = _as_references(embeddings, references, chosen)
            rankers.append(make_ranker(embeddings, group, how))
            progress.advance(1)

    def measure(rows: np.ndarray) -> np.ndarray:
        values = embeddings.vectors.take(rows)
        return np.stack([ranker.exact(values).distance for ranker in rankers], axis=1)

    return measure


def _as_references(
    embeddings: Embeddings, references: tuple[Reference, ...], rows: np.ndarray
) -> list[Reference]:
    """Some rows in place of the positive references, with their weights; the negative ones stay."""
    positives = [reference for reference in references if not reference.negative]
    names = embeddings.names(rows)
    ahead = [
        Reference(name=name, kind="object", vector=vector, id=name, weight=like.weight)
        for name, vector, like in zip(names, embeddings.vectors.take(rows), positives, strict=True)
    ]
    return [*ahead, *(reference for reference in references if reference.negative)]
