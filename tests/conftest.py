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

# The same examples at every run of continuous integration; others on a developer's machine. None
# fails for the time it takes, which says more of what else the machine does.
settings.register_profile("ci", derandomize=True, deadline=None)
settings.register_profile("here", deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "here")


#: What takes minutes is begun first, so that no process is left alone with it at the end.
LONGEST = (
    "test_real_query.py",
    "test_real_reproduce.py",
    "test_same_bytes.py",
    "test_real_papers.py",
    "test_cluster.py",
    "test_generate_quality.py",
    "test_audit_rates.py",
    "test_durability.py",
    "test_train.py",
    "test_cluster_dask.py",
    "test_damage.py",
    "test_real_outliers.py",
    "test_web_browser.py",
    "test_web_labelling.py",
    "test_maps.py",
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


@pytest.fixture(scope="session")
def made(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where `query_algebra` keeps real data: made once in a run, by whichever process needs it.

    With ``SKYTWIN_MADE`` in that folder, which the documentation's build can share.
    """
    mine = tmp_path_factory.getbasetemp()
    ours = mine.parent if "PYTEST_XDIST_WORKER" in os.environ else mine
    folder = Path(os.environ.get("SKYTWIN_MADE") or ours / "made")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def components(made: Path) -> Any:
    """Galaxy Zoo 1 as principal components: an embedding of real images that takes no network."""
    from query_algebra import alone, images

    import skytwin

    place = made / "gz1-components.emb"
    with alone(place):
        if not (place / "manifest.json").exists():
            skytwin.embed(images(made), "pca:64", place, quiet=True)
    return skytwin.open(place)


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
