"""A training step of the VDVAE against a straightforward writing of the published blocks.

Same weights, same images, same noise, same Adam, float32: forward, backward and update, timed in
turn, so that a slow moment hits both. The straightforward one is what figure 3 of Child 2021
(arXiv 2011.10650) says, block by block; it runs in a process of its own with the C library's
allocator as it comes, and once more with the setting that skytwin makes (`keep_memory`), which
tells the two sources of speed apart.

    python benchmarks/vdvae_step.py [--shape tiny|paper] [--batch 16] [--rounds 9] [--threads 1]

"""

from __future__ import annotations

import argparse
import multiprocessing as mp
import statistics
import time
from multiprocessing.connection import Connection
from typing import Any

import torch
from rows import Row, machine, table
from torch import nn

from skytwin.encoders.runtime import keep_memory
from skytwin.encoders.vdvae import Elbo, Vdvae, VdvaeShape

SHAPES = {
    "tiny": VdvaeShape(
        size=64, width=32, encoder_blocks=1, decoder_blocks=1, latent_dim=256, z_channels=8
    ),
    "paper": VdvaeShape(
        size=64,
        width=128,
        encoder_blocks=(2, 3, 3, 3, 2, 1),
        decoder_blocks=(2, 4, 4, 4, 2, 1),
    ),
}


class Block(nn.Module):
    """GELU and convolution, four times."""

    def __init__(self, inside: int, middle: int, outside: int, side: int, residual: bool) -> None:
        super().__init__()
        kernel, pad = (3, 1) if side > 2 else (1, 0)
        self.residual = residual
        self.c1 = nn.Conv2d(inside, middle, 1)
        self.c2 = nn.Conv2d(middle, middle, kernel, padding=pad)
        self.c3 = nn.Conv2d(middle, middle, kernel, padding=pad)
        self.c4 = nn.Conv2d(middle, outside, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.c1(nn.functional.gelu(x))
        out = self.c2(nn.functional.gelu(out))
        out = self.c3(nn.functional.gelu(out))
        out = self.c4(nn.functional.gelu(out))
        return x + out if self.residual else out


class TopDown(nn.Module):
    """Prior, posterior, projection and output of one layer."""

    def __init__(self, width: int, middle: int, z: int, side: int) -> None:
        super().__init__()
        self.z = z
        self.posterior = Block(2 * width, middle, 2 * z, side, residual=False)
        self.prior = Block(width, middle, 2 * z + width, side, residual=False)
        self.project = nn.Conv2d(z, width, 1)
        self.output = Block(width, middle, width, side, residual=True)

    def forward(self, x: torch.Tensor, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        q_mean, q_log = self.posterior(torch.cat([x, features], 1)).chunk(2, 1)
        p_mean, p_log, more = self.prior(x).split([self.z, self.z, x.shape[1]], 1)
        x = x + more
        batch, channels, height, width = q_mean.shape
        noise = torch.randn(batch, height, width, channels).permute(0, 3, 1, 2)
        z = q_mean + torch.exp(q_log) * noise
        kl = (
            -0.5
            + p_log
            - q_log
            + 0.5 * (torch.exp(q_log) ** 2 + (q_mean - p_mean) ** 2) / torch.exp(p_log) ** 2
        )
        return self.output(x + self.project(z)), kl.sum((1, 2, 3))


class Straightforward(nn.Module):
    """The published network; one width, one latent size per layer, Gaussian likelihood."""

    def __init__(self, shape: VdvaeShape) -> None:
        super().__init__()
        width = shape.widths[0]
        middle = round(width * shape.bottleneck)
        self.shape = shape
        self.enter = nn.Conv2d(shape.channels, width, 3, padding=1)
        self.encoder = nn.ModuleList(
            nn.ModuleList(Block(width, middle, width, side, True) for _ in range(depth))
            for side, depth in zip(shape.sides, shape.encoder_depths, strict=True)
        )
        latents = iter(shape.latents)
        self.decoder = nn.ModuleList(
            nn.ModuleList(TopDown(width, middle, next(latents)[0], side) for _ in range(depth))
            for side, depth in zip(shape.sides[::-1], shape.decoder_depths[::-1], strict=True)
        )
        self.bias = nn.ParameterList(torch.zeros(1, width, s, s) for s in shape.sides)
        self.head = nn.Conv2d(width, shape.channels, 1)
        self.log_sigma = nn.Parameter(torch.zeros(shape.channels))

    def forward(self, x: torch.Tensor) -> Elbo:
        s = self.enter(2 * x - 1)
        features = []
        for stage, blocks in enumerate(self.encoder):
            for block in blocks:
                s = block(s)
            features.append(s)
            if stage + 1 < len(self.encoder):
                s = nn.functional.avg_pool2d(
                    s, self.shape.sides[stage] // self.shape.sides[stage + 1]
                )
        state, kls = None, []
        for stage, blocks in zip(range(len(features) - 1, -1, -1), self.decoder, strict=True):
            bias = self.bias[stage].repeat(len(x), 1, 1, 1)
            state = (
                bias
                if state is None
                else nn.functional.interpolate(state, size=bias.shape[2:]) + bias
            )
            for block in blocks:
                state, kl = block(state, features[stage])
                kls.append(kl)
        mean = 0.5 + 0.5 * self.head(state)
        likelihood = torch.distributions.Normal(
            mean, self.log_sigma.exp()[:, None, None].expand_as(mean), validate_args=False
        )
        return Elbo(
            reconstruction_B=-likelihood.log_prob(x).sum((1, 2, 3)),
            kl_LB=torch.stack(kls),
            dims_B=torch.full((len(x),), x[0].numel()),
        )


@torch.no_grad()
def straightforward(model: Vdvae) -> Straightforward:
    """The published network with the weights of ours."""
    twin = Straightforward(model.shape)

    def copy(to: nn.Module, *parts: Any) -> None:
        weights = [part.weight for part in parts]
        to.weight.copy_(weights[0] if len(weights) == 1 else torch.cat(weights, 1))
        to.bias.copy_(parts[0].bias)

    def copy_rest(to: Block, rest: Any) -> None:
        copy(to.c2, rest.second)
        copy(to.c3, rest.third)
        copy(to.c4, rest.last)

    copy(twin.enter, model.enter)
    copy(twin.head, model.likelihood.head)
    twin.log_sigma.copy_(model.likelihood.log_sigma)
    for to, bias in zip(twin.bias, model.bias, strict=True):
        to.copy_(bias)
    for to_stage, stage in zip(twin.encoder, model.encoder, strict=True):
        for to, block in zip(to_stage, stage, strict=True):
            copy(to.c1, block.first)
            copy_rest(to, block.rest)
    for stage, (to_stage, blocks) in enumerate(
        zip(reversed(twin.decoder), model.decoder, strict=True)
    ):
        for number, (to, block) in enumerate(zip(to_stage, blocks, strict=True)):
            m = block.middle
            part = model.from_encoder[stage].weight[number * m : (number + 1) * m]
            to.posterior.c1.weight.copy_(torch.cat([block.first.weight[:m], part], 1))
            to.posterior.c1.bias.copy_(block.first.bias[:m])
            to.prior.c1.weight.copy_(block.first.weight[m:])
            to.prior.c1.bias.copy_(block.first.bias[m:])
            copy_rest(to.posterior, block.posterior_rest)
            copy_rest(to.prior, block.prior_rest)
            copy(to.project, block.project)
            copy(to.output.c1, block.output.first)
            copy_rest(to.output, block.output.rest)
    return twin


def serve(pipe: Connection, name: str, shape: VdvaeShape, batch: int, threads: int) -> None:
    """Run a step whenever asked; answer with its seconds and its loss."""
    torch.set_num_threads(threads)
    if name != "straightforward":
        keep_memory()
    torch.manual_seed(0)
    ours = Vdvae(shape)
    model = ours if name == "skytwin" else straightforward(ours)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-4)
    torch.manual_seed(1)
    x = torch.rand(batch, shape.channels, shape.size, shape.size)
    while pipe.recv():
        start = time.perf_counter()
        loss = model(x).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        pipe.send((time.perf_counter() - start, loss.item()))


NAMES = ("straightforward", "straightforward, keep_memory", "skytwin")


def compare(shape: VdvaeShape, batch: int, rounds: int, threads: int) -> dict[str, list[float]]:
    """Seconds of each step."""
    context = mp.get_context("spawn")
    pipes, times = {}, {name: [] for name in NAMES}
    for name in NAMES:
        pipes[name], theirs = context.Pipe()
        arguments = (theirs, name, shape, batch, threads)
        context.Process(target=serve, args=arguments, daemon=True).start()
    # The first ones prepare.
    for number in range(rounds + 2):
        losses = []
        for name, pipe in pipes.items():
            pipe.send(True)
            seconds, loss = pipe.recv()
            losses.append(loss)
            if number > 1:
                times[name].append(seconds)
        if number == 0 and max(losses) - min(losses) > 1e-4 * abs(losses[0]):
            raise SystemExit(f"the networks differ: losses {losses}")
    for pipe in pipes.values():
        pipe.send(False)
    return times


def measure(name: str = "tiny", batch: int = 16, rounds: int = 7, threads: int = 2) -> list[Row]:
    """Medians over the rounds."""
    shape = SHAPES[name]
    times = compare(shape, batch, rounds, threads)
    what = (
        f"training step of a VDVAE, {shape.size} px, {len(shape.latents)} layers, "
        f"{Vdvae(shape).parameter_count:,} parameters, batch {batch}, {threads} threads"
    )
    return [Row(what, name, statistics.median(times[name]), "s") for name in NAMES]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--shape", choices=SHAPES, default="tiny")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    print(f"{table(measure(args.shape, args.batch, args.rounds, args.threads))}\n\n{machine()}")


if __name__ == "__main__":
    main()
