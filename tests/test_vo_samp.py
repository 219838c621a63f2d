"""SAMP with pyvo's (once astropy's) real hub and a second client on this machine."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import threading
import time
import xmlrpc.client
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyvo.samp import SAMPHubServer

from command import done
from samp_programs import Viewer, lock_file
from skytwin.answers.export import write_table
from skytwin.answers.search import search
from skytwin.errors import DataError, UnknownName, Unreachable, UsageError
from skytwin.vo.links import object_links
from skytwin.vo.samp import Desk, Question, Sent, answer, send_matches
from toys import labelled


def test_without_a_hub_one_line_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(*lock_file(tmp_path / "none"))
    with pytest.raises(Unreachable, match="no SAMP hub .* start TOPCAT or Aladin"), Desk():
        pass


def test_matches_arrive_whole_in_the_client_that_is_named(viewer: Viewer) -> None:
    matches = search(labelled(), "s3", k=7)
    other = Viewer("Other")
    assert send_matches(matches, "viewer") == Sent(clients=("Viewer 1.0",))
    params, table = viewer.got()
    assert params["name"] == "like s3"
    assert table["id"].tolist() == matches.ids.tolist()
    assert np.array_equal(table["distance"], matches.distance)
    assert table["ra"].unit == "deg"
    assert other.tables.empty()
    sent = send_matches(matches, table=matches.table.select(["id"]))
    assert (sorted(sent.clients), sent.refused) == (["Other", "Viewer 1.0"], ())
    assert other.got()[1].colnames == ["id"]
    other.client.disconnect()
    with Desk() as desk, pytest.raises(UnknownName, match="unknown SAMP client 'topcat'"):
        desk.send(matches.table, {}, "x", "topcat")


def test_a_client_that_fails_is_named_with_its_reason(viewer: Viewer) -> None:
    viewer.works = False
    other = Viewer("Other")
    with Desk() as desk:
        sent = desk.send(search(labelled(), "s3").table, {}, "x")
    assert str(sent) == "Other; not to Viewer 1.0: no memory"
    other.client.disconnect()
    with Desk() as desk, pytest.raises(DataError, match=r"Viewer 1\.0: no memory"):
        desk.send(search(labelled(), "s3").table, {}, "x")


def test_a_client_that_says_nothing_is_not_waited_for_in_vain(viewer: Viewer) -> None:
    other = Viewer("Other")
    other.client.bind_receive_call("table.load.votable", lambda *_: None)
    with Desk() as desk:
        sent = desk.send(search(labelled(), "s3").table, {}, "x", timeout_s=1.5)
    assert (sent.clients, sent.refused) == (("Viewer 1.0",), ("Other: no reply within 1.5 s",))
    other.client.disconnect()


def test_a_hub_without_clients_is_said(hub: SAMPHubServer) -> None:
    with Desk() as desk, pytest.raises(DataError, match="no SAMP client takes tables"):
        desk.send(search(labelled(), "s3").table, {}, "x")


def test_what_is_pointed_at_is_answered_with_its_look_alikes(
    hub: SAMPHubServer, viewer: Viewer, tmp_path: Path
) -> None:
    embeddings = labelled()
    told: list[str] = []
    listening = threading.Event()
    saved = tmp_path / "my table.vot"
    write_table(embeddings.catalog.slice(100, 50), saved, {})

    def serve() -> None:
        with Desk() as desk:
            desk.send(embeddings.catalog, {}, "catalogue")
            answer(desk, embeddings, told.append, ready=listening.set, k=5)

    thread = threading.Thread(target=serve)
    thread.start()
    catalogue, _ = viewer.got()
    assert listening.wait(20)

    def expect(like: Any) -> dict[str, Any]:
        params, table = viewer.got()
        assert table["id"].tolist() == search(embeddings, like, k=5).ids.tolist()
        return params

    assert embeddings.positions is not None
    ra, dec = embeddings.positions[42]
    viewer.say("coord.pointAt.sky", ra=str(ra - 360), dec=str(dec))
    answered = expect("s42")
    viewer.say("table.highlight.row", **{"table-id": catalogue["table-id"], "url": "", "row": "9"})
    expect("s9")
    rows = {"table-id": catalogue["table-id"], "url": "x", "row-list": ["9", "12"]}
    viewer.say("table.select.rowList", **rows)
    expect(["s9", "s12"])
    # A row of the answer is the next question.
    first = search(embeddings, "s42", k=5).ids[0]
    viewer.say("table.highlight.row", **{"table-id": answered["table-id"], "row": "0"})
    expect(first)
    # A table that the other program has from a file; Java writes such addresses with one slash.
    url = saved.as_uri().replace("file:///", "file:/")
    viewer.say("table.highlight.row", **{"table-id": "t1", "url": url, "row": "3"})
    expect("s103")
    reply = viewer.client.ecall_and_wait(
        next(iter(viewer.client.get_subscribed_clients("coord.pointAt.sky"))),
        "coord.pointAt.sky", "10", ra=str(ra), dec=str(dec),
    )  # fmt: skip
    assert reply["samp.status"] == "samp.ok"
    expect("s42")

    for params, message in (
        ({"ra": "100", "dec": "50"}, "no object within 3 arcsec"),
        ({"ra": "north", "dec": "50"}, "expected degrees"),
        ({"ra": "1", "dec": "95"}, "expected degrees"),
    ):
        before = len(told)
        viewer.say("coord.pointAt.sky", **params)
        # What was answered before may still be told.
        wait_for(lambda n=before, m=message: any(m in line for line in told[n:]))
        assert told[-1].startswith("Viewer 1.0: ")
    assert viewer.tables.empty()
    hub.stop()
    thread.join(20)
    assert not thread.is_alive()


def viewer_of_starting_hub() -> Viewer:
    """JSAMP writes its lock file a moment before it answers: "Hub is stopped" until then."""
    for _ in range(100):
        try:
            return Viewer("Viewer")
        except xmlrpc.client.Fault:
            time.sleep(0.1)
    return Viewer("Viewer")


def wait_for(done: Any) -> None:
    deadline = time.monotonic() + 20
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("mtype", "params", "message"),
    [
        ("table.highlight.row", {"row": "x"}, "expected numbers"),
        ("table.select.rowList", {"row-list": []}, "0 rows selected"),
        ("table.select.rowList", {"row-list": ["1"] * 51}, "51 rows selected; expected 1 to 50"),
        ("table.highlight.row", {"row": "0", "url": "http://elsewhere/x.vot"}, "did not send"),
        ("table.highlight.row", {"row": "0", "url": "file:///no/such.vot"}, "no file"),
        ("table.highlight.row", {"row": "0", "url": "file://elsewhere/x.vot"}, "did not send"),
    ],
)
def test_what_cannot_be_asked(mtype: str, params: dict[str, Any], message: str) -> None:
    question = Question(sender="c1", client="x", mtype=mtype, params=params)
    with pytest.raises(UsageError, match=message):
        Desk().references(question)


@pytest.mark.slow
def test_the_command_answers_and_ends_cleanly_at_an_interrupt(
    viewer: Viewer, tmp_path: Path
) -> None:
    images = tmp_path / "images"
    images.mkdir()
    rng = np.random.default_rng(0)
    for number in range(30):
        np.save(images / f"g{number}.npy", rng.normal(size=(16, 16)).astype("f4"))
    table = tmp_path / "positions.csv"
    table.write_text("id,ra,dec\n" + "".join(f"g{n},{n},{n}\n" for n in range(30)))
    done("ingest", images, "--catalog", table, "--out", tmp_path / "st", "--quiet")
    done("embed", tmp_path / "st", "--encoder", "pca:4", "--out", tmp_path / "emb", "--quiet")
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from skytwin.cli import main; main()"
    )
    words = ["samp", str(tmp_path / "emb"), "-k", "4", "--catalog"]
    process = subprocess.Popen(
        [sys.executable, "-u", "-c", code, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert "catalogue of 30 objects sent to Viewer 1.0" in process.stdout.readline()
    assert "connected" in process.stdout.readline()
    viewer.got()
    viewer.say("coord.pointAt.sky", ra="7", dec="7")
    assert len(viewer.got()[1]) == 4
    assert "like g7: 4 sent to Viewer 1.0" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out.strip(), err) == (0, "stopped", "")


def test_links_name_the_place() -> None:
    links = object_links(10.684708, -41.26875)
    assert set(links) == {"SIMBAD", "NED", "Legacy Survey", "Aladin Lite", "SDSS"}
    for url in links.values():
        assert url.startswith("https://")
        assert "10.684708" in url
        assert "41.26875" in url


JSAMP = Path("/usr/share/java/jsamp.jar")


def jsamp(*words: str) -> list[str]:
    return [
        "java", "-Djava.awt.headless=true", "-Djsamp.localhost=127.0.0.1", "-jar", str(JSAMP),
        *words,
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.skipif(
    shutil.which("java") is None or not JSAMP.is_file(),
    reason="install JSAMP, TOPCAT's own SAMP library (Debian: libjsamp-java)",
)
def test_the_library_of_topcat_understands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = tmp_path / "jsamp-lock"
    monkeypatch.setenv("SAMP_HUB", f"std-lockurl:file://{lock}")
    embeddings = labelled()
    assert embeddings.positions is not None
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    hub = subprocess.Popen(jsamp("hub", "-mode", "no-gui", "-profiles", "std"), **quiet)
    try:
        wait_for(lambda: lock.is_file() and lock.stat().st_size > 0)
        viewer = viewer_of_starting_hub()
        told: list[str] = []
        ready = threading.Event()

        def serve() -> None:
            with Desk() as desk:
                answer(desk, embeddings, told.append, ready=ready.set, k=4)

        thread = threading.Thread(target=serve)
        thread.start()
        assert ready.wait(20)
        ra, dec = map(str, embeddings.positions[200])
        words = ["-mtype", "coord.pointAt.sky", "-param", "ra", ra, "-param", "dec", dec]
        sent = subprocess.run(
            jsamp("messagesender", *words, "-mode", "sync", "-sendername", "Pointer"),
            capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
        assert "samp.ok" in sent.stdout
        _, table = viewer.got()
        assert table["id"].tolist() == search(embeddings, "s200", k=4).ids.tolist()
        wait_for(lambda: told == ["Pointer: like s200: 4 sent to Viewer"])
        viewer.client.disconnect()
    finally:
        hub.terminate()
        hub.wait(20)
    thread.join(20)
    assert not thread.is_alive()
