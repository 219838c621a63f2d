"""How often an audit finds a planted shortcut, and how often it finds one where there is none.

    python benchmarks/science/audit_shortcuts.py                  # 100 trials per row
    python benchmarks/science/audit_shortcuts.py --strengths 3    # weaker artefacts too
    python benchmarks/science/audit_shortcuts.py --quick          # 20 trials per row

With SKYTWIN_DATA set, on Galaxy Zoo 1 images (SDSS, 128 pixels, 8 bits), else on simulated discs.
A trial draws five references and a class of positives. The artefact is put into the pixels of all
positives, references among them, before they are measured and embedded; the other images stay.

- *found*: the audit of the first 100 matches calls a covariate of that artefact a shortcut;
  *false*: the same without the artefact, references and class being the same;
- *in labels*, *false*: the same of what `--positive` adds, 300 labelled positives against others;
- *purity with*, *without* the artefact: how far the list is drawn by it.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from query_algebra import images

import skytwin
from skytwin.answers.audit_covariates import saturation
from skytwin.answers.audit_groups import Rules, compare
from skytwin.answers.audit_images import measure_images
from skytwin.answers.intervals import Proportion
from skytwin.embeddings.table import Embeddings
from skytwin.encoders.encoder import Encoder
from skytwin.encoders.load import open_encoder
from skytwin.images.cutouts import Cutouts

#: Artefact -> what it is called by.
SIGNS: dict[str, tuple[str, ...]] = {
    "offset": ("background",),
    "seam": ("seam",),
    "gap border": ("gaps",),
}
MATCHES, CONTROLS, REFERENCES, LABELLED = 100, 1000, 5, 300
Plant = Callable[[np.ndarray, float], np.ndarray]


@dataclass(frozen=True, eq=False, kw_only=True)
class Survey:
    """Images in memory with a class each, and the strengths of the artefacts."""

    name: str
    flux: np.ndarray
    kind: np.ndarray
    bands: tuple[str, ...]
    top: float | None
    encoder: Encoder
    strengths: dict[str, tuple[float, ...]]
    unit: str


@dataclass(frozen=True, eq=False, kw_only=True)
class State:
    """All images of a survey with one artefact, or none: vectors and covariates."""

    vectors: np.ndarray
    names: tuple[str, ...]
    kinds: tuple[str, ...]
    values: np.ndarray


class Memory:
    """Images in memory as an encoder's fit wants them."""

    def __init__(self, flux: np.ndarray, bands: tuple[str, ...], dtype: str) -> None:
        self._flux, self.bands = flux, bands
        self.shape, self.dtype, self.pixel_scale = flux.shape, np.dtype(dtype), None

    def flux(self, rows: np.ndarray) -> np.ndarray:
        return self._flux[rows]


def plant(artefact: str, flux: np.ndarray, strength: float, top: float | None) -> np.ndarray:
    """Put an artefact into all images."""
    made = flux.copy()
    height = flux.shape[2]
    if artefact == "offset":
        made += strength
    elif artefact == "seam":
        rows = np.random.default_rng(1).integers(height // 3, height - height // 3, len(flux))
        for image, row in zip(made, rows, strict=True):
            image[:, row:] += strength
    else:
        edge = round(strength)
        made[:, :, :edge] = made[:, :, -edge:] = np.nan
        made[..., :edge] = made[..., -edge:] = np.nan
    return made if top is None else np.minimum(made, top)


def galaxy_zoo(folder: Path, spec: str, weights: Path | None, share: float = 1.0) -> Survey:
    """A part of the galaxies, or all that are taken of each class."""
    cutouts = Cutouts(images(folder))
    kind = np.array(cutouts.catalog["morphology"].to_pylist())
    kind[np.isin(kind, ["SpiralCW", "SpiralACW"])] = "Spiral"
    rng = np.random.default_rng(0)
    rows = [
        rng.permutation(np.flatnonzero(kind == name))[: round(share * count)]
        for name, count in (("EdgeOn", 529), ("Spiral", 429), ("Elliptical", 900))
    ]
    chosen = np.sort(np.concatenate(rows))
    orbit = "d4" if spec.startswith("pca") else "none"
    return Survey(
        name="Galaxy Zoo 1",
        flux=cutouts.flux(chosen),
        kind=kind[chosen],
        bands=cutouts.bands,
        top=saturation(cutouts.dtype),
        encoder=open_encoder(spec, cutouts_like=cutouts, orbit=orbit, weights=weights),
        strengths={"offset": (12, 6, 3), "seam": (12, 6, 3), "gap border": (16, 8, 4)},
        unit="of 255, or pixels of 128",
    )


def simulated(count: int = 1500, size: int = 48) -> Survey:
    """Round, elongated and ringed discs in two bands, with noise of unit width."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:size, :size] - size // 2
    flux = np.empty((count, 2, size, size), dtype=np.float32)
    kind = rng.choice(["round", "elongated", "ringed"], count, p=[0.6, 0.2, 0.2])
    for image, name in zip(flux, kind, strict=True):
        angle, scale = rng.uniform(0, np.pi), rng.uniform(2.0, 3.5)
        ratio = rng.uniform(0.2, 0.4) if name == "elongated" else rng.uniform(0.7, 1.0)
        along = x * np.cos(angle) + y * np.sin(angle)
        across = (y * np.cos(angle) - x * np.sin(angle)) / ratio
        radius = np.hypot(along, across)
        light = np.exp(-radius / scale)
        if name == "ringed":
            light = 0.5 * light + 0.3 * np.exp(-0.5 * ((radius - 2.2 * scale) / 1.0) ** 2)
        colour = rng.uniform(0.7, 1.4)
        light *= rng.uniform(40, 120) / light.max()
        image[0], image[1] = light, light * colour
    flux += rng.standard_normal(flux.shape).astype(np.float32) + 10
    bands = ("g", "r")
    source = Memory(flux, bands, "float32")
    encoder = open_encoder("pca:32", cutouts_like=source, orbit="d4", stretch="range:0,60")
    return Survey(
        name="simulated discs",
        flux=flux,
        kind=kind,
        bands=bands,
        top=None,
        encoder=encoder,
        strengths={"offset": (6, 3, 1.5), "seam": (8, 4, 2), "gap border": (8, 4, 2)},
        unit="pixel noises, or pixels of 48",
    )


def state(survey: Survey, artefact: str | None, strength: float = 0.0) -> State:
    """Measure and embed all images of a survey, the artefact put into each."""
    flux = survey.flux
    if artefact is not None:
        flux = plant(artefact, flux, strength, survey.top)
    parts = [
        measure_images(flux[i : i + 128], survey.bands, top=survey.top)
        for i in range(0, len(flux), 128)
    ]
    names = tuple(parts[0])
    return State(
        vectors=survey.encoder.encode(flux, batch=128),
        names=names,
        kinds=tuple(parts[0][name][0] for name in names),
        values=np.stack([np.concatenate([p[n][1] for p in parts]) for n in names], axis=1),
    )


@dataclass(frozen=True, eq=False, kw_only=True)
class Outcome:
    """What one trial called a shortcut, in the list and in the labels, and the list's purity."""

    listed: set[str]
    labels: set[str]
    purity: float


def trial(survey: Survey, plain: State, planted: State | None, seed: int) -> Outcome:
    """Plant, search, audit."""
    rng = np.random.default_rng(seed)
    kinds = sorted(set(survey.kind.tolist()))
    number, every = seed % (len(kinds) + 1), len(survey.kind)
    among = np.arange(every)
    # Every so often a class that has nothing in common but the artefact.
    if number < len(kinds):
        among = np.flatnonzero(survey.kind == kinds[number])
    positive = rng.permutation(among)[: min(len(among), every // 8)]
    references = positive[:REFERENCES]
    vectors, values = plain.vectors.copy(), plain.values.copy()
    if planted is not None:
        vectors[positive], values[positive] = planted.vectors[positive], planted.values[positive]
    table = Embeddings.from_arrays(vectors, [str(row) for row in range(every)])
    found = skytwin.search(table, [str(row) for row in references], k=MATCHES)
    free = np.setdiff1d(np.arange(every), references)
    rest = np.setdiff1d(free, found.rows)
    controls = rng.choice(rest, min(CONTROLS, len(rest)), replace=False)
    known = ~np.array([np.ptp(v[np.isfinite(v)]) == 0 for v in values.T])
    names = [name for name, keep in zip(plain.names, known, strict=True) if keep]
    sorts = [kind for kind, keep in zip(plain.kinds, known, strict=True) if keep]
    values, rules = values[:, known], Rules(permutations=999)
    lead = values[references]
    listed = compare(names, sorts, values[found.rows], values[controls], lead, rules, seed)
    hit = np.isin(free, positive)
    yes, no = (values[rng.permutation(free[part])[:LABELLED]] for part in (hit, ~hit))
    labels = compare(names, sorts, yes, no, None, rules, seed)
    return Outcome(
        listed=set(listed.named("shortcut")),
        labels=set(labels.named("shortcut")),
        purity=float(np.isin(found.rows, positive).mean()),
    )


def run(survey: Survey, trials: int, strengths: int) -> None:
    print(f"\n{survey.name}, {len(survey.flux)} images, {survey.encoder.name}, {trials} trials")
    print(f"(strength in {survey.unit})\n")
    print(
        "| artefact | strength | found | false | in labels | false | purity with | without |\n"
        "|---|---|---|---|---|---|---|---|"
    )
    plain = state(survey, None)
    clean = [trial(survey, plain, None, seed) for seed in range(trials)]
    purity = np.mean([one.purity for one in clean])
    for artefact, signs in SIGNS.items():
        for strength in survey.strengths[artefact][:strengths]:
            planted = state(survey, artefact, strength)
            done = [trial(survey, plain, planted, seed) for seed in range(trials)]
            shares = [
                _of(sum(_named(getattr(one, where), signs) for one in outcomes), trials)
                for where in ("listed", "labels")
                for outcomes in (done, clean)
            ]
            reached = np.mean([one.purity for one in done])
            print(
                f"| {artefact} | {strength:g} | {' | '.join(shares)} | {reached:.2f} | "
                f"{purity:.2f} |",
                flush=True,
            )
    for where in ("listed", "labels"):
        wrong = [getattr(one, where) for one in clean if getattr(one, where)]
        names = sorted({name for said in wrong for name in said})
        print(
            f"\nany shortcut without an artefact, {where}: {_of(len(wrong), trials)} "
            f"({', '.join(names)})",
            flush=True,
        )


def _named(said: set[str], signs: Sequence[str]) -> bool:
    return any(name.startswith(tuple(signs)) for name in said)


def _of(hits: int, total: int) -> str:
    found = Proportion.of(hits, total)
    return f"{hits}/{total} [{found.lower:.2f}, {found.upper:.2f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="20 trials per row")
    parser.add_argument("--strengths", type=int, default=1, help="1 to 3 of each artefact")
    parser.add_argument("--simulated", action="store_true", help="even if there are real images")
    parser.add_argument("--encoder", default="pca:48", help="for the real images")
    parser.add_argument("--weights", type=Path, help="of a network, .safetensors")
    given = parser.parse_args()
    trials = 20 if given.quick else 100
    start = time.monotonic()
    data = os.environ.get("SKYTWIN_DATA")
    with tempfile.TemporaryDirectory() as folder:
        if data and not given.simulated:
            survey = galaxy_zoo(Path(folder), given.encoder, given.weights)
        else:
            survey = simulated()
        run(survey, trials, given.strengths)
    print(f"\n{time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main()
