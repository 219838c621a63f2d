"""A VDVAE trained for a minute on simulated radio sources: what its images are worth."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from command import done
from skytwin.answers.generate import Generated, generate
from skytwin.answers.generate_parts import find_copies
from skytwin.answers.generate_reconstruction import ReconstructionError
from skytwin.encoders.generator import open_generator

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("quality")
    done("simulate", "radio", "1500", "--size", "64", "--out", folder / "cutouts", "--quiet")
    done(
        "train", folder / "cutouts", "--method", "vdvae", "--size", "16", "--batch", "8",
        "--epochs", "8", "--stretch", "sigma:3+asinh:0.1", "--set", "ema=0.99",
        "--set", "vdvae.stages=4", "--set", "vdvae.width=32", "--set", "vdvae.encoder_blocks=1",
        "--set", "vdvae.decoder_blocks=1", "--set", "vdvae.latent_dim=64",
        "--set", "vdvae.sigma=0.05", "--set", "optimizer.name=adamw", "--set",
        "optimizer.lr=0.003", "--set", "optimizer.weight_decay=0.01", "--set",
        "optimizer.warmup_epochs=0", "--set", "optimizer.clip=1.0", "--set",
        "validation.share=0.2", "--set", "loss.beta_warmup_epochs=4",
        "--out", folder / "encoder", "--quiet",
    )  # fmt: skip
    return folder / "encoder"


@pytest.fixture(scope="module")
def found(encoder: Path) -> Generated:
    return generate(open_generator(encoder), 64, compared=300, permutations=199)


def error(found: Generated, start: str) -> ReconstructionError:
    return next(one for one in found.errors if one.name.startswith(start))


def test_the_bound_falls(encoder: Path, found: Generated) -> None:
    with (encoder / "curves.csv").open() as stream:
        bits = [float(row["validation_bits_per_dim"]) for row in csv.DictReader(stream)]
    assert bits[-1] < bits[0] - 0.5
    # Of the best epoch's weights, which are kept.
    assert found.bits_per_dim[0] < bits[0] - 0.5


def test_reconstructions_beat_the_mean_image_and_the_linear_code_of_equal_cost(
    found: Generated,
) -> None:
    means, drawn = error(found, "VDVAE, means"), error(found, "VDVAE, one draw")
    equal = error(found, "linear code of equal cost")
    assert means.upper < error(found, "mean image").lower / 5
    assert equal.nats == pytest.approx(drawn.nats, rel=0.01)
    # Draw against draw, and image by image.
    assert drawn.upper < equal.lower
    assert (drawn.errors < equal.errors).mean() > 0.6


def test_what_equal_numbers_can_and_cannot_show(found: Generated) -> None:
    means, top = error(found, "VDVAE, means"), error(found, "VDVAE, top latent alone")
    whole = error(found, f"PCA, {means.numbers} numbers")
    # More numbers than pixels: as many components are the image itself.
    assert means.numbers > 16**2
    assert whole.value < 1e-12 < means.value
    # The top latent alone, trained so, holds next to nothing that as many components do not.
    same = error(found, f"PCA, {top.numbers} numbers")
    assert same.upper < top.lower


def test_samples_are_no_copies_but_copies_would_be_seen(found: Generated) -> None:
    copies = found.copies
    distance = found.table["distance"].to_numpy()
    assert copies.nearer.lower <= 0.01
    assert copies.nearer_reconstructed.lower <= 0.01
    assert copies.auc_reconstructed.lower > 0.35
    assert distance.min() > 0
    # Training images with a little noise, passed off as samples.
    rng = np.random.default_rng(0)
    false = 1e-4 * rng.uniform(0.5, 1, len(distance))
    caught = find_copies([false, copies.held, copies.reconstructed], 0.95, 0)
    assert caught.nearer.lower > 0.5
    assert caught.nearer_reconstructed.lower > 0.9
    assert caught.auc_reconstructed.upper < 0.05


def test_samples_come_out_too_small_and_the_answer_says_so(found: Generated) -> None:
    extent = found.properties[1]
    assert np.median(extent.samples) < np.median(extent.held)
    assert "samples are smaller" in extent.summary
    # Real against real is what chance looks like.
    for one in found.comparisons:
        if one.one == "training images":
            assert 0.4 < one.auc.value < 0.6
            assert one.p > 0.005
