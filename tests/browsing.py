"""A page of a server in a real browser."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterator
from typing import Any

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")
#: Seconds that a page may take for anything: nobody waits so long but on a busy machine.
PATIENCE = 30
ARGUMENTS = [
    *("--headless", "--no-sandbox", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
    # WebGL without a graphics card.
    *("--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist"),
]


@contextlib.contextmanager
def opened(address: str, *, width: int = 1280, height: int = 800, **more: Any) -> Iterator[Any]:
    """A page in a browser of its own; see `watched`."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as found:
        browser = found.chromium.launch(executable_path=BROWSER, args=ARGUMENTS)
        size = {"width": width, "height": height}
        context = browser.new_context(viewport=size, base_url=address, **more)
        with watched(context.new_page(), address) as page:
            yield page
            browser.close()


@contextlib.contextmanager
def watched(page: Any, address: str) -> Iterator[Any]:
    """A page; in the end it must have logged no error and asked for nothing elsewhere."""
    page.set_default_timeout(1000 * PATIENCE)
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda line: wrong.append(line.text) if line.type == "error" else None)
    page.on(
        "request",
        lambda asked: (
            None
            if asked.url.startswith((address, "blob:", "data:"))
            else wrong.append(f"asked for {asked.url}")
        ),
    )
    page.wrong = wrong
    yield page
    assert wrong == []


def until(page: Any, expression: str) -> None:
    """Wait for it to be true; Playwright's own way is `eval`, which the pages forbid."""
    end = time.monotonic() + PATIENCE
    while not page.evaluate(expression):
        assert time.monotonic() < end, expression
        time.sleep(0.03)
