"""Where the time of a training step goes: reading, views, network.

    python benchmarks/train_shares.py            # a minute or two
    python benchmarks/train_shares.py --images 20000 --steps 20

Simulated radio images of 150 pixels, prepared at 64 as `skytwin train` does, read in random order
from the file it keeps; batches of 256, float32. Reading is that of the loop itself.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from rows import Row, machine, table

from skytwin.encoders.methods import make_objective
from skytwin.encoders.objective import Batch, TwoViews
from skytwin.encoders.optimizers import make_optimizer
from skytwin.encoders.recipe import read_recipe
from skytwin.encoders.runtime import keep_memory
from skytwin.encoders.train_batches import Schedule, training_batches
from skytwin.encoders.training_set import choose_rows, prepare_images
from skytwin.images.cutouts import Cutouts
from skytwin.images.prepare import unnormalised
from skytwin.images.simulate import simulate_survey

RUNS = (
    ("simclr", ["backbone=mobilenetv4_conv_small_050"]),
    ("simclr", ["backbone=resnet18"]),
    ("byol", ["backbone=mobilenetv4_conv_small_050"]),
    ("vdvae", ["vdvae.width=32", "vdvae.encoder_blocks=1", "vdvae.decoder_blocks=1"]),
)


def timed(call: Callable[[], object]) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def shares(method: str, changes: list[str], cutouts: Cutouts, folder: Path, steps: int) -> Row:
    """Images per second of one method, and where the time goes."""
    recipe = read_recipe(None, method=method, changes=[*changes, "batch=256"])
    prepare = unnormalised(cutouts, crop=96, size=64, stretch="sigma:3")
    rows = choose_rows(cutouts, recipe.validation, seed=0)
    place = folder / method
    place.mkdir(exist_ok=True)
    data = prepare_images(cutouts, rows, prepare, place, masked=method == "vdvae", quiet=True)
    torch.manual_seed(0)
    objective = make_objective(recipe, 1)
    objective.normalise(data.mean, data.std)
    optimizer = make_optimizer(objective.named_parameters(), recipe.optimizer)  # type: ignore[attr-defined]
    schedule = Schedule(images=data.count, batch=256, epochs=1000)
    batches = iter(training_batches(data, schedule, 0, lambda: 0, lambda: 0, 1))
    reading, viewing, stepping = [], [], []

    def step(batch: Batch, draws: torch.Generator) -> None:
        optimizer.zero_grad()
        objective(batch, draws, 0.5).loss.backward()
        optimizer.step()

    for number in range(steps):
        start = time.perf_counter()
        batch = next(batches)
        reading.append(time.perf_counter() - start)
        draws = torch.Generator().manual_seed(number)
        if isinstance(objective, TwoViews):
            viewing.append(timed(partial(objective.two_views, batch.x_BCHW, draws)))
        stepping.append(timed(partial(step, batch, draws)))
    read, whole = statistics.median(reading), statistics.median(stepping)
    views = statistics.median(viewing) if viewing else 0.0
    network = whole - views
    total = read + whole
    return Row(
        f"training, {method}, {changes[0].partition('=')[2]}, batch 256, 64 px",
        "skytwin train",
        256 / total,
        "images/s",
        f"reading {1e3 * read:.0f} ms, views {1e3 * views:.0f}, network {1e3 * network:.0f}",
    )


def measure(images: int = 4000, steps: int = 9) -> list[Row]:
    """Medians over the steps."""
    keep_memory()
    with tempfile.TemporaryDirectory() as folder:
        cutouts = simulate_survey("radio", images, Path(folder) / "sim", eight_bit=True, quiet=True)
        return [shares(method, changes, cutouts, Path(folder), steps) for method, changes in RUNS]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, default=4000)
    parser.add_argument("--steps", type=int, default=9)
    given = parser.parse_args()
    print(f"{table(measure(given.images, given.steps))}\n\n{machine()}")


if __name__ == "__main__":
    main()
