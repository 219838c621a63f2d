"""How probable an image is, given the last state of the decoder; the bound this is half of.

``gaussian``: independent pixels with a sigma per band. ``logistic``: a mixture of discretised
logistics (Salimans et al. 2017, arXiv 1701.05517, eq. 2; Child 2021) over equidistant levels in
[0, 1]; the bands of a pixel share the component they come from and are independent given it,
where the paper has each band's mean depend on the bands before.

Computed in float32, also under autocast. A pixel without data has no part: no term, no gradient.

Shapes: ``s_BWHW`` last state, ``x_BCHW`` image in [0, 1], ``mask_BCHW`` true where there are data,
``..._BMCHW`` one entry per component.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from skytwin.encoders.vdvae_blocks import Pointwise

__all__ = ["Elbo", "GaussianLikelihood", "LogisticLikelihood", "discretised_logistic"]

SIGMA_FLOOR = 0.01
_FIRST_SIGMA = 0.1
_LOG_SCALES = (-7.0, 5.0)


@dataclass(frozen=True, kw_only=True, eq=False)
class Elbo:
    """The two halves of the evidence lower bound, in nats.

    Attributes
    ----------
    reconstruction_B : Tensor, shape (B,)
        Minus the log likelihood of each image's pixels with data.
    kl_LB : Tensor, shape (L, B)
        KL divergence of posterior from prior of each layer, from the top down.
    dims_B : Tensor, shape (B,)
        Pixels with data times bands.
    beta : float
        Weight of the KL in `loss`.
    """

    reconstruction_B: torch.Tensor
    kl_LB: torch.Tensor
    dims_B: torch.Tensor
    beta: float = 1.0

    @property
    def loss(self) -> torch.Tensor:
        """``(reconstruction + beta * KL)`` per dimension, over the whole batch; a scalar."""
        total = self.reconstruction_B.sum() + self.beta * self.kl_LB.sum()
        return total / self.dims_B.sum().clamp_min(1)

    @property
    def bits_per_dim(self) -> torch.Tensor:
        """The bound itself (beta 1) in bits per dimension, no gradient; a scalar.

        Of the Gaussian likelihood, a density over [0, 1], it can be negative; 8 bits more make it
        comparable with the logistic's at 256 levels.
        """
        total = self.reconstruction_B.detach().sum() + self.kl_LB.detach().sum()
        return total / (self.dims_B.sum().clamp_min(1) * math.log(2))


class GaussianLikelihood(nn.Module):
    """A mean per pixel and a sigma per band: a density in nats, the image in units of [0, 1].

    Parameters
    ----------
    width, channels : int
        Of the state, and bands of the image.
    sigma : float, optional
        Fixed; by default learned, from 0.1 on. Never below 0.01: the density of a pixel that is
        the same in all images (a stretch's black) has no bound.
    """

    log_sigma: torch.Tensor

    def __init__(self, width: int, channels: int, *, sigma: float | None = None) -> None:
        super().__init__()
        self.head = Pointwise(width, channels)
        start = torch.full((channels,), math.log(max(sigma or _FIRST_SIGMA, SIGMA_FLOOR)))
        if sigma is None:
            self.log_sigma = nn.Parameter(start)
        else:
            self.register_buffer("log_sigma", start)

    @property
    def sigma_C(self) -> torch.Tensor:
        """Sigma of each band."""
        return self.log_sigma.float().exp().clamp_min(SIGMA_FLOOR)

    def mean(self, s_BWHW: torch.Tensor) -> torch.Tensor:
        """The expected image ``(B, C, H, W)``, within [0, 1]."""
        return self._mean(s_BWHW).clamp(0, 1)

    def forward(
        self, s_BWHW: torch.Tensor, x_BCHW: torch.Tensor, mask_BCHW: torch.Tensor
    ) -> torch.Tensor:
        """Minus the log likelihood of each image, nats, ``(B,)``."""
        sigma_C = self.sigma_C
        apart = (x_BCHW - self._mean(s_BWHW)).masked_fill(~mask_BCHW, 0).square()
        squares_BC, valid_BC = apart.sum((2, 3)), mask_BCHW.sum((2, 3))
        constant_C = sigma_C.log() + 0.5 * math.log(2 * math.pi)
        return (0.5 * squares_BC / sigma_C.square() + valid_BC * constant_C).sum(1)

    def _mean(self, s_BWHW: torch.Tensor) -> torch.Tensor:
        # From the middle of the range, as the encoder's input is taken.
        mean: torch.Tensor = 0.5 + 0.5 * self.head(s_BWHW).float()
        return mean


class LogisticLikelihood(nn.Module):
    """A mixture of discretised logistics: a probability of the level nearest to each pixel.

    Parameters
    ----------
    width, channels : int
        Of the state, and bands of the image.
    levels : int
        Over [0, 1], both ends included.
    components : int
        Of the mixture; 1 for a single logistic.
    """

    def __init__(self, width: int, channels: int, *, levels: int = 256, components: int = 10):
        super().__init__()
        self.channels, self.levels, self.components = channels, levels, components
        self.head = Pointwise(width, components * (2 * channels + 1))

    def mean(self, s_BWHW: torch.Tensor) -> torch.Tensor:
        """The components' locations, each held within [0, 1], averaged: ``(B, C, H, W)``."""
        logits_BMHW, location_BMCHW, _ = self._mixture(s_BWHW)
        weight_BMHW = logits_BMHW.softmax(1)
        # Weights that add up to one may round to more.
        return (weight_BMHW[:, :, None] * location_BMCHW.clamp(0, 1)).sum(1).clamp(max=1)

    def forward(
        self, s_BWHW: torch.Tensor, x_BCHW: torch.Tensor, mask_BCHW: torch.Tensor
    ) -> torch.Tensor:
        """Minus the log probability of each image, nats, ``(B,)``."""
        logits_BMHW, location, log_scale = self._mixture(s_BWHW)
        log_p_BMCHW = discretised_logistic(x_BCHW[:, None], location, log_scale, self.levels)
        log_p_BMHW = log_p_BMCHW.masked_fill(~mask_BCHW[:, None], 0).sum(2)
        log_p_BHW = torch.logsumexp(logits_BMHW.log_softmax(1) + log_p_BMHW, 1)
        return -log_p_BHW.masked_fill(~mask_BCHW.any(1), 0).sum((1, 2))

    def _mixture(self, s_BWHW: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        m, c = self.components, self.channels
        out = self.head(s_BWHW).float()
        logits, location, log_scale = out.split([m, m * c, m * c], dim=1)
        return (
            logits,
            0.5 + 0.5 * location.unflatten(1, (m, c)),
            # The start of a quarter of the range: at 1 all levels would be equally probable.
            (log_scale.unflatten(1, (m, c)) - 1.5).clamp(*_LOG_SCALES),
        )


def discretised_logistic(
    x: torch.Tensor, location: torch.Tensor, log_scale: torch.Tensor, levels: int
) -> torch.Tensor:
    """Log probability of the level nearest to ``x`` under a logistic, the tails in the end levels.

    With a and b the edges of the level in units of the scale, ``sigma(b) - sigma(a)`` is written
    ``sigma(b) sigma(-a) (1 - exp(a - b))``, whose logarithm is finite wherever the level lies.
    """
    level = (x * (levels - 1)).round().clamp(0, levels - 1)
    inverse = (-log_scale).exp()
    middle = (level / (levels - 1) - location) * inverse
    half = 0.5 / (levels - 1) * inverse
    below, above = F.logsigmoid(half - middle), F.logsigmoid(middle + half)
    inside = below + above + torch.log(-torch.expm1(-2 * half))
    return torch.where(level == 0, above, torch.where(level == levels - 1, below, inside))
