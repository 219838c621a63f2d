"""Every source of images under the same checks: what ingest relies on, whatever the format."""

from __future__ import annotations

import io
import json
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import fitsio
import h5py
import numpy as np
import pytest
import zarr
from astropy.io import fits

from skytwin.images.detect import DetectSettings
from skytwin.images.ingest import ingest_source
from skytwin.images.mosaic import MosaicSource
from skytwin.images.open_source import open_source
from skytwin.images.source import ImageSource
from toys import blob

COUNT = 6


def plane(number: int) -> np.ndarray:
    return blob(number)[0]


def byte_plane(number: int, channels: int = 3) -> np.ndarray:
    stack = np.moveaxis(blob(number, channels=channels), 0, -1)
    return (255 * (stack - stack.min()) / np.ptp(stack)).astype(np.uint8)


def fits_folder(folder: Path) -> ImageSource:
    for n in range(COUNT):
        fits.writeto(folder / f"o{n}.fits", plane(n))
    return open_source(str(folder))


def rice_folder(folder: Path) -> ImageSource:
    for n in range(COUNT):
        with fitsio.FITS(folder / f"o{n}.fits.fz", "rw") as file:
            file.write(plane(n), compress="rice", qlevel=16)
    return open_source(str(folder))


def gzip_folder(folder: Path) -> ImageSource:
    for n in range(COUNT):
        fits.writeto(folder / f"o{n}.fits.{'gz' if n % 2 else 'bz2'}", plane(n))
    return open_source(str(folder))


def many_extensions(folder: Path) -> ImageSource:
    for n in range(COUNT):
        images = [fits.ImageHDU(plane(n + i), name=band) for i, band in enumerate("gri")]
        fits.HDUList([fits.PrimaryHDU(), *images]).writeto(folder / f"o{n}.fits")
    return open_source(str(folder))


def file_per_band(folder: Path) -> ImageSource:
    for n in range(COUNT):
        for i, band in enumerate("gri"):
            fits.writeto(folder / f"o{n}_{band}.fits", plane(n + i))
    return open_source(str(folder), pattern="{id}_{band}.fits", bands=("i", "r", "g"))


def jpeg_folder(folder: Path) -> ImageSource:
    for n in range(COUNT):
        cv2.imwrite(str(folder / f"o{n}.jpg"), byte_plane(n))
    return open_source(str(folder))


def png_zip(folder: Path) -> ImageSource:
    with zipfile.ZipFile(folder / "all.zip", "w") as archive:
        for n in range(COUNT):
            archive.writestr(f"sub/o{n}.png", cv2.imencode(".png", byte_plane(n))[1].tobytes())
    return open_source(str(folder / "all.zip"))


def tiff_tar(folder: Path) -> ImageSource:
    with tarfile.open(folder / "all.tar", "w") as archive:
        for n in range(COUNT):
            data = cv2.imencode(".tiff", plane(n))[1].tobytes()
            entry = tarfile.TarInfo(f"o{n}.tiff")
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return open_source(str(folder / "all.tar"))


def npy_folder(folder: Path) -> ImageSource:
    for n in range(COUNT):
        np.save(folder / f"o{n}.npy", blob(n, channels=2).astype(">f4"))
    return open_source(str(folder))


def hdf5_file(folder: Path) -> ImageSource:
    with h5py.File(folder / "all.h5", "w") as file:
        file["images"] = np.stack([byte_plane(n) for n in range(COUNT)])
        file["ans"] = np.arange(COUNT)
    return open_source(str(folder / "all.h5"))


def npz_file(folder: Path) -> ImageSource:
    images = np.stack([blob(n, channels=2) for n in range(COUNT)])
    np.savez(folder / "all.npz", images=images, name=[f"n{n}" for n in range(COUNT)])
    return open_source(str(folder / "all.npz"), ids="name")


def npy_file(folder: Path) -> ImageSource:
    np.save(folder / "all.npy", np.stack([plane(n) for n in range(COUNT)]))
    return open_source(str(folder / "all.npy"))


def zarr_folder(folder: Path) -> ImageSource:
    images = np.stack([blob(n, channels=2) for n in range(COUNT)])
    zarr.create_array(folder / "all.zarr", data=images, chunks=(2, 2, 16, 16))
    return open_source(str(folder / "all.zarr"))


def batch_archive(folder: Path) -> ImageSource:
    batch = {
        "batch_label": "training batch 1 of 1",
        "data": [byte_plane(n, 1).ravel() for n in range(COUNT)],
        "labels": [n % 2 for n in range(COUNT)],
        "filenames": [f"o{n}.png" for n in range(COUNT)],
    }
    meta = {"label_names": ["FRI", "FRII"], "num_cases_per_batch": COUNT, "num_vis": 256}
    with tarfile.open(folder / "set.tar.gz", "w:gz") as archive:
        for name, content in (("set/data_batch_1", batch), ("set/batches.meta", meta)):
            data = pickle.dumps(content)
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return open_source(str(folder / "set.tar.gz"))


def field(folder: Path) -> Path:
    image = 0.02 * np.random.default_rng(0).standard_normal((200, 200)).astype(np.float32)
    for n in range(COUNT):
        image[20 + 30 * n : 36 + 30 * n, 90:106] += plane(n)
    fits.writeto(folder / "field.fits", image)
    return folder / "field.fits"


def mosaic_by_pixel(folder: Path) -> ImageSource:
    rows = "\n".join(f"p{n},98,{28 + 30 * n}" for n in range(COUNT))
    (folder / "positions.csv").write_text(f"id,x,y\n{rows}\n")
    return MosaicSource([field(folder)], positions=[folder / "positions.csv"], size=16)


def mosaic_by_detection(folder: Path) -> ImageSource:
    return MosaicSource([field(folder)], detect=DetectSettings(threshold_sigma=5), size=16)


SOURCES = [
    fits_folder,
    rice_folder,
    gzip_folder,
    many_extensions,
    file_per_band,
    jpeg_folder,
    png_zip,
    tiff_tar,
    npy_folder,
    hdf5_file,
    npz_file,
    npy_file,
    zarr_folder,
    batch_archive,
    mosaic_by_pixel,
    mosaic_by_detection,
]


@pytest.fixture(params=SOURCES, ids=lambda make: make.__name__)
def source(request: pytest.FixtureRequest, tmp_path: Path) -> ImageSource:
    make: Callable[[Path], ImageSource] = request.param
    (tmp_path / "in").mkdir()
    return make(tmp_path / "in")


def test_names_are_unique_and_aligned(source: ImageSource) -> None:
    assert len(source.ids) == len(source.origins) == len(set(source.ids)) == COUNT
    assert all(isinstance(name, str) and name for name in [*source.ids, *source.origins])
    if source.table is not None:
        assert source.table.num_rows == COUNT
        assert "id" not in source.table.column_names
    assert json.loads(json.dumps(dict(source.recipe))) == dict(source.recipe)
    assert isinstance(source.location, str)


def test_images_have_three_axes_and_native_numbers(source: ImageSource) -> None:
    for index in range(COUNT):
        image = source.read(index)
        assert image.pixels.ndim == 3
        assert image.pixels.dtype.isnative
        assert image.pixels.dtype.kind in "uif"
        assert image.bands is None or len(image.bands) == len(image.pixels)
        assert image.pixel_scale is None or image.pixel_scale > 0


def test_reading_again_or_in_threads_gives_the_same(source: ImageSource) -> None:
    once = [source.read(index).pixels for index in range(COUNT)]
    order = np.random.default_rng(0).integers(0, COUNT, 60)
    with ThreadPoolExecutor(4) as pool:
        again = list(pool.map(lambda index: source.read(int(index)).pixels, order))
    for index, pixels in zip(order, again, strict=True):
        np.testing.assert_array_equal(pixels, once[index])


def test_it_can_be_ingested(source: ImageSource, tmp_path: Path) -> None:
    made = ingest_source(source, tmp_path / "out", quiet=True, shard_rows=4)
    assert list(made.ids) == list(source.ids)
    for index in range(COUNT):
        np.testing.assert_array_equal(made.pixels([index])[0], source.read(index).pixels)
