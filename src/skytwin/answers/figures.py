"""Answers as figures, one function each.

Every function draws into the axes it is given, or into those of a new figure that pyplot does
not know of, and returns the axes (`mosaic`: the figure).
"""

from __future__ import annotations

from skytwin.answers.figures_compare import comparison
from skytwin.answers.figures_curves import (
    ablation,
    composition,
    distance_histogram,
    purity_curve,
)
from skytwin.answers.figures_field import field_map
from skytwin.answers.figures_mosaic import mosaic
from skytwin.answers.figures_style import save

__all__ = [
    "ablation",
    "comparison",
    "composition",
    "distance_histogram",
    "field_map",
    "mosaic",
    "purity_curve",
    "save",
]
