"""``skytwin twins`` from the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.table import Table
from scipy.ndimage import gaussian_filter

from command import contents, done, skytwin
from skytwin.artefact import Manifest
from skytwin.images.ingest import ingest_source
from skytwin.verbs_embed import embed
from toys import MemorySource, blob, raw


def sky(seed: int) -> np.ndarray:
    """A faint blob in noise as wide as a telescope's."""
    noise = gaussian_filter(np.random.default_rng(seed).standard_normal((32, 32)), 0.8)
    return (blob(seed, 32) + noise / noise.std()).astype(np.float32)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two surveys: row 20 of the first repeats row 3, and the second has its row 5."""
    base = tmp_path_factory.mktemp("twins")
    images = [sky(seed) for seed in range(20)]
    first = [*images, images[3].copy()]
    second = [*(sky(seed) for seed in range(50, 65)), images[5].copy()]
    table = pa.table(
        {
            "kind": [*("ab"[seed % 2] for seed in range(20)), "a"],
            "split": ["train"] * 20 + ["test"],
        }
    )
    cutouts = ingest_source(MemorySource([raw(i) for i in first], table), base / "c1", quiet=True)
    embed(cutouts, "pca:4", base / "emb", quiet=True)
    names = [f"far{row}" for row in range(len(second))]
    source = MemorySource([raw(i) for i in second], ids=names)
    embed(
        ingest_source(source, base / "c2", quiet=True), str(base / "emb"), base / "emb2", quiet=True
    )
    return {"emb": base / "emb", "other": base / "emb2"}


def test_twins_are_told_and_saved(folders: dict[str, Path], tmp_path: Path) -> None:
    before = contents(folders["emb"])
    out, picture, table = tmp_path / "out", tmp_path / "pairs.png", tmp_path / "pairs.vot"
    said = done(
        "twins", folders["emb"], "--label", "kind", "--split", "split", "--out", out,
        "--save", picture, "--save", table, "--quiet",
    )  # fmt: skip
    assert "identical image        1" in said
    assert "21 entries are 20 objects" in said
    assert "obj0003 b; obj0020 a: identical image" in said
    assert "2 entries in groups that the split cuts" in said
    assert picture.read_bytes().startswith(b"\x89PNG")
    found = Table.read(table)
    assert list(found["id"]) == ["obj0003"]
    assert list(found["other_id"]) == ["obj0020"]
    groups = pq.read_table(out / "groups.parquet").to_pydict()
    assert groups["object"][3] == groups["object"][20]
    assert len(set(groups["object"])) == 20
    manifest = Manifest.open(out, "twins")
    manifest.verify(out, every_byte=True)
    assert manifest.summary["objects"] == 20
    assert manifest.parents["embeddings"].fingerprint == Manifest.open(folders["emb"]).fingerprint
    assert (out / "report.txt").read_text().strip() in said
    assert {"pairs.csv", "pairs.png", "pairs.pdf", "disagreeing.csv", "across_split.csv"} <= {
        path.name for path in out.iterdir()
    }
    assert contents(folders["emb"]) == before


def test_two_embeddings(folders: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    said = done("twins", folders["emb"], "--other", folders["other"], "--out", out, "--quiet")
    assert "1 pairs between 21 entries and 16 others" in said
    assert "1 of 16 entries there are objects that are here" in said
    groups = pq.read_table(out / "groups.parquet").to_pydict()
    shared = dict(zip(groups["id"], groups["object"], strict=True))
    assert shared["far15"] == shared["obj0005"]
    assert set(Manifest.open(out).parents) == {"embeddings", "other"}


def test_without_images_vectors_have_to_do(folders: dict[str, Path]) -> None:
    said = done("twins", folders["emb"], "--no-images")
    assert "identical vector       1" in said
    assert "images count" not in said


def test_bad_input_is_one_line_and_writes_nothing(folders: dict[str, Path], tmp_path: Path) -> None:
    taken = tmp_path / "taken.csv"
    taken.write_text("mine")
    for words, said, code in [
        (["--label", "speed"], "'speed'", 2),
        (["--group-arcsec", "-1"], "group-arcsec -1", 2),
        (["--other", folders["emb"]], "same one", 2),
        (["--other", tmp_path / "none"], "none", 2),
        (["--other-cutouts", tmp_path], "--other", 2),
        (["--save", taken], "exists", 2),
        (["--save", tmp_path / "pairs.gif"], "'.gif'", 2),
        (["--out", folders["emb"]], "not empty", 2),
    ]:
        ended = skytwin("twins", folders["emb"], *words, "--quiet")
        assert (ended.code, ended.out) == (code, ""), words
        assert ended.err.startswith("skytwin: error: ")
        assert ended.err.count("\n") == 1
        assert said in ended.err
    assert [path.name for path in tmp_path.iterdir()] == ["taken.csv"]
