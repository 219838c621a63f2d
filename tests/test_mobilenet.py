"""MobileNetV4 in NumPy: held against timm's under torch; and torch kept away altogether."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import skytwin as st
from skytwin.encoders.bundled import bundled_encoders, bundled_folder
from skytwin.encoders.load import load_saved
from skytwin.encoders.mobilenet import PlainMobileNet, can_run
from skytwin.encoders.torchvision_guard import import_timm
from skytwin.errors import DamagedArtefact, Mismatch

timm = import_timm()

# Runs what is given with torch and timm not to be found.
WITHOUT_TORCH = """
import sys
sys.modules.update(dict.fromkeys(("torch", "timm", "torchvision")))
import skytwin
from skytwin.errors import SkytwinError
"""


def without_torch(code: str, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH + code, *words],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def opened(name: str) -> PlainMobileNet:
    folder = bundled_folder(name)
    saved = json.loads((folder / "encoder.json").read_text())
    return PlainMobileNet(saved["network"], saved["made_by"], folder / "weights.safetensors")


@pytest.mark.parametrize("name", bundled_encoders())
def test_the_bundled_encoders_give_the_same_vectors_as_under_torch(name: str) -> None:
    plain = opened(name)
    network = load_saved(bundled_folder(name), runtime="torch").network
    assert (plain.name, plain.dim, plain.fingerprint) == (
        network.name, network.dim, network.fingerprint,
    )  # fmt: skip
    assert plain.describe() == network.describe()
    images = np.random.default_rng(1).normal(size=(37, 1, 64, 64)).astype(np.float32)
    want = network.forward(images)
    assert np.abs(plain.forward(images) - want).max() < 1e-5 * np.abs(want).max()


@pytest.mark.parametrize(("width", "channels", "size"), [("035", 3, 64), ("100", 1, 77)])
def test_other_widths_bands_and_sizes_are_as_timm_has_them(
    tmp_path: Path, width: str, channels: int, size: int
) -> None:
    torch.manual_seed(3)
    backbone = f"mobilenetv4_conv_small{'' if width == '100' else '_' + width}"
    model = timm.create_model(backbone, pretrained=False, num_classes=0, in_chans=channels)
    model.train()
    with torch.no_grad():  # so that the normalisations have something to say
        for _ in range(3):
            model(torch.randn(8, channels, size, size) * 2 + 1)
    save_file(model.eval().state_dict(), tmp_path / "w.safetensors")
    plain = PlainMobileNet(f"byol:{backbone}", {}, tmp_path / "w.safetensors")
    images = torch.randn(5, channels, size, size)
    with torch.inference_mode():
        want = model(images).numpy()
    got = plain.forward(images.numpy())
    assert got.shape == want.shape
    assert np.abs(got - want).max() < 1e-5 * np.abs(want).max()


def test_what_it_cannot_run_is_refused(tmp_path: Path) -> None:
    assert can_run("simclr:mobilenetv4_conv_small_050")
    assert not any(map(can_run, ("simclr:resnet34", "vdvae", "simclr:mobilenetv4_conv_medium")))
    save_file({"fc.weight": torch.zeros(2)}, tmp_path / "w.safetensors")
    with pytest.raises(Mismatch, match=r"do not fit simclr:.*conv_stem"):
        PlainMobileNet("simclr:mobilenetv4_conv_small", {}, tmp_path / "w.safetensors")
    (tmp_path / "w.safetensors").write_bytes(b"no weights")
    with pytest.raises(DamagedArtefact, match="cannot be read"):
        PlainMobileNet("simclr:mobilenetv4_conv_small", {}, tmp_path / "w.safetensors")


def test_without_torch_a_survey_is_embedded_and_searched(tmp_path: Path) -> None:
    survey = st.simulate_survey("radio", 30, tmp_path / "survey", seed=5, workers=1, quiet=True)
    said = without_torch(
        """
import sys
survey, out = sys.argv[1:]
e = skytwin.embed(skytwin.open(survey), "skytwin:radio", out, orbit="d4", quiet=True)
print(skytwin.search(e, str(e.ids[3]), k=1).table["id"][0])
from skytwin.encoders.load import load_saved
try:
    load_saved(e.encoder_folder(), runtime="openvino")
except SkytwinError as error:
    print(error)
try:
    skytwin.embed(skytwin.open(survey), "timm:resnet18", out + "2", quiet=True)
except SkytwinError as error:
    print(error)
""",
        str(survey.folder), str(tmp_path / "plain"),
    ).splitlines()  # fmt: skip
    plain = st.open(tmp_path / "plain")
    with_torch = st.embed(survey, "skytwin:radio", tmp_path / "torch", orbit="d4", quiet=True)
    assert plain.encoder_fingerprint == with_torch.encoder_fingerprint
    one, other = (np.asarray(e.vectors.take(np.arange(30))) for e in (plain, with_torch))
    np.testing.assert_allclose(one, other, atol=1e-5 * np.abs(other).max())
    nearest = st.search(with_torch, str(with_torch.ids[3]), k=1).table["id"][0].as_py()
    assert said[0] == nearest
    assert "needs torch, which is not installed; install skytwin[networks]" in said[1]
    assert "needs torch, which is not installed; install skytwin[networks]" in said[2]
