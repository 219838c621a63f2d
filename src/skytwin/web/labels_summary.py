"""What the answers to a question add up to, as JSON."""

from __future__ import annotations

from collections import Counter
from typing import Any

from skytwin.answers.certify import certify
from skytwin.answers.labelling import Answers
from skytwin.answers.labelling_agreement import agreement
from skytwin.answers.labelling_plan import Planned
from skytwin.answers.labelling_purity import ListPurity
from skytwin.answers.labelling_question import Question
from skytwin.errors import SkytwinError

__all__ = ["certificate_of", "counted", "people_of", "purity_of", "rounds_of"]


def people_of(answers: Answers) -> list[dict[str, Any]]:
    """Who answered, how often, and when last."""
    return [
        {"who": who, "labels": count, "last": last} for who, (count, last) in answers.people.items()
    ]


def rounds_of(planned: Planned) -> int:
    """How many rounds a plan has."""
    return max(planned.plan.schedule, planned.plan.number)


def counted(question: Question, answers: Answers, who: str | None) -> dict[str, Any]:
    """How often each answer was given, by whom, and how far people agree."""
    each = Counter(answers.resolved().values())
    mine = Counter(str(entry.answer) for entry in answers.by(who).values()) if who else Counter()
    found = agreement(answers.present)
    # People who disagree may leave an object at an answer that is not offered.
    names = dict.fromkeys([*question.answers, *each])
    return {
        "counts": {name: each[name] for name in names},
        "mine": {name: mine[name] for name in question.answers},
        "people": people_of(answers),
        "conflicts": len(answers.conflicts),
        "both": len(answers.shared),
        "agreement": None
        if found is None
        else {
            "statistic": "Krippendorff alpha",
            "value": found.value,
            "low": found.lower,
            "high": found.upper,
            "objects": found.objects,
            "pairs": found.pairs,
        },
    }


def certificate_of(planned: Planned, resolved: dict[str, str]) -> dict[str, Any]:
    """What the answers certify; nothing before a round is answered: nobody is to peek."""
    plan, missing = planned.plan, planned.missing(resolved)
    told: dict[str, Any] = {
        "state": "labels missing",
        "round": plan.number,
        "rounds": rounds_of(planned),
        "next": not missing and not plan.finished,
        "missing": missing,
        "headline": f"{missing} of {len(plan)} objects of round {plan.number} have no answer",
        "lines": [],
        "size": None,
        "purity": None,
        "low": None,
    }
    if missing:
        return told
    try:
        found = certify(plan, planned.labels(resolved))
    except SkytwinError as reason:
        return {**told, "state": "refused", "headline": str(reason)}
    return {
        **told,
        "state": "ready",
        "headline": found.headline,
        "lines": found.summary.splitlines()[1:],
        "size": found.size,
        "purity": found.purity_estimate if found.size else None,
        "low": found.purity if found.size else None,
    }


def purity_of(found: ListPurity) -> dict[str, Any]:
    """Purity of the top of the list; an interval only where it is an estimate."""
    share, base = found.share, found.base
    guessed = share is not None and found.kind == "estimate"
    return {
        "kind": found.kind,
        "k": found.k,
        "labelled": found.labelled,
        "yes": found.yes,
        "value": None if share is None else share.value,
        "low": share.lower if share is not None and guessed else None,
        "high": share.upper if share is not None and guessed else None,
        "base_rate": None
        if base is None
        else {
            "hits": base.hits,
            "total": base.total,
            "value": base.value,
            "low": base.lower,
            "high": base.upper,
        },
        "lines": list(found.lines),
    }
