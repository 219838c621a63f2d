"""Are these objects nearer than chance? Tail probabilities and q-values of a list of matches.

No survey is free of objects like the references, so there is no sample in which every match is
false. What can be tested is whether an object is nearer to these references than to as many
objects at a random place of the same survey, the null queries of `significance_null`:

- ``tail_probability``, object by object: the share of groups of random objects that are at least
  as near to the very same object. An object that is near to everything, a hub, gets a large one.
  It is the one-sided form of mutual proximity (Schnitzer, Flexer, Schedl & Widmer 2012, JMLR 13,
  2871), with the correction of Phipson & Smyth (2010, eq. 2), and so an exact p-value.
- ``expected``: how many objects lie so near to a null query, on average. It is the E-value of
  sequence searches (Karlin & Altschul 1990) and the number of false alarms of a contrario
  matching (Rabin, Delon & Gousseau 2008). Once for groups of objects as alike among themselves
  as the references are, once for groups of random objects (``expected_random``).
- ``q_value``: ``expected`` over the rank, and the smallest such at this rank or a deeper one of
  the list: the plug-in false discovery rate of Tusher, Tibshirani & Chu (2001) and Storey &
  Tibshirani (2003), with pi0 = 1.

None is a probability of belonging to a class; see ``docs/explanation/distances.md``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from skytwin.answers.ranking import LEARNED, How, eligible
from skytwin.answers.search import Matches
from skytwin.answers.significance_null import (
    Null,
    NullDistances,
    check_null,
    draw_queries,
    null_distances,
)
from skytwin.errors import DataError, UsageError
from skytwin.images import arrow

__all__ = ["Significance", "significance"]

_FEWEST_QUERIES, _FEWEST_ROWS = 19, 100
_DOUBTFUL = 0.5


@dataclass(frozen=True, eq=False, kw_only=True)
class Significance:
    """How far a list of matches is from chance.

    Attributes
    ----------
    distance : ndarray, shape (k,), float64
        Of the matches, in their order.
    tail_probability : ndarray, shape (k,), float64
        Share of groups of random objects at least as near to the object; never below
        ``1 / (M + 1)``. NaN for a reference itself.
    expected : ndarray, shape (k,), float64
        Objects so near to a group of objects as alike as the references, on average.
    expected_random : ndarray, shape (k,), float64
        Objects so near to a group of random objects, on average.
    q_value : ndarray, shape (k,), float64
        Of the list down to this match; at most 1. NaN for a reference itself.
    at_limit : ndarray of bool, shape (k,)
        No null query was as near to the object: its tail probability is below what is given.
    q_at_limit : ndarray of bool, shape (k,)
        Likewise of the q-value.
    null, null_random : ndarray, shape (n,), float64
        Distances of random objects to groups as alike as the references, and to groups of random
        objects, ascending: the null distributions. The same for one reference.
    searched : int
        Objects that could have been matches.
    references : int
        Positive ones, and objects in each null query.
    learned : bool
        The combination was learned, and anew for every null query.
    null_queries, sample, seed : int
        As asked.
    """

    distance: np.ndarray
    tail_probability: np.ndarray
    expected: np.ndarray
    expected_random: np.ndarray
    q_value: np.ndarray
    at_limit: np.ndarray
    q_at_limit: np.ndarray
    null: np.ndarray
    null_random: np.ndarray
    searched: int
    references: int
    learned: bool
    null_queries: int
    sample: int
    seed: int

    def __len__(self) -> int:
        return len(self.distance)

    def __repr__(self) -> str:
        return f"Significance({self.summary})"

    @property
    def tail_text(self) -> list[str]:
        """Tail probabilities to print, ``"< 0.01"`` where they are at their limit."""
        return [_text(p, low) for p, low in zip(self.tail_probability, self.at_limit, strict=True)]

    @property
    def q_text(self) -> list[str]:
        """q-values to print."""
        return [_text(q, low) for q, low in zip(self.q_value, self.q_at_limit, strict=True)]

    @property
    def table(self) -> pa.Table:
        """One row per match, in their order."""
        columns = {
            "tail_probability": (
                self.tail_probability,
                "share of groups of random objects that are at least as near to this object",
            ),
            "expected": (self.expected, "objects so near to a group as alike, on average"),
            "q_value": (
                self.q_value,
                "expected share of the list down to here that chance would have brought",
            ),
        }
        fields = [
            arrow.field(name, pa.float64(), description=text) for name, (_, text) in columns.items()
        ]
        return pa.Table.from_arrays(
            [pa.array(values) for values, _ in columns.values()], schema=pa.schema(fields)
        )

    def accepted(self, q: float) -> int:
        """How many of the first matches have a q-value of at most ``q``."""
        if not 0 < q <= 1:
            raise UsageError(f"q-value {q}; expected above 0 and at most 1")
        # q-values never fall with rank.
        known = self.q_value[np.isfinite(self.q_value)]
        return int((known <= q).sum())

    @property
    def _last(self) -> int | None:
        known = np.flatnonzero(np.isfinite(self.q_value))
        return int(known[-1]) if len(known) else None

    @property
    def summary(self) -> str:
        """The answer in one line."""
        last = self._last
        if last is None:
            return "no match beside the references"
        count = int(np.isfinite(self.q_value).sum())
        random = self._expected_text(self.expected_random[last], self.null_random)
        lead = f"{count} objects within {self.distance[last]:.4g}; so near to "
        end = f"q {_equals(self.q_text[last])} ({self.null_queries} null queries)"
        if self.references == 1:
            return f"{lead}a random object are {random} on average: {end}"
        return (
            f"{lead}{self.references} random objects are {random} on average, to "
            f"{self.references} as alike as the references "
            f"{self._expected_text(self.expected[last], self.null)}: {end}"
        )

    @property
    def warning(self) -> str | None:
        """What to beware of, in one line; None where there is nothing."""
        last = self._last
        # One object is as alike to itself as any, and what is learned sets any references apart:
        # of these it would nearly always be said.
        if last is None or self.references == 1 or self.learned:
            return None
        rank = np.cumsum(np.isfinite(self.q_value))
        share = self.expected_random / np.maximum(rank, 1)
        if share[last] <= _DOUBTFUL:
            return None
        return (
            f"random references have {share[last]:.0%} as many objects as near as this list has: "
            "the references share too little; the distances alone do not set it apart"
        )

    def _expected_text(self, value: float, null: np.ndarray) -> str:
        return _text(value, value <= self.searched / (len(null) + 1))


def significance(
    matches: Matches,
    *,
    null: str = "alike",
    null_queries: int | None = None,
    sample: int = 2000,
    seed: int = 0,
    quiet: bool = False,
) -> Significance:
    """Compare matches with what random references would have found.

    Parameters
    ----------
    matches : Matches
        In order of distance, as `skytwin.search` returns them.
    null : {"alike", "random"}
        The null queries of ``expected`` and ``q_value``: groups of objects as alike among
        themselves as the references are, or of random objects. The second makes no false
        discovery rate where references are more alike than random objects are, and they are:
        see the measurements in ``docs/explanation/distances.md``.
    null_queries : int, optional
        M, at least 19; by default 99, or 39 with a learned combination, which is learned anew
        for each. Each is as many objects as there are positive references, of those that were
        searched; negative references stay.
    sample : int
        Random objects, at least 100, whose distances to the null queries are taken; all, where
        there are fewer. ``M * sample`` sets how small ``expected`` and ``q_value`` can be.
    seed : int
    quiet : bool
        Show no progress.

    Returns
    -------
    Significance

    Raises
    ------
    UsageError
        Too few null queries, or too small a sample, to say anything.
    DataError
        Too few objects were searched to draw a query from.

    Notes
    -----
    For an object chosen beforehand and references drawn at random, the tail probability is
    exactly valid: at most ``a`` with a probability of at most ``a``. The first of a list are
    those with the smallest, so that some are small by selection; that is what ``expected`` and
    the q-value account for. The q-value is that of the average random query: a query in a
    crowded part of the survey has more objects near than that average, whatever they are.
    """
    if null_queries is None:
        null_queries = 39 if matches.settings["combine"] in LEARNED else 99
    if null_queries < _FEWEST_QUERIES:
        raise UsageError(
            f"{null_queries} null queries; expected at least {_FEWEST_QUERIES}: fewer cannot show "
            "a tail probability of 0.05"
        )
    if sample < _FEWEST_ROWS:
        raise UsageError(f"a sample of {sample} objects; expected at least {_FEWEST_ROWS}")
    kind = check_null(null)
    settings = matches.settings
    how = How.of(
        metric=settings["metric"],
        combine=settings["combine"] or "mean",
        seed=settings["seed"] or 0,
        same_arcsec=settings["same_arcsec"],
    )
    keep, _ = eligible(
        matches.embeddings,
        matches.references,
        same_arcsec=how.same_arcsec,
        where=settings["where"],
    )
    pool = np.arange(len(matches.embeddings)) if keep is None else np.flatnonzero(keep)
    size = sum(not reference.negative for reference in matches.references)
    if len(pool) < size + 2:
        raise DataError(
            f"{len(pool)} objects were searched; a query of {size} random ones of them says "
            "nothing of the rest: search more objects, or give fewer references"
        )
    rng = np.random.default_rng(seed)
    background = rng.choice(pool, size=min(sample, len(pool)), replace=False)

    def counted(kind: Null, rows: np.ndarray, distance: np.ndarray) -> NullDistances:
        return null_distances(
            matches.embeddings,
            matches.references,
            how,
            matches.ranker,
            draw_queries(
                matches.embeddings, matches.references, how, kind, pool, null_queries, rng
            ),
            rows=rows,
            distance=distance,
            sample=background,
            quiet=quiet,
        )

    counts = counted("random", matches.rows, matches.distance)
    pooled = counts.pooled
    if kind == "alike" and size > 1:
        pooled = counted("alike", np.empty(0, np.int64), np.empty(0)).pooled
    own = np.zeros(len(matches), dtype=bool)
    if keep is not None:
        own = ~keep[matches.rows]  # a reference itself, with include_self
    tail = (1.0 + counts.nearer) / (1.0 + counts.counted)
    expected = _expected(matches.distance, pooled, len(pool))
    q, q_at_limit = _q_values(matches.distance, expected, ~own, len(pool) / (len(pooled) + 1))
    return Significance(
        distance=matches.distance,
        tail_probability=np.where(own, np.nan, tail),
        expected=expected,
        expected_random=_expected(matches.distance, counts.pooled, len(pool)),
        q_value=q,
        at_limit=(counts.nearer == 0) & ~own,
        q_at_limit=q_at_limit,
        null=pooled,
        null_random=counts.pooled,
        searched=len(pool),
        references=size,
        learned=settings["combine"] in LEARNED,
        null_queries=null_queries,
        sample=len(background),
        seed=seed,
    )


def _expected(distance: np.ndarray, null: np.ndarray, searched: int) -> np.ndarray:
    """Objects at most so far from a null query, of so many searched, shape (k,)."""
    within = np.searchsorted(null, distance, side="right")
    found: np.ndarray = searched * (within + 1) / (len(null) + 1)
    return found


def _q_values(
    distance: np.ndarray, expected: np.ndarray, counted: np.ndarray, limit: float
) -> tuple[np.ndarray, np.ndarray]:
    """q-values, and whether they are at their limit, each shape (k,).

    Parameters
    ----------
    distance : ndarray, shape (k,)
        Ascending.
    expected : ndarray, shape (k,)
    counted : ndarray of bool, shape (k,)
        False for references, which are in no number.
    limit : float
        The least that ``expected`` can be.
    """
    q, low = np.full(len(distance), np.nan), np.zeros(len(distance), dtype=bool)
    if not counted.any():
        return q, low
    own = distance[counted]
    # Objects at one distance come in together.
    rate = expected[counted] / np.searchsorted(own, own, side="right")
    # At each rank, the best of all cuts as deep or deeper.
    best = len(own) - 1 - _running_argmin(rate[::-1])[::-1]
    q[counted] = np.minimum(rate[best], 1.0)
    low[counted] = expected[counted][best] <= limit
    return q, low


def _running_argmin(values: np.ndarray) -> np.ndarray:
    lowest = np.minimum.accumulate(values)
    new = np.concatenate([[True], lowest[1:] < lowest[:-1]])
    return np.maximum.accumulate(np.where(new, np.arange(len(values)), 0))


def _text(value: float, at_limit: bool) -> str:
    return f"{'< ' if at_limit else ''}{value:{'.2g' if value < 100 else '.0f'}}"


def _equals(text: str) -> str:
    return text if text.startswith("<") else f"= {text}"
