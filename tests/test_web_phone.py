"""The page on a telephone: keys follow the eye, and nothing is wider than the screen."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from browsing import BROWSER, opened, until
from command import done
from served import client, running, settings, survey

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="browser tests need chromium on the path"),
]

#: Which part of the page has the focus, and how far down the page it begins.
FOCUS = """(() => {
  const at = document.activeElement;
  if (at === document.body) return ["end", -1];
  const part = at.closest("details.panel, section.query, section.results, header");
  const top = part ? part.getBoundingClientRect().top + scrollY : -1;
  return [part?.id || part?.className || at.className || at.tagName, Math.round(top)];
})()"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = survey(tmp_path_factory.mktemp("web"))
    done("footprint", made / "emb", "--order", 12, "--size", 20, "--out", made / "own.fits")
    return made


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    with running(settings(folder, mocs=(folder / "own.fits",))) as found:
        yield found


def test_the_tab_key_goes_down_the_page(address: str) -> None:
    with opened(address, width=390, height=844) as page:
        page.goto("/?like=g04&k=12")
        page.wait_for_selector(".card .rank")
        page.wait_for_load_state("networkidle")
        for panel in ("threshold-panel", "how", "samp-panel", "look"):
            page.eval_on_selector(f"#{panel}", "one => { one.open = true; }")
        walked: list[tuple[str, int]] = []
        for _ in range(200):
            page.keyboard.press("Tab")
            part, top = page.evaluate(FOCUS)
            if part == "end":
                break
            if not walked or walked[-1][0] != part:
                walked.append((part, top))
        parts = [part for part, _ in walked if part != "skip"]
        assert len(parts) == len(set(parts)), parts  # each once
        wanted = ["top", "drop", "threshold-panel", "results", "how", "sky-panel", "samp-panel"]
        assert [part for part in parts if part in wanted] == wanted
        tops = [top for part, top in walked if part != "skip"]
        assert tops == sorted(tops)
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
        # Turned on its side it is wide: the panel goes back to the others.
        page.set_viewport_size({"width": 1000, "height": 500})
        until(page, "document.querySelector('.side > #threshold-panel') !== null")


def test_the_network_is_loaded_when_nobody_touches_the_page(folder: Path) -> None:
    with client(settings(folder)) as web:
        assert web.get("/api/why-state").json() == {"ready": False, "doing": ""}
        web.get("/api/why-state?load=true")
        end = time.monotonic() + 30
        while web.get("/api/why-state").json() != {"ready": True, "doing": ""}:
            assert time.monotonic() < end
            time.sleep(0.05)
    with running(settings(folder)) as fresh, opened(fresh) as page:
        page.goto("/")
        page.wait_for_selector(".card")
        page.wait_for_timeout(3500)  # nothing was searched for: nothing is loaded
        state = page.request.get(f"{fresh}/api/why-state")
        assert state.json()["ready"] is False
        page.goto("/?like=g04")
        page.wait_for_selector(".card .rank")
        until(page, "fetch('/api/why-state').then(a => a.json()).then(a => a.ready)")
