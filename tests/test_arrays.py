"""Array files: every format gives the same images, ids and columns."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skytwin.errors import BadImage, DataError, UnknownName, UsageError
from skytwin.images.arrayfiles import is_array_file
from skytwin.images.arrays import ArraySource

RNG = np.random.default_rng(11)
Arrays = dict[str, np.ndarray]
Writer = Callable[[Path, Arrays], Path]


def as_hdf5(root: Path, arrays: Arrays) -> Path:
    with h5py.File(root / "set.h5", "w") as file:
        for name, values in arrays.items():
            text = values.dtype.kind == "U"
            file.create_dataset(name, data=values.tolist() if text else values)
    return root / "set.h5"


def as_packed_hdf5(root: Path, arrays: Arrays) -> Path:
    with h5py.File(root / "packed.hdf5", "w") as file:
        for name, values in arrays.items():
            stored = values.astype("S") if values.dtype.kind == "U" else values
            chunks = (min(7, len(values)), *values.shape[1:])
            file.create_dataset(name, data=stored, compression="gzip", chunks=chunks)
    return root / "packed.hdf5"


def as_npz(root: Path, arrays: Arrays) -> Path:
    np.savez(root / "set.npz", **arrays)
    return root / "set.npz"


def as_packed_npz(root: Path, arrays: Arrays) -> Path:
    np.savez_compressed(root / "packed.npz", **arrays)
    return root / "packed.npz"


def fill(group: zarr.Group, arrays: Arrays) -> None:
    for name, values in arrays.items():
        if values.dtype.kind == "U":
            group.create_array(name, shape=values.shape, dtype=str)[:] = values.astype(object)
        else:
            chunks = (min(7, len(values)), *values.shape[1:])
            group.create_array(name, data=values, chunks=chunks)


def as_zarr(root: Path, arrays: Arrays) -> Path:
    fill(zarr.open_group(root / "set.zarr", mode="w"), arrays)
    return root / "set.zarr"


def as_zipped_zarr(root: Path, arrays: Arrays) -> Path:
    store = zarr.storage.ZipStore(root / "zarr.zip", mode="w")
    fill(zarr.open_group(store, mode="w"), arrays)
    store.close()
    return root / "zarr.zip"


WRITERS = [as_hdf5, as_packed_hdf5, as_npz, as_packed_npz, as_zarr, as_zipped_zarr]
every_format = pytest.mark.parametrize("write", WRITERS)

IMAGES = RNG.normal(size=(20, 3, 8, 9)).astype("f4")
IMAGES[4, 1, 2, 3] = np.nan
NAMES = np.array([f"obj é{n}" for n in range(20)])
COLUMNS = {
    "objid": np.arange(20) + 587722981736120000,
    "z": RNG.random(20).astype("f4"),
    "flag": RNG.random(20) > 0.5,
    "other": np.arange(5.0),
    "pairs": np.zeros((20, 2)),
}


@every_format
def test_every_format_is_read_the_same(tmp_path: Path, write: Writer) -> None:
    source = ArraySource(write(tmp_path, {"images": IMAGES, **COLUMNS}))
    assert list(source.ids) == [str(n) for n in COLUMNS["objid"]]
    assert source.origins[3].endswith("[3]")
    assert source.table is not None
    assert sorted(source.table.column_names) == ["flag", "z"]
    np.testing.assert_array_equal(source.table["z"].to_numpy(), COLUMNS["z"])
    assert source.table["flag"].to_pylist() == COLUMNS["flag"].tolist()
    for row, expected in enumerate(IMAGES):
        image = source.read(row)
        np.testing.assert_array_equal(image.pixels, expected)
        assert image.pixels.dtype == np.float32
        assert image.pixels.flags.owndata
    assert json.loads(json.dumps(source.recipe)) == {
        "dataset": "images", "ids": "objid", "layout": "NCHW", "bands": None,
    }  # fmt: skip


@pytest.mark.parametrize("write", [as_hdf5, as_npz, as_packed_npz, as_zarr])
def test_texts_become_columns_and_ids(tmp_path: Path, write: Writer) -> None:
    kinds = np.array(["spiral", "merger"] * 10)
    source = ArraySource(write(tmp_path, {"im": IMAGES[:, 0], "Name": NAMES, "kind": kinds}))
    assert list(source.ids) == NAMES.tolist()
    assert source.table is not None
    assert source.table.to_pydict() == {"kind": kinds.tolist()}


def test_bytes_are_decoded(tmp_path: Path) -> None:
    names = np.array([f"n{k}" for k in range(20)])
    for write in (as_packed_hdf5, as_npz):
        stored = names.astype("S")
        source = ArraySource(write(tmp_path, {"im": IMAGES[:, 0], "name": stored}))
        assert list(source.ids) == names.tolist()


@every_format
def test_many_threads_at_once(tmp_path: Path, write: Writer) -> None:
    source = ArraySource(write(tmp_path, {"images": IMAGES}))
    order = RNG.permutation(np.repeat(np.arange(20), 12))
    with ThreadPoolExecutor(8) as pool:
        for row, image in zip(order, pool.map(source.read, order), strict=True):
            np.testing.assert_array_equal(image.pixels, IMAGES[row])


@pytest.mark.parametrize("dtype", ["u1", ">u2", "<i2", ">f4", "f8", "f2"])
def test_npy_is_read_in_place(tmp_path: Path, dtype: str) -> None:
    images = (IMAGES[:, 0] * 40).clip(0, 255)
    images[np.isnan(images)] = 0
    np.save(tmp_path / "a.npy", images.astype(dtype))
    source = ArraySource(tmp_path / "a.npy")
    assert list(source.ids) == [f"{n:02d}" for n in range(20)]
    assert source.table is None
    image = source.read(7)
    assert image.pixels.dtype == np.dtype(dtype).newbyteorder("=")
    np.testing.assert_array_equal(image.pixels[0], images[7].astype(dtype))


def test_zarr_of_one_array(tmp_path: Path) -> None:
    for version in (2, 3):
        path = tmp_path / f"{version}.zarr"
        zarr.create_array(path, data=IMAGES, chunks=(6, 3, 8, 9), zarr_format=version)
        np.testing.assert_array_equal(ArraySource(path).read(13).pixels, IMAGES[13])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    shape=st.tuples(*[st.integers(1, 9)] * 4),
    layout=st.sampled_from([None, "NCHW", "NHWC"]),
)
def test_layouts(
    tmp_path_factory: pytest.TempPathFactory, shape: tuple[int, ...], layout: str | None
) -> None:
    images = np.arange(np.prod(shape)).reshape(shape).astype("i2")
    path = tmp_path_factory.getbasetemp() / "layout.npy"
    np.save(path, images)
    source = ArraySource(path, layout=layout)
    last = layout == "NHWC" or (layout is None and shape[3] <= 5 and shape[1] > shape[3])
    assert source.recipe["layout"] == ("NHWC" if last else "NCHW")
    for row in range(shape[0]):
        expected = images[row].transpose(2, 0, 1) if last else images[row]
        np.testing.assert_array_equal(source.read(row).pixels, expected)


def test_attributes_say_unit_scale_and_bands(tmp_path: Path) -> None:
    path = as_hdf5(tmp_path, {"g/images": IMAGES})
    with h5py.File(path, "a") as file:
        file["g/images"].attrs.update(
            unit="nJy", pixel_scale=np.float32(0.2), bands=["g", "r", "i"]
        )
    image = ArraySource(path).read(0)
    assert (image.unit, image.bands) == ("nJy", ("g", "r", "i"))
    assert image.pixel_scale == pytest.approx(0.2)
    assert ArraySource(path, bands=("a", "b", "c")).read(0).bands == ("a", "b", "c")
    with pytest.raises(UsageError, match="2 bands .* has 3 channel"):
        ArraySource(path, bands=("a", "b"))
    folder = as_zarr(tmp_path, {"images": IMAGES})
    zarr.open(folder, mode="a")["images"].attrs.update(unit="Jy", bands="u, g,r", pixel_scale="odd")
    image = ArraySource(folder).read(0)
    assert (image.unit, image.bands, image.pixel_scale) == ("Jy", ("u", "g", "r"), None)


def test_candidates_are_listed(tmp_path: Path) -> None:
    arrays = {"images": IMAGES, "masks": IMAGES[:, 0] > 0, "z": np.zeros(20), "c": IMAGES + 0j}
    path = as_npz(tmp_path, arrays)
    with pytest.raises(UsageError, match=r"several .*images float32 .*; masks bool .*; choose one"):
        ArraySource(path)
    image = ArraySource(path, dataset="masks").read(2)
    assert image.pixels.dtype == np.uint8
    np.testing.assert_array_equal(image.pixels[0], arrays["masks"][2])
    with pytest.raises(UnknownName, match="unknown dataset 'image'; did you mean: images"):
        ArraySource(path, dataset="image")
    for name in ("z", "c"):
        with pytest.raises(UsageError, match=f"dataset {name} .*; expected real numbers in 3 or 4"):
            ArraySource(path, dataset=name)


@every_format
def test_no_images(tmp_path: Path, write: Writer) -> None:
    with pytest.raises(DataError, match=r"no array of images \(z float64 \(20,\)\)"):
        ArraySource(write(tmp_path, {"z": np.zeros(20)}))


def test_empty_arrays_and_single_pictures(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((0, 5, 5)))
    with pytest.raises(DataError, match="holds no images"):
        ArraySource(tmp_path / "a.npy")
    np.save(tmp_path / "b.npy", np.zeros((64, 64, 3)))
    with pytest.raises(UsageError, match="looks like one colour image"):
        ArraySource(tmp_path / "b.npy")
    assert ArraySource(tmp_path / "b.npy", layout="NHW").read(0).pixels.shape == (1, 64, 3)
    with pytest.raises(UsageError, match="layout 'NCHW' .*; expected 'NHW'"):
        ArraySource(tmp_path / "b.npy", layout="NCHW")


def test_ids_that_are_asked_for(tmp_path: Path) -> None:
    repeated = np.repeat(np.arange(10), 2)
    arrays = {"images": IMAGES, "id": repeated, "name": NAMES, "z": np.arange(20) / 7}
    path = as_hdf5(tmp_path, arrays)
    source = ArraySource(path)
    assert list(source.ids) == NAMES.tolist()  # "id" would not be unique
    assert source.table is not None
    assert source.table["id"].to_pylist() == repeated.tolist()
    with pytest.raises(DataError, match=r"ids 'id' in .* are not unique \('0' comes twice\)"):
        ArraySource(path, ids="id")
    with pytest.raises(DataError, match="ids 'z' in .* are double; expected text"):
        ArraySource(path, ids="z")
    with pytest.raises(UnknownName, match="unknown dataset of ids 'nam'; did you mean: name"):
        ArraySource(path, ids="nam")


def test_records_and_groups_become_columns(tmp_path: Path) -> None:
    records = np.zeros(20, [("ra", ">f8"), ("name", "S4"), ("box", "f4", (2,))])
    records["ra"] = np.arange(20)
    path = as_hdf5(
        tmp_path, {"a/images": IMAGES, "cat": records, "x/z": np.ones(20), "y/z": np.zeros(20)}
    )
    source = ArraySource(path)
    assert source.table is not None
    assert sorted(source.table.column_names) == ["name", "ra", "x/z", "y/z"]
    assert source.table["ra"].to_pylist() == list(range(20))


@pytest.mark.parametrize("suffix", [".h5", ".hdf5", ".npy", ".npz", ".zarr.zip"])
@pytest.mark.parametrize("content", [b"", b"not an array" * 50, b"\x93NUMPY\x01\x00\x76\x00"])
def test_garbage(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"cannot be read"):
        ArraySource(path)


@pytest.mark.parametrize("write", [as_hdf5, as_npz, as_packed_npz])
def test_truncated(tmp_path: Path, write: Writer) -> None:
    path = write(tmp_path, {"images": IMAGES})
    content = path.read_bytes()
    for length in (10, 100, len(content) // 2, len(content) - 30):
        path.write_bytes(content[:length])
        with pytest.raises(DataError):
            ArraySource(path)
    np.save(tmp_path / "a.npy", IMAGES)
    (tmp_path / "a.npy").write_bytes((tmp_path / "a.npy").read_bytes()[:-1])
    with pytest.raises(DataError):
        ArraySource(tmp_path / "a.npy")


def test_damaged_chunks_are_bad_images(tmp_path: Path) -> None:
    path = as_zarr(tmp_path, {"images": IMAGES})
    (path / "images" / "c" / "1" / "0" / "0" / "0").write_bytes(b"damaged")
    source = ArraySource(path)
    source.read(6)
    with pytest.raises(BadImage, match="cannot be read"):
        source.read(7)
    packed = as_packed_hdf5(tmp_path, {"images": IMAGES})
    content = bytearray(packed.read_bytes())
    with h5py.File(packed) as file:
        chunk = file["images"].id.get_chunk_info(1)
    content[chunk.byte_offset : chunk.byte_offset + 60] = bytes(60)
    packed.write_bytes(content)
    source = ArraySource(packed)
    source.read(6)
    with pytest.raises(BadImage, match="cannot be read"):
        source.read(7)


def test_objects_are_never_unpickled(tmp_path: Path) -> None:
    np.savez(
        tmp_path / "a.npz",
        images=IMAGES,
        things=np.array([{}] * 20, object),
        rec=np.zeros(3, "f4,f4"),
    )
    source = ArraySource(tmp_path / "a.npz")
    assert source.table is None
    np.save(tmp_path / "b.npy", np.full((3, 4, 5), None))
    with pytest.raises(DataError, match="cannot be read"):
        ArraySource(tmp_path / "b.npy")


def test_what_is_an_array_file(tmp_path: Path) -> None:
    assert is_array_file(as_zipped_zarr(tmp_path, {"images": IMAGES}))
    folder = as_zarr(tmp_path, {"images": IMAGES})
    with zipfile.ZipFile(tmp_path / "zipped.zip", "w") as archive:
        for file in folder.rglob("*.json"):
            archive.write(file, file.relative_to(tmp_path))
        for file in (folder / "images" / "c").rglob("*"):
            archive.write(file, file.relative_to(tmp_path))
    np.testing.assert_array_equal(ArraySource(tmp_path / "zipped.zip").read(9).pixels, IMAGES[9])
    (tmp_path / "damaged.zip").write_bytes(b"PK\x05\x06" + bytes([9] * 18))
    assert not is_array_file(tmp_path / "damaged.zip")
    with zipfile.ZipFile(tmp_path / "plain.zip", "w") as archive:
        archive.writestr("a.jpg", b"")
    assert not is_array_file(tmp_path / "plain.zip")
    folder.rename(tmp_path / "unnamed")
    assert is_array_file(tmp_path / "unnamed")
    np.testing.assert_array_equal(ArraySource(tmp_path / "unnamed").read(1).pixels, IMAGES[1])
    for name, message in (("none.h5", "no file"), ("plain.zip", "is no array file")):
        with pytest.raises(UsageError, match=message):
            ArraySource(tmp_path / name)


# ---- what a file claims ------------------------------------------------------------------------


def test_rows_that_are_not_there_are_not_listed(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("images", (10**9, 4, 4), "f4", chunks=(1, 4, 4))
    zarr.create_array(tmp_path / "a.zarr", shape=(10**9, 4, 4), chunks=(1, 4, 4), dtype="f4")
    for name in ("a.h5", "a.zarr"):
        with pytest.raises(DataError, match="100 times its size"):
            ArraySource(tmp_path / name)


def test_groups_in_groups_and_links(tmp_path: Path) -> None:
    images = RNG.normal(size=(3, 8, 8)).astype("f4")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["set/images"] = images
        file["set/z"] = [1.0, 2.0, 3.0]
        file["set/again"], file["z2"] = file["set"], file["set/z"]
        file["soft"], file["out"] = h5py.SoftLink("/set"), h5py.ExternalLink("/etc/passwd", "/")
    source = ArraySource(tmp_path / "a.h5")
    assert source.table is not None
    assert source.table.num_columns == 1
    np.testing.assert_array_equal(source.read(1).pixels[0], images[1])
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["images"], place = images, file
        for _ in range(3000):
            place = place.create_group("g")
    with pytest.raises(DataError, match="100 deep"):
        ArraySource(tmp_path / "b.h5")


def test_a_damaged_column_is_one_line(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["images"] = RNG.normal(size=(4, 8, 8))
        made = file.create_dataset("z", (4,), "f8", chunks=(4,), compression="gzip")
        made.id.write_direct_chunk((0,), b"no gzip at all")
    with pytest.raises(DataError, match="column 'z' cannot be read"):
        ArraySource(tmp_path / "a.h5")


def test_headers_of_numpy_files_are_not_believed(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", images=np.zeros((4, 8, 8)))
    with zipfile.ZipFile(tmp_path / "a.npz") as archive:
        content = archive.read("images.npy")
    with zipfile.ZipFile(tmp_path / "b.npz", "w") as archive:
        archive.writestr("images.npy", content.replace(b"(4, 8, 8), }    ", b"(4, 8, 99999), }"))
    with pytest.raises(DataError, match="its header says"):
        ArraySource(tmp_path / "b.npz")
    (tmp_path / "c.npy").write_bytes(b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + content[10:])
    with pytest.raises(DataError, match="header"):
        ArraySource(tmp_path / "c.npy")
    os.mkfifo(tmp_path / "d.npy")
    with pytest.raises(DataError, match="a pipe or a device"):
        ArraySource(tmp_path / "d.npy")
