"""Fixtures shared by all tests: no network, real data where the environment points to it."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

# The same examples at every run of continuous integration; others on a developer's machine.
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")


#: What takes minutes is begun first, so that no process is left alone with it at the end.
LONGEST = (
    "test_real_query.py",
    "test_real_papers.py",
    "test_real_reproduce.py",
    "test_generate_quality.py",
    "test_real_explain.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Bring the longest files to the front; the order is else as it was."""
    place = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.name, len(LONGEST)))


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse every connection that leaves this machine."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: object) -> None:
        local = self.family == socket.AF_UNIX or (
            isinstance(address, tuple) and str(address[0]) in {"127.0.0.1", "::1", "localhost"}
        )
        if not local:
            raise OSError(f"tests may not reach the network: {address!r}")
        return connect(self, address)  # type: ignore[arg-type]

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture(autouse=True)
def _no_figure_left() -> Iterator[None]:
    """A figure that pyplot knows of would show up in the user's notebook."""
    yield
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or not pyplot.get_fignums()


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real data; without ``SKYTWIN_DATA`` the test is skipped."""
    folder = os.environ.get("SKYTWIN_DATA")
    if not folder:
        pytest.skip("set SKYTWIN_DATA to the folder of real data to run this test")
    path = Path(folder)
    if not path.is_dir():
        pytest.fail(f"SKYTWIN_DATA={folder!r} is no folder")
    return path.resolve()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A running SAMP hub, where clients look for one."""
    from samp_programs import hub_running, lock_file

    monkeypatch.setenv(*lock_file(tmp_path))
    with hub_running() as server:
        yield server


@pytest.fixture
def viewer(hub: Any) -> Iterator[Any]:
    """A program such as TOPCAT, at the hub."""
    from samp_programs import Viewer

    made = Viewer()
    yield made
    with contextlib.suppress(Exception):  # a test may have stopped the hub
        made.client.disconnect()
