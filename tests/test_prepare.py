"""From flux to network input: crop, bands, gaps, resize, each against an independent rewrite."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from skytwin.errors import DataError, Mismatch, UnknownName, UsageError
from skytwin.images.framing import central
from skytwin.images.prepare import Prepare, parse_bands, parse_crop
from skytwin.images.stretch import Stretch


def plain(**changes: object) -> Prepare:
    """No change but what is asked for: 8 pixels of one band, flux already in [0, 1]."""
    settings: dict[str, object] = {
        "bands": ("i",),
        "mix": (("i",),),
        "crop": 8,
        "stretch": Stretch.parse("range:0,1"),
        "size": 8,
        "channels": 1,
        "mean": (0.0,),
        "std": (1.0,),
    }
    settings.update(changes)
    channels = settings["channels"]
    if channels != 1 and "mean" not in changes:
        settings.update(mean=(0.0,) * channels, std=(1.0,) * channels)  # type: ignore[operator]
    return Prepare(**settings)  # type: ignore[arg-type]


def flux(*shape: int) -> np.ndarray:
    return np.random.default_rng(3).random(shape).astype(np.float32)


@pytest.mark.parametrize("crop", range(1, 8))
@pytest.mark.parametrize("side", [(7, 7), (8, 8), (7, 10), (11, 8)])
def test_the_central_pixel_stays_central(side: tuple[int, int], crop: int) -> None:
    image = np.zeros(side)
    image[side[0] // 2, side[1] // 2] = 1
    cropped = central(image[None, None], crop)
    assert cropped.shape == (1, 1, crop, crop)
    assert cropped[0, 0, crop // 2, crop // 2] == 1


def test_whole_crop_is_the_image() -> None:
    image = flux(2, 3, 9, 9)
    np.testing.assert_array_equal(central(image, 9), image)


@pytest.mark.parametrize(
    ("interpolation", "side", "size", "pillow"),
    [
        ("bilinear", 8, 20, Image.Resampling.BILINEAR),
        ("bilinear", 9, 31, Image.Resampling.BILINEAR),
        ("area", 24, 8, Image.Resampling.BOX),
        ("nearest", 8, 24, Image.Resampling.NEAREST),
    ],
)
def test_resize_equals_pillow(interpolation: str, side: int, size: int, pillow: int) -> None:
    images = flux(2, 1, side, side)
    got = plain(crop=side, size=size, interpolation=interpolation)(images)
    for image, resized in zip(images, got, strict=True):
        want = np.asarray(Image.fromarray(image[0]).resize((size, size), pillow))
        np.testing.assert_allclose(resized[0], want, atol=2e-6)


def test_area_weighs_pixels_by_their_overlap() -> None:
    images = flux(2, 1, 20, 20)
    edge = np.arange(7) * 20 / 7
    pixel = np.arange(20)
    overlap = np.minimum(edge[:, None] + 20 / 7, pixel + 1) - np.maximum(edge[:, None], pixel)
    weights = np.maximum(overlap, 0) * 7 / 20
    got = plain(crop=20, size=7, interpolation="area")(images)
    np.testing.assert_allclose(got, weights @ images @ weights.T, atol=1e-6)


def test_bicubic_stays_in_the_unit_interval() -> None:
    images = (flux(3, 1, 8, 8) > 0.5).astype(np.float32)
    got = plain(size=32, interpolation="bicubic")(images)
    smooth = plain(size=32, interpolation="bilinear")(images)
    assert got.min() == 0
    assert got.max() == 1
    assert 0.01 < np.abs(got - smooth).mean() < 0.2


def test_order_of_the_steps() -> None:
    """Crop, then bands, then stretch, then gaps, then normalise: each by hand."""
    images = flux(2, 3, 12, 12) * 50
    images[0, 1, 5, 5] = np.nan
    images[1, 2, 4:7, 4] = np.inf
    images[:, :, 0, 0] = 1e6  # outside the crop: must not reach the interval
    prepare = plain(
        bands=("g", "r", "i"),
        mix=(("i",), ("g", "r"), ("g",)),
        channels=3,
        stretch=Stretch.parse("minmax+asinh"),
        mean=(0.4, 0.5, 0.6),
        std=(0.2, 0.25, 0.5),
    )
    got = prepare(images)
    want = images[:, :, 2:10, 2:10].astype(np.float64)
    want[~np.isfinite(want)] = np.nan
    want = np.stack([want[:, 2], (want[:, 0] + want[:, 1]) / 2, want[:, 0]], axis=1)
    low, high = (f(want, axis=(2, 3), keepdims=True) for f in (np.nanmin, np.nanmax))
    want = np.arcsinh((want - low) / (high - low) / 0.1) / np.arcsinh(10)
    median = np.nanmedian(want, axis=(2, 3), keepdims=True)
    want = np.where(np.isnan(want), median, want)
    want = (want - np.array([0.4, 0.5, 0.6])[:, None, None]) / np.array([0.2, 0.25, 0.5])[
        :, None, None
    ]
    assert got.dtype == np.float32
    assert got.flags.c_contiguous
    np.testing.assert_allclose(got, want, atol=1e-5)


def test_gaps_take_the_background_of_their_own_band() -> None:
    images = np.full((1, 2, 8, 8), 0.25, dtype=np.float32)
    images[0, 0, 2:6, 2:6] = 1
    images[0, 0, 0] = np.nan
    images[0, 1] = np.nan
    got = plain(bands=("g", "r"), mix=(("g",), ("r",)), channels=2)(images)
    np.testing.assert_array_equal(got[0, 0, 0], 0.25)
    np.testing.assert_array_equal(got[0, 1], 0)


def test_infinities_that_cancel_are_no_data() -> None:
    images = np.full((1, 2, 8, 8), 0.5, dtype=np.float32)
    images[0, :, 1, 1] = np.inf, -np.inf
    got = plain(bands=("g", "r"), mix=(("g", "r"),))(images)
    np.testing.assert_array_equal(got, 0.5)


@pytest.mark.parametrize("text", ["i", "i,i,i"])
def test_one_band_is_repeated(text: str) -> None:
    images = flux(2, 3, 8, 8)
    bands = ("g", "r", "i")
    got = plain(bands=bands, mix=parse_bands(text, bands), channels=3)(images)
    np.testing.assert_allclose(got, images[:, [2, 2, 2]], atol=1e-7)


def test_bands_are_chosen_by_name() -> None:
    images = flux(2, 4, 8, 8)
    bands = ("u", "g", "r", "i")
    got = plain(bands=bands, mix=parse_bands("i,g,i", bands), channels=3)(images)
    np.testing.assert_allclose(got, images[:, [3, 1, 3]], atol=1e-7)
    mixed = plain(bands=bands, mix=parse_bands("g + r, u", bands), channels=2)(images)
    np.testing.assert_allclose(mixed[:, 0], (images[:, 1] + images[:, 2]) / 2, atol=1e-7)
    np.testing.assert_allclose(mixed[:, 1], images[:, 0], atol=1e-7)


def test_a_repeated_band_counts_once_in_a_joint_interval() -> None:
    images = flux(1, 2, 8, 8)
    stretch = Stretch.parse("clip:10,70@image")
    bands = ("g", "r")
    twice = plain(bands=bands, mix=parse_bands("r,g,r", bands), channels=3, stretch=stretch)(images)
    np.testing.assert_array_equal(twice, stretch(images)[:, [1, 0, 1]])


def test_lupton_takes_its_three_bands_as_chosen() -> None:
    images = flux(1, 3, 8, 8)
    bands = ("g", "r", "i")
    stretch = Stretch.parse("lupton:stretch=0.5")
    got = plain(bands=bands, mix=parse_bands("i,r,r", bands), channels=3, stretch=stretch)(images)
    np.testing.assert_allclose(got, stretch(images[:, [2, 1, 1]]), atol=1e-7)
    with pytest.raises(UsageError, match="lupton mixes three bands"):
        plain(bands=bands, mix=(("i",),), channels=3, stretch=stretch)


def test_quarter_turns_commute_with_the_preparation() -> None:
    images = flux(2, 1, 16, 16)
    prepare = plain(crop=16, size=40, stretch=Stretch.parse("zscale+asinh"))
    turned = prepare(np.rot90(images, axes=(2, 3)))
    np.testing.assert_allclose(turned, np.rot90(prepare(images), axes=(2, 3)), atol=1e-5)


def test_any_number_of_images() -> None:
    images = flux(5, 1, 10, 9)
    prepare = plain(size=12, stretch=Stretch.parse("minmax"))
    together = prepare(images)
    one_by_one = np.concatenate([prepare(image[None]) for image in images])
    np.testing.assert_array_equal(together, one_by_one)
    assert prepare(images[:0]).shape == (0, 1, 12, 12)


def test_other_images_are_refused() -> None:
    prepare = plain(bands=("g", "r"), mix=(("g",),))
    with pytest.raises(Mismatch, match=r"bands g, r"):
        prepare(flux(1, 3, 8, 8))
    with pytest.raises(Mismatch, match=r"\(2, 8, 8\)"):
        prepare(flux(2, 8, 8))
    with pytest.raises(Mismatch, match=r"7x9 pixels.*central 8x8"):
        prepare(flux(1, 2, 9, 7))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"crop": 0}, "crop is 0"),
        ({"size": -3}, "size is -3"),
        ({"interpolation": "cubic"}, "unknown interpolation 'cubic'; did you mean: bicubic"),
        ({"mix": (("z",),)}, "unknown band 'z'; known: i"),
        ({"mix": (("i",), ("i",)), "channels": 3}, "2 bands chosen for a network of 3"),
        ({"mean": (0.0, 0.0)}, "expected 1 numbers"),
        ({"std": (0.0,)}, "none of std zero"),
    ],
)
def test_impossible_settings(changes: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        plain(**changes)


def test_unknown_band() -> None:
    with pytest.raises(UnknownName, match="unknown band 'R'; did you mean|unknown band 'R'; known"):
        parse_bands("g,R", ("g", "r"))
    with pytest.raises(UnknownName, match="unknown band ''"):
        parse_bands("g,", ("g", "r"))


@pytest.mark.parametrize(
    ("text", "scale", "pixels"),
    [
        ("64", None, 64),
        ("64px", 0.4, 64),
        (" 30 arcsec ", 1.8, 17),
        ("30arcsec", 0.396, 76),
    ],
)
def test_crop_text(text: str, scale: float | None, pixels: int) -> None:
    assert parse_crop(text, scale) == pixels


@pytest.mark.parametrize(
    ("text", "scale", "said"),
    [
        ("30arcsec", None, "needs the pixel scale"),
        ("0.5arcsec", 1.8, "less than a pixel"),
        ("0", None, "less than a pixel"),
        ("-4", None, "expected pixels"),
        ("12.5", 1.0, "expected pixels"),
        ("big", 1.0, "expected pixels"),
        ("3arcmin", 1.0, "expected pixels"),
    ],
)
def test_bad_crop_text(text: str, scale: float | None, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        parse_crop(text, scale)


@st.composite
def preparations(draw: st.DrawFn) -> Prepare:
    bands = draw(st.lists(st.text(min_size=1, max_size=4), min_size=1, max_size=4, unique=True))
    mix = draw(st.lists(st.lists(st.sampled_from(bands), min_size=1).map(tuple), min_size=1))
    channels = len(mix) if len(mix) > 1 else draw(st.integers(1, 3))
    number = st.floats(-10, 10)
    numbers = st.lists(number, min_size=channels, max_size=channels)
    return Prepare(
        bands=tuple(bands),
        mix=tuple(mix),
        crop=draw(st.integers(1, 500)),
        stretch=Stretch.parse(draw(st.sampled_from(["zscale+log:20", "range:-1,1e20", "minmax"]))),
        size=draw(st.integers(1, 500)),
        channels=channels,
        mean=tuple(draw(numbers)),
        std=tuple(draw(numbers.filter(all))),
        interpolation=draw(st.sampled_from(["bilinear", "bicubic", "area", "nearest"])),
    )


@given(preparations())
def test_stored_and_read_back(prepare: Prepare) -> None:
    assert Prepare.from_dict(json.loads(json.dumps(prepare.to_dict()))) == prepare


def test_stored_settings_are_read_strictly() -> None:
    stored = plain().to_dict()
    with pytest.raises(DataError, match="unknown setting 'colour'"):
        Prepare.from_dict({**stored, "colour": 1})
    del stored["crop"]
    with pytest.raises(DataError, match="lacks crop"):
        Prepare.from_dict(stored)
