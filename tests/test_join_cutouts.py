"""Several sets of cutouts as one: every image, every column, and what does not go together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import skytwin
from command import skytwin as command
from skytwin.cli_index import join as join_command
from skytwin.errors import DataError, Mismatch, UsageError
from skytwin.images.cutouts import Cutouts


def survey(folder: Path, name: str, count: int, first: int = 0, **columns: list[object]) -> Cutouts:
    """Images of noise, numbered from ``first``."""
    rng = np.random.default_rng(first)
    ids = [f"{name}{row}" for row in range(first, first + count)]
    np.savez(folder / f"{name}.npz", images=rng.normal(0, 1, (count, 12, 12)).astype("f4"), ids=ids)
    pq.write_table(pa.table({"id": ids, **columns}), folder / f"{name}.parquet")
    return skytwin.ingest(
        folder / f"{name}.npz", folder / name, catalog=folder / f"{name}.parquet",
        pixel_scale=0.5, quiet=True,
    )  # fmt: skip


def test_every_image_and_column_is_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a = survey(tmp_path, "a", 150, ra=[1.0] * 150, dec=[2.0] * 150, kind=["x"] * 150)
    b = survey(tmp_path, "b", 70, 150, z=[0.1] * 70)
    join_command([a.folder, b.folder], tmp_path / "both", quiet=True)
    assert capsys.readouterr().out.startswith("Cutouts(220 x 12 x 12 pixels")
    both = Cutouts(tmp_path / "both")
    np.testing.assert_array_equal(both.pixels(slice(0, 150)), a.pixels(slice(0, 150)))
    np.testing.assert_array_equal(both.pixels(slice(150, 220)), b.pixels(slice(0, 70)))
    assert list(both.ids) == [*a.ids, *b.ids]
    catalog = both.catalog
    assert catalog["part"].to_pylist() == ["a"] * 150 + ["b"] * 70
    assert catalog["kind"].to_pylist() == ["x"] * 150 + [None] * 70
    assert catalog["z"].null_count == 150
    assert catalog["origin"][151].as_py() == "b[1]"
    assert both.positions is not None
    np.testing.assert_array_equal(both.positions[:2], [[1, 2], [1, 2]])
    assert np.isnan(both.positions[150:]).all()
    assert both.pixel_scale == 0.5
    parents = [parent.fingerprint for parent in both.manifest.parents.values()]
    assert parents == [a.manifest.fingerprint, b.manifest.fingerprint]


def test_joined_twice_a_row_still_says_where_it_came_from_first(tmp_path: Path) -> None:
    a, b, c = (survey(tmp_path, name, 5, first) for name, first in (("a", 0), ("b", 5), ("c", 10)))
    two = skytwin.join_cutouts([a, b], tmp_path / "two", quiet=True)
    three = skytwin.join_cutouts([two, c], tmp_path / "three", quiet=True)
    assert three.catalog["part"].to_pylist() == ["a"] * 5 + ["b"] * 5 + ["c"] * 5


def test_what_does_not_go_together_is_named(tmp_path: Path) -> None:
    a, b = survey(tmp_path, "a", 5), survey(tmp_path, "b", 5, 5)
    with pytest.raises(UsageError, match="1 set of cutouts to join"):
        skytwin.join_cutouts([a], tmp_path / "one")
    with pytest.raises(DataError, match="id 'a0' is in .*a and in .*a; every object needs"):
        skytwin.join_cutouts([a, a], tmp_path / "same")
    other = skytwin.ingest(tmp_path / "b.npz", tmp_path / "c", pixel_scale=0.6, quiet=True)
    with pytest.raises(Mismatch, match=r"c has pixel scale 0\.6; expected 0\.5, as in .*a: ingest"):
        skytwin.join_cutouts([a, other], tmp_path / "scales")
    emb = skytwin.embed(b, "pca:2", tmp_path / "emb", quiet=True)
    mixed = command("join", a.folder, emb.folder, "--out", tmp_path / "mixed")
    assert mixed.code == 2
    assert "holds embeddings; expected cutouts" in mixed.err
    half = command("join", a.folder, b.folder, "--store", "float16", "--out", tmp_path / "half")
    assert half.code == 2
    assert "--store is for vectors" in half.err
    assert not any((tmp_path / name).exists() for name in ("one", "same", "scales", "mixed"))
