"""The rounds of a certificate: what to label first, and what next."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from skytwin.answers.certify_bounds import UNKNOWN, Round, Sample, judge
from skytwin.answers.certify_design import SCHEDULE, decisive, draw, pilot, refine
from skytwin.answers.certify_plan import CertifyPlan
from skytwin.answers.certify_ranking import ranked_objects
from skytwin.answers.labels import Labels, read_labels
from skytwin.answers.search import Matches
from skytwin.errors import DataError, UnknownName, UsageError

__all__ = ["fewest_labels", "next_round", "plan", "sample_of"]

#: What a round that tests spends of the error that is left.
SPENT = 0.9
_CONTROLS = 0.1
_SHOWN = 3


def plan(
    ranking: Matches | Sequence[str],
    *,
    purity: float = 0.9,
    confidence: float = 0.95,
    budget: int = 200,
    controls: int | None = None,
    rounds: int = 3,
    smallest: int = 5,
    group_arcsec: float = 2.0,
    seed: int = 0,
) -> CertifyPlan:
    """Choose the first objects to label for a certificate of purity.

    Parameters
    ----------
    ranking : Matches, or sequence of str
        All objects of the survey by distance, ``skytwin.search(..., k=len(embeddings))``: the
        references and what lies at their places are not in it. Or identifiers in order.
    purity : float
        What the list shall at least have.
    confidence : float
        Probability, at least, that a certified list has it.
    budget : int
        Labels, all rounds together.
    controls : int, optional
        Of these, drawn blindly from the whole survey, to count its positives; a tenth by default.
    rounds : {2, 3}
        Over which the budget is spread.
    smallest : int
        Shorter lists are not certified.
    group_arcsec : float
        Entries nearer than this on the sky, or linked by such, are one object: the best ranked
        stands for all. 0 keeps every entry.
    seed : int
        Of the draw and of the blind order.

    Returns
    -------
    CertifyPlan
        The first round: label it, then call `next_round`.

    Raises
    ------
    UsageError
        A setting is out of range; the budget is too small; the ranking stops before the end of
        the survey.
    """
    for name, value in (("purity", purity), ("confidence", confidence)):
        if not 0 < value < 1:
            raise UsageError(f"{name} {value}; expected a number between 0 and 1")
    if rounds not in SCHEDULE:
        raise UsageError(f"{rounds} rounds; expected {' or '.join(map(str, SCHEDULE))}")
    if smallest < 1:
        raise UsageError(f"smallest list {smallest}; expected at least 1")
    blind = round(_CONTROLS * budget) if controls is None else controls
    if blind < 0:
        raise UsageError(f"controls {blind}; expected 0 or more")
    ranked = ranked_objects(ranking, group_arcsec)
    needed = fewest_labels(purity, confidence)
    if budget - blind < min(needed, len(ranked.objects)):
        raise UsageError(
            f"budget {budget} with {blind} controls; purity {purity:g} at {confidence:.0%} takes "
            f"at least {needed + blind} labels, even if all are positive"
        )
    base = CertifyPlan(
        objects=ranked.objects,
        rounds=(),
        **{name: np.empty(0, dtype=np.int64) for name in ("rank", "round", "depth")},
        known=np.empty(0, dtype=np.int8),
        purity=float(purity),
        confidence=float(confidence),
        budget=int(budget),
        controls=int(blind),
        schedule=int(rounds),
        smallest=int(smallest),
        seed=int(seed),
        settings={**ranked.settings, "group_arcsec": float(group_arcsec)},
        parents=ranked.parents,
    )
    return _extended(base, pilot(base.size, _scheduled(base), base.smallest))


def next_round(
    plan: CertifyPlan, labels: str | Path | Labels | object, *, budget: int | None = None
) -> CertifyPlan:
    """The next objects to label, chosen by the labels so far.

    Rounds may be added without end: what each may err is set aside from what the earlier ones
    left. One large round certifies more than many small ones.

    Parameters
    ----------
    plan : CertifyPlan
    labels : path, Labels, table or mapping
        As in `certify`.
    budget : int, optional
        Labels of the next round, which will then be one that tests; by default what the
        schedule has set aside.

    Raises
    ------
    UsageError
        The schedule is through and no budget is given.
    DataError
        See `sample_of`; every object is labelled already.
    """
    sample = sample_of(plan, labels)
    if budget is None and plan.finished:
        raise UsageError(
            f"all {plan.schedule} rounds are drawn; give --budget LABELS to add another one"
        )
    if len(sample.rank) == plan.size:
        raise DataError(f"all {plan.size} objects are labelled; there is nothing left to draw")
    planned = dataclasses.replace(plan, known=sample.label)
    if budget is None and plan.number < plan.schedule - 1:
        step = refine(plan.size, sample, _scheduled(plan), plan.purity, plan.smallest)
        return _extended(planned, step)
    if budget is None:
        count, controls = _scheduled(plan), plan.controls
    else:
        controls = round(_CONTROLS * budget)
        count = budget - controls
        if count < 1:
            raise UsageError(f"budget {budget}; expected at least 2 labels")
        planned = dataclasses.replace(planned, budget=len(sample.rank) + budget)
    certified = judge(
        sample,
        plan.rounds,
        plan.size,
        purity=plan.purity,
        error=plan.error,
        smallest=plan.smallest,
    )
    step = decisive(
        plan.size,
        sample,
        count,
        controls,
        purity=plan.purity,
        error=plan.error,
        share=SPENT * (1 - sum(earlier.share for earlier in plan.rounds)),
        smallest=plan.smallest,
        certified=certified.size,
        rng=np.random.default_rng([plan.seed, plan.number, 1]),
    )
    return _extended(planned, step)


def sample_of(plan: CertifyPlan, labels: str | Path | Labels | object) -> Sample:
    """The drawn objects with their labels; where there is none, or unsure, `UNKNOWN`.

    Raises
    ------
    UnknownName
        A label is for an object that the plan does not ask for.
    DataError
        A label contradicts one given in an earlier round; this round has no label at all.
    """
    given = read_labels(labels)
    ids = [str(name) for name in plan.drawn_ids]
    asked = set(ids)
    strange = [name for name in given.answers if name not in asked]
    if strange:
        more = ", ..." if len(strange) > _SHOWN else ""
        raise UnknownName(
            f"{given.source}: {len(strange)} label(s) for objects that this plan does not ask "
            f"for: {', '.join(strange[:_SHOWN])}{more}; only drawn objects stand for the rest, "
            "so remove these, or give the plan that they belong to"
        )
    now = plan.now
    answered = sum(name in given.answers for name, wanted in zip(ids, now, strict=True) if wanted)
    if not answered:
        raise DataError(
            f"{given.source}: no label for any of the {len(plan)} objects of round {plan.number}; "
            f"label {len(plan)} more"
        )
    new = given.of(ids)
    changed = (plan.known != UNKNOWN) & (new != UNKNOWN) & (plan.known != new)
    if changed.any():
        name = ids[int(np.flatnonzero(changed)[0])]
        raise DataError(
            f"{given.source}: conflicting labels for {name!r}, which had another in an earlier "
            "round; start a new plan if the earlier one was wrong"
        )
    label = np.where(plan.known != UNKNOWN, plan.known, new).astype(np.int8)
    return Sample(rank=plan.rank, label=label, round=plan.round, depth=plan.depth)


def fewest_labels(purity: float, confidence: float) -> int:
    """Labels that it takes to show a purity in a long list, if every one is positive."""
    return int(np.ceil(np.log((1 - confidence) * SPENT) / np.log(purity)))


def _scheduled(plan: CertifyPlan) -> int:
    """Labels of the next round, controls aside; what earlier ones left over goes to the last."""
    if plan.number == plan.schedule - 1:
        return plan.budget - plan.controls - len(plan.rank)
    until = np.round(np.cumsum(SCHEDULE[plan.schedule]) * (plan.budget - plan.controls))
    return int(np.diff(until, prepend=0)[plan.number])


def _extended(plan: CertifyPlan, step: Round) -> CertifyPlan:
    """The plan with one more round drawn, shuffled so that nothing tells the ranks."""
    rng = np.random.default_rng([plan.seed, plan.number])
    rank, depth = draw(step, plan.rank, rng)
    order = rng.permutation(len(rank))
    count = len(rank)
    return dataclasses.replace(
        plan,
        rounds=(*plan.rounds, step),
        rank=np.concatenate([plan.rank, rank[order]]),
        round=np.concatenate([plan.round, np.full(count, plan.number)]),
        depth=np.concatenate([plan.depth, depth[order]]),
        known=np.concatenate([plan.known, np.full(count, UNKNOWN)]).astype(np.int8),
    )
