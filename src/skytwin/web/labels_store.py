"""The label book behind the pages: questions, plans, answers. For one thread."""

from __future__ import annotations

import io
from collections.abc import Container, Iterable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from skytwin.answers.export_text import csv_bytes
from skytwin.answers.labelling import Answers, Ledger
from skytwin.answers.labelling_book import LabelBook
from skytwin.answers.labelling_files import labels_table, read_given, take_given
from skytwin.answers.labelling_plan import Planned
from skytwin.answers.labelling_question import Question, check_who
from skytwin.embeddings.table import Embeddings
from skytwin.errors import DataError, Mismatch, UnknownName, UsageError, in_words, unknown
from skytwin.images.rows import RowIndex
from skytwin.images.tables import read_table
from skytwin.web.labels_summary import counted, people_of, rounds_of
from skytwin.web.settings import Settings

__all__ = ["State", "Store", "default_book"]

_SHOWN = 10
_UNPACKED = 1 << 29


@dataclass(frozen=True, eq=False, kw_only=True)
class State:
    """A question as it stands.

    Attributes
    ----------
    question : Question
    planned : Planned or None
        Of a question that a plan asks.
    answers : dict of str to (dict of str to str)
        By object, by person.
    resolved : dict of str to str
        One answer per object.
    done : dict of str to int
        Objects that a person answered, and the number of the answer.
    last : int
        Changes with every answer.
    """

    question: Question
    planned: Planned | None
    answers: dict[str, dict[str, str]]
    resolved: dict[str, str]
    done: dict[str, int]
    last: int


def default_book(embedding: Path) -> Path:
    """Where the labels of an embedding are kept: beside its folder."""
    folder = embedding.resolve()
    return folder.with_name(f"{folder.name}.labels.sqlite")


class Store:
    """A label book, made when the first question is, and the plans that ask questions too.

    Every method first takes in what other processes have added.

    Parameters
    ----------
    embeddings : Embeddings
    settings : Settings

    Raises
    ------
    SkytwinError
        The book or a plan cannot be opened, or is of other objects.
    """

    def __init__(self, embeddings: Embeddings, settings: Settings) -> None:
        self.embeddings, self.limits = embeddings, settings.limits
        self.path = settings.label_book or default_book(settings.embedding)
        self._book: LabelBook | None = None
        self._ledger = Ledger()
        self._catch_up()
        self._plans = {one.question.name: one for one in map(Planned.open, settings.plans)}
        for planned in self._plans.values():
            self._check_plan(planned)

    def close(self) -> None:
        """Let go of the book."""
        if self._book is not None:
            self._book.close()

    def questions(self) -> dict[str, Any]:
        """All questions, those of plans among them."""
        self._catch_up()
        every = self._asked()
        names = {question.name for question in every}
        every += [p.question for name, p in self._plans.items() if name not in names]
        unserved = [q.name for q in every if q.kind == "certify" and q.name not in self._plans]
        notes = [f"{name} is of a plan; start with --plan FOLDER to go on" for name in unserved]
        return {
            "questions": [self._describe(q) for q in every if q.name not in unserved],
            "book": self.path.name,
            "writable": self._book is None or self._book.writable,
            "notes": self.notes() + notes,
        }

    def ask(self, question: Question) -> dict[str, Any]:
        """Put a new question."""
        self._catch_up()
        if question.name in self._plans:
            raise UsageError(f"{question.name!r} is the name of a plan; choose another")
        return self._describe(self._open(question)[1])

    def state(self, name: str, who: str | None) -> State:
        """A question as it stands."""
        self._catch_up()
        question = self._question(name)
        answers = self._answers(question)
        done = answers.by(who) if who else {}
        return State(
            question=question,
            planned=self._planned(question),
            answers=answers.present,
            resolved=answers.resolved(),
            done={name: entry.number for name, entry in done.items()},
            last=answers.last,
        )

    def counted(self, name: str, who: str | None) -> dict[str, Any]:
        """How often each answer was given, and how far people agree."""
        question = self._question(name)
        return {**counted(question, self._answers(question), who), "notes": self.notes()}

    def answer(self, name: str, who: str, object_: str, answer: str, order: str) -> dict[str, Any]:
        """Store one answer; it is on disk when this returns."""
        self._catch_up()
        question = self._question(name)
        self._check_object(question, object_)
        try:
            chosen = question.answer(answer)
        except UnknownName as error:  # the address is of something that is there
            raise UsageError(str(error)) from None
        person = check_who(who)
        book, question = self._open(question)
        number = book.add(question, [(person, object_, chosen)], offered=order)
        self._catch_up()
        return {
            "number": number,
            "object": object_,
            "answer": chosen,
            "labelled": self._labelled(question),
        }

    def undo(self, name: str, who: str) -> dict[str, Any]:
        """Take back the last answer of a person."""
        self._catch_up()
        question = self._question(name)
        if self._book is None or not question.number:
            raise UsageError(f"nothing to undo: no answer of {check_who(who)} holds here")
        gone = self._book.undo(question, who)
        self._catch_up()
        last = gone[-1]
        return {
            "object": last.object,
            "answer": self._answers(question).of(last.object).get(last.who),
            "undone": len(gone),
            "labelled": self._labelled(question),
        }

    def export(self, name: str, *, parquet: bool, every: bool) -> bytes:
        """The answers as a file."""
        self._catch_up()
        table = labels_table(self._answers(self._question(name)), every=every)
        if not parquet:
            return csv_bytes(table)
        stream = io.BytesIO()
        pq.write_table(table, stream)
        return stream.getvalue()

    def take(self, name: str, who: str | None, content: bytes) -> dict[str, Any]:
        """Store the answers of a file."""
        self._catch_up()
        question = self._question(name)
        given = read_given(_table(content, self.limits.import_rows), question, who)
        planned = self._planned(question)
        known: Container[str] | RowIndex = self.embeddings.index
        if planned is not None:
            known = {str(n) for n in planned.plan.drawn_ids}
        book, question = self._open(question)
        taken = take_given(book, question, given, self._answers(question), known)
        self._catch_up()
        return {
            "taken": taken.taken,
            "same": taken.same,
            "unknown": list(taken.unknown[:_SHOWN]),
            "unknown_count": len(taken.unknown),
            "labelled": self._labelled(question),
        }

    def go_on(self, name: str, planned: Planned) -> dict[str, Any]:
        """Ask for the objects of another round."""
        self._catch_up()
        self._plans[name] = planned
        return self._describe(self._question(name))

    def notes(self) -> list[str]:
        """What is to be said of the book."""
        known = {} if self._book is None else self._book.embeddings()
        if not known or self.embeddings.as_parent().fingerprint in known:
            return []
        return [
            f"this book was begun on another embedding ({Path(list(known.values())[-1]).name}): "
            "answers count here for the objects whose ids are in both"
        ]

    def rows(self, names: Iterable[str]) -> np.ndarray:
        """The rows of objects, those that are not in the embedding left out."""
        index = self.embeddings.index
        return np.array([index[name] for name in names if name in index], dtype=np.int64)

    def _catch_up(self) -> None:
        if self._book is None and self.path.exists():
            self._book = LabelBook(self.path)
        if self._book is not None:
            self._ledger.take(self._book.entries(self._ledger.last))

    def _asked(self) -> list[Question]:
        return [] if self._book is None else self._book.questions()

    def _question(self, name: str) -> Question:
        known = {n: planned.question for n, planned in self._plans.items()}
        known |= {question.name: question for question in self._asked()}
        if name not in known:
            raise unknown("question", name, known)
        if known[name].kind == "certify" and name not in self._plans:
            raise UsageError(f"question {name!r} is of a plan; start with --plan FOLDER")
        return known[name]

    def _planned(self, question: Question) -> Planned | None:
        return self._plans[question.name] if question.kind == "certify" else None

    def _answers(self, question: Question) -> Answers:
        return self._ledger.of(question) if question.number else Answers()

    def _open(self, question: Question) -> tuple[LabelBook, Question]:
        """The book, made now if there is none, with the question in it."""
        if self._book is None:
            self._book = LabelBook(self.path, create=True)
        if not question.number:
            question = self._book.ask(question)
        self._book.belongs_to(self.embeddings.as_parent(), len(self.embeddings))
        return self._book, question

    def _describe(self, question: Question) -> dict[str, Any]:
        planned = self._planned(question)
        return {
            "name": question.name,
            "about": question.about,
            "answers": list(question.answers),
            "kind": question.kind,
            "objects": len(self.embeddings) if planned is None else len(planned.ids),
            "labelled": self._labelled(question),
            "people": people_of(self._answers(question)),
            "round": None if planned is None else planned.plan.number,
            "rounds": None if planned is None else rounds_of(planned),
        }

    def _labelled(self, question: Question) -> int:
        held, planned = self._answers(question).held, self._planned(question)
        return len(held) if planned is None else sum(name in held for name in planned.ids)

    def _check_object(self, question: Question, name: str) -> None:
        if name not in self.embeddings.index:
            raise UnknownName(f"unknown id {name!r}; it is not in this embedding")
        planned = self._planned(question)
        if planned is not None and name not in planned.asked:
            raise UsageError(f"{name!r} is not asked for in this round of {question.name!r}")

    def _check_plan(self, planned: Planned) -> None:
        question = planned.question
        strange = [name for name in planned.ids if name not in self.embeddings.index]
        if strange:
            raise Mismatch(
                f"plan {str(planned.folder)!r} asks for {strange[0]!r}, which is not in this "
                "embedding; serve the one it was made from"
            )
        known = {q.name: q for q in self._asked()}.get(question.name)
        if known is not None and known.ranking != question.ranking:
            raise Mismatch(
                f"{str(self.path)!r} has answers to another question {question.name!r}; rename "
                "the plan's folder, or give another --label-book"
            )


def _table(content: bytes, most: int) -> pa.Table:
    """The table in a file's content: Parquet, or CSV."""
    parquet = content[:4] == b"PAR1"
    with TemporaryDirectory() as folder:
        path = Path(folder) / ("labels.parquet" if parquet else "labels.csv")
        path.write_bytes(content)
        if parquet:
            _check_parquet(path, most)
        elif content.count(b"\n") > most + 1:
            raise DataError(f"more than {most} rows; import them in parts")
        try:
            return read_table(path)
        except DataError as error:
            # Where it was put for reading is nobody's concern.
            raise DataError(str(error).replace(str(path), path.name)) from None


def _check_parquet(path: Path, most: int) -> None:
    """Refuse a file that unpacks to more than it should."""
    try:
        with pq.ParquetFile(path) as opened:
            told = opened.metadata
            parts = [told.row_group(i) for i in range(told.num_row_groups)]
            size = sum(part.total_byte_size for part in parts)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"no Parquet file: {in_words(error)}") from None
    if told.num_rows > most or size > _UNPACKED:
        raise DataError(f"{told.num_rows} rows, {size >> 20} MiB; import at most {most} rows")
