"""From a cold process to an answer: ``skytwin --help``, and a search in a ready embedding.

The files lie in the page cache, as they do after the first search of a day; every round starts new
processes, in turn. Python that imports NumPy, pyarrow and astropy's tables is what no tool in this
field starts faster than.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
from exact_scan import DIM, ROWS, features
from rows import Row, in_turns, machine, table

import skytwin

ROUNDS = 7


def measure() -> list[Row]:
    """Medians of cold processes."""
    with tempfile.TemporaryDirectory() as folder:
        emb = Path(folder) / "emb"
        np.save(Path(folder) / "vectors.npy", features(ROWS, DIM))
        skytwin.adopt(Path(folder) / "vectors.npy", emb, quiet=True)
        verb = [str(Path(sys.executable).with_name("skytwin"))]
        what = {
            "starting": {
                "python, nothing imported": [sys.executable, "-c", ""],
                "skytwin --help": [*verb, "--help"],
            },
            f"searching {ROWS} x {DIM} from a cold process": {
                "python, NumPy, pyarrow and astropy.table imported": [
                    sys.executable,
                    "-c",
                    "import numpy, pyarrow.parquet, astropy.table",
                ],
                "skytwin search, one reference": [
                    *verb, "search", str(emb), "--like", "00042", "--null-queries", "0",
                ],
                "the same, with tail probabilities": [
                    *verb, "search", str(emb), "--like", "00042",
                ],
            },
        }  # fmt: skip
        runs = {
            (group, way): partial(subprocess.run, command, check=True, capture_output=True)
            for group, ways in what.items()
            for way, command in ways.items()
        }
        # The first round finds cold files and checks the embedding's every byte.
        medians = in_turns(runs, ROUNDS, unseen=1)
    return [Row(group, way, median, "s") for (group, way), median in medians.items()]


if __name__ == "__main__":
    print(f"{table(measure())}\n\n{machine()}")
