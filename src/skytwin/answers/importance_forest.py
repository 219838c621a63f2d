"""A forest grown batch by batch, and what it loses when a component is shuffled."""

from __future__ import annotations

from functools import partial

import numpy as np
from sklearn.ensemble import RandomForestRegressor
from sklearn.tree._tree import Tree

from skytwin.answers.resume import Arrays, Job, Steps
from skytwin.embeddings.vectors import Vectors
from skytwin.errors import DataError
from skytwin.progress import Progress

__all__ = ["grow", "permuted", "r2", "r2_interval"]

_RESAMPLES = 2000
_AT_ONCE = 64  # components of a step


def grow(
    vectors: Vectors,
    rows: np.ndarray,
    y: np.ndarray,
    trees: int,
    batch: int,
    seed: int,
    quiet: bool,
) -> RandomForestRegressor:
    """One tree per batch of rows, in passes over all of them in random order.

    Parameters
    ----------
    vectors : Vectors
    rows : ndarray, shape (n,), int
    y : ndarray, shape (n,)
        Values of those rows.
    trees, batch : int
        At least so many trees, each of a batch of at most so many rows.
    seed : int
    quiet : bool

    Raises
    ------
    DataError
        A vector holds NaN or infinity.
    """
    rng = np.random.default_rng([seed, 0])
    per_pass = -(-len(rows) // batch)
    total = max(trees, per_pass)
    forest = RandomForestRegressor(n_estimators=0, warm_start=True, random_state=seed)
    with Progress("forest", total, unit="trees", quiet=quiet) as bar:
        while forest.n_estimators < total:
            for some in np.array_split(rng.permutation(len(rows)), per_pass):
                if forest.n_estimators == total:
                    break
                forest.n_estimators += 1
                some = np.sort(some)
                x = vectors.take(rows[some])
                if not np.isfinite(x).all():
                    raise DataError("a vector holds NaN or infinity; leave that object out")
                forest.fit(x, y[some])
                bar.advance(1)
    return forest


def permuted(
    forest: RandomForestRegressor,
    x: np.ndarray,
    y: np.ndarray,
    each: np.ndarray,
    repeats: int,
    seed: int,
    steps: Steps | None = None,
    quiet: bool = True,
) -> np.ndarray:
    """R2 lost where a component's values are shuffled, shape (D, repeats).

    Equivalent to::

        x[:, j] = rng.permutation(x[:, j])
        r2(y, forest.predict(x_before)) - r2(y, forest.predict(x))

    but a tree is asked again for those rows alone that it asks about the component: some per cent
    of them, in a deep tree on many components.

    Parameters
    ----------
    forest : RandomForestRegressor
    x : ndarray, shape (n, D), float32
    y : ndarray, shape (n,)
    each : ndarray, shape (trees, n)
        What every tree predicts for ``x``.
    repeats, seed : int
        Component ``j`` is shuffled by ``default_rng([seed, 2, j])``.
    steps : Steps, optional
        Where what is done is kept.
    quiet : bool
    """
    total, base = each.sum(axis=0), r2(y, each.mean(axis=0))
    trees = [one.tree_ for one in forest.estimators_]
    asked = [_asked(tree, x) for tree in trees]

    def lost(some: range) -> Arrays:
        shuffled = np.empty((len(some), repeats, len(x)), dtype=x.dtype)
        for place, shown in enumerate(some):
            rng = np.random.default_rng([seed, 2, shown])
            for repeat in range(repeats):
                shuffled[place, repeat] = rng.permutation(x[:, shown])
        sums = np.tile(total, (len(some), repeats, 1))
        for tree, (rows, components), before in zip(trees, asked, each, strict=True):
            here = slice(*np.searchsorted(components, (some.start, some.stop)))
            row, component = rows[here], components[here]
            values = shuffled[component - some.start, :, row]
            away = _leaves(tree, x, row, component, values) - before[row, None]
            sums[component - some.start, :, row] += away
        found = [[base - r2(y, one / len(each)) for one in drawn] for drawn in sums]
        return {"lost": np.array(found)}

    starts = range(0, x.shape[1], _AT_ONCE)
    parts = [range(start, min(start + _AT_ONCE, x.shape[1])) for start in starts]
    jobs = [
        Job(
            step=("shuffle", f"{some.start}-{some.stop}"), make=partial(lost, some), count=len(some)
        )
        for some in parts
    ]
    kept = Steps() if steps is None else steps
    made = kept.make("shuffle", jobs, unit="components", quiet=quiet)
    return np.concatenate([one["lost"] for one in made])


def _asked(tree: Tree, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows, and a component that the tree asks about on the row's way; by component."""
    way = tree.decision_path(x).tocoo()
    component = tree.feature[way.col]
    inner = component >= 0
    pairs = np.unique(component[inner] * np.int64(len(x)) + way.row[inner])
    return pairs % len(x), pairs // len(x)


def _leaves(
    tree: Tree, x: np.ndarray, row: np.ndarray, component: np.ndarray, values: np.ndarray
) -> np.ndarray:
    """What a tree says of rows in which one component has other values, shape (m, repeats).

    Parameters
    ----------
    tree : sklearn.tree._tree.Tree
    x : ndarray, shape (n, D), float32
    row, component : ndarray, shape (m,)
    values : ndarray, shape (m, repeats), float32
    """
    node = np.zeros(values.size, dtype=np.intp)
    under_way = np.arange(values.size)
    which = np.repeat(np.arange(len(row)), values.shape[1])
    while len(under_way):
        at, of = node[under_way], which[under_way]
        asks = tree.feature[at]
        value = np.where(asks == component[of], values.ravel()[under_way], x[row[of], asks])
        node[under_way] = np.where(
            value <= tree.threshold[at], tree.children_left[at], tree.children_right[at]
        )
        under_way = under_way[tree.feature[node[under_way]] >= 0]
    return np.asarray(tree.value[node, 0, 0].reshape(values.shape))


def r2(y: np.ndarray, predicted: np.ndarray) -> float:
    """Explained share of the variance; NaN where there is none."""
    around = float(np.square(y - y.mean()).sum())
    return 1 - float(np.square(y - predicted).sum()) / around if around > 0 else float("nan")


def r2_interval(
    y: np.ndarray,
    predicted: np.ndarray,
    groups: np.ndarray,
    level: float,
    rng: np.random.Generator,
) -> tuple[float, float]:
    """Bootstrap percentiles of R2, whole groups drawn."""
    _, number = np.unique(groups, return_inverse=True)
    count = int(number.max()) + 1
    drawn = np.empty(_RESAMPLES)
    error = np.square(y - predicted)
    for resample in range(_RESAMPLES):
        times = np.bincount(rng.integers(count, size=count), minlength=count)[number]
        mean = float(times @ y) / times.sum()
        around = float(times @ np.square(y - mean))
        drawn[resample] = 1 - float(times @ error) / around if around > 0 else np.nan
    tail = (1 - level) / 2
    lower, upper = np.nanquantile(drawn, [tail, 1 - tail])
    return float(lower), float(upper)
