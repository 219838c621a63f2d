"""Fits of a probe: side by side, one after the other, and with scikit-learn as it comes.

    python benchmarks/probe_fits.py                # a minute or two
    python benchmarks/probe_fits.py --rows 2000

Six classifiers, five folds of the training rows and one fit of them all, on vectors of two classes.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
from exact_scan import features
from rows import Row, in_turns, machine, table
from sklearn.base import ClassifierMixin
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_validate
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

import skytwin
from skytwin.embeddings.table import Embeddings
from skytwin.threads import thread_count

FOLDS = 5
#: The same settings as `skytwin.answers.probe_classifiers`.
OTHERS: dict[str, Callable[[], ClassifierMixin]] = {
    "knn": lambda: KNeighborsClassifier(20),
    "lr": lambda: LogisticRegression(max_iter=1000, tol=1e-6),
    "lda": lambda: LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto"),
    "svc-scale": lambda: SVC(C=100),
    "rf": lambda: RandomForestClassifier(260, random_state=0),
    "ext": lambda: ExtraTreesClassifier(400, random_state=0),
}


def survey(rows: int, dim: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vectors, classes, and whether a row is a test row."""
    rng = np.random.default_rng(0)
    x, kind = features(rows, dim), rng.random(rows) < 0.5
    x[kind] += 0.2 * rng.standard_normal(dim).astype(np.float32)
    return x, kind, rng.random(rows) < 0.125


def measure(rows: int = 833, dim: int = 1280, rounds: int = 3) -> list[Row]:
    """Seconds of all fits, in turns."""
    x, kind, test = survey(rows, dim)
    emb = Embeddings.from_arrays(
        x,
        [f"o{row:05d}" for row in range(rows)],
        {"kind": np.where(kind, "a", "b"), "split": np.where(test, "test", "train")},
    )
    threads = thread_count()

    def plain() -> None:
        for made in OTHERS.values():
            each = make_pipeline(StandardScaler(), made())
            cross_validate(each, x[~test], kind[~test], cv=FOLDS, n_jobs=threads,
                           scoring=("accuracy", "roc_auc"))  # fmt: skip
            each.fit(x[~test], kind[~test]).predict(x[test])

    def ours(jobs: int) -> None:
        skytwin.probe(
            emb, "kind", split="split", classifiers=list(OTHERS), folds=FOLDS, repeats=1,
            budget=(), baselines=False, jobs=jobs,
        )  # fmt: skip

    contenders: dict[str, Callable[[], None]] = {
        f"scikit-learn, {threads} processes": plain,
        "skytwin, one thread": lambda: ours(1),
        f"skytwin, {threads} threads": lambda: ours(threads),
    }
    what = f"probe: {len(OTHERS)} classifiers, {FOLDS} folds of {rows} x {dim}"
    return [Row(what, name, median, "s") for name, median in in_turns(contenders, rounds).items()]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=833)
    parser.add_argument("--dim", type=int, default=1280)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    print(f"{table(measure(given.rows, given.dim, given.rounds))}\n\n{machine()}")


if __name__ == "__main__":
    main()
