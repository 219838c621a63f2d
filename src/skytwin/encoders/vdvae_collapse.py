"""Whether the representation of a VAE has collapsed onto its prior.

A decoder that does without the top latent leaves its posterior at the prior: every image then has
the same vector but for rounding, and a search among them still answers. Two signs are looked at:

- the KL of the top latent, which bounds the information in it from above. Below ln 2 = 0.69 nat,
  one bit, it cannot even tell one half of the images from the other;
- active units (Burda, Grosse & Salakhutdinov 2016, arXiv 1509.00519, section 5.2): numbers whose
  posterior mean varies over the images by more than 0.01, in units of the prior's variance, which
  is 1 there and learned here. Below 5 % (13 of 256) nearly all of a vector is rounding about a
  constant, which a standardised metric would blow up.

To be asked once the weight of the KL has been warmed up: before, the KL is large whatever becomes
of it. Fewer images than some hundred understate the variance.

Shapes: ``mean_ND`` posterior means of N images, ``kl_LN`` nats per layer and image, the top first.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from skytwin.errors import UsageError

__all__ = ["CollapseReport", "active_units", "collapse"]

MIN_KL = math.log(2)
MIN_ACTIVE = 0.05


@dataclass(frozen=True, kw_only=True)
class CollapseReport:
    """What was found on a set of images.

    Attributes
    ----------
    active, units : int
        Active units of the top latent, and all of them.
    kl : tuple of float
        Nats per image of each layer, the top first.
    alarm : bool
        The top latent's KL is below ln 2, or fewer than 5 % of its units are active.
    text : str
        One line for people.
    """

    active: int
    units: int
    kl: tuple[float, ...]
    alarm: bool
    text: str


def active_units(
    mean_ND: np.ndarray, threshold: float = 0.01, *, prior_sigma_D: np.ndarray | None = None
) -> int:
    """Number of columns whose variance over the images is above `threshold`.

    With ``prior_sigma_D``, a number per column, it is divided by the square of that.
    """
    if mean_ND.ndim != 2 or len(mean_ND) < 2:
        raise UsageError(f"means of shape {mean_ND.shape}; expected (N, D) of at least 2 images")
    unit_D = 1.0 if prior_sigma_D is None else prior_sigma_D.astype(np.float64)
    return int(((mean_ND.astype(np.float64) / unit_D).var(axis=0, ddof=1) > threshold).sum())


def collapse(
    mean_ND: np.ndarray, kl_LN: np.ndarray, *, prior_sigma_D: np.ndarray | None = None
) -> CollapseReport:
    """Look for the two signs.

    Parameters
    ----------
    mean_ND : ndarray, shape (N, D)
        `Vdvae.encode` of a set of images.
    kl_LN : ndarray, shape (L, N)
        `Elbo.kl_LB` of the same or like images.
    prior_sigma_D : ndarray, shape (D,), optional
        `Vdvae.top_prior_sigma`; by default 1.
    """
    active = active_units(mean_ND, prior_sigma_D=prior_sigma_D)
    units = mean_ND.shape[1]
    kl = tuple(float(value) for value in kl_LN.astype(np.float64).mean(axis=1))
    # Not a number is no sign of health.
    alarm = not (kl[0] >= MIN_KL and active >= MIN_ACTIVE * units)
    found = f"top latent {active} of {units} active, {kl[0]:.2f} of {sum(kl):.1f} nat"
    if alarm:
        found = (
            f"COLLAPSED: {found} (expected {math.ceil(MIN_ACTIVE * units)} active, "
            f"{MIN_KL:.2f} nat): lower beta or warm it up longer, or have fewer decoder blocks"
        )
    return CollapseReport(active=active, units=units, kl=kl, alarm=alarm, text=found)
