"""Labelling in a real browser: keys, undo, two people, a certificate, a server that goes away."""

from __future__ import annotations

import contextlib
import csv
import importlib.util
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from browsing import ARGUMENTS, BROWSER, until, watched
from command import catalogue, done, header
from served import running, settings

playwright = pytest.importorskip(
    "playwright.sync_api", reason="browser tests need the Python package playwright"
)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="browser tests need chromium on the path"),
]
COUNT, SIZE = 120, 16
KEYS = {True: "1", False: "2"}


def bar(name: str) -> bool:
    """What the objects are in truth: every third one is a bar, the others are round."""
    return int(name[1:]) % 3 == 0


def _image(row: int) -> np.ndarray:
    rng = np.random.default_rng(row)
    y, x = np.mgrid[:SIZE, :SIZE] - SIZE / 2 + 0.5
    wide, tall = (6.0, 1.1) if row % 3 == 0 else (3.0, 3.0)
    shape = np.exp(-0.5 * ((x / wide) ** 2 + (y / tall) ** 2)) * rng.uniform(0.8, 1.2)
    return (shape + 0.15 * rng.standard_normal(shape.shape)).astype(np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bars and discs, embedded, and a plan for a list of bars."""
    base = tmp_path_factory.mktemp("label")
    files = base / "files"
    files.mkdir()
    for row in range(COUNT):
        fits.writeto(files / f"g{row:02d}.fits", _image(row), header(row))
    table = catalogue(base / "t.csv", COUNT)
    done("ingest", files, "--catalog", table, "--out", base / "cut", "--quiet")
    done("embed", base / "cut", "--encoder", "pca:6", "--out", base / "emb", "--quiet")
    plan = ["--like", "g00", "--like", "g30", "--purity", "0.7", "--budget", "40", "--rounds", "2"]
    done("certify", "plan", base / "emb", *plan, "--out", base / "bars")
    return base


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    with running(settings(folder, maps=(), positive=(), plans=(folder / "bars",))) as found:
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as found:
        opened = found.chromium.launch(executable_path=BROWSER, args=ARGUMENTS)
        yield opened
        opened.close()


@contextlib.contextmanager
def visitor(browser: Any, address: str, who: str, **more: Any) -> Iterator[Any]:
    """A page of someone whose name the browser knows; it fails the test if it logs an error."""
    size = {"width": 1280, "height": 800}
    context = browser.new_context(**{"viewport": size, "base_url": address, **more})
    context.add_init_script(
        f"localStorage.getItem('skytwin-who') ?? save(); "
        f"function save() {{ localStorage.setItem('skytwin-who', '{who}'); }}"
        if who
        else ""
    )
    with watched(context.new_page(), address) as page:
        yield page
        context.close()


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    with visitor(browser, address, "Anna") as found:
        yield found


STORED = "document.querySelector('#saved').textContent === 'all stored'"


def ask(page: Any, name: str, answers: str = "yes, no, unsure") -> None:
    """Make a question on the page."""
    page.goto("/label")
    page.fill("#title", name)
    page.fill("#counts", "longer than wide")
    page.fill("#answers", answers)
    page.click("#make button")
    page.wait_for_selector(f"h1:text-is('{name}')")
    shown(page)


def shown(page: Any) -> list[str]:
    """The objects on the grid, once they are there."""
    page.wait_for_selector("#cards:not(.waiting) .card.current")
    found: list[str] = page.eval_on_selector_all(
        "#cards .card", "all => all.map(c => c.dataset.id)"
    )
    return found


def current(page: Any) -> str:
    return str(page.eval_on_selector(".card.current", "one => one.dataset.id"))


def given(page: Any) -> dict[str, str]:
    """The answers that the grid shows as stored."""
    found: dict[str, str] = page.eval_on_selector_all(
        ".card.labelled.stored",
        "all => Object.fromEntries("
        "all.map(c => [c.dataset.id, c.querySelector('.given').firstChild.data]))",
    )
    return found


def log(folder: Path, question: str, book: str = "emb.labels.sqlite") -> list[tuple[Any, ...]]:
    """The rows of the book, read by SQLite alone: object, answer, who, order."""
    base = sqlite3.connect(f"file:{folder / book}?mode=ro", uri=True)
    with contextlib.closing(base):
        return base.execute(
            "SELECT object, answer, who, offered FROM log JOIN questions "
            "ON questions.number = log.question WHERE questions.name = ? ORDER BY log.number",
            (question,),
        ).fetchall()


def by_truth(page: Any, count: int) -> list[str]:
    """Label so many by keys as they are in truth."""
    seen = []
    for _ in range(count):
        seen.append(current(page))
        page.keyboard.press(KEYS[bar(seen[-1])])
    until(page, STORED)
    return seen


def test_ten_are_labelled_with_keys_and_taken_back(page: Any, folder: Path) -> None:
    ask(page, "ten")
    order = shown(page)
    answers = ["yes", "no", "unsure", "no", "no", "yes", "no", "unsure", "yes", "no"]
    for answer in answers:
        page.keyboard.press(str(1 + ["yes", "no", "unsure"].index(answer)))
    assert current(page) == order[10]
    until(page, STORED)
    expected = [
        (one, answer, "Anna", "random") for one, answer in zip(order, answers, strict=False)
    ]
    assert log(folder, "ten") == expected
    until(page, "document.querySelectorAll('.card.labelled.stored').length === 10")
    assert given(page) == dict(zip(order, answers, strict=False))
    until(page, "document.querySelector('#progress-words').textContent.startsWith('10 ')")
    counts = page.inner_text("#counts").split()
    assert counts == ["yes", "3", "no", "5", "unsure", "2"]
    # Undo goes back to the object, of a choice to all of it; also to what an earlier page stored.
    page.keyboard.press("u")
    until(page, STORED)
    assert (current(page), log(folder, "ten")[-1][:2]) == (order[9], (order[9], None))
    page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("Shift+ArrowRight")
    assert page.inner_text("#chosen") == "3 chosen"
    page.keyboard.press("2")
    until(page, STORED)
    assert [row[:2] for row in log(folder, "ten")[-3:]] == [(o, "no") for o in order[9:12]]
    page.keyboard.press("Control+z")
    until(page, STORED)
    assert [row[:2] for row in log(folder, "ten")[-3:]] == [(o, None) for o in order[11:8:-1]]
    page.goto("/label/ten?order=done")
    assert shown(page) == order[8::-1]
    page.keyboard.press("u")
    until(
        page,
        f"document.querySelector('[data-id={order[8]}]').className.includes('labelled') === false",
    )
    until(page, STORED)  # the page shows it before the server has it
    assert log(folder, "ten")[-1][:2] == (order[8], None)


def test_half_a_reply_is_none_and_nothing_is_stored_twice(page: Any, folder: Path) -> None:
    ask(page, "half")
    order = shown(page)
    cut: list[int] = []

    def half(route: Any) -> None:
        if cut:
            route.continue_()
            return
        reply = route.fetch()
        cut.append(reply.status)
        route.fulfill(response=reply, body=reply.body()[:10])

    page.route("**/api/labels/half", half)
    page.keyboard.press("1")
    until(page, "document.querySelectorAll('.card.labelled.stored').length === 1")
    until(page, STORED)
    assert cut == [201]
    assert [row[:2] for row in log(folder, "half")] == [(order[0], "yes")]


def test_the_large_picture_takes_the_same_keys(page: Any, folder: Path) -> None:
    ask(page, "large")
    order = shown(page)
    page.keyboard.press("Enter")
    page.wait_for_selector("#large-picture img")
    page.keyboard.press("3")
    page.keyboard.press("0")  # skips one
    page.click("#large .answer:has-text('yes')")
    assert page.inner_text("#large-name") == order[3]
    until(page, STORED)
    assert [row[:2] for row in log(folder, "large")] == [(order[0], "unsure"), (order[2], "yes")]
    page.keyboard.press("Escape")
    assert page.is_hidden("#large")
    assert current(page) == order[3]


def test_by_mouse_some_at_once(page: Any, folder: Path) -> None:
    ask(page, "mouse", "spiral, lens, nothing")
    order = shown(page)
    page.click(f"[data-id={order[4]}]")
    page.click(f"[data-id={order[6]}]", modifiers=["Shift"])
    page.click(f"[data-id={order[9]}]", modifiers=["Control"])
    selected = page.eval_on_selector_all(
        "[aria-selected=true]", "all => all.map(c => c.dataset.id)"
    )
    assert selected == [order[4], order[5], order[6], order[9]]
    page.click(".answer-bar .answer:has-text('lens')")
    until(page, STORED)
    assert [row[:2] for row in log(folder, "mouse")] == [(one, "lens") for one in selected]


def test_the_ranking_learns_and_offers_what_is_like_it(page: Any) -> None:
    ask(page, "learn")
    page.select_option("#order", "uncertain")
    page.wait_for_selector("#problem:not([hidden])")  # of what, nobody has said yet
    assert page.is_visible("#empty")
    assert "400" in page.wrong.pop()
    page.select_option("#order", "random")
    shown(page)
    by_truth(page, 14)
    page.select_option("#order", "top")
    page.wait_for_selector("#model:has-text('learnt from')")
    first = shown(page)
    assert sum(map(bar, first[:10])) >= 8  # a third of all are
    before = page.inner_text("#model")
    by_truth(page, 3)
    until(page, f"document.querySelector('#model').textContent !== {before!r}")
    assert "learnt from" in page.inner_text("#model")
    labels = sum(int(word) for word in page.inner_text("#model").split() if word.isdigit())
    assert labels == 17
    # What was answered stays where it was, the rest is what is offered now.
    assert shown(page)[:3] == first[:3]
    for order in ("uncertain", "gain"):
        page.select_option("#order", order)
        until(page, f"location.search.includes('order={order}')")
        assert not set(shown(page)) & set(first[:3])


def test_two_people_differ_and_see_where(browser: Any, address: str, folder: Path) -> None:
    with visitor(browser, address, "") as page:
        ask_name = page.locator("#name-dialog")
        page.goto("/label")
        page.fill("#title", "two")
        page.click("#make button")
        ask_name.wait_for()
        page.keyboard.type("Anna")
        page.keyboard.press("Enter")
        until(page, "document.querySelector('#who').textContent === 'Anna'")
        order = shown(page)
        for key in "112212":
            page.keyboard.press(key)
        until(page, STORED)
        page.click("#rename")
        page.fill("#name", "Bo")
        page.keyboard.press("Enter")
        until(page, "document.querySelector('#who').textContent === 'Bo'")
        until(page, "document.querySelectorAll('.card.labelled').length === 0")
        assert shown(page)[:6] == order[:6]
        assert page.locator(".card .cell").count() == 0  # what Anna said is not shown before
        for key in "112221":
            page.keyboard.press(key)
        until(page, STORED)
        page.wait_for_selector("#agreement:has-text('alpha')")
        assert "6 answered by two or more, 2 with different answers" in page.inner_text(
            "#agreement"
        )
        page.click("#conflicts")
        until(page, "document.querySelectorAll('#cards:not(.waiting) .card').length === 2")
        assert sorted(shown(page)) == sorted(order[4:6])
        assert "Anna" in page.inner_text("#cards")
        assert {row[2] for row in log(folder, "two")} == {"Anna", "Bo"}


def test_a_plan_is_labelled_blindly_until_it_is_certified(page: Any, folder: Path) -> None:
    page.goto("/label")
    page.click("a:text-is('bars')")
    first = shown(page)
    planned = list(csv.DictReader(Path(folder / "bars" / "to_label.csv").read_text().splitlines()))
    assert first == [row["id"] for row in planned]
    texts = page.eval_on_selector_all(".card .text", "all => all.map(c => c.innerText.trim())")
    assert texts == first  # nothing but the name
    options = page.eval_on_selector_all("#order option", "all => all.map(one => one.value)")
    assert options == ["plan", "conflicts", "done"]
    page.check("#show input[value=mag]")
    page.wait_for_selector("#sighted:not([hidden])")
    page.uncheck("#show input[value=mag]")
    shown(page)
    assert page.is_hidden("#sighted")
    by_truth(page, len(first) - 1)
    page.wait_for_selector("#certificate:has-text('have no answer')")
    assert page.is_hidden("#next")
    by_truth(page, 1)
    page.wait_for_selector("#certificate.ready")
    page.click("#next")
    until(page, f"!document.querySelector('[data-id={first[0]}]')")
    assert (folder / "bars-round2" / "manifest.json").is_file()
    second = shown(page)
    assert not set(first) & set(second)
    by_truth(page, len(second))
    page.wait_for_selector("#certificate-round:text-is('round 2 of 2')")
    page.wait_for_selector("#certificate.ready")
    headline = page.inner_text("#certificate p")
    with page.expect_download() as found:
        page.click("#files a:text-is('CSV') >> nth=0")
    labels = folder / "bars.csv"
    found.value.save_as(labels)
    # The command line says the same of what was exported.
    told = done("certify", "run", folder / "bars-round2", labels)
    assert told.splitlines()[0] == headline
    size = int(headline.split()[2])
    assert headline.startswith(f"the top {size} is at least 0.7 pure")


def test_labels_go_out_and_come_in_again(page: Any, folder: Path, tmp_path: Path) -> None:
    ask(page, "out")
    seen = by_truth(page, 7)
    until(page, "document.querySelector('#progress-words').textContent.startsWith('7 ')")
    with page.expect_download() as found:
        page.click("#files a:text-is('CSV') >> nth=0")
    found.value.save_as(tmp_path / "labels.csv")
    rows = list(csv.DictReader((tmp_path / "labels.csv").read_text().splitlines()))
    said = {row["id"]: row["label"] for row in rows}
    assert said == {one: "yes" if bar(one) else "no" for one in seen}
    ask(page, "in")
    page.set_input_files("label:has-text('As mine') input", tmp_path / "labels.csv")
    page.wait_for_selector("#imported:has-text('7 labels taken in')")
    page.goto("/label/in?order=done")
    shown(page)
    assert given(page) == {} or set(given(page)) == set(seen)
    assert {row[:2] for row in log(folder, "in")} == set(said.items())
    (tmp_path / "zoe.csv").write_text(f"id,label,who\nnobody,yes,Zoe\n{seen[0]},no,Zoe\n")
    page.set_input_files("label:has-text('With names') input", tmp_path / "zoe.csv")
    page.wait_for_selector("#imported:has-text('1 label taken in; 1 of unknown objects')")
    page.wait_for_selector("#people:has-text('Zoe')")


def test_what_the_server_does_not_hear_waits_for_it(browser: Any, folder: Path) -> None:
    asked = settings(folder, maps=(), positive=(), label_book=folder / "away.sqlite")
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(contextlib.ExitStack())
        address = server.enter_context(running(asked))
        port = int(address.rpartition(":")[2])
        page = stack.enter_context(visitor(browser, address, "Anna"))
        ask(page, "away")
        order = shown(page)
        by_truth(page, 2)
        server.close()
        for one in order[2:5]:
            page.keyboard.press(KEYS[bar(one)])
        page.wait_for_selector("#unsent:not([hidden])")
        assert "wait in this browser" in page.inner_text("#unsent")
        assert page.inner_text("#saved") == "storing 3"
        assert len(given(page)) == 2
        with running(asked, port):
            until(page, STORED)
            assert page.is_hidden("#unsent")
            expected = [(one, "yes" if bar(one) else "no") for one in order[:5]]
            assert [row[:2] for row in log(folder, "away", "away.sqlite")] == expected
        # A page that is closed warns, and hands on to the next one.
        page.keyboard.press("u")
        page.keyboard.press("3")
        page.wait_for_selector("#unsent:not([hidden])")
        asked_to_stay = []
        page.on("dialog", lambda one: (asked_to_stay.append(one.type), one.accept()))
        page.close(run_before_unload=True)
        page.wait_for_event("close") if not page.is_closed() else None
        assert asked_to_stay == ["beforeunload"]
        # Nobody there, and then a server with another token.
        assert [line for line in page.wrong if "ERR_" not in line and "403" not in line] == []
        page.wrong.clear()
        with running(asked, port):
            again = page.context.new_page()
            again.goto("/label/away?order=done")
            until(again, STORED)
            rows = [row[:2] for row in log(folder, "away", "away.sqlite")]
            assert rows[5:] == [(order[4], None), (order[4], "unsure")]


def test_with_the_thumb_on_a_telephone(browser: Any, address: str, folder: Path) -> None:
    more = {"viewport": {"width": 390, "height": 760}, "has_touch": True, "is_mobile": True}
    with visitor(browser, address, "Dan", **more) as page:
        ask(page, "thumb")
        order = shown(page)
        for number in range(14):  # further than the screen reaches
            page.tap(f".answer-bar .answer >> nth={number % 2}")
        until(page, STORED)
        expected = [(one, ("yes", "no")[n % 2]) for n, one in enumerate(order[:14])]
        assert [row[:2] for row in log(folder, "thumb")] == expected
        lower = "document.querySelector('{}').getBoundingClientRect().{}"
        below = page.evaluate(lower.format(".card.current", "bottom"))
        assert below <= page.evaluate(lower.format(".answer-bar", "top"))
        page.tap("#several")
        for one in order[14:17]:
            page.tap(f"[data-id={one}]")
        page.tap(".answer-bar .answer >> nth=2")
        until(page, STORED)
        assert [row[:2] for row in log(folder, "thumb")][14:] == [
            (one, "unsure") for one in order[14:17]
        ]


def test_the_address_brings_it_back(page: Any) -> None:
    ask(page, "link")
    by_truth(page, 3)
    page.goto("/?like=g03&like=g06&unlike=g01")
    page.wait_for_selector(".card .rank")
    page.click("#label-these")
    page.wait_for_selector(".chip >> nth=2")
    page.click("a:text-is('link')")
    page.wait_for_selector("h1:text-is('link')")
    shown(page)
    assert page.input_value("#order") == "top"
    page.select_option("#order", "done")
    page.select_option("#size", "s")
    page.check("#show input[value=mag]")
    until(page, "location.search.includes('show=mag')")
    for _ in range(2):
        assert len(shown(page)) == 3
        assert page.input_value("#order") == "done"
        assert page.eval_on_selector_all(".chip", "all => all.length") == 3
        assert "size-s" in page.get_attribute("#cards", "class")
        assert 15 <= float(page.inner_text(".card .cell b >> nth=0")) < 20
        page.reload()
    page.go_back()
    until(page, "!location.search.includes('show=mag')")


@pytest.mark.skipif(
    importlib.util.find_spec("axe_playwright_python") is None,
    reason="needs the Python package axe-playwright-python",
)
@pytest.mark.parametrize(("scheme", "width"), [("dark", 390), ("light", 1280)])
def test_axe_finds_nothing(browser: Any, address: str, scheme: str, width: int) -> None:
    from axe_playwright_python.sync_playwright import Axe

    size = {"width": width, "height": 844}
    more = {"viewport": size, "color_scheme": scheme, "bypass_csp": True}  # for axe itself
    with visitor(browser, address, "Cy", **more) as page:
        ask(page, f"axe {scheme} {width}")
        by_truth(page, 4)
        found = {}
        for path in ("/label?like=g03", "/label/axe {}?order=top&show=mag", "/label/bars"):
            page.goto(path.format(f"{scheme} {width}"))
            page.wait_for_load_state("networkidle")
            if "bars" in path:
                page.keyboard.press("Enter")
                page.wait_for_selector("#large-picture img")
            answer = Axe().run(page)
            found[path] = [
                f"{one['id']}: {one['nodes'][0]['html'][:120]} {one['nodes'][0]['failureSummary']}"
                for one in answer.response["violations"]
            ]
            over = page.evaluate("document.documentElement.scrollWidth - innerWidth")
            assert over <= 0, f"{path} is {over} px too wide"
        assert found == {path: [] for path in found}
