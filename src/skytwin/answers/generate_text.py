"""What is said of generated images, in plain text."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from skytwin.answers.generate import Generated

__all__ = ["summary"]


def summary(found: Generated) -> str:
    """How close the samples are, then how good the reconstructions."""
    real, size = found.real, found.images.shape[-1]
    wanted = "".join(f", {name} = {value:g}" for name, value in found.conditions.items())
    kind = "training images" if real.trained else "images"
    latents = f", top latents as of {found.fit} {kind}" if found.latents == "fitted" else ""
    lines = [
        f"{len(found.images)} samples of {size} x {size} pixels at temperature "
        f"{found.temperature:g}{wanted}{latents}; {len(found.table)} measured, against "
        f"{len(real.held)} held-out and {len(real.among)} {kind} of {real.cutouts.folder}",
        "  prepared images in [0, 1], without pixel noise: compare samples with reconstructions",
    ]
    if real.note:
        lines.append(f"  warning: {real.note}")
    lines += ["", *_closeness(found), "", *_copies(found), "", *_properties(found), ""]
    return "\n".join(lines + _reconstruction(found))


def _closeness(found: Generated) -> list[str]:
    wide = max(len(one.judge) for one in found.comparisons) + 2
    lines = [
        "told apart? (AUC of a classifier: 0.5 not at all, 1 always; energy distance 0 to 1)",
        f"  {'judge':<{wide}}{'sets':<36}{'AUC':<22}{'energy':>8}{'p':>8}",
    ]
    for one in found.comparisons:
        pair = f"{one.one} : {one.other}"
        lines.append(
            f"  {one.judge:<{wide}}{pair:<36}"
            f"{f'{one.auc.value:.3f} [{one.auc.lower:.3f}, {one.auc.upper:.3f}]':<22}"
            f"{one.energy:>8.4f}{one.p:>8.3f}"
        )
    lines.append("  its own code is a lenient judge; training : held-out is what chance looks like")
    return lines


def _copies(found: Generated) -> list[str]:
    copies = found.copies
    distance = found.table["distance"].to_numpy()
    kind = "training image" if found.real.trained else "image"
    return [
        f"nearest {kind} (root mean square over pixels): median {np.median(distance):.4f} of "
        f"samples, {np.median(copies.held):.4f} of held-out images, "
        f"{np.median(copies.reconstructed):.4f} of their reconstructions; smallest "
        f"{distance.min():.4f}, {copies.held.min():.4f}, {copies.reconstructed.min():.4f}",
        f"  nearer than 99 % of held-out images are: {copies.nearer}; than 99 % of their "
        f"reconstructions: {copies.nearer_reconstructed}; 0.01 by chance",
        f"  a sample is the farther one in {copies.auc} of pairs with a held-out image, "
        f"{copies.auc_reconstructed} with a reconstruction; copies: well below 0.5",
    ]


def _properties(found: Generated) -> list[str]:
    lines = [one.summary for one in found.properties]
    lines[-1] += f" (at {found.isophote:g} of the range above the background)"
    lines += [
        f"  {name.removeprefix('condition_')} given and extent measured: rank correlation "
        f"{value:.2f}"
        for name, value in found.followed.items()
    ]
    for name, values in (found.log_likelihood or {}).items():
        low, middle, high = np.quantile(values, [0.05, 0.5, 0.95])
        lines.append(f"log likelihood of {name}: {middle:.4g} [{low:.4g}, {high:.4g}]")
    return lines


def _reconstruction(found: Generated) -> list[str]:
    value, lower, upper = found.bits_per_dim
    lines = [
        f"held-out images: {value:.3f} [{lower:.3f}, {upper:.3f}] bits per dimension; mean squared "
        f"error of reconstructions (linear codes of {found.fit} images)",
        f"  {'':<40}{'numbers':>8}{'nats':>9}   error",
    ]
    for one in found.errors:
        nats = "exact" if np.isnan(one.nats) else f"{one.nats:.1f}"
        lines.append(
            f"  {one.name:<40}{one.numbers:>8}{nats:>9}   "
            f"{one.value:.3g} [{one.lower:.3g}, {one.upper:.3g}]"
        )
    return lines
