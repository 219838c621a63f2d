"""Label books, agreement, and learning from labels."""

from __future__ import annotations

import itertools
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from skytwin.answers.labelling import Answers, Ledger, Meaning, by_row, resolved
from skytwin.answers.labelling_agreement import agreement, alpha
from skytwin.answers.labelling_book import LabelBook
from skytwin.answers.labelling_files import labels_table, read_given, take_given
from skytwin.answers.labelling_learn import POOL, Posterior, gain, relearn
from skytwin.answers.labelling_purity import list_purity, random_order
from skytwin.answers.labelling_question import Question
from skytwin.answers.labels import NO, UNSURE, YES, read_labels
from skytwin.answers.query import reference_at
from skytwin.embeddings.table import Embeddings
from skytwin.errors import DamagedArtefact, DataError, UnknownName, UsageError

EDGE = Question(name="edge-on", about="seen from the side?")


@pytest.fixture
def book(tmp_path: Path) -> Iterator[LabelBook]:
    with LabelBook(tmp_path / "b.sqlite", create=True) as found:
        yield found


def held(book: LabelBook, question: Question) -> Answers:
    ledger = Ledger()
    ledger.take(book.entries())
    return ledger.of(question)


# The book


def test_what_is_stored_is_there_again(tmp_path: Path) -> None:
    path = tmp_path / "b.sqlite"
    with LabelBook(path, create=True) as book:
        edge = book.ask(EDGE)
        assert book.ask(EDGE) == edge
        other = book.ask(Question(name="type", answers=("spiral", "elliptical", "?")))
        assert book.add(edge, [("ann", "a", "YES")], offered="top") == 1
        assert book.add(edge, [("bob", "a", "no"), ("bob", "b", "unsure")], offered="import") == 3
        assert book.add(other, [("ann", "a", "spiral")], offered="random") == 4
    assert [file.name for file in tmp_path.iterdir()] == ["b.sqlite"]
    with LabelBook(path) as book:
        assert book.questions() == [edge, other]
        assert book.question("edge-on").about == EDGE.about
        assert held(book, edge).present == {
            "a": {"ann": "yes", "bob": "no"},
            "b": {"bob": "unsure"},
        }
        assert held(book, other).present == {"a": {"ann": "spiral"}}
        first = book.entries()[0]
        assert (first.number, first.offered, first.at[-1], first.undoes) == (1, "top", "Z", None)


def test_the_file_itself_refuses_to_forget(book: LabelBook) -> None:
    edge = book.ask(EDGE)
    book.add(edge, [("ann", "a", "yes")], offered="top")
    with sqlite3.connect(book.path) as base:
        assert base.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        for change in ("DELETE FROM log", "UPDATE log SET answer = 'no'"):
            with pytest.raises(sqlite3.IntegrityError, match="only added to"):
                base.execute(change)
    base.close()
    # As strict as it goes: each commit is flushed.
    assert book._base.execute("PRAGMA synchronous").fetchone() == (2,)


def test_questions_and_answers_are_checked(book: LabelBook) -> None:
    edge = book.ask(EDGE)
    for bad in ({"name": ""}, {"name": "a/b"}, {"name": "x" * 81}, {"name": "x\n"}, {"name": ".."}):
        with pytest.raises(UsageError, match="question"):
            Question(**bad)
    for answers in (("yes",), ("yes", "Yes"), ("yes", " no"), tuple(map(str, range(10)))):
        with pytest.raises(UsageError, match="answer"):
            Question(name="q", answers=answers)
    with pytest.raises(UsageError, match="already, with answers yes, no, unsure"):
        book.ask(Question(name="edge-on", answers=("yes", "no")))
    with pytest.raises(UnknownName, match="did you mean: unsure"):
        book.add(edge, [("ann", "a", "unsur")], offered="top")
    with pytest.raises(UsageError, match="name ''"):
        book.add(edge, [("  ", "a", "yes")], offered="top")
    with pytest.raises(UsageError, match="id"):
        book.add(edge, [("ann", "a", "yes"), ("ann", "\ud800", "yes")], offered="top")
    assert book.entries() == []
    with pytest.raises(UsageError, match="no label book"):
        LabelBook(book.path.with_name("none.sqlite"))


def test_undo_takes_back_one_answer_or_a_whole_file(book: LabelBook) -> None:
    edge = book.ask(EDGE)
    book.add(edge, [("ann", "a", "yes")], offered="top")
    book.add(edge, [("ann", "a", "no")], offered="top")
    book.add(edge, [("ann", "b", "no"), ("bob", "b", "yes"), ("ann", "c", "no")], offered="import")
    assert [one.object for one in book.undo(edge, "ann")] == ["b", "c"]
    assert held(book, edge).present == {"a": {"ann": "no"}, "b": {"bob": "yes"}}
    assert [one.answer for one in book.undo(edge, " ann ")] == ["no"]
    assert held(book, edge).of("a") == {"ann": "yes"}
    assert [one.answer for one in book.undo(edge, "ann")] == ["yes"]
    with pytest.raises(UsageError, match="nothing to undo: no answer of ann"):
        book.undo(edge, "ann")
    assert held(book, edge).present == {"b": {"bob": "yes"}}
    assert len(book.entries()) == 9


class Undoing(RuleBasedStateMachine):
    """Any answers and undos of two people against a plain list of what holds."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = itertools.count()
        self.folder = Path(os.environ["SKYTWIN_TEST_BOOKS"])
        self.path = self.folder / f"{time.monotonic_ns()}.sqlite"
        self.book = LabelBook(self.path, create=True)
        self.edge = self.book.ask(EDGE)
        self.ledger = Ledger()
        self.model: list[list[tuple[str, str, str]]] = []

    @rule(
        who=st.sampled_from("ab"),
        name=st.sampled_from("xyz"),
        answer=st.sampled_from(["yes", "no"]),
    )
    def answer(self, who: str, name: str, answer: str) -> None:
        self.book.add(self.edge, [(who, name, answer)], offered="top")
        self.model.append([(who, name, answer)])

    @rule(who=st.sampled_from("ab"))
    def several(self, who: str) -> None:
        rows = [(who, "x", "no"), (who, "y", "yes")]
        self.book.add(self.edge, rows, offered="import")
        self.model.append(rows)

    @rule(who=st.sampled_from("ab"))
    def undo(self, who: str) -> None:
        own = [place for place, rows in enumerate(self.model) if rows[0][0] == who]
        if not own:
            with pytest.raises(UsageError, match="nothing to undo"):
                self.book.undo(self.edge, who)
            return
        gone = [(one.who, one.object, one.answer) for one in self.book.undo(self.edge, who)]
        assert gone == self.model.pop(own[-1])

    @rule()
    def open_again(self) -> None:
        self.book.close()
        self.book = LabelBook(self.path)

    @invariant()
    def the_same_holds(self) -> None:
        self.ledger.take(self.book.entries(self.ledger.last))
        expected: dict[str, dict[str, str]] = {}
        for who, name, answer in itertools.chain(*self.model):
            expected.setdefault(name, {})[who] = answer
        assert self.ledger.of(self.edge).present == expected
        assert held(self.book, self.edge).present == expected

    def teardown(self) -> None:
        self.book.close()


def test_undo_sequences_against_a_plain_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hypothesis.stateful import run_state_machine_as_test

    monkeypatch.setenv("SKYTWIN_TEST_BOOKS", str(tmp_path))
    run_state_machine_as_test(
        Undoing, settings=settings(max_examples=15, stateful_step_count=20, deadline=None)
    )


def test_two_writers_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "b.sqlite"
    problems: list[BaseException] = []

    def write(who: str) -> None:
        try:
            with LabelBook(path, create=True) as book:  # both make it
                edge = book.ask(EDGE)
                for i in range(40):
                    book.add(edge, [(who, f"o{i}", "yes")], offered="top")
                    if i % 4 == 3:
                        book.undo(edge, who)
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=write, args=(who,)) for who in ("ann", "bob")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    with LabelBook(path) as book:
        entries = book.entries()
        assert [one.number for one in entries] == list(range(1, 101))
        found = held(book, book.question("edge-on"))
        wanted = {f"o{i}" for i in range(40) if i % 4 != 3}
        assert set(found.by("ann")) == set(found.by("bob")) == wanted


def test_a_kill_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "b.sqlite"
    code = (
        "import sys\nfrom pathlib import Path\n"
        "from skytwin.answers.labelling_book import LabelBook\n"
        "from skytwin.answers.labelling_question import Question\n"
        "book = LabelBook(Path(sys.argv[1]), create=True)\n"
        "edge = book.ask(Question(name='edge-on'))\n"
        "i = 0\n"
        "while True:\n"
        "    print(book.add(edge, [('ann', f'o{i}', 'yes')], offered='top'), flush=True)\n"
        "    i += 1\n"
    )
    said = 0
    for _ in range(2):
        writer = subprocess.Popen(
            [sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout is not None
        for _ in range(60):
            said = int(writer.stdout.readline())
        writer.send_signal(signal.SIGKILL)
        said = max([said, *map(int, writer.stdout.read().split())])
        writer.wait()
        writer.stdout.close()
        with LabelBook(path) as book:
            numbers = [one.number for one in book.entries()]
        assert numbers[:said] == list(range(1, said + 1))
        assert len(numbers) <= said + 1


def test_foreign_and_damaged_files_are_one_clear_line(tmp_path: Path) -> None:
    text = tmp_path / "t.sqlite"
    text.write_text("id,label\n" * 500)
    with pytest.raises(DataError, match="no label book"):
        LabelBook(text)
    foreign = tmp_path / "f.sqlite"
    with sqlite3.connect(foreign) as base:
        base.execute("CREATE TABLE t (x)")
    base.close()
    with pytest.raises(DataError, match="an SQLite file, but no label book"):
        LabelBook(foreign)
    path = tmp_path / "b.sqlite"
    with LabelBook(path, create=True) as book:
        edge = book.ask(EDGE)
        book.add(edge, [("ann", f"o{i}", "yes") for i in range(500)], offered="top")
    later = tmp_path / "later.sqlite"
    later.write_bytes(path.read_bytes())
    with sqlite3.connect(later) as base:
        base.execute("PRAGMA user_version = 9")
    base.close()
    with pytest.raises(DataError, match="version 9, this skytwin knows 1"):
        LabelBook(later)
    lacking = tmp_path / "lacking.sqlite"
    lacking.write_bytes(path.read_bytes())
    with sqlite3.connect(lacking) as base:
        base.execute("DROP TRIGGER log_kept")
    base.close()
    with pytest.raises(DamagedArtefact, match="lacks tables"):
        LabelBook(lacking)
    whole = path.read_bytes()
    refused: list[str] = []
    for start in range(0, len(whole), 2048):
        path.write_bytes(whole[:start] + b"\xff" * 2048 + whole[start + 2048 :])
        try:
            with LabelBook(path) as book:
                held(book, book.question("edge-on"))
        except DataError as error:
            refused.append(str(error))
    assert not any("\n" in line for line in refused)
    assert len(refused) > len(whole) / 2048 / 2  # room that holds nothing yet is not missed
    path.write_bytes(b"")
    with LabelBook(path) as book:  # an empty file is an empty book
        assert book.questions() == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_book_that_may_not_be_written_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    folder.mkdir()
    with LabelBook(folder / "b.sqlite", create=True) as book:
        book.add(book.ask(EDGE), [("ann", "a", "yes")], offered="top")
    folder.chmod(0o555)
    try:
        with LabelBook(folder / "b.sqlite") as book:
            assert not book.writable
            assert len(book.entries()) == 1
            with pytest.raises(UsageError, match="may not write"):
                book.ask(Question(name="other"))
    finally:
        folder.chmod(0o755)


def test_another_program_that_holds_the_book_is_told_of(
    book: LabelBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    edge = book.ask(EDGE)
    book._base.execute("PRAGMA busy_timeout = 50")
    other = sqlite3.connect(book.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(DataError, match="held by another program"):
        book.add(edge, [("ann", "a", "yes")], offered="top")
    other.execute("COMMIT")
    other.close()
    assert book.add(edge, [("ann", "a", "yes")], offered="top") == 1


# What holds


def test_the_answer_of_most_people_counts() -> None:
    assert resolved(["yes", "no", "yes"]) == "yes"
    assert resolved(["yes", "no"]) == "unsure"
    assert resolved(["unsure", "unsure", "yes"]) == "unsure"
    assert resolved(["spiral"]) == "spiral"


def test_words_for_yes_and_no_are_understood() -> None:
    usual = Meaning.read(EDGE)
    assert (usual.positive, dict(usual.of)) == ("yes", {"yes": YES, "no": NO, "unsure": UNSURE})
    kinds = Question(name="t", answers=("spiral", "elliptical", "unsure"))
    assert Meaning.read(kinds).of == {"spiral": YES, "elliptical": NO, "unsure": UNSURE}
    assert Meaning.read(kinds, "elliptical").of["spiral"] == NO
    more = Question(name="m", answers=("No", "Yes", "artefact"))
    assert Meaning.read(more).of == {"No": NO, "Yes": YES, "artefact": UNSURE}
    with pytest.raises(UnknownName, match="unknown answer 'round'"):
        Meaning.read(kinds, "round")


def people(*lines: str) -> dict[str, dict[str, str]]:
    """One line of answers per person; a dot where there is none."""
    found: dict[str, dict[str, str]] = {}
    for who, line in enumerate(lines):
        for name, answer in enumerate(line.split()):
            if answer != ".":
                found.setdefault(str(name), {})[str(who)] = answer
    return found


@pytest.mark.parametrize(
    ("lines", "value"),
    [
        # Krippendorff (2011), examples A, B and C.
        (("0 1 0 0 0 0 0 0 1 0", "1 1 1 0 0 1 0 0 0 0"), 0.095),
        (("a a b b d c c c e d d a", "b a b b b c c c e d d d"), 0.692),
        (
            (
                "1 2 3 3 2 1 4 1 2 . . .",
                "1 2 3 3 2 2 4 1 2 5 . 3",
                ". 3 3 3 2 3 4 2 2 5 1 .",
                "1 2 3 3 2 4 4 1 2 5 1 .",
            ),
            0.743,
        ),
        # Of three coders, in the encyclopaedia.
        (
            (
                ". . . . . 3 4 1 2 1 1 3 3 . 3",
                "1 . 2 1 3 3 4 3 . . . . . . .",
                ". . 2 1 3 4 4 . 2 1 1 3 3 . 4",
            ),
            0.691,
        ),
    ],
)
def test_agreement_is_that_of_published_examples(lines: tuple[str, ...], value: float) -> None:
    found = agreement(people(*lines))
    assert found is not None
    assert found.value == pytest.approx(value, abs=5e-4)
    assert found.lower <= found.value <= found.upper
    assert found == agreement(people(*lines))


def test_agreement_has_the_interval_of_a_plain_bootstrap() -> None:
    rng = np.random.default_rng(1)
    truth = rng.random(200) < 0.3
    lines = [" ".join("ny"[int(t ^ (rng.random() < 0.1))] for t in truth) for _ in range(3)]
    found = agreement(people(*lines))
    assert found is not None
    each = people(*lines)
    counts = np.array([[list(e.values()).count(a) for a in "ny"] for e in each.values()])
    plain = [alpha(counts[rng.integers(0, 200, 200)], np.ones((1, 200)))[0] for _ in range(1000)]
    lower, upper = np.quantile(plain, (0.025, 0.975))
    assert (found.lower, found.upper) == pytest.approx((lower, upper), abs=0.02)
    assert found.pairs == 600


def test_agreement_that_is_not_defined_is_none() -> None:
    assert agreement({}) is None
    assert agreement(people("y y y y y y")) is None
    assert agreement(people("y y y y y y", "y y y y y y")) is None
    assert agreement(people("y n y", "y n y")) is None  # of three objects nothing is said
    found = agreement(people("y n y n y", "y n y n y"))
    assert found is not None
    assert found.value == 1.0


def test_tables_go_out_and_come_back(book: LabelBook, tmp_path: Path) -> None:
    edge = book.ask(EDGE)
    book.add(edge, [("ann", "b", "yes"), ("ann", "a", "no"), ("ann", "c", "yes")], offered="top")
    book.add(edge, [("bob", "b", "no"), ("bob", "a", "no")], offered="random")
    table = labels_table(held(book, edge))
    assert table.to_pydict() == {
        "id": ["a", "b", "c"],
        "label": ["no", "unsure", "yes"],
        "people": [2, 2, 1],
        "agreed": [2, 0, 1],
    }
    assert read_labels(table).answers == {"a": NO, "b": UNSURE, "c": YES}
    every = labels_table(held(book, edge), every=True)
    assert every["who"].to_pylist() == ["ann", "bob", "ann", "bob", "ann"]
    other = book.ask(Question(name="again"))
    given = read_given(every, other, None)
    taken = take_given(book, other, given, held(book, other), {"a", "b"})
    assert (taken.taken, taken.same, taken.unknown) == (4, 0, ("c",))
    back = held(book, other).present
    assert back == {n: said for n, said in held(book, edge).present.items() if n != "c"}
    again = take_given(book, other, given, held(book, other), {"a", "b"})
    assert (again.taken, again.same) == (0, 4)


def test_imports_are_checked(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"

    def given(text: str, who: str | None = "ann") -> dict[str, dict[str, str]]:
        path.write_text(text)
        return read_given(path, EDGE, who).answers

    assert given("id,label\na,Y\nb,0\nc,maybe\nd,\n") == {
        "ann": {"a": "yes", "b": "no", "c": "unsure"}
    }
    assert given("objID,answer,who\n1,yes,bob\n", None) == {"bob": {"1": "yes"}}
    for text, who, problem in (
        ("id,label\na,yes\na,no\n", "ann", "row 2: 'a' has another answer"),
        ("id,label\na,perhaps so\n", "ann", "row 1: unknown answer 'perhaps so'"),
        ("id,label\na,\n", "ann", "no label in 1 row"),
        ("id,label,who\na,yes,\n", None, "row 1: name ''"),
        ("id,label\n,yes\n", "ann", "has a label but no id"),
    ):
        with pytest.raises(DataError, match=problem):
            given(text, who)
    with pytest.raises(UsageError, match="say who answered"):
        given("id,label\na,yes\n", None)
    numbers = pa.table({"id": ["a", "b"], "label": [1.0, float("nan")]})
    assert read_given(numbers, EDGE, "ann").answers == {"ann": {"a": "yes"}}


# Learning


def field(count: int = 600, dim: int = 20, seed: int = 0) -> tuple[Embeddings, np.ndarray]:
    """Objects of which one in six lies somewhat apart."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((count, dim)).astype(np.float32)
    y = rng.random(count) < 1 / 6
    x[y, :4] += 1.5
    return Embeddings.from_arrays(x, [f"o{i:04d}" for i in range(count)]), y


def test_relearning_is_the_logistic_regression_of_scikit_learn() -> None:
    embeddings, truth = field()
    rows = np.arange(0, 60)
    model = relearn(embeddings, rows, truth[rows])
    p = model.posterior
    fitted = LogisticRegression(C=1 / p._ridge, tol=1e-8, max_iter=10_000)
    fitted.fit(p.z, p.target, sample_weight=p.weight)
    mean, scale = embeddings.statistics.mean, embeddings.statistics.scale
    every = fitted.decision_function((np.asarray(embeddings.vectors) - mean) / scale)
    assert model.logit == pytest.approx(every, abs=1e-3)
    assert len(p.z) == 360
    again = relearn(embeddings, rows, truth[rows])
    assert np.array_equal(again.logit, model.logit)
    assert np.array_equal(again.order("gain"), model.order("gain"))


def test_uncertainty_is_laplaces_either_way() -> None:
    embeddings, truth = field(dim=400, count=500)
    rows = np.arange(60)
    found = relearn(embeddings, rows, truth[rows]).posterior
    x = embeddings.sample(0).standardized(embeddings.vectors.take(np.arange(100, 130)))
    p, level = expit(found.logit), np.sqrt(10 * found._ridge)
    z = np.c_[found.z, np.full(len(found.z), level)]
    h = found._ridge * np.eye(401) + (z * (found.weight * p * (1 - p))[:, None]).T @ z
    raised = np.c_[x, np.full(30, level)]
    plain = raised @ np.linalg.solve(h, raised.T)
    vectors = embeddings.vectors.take(np.arange(100, 130))
    assert found._wide
    assert found.covariance(vectors) == pytest.approx(plain, rel=1e-6, abs=1e-9)
    few = Posterior(**{**vars_of(found), "z": np.r_[found.z, found.z], **twice(found)})
    assert not few._wide
    two = found._ridge * np.eye(401) + 2 * (h - found._ridge * np.eye(401))
    assert few.covariance(vectors) == pytest.approx(raised @ np.linalg.solve(two, raised.T))


def vars_of(found: Posterior) -> dict[str, object]:
    return {name: getattr(found, name) for name in ("embeddings", "seed")}


def twice(found: Posterior) -> dict[str, np.ndarray]:
    return {n: np.r_[getattr(found, n), getattr(found, n)] for n in ("logit", "target", "weight")}


def test_leaving_out_is_near_to_learning_without() -> None:
    embeddings, truth = field(count=400, dim=8)
    rows = np.arange(40)
    found = relearn(embeddings, rows, truth[rows]).posterior
    without = []
    for place in range(40):
        kept = np.arange(len(found.z)) != place
        fitted = LogisticRegression(C=1 / found._ridge, tol=1e-9, max_iter=10_000)
        fitted.fit(found.z[kept], found.target[kept], sample_weight=found.weight[kept])
        without.append(fitted.decision_function(found.z[[place]])[0])
    near = np.abs(found.left_out(np.arange(40)) - without)
    apart = np.abs(found.logit[:40] - without)
    assert near.mean() < 0.2 * apart.mean()


def test_probabilities_come_true() -> None:
    bins = ((0.0, 0.1), (0.1, 0.4), (0.4, 1.01))
    said, true = np.zeros((8, 3)), np.zeros((8, 3))
    for seed in range(8):
        embeddings, truth = field(count=3000, seed=seed)
        rows = np.sort(np.random.default_rng(seed).choice(3000, 300, replace=False))
        model = relearn(embeddings, rows, truth[rows])
        assert model.probability is not None
        rest = np.setdiff1d(np.arange(3000), rows)
        chance = model.probability[rest]
        for place, (low, high) in enumerate(bins):
            inside = (chance >= low) & (chance < high)
            said[seed, place], true[seed, place] = chance[inside].mean(), truth[rest][inside].mean()
    assert true.mean(axis=0) == pytest.approx(said.mean(axis=0), abs=0.06)
    few = np.flatnonzero(truth)[:4]
    early = relearn(embeddings, few, truth[few])
    assert early.probability is None
    assert "no probabilities yet" in early.note


def test_orders_are_what_they_say() -> None:
    embeddings, truth = field(count=1500)
    rows = np.arange(60)
    reference = reference_at(embeddings, 700)
    model = relearn(embeddings, rows, truth[rows], references=[reference])
    top = model.order("top")
    assert set(top) == set(range(1500)) - {700}
    assert (np.diff(model.logit[top]) <= 0).all()
    unsure = model.order("uncertain")
    assert model.probability is not None
    off = np.abs(model.probability[unsure[: 1499 - 60]] - 0.5)
    assert (np.diff(off) >= 0).all()
    assert set(unsure[-60:]) == set(rows)
    best = model.order("gain")
    assert sorted(best) == sorted(top)
    assert set(best[-60:]) == set(rows)
    first = [row for row in top if row >= 60][:POOL]
    assert set(best[:POOL]) == set(first)
    with pytest.raises(UsageError, match="nothing to learn from"):
        relearn(embeddings, rows[:0], truth[:0])


def test_gain_is_the_average_over_both_answers() -> None:
    """Against a plain loop over answers and objects, for a few objects."""
    rng = np.random.default_rng(0)
    a = rng.standard_normal((6, 9))
    covariance, mean = a @ a.T / 9, rng.standard_normal(6)

    def chance(m: float, v: float) -> float:
        return float(expit(m / np.sqrt(1 + np.pi / 8 * v)))

    expected = []
    for x in range(6):
        p = chance(mean[x], covariance[x, x])
        precision = p * (1 - p)
        worth = p
        for answer, share in ((1, p), (0, 1 - p)):
            step = 1 / (1 + covariance[x, x] * precision)
            then = sorted(
                chance(
                    mean[z] + covariance[z, x] * (answer - p) * step,
                    covariance[z, z] - covariance[z, x] ** 2 * precision * step,
                )
                for z in range(6)
                if z != x
            )
            worth += share * sum(then[-2:])
        expected.append(worth)
    assert gain(mean, covariance, ahead=2) == pytest.approx(expected)
    # With nothing to tell apart, or alone, there is nothing to gain from one rather than another.
    assert np.ptp(gain(np.zeros(4), np.eye(4))) == pytest.approx(0)
    assert gain(np.zeros(1), np.eye(1)).shape == (1,)


def test_purity_has_an_interval_only_from_a_random_sample() -> None:
    embeddings, truth = field(count=3000)
    ids = embeddings.ids
    usual = Meaning.read(EDGE)

    def said(rows: object) -> dict[str, str]:
        return {str(ids[row]): "yes" if truth[row] else "no" for row in rows}  # type: ignore[attr-defined]

    start = said(np.flatnonzero(truth)[:10])
    chosen = start | said(relearn_top(embeddings, start, usual)[:60])
    adaptive = list_purity(embeddings, chosen, usual, k=100)
    assert (adaptive.kind, adaptive.base) == ("share of the labelled", None)
    assert "not an estimate" in adaptive.lines[0]
    assert "base rate unknown" in adaptive.lines[1]

    drawn = random_order(3000)[:400]
    both = chosen | said(drawn)
    found = list_purity(embeddings, both, usual, k=300)
    assert found.kind == "estimate"
    assert found.base is not None
    assert found.base.total >= 400  # an object of the order may have been labelled before
    assert found.base.lower <= truth.mean() <= found.base.upper
    rows, positive = by_row(
        {n: a for n, a in both.items() if n not in said(random_order(3000)[: found.base.total])},
        usual,
        embeddings.index,
    )
    top = relearn(embeddings, rows, positive).top[:300]
    inside = np.intersect1d(top, random_order(3000)[: found.base.total])
    assert (found.labelled, found.yes) == (len(inside), int(truth[inside].sum()))
    assert found.share is not None
    assert found.share.lower <= truth[top].mean() <= found.share.upper

    every = chosen | said(relearn_top(embeddings, chosen, usual)[:20])
    exact = list_purity(embeddings, every, usual, k=5)
    model = relearn_top(embeddings, every, usual)
    if all(str(ids[row]) in every for row in model[:5]):
        assert (exact.kind, exact.yes) == ("exact", int(truth[model[:5]].sum()))
    none = list_purity(embeddings, {}, usual)
    assert (none.share, none.base, none.labelled) == (None, None, 0)


def relearn_top(embeddings: Embeddings, said: dict[str, str], meaning: Meaning) -> np.ndarray:
    rows, positive = by_row(said, meaning, embeddings.index)
    return relearn(embeddings, rows, positive).top


@pytest.mark.slow
def test_learning_100_000_objects_takes_less_than_a_second() -> None:
    """With room for a machine that is busy: the bound is of the user, the rest is measured."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((100_000, 256), dtype=np.float32)
    y = rng.random(100_000) < 0.1
    x[y, :20] += 0.8
    embeddings = Embeddings.from_arrays(x, [str(i) for i in range(100_000)])
    rows = np.sort(rng.choice(100_000, 200, replace=False))
    embeddings.sample(0)
    taken = []
    for _ in range(3):
        begun = time.perf_counter()
        relearn(embeddings, rows, y[rows]).order("gain")
        taken.append(time.perf_counter() - begun)
    assert min(taken) < 1.0


@pytest.mark.real
@pytest.mark.slow
def test_a_hundred_labels_of_edge_on_galaxies(components: Embeddings) -> None:
    """Five references, a person who is always right, ten objects at a time."""
    embeddings = components
    truth = np.array(embeddings.column("morphology").to_pylist()) == "EdgeOn"
    found = {order: [] for order in ("top", "uncertain", "gain", "random")}
    for order, several in found.items():
        several += [labelled(embeddings, truth, order, seed) for seed in range(3)]
    mean = {order: float(np.mean(several)) for order, several in found.items()}
    print(f"edge-on among 100 labelled, base rate {truth.mean():.3f}: {found}")
    assert mean["top"] > 2 * mean["random"]
    assert mean["gain"] > 2 * mean["random"]
    assert mean["top"] > mean["uncertain"] > mean["random"]


def labelled(embeddings: Embeddings, truth: np.ndarray, order: str, seed: int) -> int:
    """Positives among a hundred objects labelled in an order."""
    rng = np.random.default_rng(seed)
    start = rng.choice(np.flatnonzero(truth), 5, replace=False)
    references = [reference_at(embeddings, int(row)) for row in start]
    taken = np.empty(0, dtype=np.int64)
    random = rng.permutation(np.setdiff1d(np.arange(len(truth)), start))
    for _ in range(10):
        rows = np.sort(taken)
        if order == "random":
            line = random
        else:
            line = relearn(embeddings, rows, truth[rows], references=references).order(order)  # type: ignore[arg-type]
        taken = np.concatenate([taken, line[~np.isin(line, taken)][:10]])
    return int(truth[taken].sum())
