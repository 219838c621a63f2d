"""Log-likelihoods under the paper's flow: zuko as it is, and ours, in turns, in one run.

    python benchmarks/flow_likelihood.py [--objects 2048]

48 blocks of 2 x 512 over 256 coordinates (Andrianomena & Tang 2023), float32, all processors that
this process may use. Every round times both; the values are held against zuko's in float64.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from rows import Row, in_turns, machine, table

from skytwin.densities.flow import Flow, fit_coordinates, preset
from skytwin.densities.flow_likelihood import Likelihood
from skytwin.densities.flow_train import make_maf, weights_of

DIM = 256


def measure(objects: int = 1024, rounds: int = 3) -> list[Row]:
    """Medians over the rounds."""
    torch.manual_seed(0)
    settings = preset("paper")
    maf = make_maf(DIM, settings)
    rng = np.random.default_rng(0)
    y = rng.standard_normal((objects, DIM)).astype(np.float32)
    flow = Flow(
        settings=settings, coordinates=fit_coordinates(rng.standard_normal((2600, DIM)), DIM),
        weights=weights_of(maf), curve=(), best=1, rows={}, held_out=np.empty(0),
        ids=np.empty(0, object), places=None, encoder={}, seed=0,
    )  # fmt: skip
    ours = Likelihood(flow)
    batch = 256  # zuko is slower with larger ones

    def plain() -> np.ndarray:
        with torch.inference_mode():
            parts = torch.from_numpy(y).split(batch)
            return torch.cat([maf().log_prob(part) for part in parts]).numpy()

    contenders = {"zuko as it is": plain, "skytwin": lambda: ours.of_coordinates(y)}
    medians = in_turns(contenders, rounds)
    values = {name: run() for name, run in contenders.items()}
    with torch.inference_mode():
        truth = maf.double()().log_prob(torch.from_numpy(y).double()).numpy()
    what = f"log-likelihood under the paper's flow, {DIM} numbers"
    return [
        Row(
            what,
            name,
            objects / median,
            "objects/s",
            f"{np.abs(values[name] - truth).max():.0e} nats from float64",
        )
        for name, median in medians.items()
    ]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--objects", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    print(f"{table(measure(given.objects, given.rounds))}\n\n{machine()}")


if __name__ == "__main__":
    main()
