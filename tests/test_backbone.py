"""timm's networks as encoders: the right layer, the right weights, and plain refusals."""

from __future__ import annotations

import hashlib
import os
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file

from skytwin.encoders import torchvision_guard
from skytwin.encoders.backbone import open_backbone, timm
from skytwin.encoders.load import load_saved, open_encoder
from skytwin.errors import DataError, Mismatch, UnknownName, Unreachable, UsageError
from skytwin.threads import thread_count
from toys import Pixels, tilted_galaxies

TINY = "timm:test_efficientnet"


def random_weights(path: Path, name: str, seed: int = 0, **kwargs: Any) -> Path:
    torch.manual_seed(seed)
    save_file(timm.create_model(name, pretrained=False, **kwargs).state_dict(), path)
    return path


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    return random_weights(path, "test_efficientnet", num_classes=0)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(8).normal(size=(3, 3, 96, 96)).astype(np.float32)


def test_torchvision_imports_with_or_without_its_compiled_part() -> None:
    import torchvision.extension

    assert torchvision_guard.import_timm() is timm
    assert hasattr(torch.ops.torchvision, "nms")
    # Declared by hand exactly where torchvision's own part is out of use.
    assert bool(torchvision_guard._declared) != torchvision.extension._has_ops()


@pytest.mark.parametrize("name", ["efficientnet_b0", "mobilenetv2_100", "test_efficientnet"])
def test_vectors_are_the_mean_of_the_last_feature_map(
    name: str, tmp_path: Path, images: np.ndarray
) -> None:
    path = random_weights(tmp_path / "w.safetensors", name)  # with a classifier, as published
    network = open_backbone(f"timm:{name}", weights=path, size=96, device="cpu")
    model = timm.create_model(name, pretrained=False).eval()
    model.load_state_dict(load_file(path))
    with torch.inference_mode():
        features = model.forward_features(torch.from_numpy(images))
        seen: list[torch.Tensor] = []
        model.get_classifier().register_forward_pre_hook(lambda _, args: seen.append(args[0]))
        model(torch.from_numpy(images))
    got = network.forward(images)
    assert got.dtype == np.float32
    assert got.shape == (3, network.dim) == (3, 1280 if name != "test_efficientnet" else 256)
    scale = float(np.abs(got).max())
    np.testing.assert_allclose(got, features.mean((2, 3)).numpy(), atol=1e-5 * scale)
    np.testing.assert_allclose(got, seen[0].numpy(), atol=1e-5 * scale)
    assert network.describe()["ignored_keys"] == ["classifier.bias", "classifier.weight"]


def test_a_layer_after_the_pooling_is_part_of_the_vector(
    tmp_path: Path, images: np.ndarray
) -> None:
    path = random_weights(tmp_path / "w.safetensors", "mobilenetv3_small_050", num_classes=0)
    network = open_backbone("timm:mobilenetv3_small_050", weights=path, size=96)
    assert network.dim == network.forward(images).shape[1] == 1024  # pooled: 288


def test_the_input_is_what_the_network_was_trained_on(tmp_path: Path) -> None:
    path = random_weights(tmp_path / "w.safetensors", "test_vit", num_classes=0)
    network = open_backbone("timm:test_vit", weights=path)
    assert network.size == 160  # fixed; others take 224
    assert (network.mean, network.std) == ((0.5,) * 3, (0.5,) * 3)
    with pytest.raises(UsageError, match="takes images of 160 pixels only; got --size 224"):
        open_backbone("timm:test_vit", weights=path, size=224)


def test_defaults_of_a_convolutional_network(tiny: Path) -> None:
    network = open_backbone(TINY, weights=tiny)
    assert (network.size, network.channels) == (224, 3)
    assert network.name == TINY


def test_a_size_too_small_for_the_network(tmp_path: Path) -> None:
    path = random_weights(tmp_path / "w.safetensors", "test_convnext", num_classes=0)
    with pytest.raises(UsageError, match=r"does not take images of 7 pixels \(.*choose another"):
        open_backbone("timm:test_convnext", weights=path, size=7)


def test_the_fingerprint_is_that_of_the_weights(tiny: Path, tmp_path: Path) -> None:
    first = open_backbone(TINY, weights=tiny, size=64)
    copied = save_copy(tiny, tmp_path / "copy.safetensors", {})
    assert open_backbone(TINY, weights=copied, size=32).fingerprint == first.fingerprint
    nudged = load_file(tiny)["conv_stem.weight"] + 1e-3
    other = save_copy(tiny, tmp_path / "other.safetensors", {"conv_stem.weight": nudged})
    assert open_backbone(TINY, weights=other, size=64).fingerprint != first.fingerprint
    digest = hashlib.sha256(tiny.read_bytes()).hexdigest()
    assert first.describe() == {
        "weights": "file",
        "weights_sha256": digest,
        "ignored_keys": [],
        "runtime": "openvino",
    }


@pytest.mark.parametrize("name", ["test_efficientnet", "test_vit", "test_convnext"])
def test_openvino_gives_the_vectors_of_torch(name: str, tmp_path: Path) -> None:
    path = random_weights(tmp_path / "w.safetensors", name)
    by_torch = open_backbone(f"timm:{name}", weights=path, runtime="torch")
    by_openvino = open_backbone(f"timm:{name}", weights=path, runtime="openvino")
    assert by_torch.fingerprint == by_openvino.fingerprint
    assert by_torch.describe()["runtime"] == "torch"
    size = by_torch.size
    x = np.random.default_rng(0).normal(size=(5, 3, size, size)).astype(np.float32)
    for n in (5, 1, 3):
        truth = by_torch.forward(x[:n])
        np.testing.assert_allclose(by_openvino.forward(x[:n]), truth, atol=1e-5 * abs(truth).max())


def test_several_threads_at_once_give_what_one_gives(tiny: Path) -> None:
    network = open_backbone(TINY, weights=tiny, runtime="openvino")
    x = np.random.default_rng(1).normal(size=(24, 3, 224, 224)).astype(np.float32)
    parts = [x[i : i + 4] for i in range(0, len(x), 4)]
    alone = [network.forward(part) for part in parts]
    with ThreadPoolExecutor(6) as pool:
        together = list(pool.map(network.forward, parts))
    np.testing.assert_array_equal(together, alone)


def has_bf16() -> bool:
    from openvino import Core

    return "BF16" in Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


@pytest.mark.parametrize("runtime", ["torch", "openvino"])
def test_bf16_is_near_f32_and_is_in_the_fingerprint(
    runtime: str, tiny: Path, tmp_path: Path
) -> None:
    if runtime == "openvino" and not has_bf16():
        pytest.skip("this processor has no units for bfloat16")
    source = tilted_galaxies()
    exact, rough = (
        open_encoder(TINY, cutouts_like=source, weights=tiny, runtime=runtime, precision=precision)
        for precision in ("f32", "bf16")
    )
    x, y = (encoder.encode(source.flux(np.arange(8))) for encoder in (exact, rough))
    assert not np.array_equal(x, y)
    np.testing.assert_allclose(y, x, atol=0.05 * abs(x).max())
    assert exact.fingerprint != rough.fingerprint
    rough.save(tmp_path)
    again = load_saved(tmp_path, runtime=runtime)
    assert (again.precision, again.fingerprint) == ("bf16", rough.fingerprint)
    as_f32 = load_saved(tmp_path, runtime=runtime, precision="f32")
    assert as_f32.fingerprint == exact.fingerprint
    np.testing.assert_array_equal(as_f32.encode(source.flux(np.arange(8))), x)


def test_a_precision_that_is_not_there(tiny: Path) -> None:
    with pytest.raises(UnknownName, match="unknown precision 'int8'"):
        open_backbone(TINY, weights=tiny, precision="int8")
    with pytest.raises(UsageError, match="pca:4 runs in float32"):
        open_encoder("pca:4", cutouts_like=tilted_galaxies(), precision="bf16")


@pytest.mark.parametrize(("said", "count"), [("3", 3), ("2,1", 2), ("", 0), ("none", 0)])
def test_as_many_threads_as_openmp_is_told(
    said: str, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", said)
    assert thread_count() == (count or len(os.sched_getaffinity(0)))


def test_an_unknown_runtime_is_refused(tiny: Path) -> None:
    with pytest.raises(UnknownName, match="unknown runtime 'tensorrt'"):
        open_backbone(TINY, weights=tiny, runtime="tensorrt")


def save_copy(path: Path, target: Path, changes: dict[str, torch.Tensor | None]) -> Path:
    state = {**load_file(path), **changes}
    save_file({key: value for key, value in state.items() if value is not None}, target)
    return target


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"conv_stem.weight": None}, r"of 86 arrays 1 missing \(e.g. conv_stem.weight\)"),
        ({"head.weight": torch.ones(2)}, r"1 unexpected \(e.g. head.weight\)"),
        ({"conv_stem.weight": torch.ones(2)}, r"1 of another shape \(e.g. conv_stem.weight\)"),
    ],
)
def test_weights_of_another_network(
    tiny: Path, tmp_path: Path, changes: dict[str, torch.Tensor | None], said: str
) -> None:
    path = save_copy(tiny, tmp_path / "w.safetensors", changes)
    with pytest.raises(Mismatch, match=said) as caught:
        open_backbone(TINY, weights=path)
    assert "\n" not in str(caught.value)


def test_weights_with_nan(tiny: Path, tmp_path: Path) -> None:
    nan = torch.full_like(load_file(tiny)["conv_stem.weight"], torch.nan)
    path = save_copy(tiny, tmp_path / "w.safetensors", {"conv_stem.weight": nan})
    with pytest.raises(DataError, match="NaN or infinity"):
        open_backbone(TINY, weights=path, size=64)


def test_only_safetensors_are_read(tmp_path: Path) -> None:
    pickled = tmp_path / "w.pth"
    torch.save({}, pickled)
    with pytest.raises(UsageError, match="expected a .safetensors file.*save_file"):
        open_backbone(TINY, weights=pickled)
    with pytest.raises(UsageError, match="no weights file"):
        open_backbone(TINY, weights=tmp_path / "gone.safetensors")
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"\x08\0\0\0\0\0\0\0nonsense")
    with pytest.raises(DataError, match=r"broken.safetensors' cannot be read"):
        open_backbone(TINY, weights=broken)
    broken.write_bytes(b"")
    with pytest.raises(DataError, match=r"broken.safetensors' cannot be read"):
        open_backbone(TINY, weights=broken)


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("timm:mobilnetv2_100", "timm:mobilenetv2_100"),
        ("timm:mobilenetv2_100.ra_in1", "timm:mobilenetv2_100.ra_in1k"),
        ("timm:", ""),
        ("timm:local-dir:/somewhere", ""),
    ],
)
def test_unknown_network(name: str, near: str) -> None:
    with pytest.raises(UnknownName, match=f"unknown encoder '{name}'.*{near}"):
        open_backbone(name)


def test_devices(tiny: Path) -> None:
    with pytest.raises(UnknownName, match="unknown device 'gpu'"):
        open_backbone(TINY, weights=tiny, device="gpu")
    if not torch.cuda.is_available():
        with pytest.raises(UsageError, match="'cuda' asked for"):
            open_backbone(TINY, weights=tiny, device="cuda")


def test_without_published_weights_there_is_no_random_network() -> None:
    with pytest.raises(UsageError, match=r"no pretrained weights for botnet50ts_256.*--weights"):
        open_backbone("timm:botnet50ts_256")


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub; the hub itself is out of reach in every test."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


@pytest.mark.parametrize("name", ["mobilenetv2_100", "hf_hub:mwalmsley/zoobot-encoder-nano"])
def test_hub_out_of_reach(hub_cache: Path, name: str) -> None:
    start = time.monotonic()
    with pytest.raises(Unreachable) as caught:
        open_backbone(f"timm:{name}")
    assert time.monotonic() - start < 8
    message = str(caught.value)
    assert "\n" not in message
    assert name in message
    assert "no weights could be fetched" in message
    assert "--weights FILE.safetensors" in message
    assert not constants.HF_HUB_OFFLINE


def cache(hub_cache: Path, repository: str, **files: Path) -> None:
    """Put files where the hub's client keeps what it fetched."""
    folder = hub_cache / f"models--{repository.replace('/', '--')}"
    snapshot = folder / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("0" * 40)
    for name, path in files.items():
        (snapshot / f"{name}{path.suffix}").write_bytes(path.read_bytes())


def test_fetched_weights_are_used_offline(hub_cache: Path, tmp_path: Path, tiny: Path) -> None:
    with_classifier = random_weights(tmp_path / "w.safetensors", "test_efficientnet")
    cache(hub_cache, "timm/test_efficientnet.r160_in1k", model=with_classifier)
    fetched = open_backbone(TINY, size=64)
    given = open_backbone(TINY, weights=with_classifier, size=64)
    assert fetched.fingerprint == given.fingerprint
    assert fetched.describe()["weights"] == "pretrained"
    assert fetched.describe()["weights_sha256"] is None
    x = np.random.default_rng(0).normal(size=(2, 3, 64, 64)).astype(np.float32)
    np.testing.assert_allclose(fetched.forward(x), given.forward(x), atol=1e-7)


def test_fetched_weights_that_lack_a_layer_leave_none_at_random(
    hub_cache: Path, tmp_path: Path
) -> None:
    whole = random_weights(tmp_path / "whole.safetensors", "test_efficientnet")
    part = save_copy(whole, tmp_path / "w.safetensors", {"conv_stem.weight": None})
    cache(hub_cache, "timm/test_efficientnet.r160_in1k", model=part)
    with pytest.raises(Unreachable, match="test_efficientnet"):
        open_backbone(TINY, size=64)


def test_a_greyscale_network_of_the_hub(hub_cache: Path, tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text(
        """{"architecture": "test_efficientnet", "num_classes": 0, "model_args": {"in_chans": 1},
        "pretrained_cfg": {"input_size": [1, 64, 64], "num_classes": 0, "mean": [0.4, 0.5, 0.6],
        "std": [0.2, 0.2, 0.2], "classifier": "classifier", "first_conv": "conv_stem"}}"""
    )
    path = random_weights(
        tmp_path / "w.safetensors", "test_efficientnet", num_classes=0, in_chans=1
    )
    cache(hub_cache, "someone/grey", config=config, model=path)
    network = open_backbone("timm:hf_hub:someone/grey")
    assert (network.channels, network.size) == (1, 224)
    assert network.mean == (pytest.approx(0.5),)
    assert network.forward(np.zeros((1, 1, 224, 224), np.float32)).shape == (1, network.dim)
    cutouts = Pixels(np.zeros((1, 1, 64, 64), np.uint8), ("r",))
    by_hub_name = open_encoder("hf_hub:someone/grey", cutouts_like=cutouts)
    assert by_hub_name.name == "timm:hf_hub:someone/grey"
    assert by_hub_name.network.fingerprint == network.fingerprint


def test_saved_encoders_find_and_check_their_weights(tiny: Path, tmp_path: Path) -> None:
    source = Pixels(np.random.default_rng(0).random((4, 3, 32, 32)), ("i", "r", "g"))
    kept = save_copy(tiny, tmp_path / "w.safetensors", {})
    encoder = open_encoder(TINY, cutouts_like=source, weights=kept, size=48)
    encoder.save(tmp_path)
    assert load_saved(tmp_path).fingerprint == encoder.fingerprint
    kept.unlink()
    with pytest.raises(UsageError, match=r"no longer at '.*w.safetensors'; say where"):
        load_saved(tmp_path)
    assert load_saved(tmp_path, weights=tiny).fingerprint == encoder.fingerprint
    other = random_weights(tmp_path / "o.safetensors", "test_efficientnet", seed=1, num_classes=0)
    with pytest.raises(Mismatch, match=r"o.safetensors' of timm:test_efficientnet are not those"):
        load_saved(tmp_path, weights=other)


@pytest.mark.real
def test_imagenet_weights_and_a_galaxy(data_dir: Path) -> None:
    path = data_dir / "weights" / "mobilenetv2_100.imagenet1k.safetensors"
    with zipfile.ZipFile(data_dir / "gz1" / "galaxies.zip") as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".jpg"))[:4]
        pictures = [
            cv2.imdecode(np.frombuffer(archive.read(name), np.uint8), cv2.IMREAD_COLOR)
            for name in names
        ]
    rgb = np.stack(pictures)[..., ::-1].transpose(0, 3, 1, 2).copy()
    source = Pixels(rgb, ("R", "G", "B"))
    encoder = open_encoder("timm:mobilenetv2_100", cutouts_like=source, weights=path)
    assert encoder.dim == 1280
    vectors = encoder.encode(source.flux(np.arange(4)))
    assert np.isfinite(vectors).all()
    assert (vectors.std(axis=1) > 0.1).all()
    cosine = np.corrcoef(vectors)[np.triu_indices(4, 1)]
    assert (cosine < 0.98).all()

    model = timm.create_model("mobilenetv2_100", pretrained=False, num_classes=1000).eval()
    model.load_state_dict(load_file(path), strict=False)
    pooled: list[torch.Tensor] = []
    model.global_pool.register_forward_hook(lambda *seen: pooled.append(seen[2]))
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    resized = np.stack([cv2.resize(p[..., ::-1] / 255, (224, 224)) for p in pictures])
    x = ((resized - mean) / std).transpose(0, 3, 1, 2).astype(np.float32)
    with torch.inference_mode():
        model(torch.from_numpy(x))
    np.testing.assert_allclose(vectors, pooled[0].numpy(), atol=2e-4)
