"""Permutation importances of a forest: scikit-learn's, and those that ask again where it matters.

    python benchmarks/shuffles.py                # two minutes
    python benchmarks/shuffles.py --dim 64

A forest of 100 trees on vectors of which few numbers tell something; five shuffles of each.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial

import numpy as np
from exact_scan import features
from rows import Row, in_turns, machine, table
from sklearn.ensemble import RandomForestRegressor
from sklearn.inspection import permutation_importance

from skytwin.answers.importance_forest import permuted
from skytwin.threads import thread_count

REPEATS = 5


def measure(rows: int = 900, dim: int = 256, rounds: int = 2) -> list[Row]:
    """Seconds of all shuffles, in turns."""
    rng = np.random.default_rng(0)
    x = features(rows + 1000, dim)
    y = 3.0 * x[:, 0] + x[:, 1] + rng.standard_normal(len(x))
    x, held = x[:1000], x[1000:]
    forest = RandomForestRegressor(100, random_state=0).fit(x, y[:1000])
    each = np.stack([tree.tree_.predict(held)[:, 0] for tree in forest.estimators_])

    def plain() -> np.ndarray:
        found = permutation_importance(
            forest, held, y[1000:], n_repeats=REPEATS, random_state=0, n_jobs=thread_count()
        )
        return np.asarray(found.importances)

    def ours() -> np.ndarray:
        return permuted(forest, held, y[1000:], each, REPEATS, 0)

    means: dict[str, np.ndarray] = {}

    def kept(name: str, run: Callable[[], np.ndarray]) -> None:
        means[name] = run().mean(axis=1)

    ways = {f"scikit-learn, {thread_count()} processes": plain, "skytwin, one thread": ours}
    medians = in_turns({name: partial(kept, name, run) for name, run in ways.items()}, rounds)
    alike = float(np.corrcoef(*means.values())[0, 1])
    what = f"importance: {REPEATS} shuffles of {dim} numbers, {rows} objects, 100 trees"
    return [
        Row(what, name, median, "s", note)
        for (name, median), note in zip(
            medians.items(), ("", f"other draws; correlation of the two {alike:.4f}"), strict=True
        )
    ]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=900)
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=2)
    given = parser.parse_args()
    print(f"{table(measure(given.rows, given.dim, given.rounds))}\n\n{machine()}")


if __name__ == "__main__":
    main()
