"""From cutouts to stored vectors on a GPU, against the network alone on a batch that lies there.

    python benchmarks/embed_gpu.py                           # EfficientNet-B0, d4 and one view
    python benchmarks/embed_gpu.py --device cpu --images 64  # that it runs; the numbers say little

*Network alone*: batches of 256 ready on the device, channels last, in the same precision, nothing
sent or fetched. *skytwin*: `embed` of a folder of cutouts, 8-bit, 64 pixels, to a finished folder,
opening the network not counted. Ways take turns. Not part of ``make bench``, which runs anywhere.
"""

from __future__ import annotations

import argparse
import itertools
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from embed_cpu import PIXELS, SIZE, timm
from rows import Row, machine, table
from safetensors.torch import save_file

import skytwin
from skytwin.embeddings.embed import embed_cutouts
from skytwin.encoders.encoder import Encoder, Orbit
from skytwin.encoders.load import open_encoder

BATCH = 256
VIEWS: dict[Orbit, int] = {"none": 1, "d4": 8}


def alone(name: str, weights: Path, device: str, precision: str, passes: int) -> float:
    """Views per second of the network on a batch that is there."""
    network = timm.create_model(name, pretrained=False, num_classes=0, checkpoint_path=str(weights))
    network = network.eval().to(device=device, memory_format=torch.channels_last)
    x = torch.rand(BATCH, 3, SIZE, SIZE, device=device)
    x = x.contiguous(memory_format=torch.channels_last)

    def wait() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    with (
        torch.inference_mode(),
        torch.autocast(device, torch.bfloat16, enabled=precision == "bf16"),
    ):
        network(x)
        wait()
        start = time.perf_counter()
        for _ in range(passes):
            network(x)
        wait()
    return passes * BATCH / (time.perf_counter() - start)


def measure(name: str, count: int, device: str, rounds: int) -> list[Row]:
    """Medians over the rounds."""
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch)
        weights, stack = home / "weights.safetensors", home / "images.npy"
        save_file(timm.create_model(name, pretrained=False, num_classes=0).state_dict(), weights)
        rng = np.random.default_rng(0)
        np.save(stack, rng.integers(0, 255, (count, PIXELS, PIXELS, 3), np.uint8))
        cutouts = skytwin.ingest(stack, home / "cutouts", quiet=True)

        def ours(encoder: Encoder) -> float:
            out = home / "vectors"
            shutil.rmtree(out, ignore_errors=True)
            start = time.perf_counter()
            embed_cutouts(cutouts, encoder, out, quiet=True)
            return count * VIEWS[encoder.orbit] / (time.perf_counter() - start)

        for precision in ("f32", "bf16"):
            encoders = {
                f"orbit {orbit}, {runtime}": open_encoder(
                    f"timm:{name}", cutouts_like=cutouts, weights=weights, device=device,
                    runtime=runtime, precision=precision, orbit=orbit,
                )
                for orbit, runtime in itertools.product(VIEWS, ("torch", "compiled"))
            }  # fmt: skip
            for encoder in encoders.values():  # what is compiled is compiled before
                ours(encoder)
            passes = max(1, count // BATCH)
            ways: dict[str, Callable[[], float]] = {
                "network alone": lambda p=precision, n=passes: alone(name, weights, device, p, n),
                **{
                    f"skytwin, {way}": lambda e=encoder: ours(e)
                    for way, encoder in encoders.items()
                },
            }
            taken: dict[str, list[float]] = {way: [] for way in ways}
            for _ in range(rounds):
                for way, run in ways.items():
                    taken[way].append(run())
            what = f"views of {count} cutouts of {PIXELS} px at {SIZE}, {name}, {precision}"
            bare = statistics.median(taken["network alone"])
            for way, values in taken.items():
                rate = statistics.median(values)
                note = "" if way == "network alone" else f"{rate / bare:.2f} of the network alone"
                rows.append(Row(what, way, rate, "views/s", note))
    return rows


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--network", default="efficientnet_b0")
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    if given.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("torch finds no GPU; with --device cpu it can be seen to run")
    rows = measure(given.network, given.images, given.device, given.rounds)
    where = torch.cuda.get_device_name() if given.device == "cuda" else "no GPU"
    print(f"{table(rows)}\n\n{where}; {machine()}")


if __name__ == "__main__":
    main()
