"""The package as it is published: built, looked into, installed beside the checkout, and used."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "skytwin"
#: What setuptools is told to take along beside the modules.
DATA = ("py.typed", "bundled/*/*", "recipes/*.toml", "reproduce/templates/*", "web/static/*")
#: What a source distribution has beside the package.
BESIDE = (
    "pyproject.toml",
    "README.md",
    "LICENSE",
    "CHANGELOG.md",
    "CITATION.cff",
    "constraints.txt",
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("build") is None, reason="needs the package build (skytwin[dev])"
    ),
]


def build(source: Path, out: Path, *what: str) -> None:
    """Without the network: setuptools is that of this environment, which constraints.txt pins."""
    command = [sys.executable, "-m", "build", "--no-isolation", *what, "--outdir", str(out)]
    done = subprocess.run([*command, str(source)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A wheel and a source distribution, each made from a copy of the repository."""
    place = tmp_path_factory.mktemp("package")
    copy = place / "copy"
    copy.mkdir()
    for name in (*BESIDE, "MANIFEST.in"):
        shutil.copy(ROOT / name, copy)
    for name in ("src", "tests", "docs"):
        left = shutil.ignore_patterns("*.egg-info", "__pycache__")
        shutil.copytree(ROOT / name, copy / name, ignore=left)
    build(copy, place / "dist", "--wheel", "--sdist")
    (wheel,) = (place / "dist").glob("*.whl")
    (sdist,) = (place / "dist").glob("*.tar.gz")
    return wheel, sdist


def content(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def modules_and_data() -> set[str]:
    files = {*SOURCE.rglob("*.py")}
    files.update(path for pattern in (*DATA, "web/templates/*") for path in SOURCE.glob(pattern))
    return {path.relative_to(SOURCE.parent).as_posix() for path in files if path.is_file()}


def test_the_wheel_holds_the_package_and_nothing_else(built: tuple[Path, Path]) -> None:
    found = content(built[0])
    ours = {name for name in found if name.startswith("skytwin/")}
    assert ours == modules_and_data()
    info = {name.partition("/")[0] for name in found} - {"skytwin"}
    assert len(info) == 1  # the folder of metadata: no tests, no docs
    (folder,) = info
    assert found[f"{folder}/licenses/LICENSE"] == (ROOT / "LICENSE").read_bytes()
    assert b"skytwin = skytwin.cli:main" in found[f"{folder}/entry_points.txt"]
    metadata = found[f"{folder}/METADATA"].decode()
    assert "License-Expression: BSD-3-Clause" in metadata
    assert "Requires-Dist: torch" in metadata
    assert "\n# skytwin\n" in metadata  # the README, as the index shows it


def test_nothing_of_the_source_is_forgotten(built: tuple[Path, Path]) -> None:
    """Whatever lies in the package is a module or one of the kinds of data that are named."""
    there = {
        path.relative_to(SOURCE.parent).as_posix()
        for path in SOURCE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert there == {name for name in content(built[0]) if name.startswith("skytwin/")}


def test_the_source_distribution_builds_the_same_wheel(
    built: tuple[Path, Path], tmp_path: Path
) -> None:
    wheel, sdist = built
    with tarfile.open(sdist) as archive:
        names = [name.partition("/")[2] for name in archive.getnames()]
        archive.extractall(tmp_path, filter="data")
    assert set(BESIDE) <= set(names)
    assert not [name for name in names if name.startswith(("docs/", "tests/"))]
    (source,) = (path for path in tmp_path.iterdir() if path.is_dir())
    build(source, tmp_path / "dist", "--wheel")
    (again,) = (tmp_path / "dist").glob("*.whl")
    assert again.name == wheel.name
    assert content(again) == content(wheel)


def test_the_installed_wheel_runs(built: tuple[Path, Path], tmp_path: Path) -> None:
    """In an environment of its own; only the dependencies are borrowed from this one."""
    place = tmp_path / "environment"
    venv.create(place, with_pip=True, symlinks=os.name != "nt")
    scripts = place / ("Scripts" if os.name == "nt" else "bin")
    python = str(scripts / "python")

    def run(*words: str) -> str:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        done = subprocess.run(
            words, cwd=tmp_path, env=clean, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run(python, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", str(built[0]))
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    # After the wheel's own folder, so that `skytwin` is the installed one. Code of .pth files, such
    # as that of an editable installation, is not run for a folder that comes in this way.
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    where = run(python, "-c", "import skytwin; print(skytwin.__file__)").strip()
    assert Path(where).is_relative_to(site.resolve()) or Path(where).is_relative_to(site)

    skytwin = str(scripts / "skytwin")
    assert "simulate" in run(skytwin, "--help")
    run(skytwin, "simulate", "radio", "60", "--out", "survey", "--workers", "1", "--quiet")
    run(skytwin, "embed", "survey", "--encoder", "skytwin:radio", "--out", "vectors", "--quiet")
    first = run(python, "-c", "import skytwin; print(skytwin.open('vectors').ids[0])").strip()
    said = run(skytwin, "search", "vectors", "--like", first, "-k", "5", "--out", "matches")
    assert said.startswith("Matches(5 like")
    assert (tmp_path / "matches" / "mosaic.png").is_file()
    assert "embeddings" in run(skytwin, "info", "vectors")
    # Data that only some verbs open: recipes, templates and static files.
    run(
        python,
        "-c",
        "from skytwin.encoders.recipe import bundled_recipes; assert bundled_recipes()",
    )
