"""What is asked of objects, and an answer as it is stored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from skytwin.errors import UsageError, unknown

__all__ = ["ANSWERS", "IMPORTED", "Entry", "Question", "check_id", "check_who"]

#: What is offered where nothing else is said.
ANSWERS = ("yes", "no", "unsure")
#: By what order an imported answer was offered.
IMPORTED = "import"
MOST_ANSWERS = 9
LONGEST_NAME, LONGEST_ABOUT, LONGEST_ANSWER, LONGEST_ID, LONGEST_WHO = 80, 500, 40, 500, 40


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked of objects.

    Attributes
    ----------
    number : int
        Its place in the book; 0 while it is in none.
    name, about : str
    answers : tuple of str
        The answers offered, in the order of their keys.
    kind : {"free", "certify"}
        Of any object, or of those that a plan drew.
    ranking : str or None
        SHA-256 of the ranking that the plan certifies.
    """

    number: int = 0
    name: str
    about: str = ""
    answers: tuple[str, ...] = ANSWERS
    kind: Literal["free", "certify"] = "free"
    ranking: str | None = None

    def __post_init__(self) -> None:
        _check_text("question", self.name, LONGEST_NAME)
        if "/" in self.name or self.name in {".", ".."}:
            raise UsageError(f"question {self.name!r}; its name is part of an address: leave out /")
        if self.about:
            _check_text("description", self.about, LONGEST_ABOUT)
        if not 2 <= len(self.answers) <= MOST_ANSWERS:
            raise UsageError(f"{len(self.answers)} answers; expected 2 to {MOST_ANSWERS}")
        for answer in self.answers:
            _check_text("answer", answer, LONGEST_ANSWER)
        if len({answer.casefold() for answer in self.answers}) < len(self.answers):
            raise UsageError(f"answers {', '.join(self.answers)}; expected each of them once")

    def answer(self, given: str) -> str:
        """The answer that was given, as it is offered.

        Raises
        ------
        UnknownName
            It is not offered.
        """
        for answer in self.answers:
            if answer.casefold() == given.casefold():
                return answer
        raise unknown("answer", given, self.answers)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One row of the log.

    Attributes
    ----------
    number : int
        Rows are numbered in the order they were stored.
    question : int
    object : str
        Identifier.
    answer : str or None
        None: this row undoes another.
    who : str
    at : str
        UTC, ISO 8601.
    offered : str
        The order in which the object was shown, `IMPORTED` from a file.
    batch : int
        Number of the first row that was stored together with it.
    undoes : int or None
        The row that no longer holds.
    """

    number: int
    question: int
    object: str
    answer: str | None
    who: str
    at: str
    offered: str
    batch: int
    undoes: int | None


def check_who(who: str) -> str:
    """A person's name without blanks around it.

    Raises
    ------
    UsageError
        It is empty or too long.
    """
    return _check_text("name", who.strip(), LONGEST_WHO)


def check_id(name: str) -> str:
    """An identifier, as it is.

    Raises
    ------
    UsageError
        It is empty or too long, or no text.
    """
    # Half of a surrogate pair, which JSON can hold, is no text.
    halves = any("\ud800" <= sign <= "\udfff" for sign in name)
    if not name or len(name) > LONGEST_ID or "\x00" in name or halves:
        raise UsageError(f"id {name[:LONGEST_ID]!r}; expected 1 to {LONGEST_ID} characters of text")
    return name


def _check_text(what: str, text: str, longest: int) -> str:
    if not text or text != text.strip() or len(text) > longest or not text.isprintable():
        raise UsageError(
            f"{what} {text[:longest]!r}; expected 1 to {longest} characters that can be printed, "
            "no blanks around them"
        )
    return text
