"""The pages in a real browser: what a user does, and what axe says of it."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from browsing import ARGUMENTS, BROWSER, until, watched
from command import done
from served import COUNT, running, settings, survey

playwright = pytest.importorskip(
    "playwright.sync_api", reason="browser tests need the Python package playwright"
)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="browser tests need chromium on the path"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return survey(tmp_path_factory.mktemp("web"))


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    small = folder / "small"
    done("embed", folder / "cut", "--encoder", "pca:3", "--out", small, "--quiet")
    with running(settings(folder, beside=(small,))) as found:
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as found:
        opened = found.chromium.launch(executable_path=BROWSER, args=ARGUMENTS)
        yield opened
        opened.close()


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    """A page that fails the test if it logs an error or asks for anything elsewhere."""
    context = browser.new_context(viewport={"width": 1280, "height": 800}, base_url=address)
    with watched(context.new_page(), address) as found:
        yield found
        context.close()


def ids(page: Any) -> list[str]:
    page.wait_for_selector(".cards:not(.waiting) .card")
    found: list[str] = page.eval_on_selector_all(".card", "all => all.map(c => c.dataset.id)")
    return found


def matches(page: Any, address: str, asked: str) -> list[str]:
    answer = page.request.get(f"{address}/api/search?{asked}").json()
    return [row["id"] for row in answer["rows"]]


def test_search_by_id_and_by_position(page: Any, address: str) -> None:
    page.goto("/")
    assert len(ids(page)) == 48
    page.keyboard.press("/")
    page.keyboard.type("g07")
    page.keyboard.press("Enter")
    page.wait_for_selector(".card .rank")
    assert ids(page) == matches(page, address, "like=g07&k=100")
    assert "like=g07" in page.url
    page.fill("#text", "10.09 20.0")
    page.click("#ask button.main")
    page.wait_for_selector(".chip a:text('g09')")
    assert ids(page) == matches(page, address, "like=g09&k=100")
    page.go_back()
    page.wait_for_selector(".chip a:text('g07')")
    assert ids(page) == matches(page, address, "like=g07&k=100")


def test_search_by_a_dropped_image(page: Any, folder: Path) -> None:
    page.goto("/")
    ids(page)
    page.set_input_files("#file", folder / "files" / "g21.fits")
    page.wait_for_selector(".chip .name:text('g21.fits')")
    page.wait_for_selector(".card .rank")
    assert ids(page)[0] == "g21"
    until(page, "document.querySelector('.chip img').naturalWidth > 0")


def test_references_come_and_go_by_keys_and_by_hand(page: Any, address: str) -> None:
    page.goto("/?like=g07")
    first = ids(page)
    page.focus(".card a")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("+")
    page.wait_for_selector(".chip:nth-child(2)")
    assert f"like=g07&like={first[1]}" in page.url
    page.wait_for_selector("#summary:has-text('2 references')")
    assert ids(page) == matches(page, address, f"like=g07&like={first[1]}&k=100")
    last = ids(page)[-1]
    page.hover(f".card[data-id={last}]")
    page.click(f".card[data-id={last}] button[title^='Turn away']")
    page.wait_for_selector(".chip.negative")
    page.wait_for_selector("#summary:has-text('3 references')")
    assert ids(page) == matches(page, address, f"like=g07&like={first[1]}&unlike={last}&k=100")
    page.click(".chip.negative button")
    page.wait_for_selector("#summary:has-text('2 references')")
    page.click(f".card[data-id={first[3]}] a.picture")
    page.wait_for_selector(f".chip a:text('{first[3]}')")
    assert ids(page) == matches(page, address, f"like={first[3]}&k=100")


def test_the_threshold_says_how_pure_and_is_in_the_address(page: Any, address: str) -> None:
    page.goto("/?like=g04")
    page.wait_for_selector("#reading b")
    curve = page.request.get(f"{address}/api/purity?like=g04").json()
    page.keyboard.press("t")
    assert page.evaluate("document.activeElement.id") == "threshold"
    page.eval_on_selector(
        "#threshold",
        "one => { one.value = 400; one.dispatchEvent(new Event('input', {bubbles: true})); }",
    )
    until(page, "location.search.includes('t=')")
    cut = float(page.evaluate("new URLSearchParams(location.search).get('t')"))
    within = sum(distance <= cut for distance in curve["distance"])
    assert 1 < within < COUNT - 1
    share = curve["purity"][within - 1]
    assert f"{curve['positives'][within - 1]} of {within} labelled" in page.inner_text("#reading")
    shown = f"{100 * share:.0f} %" if share >= 0.0995 else f"{100 * share:.1f} %"
    assert shown in page.inner_text("#reading")
    beyond = page.eval_on_selector_all(".card.beyond", "all => all.length")
    assert beyond == len(ids(page)) - within
    # The address brings all of it back.
    page.goto(page.url)
    page.wait_for_selector(".card.beyond")
    assert page.eval_on_selector_all(".card.beyond", "all => all.length") == beyond
    page.click("#within")
    until(page, f"document.querySelectorAll('.card .rank').length === {within}")


def test_a_deep_link_brings_everything_back(page: Any) -> None:
    page.goto(
        "/?like=g04&unlike=g09&k=20&where=mag+%3C+19&metric=cosine&stretch=log&size=l&show=mag"
    )
    ids(page)
    assert page.input_value("#metric") == "cosine"
    assert page.input_value("#k") == "20"
    assert page.input_value("#where") == "mag < 19"
    assert page.input_value("#stretch") == "log"
    assert page.is_checked("#show input[value=mag]")
    assert page.eval_on_selector_all(".chip", "all => all.length") == 2
    sources = page.eval_on_selector_all(".card img", "all => all.map(one => one.src)")
    assert all("stretch=log" in source for source in sources)
    shown = page.inner_text(".card .cell b")
    assert 15 <= float(shown) < 19


def test_what_is_off_is_said_and_the_page_goes_on(page: Any) -> None:
    page.goto("/?like=nobody")
    page.wait_for_selector("#problem:not([hidden])")
    assert "unknown id 'nobody'" in page.inner_text("#problem")
    assert "404" in page.wrong.pop()
    page.fill("#text", "g01")
    page.keyboard.press("Enter")
    page.wait_for_selector(".card .rank")
    assert page.is_hidden("#problem")
    page.fill("#where", "nonsense > 1")
    page.keyboard.press("Enter")
    page.wait_for_selector("#problem:not([hidden])")
    assert "unknown column 'nonsense'" in page.inner_text("#problem")
    assert "404" in page.wrong.pop()


def test_the_map_selects_and_remembers(page: Any) -> None:
    page.goto("/map?color=kind")
    page.wait_for_selector("body[data-ready]")
    assert "a 15" in page.inner_text("#legend").replace("\n", " ")
    box = page.locator("#canvas").bounding_box()
    page.keyboard.press("l")
    corners = [(0.02, 0.02), (0.98, 0.02), (0.98, 0.98), (0.02, 0.98)]
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in corners]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place, steps=3)
    page.mouse.up()
    until(page, f"document.querySelectorAll('.card').length === {COUNT}")
    assert page.inner_text("#selected") == f"{COUNT} selected"
    until(page, "location.search.includes('lasso=')")
    page.keyboard.press("+")
    page.keyboard.press("+")
    until(page, "location.search.includes('view=')")
    assert page.inner_text("#selected") == f"{COUNT} selected"
    page.goto(page.url)
    until(page, f"document.querySelectorAll('.card').length === {COUNT}")
    page.keyboard.press("x")
    until(page, "document.querySelectorAll('.card').length === 0")
    # The points are there, in the colours of both classes.
    shot = cv2.imdecode(np.frombuffer(page.locator("#plot").screenshot(), np.uint8), 1)
    for red, green, blue in ((0x56, 0xB4, 0xE9), (0xE6, 0x9F, 0x00)):
        apart = np.abs(shot.astype(int) - (blue, green, red)).max(axis=2)
        assert (apart < 60).sum() > 20


def test_why_lays_colours_over_the_images(page: Any) -> None:
    page.goto("/?like=g04")
    first = ids(page)[0]
    page.focus(".card a")
    page.keyboard.press("w")
    page.wait_for_selector(".why figure:nth-child(2)")
    captions = page.eval_on_selector_all(".why figcaption", "all => all.map(c => c.innerText)")
    assert [text.split()[:2] for text in captions] == [["match", first], ["reference", "g04"]]
    painted = page.eval_on_selector(
        ".why .over",
        "one => one.getContext('2d').getImageData(0, 0, 448, 448).data.some(v => v > 0)",
    )
    assert painted
    page.keyboard.press("Escape")
    assert page.is_hidden("#why")


def test_two_embeddings_side_by_side(page: Any, address: str) -> None:
    page.goto("/beside?like=g04")
    page.wait_for_selector("#words b")
    sides = [
        page.eval_on_selector_all(f"#cards-{side} .card", "all => all.map(c => c.dataset.id)")
        for side in "ab"
    ]
    assert sides[0] == matches(page, address, "like=g04&k=60")
    assert sides[1] == matches(page, address, "like=g04&k=60&embedding=small")
    assert sides[0] != sides[1]
    page.click("#cards-b .card:nth-child(2) a.picture")
    page.wait_for_selector(f".chip .name:text('{sides[1][1]}')")
    page.go_back()
    page.wait_for_selector(".chip .name:text('g04')")


def test_objects_to_begin_with_are_sorted(page: Any) -> None:
    page.goto("/")
    ids(page)
    page.select_option("#sort", "mag")
    page.wait_for_selector(".card .cell b")
    page.check("#desc")
    until(page, "location.search.includes('desc=1')")
    until(page, "!document.querySelector('.cards.waiting')")
    shown = [
        float(v) for v in page.eval_on_selector_all(".cell b", "all => all.map(b => b.textContent)")
    ]
    assert len(shown) == 48
    assert shown == sorted(shown, reverse=True)


def test_an_object_has_a_page(page: Any) -> None:
    page.goto("/object/g05")
    page.wait_for_selector(".card .rank")
    assert "587722981733826743" in page.inner_text("#row")
    until(page, "document.querySelector('.big img').naturalWidth === 16")
    links = page.eval_on_selector_all("#links a", "all => all.map(one => one.hostname)")
    assert "simbad.cds.unistra.fr" in links
    page.click("#alike")
    page.wait_for_selector("#summary:has-text('most like it')")


@pytest.mark.skipif(
    importlib.util.find_spec("axe_playwright_python") is None,
    reason="needs the Python package axe-playwright-python",
)
@pytest.mark.parametrize(("scheme", "width"), [("dark", 390), ("light", 1280), ("dark", 1280)])
def test_axe_finds_nothing(browser: Any, address: str, scheme: str, width: int) -> None:
    from axe_playwright_python.sync_playwright import Axe

    context = browser.new_context(
        viewport={"width": width, "height": 844},
        color_scheme=scheme,
        base_url=address,
        bypass_csp=True,  # for axe itself
    )
    page = context.new_page()
    found = {}
    for path in (
        "/",
        "/?like=g04&unlike=g09&show=mag&t=2",
        "/object/g05",
        "/map?color=mag",
        "/beside?like=g04",
    ):
        page.goto(path)
        page.wait_for_load_state("networkidle")
        answer = Axe().run(page)
        found[path] = [
            f"{one['id']}: {one['nodes'][0]['html'][:120]} {one['nodes'][0]['failureSummary']}"
            for one in answer.response["violations"]
        ]
        over = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert over <= 0, f"{path} is wider than {width}"
    context.close()
    assert found == {path: [] for path in found}
