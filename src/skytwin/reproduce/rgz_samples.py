"""What a VDVAE makes: the section that shows and measures it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from skytwin.answers.figures_generate import (
    generated_closeness,
    generated_interpolations,
    generated_nearest,
    generated_reconstructions,
    generated_samples,
)
from skytwin.answers.generate import Generated, generate
from skytwin.answers.generate_latents import LATENTS
from skytwin.answers.generate_steps import SAMPLES
from skytwin.artefact import Manifest
from skytwin.reproduce.content import Draft, Written, column
from skytwin.reproduce.places import kept_steps
from skytwin.reproduce.rgz_inputs import Coded, Given

__all__ = ["images"]

Earlier = Mapping[str, Written]
_SHOWN, _COMPARED, _PERMUTATIONS = 32, 200, 199


def images(draft: Draft, given: Given, _: Earlier) -> None:
    """Reconstructions, samples and interpolations of a VDVAE, and how far to trust them."""
    draft.say(
        "The paper shows reconstructions and new images from the prior of its VDVAE, whose sizes "
        "come out too small.",
        role="paper",
    )
    coded = given.vdvae
    if coded is None or coded.folder is None:
        draft.say(
            "Not done: no VDVAE is at hand. Train one with `skytwin train CUTOUTS --recipe "
            "rgz-vdvae --out VDVAE` (the paper's settings: a GPU's work) or `--recipe "
            "vdvae-tiny` (minutes on a CPU), and give it with --encoder VDVAE.",
            role="note",
        )
        return
    found, fitted = _made(given, coded, coded.folder)
    real = found.real
    draft.say(
        f"{len(found.table)} samples at temperature {found.temperature:g} against {len(real.held)} "
        f"held-out images of {real.cutouts.folder.name}; all prepared as the network sees them, "
        f"{found.images.shape[-1]} x {found.images.shape[-1]} pixels in [0, 1]."
        + (f" {real.note[0].upper()}{real.note[1:]}." if real.note else "")
    )
    draft.say(
        f"Beside samples of the prior, as the paper's, stand samples whose top latents come from a "
        f"Gaussian with all covariances, fitted to those of {fitted.fit} training images after the "
        "training (Ghosh et al. 2020, arXiv 1903.12436).",
        role="note",
    )
    _tables(draft, found, fitted)
    draft.table(
        "codes",
        [
            {"latents": each.latents, "code": code.tolist()}
            for each in (found, fitted)
            for code in each.codes
        ],
        [],
        show=False,
    )
    for name, drawn, caption in (
        ("reconstructions", generated_reconstructions(found), "Held-out images, and the same from "
         "their latents, and from the top latent alone."),
        ("samples", generated_samples(found), "Images from the prior, none picked."),
        ("samples-fitted", generated_samples(fitted), "Images of fitted top latents, none "
         "picked."),
        ("nearest", generated_nearest(found), "Samples, and the training image nearest to each."),
        ("interpolations", generated_interpolations(found), "From one held-out image to another."),
        ("closeness", generated_closeness(found), "How close samples are: told apart by a "
         "classifier, light, size, nearest image."),
    ):  # fmt: skip
        draft.figure(name, drawn, caption, alt=caption)
    _discuss(draft, found, fitted)


def _made(given: Given, coded: Coded, folder: Path) -> tuple[Generated, Generated]:
    """With top latents of the prior, and with fitted ones; what both need is made once."""
    from skytwin.encoders.generator import open_generator  # torch, where there is a VDVAE only

    generator = open_generator(folder)
    settings: dict[str, Any] = {
        "count": _SHOWN,
        "compared": _COMPARED,
        "most": 4000,
        "permutations": _PERMUTATIONS,
        "seed": given.asked.seed,
    }
    parents = {
        "vdvae": coded.embeddings["mirabest"].as_parent(),
        "unlabelled": given.unlabelled.cutouts.as_parent(),
    }
    with kept_steps(given.home, "samples", settings, parents) as steps:
        found, fitted = (
            generate(
                generator, data=_data(given, generator.manifest), latents=latents,
                steps=steps, quiet=given.asked.quiet, **settings,
            )
            for latents in LATENTS
        )  # fmt: skip
    return found, fitted


def _data(given: Given, manifest: Manifest) -> Any:
    """Cutouts to compare with: those of the training where they are, else the unlabelled set."""
    parent = manifest.parents.get("cutouts")
    free = given.unlabelled.cutouts
    if parent is not None and parent.fingerprint == free.manifest.fingerprint:
        return free.folder
    try:
        gone = parent is None or Manifest.open(parent.path).fingerprint != parent.fingerprint
    except (OSError, ValueError):
        gone = True
    return free.folder if gone else None


def _tables(draft: Draft, found: Generated, fitted: Generated) -> None:
    draft.table(
        "errors",
        [
            {
                "name": one.name, "numbers": one.numbers, "nats": float(one.nats),
                "error": one.value, "error_lower": one.lower, "error_upper": one.upper,
            }
            for one in found.errors
        ],
        [
            column("name", "reconstruction"),
            column("numbers", "numbers", "count"),
            column("nats", "nats", "number"),
            column("error", "mean squared error", "number", ends="error"),
        ],
        "Reconstructions of held-out images beside linear codes; a dash: given exactly",
    )  # fmt: skip
    draft.table(
        "told",
        [
            {
                "judge": one.judge, "latents": each.latents if one.one == SAMPLES else "",
                "pair": f"{one.one} : {one.other}", "auc": one.auc.value,
                "auc_lower": one.auc.lower, "auc_upper": one.auc.upper, "p": one.p,
            }
            for each in (found, fitted)
            for one in each.comparisons
            if each is found or one.one == SAMPLES
        ],
        [
            column("judge", "judged by"),
            column("pair", "sets"),
            column("latents", "top latents"),
            column("auc", "told apart (AUC)", "number", ends="auc"),
            column("p", "p of the energy distance", "number"),
        ],
        "Whether a classifier tells the sets apart: 0.5 is chance; training against held-out "
        "images is what chance looks like",
    )  # fmt: skip
    draft.table(
        "light",
        [
            {
                "name": one.name, "unit": one.unit, "latents": each.latents,
                "samples": float(np.median(one.samples)), "held": float(np.median(one.held)),
                "rebuilt": float(np.median(one.reconstructed)),
                "auc": one.against_held.auc.value, "auc_lower": one.against_held.auc.lower,
                "auc_upper": one.against_held.auc.upper,
            }
            for each in (found, fitted)
            for one in each.properties
        ],
        [
            column("name", "property"),
            column("unit", "unit"),
            column("latents", "top latents"),
            column("samples", "samples, median", "number"),
            column("held", "held-out", "number"),
            column("rebuilt", "reconstructed", "number"),
            column("auc", "chance that a sample is larger", "number", ends="auc"),
        ],
        "Light and size of samples against held-out images",
    )  # fmt: skip


def _discuss(draft: Draft, found: Generated, fitted: Generated) -> None:
    size, other = (
        next(one for one in each.properties if one.name.startswith("ext"))
        for each in (found, fitted)
    )
    auc, cured = size.against_held.auc, other.against_held.auc
    small = (
        "The samples are smaller than real images, as the paper's are"
        if auc.upper < 0.5
        else "The samples are larger than real images, unlike the paper's"
        if auc.lower > 0.5
        else "The samples' sizes are not shown to differ from real ones, unlike the paper's"
    )
    better = (
        "it is the prior, then, and not the network, that makes them small"
        if auc.upper < 0.5 and cured.lower <= 0.5 <= cured.upper
        else "which takes away part of it"
        if auc.upper < 0.5 and cured.value > auc.upper
        else "which changes little"
        if cured.lower <= auc.value <= cured.upper
        else "which is no clear gain"
    )
    apart = [
        one for one in found.comparisons
        if (one.one, one.other) == ("samples", "held-out images") and one.auc.lower > 0.5
    ]  # fmt: skip
    said = (
        f"{len(apart)} of the judges tell samples from held-out images. "
        if apart
        else "No judge tells samples from held-out images. "
    )
    draft.say(
        f"{small} (chance that a sample is the larger: {{auc}}). With fitted top latents it is "
        f"{{cured}}: {better}. {said}Samples and "
        "reconstructions have no pixel noise, so a classifier may see that alone: compare with "
        "reconstructions against held-out images. Linear codes of as many nats are the fair rival "
        "of a reconstruction.",
        role="differences",
        auc=draft.at("light", "auc", name=size.name, latents=found.latents),
        cured=draft.at("light", "auc", name=size.name, latents=fitted.latents),
    )
