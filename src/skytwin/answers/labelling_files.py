"""Answers as tables: out to those who read labels, and in from where they were given."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from skytwin.answers.labelling import Answers, resolved
from skytwin.answers.labelling_book import LabelBook
from skytwin.answers.labelling_question import IMPORTED, Question, check_who
from skytwin.answers.labels import label_column, word
from skytwin.errors import DataError, UnknownName, UsageError
from skytwin.images import arrow
from skytwin.images.catalog import id_texts
from skytwin.images.columns import id_column
from skytwin.images.rows import RowIndex
from skytwin.images.tables import read_table

__all__ = ["Given", "Taken", "labels_table", "read_given", "take_given"]

#: The column that says who answered.
WHO = "who"


@dataclass(frozen=True, kw_only=True)
class Given:
    """Answers read from a table.

    Attributes
    ----------
    answers : dict of str to (dict of str to str)
        By person, by object.
    blank : int
        Rows without an answer.
    """

    answers: dict[str, dict[str, str]]
    blank: int


@dataclass(frozen=True, kw_only=True)
class Taken:
    """What came of an import.

    Attributes
    ----------
    taken : int
        Answers that were stored.
    same : int
        Answers that the same person had given already.
    unknown : tuple of str
        Identifiers that there is no object of; left out.
    """

    taken: int
    same: int
    unknown: tuple[str, ...]


def labels_table(answers: Answers, *, every: bool = False) -> pa.Table:
    """The answers that hold, as a table with the columns ``id`` and ``label``.

    Parameters
    ----------
    answers : Answers
    every : bool
        One row per object and person, with ``who``, ``at`` (UTC) and the order ``offered`` in;
        else one per object with the answer of most people, and how many ``people`` answered and
        how many of them are ``agreed``.

    Returns
    -------
    pyarrow.Table
        In the order of identifiers, then people.
    """
    text, integer = pa.string(), pa.int64()
    names = sorted(answers.held)
    rows: list[tuple[Any, ...]] = []
    if every:
        rows = [
            (name, entries[-1].answer, who, entries[-1].at, entries[-1].offered)
            for name in names
            for who, entries in sorted(answers.held[name].items())
        ]
        fields = [
            arrow.field("id", text, ucd="meta.id;meta.main"),
            arrow.field("label", text),
            arrow.field(WHO, text, description="who answered"),
            arrow.field("at", text, description="when, UTC"),
            arrow.field("offered", text, description="the order the object was shown in"),
        ]
    else:
        for name in names:
            said = list(answers.of(name).values())
            most = resolved(said)
            rows.append((name, most, len(said), said.count(most)))
        fields = [
            arrow.field("id", text, ucd="meta.id;meta.main"),
            arrow.field("label", text, description="the answer of most people"),
            arrow.field("people", integer, description="who answered"),
            arrow.field("agreed", integer, description="of these, who gave the label"),
        ]
    columns = list(zip(*rows, strict=True)) or [()] * len(fields)
    arrays = [pa.array(list(c), f.type) for c, f in zip(columns, fields, strict=True)]
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields))


def read_given(
    given: Path | pa.Table,
    question: Question,
    who: str | None,
    *,
    id_name: str | None = None,
    label_name: str | None = None,
) -> Given:
    """Answers from a table with the columns id and label.

    Parameters
    ----------
    given : Path or pyarrow.Table
    question : Question
        Whose answers they are; words for yes, no and unsure stand for each other.
    who : str or None
        Who answered; None: the column `WHO` says it.
    id_name, label_name : str, optional
        The columns, where their names do not say.

    Raises
    ------
    UsageError
        Nobody is named.
    DataError
        An answer that is not offered; a person with two answers about one object; no answer.
    """
    source = given.name if isinstance(given, Path) else "the table"
    table = read_table(given) if isinstance(given, Path) else given
    ids = id_texts(table, id_column(table, id_name)).to_pylist()
    labels = table[label_column(table, label_name)].to_pylist()
    if who is not None:
        people = [check_who(who)] * len(ids)
    elif WHO in table.column_names:
        people = [str(name or "") for name in table[WHO].to_pylist()]
    else:
        raise UsageError(f"{source} has no column {WHO}; say who answered")
    found: dict[str, dict[str, str]] = {}
    blank = 0
    for row, (name, label, person) in enumerate(zip(ids, labels, people, strict=True), start=1):
        try:
            answer = _answer(label, question)
            if answer is None:
                blank += 1
                continue
            mine = found.setdefault(check_who(person), {})
        except UsageError as error:
            raise DataError(f"{source}: row {row}: {error}") from None
        if name is None:
            raise DataError(f"{source}: row {row} has a label but no id; add the id")
        if mine.setdefault(name, answer) != answer:
            raise DataError(f"{source}: row {row}: {name!r} has another answer further up")
    if not found:
        raise DataError(f"{source}: no label in {blank} row(s); fill the column label")
    return Given(answers=found, blank=blank)


def _answer(given: object, question: Question) -> str | None:
    if given is None or (isinstance(given, float) and np.isnan(given)):
        return None
    whole = isinstance(given, float) and given.is_integer()
    text = str(int(given) if whole else given).strip()  # type: ignore[call-overload]
    if not text:
        return None
    try:
        return question.answer(text)
    except UnknownName:
        means = word(text)
        for answer in question.answers:
            if means is not None and word(answer) == means:
                return answer
        raise


def take_given(
    book: LabelBook,
    question: Question,
    given: Given,
    answers: Answers,
    known: Container[str] | RowIndex,
) -> Taken:
    """Store answers that were read, all or none.

    Parameters
    ----------
    book : LabelBook
    question : Question
        Of that book.
    given : Given
    answers : Answers
        What holds now: it is not said again.
    known : container of str
        Identifiers of the objects that are asked about.
    """
    new: list[tuple[str, str, str]] = []
    same, unknown = 0, dict[str, None]()
    for who, mine in given.answers.items():
        held = answers.by(who)
        for name, answer in mine.items():
            if name not in known:
                unknown[name] = None
            elif name in held and held[name].answer == answer:
                same += 1
            else:
                new.append((who, name, answer))
    if new:
        book.add(question, new, offered=IMPORTED)
    return Taken(taken=len(new), same=same, unknown=tuple(unknown))
