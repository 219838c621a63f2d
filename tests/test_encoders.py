"""Opening encoders, averaging over views, and principal components against scikit-learn."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.decomposition import PCA

from skytwin.encoders.encoder import Encoder, fingerprint, orbit_views
from skytwin.encoders.load import PRESETS, load_saved, open_encoder
from skytwin.encoders.pca import PCA_FILE, PcaNetwork, fit_pca
from skytwin.errors import DamagedArtefact, DataError, Mismatch, UnknownName, UsageError
from skytwin.images.prepare import Prepare
from skytwin.images.stretch import Stretch
from toys import Pixels, ToyNetwork, assert_close, random_weights, tilted_galaxies


@pytest.fixture(scope="module")
def galaxies() -> Pixels:
    return tilted_galaxies()


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_weights(tmp_path_factory.mktemp("weights") / "tiny.safetensors")


def test_opening_without_torch_or_sklearn() -> None:
    code = "import sys, skytwin.encoders.load; print({'torch', 'timm', 'sklearn'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_without_the_networks_extra_it_says_what_to_install(galaxies: Pixels) -> None:
    code = """
import sys
sys.modules["torch"] = None
from skytwin.encoders.load import _backbone
_backbone("timm:resnet18", weights=None, size=None, device="auto", runtime="auto")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    last = done.stderr.strip().splitlines()[-1]
    assert "UsageError: encoder 'timm:resnet18' needs torch, which is not installed" in last
    assert "skytwin[networks]" in last


def test_toy_vectors_by_hand() -> None:
    image = np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4) / 16
    prepare = Prepare(
        bands=("i",),
        mix=(("i",),),
        crop=4,
        stretch=Stretch.parse("range:0,1"),
        size=4,
        channels=1,
        mean=(0.0,),
        std=(1.0,),
    )

    def vector(orbit: Any) -> list[float]:
        encoder = Encoder(network=ToyNetwork(), prepare=prepare, orbit=orbit)
        return [16 * float(v) for v in encoder.encode(image)[0]]

    assert vector("none") == [7.5, 0, 1.5]
    assert vector("flips") == [7.5, (0 + 3 + 12 + 15) / 4, (1.5 + 13.5) / 2]
    # The outer rows and columns are the four sides that come to lie on top, twice each.
    assert vector("d4") == [7.5, 7.5, (1.5 + 13.5 + 6 + 9) / 4]


def test_orbit_views_are_the_dihedral_group() -> None:
    x = np.arange(2 * 3 * 16, dtype=np.float32).reshape(2, 3, 4, 4)
    views = orbit_views(x, "d4")
    assert views.shape == (8, 2, 3, 4, 4)
    assert views.flags.c_contiguous
    np.testing.assert_array_equal(views[0], x)
    want = {
        np.ascontiguousarray(np.rot90(flip, turns, axes=(2, 3))).tobytes()
        for flip in (x, x.swapaxes(2, 3))
        for turns in range(4)
    }
    assert {view.tobytes() for view in views} == want
    assert len(want) == 8
    flips = {view.tobytes() for view in orbit_views(x, "flips")}
    assert flips == {x[:, :, ::i, ::j].tobytes() for i in (1, -1) for j in (1, -1)}
    assert orbit_views(x, "none").shape == (1, 2, 3, 4, 4)
    with pytest.raises(UnknownName, match="unknown orbit 'd8'; did you mean: d4"):
        orbit_views(x, "d8")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "other",
    [
        {"a": np.ones((2, 3), np.float32), "b": np.zeros(2, np.float32)},
        {"a": np.ones((3, 2), np.float32), "c": np.zeros(2, np.float32)},
        {"a": np.ones((3, 2), np.float32), "b": np.zeros(2, np.int32)},
        {"a": np.ones((3, 2), np.float32)},
    ],
)
def test_fingerprint_sees_names_shapes_types_and_values(other: dict[str, np.ndarray]) -> None:
    arrays = {"b": np.zeros(2, np.float32), "a": np.ones((3, 2), np.float32)}
    assert fingerprint("net", arrays) == fingerprint("net", dict(reversed(arrays.items())))
    assert fingerprint("net", arrays) != fingerprint("net", other)
    assert fingerprint("net", arrays) != fingerprint("net2", arrays)


@pytest.mark.parametrize(
    ("spec", "settings", "error", "said"),
    [
        ("resnet18", {}, UnknownName, "unknown encoder 'resnet18'; known: timm:NAME, "),
        ("pca:0", {}, UnknownName, "unknown encoder 'pca:0'"),
        ("pca:8:absolute", {}, UnknownName, "did you mean: pca:64:abs|pca takes a number"),
        ("pca:50", {}, UsageError, "from 40 images of 4800 pixels; at most 40"),
        ("pca:20", {"crop": "2", "size": 2}, UsageError, "of 12 pixels; at most 12"),
        ("pca:3", {"weights": "w.safetensors"}, UsageError, "takes no --weights"),
        ("pca:3", {"crop": "41"}, UsageError, "crop '41' is 41 pixels and the cutouts are 40x40"),
        ("pca:3", {"crop": "30arcsec"}, UsageError, "is 75 pixels"),
        ("pca:3", {"bands": "z"}, UnknownName, "unknown band 'z'; known: g, r, i"),
        ("pca:3", {"stretch": "cube"}, UnknownName, "unknown stretch 'cube'"),
        ("pca:3", {"stretch": "lupton", "bands": "g,r"}, UsageError, "lupton mixes three"),
        ("pca:3", {"orbit": "d5"}, UnknownName, "unknown orbit 'd5'; did you mean: d4"),
        ("pca:3", {"size": 0}, UsageError, "size is 0"),
        ("pca:3", {"interpolation": "lanczos"}, UsageError, "unknown interpolation"),
    ],
)
def test_what_cannot_be_opened(
    galaxies: Pixels, spec: str, settings: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        open_encoder(spec, cutouts_like=galaxies, **settings)


def test_frames_that_are_not_square_need_a_crop(galaxies: Pixels) -> None:
    source = Pixels(galaxies.images[:, :, :36])
    with pytest.raises(UsageError, match="40x36 pixels.*--crop 36"):
        open_encoder("pca:3", cutouts_like=source)
    assert open_encoder("pca:3", cutouts_like=source, crop="36").prepare.crop == 36


def test_several_crops_side_by_side(galaxies: Pixels, weights: Path, tmp_path: Path) -> None:
    common: dict[str, Any] = {"weights": weights, "size": 32, "orbit": "d4"}
    flux = galaxies.flux(np.arange(3))

    def alone(crop: str) -> np.ndarray:
        opened = open_encoder("timm:test_efficientnet", cutouts_like=galaxies, crop=crop, **common)
        return opened.encode(flux)

    both = open_encoder("timm:test_efficientnet", cutouts_like=galaxies, crop="16, 32", **common)
    assert both.dim == 2 * both.network.dim
    # The widest comes first, whatever the order they are named in.
    assert_close(both.encode(flux), np.concatenate([alone("32"), alone("16")], axis=1))
    both.save(tmp_path)
    again = load_saved(tmp_path)
    assert again.fingerprint == both.fingerprint
    assert_close(again.encode(flux), both.encode(flux))
    with pytest.raises(UsageError, match="names one size twice"):
        open_encoder("timm:test_efficientnet", cutouts_like=galaxies, crop="16,16px", **common)
    with pytest.raises(UsageError, match="fitted on one crop"):
        open_encoder("pca:3", cutouts_like=galaxies, crop="16,32")


def test_five_bands_need_a_choice(galaxies: Pixels, weights: Path) -> None:
    five = Pixels(np.repeat(galaxies.images, 2, axis=1)[:, :5], bands=tuple("ugriz"))
    assert open_encoder("pca:3", cutouts_like=five).prepare.channels == 5
    with pytest.raises(UsageError, match=r"takes 3 band\(s\) and 5 are.*--bands u,g,r"):
        open_encoder("timm:test_efficientnet", cutouts_like=five, weights=weights, size=32)
    with pytest.raises(UsageError, match=r"2 were chosen \(g,r\+i\)"):
        open_encoder(
            "timm:test_efficientnet", cutouts_like=five, weights=weights, size=32, bands="g,r+i"
        )


def test_presets_are_arguments_of_open_encoder(galaxies: Pixels) -> None:
    ulisse = dict(PRESETS["ulisse"])
    assert ulisse.pop("spec") == "timm:efficientnet_b0"
    source = Pixels((galaxies.images * 40).clip(0, 255).astype(np.uint8))
    prepare = open_encoder("pca:2", cutouts_like=source, **ulisse).prepare
    assert (prepare.size, prepare.crop, prepare.interpolation) == (224, 40, "bilinear")
    assert str(prepare.stretch) == "range:0,255"


def test_shrinking_averages_and_enlarging_interpolates(galaxies: Pixels) -> None:
    def how(size: int) -> str:
        return open_encoder("pca:2", cutouts_like=galaxies, size=size).prepare.interpolation

    assert [how(39), how(40), how(41)] == ["area", "bilinear", "bilinear"]


def prepared(source: Pixels, **settings: Any) -> tuple[Prepare, np.ndarray]:
    prepare = open_encoder("pca:1", cutouts_like=source, **settings).prepare
    return prepare, prepare(source.flux(np.arange(source.shape[0]))).reshape(source.shape[0], -1)


def test_components_equal_scikit_learn(galaxies: Pixels) -> None:
    prepare, pixels = prepared(galaxies, size=20)
    network = fit_pca("pca:8", galaxies, prepare, seed=4)
    want = PCA(8, svd_solver="full").fit(pixels)
    images = pixels.reshape(40, 3, 20, 20)
    np.testing.assert_allclose(network.forward(images), want.transform(pixels), atol=1e-3)
    np.testing.assert_allclose(network.explained_variance, want.explained_variance_, rtol=1e-4)
    ratio = want.explained_variance_ratio_.sum()
    assert network.describe()["explained_variance_ratio"] == pytest.approx(ratio, abs=1e-4)
    absolute = fit_pca("pca:8:abs", galaxies, prepare, seed=4)
    np.testing.assert_array_equal(absolute.forward(images), np.abs(network.forward(images)))
    assert absolute.fingerprint != network.fingerprint


def test_many_images_take_the_randomised_solver_and_agree_with_the_exact_one() -> None:
    random = np.random.default_rng(1)
    basis = np.linalg.qr(random.normal(size=(1156, 5)))[0].T
    images = random.normal(size=(1100, 5)) * [40, 30, 20, 10, 5] @ basis
    images = (images + random.normal(0, 0.01, images.shape)).astype(np.float32)
    source = Pixels(images.reshape(1100, 1, 34, 34), bands=("i",))
    prepare, pixels = prepared(source, stretch="range:-30,30")
    network = fit_pca("pca:5", source, prepare, seed=0)
    assert network.describe()["solver"] == "randomized"
    values, vectors = np.linalg.eigh(np.cov(pixels.T.astype(np.float64)))
    np.testing.assert_allclose(network.explained_variance, values[:-6:-1], rtol=1e-3)
    overlap = np.abs(network.components @ vectors[:, :-6:-1])
    np.testing.assert_allclose(overlap, np.eye(5), atol=1e-2)
    again = fit_pca("pca:5", source, prepare, seed=0)
    assert again.fingerprint == network.fingerprint
    np.testing.assert_allclose(network.components @ network.components.T, np.eye(5), atol=1e-5)


def test_the_fit_takes_a_seeded_subset(galaxies: Pixels) -> None:
    prepare, _ = prepared(galaxies, size=10)
    fits = [fit_pca("pca:4", galaxies, prepare, seed=s, max_fit=30) for s in (0, 0, 1)]
    assert fits[0].fingerprint == fits[1].fingerprint != fits[2].fingerprint
    assert [fit.describe()["images"] for fit in fits] == [30] * 3
    assert [fit.describe()["seed"] for fit in fits] == [0, 0, 1]
    with pytest.raises(UsageError, match="from 3 images"):
        fit_pca("pca:4", galaxies, prepare, max_fit=3)


def test_images_all_alike_have_no_components(galaxies: Pixels) -> None:
    source = Pixels(np.repeat(galaxies.images[:1], 9, axis=0))
    with pytest.raises(DataError, match="all alike"):
        open_encoder("pca:2", cutouts_like=source)


def test_components_refuse_other_sizes(galaxies: Pixels) -> None:
    prepare, _ = prepared(galaxies, size=10)
    network = fit_pca("pca:2", galaxies, prepare)
    with pytest.raises(Mismatch, match="300 pixels per image; got 3 x 9 x 9"):
        network.forward(np.zeros((1, 3, 9, 9), np.float32))


def test_saved_folders_are_checked(galaxies: Pixels, tmp_path: Path) -> None:
    encoder = open_encoder("pca:3", cutouts_like=galaxies, size=12)
    encoder.save(tmp_path)
    assert load_saved(tmp_path).fingerprint == encoder.fingerprint
    with pytest.raises(UsageError, match="leave --weights out"):
        load_saved(tmp_path, weights="w.safetensors")

    stored = (tmp_path / "encoder.json").read_text()
    edited = json.loads(stored)
    edited["orbit"] = "d4"
    (tmp_path / "encoder.json").write_text(json.dumps(edited))
    with pytest.raises(DamagedArtefact, match="was edited"):
        load_saved(tmp_path)
    (tmp_path / "encoder.json").write_text(stored[:-40])
    with pytest.raises(DamagedArtefact, match="cannot be read"):
        load_saved(tmp_path)
    (tmp_path / "encoder.json").write_text(stored)

    other = open_encoder("pca:3", cutouts_like=galaxies, size=12, stretch="log")
    other.network.save(tmp_path)
    with pytest.raises(Mismatch, match="not those this encoder was made with"):
        load_saved(tmp_path)
    (tmp_path / PCA_FILE).write_bytes(b"nonsense")
    with pytest.raises(DamagedArtefact, match=PCA_FILE):
        load_saved(tmp_path)
    (tmp_path / PCA_FILE).unlink()
    with pytest.raises(DamagedArtefact, match=PCA_FILE):
        PcaNetwork.load(tmp_path, "pca:3", {})
