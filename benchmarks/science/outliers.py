"""How well outliers are found, where it is known which objects are odd: a Markdown table.

    SKYTWIN_DATA=... python benchmarks/science/outliers.py FOLDER                    # half an hour
    SKYTWIN_DATA=... python benchmarks/science/outliers.py FOLDER --encoder pca --no-flow
    SKYTWIN_DATA=... python benchmarks/science/outliers.py FOLDER --only planted

Sets: artefacts among Galaxy Zoo 1 (morphology DontKnow, 1 %); head-tail and double-double sources
among MiraBest; FR-DEEP and simulated optical images among MiraBest; and forty MiraBest images of
each kind that were spoilt: blank, saturated, shifted by a third of the frame, doubled, noise, half
NaN. Encoders: ``pca`` (64 components of pixels, orbit d4), ``radio`` (skytwin:radio, radio sets
only), ``mobilenet`` (as in query_algebra.py). Everything is embedded into FOLDER once.
``--embedding`` takes an embedding that is there.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from query_algebra import alone, embedding
from query_algebra import images as published

import skytwin
from skytwin.answers.outliers import outliers
from skytwin.answers.outliers_check import Checked
from skytwin.answers.outliers_scores import METHODS
from skytwin.answers.outliers_settings import OutlierSettings
from skytwin.embeddings.embed import embed_cutouts as encode
from skytwin.embeddings.table import Embeddings
from skytwin.encoders.load import load_saved
from skytwin.images.cutouts import Cutouts

ENCODERS = ("pca", "radio", "mobilenet")
ODD = ("morphology=head-tail", "morphology=double-double")
EACH, SEED = 40, 0
FULL = 255.0  # of 8-bit images


def blank(flux: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Nothing but the last bit: an image that is all one value is refused before it gets here."""
    return rng.integers(0, 2, flux.shape).astype(np.float32)


def saturated(flux: np.ndarray, _: np.random.Generator) -> np.ndarray:
    """All that is above a tenth of full brightness, full, and a bleeding column."""
    spoilt = np.where(flux > 0.1 * FULL, FULL, flux)
    middle = flux.shape[-1] // 2
    spoilt[..., middle - 2 : middle + 2] = FULL
    return spoilt


def shifted(flux: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The source a third of the frame off its place."""
    by = flux.shape[-1] // 3
    return np.roll(flux, tuple(rng.choice([-by, by], 2)), axis=(-2, -1))


def doubled(flux: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Everything twice, an eighth of the frame apart."""
    by = flux.shape[-1] // 8
    return np.maximum(flux, np.roll(flux, tuple(rng.choice([-by, by], 2)), axis=(-2, -1)))


def noise(flux: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Noise over the whole range."""
    return rng.uniform(0, FULL, flux.shape).astype(np.float32)


def half_nan(flux: np.ndarray, _: np.random.Generator) -> np.ndarray:
    """The lower half without data."""
    spoilt = flux.astype(np.float32)
    spoilt[..., : flux.shape[-2] // 2, :] = np.nan
    return spoilt


SPOILT: dict[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]] = {
    "blank": blank,
    "saturated": saturated,
    "shifted": shifted,
    "doubled": doubled,
    "noise": noise,
    "NaN": half_nan,
}


def embedded(folder: Path, encoder: str, survey: str, given: dict[str, Embeddings]) -> Embeddings:
    """A set by an encoder; that of MiraBest encodes the other radio sets, too."""
    of = survey if survey == "gz1" else "mirabest"
    if survey in given:
        return given[survey]
    if encoder == "mobilenet" and of not in given and survey in ("gz1", "mirabest", "frdeep-first"):
        return embedding(folder, "best", survey)
    place = folder / f"{survey}-{encoder}.outliers.emb"
    with alone(place):
        if (place / "manifest.json").exists():
            return Embeddings.open(place)
        return _encoded(folder, encoder, survey, given)


def _encoded(folder: Path, encoder: str, survey: str, given: dict[str, Embeddings]) -> Embeddings:
    of = survey if survey == "gz1" else "mirabest"
    place = folder / f"{survey}-{encoder}.outliers.emb"
    cutouts = images(folder, survey)
    if survey != of:
        first = embedded(folder, encoder, of, given)
        return encode(cutouts, load_saved(first.folder / "encoder"), place)
    spec = {"pca": "pca:64:abs", "radio": "skytwin:radio"}[encoder]
    more = {"crop": "96"} if encoder == "pca" else {}
    return skytwin.embed(cutouts, spec, place, orbit="d4", **more)


def images(folder: Path, survey: str) -> Cutouts:
    """The cutouts of a set; kept in the folder."""
    place = folder / f"{survey}.cutouts"
    if (place / "manifest.json").exists():
        return Cutouts(place)
    if survey in ("gz1", "mirabest", "frdeep-first"):
        return Cutouts(published(folder, survey))
    radio = images(folder, "mirabest")
    if survey == "optical":
        pixels = optical(folder, radio.shape[-1])
    else:
        rng = np.random.default_rng([SEED, list(SPOILT).index(survey)])
        rows = np.sort(rng.choice(len(radio), EACH, replace=False))
        pixels = np.stack([SPOILT[survey](one, rng) for one in radio.flux(rows)])
    array = folder / f"{survey}.npz"
    np.savez(array, images=pixels.astype(np.float32))
    return skytwin.ingest(
        array, place, bands=list(radio.bands), pixel_scale=radio.pixel_scale, layout="NCHW"
    )


def optical(folder: Path, size: int) -> np.ndarray:
    """Simulated galaxies in one optical band as 8-bit images of the radio frame, (n, 1, H, W)."""
    place = folder / "simulated-optical.cutouts"
    if not (place / "manifest.json").exists():
        skytwin.simulate_survey("optical", 300, out=place, seed=SEED, size=size, bands=["r"])
    flux = Cutouts(place).flux(slice(None))
    low, high = np.nanquantile(flux, [0.01, 0.999], axis=(1, 2, 3), keepdims=True)
    return np.nan_to_num(np.clip((flux - low) / (high - low), 0, 1) * FULL)


def rows(
    folder: Path,
    encoder: str,
    only: list[str],
    given: dict[str, Embeddings],
    methods: tuple[str, ...],
) -> Iterator[Checked]:
    """What is to be found, by every method."""

    def wanted(name: str) -> bool:
        return not only or name in only

    def settings(*positive: str) -> OutlierSettings:
        return OutlierSettings(methods=methods, positive=positive, seed=SEED)

    if wanted("gz1") and encoder != "radio":
        emb = embedded(folder, encoder, "gz1", given)
        yield from outliers(emb, settings("morphology=DontKnow"), quiet=False).checks
    against = {}
    if wanted("frdeep"):
        against["FR-DEEP"] = embedded(folder, encoder, "frdeep-first", given)
    if wanted("optical"):
        against["simulated optical"] = embedded(folder, encoder, "optical", given)
    if wanted("planted"):
        against |= {name: embedded(folder, encoder, name, given) for name in SPOILT}
    if against or wanted("rare"):
        emb = embedded(folder, encoder, "mirabest", given)
        odd = ODD if wanted("rare") else ()
        yield from outliers(emb, settings(*odd), against=against, quiet=False).checks


def table(found: dict[str, list[Checked]]) -> str:
    """One line for each set, encoder and method."""
    lines = ["| what | encoder | method | AUROC | purity of the first 50 | base rate |"]
    lines.append("|---|---|---|---|---|---|")
    for encoder, checks in found.items():
        lines += [
            f"| {check.what.removesuffix('.emb')} | {encoder} | {check.method} | {check.auc} "
            f"| {check.purity} | {check.base.value:.3g} |"
            for check in checks
        ]
    return "\n".join(lines)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--encoder", action="append", choices=ENCODERS)
    parser.add_argument("--only", action="append", help="gz1, rare, frdeep, optical, planted")
    parser.add_argument("--embedding", action="append", default=[], help="SURVEY=EMB")
    parser.add_argument("--no-flow", action="store_true", help="the methods that take seconds")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    ready = {}
    for text in given.embedding:
        survey, _, place = text.partition("=")
        ready[survey] = Embeddings.open(place)
    methods = tuple(name for name in METHODS if not (given.no_flow and name == "flow"))
    found = {
        encoder: list(rows(given.folder, encoder, given.only or [], ready, methods))
        for encoder in given.encoder or ENCODERS
    }
    print(table(found))


if __name__ == "__main__":
    main()
