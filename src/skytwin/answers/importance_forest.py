"""A forest grown batch by batch, and what it loses when a component is shuffled."""

from __future__ import annotations

from functools import partial

import numpy as np
from sklearn.ensemble import RandomForestRegressor

from skytwin.answers.resume import Arrays, Job, Steps
from skytwin.embeddings.vectors import Vectors
from skytwin.errors import DataError
from skytwin.progress import Progress

__all__ = ["grow", "permuted", "r2", "r2_interval"]

_RESAMPLES = 2000
_AT_ONCE = 16  # components of a step


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

    with only the trees that use a component asked again.

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
    users: list[list[int]] = [[] for _ in range(x.shape[1])]
    for number, tree in enumerate(forest.estimators_):
        for component in np.unique(tree.tree_.feature[tree.tree_.feature >= 0]):
            users[component].append(number)
    stacked = np.tile(x, (repeats, 1))

    def lost(some: range) -> Arrays:
        found = np.zeros((len(some), repeats))
        for row, component in enumerate(some):
            trees = users[component]
            if not trees:
                continue
            rng = np.random.default_rng([seed, 2, component])
            shuffled = [rng.permutation(x[:, component]) for _ in range(repeats)]
            stacked[:, component] = np.concatenate(shuffled)
            changed = np.tile(total - each[trees].sum(axis=0), repeats)
            for number in trees:
                changed += forest.estimators_[number].tree_.predict(stacked)[:, 0]
            stacked[:, component] = np.tile(x[:, component], repeats)
            for repeat, predicted in enumerate(changed.reshape(repeats, -1) / len(each)):
                found[row, repeat] = base - r2(y, predicted)
        return {"lost": found}

    starts = range(0, x.shape[1], _AT_ONCE)
    parts = [range(start, min(start + _AT_ONCE, x.shape[1])) for start in starts]
    jobs = [
        Job(step=("shuffle", str(some.start)), make=partial(lost, some), count=len(some))
        for some in parts
    ]
    kept = Steps() if steps is None else steps
    made = kept.make("shuffle", jobs, unit="components", quiet=quiet)
    return np.concatenate([one["lost"] for one in made])


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
