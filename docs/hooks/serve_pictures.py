"""The pictures of `skytwin serve` in the documentation, taken by a real browser.

    make demo && skytwin map demo/embedding --out demo/map
    python docs/hooks/serve_pictures.py demo docs/images

Needs chromium and the Python package playwright. Look at what it made.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

_SERVE = "import typer; from skytwin.cli_serve import serve; typer.run(serve)"
_ARGUMENTS = [
    *("--headless", "--no-sandbox", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
    *("--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist"),
]


def take(demo: Path, out: Path) -> None:
    """Four pictures: matches, why, the map, and a telephone's."""
    command = [sys.executable, "-u", "-c", _SERVE, str(demo / "embedding")]
    command += ["--maps", str(demo / "map"), "--positive", "flux > 20000"]
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
                ):
                    page = browser.new_page(
                        viewport={"width": width, "height": height}, color_scheme=scheme
                    )
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


if __name__ == "__main__":
    take(Path(sys.argv[1]), Path(sys.argv[2]))
