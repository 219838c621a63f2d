"""Aladin Lite: off unless asked for twice, in a frame of its own, and named honestly.

The real one is out of a test's reach. What the page does with it is tested with a stand-in
(`aladin_stand_in/aladin.js`), which notes what is asked of it; that a browser shows images of the
CDS is not tested at all.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from browsing import BROWSER, opened, until
from served import client, running, settings, survey
from skytwin.errors import UsageError
from skytwin.web.app import create_app
from skytwin.web.library import Library

STAND_IN = Path(__file__).parent / "aladin_stand_in"
SECRET = "correct horse battery"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return survey(tmp_path_factory.mktemp("web"))


@pytest.fixture(scope="module")
def web(folder: Path) -> Iterator[TestClient]:
    with client(settings(folder, aladin=True, token=SECRET)) as found:
        found.headers["Authorization"] = f"Bearer {SECRET}"
        yield found


def test_without_the_option_there_is_no_trace_of_it(folder: Path) -> None:
    with client(settings(folder)) as web:
        for path in ("/", "/api/info", "/object/g01", "/static/sky.js", "/aladin/frame"):
            policy = web.get(path).headers["content-security-policy"]
            assert "http" not in policy
            assert "frame-src" not in policy
        assert "aladin-on" not in web.get("/").text
        for path in ("/aladin/frame", "/aladin/frame.js", "/aladin/aladin.js"):
            assert web.get(path).status_code == 404
    with pytest.raises(UsageError, match="give both"):
        settings(folder, aladin_from=STAND_IN)
    with pytest.raises(UsageError, match=r"no file .*aladin\.js"):
        create_app(Library(settings(folder, aladin=True, aladin_from=folder)))


def test_only_the_frame_may_load_from_elsewhere(web: TestClient) -> None:
    for path in ("/", "/api/info", "/static/sky.js"):
        policy = web.get(path).headers["content-security-policy"]
        assert "http" not in policy
        assert policy.endswith("; frame-src 'self'")
    frame = web.get("/aladin/frame")
    policy = frame.headers["content-security-policy"]
    assert policy.startswith("sandbox allow-scripts;")
    assert "allow-same-origin" not in policy
    assert "frame-ancestors 'self'" in policy
    hosts = {word.split("/")[2] for word in policy.split() if word.startswith("https://")}
    assert hosts == {
        "aladin.cds.unistra.fr",
        "alasky.cds.unistra.fr",
        "alaskybis.cds.unistra.fr",
    }
    assert "https://aladin.cds.unistra.fr/AladinLite/api/v3/latest/aladin.js" in frame.text


def test_the_frame_gets_its_script_and_nothing_else_without_the_token(web: TestClient) -> None:
    origin_less = {"Authorization": "", "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}
    assert web.get("/aladin/frame.js", headers=origin_less).status_code == 200
    for path in ("/aladin/frame", "/api/info", "/static/sky.js", "/", "/aladin/frame.js/../x"):
        assert web.get(path, headers=origin_less).status_code in {401, 403}
    assert web.post("/aladin/frame.js", headers=origin_less).status_code in {401, 403}
    other = {**origin_less, "Host": "evil.example"}
    assert web.get("/aladin/frame.js", headers=other).status_code == 421


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="browser tests need chromium on the path")
def test_nothing_is_asked_for_before_it_is_turned_on(folder: Path) -> None:
    """With the address of the CDS: all that leaves the page is logged, and stopped."""
    with running(settings(folder, aladin=True)) as address, opened(address) as page:
        asked: list[str] = []
        page.on("request", lambda one: asked.append(one.url))
        page.route("https://**", lambda route: route.abort())
        page.goto("/?like=g04")
        page.wait_for_selector(".card .rank")
        page.click("#sky-panel summary")
        page.wait_for_selector("body[data-sky-ready]")
        page.wait_for_load_state("networkidle")
        assert all(url.startswith((address, "blob:", "data:")) for url in asked)
        assert not any("/aladin/" in url for url in asked)
        page.check("#aladin-on")
        page.wait_for_selector("#aladin-words:text('could not be loaded')")
        elsewhere = [url for url in asked if not url.startswith((address, "blob:", "data:"))]
        assert elsewhere == ["https://aladin.cds.unistra.fr/AladinLite/api/v3/latest/aladin.js"]
        page.wrong.clear()  # the one that was stopped


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="browser tests need chromium on the path")
def test_the_stand_in_is_told_where_to_look_and_can_reach_nothing(folder: Path) -> None:
    asked = settings(folder, aladin=True, aladin_from=STAND_IN, token=SECRET)
    with running(asked) as address, opened(address) as page:
        page.goto(f"/?like=g04&k=5&token={SECRET}")
        page.wait_for_selector(".card .rank")
        page.click("#sky-panel summary")
        page.wait_for_selector("body[data-sky-ready]")
        page.check("#aladin-on")
        page.wait_for_selector("#aladin-place iframe")
        until(page, "document.querySelector('#aladin-place iframe') !== null")
        frame = page.wait_for_selector("#aladin-place iframe").content_frame()
        until(frame, "window.asked?.some(one => one[0] === 'addSources')")
        first, *_, last = frame.evaluate("window.asked")
        ra, dec, radius = map(float, page.evaluate("document.body.dataset.sky").split(","))
        assert first[:2] == ["aladin", "#place"]
        target = [float(part) for part in first[2]["target"].split()]
        assert target == pytest.approx([ra, dec], abs=1e-3)
        assert first[2]["fov"] == pytest.approx(2 * radius, rel=1e-3)
        cards = page.eval_on_selector_all(".card", "all => all.map(c => c.dataset.id)")
        assert [one[0] for one in last[1]] == cards
        assert last[1][0][1:] == pytest.approx([10 + 0.01 * int(cards[0][1:]), 20.0])
        # Another view follows.
        page.click("#sky-near")
        until(frame, "window.asked.some(one => one[0] === 'setFoV')")
        # The script has no origin: neither the page nor the API is in its reach.
        reach = "fetch('/api/info').then(() => 'read', () => 'refused')"
        assert frame.evaluate(reach) == "refused"
        assert (
            frame.evaluate(
                "(() => { try { return parent.document.title } catch { return 'refused' } })()"
            )
            == "refused"
        )
        page.wrong.clear()  # the line that says so
        page.uncheck("#aladin-on")
        until(page, "document.querySelector('#aladin-place iframe') === null")
