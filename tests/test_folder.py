"""Folders and archives of images: what is found, what it is called, how bands come together."""

from __future__ import annotations

import gzip
import io
import json
import os
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from skytwin.errors import BadImage, DataError, UnknownName, UsageError
from skytwin.images import members, packed
from skytwin.images.folder import FolderSource, natural

RNG = np.random.default_rng(7)


def jpeg() -> bytes:
    stream = io.BytesIO()
    Image.fromarray(RNG.integers(0, 256, (8, 9, 3), dtype="u1")).save(stream, "JPEG")
    return stream.getvalue()


def band(value: float, *, shape: tuple[int, ...] = (6, 7), **cards: object) -> bytes:
    header = fits.Header(
        {
            "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRPIX1": 4.0, "CRPIX2": 3.5,
            "CRVAL1": 150.0, "CRVAL2": 60.0, "CDELT1": -1e-4, "CDELT2": 1e-4, "BUNIT": "nJy",
        } | cards
    )  # fmt: skip
    stream = io.BytesIO()
    fits.PrimaryHDU(np.full(shape, value, "f4"), header).writeto(stream)
    return stream.getvalue()


def as_folder(root: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        path = root / "set" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root / "set"


def as_zip(root: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(root / "set.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return root / "set.zip"


def as_tar(root: Path, files: dict[str, bytes], name: str = "set.tar") -> Path:
    with tarfile.open(root / name, "w:gz" if name.endswith("gz") else "w") as archive:
        for path, content in files.items():
            entry = tarfile.TarInfo(f"./{path}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return root / name


def as_tgz(root: Path, files: dict[str, bytes]) -> Path:
    return as_tar(root, files, "set.tar.gz")


Packer = Callable[[Path, dict[str, bytes]], Path]
every_kind = pytest.mark.parametrize("pack", [as_folder, as_zip, as_tar, as_tgz])

MIXED = {
    "sub/img10.jpg": jpeg(),
    "sub/img2.JPG": jpeg(),
    "a.fits": band(1),
    "readme.txt": b"hello",
    ".hidden/x.jpg": jpeg(),
    "sub/._img2.jpg": b"resource fork",
    "notes.csv": b"id\n",
}


@every_kind
def test_every_kind_of_container_reads_the_same(tmp_path: Path, pack: Packer) -> None:
    source = FolderSource(pack(tmp_path, MIXED))
    assert list(source.ids) == ["a", "img2", "img10"]
    assert list(source.origins) == ["a.fits", "sub/img2.JPG", "sub/img10.jpg"]
    assert source.ignored == 2
    assert source.table is None
    assert json.loads(json.dumps(source.recipe)) == {"pattern": None, "bands": None, "hdu": None}
    assert source.location == str(tmp_path / Path(source.location).name)
    assert np.all(source.read(0).pixels == 1)
    assert source.read(0).unit == "nJy"
    expected = np.asarray(Image.open(io.BytesIO(MIXED["sub/img10.jpg"]))).transpose(2, 0, 1)
    np.testing.assert_array_equal(source.read(2).pixels, expected)


@every_kind
def test_many_threads_at_once(tmp_path: Path, pack: Packer) -> None:
    source = FolderSource(pack(tmp_path, {f"{n}.fits": band(n) for n in range(40)}))
    order = RNG.permutation(np.repeat(np.arange(40), 6))
    with ThreadPoolExecutor(8) as pool:
        for n, image in zip(order, pool.map(source.read, order), strict=True):
            assert source.ids[n] == str(n)
            assert np.all(image.pixels == n)


@every_kind
def test_a_damaged_member_is_a_bad_image(tmp_path: Path, pack: Packer) -> None:
    files = {"a.fits": band(1)[:3000], "b.fits": b"", "c.fits": band(3), "d.jpg": jpeg()[:200]}
    source = FolderSource(pack(tmp_path, files))
    for row, reason in ((0, "truncated"), (1, "empty"), (3, "damaged")):
        with pytest.raises(BadImage, match=reason):
            source.read(row)
    assert np.all(source.read(2).pixels == 3)


def test_a_file_that_vanishes_is_a_bad_image(tmp_path: Path) -> None:
    folder = as_folder(tmp_path, {"a.fits": band(1)})
    source = FolderSource(folder)
    (folder / "a.fits").unlink()
    with pytest.raises(BadImage, match="no such file"):
        source.read(0)


def test_zip_damage_and_passwords(tmp_path: Path) -> None:
    path = as_zip(tmp_path, {"a.fits": band(1), "b.fits": band(2)})
    content = bytearray(path.read_bytes())
    content[60:80] = bytes(20)
    path.write_bytes(content)
    source = FolderSource(path)
    with pytest.raises(BadImage, match="damaged in the archive"):
        source.read(0)
    assert np.all(source.read(1).pixels == 2)


@pytest.mark.parametrize("name", ["set.zip", "set.tar", "set.tar.gz", "set.tgz"])
@pytest.mark.parametrize("content", [b"", b"no archive at all" * 99])
def test_damaged_archives(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=r"the archive .* is damaged|no image in"):
        FolderSource(tmp_path / name)


def test_truncated_archives(tmp_path: Path) -> None:
    files = {f"{n}.fits": band(n) for n in range(5)}
    for pack, length in ((as_zip, -40), (as_tar, 12000), (as_tgz, -40)):
        path = pack(tmp_path, files)
        path.write_bytes(path.read_bytes()[:length])
        with pytest.raises(DataError, match="is damaged"):
            FolderSource(path)


def test_compressed_tar_larger_than_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(members, "MAX_IN_MEMORY", 5 << 10)
    path = as_tgz(tmp_path, {"a.fits": band(1), "b.txt": bytes(9000)})
    with pytest.raises(UsageError, match="unpack it and give the folder"):
        FolderSource(path)
    with pytest.raises(BadImage, match="at most"):
        FolderSource(as_zip(tmp_path, {"a.fits": band(1)})).read(0)


# --- ids ----------------------------------------------------------------------------------------


def test_double_suffixes_belong_to_no_id(tmp_path: Path) -> None:
    folder = as_folder(tmp_path, {"a.b.fits.gz": b"", "c.fits.fz": b"", "d.e.png": b""})
    assert list(FolderSource(folder).ids) == ["a.b", "c", "d.e"]


def test_repeated_names_make_all_ids_paths(tmp_path: Path) -> None:
    folder = as_folder(tmp_path, {"x/1.fits": b"", "y/1.fits": b"", "2.fits": b""})
    assert list(FolderSource(folder).ids) == ["2", "x/1", "y/1"]


def test_one_path_with_two_suffixes_is_refused(tmp_path: Path) -> None:
    folder = as_folder(tmp_path, {"a.fits": b"", "a.png": b"", "b.fits": b""})
    with pytest.raises(UsageError, match=r"'a\.fits' and 'a\.png' would both get the id 'a'"):
        FolderSource(folder)
    assert list(FolderSource(folder, pattern="{id}.fits").ids) == ["a", "b"]


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9.fits")).write_bytes(band(4))
    source = FolderSource(tmp_path)
    assert list(source.ids) == ["caf\\udce9"]
    source.ids[0].encode()
    assert np.all(source.read(0).pixels == 4)


def test_nothing_to_read(tmp_path: Path) -> None:
    folder = as_folder(tmp_path, {"a.txt": b"", "b/c.csv": b""})
    with pytest.raises(DataError, match=r"no image in .*set.* \(of 2 files\).*\.fits.*\.jpg"):
        FolderSource(folder)
    with pytest.raises(UsageError, match="no file or folder"):
        FolderSource(tmp_path / "none")
    with pytest.raises(UsageError, match="no folder and no archive"):
        FolderSource(folder / "a.txt")


@settings(max_examples=80, deadline=None)
@given(
    names=st.lists(st.text("ab01 _-", min_size=1, max_size=8), min_size=1, max_size=12),
    data=st.data(),
)
def test_natural_order_is_a_total_order(names: list[str], data: st.DataObject) -> None:
    shuffled = data.draw(st.permutations(names))
    assert sorted(shuffled, key=natural) == sorted(names, key=natural)
    assert sorted(["x10", "x9", "x1"], key=natural) == ["x1", "x9", "x10"]


# --- one file per band --------------------------------------------------------------------------

BANDS = {f"{n}_{name}.fits": band(10 * n + k) for n in (1, 2) for k, name in enumerate("gri")}


@every_kind
def test_bands_come_together(tmp_path: Path, pack: Packer) -> None:
    source = FolderSource(pack(tmp_path, BANDS), pattern="{id}_{band}.fits")
    assert list(source.ids) == ["1", "2"]
    image = source.read(1)
    assert image.bands == ("g", "i", "r")  # sorted, for want of an order
    assert image.pixels[:, 0, 0].tolist() == [20, 22, 21]
    assert image.pixel_scale == pytest.approx(0.36)
    assert image.unit == "nJy"
    assert source.origins[0] == "1_g.fits, 1_i.fits, 1_r.fits"


def test_order_and_choice_of_bands(tmp_path: Path) -> None:
    folder = as_folder(tmp_path, BANDS)
    source = FolderSource(folder, pattern="{id}_{band}.fits", bands=("r", "g"))
    image = source.read(0)
    assert image.bands == ("r", "g")
    assert image.pixels[:, 0, 0].tolist() == [11, 10]
    assert source.ignored == 2
    with pytest.raises(UnknownName, match="unknown band 'z'; known: g, i, r"):
        FolderSource(folder, pattern="{id}_{band}.fits", bands=("r", "z"))


def test_a_missing_band(tmp_path: Path) -> None:
    files = {name: content for name, content in BANDS.items() if name != "2_i.fits"}
    source = FolderSource(as_folder(tmp_path, files), pattern="{id}_{band}.fits")
    with pytest.raises(BadImage, match=r"no file for band\(s\) i"):
        source.read(1)
    source.read(0)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"shape": (6, 8)}, r"bands g and r differ in shape \(6x7, 6x8\)"),
        ({"shape": (2, 6, 7)}, "band r has 2 channels"),
        ({"CRVAL1": 150.0 + 0.00024}, r"bands g and r are 1\.2 pixels apart on the sky; .*mosaics"),
        ({"CRPIX2": 4.2}, r"0\.7 pixels apart"),
        ({"CDELT1": -2e-4, "CDELT2": 2e-4}, r"differ in pixel scale \(0\.36, 0\.72 arcsec\)"),
    ],
)
def test_bands_that_do_not_belong_together(
    tmp_path: Path, change: dict[str, object], reason: str
) -> None:
    files = {"1_g.fits": band(1), "1_r.fits": band(2, **change)}
    source = FolderSource(as_folder(tmp_path, files), pattern="{id}_{band}.fits")
    with pytest.raises(BadImage, match=reason):
        source.read(0)


def test_small_offsets_and_other_units_are_let_through(tmp_path: Path) -> None:
    files = {"1_g.fits": band(1), "1_r.fits": band(2, CRPIX1=4.3, BUNIT="Jy")}
    image = FolderSource(as_folder(tmp_path, files), pattern="{id}_{band}.fits").read(0)
    assert image.unit is None
    assert image.ra == pytest.approx(150.0, abs=1e-3)


def test_a_damaged_band_is_named(tmp_path: Path) -> None:
    files = {"1_g.fits": band(1), "1_r.fits": band(2)[:3000]}
    source = FolderSource(as_folder(tmp_path, files), pattern="{id}_{band}.fits")
    with pytest.raises(BadImage, match="^band r: truncated"):
        source.read(0)


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("{id}_{band}.fits", "deep/obj_1_g.fits", ("obj_1", "g")),
        ("{band}_{id}.fits", "g_obj_1.fits", ("obj_1", "g")),
        ("{id}/{band}*.fits", "obj_1/gcoadd.fits", ("obj_1", "g")),
        ("{id}/{id}-{band}.fits", "o-1/o-1-r.fits", ("o-1", "r")),
        ("cutout-*-{id}.{band}.fits", "cutout-v2-7.g.fits", ("7", "g")),
        ("*/{band}/{id}.fits.fz", "dr9/z/12.fits.fz", ("12", "z")),
        ("{id}(+).png", "a(+).png", ("a", None)),
    ],
)
def test_patterns(
    tmp_path: Path, pattern: str, name: str, expected: tuple[str, str | None]
) -> None:
    source = FolderSource(as_folder(tmp_path, {name: b"", "other.jpg": b""}), pattern=pattern)
    assert list(source.ids) == [expected[0]]
    assert source.ignored == 1
    with pytest.raises(BadImage) as refusal:
        source.read(0)
    prefix = "" if expected[1] is None else f"band {expected[1]}: "
    assert str(refusal.value) == f"{prefix}the file is empty"


@pytest.mark.parametrize(
    ("pattern", "error", "message"),
    [
        ("{band}.fits", UsageError, "has no {id}"),
        ("{id}_{filter}.fits", UsageError, "unknown field {filter}"),
        ("{id}-{band}.fits", DataError, r"none of 6 images fits .*'1_g\.fits'"),
        ("{id}_*.fits", UsageError, r"'1_g\.fits' and '1_i\.fits' both fit"),
    ],
)
def test_useless_patterns(
    tmp_path: Path, pattern: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        FolderSource(as_folder(tmp_path, BANDS), pattern=pattern)


def test_bands_rename_channels(tmp_path: Path) -> None:
    files = {"a.fits": band(1, shape=(2, 4, 5)), "b.fits": band(1)}
    source = FolderSource(as_folder(tmp_path, files), bands=("J", "K"))
    assert source.read(0).bands == ("J", "K")
    with pytest.raises(BadImage, match=r"1 channel\(s\); 2 band\(s\) were named"):
        source.read(1)


def test_hdu_goes_to_every_file(tmp_path: Path) -> None:
    units = [fits.PrimaryHDU(), fits.ImageHDU(np.ones((3, 3))), fits.ImageHDU(np.zeros((5, 5)))]
    stream = io.BytesIO()
    fits.HDUList(units).writeto(stream)
    folder = as_folder(tmp_path, {"a.fits": stream.getvalue()})
    assert FolderSource(folder, hdu=(2,)).read(0).pixels.shape == (1, 5, 5)
    with pytest.raises(BadImage, match="different shape"):
        FolderSource(folder).read(0)
    (folder / "b.jpg").write_bytes(jpeg())
    with pytest.raises(UsageError, match=r"hdu picks parts of FITS files; 'b\.jpg' is none"):
        FolderSource(folder, hdu=(2,))


# --- real files ---------------------------------------------------------------------------------


@pytest.mark.real
def test_galaxy_zoo_straight_from_the_zip(data_dir: Path) -> None:
    source = FolderSource(data_dir / "gz1" / "galaxies.zip")
    catalogue = (data_dir / "gz1" / "catalogue.csv").read_text().splitlines()[1:]
    assert sorted(source.ids) == sorted(line.split(",")[0] for line in catalogue)
    assert len(source.ids) == 3380
    assert source.ignored == 0
    with ThreadPoolExecutor(4) as pool:
        for image in pool.map(source.read, range(0, 3380, 20)):
            assert image.pixels.shape == (3, 128, 128)
            assert image.pixels.dtype == np.uint8


@pytest.mark.real
def test_offset_sdss_frames_are_sent_to_the_mosaic_route(data_dir: Path) -> None:
    source = FolderSource(
        data_dir / "sdss_frames", pattern="frame-{band}-{id}.fits.bz2", bands=("g", "r")
    )
    with pytest.raises(BadImage, match="pixels apart on the sky"):
        source.read(0)


@pytest.mark.parametrize("mode", ["w", "w:gz"])
@pytest.mark.parametrize("harm", ["header", "cut"])
def test_a_tar_that_ends_early_is_refused_and_not_read_in_part(
    tmp_path: Path, mode: str, harm: str
) -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for n in range(3):
            entry = tarfile.TarInfo(f"o{n}.jpg")
            entry.size = len(content := jpeg())
            archive.addfile(entry, io.BytesIO(content))
    plain = stream.getvalue()
    second = plain.index(b"o1.jpg")
    harmed = plain[:second] + b"x" + plain[second + 1 :] if harm == "header" else plain[:second]
    path = tmp_path / ("a.tar" if mode == "w" else "a.tar.gz")
    path.write_bytes(harmed if mode == "w" else gzip.compress(harmed))
    # tarfile alone takes both for archives of one member.
    with tarfile.open(path) as archive:
        assert len(archive.getnames()) == 1
    with pytest.raises(DataError, match="is damaged"):
        FolderSource(path)


def test_members_that_unpack_to_gigabytes_are_not_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a zip says of a size is not believed, nor held where it is unlikely."""
    monkeypatch.setattr(packed, "FREE", 1 << 22)
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("short.png", bytes(20 << 20))
        with archive.open("long.png", "w") as member:
            for _ in range(20):
                member.write(bytes(1 << 20))
    content = bytearray(path.read_bytes())
    for at in (content.index(b"PK\x01\x02") + 24, content.index(b"PK\x03\x04") + 22):
        content[at : at + 4] = (10).to_bytes(4, "little")
    path.write_bytes(content)
    source = FolderSource(path)
    tracemalloc.start()
    with pytest.raises(BadImage, match="CRC"):
        source.read(list(source.ids).index("short"))
    with pytest.raises(BadImage, match="100 times its size"):
        source.read(list(source.ids).index("long"))
    assert tracemalloc.get_traced_memory()[1] < 10 << 20
    tracemalloc.stop()


def test_a_pipe_among_the_images_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.fits")
    (tmp_path / "b.fits").symlink_to("/dev/zero")
    source = FolderSource(tmp_path)
    for index in range(2):
        with pytest.raises(BadImage, match="a pipe or a device"):
            source.read(index)
