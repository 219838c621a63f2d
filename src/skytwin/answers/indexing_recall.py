"""How many of the true neighbours an index finds, by kind of query and by effort.

Queries are objects of the set, drawn at random. For each kind of query the exact neighbours are
found first; then the index is asked with more and more effort. What is ranked exactly comes out
in its true place, so the recall of a search is the share of the true neighbours among its
candidates. The cheapest effort that reaches the aim is the one that searches take; a kind that
does not reach it is not served.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from skytwin.answers.intervals import jeffreys
from skytwin.answers.query import reference_at
from skytwin.answers.ranking import How, make_ranker
from skytwin.answers.scan import DEPTHS
from skytwin.embeddings.index import Effort, Index
from skytwin.embeddings.names import Combine, Metric
from skytwin.embeddings.neighbours import nearest_each
from skytwin.embeddings.neighbours_many import nearest_many
from skytwin.embeddings.table import Embeddings
from skytwin.progress import Progress

__all__ = ["AIMS", "RECALL_QUERIES", "measure_recall"]

RECALL_QUERIES = 100
#: Recall that an effort must reach, by depth.
AIMS: Mapping[int, float] = {25: 0.99, 1000: 0.95}

_METRICS: tuple[Metric, ...] = ("standardized", "cosine", "euclidean")
_COMBINATIONS: tuple[Combine, ...] = ("mean", "min", "logistic", "lda", "mean+logistic")
_REFERENCES, _AMONG = 5, 25
_CANDIDATES = {
    25: (50, 100, 200, 400, 800, 1600, 3200, 6400),
    1000: (1000, 1050, 1100, 1250, 1500, 2000, 3000, 4000, 6000, 8000, 12000, 16000),
}
# Ranking a candidate exactly takes as long as passing over so many codes.
_RANKING_COST = 25
# Reading more of the cells than one in so many is no better than the exact scan.
_MOST_CELLS = 8


def measure_recall(
    embeddings: Embeddings, index: Index, *, queries: int, seed: int = 0, quiet: bool = True
) -> dict[str, dict[str, Any]]:
    """Recall of an index against the exact scan.

    Parameters
    ----------
    embeddings : Embeddings
    index : Index
        Of that embedding.
    queries : int
        Objects that are looked for; half as many groups of five for combinations.
    seed : int
    quiet : bool

    Returns
    -------
    dict
        By kind of query (a metric, of one reference; a combination, of five), then by depth as
        text: ``probes`` and ``candidates`` of the effort, ``value`` with ``lower`` and ``upper``,
        ``reached``, ``queries``, ``references``, and ``tried``, a list of probes, candidates and
        recall.

    Notes
    -----
    The interval treats each query as one trial, found or not (Jeffreys): wider than it need be,
    for a mean of shares varies less.
    """
    rng = np.random.default_rng([seed, 1])
    rows = rng.choice(len(embeddings), size=min(queries, len(embeddings)), replace=False)
    depths = {depth: min(depth, len(embeddings) - 1) for depth in DEPTHS}
    if depths[DEPTHS[0]] < 1:
        return {}
    found: dict[str, dict[str, Any]] = {}
    total = len(_METRICS) + len(_COMBINATIONS)
    with Progress("recall", total, unit="kinds of query", quiet=quiet) as bar:
        near = rows[:, None]
        for metric in _METRICS:
            truth = _exact(embeddings, rows, depths[DEPTHS[-1]], metric)
            near = truth if metric == "standardized" else near
            units = index.standardized(embeddings.vectors.take(rows))
            found[metric] = _by_depth(index, list(units[:, None]), rows[:, None], truth, depths)
            bar.advance(1)
        count = min(len(rows), max(1, queries // 2))
        groups = _groups(rows[:count], near[:count], rng)
        for combine in _COMBINATIONS if groups.shape[1] > 1 else ():
            how = How(combine=combine, seed=seed)
            rankers = [
                make_ranker(embeddings, [reference_at(embeddings, int(r)) for r in group], how)
                for group in groups
            ]
            deep = min(depths[DEPTHS[-1]] + groups.shape[1], len(embeddings))
            truth = np.stack(
                [
                    _without(each.rows, group)[: deep - groups.shape[1]]
                    for each, group in zip(
                        nearest_each(embeddings.vectors, rankers, deep), groups, strict=True
                    )
                ]
            )
            directions = [index.directions(ranker) for ranker in rankers]
            known = [each for each in directions if each is not None]
            limits = {depth: min(k, truth.shape[1]) for depth, k in depths.items()}
            found[combine] = _by_depth(index, known, groups, truth, limits)
            bar.advance(1)
    return found


def _exact(embeddings: Embeddings, rows: np.ndarray, k: int, metric: Metric) -> np.ndarray:
    """The nearest k rows of each of some objects, (n, k), themselves left out."""
    return nearest_many(
        embeddings.vectors,
        embeddings.statistics,
        embeddings.vectors.take(rows),
        k,
        metric=metric,
        groups=np.arange(len(embeddings)),
        own=rows,
    ).rows


def _groups(rows: np.ndarray, near: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """References of combinations, (n, 5): an object and random ones of its nearest."""
    among = near[:, :_AMONG]
    others = min(_REFERENCES - 1, among.shape[1])
    picked = [rng.choice(each, size=others, replace=False) for each in among]
    return np.concatenate([rows[:, None], np.stack(picked)], axis=1)


def _without(rows: np.ndarray, own: np.ndarray) -> np.ndarray:
    return rows[~np.isin(rows, own)]


def _by_depth(
    index: Index,
    directions: Sequence[np.ndarray],
    own: np.ndarray,
    truth: np.ndarray,
    depths: Mapping[int, int],
) -> dict[str, Any]:
    """The cheapest effort that reaches the aim, at each depth."""
    return {
        str(depth): _cheapest(index, directions, own, truth[:, :k], depth)
        for depth, k in depths.items()
    }


def _cheapest(
    index: Index,
    directions: Sequence[np.ndarray],
    own: np.ndarray,
    truth: np.ndarray,
    depth: int,
) -> dict[str, Any]:
    size, cells = len(index), index.manifest.recipe.get("cells", 1)
    ladder = [c for c in _CANDIDATES[depth] if c < size] or [size]
    if size <= _CANDIDATES[depth][-1] and ladder[-1] < size:
        ladder.append(size)
    tried: list[tuple[Effort, np.ndarray]] = []
    best: tuple[float, Effort, np.ndarray] | None = None
    for effort, reads in _efforts(index, ladder, cells):
        if best is not None and reads + _RANKING_COST * ladder[0] >= best[0]:
            break
        shares = _shares(index, directions, own, truth, effort, ladder)
        reached = [c for c, share in shares.items() if share.mean() >= AIMS[depth]]
        chosen = reached[0] if reached else max(shares)
        used = replace(effort, candidates=chosen)
        tried.append((used, shares[chosen]))
        cost = reads + _RANKING_COST * chosen
        if reached and (best is None or cost < best[0]):
            best = (cost, used, shares[chosen])
    used, share = best[1:] if best is not None else max(tried, key=lambda each: each[1].mean())
    lower, upper = jeffreys(np.array([share.sum()]), np.array([len(share)]))
    return {
        "probes": used.probes,
        "candidates": used.candidates,
        "value": float(share.mean()),
        "lower": float(lower[0]),
        "upper": float(upper[0]),
        "reached": best is not None,
        "queries": len(share),
        "references": own.shape[1],
        "tried": [[e.probes, e.candidates, round(float(s.mean()), 4)] for e, s in tried],
    }


def _efforts(index: Index, ladder: Sequence[int], cells: int) -> Any:
    """Efforts from the least on, each with the codes that it passes over."""
    if index.kind == "hnsw-sq8":
        # A graph gives as many as it looks at.
        for count in ladder:
            yield Effort(probes=count, candidates=count), float(count)
        return
    most = min(cells, max(64, cells // _MOST_CELLS))
    twofold = [1 << power for power in range(most.bit_length())]
    for probes in sorted({*twofold, *(probes * 3 // 2 for probes in twofold)}):
        if probes <= most:
            yield Effort(probes=probes, candidates=ladder[-1]), probes * len(index) / cells


def _shares(
    index: Index,
    directions: Sequence[np.ndarray],
    own: np.ndarray,
    truth: np.ndarray,
    effort: Effort,
    ladder: Sequence[int],
) -> dict[int, np.ndarray]:
    """Share of each query's true neighbours among its first so many candidates, by their number."""
    # References are among the candidates, and a search asks for so many more.
    more = replace(effort, candidates=effort.candidates + own.shape[1])
    found = index.candidates(np.concatenate(list(directions)), more)
    ends = np.cumsum([len(each) for each in directions])
    counts = [c for c in ladder if c <= effort.candidates]
    shares = np.empty((len(counts), len(truth)))
    for number, (lists, group) in enumerate(zip(np.split(found, ends[:-1]), own, strict=True)):
        within = np.full(truth.shape[1], np.iinfo(np.int64).max)
        for each in lists:
            place = _places(_without(each, group), truth[number])
            within = np.minimum(within, place)
        for at, count in enumerate(counts):
            shares[at, number] = (within < count).mean()
    return dict(zip(counts, shares, strict=True))


def _places(rows: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Where each of ``wanted`` stands among ``rows``; past all of them where it does not."""
    order = np.argsort(rows, kind="stable")
    at = np.minimum(np.searchsorted(rows[order], wanted), len(rows) - 1)
    place = order[at]
    return np.where(rows[place] == wanted, place, np.iinfo(np.int64).max)
