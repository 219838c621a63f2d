"""The label book: what people answered, in one SQLite file to which is only ever added.

Every answer and every undo is a row of ``log``; nothing is changed or removed. A row is on disk
before it is acknowledged (write-ahead log, ``synchronous=FULL``), and several processes may write
to one book: each addition is a transaction that waits for the others. What holds now is worked
out of the rows by `skytwin.answers.labelling.Ledger`.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

from skytwin.answers.labelling_question import Entry, Question, check_id, check_who
from skytwin.artefact import Parent
from skytwin.errors import DamagedArtefact, DataError, UsageError, unknown

__all__ = ["LabelBook"]

# "sktl", as SQLite files say whose they are.
_APPLICATION, _VERSION = 0x736B746C, 1
_PATIENCE_SECONDS = 10.0
_SCHEMA = {
    "embeddings": """CREATE TABLE embeddings (
 fingerprint TEXT PRIMARY KEY, path TEXT NOT NULL, objects INTEGER NOT NULL, at TEXT NOT NULL)""",
    "questions": """CREATE TABLE questions (
 number INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, about TEXT NOT NULL,
 answers TEXT NOT NULL, kind TEXT NOT NULL, ranking TEXT, at TEXT NOT NULL)""",
    "log": """CREATE TABLE log (
 number INTEGER PRIMARY KEY AUTOINCREMENT, question INTEGER NOT NULL REFERENCES questions (number),
 object TEXT NOT NULL, answer TEXT, who TEXT NOT NULL, at TEXT NOT NULL, offered TEXT NOT NULL,
 batch INTEGER NOT NULL, undoes INTEGER UNIQUE REFERENCES log (number),
 CHECK ((answer IS NULL) = (undoes IS NOT NULL)))""",
    "log_who": "CREATE INDEX log_who ON log (question, who, number)",
    "log_kept": """CREATE TRIGGER log_kept BEFORE DELETE ON log BEGIN
 SELECT RAISE (ABORT, 'the log is only added to'); END""",
    "log_fixed": """CREATE TRIGGER log_fixed BEFORE UPDATE ON log BEGIN
 SELECT RAISE (ABORT, 'the log is only added to'); END""",
}


class LabelBook:
    """An open label book; safe to use from several threads.

    Parameters
    ----------
    path : path
    create : bool
        Make it where there is none.

    Attributes
    ----------
    path : Path
    writable : bool

    Raises
    ------
    UsageError
        There is none; it may not be made there.
    DamagedArtefact
        The file is damaged.
    DataError
        It is something else, or of a later version.
    """

    def __init__(self, path: str | Path, *, create: bool = False) -> None:
        self.path = Path(path)
        if not create and not self.path.is_file():
            raise UsageError(f"no label book {str(self.path)!r}; make one with skytwin serve")
        if create and not self.path.parent.is_dir():
            raise UsageError(
                f"no folder {str(self.path.parent)!r} to keep labels in; make it first"
            )
        self._lock = threading.RLock()
        with self._errors():
            self._base, self.writable = self._connected()
            try:
                self._prepare()
            except BaseException:
                self._base.close()
                raise

    def _connected(self) -> tuple[sqlite3.Connection, bool]:
        try:
            base = self._at("rwc")
            base.execute("PRAGMA journal_mode = WAL")
            base.execute("BEGIN IMMEDIATE")
            base.execute("ROLLBACK")
        except sqlite3.OperationalError as error:
            told = str(error)
            if not ("readonly" in told or "unable to open" in told) or not self.path.is_file():
                raise
        else:
            return base, True
        # A folder that may not be written in has no place for the files a log needs.
        for mode in ("ro", "ro&immutable=1"):
            base = self._at(mode)
            try:
                base.execute("SELECT count(*) FROM sqlite_master").fetchone()
            except sqlite3.OperationalError:
                base.close()
            else:
                return base, False
        raise UsageError(f"may not read {str(self.path)!r}")

    def _at(self, mode: str) -> sqlite3.Connection:
        address = f"file:{quote(str(self.path.absolute()))}?mode={mode}"
        base = sqlite3.connect(
            address,
            uri=True,
            timeout=_PATIENCE_SECONDS,
            isolation_level=None,
            check_same_thread=False,
        )
        base.execute("PRAGMA synchronous = FULL")
        base.execute("PRAGMA foreign_keys = ON")
        base.execute("PRAGMA trusted_schema = OFF")
        return base

    def _prepare(self) -> None:
        base, where = self._base, repr(str(self.path))
        found = dict(base.execute("SELECT name, sql FROM sqlite_master WHERE sql NOT NULL"))
        if not found and self.writable:
            with self._writing():
                # Another process may have been faster.
                if not base.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                    for statement in _SCHEMA.values():
                        base.execute(statement)
                    base.execute(f"PRAGMA application_id = {_APPLICATION}")
                    base.execute(f"PRAGMA user_version = {_VERSION}")
            found = dict(base.execute("SELECT name, sql FROM sqlite_master WHERE sql NOT NULL"))
        if base.execute("PRAGMA application_id").fetchone()[0] != _APPLICATION:
            raise DataError(f"{where} is an SQLite file, but no label book; name another")
        version = base.execute("PRAGMA user_version").fetchone()[0]
        if version > _VERSION:
            raise DataError(
                f"{where} is a label book of version {version}, this skytwin knows {_VERSION}; "
                "use a later skytwin"
            )
        if {n: sql for n, sql in found.items() if not n.startswith("sqlite_")} != _SCHEMA:
            raise DamagedArtefact(f"{where} lacks tables of a label book; restore a copy of it")
        told = " ".join(base.execute("PRAGMA quick_check (1)").fetchone()[0].split())
        if told != "ok":
            raise DamagedArtefact(f"{where} is damaged ({told}); restore a copy of it")

    def close(self) -> None:
        """Let go of the file; what was stored is in it, and in it alone."""
        with self._lock:
            self._base.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def questions(self) -> list[Question]:
        """All questions, the oldest first."""
        fields = "number, name, about, answers, kind, ranking"
        with self._lock, self._errors():
            rows = self._base.execute(f"SELECT {fields} FROM questions ORDER BY number").fetchall()
        return [
            Question(
                number=number,
                name=name,
                about=about,
                answers=tuple(json.loads(answers)),
                kind=kind,
                ranking=ranking,
            )
            for number, name, about, answers, kind, ranking in rows
        ]

    def question(self, name: str) -> Question:
        """One question.

        Raises
        ------
        UnknownName
            There is none of that name.
        """
        every = {question.name: question for question in self.questions()}
        if name not in every:
            raise unknown("question", name, every)
        return every[name]

    def ask(self, question: Question) -> Question:
        """Put a question into the book.

        Returns
        -------
        Question
            As it is there: the one that was put before, if it is the same.

        Raises
        ------
        UsageError
            Another one has the name.
        """
        with self._lock, self._writing():
            for known in self.questions():
                if known.name != question.name:
                    continue
                mine = (question.answers, question.kind, question.ranking)
                if (known.answers, known.kind, known.ranking) != mine:
                    raise UsageError(
                        f"question {question.name!r} is in this book already, with answers "
                        f"{', '.join(known.answers)}; choose another name"
                    )
                return known
            self._base.execute(
                "INSERT INTO questions (name, about, answers, kind, ranking, at) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                (
                    question.name,
                    question.about,
                    json.dumps(list(question.answers), ensure_ascii=False),
                    question.kind,
                    question.ranking,
                    _now(),
                ),
            )
            return self.question(question.name)

    def add(
        self, question: Question, answers: Sequence[tuple[str, str, str]], *, offered: str
    ) -> int:
        """Store answers, all or none; they are on disk when this returns.

        Parameters
        ----------
        question : Question
            Of this book.
        answers : sequence of (str, str, str)
            Who answered, identifier and answer; at least one. Those of a person are undone
            together.
        offered : str
            The order in which the objects were shown.

        Returns
        -------
        int
            Number of the last row.
        """
        rows = [
            (check_who(who), check_id(one), question.answer(answer)) for who, one, answer in answers
        ]
        at = _now()
        with self._lock, self._writing():
            first = self._last() + 1
            self._base.executemany(
                "INSERT INTO log (number, question, object, answer, who, at, offered, batch) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    (first + place, question.number, one, answer, who, at, offered, first)
                    for place, (who, one, answer) in enumerate(rows)
                ],
            )
            return first + len(rows) - 1

    def undo(self, question: Question, who: str) -> list[Entry]:
        """Take back the last answer of a person that holds; of a file, all that came with it.

        Returns
        -------
        list of Entry
            The answers that no longer hold.

        Raises
        ------
        UsageError
            There is none.
        """
        name = check_who(who)
        holds = (
            "question = ? AND who = ? AND undoes IS NULL AND NOT EXISTS "
            "(SELECT 1 FROM log AS later WHERE later.undoes = log.number)"
        )
        with self._lock, self._writing():
            last = self._base.execute(
                f"SELECT batch FROM log WHERE {holds} ORDER BY number DESC LIMIT 1",
                (question.number, name),
            ).fetchone()
            if last is None:
                raise UsageError(f"nothing to undo: no answer of {name} holds here")
            rows = self._base.execute(
                f"SELECT * FROM log WHERE {holds} AND batch = ? ORDER BY number",
                (question.number, name, last[0]),
            ).fetchall()
            gone = [_entry(row) for row in rows]
            first, at = self._last() + 1, _now()
            self._base.executemany(
                "INSERT INTO log (number, question, object, who, at, offered, batch, undoes) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    (first + n, one.question, one.object, name, at, one.offered, first, one.number)
                    for n, one in enumerate(gone)
                ],
            )
            return gone

    def entries(self, after: int = 0) -> list[Entry]:
        """The rows of the log that come after one, in order."""
        with self._lock, self._errors():
            rows = self._base.execute(
                "SELECT * FROM log WHERE number > ? ORDER BY number", (after,)
            ).fetchall()
        return [_entry(row) for row in rows]

    def belongs_to(self, parent: Parent, objects: int) -> None:
        """Record that answers are given over this embedding."""
        with self._lock, self._writing():
            self._base.execute(
                "INSERT OR IGNORE INTO embeddings VALUES (?, ?, ?, ?)",
                (parent.fingerprint, parent.path, objects, _now()),
            )

    def embeddings(self) -> dict[str, str]:
        """Paths of the embeddings that answers were given over, by fingerprint."""
        with self._lock, self._errors():
            return dict(self._base.execute("SELECT fingerprint, path FROM embeddings ORDER BY at"))

    def _last(self) -> int:
        found = self._base.execute("SELECT max(number) FROM log").fetchone()[0]
        return int(found or 0)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        with self._errors():
            self._base.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._base.execute("ROLLBACK")
                raise
            self._base.execute("COMMIT")

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        where = repr(str(self.path))
        try:
            yield
        except sqlite3.OperationalError as error:
            told = str(error)
            if "locked" in told or "busy" in told:
                raise DataError(
                    f"{where} is held by another program for more than {_PATIENCE_SECONDS:.0f} s; "
                    "try again"
                ) from error
            if "full" in told:
                raise DataError(f"disk full while writing {where}; make space") from error
            if "readonly" in told or "unable to open" in told:
                raise UsageError(f"may not write {where}; name another place") from error
            raise DamagedArtefact(f"{where} cannot be used ({told}); restore a copy") from error
        except sqlite3.DatabaseError as error:
            if "not a database" in str(error):
                raise DataError(f"{where} is no label book; name another") from error
            raise DamagedArtefact(f"{where} is damaged ({error}); restore a copy") from error


def _now() -> str:
    now = dt.datetime.now(dt.UTC)
    return now.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _entry(row: Sequence[object]) -> Entry:
    names = ("number", "question", "object", "answer", "who", "at", "offered", "batch", "undoes")
    return Entry(**dict(zip(names, row, strict=True)))  # type: ignore[arg-type]
