"""Work on the processes of a Dask scheduler: the same bits, and a lost worker costs its task."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import skytwin
from skytwin.embeddings.engine import Engine, open_engine
from skytwin.errors import DataError, Unreachable, UsageError
from skytwin.images.cutouts import Cutouts

pytest.importorskip("distributed")
ROWS = 300


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with open_engine(workers=2) as found:
        assert found is not None
        yield found


@pytest.fixture(scope="module")
def cutouts(tmp_path_factory: pytest.TempPathFactory) -> Cutouts:
    folder = tmp_path_factory.mktemp("cluster")
    rng = np.random.default_rng(0)
    np.save(folder / "images.npy", rng.random((ROWS, 24, 24)).astype(np.float32))
    return skytwin.ingest(folder / "images.npy", folder / "cutouts", quiet=True)


def files(folder: Path) -> dict[str, bytes]:
    """All that a manifest answers for."""
    manifest = skytwin.Embeddings.open(folder).manifest
    assert manifest is not None
    return {name: (folder / name).read_bytes() for name in manifest.files}


def square(number: int) -> tuple[int, int]:
    return number * number, os.getpid()


def refuse(number: int) -> int:
    if number == 3:
        raise DataError("number 3 is damaged")
    return number


def die_once(mark: Path, number: int) -> int:
    if number == 4 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def die(_: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_answers_come_in_the_order_of_the_tasks(engine: Engine) -> None:
    found = list(engine.in_order(square, range(20)))
    assert [value for value, _ in found] == [number**2 for number in range(20)]
    assert len({process for _, process in found}) == 2
    assert os.getpid() not in {process for _, process in found}


def test_an_error_is_that_of_the_task(engine: Engine) -> None:
    with pytest.raises(DataError, match="number 3 is damaged"):
        list(engine.in_order(refuse, range(20)))
    assert list(engine.in_order(refuse, range(2))) == [0, 1]


@pytest.mark.slow
def test_a_worker_killed_in_the_middle_costs_only_its_task(tmp_path: Path) -> None:
    with open_engine(workers=2) as engine:
        assert engine is not None
        mark = tmp_path / "mark"
        assert list(engine.in_order(partial(die_once, mark), range(12))) == list(range(12))
        assert mark.exists()


@pytest.mark.slow
def test_a_task_that_kills_every_worker_is_one_clear_line() -> None:
    with open_engine(workers=1) as engine:
        assert engine is not None
        with pytest.raises(Unreachable, match="workers were lost"):
            list(engine.in_order(die, range(1)))


def test_an_embedding_has_the_same_bits_however_many_work(
    engine: Engine, cutouts: Cutouts, tmp_path: Path
) -> None:
    from skytwin.embeddings.embed import embed_cutouts
    from skytwin.embeddings.parts import Elsewhere
    from skytwin.encoders.load import open_encoder

    encoder = open_encoder("pca:8", cutouts_like=cutouts, orbit="d4")
    here = embed_cutouts(cutouts, encoder, tmp_path / "here", part_rows=64, quiet=True)
    there = embed_cutouts(
        cutouts,
        encoder,
        tmp_path / "there",
        part_rows=64,
        elsewhere=Elsewhere(engine=engine),
        quiet=True,
    )
    assert here.manifest is not None
    assert there.manifest is not None
    assert here.manifest.fingerprint == there.manifest.fingerprint
    assert files(tmp_path / "here") == files(tmp_path / "there")


def test_what_cannot_be_is_one_clear_line(cutouts: Cutouts, tmp_path: Path) -> None:
    for how, error, words in (
        ({"workers": 0}, UsageError, "at least 1"),
        ({"workers": 1, "dask": "tcp://127.0.0.1:1"}, UsageError, "one of them"),
        ({"dask": "nowhere"}, Unreachable, "expected an address"),
    ):
        with pytest.raises(error, match=words):
            skytwin.embed(cutouts, "pca:2", tmp_path / "emb", quiet=True, **how)


@pytest.mark.slow
def test_a_network_has_the_same_bits_on_one_processor_and_on_several(
    cutouts: Cutouts, tmp_path: Path
) -> None:
    from safetensors.torch import save_file

    from skytwin.encoders.torchvision_guard import import_timm

    model = import_timm().create_model("resnet18", pretrained=False, num_classes=0)
    save_file(model.state_dict(), tmp_path / "weights.safetensors")
    runtimes = ["torch", *(["openvino"] if importlib.util.find_spec("openvino") else [])]
    ways: dict[str, tuple[str, list[str]]] = {
        "one": ("1", []),
        "two": ("2", []),
        "workers": ("2", ["--workers", "2"]),
    }
    for way, (threads, options) in ways.items():
        words = [
            *("skytwin", "embed", cutouts.folder, "--encoder", "timm:resnet18", "--quiet"),
            *("--weights", tmp_path / "weights.safetensors", "--size", 32, "--orbit", "none"),
            *options,
        ]
        code = f"""
import sys
from skytwin.cli import main
for runtime in {runtimes}:
    sys.argv = {[*map(str, words)]} + ["--runtime", runtime, "--out", f"{way}-{{runtime}}"]
    try:
        main()
    except SystemExit as stop:
        if stop.code:
            raise
"""
        ended = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "OMP_NUM_THREADS": threads},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr
    for runtime in runtimes:
        one, *others = (files(tmp_path / f"{way}-{runtime}") for way in ways)
        assert all(one == other for other in others)
