"""Flows: densities against analytic Gaussians, likelihoods against zuko's own, files."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

from skytwin.densities.flow import Flow, FlowSettings, fit_coordinates, preset
from skytwin.densities.flow_fit import fit_flow
from skytwin.densities.flow_likelihood import Likelihood
from skytwin.densities.flow_store import open_flow, require_same_encoder, save_flow
from skytwin.densities.flow_train import make_maf, train, weights_of
from skytwin.errors import (
    DamagedArtefact,
    DataError,
    Mismatch,
    OutputExists,
    UnknownName,
    UsageError,
)
from skytwin.run import Run

ENCODER = {"name": "pca:8", "fingerprint": "abc", "dim": 8, "embedding": "e"}
SMALL = FlowSettings(blocks=3, hidden=(32, 32), epochs=25, patience=8, lr=3e-3)


def gaussian(n: int, dim: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Samples of a correlated Gaussian with unlike widths, and its log-density at each."""
    rng = np.random.default_rng(5)
    mix = rng.standard_normal((dim, dim)) * np.geomspace(0.1, 10, dim)
    mean, covariance = rng.standard_normal(dim), mix @ mix.T + 0.1 * np.eye(dim)
    x = rng.multivariate_normal(mean, covariance, n)
    return x.astype(np.float32), multivariate_normal(mean, covariance).logpdf(x)


def fitted(x: np.ndarray, test: np.ndarray, settings: FlowSettings = SMALL, **more: object) -> Flow:
    ids = np.array([f"g{i}" for i in range(len(x))], dtype=object)
    return fit_flow(x, ids, np.arange(len(x)), test, settings, encoder=ENCODER, **more)  # type: ignore[arg-type]


def random_flow(dim: int, settings: FlowSettings, spread: float = 1.0) -> tuple[Flow, object]:
    """A flow that nobody trained, with weights as large as trained ones, and zuko's of the same."""
    torch.manual_seed(1)
    maf = make_maf(dim, settings)
    with torch.no_grad():
        for parameter in maf.parameters():
            parameter.mul_(spread)
    x = np.random.default_rng(0).standard_normal((400, dim))
    flow = Flow(
        settings=settings, coordinates=fit_coordinates(x, dim), weights=weights_of(maf), curve=(),
        best=1, rows={}, held_out=np.empty(0), ids=np.empty(0, object), places=None,
        encoder=ENCODER, seed=0,
    )  # fmt: skip
    return flow, maf


def zuko_value(maf: object, y: np.ndarray, kind: torch.dtype = torch.float64) -> np.ndarray:
    with torch.inference_mode():
        return np.asarray(maf.to(kind)().log_prob(torch.from_numpy(y).to(kind)).numpy())  # type: ignore[attr-defined]


@pytest.mark.parametrize("reduced", [False, True])
def test_a_gaussian_has_the_density_it_has(reduced: bool) -> None:
    x, truth = gaussian(6000)
    if reduced:  # two numbers that say nothing new: only 8 of 10 directions are filled
        x = np.concatenate([x, x[:, :1] + x[:, 1:2], x[:, 2:3] - x[:, 3:4]], axis=1)
    test = np.arange(len(x)) >= 4000
    settings = replace(SMALL, epochs=15)
    flow = fitted(x, test, settings)
    assert flow.rows == {"train": 3600, "validation": 400, "test": 2000}
    assert flow.best >= 1
    if reduced:
        # A density in the whitened coordinates: the truth, transformed alike.
        c = flow.coordinates
        assert c.dim == 8
        assert (c.log_volume, c.share) == (0, pytest.approx(1))
        y = c(x)
        fit = multivariate_normal(y[~test].mean(axis=0), np.cov(y[~test].T))
        truth = fit.logpdf(y)
    # Estimating 44 numbers from 3600 rows costs 44 / 3600 / 2 nats on average.
    assert flow.held_out.mean() == pytest.approx(truth[test].mean(), abs=0.03)
    assert np.corrcoef(flow.held_out, truth[test])[0, 1] > 0.99


def test_far_objects_are_less_likely_and_further_ones_still_less() -> None:
    x, _ = gaussian(2000)
    flow = fitted(x, np.arange(len(x)) >= 1500)
    middle, width = x.mean(axis=0), x.std(axis=0)
    far = middle + width * np.array([[8], [100], [1e30]])
    found = Likelihood(flow)(far.astype(np.float32))
    assert found[0] < flow.held_out.min()
    assert found[1] < found[0]
    assert found[2] < found[1]
    beyond = Likelihood(random_flow(8, replace(SMALL, blocks=48), spread=6.0)[0])
    assert beyond(far)[2] == -np.inf


@pytest.mark.parametrize(
    ("dim", "settings"),
    [
        (7, FlowSettings(blocks=5, hidden=(16, 24, 16))),
        (2, FlowSettings(blocks=2, hidden=(8,))),
        (40, FlowSettings(blocks=6, hidden=(64, 64))),
    ],
)
def test_the_fast_way_gives_what_zuko_gives(dim: int, settings: FlowSettings) -> None:
    flow, maf = random_flow(dim, settings, spread=1.5)
    x = np.random.default_rng(1).standard_normal((600, dim)) * 1.5
    y = flow.coordinates(x)
    fast = Likelihood(flow)
    truth = zuko_value(maf, y)
    np.testing.assert_allclose(fast.of_coordinates(y), truth, rtol=1e-5, atol=2e-4)
    np.testing.assert_allclose(fast(x), truth + flow.coordinates.log_volume, rtol=1e-5, atol=2e-4)
    np.testing.assert_array_equal(fast(x, threads=1), fast(x, threads=2))
    assert len(fast(x[:0])) == 0


@pytest.mark.slow
def test_the_fast_way_gives_what_zuko_gives_for_the_flow_of_the_paper() -> None:
    flow, maf = random_flow(256, preset("paper"))
    y = np.random.default_rng(1).standard_normal((300, 256)).astype(np.float32)
    truth, plain = zuko_value(maf, y), zuko_value(maf, y, torch.float32)
    found = Likelihood(flow).of_coordinates(y)
    # No farther from float64 than zuko itself in float32.
    assert np.abs(found - truth).max() < 2 * max(np.abs(plain - truth).max(), 1e-5)


def test_coordinates_of_long_vectors_keep_what_they_leave_out() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((500, 4)) @ rng.standard_normal((4, 60)) * 5
    x += 0.1 * rng.standard_normal(x.shape)
    x[:, 7] = 3.0  # never varies
    made = fit_coordinates(x, 4)
    assert made.dim == 5
    assert 7 not in made.used
    y = made(x)
    np.testing.assert_allclose(y.mean(axis=0), 0, atol=1e-3)
    np.testing.assert_allclose(y.std(axis=0), 1, atol=1e-2)
    np.testing.assert_allclose(np.cov(y[:, :4].T, ddof=0), np.eye(4), atol=1e-3)
    odd = x[:1].copy()
    odd[0, 20] += 30 * x[:, 20].std()
    assert made(odd)[0, 4] > y[:, 4].max() + 3
    assert fit_coordinates(x[:30], 64).dim == 4  # 3 components of 30 rows, and the rest
    with pytest.raises(DataError, match="all alike"):
        fit_coordinates(np.ones((20, 3)), 2)
    x[3, 3] = np.nan
    for bad in (lambda: fit_coordinates(x, 4), lambda: made(x)):
        with pytest.raises(DataError, match=r"1 vector\(s\) hold NaN or infinity"):
            bad()


def test_the_same_seed_gives_the_same_flow_also_when_killed(tmp_path: Path) -> None:
    x, _ = gaussian(600)
    test = np.arange(len(x)) >= 500
    settings = replace(SMALL, epochs=6)
    whole = fitted(x, test, settings, seed=4)
    other = fitted(x, test, settings, seed=5)
    assert not np.array_equal(whole.weights["0.0.weight"], other.weights["0.0.weight"])
    state = tmp_path / "parts" / "flow.safetensors"
    # Three epochs, then the call is repeated with the same settings as the whole.
    y = whole.coordinates(x[~test])
    short = train(y[:450], y[450:], replace(settings, epochs=3), seed=4, state=state)
    assert len(short.curve) == 3
    _not_done(state)
    again = train(y[:450], y[450:], settings, seed=4, state=state)
    plain = train(y[:450], y[450:], settings, seed=4)
    assert again.curve == plain.curve
    for name, array in plain.weights.items():
        np.testing.assert_array_equal(array, again.weights[name])


def _not_done(state: Path) -> None:
    """As a training leaves it that is killed between two epochs."""
    import safetensors
    from safetensors.torch import load_file, save_file

    with safetensors.safe_open(state, framework="pt") as stream:
        facts = stream.metadata()["facts"]
    save_file(load_file(state), state, metadata={"facts": facts.replace("true", "false")})


def test_saved_and_opened_it_gives_the_same_bits(tmp_path: Path) -> None:
    x, _ = gaussian(600)
    test = np.arange(len(x)) >= 500
    flow = fitted(x, test, replace(SMALL, epochs=2), places=np.full((600, 2), 7.0))
    save_flow(flow, tmp_path / "flow", parents={})
    back = open_flow(tmp_path / "flow")
    np.testing.assert_array_equal(Likelihood(back)(x), Likelihood(flow)(x))
    np.testing.assert_array_equal(back.held_out, flow.held_out)
    assert back.ids.tolist() == flow.ids.tolist()
    assert (back.settings, back.rows, back.curve, back.best) == (
        flow.settings, flow.rows, flow.curve, flow.best,
    )  # fmt: skip
    with pytest.raises(OutputExists):
        save_flow(flow, tmp_path / "flow", parents={})
    require_same_encoder(back, ENCODER)
    with pytest.raises(Mismatch, match=r"fitted on 8 numbers of pca:8 \(fingerprint abc\)"):
        require_same_encoder(back, {**ENCODER, "fingerprint": "xyz"})
    file = tmp_path / "flow" / "flow.safetensors"
    file.write_bytes(file.read_bytes()[:-8] + b"12345678")
    with pytest.raises(DamagedArtefact, match="content of flow.safetensors has changed"):
        open_flow(tmp_path / "flow")


def test_a_training_that_ran_away_is_saved(tmp_path: Path) -> None:
    x, _ = gaussian(300)
    flow = fitted(x, np.arange(300) >= 200, replace(SMALL, epochs=1))
    away = ((-3.0, -3.5), (-2.5, -math.inf), (math.nan, math.nan))
    held_out = np.append(flow.held_out, -np.inf)
    save_flow(replace(flow, curve=away, held_out=held_out), tmp_path / "flow", parents={})
    back = open_flow(tmp_path / "flow")
    assert back.mean_held_out is None
    np.testing.assert_array_equal(
        back.curve, [(-3.0, -3.5), (-2.5, math.nan), (math.nan, math.nan)]
    )


def test_a_folder_that_holds_another_flow_than_it_says(tmp_path: Path) -> None:
    x, _ = gaussian(300)
    flow = fitted(x, np.arange(300) >= 200, replace(SMALL, epochs=1))
    wrong = Flow(**{**vars(flow), "settings": replace(flow.settings, blocks=4)})
    save_flow(wrong, tmp_path / "flow", parents={})
    with pytest.raises(DamagedArtefact, match="arrays do not fit the settings"):
        open_flow(tmp_path / "flow")
    with Run(tmp_path / "other", kind="cutouts", recipe={}, inputs={}) as run:
        run.finish({})
    with pytest.raises(UsageError, match="holds cutouts; expected flow"):
        open_flow(tmp_path / "other")


def test_bad_input() -> None:
    with pytest.raises(UnknownName, match="unknown flow 'papr'; did you mean: paper"):
        preset("papr")
    with pytest.raises(UsageError, match="expected positive numbers"):
        FlowSettings(blocks=0)
    with pytest.raises(UsageError, match="validation share 1"):
        FlowSettings(validation_share=1)
    x, _ = gaussian(150)
    with pytest.raises(DataError, match="50 objects to fit a flow to; expected at least 100"):
        fitted(x, np.arange(150) >= 50)
    with pytest.raises(DataError, match="no number from the first epoch"):
        train(np.full((99, 3), 1e38, np.float32), np.ones((9, 3), np.float32), SMALL)
    assert preset("paper").blocks == 48
    assert preset("paper").hidden == (512, 512)


def test_a_likelihood_needs_no_torch() -> None:
    code = (
        "import sys; import skytwin.densities.flow_likelihood, skytwin.densities.flow_store, "
        "skytwin.densities.flow_fit; assert not {'torch', 'zuko'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
