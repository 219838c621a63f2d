"""``skytwin explain`` from the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from PIL import Image

from command import catalogue, contents, done, images, skytwin
from skytwin.artefact import Manifest

FAST = ["--top", 12, "--average", 6]


@pytest.fixture(scope="module")
def embedding(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("explain")
    table = catalogue(folder / "cat.csv")
    done("ingest", images(folder / "in"), "--catalog", table, "--out", folder / "cut", "--quiet")
    encoder = ["--encoder", "pca:6:abs", "--orbit", "d4", "--crop", 12]
    done("embed", folder / "cut", *encoder, "--out", folder / "emb", "--quiet")
    return folder / "emb"


def test_a_folder_with_maps_parts_and_features(embedding: Path, tmp_path: Path) -> None:
    out = tmp_path / "why"
    words = ["--like", "g01", "--like", "g02", "-k", 2, "--metric", "cosine", "--combine", "mean"]
    said = done("explain", embedding, *words, *FAST, "--out", out, "--quiet")
    assert f"written: {out}" in said
    assert said.count("in the central quarter of the frame") == 2
    assert "around 20 random objects" in said
    assert (out / "report.txt").read_text() in said
    manifest = Manifest.open(out, "explanation")
    assert manifest.summary["largest_residual"] < 1e-5
    assert manifest.recipe["metric"] == "cosine"
    assert manifest.recipe["average"] == 6
    assert manifest.parents["embeddings"].fingerprint == Manifest.open(embedding).fingerprint
    table = pyarrow.csv.read_csv(out / "parts.csv").to_pydict()
    assert list(table) == ["id", "feature", "part", "share", "value", "reference"]
    maps = np.load(out / "maps.npz")
    explained = maps["ids"].tolist()
    assert explained == manifest.recipe["explained"]
    for number, name in enumerate(explained, start=1):
        parts = [p for p, n in zip(table["part"], table["id"], strict=True) if n == name]
        whole = maps[f"match_{number}"]
        assert whole.shape == (16, 16)
        assert np.isfinite(whole).sum() == 144
        assert np.nansum(whole) == pytest.approx(sum(parts), abs=1e-5)
        assert f"{name} (rank {number}): similarity {sum(parts):.4g}," in said
    assert pq.read_table(out / "separating.parquet").num_rows == 6
    for name in ("maps", "features"):
        assert (out / f"{name}.pdf").read_bytes().startswith(b"%PDF")
        with Image.open(out / f"{name}.png") as picture:
            assert picture.size[0] > 600


def test_files_alone_and_objects_by_name(embedding: Path, tmp_path: Path) -> None:
    picture, table = tmp_path / "maps.png", tmp_path / "parts.vot"
    words = ["--like", "g01", "--match", "g30", "--match", "g01", "--combine", "mean", *FAST]
    said = done("explain", embedding, *words, "--save", picture, "--save", table, "--quiet")
    assert "\ng30" in said
    assert "\ng01: similarity 1, distance " in said  # itself, which is not in its own list
    assert picture.is_file()
    assert table.is_file()


def test_features_alone(embedding: Path, tmp_path: Path) -> None:
    out = tmp_path / "why"
    said = done("explain", embedding, "--like", "g01", *FAST, "--features-only", "--out", out)
    assert "central quarter" not in said
    assert said.count("  features  ") == 5
    assert sorted(path.name for path in out.iterdir() if path.suffix == ".png") == ["features.png"]
    assert not (out / "maps.npz").exists()


def test_bad_calls_are_one_line_and_write_nothing(embedding: Path, tmp_path: Path) -> None:
    (tmp_path / "taken.csv").write_text("mine")
    before = contents(tmp_path, embedding)
    begin = ["explain", embedding, "--like", "g01", *FAST, "--quiet"]
    for words, said in [
        ([*begin, "--match", "nobody"], "unknown id 'nobody'"),
        ([*begin, "-k", 0], "-k 0"),
        ([*begin, "--save", tmp_path / "taken.csv"], "exists"),
        ([*begin, "--save", tmp_path / "maps.gif"], "'.gif'"),
        ([*begin, "--features-only", "--save", tmp_path / "maps.png"], "picture of maps"),
        ([*begin, "--out", embedding], "not empty"),
        ([*begin, "--metric", "csls", "--combine", "mean"], "'csls'"),
        ([*begin, "--like", "g02", "--combine", "fusion"], "'fusion'"),
        ([*begin, "--average", -3], "average of -3"),
        ([*begin, "--background", 1], "background of 1"),
        ([*begin, "--cutouts", tmp_path / "none"], "no folder"),
    ]:
        outcome = skytwin(*words)
        assert (outcome.code, outcome.out) == (2, ""), (words, outcome)
        assert outcome.err.startswith("skytwin: error: ")
        assert outcome.err.count("\n") == 1
        assert said in outcome.err
    assert contents(tmp_path, embedding) == before
