"""What people answered: who says what of which object, as it stands now.

`Ledger` works that out of the rows of a `skytwin.answers.labelling_book.LabelBook`, and goes on
from where it was as more rows come, so that a hundred thousand answers cost nothing to follow.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from skytwin.answers.labelling_question import Entry, Question
from skytwin.answers.labels import NO, UNSURE, YES, word
from skytwin.errors import one_of
from skytwin.images.rows import RowIndex

__all__ = ["Answers", "Ledger", "Meaning", "by_row", "resolved"]

#: What an object is given that people disagree about.
UNDECIDED = "unsure"


@dataclass(frozen=True, kw_only=True)
class Meaning:
    """Which answers count for, which against.

    Attributes
    ----------
    positive : str
        The answer that is looked for.
    of : mapping of str to int
        `YES`, `NO` or `UNSURE`, of every answer.
    """

    positive: str
    of: Mapping[str, int]

    @classmethod
    def read(cls, question: Question, positive: str | None = None) -> Meaning:
        """What the answers of a question mean.

        Where one of them is a word for yes, the words for no count against it, and all others
        for nothing. Else the first answer, or the one that is named, is looked for; the others
        count against it, words of doubt aside.

        Raises
        ------
        UnknownName
            No such answer.
        """
        words = {answer: word(answer) for answer in question.answers}
        found = next((a for a in question.answers if words[a] == YES), None)
        if positive is None and found is not None:
            values = {answer: UNSURE if n is None else n for answer, n in words.items()}
            return cls(positive=found, of=values)
        looked_for = one_of("answer", positive or question.answers[0], question.answers)
        values = {answer: UNSURE if n == UNSURE else NO for answer, n in words.items()}
        return cls(positive=looked_for, of=values | {looked_for: YES})


@dataclass(eq=False, kw_only=True)
class Answers:
    """The answers to one question.

    Attributes
    ----------
    held : dict of str to (dict of str to list of Entry)
        By object, then by person: the answers that were not undone, the present one last.
    last : int
        Number of the last row of the log that is about this question.
    """

    held: dict[str, dict[str, list[Entry]]] = field(default_factory=dict)
    last: int = 0

    def of(self, name: str) -> dict[str, str]:
        """What people say of an object now, by person."""
        people = self.held.get(name, {})
        return {who: str(entries[-1].answer) for who, entries in people.items()}

    def by(self, who: str) -> dict[str, Entry]:
        """What a person says now, by object."""
        return {name: people[who][-1] for name, people in self.held.items() if who in people}

    @property
    def present(self) -> dict[str, dict[str, str]]:
        """What holds now: by object, by person."""
        return {name: self.of(name) for name in self.held}

    @property
    def people(self) -> dict[str, tuple[int, str]]:
        """Of every person, how many answers hold, and when the last one was given (UTC)."""
        found: dict[str, tuple[int, str]] = {}
        for people in self.held.values():
            for who, entries in people.items():
                count, last = found.get(who, (0, ""))
                found[who] = (count + 1, max(last, entries[-1].at))
        return dict(sorted(found.items()))

    @property
    def conflicts(self) -> list[str]:
        """Objects about which people disagree."""
        return [n for n in self.held if len(set(self.of(n).values())) > 1]

    @property
    def shared(self) -> list[str]:
        """Objects that two or more people answered."""
        return [name for name, people in self.held.items() if len(people) > 1]

    def resolved(self) -> dict[str, str]:
        """One answer per object; see `resolved`."""
        return {name: resolved(self.of(name).values()) for name in self.held}


class Ledger:
    """What holds now, by question, worked out of the rows of a log.

    Attributes
    ----------
    last : int
        Number of the last row that was taken in.
    """

    def __init__(self) -> None:
        self.last = 0
        self._answers: dict[int, Answers] = {}
        self._given: dict[int, Entry] = {}

    def take(self, entries: Iterable[Entry]) -> None:
        """Take in the rows that come next, in order."""
        for entry in entries:
            answers = self._answers.setdefault(entry.question, Answers())
            held, answers.last = answers.held, entry.number
            if entry.undoes is None:
                held.setdefault(entry.object, {}).setdefault(entry.who, []).append(entry)
                self._given[entry.number] = entry
            else:
                gone = self._given.pop(entry.undoes)
                people = held[gone.object]
                people[gone.who].remove(gone)
                if not people[gone.who]:
                    del people[gone.who]
                if not people:
                    del held[gone.object]
            self.last = entry.number

    def of(self, question: Question) -> Answers:
        """The answers to a question."""
        return self._answers.setdefault(question.number, Answers())


def resolved(answers: Iterable[str]) -> str:
    """The answer of an object: the one that most people gave, or `UNDECIDED` where two tie."""
    most = Counter(answers).most_common(2)
    tied = len(most) > 1 and most[0][1] == most[1][1]
    return UNDECIDED if tied else most[0][0]


def by_row(
    answers: Mapping[str, str], meaning: Meaning, index: RowIndex
) -> tuple[np.ndarray, np.ndarray]:
    """Rows that have an answer for or against, ascending, and which of them are for (bool)."""
    known = {
        index[name]: value == YES
        for name, answer in answers.items()
        if name in index and (value := meaning.of.get(answer, UNSURE)) != UNSURE
    }
    rows = np.array(sorted(known), dtype=np.int64)
    return rows, np.array([known[row] for row in rows.tolist()], dtype=bool)
