"""Stretches against astropy.visualization, image by image."""

from __future__ import annotations

import warnings

import astropy.visualization as vis
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from skytwin.errors import Mismatch, UnknownName, UsageError
from skytwin.images.stretch import Stretch

INTERVALS = {
    "minmax": vis.MinMaxInterval(),
    "clip:0.5,99.5": vis.AsymmetricPercentileInterval(0.5, 99.5),
    "clip:10,80": vis.AsymmetricPercentileInterval(10, 80),
    "zscale": vis.ZScaleInterval(),
    "range:-2,30": vis.ManualInterval(-2, 30),
}
FUNCTIONS = {
    "linear": vis.LinearStretch(),
    "sqrt": vis.SqrtStretch(),
    "asinh": vis.AsinhStretch(),
    "asinh:0.02": vis.AsinhStretch(0.02),
    "log": vis.LogStretch(),
    "log:50": vis.LogStretch(50),
}


@pytest.fixture(scope="module")
def sky() -> np.ndarray:
    """Six three-band images: noise, a source, a gradient; each band on its own level."""
    random = np.random.default_rng(5)
    y, x = np.mgrid[:41, :37]
    source = np.exp(-((y - 20) ** 2 + (x - 18) ** 2) / 30)
    level = random.uniform(-50, 50, (6, 3, 1, 1))
    peak = random.uniform(5, 200, (6, 3, 1, 1))
    flux = level + peak * source + random.normal(size=(6, 3, 41, 37)) + 0.02 * x
    return flux.astype(np.float32)


def with_gaps(flux: np.ndarray) -> np.ndarray:
    gaps = flux.copy()
    gaps[0, 0, :5] = np.nan
    gaps[1, 2, 3, 4] = np.inf
    gaps[2, 1, 7, 7] = -np.inf
    gaps[3, :, 30:, 30:] = np.nan
    return gaps


def by_astropy(
    flux: np.ndarray, interval: vis.BaseInterval, function: vis.BaseStretch, joint: bool
) -> np.ndarray:
    flux = np.where(np.isfinite(flux), flux, np.nan).astype(np.float64)
    out = np.empty_like(flux)
    for image, target in zip(flux, out, strict=True):
        if joint:
            low, high = interval.get_limits(image)
        for band in range(len(image)):
            if not joint:
                low, high = interval.get_limits(image[band])
            fixed = vis.ManualInterval(low, high)
            target[band] = function(fixed(image[band]))
    return out


@pytest.mark.parametrize("joint", [False, True], ids=["band", "image"])
@pytest.mark.parametrize("gaps", [False, True], ids=["whole", "gaps"])
@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("interval", INTERVALS)
def test_equals_astropy(
    sky: np.ndarray, interval: str, function: str, gaps: bool, joint: bool
) -> None:
    if joint and interval.startswith("range"):
        return
    flux = with_gaps(sky) if gaps else sky
    got = Stretch.parse(f"{interval}+{function}{'@image' * joint}")(flux)
    assert got.dtype == np.float32
    np.testing.assert_array_equal(np.isnan(got), ~np.isfinite(flux))
    want = by_astropy(flux, INTERVALS[interval], FUNCTIONS[function], joint)
    # Near 0 the square root and the logarithm magnify float32's rounding of the flux.
    np.testing.assert_allclose(got, want, atol=1e-3 if function in ("sqrt", "log") else 2e-5)
    np.testing.assert_allclose(np.nanmean(got), np.nanmean(want), atol=1e-5)


@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize(
    ("text", "settings"),
    [
        ("lupton", {}),
        ("lupton:stretch=0.5,Q=8,minimum=-1.5", {"stretch": 0.5, "Q": 8, "minimum": -1.5}),
        ("lupton:Q=2,stretch=60", {"stretch": 60, "Q": 2}),
    ],
)
def test_lupton_equals_make_lupton_rgb(
    sky: np.ndarray, text: str, settings: dict[str, float], gaps: bool
) -> None:
    flux = with_gaps(sky) if gaps else sky
    got = Stretch.parse(text)(flux)
    for image, stretched in zip(flux, got, strict=True):
        image = np.where(np.isfinite(image), image, np.nan).astype(np.float64)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            want = vis.make_lupton_rgb(*image, output_dtype=np.float64, **settings)
        np.testing.assert_allclose(stretched, want.transpose(2, 0, 1), atol=2e-6)


def test_lupton_wants_three_bands(sky: np.ndarray) -> None:
    with pytest.raises(Mismatch, match=r"three bands.*got 2"):
        Stretch.parse("lupton")(sky[:, :2])


@pytest.mark.parametrize(
    "kind", ["noise", "sparse", "constant", "two levels", "steps", "line", "tiny", "huge"]
)
def test_zscale_fast_path_equals_astropy(kind: str) -> None:
    random = np.random.default_rng(9)
    shape = (12, 1, 2, 2) if kind == "tiny" else (12, 1, 64, 50)
    flux = random.normal(size=shape)
    if kind == "sparse":  # a radio image: zero but for its source
        flux = np.where(random.random(shape) < 0.1, random.integers(1, 255, shape), 0)
    elif kind == "constant":
        flux = np.full(shape, 3.7)
    elif kind == "two levels":
        flux = (random.random(shape) < 0.3).astype(float)
    elif kind == "steps":
        flux = random.integers(0, 6, shape)
    elif kind == "line":
        flux = np.linspace(0, 1, flux.size).reshape(shape)
    elif kind == "huge":
        flux = flux * 1e25
    flux = flux.astype(np.float32)
    got = Stretch.parse("zscale")(flux)
    want = by_astropy(flux, vis.ZScaleInterval(), vis.LinearStretch(), joint=False)
    flat = np.array([np.ptp(vis.ZScaleInterval().get_limits(image)) == 0 for image in flux])
    np.testing.assert_allclose(got[~flat], want[~flat], atol=2e-5)
    if kind == "constant":
        assert flat.all()
        assert not got.any()


@pytest.mark.real
def test_zscale_equals_astropy_on_radio_images(data_dir: object) -> None:
    from astropy.io import fits

    paths = sorted((data_dir / "mirabest_fits").glob("*.fits"))[:8]  # type: ignore[operator]
    flux = np.stack([np.squeeze(fits.getdata(path)).astype(np.float32) for path in paths])[:, None]
    got = Stretch.parse("zscale+asinh")(flux)
    want = by_astropy(flux, vis.ZScaleInterval(), vis.AsinhStretch(), joint=False)
    np.testing.assert_allclose(got, want, atol=2e-5)


@given(
    hnp.arrays(
        np.float32,
        (2, 2, 5, 4),
        elements=st.floats(-(2.0**99), 2.0**99, width=32)
        | st.sampled_from([np.nan, np.inf, -np.inf]),
    ),
    st.sampled_from(["minmax", "clip:2,98", "range:-3,4", "zscale", "sigma:2", "lupton"]),
    st.sampled_from(["linear", "sqrt", "asinh", "log"]),
)
def test_finite_flux_lands_in_the_unit_interval(
    flux: np.ndarray, interval: str, function: str
) -> None:
    if interval == "lupton":
        got = Stretch.parse(interval)(flux[:, [0, 1, 1]])
        gone = ~np.isfinite(flux).all(axis=1, keepdims=True).repeat(3, axis=1)
    else:
        got = Stretch.parse(f"{interval}+{function}")(flux)
        gone = ~np.isfinite(flux)
    np.testing.assert_array_equal(np.isnan(got), gone)
    assert ((got >= 0) & (got <= 1))[~gone].all()


@pytest.mark.parametrize("text", ["minmax+log", "clip:1,99", "zscale+asinh", "minmax@image"])
def test_a_constant_image_is_zero_and_its_gaps_stay(text: str) -> None:
    flux = np.full((2, 3, 8, 8), 7.25, dtype=np.float32)
    flux[1, 0, 2, 2] = np.nan
    flux[1, 2] = np.nan
    got = Stretch.parse(text)(flux)
    np.testing.assert_array_equal(got, np.where(np.isnan(flux), np.nan, 0))


def test_an_interval_of_no_width_keeps_the_source() -> None:
    flux = np.zeros((1, 1, 30, 30), dtype=np.float32)
    flux[0, 0, 15, 15] = 1e-5
    np.testing.assert_array_equal(Stretch.parse("clip:1,99")(flux), flux > 0)


def test_a_joint_interval_keeps_the_ratio_of_bands() -> None:
    flux = np.array([0.0, 1.0, 4.0], dtype=np.float32).reshape(1, 3, 1, 1).repeat(2, axis=3)
    flux[..., 0] = 0
    joint = Stretch.parse("minmax@image")(flux)
    np.testing.assert_allclose(joint[0, :, 0, 1], [0, 0.25, 1])
    np.testing.assert_allclose(Stretch.parse("minmax")(flux)[0, :, 0, 1], [0, 1, 1])


@pytest.mark.parametrize(
    "text", ["minmax+log", "minmax@image", "zscale", "sigma", "clip:1,99", "lupton"]
)
def test_memory_layout_does_not_matter(sky: np.ndarray, text: str) -> None:
    stretch = Stretch.parse(text)
    turned = np.rot90(sky, axes=(2, 3))
    np.testing.assert_array_equal(stretch(turned), stretch(turned.copy()))
    bands_last = np.asfortranarray(sky)
    np.testing.assert_array_equal(stretch(bands_last), stretch(sky))
    assert stretch(sky[:0]).shape == (0, 3, 41, 37)


def test_the_input_is_left_alone(sky: np.ndarray) -> None:
    before = sky.copy()
    Stretch.parse("minmax+log")(sky)
    Stretch.parse("lupton")(sky)
    np.testing.assert_array_equal(sky, before)


@pytest.mark.parametrize(
    ("dtype", "text", "settled"),
    [
        ("uint8", "linear", "range:0,255"),
        ("uint8", "asinh@image", "range:0,255+asinh:0.1"),
        ("uint16", "log", "range:0,65535+log:1000"),
        ("int16", "linear", "minmax"),
        ("float32", "sqrt@image", "minmax+sqrt@image"),
        ("uint8", "minmax", "minmax"),
        ("float64", "lupton", "lupton:stretch=5,Q=8,minimum=0"),
    ],
)
def test_resolve_settles_the_interval(dtype: str, text: str, settled: str) -> None:
    stretch = Stretch.parse(text).resolve(dtype)
    assert str(stretch) == settled
    assert stretch.interval != "auto"
    assert stretch.absolute == settled.startswith(("range", "lupton"))


def test_an_unsettled_interval_refuses(sky: np.ndarray) -> None:
    with pytest.raises(UsageError, match="resolve"):
        Stretch.parse("asinh")(sky)


@st.composite
def stretches(draw: st.DrawFn) -> Stretch:
    function = draw(st.sampled_from(["linear", "sqrt", "asinh", "log", "lupton"]))
    positive = st.floats(1e-6, 1e9)
    flux = st.floats(-1e30, 1e30)
    if function == "lupton":
        parameters = (draw(st.floats(1e-20, 1e20)), draw(positive), draw(flux))
        return Stretch(function=function, parameters=parameters)
    interval = draw(st.sampled_from(["auto", "minmax", "zscale", "sigma", "range", "clip"]))
    limits: tuple[float, ...] = ()
    if interval in ("range", "clip"):
        numbers = flux if interval == "range" else st.floats(0, 100)
        limits = tuple(sorted(draw(st.lists(numbers, min_size=2, max_size=2, unique=True))))
    return Stretch(
        interval=interval,
        limits=limits,
        function=function,
        parameters=(draw(positive),) if function in ("asinh", "log") else (),
        per=draw(st.sampled_from(["band", "image"])) if interval != "range" else "band",
    )


@given(stretches())
def test_text_round_trip(stretch: Stretch) -> None:
    text = str(stretch)
    assert Stretch.parse(text) == stretch
    assert str(Stretch.parse(text)) == text


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("asinh", "asinh:0.1"),
        (" zscale + asinh : 0.25 ", "zscale+asinh:0.25"),
        ("zscale+linear", "zscale"),
        ("clip:1,99.8+log", "clip:1,99.8+log:1000"),
        ("lupton:Q=3", "lupton:stretch=5,Q=3,minimum=0"),
        ("range:-1e+5,1E+6+sqrt", "range:-100000,1000000+sqrt"),
        ("range:0,1e+30", "range:0,1e30"),
        ("minmax@image", "minmax@image"),
    ],
)
def test_text_is_written_in_one_way(text: str, canonical: str) -> None:
    assert str(Stretch.parse(text)) == canonical


@pytest.mark.parametrize("text", ["arcsinh", "", "auto", "auto+log", "none", "zscal+log", "a+b"])
def test_unknown_stretch(text: str) -> None:
    with pytest.raises(UnknownName, match="unknown stretch"):
        Stretch.parse(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("asinh:0", "one number from 1e-6"),
        ("asinh:-1", "one number"),
        ("asinh:nan", "one number"),
        ("asinh:x", "got x"),
        ("asinh:1,2", "got 1,2"),
        ("linear:3", "takes no parameters"),
        ("clip", "got no parameters; clip:LOWER,UPPER"),
        ("clip:99,1", "LOWER < UPPER"),
        ("clip:-1,50", "0 <= LOWER"),
        ("clip:0,101", "<= 100"),
        ("range:5", "two fluxes"),
        ("range:5,5", "LOW below HIGH"),
        ("range:0,inf", "two fluxes"),
        ("lupton:stretch=0", "S > 0"),
        ("lupton:stretch=nan", "S > 0"),
        ("lupton:contrast=2", "got contrast=2"),
        ("lupton:Q=2,Q=3", "got Q=2,Q=3"),
        ("zscale+lupton", "takes no interval"),
        ("log+zscale", "INTERVAL\\+FUNCTION"),
        ("zscale+log+sqrt", "INTERVAL\\+FUNCTION"),
        ("range:0,255@image", "@image goes with"),
        ("lupton@image", "@image goes with"),
        ("minmax@band", "unknown stretch ending"),
    ],
)
def test_bad_parameters_say_what_is_allowed(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Stretch.parse(text)


def test_wrong_shape_is_refused(sky: np.ndarray) -> None:
    with pytest.raises(Mismatch, match=r"\(3, 41, 37\)"):
        Stretch.parse("minmax")(sky[0])


def test_sigma_cuts_at_the_noise_that_astropy_measures() -> None:
    from astropy.stats import mad_std

    rng = np.random.default_rng(8)
    flux = rng.normal(2.0, 0.1, (4, 1, 40, 40)).astype(np.float32)
    flux[:, :, 18:22, 18:22] += 5
    flux[1, 0, :5] = np.nan
    got = Stretch.parse("sigma:3")(flux)
    for image, stretched in zip(flux[:, 0], got[:, 0], strict=True):
        low = np.nanmedian(image) + 3 * mad_std(image, ignore_nan=True)
        want = np.clip((image - low) / (np.nanmax(image) - low), 0, 1)
        np.testing.assert_allclose(stretched, want, atol=1e-5)
    # What was cut already is only scaled; an image with nothing above the noise is black.
    cut = np.clip(flux[:1] - 2.5, 0, None)
    np.testing.assert_array_equal(Stretch.parse("sigma:3")(cut), Stretch.parse("minmax")(cut))
    assert not Stretch.parse("sigma:50")(flux[2:3] * 0 + rng.normal(size=(40, 40))).any()
    with pytest.raises(UsageError, match="sigma:K"):
        Stretch.parse("sigma:nan")
