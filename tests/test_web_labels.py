"""Labelling over HTTP: what is answered is kept, shown, undone, exported; orders and plans."""

from __future__ import annotations

import io
import json
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from starlette.testclient import TestClient

import skytwin as st
from command import done, skytwin
from served import COUNT, client, settings, survey
from skytwin.answers.certify import certify
from skytwin.answers.certify_plan import CertifyPlan
from skytwin.answers.labelling_book import LabelBook
from skytwin.answers.labelling_purity import random_order
from skytwin.answers.labels import read_labels
from skytwin.errors import Mismatch, UsageError
from skytwin.web.library import Library

Q = "/api/labels/edge%20on"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = survey(tmp_path_factory.mktemp("web"))
    done(
        "certify", "plan", folder / "emb", "--like", "g00", "--purity", "0.3", "--budget", "60",
        "--out", folder / "sample",
    )  # fmt: skip
    return folder


class Labeller:
    """A client that labels."""

    def __init__(self, web: TestClient) -> None:
        self.web = web
        self.headers = {"X-Skytwin-Token": web.get("/api/info").json()["csrf"]}

    def get(self, path: str, **query: Any) -> Any:
        found = self.web.get(path, params=query)
        assert found.status_code == 200, found.text
        return found.json()

    def post(self, path: str, body: object = None, status: int = 201) -> Any:
        found = self.web.post(path, json=body, headers=self.headers)
        assert found.status_code == status, found.text
        return found.json()

    def say(self, who: str, name: str, answer: str, **more: str) -> Any:
        return self.post(Q, {"who": who, "object": name, "answer": answer, **more})


@pytest.fixture
def book(made: Path, tmp_path: Path) -> Path:
    return tmp_path / "b.sqlite"


@pytest.fixture
def page(made: Path, book: Path) -> Iterator[Labeller]:
    with client(settings(made, label_book=book)) as web:
        found = Labeller(web)
        found.post("/api/questions", {"name": "edge on", "about": "from the side?"})
        yield found


def test_nothing_is_written_before_something_is_asked(made: Path, book: Path) -> None:
    with client(settings(made, label_book=book, plans=(made / "sample",))) as web:
        page = Labeller(web)
        assert [q["name"] for q in page.get("/api/questions")["questions"]] == ["sample"]
        page.get("/api/labels/sample/objects")
        page.get("/api/labels/sample/summary")
        assert page.post("/api/labels/sample/undo", {"who": "ann"}, 400)
        assert not book.exists()
        asked = page.post("/api/questions", {"name": "spiral", "answers": ["yes", "no"]})
        assert (asked["answers"], asked["objects"], asked["kind"]) == (["yes", "no"], COUNT, "free")
        assert book.exists()
    by_default = made.parent / "beside"
    assert Library(settings(made))  # with no book at all
    assert not by_default.exists()
    assert not (made / "emb.labels.sqlite").exists()


def test_what_is_answered_is_stored_shown_and_undone(page: Labeller, book: Path) -> None:
    assert page.say("ann", "g01", "YES", order="random") == {
        "number": 1,
        "object": "g01",
        "answer": "yes",
        "labelled": 1,
    }
    page.say("ann", "g02", "no")
    page.say(" bob ", "g01", "no")
    with LabelBook(book) as beside:  # another process sees it at once
        entries = [(one.who, one.object, one.answer, one.offered) for one in beside.entries()]
        assert entries == [
            ("ann", "g01", "yes", "random"),
            ("ann", "g02", "no", "top"),
            ("bob", "g01", "no", "top"),
        ]
        edge = beside.question("edge on")
        beside.add(edge, [("cy", "g03", "unsure")], offered="import")
    rows = page.get(f"{Q}/objects", order="done", who="ann", columns="kind")["rows"]
    assert [(row["id"], row["label"], row["labels"]) for row in rows] == [
        ("g02", "no", {"ann": "no"}),
        ("g01", "yes", {"ann": "yes", "bob": "no"}),
    ]
    rows = page.get(f"{Q}/objects", order="conflicts")["rows"]
    assert [row["id"] for row in rows] == ["g01"]
    told = page.get("/api/questions")["questions"][0]
    assert told["labelled"] == 3
    assert [(p["who"], p["labels"]) for p in told["people"]] == [("ann", 2), ("bob", 1), ("cy", 1)]
    gone = page.post(f"{Q}/undo", {"who": "ann"})
    assert gone == {"object": "g02", "answer": None, "undone": 1, "labelled": 2}
    page.say("ann", "g01", "no")
    assert page.post(f"{Q}/undo", {"who": "ann"})["answer"] == "yes"
    page.post(f"{Q}/undo", {"who": "ann"})
    assert "nothing to undo" in page.post(f"{Q}/undo", {"who": "ann"}, 400)["error"]


def test_requests_that_are_off_are_one_line(page: Labeller) -> None:
    good = {"who": "ann", "object": "g01", "answer": "yes"}
    for body, status, line in (
        ({**good, "object": "zz"}, 404, "unknown id 'zz'"),
        ({**good, "answer": "perhaps"}, 400, "unknown answer"),
        ({**good, "who": " "}, 400, "name ''"),
        ({**good, "who": "x" * 41}, 400, "1 to 40 characters"),
        ({**good, "colour": "red"}, 400, "unknown field 'colour'"),
        ({**good, "order": "best"}, 400, "unknown order"),
        ({**good, "object": 3}, 400, "field object: expected a text"),
        ({"who": "ann", "answer": "yes"}, 400, "field object is missing"),
        ([good], 400, "no JSON object"),
        ({**good, "who": "x" * 70_000}, 413, "more than 64 KiB"),
    ):
        assert line in page.post(Q, body, status)["error"]
    for content, line in ((b"{", "no JSON"), (b"[" * 60_000, "no JSON"), (b"", "empty body")):
        found = page.web.post(Q, content=content, headers=page.headers)
        assert (found.status_code, line in found.json()["error"]) == (400, True)
    assert page.web.post(Q, json=good).status_code == 403  # without the token of the page
    assert page.post("/api/labels/none", good, 404)
    assert page.web.get(f"{Q}/objects?order=plan").status_code == 400
    bad = page.web.get(f"{Q}/objects?order=top").json()["error"]
    assert "nothing to learn from" in bad
    for name in ("a/b", "", "x" * 81):
        page.post("/api/questions", {"name": name}, 400)
    page.post("/api/questions", {"name": "edge on", "answers": ["1", "2"]}, 400)
    page.post("/api/questions", {"name": "q", "answers": "yes"}, 400)
    assert page.get("/api/questions")["questions"][0]["labelled"] == 0


def test_orders_offer_what_is_not_labelled_yet(made: Path, page: Labeller) -> None:
    embeddings = st.open(made / "emb")
    searched = page.get(f"{Q}/objects", order="top", like="g04", limit=500)
    matches = st.search(embeddings, "g04", k=COUNT)
    assert [row["id"] for row in searched["rows"]] == list(matches.ids)
    assert searched["model"] is None
    random = [row["row"] for row in page.get(f"{Q}/objects", order="random", limit=500)["rows"]]
    assert random == random_order(COUNT).tolist()

    kinds = embeddings.column("kind").to_pylist()
    for row in random[:30]:
        answer = "yes" if kinds[row] == "a" else "no"
        page.say("ann", str(embeddings.ids[row]), answer, order="random")
    page.say("bob", str(embeddings.ids[random[40]]), "no")
    labelled = {str(embeddings.ids[row]) for row in random[:30]}
    for order in ("top", "uncertain", "gain"):
        found = page.get(f"{Q}/objects", order=order, who="ann", limit=500)
        names = [row["id"] for row in found["rows"]]
        assert len(names) == found["total"] == COUNT - 30
        assert not labelled & set(names)
        again = page.get(f"{Q}/objects", order=order, who="ann", limit=10, offset=5)
        assert again["rows"] == found["rows"][5:15]
    model = found["model"]
    yes = sum(kinds[row] == "a" for row in random[:30])
    assert model["trained_on"] == {"yes": yes, "no": 31 - yes, "references": 0}
    top = page.get(f"{Q}/objects", order="top", who="ann", limit=500)["rows"]
    scores = [row["score"] for row in top]
    assert scores == sorted(scores, reverse=True)
    rest = page.get(f"{Q}/objects", order="top", who="ann", others="false", limit=500)["rows"]
    assert len(rest) == len(top) - 1
    with_reference = page.get(f"{Q}/objects", order="top", who="ann", like="g04")
    assert with_reference["model"]["trained_on"]["references"] == 1
    assert "g04" not in [row["id"] for row in with_reference["rows"]]
    # In the random order nobody sees what others say.
    rows = page.get(f"{Q}/objects", order="random", who="ann", limit=500)["rows"]
    assert [row["row"] for row in rows] == random[30:]
    assert all(row["labels"] == {} and row["score"] is None for row in rows)
    other = page.get(f"{Q}/objects", order="top", positive="no", who="ann", limit=500)["rows"]
    assert other[0]["id"] != top[0]["id"]


def test_the_summary_counts_and_is_careful(made: Path, page: Labeller) -> None:
    embeddings = st.open(made / "emb")
    kinds = embeddings.column("kind").to_pylist()
    order = random_order(COUNT)[:40]
    for row in order:
        answer = "yes" if kinds[row] == "a" else "no"
        page.say("ann", str(embeddings.ids[row]), answer, order="random")
    for row in order[:10]:
        answer = "yes" if kinds[row] == "a" or row == order[1] else "no"
        page.say("bob", str(embeddings.ids[row]), answer, order="random")
    found = page.get(f"{Q}/summary", who="bob", k=30)
    yes = sum(kinds[row] == "a" for row in order)
    assert found["counts"]["yes"] + found["counts"]["no"] + found["counts"]["unsure"] == 40
    assert sum(found["mine"].values()) == 10
    assert (found["both"], found["conflicts"]) == (10, int(kinds[order[1]] != "a"))
    agreed = found["agreement"]
    assert agreed["low"] <= agreed["value"] <= agreed["high"]
    assert agreed["pairs"] == 10
    purity = found["purity"]
    assert purity["base_rate"]["total"] == 40
    assert abs(purity["base_rate"]["hits"] - yes) <= 1
    assert purity["kind"] in {"exact", "estimate", "share of the labelled"}
    assert found["certificate"] is None


def test_labels_go_out_and_come_back(made: Path, page: Labeller, tmp_path: Path) -> None:
    for name, answer in (("g01", "yes"), ("g02", "no"), ("g03", "unsure")):
        page.say("ann", name, answer)
    page.say("bob", "g02", "no")
    answer = page.web.get(f"{Q}/export")
    assert answer.headers["content-disposition"] == (
        "attachment; filename*=UTF-8''edge%20on-labels.csv"
    )
    assert answer.headers["content-type"].startswith("text/csv")
    out = tmp_path / "l.csv"
    out.write_bytes(answer.content)
    assert read_labels(out).answers == {"g01": 1, "g02": 0, "g03": -1}
    every = page.web.get(f"{Q}/export", params={"format": "parquet", "resolved": "all"}).content
    table = pq.read_table(io.BytesIO(every))
    assert table["who"].to_pylist() == ["ann", "ann", "bob", "ann"]

    page.post("/api/questions", {"name": "again"})
    there = "/api/labels/again"
    taken = page.web.post(f"{there}/import", content=every, headers=page.headers)
    assert (taken.status_code, taken.json()["taken"]) == (201, 4)
    assert page.web.get(f"{there}/export").content == answer.content
    lines = b"id,label\ng01,y\nzz,no\ng05,0\n"
    taken = page.web.post(f"{there}/import?who=ann", content=lines, headers=page.headers)
    assert taken.json() == {
        "taken": 1,
        "same": 1,
        "unknown": ["zz"],
        "unknown_count": 1,
        "labelled": 4,
    }
    assert page.post(f"{there}/undo", {"who": "ann"})["undone"] == 1
    assert page.post(f"{there}/undo", {"who": "ann"})["undone"] == 3
    for content, line in (
        (b"PAR1 and nothing", "no Parquet file"),
        (b"id,label\ng01,perhaps so\n", "row 1"),
        (b"a,b\n1,2\n", "no column of identifiers"),
        (b"id,label\ng01,yes\n" + b"\n" * 1_000_001, "more than 1000000 rows"),
        (b"\x00\xff" * 100, "labels.csv"),
    ):
        refused = page.web.post(f"{there}/import?who=ann", content=content, headers=page.headers)
        assert 400 <= refused.status_code < 500
        assert line in refused.json()["error"], refused.text
        assert "/tmp" not in refused.json()["error"]
    wide = pa.table({"id": pa.array(["g01"] * 3_000_000), "label": pa.array(["yes"] * 3_000_000)})
    stream = io.BytesIO()
    pq.write_table(wide, stream)
    refused = page.web.post(
        f"{there}/import?who=ann", content=stream.getvalue(), headers=page.headers
    )
    assert (refused.status_code, "at most 1000000 rows" in refused.json()["error"]) == (422, True)


def test_a_plan_is_labelled_blind_and_certified(made: Path, tmp_path: Path) -> None:
    folder = tmp_path / "sample"
    shutil.copytree(made / "sample", folder)
    book, there = tmp_path / "b.sqlite", "/api/labels/sample"
    kinds = dict(
        zip(*(st.open(made / "emb").column(n).to_pylist() for n in ("id", "kind")), strict=True)
    )
    asked = settings(made, label_book=book, plans=(folder,))
    with client(asked) as web:
        page = Labeller(web)
        plan = CertifyPlan.open(folder)
        listed = page.get(f"{there}/objects", who="ann", limit=500)
        assert listed["order"] == "plan"
        assert [row["id"] for row in listed["rows"]] == list(plan.ids)
        assert all(row["score"] is row["probability"] is None for row in listed["rows"])
        for order in ("top", "random", "gain"):
            assert web.get(f"{there}/objects?order={order}&like=g00").status_code == 400
        outside = next(name for name in kinds if name not in set(plan.ids))
        body = {"who": "ann", "object": outside, "answer": "yes"}
        assert "not asked for" in page.post(there, body, 400)["error"]
        assert "have no answer" in page.post(f"{there}/next", status=400)["error"]
        for number in (1, 2, 3):
            rows = page.get(f"{there}/objects", who="ann", limit=500)["rows"]
            told = page.get(f"{there}/summary")["certificate"]
            assert (told["state"], told["round"], told["missing"]) == (
                "labels missing",
                number,
                len(rows),
            )
            assert told["size"] is None
            for row in rows:
                answer = "yes" if kinds[row["id"]] == "a" else "no"
                body = {"who": "ann", "object": row["id"], "answer": answer, "order": "plan"}
                page.post(there, body)
            if number < 3:
                assert page.post(f"{there}/next")["round"] == number + 1
        told = page.get(f"{there}/summary")["certificate"]
        assert page.post(f"{there}/next", status=400)
    assert sorted(path.name for path in tmp_path.glob("sample*")) == [
        "sample",
        "sample-round2",
        "sample-round3",
    ]
    last = CertifyPlan.open(tmp_path / "sample-round3")
    answers = {name: "yes" if kinds[name] == "a" else "no" for name in last.drawn_ids}
    expected = certify(last, answers)
    assert (told["state"], told["headline"], told["size"]) == (
        "ready",
        expected.headline,
        expected.size,
    )
    with client(asked) as web:  # it goes on where it was
        found = Labeller(web).get("/api/questions")["questions"][0]
        assert (found["round"], found["labelled"]) == (3, len(last))
    with client(settings(made, label_book=book)) as web:
        notes = Labeller(web).get("/api/questions")["notes"]
        assert notes == ["sample is of a plan; start with --plan FOLDER to go on"]
    # The same file of labels serves the command line.
    done("labels", "export", book, "--out", tmp_path / "l.csv")
    assert expected.headline in done("certify", "run", last_folder(tmp_path), tmp_path / "l.csv")


def last_folder(folder: Path) -> Path:
    return folder / "sample-round3"


def test_plans_and_books_of_others_are_refused_or_told(made: Path, tmp_path: Path) -> None:
    book = tmp_path / "b.sqlite"
    with client(settings(made, label_book=book, plans=(made / "sample",))) as web:
        page = Labeller(web)
        name = page.get("/api/labels/sample/objects")["rows"][0]["id"]
        page.post("/api/labels/sample", {"who": "ann", "object": name, "answer": "yes"})
    other = tmp_path / "sample"
    done(
        "certify", "plan", made / "emb", "--like", "g07", "--purity", "0.3", "--budget", "60",
        "--out", other,
    )  # fmt: skip
    with pytest.raises(Mismatch, match="answers to another question 'sample'"):
        Library(settings(made, label_book=book, plans=(other,)))
    done("embed", made / "cut", "--encoder", "pca:4", "--out", tmp_path / "emb2", "--quiet")
    asked = settings(made, label_book=book, maps=())
    with client(type(asked)(**{**vars(asked), "embedding": tmp_path / "emb2"})) as web:
        notes = Labeller(web).get("/api/questions")["notes"]
        assert "begun on another embedding (emb)" in notes[0]
    foreign = tmp_path / "f.sqlite"
    foreign.write_text("no book" * 100)
    with pytest.raises(st.SkytwinError, match="no label book"):
        Library(settings(made, label_book=foreign))
    with pytest.raises(UsageError):
        Library(settings(made, label_book=book, plans=(made / "emb",)))


def test_the_command_line_shows_exports_and_imports(made: Path, tmp_path: Path) -> None:
    book, emb = tmp_path / "b.sqlite", made / "emb"
    table = tmp_path / "t.csv"
    table.write_text("id,label\n" + "".join(f"g{i:02d},{'yn'[i % 3 > 0]}\n" for i in range(12)))
    said = done("labels", "import", book, emb, table, "--question", "edge", "--who", "ann")
    assert said.startswith("12 answers to 'edge' stored")
    said = done("labels", "import", book, emb, table, "--question", "edge", "--who", "ann")
    assert "12 were there already" in said
    table.write_text(table.read_text().replace("g01,n", "g01,y") + "zz,yes\n")
    said = done("labels", "import", book, emb, table, "--question", "edge", "--who", "bob")
    assert "1 of objects that are not in" in said
    shown = done("labels", "show", book)
    assert "12 objects: 4 yes, 7 no, 1 unsure" in shown
    assert "disagree about 1" in shown
    assert "Krippendorff's alpha 0.8" in shown
    out = tmp_path / "l.csv"
    assert "12 objects of 'edge'" in done("labels", "export", book, "--out", out)
    assert read_labels(out).answers["g00"] == 1
    assert "24 answers" in done("labels", "export", book, "--all", "--out", tmp_path / "l.parquet")
    again = skytwin("labels", "export", book, "--out", out)
    assert (again.code, "exists" in again.err) == (2, True)
    done("labels", "import", book, emb, table, "--question", "more", "--who", "bob")
    many = skytwin("labels", "export", book, "--out", tmp_path / "x.csv")
    assert (many.code, "name one with --question: edge, more" in many.err) == (2, True)
    none = skytwin("labels", "show", tmp_path / "none.sqlite")
    assert (none.code, "no label book" in none.err) == (2, True)


@pytest.mark.slow
def test_a_server_that_is_killed_keeps_what_it_acknowledged(made: Path, tmp_path: Path) -> None:
    book = tmp_path / "b.sqlite"
    words = ["serve", made / "emb", "--label-book", book, "--port", "0"]
    server = subprocess.Popen(
        [sys.executable, "-c", "from skytwin.cli import main\nmain()", *map(str, words)],
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    )
    assert server.stdout is not None
    try:
        address = server.stdout.readline().split(" at ")[1].strip().rstrip("/")
        with urllib.request.urlopen(f"{address}/api/info") as reply:
            token = json.load(reply)["csrf"]

        def post(path: str, body: object) -> dict[str, Any]:
            headers = {"X-Skytwin-Token": token, "Content-Type": "application/json"}
            asked = urllib.request.Request(
                address + path, data=json.dumps(body).encode(), headers=headers
            )
            with urllib.request.urlopen(asked) as reply:
                found: dict[str, Any] = json.load(reply)
            return found

        post("/api/questions", {"name": "edge on"})
        rng = np.random.default_rng(0)
        said = {}
        for number in range(50):
            name = f"g{rng.integers(COUNT):02d}"
            said[name] = "yes" if number % 2 else "no"
            post(Q, {"who": "ann", "object": name, "answer": said[name]})
    finally:
        server.send_signal(signal.SIGKILL)
        server.wait()
        server.stdout.close()
    with client(settings(made, label_book=book)) as web:
        rows = Labeller(web).get(f"{Q}/objects", order="done", who="ann", limit=500)["rows"]
        assert {row["id"]: row["label"] for row in rows} == said
