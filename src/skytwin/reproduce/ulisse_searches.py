"""Many searches of one study: prototypes drawn once, every way given the same ones."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from skytwin.answers.intervals import Proportion
from skytwin.answers.purity import PurityCurve, purity
from skytwin.embeddings.table import Embeddings
from skytwin.errors import DataError
from skytwin.images.cutouts import Cutouts
from skytwin.images.groups import first_rows, sky_groups
from skytwin.images.where import positive_rows
from skytwin.progress import Progress
from skytwin.reproduce.ulisse_inputs import Kind, Network, Survey
from skytwin.reproduce.ulisse_second import Frames

__all__ = [
    "FEWEST",
    "LEVEL",
    "Given",
    "Ranked",
    "Searches",
    "Spread",
    "Way",
    "drawn",
    "half_of",
    "labels",
    "pool_of",
    "spread",
    "top_of",
]

LEVEL = 0.95
_RESAMPLES = 2000
_FEWEST = 8
#: Of a class, so that half the set still holds enough for five references.
FEWEST = 24


@dataclass(frozen=True, eq=False, kw_only=True)
class Way:
    """How a set is searched.

    Attributes
    ----------
    name : str
        In tables.
    title : str
        In legends and text.
    embeddings : Embeddings
    metric, combine : str
    references : int
        How many a search starts from.
    """

    name: str
    title: str
    embeddings: Embeddings
    metric: str
    combine: str
    references: int


@dataclass(frozen=True, kw_only=True)
class Spread:
    """A mean over prototypes, its interval, and the range.

    ``lower`` and ``upper`` are percentiles of means of prototypes drawn again with replacement:
    they say how much the mean hangs on which objects were taken for prototypes, not how it would be
    on another survey.
    """

    value: float
    lower: float
    upper: float
    least: float
    most: float
    count: int

    def named(self, name: str) -> dict[str, Any]:
        """As columns of a table."""
        return {
            name: self.value,
            f"{name}_lower": self.lower,
            f"{name}_upper": self.upper,
            f"{name}_least": self.least,
            f"{name}_most": self.most,
        }


def spread(values: np.ndarray | list[float], seed: int) -> Spread:
    """The mean of values, one per prototype, with its bootstrap interval (Efron 1979)."""
    x = np.asarray(values, dtype=float)
    if not len(x):
        nan = float("nan")
        return Spread(value=nan, lower=nan, upper=nan, least=nan, most=nan, count=0)
    rng = np.random.default_rng([seed, len(x)])
    means = x[rng.integers(len(x), size=(_RESAMPLES, len(x)))].mean(axis=1)
    tail = (1 - LEVEL) / 2
    lower, upper = np.quantile(means, [tail, 1 - tail])
    return Spread(
        value=float(x.mean()),
        lower=float(lower),
        upper=float(upper),
        least=float(x.min()),
        most=float(x.max()),
        count=len(x),
    )


@dataclass(frozen=True, eq=False, kw_only=True)
class Ranked:
    """One search, as far as it is counted.

    Attributes
    ----------
    ids : tuple of str
        The references.
    distance, count, positives : ndarray, shape (M,)
        As in `PurityCurve`.
    rows : ndarray, shape (K,), int32
        Every object but the references, the nearest first.
    base : Proportion
    """

    ids: tuple[str, ...]
    distance: np.ndarray
    count: np.ndarray
    positives: np.ndarray
    rows: np.ndarray
    base: Proportion

    @classmethod
    def of(cls, curve: PurityCurve) -> Ranked:
        """What is kept of a curve."""
        return cls(
            ids=tuple(str(r.id) for r in curve.references),
            distance=curve.distance,
            count=curve.count.astype(np.int32),
            positives=curve.positives.astype(np.int32),
            rows=curve.ranked.rows.astype(np.int32),
            base=curve.base,
        )

    def within(self, count: int) -> Proportion:
        """Positives among at least so many of the nearest, all where there are fewer."""
        at = min(int(np.searchsorted(self.count, count)), len(self.count) - 1)
        return Proportion.of(int(self.positives[at]), int(self.count[at]), LEVEL)

    def radius(self, count: int) -> float:
        """The distance that takes in so many."""
        return float(self.distance[min(int(np.searchsorted(self.count, count)), len(self) - 1)])

    def purity_at(self, counts: np.ndarray) -> np.ndarray:
        """Purity of the nearest so many, for several numbers."""
        at = np.minimum(np.searchsorted(self.count, counts), len(self) - 1)
        return np.asarray(self.positives[at] / self.count[at])

    def __len__(self) -> int:
        return len(self.count)


def drawn(
    embeddings: Embeddings, kind: Kind, draws: int, references: int, seed: int
) -> list[list[str]]:
    """Ids of the references of every draw; the first of a draw is its prototype.

    Prototypes are different objects, in an order that hangs on the seed alone; a draw with more
    references adds others to the same prototype.

    Raises
    ------
    DataError
        The class has too few objects.
    """
    pool = pool_of(embeddings, kind, max(_FEWEST, references + 3))
    prototypes = np.random.default_rng([seed]).permutation(pool)[:draws]
    found = []
    for draw, prototype in enumerate(prototypes):
        others = pool[pool != prototype]
        more = np.random.default_rng([seed, draw]).permutation(others)[: references - 1]
        found.append([str(name) for name in embeddings.ids[[prototype, *more]]])
    return found


def pool_of(objects: Embeddings | Cutouts, kind: Kind, least: int) -> np.ndarray:
    """Rows of a class, entries of one object on the sky once, ascending.

    Raises
    ------
    DataError
        They are fewer than ``least``.
    """
    hits, known = positive_rows(objects.catalog, (kind.condition,))
    groups = sky_groups(objects.positions, 2.0, len(objects))
    once = np.zeros(len(objects), dtype=bool)
    once[first_rows(groups)] = True
    pool = np.flatnonzero(hits & known & once)
    if len(pool) < least:
        raise DataError(
            f"{len(pool)} objects fulfil {kind.condition!r}; expected at least {least}: choose "
            "another --label"
        )
    return pool


@dataclass(eq=False)
class Searches:
    """Runs searches once each within a process.

    Attributes
    ----------
    draws, seed : int
    quiet : bool
    """

    draws: int
    seed: int
    quiet: bool = False
    _kept: dict[tuple[str, str], list[Ranked]] = field(default_factory=dict)

    def curve(self, way: Way, kind: Kind, draw: int) -> PurityCurve:
        """One search in full."""
        references = drawn(way.embeddings, kind, self.draws, way.references, self.seed)
        return self.curve_of(way, kind, references[draw])

    def ranked(self, way: Way, kind: Kind) -> list[Ranked]:
        """Every draw's search."""
        key = (way.name, kind.name)
        if key not in self._kept:
            draws = drawn(way.embeddings, kind, self.draws, way.references, self.seed)
            found = []
            with Progress(
                f"search {kind.name}, {way.name}", len(draws), unit="searches", quiet=self.quiet
            ) as bar:
                for ids in draws:
                    found.append(Ranked.of(self.curve_of(way, kind, ids)))
                    bar.advance(1)
            self._kept[key] = found
        return self._kept[key]

    def curve_of(self, way: Way, kind: Kind, ids: list[str]) -> PurityCurve:
        """One search from references given by id."""
        return purity(
            way.embeddings,
            ids,
            kind.condition,
            metric=way.metric,
            combine=way.combine,
            level=LEVEL,
            seed=self.seed,
        )


def labels(embeddings: Embeddings, column: str) -> np.ndarray:
    """A column as text, shape (N,), dtype object; None where it is empty."""
    values = embeddings.column(column).cast(pa.string())
    return np.asarray(values.to_numpy(zero_copy_only=False), dtype=object)


@dataclass(frozen=True, eq=False, kw_only=True)
class Given:
    """All that the sections of a ULISSE study work on.

    Attributes
    ----------
    survey : Survey
    network : Network
    recipe : Way
        The paper's: whole frame, Euclidean, one reference.
    default : Way
        This package's: two central crops, averaged over turns and mirror images, standardised,
        five references.
    pixels : Way or None
        The paper's way on principal components of the pixels, as a floor.
    alone : Way or None
        The paper's way on one band.
    other : Embeddings or None
        Another survey, encoded as the recipe's was; ``other_title`` says what it is.
    frames : Frames or None
    searches : Searches
    """

    survey: Survey
    network: Network
    recipe: Way
    default: Way
    pixels: Way | None
    alone: Way | None
    other: Embeddings | None
    other_title: str
    frames: Frames | None
    searches: Searches

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The classes looked for."""
        return self.survey.kinds

    @property
    def top(self) -> int:
        """How many of the nearest stand for a list: 100, or a tenth of a small set."""
        return top_of(len(self.recipe.embeddings))


def top_of(size: int) -> int:
    """100, or a tenth of a set of less than 1000."""
    return min(100, max(5, size // 10))


def half_of(embeddings: Embeddings, rows: np.ndarray) -> Embeddings:
    """Some rows as a set of their own: means and scales are theirs alone."""
    return Embeddings.from_arrays(
        embeddings.vectors.take(rows), embeddings.ids[rows], embeddings.catalog.take(pa.array(rows))
    )
