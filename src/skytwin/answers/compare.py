"""Which way of combining references finds most: leave-references-out on labelled data.

References are drawn at random from the positives, the rest of the positives are what has to be
found, and the purity of the nearest is averaged over the draws. Every way is given the very same
draws, so that differences between ways are judged within draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from scipy.stats import t as student

from skytwin.answers.intervals import Proportion
from skytwin.answers.query import Reference, reference_at
from skytwin.answers.ranking import How, eligible, make_ranker
from skytwin.answers.resume import Arrays, Job, Steps
from skytwin.embeddings.neighbours import nearest
from skytwin.embeddings.table import Embeddings
from skytwin.errors import DataError, UsageError
from skytwin.images.groups import first_rows, sky_groups
from skytwin.images.where import positive_rows

__all__ = ["WAYS", "Comparison", "compare"]

# (metric, combination), the recipe of Doorenbos et al. 2022 first.
WAYS: tuple[tuple[str, str], ...] = (
    ("euclidean", "mean"),
    ("cosine", "mean"),
    ("standardized", "mean"),
    ("standardized", "min"),
    ("standardized", "fusion"),
    ("whitened", "mean"),
    ("csls", "mean"),
    ("standardized", "logistic"),
    ("standardized", "lda"),
    ("standardized", "auto"),
)


@dataclass(frozen=True, eq=False, kw_only=True)
class Comparison:
    """Purity of the nearest by way, number of references and number of negatives.

    Attributes
    ----------
    table : pyarrow.Table
        One row each, the purest first within a number of references and negatives: ``metric``,
        ``combine``, ``references``, ``negatives``, ``purity`` with ``lower`` and ``upper``
        (Student's t over the draws), ``lift``, ``behind`` (how far it is behind the best, mean
        over the draws), ``behind_lower``, ``behind_upper``.
    each : ndarray, shape (rows, draws), float64
        Purity of every draw, rows as in the table.
    base : Proportion
        Positives among the labelled objects.
    top, draws, seed : int
    level : float
        Coverage of the intervals.
    positive : tuple of str
    embeddings : Embeddings

    Notes
    -----
    The interval is over draws of references from these positives: it says how much the answer
    hangs on the references, not how it would be on another survey.
    """

    table: pa.Table
    each: np.ndarray
    base: Proportion
    top: int
    draws: int
    seed: int
    level: float
    positive: tuple[str, ...]
    embeddings: Embeddings

    @property
    def best(self) -> tuple[str, str]:
        """Metric and combination of the purest way at most references and negatives."""
        numbers = zip(
            self.table["references"].to_pylist(), self.table["negatives"].to_pylist(), strict=True
        )
        largest = max(numbers)
        for row in self.table.to_pylist():
            if (row["references"], row["negatives"]) == largest:
                return row["metric"], row["combine"]
        raise AssertionError("the largest of the rows is one of them")

    def describe(self) -> dict[str, str]:
        """Where the comparison comes from, for a table's header."""
        return {
            "skytwin": "comparison",
            "embedding": self.embeddings.as_parent().fingerprint,
            "encoder": self.embeddings.encoder_name,
            "positive": " or ".join(self.positive),
            "base_rate": str(self.base),
            "top": str(self.top),
            "draws": str(self.draws),
            "seed": str(self.seed),
        }

    def to_pandas(self) -> Any:
        """The table as a pandas DataFrame."""
        return self.table.to_pandas()

    @property
    def summary(self) -> str:
        """Plain text: the ways in order, with intervals and base rate."""
        lines = [
            f"purity of the nearest {self.top} for {' or '.join(self.positive)}; mean of "
            f"{self.draws} draws of references, {self.level:.0%} interval over the draws",
            f"  base rate {self.base}",
        ]
        last = None
        for row in self.table.to_pylist():
            numbers = (row["references"], row["negatives"])
            if numbers != last:
                lines.append(f"  {numbers[0]} reference(s), {numbers[1]} negative(s)")
                last = numbers
            tied = "" if row["behind_lower"] > 0 else "  not told apart from the best"
            lines.append(
                f"    {row['metric']:<13}{row['combine']:<9} {row['purity']:.3f} "
                f"[{row['lower']:.3f}, {row['upper']:.3f}]  lift {row['lift']:.2f}"
                + ("  best" if row["behind"] == 0 else tied)
            )
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"Comparison({len(self.table)} ways; best {' '.join(self.best)})"


def compare(
    embeddings: Embeddings,
    positive: str | Sequence[str],
    *,
    ways: Sequence[tuple[str, str]] = WAYS,
    references: Sequence[int] | int = 5,
    negatives: Sequence[int] | int = 0,
    draws: int = 30,
    top: int = 100,
    same_arcsec: float = 2.0,
    seed: int = 0,
    level: float = 0.95,
    steps: Steps | None = None,
    quiet: bool = True,
) -> Comparison:
    """Score ways of searching by leaving the references out.

    Parameters
    ----------
    embeddings : Embeddings
        With labels in its catalogue.
    positive : str or sequence of str
        ``"column=value"`` or an SQL condition; several are joined by or.
    ways : sequence of (metric, combination)
    references, negatives : int or sequence of int
        How many of each; every pair of numbers is tried. With fewer references a draw takes the
        first of those it takes with more. Negatives are what a person would reject: the nearest
        objects that are not positive, found with the same references by the same way.
    draws : int
    top : int
        How many of the nearest labelled objects count.
    same_arcsec : float
        Entries nearer than this, or linked by such, are one object: it is drawn once, counted
        once, and not found where it is a reference.
    seed : int
        Of the draws and of the background.
    level : float
    steps : Steps, optional
        Where what is done is kept, so that a killed run goes on.
    quiet : bool
        Show no progress.

    Raises
    ------
    DataError
        Too few positives or labelled objects.
    """
    conditions = (positive,) if isinstance(positive, str) else tuple(positive)
    checked = [How.of(metric=m, combine=c, seed=seed, same_arcsec=same_arcsec) for m, c in ways]
    if not conditions or not checked:
        raise UsageError("nothing to compare; give at least one positive class and one way")
    counts, against = _numbers("references", references, 1), _numbers("negatives", negatives, 0)
    if draws < 2 or top < 1:
        raise UsageError(f"{draws} draws, top {top}; expected at least 2 draws and a top of 1")
    hits, known = positive_rows(embeddings.catalog, conditions)
    groups = sky_groups(embeddings.positions, same_arcsec, len(embeddings))
    once = np.zeros(len(embeddings), dtype=bool)
    once[first_rows(groups)] = True
    counted = known & once
    pool = np.flatnonzero(hits & counted)
    _require_enough(pool, counted, max(counts), max(against), top, conditions)
    base = Proportion.of(len(pool), int(counted.sum()), level)
    cells = [(how, n, q) for n in counts for q in against for how in checked]

    def searched(draw: int) -> Arrays:
        drawn = np.random.default_rng([seed, draw]).permutation(pool)[: max(counts)]
        found = [_purity(embeddings, how, drawn[:n], q, hits, counted, top) for how, n, q in cells]
        return {"purity": np.array(found)}

    jobs = [
        Job(step=("draw", str(draw)), make=partial(searched, draw), count=len(cells))
        for draw in range(draws)
    ]
    kept = Steps() if steps is None else steps
    made = kept.make("compare", jobs, unit="searches", quiet=quiet)
    each = np.stack([one["purity"] for one in made], axis=1)
    table, order = _tabulate(cells, each, base.value, level)
    return Comparison(
        table=table,
        each=each[order],
        base=base,
        top=top,
        draws=draws,
        seed=seed,
        level=level,
        positive=conditions,
        embeddings=embeddings,
    )


def _numbers(what: str, given: Sequence[int] | int, least: int) -> list[int]:
    numbers = [given] if isinstance(given, int) else sorted(set(given))
    if not numbers or min(numbers) < least:
        raise UsageError(f"{what} {given}; expected numbers of at least {least}")
    return numbers


def _require_enough(
    pool: np.ndarray,
    counted: np.ndarray,
    references: int,
    negatives: int,
    top: int,
    conditions: tuple[str, ...],
) -> None:
    what = " or ".join(conditions)
    if len(pool) <= references:
        raise DataError(
            f"{len(pool)} object(s) fulfil {what}; {references} references need at least "
            f"{references + 1 - len(pool)} more, so that one is left to be found"
        )
    left = int(counted.sum()) - references - negatives
    if left < top:
        raise DataError(
            f"{left} labelled objects beside references and negatives; a top of {top} needs "
            f"{top - left} more"
        )


def _purity(
    embeddings: Embeddings,
    how: How,
    rows: np.ndarray,
    negatives: int,
    hits: np.ndarray,
    counted: np.ndarray,
    top: int,
) -> float:
    query = [reference_at(embeddings, int(row)) for row in rows]
    found = _nearest(embeddings, how, query, counted, top + negatives)
    if negatives:
        wrong = found[~hits[found]][:negatives]
        query += [reference_at(embeddings, int(row), negative=True) for row in wrong]
        found = _nearest(embeddings, how, query, counted, top)
    return float(hits[found[:top]].mean())


def _nearest(
    embeddings: Embeddings, how: How, query: list[Reference], counted: np.ndarray, k: int
) -> np.ndarray:
    keep, _ = eligible(embeddings, query, same_arcsec=how.same_arcsec)
    keep = counted if keep is None else keep & counted
    return nearest(embeddings.vectors, make_ranker(embeddings, query, how), k, keep=keep).rows


def _tabulate(
    cells: list[tuple[How, int, int]], each: np.ndarray, base: float, level: float
) -> tuple[pa.Table, np.ndarray]:
    reach = float(student.ppf((1 + level) / 2, each.shape[1] - 1)) / np.sqrt(each.shape[1])
    mean = each.mean(axis=1)
    order = sorted(range(len(cells)), key=lambda i: (cells[i][1], cells[i][2], -mean[i]))
    rows = []
    best: dict[tuple[int, int], int] = {}
    for i in order:
        how, n, q = cells[i]
        first = best.setdefault((n, q), i)
        behind = each[first] - each[i]
        half, apart = reach * each[i].std(ddof=1), reach * behind.std(ddof=1)
        rows.append(
            {
                "metric": str(how.metric),
                "combine": str(how.combine),
                "references": n,
                "negatives": q,
                "purity": float(mean[i]),
                "lower": max(0.0, float(mean[i] - half)),
                "upper": min(1.0, float(mean[i] + half)),
                "lift": float(mean[i] / base),
                "behind": float(behind.mean()),
                "behind_lower": float(behind.mean() - apart),
                "behind_upper": float(behind.mean() + apart),
            }
        )
    return pa.Table.from_pylist(rows), np.array(order)
