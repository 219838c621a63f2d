"""Same seed, same machine: the same bytes of every command, whatever Python hashes strings to."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import typer

from durability_verbs import BOOKKEEPING, VERBS, content
from skytwin.cli import app

pytest.importorskip("galsim")
pytest.importorskip("openTSNE")
pytest.importorskip("zuko")

TESTS = Path(__file__).parent
#: Made of other commands, and takes half as long as all of them: with ``SKYTWIN_LONG=1`` only.
LONG = ("reproduce rgz",)
#: Servers, which end when they are told to, what asks archives on the network, what only prints,
#: and what writes down the time.
NOT_RUN = {"serve", "samp", "fetch", "labels show", "labels import"}
#: What writes one file, not a folder.
SINGLE = {"info", "footprint", "labels export"}
Ended = tuple[dict[str, object], dict[str, str]]


def commands(group: click.Command, before: str = "") -> Iterator[str]:
    """Every command that does something, as it is typed."""
    below = getattr(group, "commands", None)
    if not below:
        yield before
        return
    for name, command in below.items():
        yield from commands(command, f"{before} {name}".strip())


def test_no_command_is_forgotten() -> None:
    typed = set(commands(typer.main.get_command(app)))
    assert {"search", "map", "certify plan"} <= typed
    tried = {name for name in typed for words in VERBS.values() if words.startswith(f"{name} ")}
    assert typed - tried == NOT_RUN & typed


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Every command, by two interpreters with other hash seeds; the second takes them backwards."""
    home = tmp_path_factory.mktemp("home")
    made = (home.parent / f"{home.name}-one", home.parent / f"{home.name}-two")

    def start(out: Path, hashes: str, names: list[str]) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, str(TESTS / "durability_twice.py"), str(home), str(out), *names],
            env={**os.environ, "PYTHONHASHSEED": hashes, "OMP_NUM_THREADS": "1"},
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def end(*running: subprocess.Popen[str]) -> None:
        for each in running:
            _, said = each.communicate(timeout=600)
            assert each.returncode == 0, said

    end(start(made[0], "0", ["prepare"]))
    names = [name for name in VERBS if name not in LONG or "SKYTWIN_LONG" in os.environ]
    end(start(made[0], "1", names), start(made[1], "2", names[::-1]))
    return made


def ended(out: Path, name: str) -> Ended:
    folder = out / name.replace(" ", "_")
    files = content(folder / "near")
    if name.startswith("reproduce"):
        # Its manifest has the hashes of others, which name the folder that they lie in.
        del files["out/manifest.json"]
    return json.loads((folder / "ended.json").read_text()), files


@pytest.mark.slow
@pytest.mark.parametrize("name", VERBS)
def test_twice_the_same(both: tuple[Path, Path], name: str) -> None:
    if name in LONG and "SKYTWIN_LONG" not in os.environ:
        pytest.skip("takes long: set SKYTWIN_LONG=1")
    (said, files), (said_again, files_again) = (ended(out, name) for out in both)
    assert said["code"] == 0, said["said"]
    assert said == said_again
    assert len(files) > (name not in SINGLE)
    assert files == files_again
    assert not any(Path(each).name in BOOKKEEPING for each in files)


@pytest.mark.slow
def test_another_seed_is_another_result(both: tuple[Path, Path], tmp_path: Path) -> None:
    """Else the test above would hold of commands that draw nothing."""
    words = VERBS["simulate"].replace("--seed 3", "--seed 4").format(home="", out=tmp_path / "out")
    code = "from skytwin.cli import main; main()"
    subprocess.run([sys.executable, "-c", code, *words.split()], check=True, stdout=subprocess.PIPE)
    assert content(tmp_path) != ended(both[0], "simulate")[1]
