"""The certificate: the largest list that is at least so pure, from a few hundred labels.

Every p-value is hypergeometric, so exact for a finite survey sampled without replacement; the cut
may be chosen by looking because ranks are tested in an order fixed beforehand, until the first
that fails (fixed-sequence testing, Maurer, Hothorn & Lehmacher 1995; 'learn then test',
Angelopoulos, Bates, Candes, Jordan & Lei 2021). See ``docs/explanation/certify.md``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from skytwin.answers.certify_bounds import (
    UNKNOWN,
    Sample,
    Verdict,
    joint_lower,
    judge,
    known_positives,
    lower_alone,
)
from skytwin.answers.certify_plan import CertifyPlan
from skytwin.answers.certify_rounds import fewest_labels, sample_of
from skytwin.answers.certify_total import Estimate, Total, positives_within, total_positives
from skytwin.answers.labels import Labels
from skytwin.errors import DataError
from skytwin.images import arrow

if TYPE_CHECKING:
    from astropy.table import Table

__all__ = ["Certificate", "certify"]

_POINTS = 40


@dataclass(frozen=True, eq=False, kw_only=True)
class Certificate:
    """The largest list that is certified, and what the labels say of the whole survey.

    Attributes
    ----------
    size : int
        The top so many are at least ``purity`` pure; 0 where no list is.
    purity, confidence : float
        What was asked.
    certain : bool
        The known positives alone make the list pure enough: nothing is left to chance.
    purity_estimate : float
        Of the list; NaN without one.
    best_size, best_purity
        Without a list: the top ``best_size`` is at least ``best_purity`` pure, at the same
        confidence. 0 where the labels show nothing.
    total : Total
        Positives in the whole survey, the limits at ``confidence``.
    base_rate : Estimate
        The same over the number of objects.
    completeness : Estimate or None
        Share of all positives that is in the list. The limits put that of the list and those of
        ``total`` together, so that their confidence is at least ``2 confidence - 1``.
    lift : Estimate or None
        Purity of the list over the base rate, limits likewise.
    yes, no, unclear : int
        Drawn objects by label; unclear ones, unsure or without a label, count against every claim.
    table : pyarrow.Table
        By rank: ``labelled``, ``positives`` found within it, ``purity`` estimated, ``lower`` (its
        lower limit at all ranks together), ``lower_alone`` (at this rank, had it been chosen
        beforehand), ``expected`` positives within it, ``certified`` (the list down to this very
        rank).
    list : pyarrow.Table
        The list: rank, row, id, position, label where there is one.
    plan : CertifyPlan
    notes : tuple of str
        What a reader should know before believing it.
    """

    size: int
    purity: float
    confidence: float
    certain: bool
    purity_estimate: float
    best_size: int
    best_purity: float
    total: Total
    base_rate: Estimate
    completeness: Estimate | None
    lift: Estimate | None
    yes: int
    no: int
    unclear: int
    table: pa.Table
    list: pa.Table
    plan: CertifyPlan
    notes: tuple[str, ...]

    def __len__(self) -> int:
        return self.size

    def __repr__(self) -> str:
        return f"Certificate({self.headline})"

    @property
    def headline(self) -> str:
        """The answer in one line."""
        asked = f"{self.purity:g} pure"
        sure = f"{self.confidence:.0%} confidence"
        if self.certain:
            return f"the top {self.size} is at least {asked}: its known positives prove it"
        if self.size:
            return f"the top {self.size} is at least {asked}, with {sure}"
        if self.best_size and self.best_purity > 0:
            found = np.floor(self.best_purity * 1000) / 1000
            return (
                f"no list is certified as {asked}; the top {self.best_size} is at least "
                f"{found:g} pure, with {sure}"
            )
        return f"no list is certified as {asked}"

    @property
    def _labels(self) -> str:
        unclear = f", {self.unclear} unsure or missing" if self.unclear else ""
        return f"{self.yes} yes, {self.no} no{unclear}"

    @property
    def summary(self) -> str:
        """The answer as lines of text."""
        lines = [self.headline]
        if self.size:
            lines.append(f"  purity        {self.purity_estimate:.3g} estimated")
        lines.append(
            f"  positives     {self.total.value:.4g} expected among {self.plan.size} objects, "
            f"{self.total.lower:.0f} to {self.total.upper:.0f} with {self.confidence:.0%} "
            "confidence"
        )
        rate = self.base_rate
        lines.append(f"  base rate     {rate.value:.3g} [{rate.lower:.3g}, {rate.upper:.3g}]")
        if self.completeness is not None and self.lift is not None:
            both = f"({2 * self.confidence - 1:.0%} confidence)"
            for name, found in (("completeness", self.completeness), ("lift", self.lift)):
                lines.append(
                    f"  {name:<13} {found.value:.3g} [{found.lower:.3g}, {found.upper:.3g}] {both}"
                )
        lines.append(f"  labels        {self._labels}")
        return "\n".join([*lines, *(f"  note: {note}" for note in self.notes)])

    def to_astropy(self) -> Table:
        """The table by rank as an astropy table."""
        return arrow.to_astropy(self.table, meta=self.describe())

    def to_pandas(self) -> Any:
        """The table by rank as a pandas DataFrame."""
        return self.table.to_pandas()

    def describe(self) -> dict[str, str]:
        """What the certificate says and where it comes from, for a table's header."""
        return {
            "skytwin": "certificate",
            "certificate": self.headline,
            "ranking": self.plan.fingerprint,
            "labels": self._labels,
            "rounds": str(self.plan.number),
            "seed": str(self.plan.seed),
            **{name: str(value) for name, value in self.plan.settings.items() if value is not None},
        }


def certify(plan: CertifyPlan, labels: str | Path | Labels | object) -> Certificate:
    """Certify the largest list that is pure enough.

    The probability that any list certified from a plan, in whatever round, is less pure than
    asked is at most ``1 - plan.confidence``. That holds for the labels as they are: a person who
    is wrong, or who sees the rank, is not covered.

    Parameters
    ----------
    plan : CertifyPlan
        With all its rounds.
    labels : path, Labels, table, or mapping of id to answer
        For the objects of the plan; see `skytwin.answers.labels.read_labels`. Those of earlier
        rounds may be left out or given again.

    Returns
    -------
    Certificate

    Raises
    ------
    UnknownName
        A label is for an object that the plan does not ask for.
    DataError
        Conflicting labels; too few to say anything.
    """
    sample = sample_of(plan, labels)
    sure = sample.label != UNKNOWN
    needed = min(fewest_labels(plan.purity, plan.confidence), plan.size)
    tested = plan.rounds[-1].share > 0
    if tested and sure.sum() < needed:
        raise DataError(
            f"{sure.sum()} of {len(sure)} objects labelled; purity {plan.purity:g} at "
            f"{plan.confidence:.0%} confidence takes at least {needed}, even if all are "
            f"positive: label {needed - sure.sum()} more"
        )
    verdict = judge(
        sample,
        plan.rounds,
        plan.size,
        purity=plan.purity,
        error=plan.error,
        smallest=plan.smallest,
    )
    total = total_positives(sample, plan.rounds, plan.size, plan.error)
    inside = float(positives_within(sample, np.array([verdict.size]))[0]) if verdict.size else 0.0
    # What is certified is never estimated to be less.
    inside = max(inside, plan.purity * verdict.size)
    base = Estimate(
        value=total.value / plan.size,
        lower=total.lower / plan.size,
        upper=total.upper / plan.size,
    )
    return Certificate(
        size=verdict.size,
        purity=plan.purity,
        confidence=plan.confidence,
        certain=verdict.certain,
        purity_estimate=inside / verdict.size if verdict.size else float("nan"),
        best_size=verdict.best_size,
        best_purity=verdict.best_purity,
        total=total,
        base_rate=base,
        completeness=_completeness(plan, verdict, inside, total),
        lift=_lift(plan, verdict, inside, base),
        yes=int((sample.label == 1).sum()),
        no=int((sample.label == 0).sum()),
        unclear=int((~sure).sum()),
        table=_by_rank(plan, sample, verdict),
        list=_members(plan, sample, verdict.size),
        plan=plan,
        notes=tuple(_notes(plan, sample, verdict, total)),
    )


def _by_rank(plan: CertifyPlan, sample: Sample, verdict: Verdict) -> pa.Table:
    depths = [depth for planned in plan.rounds for depth, _ in planned.layers]
    chain = [rank for planned in plan.rounds for rank in planned.chain]
    even = np.round(np.geomspace(1, plan.size, _POINTS)).astype(np.int64)
    k = np.unique(np.concatenate([even, depths, chain, verdict.passed]).astype(np.int64))
    error = plan.error
    expected = positives_within(sample, k)
    found = known_positives(sample, k)
    labelled = np.searchsorted(np.sort(sample.rank[sample.label != UNKNOWN]), k, side="right")
    return pa.table(
        {
            "rank": k,
            "labelled": labelled,
            "positives": found,
            "purity": expected / k,
            "lower": joint_lower(sample, plan.rounds, k, error) / k,
            "lower_alone": lower_alone(sample, plan.rounds, k, error) / k,
            "expected": expected,
            "certified": np.isin(k, verdict.passed),
        }
    )


def _members(plan: CertifyPlan, sample: Sample, size: int) -> pa.Table:
    label = np.full(size, None, dtype=object)
    inside = sample.rank <= size
    words = np.array(["no", "yes", None], dtype=object)
    label[sample.rank[inside] - 1] = words[sample.label[inside]]
    members = plan.objects.slice(0, size)
    rank = arrow.field("rank", pa.int64(), ucd="meta.number")
    members = members.add_column(0, rank, pa.array(np.arange(1, size + 1)))
    return members.append_column("label", pa.array(label, pa.string()))


def _completeness(
    plan: CertifyPlan, verdict: Verdict, inside: float, total: Estimate
) -> Estimate | None:
    if not verdict.size:
        return None
    lower = plan.purity * verdict.size / max(total.upper, 1.0)
    upper = min(1.0, verdict.size / max(total.lower, 1.0))
    value = inside / max(total.value, 1.0)
    return Estimate(value=float(np.clip(value, lower, upper)), lower=lower, upper=upper)


def _lift(plan: CertifyPlan, verdict: Verdict, inside: float, base: Estimate) -> Estimate | None:
    if not verdict.size:
        return None
    value = inside / verdict.size / base.value if base.value else float("inf")
    upper = 1 / base.lower if base.lower else float("inf")
    return Estimate(value=value, lower=plan.purity / base.upper, upper=upper)


def _notes(
    plan: CertifyPlan,
    sample: Sample,
    verdict: Verdict,
    total: Total,
) -> Iterator[str]:
    last = plan.rounds[-1]
    labels = sample.label[sample.label != UNKNOWN]
    if last.share == 0:
        yield (
            f"round {plan.number} of {plan.schedule} finds out where to look; what certifies is "
            f"round {plan.schedule}: draw the next one"
        )
    if len(labels) < len(sample.label):
        yield (
            f"{len(sample.label) - len(labels)} object(s) unsure or without a label: counted as "
            "not positive in the list, and as positive in the upper limit of the survey"
        )
    if len(labels) and (labels == 1).all():
        yield "every label is yes; make sure that the question put was the one meant"
    if not (labels == 1).any():
        yield "no label is yes: either nothing like the references is there, or too rare to be met"
    if last.share > 0 and verdict.size and not verdict.certain and verdict.size == last.chain[-1]:
        yield "every rank that was tested passed; another round may certify a longer list"
    cut = total.cut
    within = float(positives_within(sample, np.array([cut]))[0]) if cut else total.upper
    if cut < plan.size and total.upper - within > total.upper / 2:
        yield (
            f"the upper limit of {total.upper:.0f} positives is set by the {plan.size - cut} "
            f"objects beyond rank {cut}, of which {total.controls} were drawn as controls; more "
            "of them lower it, in proportion to their number while none is positive"
        )
