"""The plan of a certificate as a question, and the folders of its rounds."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from skytwin.answers.certify_plan import CertifyPlan
from skytwin.answers.certify_rounds import next_round
from skytwin.answers.labelling_question import ANSWERS, Question
from skytwin.artefact import MANIFEST
from skytwin.errors import OutputExists, UsageError

__all__ = ["Planned"]

_ROUND = re.compile(r"(.+)-round(\d+)")


@dataclass(frozen=True, eq=False, kw_only=True)
class Planned:
    """A plan and where it lies.

    Attributes
    ----------
    folder : Path
        Of the round to label now.
    plan : CertifyPlan
    """

    folder: Path
    plan: CertifyPlan

    @classmethod
    def open(cls, folder: Path) -> Planned:
        """The latest round beside a folder of ``skytwin certify plan``: ``FOLDER-round2``, ..."""
        found = cls(folder=folder, plan=CertifyPlan.open(folder))
        while (later := found._next_folder).joinpath(MANIFEST).is_file():
            plan = CertifyPlan.open(later)
            if plan.fingerprint != found.plan.fingerprint or plan.number != found.plan.number + 1:
                break
            found = cls(folder=later, plan=plan)
        return found

    @property
    def _stem(self) -> Path:
        folder = self.folder.resolve()
        match = _ROUND.fullmatch(folder.name)
        return folder.with_name(match[1]) if match else folder

    @property
    def _next_folder(self) -> Path:
        return self._stem.with_name(f"{self._stem.name}-round{self.plan.number + 1}")

    @property
    def question(self) -> Question:
        """What is asked, under the folder's name."""
        plan = self.plan
        return Question(
            name=self._stem.name,
            about=f"a list at least {plan.purity:g} pure, with {plan.confidence:.0%} confidence",
            answers=ANSWERS,
            kind="certify",
            ranking=plan.fingerprint,
        )

    @functools.cached_property
    def ids(self) -> list[str]:
        """The objects to label now, in a blind order."""
        return [str(name) for name in self.plan.ids]

    @functools.cached_property
    def asked(self) -> frozenset[str]:
        """The same without an order."""
        return frozenset(self.ids)

    def labels(self, resolved: Mapping[str, str]) -> dict[str, str]:
        """The answers that belong to the plan, of all rounds."""
        return {n: resolved[n] for n in map(str, self.plan.drawn_ids) if n in resolved}

    def missing(self, resolved: Mapping[str, str]) -> int:
        """Objects of this round that nobody has answered."""
        return sum(name not in resolved for name in self.ids)

    def next(self, resolved: Mapping[str, str]) -> Planned:
        """Draw the next round and keep it beside this one.

        Raises
        ------
        UsageError
            This round is not answered; the schedule is through.
        """
        missing = self.missing(resolved)
        if missing:
            raise UsageError(
                f"{missing} of {len(self.plan)} objects of round {self.plan.number} have no "
                "answer; answer them, with unsure where need be"
            )
        made = next_round(self.plan, self.labels(resolved))
        try:
            made.save(self._next_folder)
        except OutputExists:  # another server was faster, or a folder of that name is in the way
            there = Planned.open(self.folder)
            if there.plan.number == self.plan.number:
                raise
            return there
        return Planned(folder=self._next_folder, plan=made)
