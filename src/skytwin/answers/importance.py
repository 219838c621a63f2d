"""Which numbers of a vector foretell a property of the object.

A random forest predicts the property from the vectors, grown by one tree per further batch of
1000 rows (Andrianomena & Tang 2023, arXiv 2311.08331). Its impurity importances are
biased towards features on which noise can be fitted (Strobl et al. 2007), so permutation
importances on held-out objects (Breiman 2001) stand beside them, and R2 on the same objects says
whether the forest predicts anything at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from scipy.stats import rankdata

from skytwin.answers.importance_forest import grow, permuted, r2, r2_interval
from skytwin.answers.resume import Steps
from skytwin.embeddings.table import Embeddings
from skytwin.embeddings.vectors import Vectors
from skytwin.errors import DataError, UsageError
from skytwin.images.columns import numbers
from skytwin.images.folds import grouped_split
from skytwin.images.groups import sky_groups
from skytwin.images.where import matching_rows

__all__ = ["Importance", "importance"]

_FEWEST = 40
_MOST_TESTED = 5000


@dataclass(frozen=True, eq=False, kw_only=True)
class Importance:
    """Which components of the vectors foretell a column.

    Attributes
    ----------
    target : str
    table : pyarrow.Table
        One row per component, the most important on held-out objects first: ``component``,
        ``permutation`` (R2 lost where its values are shuffled; mean over the repeats) with
        ``permutation_sd``, ``impurity`` (adds up to 1), ``mean`` and ``sd`` of its values.
    r2, lower, upper : float
        Explained share of the target's variance on held-out objects, and its interval
        (bootstrap of the groups).
    level : float
    trained, tested : int
        Objects.
    left_out : int
        Objects without a value.
    trees, batch, repeats, seed : int
    group_arcsec : float
    test_share : float
    where : str or None
    embeddings : Embeddings

    Notes
    -----
    Components that say the same share their importance, or one of them hides the other: a low
    permutation importance does not mean that a component holds nothing.
    """

    target: str
    table: pa.Table
    r2: float
    lower: float
    upper: float
    level: float
    trained: int
    tested: int
    left_out: int
    trees: int
    batch: int
    repeats: int
    seed: int
    group_arcsec: float
    test_share: float
    where: str | None
    embeddings: Embeddings

    @property
    def predicts(self) -> bool:
        """Whether the forest is better than the mean of the target, as far as can be told."""
        return self.lower > 0

    @property
    def noise(self) -> float:
        """The most R2 that any component gains when shuffled.

        A gain is chance, so losses up to that may be too (Janitza et al. 2018 take the gains,
        mirrored, for the distribution of what says nothing).
        """
        return max(0.0, -float(self.table["permutation"].to_numpy().min()))

    @property
    def agreement(self) -> float:
        """Spearman correlation of the two importances."""
        return _spearman(self.table["permutation"].to_numpy(), self.table["impurity"].to_numpy())

    @property
    def with_mean(self) -> float:
        """Spearman correlation of impurity importance with the size of the mean value."""
        return _spearman(np.abs(self.table["mean"].to_numpy()), self.table["impurity"].to_numpy())

    def describe(self) -> dict[str, str]:
        """Where the numbers come from, for a table's header."""
        return {
            "skytwin": "importance",
            "embedding": self.embeddings.as_parent().fingerprint,
            "encoder": self.embeddings.encoder_name,
            "target": self.target,
            "r2": f"{self.r2:.4f} [{self.lower:.4f}, {self.upper:.4f}]",
            "seed": str(self.seed),
        }

    @property
    def summary(self) -> str:
        """Plain text: R2 first, then the components that matter most."""
        interval = f"R2 {self.r2:.3f} [{self.lower:.3f}, {self.upper:.3f}]"
        lines = [
            f"{self.target}: {interval} on {self.tested} held-out objects; forest of {self.trees} "
            f"trees, trained on {self.trained}"
        ]
        if not self.predicts:
            lines[0] = (
                f"{self.target} is not predicted: {interval} on {self.tested} held-out objects is "
                "not above 0; the importances below mean nothing"
            )
        if self.left_out:
            lines.append(f"  {self.left_out} objects without a value left out")
        used = int((self.table["permutation"].to_numpy() > self.noise).sum())
        lines += [
            f"  {used} of {len(self.table)} components lose more R2 when shuffled than any other "
            f"gains ({self.noise:.4f})",
            f"  {'component':>11}{'permutation':>20}{'impurity':>11}{'mean value':>13}",
        ]
        lines += [
            f"  {row['component']:>11}{row['permutation']:>12.4f} ±{row['permutation_sd']:.4f}"
            f"{row['impurity']:>11.4f}{row['mean']:>13.4g}"
            for row in self.table.slice(0, 10).to_pylist()
        ]
        lines.append(
            f"  rank correlation of impurity: with permutation {self.agreement:.2f}, with the "
            f"size of the mean value {self.with_mean:.2f}"
        )
        return "\n".join(lines)

    def to_pandas(self) -> Any:
        """The table as a pandas DataFrame."""
        return self.table.to_pandas()

    def __repr__(self) -> str:
        return (
            f"Importance({self.target}, R2 {self.r2:.3f} [{self.lower:.3f}, {self.upper:.3f}], "
            f"{len(self.table)} components)"
        )


def importance(
    embeddings: Embeddings,
    target: str,
    *,
    trees: int = 100,
    batch: int = 1000,
    test_share: float = 0.25,
    group_arcsec: float = 2.0,
    repeats: int = 5,
    where: str | None = None,
    seed: int = 0,
    level: float = 0.95,
    steps: Steps | None = None,
    quiet: bool = True,
) -> Importance:
    """Rank the components of the vectors by what they say of a numeric column.

    Parameters
    ----------
    embeddings : Embeddings
    target : str
        Numeric catalogue column, such as the angular size.
    trees : int
        At least so many, one per batch; the rows are gone through as often as that takes, once
        where they make so many batches.
    batch : int
        Rows that a tree is grown on.
    test_share : float
        Share of the objects held out.
    group_arcsec : float
        Entries nearer than this, or linked so, are one object and stay on one side.
    repeats : int
        Shuffles of each component.
    where : str, optional
        SQL condition on the catalogue.
    seed : int
    level : float
        Coverage of the interval of R2.
    steps : Steps, optional
        Where what is done is kept, so that a killed run goes on.
    quiet : bool

    Raises
    ------
    UnknownName
        No such column.
    DataError
        The column holds no numbers, hardly any, or one value only.
    """
    for name, value, least in (("trees", trees, 1), ("batch", batch, 20), ("repeats", repeats, 1)):
        if value < least:
            raise UsageError(f"{name} {value}; expected at least {least}")
    if not 0 <= seed < 2**32:
        raise UsageError(f"seed {seed}; expected 0 to {2**32 - 1}")
    if not 0 < level < 1:
        raise UsageError(f"interval level {level}; expected a number between 0 and 1")
    rows, y, left_out = _known(embeddings, target, where)
    positions = embeddings.positions
    groups = sky_groups(positions[rows] if positions is not None else None, group_arcsec, len(rows))
    held = grouped_split(groups, test_share, seed)
    train, test = np.flatnonzero(~held), np.flatnonzero(held)
    for side, what in ((train, "training"), (test, "held-out")):
        if np.ptp(y[side]) == 0:
            raise DataError(f"column {target!r} has one value on the {what} side; choose another")
    rng = np.random.default_rng([seed, 1])
    if len(test) > _MOST_TESTED:
        test = np.sort(rng.choice(test, _MOST_TESTED, replace=False))
    forest = grow(embeddings.vectors, rows[train], y[train], trees, batch, seed, quiet)
    x_test = embeddings.vectors.take(rows[test])
    each = np.stack([tree.tree_.predict(x_test)[:, 0] for tree in forest.estimators_])
    predicted = each.mean(axis=0)
    lower, upper = r2_interval(y[test], predicted, groups[test], level, rng)
    lost = permuted(forest, x_test, y[test], each, repeats, seed, steps, quiet)
    mean, deviation = _values(embeddings.vectors, rows)
    impurity = forest.feature_importances_
    order = np.lexsort((-impurity, -lost.mean(axis=1)))
    return Importance(
        target=target,
        table=pa.table(
            {
                "component": order,
                "permutation": lost.mean(axis=1)[order],
                "permutation_sd": lost.std(axis=1)[order],
                "impurity": impurity[order],
                "mean": mean[order],
                "sd": deviation[order],
            }
        ),
        r2=r2(y[test], predicted),
        lower=lower,
        upper=upper,
        level=level,
        trained=len(train),
        tested=len(test),
        left_out=left_out,
        trees=len(forest.estimators_),
        batch=batch,
        repeats=repeats,
        seed=seed,
        group_arcsec=group_arcsec,
        test_share=test_share,
        where=where,
        embeddings=embeddings,
    )


def _known(
    embeddings: Embeddings, target: str, where: str | None
) -> tuple[np.ndarray, np.ndarray, int]:
    """Rows with a value, their values, and how many have none."""
    embeddings.column(target)
    y = numbers(embeddings.catalog, target)
    asked = np.ones(len(y), dtype=bool)
    if where is not None:
        asked = matching_rows(embeddings.catalog, where)
    rows = np.flatnonzero(asked & np.isfinite(y))
    if len(rows) < _FEWEST:
        raise DataError(
            f"{len(rows)} object(s) have a value of {target!r}; expected at least {_FEWEST}"
        )
    if np.ptp(y[rows]) == 0:
        raise DataError(
            f"column {target!r} is {y[rows[0]]:g} for every object; choose one that varies"
        )
    return rows, y[rows], int(asked.sum()) - len(rows)


def _values(vectors: Vectors, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation of every component over some rows."""
    shift = vectors.take(rows[:1])[0].astype(np.float64)
    total, square = np.zeros(len(shift)), np.zeros(len(shift))
    for start in range(0, len(rows), 4096):
        x = vectors.take(rows[start : start + 4096]) - shift
        total += x.sum(axis=0)
        square += np.square(x).sum(axis=0)
    mean = total / len(rows)
    return shift + mean, np.sqrt(np.maximum(square / len(rows) - mean**2, 0.0))


def _spearman(one: np.ndarray, other: np.ndarray) -> float:
    ranks = rankdata(one), rankdata(other)
    if np.ptp(ranks[0]) == 0 or np.ptp(ranks[1]) == 0:
        return 0.0
    return float(np.corrcoef(*ranks)[0, 1])
