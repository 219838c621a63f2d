"""Random views: they move and blur an image, and leave its colours alone."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from skytwin.encoders.recipe_settings import ViewSettings
from skytwin.encoders.views import random_views

STILL = ViewSettings(
    flip=False,
    rotate="none",
    area=(1.0, 1.0),
    brightness=0.0,
    contrast=0.0,
    noise=0.0,
    blur=0.0,
)


def one(**changes: object) -> ViewSettings:
    return dataclasses.replace(STILL, **changes)  # type: ignore[arg-type]


def views(x: torch.Tensor, settings: ViewSettings, seed: int = 0) -> torch.Tensor:
    return random_views(x, settings, torch.Generator().manual_seed(seed))


def images(count: int = 32, channels: int = 1, size: int = 33) -> torch.Tensor:
    """Off-centre Gaussians on a level of 0.1."""
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    blob = np.exp(-0.5 * (((x - 5) / 2) ** 2 + ((y + 3) / 3) ** 2))
    bands = 0.1 + 0.5 * blob * np.linspace(1, 0.5, channels)[:, None, None]
    return torch.tensor(np.broadcast_to(bands, (count, channels, size, size)).copy()).float()


def test_nothing_asked_for_is_nothing_done() -> None:
    x = images()
    torch.testing.assert_close(views(x, STILL), x, atol=1e-5, rtol=0)


def test_the_seed_is_all_there_is_to_it() -> None:
    x, settings = images(), ViewSettings()
    assert torch.equal(views(x, settings, 1), views(x, settings, 1))
    assert not torch.equal(views(x, settings, 1), views(x, settings, 2))
    first, second = views(x, settings, 1)[:2]
    assert not torch.equal(first, second)


def test_flips_are_the_four_mirror_images_equally_often() -> None:
    x = images(400)
    expected = torch.stack([x[0], x[0].flip(-1), x[0].flip(-2), x[0].flip(-1, -2)])
    apart = (views(x, one(flip=True))[:, None] - expected).abs().amax(dim=(2, 3, 4))
    assert (apart.min(dim=1).values < 1e-4).all()
    counts = torch.bincount(apart.argmin(dim=1), minlength=4)
    assert (counts > 70).all()


def test_quarter_turns_are_the_four_turns() -> None:
    x = images(200)
    expected = torch.stack([torch.rot90(x[0], k, (-2, -1)) for k in range(4)])
    apart = (views(x, one(rotate="quarter"))[:, None] - expected).abs().amax(dim=(2, 3, 4))
    assert (apart.min(dim=1).values < 1e-4).all()
    assert (torch.bincount(apart.argmin(dim=1), minlength=4) > 30).all()


def test_any_angle_keeps_flux_distance_and_background() -> None:
    x = images(64)
    turned = views(x, one(rotate="any")) - 0.1
    flux = turned.sum(dim=(1, 2, 3))
    torch.testing.assert_close(flux, (x - 0.1).sum(dim=(1, 2, 3)), rtol=0.02, atol=0)
    grid = torch.arange(33.0) - 16
    cx = (turned.sum(dim=(1, 2)) * grid).sum(dim=1) / flux
    cy = (turned.sum(dim=(1, 3)) * grid).sum(dim=1) / flux
    torch.testing.assert_close(
        torch.hypot(cx, cy), torch.full((64,), 34.0).sqrt(), rtol=0.02, atol=0
    )
    angle = torch.atan2(cy, cx)
    assert len(torch.histc(angle, 8, -torch.pi, torch.pi).nonzero()) == 8
    # Corners that come from beyond the frame are background, no edge.
    torch.testing.assert_close(turned[:, :, 0, 0], torch.zeros(64, 1), atol=1e-4, rtol=0)


def test_a_crop_enlarges_by_the_root_of_its_area() -> None:
    x = images(16)
    half = views(x, one(area=(0.5, 0.5), shift=0.0)) - 0.1
    flux = half.sum(dim=(1, 2, 3)) / (x - 0.1).sum(dim=(1, 2, 3))
    torch.testing.assert_close(flux, torch.full((16,), 2.0), rtol=0.05, atol=0)
    moved = views(x, one(area=(0.25, 0.25), shift=1.0))
    assert (moved - moved[:1]).abs().amax() > 0.1


def test_brightness_and_contrast_do_not_change_colours() -> None:
    x = images(64, channels=3)
    seen = views(x, one(contrast=0.3))
    ratio = seen / x
    torch.testing.assert_close(ratio, ratio[:, :1, :1, :1].expand_as(ratio), rtol=1e-4, atol=0)
    assert ratio.amin() > 0.69
    assert ratio.amax() < 1.31
    added = views(x, one(brightness=0.05)) - x
    torch.testing.assert_close(added, added[:, :1, :1, :1].expand_as(added), rtol=0, atol=1e-5)
    assert added.abs().amax() <= 0.05 + 1e-5
    assert added.std() > 0.02


def test_noise_is_the_image_s_own_times_the_strength() -> None:
    torch.manual_seed(0)
    x = 0.5 + 0.03 * torch.randn(200, 1, 64, 64)
    seen = views(x, one(noise=1.0))
    added = (seen - x).std(dim=(1, 2, 3)) / 0.03
    assert 0.45 < added.mean() < 0.55
    assert added.max() < 1.05
    plain = torch.full((50, 1, 32, 32), 0.5)
    assert 0.005 < (views(plain, one(noise=1.0)) - plain).std() < 0.02


def test_the_blur_is_a_gaussian_that_keeps_the_sum() -> None:
    x = torch.zeros(4, 2, 31, 31)
    x[:, :, 15, 15] = 1.0
    seen = views(x, one(blur=1.0, blur_sigma=(1.5, 1.5)))
    torch.testing.assert_close(seen.sum(dim=(2, 3)), torch.ones(4, 2))
    grid = torch.arange(31.0) - 15
    width = (seen.sum(dim=2) * grid**2).sum(dim=2).sqrt()
    torch.testing.assert_close(width, torch.full((4, 2), 1.5), rtol=0.03, atol=0)
    some = views(x.repeat(50, 1, 1, 1), one(blur=0.5))
    untouched = (some[:, 0, 15, 15] > 0.999).float().mean()
    assert 0.3 < untouched < 0.7


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_all_at_once_stays_within_zero_and_one(channels: int) -> None:
    x = torch.rand(8, channels, 20, 20)
    seen = views(x, ViewSettings())
    assert seen.shape == x.shape
    assert seen.min() >= 0
    assert seen.max() <= 1
    assert torch.isfinite(seen).all()
