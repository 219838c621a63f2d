"""SimCLR, BYOL, SimSiam and LARS, each against a plain NumPy rewrite."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from skytwin.encoders.byol import Byol
from skytwin.encoders.methods import make_objective
from skytwin.encoders.objective import Batch, TwoViews
from skytwin.encoders.optimizers import make_optimizer, warmup_cosine
from skytwin.encoders.recipe import Recipe, read_recipe
from skytwin.encoders.recipe_settings import HeadSettings, OptimizerSettings
from skytwin.encoders.served import make_backbone
from skytwin.errors import UnknownName, UsageError

SMALL = ["backbone=test_resnet", "input.size=32", "head.hidden=16", "head.out=8", "batch=12"]


def recipe(method: str, *changes: str) -> Recipe:
    return read_recipe(None, method=method, changes=[*SMALL, *changes])


def objective(method: str, *changes: str) -> TwoViews:
    torch.manual_seed(0)
    made = make_objective(recipe(method, *changes), 1)
    assert isinstance(made, TwoViews)
    made.normalise((0.3,), (0.2,))
    return made


def images(count: int = 12) -> torch.Tensor:
    return torch.rand(count, 1, 32, 32, generator=torch.Generator().manual_seed(3))


def outputs(method: TwoViews, parts: Sequence[str]) -> list[np.ndarray]:
    """What each of some parts says of the two views that a loss of seed 5 sees."""
    first, second = method.two_views(images(), torch.Generator().manual_seed(5))
    found = []
    for view in (first, second):
        z = view
        for part in parts:
            z = getattr(method, part)(z)
        found.append(z.detach().double().numpy())
    return found


def loss(method: TwoViews, progress: float = 0.0) -> float:
    batch = Batch(x_BCHW=images())
    return float(method(batch, torch.Generator().manual_seed(5), progress).loss.detach())


def unit(z: np.ndarray) -> np.ndarray:
    return np.asarray(z / np.linalg.norm(z, axis=1, keepdims=True))


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_simclr_is_nt_xent(temperature: float) -> None:
    method = objective("simclr", f"head.temperature={temperature}")
    method.train()
    found = loss(method)
    z = unit(np.concatenate(outputs(method, ["backbone", "projection"])))
    similar = np.exp(z @ z.T / temperature)
    count = len(z) // 2
    terms = []
    for i in range(len(z)):
        others = similar[i].sum() - similar[i, i]
        terms.append(-np.log(similar[i, (i + count) % len(z)] / others))
    assert found == pytest.approx(np.mean(terms), rel=1e-4)


def test_byol_is_the_squared_error_of_normalised_predictions() -> None:
    method = objective("byol")
    found = loss(method)
    said = outputs(method, ["backbone", "projection", "prediction"])
    first, second = method.two_views(images(), torch.Generator().manual_seed(5))
    assert isinstance(method, Byol)
    target = [method.target(v).detach().double().numpy() for v in (first, second)]
    expected = ((unit(said[0]) - unit(target[1])) ** 2).sum(axis=1).mean()
    expected += ((unit(said[1]) - unit(target[0])) ** 2).sum(axis=1).mean()
    assert found == pytest.approx(expected, rel=1e-4)


def test_simsiam_is_the_negative_cosine_both_ways() -> None:
    method = objective("simsiam")
    found = loss(method)
    made = outputs(method, ["backbone", "projection"])
    said = outputs(method, ["backbone", "projection", "prediction"])
    cosines = [(unit(said[a]) * unit(made[1 - a])).sum(axis=1).mean() for a in (0, 1)]
    assert found == pytest.approx(-np.mean(cosines), rel=1e-4)


def test_simsiam_stops_the_gradient_of_the_target() -> None:
    method = objective("simsiam")
    batch = Batch(x_BCHW=images())
    method(batch, torch.Generator().manual_seed(5), 0.0).loss.backward()
    stopped = [p.grad.clone() for p in method.projection.parameters() if p.grad is not None]  # type: ignore[attr-defined]
    method.zero_grad()
    first, second = method.two_views(images(), torch.Generator().manual_seed(5))
    made = [method.projection(method.backbone(v)) for v in (first, second)]  # type: ignore[operator]
    said = [method.prediction(m) for m in made]  # type: ignore[operator]
    through = -sum(torch.cosine_similarity(said[a], made[1 - a]).mean() for a in (0, 1)) / 2
    through.backward()  # type: ignore[union-attr]
    unstopped = [p.grad for p in method.projection.parameters()]  # type: ignore[union-attr]
    assert any(not torch.allclose(a, b, atol=1e-6) for a, b in zip(stopped, unstopped, strict=True))


def test_byol_s_target_follows_ever_more_slowly() -> None:
    method = objective("byol", "head.decay=0.9")
    assert isinstance(method, Byol)
    with torch.no_grad():
        for parameter in method.backbone.parameters():
            parameter.add_(1.0)

    def moved(progress: float) -> float:
        before = [p.clone() for p in method.target[0].parameters()]
        method.after_step(progress)
        after = list(method.target[0].parameters())
        ahead = list(method.backbone.parameters())
        return float(((after[0] - before[0]) / (ahead[0] - before[0])).mean().detach())

    assert moved(0.0) == pytest.approx(0.1, rel=1e-3)
    assert moved(0.5) == pytest.approx(0.05, rel=1e-2)
    assert moved(1.0) == pytest.approx(0.0, abs=1e-6)
    assert not any(p.requires_grad for p in method.target.parameters())


@pytest.mark.parametrize("method", ["simclr", "byol", "simsiam"])
def test_what_is_served_is_the_backbone_without_a_head(method: str) -> None:
    made = objective(method)
    assert made.served is made.backbone
    made.eval()
    vectors = made.vectors(images())
    expected = made.backbone((images() - 0.3) / 0.2)
    torch.testing.assert_close(vectors, expected)
    assert vectors.shape[1] == made.dim != 8


@pytest.mark.parametrize("method", ["simclr", "byol", "simsiam"])
def test_training_brings_views_together_and_vectors_do_not_collapse(method: str) -> None:
    made = objective(method, "optimizer.lr=0.003")
    settings = OptimizerSettings(name="adamw", lr=3e-3)
    optimizer = make_optimizer(made.named_parameters(), settings)
    losses = []
    x = torch.rand(48, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    x = torch.nn.functional.interpolate(x, size=32, mode="bilinear")
    for step in range(25):
        terms = made(Batch(x_BCHW=x), torch.Generator().manual_seed(step), step / 25)
        optimizer.zero_grad()
        terms.loss.backward()
        optimizer.step()
        made.after_step(step / 25)
        losses.append(float(terms.loss.detach()))
    assert np.mean(losses[-5:]) < np.mean(losses[:5])
    made.eval()
    with torch.no_grad():
        found, said = made.alarm(made.vectors(x).numpy(), {})
    assert said == ""
    assert found["vector_spread"] > 0.02
    _, said = made.alarm(np.ones((20, 4), np.float32), {})
    assert said.startswith("COLLAPSED")


@pytest.mark.parametrize("decay", [0.0, 0.01])
def test_lars_scales_also_where_nothing_decays(decay: float) -> None:
    rng = np.random.default_rng(0)
    weight = torch.nn.Parameter(torch.tensor(rng.standard_normal((4, 3))))
    bias = torch.nn.Parameter(torch.tensor(rng.standard_normal(4)))
    settings = OptimizerSettings(name="lars", lr=0.5, momentum=0.9, weight_decay=decay)
    optimizer = make_optimizer([("w", weight), ("b", bias)], settings)
    w, b = weight.detach().numpy().copy(), bias.detach().numpy().copy()
    moved_w, moved_b = np.zeros_like(w), np.zeros_like(b)
    for _ in range(3):
        grad_w, grad_b = rng.standard_normal(w.shape), rng.standard_normal(b.shape)
        weight.grad, bias.grad = torch.tensor(grad_w), torch.tensor(grad_b)
        optimizer.step()
        norm = np.linalg.norm(w)
        trust = 0.001 * norm / (np.linalg.norm(grad_w) + decay * norm + 1e-8)
        moved_w = 0.9 * moved_w + trust * (grad_w + decay * w)
        moved_b = 0.9 * moved_b + grad_b
        w, b = w - 0.5 * moved_w, b - 0.5 * moved_b
    np.testing.assert_allclose(weight.detach().numpy(), w, rtol=1e-10)
    np.testing.assert_allclose(bias.detach().numpy(), b, rtol=1e-10)


@pytest.mark.parametrize("name", ["lars", "sgd", "adamw", "rmsprop"])
def test_biases_do_not_decay(name: str) -> None:
    layer = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.BatchNorm1d(3))
    settings = OptimizerSettings(name=name, weight_decay=0.1)  # type: ignore[arg-type]
    groups = make_optimizer(layer.named_parameters(), settings).param_groups
    decays = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    assert [decays[id(p)] for p in layer.parameters()] == [0.1, 0, 0, 0]


def test_the_rate_rises_and_falls() -> None:
    rates = [warmup_cosine(step, 100, 10, cosine=True) for step in range(100)]
    np.testing.assert_allclose(rates[:10], np.arange(1, 11) / 10)
    assert rates[-1] == pytest.approx(0, abs=1e-3)
    assert all(a >= b for a, b in itertools.pairwise(rates[10:]))
    assert rates[55] == pytest.approx(0.5, abs=0.02)
    assert [warmup_cosine(s, 9, 2, cosine=False) for s in (0, 1, 2, 8)] == [0.5, 1, 1, 1]
    assert warmup_cosine(0, 1, 5, cosine=True) >= 0


def test_backbones_that_cannot_be() -> None:
    with pytest.raises(UnknownName, match="unknown backbone 'resnet35'; did you mean"):
        make_backbone("resnet35", 1, 64)
    with pytest.raises(UsageError, match=r"does not take 1 band\(s\) of 4 pixels"):
        make_backbone("vit_tiny_patch16_224", 1, 4)
    assert dataclasses.asdict(HeadSettings())["out"] == 128
