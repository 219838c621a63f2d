"""Kills, two writers of one folder, full disks: nothing lost, nothing twice, one clear line."""

from __future__ import annotations

import fcntl
import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest

from command import Outcome
from durability_verbs import SMALL_SHARDS, VERBS, content, prepare
from skytwin.artefact import LOCK, Manifest, seal
from skytwin.errors import OutputExists, UsageError
from skytwin.images import cutouts
from skytwin.run import Run, result_folder

pytest.importorskip("zuko")
TESTS = Path(__file__).parent
PYTHON = [sys.executable, "-c", "from skytwin.cli import main; main()"]
FEW_THREADS = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Inputs of the commands."""
    folder = tmp_path_factory.mktemp("home")
    with mock.patch.multiple(cutouts, **SMALL_SHARDS):
        prepare(folder, ["search", "ingest", "outliers", "probe"])
    return folder


def words(name: str, home: Path, out: Path) -> list[str]:
    return [word.format(home=home, out=out) for word in VERBS[name].split()]


# ---- kills -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_killed_at_random_moments_and_resumed_it_is_the_unbroken_run() -> None:
    """A few of the moments that ``durability_kill.py --kills 100`` goes through."""
    ended = subprocess.run(
        [sys.executable, str(TESTS / "durability_kill.py"), "--kills", "21", "--seed", "1",
         "--only", "ingest,embed,train"],
        capture_output=True, text=True, env=FEW_THREADS, timeout=300,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "21 kills (" in ended.stdout


def test_what_a_killed_writer_of_a_small_result_left_is_cleared(tmp_path: Path) -> None:
    left = tmp_path / ".partial-out"
    (left / "deep").mkdir(parents=True)
    (left / "deep" / "half.csv").write_text("1,")
    with small(tmp_path / "out") as folder:
        (folder / "whole.csv").write_text("1,2\n")
    assert set(Manifest.open(tmp_path / "out").files) == {"whole.csv"}
    assert {path.name for path in tmp_path.iterdir()} == {"out"}


def test_a_result_within_a_result_that_was_not_finished_is_no_part_of_it(tmp_path: Path) -> None:
    (tmp_path / "out" / ".partial-flow").mkdir(parents=True)
    (tmp_path / "out" / ".partial-flow" / "weights").write_bytes(b"half")
    (tmp_path / "out" / "a").write_bytes(b"1")
    made = seal(tmp_path / "out", kind="toy", recipe={}, summary={}, inputs={}, parents={})
    assert set(made.files) == {"a"}
    assert not (tmp_path / "out" / ".partial-flow").exists()


def test_killed_just_after_it_was_finished(tmp_path: Path) -> None:
    with Run(tmp_path / "out", kind="toy", recipe={}, inputs={}) as run:
        run.record({"n": 1})
        run.write("parts/a", b"1")
        kept = {p: (tmp_path / "out" / p).read_bytes() for p in ("run.json", "journal.jsonl")}
        run.finish({})
    for name, data in kept.items():
        (tmp_path / "out" / name).write_bytes(data)
    Manifest.open(tmp_path / "out", "toy")
    with (
        pytest.raises(OutputExists, match="already holds a finished result"),
        Run(tmp_path / "out", kind="toy", recipe={}, inputs={}),
    ):
        pass
    assert {p.name for p in (tmp_path / "out").iterdir()} <= {"manifest.json", ".verified.json"}


def small(out: Path) -> object:
    return result_folder(out, kind="toy", recipe={}, summary={}, inputs={}, parents={})


# ---- two writers -----------------------------------------------------------------------------

#: Stops where it has the folder, until it is let go.
HELD = """
import sys, skytwin.run as run
take = run._take_lock
def held(*folders):
    handle = take(*folders)
    print("mine", flush=True)
    sys.stdin.readline()
    return handle
run._take_lock = held
from skytwin.cli import main
main()
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ingest", "embed", "train", "outliers", "probe", "search"])
def test_of_two_writers_the_second_is_told_and_the_first_goes_on(
    name: str, home: Path, tmp_path: Path
) -> None:
    line = words(name, home, tmp_path / "out")
    first = subprocess.Popen(
        [sys.executable, "-c", HELD, *line], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        text=True, env=FEW_THREADS,
    )  # fmt: skip
    with first:
        assert first.stdout is not None
        while (said := first.stdout.readline()) != "mine\n":
            assert said, "the first writer never had the folder"
        second = subprocess.run([*PYTHON, *line], capture_output=True, text=True, env=FEW_THREADS)
        assert second.returncode == 2
        assert second.stderr.count("\n") == 1
        assert "another skytwin process is writing" in second.stderr
        if name not in ("ingest", "search"):  # each way of writing a folder once, to save time
            first.kill()
            return
        first.communicate("go\n")
    assert first.returncode == 0
    Manifest.open(tmp_path / "out").verify(tmp_path / "out", every_byte=True)
    assert {path.name for path in tmp_path.iterdir()} == {"out"}


def test_a_lock_that_was_removed_under_a_writer_is_not_his(tmp_path: Path) -> None:
    with Run(tmp_path / "out", kind="toy", recipe={}, inputs={}) as run:
        waiting = os.open(tmp_path / "out" / LOCK, os.O_RDWR)
        run.record({"n": 1})
        run.finish({})
    # Free now, but of a file that is no longer there: it keeps nobody out.
    fcntl.flock(waiting, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with pytest.raises(OutputExists, match="finished"):
        Run(tmp_path / "out", kind="toy", recipe={}, inputs={}).__enter__()
    os.close(waiting)


# ---- full disks ------------------------------------------------------------------------------


def own_mounts() -> bool:
    """Whether a small disk can be mounted here."""
    tried = ["unshare", "-rm", "sh", "-c", "mount -t tmpfs tmpfs /mnt"]
    try:
        return subprocess.run(tried, capture_output=True).returncode == 0
    except OSError:
        return False


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("train", ("140k", "300k")),  # while images are prepared; while the state is saved
        ("search", ("60k",)),
    ],
)
def test_a_full_disk_is_told_and_after_there_is_space_it_ends_the_same(
    name: str, sizes: tuple[str, ...], home: Path, tmp_path: Path
) -> None:
    if not own_mounts():
        pytest.skip("this system lets no ordinary user mount a small disk")
    ended = subprocess.run(
        ["unshare", "-rm", sys.executable, str(TESTS / "durability_disk.py"), ",".join(sizes),
         *words(name, home, Path("disk/out"))],
        cwd=tmp_path, capture_output=True, text=True, timeout=300, env=FEW_THREADS,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    for size, line in zip(sizes, ended.stdout.splitlines(), strict=True):
        came = json.loads(line)
        told = came["said"].splitlines()
        assert came["code"] == 1, told
        assert "disk full" in told[-1], told
        assert not any("Traceback" in each for each in told)
        assert "manifest.json" not in came["left"]
        saved = content(tmp_path / size / "saved")
        assert saved == content(tmp_path / "whole" / "disk"), came["again"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ingest", "embed", "search"])
def test_a_file_that_may_not_grow(name: str, home: Path, tmp_path: Path) -> None:
    """Not one byte over a limit, as a quota on the size of a file has it; no mount is needed."""
    line = words(name, home, tmp_path / "out")

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, resource.RLIM_INFINITY))

    ended = subprocess.run(
        [*PYTHON, *line], capture_output=True, text=True, preexec_fn=limited, env=FEW_THREADS
    )
    outcome = Outcome(code=ended.returncode, out=ended.stdout, err=ended.stderr)
    assert outcome.code in (1, 2), outcome.err
    assert outcome.err.count("\n") == 1
    assert "too large" in outcome.err
    with pytest.raises(UsageError):
        Manifest.open(tmp_path / "out")
    subprocess.run([*PYTHON, *line], check=True, capture_output=True, env=FEW_THREADS)
    Manifest.open(tmp_path / "out").verify(tmp_path / "out", every_byte=True)
    assert {path.name for path in tmp_path.iterdir()} == {"out"}
