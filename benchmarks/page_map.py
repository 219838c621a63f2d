"""The map of `skytwin serve` with very many points: frames while it is moved, as one Markdown row.

    python benchmarks/page_map.py --points 1000000

Drives the real page in Chromium. On a machine without a graphics card WebGL runs on the processor
(SwiftShader), and what is measured is that: a slow bound, not what a user sees. The points are
synthetic: a few hundred clumps. Counted beside the frames: how often the page hands data to the
graphics while it moves (0: nothing but the view changes), and what its heap grows by.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import uvicorn
from playwright.sync_api import sync_playwright

from skytwin.embeddings.adopt import adopt
from skytwin.web.app import create_app
from skytwin.web.library import Library
from skytwin.web.settings import Settings

_ARGUMENTS = [
    *("--headless", "--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"),
    *("--ignore-gpu-blocklist", "--enable-precise-memory-info", "--js-flags=--expose-gc"),
]
_COUNT_UPLOADS = """
  window.uploads = 0;
  for (const name of ["bufferData", "bufferSubData", "texImage2D"]) {
    const kept = WebGL2RenderingContext.prototype[name];
    WebGL2RenderingContext.prototype[name] = function (...given) {
      window.uploads += 1;
      return kept.apply(this, given);
    };
  }
"""
_RECORD = """
  window.frames_ = [];
  window.recording = true;
  let before = performance.now();
  const next = (now) => {
    window.frames_.push(now - before);
    before = now;
    if (window.recording) requestAnimationFrame(next);
  };
  requestAnimationFrame(next);
"""


def points(count: int) -> bytes:
    """x, y, row as `/api/map` gives them."""
    rng = np.random.default_rng(0)
    centres = rng.normal(0, 30, (300, 2))
    made = np.empty(count, dtype=[("x", "<f4"), ("y", "<f4"), ("row", "<u4")])
    xy = centres[rng.integers(0, 300, count)] + rng.normal(0, 2, (count, 2))
    made["x"], made["y"], made["row"] = xy[:, 0], xy[:, 1], np.arange(count)
    return made.tobytes()


@contextlib.contextmanager
def serving(count: int, folder: Path) -> Iterator[str]:
    vectors = np.random.default_rng(1).normal(size=(count, 2)).astype(np.float32)
    names = np.array([f"g{number}" for number in range(count)])
    np.savez(folder / "own.npz", vectors=vectors, ids=names)
    adopt(folder / "own.npz", folder / "emb")
    library = Library(Settings(embedding=folder / "emb"))
    library.maps["many"] = points(count)
    server = uvicorn.Server(uvicorn.Config(create_app(library), port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.05)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join(10)


def measure(address: str, frames: int) -> dict[str, Any]:
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=shutil.which("chromium"), args=_ARGUMENTS)
        size = {"width": 1280, "height": 800}
        page = browser.new_context(viewport=size, bypass_csp=True).new_page()
        page.set_default_timeout(180_000)
        page.add_init_script(_COUNT_UPLOADS)
        began = time.monotonic()
        page.goto(f"{address}/map")
        page.wait_for_selector("body[data-ready]")
        loaded = time.monotonic() - began
        box = page.locator("#canvas").bounding_box()
        assert box is not None
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        page.mouse.move(x, y)
        page.mouse.down()
        page.evaluate("gc()")
        heap = page.evaluate("performance.memory.usedJSHeapSize")
        page.evaluate("window.uploads = 0")
        page.evaluate(_RECORD)
        for number in range(frames):
            page.mouse.move(x + 60 * np.sin(number / 5), y + 40 * np.cos(number / 7))
        page.evaluate("window.recording = false")
        page.mouse.up()
        grown = page.evaluate("performance.memory.usedJSHeapSize") - heap
        times = np.array(page.evaluate("window.frames_"))[1:]
        uploads = page.evaluate("window.uploads")
        renderer = page.evaluate(
            """(() => {
              const gl = document.createElement("canvas").getContext("webgl2");
              const more = gl.getExtension("WEBGL_debug_renderer_info");
              return gl.getParameter(more ? more.UNMASKED_RENDERER_WEBGL : gl.RENDERER);
            })()"""
        )
        browser.close()
    return {
        "first": loaded,
        "median": float(np.median(times)),
        "worst": float(np.percentile(times, 95)),
        "frames": len(times),
        "uploads": uploads,
        "heap": grown / 2**20,
        "renderer": renderer,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=1_000_000)
    parser.add_argument("--frames", type=int, default=200)
    asked = parser.parse_args()
    with TemporaryDirectory() as scratch, serving(asked.points, Path(scratch)) as address:
        found = measure(address, asked.frames)
    print("| points | until drawn | frame, median | 95 % | uploads | heap grows by | WebGL by |")
    print("|---|---|---|---|---|---|---|")
    print(
        f"| {asked.points} | {found['first']:.1f} s | {found['median']:.0f} ms | "
        f"{found['worst']:.0f} ms | {found['uploads']} in {found['frames']} frames | "
        f"{found['heap']:.1f} MiB | {found['renderer']} |"
    )


if __name__ == "__main__":
    main()
