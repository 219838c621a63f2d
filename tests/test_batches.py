"""Batches of pickled arrays: what is read, and above all what is refused."""

from __future__ import annotations

import io
import os
import pickle
import pickletools
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skytwin.errors import DataError, UsageError
from skytwin.images.batches import BatchSource, is_batches
from skytwin.images.inert import load_plain

RNG = np.random.default_rng(5)


def batch(count: int = 4, **changes: Any) -> dict[str, Any]:
    return {
        "batch_label": "training batch",
        "labels": [n % 2 for n in range(count)],
        "data": [RNG.integers(0, 256, 36, dtype="u1") for _ in range(count)],
        "filenames": [np.str_(f"./some/where/{RNG.integers(10**12)}.png") for _ in range(count)],
    } | changes


META = {"label_names": ["FRI", "FRII"], "num_vis": 36}


def pack(root: Path, batches: dict[str, Any], name: str = "set.tar.gz") -> Path:
    with tarfile.open(root / name, "w:gz" if name.endswith("gz") else "w") as archive:
        for file, content in batches.items():
            data = content if isinstance(content, bytes) else pickle.dumps(content)
            entry = tarfile.TarInfo(f"set/{file}")
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return root / name


@pytest.mark.parametrize("name", ["set.tar.gz", "set.tar", "set.tgz"])
def test_batches_in_natural_order(tmp_path: Path, name: str) -> None:
    files = {f"data_batch_{n}": batch(3) for n in (10, 2, 1)}
    files = {"test_batch": batch(2), "batches.meta": META, **files}
    path = pack(tmp_path, files, name)
    assert is_batches(path)
    source = BatchSource(path)
    order = ["data_batch_1"] * 3 + ["data_batch_2"] * 3 + ["data_batch_10"] * 3 + ["test_batch"] * 2
    assert source.table["batch"].to_pylist() == order
    assert source.table["split"].to_pylist() == ["train"] * 9 + ["test"] * 2
    assert source.table["label"].to_pylist() == [0, 1, 0] * 3 + [0, 1]
    assert source.table["class"].to_pylist()[:3] == ["FRI", "FRII", "FRI"]
    assert source.ids[0] + ".png" == source.table["filename"][0].as_py()
    assert source.origins[3] == f"{name}/data_batch_2[0]"
    for row, expected in enumerate(files["data_batch_2"]["data"]):
        image = source.read(3 + row)
        np.testing.assert_array_equal(image.pixels, expected.reshape(1, 6, 6))
        assert image.pixels.flags.writeable
        assert image.bands is None


def test_unpacked_folder(tmp_path: Path) -> None:
    files = {"data_batch_1": batch(), "test_batch": batch(), "batches.meta": META}
    for name, content in files.items():
        (tmp_path / name).write_bytes(pickle.dumps(content))
    (tmp_path / "readme.html").write_text("hello")
    assert is_batches(tmp_path)
    assert len(BatchSource(tmp_path).ids) == 8


@pytest.mark.parametrize(
    ("data", "shape", "bands"),
    [
        (RNG.integers(0, 256, (5, 3 * 49), dtype="u1"), (3, 7, 7), ("red", "green", "blue")),
        (RNG.normal(size=(5, 49)).astype("f4"), (1, 7, 7), None),
        (RNG.normal(size=(5, 4, 6)), (1, 4, 6), None),
        (RNG.integers(0, 9, (5, 2, 4, 6)).astype(">i2"), (2, 4, 6), None),
        ([[1, 2, 3, 4]] * 5, (1, 2, 2), None),
    ],
)
def test_shapes_of_data(
    tmp_path: Path, data: Any, shape: tuple[int, ...], bands: tuple[str, ...] | None
) -> None:
    source = BatchSource(pack(tmp_path, {"data_batch_1": batch(5, data=data)}))
    for row in range(5):
        image = source.read(row)
        np.testing.assert_array_equal(image.pixels, np.asarray(data[row]).reshape(shape))
        assert image.pixels.dtype.isnative
        assert image.bands == bands


def test_missing_columns_and_repeated_names(tmp_path: Path) -> None:
    one = {"data": batch()["data"]}
    source = BatchSource(pack(tmp_path, {"data_batch_1": one}))
    assert source.table.column_names == ["split", "batch"]
    assert list(source.ids) == [f"data_batch_1/{n}" for n in range(4)]
    names = batch(filenames=["a.png", "b.png", "a.png", "c.png"])
    source = BatchSource(pack(tmp_path, {"data_batch_1": names, "test_batch": batch()}))
    assert source.ids[4:] == [f"test_batch/{n}" for n in range(4)]
    assert "class" not in source.table.column_names


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_every_pickle_protocol(protocol: int) -> None:
    value = {
        "a": np.arange(6, dtype=">i4").reshape(2, 3),
        "b": np.asfortranarray(RNG.normal(size=(3, 4)).astype("f4")),
        "s": [np.str_("é"), np.float32(3), np.bytes_(b"x"), "plain", 7, 2.5, None, True, b"raw"],
        "u": np.array(["one", "two"]),
    }
    found = load_plain(pickle.dumps(value, protocol))
    np.testing.assert_array_equal(found["a"], value["a"])
    np.testing.assert_array_equal(found["b"], value["b"])
    assert found["s"] == value["s"]
    assert found["u"].tolist() == ["one", "two"]


def test_pickles_of_python_2() -> None:
    # What Python 2 wrote for {"data": numpy.arange(4, dtype="u1"), "n": ["a"]}, protocol 2.
    content = (
        b"\x80\x02}q\x01(U\x04dataq\x02cnumpy.core.multiarray\n_reconstruct\nq\x03cnumpy\nndarray\n"
        b"q\x04K\x00\x85U\x01b\x87Rq\x05(K\x01K\x04\x85cnumpy\ndtype\nq\x06U\x02u1K\x00K\x01\x87Rq\x07"
        b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x04\x00\x01\x02\xfftbU\x01n]q"
        b"\x08U\x01aau."
    )
    found = load_plain(content)
    assert found["data"].tolist() == [0, 1, 2, 255]
    assert found["n"] == ["a"]


class Evil:
    def __init__(self, *call: Any) -> None:
        self.call = call

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.call[0], self.call[1:]


@pytest.mark.parametrize(
    ("thing", "named"),
    [
        (Evil(os.system, "touch {}"), "system"),
        (Evil(subprocess.check_output, ["touch", "{}"]), "check_output"),
        (Evil(eval, "open('{}', 'w')"), "eval"),
        (Evil(np.save, "{}", 1), "numpy"),
        (Evil(getattr, 1, "real"), "getattr"),
        (Evil(np.fromfile, "{}"), "numpy"),
        (Path("x"), "pathlib"),
        (complex(1, 2), "complex"),
        (np.array([None, {}]), "type 'O8'"),
        (np.zeros(3, "f4,f4"), "type 'V8'"),
        (np.datetime64("2020-01-01"), "type 'M8'"),
        (np.ma.masked_array([1, 2]), "numpy.ma"),
        (np.dtype("f4"), "bare"),
    ],
)
@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_what_is_no_plain_array_is_refused(
    tmp_path: Path, thing: Any, named: str, protocol: int
) -> None:
    mark = tmp_path / "mark"
    if isinstance(thing, Evil):
        thing = Evil(*(a.format(mark) if isinstance(a, str) else a for a in thing.call))
    content = pickle.dumps({"data": thing}, protocol)
    with pytest.raises(DataError, match=f"refuses to (load|call) .*{named}.*: not a plain array"):
        BatchSource(pack(tmp_path, {"data_batch_1": content}))
    assert not mark.exists()


def test_the_functions_that_stand_in_cannot_be_altered() -> None:
    # GLOBAL _reconstruct, then BUILD with a state that would set an attribute on it.
    content = b"cnumpy.core.multiarray\n_reconstruct\n(N}Vx\nI1\nstb."
    pickletools.dis(content, out=io.StringIO())
    with pytest.raises(DataError, match="refuses to load a pickle that alters functions"):
        load_plain(content)
    with pytest.raises(DataError):
        load_plain(b"cnumpy.core.multiarray\n_reconstruct\n}V__call__\nI1\nsb.")
    for codec in ("zlib", "rot13", "unicode_escape"):
        with pytest.raises(DataError, match="refuses to call encode"):
            load_plain(pickle.dumps(Evil(__import__("_codecs").encode, "x", codec), 2))


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_damaged_pickles_are_data_errors(data: st.DataObject) -> None:
    content = bytearray(pickle.dumps(SMALL, data.draw(st.sampled_from([0, 2, 4]))))
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        load_plain(bytes(content))
    except DataError as error:
        reason = str(error)
        assert "\n" not in reason


SMALL = {"data": [np.arange(4, dtype="u1")] * 2, "labels": [0, 1], "filenames": ["a", "b"]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "damaged pickle"),
        (b"garbage", "damaged pickle"),
        (pickle.dumps(SMALL)[:-20], "damaged pickle"),
        ([1, 2], "is a list; expected a dict"),
        ({"labels": [1]}, "has no 'data', only 'labels'"),
        (batch(data=7), "is no list of arrays"),
        (batch(data=[np.zeros(7)] * 4), "7 pixels a row are no square"),
        (batch(data=[np.zeros((1, 2, 3, 4))] * 4), "expected at most 3 axes"),
        (batch(data=[np.array(["a"] * 4)] * 4), "pixels of type"),
        (batch(data=[np.zeros(0)] * 4), "no square"),
        (batch(labels=[1]), "1 labels for 4 images"),
        (batch(filenames=["x"]), "1 filenames for 4 images"),
    ],
)
def test_damaged_batches(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(DataError, match=f"batch 'data_batch_1'.*{message}"):
        BatchSource(pack(tmp_path, {"data_batch_1": content}))


def test_what_is_no_archive_of_batches(tmp_path: Path) -> None:
    (tmp_path / "a.tar.gz").write_bytes(b"garbage" * 99)
    assert not is_batches(tmp_path / "a.tar.gz")
    with pytest.raises(DataError, match=r"is damaged .*; fetch it anew"):
        BatchSource(tmp_path / "a.tar.gz")
    images = pack(tmp_path, {"a.jpg": b"x", "data_batch_1": b""}, "images.tar")
    assert not is_batches(images)
    with pytest.raises(UsageError, match="holds no batches"):
        BatchSource(pack(tmp_path, {"readme": b"x"}, "none.tar"))
    with pytest.raises(UsageError, match="no file or folder"):
        BatchSource(tmp_path / "none")
    whole = pack(tmp_path, {"data_batch_1": batch()})
    whole.write_bytes(whole.read_bytes()[:200])
    with pytest.raises(DataError, match="is damaged"):
        BatchSource(whole)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": ["x"] * 4}, "not all whole numbers"),
        ({"labels": [2**70] * 4}, "not all whole numbers"),
        ({"labels": 5}, "its labels are no list"),
        ({"filenames": 5}, "its filenames are no list"),
    ],
)
def test_columns_of_a_batch_that_are_none(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        BatchSource(pack(tmp_path, {"data_batch_1": batch(**changes)}))


def test_names_that_are_no_text_and_numbers_beyond_reason(tmp_path: Path) -> None:
    source = BatchSource(pack(tmp_path, {"data_batch_1": batch(filenames=["\udcff.png"] * 4)}))
    assert "\\udcff" in source.table["filename"][0].as_py()
    # CPython makes room for 2^32 entries before it finds that there is one.
    with pytest.raises(DataError, match="number 4294967295"):
        load_plain(b"\x80\x02]r\xff\xff\xff\xff.")


def test_a_batch_archive_that_ends_early(tmp_path: Path) -> None:
    path = pack(tmp_path, {"data_batch_1": batch(), "test_batch": batch()}, "set.tar")
    content = path.read_bytes()
    path.write_bytes(content[: content.index(b"test_batch") // 512 * 512])
    with pytest.raises(DataError, match="is damaged"):
        BatchSource(path)
