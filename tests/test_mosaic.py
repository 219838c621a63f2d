"""Cutouts of mosaics against painted skies, plain slicing and astropy's WCS."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import sep
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.nddata import Cutout2D
from astropy.table import Table
from astropy.wcs import WCS
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from skytwin.errors import BadImage, DataError, Mismatch, UnknownName, UsageError
from skytwin.images.columns import SkyPositions
from skytwin.images.detect import DetectSettings
from skytwin.images.mosaic import MosaicSource, frame_start
from skytwin.images.planes import Sky, load_planes
from skytwin.images.source import ImageSource

SHAPE = (120, 160)
STARS = np.array([[40.3, 50.8], [100.0, 61.49], [80.51, 90.2], [120.7, 30.0]])
SIGMA = 2.0  # pixels of the reference band


def wcs(
    crpix: tuple[float, float] = (80.5, 60.5),
    scale: float = 0.4,
    turn: float = 0.0,
    mirror: bool = False,
    frame: str = "RA",
) -> WCS:
    """A tangential projection; ``turn`` in degrees, ``scale`` in arcsec per pixel."""
    result = WCS(naxis=2)
    result.wcs.ctype = ["RA---TAN", "DEC--TAN"] if frame == "RA" else ["GLON-TAN", "GLAT-TAN"]
    result.wcs.crval = [359.999, 42.0]
    result.wcs.crpix = crpix
    c, s = np.cos(np.radians(turn)), np.sin(np.radians(turn))
    east = 1.0 if mirror else -1.0
    result.wcs.cd = np.array([[east * c, s], [east * -s, c]]) * scale / 3600
    return result


def paint(
    where: WCS, sky: SkyCoord, shape: tuple[int, int] = SHAPE, sigma_arcsec: float = SIGMA * 0.4
) -> np.ndarray:
    """Gaussians of central brightness 100, 110, ... at sky positions, as this WCS shows them."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    pixels = where.pixel_to_world(x, y)
    image = np.zeros(shape)
    for k, star in enumerate(sky):
        image += (100 + 10 * k) * np.exp(
            -0.5 * (pixels.separation(star).arcsec / sigma_arcsec) ** 2
        )
    return image


def save(path: Path, pixels: np.ndarray, where: WCS | None = None, **cards: object) -> Path:
    header = where.to_header() if where is not None else fits.Header()
    header.update(cards)
    fits.PrimaryHDU(pixels, header).writeto(path)
    return path


@pytest.fixture
def stars() -> SkyCoord:
    return wcs().pixel_to_world(*STARS.T)


@pytest.fixture
def offset_bands(tmp_path: Path, stars: SkyCoord) -> list[Path]:
    """Three bands of one sky, shifted by several pixels; the second is the plain one."""
    shifts = {"g": (76.8, 69.7), "r": (80.5, 60.5), "i": (85.25, 57.0)}
    return [
        save(
            tmp_path / f"{name}.fits",
            paint(wcs(crpix), stars).astype(np.float32),
            wcs(crpix),
            FILTER=name,
            BUNIT="nanomaggy",
        )
        for name, crpix in shifts.items()
    ]


def positions(folder: Path, file: str = "stars.csv", **columns: Sequence[object]) -> Path:
    Table({key: list(values) for key, values in columns.items()}).write(
        folder / file, format="ascii.csv", overwrite=True
    )
    return folder / file


def centroid(plane: np.ndarray, guess: np.ndarray) -> np.ndarray:
    data = np.ascontiguousarray(np.nan_to_num(plane), dtype=np.float64)
    x, y, _ = sep.winpos(data, [guess[0]], [guess[1]], [SIGMA])
    return np.array([x[0], y[0]])


def reads(source: MosaicSource, index: int) -> str:
    with pytest.raises(BadImage) as caught:
        source.read(index)
    return str(caught.value)


# --- the frame ----------------------------------------------------------------------------


@given(st.floats(-1e6, 1e6), st.integers(1, 200))
def test_the_nearest_pixel_is_the_middle_one(x: float, size: int) -> None:
    middle = int(frame_start(np.array(x), size)) + size // 2
    assert -0.5 <= x - middle <= 0.5


@pytest.mark.parametrize("size", [9, 10])
def test_frames_are_slices_of_the_mosaic(tmp_path: Path, size: int) -> None:
    pixels = np.arange(50 * 60, dtype=np.int16).reshape(50, 60)
    path = save(tmp_path / "m.fits", pixels)
    table = positions(tmp_path, x=[20.0, 30.4, 30.5], y=[11.0, 25.6, 25.49])
    source: ImageSource = MosaicSource([path], positions=[table], size=size)
    for index, (x, y) in enumerate([(20, 11), (30, 26), (31, 25)]):
        image = source.read(index)
        assert image.pixels.dtype == np.dtype("int16")
        assert image.pixels.dtype.isnative
        assert image.pixels[0, size // 2, size // 2] == pixels[y, x]
        half = size // 2
        cut = pixels[y - half : y - half + size, x - half : x - half + size]
        assert np.array_equal(image.pixels[0], cut)
        if size % 2:
            assert np.array_equal(image.pixels[0], Cutout2D(pixels, (x, y), size).data)
    assert source.ids == ("stars-00001", "stars-00002", "stars-00003")
    assert source.origins[1] == "m.fits[x=30.4, y=25.6]"
    assert (image.ra, image.dec, image.pixel_scale, image.unit) == (None,) * 4
    assert image.bands == ("m",)


# --- bands --------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["sky", "pixels"])
def test_bands_are_cut_at_the_same_place_on_the_sky(
    tmp_path: Path, offset_bands: list[Path], stars: SkyCoord, by: str
) -> None:
    if by == "sky":
        table = positions(tmp_path, RA=stars.ra.deg, DEC=stars.dec.deg)
    else:
        table = positions(tmp_path, x=STARS[:, 0], y=STARS[:, 1])
    source = MosaicSource(offset_bands, positions=[table], size=30, position_band="r")
    assert source.table is not None
    assert np.allclose(source.table["x"].to_numpy(), STARS[:, 0], atol=1e-6)
    assert np.allclose(source.table["ra"].to_numpy(), stars.ra.deg, atol=1e-10)
    for index, star in enumerate(stars):
        image = source.read(index)
        assert image.bands == ("g", "r", "i")
        assert image.unit == "nanomaggy"
        assert image.pixel_scale == pytest.approx(0.4)
        assert image.ra == pytest.approx(star.ra.deg, abs=1e-9)
        assert image.dec == pytest.approx(star.dec.deg, abs=1e-9)
        expected = source.positions_in_cutout(index)
        assert np.abs(expected - 15).max() <= 0.5
        for band, plane in enumerate(image.pixels):
            assert np.abs(centroid(plane, expected[band]) - expected[band]).max() < 0.05
    # The same frame of every band, pixel by pixel, would not have shown the stars so.
    planes = load_planes(offset_bands)
    naive = [
        centroid(p.pixels, STARS[0] + shift)
        for p, shift in zip(planes, ([-3.7, 9.2], [0, 0], [4.75, -3.5]), strict=True)
    ]
    assert np.abs(naive[0] - naive[1]).max() > 8


def test_recipe_and_table(tmp_path: Path, offset_bands: list[Path], stars: SkyCoord) -> None:
    table = positions(
        tmp_path,
        name_=["a"] * 4,
        RA=stars.ra.deg,
        DEC=stars.dec.deg,
        id=[64, 63, 62, 61],
        x=[50] * 4,
    )
    source = MosaicSource(offset_bands, positions=[table], size=30, position_band="i")
    assert source.ids == ("64", "63", "62", "61")
    assert source.table is not None
    # The table's own x is not the pixel, and its id is the image's.
    assert source.table.column_names == ["x", "y", "ra", "dec", "name_", "x_given"]
    assert source.table.schema.field("ra").metadata[b"unit"] == b"deg"
    recipe = json.loads(json.dumps(source.recipe))
    assert recipe["positions"] == ["stars.csv: sky: RA, DEC"]
    assert recipe["reference_band"] == "i"
    assert recipe["resampled_bands"] == []
    named = MosaicSource(
        offset_bands, positions=[table], size=30, bands=("u", "v", "w"), x_column="x", y_column="id"
    )
    assert named.bands == ("u", "v", "w")
    assert named.recipe["positions"] == ["stars.csv: pixels from 0: x, id"]
    assert named.table is not None
    assert named.table["y"].to_pylist() == [64, 63, 62, 61]
    assert "RA_given" in named.table.column_names


@pytest.mark.parametrize(
    ("scale", "turn", "mirror"),
    [(0.4, 30.0, False), (0.9, 0.0, False), (0.16, 200.0, False), (0.4, 0.0, True)],
)
def test_bands_on_other_grids_are_interpolated(
    tmp_path: Path, stars: SkyCoord, scale: float, turn: float, mirror: bool
) -> None:
    other = wcs((150.5, 140.5), scale, turn, mirror)
    paths = [
        save(tmp_path / "a.fits", paint(wcs(), stars, sigma_arcsec=1.6), wcs()),
        save(tmp_path / "b.fits", paint(other, stars, (280, 300), sigma_arcsec=1.6), other),
    ]
    rows = [0, 1, 2]
    table = positions(tmp_path, ra=stars.ra.deg[rows], dec=stars.dec.deg[rows])
    source = MosaicSource(paths, positions=[table], size=24)
    assert source.recipe["resampled_bands"] == ["b"]
    for index in rows:
        a, b = source.read(index).pixels
        good = np.isfinite(b)
        assert good[6:19, 6:19].all()
        # Bilinear interpolation lowers a peak by at most 1/4 of its curvature per pixel squared.
        limit = 0.03 + 0.3 * (max(scale, 0.4) / 1.6) ** 2
        assert np.abs(a - b)[good].max() < limit * a.max()
        assert np.abs(centroid(b, np.array([12, 12])) - centroid(a, np.array([12, 12]))).max() < 0.1
        assert np.array_equal(*source.positions_in_cutout(index))


def test_interpolation_is_exact_on_a_slope(tmp_path: Path) -> None:
    # A plane survives bilinear interpolation, area averages and rotation; gaps stay gaps.
    other = wcs((200.5, 200.5), 0.15, 77.0)
    y, x = np.mgrid[:400, :400]
    sky = other.pixel_to_world(x, y)
    slope = (sky.dec.deg - 42) * 1e5
    slope[190:193, 190:193] = np.nan
    paths = [
        save(tmp_path / "a.fits", np.zeros(SHAPE, np.float32), wcs()),
        save(tmp_path / "b.fits", slope.astype(np.float32), other),
    ]
    table = positions(tmp_path, x=[80.0], y=[60.0])
    source = MosaicSource(paths, positions=[table], size=20)
    image = source.read(0)
    assert image.pixels.dtype == np.float32
    yy, xx = np.mgrid[:20, :20]
    truth = (wcs().pixel_to_world(xx + 70, yy + 50).dec.deg - 42) * 1e5
    good = np.isfinite(image.pixels[1])
    assert 1 <= (~good).sum() <= 16
    assert np.abs(image.pixels[1] - truth)[good].max() < 0.02 * np.ptp(truth)
    assert np.abs(image.pixels[1] - truth)[good].max() < 0.05


def test_bands_that_do_not_go_together(tmp_path: Path) -> None:
    zeros = np.zeros(SHAPE, np.float32)
    table = positions(tmp_path, x=[80.0], y=[60.0])

    def source(*paths: Path, **more: object) -> MosaicSource:
        return MosaicSource(paths, positions=[table], size=10, **more)  # type: ignore[arg-type]

    a = save(tmp_path / "a.fits", zeros, wcs(), BUNIT="Jy")
    bare = save(tmp_path / "bare.fits", zeros)
    small = save(tmp_path / "small.fits", zeros[:50])
    with pytest.raises(Mismatch, match="a in Jy, b in mJy"):
        source(a, save(tmp_path / "b.fits", zeros, wcs(), BUNIT="mJy"))
    with pytest.raises(Mismatch, match=r"bare \(bare.fits\) has no celestial WCS"):
        source(a, bare)
    with pytest.raises(Mismatch, match="bare is 120 x 160, small 50 x 160 pixels"):
        source(bare, small)
    away = wcs()
    away.wcs.crval = [180.0, -42.0]
    with pytest.raises(Mismatch, match="different parts of the sky"):
        source(a, save(tmp_path / "away.fits", zeros, away))
    with pytest.raises(UsageError, match="band 'bare' comes twice"):
        source(bare, bare)
    with pytest.raises(UsageError, match="3 band name"):
        source(a, bands=("x", "y", "z"))
    with pytest.raises(UnknownName, match="unknown band 'q'"):
        source(a, position_band="q")
    # One band's silence on its unit leaves the unit open.
    silent = save(tmp_path / "silent.fits", zeros, wcs())
    assert source(a, silent).read(0).unit is None


# --- edges --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stored", "padded"), [("u1", "f4"), (">i2", "f4"), (">i4", "f8"), (">f4", "f4"), (">f8", "f8")]
)
def test_frames_over_the_edge(tmp_path: Path, stored: str, padded: str) -> None:
    pixels = (np.arange(40 * 40) % 251).reshape(40, 40).astype(stored)
    path = save(tmp_path / "m.fits", pixels)
    table = positions(
        tmp_path,
        x=[20, 2, 0, -30, 45, "nan", 0],
        y=[20, 20, 0, 20, 20, 3, 20],
    )
    source = MosaicSource([path], positions=[table], size=10)
    assert source.dtype == np.dtype(padded)
    inner, edge = source.read(0).pixels[0], source.read(1).pixels[0]
    assert inner.dtype == edge.dtype == np.dtype(padded)
    assert np.array_equal(inner, pixels[15:25, 15:25])
    assert np.isnan(edge[:, :3]).all()
    assert np.array_equal(edge[:, 3:], pixels[15:25, 0:7])
    assert reads(source, 2) == "75% of the frame lies outside the mosaic (band m)"
    assert reads(source, 3) == "position outside the mosaic (band m)"
    assert reads(source, 4) == "position outside the mosaic (band m)"
    assert "no position" in reads(source, 5)
    assert np.isfinite(source.read(6).pixels).mean() == 0.5
    inside = MosaicSource([path], positions=[positions(tmp_path, x=[20], y=[20])], size=10)
    assert inside.dtype == np.dtype(stored).newbyteorder("=")


def test_one_band_off_its_edge_is_enough(tmp_path: Path, offset_bands: list[Path]) -> None:
    table = positions(tmp_path, x=[80, 80], y=[60, 117])
    source = MosaicSource(offset_bands, positions=[table], size=10, position_band="r")
    assert source.read(0).pixels.shape == (3, 10, 10)
    assert reads(source, 1).endswith("(band g)")


def test_no_position_on_the_mosaic(tmp_path: Path, offset_bands: list[Path]) -> None:
    table = positions(tmp_path, ra=[10.0, 180.0], dec=[42.0, -42.0])
    with pytest.raises(DataError, match="none of 2 positions lies on the mosaic of 160 x 120"):
        MosaicSource(offset_bands, positions=[table], size=10)


# --- tables of positions ------------------------------------------------------------------


def test_several_tables(tmp_path: Path, offset_bands: list[Path]) -> None:
    (tmp_path / "galaxies.csv").write_text("40.3,50.8\n100,61.49\n")
    (tmp_path / "stars.csv").write_text("80.51,90.2\n")
    tables = [tmp_path / "galaxies.csv", tmp_path / "stars.csv"]
    source = MosaicSource(offset_bands, positions=tables, size=20, position_band="r")
    assert source.ids == ("galaxies-00001", "galaxies-00002", "stars-00001")
    assert source.table is not None
    assert source.table.column_names == ["x", "y", "ra", "dec", "source_table"]
    assert source.table["source_table"].to_pylist() == ["galaxies", "galaxies", "stars"]
    assert np.allclose(source.table["x"].to_numpy(), STARS[:3, 0])
    with pytest.raises(DataError, match="'galaxies-00001' occurs more than once"):
        MosaicSource(offset_bands, positions=[tables[0], tables[0]], size=20)
    (tmp_path / "text.csv").write_text("x,y,z\n1,2,high\n")
    numbers = positions(tmp_path, "n.csv", x=[50.0], y=[50.0], z=[0.5])
    with pytest.raises(DataError, match="do not go together"):
        MosaicSource(offset_bands, positions=[numbers, tmp_path / "text.csv"], size=20)


def test_identifiers(tmp_path: Path, offset_bands: list[Path]) -> None:
    def ids(**more: object) -> Sequence[str]:
        table = positions(
            tmp_path, x=[50, 60], y=[50, 60], name=["M31", "M31"], tag=["p", "q"], gap=["s", ""]
        )
        return MosaicSource(offset_bands, positions=[table], size=20, **more).ids  # type: ignore[arg-type]

    assert ids() == ("stars-00001", "stars-00002")
    assert ids(id_column="tag") == ("p", "q")
    with pytest.raises(DataError, match="'M31' occurs more than once"):
        ids(id_column="name")
    with pytest.raises(DataError, match="row 2 of stars.csv has no id in the column 'gap'"):
        ids(id_column="gap")
    with pytest.raises(UnknownName):
        ids(id_column="nme")


def test_pixels_that_count_from_one(tmp_path: Path, offset_bands: list[Path]) -> None:
    table = positions(tmp_path, X_IMAGE=[41.0], Y_IMAGE=[51.0])

    def xy(**more: object) -> list[float]:
        made = MosaicSource(offset_bands, positions=[table], size=20, **more)  # type: ignore[arg-type]
        assert made.table is not None
        return [made.table["x"][0].as_py(), made.table["y"][0].as_py()]

    assert xy() == [40.0, 50.0]
    assert xy(pixel_origin=0) == [41.0, 51.0]
    assert xy(x_column="x_image", y_column="y_image") == [40.0, 50.0]
    with pytest.raises(UsageError, match="pixel origin 2"):
        xy(pixel_origin=2)


def test_positions_that_cannot_be_used(tmp_path: Path, offset_bands: list[Path]) -> None:
    bare = save(tmp_path / "bare.fits", np.zeros(SHAPE, np.float32))
    sky = positions(tmp_path, "sky.csv", ra=[0.0], dec=[42.0])
    both = positions(tmp_path, "both.csv", ra=[0.0], dec=[42.0], x=[50], y=[50])
    none = positions(tmp_path, "none.csv", p=[0.0], q=[42.0])
    with pytest.raises(DataError, match="bare.fits has no celestial WCS to place them"):
        MosaicSource([bare], positions=[sky], size=10)
    with pytest.raises(UsageError, match="asked for, but bare.fits has no celestial WCS"):
        MosaicSource([bare], positions=[both], size=10, ra_column="ra", dec_column="dec")
    with pytest.raises(UsageError, match="no position among the columns of none.csv"):
        MosaicSource([bare], positions=[none], size=10)
    with pytest.raises(UsageError, match="give one pair"):
        MosaicSource(
            [bare], positions=[both], size=10, ra_column="ra", dec_column="dec", x_column="x"
        )
    for wrong in ({}, {"positions": [both], "detect": DetectSettings()}):
        with pytest.raises(UsageError, match="either a table of positions or detection"):
            MosaicSource([bare], size=10, **wrong)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="size 0"):
        MosaicSource([bare], positions=[both], size=0)
    # Without a WCS the pixels count, and the table's sky positions go along.
    image = MosaicSource([bare], positions=[both], size=10).read(0)
    assert (image.ra, image.dec) == (0.0, 42.0)


# --- files --------------------------------------------------------------------------------


def test_packed_mosaics_hold_the_same(tmp_path: Path) -> None:
    pixels = np.random.default_rng(5).normal(100, 9, SHAPE).astype(np.float32)
    pixels[7, 9] = np.nan
    counts = np.rint(np.nan_to_num(pixels)).astype(np.int16)
    table = positions(tmp_path, x=[15.0], y=[15.0])
    for stored in (pixels, counts, counts.astype(np.uint16)):
        folder = tmp_path / stored.dtype.name
        folder.mkdir()
        plain = save(folder / "m.fits", stored, wcs(), BUNIT="count")
        for ending in (".fits.gz", ".fits.bz2"):
            save(folder / f"m{ending}", stored, wcs(), BUNIT="count")
        tiles = "GZIP_1" if stored.dtype.kind == "f" else "RICE_1"
        for name in ("m.fits.fz", "odd[1].fits.fz"):
            tiled = fits.CompImageHDU(
                stored, wcs().to_header(), compression_type=tiles, quantize_level=0
            )
            tiled.header["BUNIT"] = "count"
            fits.HDUList([fits.PrimaryHDU(), tiled]).writeto(folder / name)
        truth = MosaicSource([plain], positions=[table], size=20).read(0)
        assert truth.pixels.dtype == stored.dtype
        for path in sorted(folder.glob("*")):
            source = MosaicSource([path], positions=[table], size=20)
            got = source.read(0)
            assert got.pixels.dtype == stored.dtype, path
            assert np.array_equal(got.pixels, truth.pixels, equal_nan=stored.dtype.kind == "f")
            assert (got.unit, got.pixel_scale) == (truth.unit, truth.pixel_scale)


def test_blank_integers_are_nan(tmp_path: Path) -> None:
    counts = np.arange(SHAPE[0] * SHAPE[1], dtype=np.int16).reshape(SHAPE)
    path = save(tmp_path / "m.fits", counts, BLANK=int(counts[20, 20]))
    table = positions(tmp_path, x=[20.0], y=[20.0])
    image = MosaicSource([path], positions=[table], size=9).read(0)
    assert np.argwhere(np.isnan(image.pixels[0])).tolist() == [[4, 4]]


def test_cubes_and_extensions(tmp_path: Path) -> None:
    cube = np.arange(3 * 120 * 160, dtype=np.float32).reshape(1, 3, 120, 160)
    table = positions(tmp_path, x=[15.0], y=[15.0])
    path = save(tmp_path / "cube.fits", cube)
    source = MosaicSource([path], positions=[table], size=9)
    assert source.bands == ("band1", "band2", "band3")
    assert np.array_equal(source.read(0).pixels, cube[0, :, 11:20, 11:20])
    many = fits.HDUList(
        [
            fits.PrimaryHDU(),
            *(fits.ImageHDU(plane, name=n) for n, plane in zip("URZ", cube[0], strict=True)),
        ]
    )
    many.writeto(tmp_path / "many.fits")

    def bands(hdu: object) -> tuple[tuple[str, ...], float]:
        made = MosaicSource([tmp_path / "many.fits"], positions=[table], size=9, hdu=hdu)  # type: ignore[arg-type]
        return made.bands, float(made.read(0).pixels[0, 0, 0])

    first = cube[0, :, 11, 11].tolist()
    assert bands(None) == (("many",), first[0])
    assert bands("z") == (("many",), first[2])
    assert bands(["Z", 1]) == (("Z", "U"), first[2])
    assert bands("2") == (("many",), first[1])
    with pytest.raises(UnknownName, match="unknown image extension 'Q'"):
        bands("Q")
    path = save(tmp_path / "hyper.fits", np.zeros((2, 2, 8, 8)))
    with pytest.raises(DataError, match="2 x 2 x 8 x 8"):
        MosaicSource([path], positions=[table], size=9)


def test_colour_pictures(tmp_path: Path) -> None:
    pixels = np.random.default_rng(2).integers(0, 255, (60, 80, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "sky.png")
    table = positions(tmp_path, x=[30.0], y=[20.0])
    source = MosaicSource([tmp_path / "sky.png"], positions=[table], size=11)
    image = source.read(0)
    assert image.bands == ("red", "green", "blue")
    assert image.pixels.dtype == np.uint8
    assert np.array_equal(image.pixels, pixels[15:26, 25:36].transpose(2, 0, 1))
    for name in ("one", "two"):
        Image.fromarray(pixels[..., 0]).save(tmp_path / f"{name}.png")
    gray = MosaicSource([tmp_path / "one.png", tmp_path / "two.png"], positions=[table], size=11)
    assert gray.bands == ("one", "two")


def test_files_that_are_no_mosaic(tmp_path: Path) -> None:
    table = positions(tmp_path, x=[15.0], y=[15.0])
    (tmp_path / "t.fits").write_bytes(b"no fits at all")
    (tmp_path / "t.png").write_bytes(b"no picture at all")
    Table({"a": [1]}).write(tmp_path / "table.fits")
    save(tmp_path / "cut.fits", np.zeros(SHAPE))
    content = (tmp_path / "cut.fits").read_bytes()
    (tmp_path / "cut.fits").write_bytes(content[:20000])
    for name, says in (
        ("t.fits", "cannot read the mosaic"),
        ("t.png", "cannot read the mosaic"),
        ("table.fits", "holds no image"),
        ("cut.fits", "cannot read the mosaic"),
    ):
        with pytest.raises(DataError, match=says) as caught:
            MosaicSource([tmp_path / name], positions=[table], size=9)
        assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match="no file"):
        MosaicSource([tmp_path / "none.fits"], positions=[table], size=9)
    with pytest.raises(UsageError, match="no mosaic"):
        MosaicSource([], positions=[table], size=9)


# --- the sky ------------------------------------------------------------------------------


def sip() -> WCS:
    header = wcs().to_header()
    header.update({"CTYPE1": "RA---TAN-SIP", "CTYPE2": "DEC--TAN-SIP", "A_ORDER": 2, "B_ORDER": 2})
    header.update({"A_2_0": 2e-4, "B_0_2": -1e-4, "A_0_2": 5e-5})
    return WCS(header)


@pytest.mark.parametrize("make", [wcs, lambda: wcs(frame="GLON"), sip], ids=["tan", "gal", "sip"])
def test_pixels_and_sky_are_astropys(make: Callable[[], WCS]) -> None:
    where = make()
    sky = Sky(where, SHAPE)
    xy = np.random.default_rng(4).uniform(0, 120, (50, 2))
    xy[3] = np.nan
    truth = where.pixel_to_world(*np.delete(xy, 3, axis=0).T).icrs
    got = sky.to_sky(xy)
    assert np.isnan([got.ra[3], got.dec[3]]).all()
    known = SkyCoord(got.ra[got.known], got.dec[got.known], unit="deg")
    assert known.separation(truth).arcsec.max() < 1e-6
    assert np.allclose(sky.to_pixels(got), xy, atol=1e-5, equal_nan=True)
    assert sky.pixel_scale == pytest.approx(0.4)


def test_the_far_side_of_the_sky_is_on_no_image() -> None:
    for where in (wcs(), sip()):
        sky = Sky(where, SHAPE)
        far = SkyPositions(
            ra=np.array([179.999, 90.0, 359.999, np.nan]), dec=np.array([-42.0, 0.0, -42.0, 1.0])
        )
        xy = sky.to_pixels(far)
        inside = (xy > -0.5) & (xy < np.array(SHAPE[::-1]) - 0.5)
        assert not inside.all(axis=1).any()


def test_pixels_that_are_not_square_have_no_one_scale() -> None:
    where = wcs()
    where.wcs.cd = np.diag([-1e-4, 2e-4])
    assert Sky(where, SHAPE).pixel_scale is None


# --- detection, threads -------------------------------------------------------------------


def test_detection_adds_up_the_aligned_bands(tmp_path: Path, stars: SkyCoord) -> None:
    rng = np.random.default_rng(8)
    paths = []
    for name, crpix in (("g", (76.5, 69.5)), ("r", (80.5, 60.5)), ("i", (85.5, 57.5))):
        noise = rng.normal(0, 12, SHAPE)
        paths.append(save(tmp_path / f"{name}.fits", paint(wcs(crpix), stars) + noise, wcs(crpix)))
    chosen = DetectSettings(threshold_sigma=4, min_area=8)
    source = MosaicSource(paths, detect=chosen, size=20, position_band="r")
    assert source.table is not None
    assert source.ids == ("r-00001", "r-00002", "r-00003", "r-00004")
    found = np.stack([source.table[c].to_numpy() for c in ("x", "y")], axis=1)
    distance = np.linalg.norm(STARS[:, None] - found[None], axis=2)
    assert distance.min(axis=1).max() < 1.0
    assert source.table.column_names[:5] == ["x", "y", "ra", "dec", "flux"]
    truth = wcs().pixel_to_world(*found.T)
    assert np.allclose(source.table["ra"].to_numpy(), truth.ra.deg)
    assert source.recipe["detect"]["threshold_sigma"] == 4
    again = MosaicSource(paths, detect=chosen, size=20, position_band="r")
    assert again.table == source.table


def test_reading_in_threads_is_reading_in_order(tmp_path: Path, stars: SkyCoord) -> None:
    other = wcs((140.5, 150.5), 0.3, 20.0)
    paths = [
        save(tmp_path / "a.fits", paint(wcs(), stars).astype(">f4"), wcs()),
        save(tmp_path / "b.fits", paint(other, stars, (300, 300)), other),
    ]
    rng = np.random.default_rng(0)
    table = positions(tmp_path, x=rng.uniform(20, 140, 60), y=rng.uniform(20, 100, 60))
    source = MosaicSource(paths, positions=[table], size=16)
    truth = [source.read(i).pixels for i in range(60)]
    together = threading.Barrier(8)

    def all_of_them(_: int) -> list[np.ndarray]:
        together.wait()
        return [source.read(i).pixels for i in range(60)]

    with ThreadPoolExecutor(8) as pool:
        for got in pool.map(all_of_them, range(8)):
            assert all(
                np.array_equal(a, b, equal_nan=True) for a, b in zip(got, truth, strict=True)
            )


# --- real -------------------------------------------------------------------------------


@pytest.mark.real
def test_sdss_frames_become_colour_cutouts(data_dir: Path) -> None:
    folder = data_dir / "sdss_frames"
    paths = [folder / f"frame-{band}-003918-3-0213.fits.bz2" for band in "gri"]
    tables = [folder / "galaxies.csv", folder / "stars.csv"]
    source = MosaicSource(paths, positions=tables, size=64, position_band="r")
    assert source.bands == ("g", "r", "i")
    images = {}
    for index in range(len(source)):
        try:
            images[index] = source.read(index)
        except BadImage as error:
            assert "outside the mosaic" in str(error)  # noqa: PT017
    assert len(images) > 600
    assert source.table is not None
    own, apart, naive = [], [], []
    frames = [plane.pixels for plane in load_planes(paths)]
    for index, image in images.items():
        assert image.unit == "nanomaggy"
        assert image.pixel_scale == pytest.approx(0.396, rel=1e-3)
        expected = source.positions_in_cutout(index)
        assert np.abs(expected - 32).max() <= 0.5
        x, y = source.table["x"][index].as_py(), source.table["y"][index].as_py()
        star = source.table["source_table"][index].as_py() == "stars"
        peaks = [np.nanmax(plane[28:37, 28:37]) for plane in image.pixels]
        if not star or min(peaks) < 1 or not (40 < x < 2000 and 40 < y < 1440):
            continue
        at = np.stack([centroid(p, e) for p, e in zip(image.pixels, expected, strict=True)])
        own.append(at - expected)
        apart.append(at - at[1])
        same = []
        for frame in frames:
            near = frame[int(y) - 16 : int(y) + 17, int(x) - 16 : int(x) + 17].astype(float)
            top = np.array(np.unravel_index(near.argmax(), near.shape))[::-1]
            same.append(centroid(near, top))
        naive.append(np.array(same) - same[1])
    assert len(own) > 30
    # The catalogue's position in every band, within a pixel; and the bands with each other.
    assert np.abs(np.median(own, axis=0)).max() < 0.1
    assert np.percentile(np.abs(own), 95) < 0.5
    assert np.abs(np.median(apart, axis=0)).max() < 1.0
    assert np.percentile(np.abs(apart), 95) < 1.0
    # Cut at the same pixels, the bands would have been this far apart.
    assert np.abs(np.median(naive, axis=0)).max() > 5
