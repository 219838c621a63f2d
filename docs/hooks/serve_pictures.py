"""The pictures of `skytwin serve` in the documentation, taken by a real browser.

    make demo && skytwin map demo/embedding --out demo/map
    python docs/hooks/serve_pictures.py demo docs/images
    python docs/hooks/serve_pictures.py EMBEDDING docs/images MOC    # the sky, with positions

Needs chromium and the Python package playwright. Look at what it made.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from playwright.sync_api import Page, sync_playwright

_SERVE = "import typer; from skytwin.cli_serve import serve; typer.run(serve)"
_ARGUMENTS = [
    *("--headless", "--no-sandbox", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
    *("--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist"),
]

#: By eye, of the largest.
_SPIRALS = {2, 6, 7, 11, 16, 17, 19, 25, 26, 27, 32, 33, 38, 40, 45, 48, 50, 56, 58, 64, 66, 75}


def take(demo: Path, out: Path) -> None:
    """Matches, the same on a telephone, the map, and labelling."""
    with TemporaryDirectory() as scratch:
        _take(demo, out, Path(scratch) / "labels.sqlite")


def _take(demo: Path, out: Path, book: Path) -> None:
    command = [sys.executable, "-u", "-c", _SERVE, str(demo / "embedding")]
    command += ["--maps", str(demo / "map"), "--positive", "flux > 20000"]
    command += ["--label-book", str(book)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        address = server.stdout.readline().split(" at ")[1].strip()
        try:
            with sync_playwright() as started:
                browser = started.chromium.launch(
                    executable_path=shutil.which("chromium"), args=_ARGUMENTS
                )
                for scheme, width, height, name in (
                    ("dark", 1280, 800, "serve"),
                    ("light", 390, 760, "serve-phone"),
                    ("dark", 1280, 800, "serve-map"),
                    ("dark", 1280, 800, "serve-label"),
                ):
                    page = browser.new_page(
                        viewport={"width": width, "height": height}, color_scheme=scheme
                    )
                    if name == "serve-label":
                        _label(page, browser.new_page(), address)
                    else:
                        _show(page, address, name)
                    page.screenshot(path=out / f"{name}.jpg", type="jpeg", quality=82)
                    page.close()
                browser.close()
        finally:
            server.terminate()


def _show(page: Page, address: str, name: str) -> None:
    if name == "serve-map":
        page.goto(f"{address}map?color=snr")
        page.wait_for_selector("body[data-ready]")
        box = page.locator("#canvas").bounding_box()
        assert box is not None
        page.keyboard.press("l")
        x, y = box["x"] + 0.55 * box["width"], box["y"] + 0.2 * box["height"]
        page.mouse.move(x, y)
        page.mouse.down()
        for right, down in ((90, -30), (170, 20), (180, 110), (90, 150), (10, 100)):
            page.mouse.move(x + right, y + down, steps=4)
        page.mouse.up()
    else:
        page.goto(f"{address}?like=hubble_deep_field-00023&t=0.3&show=flux")
        page.wait_for_selector("#reading b")
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(500)


def take_sky(embedding: Path, out: Path, moc: Path) -> None:
    """The sky panel, large."""
    command = [sys.executable, "-u", "-c", _SERVE, str(embedding), "--moc", str(moc)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        address = server.stdout.readline().split(" at ")[1].strip()
        try:
            with sync_playwright() as started:
                browser = started.chromium.launch(
                    executable_path=shutil.which("chromium"), args=_ARGUMENTS
                )
                page = browser.new_page(
                    viewport={"width": 1280, "height": 800}, color_scheme="dark"
                )
                page.goto(f"{address}?k=60")
                page.click(".card a.picture")
                page.wait_for_selector(".card .rank")
                page.wait_for_selector("body[data-sky-ready]")
                page.click("#sky-more")
                page.wait_for_load_state("networkidle")
                page.wait_for_timeout(500)
                page.screenshot(path=out / "serve-sky.jpg", type="jpeg", quality=82)
                browser.close()
        finally:
            server.terminate()


def _label(page: Page, other: Page, address: str) -> None:
    """Two people label the same eight; one of them thinks otherwise of one."""
    page.goto(f"{address}label?like=hubble_deep_field-00023")
    page.fill("#title", "spiral")
    page.fill("#counts", "arms, or a disc around a bulge")
    page.click("#make button")
    page.wait_for_selector("#name-dialog")
    other.goto(page.url)
    for one, who in ((other, "Bo"), (page, "Anna")):
        one.fill("#name", who)
        one.keyboard.press("Enter")
        one.wait_for_selector(f"#who:text-is('{who}')")
        one.wait_for_selector("#cards:not(.waiting) .card.current")
        one.uncheck("#learning")
    for one, doubted in ((other, 3), (page, None)):
        for number in range(8):
            name = one.locator(".card.current").get_attribute("data-id") or ""
            spiral = int(name[-5:]) in _SPIRALS
            one.keyboard.press("2" if number == doubted or not spiral else "1")
        one.wait_for_selector("#saved:text-is('all stored')")
    other.close()
    page.check("#learning")
    page.keyboard.press("l")
    page.wait_for_selector("#model:has-text('learnt')")
    page.focus("#cards")
    page.evaluate("scrollTo(0, 0)")
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(1500)


if __name__ == "__main__":
    if len(sys.argv) > 3:
        take_sky(*map(Path, sys.argv[1:4]))
    else:
        take(Path(sys.argv[1]), Path(sys.argv[2]))
