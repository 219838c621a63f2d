"""Images from a trained Very Deep VAE, and how close they are to real ones.

Samples, reconstructions and interpolations as Andrianomena & Tang 2023 (arXiv 2311.08331) show
them, and beside each the number that says how far to trust it: two-sample tests against held-out
images, light and size against theirs (the paper's samples come out too small), the nearest
training image of every sample, reconstructions against linear codes.

All images are *prepared*: ``(n, C, size, size)`` in [0, 1], what the network was trained on after
crop, stretch and resize. They have no flux unit, and samples and reconstructions have no pixel
noise. So the reconstructions of held-out images stand beside the images themselves: what tells
these two apart is not the prior's fault.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from skytwin.answers.generate_closeness import Comparison
from skytwin.answers.generate_data import RealImages, find_real
from skytwin.answers.generate_judges import Judge, own_judge, pixel_judge
from skytwin.answers.generate_latents import LATENTS, Latents
from skytwin.answers.generate_parts import (
    Copies,
    Panels,
    compare_light,
    find_copies,
    fitted_images,
    followed_by,
    held_conditions,
    held_images,
    make_panels,
    mean_interval,
    reconstruction_errors,
    sample_conditions,
    sample_table,
)
from skytwin.answers.generate_properties import PropertyComparison
from skytwin.answers.generate_reconstruction import LinearCode, ReconstructionError
from skytwin.answers.generate_steps import HELD, REBUILT, SAMPLES, TRAINED, Work
from skytwin.answers.generate_text import summary
from skytwin.answers.resume import Steps
from skytwin.errors import UsageError, one_of, unknown

if TYPE_CHECKING:
    from skytwin.encoders.generator import Generator

__all__ = ["Generated", "generate"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Generated:
    """Samples, and how close they are.

    Attributes
    ----------
    images : ndarray, shape (n, C, size, size), float32
        The first samples of the seed, prepared units: [0, 1] after crop, stretch and resize.
    channels : tuple of str
    pixel_scale : float or None
        Arcsec per pixel of the prepared images.
    table : pyarrow.Table
        One row per measured sample, the first n those of ``images``: ``id``, ``light``,
        ``extent_pixels`` (``extent_arcsec``), ``nearest`` (id) and its ``distance`` (root mean
        square over pixels), ``percentile`` and ``percentile_reconstructed`` of that among the
        distances of held-out images and of their reconstructions, ``log_likelihood`` where a
        density is given, and the conditions.
    codes : ndarray, shape (m, D)
        Of the measured samples: the network's own vectors of them, without an orbit.
    comparisons : tuple of Comparison
    properties : tuple of PropertyComparison
        Light, extent.
    errors : tuple of ReconstructionError
    copies : Copies
    bits_per_dim : tuple of float
        Evidence lower bound on held-out images with its interval.
    log_likelihood : dict of str to ndarray, or None
        Under the density: of ``"samples"``, ``"held-out images"`` and ``"training images"``.
    followed : dict of str to float
        Rank correlation of each condition with the measured extent of the samples.
    real : RealImages
    panels : Panels
    fit : int
        Images that the linear codes were fitted on, and top latents if they were.
    temperature : float
    latents : {"prior", "fitted"}
        Where the samples' top latents come from.
    conditions : dict of str to float
        What was asked for.
    isophote : float
    seed : int
    level : float
    generator : Generator
    """

    images: np.ndarray
    channels: tuple[str, ...]
    pixel_scale: float | None
    table: pa.Table
    codes: np.ndarray
    comparisons: tuple[Comparison, ...]
    properties: tuple[PropertyComparison, ...]
    errors: tuple[ReconstructionError, ...]
    copies: Copies
    bits_per_dim: tuple[float, float, float]
    log_likelihood: dict[str, np.ndarray] | None
    followed: dict[str, float]
    real: RealImages
    panels: Panels
    fit: int
    temperature: float
    latents: Latents
    conditions: dict[str, float]
    isophote: float
    seed: int
    level: float
    generator: Generator

    @property
    def summary(self) -> str:
        """Plain text: how close the samples are, then how good the reconstructions."""
        return summary(self)

    def describe(self) -> dict[str, str]:
        """Where the numbers come from, for a table's header."""
        return {
            "skytwin": "generate",
            "encoder": self.generator.fingerprint,
            "data": self.real.cutouts.manifest.fingerprint,
            "temperature": f"{self.temperature:g}",
            "latents": self.latents,
            "seed": str(self.seed),
        }

    def __repr__(self) -> str:
        return (
            f"Generated({len(self.images)} images of {self.images.shape[-1]} pixels, temperature "
            f"{self.temperature:g}, {len(self.table)} measured)"
        )


def generate(
    generator: Generator,
    count: int = 64,
    *,
    data: str | Path | None = None,
    temperature: float = 1.0,
    latents: Latents = "prior",
    conditions: Mapping[str, float] | None = None,
    judges: tuple[Judge, ...] = (),
    density: Callable[[np.ndarray], np.ndarray] | None = None,
    compared: int = 500,
    most: int = 20_000,
    isophote: float = 0.1,
    permutations: int = 999,
    level: float = 0.95,
    seed: int = 0,
    steps: Steps | None = None,
    quiet: bool = True,
) -> Generated:
    """Draw samples of a VDVAE and compare them with real images.

    Parameters
    ----------
    generator : Generator
        See `skytwin.encoders.generator.open_generator`.
    count : int
        Samples to keep and show, un-picked.
    data : path, optional
        Cutouts to compare with; by default those it was trained on.
    temperature : float
        Of all priors; 1 is the model.
    latents : {"prior", "fitted"}
        Where top latents come from: the network's prior, or a Gaussian fitted to those of at most
        3000 training images; see `skytwin.answers.generate_latents`.
    conditions : mapping of str to float, optional
        Columns the network was conditioned on, in the catalogue's units. What is not given is
        taken from random training images, whole rows at a time.
    judges : tuple of Judge
        Further encoders whose vectors the sets are compared on.
    density : callable, optional
        Log likelihood ``(N,)`` of vectors ``(N, D)``, such as a flow fitted on the encoder's
        embedding without an orbit.
    compared : int
        So many samples, at least, and so many held-out images at most are compared.
    most : int
        At most so many training images are searched for the nearest.
    isophote : float
        At which extents are measured, over the background, in units of the range.
    permutations : int
        Of the test on the energy distance.
    level : float
        Of the intervals.
    seed : int
        Of all random choices.
    steps : Steps, optional
        Where what is done is kept, so that a killed run goes on; see `generated_run` in
        `skytwin.report_generate`.
    quiet : bool

    Raises
    ------
    UsageError
        Conditions of a network without, or a setting out of range.
    UnknownName
        A column it was not conditioned on.
    Mismatch, DataError
        As `find_real`.
    """
    for name, value, least in (("-n", count, 1), ("compared", compared, 20), ("most", most, 20)):
        if value < least:
            raise UsageError(f"{name} {value}; expected at least {least}")
    if not 0 <= seed < 2**32:
        raise UsageError(f"seed {seed}; expected 0 to {2**32 - 1}")
    if not 0 < level < 1:
        raise UsageError(f"interval level {level}; expected a number between 0 and 1")
    if not 0 < isophote < 1:
        raise UsageError(f"isophote {isophote}; expected a number between 0 and 1")
    if not 0 <= temperature < float("inf"):
        raise UsageError(f"temperature {temperature:g}; expected 0 or more")
    one_of("latents", latents, LATENTS)
    wanted = dict(conditions or {})
    _check_conditions(generator, wanted)
    real = find_real(
        generator.manifest,
        generator.prepare,
        generator.pixel_scale,
        data=data,
        compared=compared,
        most=most,
        seed=seed,
    )
    measured = max(count, compared)
    values_MK, condition_MK = sample_conditions(generator, real, wanted, measured, seed)
    work = Work(generator, real, seed, Steps() if steps is None else steps, quiet)
    train, train_seen, train_known = fitted_images(real, generator, seed, quiet)
    if latents == "fitted":
        work.fit_latents(np.where(train_seen, train, np.nan), train_known)
    samples = work.sample(measured, temperature, condition_MK)
    held, seen = held_images(real, generator, quiet)
    known = held_conditions(generator, real)
    rebuilt = work.reconstruct(np.where(seen, held, np.nan), known)
    near = work.nearest((samples, held, rebuilt.mean))
    distances = np.split(near.distance, [measured, measured + len(held)])
    nearest = near.place[:measured]
    code = LinearCode.fit(train.reshape(len(train), -1))
    properties, pixels = compare_light(
        (samples, held, rebuilt.mean), isophote, generator.scale, level, seed
    )
    asked = (own_judge(generator), pixel_judge(code), *judges)
    sets = {SAMPLES: samples, HELD: held, REBUILT: rebuilt.mean, TRAINED: train[: len(held)]}
    judged = work.judged(asked, sets)
    comparisons = work.compare(asked, judged, permutations, level)
    codes = judged[0]
    likelihood = None
    if density is not None:
        likelihood = {
            name: np.asarray(density(codes[name]), dtype=np.float64)
            for name in (SAMPLES, HELD, TRAINED)
        }
    columns = generator.conditioning.columns if generator.conditioning else ()
    drawn = {f"condition_{name}": values_MK[:, place] for place, name in enumerate(columns)}
    return Generated(
        images=samples[:count],
        channels=generator.channels,
        pixel_scale=generator.scale,
        table=sample_table(real, nearest, distances, properties, pixels, likelihood, drawn),
        codes=codes[SAMPLES],
        comparisons=comparisons,
        properties=properties,
        errors=reconstruction_errors(generator, rebuilt, code, held, seen, level, seed),
        copies=find_copies(distances, level, seed),
        bits_per_dim=mean_interval(rebuilt.bits_per_dim, level, seed),
        log_likelihood=likelihood,
        followed=followed_by(drawn, properties[1].samples),
        real=real,
        panels=make_panels(
            work, generator, real, (held, seen, known), rebuilt, condition_MK, nearest[:count], seed
        ),
        fit=code.images,
        temperature=temperature,
        latents=latents,
        conditions=wanted,
        isophote=isophote,
        seed=seed,
        level=level,
        generator=generator,
    )


def _check_conditions(generator: Generator, wanted: Mapping[str, float]) -> None:
    known = generator.conditioning.columns if generator.conditioning else ()
    if wanted and not known:
        raise UsageError(
            f"condition {', '.join(wanted)}: the VDVAE in {str(generator.folder)!r} was trained "
            "without; leave --condition out, or train with --set 'conditions=[\"COLUMN\"]'"
        )
    for name in wanted:
        if name not in known:
            raise unknown("condition", name, known)
