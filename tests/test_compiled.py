"""A network compiled by torch: the same vectors, whatever the length of a batch."""

from __future__ import annotations

import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from skytwin.encoders.load import open_encoder
from skytwin.encoders.on_device import DeviceRun
from toys import random_weights, tilted_galaxies

compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")


class Net(torch.nn.Module):
    """Three channels to five numbers."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Conv2d(3, 5, 3)
        self.norm = torch.nn.BatchNorm2d(5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = torch.relu(self.norm(self.layer(x))).mean((2, 3))
        return found


@compiler
@pytest.mark.slow
def test_batches_of_any_length_and_from_several_threads() -> None:
    net, x = Net().eval(), np.random.default_rng(0).random((21, 3, 16, 16), np.float32)
    with torch.inference_mode():
        want = net(torch.from_numpy(x)).numpy()
    run = DeviceRun(Net(), torch.device("cpu"), compiled=True)
    parts = [slice(0, 4), slice(4, 5), slice(5, 8), slice(8, 18), slice(18, 21)]
    found = np.concatenate([run(x[part]) for part in parts])
    np.testing.assert_allclose(found, want, atol=1e-6)
    with ThreadPoolExecutor(2) as pool:
        found = np.concatenate(list(pool.map(lambda part: run(x[part]), parts)))
    np.testing.assert_allclose(found, want, atol=1e-6)


@compiler
@pytest.mark.slow
def test_an_encoder_that_is_compiled_agrees_with_one_that_is_not(tmp_path: Path) -> None:
    weights = random_weights(tmp_path / "tiny.safetensors")
    plain, compiled = (
        open_encoder(
            "timm:test_efficientnet", cutouts_like=tilted_galaxies(6), weights=weights, size=64,
            runtime=runtime, device="cpu",
        )
        for runtime in ("torch", "compiled")
    )  # fmt: skip
    x = np.random.default_rng(1).random((6, 3, 64, 64), np.float32)
    want = plain.network.forward(x)
    np.testing.assert_allclose(compiled.network.forward(x), want, atol=1e-5 * np.abs(want).max())
    assert compiled.network.describe()["runtime"] == "compiled"
    assert compiled.network.fingerprint == plain.network.fingerprint


def test_no_compiler_is_one_line(tmp_path: Path) -> None:
    code = """
import torch
from skytwin.encoders.compiled import Compiled
from skytwin.errors import UsageError
try:
    Compiled(torch.nn.Linear(2, 2).eval())(torch.zeros(1, 2))
except UsageError as error:
    print(error)
"""
    env = {
        "PATH": "/nowhere", "CXX": "/nowhere/g++", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path),
        "HOME": str(tmp_path),
    }  # fmt: skip
    ended = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert "runtime 'compiled': torch cannot compile here" in ended.stdout, ended.stderr
    assert "\n" not in ended.stdout.strip()
