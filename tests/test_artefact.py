from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from skytwin.artefact import Manifest, Parent, from_dict
from skytwin.errors import DamagedArtefact, DataError, OutputExists, UsageError
from skytwin.files import write_atomically
from skytwin.run import Run, result_folder


def make(folder: Path, **recipe: object) -> Manifest:
    with Run(folder, kind="toy", recipe=recipe, inputs={"from": "here"}) as run:
        run.write("data/a.bin", b"alpha")
        run.write("data/b.bin", b"beta")
        return run.finish({"count": 2})


def test_a_finished_folder_opens_and_names_its_content(tmp_path: Path) -> None:
    made = make(tmp_path / "x", seed=1)
    found = Manifest.open(tmp_path / "x", "toy")
    assert found == made
    assert set(found.files) == {"data/a.bin", "data/b.bin"}
    assert found.recipe == {"seed": 1}
    assert sorted(p.name for p in (tmp_path / "x").iterdir()) == [
        ".verified.json",
        "data",
        "manifest.json",
    ]


def test_the_fingerprint_follows_content_recipe_and_parents_not_the_place(tmp_path: Path) -> None:
    one, two = make(tmp_path / "x", seed=1), make(tmp_path / "y", seed=1)
    assert one.fingerprint == two.fingerprint
    assert make(tmp_path / "z", seed=2).fingerprint != one.fingerprint
    with Run(
        tmp_path / "w",
        kind="toy",
        recipe={"seed": 1},
        inputs={},
        parents={"p": Parent(kind="toy", path="x", fingerprint="f")},
    ) as run:
        run.write("data/a.bin", b"alpha")
        run.write("data/b.bin", b"beta")
        assert run.finish({"count": 2}).fingerprint != one.fingerprint


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda f: (f / "data/a.bin").write_bytes(b"alphb"), "content of data/a.bin has changed"),
        (lambda f: (f / "data/a.bin").write_bytes(b"al"), "has 2 bytes, not 5"),
        (lambda f: (f / "data/a.bin").unlink(), "data/a.bin is missing"),
        (lambda f: (f / "manifest.json").write_text("{"), "cannot be read"),
        (lambda f: (f / "manifest.json").write_text("[]"), "cannot be read"),
    ],
)
def test_damage_is_named(tmp_path: Path, damage: object, said: str) -> None:
    make(tmp_path / "x")
    damage(tmp_path / "x")  # type: ignore[operator]
    with pytest.raises(DamagedArtefact, match=said):
        Manifest.open(tmp_path / "x")


def test_an_edited_manifest_is_refused(tmp_path: Path) -> None:
    make(tmp_path / "x", seed=1)
    path = tmp_path / "x" / "manifest.json"
    data = json.loads(path.read_text())
    data["recipe"]["seed"] = 2
    path.write_text(json.dumps(data))
    with pytest.raises(DamagedArtefact, match="was edited"):
        Manifest.open(tmp_path / "x")


def test_a_change_that_keeps_the_time_stamp_is_found_by_the_full_check(tmp_path: Path) -> None:
    made = make(tmp_path / "x")
    file = tmp_path / "x" / "data" / "a.bin"
    before = file.stat()
    file.write_bytes(b"alphb")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    Manifest.open(tmp_path / "x")  # as git would, it trusts size and time
    with pytest.raises(DamagedArtefact, match="content"):
        made.verify(tmp_path / "x", every_byte=True)


def test_wrong_folders_are_usage_errors(tmp_path: Path) -> None:
    make(tmp_path / "x")
    with pytest.raises(UsageError, match="no folder"):
        Manifest.open(tmp_path / "none")
    with pytest.raises(UsageError, match=r"no manifest\.json"):
        Manifest.open(tmp_path)
    with pytest.raises(UsageError, match="holds toy; expected cutouts"):
        Manifest.open(tmp_path / "x", "cutouts")


def test_only_an_unfinished_run_of_the_same_recipe_is_taken_up(tmp_path: Path) -> None:
    folder = tmp_path / "x"
    with pytest.raises(RuntimeError), Run(folder, kind="toy", recipe={"a": 1}, inputs={}) as run:
        run.write("one", b"1")
        run.record({"file": "one"})
        raise RuntimeError
    with pytest.raises(UsageError, match="unfinished run"):
        Manifest.open(folder)
    with (
        pytest.raises(OutputExists, match="a: 1 then, 2 now"),
        Run(folder, kind="toy", recipe={"a": 2}, inputs={}),
    ):
        pass
    with Run(folder, kind="toy", recipe={"a": 1}, inputs={}) as run:
        assert run.journal == [{"file": "one"}]
        run.write("two", b"2")
        run.finish({})
    assert set(Manifest.open(folder).files) == {"one", "two"}
    with (
        pytest.raises(OutputExists, match="finished"),
        Run(folder, kind="toy", recipe={"a": 1}, inputs={}),
    ):
        pass


def test_foreign_files_are_never_touched(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with (
        pytest.raises(OutputExists, match="no unfinished skytwin run"),
        Run(tmp_path, kind="toy", recipe={}, inputs={}),
    ):
        pass
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]
    with (
        pytest.raises(OutputExists, match="is a file"),
        Run(tmp_path / "notes.txt", kind="toy", recipe={}, inputs={}),
    ):
        pass


def test_a_run_that_did_nothing_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError), Run(tmp_path / "x", kind="toy", recipe={}, inputs={}) as run:
        run.write("part", b"1")
        raise ValueError
    assert not (tmp_path / "x").exists()
    (tmp_path / "y").mkdir()
    with pytest.raises(ValueError), Run(tmp_path / "y", kind="toy", recipe={}, inputs={}) as run:
        run.write("deep/part", b"1")
        raise ValueError
    assert {p.name for p in (tmp_path / "y").iterdir()} <= {".lock"}
    make(tmp_path / "y")


def test_a_torn_journal_line_is_forgotten(tmp_path: Path) -> None:
    with pytest.raises(KeyError), Run(tmp_path / "x", kind="t", recipe={}, inputs={}) as run:
        run.record({"n": 1})
        raise KeyError
    with (tmp_path / "x" / "journal.jsonl").open("a") as stream:
        stream.write('{"n": 2')
    with Run(tmp_path / "x", kind="t", recipe={}, inputs={}) as run:
        assert run.journal == [{"n": 1}]
        run.record({"n": 3})
        run.finish({})


def test_a_second_writer_is_told(tmp_path: Path) -> None:
    with Run(tmp_path / "x", kind="toy", recipe={}, inputs={}) as run:
        with (
            pytest.raises(OutputExists, match="another skytwin process"),
            Run(tmp_path / "x", kind="toy", recipe={}, inputs={}),
        ):
            pass
        run.write("a", b"1")
        run.finish({})
    assert set(Manifest.open(tmp_path / "x").files) == {"a"}


def test_a_killed_writer_leaves_whole_files_only(tmp_path: Path) -> None:
    script = textwrap.dedent(
        """
        import os, sys
        from skytwin.run import Run
        with Run(sys.argv[1], kind="toy", recipe={}, inputs={}) as run:
            for n in range(len(run.journal), 10_000):
                run.write(f"{n:05d}", bytes([n % 256]) * 50_000)
                run.record({"n": n})
                if n == 20:
                    print("go", flush=True)
        """
    )
    job = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "x")], stdout=subprocess.PIPE
    )
    assert job.stdout is not None
    assert job.stdout.readline() == b"go\n"
    job.send_signal(signal.SIGKILL)
    job.wait()
    job.stdout.close()
    with Run(tmp_path / "x", kind="toy", recipe={}, inputs={}) as run:
        done = len(run.journal)
        assert done >= 21
        assert [entry["n"] for entry in run.journal] == list(range(done))
        manifest = run.finish({})
    for name, entry in manifest.files.items():
        content = (tmp_path / "x" / name).read_bytes()
        assert content == bytes([int(name) % 256]) * 50_000
        assert entry["bytes"] == 50_000


def test_a_full_disk_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with (
        pytest.raises(DataError, match="disk full.*repeat the command"),
        Run(tmp_path / "x", kind="toy", recipe={}, inputs={}) as run,
    ):
        run.write("a", b"1")
        run.record({"a": 1})
        run.write("b", full)
    with Run(tmp_path / "x", kind="toy", recipe={}, inputs={}) as run:
        assert run.journal == [{"a": 1}]
        assert (run.folder / "a").read_bytes() == b"1"


def test_result_folders_appear_whole_or_not_at_all(tmp_path: Path) -> None:
    settings = {"kind": "toy", "recipe": {}, "summary": {}, "inputs": {}, "parents": {}}
    with pytest.raises(ValueError), result_folder(tmp_path / "r", **settings) as folder:  # type: ignore[arg-type]
        (folder / "a.txt").write_text("half")
        raise ValueError
    assert list(tmp_path.iterdir()) == []
    with result_folder(tmp_path / "r", **settings) as folder:  # type: ignore[arg-type]
        (folder / "a.txt").write_text("whole")
    assert set(Manifest.open(tmp_path / "r").files) == {"a.txt"}
    with (
        pytest.raises(OutputExists, match="not empty"),
        result_folder(tmp_path / "r", **settings),  # type: ignore[arg-type]
    ):
        pass


def test_atomic_writes_keep_the_old_file_on_failure(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_atomically(path, b"old")

    def fail(where: Path) -> None:
        where.write_bytes(b"half of the ne")
        raise ValueError

    with pytest.raises(ValueError):
        write_atomically(path, fail)
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_unknown_settings_are_refused() -> None:
    with pytest.raises(DataError, match="unknown setting 'colour'"):
        from_dict(Parent, {"kind": "a", "path": "b", "colour": "red"})
    assert from_dict(Parent, {"kind": "a", "path": "b", "fingerprint": "c"}).kind == "a"
