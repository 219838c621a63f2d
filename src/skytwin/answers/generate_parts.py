"""The steps of `skytwin.answers.generate`, each from arrays to what the answer holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from scipy.stats import spearmanr

from skytwin.answers.drift import Effect, compare_distances
from skytwin.answers.generate_data import RealImages, column_values, prepared_blocks
from skytwin.answers.generate_properties import (
    PropertyComparison,
    compare_property,
    measure_light,
)
from skytwin.answers.generate_reconstruction import (
    LinearCode,
    ReconstructionError,
    linear_errors,
    measured_error,
)
from skytwin.answers.generate_steps import TEMPERATURES, Work
from skytwin.answers.intervals import Proportion
from skytwin.errors import DataError
from skytwin.progress import Progress

if TYPE_CHECKING:
    from skytwin.encoders.generator import Generator, Reconstructed

__all__ = [
    "Copies",
    "Panels",
    "compare_light",
    "find_copies",
    "fitted_images",
    "followed_by",
    "held_conditions",
    "held_images",
    "make_panels",
    "mean_interval",
    "reconstruction_errors",
    "sample_conditions",
    "sample_table",
]

_FIT = 3000  # training images that principal components are fitted on
_NEAR = 0.01  # of held-out images are as near to a training image
_SHOWN, _STEPS, _PAIRS = 8, 8, 6
_RESAMPLES = 1000


@dataclass(frozen=True, kw_only=True, eq=False)
class Copies:
    """Whether samples are copies of training images.

    Attributes
    ----------
    nearer : Proportion
        Samples that are nearer to a training image than 99 % of held-out images are; 1 % is chance.
    nearer_reconstructed : Proportion
        The same, held-out images as they are reconstructed: without noise, as the samples are.
    auc, auc_reconstructed : Effect
        Chance that a sample is farther from its nearest training image than a held-out image (or
        its reconstruction) is from its own; copies bring it below 0.5 (Meehan, Chaudhuri &
        Dasgupta 2020, arXiv 2004.05675).
    held, reconstructed : ndarray, shape (m,)
        Distances of held-out images, and of their reconstructions.
    """

    nearer: Proportion
    nearer_reconstructed: Proportion
    auc: Effect
    auc_reconstructed: Effect
    held: np.ndarray
    reconstructed: np.ndarray


@dataclass(frozen=True, kw_only=True, eq=False)
class Panels:
    """Images to look at, none of them picked.

    Attributes
    ----------
    real, reconstructed, top : ndarray, shape (k, C, size, size)
        Held-out images, the same from their latents, and from the top latent alone.
    interpolated : ndarray, shape (pairs, steps, C, size, size)
        Between held-out images, linear in the posterior means of all layers.
    temperatures : tuple of float
    sweep : ndarray, shape (temperatures, k, C, size, size)
        The same random numbers at each temperature.
    nearest : ndarray, shape (n, C, size, size)
        The training image nearest to each of the first samples.
    """

    real: np.ndarray
    reconstructed: np.ndarray
    top: np.ndarray
    interpolated: np.ndarray
    temperatures: tuple[float, ...]
    sweep: np.ndarray
    nearest: np.ndarray


def sample_conditions(
    generator: Generator, real: RealImages, wanted: Mapping[str, float], count: int, seed: int
) -> tuple[np.ndarray, np.ndarray | None]:
    """Conditions of samples, in the catalogue's units and standardised.

    What is not asked for is that of random training images, whole rows at a time.
    """
    told = generator.conditioning
    if told is None:
        return np.empty((count, 0)), None
    values = np.full((count, len(told.columns)), np.nan)
    free = [place for place, name in enumerate(told.columns) if name not in wanted]
    if free:
        raw = column_values(real.cutouts, told.columns)[real.among]
        whole = raw[np.isfinite(told.standardised(raw)[:, free]).all(axis=1)]
        if not len(whole):
            raise DataError(
                f"no training image has a value of {', '.join(told.columns)}; give --condition "
                "COLUMN=VALUE for each"
            )
        rng = np.random.default_rng([seed, 41])
        values[:] = whole[rng.integers(len(whole), size=count)]
    for place, name in enumerate(told.columns):
        if name in wanted:
            values[:, place] = wanted[name]
    return values, told.standardised(values)


def held_conditions(generator: Generator, real: RealImages) -> np.ndarray | None:
    """Standardised conditions of the held-out images, as far as the catalogue has them."""
    return _conditions(generator, real, real.held)


def held_images(
    real: RealImages, generator: Generator, quiet: bool
) -> tuple[np.ndarray, np.ndarray]:
    """The held-out images, prepared, and where they have data."""
    images, data = [], []
    with Progress("held-out images", len(real.held), quiet=quiet) as bar:
        for _, x, seen in prepared_blocks(real.cutouts, real.held, generator.prepare):
            images.append(x)
            data.append(seen)
            bar.advance(len(x))
    return np.concatenate(images), np.concatenate(data)


def fitted_images(
    real: RealImages, generator: Generator, seed: int, quiet: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """A random part of the training images, in random order.

    Prepared; where they have data; their standardised conditions.
    """
    chosen = np.random.default_rng([seed, 42]).permutation(len(real.among))[:_FIT]
    order = np.argsort(chosen)
    rows = real.among[chosen[order]]
    found = np.empty((len(rows), *generator.image), dtype=np.float32)
    seen = np.empty(found.shape, dtype=bool)
    with Progress("training images", len(rows), quiet=quiet) as bar:
        for place, x, data in prepared_blocks(real.cutouts, rows, generator.prepare):
            found[order[place]], seen[order[place]] = x, data
            bar.advance(len(x))
    return found, seen, _conditions(generator, real, real.among[chosen])


def _conditions(generator: Generator, real: RealImages, rows: np.ndarray) -> np.ndarray | None:
    told = generator.conditioning
    if told is None:
        return None
    return told.standardised(column_values(real.cutouts, told.columns)[rows])


def compare_light(
    sets: Sequence[np.ndarray], isophote: float, scale: float | None, level: float, seed: int
) -> tuple[tuple[PropertyComparison, ...], np.ndarray]:
    """Light and extent of samples, held-out images and reconstructions.

    Also the samples' extents in pixels.
    """
    measured = [measure_light(x, isophote) for x in sets]
    kinds = (
        ("light", "range x pixels", 1.0),
        ("extent", "pixels" if scale is None else "arcsec", scale or 1.0),
    )
    found = tuple(
        compare_property(
            name, unit, *(factor * one[place] for one in measured), level=level, seed=seed
        )
        for place, (name, unit, factor) in enumerate(kinds)
    )
    return found, measured[0][1]


def reconstruction_errors(
    generator: Generator,
    rebuilt: Reconstructed,
    code: LinearCode,
    held: np.ndarray,
    seen: np.ndarray,
    level: float,
    seed: int,
) -> tuple[ReconstructionError, ...]:
    """Linear codes, then the network: its top latent alone, all means, one draw."""
    dim, whole = generator.shape.latent_dim, generator.latent_numbers
    nats = rebuilt.kl_NL.mean(axis=0)
    linear = linear_errors(
        code, held, seen, (dim, whole), float(nats.sum()), level=level, seed=seed
    )
    kinds = (
        ("VDVAE, top latent alone", rebuilt.top, dim, float(nats[0])),
        ("VDVAE, means of all latents", rebuilt.mean, whole, float(nats.sum())),
        ("VDVAE, one draw of all latents", rebuilt.draw, whole, float(nats.sum())),
    )
    network = (
        measured_error(name, x, held, seen, numbers=numbers, nats=cost, level=level, seed=seed)
        for name, x, numbers, cost in kinds
    )
    return (*linear, *network)


def find_copies(distances: Sequence[np.ndarray], level: float, seed: int) -> Copies:
    """Of the distances of samples, held-out images and reconstructions to the nearest."""
    samples, held, rebuilt = distances
    near = [
        Proportion.of(int((samples < np.quantile(one, _NEAR)).sum()), len(samples), level)
        for one in (held, rebuilt)
    ]
    auc = [compare_distances(one, samples, level=level, seed=seed).auc for one in (held, rebuilt)]
    return Copies(
        nearer=near[0],
        nearer_reconstructed=near[1],
        auc=auc[0],
        auc_reconstructed=auc[1],
        held=held,
        reconstructed=rebuilt,
    )


def followed_by(drawn: Mapping[str, np.ndarray], extent: np.ndarray) -> dict[str, float]:
    """Rank correlation of each condition with the extent; of what does not vary there is none."""
    return {
        name: float(spearmanr(values, extent).statistic)
        for name, values in drawn.items()
        if np.ptp(values) > 0 and np.ptp(extent) > 0
    }


def mean_interval(values: np.ndarray, level: float, seed: int) -> tuple[float, float, float]:
    """Mean, and its interval by a bootstrap."""
    rng = np.random.default_rng([seed, 43])
    again = values[rng.integers(len(values), size=(_RESAMPLES, len(values)))].mean(axis=1)
    lower, upper = np.quantile(again, [(1 - level) / 2, (1 + level) / 2])
    return float(values.mean()), float(lower), float(upper)


def sample_table(
    real: RealImages,
    nearest: np.ndarray,
    distances: Sequence[np.ndarray],
    properties: Sequence[PropertyComparison],
    pixels: np.ndarray,
    likelihood: Mapping[str, np.ndarray] | None,
    drawn: Mapping[str, np.ndarray],
) -> pa.Table:
    """One row per measured sample."""
    samples, held, rebuilt = distances
    light, extent = properties
    columns: dict[str, object] = {
        "id": [f"sample-{number:05d}" for number in range(len(samples))],
        "light": light.samples,
        "extent_pixels": pixels,
    }
    if extent.unit == "arcsec":
        columns["extent_arcsec"] = extent.samples
    columns["nearest"] = [str(real.cutouts.ids[row]) for row in real.among[nearest]]
    columns["distance"] = samples
    for name, among in (("percentile", held), ("percentile_reconstructed", rebuilt)):
        below = np.searchsorted(np.sort(among), samples, side="right")
        columns[name] = 100.0 * below / len(among)
    if likelihood is not None:
        columns["log_likelihood"] = likelihood["samples"]
    return pa.table({**columns, **drawn})


def make_panels(
    work: Work,
    generator: Generator,
    real: RealImages,
    held: tuple[np.ndarray, np.ndarray, np.ndarray | None],
    rebuilt: Reconstructed,
    condition_MK: np.ndarray | None,
    nearest: np.ndarray,
    seed: int,
) -> Panels:
    """Images to look at: the first of each, in the order they came."""
    x, seen, known = held
    # The held-out images lie in the order of their rows, which may be that of the sky.
    order = np.random.default_rng([seed, 44]).permutation(len(x))
    first = order[:_SHOWN]
    count = min(_PAIRS, len(x) // 2)
    ends = order[: 2 * count].reshape(count, 2)
    sweep, interpolated = work.panels(
        _SHOWN,
        None if condition_MK is None else condition_MK[:_SHOWN],
        np.where(seen, x, np.nan)[ends],
        None if known is None else known[ends],
        _STEPS,
    )
    rows = real.among[nearest]
    shown = [block for _, block, _ in prepared_blocks(real.cutouts, rows, generator.prepare)]
    return Panels(
        real=x[first],
        reconstructed=rebuilt.mean[first],
        top=rebuilt.top[first],
        interpolated=interpolated,
        temperatures=TEMPERATURES,
        sweep=sweep,
        nearest=np.concatenate(shown),
    )
