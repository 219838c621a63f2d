"""Pictures of images, against astropy.visualization and plain NumPy."""

from __future__ import annotations

import base64
import io
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from astropy import visualization
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from skytwin.errors import Mismatch, SkytwinError, UnknownName, UsageError
from skytwin.images.cutouts import Cutouts
from skytwin.images.display import (
    NO_DATA,
    Display,
    contact_sheet_html,
    contact_sheet_png,
    guess_origin,
    parse_display,
    png_bytes,
    to_rgb,
)
from skytwin.images.filters import colour_channels, wavelength_nm
from skytwin.images.folder import FolderSource
from skytwin.images.ingest import ingest_source
from toys import MemorySource, blob, raw

RGB = ("red", "green", "blue")


def sky(seed: int, *, peak: float, level: float = 100.0, noise: float = 3.0, size: int = 64):
    """A round source in the middle of a noisy sky, (size, size)."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] - size / 2
    source = peak * np.exp(-(x**2 + y**2) / (2 * 2.5**2))
    return (level + source + noise * rng.standard_normal((size, size))).astype(np.float32)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_pictures_are_shown_as_they_are(dtype: type) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (4, 3, 9, 7)).astype(dtype)
    expected = picture.transpose(0, 2, 3, 1).astype(np.uint8)
    np.testing.assert_array_equal(to_rgb(picture, RGB), expected)
    np.testing.assert_array_equal(to_rgb(picture, RGB, origin="lower"), expected[:, ::-1])


def test_pictures_between_0_and_1_and_grey_ones_are_shown_as_they_are() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (2, 3, 5, 5))
    np.testing.assert_array_equal(
        to_rgb(picture / 255, RGB), picture.transpose(0, 2, 3, 1).astype(np.uint8)
    )
    grey = picture[:, :1].astype(np.uint8)
    np.testing.assert_array_equal(to_rgb(grey, ("gray",)), np.repeat(grey[:, 0, ..., None], 3, -1))


@pytest.mark.parametrize(
    ("display", "interval", "stretch"),
    [
        (
            Display(interval="clip", low=5, high=98, a=0.05),
            visualization.AsymmetricPercentileInterval(5, 98),
            visualization.AsinhStretch(0.05),
        ),
        (
            Display(interval="minmax", function="log", a=500),
            visualization.MinMaxInterval(),
            visualization.LogStretch(500),
        ),
        (
            Display(interval="minmax", function="sqrt"),
            visualization.MinMaxInterval(),
            visualization.SqrtStretch(),
        ),
        (
            Display(interval="range", low=95, high=140, function="linear"),
            visualization.ManualInterval(95, 140),
            visualization.LinearStretch(),
        ),
    ],
)
def test_one_band_is_as_astropy_stretches_it(
    display: Display, interval: object, stretch: object
) -> None:
    image = sky(1, peak=80)
    expected = (stretch + interval)(image) * 255  # type: ignore[operator]
    shown = to_rgb(image[None, None], ("r",), display)[0]
    assert np.abs(shown[..., 0] - expected).max() <= 0.51
    assert (shown == shown[..., :1]).all()
    inverted = to_rgb(image[None, None], ("r",), Display(**{**vars(display), "invert": True}))[0]
    assert np.abs(shown.astype(int) + inverted - 255).max() <= 1


def test_colours_are_those_of_lupton() -> None:
    rng = np.random.default_rng(2)
    flux = rng.uniform(0, 300, (1, 3, 6, 6)).astype(np.float32)
    shown = to_rgb(flux, ("i", "r", "g"), Display(interval="range", low=0, high=100, a=0.2))[0]
    mean = flux[0].mean(axis=0) / 100
    scale = np.arcsinh(np.minimum(mean, 1) / 0.2) / np.arcsinh(1 / 0.2) / mean
    expected = flux[0] / 100 * scale
    expected /= np.maximum(expected.max(axis=0), 1)
    assert np.abs(shown.transpose(2, 0, 1) - 255 * expected).max() <= 0.51
    # Saturated as it is, a pixel has the colour of its fluxes.
    ratio = flux[0, 0] / flux[0, 1]
    good = shown[..., 1] > 100
    np.testing.assert_allclose(shown[good, 0] / shown[good, 1], ratio[good], rtol=0.02)


@pytest.mark.parametrize("peak", [10.0, 100.0, 1e5])
def test_the_automatic_sky_is_dark_and_the_source_is_not(peak: float) -> None:
    shown = to_rgb(sky(3, peak=peak)[None, None], ("r",))[0, ..., 0]
    border = np.concatenate([shown[:6].ravel(), shown[-6:].ravel()])
    assert np.median(border) < 30
    assert shown[31:34, 31:34].mean() > np.median(border) + 40
    # Noise alone is never blown up to white.
    assert to_rgb(sky(3, peak=0)[None, None], ("r",))[0].max() < 130


def test_a_source_that_fills_the_frame_is_not_taken_for_sky() -> None:
    image = sky(4, peak=0) + 500 * np.exp(
        -((np.mgrid[:64, :64] - 32) ** 2).sum(axis=0) / (2 * 12.0**2)
    )
    shown = to_rgb(image[None, None], ("r",))[0, ..., 0]
    assert shown[:3].mean() < 30
    assert shown[20, 32] > 100


def test_the_unit_of_a_band_does_not_matter() -> None:
    bands = [np.stack([sky(10 * k + i, peak=50 + 20 * i) for i in range(4)]) for k in range(3)]
    flux = np.stack(bands, axis=1)
    scaled = flux * np.array([1, 1000, 1e-6], np.float32)[:, None, None]
    one, other = to_rgb(flux, ("g", "r", "i")), to_rgb(scaled, ("g", "r", "i"))
    assert np.abs(one.astype(int) - other).max() <= 2


def test_a_red_object_is_red_beside_a_blue_one() -> None:
    bright, faint = sky(5, peak=900), sky(6, peak=300)
    flux = np.stack([np.stack([faint, bright]), np.stack([bright, faint])])  # g, i of two objects
    red, blue = to_rgb(flux, ("g", "i"))[:, 32, 32].astype(int)
    assert red[0] > red[2] + 50
    assert blue[2] > blue[0] + 50
    assert abs(red[1] - red[[0, 2]].mean()) <= 1


def test_each_band_alone_takes_its_own_interval() -> None:
    flux = np.stack([sky(7, peak=50), sky(8, peak=5000), sky(9, peak=500)])[None]
    display = Display(interval="minmax", function="linear", per_band=True)
    shown = to_rgb(flux, ("i", "r", "g"), display)
    for band in range(3):
        low, high = flux[0, band].min(), flux[0, band].max()
        expected = 255 * (flux[0, band] - low) / (high - low)
        assert np.abs(shown[0, ..., band] - expected).max() <= 0.51


@pytest.mark.parametrize(
    ("bands", "shown"),
    [
        (("g", "r", "i"), "irg"),
        (("i", "r", "g"), "irg"),
        (("u", "g", "r", "i", "z"), "irg"),
        (("g", "z"), "zg"),
        (("J", "H", "Ks"), ("Ks", "H", "J")),
        (("F435W", "F606W", "F814W", "F160W"), ("F160W", "F814W", "F435W")),
        (("F090W", "F200W", "F444W"), ("F444W", "F200W", "F090W")),
        (("W1", "W2", "W4"), ("W4", "W2", "W1")),
        (("HSC-G", "HSC-R2", "HSC-I2"), ("HSC-I2", "HSC-R2", "HSC-G")),
        (("sdss_u", "NUV", "2MASS_J"), ("2MASS_J", "sdss_u", "NUV")),
        (("red", "green", "blue"), ("red", "green", "blue")),
        (("band1", "band2", "band3"), ("band3", "band2", "band1")),
        (("1.4GHz",), ("1.4GHz",)),
    ],
)
def test_the_reddest_band_is_red(bands: tuple[str, ...], shown: tuple[str, ...]) -> None:
    assert [bands[i] for i in colour_channels(bands, None, picture=False)] == list(shown)


def test_unnamed_channels_of_pictures_are_red_green_blue() -> None:
    assert colour_channels(("band1", "band2", "band3"), None, picture=True) == [0, 1, 2]


def test_space_filters_are_told_apart() -> None:
    assert wavelength_nm("F435W") == 435
    assert wavelength_nm("F444W") == 4440
    assert wavelength_nm("F098M") == 980
    assert wavelength_nm("nircam_f115w") == 1150
    assert wavelength_nm("F1500W") == 15000
    assert wavelength_nm("band1") is None


def test_bands_can_be_chosen() -> None:
    flux = np.random.default_rng(0).uniform(0, 1, (1, 4, 8, 8))
    names = ("g", "r", "i", "z")
    chosen = to_rgb(flux, names, Display(bands=("z", "g", "r")))
    same = to_rgb(flux[:, [3, 0, 1]], ("a", "b", "c"), Display(bands=("a", "b", "c")))
    np.testing.assert_array_equal(chosen, same)
    grey = to_rgb(flux, names, Display(bands=("z",)))
    np.testing.assert_array_equal(grey, to_rgb(flux[:, 3:], ("z",)))
    with pytest.raises(UnknownName, match="unknown band 'y'"):
        to_rgb(flux, names, Display(bands=("y",)))


@settings(max_examples=60, deadline=None)
@given(
    images=hnp.arrays(
        np.float64,
        hnp.array_shapes(min_dims=4, max_dims=4, max_side=5),
        elements=st.floats() | st.floats(0, 300),
    ),
    display=st.sampled_from(
        [None, *map(parse_display, ("log", "sqrt", "clip:1,99+asinh", "minmax", "zscale"))]
    ),
    per_band=st.booleans(),
)
def test_any_numbers_make_a_picture(
    images: np.ndarray, display: Display | None, per_band: bool
) -> None:
    if display is not None:
        display = Display(**{**vars(display), "per_band": per_band})
    bands = tuple(f"band{i}" for i in range(images.shape[1]))
    shown = to_rgb(images, bands, display)
    assert (shown.shape, shown.dtype) == ((len(images), *images.shape[2:], 3), np.uint8)
    if len(bands) <= 3:
        with np.errstate(over="ignore"):  # what float32 cannot hold is no data either
            lost = ~np.isfinite(images.astype(np.float32)).all(axis=1)
        assert (shown[lost] == NO_DATA).all()


def test_no_data_is_a_colour_of_its_own_in_every_display() -> None:
    flux = np.stack([sky(1, peak=50), sky(2, peak=50)])[None]
    flux[0, 0, :20] = np.nan
    flux[0, 1, 50:] = np.inf
    for display in (None, Display(per_band=True), parse_display("zscale")):
        shown = to_rgb(flux, ("g", "r"), display)[0]
        lost = (shown == NO_DATA).all(axis=-1)
        assert lost[:20].all()
        assert lost[50:].all()
        assert not lost[20:50].any()
    inverted = to_rgb(flux[:, :1], ("g",), Display(invert=True))[0]
    assert (inverted[:20] == NO_DATA).all()


def test_parse_display() -> None:
    assert parse_display("asinh") == Display()
    assert parse_display("asinh:0.02") == Display(a=0.02)
    assert parse_display("log") == Display(function="log")
    assert parse_display("clip:1,99") == Display(interval="clip", low=1, high=99, function="linear")
    assert parse_display("zscale+asinh:0.1") == Display(interval="zscale", a=0.1)
    assert parse_display("range:0,50+sqrt") == Display(
        interval="range", low=0, high=50, function="sqrt"
    )
    with pytest.raises(UnknownName, match="unknown stretch 'ashin'; did you mean: asinh"):
        parse_display("ashin")
    with pytest.raises(UsageError, match="asinh, log, linear, sqrt"):
        parse_display("lupton")


@pytest.mark.parametrize(
    "wrong",
    [
        {"interval": "sigma"},
        {"function": "cbrt"},
        {"interval": "clip"},
        {"interval": "clip", "low": 99, "high": 1},
        {"interval": "minmax", "low": 1},
        {"a": -1.0},
        {"bands": ()},
        {"bands": ("a", "b", "c", "d")},
    ],
)
def test_a_wrong_display_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        Display(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 2, 8, 8), (1, 3, 0, 8)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(Mismatch, match="expected \\(n, C, H, W\\)"):
        to_rgb(np.zeros(shape), RGB)


def test_no_image_is_no_picture() -> None:
    assert to_rgb(np.zeros((0, 3, 5, 4), np.float32), RGB).shape == (0, 5, 4, 3)


def test_png_reads_back() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
    np.testing.assert_array_equal(Image.open(io.BytesIO(png_bytes(picture))), picture)
    np.testing.assert_array_equal(
        Image.open(io.BytesIO(png_bytes(picture[..., 0]))), picture[..., 0]
    )


def stored(folder: Path, origins: str = "{}.fits", count: int = 30) -> Cutouts:
    source = MemorySource([raw(blob(i, channels=3), bands=("g", "r", "i<")) for i in range(count)])
    source.origins = [origins.format(name) for name in source.ids]
    return ingest_source(source, folder / "cut", pixel_scale=0.4, unit="nMgy & more", quiet=True)


@pytest.mark.parametrize(
    ("origins", "expected"),
    [
        ("a/{}.fits", "lower"),
        ("{}.FIT.gz", "lower"),
        ("{0}_g.fits.fz, {0}_r.fits.fz", "lower"),
        ("frame-r.fits.bz2[x=1.0, y=2.0]", "lower"),
        ("{}.jpg", "upper"),
        ("cube.h5[12]", "upper"),
        ("fits.images/{}.png", "upper"),
        ("{}.fitsthumb.png", "upper"),
    ],
)
def test_fits_rows_start_at_the_bottom(tmp_path: Path, origins: str, expected: str) -> None:
    assert guess_origin(stored(tmp_path, origins, count=1)) == expected


def test_contact_sheet(tmp_path: Path) -> None:
    cutouts = stored(tmp_path)
    sheet = np.asarray(Image.open(io.BytesIO(contact_sheet_png(cutouts))))
    tile, gap = 128, 3
    assert sheet.shape == (5 * (tile + gap) - gap, 5 * (tile + gap) - gap, 3)
    pictures = to_rgb(cutouts.flux(slice(0, 25)), cutouts.bands, origin="lower")
    seventh = sheet[tile + gap : 2 * tile + gap, tile + gap : 2 * tile + gap]
    np.testing.assert_array_equal(seventh[4::8, 4::8], pictures[6])
    html = contact_sheet_html(cutouts)
    encoded = re.search(r"data:image/png;base64,([A-Za-z0-9+/=]+)", html)
    assert encoded is not None
    assert base64.b64decode(encoded[1]) == contact_sheet_png(cutouts)
    facts = "30 cutouts of 16 x 16 pixels; bands g, r, i&lt;; 0.4&quot; per pixel"
    assert f"{facts}; float32 in nMgy &amp; more" in html


def test_a_sheet_without_pixels_says_so(tmp_path: Path) -> None:
    cutouts = stored(tmp_path)
    shutil.rmtree(cutouts.folder / "pixels.zarr")
    html = contact_sheet_html(cutouts)
    assert "no pictures: " in html
    assert "30 cutouts" in html
    with pytest.raises((SkytwinError, OSError)):
        contact_sheet_png(cutouts)


@pytest.mark.real
def test_first_images_show_source_sky_and_gaps(data_dir: Path, tmp_path: Path) -> None:
    cutouts = ingest_source(FolderSource(data_dir / "mirabest_fits"), tmp_path / "cut", quiet=True)
    assert guess_origin(cutouts) == "lower"
    flux = cutouts.flux(slice(None))
    shown = to_rgb(flux, cutouts.bands, origin="lower")
    gaps = np.isnan(flux[:, 0])[:, ::-1]
    assert gaps.any()
    assert (shown[gaps] == NO_DATA).all()
    grey = np.where(gaps, np.nan, shown[..., 0])
    assert (np.nanmedian(grey, axis=(1, 2)) < 40).all()
    centre = shown[:, 120:180, 120:180, 0]
    assert (centre.max(axis=(1, 2)) > 150).all()
