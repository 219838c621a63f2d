"""Random views for self-supervision: a whole batch at a time, on its own device.

The views keep what flux means: an image is mirrored, turned, cut and moved, made brighter and
noisier in all bands alike, and blurred. Its colours stay (no hue or saturation jitter, which
natural images bear and photometry does not). Shapes: ``x_BCHW`` images in [0, 1].
"""

from __future__ import annotations

import math

import torch
from torch.nn import functional

from skytwin.encoders.recipe_settings import ViewSettings

__all__ = ["generator_on", "random_views"]

_TRUNCATE = 3.0  # of the blur, in sigma
_MAD_TO_SIGMA = 1.4826
_PLAIN_NOISE = 0.02


def generator_on(device: torch.device, generator: torch.Generator) -> torch.Generator:
    """Random numbers for a device that follow from the next ones of a generator on the CPU.

    On the CPU that generator itself. Elsewhere large arrays are drawn where they are needed; they
    differ from those of the CPU.
    """
    if device.type == "cpu":
        return generator
    seed = int(torch.randint(1 << 62, (1,), generator=generator))
    return torch.Generator(device).manual_seed(seed)


def random_views(
    x_BCHW: torch.Tensor, settings: ViewSettings, generator: torch.Generator
) -> torch.Tensor:
    """One random view of each image.

    Parameters
    ----------
    x_BCHW : Tensor
        Stretched images in [0, 1], square, finite.
    settings : ViewSettings
    generator : torch.Generator
        On the CPU: the same seed draws the same views on every device, but for their noise.

    Returns
    -------
    Tensor, shape (B, C, H, W)
        In [0, 1].
    """
    draw = _Draws(len(x_BCHW), x_BCHW.device, generator)
    out = _moved(x_BCHW, settings, draw)
    if settings.blur > 0:
        out = _blurred(out, settings, draw)
    if settings.contrast > 0 or settings.brightness > 0:
        factor = 1 + draw.between(-settings.contrast, settings.contrast)
        out = out * factor.view(-1, 1, 1, 1)
        out = out + draw.between(-settings.brightness, settings.brightness).view(-1, 1, 1, 1)
    if settings.noise > 0:
        strength = draw.between(0.0, settings.noise).view(-1, 1, 1, 1)
        out = out + strength * _noise_of(x_BCHW) * draw.normal(out.shape)
    return out.clamp_(0, 1)


class _Draws:
    """Random numbers per image, drawn on the CPU and moved."""

    def __init__(self, count: int, device: torch.device, generator: torch.Generator) -> None:
        self._count, self._device, self._generator = count, device, generator

    def between(self, low: float, high: float) -> torch.Tensor:
        """Uniform, shape (B,)."""
        uniform = torch.rand(self._count, generator=self._generator)
        return (low + (high - low) * uniform).to(self._device)

    def coin(self, probability: float = 0.5) -> torch.Tensor:
        """Shape (B,), bool."""
        return self.between(0.0, 1.0) < probability

    def normal(self, shape: torch.Size) -> torch.Tensor:
        """Standard normal, of any shape."""
        own = generator_on(self._device, self._generator)
        return torch.randn(shape, generator=own, device=self._device)


def _moved(x_BCHW: torch.Tensor, settings: ViewSettings, draw: _Draws) -> torch.Tensor:
    """Mirrored, turned, cut and enlarged in one interpolation; corners take the background."""
    angle = torch.zeros(len(x_BCHW), device=x_BCHW.device)
    if settings.rotate == "any":
        angle = draw.between(0.0, 2 * math.pi)
    elif settings.rotate == "quarter":
        angle = torch.floor(draw.between(0.0, 4.0)) * (math.pi / 2)
    scale = torch.sqrt(draw.between(*settings.area))
    if settings.flip:
        # Both flips together are half a turn: one mirror and the half turn make all four.
        mirror = 1 - 2 * draw.coin().to(angle.dtype)
        angle = angle + math.pi * draw.coin().to(angle.dtype)
    else:
        mirror = torch.ones_like(angle)
    room = (1 - scale) * settings.shift
    shift_x, shift_y = (draw.between(-1.0, 1.0) * room for _ in range(2))
    cos, sin = scale * torch.cos(angle), scale * torch.sin(angle)
    theta = torch.stack(
        [
            torch.stack([cos * mirror, -sin, shift_x], dim=1),
            torch.stack([sin * mirror, cos, shift_y], dim=1),
        ],
        dim=1,
    )
    grid = functional.affine_grid(theta, list(x_BCHW.shape), align_corners=False)
    background = _median(x_BCHW)
    moved = functional.grid_sample(
        x_BCHW - background, grid, mode="bilinear", padding_mode="zeros", align_corners=False
    )
    return moved + background


def _blurred(x_BCHW: torch.Tensor, settings: ViewSettings, draw: _Draws) -> torch.Tensor:
    """A Gaussian of its own width for each image, along x and then along y."""
    chosen = draw.coin(settings.blur)
    sigma = draw.between(*settings.blur_sigma)
    count, bands, height, width = x_BCHW.shape
    # No wider than the frame, which is all that the padding can mirror.
    reach = min(math.ceil(_TRUNCATE * settings.blur_sigma[1]), min(height, width) - 1)
    offset = torch.arange(-reach, reach + 1, device=x_BCHW.device, dtype=x_BCHW.dtype)
    kernel = torch.exp(-0.5 * (offset / sigma[:, None]) ** 2)
    # Where no blur is wanted the kernel is a single one.
    kernel = torch.where(chosen[:, None], kernel, (offset == 0).to(kernel.dtype))
    kernel = (kernel / kernel.sum(dim=1, keepdim=True)).repeat_interleave(bands, dim=0)
    planes = x_BCHW.reshape(1, count * bands, height, width)
    planes = functional.pad(planes, (reach, reach, reach, reach), mode="reflect")
    planes = functional.conv2d(planes, kernel[:, None, None, :], groups=count * bands)
    planes = functional.conv2d(planes, kernel[:, None, :, None], groups=count * bands)
    return planes.reshape(x_BCHW.shape)


def _noise_of(x_BCHW: torch.Tensor) -> torch.Tensor:
    """Pixel noise per image and band, from differences of neighbours: ``(B, C, 1, 1)``."""
    step = (x_BCHW[..., 1:] - x_BCHW[..., :-1]).flatten(2)
    sigma = _MAD_TO_SIGMA / math.sqrt(2) * step.abs().median(dim=2).values
    sigma = torch.where(sigma > 0, sigma, torch.full_like(sigma, _PLAIN_NOISE))
    return sigma[..., None, None]


def _median(x_BCHW: torch.Tensor) -> torch.Tensor:
    return x_BCHW.flatten(2).median(dim=2).values[..., None, None]
