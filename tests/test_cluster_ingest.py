"""Images read, cut and packed by workers: the same folder, byte for byte."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import skytwin
from cluster import one_killed, tree, two_workers
from command import done, images
from command import skytwin as command
from skytwin.embeddings.engine import open_engine
from skytwin.errors import DataError, Unreachable, UsageError
from skytwin.images.cutouts import Cutouts
from skytwin.images.folder import FolderSource
from skytwin.images.framing import Framing
from skytwin.images.ingest import ingest_source
from skytwin.images.ingest_elsewhere import Elsewhere
from skytwin.images.open_source import open_source

pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """150 JPEG files, some of them damaged, empty, constant or of another kind."""
    place = tmp_path_factory.mktemp("ingest") / "images"
    place.mkdir()
    rng = np.random.default_rng(0)
    for number in range(150):
        image = rng.integers(0, 255, (20, 20, 3), dtype=np.uint8)
        name = place / f"o{number:03d}.jpg"
        cv2.imwrite(str(name), image[..., 0] if number == 70 else image)
        if number in (0, 33, 34, 149):
            name.write_bytes(name.read_bytes()[:200])
    (place / "o090.jpg").write_bytes(b"")
    cv2.imwrite(str(place / "o120.jpg"), np.full((20, 20, 3), 7, dtype=np.uint8))
    return place


def read(source: Any, out: Path, engine: Any, **how: Any) -> Cutouts:
    """A source that is opened anew by whoever reads it."""
    elsewhere = None if engine is None else Elsewhere(workers=engine, open=source)
    return ingest_source(source(), out, elsewhere=elsewhere, quiet=True, **how)


@pytest.mark.parametrize("shard_rows", [7, 64, None])
def test_the_same_bytes_and_the_same_report(
    shard_rows: int | None, folder: Path, tmp_path: Path
) -> None:
    source = partial(FolderSource, folder)
    how: dict[str, Any] = {"shard_rows": shard_rows, "framing": Framing(crop=16)}
    here = read(source, tmp_path / "here", None, **how)
    there = read(source, tmp_path / "there", two_workers(), **how)
    assert tree(tmp_path / "here") == tree(tmp_path / "there")
    assert len(there) == len(here) == 143
    assert (tmp_path / "there" / "rejected.csv").read_text().count("\n") == 8
    np.testing.assert_array_equal(here.flux(slice(0, 143)), there.flux(slice(0, 143)))
    left = {path.name for path in (tmp_path / "there").iterdir()}
    assert left <= {"manifest.json", ".verified.json", "pixels.zarr", "catalog.parquet",
                    "rejected.csv"}  # fmt: skip


def test_every_kind_of_source(tmp_path: Path) -> None:
    sky = images(tmp_path / "fits", 12)
    rng = np.random.default_rng(1)
    np.savez(tmp_path / "stack.npz", images=rng.random((40, 9, 9)).astype(np.float32))
    for name, path in (("fits", sky), ("array", tmp_path / "stack.npz")):
        source = partial(open_source, str(path))
        for way, engine in (("here", None), ("there", two_workers())):
            read(source, tmp_path / f"{name} {way}", engine, shard_rows=8)
        assert tree(tmp_path / f"{name} here") == tree(tmp_path / f"{name} there")


def test_images_of_mixed_shape_are_refused_alike(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    (tmp_path / "in").mkdir()
    for number in range(50):
        shape = (12, 12) if number != 41 else (12, 13)
        np.save(tmp_path / "in" / f"{number:02d}.npy", rng.random(shape).astype(np.float32))
    said = []
    for engine in (None, two_workers()):
        with pytest.raises(UsageError) as error:
            read(partial(FolderSource, tmp_path / "in"), tmp_path / "out", engine)
        said.append(str(error.value))
        assert not (tmp_path / "out").exists()
    assert said[0] == said[1]
    assert "41.npy is 12 x 13" in said[0]


def test_a_folder_without_a_good_image_is_refused_alike(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for number in range(40):
        (tmp_path / "in" / f"{number}.jpg").write_bytes(b"no image")
    for engine in (None, two_workers()):
        with pytest.raises(DataError, match=r"none of 40 image\(s\)"):
            read(partial(FolderSource, tmp_path / "in"), tmp_path / "out", engine)


def test_a_worker_that_sees_other_images_says_so(folder: Path, tmp_path: Path) -> None:
    class Here:
        """Only the process that made it opens the folder as it is."""

        def __init__(self, path: Path) -> None:
            self.path, self.process = path, os.getpid()

        def __call__(self) -> FolderSource:
            source = FolderSource(self.path)
            if os.getpid() != self.process:
                source.ids = source.ids[1:]
            return source

    with pytest.raises(Unreachable, match=r"sees other images there \(149 of them\)"):
        read(Here(folder), tmp_path / "out", two_workers())
    here = partial(FolderSource, folder)
    gone = Elsewhere(workers=two_workers(), open=partial(FolderSource, tmp_path / "nowhere"))
    with pytest.raises(Unreachable, match=r"cannot open the images: no file or folder"):
        ingest_source(here(), tmp_path / "out", elsewhere=gone, quiet=True)


@pytest.mark.slow
def test_a_killed_worker_and_the_number_of_workers_change_nothing(
    folder: Path, tmp_path: Path
) -> None:
    source = partial(FolderSource, folder)
    how: dict[str, Any] = {"shard_rows": 16, "framing": Framing(size=160)}
    read(source, tmp_path / "here", None, **how)
    for workers in (1, 3):
        with open_engine(workers=workers) as engine:
            assert engine is not None
            with one_killed(engine, "_read" if workers == 1 else "_as_second"):
                read(source, tmp_path / str(workers), engine, **how)
        assert tree(tmp_path / "here") == tree(tmp_path / str(workers))


@pytest.mark.slow
def test_killed_as_a_whole_either_way_goes_on(folder: Path, tmp_path: Path) -> None:
    code = f"""
from functools import partial
from pathlib import Path
from skytwin.embeddings.engine import open_engine
from skytwin.images import ingest, ingest_elsewhere
from skytwin.images.folder import FolderSource
from skytwin.run import Run
import os, signal
record = Run.record
def dying(self, entry):
    record(self, entry)
    if len(self.journal) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
Run.record = dying
if __name__ == "__main__":
    source = partial(FolderSource, Path({str(folder)!r}))
    with open_engine(workers=2) as engine:
        elsewhere = ingest_elsewhere.Elsewhere(workers=engine, open=source)
        ingest.ingest_source(source(), {str(tmp_path / "out")!r}, elsewhere=elsewhere,
                             shard_rows=9, quiet=True)
"""
    (tmp_path / "script.py").write_text(code)
    ended = subprocess.run([sys.executable, str(tmp_path / "script.py")], check=False)
    assert ended.returncode == -signal.SIGKILL
    journal = tmp_path / "out" / "journal.jsonl"
    assert len(journal.read_text().splitlines()) == 3
    source = partial(FolderSource, folder)
    read(source, tmp_path / "out", two_workers(), shard_rows=9)
    read(source, tmp_path / "here", None, shard_rows=9)
    assert tree(tmp_path / "here") == tree(tmp_path / "out")


@pytest.mark.slow
def test_the_command_line_writes_the_same_folder(folder: Path, tmp_path: Path) -> None:
    for name, more in (("here", ["--threads", 1]), ("there", ["--workers", 2])):
        done("ingest", folder, "--crop", 12, "--quiet", "--out", tmp_path / name, *more)
    assert tree(tmp_path / "here") == tree(tmp_path / "there")
    both = command("ingest", folder, "--out", tmp_path / "x", "--threads", 1, "--workers", 1)
    assert both.code == 2
    assert "--threads read in this process" in both.err
    assert len(skytwin.open(tmp_path / "there")) == 143  # type: ignore[arg-type]
