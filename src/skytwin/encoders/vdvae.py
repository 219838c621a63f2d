"""The Very Deep VAE: a code and a generator from the same network.

Child 2021, "Very Deep VAEs generalize autoregressive models and can outperform them on images"
(arXiv 2011.10650), in the shape that Andrianomena & Tang 2023 (arXiv 2311.08331) gave it for radio
galaxies: six stages down to one pixel by average pooling, and up again to nearest neighbours; the
latent of the lowest one, a vector of 256, is the representation.

Domain of validity: images of one angular and photometric scale, a power of two (or nearly) on a
side. The likelihood rewards whatever takes many pixels: noise and frame before the source. Nothing
makes the network put into the top latent what the layers below can hold as well: watch it with
`skytwin.encoders.vdvae_collapse`; the other layers are to be had from `Vdvae.encode_all`.

Initialisation, as published: biases zero; the last convolution of each block that adds its input,
and each latent's projection, scaled by ``1 / sqrt(number of blocks)``; the priors standard normal.
Not as published: convolutions start so that neither signal nor gradient fades (with torch's own
start the top latent's means differ by 4e-5 from image to image, and nothing is learnt from them);
the positions' learned biases are there at every stage, whatever its size, and start at random (from
zero all places of a map that comes from one vector are alike); there is no gain and bias a channel
before the likelihood's 1x1 convolution, which has its own. Between stages a learned resampling may
take the place of means and nearest neighbours, through which a vector hardly says where things are.

Shapes: ``x_BCHW`` prepared images, ``s_BWhw`` a state, ``z_BZhw`` a latent, ``c_BK`` conditions,
``kl_LB`` a number per layer and image.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from skytwin.encoders.vdvae_blocks import (
    Gaussian,
    Pointwise,
    ResidualBlock,
    TopDownBlock,
    draw_with_kl,
    resampling,
)
from skytwin.encoders.vdvae_likelihood import Elbo, GaussianLikelihood, LogisticLikelihood
from skytwin.encoders.vdvae_shape import VdvaeShape
from skytwin.errors import Mismatch, UsageError

__all__ = ["Elbo", "Vdvae", "VdvaeShape"]

Choose = Callable[[int, Gaussian | None, Gaussian], torch.Tensor]

_WEIGHTED = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
_BIAS = 0.5  # sigma that the biases of positions start with
_GAIN = 1.25  # of a convolution after a GELU, so that neither signal nor gradient fades
_HEAD = 0.3  # of what makes pixels of the last state, a sum over all blocks


class Vdvae(nn.Module):
    """The network.

    Images are prepared ones: ``(B, C, size, size)``, float32, in [0, 1]. NaN is no data: it has no
    part in the likelihood, and the encoder is shown the median of image and band in its place (0
    where a band has no data at all). Conditions are ``(B, K)``; NaN there is not known, and taken
    as the mean, 0. All methods but `forward` are without gradient.

    Parameters
    ----------
    shape : VdvaeShape

    Raises
    ------
    Mismatch
        By all methods: images of another shape, conditions of another number.
    UsageError
        By all methods: conditions missing.
    """

    def __init__(self, shape: VdvaeShape) -> None:
        super().__init__()
        self.shape = shape
        sides, widths = shape.sides, shape.widths
        middles = [max(1, round(width * shape.bottleneck)) for width in widths]
        self.enter = nn.Conv2d(shape.channels, widths[0], 3, padding=1)
        self.encoder = nn.ModuleList(
            nn.ModuleList(
                ResidualBlock(
                    widths[stage], middles[stage], side=side, depth=sum(shape.encoder_depths)
                )
                for _ in range(shape.encoder_depths[stage])
            )
            for stage, side in enumerate(sides)
        )
        steps = [above // below for above, below in itertools.pairwise(sides)]
        made = [
            resampling(above, below, step, learned=shape.resampling == "learned")
            for above, below, step in zip(widths, widths[1:], steps, strict=False)
        ]
        self.narrower = nn.ModuleList(down for down, _ in made)
        self.wider = nn.ModuleList(up for _, up in made)
        # What all posteriors of a stage make of the encoder's features with their first layer.
        self.from_encoder = nn.ModuleList(
            Pointwise(width, middle * depth, bias=False)
            for width, middle, depth in zip(widths, middles, shape.decoder_depths, strict=True)
        )
        latents = iter(shape.latents)
        decoder = [
            nn.ModuleList(
                TopDownBlock(
                    widths[stage],
                    middles[stage],
                    next(latents)[0],
                    side=sides[stage],
                    depth=len(shape.latents),
                )
                for _ in range(shape.decoder_depths[stage])
            )
            for stage in reversed(range(shape.stages))
        ]
        self.decoder = nn.ModuleList(decoder[::-1])
        self.bias = nn.ParameterList(
            _BIAS * torch.randn(1, width, side, side)
            for width, side in zip(widths, sides, strict=True)
        )
        self.condition = nn.ModuleList(
            nn.Linear(shape.conditions, width) for width in widths if shape.conditions
        )
        self.likelihood: GaussianLikelihood | LogisticLikelihood = (
            GaussianLikelihood(widths[0], shape.channels, sigma=shape.sigma)
            if shape.likelihood == "gaussian"
            else LogisticLikelihood(
                widths[0], shape.channels, levels=shape.levels, components=shape.components
            )
        )
        self._initialise()
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @property
    def parameter_count(self) -> int:
        """Numbers learned."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad)

    def forward(
        self,
        x_BCHW: torch.Tensor,
        condition: torch.Tensor | None = None,
        beta: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> Elbo:
        """The bound with one draw of the latents, by `generator` or torch's own."""
        seen, mask = self._fill(x_BCHW)
        kl: list[torch.Tensor] = []

        def choose(_: int, q: Gaussian | None, p: Gaussian) -> torch.Tensor:
            assert q is not None
            z, kl_B = draw_with_kl(q, p, q.noise(len(x_BCHW), generator))
            kl.append(kl_B)
            return z

        state = self._descend(choose, len(x_BCHW), condition, self._ascend(seen))
        return Elbo(
            reconstruction_B=self.likelihood(state, seen, mask),
            kl_LB=torch.stack(kl),
            dims_B=mask.sum((1, 2, 3)),
            beta=beta,
        )

    @torch.no_grad()
    def encode(
        self,
        x_BCHW: torch.Tensor,
        condition: torch.Tensor | None = None,
        *,
        temperature: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> torch.Tensor:
        """The representation ``(B, latent_dim)``: the posterior's mean of the top latent.

        A draw from it above temperature 0. Equivalent to ``encode_all(...)[0].flatten(1)``,
        without the decoder below.
        """
        top = self._ascend(self._fill(x_BCHW)[0])[-1]
        blocks: Any = self.decoder[-1]
        block = blocks[0]
        state = self._base(len(self.bias) - 1, len(x_BCHW), condition)
        encoder_BMhw = self.from_encoder[-1](F.gelu(top))[:, : block.middle]
        q: Gaussian = block.posterior(block.halves(state)[0], encoder_BMhw)
        return q.draw(len(x_BCHW), temperature, generator).flatten(1)

    @torch.no_grad()
    def top_prior_sigma(self) -> torch.Tensor:
        """Sigma ``(latent_dim,)`` of the top latent's prior, conditions at 0."""
        blocks: Any = self.decoder[-1]
        nothing = torch.zeros(1, self.shape.conditions, device=self.bias[0].device)
        state = self._base(len(self.bias) - 1, 1, nothing)
        prior: Gaussian = blocks[0].prior(blocks[0].prior_half(state))[0]
        return prior.log_sigma.exp().flatten()

    @torch.no_grad()
    def encode_all(
        self,
        x_BCHW: torch.Tensor,
        condition: torch.Tensor | None = None,
        *,
        temperature: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> list[torch.Tensor]:
        """Latents of each layer, from the top down: the posteriors' means at temperature 0.

        Above it they are draws, sigma times temperature.
        """
        found: list[torch.Tensor] = []

        def choose(_: int, q: Gaussian | None, _p: Gaussian) -> torch.Tensor:
            assert q is not None
            found.append(q.draw(len(x_BCHW), temperature, generator))
            return found[-1]

        self._descend(choose, len(x_BCHW), condition, self._ascend(self._fill(x_BCHW)[0]))
        return found

    @torch.no_grad()
    def decode(
        self,
        latents: Sequence[torch.Tensor],
        condition: torch.Tensor | None = None,
        *,
        temperature: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> torch.Tensor:
        """Expected images ``(B, C, size, size)`` of latents from the top down.

        Parameters
        ----------
        latents : sequence of Tensor
            As `encode_all` gives them, or fewer: the others come from the prior. The first may be
            ``(B, latent_dim)``, as `encode` gives it.
        temperature : float
            Of what comes from the prior: times its sigma.
        """
        wanted = self.shape.latents
        if not 1 <= len(latents) <= len(wanted):
            raise UsageError(
                f"{len(latents)} latents; the network has {len(wanted)}: give 1 to that"
            )
        batch, given = len(latents[0]), []
        for layer, (z, (channels, side)) in enumerate(zip(latents, wanted, strict=False)):
            full = (batch, channels, side, side)
            if z.shape != full and tuple(z.shape) != (batch, channels):
                raise Mismatch(
                    f"latent {layer} of shape {tuple(z.shape)}; expected {full}: give what "
                    "encode_all of this very network gave"
                )
            given.append(z.reshape(full))
        return self._generate(given, batch, condition, temperature, generator)

    @torch.no_grad()
    def reconstruct(
        self,
        x_BCHW: torch.Tensor,
        condition: torch.Tensor | None = None,
        *,
        temperature: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> torch.Tensor:
        """Expected images after their own latents: `encode_all`, then `decode`."""
        latents = self.encode_all(x_BCHW, condition, temperature=temperature, generator=generator)
        return self.decode(latents, condition)

    @torch.no_grad()
    def sample(
        self,
        n: int,
        temperature: float = 1.0,
        condition: torch.Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> torch.Tensor:
        """Expected images ``(n, C, size, size)`` of latents from the prior, without pixel noise.

        At temperature 0 they differ by their conditions alone.
        """
        return self._generate([], n, condition, temperature, generator)

    @torch.no_grad()
    def interpolate(
        self,
        a_CHW: torch.Tensor,
        b_CHW: torch.Tensor,
        steps: int,
        condition: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Images ``(steps, C, size, size)`` from one to another, ends included.

        Linear, at once in the means of all layers (and in the conditions ``(2, K)``): means lie
        on no sphere, so there is no arc to follow. The ends are what `reconstruct` gives.
        """
        if steps < 2:
            raise UsageError(f"{steps} steps; expected at least 2, the two ends")
        means = self.encode_all(torch.stack([a_CHW, b_CHW]), condition)
        share = torch.linspace(0, 1, steps, device=a_CHW.device)
        between = [_between(z, share) for z in means]
        given = None if condition is None else _between(_known(condition), share)
        return self.decode(between, given)

    def _generate(
        self,
        given: list[torch.Tensor],
        batch: int,
        condition: torch.Tensor | None,
        temperature: float,
        generator: torch.Generator | None,
    ) -> torch.Tensor:
        def choose(layer: int, _: Gaussian | None, p: Gaussian) -> torch.Tensor:
            return given[layer] if layer < len(given) else p.draw(batch, temperature, generator)

        return self.likelihood.mean(self._descend(choose, batch, condition, None))

    def _fill(self, x_BCHW: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The image as the encoder is shown it, and where it has data."""
        wanted = (self.shape.channels, self.shape.size, self.shape.size)
        if tuple(x_BCHW.shape[1:]) != wanted:
            raise Mismatch(
                f"images of shape {tuple(x_BCHW.shape[1:])}; the network takes {wanted}: prepare "
                "them with the settings it was trained with"
            )
        x = x_BCHW.float()
        mask = torch.isfinite(x)
        if mask.all():
            return x, mask
        blank = torch.full((), math.nan, dtype=x.dtype, device=x.device)
        median_BC = torch.where(mask, x, blank).flatten(2).nanmedian(2).values.nan_to_num(0.0)
        return torch.where(mask, x, median_BC[:, :, None, None]), mask

    def _ascend(self, x_BCHW: torch.Tensor) -> list[torch.Tensor]:
        """The encoder's last features of each stage."""
        s = self.enter((2 * x_BCHW - 1).contiguous(memory_format=torch.channels_last))
        found = []
        for stage, blocks in enumerate(self.encoder):
            for block in blocks:  # type: ignore[attr-defined]
                s = block(s)
            found.append(s)
            if stage < len(self.narrower):
                s = self.narrower[stage](s)
        return found

    def _descend(
        self,
        choose: Choose,
        batch: int,
        condition: torch.Tensor | None,
        features: list[torch.Tensor] | None,
    ) -> torch.Tensor:
        """The decoder's last state; posteriors are there if the encoder's features are."""
        layer = 0
        s = self._base(len(self.bias) - 1, batch, condition)
        for stage in reversed(range(self.shape.stages)):
            if stage < self.shape.stages - 1:
                s = self.wider[stage](s) + self._base(stage, batch, condition)
            blocks: Any = self.decoder[stage]
            halves: Sequence[torch.Tensor | None] = [None] * len(blocks)
            if features is not None:
                halves = self.from_encoder[stage](F.gelu(features[stage])).chunk(len(blocks), 1)
            for block, encoder_BMhw in zip(blocks, halves, strict=True):
                if encoder_BMhw is None:
                    q, prior_BMhw = None, block.prior_half(s)
                else:
                    posterior_BMhw, prior_BMhw = block.halves(s)
                    q = block.posterior(posterior_BMhw, encoder_BMhw)
                p, feature = block.prior(prior_BMhw)
                s = block.advance(s, feature, choose(layer, q, p))
                layer += 1
        return s

    def _base(self, stage: int, batch: int, condition: torch.Tensor | None) -> torch.Tensor:
        """What a stage's state is before anything comes from above; of batch 1 where it may be."""
        base: torch.Tensor = self.bias[stage]
        wanted = self.shape.conditions
        if condition is None and not wanted:
            return base
        if condition is None:
            raise UsageError(
                f"the network was trained with {wanted} catalogue columns and got none; give one "
                "row of them per image, standardised, NaN where not known"
            )
        if tuple(condition.shape) != (batch, wanted):
            raise Mismatch(
                f"conditions of shape {tuple(condition.shape)}; expected {(batch, wanted)}: one "
                "row per image, one column per condition the network was trained with"
            )
        if not wanted:
            return base
        shift_BW: torch.Tensor = self.condition[stage](_known(condition))
        return base + shift_BW[:, :, None, None]

    def _initialise(self) -> None:
        with torch.no_grad():
            for module in self.modules():
                if isinstance(module, _WEIGHTED) and module.bias is not None:
                    module.bias.zero_()
                if isinstance(module, nn.Conv2d):
                    module.weight.mul_(_GAIN * math.sqrt(3))  # torch's own: 1 / sqrt(3 fan_in)
                elif isinstance(module, nn.ConvTranspose2d):
                    module.weight.normal_(0, _GAIN / math.sqrt(module.in_channels))
            for halves in self.from_encoder:
                halves.weight.mul_(math.sqrt(0.5))  # type: ignore[operator]
            self.likelihood.head.weight.mul_(_HEAD)


def _between(ends: torch.Tensor, share_N: torch.Tensor) -> torch.Tensor:
    """From the first row to the second."""
    share = share_N.reshape(-1, *[1] * (ends.ndim - 1))
    return ends[0] * (1 - share) + ends[1] * share


def _known(condition: torch.Tensor) -> torch.Tensor:
    """What is not known is taken as the mean of a standardised column."""
    # Not nan_to_num, which OpenVINO cannot run.
    given = condition.float()
    return torch.where(torch.isfinite(given), given, torch.zeros_like(given))
