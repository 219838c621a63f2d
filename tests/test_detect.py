"""Detection against fields whose sources are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from skytwin.errors import DataError, UsageError
from skytwin.images.detect import DetectSettings, detect
from skytwin.images.mosaic import MosaicSource
from skytwin.images.tables import read_table


def field(
    rng: np.random.Generator, shape: tuple[int, int] = (200, 300), spacing: int = 40
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Noise of rms 1 on a slope, with round sources of sigma 2 px; their x, y and fluxes."""
    y, x = np.mgrid[: shape[0], : shape[1]].astype(float)
    image = rng.normal(0, 1, shape) + 50 + 0.02 * x - 0.01 * y
    gx, gy = np.meshgrid(
        np.arange(spacing / 2, shape[1], spacing), np.arange(spacing / 2, shape[0], spacing)
    )
    xy = np.stack([gx.ravel(), gy.ravel()], axis=1)
    xy += rng.uniform(-5, 5, xy.shape)
    flux = rng.uniform(800, 5000, len(xy))
    for (x0, y0), f in zip(xy, flux, strict=True):
        image += f / (8 * np.pi) * np.exp(-((x - x0) ** 2 + (y - y0) ** 2) / 8)
    return image, xy, flux


def test_finds_the_sources_where_and_as_bright_as_they_are() -> None:
    image, xy, flux = field(np.random.default_rng(3))
    table = detect(image, DetectSettings(threshold_sigma=5), unit="mJy")
    found = np.stack([table["x"].to_numpy(), table["y"].to_numpy()], axis=1)
    nearest = np.linalg.norm(xy[:, None] - found[None], axis=2).argmin(axis=1)
    assert len(found) == len(xy)
    assert np.abs(found[nearest] - xy).max() < 0.3
    got = table["flux"].to_numpy()
    assert (np.diff(got) <= 0).all()
    # Isophotal: what lies below the threshold is missing, the more the fainter the source.
    ratio = got[nearest] / flux
    assert ((ratio > 0.55) & (ratio < 1.1)).all()
    assert np.median(ratio[flux > 3000]) > 0.85
    snr, peak = table["snr"].to_numpy(), table["peak"].to_numpy()
    assert np.allclose(peak / snr, 1.0, atol=0.1)  # the noise that was put in
    assert table["npix"].to_numpy().min() >= 5
    assert np.median(table["a"].to_numpy()) == pytest.approx(2.0, rel=0.25)
    assert table.schema.field("flux").metadata[b"unit"] == b"mJy"


def test_settings_do_what_they_say() -> None:
    image, xy, flux = field(np.random.default_rng(3))
    brightest = detect(image, DetectSettings(max_objects=3))
    assert brightest.num_rows == 3
    position = [brightest["x"][0].as_py(), brightest["y"][0].as_py()]
    assert np.abs(xy[flux.argmax()] - position).max() < 0.5
    wide = detect(image, DetectSettings(threshold_sigma=5, min_area=30))
    assert wide["npix"].to_numpy().min() >= 30
    peak = detect(image, DetectSettings()).column("peak").to_numpy().max()
    with pytest.raises(DataError, match=r"no source above 10000 sigma \(background rms 1\.0"):
        detect(image, DetectSettings(threshold_sigma=1e4))
    assert peak > 100


def test_blended_sources_come_apart() -> None:
    y, x = np.mgrid[:64, :64].astype(float)
    image = np.random.default_rng(0).normal(0, 1, (64, 64))
    for x0 in (28.0, 37.0):
        image += 200 * np.exp(-((x - x0) ** 2 + (y - 32) ** 2) / 8)
    assert detect(image, DetectSettings(threshold_sigma=5)).num_rows == 2
    assert detect(image, DetectSettings(threshold_sigma=5, deblend_contrast=1.0)).num_rows == 1


def test_pixels_without_data_and_of_any_type() -> None:
    image, xy, _ = field(np.random.default_rng(3))
    truth = detect(image, DetectSettings(threshold_sigma=5))
    for kind in (">f4", ">f8", "<f8"):
        again = detect(image.astype(kind), DetectSettings(threshold_sigma=5))
        assert again["x"].to_pylist() == pytest.approx(truth["x"].to_pylist(), abs=1e-3)
    holed = image.copy()
    holed[:, :120] = np.nan
    holed[5, 250] = np.inf
    found = detect(holed, DetectSettings(threshold_sigma=5))
    assert found["x"].to_numpy().min() > 119
    assert found.num_rows == (xy[:, 0] > 120).sum()


def test_fields_with_more_than_the_buffers_hold() -> None:
    # One island of more pixels than sep's stack of 300 000.
    image = np.random.default_rng(1).normal(0, 1, (1400, 1400))
    image[400:1000, 400:1000] += 1000
    found = detect(image, DetectSettings(back_size=1400, deblend_contrast=1.0))
    assert found["npix"][0].as_py() >= 359_000


def test_images_nothing_can_be_measured_on() -> None:
    with pytest.raises(DataError, match="no scatter"):
        detect(np.full((50, 50), 7.0), DetectSettings())
    painted = np.zeros((50, 50))
    painted[20:25, 20:25] = 100
    with pytest.raises(DataError, match="no scatter"):
        detect(painted, DetectSettings())
    with pytest.raises(DataError, match="no finite pixel"):
        detect(np.full((50, 50), np.nan), DetectSettings())


@pytest.mark.parametrize(
    "bad",
    [
        {"threshold_sigma": 0.0},
        {"threshold_sigma": float("nan")},
        {"min_area": 0},
        {"deblend_contrast": 1.5},
        {"max_objects": 0},
        {"back_size": 1},
    ],
)
def test_settings_out_of_range(bad: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=next(iter(bad))):
        DetectSettings(**bad)  # type: ignore[arg-type]


def test_hubble_deep_field() -> None:
    data = pytest.importorskip("skimage.data")
    image = data.hubble_deep_field().mean(axis=2)
    found = detect(image, DetectSettings(threshold_sigma=3))
    assert 1000 < found.num_rows < 3000
    # Every one of the brightest is a local maximum of the picture within its own size.
    background = np.median(image)
    for row in found.slice(0, 50).to_pylist():
        x, y = round(row["x"]), round(row["y"])
        near = image[max(0, y - 6) : y + 7, max(0, x - 6) : x + 7]
        assert near.max() > background + 3 * row["peak"] / row["snr"]


@pytest.mark.real
def test_against_sextractors_own_catalogue(data_dir: Path) -> None:
    folder = data_dir / "fields"
    source = MosaicSource(
        [folder / "sep_image.fits"], detect=DetectSettings(threshold_sigma=1.5), size=32
    )
    catalog = read_table(folder / "sep_image.cat")
    truth = np.stack([catalog[c].to_numpy() for c in ("X_IMAGE", "Y_IMAGE")], axis=1) - 1
    table = source.table
    assert table is not None
    found = np.stack([table[c].to_numpy() for c in ("x", "y")], axis=1)
    distance = np.linalg.norm(truth[:, None] - found[None], axis=2).min(axis=1)
    flux = catalog["FLUX_AUTO"].to_numpy()
    bright = flux >= np.median(flux)
    assert (distance[bright] < 1.5).mean() >= 0.9
    assert (distance < 1.5).mean() >= 0.9
    assert np.median(distance) < 0.02


@pytest.mark.real
def test_spitzer_sources_are_found(data_dir: Path) -> None:
    folder = data_dir / "fields"
    mosaic = [folder / "spitzer_example_image.fits"]
    given = MosaicSource(mosaic, positions=[folder / "spitzer_example_catalog.xml"], size=32)
    found = MosaicSource(mosaic, detect=DetectSettings(), size=32)
    assert given.table is not None
    assert found.table is not None
    one, two = (
        np.stack([table[c].to_numpy() for c in ("x", "y")], axis=1)
        for table in (given.table, found.table)
    )
    distance = np.linalg.norm(one[:, None] - two[None], axis=2).min(axis=1)
    assert (distance < 1.5).mean() > 0.9
    assert np.median(distance) < 0.5
    image = given.read(0)
    assert image.unit == "MJy/sr"
    assert image.pixel_scale == pytest.approx(1.2, rel=1e-6)
