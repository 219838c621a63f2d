"""Encoders that come with skytwin: small, known by name, and better than the pixels."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from outliers import embedded
from query_algebra import images

import skytwin as st
from skytwin.encoders.bundled import bundled_encoders, bundled_folder
from skytwin.encoders.load import load_saved
from skytwin.encoders.recipe import Recipe, read_recipe
from skytwin.errors import Mismatch, UnknownName, UsageError

NAMES = ("skytwin:optical", "skytwin:radio")


def test_all_are_there_and_no_others() -> None:
    assert tuple(bundled_encoders()) == NAMES
    with pytest.raises(UnknownName, match="unknown encoder 'skytwin:radoi'; did you mean"):
        bundled_folder("skytwin:radoi")


@pytest.mark.parametrize("name", NAMES)
def test_each_is_small_and_says_how_it_was_made(name: str) -> None:
    folder = bundled_folder(name)
    assert sum(path.stat().st_size for path in folder.iterdir()) < 6e6
    made_by = json.loads((folder / "encoder.json").read_text())["made_by"]
    recipe = read_recipe(f"bundled-{name.partition(':')[2]}")
    assert Recipe.from_dict(made_by["recipe"]) == recipe
    card = (folder / "CARD.md").read_text()
    for word in ("## Trained on", "## Measured", "## Known failures", "bundled_encoders.py"):
        assert word in card
    assert not (folder / "manifest.json").exists()


@pytest.mark.slow
def test_radio_takes_floats_and_published_8_bit_images(tmp_path: Path) -> None:
    flux = st.simulate_survey("radio", 20, tmp_path / "flux", seed=5, workers=1, quiet=True)
    bits = st.simulate_survey(
        "radio", 20, tmp_path / "bits", seed=5, eight_bit=True, workers=1, quiet=True
    )
    one = st.embed(flux, "skytwin:radio", tmp_path / "e1", orbit="d4", quiet=True)
    other = st.embed(bits, "skytwin:radio", tmp_path / "e2", orbit="d4", quiet=True)
    x, y = (np.asarray(emb.vectors.take(np.arange(20))) for emb in (one, other))
    x, y = (v - v.mean(axis=0) for v in (x, y))
    x, y = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (x, y))
    # An image is nearest to itself, whichever way it was stored.
    assert ((x @ y.T).argmax(axis=1) == np.arange(20)).mean() > 0.8

    found = st.search(one, str(one.ids[3]), k=3)
    assert len(found) == 3
    saved = json.loads((tmp_path / "e1" / "encoder" / "encoder.json").read_text())
    assert saved["files"]["weights"] == "skytwin:radio"
    assert load_saved(tmp_path / "e1" / "encoder").fingerprint == one.encoder_fingerprint
    with pytest.raises(UsageError, match="leave out --size"):
        st.embed(flux, "skytwin:radio", tmp_path / "e3", size=32, quiet=True)


@pytest.mark.slow
def test_optical_takes_the_mean_of_any_bands(tmp_path: Path) -> None:
    flux = st.simulate_survey("optical", 20, tmp_path / "flux", seed=5, workers=1, quiet=True)
    one = st.embed(flux, "skytwin:optical", tmp_path / "e1", orbit="d4", quiet=True)
    assert one.vectors.shape == (20, 1280)
    # The same galaxies as a colour picture, of bands with other names.
    picture = np.clip(np.nan_to_num(flux.flux(slice(0, 20))) + 0.1, 0, None)
    picture *= 255 / picture.max(axis=(1, 2, 3), keepdims=True)
    np.save(tmp_path / "rgb.npy", np.moveaxis(picture[:, ::-1], 1, -1).astype(np.uint8))
    rgb = st.ingest(
        tmp_path / "rgb.npy", tmp_path / "rgb", layout="NHWC", bands=["red", "green", "blue"],
        pixel_scale=0.396, quiet=True,
    )  # fmt: skip
    with pytest.raises(Mismatch, match="looks at g.r.i: say with --bands"):
        st.embed(rgb, "skytwin:optical", tmp_path / "e2", quiet=True)
    other = st.embed(
        rgb, "skytwin:optical", tmp_path / "e2", bands="red+green+blue", orbit="d4", quiet=True
    )
    x, y = (np.asarray(emb.vectors.take(np.arange(20))) for emb in (one, other))
    x, y = (v - v.mean(axis=0) for v in (x, y))
    x, y = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (x, y))
    assert ((x @ y.T).argmax(axis=1) == np.arange(20)).mean() > 0.7


@pytest.mark.real
@pytest.mark.slow
def test_radio_knows_more_of_mirabest_than_pixels_do(made: Path, tmp_path: Path) -> None:
    emb = st.embed(
        images(made, "mirabest"), "skytwin:radio", tmp_path / "emb", orbit="d4", quiet=True
    )
    found = st.probe(
        emb,
        "fr",
        split="split",
        positive="FRII",
        where="confidence='confident' and fr in ('FRI','FRII')",
        classifiers=["lda"],
        folds=5,
        repeats=1,
        budget=(),
        quiet=True,
    )
    for score in found.scores:
        print(score)
    own = found.scores[0]
    baselines = [score for score in found.scores if score.baseline]
    assert own.cv_accuracy is not None
    assert len(baselines) == 2
    for pixels in baselines:
        assert pixels.cv_accuracy is not None
        assert own.cv_accuracy.value > pixels.cv_accuracy.value + 0.05
        assert own.metrics["auc"].value > pixels.metrics["auc"].value + 0.03


@pytest.mark.real
@pytest.mark.slow
def test_optical_finds_more_edge_on_galaxies_than_pixels_do(made: Path, tmp_path: Path) -> None:
    cutouts = images(made)
    emb = st.embed(
        cutouts, "skytwin:optical", tmp_path / "emb", bands="red+green+blue", crop=64,
        any_scale=True, orbit="d4", quiet=True,
    )  # fmt: skip
    pca = embedded(made, "pca", "gz1", {})
    own, pixels = (
        st.compare(each, "morphology=EdgeOn", ways=[("standardized", "auto")], draws=10, quiet=True)
        for each in (emb, pca)
    )
    purity, lower = own.table["purity"][0].as_py(), own.table["lower"][0].as_py()
    print(f"edge-on, nearest 100 of five: {purity:.3f} [{lower:.3f}, ...], base rate {own.base}")
    assert purity > 0.75
    assert lower > pixels.table["purity"][0].as_py()
