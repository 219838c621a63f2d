"""What a GPU does, done on a CPU: the same vectors from planes as from prepared images."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from command import images
from skytwin.embeddings.embed import embed_cutouts
from skytwin.encoders.encoder import ORBITS, Encoder, Orbit, orbit_views
from skytwin.encoders.load import open_encoder
from skytwin.encoders.on_device import DeviceRun, turned
from skytwin.images.prepare import _INTERPOLATIONS, Interpolation, PixelSource, Prepare
from skytwin.images.stretch import Stretch
from skytwin.verbs import ingest
from toys import random_weights, tilted_galaxies

TINY = "timm:test_efficientnet"


class Net(torch.nn.Module):
    """Three channels to five numbers, no two views of an image alike."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Conv2d(3, 5, 3)
        self.weight = torch.nn.Parameter(torch.randn(5, 5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = torch.relu(self.layer(x))[..., 2:, 1:].mean((2, 3)) @ self.weight
        return found


def preparation(
    mix: tuple[tuple[str, ...], ...], size: int, interpolation: Interpolation
) -> Prepare:
    return Prepare(
        bands=("g", "r"),
        mix=mix,
        crop=20,
        stretch=Stretch.parse("range:-1,3+asinh:0.1"),
        size=size,
        channels=3,
        mean=(0.4, 0.5, 0.6),
        std=(0.2, 0.3, 0.25),
        interpolation=interpolation,
    )


@pytest.mark.parametrize("orbit", ORBITS)
def test_views_are_those_of_arrays(orbit: Orbit) -> None:
    x = np.random.default_rng(0).random((2, 3, 5, 5), np.float32)
    np.testing.assert_array_equal(turned(torch.from_numpy(x), orbit).numpy(), orbit_views(x, orbit))


@pytest.mark.parametrize(
    ("interpolation", "size"),
    [("bilinear", 33), ("bilinear", 20), ("bicubic", 47), ("area", 10), ("area", 7), ("area", 13),
     ("area", 31), ("nearest", 33), ("nearest", 9)],
)  # fmt: skip
def test_a_resize_is_a_product(interpolation: Interpolation, size: int) -> None:
    prepare = preparation((("g",),), size, interpolation)
    plane = np.random.default_rng(1).random((20, 20), np.float32)
    a = prepare.resampling()
    assert a.shape == (size, 20)
    plain = cv2.resize(plane, (size, size), interpolation=_INTERPOLATIONS[interpolation])
    np.testing.assert_allclose(a @ plane @ a.T, plain, atol=2e-6)


@pytest.mark.parametrize("mix", [(("g",),), (("g",), ("r",), ("g", "r")), (("r",), ("g",), ("r",))])
@pytest.mark.parametrize(("interpolation", "size"), [("bicubic", 32), ("area", 11)])
@pytest.mark.parametrize("orbit", ORBITS)
def test_vectors_of_planes_are_those_of_prepared_images(
    mix: tuple[tuple[str, ...], ...], interpolation: Interpolation, size: int, orbit: Orbit
) -> None:
    rng = np.random.default_rng(2)
    flux = rng.normal(1, 1, (7, 2, 24, 24)).astype(np.float32)
    flux[0, 0, :3] = np.nan
    prepare = preparation(mix, size, interpolation)
    model = Net().eval()
    views = orbit_views(prepare(flux), orbit)
    with torch.inference_mode():
        plain = np.stack([model(torch.from_numpy(v)).numpy() for v in views]).mean(axis=0)
    run = DeviceRun(model, torch.device("cpu"))
    planes = prepare.planes(flux)
    assert planes.shape[1] == len(set(mix))
    got = run.vectors(planes, prepare, orbit, batch=5)
    np.testing.assert_allclose(got, plain, atol=3e-5 * np.abs(plain).max())
    np.testing.assert_allclose(
        run(np.ascontiguousarray(views[0])), model(torch.from_numpy(views[0])).detach(), atol=1e-5
    )


def test_threads_get_what_they_asked_for() -> None:
    run = DeviceRun(Net(), torch.device("cpu"))
    rng = np.random.default_rng(3)
    stacks = [rng.random((4, 1, 20, 20), np.float32) for _ in range(40)]
    kinds = [preparation((("g",),), size, "area") for size in (10, 12)]
    asked = [(x, kinds[n % 2]) for n, x in enumerate(stacks)]
    alone = [run.vectors(x, kind, "d4", 8) for x, kind in asked]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda one: run.vectors(*one, "d4", 8), asked))
    np.testing.assert_array_equal(together, alone)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_weights(tmp_path_factory.mktemp("weights") / "tiny.safetensors")


def on_device(encoder: Encoder, device: str) -> Encoder:
    """The same, with its network as it runs on a GPU."""
    network = encoder.network
    network.on_device = DeviceRun(network._model, torch.device(device))  # type: ignore[attr-defined]
    return encoder


def opened(source: PixelSource, weights: Path, crop: str = "16,24") -> Encoder:
    return open_encoder(
        TINY, cutouts_like=source, weights=weights, size=64, crop=crop, orbit="d4", root=True,
        device="cpu", runtime="torch",
    )  # fmt: skip


def test_an_encoder_gives_the_rest_of_the_preparation_away(weights: Path) -> None:
    galaxies = tilted_galaxies()
    flux = galaxies.flux(np.arange(20))
    plain = opened(galaxies, weights).encode(flux)
    given = on_device(opened(galaxies, weights), "cpu").encode(flux, batch=24)
    np.testing.assert_allclose(given, plain, atol=1e-4 * np.abs(plain).max())


def test_an_embedding_is_made_in_larger_passes(weights: Path, tmp_path: Path) -> None:
    cutouts = ingest(images(tmp_path / "images", 9), tmp_path / "cut", quiet=True)
    plain = embed_cutouts(cutouts, opened(cutouts, weights, "16"), tmp_path / "plain", quiet=True)
    there = on_device(opened(cutouts, weights, "16"), "cpu")
    made = embed_cutouts(cutouts, there, tmp_path / "there", quiet=True)
    assert made.manifest is not None
    assert plain.manifest is not None
    assert (plain.manifest.recipe["part_rows"], made.manifest.recipe["part_rows"]) == (256, 4096)
    assert (plain.manifest.inputs["batch"], made.manifest.inputs["batch"]) == (32, 256)
    # One encoder: only where it runs differs.
    assert made.encoder_fingerprint == plain.encoder_fingerprint
    x, y = made.vectors[:], plain.vectors[:]
    np.testing.assert_allclose(x, y, atol=1e-4 * np.abs(y).max())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("precision", ["f32", "bf16"])
def test_on_a_gpu_it_is_what_it_is_on_a_cpu(weights: Path, precision: str) -> None:
    galaxies = tilted_galaxies()
    flux = np.tile(galaxies.flux(np.arange(20)), (30, 1, 1, 1))
    plain = opened(galaxies, weights).encode(flux[:20])
    there = open_encoder(
        TINY, cutouts_like=galaxies, weights=weights, size=64, crop="16,24", orbit="d4", root=True,
        device="cuda", precision=precision,
    )  # fmt: skip
    assert there.on_device is not None
    got = there.encode(flux, batch=256)
    allowed = 1e-3 if precision == "f32" else 0.1
    for first in range(0, len(flux), 20):
        np.testing.assert_allclose(
            got[first : first + 20], plain, atol=allowed * np.abs(plain).max()
        )
