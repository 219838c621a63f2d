"""One contract that every encoder passes, whatever made it.

Two numbers count as one where they differ by less than 1e-5 of the largest: 32-bit sums taken in
another order, as another batch takes them.
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from skytwin.encoders.bundled import bundled_folder
from skytwin.encoders.encoder import Encoder, Orbit, orbit_views
from skytwin.encoders.load import load_saved, open_encoder
from skytwin.encoders.recipe import read_recipe
from skytwin.encoders.train import train_encoder
from skytwin.errors import Mismatch
from skytwin.images.ingest import ingest_source
from skytwin.images.prepare import Prepare
from skytwin.images.stretch import Stretch
from toys import (
    MemorySource,
    Pixels,
    ToyNetwork,
    assert_close,
    blob,
    difference,
    random_weights,
    raw,
    tilted_galaxies,
)

OPENED = ("toy", "pca:6", "pca:6:abs", "timm:test_efficientnet")
METHODS = ("simclr", "byol", "simsiam", "vdvae")
ENCODERS = (*OPENED, *METHODS, "skytwin:radio")
SAVED = tuple(name for name in ENCODERS if name != "toy")  # made of nothing, it has no file

TINY = ["batch=16", "epochs=1", "optimizer.warmup_epochs=0"]
SELF_SUPERVISED = ["backbone=test_resnet", "input.size=32", "head.hidden=16", "head.out=8"]
VDVAE = [
    "input.size=16", "vdvae.stages=4", "vdvae.width=8", "vdvae.encoder_blocks=1",
    "vdvae.decoder_blocks=1", "vdvae.latent_dim=8", "vdvae.z_channels=2", "ema=0.9",
]  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class Subject:
    """An encoder, without an orbit, and images that it takes."""

    encoder: Encoder
    source: Pixels

    @property
    def flux(self) -> np.ndarray:
        return self.source.flux(np.arange(7))

    def with_orbit(self, orbit: Orbit) -> Encoder:
        return dataclasses.replace(self.encoder, orbit=orbit)

    def with_stretch(self, text: str) -> Encoder:
        stretch = Stretch.parse(text).resolve(self.source.dtype)
        prepare = dataclasses.replace(self.encoder.prepare, stretch=stretch)
        return dataclasses.replace(self.encoder, prepare=prepare)


Make = Callable[..., Encoder]


@pytest.fixture(scope="module")
def galaxies() -> Pixels:
    return tilted_galaxies()


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_weights(tmp_path_factory.mktemp("weights") / "tiny.safetensors")


def opened(spec: str, weights: Path, source: Pixels, **settings: Any) -> Encoder:
    """One of `OPENED` for some images, with the settings of `open_encoder`."""
    if spec == "toy":
        return dataclasses.replace(
            open_encoder("pca:1", cutouts_like=source, **settings), network=ToyNetwork()
        )
    if spec.startswith("timm"):
        settings = {"weights": weights, "size": 64, "runtime": "torch", **settings}
    return open_encoder(spec, cutouts_like=source, **settings)


@pytest.fixture(scope="module")
def subjects(
    galaxies: Pixels, weights: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Subject]:
    """All encoders; those that skytwin trains have seen the galaxies for two steps."""
    found = {
        name: Subject(encoder=opened(name, weights, galaxies), source=galaxies) for name in OPENED
    }
    folder = tmp_path_factory.mktemp("trained")
    images = [raw(image, bands=galaxies.bands, pixel_scale=0.4) for image in galaxies.images]
    cutouts = ingest_source(MemorySource(images), folder / "cutouts", quiet=True)
    for method in METHODS:
        changes = [*TINY, *(VDVAE if method == "vdvae" else SELF_SUPERVISED)]
        recipe = read_recipe(None, method=method, changes=changes)
        train_encoder(cutouts, recipe, folder / method, crop=40, device="cpu", quiet=True)
        # That the runtimes agree is tested elsewhere; this one starts at once.
        encoder = load_saved(folder / method, runtime="torch")
        found[method] = Subject(encoder=encoder, source=galaxies)
    radio = Pixels(np.stack([blob(seed, 100) for seed in range(8)]), ("1.4GHz",), 1.8)
    encoder = load_saved(bundled_folder("skytwin:radio"), runtime="torch")
    return found | {"skytwin:radio": Subject(encoder=encoder, source=radio)}


@pytest.fixture(params=ENCODERS)
def subject(request: pytest.FixtureRequest, subjects: dict[str, Subject]) -> Subject:
    return subjects[request.param]


@pytest.fixture(params=OPENED)
def make(request: pytest.FixtureRequest, weights: Path) -> Make:
    """Open one of those that are opened for some cutouts."""
    return lambda source, **settings: opened(request.param, weights, source, **settings)


# What every encoder keeps to.


@pytest.mark.parametrize("orbit", ["none", "d4"])
def test_the_vectors(subject: Subject, orbit: Orbit) -> None:
    encoder, flux = subject.with_orbit(orbit), subject.flux
    flux[2, 0, 3:9, 5] = np.nan
    flux[4, -1, 20:24] = np.nan
    before = flux.copy()
    vectors = encoder.encode(flux)
    np.testing.assert_array_equal(flux, before)
    assert vectors.shape == (7, encoder.dim)
    assert vectors.dtype == np.float32
    assert np.isfinite(vectors).all()
    assert len(np.unique(vectors, axis=0)) == 7
    np.testing.assert_array_equal(encoder.encode(flux), vectors)
    for batch in (1, 3, 8, 100):
        assert_close(encoder.encode(flux, batch=batch), vectors)
    order = np.array([5, 0, 6, 2, 1, 4, 3])
    assert_close(encoder.encode(flux[order]), vectors[order])
    assert encoder.encode(flux[:0]).shape == (0, encoder.dim)


def test_an_image_s_vector_is_its_own(subject: Subject) -> None:
    flux = subject.flux
    alone = subject.encoder.encode(flux[:1])
    crowd = flux.copy()
    crowd[1:] = -50 * crowd[1:] + 7
    assert_close(subject.encoder.encode(crowd)[:1], alone)


def test_pixels_without_data(subject: Subject) -> None:
    flux = subject.flux[:4]
    flux[1, 0] = np.nan  # a whole band
    flux[2] = np.nan  # all of it
    flux[3, :, 0] = np.nan
    vectors = subject.encoder.encode(flux)
    assert np.isfinite(vectors).all()
    assert_close(vectors[:1], subject.encoder.encode(subject.flux[:1]))


def test_a_turned_image_has_the_same_vector(subject: Subject) -> None:
    flux = subject.flux[:3]
    turned, mirrored = np.rot90(flux, axes=(2, 3)), flux[..., ::-1]
    d4, flips = subject.with_orbit("d4"), subject.with_orbit("flips")
    for other in (turned, mirrored, np.rot90(mirrored, 2, axes=(2, 3))):
        assert_close(d4.encode(other), d4.encode(flux))
    assert_close(flips.encode(mirrored), flips.encode(flux))
    assert difference(flips.encode(turned), flips.encode(flux)) > 1e-4
    assert difference(subject.encoder.encode(mirrored), subject.encoder.encode(flux)) > 1e-4


def test_an_orbit_is_the_mean_over_the_views(subject: Subject) -> None:
    flux = subject.flux[:2]
    for orbit in ("flips", "d4"):
        views = [subject.encoder.encode(view) for view in orbit_views(flux, orbit)]
        assert_close(subject.with_orbit(orbit).encode(flux), np.mean(views, axis=0))


def test_other_images_are_refused(subject: Subject) -> None:
    flux, crop = subject.flux, subject.encoder.prepare.crop
    with pytest.raises(Mismatch, match=f"bands {', '.join(subject.encoder.bands)}"):
        subject.encoder.encode(np.concatenate([flux, flux[:, :1]], axis=1))
    small = flux[:2, :, :, : crop - 1]
    with pytest.raises(Mismatch, match=f"{crop - 1}x{flux.shape[2]} pixels"):
        subject.encoder.encode(small)


def test_of_a_larger_frame_the_centre_is_seen(subject: Subject) -> None:
    crop = subject.encoder.prepare.crop
    start = (subject.source.shape[2] - crop) // 2
    flux = subject.flux[:2, :, start : start + crop, start : start + crop]
    around = np.pad(flux, ((0, 0), (0, 0), (5, 5), (8, 9)))
    assert_close(subject.encoder.encode(around), subject.encoder.encode(flux))


def test_stretch_and_orbit_are_in_the_fingerprint(subject: Subject) -> None:
    others = [
        subject.with_orbit("flips"),
        subject.with_orbit("d4"),
        subject.with_stretch("asinh"),
        subject.with_stretch("asinh:0.2"),
        dataclasses.replace(subject.encoder, root=True),
    ]
    prints = {subject.encoder.fingerprint, *(other.fingerprint for other in others)}
    assert len(prints) == 1 + len(others)
    assert dataclasses.replace(subject.encoder).fingerprint == subject.encoder.fingerprint
    elsewhere = dataclasses.replace(subject.encoder, pixel_scale=3.0)
    assert elsewhere.fingerprint == subject.encoder.fingerprint


def test_no_two_encoders_share_a_name_or_a_fingerprint(subjects: dict[str, Subject]) -> None:
    encoders = [subject.encoder for subject in subjects.values()]
    assert len({encoder.fingerprint for encoder in encoders}) == len(encoders)
    assert len({encoder.name for encoder in encoders}) == len(encoders)
    assert all(encoder.dim > 0 for encoder in encoders)


@pytest.mark.parametrize("name", SAVED)
def test_the_description_is_json_and_names_no_place(
    name: str, subjects: dict[str, Subject], tmp_path_factory: pytest.TempPathFactory
) -> None:
    encoder = subjects[name].with_orbit("d4")
    described = encoder.describe()
    assert json.loads(json.dumps(described)) == described
    assert (described["network"], described["dim"]) == (encoder.name, encoder.dim)
    assert (described["fingerprint"], described["orbit"]) == (encoder.fingerprint, "d4")
    assert described["pixel_scale"] == subjects[name].source.pixel_scale
    assert Prepare.from_dict(described["prepare"]) == encoder.prepare
    assert str(tmp_path_factory.getbasetemp()) not in json.dumps(described)
    assert "tiny.safetensors" not in json.dumps(described)


READ_BACK = """
import json
import sys
import numpy as np
from pathlib import Path
from skytwin.encoders.load import load_saved
for folder in map(Path, sys.argv[1:]):
    encoder = load_saved(folder, runtime="torch")
    np.save(folder / "vectors.npy", encoder.encode(np.load(folder / "flux.npy")))
    said = [encoder.name, encoder.dim, encoder.fingerprint, encoder.bands, encoder.pixel_scale]
    print(json.dumps([*said, encoder.orbit, sorted({"torch", "sklearn"} & set(sys.modules))]))
"""


def test_saved_and_loaded_in_another_process(
    subjects: dict[str, Subject], weights: Path, galaxies: Pixels, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {"crop": "14arcsec", "bands": "i,g+r,r", "stretch": "zscale+asinh"}
    encoders = {
        name: opened(name, weights, galaxies, orbit="flips", **settings)
        if name in OPENED
        else subjects[name].with_orbit("flips")
        for name in SAVED
    }
    folders = []
    for number, (name, encoder) in enumerate(encoders.items()):
        folders.append(tmp_path / str(number))
        folders[-1].mkdir()
        encoder.save(folders[-1])
        np.save(folders[-1] / "flux.npy", subjects[name].flux)
    command = [sys.executable, "-W", "error", "-c", READ_BACK, *map(str, folders)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    lines = [json.loads(line) for line in ended.stdout.splitlines()]
    for (name, encoder), folder, line in zip(encoders.items(), folders, lines, strict=True):
        *said, imported = line
        assert said == [
            encoder.name, encoder.dim, encoder.fingerprint, list(encoder.bands),
            encoder.pixel_scale, "flips",
        ]  # fmt: skip
        assert imported == ([] if name.startswith("pca") else ["torch"])
        assert_close(np.load(folder / "vectors.npy"), encoder.encode(subjects[name].flux))


@pytest.mark.parametrize("name", [name for name in SAVED if not name.startswith("pca")])
def test_other_weights_are_noticed(name: str, subjects: dict[str, Subject], tmp_path: Path) -> None:
    subjects[name].encoder.save(tmp_path)
    where = json.loads((tmp_path / "encoder.json").read_text())["files"]["weights"]
    if name.startswith("skytwin:"):
        assert where == name
        where = bundled_folder(name) / "weights.safetensors"
    stored = load_file(where)
    key = next(key for key, value in sorted(stored.items()) if value.dtype == np.float32)
    stored[key] = stored[key] + np.float32(1e-3)
    save_file(stored, tmp_path / "nudged.safetensors")
    with pytest.raises(Mismatch, match="not those this encoder was made with"):
        load_saved(tmp_path, weights=tmp_path / "nudged.safetensors")


@pytest.mark.parametrize("spec", ["pca:6", "pca:6:abs"])
def test_components_of_other_images_are_others(spec: str, galaxies: Pixels) -> None:
    one, same, other = (
        open_encoder(spec, cutouts_like=Pixels(images))
        for images in (galaxies.images, galaxies.images.copy(), galaxies.images[:30])
    )
    assert one.fingerprint == same.fingerprint != other.fingerprint


# Those that are opened for some cutouts take settings.


def test_single_band_cutouts(make: Make, galaxies: Pixels) -> None:
    for kind in (np.float32, np.uint8):
        images = (galaxies.images[:, :1] * 40).clip(0, 255).astype(kind)
        source = Pixels(images, bands=("radio",), pixel_scale=None)
        vectors = make(source, orbit="d4").encode(source.flux(np.arange(4)))
        assert np.isfinite(vectors).all()
        assert len(np.unique(vectors, axis=0)) == 4


def test_every_setting_is_in_the_fingerprint(make: Make, galaxies: Pixels) -> None:
    settings: list[dict[str, Any]] = [
        {},
        {"size": 32},
        {"crop": "39"},
        {"bands": "i,r,g"},
        {"stretch": "minmax@image"},
        {"interpolation": "nearest"},
    ]
    prints = [make(galaxies, **one).fingerprint for one in settings]
    assert len(set(prints)) == len(settings)
    assert make(galaxies).fingerprint == prints[0]
