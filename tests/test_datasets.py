"""Published sets: hashes, downloads from a real server, labels against their own catalogue."""

from __future__ import annotations

import csv
import functools
import hashlib
import http.server
import json
import pickle
import shutil
import tarfile
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from astropy.io import fits

from skytwin.errors import DataError, UnknownName, Unreachable, UsageError
from skytwin.images.arrays import ArraySource
from skytwin.images.batches import BatchSource
from skytwin.images.datasets import DATASETS, Dataset, DatasetSource, fetch, open_dataset
from skytwin.images.folder import FolderSource
from skytwin.images.open_source import open_source
from skytwin.images.readers import read_image

RNG = np.random.default_rng(3)
NAMES = [
    "100_123.251+043.797_0.1281_0034.09",
    "112_001.000-000.500_0.0100_0001.00",
    "204_359.999+089.123_1.2345_1234.56",
    "301_180.000-010.000_0.5000_0100.00",
]


def archive(path: Path, files: list[str], classes: list[str]) -> Path:
    batch = {
        "data": [RNG.integers(0, 256, (4, 4), dtype="u1") for _ in files],
        "labels": [n % len(classes) for n in range(len(files))],
        "filenames": [f"./x/{name}.png" for name in files],
    }
    folder = path.parent / "batches"
    folder.mkdir(parents=True)
    for name, content in (("data_batch_1", batch), ("batches.meta", {"label_names": classes})):
        (folder / name).write_bytes(pickle.dumps(content))
    with tarfile.open(path, "w:gz") as tar:
        tar.add(folder, "batches")
    return path


def described(path: Path, name: str = "mirabest", **changes: object) -> Dataset:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return replace(DATASETS[name], file=f"sets/{path.name}", sha256=digest, **changes)


# --- labels -------------------------------------------------------------------------------------


def test_mirabest_names_say_it_all(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.tar.gz", NAMES, ["100"])
    source = DatasetSource(described(path), path)
    assert list(source.ids) == NAMES
    table = source.table.to_pydict()
    assert table["code"] == ["100", "112", "204", "301"]
    assert table["fr"] == ["FRI", "FRI", "FRII", "Hybrid"]
    assert table["confidence"] == ["confident", "uncertain", "confident", "confident"]
    assert table["morphology"] == ["standard", "wide-angle-tail", "head-tail", "double-double"]
    assert table["ra"] == [123.251, 1.0, 359.999, 180.0]
    assert table["dec"] == [43.797, -0.5, 89.123, -10.0]
    assert table["redshift"] == [0.1281, 0.01, 1.2345, 0.5]
    assert table["las_arcsec"] == [34.09, 1.0, 1234.56, 100.0]
    assert table["split"] == ["train"] * 4
    assert table["batch"] == ["data_batch_1"] * 4
    assert source.table.schema.field("ra").metadata[b"unit"] == b"deg"
    image = source.read(2)
    assert (image.bands, image.pixel_scale) == (("1.4GHz",), 1.8)
    assert (image.ra, image.dec) == (359.999, 89.123)
    assert image.pixels.shape == (1, 4, 4)
    json.dumps(source.recipe)


def test_names_of_another_kind_are_refused(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.tar.gz", ["galaxy_7"], ["100"])
    with pytest.raises(DataError, match="'galaxy_7' is no name of MiraBest's"):
        DatasetSource(described(path), path)


def test_frdeep_ids_are_unique_by_class(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.tar.gz", ["5_example", "5_example"], ["FRI", "FRII"])
    source = DatasetSource(described(path, "frdeep-first"), path)
    assert list(source.ids) == ["FRI_5_example", "FRII_5_example"]
    assert source.table.to_pydict() == {
        "fr": ["FRI", "FRII"],
        "split": ["train"] * 2,
        "batch": ["data_batch_1"] * 2,
        "label": [0, 1],
    }
    image = source.read(0)
    assert (image.pixel_scale, image.ra) == (1.8, None)


# --- where the files come from ------------------------------------------------------------------


class _Silent(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder, and the address of a server of its files."""
    folder = tmp_path / "served"
    folder.mkdir()
    handler = functools.partial(_Silent, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SKYTWIN_DATA", raising=False)


def test_download_once_and_keep(served: tuple[Path, str], tmp_path: Path) -> None:
    folder, address = served
    published = archive(folder / "a.tar.gz", NAMES, ["100"])
    dataset = described(published, urls=(f"{address}/none.tar.gz", f"{address}/a.tar.gz"))
    path = fetch(dataset)
    assert path.read_bytes() == published.read_bytes()
    assert tmp_path / "cache" in path.parents
    assert list(DatasetSource(dataset, path).ids) == NAMES
    published.unlink()
    assert fetch(dataset) == path  # from the cache
    path.write_bytes(b"damaged")
    with pytest.raises(Unreachable, match="HTTP 404"):
        fetch(dataset)  # the cache is not trusted because a file is there


def test_a_corrupted_download_is_refused(served: tuple[Path, str]) -> None:
    folder, address = served
    published = archive(folder / "a.tar.gz", NAMES, ["100"])
    dataset = described(published, urls=(f"{address}/a.tar.gz",))
    published.write_bytes(published.read_bytes()[:-1] + b"?")
    with pytest.raises(DataError, match=r"not the published file.* SKYTWIN_DATA .*sets/a\.tar\.gz"):
        fetch(dataset)
    assert not list((folder.parent / "cache").rglob("*.gz"))


def test_nobody_answers(served: tuple[Path, str]) -> None:
    folder, address = served
    published = archive(folder / "a.tar.gz", NAMES, ["100"])
    dataset = described(published, urls=("http://127.0.0.1:9/a.tar.gz", f"{address}/none"))
    with pytest.raises(Unreachable) as refusal:
        fetch(dataset)
    message = str(refusal.value)
    assert "\n" not in message
    for part in ("http://127.0.0.1:9/a.tar.gz", "HTTP 404", "SKYTWIN_DATA", "sets/a.tar.gz"):
        assert part in message


def test_from_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = archive(tmp_path / "sets" / "a.tar.gz", NAMES, ["100"])
    dataset = described(path)
    monkeypatch.setattr("skytwin.images.datasets.DATASETS", {"mirabest": dataset})
    assert len(open_dataset("mirabest", folder=tmp_path).ids) == 4
    monkeypatch.setenv("SKYTWIN_DATA", str(tmp_path))
    assert len(open_dataset("mirabest").ids) == 4
    path.write_bytes(path.read_bytes() + b"!")
    with pytest.raises(DataError, match=r"is not the published mirabest: its SHA-256 .* replace"):
        open_dataset("mirabest")
    with pytest.raises(DataError, match=r"no file .*sets.*; put the one from https://zenodo"):
        open_dataset("mirabest", folder=tmp_path / "none")


def test_unknown_set() -> None:
    with pytest.raises(UnknownName, match="unknown data set 'mirabesst'; did you mean: mirabest"):
        open_dataset("mirabesst")


def test_descriptions() -> None:
    assert sorted(DATASETS) == ["frdeep-first", "frdeep-nvss", "mirabest"]
    assert [DATASETS[name].pixel_scale for name in sorted(DATASETS)] == [1.8, 15.0, 1.8]
    for dataset in DATASETS.values():
        assert len(dataset.sha256) == 64
        assert dataset.urls[0].startswith("https://")
        assert dataset.reference
        assert dataset.terms


# --- open_source --------------------------------------------------------------------------------


def test_each_kind_of_source_is_recognised(tmp_path: Path) -> None:
    fits.PrimaryHDU(np.ones((4, 5), "f4")).writeto(tmp_path / "a.fits")
    assert isinstance(open_source(tmp_path), FolderSource)
    assert open_source(str(tmp_path), pattern="{id}.fits", bands=("g",)).read(0).bands == ("g",)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = np.ones((3, 4, 5))
    assert isinstance(open_source(tmp_path / "a.h5", layout="NHW", bands=("g",)), ArraySource)
    packed = archive(tmp_path / "sub" / "b.tar.gz", NAMES, ["100"])
    assert isinstance(open_source(packed), BatchSource)
    assert isinstance(open_source(tmp_path / "sub" / "batches"), BatchSource)
    zipped = shutil.make_archive(str(tmp_path / "images"), "zip", tmp_path, "a.fits")
    assert isinstance(open_source(zipped), FolderSource)
    tarred = shutil.make_archive(str(tmp_path / "images"), "gztar", tmp_path, "a.fits")
    assert isinstance(open_source(tarred), FolderSource)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("none", {}, r"no file or folder .*none'; expected a folder of images, an archive"),
        ("a.txt", {}, "is no source of images; expected"),
        ("a.fits", {}, "give the folder it is in"),
        (
            "a.npy",
            {"pattern": "{id}"},
            "pattern does not go with the array file .*; it takes dataset",
        ),
        (".", {"ids": "x"}, "ids does not go with the images in"),
        (
            "b.tar",
            {"bands": ("g",)},
            "bands does not go with the batches in .*; it takes no options",
        ),
    ],
)
def test_what_does_not_go_together(
    tmp_path: Path, name: str, options: dict[str, str], message: str
) -> None:
    (tmp_path / "a.txt").write_text("x")
    fits.PrimaryHDU(np.ones((4, 5), "f4")).writeto(tmp_path / "a.fits")
    np.save(tmp_path / "a.npy", np.ones((3, 4, 5)))
    archive(tmp_path / "sub" / "x.tar.gz", NAMES, ["100"])
    with tarfile.open(tmp_path / "b.tar", "w") as tar:
        tar.add(tmp_path / "sub" / "batches", "batches")
    with pytest.raises(UsageError, match=message):
        open_source(tmp_path / name, **options)


def test_options_do_not_go_with_a_published_set() -> None:
    with pytest.raises(UsageError, match="hdu does not go with the published set 'mirabest'"):
        open_source("mirabest", hdu=(1,))


# --- the sets themselves ------------------------------------------------------------------------


@pytest.mark.real
@pytest.mark.parametrize(("name", "scale"), [("frdeep-nvss", 15.0), ("frdeep-first", 1.8)])
def test_frdeep(data_dir: Path, name: str, scale: float) -> None:
    source = open_dataset(name, folder=data_dir)
    assert len(set(source.ids)) == 600
    table = source.table.to_pydict()
    assert Counter(table["fr"]) == {"FRI": 264, "FRII": 336}
    assert Counter(table["split"]) == {"train": 550, "test": 50}
    pairs = Counter(zip(table["batch"], table["fr"], strict=True))
    assert set(pairs.values()) == {22, 28}
    assert table["batch"][-1] == "test_batch"
    image = source.read(599)
    assert image.pixels.shape == (1, 150, 150)
    assert image.pixels.dtype == np.uint8
    assert (image.bands, image.pixel_scale) == (("1.4GHz",), scale)
    pixels = {source.read(row).pixels.tobytes() for row in range(600)}
    assert len(pixels) == 599  # one pair of identical images


@pytest.mark.real
def test_mirabest_against_its_catalogue(data_dir: Path) -> None:
    source = open_dataset("mirabest", folder=data_dir)
    with (data_dir / "mirabest" / "catalogue.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == len(source.ids) == 1256
    names = {"ra": "ra_deg", "dec": "dec_deg"}
    for ours, theirs in zip(source.table.to_pylist(), rows, strict=True):
        for key, value in ours.items():
            expected = theirs[names.get(key, key)]
            assert value == (float(expected) if isinstance(value, float) else expected), key
    assert list(source.ids) == [row["name"] for row in rows]
    confident = [
        row for row in source.table.to_pylist()
        if row["confidence"] == "confident" and row["fr"] != "Hybrid"
    ]  # fmt: skip
    assert Counter((row["split"], row["fr"]) for row in confident) == {
        ("train", "FRI"): 348, ("train", "FRII"): 381, ("test", "FRI"): 49, ("test", "FRII"): 55,
    }  # fmt: skip


@pytest.mark.real
def test_mirabest_batches_are_the_middle_of_their_fits_cutouts(data_dir: Path) -> None:
    """And lie the same way: row 0 of a batch is row 0, the southernmost, of the FITS file."""
    source = open_dataset("mirabest", folder=data_dir)
    rows = {name: row for row, name in enumerate(source.ids)}
    paths = sorted((data_dir / "mirabest_fits").glob("*.fits"))
    assert len(paths) == 24
    for path in paths:
        flux = np.nan_to_num(read_image(path).pixels[0, 75:225, 75:225])
        pixels = source.read(rows[path.stem]).pixels[0]
        ways = (pixels, pixels[::-1], pixels[:, ::-1], pixels[::-1, ::-1])
        likeness = [np.corrcoef(flux.ravel(), way.ravel())[0, 1] for way in ways]
        assert np.argmax(likeness) == 0, path.name
