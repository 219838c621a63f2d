"""Points on a plane: t-SNE (openTSNE), UMAP (umap-learn), and placing more on what is there.

t-SNE is that of van der Maaten & Hinton 2008, set as Kobak & Berens 2019 advise: started from
the principal components, early exaggeration 12, a learning rate that grows with the number of
objects (openTSNE's "auto").
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.neighbors import NearestNeighbors
from threadpoolctl import threadpool_limits

from skytwin.answers.resume import Arrays, Step, Steps
from skytwin.errors import UsageError
from skytwin.progress import Progress

__all__ = ["nearest_scores", "place_tsne", "place_umap", "tsne", "umap"]

_EXACT_ROWS = 200_000
_BLOCK = 2048
_EARLY, _LATE, _TICK = 250, 500, 25
#: The state is kept after so many steps, and not at all where all of it takes seconds.
_KEPT, _WORTH = 125, 10_000
_TREES = 50
_PLACED_PERPLEXITY = 5.0


def tsne(
    scores: np.ndarray,
    perplexity: float,
    *,
    seed: int,
    threads: int,
    quiet: bool,
    steps: Steps | None = None,
) -> np.ndarray:
    """t-SNE of scores (N, P), shape (N, 2) float64.

    Neighbours are exact up to 200 000 objects, of more approximate (50 Annoy trees). With
    ``steps`` they are kept, and where the map has come to, from 10 000 objects on.
    """
    opentsne = _library("openTSNE", "t-SNE")
    kept = steps if steps is not None and len(scores) >= _WORTH else None
    k = min(len(scores) - 1, int(3 * perplexity))
    near = ("neighbours",)
    if kept is not None and near in kept:
        rows, apart = (kept.take(near)[name] for name in ("rows", "apart"))
    elif len(scores) <= _EXACT_ROWS:
        rows, apart = nearest_scores(scores, k, threads=threads, quiet=quiet)
    else:
        rows, apart = _annoy(scores, k, seed, threads=threads, quiet=quiet)
    if kept is not None and near not in kept:
        kept.put(near, {"rows": rows.astype(np.int32), "apart": apart})
    index = opentsne.nearest_neighbors.PrecomputedNeighbors(rows, apart)
    affinities = opentsne.affinity.PerplexityBasedNN(
        perplexity=perplexity, knn_index=index, n_jobs=threads, random_state=seed
    )
    start = opentsne.initialization.rescale(scores[:, :2].astype(float))
    # Identical vectors must not start at one point: no force would part them.
    start = opentsne.initialization.jitter(start, random_state=seed)
    ends = range(_KEPT, _EARLY + _LATE + 1, _KEPT)
    done = max((end for end in ends if kept is not None and _state(end) in kept), default=0)
    with Progress("t-SNE", _EARLY + _LATE, done=done, unit="steps", quiet=quiet) as bar:

        def tick(step: int, error: float, embedding: object) -> bool:  # noqa: ARG001
            bar.advance(_TICK, f"KL {error:.3f}")
            return False  # go on

        state = kept.take(_state(done)) if kept is not None and done else {"xy": start}
        made = opentsne.TSNEEmbedding(
            state["xy"],
            affinities,
            random_state=seed,
            learning_rate="auto",
            n_jobs=threads,
            callbacks=[tick],
            callbacks_every_iters=_TICK,
        )
        made.optimizer.gains, made.optimizer.update = state.get("gains"), state.get("update")
        for end in ends:
            early = 12.0 if end <= _EARLY else 1.0
            if end <= done:  # leaves the affinities as this part did, to the last bit
                made.affinities.P *= early
                made.affinities.P /= early
                continue
            made.optimize(n_iter=_KEPT, exaggeration=early, momentum=0.8, inplace=True)
            if kept is not None:
                kept.put(_state(end), {"xy": np.array(made), **_moving(made.optimizer)})
    return np.array(made, dtype=np.float64)


def _state(end: int) -> Step:
    return ("t-SNE", str(end))


def _moving(optimizer: Any) -> Arrays:
    """What goes on beside the places: the optimiser's memory."""
    return {"gains": optimizer.gains, "update": optimizer.update}


def place_tsne(
    scores: np.ndarray, xy: np.ndarray, new: np.ndarray, *, seed: int, threads: int, quiet: bool
) -> np.ndarray:
    """More objects on a t-SNE map, each by itself, shape (M, 2): openTSNE's ``transform``."""
    opentsne = _library("openTSNE", "t-SNE")
    perplexity = min(_PLACED_PERPLEXITY, (len(scores) - 1) / 3)
    k = min(len(scores), 25)
    rows, apart = nearest_scores(scores, k, new, threads=threads, quiet=quiet)
    used = max(2, int(3 * perplexity))
    affinity = opentsne.affinity.joint_probabilities_nn(
        rows[:, :used],
        apart[:, :used],
        [perplexity],
        symmetrize=False,
        normalization="point-wise",
        n_reference_samples=len(scores),
        n_jobs=threads,
    )
    # The grid of the interpolation has to lie around zero.
    middle = (xy.max(axis=0) + xy.min(axis=0)).astype(float) / 2
    centred = xy.astype(float) - middle
    there = opentsne.TSNEEmbedding(centred, _Frozen(len(scores)), random_state=seed, n_jobs=threads)
    start = opentsne.initialization.median(centred, rows)
    placed = opentsne.tsne.PartialTSNEEmbedding(
        start, there, P=affinity, **there.gradient_descent_params
    )
    placed.optimize(
        n_iter=250,
        learning_rate=0.1,
        exaggeration=1.5,
        momentum=0.8,
        inplace=True,
        max_grad_norm=0.25,
        max_step_norm=None,
    )
    there_too: np.ndarray = np.array(placed, dtype=np.float64) + middle
    return there_too


class _Frozen:
    """Stands for the affinities of a map that moves no more."""

    def __init__(self, count: int) -> None:
        self.P = csr_matrix((count, count))


def umap(scores: np.ndarray, neighbours: int, *, seed: int, quiet: bool) -> np.ndarray:
    """UMAP (McInnes et al. 2018) of scores (N, P), started from the first two, shape (N, 2)."""
    with Progress("UMAP", len(scores), unit="objects", quiet=quiet) as bar:
        made = _umap(scores, scores[:, :2].astype(float), neighbours, None, seed)
        bar.advance(len(scores))
    return np.asarray(made.embedding_, dtype=np.float64)


def place_umap(
    scores: np.ndarray, xy: np.ndarray, new: np.ndarray, *, neighbours: int, seed: int
) -> np.ndarray:
    """More objects on a UMAP map, shape (M, 2); the graph is built anew, the map kept."""
    made = _umap(scores, xy.astype(float), neighbours, 0, seed)
    made.embedding_ = np.ascontiguousarray(xy, dtype=np.float32)
    made.n_epochs = None
    return np.asarray(_unwarned(lambda: made.transform(new)), dtype=np.float64)


def _umap(
    scores: np.ndarray, start: np.ndarray, neighbours: int, epochs: int | None, seed: int
) -> Any:
    library = _library("umap", "UMAP")
    model = library.UMAP(
        n_neighbors=neighbours,
        min_dist=0.1,
        init=start,
        n_epochs=epochs,
        random_state=seed,
        transform_seed=seed,
        n_jobs=1,
    )
    return _unwarned(lambda: model.fit(scores))


def _unwarned(call: Callable[[], Any]) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of numba and scikit-learn, about umap's own code
        return call()


def _library(name: str, method: str) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # umap's, that TensorFlow is not there
            return importlib.import_module(name)
    except ImportError as error:
        raise UsageError(
            f"a {method} map needs {error.name}, which is not installed; install "
            f"skytwin[{'umap' if method == 'UMAP' else 'map'}] or "
            "choose --method pca"
        ) from None


def nearest_scores(
    scores: np.ndarray,
    k: int,
    new: np.ndarray | None = None,
    *,
    threads: int = 1,
    quiet: bool = True,
) -> tuple[np.ndarray, np.ndarray]:
    """Rows (n, k) and distances of the nearest of ``scores``, exactly.

    Parameters
    ----------
    scores : ndarray, shape (N, P)
    k : int
    new : ndarray, shape (n, P), optional
        By default the scores themselves, no object its own neighbour.
    threads : int
    quiet : bool
    """
    asked = scores if new is None else new
    index = NearestNeighbors(algorithm="brute").fit(scores)
    rows = np.empty((len(asked), k), dtype=np.int64)
    apart = np.empty((len(asked), k))
    with (
        threadpool_limits(threads),
        Progress("neighbours", len(asked), unit="objects", quiet=quiet) as bar,
    ):
        for start in range(0, len(asked), _BLOCK):
            here = slice(start, start + _BLOCK)
            block = asked[here]
            if new is None:
                far, near = index.kneighbors(block, k + 1)
                own = near == np.arange(start, start + len(block))[:, None]
                # Among more than k identical ones it may not find itself: drop the last.
                own[~own.any(axis=1), -1] = True
                near, far = (each[~own].reshape(len(block), k) for each in (near, far))
            else:
                far, near = index.kneighbors(block, k)
            rows[here], apart[here] = near, far
            bar.advance(len(block))
    return rows, apart


def _annoy(
    scores: np.ndarray, k: int, seed: int, *, threads: int, quiet: bool
) -> tuple[np.ndarray, np.ndarray]:
    annoy = _library("openTSNE.dependencies.annoy", "t-SNE")
    index = annoy.AnnoyIndex(scores.shape[1], "euclidean")
    index.set_seed(seed)
    rows, apart = np.empty((len(scores), k), dtype=np.int64), np.empty((len(scores), k))
    with Progress("neighbours", 2 * len(scores), unit="objects", quiet=quiet) as bar:
        for row, vector in enumerate(scores):
            index.add_item(row, vector)
        index.build(_TREES, n_jobs=threads)
        bar.advance(len(scores))
        for row in range(len(scores)):
            near, far = index.get_nns_by_item(row, k + 1, include_distances=True)
            kept = np.flatnonzero(np.asarray(near) != row)[:k]
            rows[row], apart[row] = np.asarray(near)[kept], np.asarray(far)[kept]
            bar.advance(1)
    return rows, apart
