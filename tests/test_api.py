from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import skytwin
from command import catalogue, done, images

HEAVY = {"torch", "timm", "torchvision", "openvino", "matplotlib", "sklearn", "duckdb"}


def test_the_public_names_are_these() -> None:
    names = [
        "Audit", "Calibration", "Comparison", "Cutouts", "DetectSettings", "Embeddings",
        "Explanation", "Matches", "PurityCurve", "Reference", "SkytwinError", "Trust", "Twins",
        "audit", "calibrate", "compare", "embed", "explain", "figures", "find_twins", "ingest",
        "open", "purity", "search", "trust", "write_table",
    ]  # fmt: skip
    # Other verbs may join, but no name that others have come to rely on goes.
    assert set(names) <= set(skytwin.__all__)
    assert skytwin.__all__ == sorted(skytwin.__all__)
    for name in skytwin.__all__:
        assert getattr(skytwin, name) is not None
        assert name in dir(skytwin)
    assert skytwin.__version__.count(".") == 2
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = skytwin.nonsense


def loaded(code: str) -> set[str]:
    """The heavy libraries that a fresh interpreter has loaded after some code."""
    tail = f"\nimport sys\nprint('LOADED', *sorted({HEAVY!r} & set(sys.modules)))"
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code + tail], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    return set(run.stdout.splitlines()[-1].split()[1:])


def test_help_loads_no_numpy() -> None:
    tail = "import sys; assert not {'numpy', 'scipy', 'pyarrow'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", HELP + tail], check=True, capture_output=True)


HELP = """
import sys
from skytwin.cli import main
sys.argv = ["skytwin", "--help"]
try:
    main()
except SystemExit as end:
    assert end.code == 0
"""


def test_importing_and_help_load_nothing_heavy() -> None:
    assert loaded("import skytwin") == set()
    assert loaded("import skytwin.cli") == set()
    assert loaded(HELP) == set()


def test_searching_an_embedding_loads_no_torch(tmp_path: Path) -> None:
    images(tmp_path / "in", 6)
    done("ingest", tmp_path / "in", "--out", tmp_path / "cut")
    done("embed", tmp_path / "cut", "--encoder", "pca:2", "--out", tmp_path / "emb")
    search = f"""
import skytwin
print(skytwin.search(skytwin.open({str(tmp_path / "emb")!r}), "g01", k=2))
"""
    assert loaded(search) == set()
    by_image = search.replace('"g01"', f'"{tmp_path / "in" / "g01.fits"}"')
    assert loaded(by_image) & {"torch", "timm"} == set()


def test_help_is_quick() -> None:
    line = [sys.executable, "-c", "from skytwin.cli import main; main()", "--help"]
    times = []
    for _ in range(3):  # the first run may still compile
        before = os.times()
        subprocess.run(line, check=True, capture_output=True)
        after = os.times()
        # Of the processor: other tests may run beside.
        times.append(sum(after[2:4]) - sum(before[2:4]))
    assert 0 < min(times) < 1.0


def test_the_command_as_a_module() -> None:
    line = [sys.executable, "-W", "error", "-m", "skytwin"]
    told = subprocess.run([*line, "--version"], check=True, capture_output=True, text=True)
    assert told.stdout.split()[-1] == skytwin.__version__
    wrong = subprocess.run([*line, "info", "nowhere"], capture_output=True, text=True)
    assert wrong.returncode == 2
    assert wrong.stderr.count("\n") == 1


def test_the_verbs_as_functions(tmp_path: Path) -> None:
    cutouts = skytwin.ingest(
        images(tmp_path / "in", 12), tmp_path / "cut",
        catalog=catalogue(tmp_path / "cat.csv", 12), quiet=True,
    )  # fmt: skip
    vectors = skytwin.embed(cutouts, "pca:3", tmp_path / "emb", quiet=True)
    found = skytwin.search(vectors, like=["g01", (10.02, 20.0)], k=4, metric="cosine")
    assert isinstance(found, skytwin.Matches)
    assert not {"g01", "g02"} & set(found.ids)
    curve = skytwin.purity(vectors, ["g00"], "kind=a")
    assert isinstance(curve, skytwin.PurityCurve)
    assert isinstance(skytwin.open(tmp_path / "cut"), skytwin.Cutouts)
    for thing in (cutouts, vectors, found, curve):
        assert len(thing.to_astropy()) == len(thing.to_pandas()) == len(thing)


def test_vectors_from_elsewhere() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(20, 4))
    emb = skytwin.Embeddings.from_arrays(x, [f"n{i}" for i in range(20)], {"z": np.arange(20.0)})
    found = skytwin.search(emb, x[3] + 1e-6, k=1, metric="euclidean")
    assert list(found.ids) == ["n3"]
