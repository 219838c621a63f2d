"""Generated images: drawn from the network they claim, and measured against known truths."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from scipy.spatial.distance import pdist, squareform

from command import done
from command import skytwin as skytwin_command
from durability_verbs import content
from skytwin import report_generate
from skytwin.answers import generate_closeness
from skytwin.answers.generate import Generated, generate
from skytwin.answers.generate_closeness import Nearest, energy_test, told_apart
from skytwin.answers.generate_data import find_real
from skytwin.answers.generate_judges import encoder_judge
from skytwin.answers.generate_latents import FittedLatents
from skytwin.answers.generate_parts import find_copies, followed_by, sample_conditions
from skytwin.answers.generate_properties import measure_light
from skytwin.answers.generate_reconstruction import LinearCode, linear_errors, measured_error
from skytwin.answers.generate_steps import HELD, REBUILT, SAMPLES, TRAINED
from skytwin.answers.resume import Steps
from skytwin.artefact import Manifest
from skytwin.encoders.generator import Generator, open_generator
from skytwin.encoders.load import load_saved
from skytwin.encoders.recipe import read_recipe
from skytwin.encoders.recipe_settings import ValidationSettings
from skytwin.encoders.train import train_encoder
from skytwin.encoders.training_set import choose_rows
from skytwin.errors import DataError, UnknownName, UsageError
from skytwin.images.cutouts import Cutouts
from skytwin.images.ingest import ingest_source
from skytwin.run import Run
from stopped import Stop, stopped_after
from toys import MemorySource, raw

N, SIZE = 160, 16
TINY = [
    "--method", "vdvae", "--size", SIZE, "--batch", "16", "--epochs", "2", "--set",
    "vdvae.stages=4", "--set", "vdvae.width=8", "--set", "vdvae.encoder_blocks=1", "--set",
    "vdvae.decoder_blocks=1", "--set", "vdvae.latent_dim=8", "--set", "vdvae.z_channels=2",
    "--set", "ema=0.9", "--set", "validation.share=0.25", "--quiet",
]  # fmt: skip


def round_blob(width: float, seed: int, size: int = SIZE) -> np.ndarray:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] - size / 2 + 0.5 + rng.uniform(-1, 1, 2)[:, None, None]
    image = np.exp(-(x**2 + y**2) / (2 * width**2)) + 0.01 * rng.standard_normal((size, size))
    return image[None].astype(np.float32)


@pytest.fixture(scope="module")
def cutouts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Blobs of known width, in pairs at one place on the sky."""
    width = np.linspace(1.0, 4.0, N)
    images = [
        raw(round_blob(w, seed), ra=10 + (seed // 2) / 50, dec=-5.0, pixel_scale=0.5)
        for seed, w in enumerate(width)
    ]
    path = tmp_path_factory.mktemp("generate") / "cutouts"
    ingest_source(MemorySource(images, pa.table({"las": width})), path, quiet=True)
    return path


@pytest.fixture(scope="module")
def encoder(cutouts: Path) -> Path:
    out = cutouts.parent / "encoder"
    done("train", cutouts, *TINY, "--out", out)
    return out


@pytest.fixture(scope="module")
def conditioned(cutouts: Path) -> Path:
    changes = [word for before, word in pairwise(map(str, TINY)) if before == "--set"]
    changes += ["input.size=16", "batch=16", "epochs=2", 'conditions=["log:las"]']
    recipe = read_recipe(None, method="vdvae", changes=changes)
    out = cutouts.parent / "conditioned"
    return train_encoder(Cutouts(cutouts), recipe, out, crop=SIZE, quiet=True)


@pytest.fixture(scope="module")
def found(encoder: Path) -> Generated:
    return generate(open_generator(encoder), 5, compared=30)


# -- the network -----------------------------------------------------------------------------


def test_samples_are_those_of_the_network_and_the_seed_settles_them(encoder: Path) -> None:
    made = open_generator(encoder, device="cpu")
    x = made.sample(40, seed=3)
    assert x.shape == (40, 1, SIZE, SIZE)
    assert x.dtype == np.float32
    np.testing.assert_array_equal(made.sample(5, seed=3), x[:5])
    assert not np.array_equal(made.sample(5, seed=4), x[:5])
    assert len(np.unique(x.reshape(40, -1), axis=0)) == 40
    plain = made._vdvae.sample(32, 1.0, None, made._random(3, 0)).numpy()
    np.testing.assert_array_equal(plain, x[:32])
    still = made.sample(3, temperature=0)
    np.testing.assert_array_equal(still[0], still[1])


def test_codes_are_those_that_embed_gives(encoder: Path, cutouts: Path) -> None:
    made, flux = open_generator(encoder), Cutouts(cutouts).flux(range(7))
    embedded = load_saved(encoder, runtime="torch").encode(flux)
    np.testing.assert_allclose(made.encode(made.prepare(flux)), embedded, rtol=1e-5, atol=1e-6)


def test_reconstructions_and_what_they_cost(encoder: Path, cutouts: Path) -> None:
    made = open_generator(encoder)
    x = made.prepare(Cutouts(cutouts).flux(range(40)))
    got = made.reconstruct(x, seed=1)
    given = torch.from_numpy(x[:32])
    np.testing.assert_allclose(got.mean[:32], made._vdvae.reconstruct(given).numpy(), atol=1e-6)
    top = made._vdvae.decode([made._vdvae.encode(given)]).numpy()
    np.testing.assert_allclose(got.top[:32], top, atol=1e-6)
    bound = made._vdvae(given, generator=made._random(1, 0, 1))
    np.testing.assert_allclose(got.kl_NL[:32], bound.kl_LB.T.numpy(), rtol=1e-5)
    bits = float(np.average(got.bits_per_dim[:32]))
    assert bits == pytest.approx(float(bound.bits_per_dim), rel=1e-5)
    assert made.latent_numbers == sum(c * s * s for c, s in made.shape.latents)
    assert made.scale == 0.5


def test_interpolations_end_at_the_reconstructions(encoder: Path, cutouts: Path) -> None:
    made = open_generator(encoder)
    x = made.prepare(Cutouts(cutouts).flux([0, 9, 20, 30])).reshape(2, 2, 1, SIZE, SIZE)
    rows = made.interpolate(x, 5)
    ends = made.reconstruct(x.reshape(4, 1, SIZE, SIZE)).mean
    np.testing.assert_allclose(rows[:, [0, -1]].reshape(ends.shape), ends, atol=1e-5)


def test_conditions_are_standardised_as_in_the_training(conditioned: Path, cutouts: Path) -> None:
    made = open_generator(conditioned)
    told = made.conditioning
    assert told is not None
    assert told.columns == ("las",)
    rows = choose_rows(
        Cutouts(cutouts), ValidationSettings(share=0.25), seed=0, conditions=["log:las"]
    )
    assert rows.conditions is not None
    las = np.linspace(1.0, 4.0, N)[:, None]
    np.testing.assert_allclose(told.standardised(las), rows.conditions.values, atol=1e-6)
    assert np.isnan(told.standardised(np.array([[-1.0]]))).all()
    with pytest.raises(UsageError, match="trained with 1 condition"):
        made.sample(2)
    real = find_real(made.manifest, made.prepare, made.pixel_scale)
    values, given = sample_conditions(made, real, {"las": 2.5}, 6, 0)
    assert given is not None
    assert set(values.ravel()) == {2.5}
    np.testing.assert_array_equal(given, told.standardised(values))
    free = generate(made, 4, compared=40, permutations=9)
    drawn = free.table["condition_las"].to_numpy()
    trained = las[free.real.among, 0]
    assert np.isin(drawn, trained).all()
    assert len(set(drawn)) > 20
    rising = {"las": np.arange(9.0), "other": np.ones(9)}
    assert followed_by(rising, np.arange(9.0) ** 3) == {"las": 1.0}
    assert followed_by(rising, np.ones(9)) == {}
    with pytest.raises(UnknownName, match="unknown condition 'size'"):
        generate(made, 4, conditions={"size": 2.5})


# -- the real images -------------------------------------------------------------------------


def test_the_split_of_the_training_is_found_again(encoder: Path, cutouts: Path) -> None:
    made = open_generator(encoder)
    real = find_real(made.manifest, made.prepare, made.pixel_scale)
    rows = choose_rows(Cutouts(cutouts), ValidationSettings(share=0.25), seed=0)
    assert rows.digest() == made.manifest.recipe["rows"]
    assert real.trained
    assert not real.note
    np.testing.assert_array_equal(real.among, rows.train)
    # One of each pair at one place.
    assert set(real.held) <= set(rows.validate)
    assert len(real.held) == len(rows.validate) // 2
    few = find_real(made.manifest, made.prepare, made.pixel_scale, compared=20, most=30, seed=1)
    assert len(few.among) == 30


def test_other_cutouts_are_said_to_be_others(encoder: Path, cutouts: Path, tmp_path: Path) -> None:
    made = open_generator(encoder)
    shutil.copytree(cutouts, tmp_path / "moved")
    moved = find_real(made.manifest, made.prepare, made.pixel_scale, data=tmp_path / "moved")
    assert moved.trained
    images = [
        raw(round_blob(2, seed), ra=50 + seed, dec=1.0, pixel_scale=0.5) for seed in range(60)
    ]
    ingest_source(MemorySource(images), tmp_path / "other", quiet=True)
    other = find_real(made.manifest, made.prepare, made.pixel_scale, data=tmp_path / "other")
    assert not other.trained
    assert "not the cutouts it was trained on" in other.note
    assert not set(other.among) & set(other.held)
    few = [raw(round_blob(2, seed), pixel_scale=0.5) for seed in range(30)]
    ingest_source(MemorySource(few), tmp_path / "few", quiet=True)
    with pytest.raises(DataError, match="30 images .* needs 40"):
        find_real(made.manifest, made.prepare, made.pixel_scale, data=tmp_path / "few")
    bands = [raw(np.repeat(round_blob(2, 0), 2, axis=0), bands=("g", "r"))] * 41
    ingest_source(MemorySource(bands), tmp_path / "bands", quiet=True)
    with pytest.raises(UsageError, match="has bands g, r; the encoder takes band1"):
        find_real(made.manifest, made.prepare, made.pixel_scale, data=tmp_path / "bands")


def test_an_excluded_set_is_left_out_again(cutouts: Path, tmp_path: Path) -> None:
    table = tmp_path / "labelled.csv"
    table.write_text("ra,dec\n10.0,-5.0\n10.1,-5.0\n")
    out = tmp_path / "encoder"
    done("train", cutouts, *TINY, "--set", "epochs=1", "--exclude", table, "--out", out)
    made = open_generator(out)
    real = find_real(made.manifest, made.prepare, made.pixel_scale)
    assert real.trained
    assert not set(real.among) & {0, 1, 10, 11}
    table.unlink()
    gone = find_real(made.manifest, made.prepare, made.pixel_scale)
    assert not gone.trained
    assert "cannot be had again" in gone.note


# -- the measures ----------------------------------------------------------------------------


def test_the_energy_distance_is_its_definition_and_its_p_is_uniform() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((30, 3)), rng.standard_normal((45, 3)) + 1.0
    value, p = energy_test(a, b, permutations=199)
    apart = squareform(pdist(np.concatenate([a, b])))
    cross = apart[:30, 30:].mean()
    plain = (2 * cross - apart[:30, :30].mean() - apart[30:, 30:].mean()) / (2 * cross)
    assert value == pytest.approx(plain)
    assert p == 1 / 200
    same = [
        energy_test(rng.standard_normal((20, 3)), rng.standard_normal((25, 3)), permutations=99)[1]
        for _ in range(200)
    ]
    assert 0.02 <= np.mean(np.array(same) <= 0.1) <= 0.18
    with pytest.raises(UsageError, match="0 permutations"):
        energy_test(a, b, permutations=0)


def test_a_classifier_tells_apart_what_differs_and_no_more() -> None:
    rng = np.random.default_rng(1)
    x = rng.standard_normal((160, 4))
    assert told_apart(x[:80], x[80:] + np.array([3, 0, 0, 0])).lower > 0.9
    alike = told_apart(x[:80], x[80:])
    assert 0.35 < alike.value < 0.65
    # Sets of unequal size are no easier.
    assert 0.35 < told_apart(x[:130], x[130:]).value < 0.65
    with pytest.raises(DataError, match="19 and 80 vectors"):
        told_apart(x[:19], x[:80])


def test_the_nearest_is_found_block_by_block_and_copies_are_at_zero() -> None:
    rng = np.random.default_rng(2)
    many = rng.random((100, 50)).astype(np.float32)
    wanted = np.concatenate([rng.random((6, 50)).astype(np.float32), many[[7, 99]]])
    found = Nearest(wanted)
    for start in range(0, 100, 33):
        found.show(many[start : start + 33])
    apart = np.sqrt(((wanted[:, None].astype(float) - many) ** 2).mean(-1))
    np.testing.assert_array_equal(found.place, apart.argmin(1))
    np.testing.assert_allclose(found.distance, apart.min(1), rtol=1e-6)
    assert found.distance[-2:].tolist() == [0, 0]


def test_copies_are_seen() -> None:
    rng = np.random.default_rng(3)
    held = rng.uniform(0.02, 0.1, 200)
    fair = find_copies([rng.uniform(0.02, 0.1, 300), held, held], 0.95, 0)
    assert fair.nearer.lower <= 0.01 + 0.02
    assert fair.auc.lower < 0.5 < fair.auc.upper
    half = np.where(np.arange(300) % 2, rng.uniform(0.02, 0.1, 300), rng.uniform(0, 0.001, 300))
    copied = find_copies([half, held, held], 0.95, 0)
    assert copied.nearer.lower > 0.4
    assert copied.auc.upper < 0.4


def test_extent_is_the_width_of_the_isophote() -> None:
    y, x = np.mgrid[:64, :64] - 31.5
    sigma = np.array([2.0, 4.0, 7.0])[:, None, None]
    blobs = np.exp(-(x**2 + y**2) / (2 * sigma**2))[:, None].astype(np.float32)
    light, extent = measure_light(blobs, 0.1)
    np.testing.assert_allclose(light, 2 * np.pi * sigma[:, 0, 0] ** 2, rtol=0.02)
    np.testing.assert_allclose(extent, 2 * sigma[:, 0, 0] * np.sqrt(2 * np.log(10)), atol=1.5)
    # A level below, and two lobes that do not touch.
    two = np.full((1, 1, 64, 64), 0.2, np.float32)
    two[0, 0, 30, 10] = two[0, 0, 30, 50] = 1
    light, extent = measure_light(two, 0.1)
    assert extent[0] == 40
    assert light[0] == pytest.approx(1.6, rel=1e-4)
    assert measure_light(np.zeros((1, 1, 64, 64), np.float32), 0.1)[1][0] == 0


def test_linear_codes_are_those_of_scikit_learn_and_of_rate_distortion_theory() -> None:
    from sklearn.decomposition import PCA

    rng = np.random.default_rng(4)
    spread = np.linspace(3, 0.2, 12)
    x = rng.standard_normal((4000, 12)) * spread + 5
    for part in (x, x[:9]):
        code, plain = LinearCode.fit(part), PCA().fit(part)
        count = len(code.variance)
        assert count == min(len(part) - 1, 12)
        reduced = PCA(4).fit(part)
        np.testing.assert_allclose(
            code.image(code.numbers(x[:50], 4)),
            reduced.inverse_transform(reduced.transform(x[:50])),
            atol=1e-8,
        )
        factor = (len(part) - 1) / len(part)
        np.testing.assert_allclose(
            code.variance, plain.explained_variance_[:count] * factor, rtol=1e-6
        )
    code = LinearCode.fit(x)
    # Reverse water-filling: R = sum 1/2 ln(v / t), D = sum min(v, t).
    level = 1.0
    nats = 0.5 * np.log(np.maximum(code.variance / level, 1)).sum()
    image, count, cost = code.at_nats(x, nats, seed=0)
    assert count == (code.variance > level).sum()
    assert cost == pytest.approx(nats, rel=1e-6)
    distortion = ((image - x) ** 2).sum(axis=1).mean()
    assert distortion == pytest.approx(np.minimum(code.variance, level).sum(), rel=0.02)
    with pytest.raises(DataError, match="all alike"):
        LinearCode.fit(np.ones((5, 12)))


def test_errors_leave_out_pixels_without_data() -> None:
    truth = np.zeros((30, 1, 2, 2))
    image = np.full_like(truth, 0.5)
    image[:, :, 0, 0] = 100
    data = np.ones_like(truth, dtype=bool)
    data[:, :, 0, 0] = False
    got = measured_error("it", image, truth, data, numbers=3)
    assert (got.value, got.lower, got.upper) == (0.25, 0.25, 0.25)
    x = np.random.default_rng(0).random((50, 1, 4, 4))
    errors = linear_errors(LinearCode.fit(x.reshape(50, -1)), x, x > -1, (4, 99), 3.0)
    assert [one.name for one in errors] == [
        "mean image", "PCA, 4 numbers", "PCA, 99 numbers (16 are all)", "linear code of equal cost",
    ]  # fmt: skip
    assert errors[0].value == pytest.approx(x.var(axis=0).mean())
    assert errors[2].value < 1e-20 < errors[1].value < errors[0].value
    assert errors[3].nats == pytest.approx(3.0, rel=1e-6)


# -- latents that are fitted ----------------------------------------------------------------


def test_a_gaussian_of_latents_is_found_again() -> None:
    rng = np.random.default_rng(0)
    factor = np.tril(rng.normal(size=(4, 4)))
    condition = rng.normal(size=(20_000, 1)).astype(np.float32)
    condition[:50] = np.nan
    slope, middle = np.array([[1.0, -2.0, 0.5, 0.0]]), np.array([3.0, 0.0, -1.0, 2.0])
    z = middle + np.nan_to_num(condition) @ slope + rng.normal(size=(20_000, 4)) @ factor.T
    found = FittedLatents.fit(z.astype(np.float32), condition)
    np.testing.assert_allclose(found.factor @ found.factor.T, factor @ factor.T, atol=0.2)
    how: dict[str, Any] = {"seed": 3, "batch": 32}
    asked = np.full((20_000, 1), 2.0, dtype=np.float32)
    drawn = found.draw(20_000, 1.0, asked, first=0, **how)
    np.testing.assert_allclose(drawn.mean(0), middle + 2 * slope[0], atol=0.15)
    np.testing.assert_allclose(np.cov(drawn.T), factor @ factor.T, atol=0.3)
    half = found.draw(20_000, 0.5, asked, first=0, **how)
    centre = found.draw(1, 0.0, asked[:1], first=0, **how)
    np.testing.assert_allclose(half - centre, (drawn - centre) / 2, atol=1e-5)
    np.testing.assert_array_equal(found.draw(40, 1.0, asked[:40], first=64, **how), drawn[64:104])
    alone = FittedLatents.fit(z, None)
    np.testing.assert_allclose(alone.draw(2, 0.0, None, first=0, **how), [z.mean(0)] * 2, rtol=1e-4)


def test_samples_of_fitted_latents_are_their_images(encoder: Path, cutouts: Path) -> None:
    made = open_generator(encoder, device="cpu")
    x = made.prepare(Cutouts(cutouts).flux(range(70)))
    top = made.draw_top(x, seed=5)
    np.testing.assert_array_equal(made.draw_top(x[32:], seed=5, first=32), top[32:])
    many = np.stack([made.draw_top(x[:4], seed=seed) for seed in range(60)])
    away = (many.mean(0) - made.encode(x[:4])) / many.std(0) * np.sqrt(60)
    assert 0.5 < away.std() < 1.5  # standard errors
    images = made.sample(40, temperature=0, top_ND=top[:40])
    plain = made._vdvae.decode([torch.from_numpy(top[:32])]).numpy()
    np.testing.assert_array_equal(images[:32], plain)
    with pytest.raises(UsageError, match="39 conditions or latents for 40 images"):
        made.sample(40, top_ND=top[:39])


def test_samples_come_from_where_latents_were_fitted(
    encoder: Path, found: Generated, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted = generate(open_generator(encoder), 5, latents="fitted", compared=30)
    assert "at temperature 1, top latents as of 120 training images; 30 measured" in fitted.summary
    assert fitted.describe()["latents"] == "fitted"
    assert not np.array_equal(fitted.images, found.images)
    made, real = fitted.generator, fitted.real
    one = made.prepare(real.cutouts.flux(real.held[:1]))
    mean = made.encode(one)

    def still(*_: Any, **__: Any) -> FittedLatents:
        return FittedLatents(weights=mean.astype(np.float64), factor=np.zeros((8, 8)))

    monkeypatch.setattr(FittedLatents, "fit", still)
    alike = generate(made, 3, latents="fitted", temperature=0, compared=30)
    # Of one image's latent alone they are what it makes of that image.
    rebuilt = np.tile(made.reconstruct(one).top, (3, 1, 1, 1))
    np.testing.assert_allclose(alike.images, rebuilt, atol=1e-5)


def test_fitted_latents_follow_conditions(conditioned: Path) -> None:
    made = open_generator(conditioned)
    known = made.conditioning
    assert known is not None
    x = np.random.default_rng(2).random((64, 1, SIZE, SIZE)).astype(np.float32)
    given = known.standardised(np.linspace(1, 4, 64)[:, None])
    assert not np.array_equal(made.draw_top(x, given), made.draw_top(x))
    found = generate(made, 3, latents="fitted", conditions={"las": 4.0}, compared=20)
    assert "las = 4, top latents as of" in found.summary


# -- the answer ------------------------------------------------------------------------------


def test_the_answer_holds_together(found: Generated) -> None:
    assert found.images.shape == (5, 1, SIZE, SIZE)
    assert len(found.table) == 30
    assert found.codes.shape == (30, 8)
    assert {(c.judge, c.one, c.other) for c in found.comparisons} == {
        (judge, one, other)
        for judge in ("its own code", "PCA of pixels")
        for one, other in ((SAMPLES, HELD), (SAMPLES, REBUILT), (TRAINED, HELD))
    }
    made, real = found.generator, found.real
    held = made.prepare(real.cutouts.flux(real.held))
    train = made.prepare(real.cutouts.flux(real.among))
    samples = made.sample(30, seed=0)
    apart = np.sqrt(((samples[:, None] - train[None]) ** 2).mean((2, 3, 4)))
    np.testing.assert_allclose(found.table["distance"].to_numpy(), apart.min(1), rtol=1e-4)
    ids = real.cutouts.ids[real.among[apart.argmin(1)]]
    assert found.table["nearest"].to_pylist() == list(ids)
    np.testing.assert_allclose(found.panels.nearest, train[apart.argmin(1)[:5]], atol=1e-6)
    own = np.sqrt(((held[:, None] - train[None]) ** 2).mean((2, 3, 4))).min(1)
    np.testing.assert_allclose(found.copies.held, own, rtol=1e-4)
    share = [(own <= d).mean() * 100 for d in found.table["distance"].to_pylist()]
    np.testing.assert_allclose(found.table["percentile"].to_numpy(), share)
    arcsec = found.table["extent_arcsec"].to_numpy()
    np.testing.assert_allclose(arcsec, 0.5 * found.table["extent_pixels"].to_numpy())
    names = [one.name for one in found.errors]
    assert names[0] == "mean image"
    assert names[-1] == "VDVAE, one draw of all latents"
    equal, drawn = (next(e for e in found.errors if e.name == n) for n in (names[3], names[-1]))
    assert equal.nats == pytest.approx(drawn.nats, rel=0.01)
    for word in ("told apart?", "held-out", "nearest training image", "extent (arcsec)", "bits"):
        assert word in found.summary


@pytest.mark.slow
def test_a_density_and_a_judge_are_asked(encoder: Path) -> None:
    made = open_generator(encoder)
    asked = []

    def normal(z_ND: np.ndarray) -> np.ndarray:
        asked.append(z_ND.shape)
        return -0.5 * np.square(z_ND).sum(axis=1)

    judge = encoder_judge(encoder, made.channels, SIZE)
    got = generate(made, 3, compared=20, permutations=9, density=normal, judges=(judge,))
    assert got.log_likelihood is not None
    assert set(got.log_likelihood) == {SAMPLES, HELD, TRAINED}
    np.testing.assert_allclose(
        got.table["log_likelihood"].to_numpy(), -0.5 * np.square(got.codes).sum(axis=1)
    )
    assert all(shape[1] == 8 for shape in asked)
    assert "log likelihood of samples" in got.summary
    # Shown the same images through the same network, it says what the own code says.
    own, other = (
        [c for c in got.comparisons if c.judge == name] for name in ("its own code", "vdvae")
    )
    for one, two in zip(own, other, strict=True):
        assert one.energy == pytest.approx(two.energy, abs=1e-4)
    with pytest.raises(UsageError, match="takes 1 channel"):
        encoder_judge(encoder, ("g", "r", "i"), SIZE)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"count": 0}, "-n 0; expected at least 1"),
        ({"compared": 10}, "compared 10; expected at least 20"),
        ({"temperature": -1}, "temperature -1"),
        ({"isophote": 2}, "isophote 2"),
        ({"level": 1}, "interval level 1"),
        ({"seed": -1}, "seed -1"),
        ({"latents": "prio"}, "latents"),
        ({"conditions": {"las": 3}}, "was trained without"),
    ],
)
def test_bad_settings(encoder: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        generate(open_generator(encoder), **settings)


def test_only_a_vdvae_generates(cutouts: Path, encoder: Path, tmp_path: Path) -> None:
    simclr = tmp_path / "simclr"
    done(
        "train", cutouts, "--method", "simclr", "--backbone", "test_resnet", "--size", "32",
        "--batch", "16", "--epochs", "1", "--set", "head.hidden=16", "--set", "head.out=8",
        "--out", simclr, "--quiet",
    )  # fmt: skip
    with pytest.raises(UsageError, match="holds simclr:test_resnet, which cannot generate"):
        open_generator(simclr)
    with pytest.raises(UsageError, match="holds cutouts; expected encoder"):
        open_generator(cutouts)
    lost = json.loads((encoder / "manifest.json").read_text())
    assert Path(lost["parents"]["cutouts"]["path"]) == cutouts
    made: Generator = open_generator(encoder)
    gone = Manifest(**{**vars(made.manifest), "parents": {}})
    with pytest.raises(UsageError, match="no longer at any place it knows of; .* --data"):
        find_real(gone, made.prepare, made.pixel_scale)


def test_from_the_command_line(encoder: Path, found: Generated, tmp_path: Path) -> None:
    out = tmp_path / "found"
    said = done(
        "generate", encoder, "-n", "5", "--compared", "30", "--out", out, "--save",
        tmp_path / "one.png", "--save", tmp_path / "one.csv", "--quiet",
    )  # fmt: skip
    # A seed settles everything.
    assert said.startswith(found.summary)
    assert pq.read_table(out / "samples.parquet").equals(found.table)
    assert said.startswith("5 samples of 16 x 16 pixels at temperature 1; 30 measured")
    names = {path.name for path in out.iterdir()}
    assert {"manifest.json", "report.txt", "samples.parquet", "codes.npy", "closeness.csv"} < names
    for name in ("samples", "nearest", "reconstructions", "interpolations", "temperatures",
                 "closeness"):  # fmt: skip
        assert {f"{name}.png", f"{name}.pdf"} <= names
    manifest = Manifest.open(out, "generated")
    assert set(manifest.parents) == {"encoder", "cutouts"}
    samples = Cutouts(out / "samples")
    np.testing.assert_array_equal(samples.flux(range(5)), found.images)
    # The samples are cutouts like any other, and reading them does not damage the result.
    done("embed", out / "samples", "--encoder", "pca:3", "--out", tmp_path / "emb", "--quiet")
    shutil.copytree(out, tmp_path / "copy")
    assert len(Cutouts(tmp_path / "copy" / "samples")) == 5
    Manifest.open(tmp_path / "copy", "generated")
    wrong = skytwin_command("generate", encoder, "--condition", "las", "--quiet")
    assert wrong.code == 2
    assert "--condition las; expected COLUMN=VALUE" in wrong.err


@pytest.mark.slow
def test_stopped_after_any_step_it_goes_on_to_the_same_bytes(
    encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generate_closeness, "_TREES", 4)  # to save time

    def run(out: Path, most: int = 1000) -> int:
        """How many steps were made."""
        with stopped_after(most) as made:
            told = skytwin_command(
                "generate", encoder, "-n", 5, "--compared", 40, "--device", "cpu", "--out", out,
                "--quiet",
            )  # fmt: skip
            assert told.code == 0, told.err
        return len(made)

    every = run(tmp_path / "whole")
    assert every > 20
    out = tmp_path / "out"
    for most in (1, 3, every - 8):
        assert run(out, most) == most  # none twice
        assert not (out / "manifest.json").exists()
    other = skytwin_command("generate", encoder, "-n", 5, "--out", out, "--quiet")
    assert other.code == 2
    assert "unfinished run with other settings (recipe.compared: 40 then, 500 now" in other.err

    def half(where: Path, *_: Any) -> None:
        (where / "samples.png").write_bytes(b"half")
        raise Stop

    with monkeypatch.context() as patch:
        patch.setattr(report_generate, "draw_pictures", half)
        assert run(out) == 4
    assert run(out) == 0
    assert content(out) == content(tmp_path / "whole")
    again = skytwin_command("generate", encoder, "-n", 5, "--out", out, "--quiet")
    assert (again.code, "already holds a finished result" in again.err) == (2, True)


def test_steps_kept_beside_other_images_are_made_again(
    encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generate_closeness, "_TREES", 4)  # to save time
    made = open_generator(encoder, device="cpu")
    how: dict[str, Any] = {"compared": 20, "permutations": 9}

    def kept(most: int) -> tuple[Generated, int]:
        with Run(tmp_path / "out", kind="toy", recipe={}, inputs={}) as run:
            before = len(run.journal)
            found = generate(made, 2, most=most, steps=Steps(run), **how)
            return found, len(run.journal) - before

    first, count = kept(40)
    assert count > 20
    assert kept(40)[1] == 0
    other, again = kept(30)
    assert (again, len(first.real.among), len(other.real.among)) == (count, 40, 30)
    plain = generate(made, 2, most=30, **how)
    assert other.table.equals(plain.table)
    assert other.comparisons == plain.comparisons


def test_the_answer_loads_no_torch() -> None:
    code = (
        "import sys, skytwin.cli_generate, skytwin.report_generate, skytwin.answers.generate;"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
