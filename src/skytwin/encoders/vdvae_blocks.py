"""The blocks of the Very Deep VAE (Child 2021, arXiv 2011.10650, figure 3), rearranged for speed.

A residual block is GELU and convolution four times over, 1x1, 3x3, 3x3 and 1x1, through a
bottleneck; where the image is two pixels wide or less the 3x3 ones are 1x1. A top-down block has
a prior (such a block on the decoder's state), a posterior (one on the state and the encoder's
features side by side), a projection of its latent and an output block.

What is computed differs from the paper's form in order alone:

- the GELU of the state is shared by prior and posterior, and their first convolutions are one;
- the posterior's first convolution, over channels side by side, is the sum of one over the state
  and one over the encoder's features; the latter is one convolution for all blocks of a stage;
- memory is laid out channels last, and 1x1 convolutions of small maps are matrix products.

Shapes: ``x_BWhw`` a state of W channels, ``e_BWhw`` features of the encoder, ``m_BMhw`` inside a
bottleneck, ``z_BZhw`` a latent.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

__all__ = [
    "Bottleneck",
    "Gaussian",
    "Pointwise",
    "ResidualBlock",
    "TopDownBlock",
    "draw_with_kl",
    "normal_kl",
    "resampling",
]

_MAX_LOG_SIGMA = 7.0  # beyond it exp(2 x) is of no use to float32
_POSTERIOR = 0.5  # of the posteriors' means at first; of their log sigmas a quarter of it
_SMALL_SIDE = 8  # up to here the call of a convolution costs more than its product


@dataclass(frozen=True, eq=False)
class Gaussian:
    """A diagonal Gaussian, float32.

    Attributes
    ----------
    mean, raw : Tensor, shape (B, Z, h, w)
        ``raw`` is log sigma before it is held within +-7. B is 1 for a prior that no image has
        had a part in.
    """

    mean: torch.Tensor
    raw: torch.Tensor

    @property
    def log_sigma(self) -> torch.Tensor:
        """Held within +-7."""
        return self.raw.clamp(-_MAX_LOG_SIGMA, _MAX_LOG_SIGMA)

    def noise(self, batch: int, generator: torch.Generator | None = None) -> torch.Tensor:
        """Standard normal, drawn channels last."""
        _, channels, height, width = self.mean.shape
        noise = torch.randn(
            (batch, height, width, channels), generator=generator, device=self.mean.device
        )
        return noise.permute(0, 3, 1, 2)

    def draw(
        self, batch: int, temperature: float = 1.0, generator: torch.Generator | None = None
    ) -> torch.Tensor:
        """``mean + temperature * sigma * noise``."""
        if temperature == 0:
            return self.mean.expand(batch, -1, -1, -1)
        sigma = temperature * self.log_sigma.exp()
        return torch.addcmul(self.mean, sigma, self.noise(batch, generator))


def normal_kl(q: Gaussian, p: Gaussian) -> torch.Tensor:
    """KL(q || p) in nats, element by element."""
    apart = (q.mean - p.mean).square() + (2 * q.log_sigma).exp()
    return p.log_sigma - q.log_sigma + 0.5 * apart * (-2 * p.log_sigma).exp() - 0.5


def draw_with_kl(
    q: Gaussian, p: Gaussian, noise_BZhw: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """A draw from the posterior and the KL of each image ``(B,)``, with a gradient by hand.

    Equivalent to ``q.mean + q.log_sigma.exp() * noise, normal_kl(q, p).sum((1, 2, 3))``, in a
    third of the passes over memory. The prior may be of batch 1.
    """
    batch = len(noise_BZhw)
    p_mean, p_raw = (t.expand(batch, -1, -1, -1) for t in (p.mean, p.raw))
    apply: Any = _DrawWithKl.apply
    z, kl = apply(q.mean, q.raw, p_mean, p_raw, noise_BZhw)
    return z, kl


class _DrawWithKl(torch.autograd.Function):
    """Of ``d = (m_q - m_p) / s_p`` and ``r = s_q / s_p``, KL = (d^2 + r^2 - 1) / 2 - log r."""

    @staticmethod
    def forward(
        ctx: Any,
        q_mean: torch.Tensor,
        q_raw: torch.Tensor,
        p_mean: torch.Tensor,
        p_raw: torch.Tensor,
        noise: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        q_log = q_raw.clamp(-_MAX_LOG_SIGMA, _MAX_LOG_SIGMA)
        p_log = p_raw.clamp(-_MAX_LOG_SIGMA, _MAX_LOG_SIGMA)
        inverse = p_log.neg().exp_()
        swing = q_log.exp().mul_(noise)
        log_r = q_log.sub_(p_log)
        r2 = log_r.exp().square_()
        d = (q_mean - p_mean).mul_(inverse)
        kl = torch.addcmul(r2, d, d).mul_(0.5).sub_(log_r).sum((1, 2, 3))
        ctx.save_for_backward(q_raw, p_raw, d, r2, inverse, swing)
        return q_mean + swing, kl - 0.5 * noise[0].numel()

    @staticmethod
    def backward(
        ctx: Any, to_z: torch.Tensor, to_kl: torch.Tensor
    ) -> tuple[torch.Tensor | None, ...]:
        q_raw, p_raw, d, r2, inverse, swing = ctx.saved_tensors
        g = to_kl[:, None, None, None]
        to_p_mean = (d * inverse).mul_(-g)
        to_q_mean = to_z - to_p_mean
        to_q_log = torch.addcmul((r2 - 1).mul_(g), to_z, swing)
        to_p_log = torch.addcmul(r2, d, d).sub_(1).mul_(-g)
        for to, raw in ((to_q_log, q_raw), (to_p_log, p_raw)):
            to.mul_(raw.abs() <= _MAX_LOG_SIGMA)
        return to_q_mean, to_q_log, to_p_mean, to_p_log, None


class Pointwise(nn.Conv2d):
    """A 1x1 convolution; of maps up to 8 pixels wide, as the matrix product it is."""

    def __init__(self, inside: int, outside: int, *, bias: bool = True) -> None:
        super().__init__(inside, outside, 1, bias=bias)

    def forward(self, x_BChw: torch.Tensor) -> torch.Tensor:
        """``(B, inside, h, w)`` to ``(B, outside, h, w)``."""
        return pointwise(x_BChw, self.weight, self.bias)


def pointwise(
    x_BChw: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None
) -> torch.Tensor:
    """Equivalent to ``F.conv2d(x, weight, bias)`` with a 1x1 weight."""
    if x_BChw.shape[-1] > _SMALL_SIDE:
        return F.conv2d(x_BChw, weight, bias)
    return F.linear(x_BChw.permute(0, 2, 3, 1), weight.flatten(1), bias).permute(0, 3, 1, 2)


class _Narrower(Pointwise):
    """Means over patches, then other channels."""

    def __init__(self, above: int, below: int, step: int) -> None:
        super().__init__(above, below)
        self.step = step

    def forward(self, x_BChw: torch.Tensor) -> torch.Tensor:
        return super().forward(F.avg_pool2d(x_BChw, self.step))


class _Wider(Pointwise):
    """Other channels, then nearest neighbours."""

    def __init__(self, below: int, above: int, step: int) -> None:
        super().__init__(below, above)
        self.step = step

    def forward(self, x_BChw: torch.Tensor) -> torch.Tensor:
        return F.interpolate(super().forward(x_BChw), scale_factor=self.step, mode="nearest")


def resampling(above: int, below: int, step: int, *, learned: bool) -> tuple[nn.Module, nn.Module]:
    """The ways between two stages of ``above`` and ``below`` channels, down and up.

    As published, means and nearest neighbours; or, learned, with weights of its own for every
    place of a patch of ``step`` x ``step`` pixels.
    """
    if learned:
        return (
            nn.Conv2d(above, below, step, stride=step),
            nn.ConvTranspose2d(below, above, step, stride=step),
        )
    if above == below:
        return nn.AvgPool2d(step), nn.Upsample(scale_factor=step, mode="nearest")
    return _Narrower(above, below, step), _Wider(below, above, step)


class Bottleneck(nn.Module):
    """A residual block after its first convolution: 3x3, 3x3, 1x1, a GELU before each."""

    def __init__(self, middle: int, outside: int, *, side: int) -> None:
        super().__init__()
        if side > 2:
            self.second: nn.Conv2d = nn.Conv2d(middle, middle, 3, padding=1)
            self.third: nn.Conv2d = nn.Conv2d(middle, middle, 3, padding=1)
        else:
            self.second, self.third = Pointwise(middle, middle), Pointwise(middle, middle)
        self.last = Pointwise(middle, outside)

    def forward(self, m_BMhw: torch.Tensor) -> torch.Tensor:
        """``(B, middle, h, w)`` to ``(B, outside, h, w)``."""
        m = self.second(F.gelu(m_BMhw))
        m = self.third(F.gelu(m))
        out: torch.Tensor = self.last(F.gelu(m))
        return out


class ResidualBlock(nn.Module):
    """``x + block(x)``, its last weights scaled by ``1 / sqrt(depth)`` at the start."""

    def __init__(self, width: int, middle: int, *, side: int, depth: int) -> None:
        super().__init__()
        self.first = Pointwise(width, middle)
        self.rest = Bottleneck(middle, width, side=side)
        with torch.no_grad():
            self.rest.last.weight.mul_(depth**-0.5)

    def forward(self, x_BWhw: torch.Tensor) -> torch.Tensor:
        """Same shape as given."""
        out: torch.Tensor = self.rest(self.first(F.gelu(x_BWhw)))
        return _plus(out, x_BWhw)


class TopDownBlock(nn.Module):
    """One layer of latents.

    Equivalent to, with residual blocks that do not add their input::

        q = posterior(cat([x, e]))
        p, feature = split(prior(x))
        x = x + feature + project(z)      # z of q when training, of p when generating
        x = output(x)                     # this one adds its input

    Parameters
    ----------
    width, middle, z_channels : int
        Channels of the state, inside the bottlenecks, and of the latent.
    side : int
        Pixels of the state's side.
    depth : int
        Top-down blocks of the whole decoder: projection and output start scaled by its root.
    """

    def __init__(self, width: int, middle: int, z_channels: int, *, side: int, depth: int) -> None:
        super().__init__()
        self.middle, self.z_channels = middle, z_channels
        self.first = Pointwise(width, 2 * middle)  # the posterior's half, then the prior's
        self.posterior_rest = Bottleneck(middle, 2 * z_channels, side=side)
        self.prior_rest = Bottleneck(middle, 2 * z_channels + width, side=side)
        self.project = Pointwise(z_channels, width)
        self.output = ResidualBlock(width, middle, side=side, depth=depth)
        with torch.no_grad():
            # As if state and features were the input of one convolution.
            self.first.weight[:middle].mul_(math.sqrt(0.5))
            mean, raw = self.posterior_rest.last.weight.chunk(2)
            mean.mul_(_POSTERIOR)
            raw.mul_(_POSTERIOR / 4)
            # The prior starts as the standard normal and adds nothing to the state.
            self.prior_rest.last.weight.zero_()
            self.project.weight.mul_(depth**-0.5)

    def halves(self, x_BWhw: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """What posterior and prior make of the state with their first convolutions."""
        posterior_BMhw, prior_BMhw = self.first(F.gelu(x_BWhw)).chunk(2, dim=1)
        return posterior_BMhw, prior_BMhw

    def prior_half(self, x_BWhw: torch.Tensor) -> torch.Tensor:
        """Equivalent to ``halves(x)[1]``."""
        bias = None if self.first.bias is None else self.first.bias[self.middle :]
        return pointwise(F.gelu(x_BWhw), self.first.weight[self.middle :], bias)

    def posterior(self, half_BMhw: torch.Tensor, encoder_BMhw: torch.Tensor) -> Gaussian:
        """The posterior of its half of the state and of the encoder's."""
        out = self.posterior_rest(half_BMhw + encoder_BMhw)
        return Gaussian(*out.float().chunk(2, dim=1))

    def prior(self, half_BMhw: torch.Tensor) -> tuple[Gaussian, torch.Tensor]:
        """The prior, and the feature that it adds to the state."""
        out, z = self.prior_rest(half_BMhw), self.z_channels
        mean, raw, feature = out.split([z, z, out.shape[1] - 2 * z], dim=1)
        return Gaussian(mean.float(), raw.float()), feature

    def advance(
        self, x_BWhw: torch.Tensor, feature_BWhw: torch.Tensor, z_BZhw: torch.Tensor
    ) -> torch.Tensor:
        """The state with the latent in it."""
        out: torch.Tensor = self.output(_plus(self.project(z_BZhw), x_BWhw + feature_BWhw))
        return out


def _plus(out: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """``out + x``, in place unless the sum is of the wider type of the two (autocast)."""
    return out.add_(x) if out.dtype == x.dtype else out + x
