"""Which features set a list apart from the rest of the survey, and what excites them.

Every feature is compared by the area under the ROC curve: the probability that an object of the
list has more of it than one of the background (Mann & Whitney 1947). The interval is Newcombe's
(2006, Statistics in Medicine 25, 559, method 5), the p-value Mann and Whitney's, the q-value
that of Benjamini and Hochberg (1995).

The list was chosen by these very features, so that some separate it whatever it is of: the same
is done for lists around random objects, and shown beside.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from scipy.stats import false_discovery_control, mannwhitneyu, norm

from skytwin.answers.query import same_object
from skytwin.answers.search import Matches, search
from skytwin.embeddings.names import DEFAULT_COMBINE
from skytwin.embeddings.table import Embeddings
from skytwin.errors import DataError, UsageError
from skytwin.images import arrow
from skytwin.images.where import matching_rows
from skytwin.progress import Progress

if TYPE_CHECKING:
    from astropy.table import Table

__all__ = [
    "Exciting",
    "SeparatingFeatures",
    "auc_interval",
    "most_exciting",
    "separating_features",
]

_FEWEST = 5
_LEVEL = 0.95
_SIGNIFICANT = 0.05


@dataclass(frozen=True, eq=False, kw_only=True)
class Exciting:
    """The objects with most of some features.

    Attributes
    ----------
    features : ndarray, shape (F,), int64
    rows : ndarray, shape (F, n), int64
        Of the embedding, by falling value; of equals, the first.
    values : ndarray, shape (F, n), float32
    """

    features: np.ndarray
    rows: np.ndarray
    values: np.ndarray


@dataclass(frozen=True, eq=False, kw_only=True)
class SeparatingFeatures:
    """Features by how well they tell a list from the background.

    Attributes
    ----------
    table : pyarrow.Table
        The best first: ``feature``; ``auc`` with ``lower`` and ``upper`` (95 %); ``difference``
        of the means, in standard deviations of the background; ``p`` and ``q``, against the list
        being drawn at random; ``random``, the mean over random lists of how well the feature
        separates those, as an AUC of 0.5 or more.
    best : float
        Largest ``|auc - 0.5| + 0.5``.
    significant : int
        Features with ``q`` of at most 0.05.
    random_best, random_significant : ndarray, shape (L,)
        The same for lists of the same length around L random objects: what any list shows.
    background : ndarray, shape (B,), int64
        Rows that the list was compared with.
    seed : int
    matches : Matches
    """

    table: pa.Table
    best: float
    significant: int
    random_best: np.ndarray
    random_significant: np.ndarray
    background: np.ndarray
    seed: int
    matches: Matches

    def __repr__(self) -> str:
        return (
            f"SeparatingFeatures({self.significant} of {len(self.table)} features, "
            f"best AUC {self.best:.3f})"
        )

    def exciting(self, *, features: int = 6, objects: int = 8) -> Exciting:
        """What excites the best features most; see `most_exciting`."""
        numbers = self.table["feature"].to_numpy()[:features]
        return most_exciting(self.matches.embeddings, numbers, objects)

    def to_astropy(self) -> Table:
        """The table as an astropy table."""
        return arrow.to_astropy(self.table, meta=self.matches.describe())

    def to_pandas(self) -> Any:
        """The table as a pandas DataFrame."""
        return self.table.to_pandas()


def separating_features(
    matches: Matches,
    background: int = 1000,
    seed: int = 0,
    *,
    lists: int = 20,
    quiet: bool = False,
) -> SeparatingFeatures:
    """Find the features that set a list apart.

    Parameters
    ----------
    matches : Matches
        At least 5.
    background : int
        Objects to compare with: drawn at random from those that the search could have listed,
        without the list and its references.
    seed : int
        Of that draw, and of the random objects.
    lists : int
        Random objects whose own lists show what any list shows; 0 for none.
    quiet : bool
        Show no progress.

    Returns
    -------
    SeparatingFeatures

    Raises
    ------
    DataError
        Fewer than 5 matches, or than 5 objects beside them.
    UsageError
        A number that is out of range.
    """
    if background < _FEWEST or lists < 0:
        raise UsageError(
            f"background of {background} objects, {lists} random lists; expected at least "
            f"{_FEWEST} objects and 0 lists"
        )
    embeddings = matches.embeddings
    rng = np.random.default_rng(seed)
    rest = _beside(matches)
    if len(matches) < _FEWEST or len(rest) < _FEWEST:
        raise DataError(
            f"{len(matches)} matches and {len(rest)} objects beside them; comparing features "
            f"takes at least {_FEWEST} of each: list more with -k, or embed more"
        )
    rows = np.sort(rng.choice(rest, min(background, len(rest)), replace=False))
    others = embeddings.vectors.take(rows)
    table = _compare(embeddings.vectors.take(matches.rows), others)
    best, significant = _summary(table)
    centres = rng.choice(rest, min(lists, len(rest)), replace=False)
    around: list[tuple[float, int]] = []
    usual = np.zeros(embeddings.dim)
    with Progress("explain", len(centres), unit="random lists", quiet=quiet) as progress:
        for row in centres:
            found = search(
                embeddings,
                str(embeddings.ids[row]),
                k=len(matches),
                metric=matches.settings["metric"],
                combine=matches.settings["combine"] or DEFAULT_COMBINE,
                where=matches.settings["where"],
                same_arcsec=matches.settings["same_arcsec"],
                seed=matches.settings["seed"] or 0,
            )
            apart = ~np.isin(rows, found.rows)
            if len(found) and apart.any():
                mine = embeddings.vectors.take(found.rows)
                compared = _compare(mine, others[apart])
                around.append(_summary(compared))
                usual[compared["feature"].to_numpy()] += np.abs(compared["auc"].to_numpy() - 0.5)
            progress.advance(1)
    usual = usual / len(around) + 0.5 if around else np.full(embeddings.dim, np.nan)
    return SeparatingFeatures(
        table=table.append_column("random", pa.array(usual[table["feature"].to_numpy()])),
        best=best,
        significant=significant,
        random_best=np.array([value for value, _ in around], dtype=np.float64),
        random_significant=np.array([count for _, count in around], dtype=np.int64),
        background=rows,
        seed=seed,
        matches=matches,
    )


def most_exciting(embeddings: Embeddings, features: np.ndarray, objects: int = 8) -> Exciting:
    """The objects of the whole set with most of each feature, in one blocked pass.

    Equivalent to::

        np.argsort(-vectors[:, features], axis=0, kind="stable")[:objects].T

    Parameters
    ----------
    embeddings : Embeddings
    features : ndarray, shape (F,), int
    objects : int
        How many; all, where there are fewer.
    """
    if objects < 1:
        raise UsageError(f"{objects} objects per feature; expected at least 1")
    wanted = np.asarray(features, dtype=np.int64)
    if wanted.size and not (wanted.min() >= 0 and wanted.max() < embeddings.dim):
        raise UsageError(
            f"features {wanted.min()}..{wanted.max()}; expected 0..{embeddings.dim - 1}"
        )
    rows = np.empty((len(wanted), 0), dtype=np.int64)
    values = np.empty((len(wanted), 0), dtype=np.float32)
    for block in embeddings.vectors.blocks():
        here = np.asarray(block.values[:, wanted]).T
        numbers = np.broadcast_to(np.arange(here.shape[1]) + block.start, here.shape)
        values, rows = np.hstack([values, here]), np.hstack([rows, numbers])
        order = np.argsort(-values, axis=1, kind="stable")[:, :objects]
        values = np.take_along_axis(values, order, axis=1)
        rows = np.take_along_axis(rows, order, axis=1)
    return Exciting(features=wanted, rows=rows, values=values)


def auc_interval(
    auc: np.ndarray, ones: int, others: int, level: float = _LEVEL
) -> tuple[np.ndarray, np.ndarray]:
    """Ends of the interval of an area under the ROC curve (Newcombe 2006, method 5).

    Those values ``t`` for which ``(auc - t)^2 = z^2 V(t)``, where ``V(t) = t (1 - t) (1 + (n - 1)
    ((1 - t) / (2 - t) + t / (1 + t))) / (ones others)`` and ``n = (ones + others) / 2``. It has a
    width where the groups do not overlap, too.
    """
    z = float(norm.ppf(0.5 + level / 2))
    measured = np.asarray(auc, dtype=np.float64)

    def beyond(t: np.ndarray) -> np.ndarray:
        n = (ones + others) / 2
        spread = t * (1 - t) * (1 + (n - 1) * ((1 - t) / (2 - t) + t / (1 + t)))
        found: np.ndarray = (measured - t) ** 2 - z**2 * spread / (ones * others)
        return found

    ends = []
    for end in (0.0, 1.0):
        outside, inside = np.full_like(measured, end), measured.copy()
        for _ in range(60):
            middle = (outside + inside) / 2
            far = beyond(middle) > 0
            outside, inside = np.where(far, middle, outside), np.where(far, inside, middle)
        ends.append(inside)
    return ends[0], ends[1]


def _beside(matches: Matches) -> np.ndarray:
    """Rows that the search could have listed, without the list and its references."""
    embeddings, where = matches.embeddings, matches.settings["where"]
    keep = np.ones(len(embeddings), dtype=bool)
    if where is not None:
        keep = matching_rows(embeddings.catalog, where)
    keep[matches.rows] = False
    keep &= ~same_object(embeddings, matches.references, matches.settings["same_arcsec"])
    return np.flatnonzero(keep)


def _compare(ours: np.ndarray, others: np.ndarray) -> pa.Table:
    """Every feature of two groups of vectors, the best separating first."""
    one, other = ours.astype(np.float64), others.astype(np.float64)
    n, m = len(one), len(other)
    constant = np.ptp(one, axis=0) + np.ptp(other, axis=0) + np.abs(one[0] - other[0]) == 0
    # A feature with a single value would be a division by no variance.
    varied = np.flatnonzero(~constant)
    auc, p = np.full(one.shape[1], 0.5), np.ones(one.shape[1])
    if len(varied):
        test = mannwhitneyu(one[:, varied], other[:, varied], axis=0, method="asymptotic")
        auc[varied], p[varied] = test.statistic / (n * m), test.pvalue
    lower, upper = auc_interval(auc, n, m)
    scale = other.std(axis=0)
    difference = np.zeros_like(auc)
    np.divide(one.mean(axis=0) - other.mean(axis=0), scale, out=difference, where=scale > 0)
    order = np.argsort(-np.abs(auc - 0.5), kind="stable")
    return pa.table(
        {
            "feature": order,
            "auc": auc[order],
            "lower": lower[order],
            "upper": upper[order],
            "difference": difference[order],
            "p": p[order],
            "q": false_discovery_control(p)[order],
        }
    )


def _summary(table: pa.Table) -> tuple[float, int]:
    best = float(np.abs(table["auc"].to_numpy() - 0.5).max()) + 0.5
    return best, int((table["q"].to_numpy() <= _SIGNIFICANT).sum())
