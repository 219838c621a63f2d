"""A small survey as `skytwin serve` serves it: real images, real vectors, a real map."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import uvicorn
from starlette.testclient import TestClient

from command import catalogue, done, images
from skytwin.web.app import create_app
from skytwin.web.library import Library
from skytwin.web.settings import Settings

COUNT = 60


def survey(folder: Path) -> Path:
    """Sixty FITS images as cutouts, embedded and mapped below a folder."""
    files, table = images(folder / "files", COUNT), catalogue(folder / "t.csv", COUNT)
    done("ingest", files, "--catalog", table, "--out", folder / "cut", "--quiet")
    done("embed", folder / "cut", "--encoder", "pca:6", "--out", folder / "emb", "--quiet")
    done("map", folder / "emb", "--method", "pca", "--out", folder / "plane", "--quiet")
    return folder


def settings(folder: Path, **more: Any) -> Settings:
    asked = {"maps": (folder / "plane",), "positive": ("kind=a",), **more}
    return Settings(embedding=folder / "emb", **asked)


@contextlib.contextmanager
def client(asked: Settings, host: str = "127.0.0.1:8000") -> Iterator[TestClient]:
    """The application without a network."""
    with TestClient(create_app(Library(asked)), base_url=f"http://{host}") as found:
        yield found


@contextlib.contextmanager
def running(asked: Settings, port: int = 0) -> Iterator[str]:
    """The application at a port of this machine, a free one by default; its address."""
    config = uvicorn.Config(
        create_app(Library(asked)),
        port=port,
        log_level="error",
        ws="none",
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    until = time.monotonic() + 20
    while not server.started and time.monotonic() < until:
        time.sleep(0.02)
    assert server.started
    try:
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(10)
