"""One image file at a time: against astropy, fitsio, pillow and opencv; damage is refused."""

from __future__ import annotations

import bz2
import gzip
import io
import math
import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import fitsio
import numpy as np
import pytest
import tifffile
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS
from astropy.wcs.utils import proj_plane_pixel_scales
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from skytwin.errors import BadImage, UnknownName, UsageError
from skytwin.images.readers import IMAGE_SUFFIXES, image_suffix, read_image
from skytwin.images.source import RawImage

RNG = np.random.default_rng(20240501)


def sky_header(frame: str = "ICRS", **extra: object) -> fits.Header:
    header = fits.Header()
    lon, lat = ("GLON-TAN", "GLAT-TAN") if frame == "GALACTIC" else ("RA---TAN", "DEC--TAN")
    header["CTYPE1"], header["CTYPE2"] = lon, lat
    header["CRPIX1"], header["CRPIX2"] = 12.0, 7.5
    header["CRVAL1"], header["CRVAL2"] = 150.1, 2.2
    header["CDELT1"], header["CDELT2"] = -0.4 / 3600, 0.4 / 3600
    if frame != "GALACTIC":
        header["RADESYS"] = frame
    header.update(extra)
    return header


def written(path: Path, pixels: np.ndarray, header: fits.Header | None = None) -> Path:
    fits.PrimaryHDU(pixels, header).writeto(path)
    return path


def astropy_place(header: fits.Header, shape: tuple[int, int]) -> tuple[float, SkyCoord]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wcs = WCS(header).celestial
        centre = wcs.pixel_to_world((shape[1] - 1) / 2, (shape[0] - 1) / 2).icrs
    return proj_plane_pixel_scales(wcs).mean() * 3600, centre


def assert_placed(image: RawImage, header: fits.Header, shape: tuple[int, int]) -> None:
    scale, centre = astropy_place(header, shape)
    assert image.pixel_scale == pytest.approx(scale, rel=1e-9)
    assert image.ra is not None
    found = SkyCoord(image.ra, image.dec, unit="deg")
    assert found.separation(centre).arcsec < 1e-6
    assert 0 <= image.ra < 360


# --- FITS: pixels -------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["u1", "i2", "i4", "i8", "f4", "f8", "u2", "u4", "u8", "i1"])
@pytest.mark.parametrize("suffix", [".fits", ".fit.gz", ".fts.bz2", ".FITS"])
def test_fits_pixels_are_those_astropy_reads(tmp_path: Path, dtype: str, suffix: str) -> None:
    pixels = RNG.integers(0, 100, (9, 14)).astype(dtype)
    path = written(tmp_path / f"a{suffix}", pixels)
    image = read_image(path)
    expected = fits.getdata(path)
    assert image.pixels.shape == (1, 9, 14)
    assert image.pixels.dtype == np.dtype(dtype)
    assert image.pixels.dtype.isnative
    np.testing.assert_array_equal(image.pixels[0], expected)
    assert image.bands is None
    assert image.pixel_scale is None
    assert image.ra is None


@pytest.mark.parametrize("dtype", ["u1", "i2", "i4", "f4", "f8"])
def test_scaled_fits_is_the_same_as_astropys(tmp_path: Path, dtype: str) -> None:
    unit = fits.PrimaryHDU(RNG.integers(0, 100, (5, 6)).astype(dtype))
    path = tmp_path / "a.fits"
    unit.writeto(path)
    content = bytearray(path.read_bytes())
    cards = [f"BSCALE  = {2.92273835509:>20}", f"BZERO   = {3713.66692596:>20}", "END"]
    at = content.index(b"END     ")
    content[at : at + 240] = b"".join(card.ljust(80).encode() for card in cards)
    path.write_bytes(content)
    image = read_image(path)
    expected = fits.getdata(path)
    assert image.pixels.dtype == expected.dtype.newbyteorder("=")
    np.testing.assert_allclose(image.pixels[0], expected, rtol=3e-7)


@pytest.mark.parametrize("dtype", ["u1", "i2", "i4"])
def test_blank_integers_become_nan(tmp_path: Path, dtype: str) -> None:
    pixels = RNG.integers(0, 100, (5, 6)).astype(dtype)
    pixels[2, 3] = 77
    path = written(tmp_path / "a.fits", pixels, fits.Header({"BLANK": 77}))
    image = read_image(path)
    assert image.pixels.dtype == (np.float64 if dtype == "i4" else np.float32)
    expected = pixels.astype(float)
    expected[pixels == 77] = np.nan
    np.testing.assert_array_equal(image.pixels[0], expected)
    # The type follows from the header alone, so that a set of images stays of one type.
    whole = written(
        tmp_path / "b.fits", pixels, fits.Header({"BLANK": 78 if dtype != "i2" else -1})
    )
    assert read_image(whole).pixels.dtype == image.pixels.dtype


@pytest.mark.parametrize("dtype", ["u1", "i2", "u2", "i4", "f4"])
@pytest.mark.parametrize("method", ["RICE", "GZIP"])
def test_tiled_fits_through_cfitsio_and_from_memory(
    tmp_path: Path, dtype: str, method: str
) -> None:
    pixels = RNG.normal(1000, 50, (40, 33)).clip(0, 255 if dtype == "u1" else 2000).astype(dtype)
    if dtype == "f4":
        pixels[3, 4] = np.nan
    path = tmp_path / "a.fits.fz"
    fitsio.write(path, pixels, compress=method, header={"BUNIT": "nJy", "FILTER": "r"})
    with fits.open(path) as units:
        expected = units[1].data
    image = read_image(path)
    assert image.pixels.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(image.pixels[0], expected)
    assert (image.bands, image.unit) == (("r",), "nJy")
    within = read_image(("in/zip/a.fits.fz", path.read_bytes()))
    np.testing.assert_array_equal(within.pixels, image.pixels)
    assert within.pixels.dtype == image.pixels.dtype
    packed = tmp_path / "b.fits.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    np.testing.assert_array_equal(read_image(packed).pixels, image.pixels)


def test_tiled_blank_and_scale(tmp_path: Path) -> None:
    raw = RNG.integers(0, 1000, (30, 31)).astype("i2")
    raw[0, 0] = -32768
    unit = fits.CompImageHDU(raw, compression_type="RICE_1")
    unit.header["BLANK"] = -32768
    path = tmp_path / "a.fits.fz"
    unit.writeto(path)
    for where in (path, ("a.fits.fz", path.read_bytes())):
        image = read_image(where)
        assert image.pixels.dtype == np.float32
        assert np.isnan(image.pixels[0, 0, 0])
        np.testing.assert_array_equal(image.pixels[0].ravel()[1:], raw.ravel()[1:])


@pytest.mark.parametrize(
    "name", ["a[1].fits", "a(2).fits.fz", "!b.fits.fz", "c+1.fits.fz", "d#x.fits.fz", "~e.fits.fz"]
)
def test_names_that_cfitsio_would_read_otherwise(tmp_path: Path, name: str) -> None:
    pixels = np.arange(600, dtype="i2").reshape(20, 30)
    plain = tmp_path / "plain.fits.fz"
    fitsio.write(plain, pixels, compress="RICE" if name.endswith("fz") else None)
    plain.rename(tmp_path / name)
    np.testing.assert_array_equal(read_image(tmp_path / name).pixels[0], pixels)


def test_fits_from_memory_is_the_file(tmp_path: Path) -> None:
    pixels = RNG.normal(size=(8, 9)).astype("f4")
    path = written(tmp_path / "a.fits", pixels, sky_header(BUNIT="nJy", FILTER="g"))
    one, other = read_image(path), read_image(("deep/a.fits", path.read_bytes()))
    np.testing.assert_array_equal(one.pixels, other.pixels)
    assert (one.bands, one.unit, one.pixel_scale, one.ra, one.dec) == (
        other.bands, other.unit, other.pixel_scale, other.ra, other.dec,
    )  # fmt: skip
    squeezed = read_image(("a.fits.bz2", bz2.compress(path.read_bytes())))
    np.testing.assert_array_equal(one.pixels, squeezed.pixels)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    shape=st.lists(st.integers(1, 7), min_size=2, max_size=5),
    dtype=st.sampled_from(["u1", "i2", "u2", "i4", "f4", "f8"]),
)
def test_axes_of_length_one_are_dropped(shape: list[int], dtype: str) -> None:
    pixels = np.arange(math.prod(shape)).reshape(shape).astype(dtype)
    stream = io.BytesIO()
    fits.PrimaryHDU(pixels).writeto(stream)
    lead = [n for n in shape[:-2] if n > 1]
    if len(lead) > 1:
        with pytest.raises(BadImage, match="axes"):
            read_image(("a.fits", stream.getvalue()))
        return
    image = read_image(("a.fits", stream.getvalue()))
    np.testing.assert_array_equal(image.pixels, pixels.reshape(-1, *shape[-2:]))
    assert image.pixels.dtype == np.dtype(dtype)


# --- FITS: place, unit, band --------------------------------------------------------------------


@pytest.mark.parametrize("frame", ["ICRS", "FK5", "GALACTIC", "FK4"])
def test_place_in_every_frame(tmp_path: Path, frame: str) -> None:
    header = sky_header(frame)
    path = written(tmp_path / "a.fits", np.zeros((30, 41), "f4"), header)
    assert_placed(read_image(path), header, (30, 41))


@pytest.mark.parametrize(
    "extra",
    [
        {"CROTA2": 33.0},
        {"EQUINOX": 1975.0, "RADESYS": "FK5"},
        {"PC1_1": 0.8, "PC1_2": -0.6, "PC2_1": 0.6, "PC2_2": 0.8},
        {"CUNIT1": "arcsec", "CUNIT2": "arcsec", "CDELT1": -0.4, "CDELT2": 0.4,
         "CRVAL1": 540360.0, "CRVAL2": 7920.0},
        {"CTYPE1": "RA---TAN-SIP", "CTYPE2": "DEC--TAN-SIP", "A_ORDER": 2, "B_ORDER": 2,
         "A_2_0": 1e-3, "B_1_1": -2e-3},
        {"CTYPE1": "RA---TPV", "CTYPE2": "DEC--TPV", "PV1_0": 0.001, "PV1_1": 1.0,
         "PV2_0": -0.002, "PV2_1": 1.0},
        {"CTYPE1": "DEC--TAN", "CTYPE2": "RA---TAN", "CRVAL1": 2.2, "CRVAL2": 150.1},
        {"CTYPE1": "ELON-TAN", "CTYPE2": "ELAT-TAN"},
        {"CRVAL1": 0.0},
    ],
    ids=["rotated", "old equinox", "pc", "arcsec", "sip", "tpv", "swapped", "ecliptic", "zero"],
)  # fmt: skip
def test_place_follows_astropy(tmp_path: Path, extra: dict[str, object]) -> None:
    header = sky_header(**extra)
    path = written(tmp_path / "a.fits", np.zeros((30, 41), "f4"), header)
    assert_placed(read_image(path), header, (30, 41))


def test_deprecated_and_odd_cards_are_read_in_silence(tmp_path: Path) -> None:
    header = sky_header()
    del header["RADESYS"]
    header["RADECSYS"], header["EPOCH"] = "FK5", 2000.0
    image = read_image(written(tmp_path / "a.fits", np.zeros((8, 9), "f4"), header))
    assert_placed(image, sky_header("FK5"), (8, 9))


def test_radio_cube_with_four_axes(tmp_path: Path) -> None:
    header = sky_header("FK5", BUNIT="  JY/BEAM ", FILTER="L")
    for axis, kind in ((3, "FREQ"), (4, "STOKES")):
        header[f"CTYPE{axis}"], header[f"CRVAL{axis}"] = kind, 1.0
        header[f"CRPIX{axis}"], header[f"CDELT{axis}"] = 1.0, 1.0
    pixels = RNG.normal(size=(1, 1, 20, 25)).astype("f4")
    image = read_image(written(tmp_path / "a.fits", pixels, header))
    np.testing.assert_array_equal(image.pixels, pixels[0])
    assert (image.unit, image.bands) == ("JY/BEAM", ("L",))
    assert_placed(image, header, (20, 25))


@pytest.mark.parametrize(
    "change",
    [
        {"CTYPE1": "RA---XXX", "CTYPE2": "DEC--XXX"},
        {"CTYPE1": "", "CTYPE2": ""},
        {"CTYPE1": "XLINEAR", "CTYPE2": "YLINEAR"},
        {"CTYPE1": "FREQ", "CTYPE2": "RA---TAN", "CTYPE3": "DEC--TAN"},
    ],
)
def test_without_a_usable_sky_there_is_no_place(tmp_path: Path, change: dict[str, str]) -> None:
    header = sky_header(**change)
    image = read_image(written(tmp_path / "a.fits", np.zeros((8, 9), "f4"), header))
    assert (image.pixel_scale, image.ra, image.dec) == (None, None, None)


def test_unknown_frame_keeps_the_scale(tmp_path: Path) -> None:
    image = read_image(written(tmp_path / "a.fits", np.ones((8, 9), "f4"), sky_header("MOON")))
    assert image.ra is None


@pytest.mark.parametrize(("keyword", "name"), [("FILTER", "g"), ("BAND", "K")])
def test_band_and_unit(tmp_path: Path, keyword: str, name: str) -> None:
    header = fits.Header({keyword: f"{name}   ", "BUNIT": "counts / s"})
    image = read_image(written(tmp_path / "a.fits", np.ones((8, 9), "f4"), header))
    assert (image.bands, image.unit) == ((name,), "counts / s")


# --- FITS: which HDU ----------------------------------------------------------------------------


def multi(
    path: Path, *planes: tuple[str, np.ndarray], primary: np.ndarray | None = None, **cards: object
) -> Path:
    units: list[object] = [fits.PrimaryHDU(primary, fits.Header(cards))]
    units += [fits.ImageHDU(pixels, name=name) for name, pixels in planes]
    units.insert(2, fits.BinTableHDU.from_columns([fits.Column("x", "E", array=np.ones(5))]))
    fits.HDUList(units).writeto(path)
    return path


G, R, SMALL = (RNG.normal(size=shape).astype("f4") for shape in ((6, 7), (6, 7), (3, 3)))


def test_primary_image_comes_before_extensions(tmp_path: Path) -> None:
    image = read_image(multi(tmp_path / "a.fits", ("SCI", SMALL), primary=G))
    np.testing.assert_array_equal(image.pixels[0], G)


def test_only_extension_takes_its_filter_from_the_primary(tmp_path: Path) -> None:
    image = read_image(multi(tmp_path / "a.fits", ("SCI", G), FILTER="F814W"))
    np.testing.assert_array_equal(image.pixels[0], G)
    assert image.bands == ("F814W",)


@pytest.mark.parametrize("suffix", [".fits", ".fits.gz", ".fits.bz2"])
def test_equal_extensions_are_bands(tmp_path: Path, suffix: str) -> None:
    image = read_image(multi(tmp_path / f"a{suffix}", ("G", G), ("R", R)))
    np.testing.assert_array_equal(image.pixels, [G, R])
    assert image.bands == ("G", "R")


def test_extensions_without_names_go_by_filter(tmp_path: Path) -> None:
    units = [fits.PrimaryHDU()]
    for name, pixels in (("g", G), ("r", R)):
        units.append(fits.ImageHDU(pixels, fits.Header({"FILTER": name})))
    fits.HDUList(units).writeto(tmp_path / "a.fits")
    assert read_image(tmp_path / "a.fits").bands == ("g", "r")
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(G), fits.ImageHDU(R)]).writeto(
        tmp_path / "b.fits"
    )
    assert read_image(tmp_path / "b.fits").bands is None


def test_unequal_extensions_must_be_picked(tmp_path: Path) -> None:
    path = multi(tmp_path / "a.fits", ("SCI", G), ("PSF", SMALL))
    with pytest.raises(BadImage, match=r"different shape \(1 SCI 6x7, 3 PSF 3x3\); pick .* hdu"):
        read_image(path)
    np.testing.assert_array_equal(read_image(path, hdu=("psf",)).pixels[0], SMALL)
    assert read_image(path, hdu=("psf",)).bands == ("PSF",)
    np.testing.assert_array_equal(read_image(path, hdu=(1,)).pixels[0], G)
    np.testing.assert_array_equal(read_image(path, hdu=("1",)).pixels[0], G)
    cube = multi(tmp_path / "b.fits", ("SCI", G), ("CUBE", RNG.normal(size=(2, 6, 7))))
    with pytest.raises(BadImage, match="not all of two axes"):
        read_image(cube)
    assert read_image(cube, hdu=("CUBE",)).pixels.shape == (2, 6, 7)


def test_picked_hdus_come_in_the_order_asked_for(tmp_path: Path) -> None:
    path = multi(tmp_path / "a.fits", ("G", G), ("R", R), primary=SMALL)
    image = read_image(path, hdu=("R", 1))
    np.testing.assert_array_equal(image.pixels, [R, G])
    assert image.bands == ("R", "G")


@pytest.mark.parametrize(
    ("hdu", "message"),
    [
        (("Z",), "no HDU 'Z'; there are: 0 PRIMARY no image, 1 SCI 6x7, 2 no image, 3 SCI 3x3"),
        ((9,), "no HDU '9'"),
        (("SCI",), "2 HDUs are named 'SCI'; pick one by number"),
        ((0,), "HDU 0 PRIMARY no image"),
        ((1, 3), "different shape"),
        ((), "names none"),
    ],
)
def test_impossible_picks(tmp_path: Path, hdu: tuple[str | int, ...], message: str) -> None:
    path = multi(tmp_path / "a.fits", ("SCI", G), ("SCI", SMALL))
    with pytest.raises(BadImage, match=message):
        read_image(path, hdu=hdu)


def test_hdu_is_for_fits_alone(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"hdu picks parts of a FITS file; 'a\.png' is none"):
        read_image(("a.png", b""), hdu=(1,))


def test_fits_without_an_image(tmp_path: Path) -> None:
    with pytest.raises(BadImage, match="no HDU holds an image"):
        read_image(multi(tmp_path / "a.fits"))
    with pytest.raises(BadImage, match="1 axes"):
        read_image(written(tmp_path / "b.fits", np.zeros(5, "f4")))


# --- JPEG, PNG ----------------------------------------------------------------------------------


def encoded(kind: str, pixels: np.ndarray, **options: object) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind, **options)
    return stream.getvalue()


COLOUR = RNG.integers(0, 256, (16, 24, 3), dtype="u1")


def test_jpeg_is_what_opencv_decodes() -> None:
    content = encoded("JPEG", COLOUR)
    image = read_image(("a.JPG", content))
    other = cv2.imdecode(np.frombuffer(content, "u1"), cv2.IMREAD_COLOR)[..., ::-1]
    np.testing.assert_array_equal(image.pixels, other.transpose(2, 0, 1))
    assert image.bands == ("red", "green", "blue")
    gray = read_image(("a.jpeg", encoded("JPEG", COLOUR[..., 0])))
    assert (gray.pixels.shape, gray.pixels.dtype, gray.bands) == ((1, 16, 24), np.uint8, ("gray",))


def test_exif_orientation_does_not_turn_pixels() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = read_image(("a.jpg", encoded("JPEG", COLOUR, exif=exif)))
    np.testing.assert_array_equal(
        turned.pixels, read_image(("a.jpg", encoded("JPEG", COLOUR))).pixels
    )


def test_cmyk_jpeg_becomes_rgb() -> None:
    stream = io.BytesIO()
    Image.fromarray(COLOUR).convert("CMYK").save(stream, "JPEG")
    assert read_image(("a.jpg", stream.getvalue())).bands == ("red", "green", "blue")


def raw_png(pixels: np.ndarray, depth: int, colour: int) -> bytes:
    """A PNG written by hand: pillow and opencv cannot write every kind."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        crc = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)

    head = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], depth, colour, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(f">u{depth // 8}").tobytes() for row in pixels)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )  # fmt: skip


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize(
    ("colour", "samples", "channels"), [(0, 1, 1), (2, 3, 3), (4, 2, 1), (6, 4, 3)]
)
def test_png_of_every_kind(depth: int, colour: int, samples: int, channels: int) -> None:
    pixels = RNG.integers(0, 2**depth, (5, 8, samples))
    image = read_image(("a.png", raw_png(pixels, depth, colour)))
    assert image.pixels.dtype == np.dtype(f"u{depth // 8}")
    np.testing.assert_array_equal(image.pixels, pixels[..., :channels].transpose(2, 0, 1))
    assert image.bands == (("gray",) if channels == 1 else ("red", "green", "blue"))


def test_png_palettes_and_single_bits() -> None:
    picture = Image.fromarray(COLOUR).quantize(16)
    for options in ({}, {"transparency": bytes(range(16))}, {"transparency": 3}):
        stream = io.BytesIO()
        picture.save(stream, "PNG", **options)
        image = read_image(("a.png", stream.getvalue()))
        np.testing.assert_array_equal(
            image.pixels, np.asarray(picture.convert("RGB")).transpose(2, 0, 1)
        )
    bits = COLOUR[..., 0] > 100
    image = read_image(("a.png", encoded("PNG", bits)))
    np.testing.assert_array_equal(image.pixels[0], bits * np.uint8(255))


# --- TIFF, NPY ----------------------------------------------------------------------------------


def tiff(pixels: np.ndarray, **options: object) -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, pixels, **options)
    return stream.getvalue()


FLOATS = RNG.normal(size=(4, 9, 11)).astype("f4")


@pytest.mark.parametrize("dtype", ["u1", "u2", "i2", "i4", "f4", "f8", ">f4"])
@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"rowsperstrip": 2}])
def test_tiff_keeps_its_type(dtype: str, options: dict[str, object]) -> None:
    pixels = (FLOATS[0] * 50).astype(dtype)
    image = read_image(("a.tif", tiff(pixels, **options)))
    np.testing.assert_array_equal(image.pixels, pixels[None])
    assert image.pixels.dtype == pixels.dtype.newbyteorder("=")
    assert image.pixels.dtype.isnative
    assert image.bands is None


def test_tiff_pages_are_bands() -> None:
    together = tiff(FLOATS, photometric="minisblack")
    stream = io.BytesIO()
    with tifffile.TiffWriter(stream) as writer:
        for page in FLOATS:
            writer.write(page)
    pillow = io.BytesIO()
    first, *rest = (Image.fromarray(page) for page in FLOATS)
    first.save(pillow, "TIFF", save_all=True, append_images=rest)
    imagej = tiff(FLOATS, imagej=True)
    for content in (together, stream.getvalue(), pillow.getvalue(), imagej):
        image = read_image(("a.tiff", content))
        np.testing.assert_array_equal(image.pixels, FLOATS)
        assert image.bands is None


def test_tiff_colour_alpha_and_palette() -> None:
    rgb = ("red", "green", "blue")
    image = read_image(("a.tif", tiff(COLOUR, photometric="rgb")))
    np.testing.assert_array_equal(image.pixels, COLOUR.transpose(2, 0, 1))
    assert image.bands == rgb
    alpha = np.dstack([COLOUR, COLOUR[..., :1]])
    for content in (
        tiff(alpha, photometric="rgb"),
        tiff(alpha.transpose(2, 0, 1), photometric="rgb", planarconfig="separate"),
    ):
        image = read_image(("a.tif", content))
        np.testing.assert_array_equal(image.pixels, COLOUR.transpose(2, 0, 1))
        assert image.bands == rgb
    gray = tiff(COLOUR[..., :2], photometric="minisblack", extrasamples=["unassalpha"])
    np.testing.assert_array_equal(read_image(("a.tif", gray)).pixels, COLOUR[None, ..., 0])
    table = RNG.integers(0, 256, (3, 256)).astype("u2") * 257
    image = read_image(("a.tif", tiff(COLOUR[..., 0], photometric="palette", colormap=table)))
    np.testing.assert_array_equal(image.pixels, (table // 257)[:, COLOUR[..., 0]])
    assert image.bands == rgb


def test_tiff_of_other_shapes_is_refused() -> None:
    stream = io.BytesIO()
    with tifffile.TiffWriter(stream) as writer:
        writer.write(FLOATS[0])
        writer.write(FLOATS[0][:4])
    with pytest.raises(BadImage, match=r"different shape \(9x11, 4x11\)"):
        read_image(("a.tif", stream.getvalue()))
    colours = np.stack([COLOUR] * 2)
    with pytest.raises(BadImage, match="axes"):
        read_image(("a.tif", tiff(colours, photometric="rgb")))
    with pytest.raises(BadImage, match="complex64"):
        read_image(("a.tif", tiff(FLOATS[0].astype("c8"))))


@settings(max_examples=60, deadline=None)
@given(
    shape=st.lists(st.integers(1, 8), min_size=2, max_size=3),
    dtype=st.sampled_from(["u1", ">u2", "<i2", ">f4", "f8", "f2", "?"]),
    fortran=st.booleans(),
)
def test_npy_round_trip(shape: list[int], dtype: str, fortran: bool) -> None:
    array = np.arange(math.prod(shape)).reshape(shape).astype(dtype)
    stream = io.BytesIO()
    np.save(stream, np.asfortranarray(array) if fortran else array)
    image = read_image(("a.npy", stream.getvalue()))
    expected = array
    if len(shape) == 3 and shape[2] <= 5 < shape[0]:
        expected = array.transpose(2, 0, 1)
    elif len(shape) == 2:
        expected = array[None]
    np.testing.assert_array_equal(image.pixels, expected)
    assert image.pixels.dtype.isnative
    assert image.pixels.flags.c_contiguous


def npy(array: np.ndarray, **options: object) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, **options)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((3, 4), complex), "complex128"),
        (np.zeros((3, 4), "S3"), r"\|S3"),
        (np.zeros((3, 4), [("a", "f4")]), "expected integers or floats"),
        (np.zeros(3), "1 axes"),
        (np.zeros((2, 3, 4, 5)), "4 axes"),
        (np.zeros((0, 4)), "no pixels"),
        (np.array([[None]]), "object"),
    ],
)
def test_npy_of_other_things(array: np.ndarray, message: str) -> None:
    with pytest.raises(BadImage, match=message):
        read_image(("a.npy", npy(array, allow_pickle=True)))


# --- what is refused ----------------------------------------------------------------------------


def samples(tmp_path: Path) -> dict[str, bytes]:
    """One small file of each format."""
    pixels = RNG.normal(size=(24, 20)).astype("f4")
    stream = io.BytesIO()
    fits.PrimaryHDU(pixels, sky_header()).writeto(stream)
    plain = stream.getvalue()
    fitsio.write(tmp_path / "x.fits.fz", (pixels * 100).astype("i2"), compress="RICE")
    deep = RNG.integers(0, 65536, (20, 20, 3)).astype("u2")
    return {
        "a.fits": plain,
        "a.fits.gz": gzip.compress(plain),
        "a.fits.bz2": bz2.compress(plain),
        "a.fits.fz": (tmp_path / "x.fits.fz").read_bytes(),
        "a.jpg": encoded("JPEG", COLOUR),
        "a.png": encoded("PNG", COLOUR),
        "b.png": cv2.imencode(".png", deep)[1].tobytes(),
        "a.tif": tiff(pixels),
        "b.tif": tiff(pixels, compression="zlib", rowsperstrip=4),
        "a.npy": npy(pixels),
    }


def image_or_reason(where: Path | tuple[str, bytes]) -> RawImage | str:
    """What reading gives; every error but BadImage is a failure."""
    try:
        return read_image(where)
    except BadImage as error:
        reason = str(error)
    assert reason
    assert "\n" not in reason
    return reason


def test_truncated_anywhere(tmp_path: Path) -> None:
    for name, content in samples(tmp_path).items():
        whole = read_image((name, content)).pixels
        refused = 0
        for length in sorted(
            {*range(0, len(content), max(1, len(content) // 40)), len(content) - 1}
        ):
            path = tmp_path / name
            path.write_bytes(content[:length])
            for where in (path, (name, content[:length])):
                image = image_or_reason(where)
                if isinstance(image, str):
                    refused += 1
                else:  # what is cut off may be padding; then nothing is missing
                    np.testing.assert_array_equal(image.pixels, whole)
        assert refused > 20, name


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_damage_is_a_bad_image_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    if not _SAMPLES:
        _SAMPLES.update(samples(tmp_path_factory.mktemp("samples")))
    name = data.draw(st.sampled_from(sorted(_SAMPLES)))
    content = bytearray(_SAMPLES[name])
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, min(len(content), 3500) - 1))
        content[at] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / name
    path.write_bytes(content)
    for where in (path, (name, bytes(content))):
        image = image_or_reason(where)
        if not isinstance(image, str):
            assert image.pixels.ndim == 3
            assert image.pixels.dtype.isnative


_SAMPLES: dict[str, bytes] = {}


@pytest.mark.parametrize("suffix", IMAGE_SUFFIXES)
def test_empty_missing_and_garbage(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    with pytest.raises(BadImage, match="^no such file$"):
        read_image(path)
    path.write_bytes(b"")
    with pytest.raises(BadImage, match="^the file is empty$"):
        read_image(path)
    for content in (b"<html>404 not found</html>" * 300, bytes(9000), b"S"):
        with pytest.raises(BadImage):
            read_image((path.name, content))
    path.unlink()
    path.mkdir()
    with pytest.raises(BadImage, match="cannot be opened: Is a directory"):
        read_image(path)


def test_damage_that_sends_libraries_into_endless_loops(tmp_path: Path) -> None:
    header = sky_header()
    content = written(tmp_path / "a.fits", np.zeros((8, 9), "f4"), header).read_bytes()
    at = content.index(b"'RA---TAN'") + 12
    assert_placed(
        read_image(("a.fits", content[:at] + b"\xff\x00" + content[at + 2 :])), header, (8, 9)
    )
    pages = bytearray(tiff(FLOATS, photometric="minisblack", metadata=None))
    first = struct.unpack("<I", pages[4:8])[0]
    after = first + 2 + 12 * struct.unpack("<H", pages[first : first + 2])[0]
    pages[after : after + 4] = struct.pack("<I", first)
    with pytest.raises(BadImage, match="lead back to themselves"):
        read_image(("a.tif", bytes(pages)))
    few = tiff(np.zeros((40, 9), "u1"), compression="zlib", rowsperstrip=4, metadata=None)
    (tmp_path / "b.tif").write_bytes(few)
    with tifffile.TiffFile(tmp_path / "b.tif", mode="r+b") as file:
        file.pages.first.tags["ImageLength"].overwrite(4_000_000)
    with pytest.raises(BadImage, match="10 of 1000000 parts"):
        read_image(tmp_path / "b.tif")


def test_gzip_checksum_is_looked_at(tmp_path: Path) -> None:
    content = samples(tmp_path)["a.fits.gz"]
    with pytest.raises(BadImage, match="CRC"):
        read_image(("a.fits.gz", content[:-8] + b"\0\0\0\0" + content[-4:]))


def test_unknown_formats_are_never_guessed(tmp_path: Path) -> None:
    (tmp_path / "a.webp").write_bytes(encoded("PNG", COLOUR))
    with pytest.raises(UnknownName, match=r"unknown image format '\.webp'.*'a\.webp'"):
        read_image(tmp_path / "a.webp")
    with pytest.raises(BadImage, match="damaged"):
        read_image(("a.jpg", encoded("PNG", COLOUR)))
    assert image_suffix("x/B.Fits.GZ") == ".fits.gz"
    assert image_suffix("x/.fits") is None
    assert image_suffix("x.gz") is None


def test_a_decompression_bomb_is_refused_before_decoding(tmp_path: Path) -> None:
    side = 20_000
    png = raw_png(np.zeros((1, 1, 1)), 8, 0).replace(
        struct.pack(">II", 1, 1), struct.pack(">II", side, side), 1
    )
    fixed = bytearray(png)
    fixed[29:33] = struct.pack(">I", zlib.crc32(bytes(fixed[12:29])))
    header = fits.Header({"SIMPLE": True, "BITPIX": 16, "NAXIS": 2, "NAXIS1": side, "NAXIS2": side})
    head = header.tostring().encode()
    array = npy(np.zeros((2, 2))).replace(b"(2, 2)", b"(20000, 20000)".ljust(6), 1)
    for name, content in (
        ("a.png", bytes(fixed)),
        ("a.fits.gz", gzip.compress(head + bytes(2880))),
        (
            "a.npy",
            array[:8] + struct.pack("<H", struct.unpack("<H", array[8:10])[0] + 8) + array[10:],
        ),
        ("a.tif", huge_tiff(tmp_path / "a.tif", side)),
    ):
        with pytest.raises(BadImage, match="20000x20000.* is more than"):
            read_image((name, content))


def huge_tiff(path: Path, side: int) -> bytes:
    tifffile.imwrite(path, np.zeros((9, 9), "u1"), metadata=None)
    for tag in ("ImageLength", "ImageWidth", "RowsPerStrip"):
        with tifffile.TiffFile(path, mode="r+b") as file:
            file.pages.first.tags[tag].overwrite(side)
    return path.read_bytes()


def test_many_threads_read_the_same(tmp_path: Path) -> None:
    kinds = samples(tmp_path)
    paths = []
    for name, content in kinds.items():
        paths.append(tmp_path / name)
        paths[-1].write_bytes(content)
    alone = {path: read_image(path) for path in paths}
    with ThreadPoolExecutor(8) as pool:
        for path, image in zip(paths * 12, pool.map(read_image, paths * 12), strict=True):
            np.testing.assert_array_equal(image.pixels, alone[path].pixels)
            assert image.ra == alone[path].ra


# --- real files ---------------------------------------------------------------------------------


@pytest.mark.real
def test_mirabest_cutouts(data_dir: Path) -> None:
    paths = sorted((data_dir / "mirabest_fits").glob("*.fits"))
    assert len(paths) == 24
    gaps = 0
    for path in paths:
        image = read_image(path)
        assert image.pixels.shape == (1, 300, 300)
        assert image.pixels.dtype == np.float32
        np.testing.assert_array_equal(image.pixels[0], fitsio.read(path))
        gaps += bool(np.isnan(image.pixels).any())
        assert image.unit == "JY/BEAM"
        assert image.pixel_scale == pytest.approx(1.8)
        place = path.name.split("_")[1]
        named = SkyCoord(float(place[:7]), float(place[7:]), unit="deg")
        # The names round both coordinates to 0.001 degrees, 3.6 arcsec.
        assert SkyCoord(image.ra, image.dec, unit="deg").separation(named).arcsec < 2.6
    assert gaps > 0


@pytest.mark.real
@pytest.mark.parametrize("band", ["g", "r", "i"])
def test_sdss_frames(data_dir: Path, band: str) -> None:
    path = data_dir / "sdss_frames" / f"frame-{band}-003918-3-0213.fits.bz2"
    image = read_image(path)
    assert image.pixels.shape == (1, 1489, 2048)
    assert (image.bands, image.unit) == ((band,), "nanomaggy")
    with fits.open(path) as units:
        np.testing.assert_array_equal(image.pixels[0], units[0].data)
        assert_placed(image, units[0].header, (1489, 2048))


@pytest.mark.real
def test_odd_headers(data_dir: Path) -> None:
    image = read_image(data_dir / "fields" / "sep_image.fits")
    expected = fitsio.read(data_dir / "fields" / "sep_image.fits")
    np.testing.assert_allclose(image.pixels[0], expected, rtol=3e-7)
    assert image.pixels.dtype == np.float32
    assert (image.pixel_scale, image.ra, image.unit) == (None, None, None)
    cube = read_image(data_dir / "fields" / "scarlet_Cut_HSC1.fits")
    assert (cube.pixels.shape, cube.bands) == ((5, 50, 50), None)
    assert cube.pixel_scale == pytest.approx(0.168)
    spitzer = read_image(data_dir / "fields" / "spitzer_example_image.fits")
    assert spitzer.pixels.shape == (1, 513, 1025)
    assert spitzer.unit == "MJy/sr"
    assert_placed(
        spitzer, fits.getheader(data_dir / "fields" / "spitzer_example_image.fits"), (513, 1025)
    )


# ---- small files of much -----------------------------------------------------------------------


def test_scales_that_overflow_are_no_warning(tmp_path: Path) -> None:
    path = tmp_path / "a.fits"
    for pixels in (RNG.normal(size=(6, 7)).astype("f4"), np.arange(42, dtype="i2").reshape(6, 7)):
        fits.writeto(path, pixels, overwrite=True)
        with path.open("r+b") as stream:
            card, end = b"BSCALE  =                1E308".ljust(80), b"END".ljust(80)
            content = stream.read().replace(end + bytes(80).replace(b"\0", b" "), card + end, 1)
            stream.seek(0)
            stream.write(content)
        assert not np.isfinite(read_image(path).pixels).all()


def test_a_hundred_thousand_hdus_are_a_short_reason() -> None:
    stream = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU()]).writeto(stream)
    content = stream.getvalue()
    with pytest.raises(BadImage, match=r"no HDU holds an image .*\(3001 in all\)") as caught:
        read_image(("a.fits", content[:2880] + content[2880:] * 3000))
    assert len(str(caught.value)) < 1000


def test_packed_images_of_gigabytes_are_refused(tmp_path: Path) -> None:
    head = fits.PrimaryHDU(np.zeros((1, 1), "f4")).header
    head["NAXIS"], head["NAXIS1"], head["NAXIS2"] = 2, 16_000, 16_000
    start = head.tostring().encode()
    (tmp_path / "a.fits.gz").write_bytes(gzip.compress(start + bytes(1 << 20)))
    (tmp_path / "a.fits.bz2").write_bytes(bz2.compress(start + bytes(1 << 20)))
    chunk = struct.pack(">IIBBBBB", 16_000, 16_000, 8, 2, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(part)) + kind + part + struct.pack(">I", zlib.crc32(kind + part))
        for kind, part in (
            (b"IHDR", chunk),
            (b"IDAT", zlib.compress(bytes(1 << 20))),
            (b"IEND", b""),
        )
    )
    (tmp_path / "a.png").write_bytes(png)
    for name in ("a.fits.gz", "a.fits.bz2", "a.png"):
        with pytest.raises(BadImage, match="100 times its size"):
            read_image(tmp_path / name)


def test_a_damaged_tile_is_found_by_its_sum(tmp_path: Path) -> None:
    """Handed to cfitsio, some such bytes end the process."""
    with fitsio.FITS(tmp_path / "a.fits.fz", "rw") as file:
        file.write(RNG.normal(size=(64, 64)).astype("f4"), compress="rice", qlevel=16)
        file[-1].write_checksum()
    assert read_image(tmp_path / "a.fits.fz").pixels.shape == (1, 64, 64)
    content = bytearray((tmp_path / "a.fits.fz").read_bytes())
    content[content.rindex(b"END     ") // 2880 * 2880 + 2880 + 100] ^= 4
    with pytest.raises(BadImage, match="DATASUM"):
        read_image(("a.fits.fz", bytes(content)))
    (tmp_path / "a.fits.fz").write_bytes(content)
    with pytest.raises(BadImage, match="DATASUM"):
        read_image(tmp_path / "a.fits.fz")


def test_groups_and_parameters_that_no_image_has() -> None:
    stream = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(RNG.normal(size=(6, 7)))]).writeto(stream)
    card = b"PCOUNT  =                    0"
    harmed = stream.getvalue().replace(card, b"PCOUNT  =        1099511627776")
    assert harmed != stream.getvalue()
    assert read_image(("a.fits", harmed)).pixels.shape == (1, 6, 7)


def test_tiff_parts_beyond_the_file_and_pages_without_end(tmp_path: Path) -> None:
    stream = io.BytesIO()
    tifffile.imwrite(stream, RNG.normal(size=(8, 9)).astype("f4"), compression="zlib")
    content = stream.getvalue()
    with tifffile.TiffFile(io.BytesIO(content)) as file:
        tags = file.pages.first.tags
        place = {code: tags[code].offset + 8 for code in (273, 279)}
    assert read_image(("a.tif", content)).pixels.shape == (1, 8, 9)

    def with_tag(data: bytes, code: int, value: int) -> bytes:
        at = place[code]
        kind = struct.pack("<HHI", code, 4, 1)
        return data[: at - 8] + kind + struct.pack("<I", value) + data[at + 4 :]

    with pytest.raises(BadImage, match="truncated: a part of 4294967295 bytes"):
        read_image(("a.tif", with_tag(content, 279, 2**32 - 1)))
    bomb = zlib.compress(bytes(1 << 26))
    moved = with_tag(with_tag(content + bomb, 273, len(content)), 279, len(bomb))
    with pytest.raises(BadImage, match="more than its 288 bytes"):
        read_image(("a.tif", moved))
    (first,) = struct.unpack("<I", content[4:8])
    (entries,) = struct.unpack("<H", content[first : first + 2])
    page = content[first : first + 2 + 12 * entries]
    at = len(content) + len(content) % 2
    chain = b"".join(page + struct.pack("<I", at + (n + 1) * (len(page) + 4)) for n in range(5000))
    with pytest.raises(BadImage, match="more than 4096 pages"):
        read_image(
            ("a.tif", content[:4] + struct.pack("<I", at) + content[8:].ljust(at - 8) + chain)
        )


@pytest.mark.parametrize("bits", [8, 16])
def test_a_png_is_held_against_its_check_sums(bits: int, capfd: pytest.CaptureFixture[str]) -> None:
    pixels = RNG.integers(0, 2**bits, (12, 13, 3)).astype(f"u{bits // 8}")
    content = cv2.imencode(".png", pixels)[1].tobytes()
    assert read_image(("a.png", content)).pixels.shape == (3, 12, 13)
    at = content.index(b"IDAT") + 4
    (length,) = struct.unpack(">I", content[at - 8 : at - 4])
    with pytest.raises(BadImage, match="the check sum of its part IDAT"):
        harmed = content[: at + length] + b"abcd" + content[at + length + 4 :]
        read_image(("a.png", harmed))
    chunk = struct.pack(">I", 0) + b"teXt" + struct.pack(">I", zlib.crc32(b"teXt"))
    with pytest.raises(BadImage, match="more than 200000 parts"):
        read_image(("a.png", content[:33] + chunk * 200_000 + content[33:]))
    assert capfd.readouterr().err == ""  # libpng prints from C
