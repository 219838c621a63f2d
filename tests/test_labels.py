"""Labels in: words, files, and what must be refused."""

from __future__ import annotations

from pathlib import Path

import astropy.table
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skytwin.answers.certify_bounds import UNKNOWN
from skytwin.answers.labels import NO, UNSURE, YES, Labels, read_labels
from skytwin.errors import DataError, UnknownName, UsageError


def test_unsure_is_what_the_bounds_call_unknown() -> None:
    assert UNSURE == UNKNOWN


@pytest.mark.parametrize(
    ("word", "answer"),
    [
        ("yes", YES), ("Y", YES), (" Positive ", YES), ("TRUE", YES), (True, YES), (1, YES),
        (1.0, YES), ("1", YES), (np.bool_(True), YES),
        ("no", NO), ("n", NO), ("negative", NO), (False, NO), (0, NO), (0.0, NO), ("0", NO),
        ("unsure", UNSURE), ("?", UNSURE), ("Maybe", UNSURE),
    ],
)  # fmt: skip
def test_words(word: object, answer: int) -> None:
    found = Labels.of_rows(["a"], [word])
    assert found.answers == {"a": answer}
    assert found.count(answer) == 1


@pytest.mark.parametrize("blank", [None, float("nan"), "", "  "])
def test_blank_is_no_answer(blank: object) -> None:
    found = Labels.of_rows(["a", "b"], [blank, "no"])
    assert (dict(found.answers), found.blank) == ({"b": NO}, 1)
    assert found.of(["a", "b"]).tolist() == [UNSURE, NO]


def test_nothing_but_blanks() -> None:
    with pytest.raises(DataError, match="no label in 2 row"):
        Labels.of_rows(["a", "b"], [None, ""])


@pytest.mark.parametrize("word", ["perhaps not", "2", 0.5, "-1", "spiral"])
def test_other_words_are_refused_with_their_row(word: object) -> None:
    with pytest.raises(DataError, match="row 2 has label .* expected yes or no"):
        Labels.of_rows(["a", "b"], ["yes", word])


def test_twice_the_same_is_counted_and_twice_different_refused() -> None:
    found = Labels.of_rows(["a", "b", "a", "a"], ["yes", "no", 1, True])
    assert (len(found), found.repeated) == (2, 2)
    with pytest.raises(DataError, match="1 object.* conflicting labels: a; keep one"):
        Labels.of_rows(["a", "b", "a"], ["yes", "no", "unsure"])


def test_label_without_id() -> None:
    with pytest.raises(DataError, match="row 2 has a label but no id"):
        Labels.of_rows(["a", None], ["yes", "no"])


def test_csv_with_ids_that_look_like_numbers(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("order,ID,Label\n1,0012,yes\n2,588017703996096547,no\n3,7,\n")
    found = read_labels(path)
    assert dict(found.answers) == {"0012": YES, "588017703996096547": NO}
    assert (found.blank, found.source) == (1, "mine.csv")


@pytest.mark.parametrize("make", [pa.table, astropy.table.Table])
def test_tables_and_mappings(make: type) -> None:
    table = make({"objid": ["a", "b"], "is_positive": [True, False]})
    assert dict(read_labels(table).answers) == {"a": YES, "b": NO}
    assert dict(read_labels({"a": "yes", "b": 0}).answers) == {"a": YES, "b": NO}
    given_already = Labels.of_rows(["a"], ["yes"])
    assert read_labels(given_already) is given_already


def test_columns_by_name() -> None:
    table = pa.table({"who": ["a"], "verdict": ["yes"], "label": ["no"]})
    found = read_labels(table, id_name="who", label_name="verdict")
    assert dict(found.answers) == {"a": YES}
    with pytest.raises(UnknownName, match="unknown column 'verdikt'; did you mean: verdict"):
        read_labels(table, id_name="who", label_name="verdikt")
    with pytest.raises(UnknownName, match="--id-column"):
        read_labels(table)
    with pytest.raises(UnknownName, match="--label-column"):
        read_labels(pa.table({"id": ["a"], "verdict": ["yes"]}))
    with pytest.raises(UsageError, match="both id and label"):
        read_labels(table, id_name="label")


@given(st.dictionaries(st.text(min_size=1), st.sampled_from([YES, NO, UNSURE]), min_size=1))
def test_what_goes_in_comes_out(answers: dict[str, int]) -> None:
    words = {YES: "yes", NO: "no", UNSURE: "unsure"}
    found = Labels.of_rows(list(answers), [words[a] for a in answers.values()])
    assert dict(found.answers) == answers
    assert found.of(list(answers)).tolist() == list(answers.values())
