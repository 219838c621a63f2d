"""Log-likelihoods under the paper's flow: zuko as it is, and ours, in turns, in one run.

    python benchmarks/flow_likelihood.py [--objects 2048] [--rounds 5]

48 blocks of 2 x 512 over 256 coordinates (Andrianomena & Tang 2023), float32, all processors that
this process may use. Every round times both; the values are held against zuko's in float64.
"""

from __future__ import annotations

import argparse
import os
import time

import numpy as np
import torch

from skytwin.densities.flow import Flow, fit_coordinates, preset
from skytwin.densities.flow_likelihood import Likelihood
from skytwin.densities.flow_train import make_maf, weights_of

DIM = 256


def main() -> None:
    """Time and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--objects", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    torch.manual_seed(0)
    settings = preset("paper")
    maf = make_maf(DIM, settings)
    rng = np.random.default_rng(0)
    y = rng.standard_normal((given.objects, DIM)).astype(np.float32)
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

    rates: dict[str, list[float]] = {"zuko as it is": [], "skytwin": []}
    for _ in range(given.rounds):
        for name, run in (("zuko as it is", plain), ("skytwin", lambda: ours.of_coordinates(y))):
            start = time.perf_counter()
            run()
            rates[name].append(given.objects / (time.perf_counter() - start))
    values = {"zuko as it is": plain(), "skytwin": ours.of_coordinates(y)}
    with torch.inference_mode():
        truth = maf.double()().log_prob(torch.from_numpy(y).double()).numpy()
    cores, load = len(os.sched_getaffinity(0)), os.getloadavg()[0]
    print(f"{cores} processors, load {load:.1f}; {given.objects} objects, {given.rounds} rounds\n")
    print("| | objects per second: median (least to most) | largest difference from float64 |")
    print("|---|---|---|")
    for name, each in rates.items():
        error = np.abs(values[name] - truth).max()
        middle = np.median(each)
        print(f"| {name} | {middle:.0f} ({min(each):.0f} to {max(each):.0f}) | {error:.1e} nats |")


if __name__ == "__main__":
    main()
