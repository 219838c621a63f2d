"""Fitting a classifier once, over folds, and from few labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from skytwin.answers.probe_classifiers import fit_classifier, standardisation
from skytwin.answers.probe_data import Labelled, Source
from skytwin.answers.probe_metrics import Outputs, Resamples, measure, replicates
from skytwin.images.folds import grouped_folds
from skytwin.images.groups import first_rows

__all__ = [
    "Scaling",
    "budgets_within",
    "draw_labels",
    "few_labels",
    "fit_all",
    "folded",
    "scores_of",
]

_FEWEST = 2  # labels of a class
_BLOCK = 4096


@dataclass(frozen=True, eq=False, kw_only=True)
class Scaling:
    """From vectors to what classifiers take, fitted on training rows.

    Every number is standardised. Where vectors of several embeddings stand side by side, each of
    the B blocks is then divided by the root of how many of its numbers vary, d_b, so that blocks
    of different length weigh alike in a distance (block scaling: Westerhuis, Kourti & MacGregor
    1998, J. Chemometrics 12, 301), and all multiplied by sqrt(sum of d_b / B): the mean square
    stays 1, so that fixed penalties and kernel widths mean what they mean for one embedding, and
    blocks of equal length are left as they are. This matters to ``knn``, ``svc``, ``svc-scale``,
    ``lr`` and ``linear``. Trees (``rf``, ``ext``, ``gb``) and ``lda``, whose shrinkage
    standardises within the classes, do not see it.

    Attributes
    ----------
    mean, scale : ndarray, shape (d,), float64
        The weights of blocks are in the scale.
    centre : ndarray, shape (D,), float64, or None
    axes : ndarray, shape (d, D), float64, or None
        Principal components taken before standardising, where any are.
    """

    mean: np.ndarray
    scale: np.ndarray
    centre: np.ndarray | None = None
    axes: np.ndarray | None = None

    @classmethod
    def of(cls, vectors: np.ndarray, components: int | None, widths: Sequence[int] = ()) -> Scaling:
        """Fitted on these rows; ``widths`` are the lengths of several blocks side by side."""
        if components is None:
            mean, scale = standardisation(vectors)
            if len(widths) > 1:
                scale /= _block_weights(np.ptp(vectors, axis=0) > 0, widths)
            return cls(mean=mean, scale=scale)
        centre = vectors.mean(axis=0, dtype=np.float64)
        axes = _principal_axes(vectors, centre)[:components]
        mean, scale = standardisation(_projected(vectors, centre, axes))
        return cls(mean=mean, scale=np.where(scale > 0, scale, 1.0), centre=centre, axes=axes)

    def apply(self, vectors: np.ndarray) -> np.ndarray:
        """Standardised vectors, shape (n, d), float64; no other array of that size is made."""
        if self.axes is not None and self.centre is not None:
            x = _projected(vectors, self.centre, self.axes)
        else:
            x = vectors.astype(np.float64)
        x -= self.mean
        x /= self.scale
        return x


def _block_weights(varies: np.ndarray, widths: Sequence[int]) -> np.ndarray:
    """What to multiply every standardised number by, shape (D,)."""
    count = [max(int(part.sum()), 1) for part in np.split(varies, np.cumsum(widths)[:-1])]
    weights = np.sqrt(sum(count) / (len(count) * np.array(count, dtype=np.float64)))
    return np.repeat(weights, widths)


def _projected(vectors: np.ndarray, centre: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """Components, shape (n, d), float64."""
    x = np.empty((len(vectors), len(axes)))
    for begin in range(0, len(x), _BLOCK):
        rows = slice(begin, begin + _BLOCK)
        x[rows] = (vectors[rows] - centre) @ axes.T
    return x


def _principal_axes(vectors: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """Directions of largest variance first, shape (min(n, D), D)."""
    count, dim = vectors.shape
    if count <= dim:
        return np.asarray(np.linalg.svd(vectors - centre, full_matrices=False)[2])
    products = np.zeros((dim, dim))
    for begin in range(0, count, _BLOCK):
        off = vectors[begin : begin + _BLOCK] - centre
        products += off.T @ off
    return np.asarray(np.linalg.eigh(products)[1][:, ::-1].T)


def fit_all(
    source: Source,
    labelled: Labelled,
    train: np.ndarray,
    test: np.ndarray,
    classifiers: Sequence[str],
    *,
    seed: int,
    jobs: int,
) -> Iterator[tuple[str, Outputs]]:
    """Each classifier fitted on some rows and asked about others; within `undisturbed`.

    Parameters
    ----------
    source : Source
    labelled : Labelled
    train, test : ndarray of int
        Row numbers.
    classifiers : sequence of str
    seed : int
    jobs : int
        Threads of the forests.
    """
    if not classifiers:
        return
    components = source.components and min(source.components, len(train) - 1)
    # OpenMP counts for each thread, and this may be one of several.
    with threadpool_limits(1, user_api="openmp"):
        seen = source.vectors[train]
        scaling = Scaling.of(seen, components, source.widths)
        x = scaling.apply(seen)
        del seen
        asked = scaling.apply(source.vectors[test])
    for name in classifiers:
        with threadpool_limits(1, user_api="openmp"):
            outputs = fit_classifier(
                name,
                x,
                labelled.truth[train],
                labelled.group[train],
                len(labelled.classes),
                seed=seed,
                jobs=jobs,
            ).outputs(asked)
        yield name, outputs


def folded(
    labelled: Labelled, folds: int, repeats: int, seed: int
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Repeated folds of the training rows: number, rows to fit on, rows held out."""
    rows = np.flatnonzero(~labelled.test)
    for repeat in range(repeats):
        part = grouped_folds(
            labelled.group[rows], folds, seed + repeat, stratify=labelled.truth[rows]
        )
        for fold in range(folds):
            yield repeat * folds + fold, rows[part != fold], rows[part == fold]


def scores_of(outputs: Outputs, truth: np.ndarray) -> tuple[float, float]:
    """Accuracy and area under the ROC curve; NaN where a class is missing."""
    found = measure(outputs, truth, np.ones((1, len(truth))))
    return float(found["accuracy"][0]), float(found["auc"][0])


def budgets_within(budget: Sequence[int], labelled: Labelled) -> list[int]:
    """Those that leave two labels a class and are fewer than there are."""
    pool = len(_pool(labelled))
    least = _FEWEST * len(labelled.classes)
    return sorted({int(each) for each in budget if least <= each < pool})


def draw_labels(labelled: Labelled, budget: int, seed: int) -> np.ndarray:
    """Training rows, one an object, classes in proportion; a smaller budget draws from a larger.

    Nested but for the rounding of shares and the least of two a class.
    """
    pool = np.random.default_rng(seed).permutation(_pool(labelled))
    truth = labelled.truth[pool]
    have = np.bincount(truth, minlength=len(labelled.classes))
    wanted = np.maximum(budget * have / have.sum(), _FEWEST)
    counts = np.minimum(np.floor(wanted).astype(int), have)
    while counts.sum() > budget:
        counts[np.argmax(counts)] -= 1
    while counts.sum() < budget:
        counts[np.argmax(np.where(counts < have, wanted - counts, -np.inf))] += 1
    rows = [pool[truth == k][:count] for k, count in enumerate(counts)]
    return np.sort(np.concatenate(rows))


def _pool(labelled: Labelled) -> np.ndarray:
    train = np.flatnonzero(~labelled.test)
    return np.asarray(train[first_rows(labelled.group[train])])


def few_labels(
    outputs: Sequence[Outputs], truth: np.ndarray, again: Resamples, level: float
) -> dict[str, tuple[float, float, float]]:
    """Mean over draws of labels; interval over draws and test objects, both resampled.

    Parameters
    ----------
    outputs : sequence of Outputs
        Of the test rows, one for each draw.
    truth : ndarray, shape (n,), int
    again : Resamples
        Of the test rows.
    level : float
    """
    rng = np.random.default_rng(again.seed)
    which = rng.integers(len(outputs), size=(again.count, len(outputs)))
    each = [replicates(one, truth, again) for one in outputs]
    tail = (1 - level) / 2
    found = {}
    for place, name in enumerate(("accuracy", "auc")):
        value = float(np.mean([scores_of(one, truth)[place] for one in outputs]))
        drawn = np.stack([one[name] for one in each], axis=1)
        mean = np.take_along_axis(drawn, which, axis=1).mean(axis=1)
        lower, upper = np.nanquantile(mean, [tail, 1 - tail])
        found[name] = (value, float(lower), float(upper))
    return found
