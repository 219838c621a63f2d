"""Vectors of another tool become an embedding like any other."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
import zarr

import skytwin
from skytwin.embeddings import adopt as module
from skytwin.errors import DataError, Mismatch, OutputExists, UsageError

ROWS, DIM = 300, 12


@pytest.fixture
def vectors() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((ROWS, DIM)).astype(np.float32)


@pytest.fixture
def catalog() -> pa.Table:
    rng = np.random.default_rng(1)
    return pa.table(
        {
            "name": [f"J{row:04d}" for row in range(ROWS)],
            "RA": rng.uniform(10, 12, ROWS),
            "DEC": rng.uniform(-1, 1, ROWS),
            "kind": rng.choice(["a", "b"], ROWS),
        }
    )


def saved(folder: Path, array: np.ndarray, name: str = "v.npy") -> Path:
    np.save(folder / name, array)
    return folder / name


def test_every_kind_of_file_gives_the_same_vectors(tmp_path: Path, vectors: np.ndarray) -> None:
    names = np.array([f"obj{row}" for row in range(ROWS)])
    np.savez(tmp_path / "v.npz", features=vectors, id=names)
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file["run/features"] = vectors
        file["run/id"] = names.astype("S")
    group = zarr.open_group(tmp_path / "v.zarr", mode="w")
    group.create_array("features", data=vectors, chunks=(77, DIM))
    for name in ("v.npz", "v.h5", "v.zarr"):
        found = skytwin.adopt(tmp_path / name, tmp_path / f"{name}.emb", quiet=True)
        np.testing.assert_array_equal(found.vectors[:], vectors)
        want = names if name != "v.zarr" else [f"{row:03d}" for row in range(ROWS)]
        assert list(found.ids) == list(want)


def test_it_answers_as_the_arrays_do(
    tmp_path: Path, vectors: np.ndarray, catalog: pa.Table
) -> None:
    pq.write_table(catalog, tmp_path / "t.parquet")
    path = saved(tmp_path, vectors)
    emb = skytwin.adopt(path, tmp_path / "emb", catalog=tmp_path / "t.parquet", quiet=True)
    arrays = skytwin.Embeddings.from_arrays(
        vectors, catalog["name"].to_pylist(), catalog.rename_columns(["name", "ra", "dec", "kind"])
    )
    one, other = (skytwin.search(e, ["J0004", "J0100"], k=20) for e in (emb, arrays))
    assert list(one.ids) == list(other.ids)
    np.testing.assert_array_equal(one.distance, other.distance)
    assert emb.positions is not None
    np.testing.assert_allclose(emb.positions[:, 0], catalog["RA"].to_numpy())
    assert skytwin.purity(emb, "J0004", "kind=a").base.total == ROWS - 1
    assert skytwin.open(tmp_path / "emb").encoder_name == "own vectors"  # type: ignore[union-attr]


def test_rows_with_nan_are_left_out_and_named(
    tmp_path: Path, vectors: np.ndarray, catalog: pa.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "shard_rows", lambda dim: 64)
    vectors[64:128] = np.nan
    vectors[200, 3] = np.inf
    pa_csv.write_csv(catalog, tmp_path / "t.csv")
    emb = skytwin.adopt(
        saved(tmp_path, vectors), tmp_path / "emb", catalog=tmp_path / "t.csv", quiet=True
    )
    keep = np.isfinite(vectors).all(axis=1)
    np.testing.assert_array_equal(emb.vectors[:], vectors[keep])
    assert list(emb.ids) == list(np.array(catalog["name"].to_pylist())[keep])
    listed = (tmp_path / "emb" / "rejected.csv").read_text().splitlines()
    assert len(listed) == 1 + 65
    assert listed[-1] == "J0200,NaN or infinity"


def test_an_unfinished_run_goes_on(
    tmp_path: Path, vectors: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "shard_rows", lambda dim: 64)
    path = saved(tmp_path, vectors)
    skytwin.adopt(path, tmp_path / "whole", quiet=True)
    block, calls = module.VectorFile.block, []

    def failing(self: module.VectorFile, first: int, stop: int) -> np.ndarray:
        calls.append(first)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return block(self, first, stop)

    monkeypatch.setattr(module.VectorFile, "block", failing)
    with pytest.raises(KeyboardInterrupt):
        skytwin.adopt(path, tmp_path / "emb", quiet=True)
    resumed = skytwin.adopt(path, tmp_path / "emb", quiet=True)
    assert calls == [0, 64, 128, 128, 192, 256]
    whole = skytwin.Embeddings.open(tmp_path / "whole")
    assert resumed.manifest is not None
    assert whole.manifest is not None
    assert resumed.manifest.fingerprint == whole.manifest.fingerprint
    np.save(path, vectors[:100])
    with pytest.raises(OutputExists, match="finished"):
        skytwin.adopt(path, tmp_path / "emb", quiet=True)


def test_only_vectors_of_one_maker_are_compared(tmp_path: Path, vectors: np.ndarray) -> None:
    path = saved(tmp_path, vectors)
    for name in ("one", "two"):
        skytwin.adopt(path, tmp_path / name, made_by=name, quiet=True)
    one = skytwin.Embeddings.open(tmp_path / "one")
    with pytest.raises(Mismatch, match="another encoder"):
        skytwin.search(one, f"{tmp_path / 'two'}:004")


def test_an_image_cannot_be_a_reference(tmp_path: Path, vectors: np.ndarray) -> None:
    emb = skytwin.adopt(saved(tmp_path, vectors), tmp_path / "emb", quiet=True)
    (tmp_path / "a.png").write_bytes(b"x")
    with pytest.raises(UsageError, match="no encoder"):
        skytwin.search(emb, str(tmp_path / "a.png"))


def test_what_does_not_fit_is_one_clear_line(
    tmp_path: Path, vectors: np.ndarray, catalog: pa.Table
) -> None:
    np.savez(tmp_path / "two.npz", a=vectors, b=vectors)
    saved(tmp_path, vectors[0], "flat.npy")
    saved(tmp_path, np.full((4, 3), np.nan), "nan.npy")
    path = saved(tmp_path, vectors)
    pq.write_table(catalog.slice(0, 10), tmp_path / "short.parquet")
    with pytest.raises(UsageError, match="--dataset"):
        skytwin.adopt(tmp_path / "two.npz", tmp_path / "e1", quiet=True)
    with pytest.raises(DataError, match="2 axes"):
        skytwin.adopt(tmp_path / "flat.npy", tmp_path / "e2", quiet=True)
    with pytest.raises(DataError, match="none of 4"):
        skytwin.adopt(tmp_path / "nan.npy", tmp_path / "e3", quiet=True)
    with pytest.raises(DataError, match="10 rows for 300 vectors"):
        skytwin.adopt(path, tmp_path / "e4", catalog=tmp_path / "short.parquet", quiet=True)
    with pytest.raises(UsageError, match="no file"):
        skytwin.adopt(tmp_path / "none.npy", tmp_path / "e5", quiet=True)
