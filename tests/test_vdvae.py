"""The Very Deep VAE against torch.distributions, scipy and the published blocks."""

from __future__ import annotations

import importlib.util
import json
import math
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch

from skytwin.encoders.encoder import orbit_views
from skytwin.encoders.objective import Batch
from skytwin.encoders.recipe import read_recipe
from skytwin.encoders.vdvae import Elbo, Vdvae, VdvaeShape
from skytwin.encoders.vdvae_blocks import Gaussian, draw_with_kl, normal_kl
from skytwin.encoders.vdvae_collapse import CollapseReport, active_units, collapse
from skytwin.encoders.vdvae_likelihood import (
    GaussianLikelihood,
    LogisticLikelihood,
    discretised_logistic,
)
from skytwin.encoders.vdvae_training import VdvaeObjective
from skytwin.errors import Mismatch, UnknownName, UsageError

SMALL: dict[str, Any] = {
    "size": 32,
    "width": 16,
    "bottleneck": 0.5,
    "encoder_blocks": 1,
    "decoder_blocks": 1,
    "latent_dim": 32,
    "z_channels": 4,
}


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


def network(**settings: Any) -> Vdvae:
    return Vdvae(VdvaeShape(**{**SMALL, **settings}))


@torch.no_grad()
def shaken(model: Vdvae, scale: float = 0.05) -> Vdvae:
    """Away from the start, where the priors' last weights are zero."""
    for parameter in model.parameters():
        parameter.add_(scale * torch.randn_like(parameter))
    return model


def blobs(n: int, seed: int, size: int = 32, sigma: torch.Tensor | None = None) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    x, y = (torch.rand(2, n, 1, 1, generator=rng) * 0.5 + 0.25).unbind()
    width = torch.rand(n, 1, 1, generator=rng) * 0.1 + 0.06
    if sigma is not None:
        width = sigma[:, None, None]
    at = (torch.arange(size) + 0.5) / size
    return torch.exp(-((at[:, None] - y) ** 2 + (at - x) ** 2) / (2 * width**2))[:, None]


def train(
    model: Vdvae,
    x: torch.Tensor,
    steps: int,
    condition: torch.Tensor | None = None,
    lr: float = 1e-3,
) -> list[float]:
    optimiser = torch.optim.Adam(model.parameters(), lr=lr)
    losses = []
    for _ in range(steps):
        rows = torch.randint(len(x), (16,))
        loss = model(x[rows], None if condition is None else condition[rows]).loss
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        losses.append(loss.item())
    return losses


@pytest.fixture(scope="module")
def trained() -> tuple[Vdvae, list[float]]:
    torch.manual_seed(0)
    model = network()
    return model, train(model, blobs(256, seed=0), 120)


@pytest.fixture(scope="module")
def plain() -> ModuleType:
    """The published blocks as the benchmark has them."""
    path = Path(__file__).parents[1] / "benchmarks" / "vdvae_step.py"
    spec = importlib.util.spec_from_file_location("vdvae_step", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def gaussian(batch: int, spread: float = 1.0) -> Gaussian:
    mean, raw = torch.randn(2, batch, 3, 2, 2) * spread
    return Gaussian(mean.requires_grad_(), raw.requires_grad_())


# -- the pieces ------------------------------------------------------------------------------


def test_the_kl_is_that_of_torch_distributions() -> None:
    q, p = gaussian(4), gaussian(4)
    normal = torch.distributions.Normal
    expected = torch.distributions.kl_divergence(
        normal(q.mean, q.log_sigma.exp()), normal(p.mean, p.log_sigma.exp())
    )
    torch.testing.assert_close(normal_kl(q, p), expected)


@pytest.mark.parametrize("prior_batch", [1, 4])
@pytest.mark.parametrize("spread", [1.0, 6.0])  # at 6 some log sigmas are held at the bounds
def test_the_gradient_by_hand_is_that_of_the_plain_form(prior_batch: int, spread: float) -> None:
    q, p = gaussian(4, spread), gaussian(prior_batch, spread)
    noise, weight = torch.randn(4, 3, 2, 2), torch.rand(4)
    leaves = (q.mean, q.raw, p.mean, p.raw)

    def gradients(z: torch.Tensor, kl: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return torch.autograd.grad((z.sin().sum() + kl @ weight), leaves)

    z, kl = draw_with_kl(q, p, noise)
    plain_z, plain_kl = q.mean + q.log_sigma.exp() * noise, normal_kl(q, p).sum((1, 2, 3))
    torch.testing.assert_close((z, kl), (plain_z, plain_kl), rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(gradients(z, kl), gradients(plain_z, plain_kl), rtol=1e-4, atol=1e-4)


def test_wild_log_sigmas_leave_all_finite() -> None:
    wild = torch.tensor([-1e4, 1e4]).reshape(1, 2, 1, 1)
    q, p = Gaussian(-wild / 100, wild), Gaussian(wild / 100, wild.flip(1))
    for value in (*draw_with_kl(q, p, torch.ones_like(wild)), normal_kl(q, p)):
        assert torch.isfinite(value).all()


@pytest.mark.parametrize(("location", "log_scale"), [(0.3, -3.0), (-2.0, 0.0), (1.4, -7.0)])
def test_the_discretised_logistic_adds_up_to_one(location: float, log_scale: float) -> None:
    levels = torch.linspace(0, 1, 256, dtype=torch.float64)
    given = [torch.tensor(v, dtype=torch.float64) for v in (location, log_scale)]
    log_p = discretised_logistic(levels, *given, 256)
    assert torch.isfinite(log_p).all()
    assert log_p.exp().sum().item() == pytest.approx(1, abs=1e-12)
    cdf = scipy.stats.logistic(location, math.exp(log_scale)).cdf
    edges = np.concatenate([[-np.inf], (np.arange(255) + 0.5) / 255, [np.inf]])
    np.testing.assert_allclose(log_p.exp(), np.diff(cdf(edges)), atol=1e-12)


def test_the_mixture_is_a_probability_over_all_images_of_two_pixels() -> None:
    head = LogisticLikelihood(8, 1, levels=5, components=3)
    grid = torch.linspace(0, 1, 5)
    x = torch.cartesian_prod(grid, grid).reshape(25, 1, 1, 2)
    state = torch.randn(1, 8, 1, 2).expand(25, -1, -1, -1)
    assert (-head(state, x, torch.ones_like(x, dtype=torch.bool))).exp().sum().item() == (
        pytest.approx(1, abs=1e-5)
    )


@pytest.mark.parametrize("sigma", [None, 0.2, 1e-9])
def test_the_gaussian_likelihood_is_that_of_scipy(sigma: float | None) -> None:
    head = GaussianLikelihood(8, 2, sigma=sigma)
    state, x = torch.randn(3, 8, 4, 4), torch.rand(3, 2, 4, 4)
    mean = (0.5 + 0.5 * head.head(state)).detach().numpy()
    scale = {None: 0.1, 0.2: 0.2, 1e-9: 0.01}[sigma]  # the last one is the floor
    expected = -scipy.stats.norm(mean, scale).logpdf(x.numpy()).sum((1, 2, 3))
    got = head(state, x, torch.ones_like(x, dtype=torch.bool)).detach().numpy()
    np.testing.assert_allclose(got, expected, rtol=1e-5)
    assert isinstance(head.log_sigma, torch.nn.Parameter) == (sigma is None)


# -- the network -----------------------------------------------------------------------------


@pytest.mark.parametrize("blocks", [1, (1, 2, 1, 1, 2, 1)])
def test_rearranged_it_is_the_published_network(plain: ModuleType, blocks: Any) -> None:
    model = shaken(network(encoder_blocks=blocks, decoder_blocks=blocks))
    twin = plain.straightforward(model)
    x = torch.rand(3, 1, 32, 32)
    found = []
    for each in (model, twin):
        torch.manual_seed(3)
        elbo = each(x)
        elbo.loss.backward()
        found.append((elbo, elbo.loss.item(), each.bias[0].grad, each.enter.weight.grad))
    (ours, our_loss, *our_grads), (theirs, their_loss, *their_grads) = found
    assert our_loss == pytest.approx(their_loss, rel=1e-5)
    torch.testing.assert_close(ours.reconstruction_B, theirs.reconstruction_B, rtol=1e-5, atol=0)
    torch.testing.assert_close(ours.kl_LB, theirs.kl_LB, rtol=1e-4, atol=1e-4)
    for ours_grad, theirs_grad in zip(our_grads, their_grads, strict=True):
        scale = theirs_grad.abs().max().item()
        torch.testing.assert_close(ours_grad, theirs_grad, rtol=0, atol=1e-4 * scale)


@pytest.mark.parametrize(
    ("settings", "layers"),
    [
        ({"size": 32}, 6),
        ({"size": 64, "channels": 3, "width": (8, 8, 16, 16, 16, 24)}, 6),
        ({"size": 48, "likelihood": "logistic", "channels": 3, "components": 2}, 6),
        ({"size": 16, "stages": 4, "decoder_blocks": (1, 1, 2, 2), "conditions": 2}, 6),
        ({"size": 48, "width": (8, 8, 16, 16, 16, 24), "resampling": "learned"}, 6),
    ],
)
def test_every_shape_goes_all_the_ways(settings: dict[str, Any], layers: int) -> None:
    model = network(**settings)
    shape = model.shape
    x = torch.rand(2, shape.channels, shape.size, shape.size)
    c = torch.tensor([[0.5, math.nan], [1.0, -1.0]]) if shape.conditions else None
    elbo = model(x, c)
    elbo.loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert elbo.reconstruction_B.shape == (2,)
    assert elbo.kl_LB.shape == (layers, 2)
    assert (elbo.kl_LB >= -1e-5).all()
    assert elbo.dims_B.tolist() == [x[0].numel()] * 2
    assert model.encode(x, c).shape == (2, 32)
    means = model.encode_all(x, c)
    assert [(z.shape[1], z.shape[2]) for z in means] == list(shape.latents)
    for images in (
        model.reconstruct(x, c),
        model.sample(2, condition=c),
        model.decode([model.encode(x, c)], c),
        model.interpolate(x[0], x[1], 2, c),
    ):
        assert images.shape == x.shape
        assert images.min() >= 0
        assert images.max() <= 1


def test_the_bound_is_put_together_as_said() -> None:
    elbo = Elbo(
        reconstruction_B=torch.tensor([10.0, 20.0]),
        kl_LB=torch.tensor([[1.0, 2.0], [3.0, 4.0]]),
        dims_B=torch.tensor([4, 6]),
        beta=0.5,
    )
    assert elbo.loss.item() == pytest.approx((30 + 0.5 * 10) / 10)
    assert elbo.bits_per_dim.item() == pytest.approx((30 + 10) / 10 / math.log(2))


@pytest.mark.parametrize("conditions", [0, 1])
def test_encode_is_the_first_of_all_latents(conditions: int) -> None:
    model = shaken(network(conditions=conditions, decoder_blocks=(1, 1, 1, 1, 1, 2)))
    x, c = torch.rand(3, 1, 32, 32), torch.randn(3, 1) if conditions else None
    fast = model.encode(x, c)
    torch.testing.assert_close(fast, model.encode_all(x, c)[0].flatten(1))
    assert torch.equal(fast, model.encode(x, c))
    assert fast.std(0).mean() > 1e-5


@pytest.mark.parametrize("likelihood", ["gaussian", "logistic"])
def test_pixels_without_data_have_no_part(likelihood: str) -> None:
    model = shaken(network(likelihood=likelihood, channels=2, components=2))
    x = torch.rand(2, 2, 32, 32)
    x[0, 0, :9] = math.nan
    x[1, 1] = math.nan
    assert model(x).dims_B.tolist() == [2 * 32 * 32 - 9 * 32, 32 * 32]
    seen, mask = model._fill(x)
    assert seen[0, 0, 0, 0] == x[0, 0, 9:].median()
    assert (seen[1, 1] == 0).all()

    state = torch.randn(2, 16, 32, 32, requires_grad=True)
    terms = model.likelihood(state, seen, mask)
    (gradient,) = torch.autograd.grad(terms.sum(), state)
    other = torch.where(mask, seen, torch.rand_like(seen))
    torch.testing.assert_close(model.likelihood(state, other, mask), terms, rtol=0, atol=0)
    assert gradient.isfinite().all()
    blank = torch.ones_like(mask)
    blank[:, :, :9] = False
    (gradient,) = torch.autograd.grad(model.likelihood(state, seen, blank).sum(), state)
    assert (gradient[:, :, :9] == 0).all()
    assert (gradient[:, :, 9:] != 0).any()

    empty = model(torch.full_like(x, math.nan))
    assert empty.reconstruction_B.tolist() == [0, 0]
    assert torch.isfinite(empty.loss)


def test_a_seed_settles_everything() -> None:
    model = shaken(network())
    x = torch.rand(2, 1, 32, 32)

    def seeded(seed: int) -> torch.Generator:
        return torch.Generator().manual_seed(seed)

    a, b, c = (model(x, generator=seeded(seed)).loss.item() for seed in (1, 1, 2))
    assert a == b != c
    assert torch.equal(model.sample(2, generator=seeded(1)), model.sample(2, generator=seeded(1)))
    still = model.sample(3, temperature=0)
    assert torch.equal(still[0], still[1])
    assert not torch.equal(*model.sample(2, temperature=0.5))
    assert torch.equal(model.reconstruct(x), model.reconstruct(x))


def test_under_bfloat16_the_bound_stays_near() -> None:
    model = shaken(network(channels=3))
    x = torch.rand(4, 3, 32, 32)
    exact = model(x, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = model(x, generator=torch.Generator().manual_seed(0))
        loss = rough.loss
    loss.backward()
    assert rough.kl_LB.dtype == rough.reconstruction_B.dtype == torch.float32
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert loss.item() == pytest.approx(exact.loss.item(), rel=0.02)


def test_the_top_prior_is_what_generation_draws_from() -> None:
    model = shaken(network(conditions=1))
    unknown = torch.full((2, 1), math.nan)
    with torch.no_grad():
        blocks: Any = model.decoder[-1]
        draws: list[torch.Tensor] = []
        blocks[0].project.register_forward_pre_hook(lambda _, given: draws.append(given[0]))
        model.sample(2000, condition=unknown[:1].expand(2000, -1))
    sigma = draws[0].flatten(1).std(0)
    torch.testing.assert_close(model.top_prior_sigma(), sigma, rtol=0.08, atol=0)
    assert sigma.std() > 0.01


def test_the_priors_start_as_standard_normals_that_add_nothing() -> None:
    model = network(encoder_blocks=4)
    assert model(torch.rand(2, 1, 32, 32)).kl_LB.sum() < 150
    prior, feature = model.decoder[0][0].prior(torch.randn(1, 8, 32, 32))
    assert not prior.mean.any()
    assert not prior.raw.any()
    assert not feature.any()
    block = model.encoder[0][0]
    last, first = block.rest.last.weight.detach(), block.first.weight.detach()
    # By their inputs, 8 and 16, and the blocks of the encoder.
    assert last.std() / first.std() == pytest.approx(math.sqrt(16 / 8 / 24), rel=0.2)
    assert model.parameter_count == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("resampling", ["plain", "learned"])
def test_at_the_start_the_top_latent_is_seen_and_sees(resampling: str) -> None:
    # With the library's own start its means differ by 4e-5 from image to image, and images by
    # 1e-4 from draw to draw: nothing to learn from.
    model = network(width=(24, 48, 64, 96, 128, 192), bottleneck=0.25, resampling=resampling)
    assert model.encode(blobs(64, seed=0)).std(0).mean() > 2e-3
    assert model.decode([torch.randn(64, 32)]).std(0).mean() > 0.02


# -- settings and refusals -------------------------------------------------------------------


def test_settings_come_back_from_json() -> None:
    shape = VdvaeShape(size=64, width=(8, 8, 8, 8, 8, 16), conditions=1)
    assert VdvaeShape.from_dict(json.loads(json.dumps(shape.to_dict()))) == shape
    with pytest.raises(UnknownName, match="did you mean: width"):
        VdvaeShape.from_dict({"size": 64, "widht": 3})


def test_sides_halve_down_to_one_pixel() -> None:
    assert VdvaeShape(size=64).sides == (64, 32, 16, 8, 4, 1)
    assert VdvaeShape(size=32).sides == (32, 16, 8, 4, 2, 1)
    assert VdvaeShape(size=96).sides == (96, 48, 24, 12, 6, 1)
    assert VdvaeShape(size=64).latents[:3] == ((256, 1), (16, 1), (16, 4))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": 16}, "16 pixels are smaller than the network's 6 stages; .* at least 32: .* 5 s"),
        ({"size": 150}, "150 pixels cannot be halved 4 times; .* of 16: resize them to 144 or 160"),
        ({"width": (8, 8)}, r"width \(8, 8\) for 6 stages"),
        ({"width": 0}, "width is 0"),
        ({"latent_dim": 0}, "latent_dim is 0"),
        ({"stages": 1}, "1 stages"),
        ({"bottleneck": 0.0}, "bottleneck is 0.0"),
        ({"sigma": 0.0}, "sigma is 0.0"),
        ({"likelihood": "gausian"}, "did you mean: gaussian"),
    ],
)
def test_impossible_shapes_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        VdvaeShape(**{**SMALL, **settings})


def test_what_does_not_fit_is_refused() -> None:
    model, x = network(conditions=1), torch.rand(2, 1, 32, 32)
    with pytest.raises(Mismatch, match=r"\(1, 16, 16\); the network takes \(1, 32, 32\)"):
        model(x[:, :, :16, :16])
    with pytest.raises(UsageError, match="trained with 1 catalogue columns and got none"):
        model.encode(x)
    with pytest.raises(Mismatch, match=r"shape \(2, 3\); expected \(2, 1\)"):
        model(x, torch.zeros(2, 3))
    with pytest.raises(Mismatch, match=r"expected \(2, 0\)"):
        network()(x, torch.zeros(2, 1))
    with pytest.raises(UsageError, match="7 latents; the network has 6"):
        model.decode([torch.zeros(1, 1)] * 7)
    with pytest.raises(Mismatch, match=r"latent 0 of shape \(2, 31\); .* \(2, 32, 1, 1\)"):
        model.decode([torch.zeros(2, 31)], torch.zeros(2, 1))
    with pytest.raises(UsageError, match="1 steps"):
        model.interpolate(x[0], x[1], 1)


# -- after some training ---------------------------------------------------------------------


def test_the_bound_falls_and_held_out_blobs_come_back(trained: tuple[Vdvae, list[float]]) -> None:
    model, losses = trained
    assert np.mean(losses[50:60]) < np.mean(losses[:5]) - 0.5
    assert np.mean(losses[-10:]) < np.mean(losses[50:60])
    held, mean = blobs(64, seed=1), blobs(256, seed=0).mean(0)
    error = (model.reconstruct(held) - held).square().mean()
    assert error < 0.5 * (mean - held).square().mean()


def test_the_ends_of_an_interpolation_are_the_reconstructions(
    trained: tuple[Vdvae, list[float]],
) -> None:
    model, x = trained[0], blobs(2, seed=2)
    path = model.interpolate(x[0], x[1], 5)
    assert path.shape == (5, 1, 32, 32)
    torch.testing.assert_close(path[[0, -1]], model.reconstruct(x))
    assert (path[2] - path[0]).abs().max() > 1e-3
    # Latents from above alone: what the rest adds comes from the prior's means.
    means = model.encode_all(x)
    torch.testing.assert_close(model.decode(means), model.reconstruct(x))
    assert not torch.equal(model.decode(means[:2]), model.decode(means))


@pytest.mark.slow
def test_samples_follow_the_condition() -> None:
    torch.manual_seed(0)
    c = torch.randn(256, 1).clamp(-1.5, 1.5)
    x = blobs(256, seed=0, sigma=0.1 + 0.05 * c[:, 0])
    model = network(conditions=1, width=8)
    train(model, x, 120, c)
    small, large = (
        model.sample(32, condition=torch.full((32, 1), value)).mean((1, 2, 3))
        for value in (-1.5, 1.5)
    )
    assert large.mean() > 1.5 * small.mean()


# -- collapse --------------------------------------------------------------------------------


def test_active_units_vary_over_the_images() -> None:
    rng = np.random.default_rng(0)
    means = rng.normal(size=(2000, 40)) * np.r_[np.full(3, 0.2), np.full(37, 0.05)]
    assert active_units(means) == 3
    assert active_units(means, threshold=0.001) == 40
    # In units of a learned prior, which may have shrunk with the posteriors.
    assert active_units(means, prior_sigma_D=np.full(40, 0.2)) == 40
    with pytest.raises(UsageError, match="at least 2 images"):
        active_units(means[:1])


@pytest.mark.parametrize(
    ("active", "kl", "alarm"),
    [(20, 12.0, False), (2, 12.0, True), (20, 0.6, True), (20, math.nan, True)],
)
def test_either_sign_raises_the_alarm(active: int, kl: float, alarm: bool) -> None:
    means = np.zeros((100, 256))
    means[:, :active] = np.random.default_rng(0).normal(size=(100, active))
    report = collapse(means, np.full((3, 100), kl))
    assert (report.active, report.units, report.alarm) == (active, 256, alarm)
    assert report.text.startswith("COLLAPSED: " if alarm else f"top latent {active} of 256 active")
    assert "\n" not in report.text


def test_a_decoder_that_does_without_the_latent_is_noticed() -> None:
    model, x = network(width=8), blobs(64, seed=0)
    top: Any = model.decoder[-1]
    with torch.no_grad():
        top[0].posterior_rest.last.weight[:32].mul_(300)  # means far apart, at first

    def look() -> CollapseReport:
        with torch.no_grad():
            elbo = model(x)
        sigma_D = model.top_prior_sigma().numpy()
        return collapse(model.encode(x).numpy(), elbo.kl_LB.numpy(), prior_sigma_D=sigma_D)

    before = look()
    assert not before.alarm
    assert before.active >= 10
    for parameter in top[0].project.parameters():
        parameter.requires_grad_(False).zero_()
    train(model, x, 60, lr=1e-2)
    after = look()
    assert after.alarm
    assert after.kl[0] < 0.1 * before.kl[0]
    assert len(after.kl) == 6


@pytest.mark.parametrize("beta", [1.0, 0.5])
def test_the_top_layer_may_weigh_less(beta: float) -> None:
    changes = ["input.size=16", "vdvae.stages=4", "vdvae.width=8", f"loss.beta={beta}"]
    x = torch.rand(5, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    losses, logs = [], []
    for weight in (1.0, 0.25):
        torch.manual_seed(1)
        recipe = read_recipe(None, method="vdvae", changes=[*changes, f"loss.beta_top={weight}"])
        objective = VdvaeObjective(recipe, 1)
        with torch.no_grad():
            for parameter in objective.parameters():  # off the start
                parameter.add_(0.02 * torch.randn(parameter.shape))
        draws = torch.Generator().manual_seed(2)
        terms = objective(Batch(x_BCHW=x), draws, 0.5)
        losses.append(float(terms.loss.detach()))
        logs.append(terms.log)
    assert logs[0]["kl_0"] == logs[1]["kl_0"]
    expected = 0.75 * beta * float(logs[0]["kl_0"]) / x[0].numel()
    assert losses[0] - losses[1] == pytest.approx(expected, rel=1e-3)
    assert losses[0] > losses[1]


def test_an_image_is_shown_in_one_of_its_eight_turns_while_it_is_trained_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    changes = ["input.size=16", "vdvae.stages=4", "vdvae.width=8", "input.turned=true"]
    objective = VdvaeObjective(read_recipe(None, method="vdvae", changes=changes), 1)
    x = torch.rand(64, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    x[0, 0, 3, 5] = torch.nan
    shown: list[torch.Tensor] = []
    whole = objective.vdvae.forward

    def seen(x_BCHW: torch.Tensor, *rest: Any, **more: Any) -> Any:
        shown.append(x_BCHW)
        return whole(x_BCHW, *rest, **more)

    monkeypatch.setattr(objective.vdvae, "forward", seen)
    for training, seed in ((True, 2), (True, 2), (True, 3), (False, 2)):
        objective.train(training)(Batch(x_BCHW=x), torch.Generator().manual_seed(seed), 0.5)
    first, again, other, judged = (each.nan_to_num(-1).numpy() for each in shown)
    views = orbit_views(x.nan_to_num(-1).numpy(), "d4")
    which = [
        [bool((view[row] == first[row]).all()) for view in views].index(True) for row in range(64)
    ]
    assert set(which) == set(range(8))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    np.testing.assert_array_equal(judged, x.nan_to_num(-1).numpy())


def test_the_weight_of_the_kl_is_warmed_up() -> None:
    changes = ["input.size=16", "vdvae.stages=4", "vdvae.width=8", "epochs=10"]
    recipe = read_recipe(None, method="vdvae", changes=[*changes, "loss.beta_warmup_epochs=5"])
    objective = VdvaeObjective(recipe, 1)
    x = torch.rand(5, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    found = [
        objective(Batch(x_BCHW=x), torch.Generator().manual_seed(2), at) for at in (0.0, 0.25, 0.5)
    ]
    dims = x[0].numel()
    kl = float(found[0].log["kl"]) / dims
    plain = float(found[0].log["reconstruction"]) / dims
    for terms, beta in zip(found, (0.0, 0.5, 1.0), strict=True):
        assert float(terms.loss.detach()) == pytest.approx(plain + beta * kl, rel=1e-4)
