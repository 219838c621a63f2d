"""From image files to stored vectors on the CPU, against what a user would write, as a table.

    python benchmarks/embed_cpu.py                          # EfficientNet-B0 at 224 pixels
    python benchmarks/embed_cpu.py --network mobilenetv2_100 --images 1024

*The notebook's loop* is that of Doorenbos et al. 2022 (ULISSE): PIL opens the files in two loader
processes, torchvision's transforms resize and normalise, torch runs batches of 16. *Bare OpenVINO*
is the network alone on one ready batch, as the library runs it by default. *skytwin* is `ingest`
and `embed`, from the same files to a finished folder. None counts the opening of its network. The
contenders run in turn, each in a process of its own; weights are random, which changes no time.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from rows import Row, machine, table
from safetensors.torch import save_file

import skytwin
from skytwin.embeddings.embed import embed_cutouts
from skytwin.encoders.load import open_encoder
from skytwin.encoders.torchvision_guard import import_timm

timm = import_timm()
SIZE, PIXELS = 224, 64
LOOP, BARE, OURS = "the notebook's loop", "bare OpenVINO", "skytwin"


def write_images(folder: Path, count: int) -> None:
    """Blurred noise with a disc in the middle: what a JPEG of the sky weighs."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:PIXELS, :PIXELS] - PIXELS / 2
    folder.mkdir()
    for number in range(count):
        disc = 200 * np.exp(-np.hypot(x, y * rng.uniform(1, 3)) / rng.uniform(3, 9))
        sky = rng.normal(20, 4, (PIXELS, PIXELS, 3))
        image = np.clip(disc[..., None] * rng.uniform(0.6, 1, 3) + sky, 0, 255)
        cv2.imwrite(str(folder / f"{number:06d}.jpg"), image.astype(np.uint8))


def notebook_loop(folder: Path, model: Any) -> Callable[[], np.ndarray]:
    """PIL, torchvision, a loader of two processes, torch eager."""
    from PIL import Image
    from torchvision import transforms

    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    change = transforms.Compose(
        [
            transforms.Resize((SIZE, SIZE)),
            transforms.ToTensor(),
            transforms.Normalize(mean, std),
        ]
    )

    class Files(torch.utils.data.Dataset[torch.Tensor]):
        def __init__(self) -> None:
            self.paths = sorted(folder.iterdir())

        def __len__(self) -> int:
            return len(self.paths)

        def __getitem__(self, index: int) -> torch.Tensor:
            with Image.open(self.paths[index]) as image:
                return torch.as_tensor(change(image.convert("RGB")))

    def run() -> np.ndarray:
        loader = torch.utils.data.DataLoader(
            Files(), batch_size=16, num_workers=2, multiprocessing_context="fork"
        )
        with torch.no_grad():
            return np.concatenate([model(batch).numpy() for batch in loader])

    return run


def bare_openvino(model: Any, precision: str, count: int) -> Callable[[], np.ndarray]:
    """The network on one batch of 32, again and again, as OpenVINO runs it by default."""
    from openvino import Core
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    # Held by a name: the frontend does not keep it alive.
    decoder = TorchScriptPythonDecoder(model, example_input=torch.zeros(1, 3, SIZE, SIZE))
    frontend = FrontEndManager().load_by_framework("pytorch")
    network = frontend.convert(frontend.load(decoder))
    compiled = Core().compile_model(network, "CPU", {"INFERENCE_PRECISION_HINT": precision})
    batch = np.random.default_rng(0).standard_normal((32, 3, SIZE, SIZE)).astype(np.float32)

    def run() -> np.ndarray:
        return np.concatenate([compiled(batch)[0] for _ in range(count // 32)])

    return run


def whole(files: Path, weights: Path, name: str, out: Path, **how: str) -> Callable[[], np.ndarray]:
    """``skytwin ingest`` and ``skytwin embed``, the network opened before."""
    like = skytwin.ingest(files, out / "like", quiet=True)
    encoder = open_encoder(f"timm:{name}", cutouts_like=like, weights=weights, **how)

    def run() -> np.ndarray:
        cutouts = skytwin.ingest(files, out / "cutouts", quiet=True)
        found = embed_cutouts(cutouts, encoder, out / "vectors", quiet=True)
        return np.asarray(found.vectors[:])

    shutil.rmtree(out, ignore_errors=True)
    return run


def rate(way: str, network: str, files: Path, weights: Path, count: int) -> float:
    """Images per second of one way, in a process that has run nothing else."""
    out = files.parent / "out"
    name, _, precision = way.partition(", ")
    torch.manual_seed(0)
    model = timm.create_model(network, pretrained=False, num_classes=0).eval()
    run = {
        LOOP: lambda: notebook_loop(files, model),
        BARE: lambda: bare_openvino(model, precision, count),
        OURS: lambda: whole(files, weights, network, out, runtime="openvino", precision=precision),
    }[name]()
    start = time.perf_counter()
    done = len(run())
    return done / (time.perf_counter() - start)


def measure(network: str = "efficientnet_b0", count: int = 512, rounds: int = 3) -> list[Row]:
    """Medians over the rounds."""
    model = timm.create_model(network, pretrained=False, num_classes=0)
    ways = [LOOP, f"{BARE}, f32", f"{OURS}, f32", f"{BARE}, bf16", f"{OURS}, bf16"]
    rates: dict[str, list[float]] = {way: [] for way in ways}
    with tempfile.TemporaryDirectory() as scratch:
        files, weights = Path(scratch) / "images", Path(scratch) / "weights.safetensors"
        write_images(files, count)
        save_file(model.state_dict(), weights)
        for _ in range(rounds):
            for way in ways:
                with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                    given = (way, network, files, weights, count)
                    rates[way].append(pool.submit(rate, *given).result())
    median = {way: float(np.median(values)) for way, values in rates.items()}
    what = f"files to vectors, {network}, {count} images of {PIXELS} px brought to {SIZE}"
    rows = []
    for way, value in median.items():
        bare = median[way.replace(OURS, BARE)]
        note = f"{value / bare:.2f} of the bare engine" if way.startswith(OURS) else ""
        rows.append(Row(what, way, value, "images/s", note))
    return rows


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--network", default="efficientnet_b0")
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    print(f"{table(measure(given.network, given.images, given.rounds))}\n\n{machine()}")


if __name__ == "__main__":
    main()
