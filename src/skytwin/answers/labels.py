"""Labels that a person gave: a table of identifiers and answers, yes or no or unsure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from skytwin.addresses import name_of
from skytwin.errors import DataError, UsageError, unknown
from skytwin.images import arrow
from skytwin.images.catalog import id_texts
from skytwin.images.columns import id_column
from skytwin.images.tables import read_table

__all__ = ["NO", "UNSURE", "YES", "Labels", "label_column", "read_labels", "word"]

YES, NO, UNSURE = 1, 0, -1

_WORDS = {
    **dict.fromkeys(("yes", "y", "true", "t", "1", "positive", "pos", "p", "+"), YES),
    **dict.fromkeys(("no", "n", "false", "f", "0", "negative", "neg", "-"), NO),
    **dict.fromkeys(("unsure", "unclear", "unknown", "maybe", "?"), UNSURE),
}
_COLUMNS = ("label", "labels", "answer", "class", "positive", "is_positive", "truth")
_SHOWN = 3


@dataclass(frozen=True, eq=False, kw_only=True)
class Labels:
    """Answers by identifier.

    Attributes
    ----------
    answers : mapping of str to int
        `YES`, `NO` or `UNSURE`, each identifier once.
    repeated : int
        Rows that said again what another row had said.
    blank : int
        Rows without an answer, left out.
    source : str
        Where they come from, for messages.
    """

    answers: Mapping[str, int]
    repeated: int = 0
    blank: int = 0
    source: str = "labels"

    def __len__(self) -> int:
        return len(self.answers)

    def count(self, answer: int) -> int:
        """How many objects got this answer."""
        return sum(given == answer for given in self.answers.values())

    def of(self, ids: Sequence[str]) -> np.ndarray:
        """The answers for some objects, shape (n,), int8; `UNSURE` where there is none."""
        return np.array([self.answers.get(name, UNSURE) for name in ids], dtype=np.int8)

    @classmethod
    def of_rows(cls, ids: Sequence[Any], answers: Sequence[Any], source: str = "labels") -> Labels:
        """Labels from identifiers and answers side by side.

        Parameters
        ----------
        ids : sequence, length n
        answers : sequence, length n
            ``yes``/``no``, ``positive``/``negative``, ``true``/``false``, 1/0, ``unsure``, or
            nothing (None, NaN, empty text), in either case and any mixture.

        Raises
        ------
        DataError
            An answer is none of these; one object has two different answers; there is none.
        """
        found: dict[str, int] = {}
        repeated = blank = 0
        conflicts: list[str] = []
        for row, (name, given) in enumerate(zip(ids, answers, strict=True), start=1):
            answer = _answer(given, row, source)
            if answer is None:
                blank += 1
                continue
            if name is None:
                raise DataError(f"{source}: row {row} has a label but no id; add the id")
            key = str(name)
            if key not in found:
                found[key] = answer
            elif found[key] == answer:
                repeated += 1
            else:
                conflicts.append(key)
        if conflicts:
            some = sorted(set(conflicts))
            raise DataError(
                f"{source}: {len(some)} object(s) with conflicting labels: "
                f"{', '.join(some[:_SHOWN])}{', ...' if len(some) > _SHOWN else ''}; keep one "
                "answer each, or call them unsure"
            )
        if not found:
            raise DataError(
                f"{source}: no label in {blank} row(s); fill the column label with yes or no"
            )
        return cls(answers=found, repeated=repeated, blank=blank, source=source)


def read_labels(
    given: str | Path | Labels | Mapping[str, Any] | object,
    *,
    id_name: str | None = None,
    label_name: str | None = None,
) -> Labels:
    """Labels from a file, a table, or a mapping of identifiers to answers.

    Parameters
    ----------
    given : path, Labels, mapping, or pyarrow, astropy or pandas table
        A file of any kind that `read_table` takes. A mapping goes from identifier to answer.
    id_name, label_name : str, optional
        The columns, where their names do not say.

    Raises
    ------
    UnknownName
        There is no such column, or none whose name says what it is.
    DataError
        See `Labels.of_rows`.
    """
    if isinstance(given, Labels):
        return given
    if isinstance(given, Mapping):
        return Labels.of_rows(list(given), list(given.values()))
    if isinstance(given, (str, Path)):
        source, table = name_of(given), read_table(Path(given))
    else:
        source, table = "labels", arrow.from_any(given)
    named = id_column(table, id_name)
    label = label_column(table, label_name)
    if named == label:
        raise UsageError(f"{source}: column {named!r} cannot be both id and label; name the other")
    return Labels.of_rows(id_texts(table, named).to_pylist(), table[label].to_pylist(), source)


def word(text: str) -> int | None:
    """`YES`, `NO` or `UNSURE` for a word that says so, in either case; None for another."""
    return _WORDS.get(text.strip().lower())


def label_column(table: pa.Table, name: str | None = None) -> str:
    """The column of answers: the one named, or the first whose name says so.

    Raises
    ------
    UnknownName
        There is no such column, or none whose name says so.
    """
    if name is not None:
        if name not in table.column_names:
            raise unknown("column", name, table.column_names)
        return name
    for wanted in _COLUMNS:
        for column in table.column_names:
            if column.lower() == wanted:
                return str(column)
    raise unknown(
        "column", "label", table.column_names, "name the column of answers with --label-column"
    )


def _answer(given: Any, row: int, source: str) -> int | None:
    if given is None or (isinstance(given, float) and np.isnan(given)):
        return None
    if isinstance(given, (bool, np.bool_)):
        return YES if given else NO
    text = str(given).strip().lower()
    if isinstance(given, (float, np.floating)) and float(given).is_integer():
        text = str(int(given))
    if not text:
        return None
    if text not in _WORDS:
        raise DataError(
            f"{source}: row {row} has label {str(given)[:40]!r}; expected yes or no (or positive, "
            "negative, true, false, 1, 0), unsure, or nothing"
        )
    return _WORDS[text]
