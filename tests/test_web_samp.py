"""SAMP from the page: a real hub, a second client, and the page in a browser."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pyvo.samp import SAMPHubServer
from starlette.testclient import TestClient

import skytwin as st
from browsing import BROWSER, opened, until
from samp_programs import Viewer, hub_running, lock_file
from served import client, running, settings, survey

AT_HUB = ("Viewer 1.0", "Other")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return survey(tmp_path_factory.mktemp("web"))


@pytest.fixture
def web(folder: Path) -> Iterator[TestClient]:
    with client(settings(folder)) as found:
        found.headers["X-Skytwin-Token"] = found.get("/api/info").json()["csrf"]
        yield found


def received(web: TestClient, count: int, after: int = 0) -> list[dict[str, Any]]:
    """What was heard after a number, waited for."""
    end = time.monotonic() + 20
    while True:
        found: dict[str, Any] = web.get(f"/api/samp/received?after={after}").json()
        if len(found["received"]) >= count:
            return found["received"]
        assert time.monotonic() < end, found
        time.sleep(0.02)


def test_without_a_hub_one_line_has_the_remedy(
    web: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(*lock_file(tmp_path))
    found = web.get("/api/samp/clients").json()
    assert (found["hub"], found["clients"], found["listening"]) == (False, [], False)
    assert "start TOPCAT or Aladin on this machine first" in found["problem"]
    for address in ("/api/samp/send?like=g04", "/api/samp/listen"):
        answer = web.post(address)
        assert answer.status_code == 422
        assert "start TOPCAT or Aladin" in answer.json()["error"]
        assert "\n" not in answer.json()["error"]


def test_only_the_page_can_send_and_listen(web: TestClient, viewer: Viewer) -> None:
    for address in ("/api/samp/send?like=g04", "/api/samp/listen"):
        assert web.post(address, headers={"X-Skytwin-Token": ""}).status_code == 403
        assert web.get(address).status_code == 405
    other = {"Sec-Fetch-Site": "cross-site"}
    assert web.get("/api/samp/received", headers=other).status_code == 403
    assert viewer.tables.empty()


def test_the_matches_arrive_as_search_has_them(
    web: TestClient, viewer: Viewer, folder: Path
) -> None:
    second = Viewer("Other")
    assert web.get("/api/samp/clients").json()["clients"] == ["Other", "Viewer 1.0"]
    asked = "like=g04&like=g09&k=12&where=mag<18&metric=cosine"
    answer = web.post(f"/api/samp/send?{asked}&to=view")
    assert answer.json() == {"rows": 12, "clients": ["Viewer 1.0"], "refused": []}
    want = st.search(st.open(folder / "emb"), ["g04", "g09"], k=12, where="mag<18", metric="cosine")
    params, table = viewer.got()
    assert params["name"] == "like g04 and 1 more"
    assert table["id"].tolist() == list(want.ids)
    assert table["distance"].tolist() == list(want.distance)
    assert table["ra"].unit == "deg"
    # Probabilities as the page shows them, for labels were given.
    shown = web.get(f"/api/search?{asked}&probability=true").json()["rows"]
    assert table["probability"].tolist() == [row["probability"] for row in shown]
    assert second.tables.empty()
    # To everyone, and no farther than the threshold.
    cut = float(want.distance[4])
    answer = web.post(f"/api/samp/send?{asked}&within={cut!r}").json()
    assert (answer["rows"], sorted(answer["clients"])) == (5, ["Other", "Viewer 1.0"])
    assert second.got()[1]["id"].tolist() == list(want.ids[:5])
    nothing = web.post(f"/api/samp/send?{asked}&within={cut * 1e-9!r}")
    assert nothing.status_code == 422
    assert web.post(f"/api/samp/send?{asked}&to=ds9").status_code == 404
    second.client.disconnect()


def test_what_is_pointed_at_is_remembered_by_number(
    web: TestClient, viewer: Viewer, hub: SAMPHubServer
) -> None:
    assert web.post("/api/samp/listen").json() == {"listening": True}
    assert web.post("/api/samp/listen").json() == {"listening": True}  # once, not twice
    viewer.say("coord.pointAt.sky", ra="10.0901", dec="20.0")
    (first,) = received(web, 1)
    assert first == {"number": 1, "client": "Viewer 1.0", "like": ["g09"], "problem": ""}
    # A row of a table that was sent from here.
    web.post("/api/samp/send?like=g04&k=5")
    params, table = viewer.got()
    rows = {"table-id": params["table-id"], "url": "", "row-list": ["0", "3"]}
    viewer.say("table.select.rowList", **rows)
    (second,) = received(web, 1, after=1)
    assert second["like"] == [table["id"][0], table["id"][3]]
    viewer.say("coord.pointAt.sky", ra="200", dec="-20")
    viewer.say("table.highlight.row", row="1", url="file:///etc/passwd", **{"table-id": "t"})
    problems = [one["problem"] for one in received(web, 2, after=2)]
    assert any("no object within 3 arcsec" in line for line in problems)
    assert not any("root" in line for line in problems)
    # Only while it is wanted.
    assert web.post("/api/samp/listen?on=false").json() == {"listening": False}
    viewer.say("coord.pointAt.sky", ra="10.0901", dec="20.0")
    time.sleep(0.3)
    assert web.get("/api/samp/received").json()["last"] == 4
    assert web.post("/api/samp/listen").json() == {"listening": True}
    viewer.say("coord.pointAt.sky", ra="10.0501", dec="20.0")
    assert received(web, 1, after=4)[0]["like"] == ["g05"]
    hub.stop()
    end = time.monotonic() + 20
    while web.get("/api/samp/received").json()["listening"]:
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_program_that_does_not_answer_keeps_nobody_waiting(
    web: TestClient, viewer: Viewer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("skytwin.web.samp._LOAD_S", 1)
    monkeypatch.setattr(viewer, "load", lambda *_: None)
    viewer.client.bind_receive_call("table.load.votable", lambda *_: None)
    answers: list[Any] = []

    def send() -> None:
        answers.append(web.post("/api/samp/send?like=g04&k=3"))

    threads = [threading.Thread(target=send) for _ in range(3)]
    for one in threads:
        one.start()
    began = time.monotonic()
    assert web.get("/api/search?like=g05&k=3").status_code == 200
    assert time.monotonic() - began < 1
    for one in threads:
        one.join(30)
    assert {answer.status_code for answer in answers} == {422}
    assert "could load the table" in answers[0].json()["error"]


def test_a_server_that_stops_leaves_nothing_at_the_hub(
    folder: Path, viewer: Viewer, hub: SAMPHubServer
) -> None:
    before = threading.active_count()
    with client(settings(folder)) as web:
        token = {"X-Skytwin-Token": web.get("/api/info").json()["csrf"]}
        web.post("/api/samp/listen", headers=token)
        names = [
            viewer.client.get_metadata(one)["samp.name"]
            for one in viewer.client.get_registered_clients()
        ]
        assert "skytwin" in names
    end = time.monotonic() + 20
    while threading.active_count() > before:
        assert time.monotonic() < end, threading.enumerate()
        time.sleep(0.05)
    names = [
        viewer.client.get_metadata(one)["samp.name"]
        for one in viewer.client.get_registered_clients()
    ]
    assert "skytwin" not in names


def test_a_new_hub_takes_the_place_of_one_that_has_gone(
    web: TestClient, viewer: Viewer, hub: SAMPHubServer
) -> None:
    assert web.get("/api/samp/clients").json()["hub"]
    hub.stop()
    assert not web.get("/api/samp/clients").json()["hub"]
    with hub_running():
        again = Viewer("Later")
        assert web.get("/api/samp/clients").json()["clients"] == ["Later"]
        assert web.post("/api/samp/send?like=g04&k=3").json()["clients"] == ["Later"]
        again.client.disconnect()


@pytest.mark.slow
def test_the_command_listens_from_the_beginning_or_says_why_not(
    folder: Path, viewer: Viewer, tmp_path: Path
) -> None:
    code = "from skytwin.cli import main; main()"
    command = [sys.executable, "-u", "-c", code, "serve", str(folder / "emb"), "--samp"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        said = server.stdout.readline()
        names = [
            viewer.client.get_metadata(one)["samp.name"]
            for one in viewer.client.get_subscribed_clients("coord.pointAt.sky")
        ]
        assert names == ["skytwin"], said
        server.terminate()
    environment = {**os.environ, **dict([lock_file(tmp_path / "none")])}
    failed = subprocess.run(
        command, capture_output=True, text=True, env=environment, timeout=60, check=False
    )
    assert failed.returncode == 1
    assert "start TOPCAT or Aladin on this machine first" in failed.stderr


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="browser tests need chromium on the path")
def test_the_page_sends_its_matches_and_follows_what_is_pointed_at(
    folder: Path, hub: SAMPHubServer, viewer: Viewer
) -> None:
    with running(settings(folder)) as address, opened(address) as page:
        page.goto("/?like=g04&k=9")
        page.wait_for_selector(".card .rank")
        shown = page.eval_on_selector_all(".card", "all => all.map(c => c.dataset.id)")
        page.click("#samp-send")
        page.wait_for_selector("#samp-words:text('9 matches sent to Viewer 1.0.')")
        params, table = viewer.got()
        assert params["name"] == "like g04"
        assert table["id"].tolist() == shown
        # Within the threshold, as the saved list.
        cut = (table["distance"][3] + table["distance"][4]) / 2
        page.goto(f"/?like=g04&k=9&t={cut}")
        page.wait_for_selector(".card.beyond")
        page.click("#samp-send")
        page.wait_for_selector("#samp-words:text('4 matches sent')")
        assert viewer.got()[1]["id"].tolist() == shown[:4]

        page.click("#samp-panel summary")
        page.wait_for_selector("#samp-state:text('Running: Viewer 1.0.')")
        page.click("#samp-listen")
        page.wait_for_selector("#samp-listen[aria-pressed=true]")
        viewer.say("coord.pointAt.sky", ra="10.0901", dec="20.0")
        page.wait_for_selector(".chip a:text('g09')")
        until(page, "location.search.includes('like=g09')")
        page.wait_for_selector("#samp-words:text('Viewer 1.0 points at g09')")
        rows = {"table-id": params["table-id"], "url": "", "row": "2"}
        viewer.say("table.highlight.row", **rows)
        page.wait_for_selector(f".chip a:text('{shown[2]}')")
        # What cannot be is said, and the query stays.
        viewer.say("coord.pointAt.sky", ra="200", dec="-20")
        page.wait_for_selector("#samp-words:text('no object within 3 arcsec')")
        assert f"like={shown[2]}" in page.url
        # A page that is opened later takes no part in what was.
        page.goto("/?like=g04&k=9")
        page.wait_for_selector("#samp-listen[aria-pressed=true]", state="attached")
        page.wait_for_timeout(1500)
        assert "like=g04" in page.url
        hub.stop()
        page.wait_for_selector("#samp-words:text('The SAMP hub has closed.')")
        page.click("#samp-send")
        page.wait_for_selector("#samp-words:text('start TOPCAT or Aladin on this machine first')")
        assert "422" in page.wrong.pop()
