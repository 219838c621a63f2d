"""What images show: frames measured beside objects, defects found, objects left in peace."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.stats import sigma_clipped_stats

from skytwin.answers.audit_images import (
    DEFECT,
    FRAME,
    OBJECT,
    background,
    clipped_mean,
    measure_images,
    row_median,
)

SIZE = 48
BANDS = ("g", "r")


def galaxies(count: int, seed: int = 0, scale: float = 3.0, ratio: float = 1.0) -> np.ndarray:
    """Exponential discs on a background of 10 with noise of 1, (n, 2, 48, 48)."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIZE, :SIZE] - SIZE // 2
    light = 80 * np.exp(-np.hypot(x, y / ratio) / scale)
    noise = rng.standard_normal((count, 2, SIZE, SIZE))
    return (light * np.array([1.0, 1.5])[:, None, None] + noise + 10).astype(np.float32)


def measured(flux: np.ndarray, **settings: object) -> dict[str, np.ndarray]:
    found = measure_images(flux, BANDS, **settings)  # type: ignore[arg-type]
    return {name: values for name, (_, values) in found.items()}


def test_background_and_noise_are_what_was_painted() -> None:
    level, noise = background(galaxies(40))
    assert level == pytest.approx(np.full((40, 2), 10.0), abs=0.25)
    assert noise == pytest.approx(np.ones((40, 2)), abs=0.1)


def test_clipped_mean_is_that_of_astropy_on_a_lone_outlier() -> None:
    rng = np.random.default_rng(0)
    values = rng.standard_normal((20, 4000))
    values[:, :50] += 40
    values[:, 50:60] = np.nan
    truth = [sigma_clipped_stats(v[np.isfinite(v)], sigma=3, stdfunc="mad_std")[0] for v in values]
    # Ours knows the width from the fainter half alone.
    assert clipped_mean(values) == pytest.approx(np.array(truth), abs=0.01)
    assert np.isnan(clipped_mean(np.full((1, 5), np.nan))).all()


def test_row_median_is_nanmedian() -> None:
    rng = np.random.default_rng(1)
    values = rng.standard_normal((30, 17))
    values[rng.random(values.shape) < 0.3] = np.nan
    assert row_median(values) == pytest.approx(np.nanmedian(values, axis=1))
    assert np.isnan(row_median(np.full((2, 3), np.nan))).all()


def test_size_shape_and_colour_are_what_was_painted() -> None:
    plain, wide, flat = (
        measured(galaxies(6, **how)) for how in ({}, {"scale": 5.0}, {"ratio": 0.3})
    )
    # Half the light of an exponential disc lies within 1.678 scale lengths.
    assert plain["half-light radius"] == pytest.approx(np.full(6, 1.678 * 3), rel=0.15)
    assert wide["half-light radius"].min() > plain["half-light radius"].max() * 1.3
    assert plain["axis ratio"].min() > 0.9
    assert flat["axis ratio"] == pytest.approx(np.full(6, 0.3), abs=0.1)
    assert plain["colour g, r"] == pytest.approx(np.full(6, -0.2), abs=0.03)
    assert plain["asymmetry"].max() < 0.15
    assert (plain["neighbours"] <= 1).all()


def test_a_second_source_is_a_neighbour() -> None:
    flux = galaxies(5)
    y, x = np.mgrid[:SIZE, :SIZE]
    flux += 40 * np.exp(-0.5 * np.hypot(x - 8, y - 38) ** 2 / 2).astype(np.float32)
    assert (measured(flux)["neighbours"] >= 1).all()


@pytest.mark.parametrize(
    ("how", "name"),
    [
        (lambda x: x + 5, "background g"),
        (lambda x: np.where(np.arange(SIZE)[:, None] > 30, x + 6, x), "seam step"),
        (lambda x: np.where(np.arange(SIZE) > 17, x + 6, x), "seam step"),
        (lambda x: np.where(np.arange(SIZE) == 12, x + 8, x), "seam line"),
        (lambda x: np.where(np.arange(SIZE) < 4, np.nan, x), "gaps"),
        (lambda x: np.where(np.arange(SIZE) < 2, np.nan, x), "gaps at border"),
        (lambda x: np.where(np.arange(SIZE) < 5, 0, x), "zeros"),
        (lambda x: np.minimum(x, 40), "saturated"),
        (lambda x: x + np.arange(SIZE) / 6, "background tilt"),
    ],
)
def test_every_artefact_has_a_number_that_sees_it(how: object, name: str) -> None:
    plain = galaxies(12)
    before, after = measured(plain)[name], measured(how(plain).astype(np.float32))[name]  # type: ignore[operator]
    assert after.min() > before.max(), (before, after)


def test_round_and_inclined_galaxies_are_no_seams() -> None:
    for how in ({}, {"scale": 7.0}, {"ratio": 0.2}, {"ratio": 0.2, "scale": 7.0}):
        found = measured(galaxies(30, **how))
        assert (found["seam step"] > 0).mean() <= 0.1
        assert (found["seam line"] > 0).mean() <= 0.1


def test_the_object_is_the_same_on_a_brighter_background() -> None:
    one, other = measured(galaxies(4)), measured(galaxies(4) + 100)
    for name in ("flux", "half-light radius", "axis ratio", "colour g, r"):
        assert other[name] == pytest.approx(one[name], rel=0.02)


def test_eight_bits() -> None:
    flux = np.clip(np.rint(galaxies(8)), 0, 255).astype(np.uint8)
    found = measured(flux.astype(np.float32), top=255.0)
    # Rounding adds a twelfth to the variance.
    assert found["noise g"] == pytest.approx(np.full(8, np.sqrt(1 + 1 / 12)), abs=0.1)
    assert found["background g"] == pytest.approx(np.full(8, 10.0), abs=0.25)
    assert (found["saturated"] == 0).all()
    flux[:, :, 20:24, 20:24] = 255
    assert measured(flux.astype(np.float32), top=255.0)["saturated"] == pytest.approx(
        np.full(8, 16 / SIZE**2)
    )


def test_blank_images_are_measured_as_far_as_they_can_be() -> None:
    for blank in (np.nan, 0.0, 7.0):
        found = measured(np.full((2, 2, SIZE, SIZE), blank, dtype=np.float32))
        assert np.isnan(found["half-light radius"]).all()
        assert (found["neighbours"] == 0).all()
    assert (measured(np.full((1, 2, SIZE, SIZE), np.nan))["gaps"] == 1).all()
    tiny = measure_images(np.random.default_rng(0).standard_normal((3, 1, 4, 4)), ("g",))
    assert len(tiny["flux"][1]) == 3


def test_only_the_crop_is_looked_at() -> None:
    flux = galaxies(3)
    flux[:, :, :4] = np.nan
    assert (measured(flux, crop=32)["gaps"] == 0).all()
    assert (measured(flux)["gaps"] > 0).all()


def test_large_frames_are_measured_in_their_own_pixels() -> None:
    y, x = np.mgrid[:400, :400] - 200
    light = 80 * np.exp(-np.hypot(x, y) / 15)
    noise = np.random.default_rng(0).standard_normal((1, 1, 400, 400))
    found = measure_images((light + noise + 5).astype(np.float32), ("g",))
    assert found["half-light radius"][1][0] == pytest.approx(1.678 * 15, rel=0.1)


def test_kinds() -> None:
    kinds = {name: kind for name, (kind, _) in measure_images(galaxies(1), BANDS).items()}
    assert kinds["gaps"] == kinds["seam step"] == DEFECT
    assert kinds["background g"] == kinds["noise r"] == kinds["zeros"] == FRAME
    assert kinds["flux"] == kinds["colour g, r"] == kinds["neighbours"] == OBJECT
