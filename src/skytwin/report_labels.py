"""What ``skytwin labels`` prints and saves."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from skytwin.answers.export import write_table
from skytwin.answers.labelling import Answers, Ledger
from skytwin.answers.labelling_agreement import agreement
from skytwin.answers.labelling_book import LabelBook
from skytwin.answers.labelling_files import labels_table, read_given, take_given
from skytwin.answers.labelling_question import Question
from skytwin.embeddings.table import Embeddings
from skytwin.errors import DataError, UsageError
from skytwin.files import require_new

__all__ = ["describe_book", "export_labels", "import_labels"]

_SHOWN = 10


def describe_book(path: Path) -> str:
    """Counts, people and agreement of every question in a book."""
    with LabelBook(path) as book:
        ledger = _ledger(book)
        lines = [
            f"{path}: {len(book.questions())} question(s), {ledger.last} answers and undos stored"
        ]
        lines += [f"  over {where}" for where in book.embeddings().values()]
        for question in book.questions():
            lines += _told(question, ledger.of(question))
    return "\n".join(lines)


def _told(question: Question, answers: Answers) -> list[str]:
    about = f": {question.about}" if question.about else ""
    plan = " (plan)" if question.kind == "certify" else ""
    each = Counter(answers.resolved().values())
    counts = ", ".join(f"{each[a]} {a}" for a in dict.fromkeys([*question.answers, *each]))
    lines = [f"{question.name}{plan}{about}", f"  {len(answers.held)} objects: {counts}"]
    lines += [
        f"  {who}: {count} answers, the last {last[:16].replace('T', ' ')} UTC"
        for who, (count, last) in answers.people.items()
    ]
    if answers.shared:
        lines.append(
            f"  {len(answers.shared)} answered by two or more, who disagree about "
            f"{len(answers.conflicts)}"
        )
        found = agreement(answers.present)
        lines.append("  agreement not defined for these answers" if found is None else f"  {found}")
    return lines


def export_labels(path: Path, out: Path, name: str | None, *, every: bool) -> str:
    """Write the answers to a question as a table; returns what to say of it.

    Raises
    ------
    UsageError
        The book has several questions, or none.
    DataError
        Nothing is answered.
    """
    require_new(out)
    with LabelBook(path) as book:
        question = _chosen(book, name)
        answers = _ledger(book).of(question)
    if not answers.held:
        raise DataError(f"question {question.name!r} has no answer yet; nothing to write")
    table = labels_table(answers, every=every)
    write_table(table, out, {"skytwin": "labels", "question": question.name})
    what = "answers" if every else "objects"
    return f"{len(table)} {what} of {question.name!r} written to {out}"


def import_labels(
    path: Path,
    embedding: Path,
    table: Path,
    *,
    name: str,
    who: str | None,
    id_name: str | None,
    label_name: str | None,
) -> str:
    """Take answers from a table into a book, made if there is none; returns what to say of it."""
    embeddings = Embeddings.open(embedding)
    question = Question(name=name)
    if path.exists():
        with LabelBook(path) as book:
            question = {known.name: known for known in book.questions()}.get(name, question)
    given = read_given(table, question, who, id_name=id_name, label_name=label_name)
    with LabelBook(path, create=True) as book:
        question = question if question.number else book.ask(question)
        book.belongs_to(embeddings.as_parent(), len(embeddings))
        taken = take_given(book, question, given, _ledger(book).of(question), embeddings.index)
    lines = [f"{taken.taken} answers to {name!r} stored in {path}"]
    if taken.same:
        lines.append(f"  {taken.same} were there already")
    if given.blank:
        lines.append(f"  {given.blank} row(s) without an answer left out")
    if taken.unknown:
        some = ", ".join(taken.unknown[:_SHOWN]) + ", ..." * (len(taken.unknown) > _SHOWN)
        lines.append(f"  {len(taken.unknown)} of objects that are not in {embedding}: {some}")
    return "\n".join(lines)


def _chosen(book: LabelBook, name: str | None) -> Question:
    every = book.questions()
    if name is not None:
        return book.question(name)
    if len(every) != 1:
        names = ", ".join(question.name for question in every) or "none"
        raise UsageError(f"{len(every)} questions in this book; name one with --question: {names}")
    return every[0]


def _ledger(book: LabelBook) -> Ledger:
    ledger = Ledger()
    ledger.take(book.entries())
    return ledger
