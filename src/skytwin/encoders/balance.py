"""Training sets in which no kind of object is seen much more often than another.

What a survey holds most of rules what a network learns: Andrianomena & Tang 2023 (arXiv 2311.08331,
section 6) blame the many compact sources of theirs for samples that come out too small, and propose
a training set balanced in angular size. Here rare objects are drawn several times in an epoch, and
common ones not in every epoch; none is thrown away.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa

from skytwin.encoders.recipe_settings import BalanceSettings
from skytwin.errors import UsageError, unknown
from skytwin.images.columns import numbers

__all__ = ["Balance", "balanced", "draw", "known_rows"]

_EDGES = (0.01, 0.99)  # quantiles that ranges lie between; what is beyond is of the outermost


@dataclass(frozen=True, eq=False, kw_only=True)
class Balance:
    """How often each training image is drawn.

    Attributes
    ----------
    column : str
    groups : tuple of str
        Classes, or ranges of a number.
    images : tuple of int
        Training images of each group.
    share : tuple of float
        Of what is drawn, expected.
    rate : ndarray, shape (N,)
        Draws of each training image in an epoch, expected; the mean is 1.
    """

    column: str
    groups: tuple[str, ...]
    images: tuple[int, ...]
    share: tuple[float, ...]
    rate: np.ndarray


def known_rows(catalog: pa.Table, column: str) -> np.ndarray:
    """Which rows have a value, shape (N,).

    Raises
    ------
    UnknownName
        No such column.
    """
    if column not in catalog.column_names:
        raise unknown("column", column, catalog.column_names)
    known = np.asarray(catalog[column].is_valid())
    if pa.types.is_floating(catalog.schema.field(column).type):
        known &= np.isfinite(numbers(catalog, column))
    return known


def balanced(catalog: pa.Table, settings: BalanceSettings, train: np.ndarray) -> Balance:
    """Rates by the inverse of how common an image's group is.

    Parameters
    ----------
    catalog : pyarrow.Table
    settings : BalanceSettings
    train : ndarray of int
        Training rows; each has a value.

    Raises
    ------
    UsageError
        All training images are of one group.
    """
    column = settings.column
    assert column is not None
    kind = catalog.schema.field(column).type
    if pa.types.is_floating(kind) or pa.types.is_integer(kind):
        names, group = _ranges(numbers(catalog, column)[train], settings.bins)
    else:
        classes, group = np.unique(
            np.array([str(v) for v in catalog[column].take(pa.array(train)).to_pylist()]),
            return_inverse=True,
        )
        names = [str(name) for name in classes]
    counts = np.bincount(group, minlength=len(names))
    there = counts > 0
    if there.sum() < 2:
        raise UsageError(
            f"balance.column {column}: all {len(train)} training images are of one kind; leave it "
            "out"
        )
    # A group so small that each image would be drawn more than `most` times gets less.
    rate = np.minimum(counts.sum() / there.sum() / np.maximum(counts, 1), settings.most)
    rate *= counts.sum() / (rate * counts).sum()
    share = rate * counts / counts.sum()
    return Balance(
        column=column,
        groups=tuple(name for name, any_ in zip(names, there, strict=True) if any_),
        images=tuple(int(n) for n in counts[there]),
        share=tuple(float(v) for v in share[there]),
        rate=rate[group],
    )


def draw(rate: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """As many rows as there are, each as often as its rate to within one, in random order.

    Systematic sampling (Madow 1949): evenly spaced points on the sum of the rates.
    """
    order = rng.permutation(len(rate))
    ends = np.cumsum(rate[order])
    points = (np.arange(len(rate)) + rng.uniform()) * (ends[-1] / len(rate))
    drawn = order[np.minimum(np.searchsorted(ends, points, side="right"), len(rate) - 1)]
    return np.asarray(rng.permutation(drawn))


def _ranges(values: np.ndarray, bins: int) -> tuple[list[str], np.ndarray]:
    """Ranges of one width, or of one ratio for positive numbers over more than a decade."""
    low, high = np.quantile(values, _EDGES)
    if values.min() > 0 and high > 10 * low:
        edges = np.geomspace(low, high, bins + 1)
    else:
        edges = np.linspace(low, high, bins + 1)
    names = [f"{a:.4g} to {b:.4g}" for a, b in pairwise(edges)]
    return names, np.clip(np.searchsorted(edges, values, side="right") - 1, 0, bins - 1)
