"""The methods by name."""

from __future__ import annotations

from collections.abc import Mapping

from skytwin.encoders.byol import Byol
from skytwin.encoders.objective import Objective, TwoViews
from skytwin.encoders.recipe import Recipe
from skytwin.encoders.simclr import SimClr
from skytwin.encoders.simsiam import SimSiam
from skytwin.encoders.vdvae_training import VdvaeObjective

__all__ = ["make_objective"]

_TWO_VIEWS: Mapping[str, type[TwoViews]] = {"simclr": SimClr, "byol": Byol, "simsiam": SimSiam}


def make_objective(recipe: Recipe, channels: int) -> Objective:
    """A method, its weights drawn from torch's random numbers.

    Parameters
    ----------
    recipe : Recipe
    channels : int
        Of the prepared images.

    Raises
    ------
    UnknownName, UsageError
        No such backbone, or it does not take such images.
    """
    if recipe.method == "vdvae":
        return VdvaeObjective(recipe, channels)
    return _TWO_VIEWS[recipe.method](recipe, channels)
