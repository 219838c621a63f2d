"""Every speed that the documentation states, measured again: one Markdown table.

    make bench                                     # about a quarter of an hour
    python benchmarks/bench.py exact_scan start    # some of them

Each script runs in a process of its own, its contenders in turns. Do nothing else meanwhile.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from rows import Row, machine, table

SCRIPTS = (
    "start",
    "exact_scan",
    "embed_cpu",
    "probe_fits",
    "shuffles",
    "flow_likelihood",
    "train_shares",
    "vdvae_step",
)


def measure(script: str) -> list[Row]:
    """What one script finds with its usual settings."""
    found: list[Row] = importlib.import_module(script).measure()
    return found


def main() -> None:
    """Run them one after the other, then print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("scripts", nargs="*", default=SCRIPTS, help=", ".join(SCRIPTS))
    given = parser.parse_args()
    rows: list[Row] = []
    before = machine()
    for script in given.scripts:
        print(f"{script} ...", file=sys.stderr, flush=True)
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            rows += pool.submit(measure, script).result()
    print(f"{table(rows)}\n\nBefore: {before}\nAfter:  {machine()}")


if __name__ == "__main__":
    main()
