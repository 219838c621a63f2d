"""Ways of combining references on Galaxy Zoo 1, as Markdown tables.

    SKYTWIN_DATA=... python benchmarks/science/query_algebra.py FOLDER              # an hour
    SKYTWIN_DATA=... python benchmarks/science/query_algebra.py FOLDER --quick      # 6 draws
    SKYTWIN_DATA=... python benchmarks/science/query_algebra.py FOLDER --only ways

Embeds the 3380 cutouts of ``SKYTWIN_DATA/gz1``, MiraBest and FR-DEEP with the MobileNetV2 weights
beside them into FOLDER (once), then draws references from each class, leaves them out, and looks
at the nearest hundred. The recipe is that of Doorenbos et al. 2022 (A&A 666, A171): the whole
frame, no orbit, Euclidean distance to one reference.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import skytwin
from skytwin.answers.compare import WAYS, Comparison, compare
from skytwin.embeddings.table import Embeddings
from skytwin.encoders.runtime import check_precision, choose_device, choose_runtime
from skytwin.errors import UsageError

CLASSES = {
    "EdgeOn": ["morphology=EdgeOn"],
    "Spiral": ["morphology=SpiralCW", "morphology=SpiralACW"],
    "Merger": ["morphology=Merger"],
    "DontKnow": ["morphology=DontKnow"],
}
SENSES = ("SpiralACW", "SpiralCW")
RADIO: dict[str, tuple[str, list[str], int]] = {
    "MiraBest FRI": ("mirabest", ["fr=FRI"], 100),
    "MiraBest FRII": ("mirabest", ["fr=FRII"], 100),
    "MiraBest bent": ("mirabest", ["morphology=wide-angle-tail", "morphology=head-tail"], 50),
    "FR-DEEP FIRST FRI": ("frdeep-first", ["fr=FRI"], 100),
    "FR-DEEP FIRST FRII": ("frdeep-first", ["fr=FRII"], 100),
    "FR-DEEP NVSS FRI": ("frdeep-nvss", ["fr=FRI"], 100),
    "FR-DEEP NVSS FRII": ("frdeep-nvss", ["fr=FRII"], 100),
}
SETTINGS: dict[str, dict[str, Any]] = {
    "recipe": {},
    "best": {"orbit": "d4", "crop": "64,96", "root": True},
    # Level with it within the draws (docs/explanation/combining.md), in a quarter of the time.
    "small": {"orbit": "d4", "crop": "64,96", "root": True, "size": 192, "precision": "bf16"},
    "best, no orbit": {"crop": "64,96", "root": True},
    # The object alone, for classifiers.
    "object": {"orbit": "d4", "crop": "64", "precision": "bf16"},
}


@contextlib.contextmanager
def alone(place: Path) -> Iterator[None]:
    """Whoever else wants what is made here waits, and finds it made."""
    with place.with_name(f".{place.name}.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


def able(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings as this processor can have them: bfloat16 where it has units for it."""
    device = choose_device("auto")
    try:
        check_precision(settings.get("precision", "f32"), device, choose_runtime("auto", device))
    except UsageError:
        return {name: value for name, value in settings.items() if name != "precision"}
    return settings


def images(folder: Path, survey: str = "gz1") -> Path:
    """The cutouts of a set, kept in the folder."""
    data = Path(os.environ["SKYTWIN_DATA"])
    cutouts = folder / f"{survey}.cutouts"
    with alone(cutouts):
        if not (cutouts / "manifest.json").exists():
            gz1 = survey == "gz1"
            source = str(data / "gz1" / "galaxies.zip") if gz1 else survey
            catalogue = data / "gz1" / "catalogue.csv" if gz1 else None
            skytwin.ingest(source, cutouts, catalog=catalogue)
    return cutouts


def embedding(folder: Path, name: str, survey: str = "gz1") -> Embeddings:
    """A set embedded in one of the ways of `SETTINGS`; kept in the folder."""
    data = Path(os.environ["SKYTWIN_DATA"])
    cutouts = images(folder, survey)
    of = "" if survey == "gz1" else f"{survey}-"
    place = folder / f"{of}{name.replace(', ', '-').replace(' ', '-')}.emb"
    with alone(place):
        if not (place / "manifest.json").exists():
            weights = data / "weights" / "mobilenetv2_100.imagenet1k.safetensors"
            how = able(SETTINGS[name])
            skytwin.embed(cutouts, "timm:mobilenetv2_100", place, weights=weights, **how)
    return Embeddings.open(place)


def cell(row: dict[str, Any]) -> str:
    """Mean and half the width of its 95 % interval."""
    return f"{row['purity']:.3f} ± {(row['upper'] - row['lower']) / 2:.3f}"


def ways(emb: Embeddings, draws: int, tried: tuple[tuple[str, str], ...], references: int) -> str:
    """One line per way, one column per class."""
    found = {
        name: compare(emb, positive, ways=tried, references=references, draws=draws, quiet=False)
        for name, positive in CLASSES.items()
    }
    lines = [
        "| metric, combination | " + " | ".join(heads(found)) + " |",
        "|---|" + "---|" * len(found),
    ]
    for way in tried:
        cells = []
        for comparison in found.values():
            rows = comparison.table.to_pylist()
            best = max(row["purity"] for row in rows)
            (row,) = (r for r in rows if (r["metric"], r["combine"]) == way)
            cells.append(f"**{cell(row)}**" if row["purity"] == best else cell(row))
        lines.append(f"| {', '.join(way)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def radio(folder: Path, draws: int, tried: tuple[tuple[str, str], ...]) -> str:
    """Every way on the radio sets, as `ways`; last, its lift over the base rate, averaged."""
    found = {
        name: compare(
            embedding(folder, "best", survey),
            positive,
            ways=tried,
            references=5,
            top=top,
            draws=draws,
            quiet=False,
        )
        for name, (survey, positive, top) in RADIO.items()
    }
    lines = [
        "| metric, combination | " + " | ".join(heads(found)) + " | mean lift |",
        "|---|" + "---|" * (len(found) + 1),
    ]
    for way in tried:
        cells, lifts = [], []
        for comparison in found.values():
            rows = comparison.table.to_pylist()
            (row,) = (r for r in rows if (r["metric"], r["combine"]) == way)
            best = max(row["purity"] for row in rows)
            cells.append(f"**{cell(row)}**" if row["purity"] == best else cell(row))
            lifts.append(row["purity"] / comparison.base.value)
        mean = np.exp(np.mean(np.log(lifts)))
        lines.append(f"| {', '.join(way)} | " + " | ".join(cells) + f" | {mean:.2f} |")
    return "\n".join(lines)


def heads(found: dict[str, Comparison]) -> list[str]:
    """Classes with their base rates."""
    return [f"{name} (base rate {c.base.value:.3f})" for name, c in found.items()]


def numbers(emb: Embeddings, draws: int, **counts: list[int]) -> str:
    """The default over numbers of references or negatives."""
    (axis, values), *_ = counts.items()
    found = {
        name: compare(
            emb, positive, ways=[("standardized", "auto")], draws=draws, quiet=False, **counts
        )
        for name, positive in CLASSES.items()
    }
    lines = [f"| {axis} | " + " | ".join(heads(found)) + " |", "|---|" + "---|" * len(found)]
    for value in values:
        cells = []
        for comparison in found.values():
            (row,) = (r for r in comparison.table.to_pylist() if r[axis] == value)
            cells.append(cell(row))
        lines.append(f"| {value} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def handedness(embs: dict[str, Embeddings], draws: int) -> str:
    """Share of the references' own sense among the spirals in the nearest hundred."""
    lines = ["| vectors | own sense among the spirals found |", "|---|---|"]
    for name, emb in embs.items():
        label = np.array(emb.catalog["morphology"].to_pylist())
        shares = []
        for sense in SENSES:
            own = np.flatnonzero(label == sense)
            for draw in range(draws):
                rows = np.random.default_rng([0, draw]).choice(own, 5, replace=False)
                found = skytwin.search(emb, [str(i) for i in emb.ids[rows]], k=100)
                kinds = label[found.rows]
                spirals = np.isin(kinds, SENSES)
                if spirals.any():
                    shares.append((kinds[spirals] == sense).mean())
        half = 1.96 * np.std(shares, ddof=1) / np.sqrt(len(shares))
        lines.append(f"| {name} | {np.mean(shares):.3f} ± {half:.3f} |")
    return "\n".join(lines)


def tables(folder: Path, draws: int) -> dict[str, Callable[[], str]]:
    """What can be printed, by name."""
    recipe = (("euclidean", "mean"),)
    return {
        "ways": lambda: "Five references:\n\n" + ways(embedding(folder, "best"), draws, WAYS, 5),
        "radio": lambda: "Radio galaxies, five references:\n\n" + radio(folder, draws, WAYS),
        "recipe": lambda: (
            "The recipe, one reference:\n\n" + ways(embedding(folder, "recipe"), draws, recipe, 1)
        ),
        "references": lambda: (
            "The default, over the number of references:\n\n"
            + numbers(embedding(folder, "best"), draws, references=[1, 2, 5, 10, 20])
        ),
        "negatives": lambda: (
            "The default, five references, over the number of negatives:\n\n"
            + numbers(embedding(folder, "best"), draws, negatives=[0, 5, 20])
        ),
        "handedness": lambda: (
            "Handedness:\n\n"
            + handedness(
                {
                    "no orbit": embedding(folder, "best, no orbit"),
                    "D4": embedding(folder, "best"),
                },
                draws,
            )
        ),
    }


def main() -> None:
    """Print the tables asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--draws", type=int, default=30)
    parser.add_argument("--only", action="append", help="ways, recipe, references, ...")
    parser.add_argument("--quick", action="store_true", help="6 draws")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    draws = 6 if given.quick else given.draws
    print(f"purity of the nearest 100, {draws} draws, ± half the 95 % interval over draws\n")
    for name, table in tables(given.folder, draws).items():
        if not given.only or name in given.only:
            print(table() + "\n", flush=True)


if __name__ == "__main__":
    main()
