"""Answers as figures, one function each.

Every function draws into the axes it is given, or into those of a new figure that pyplot does
not know of, and returns the axes (`mosaic`: the figure).
"""

from __future__ import annotations

from skytwin.answers.figures_audit import audit_effects, audit_stability
from skytwin.answers.figures_compare import comparison
from skytwin.answers.figures_curves import (
    ablation,
    composition,
    distance_histogram,
    purity_curve,
)
from skytwin.answers.figures_explain import exciting_objects, explanations
from skytwin.answers.figures_field import field_map
from skytwin.answers.figures_generate import (
    generated_closeness,
    generated_interpolations,
    generated_nearest,
    generated_reconstructions,
    generated_samples,
    generated_temperatures,
)
from skytwin.answers.figures_importance import importances
from skytwin.answers.figures_map import image_map, map_density, map_placed, map_scatter
from skytwin.answers.figures_mosaic import mosaic
from skytwin.answers.figures_outliers import neighbour_distances, oddest, score_histograms
from skytwin.answers.figures_probe import (
    probe_confusion,
    probe_labels,
    probe_reliability,
    probe_roc,
    probe_scores,
)
from skytwin.answers.figures_style import save
from skytwin.answers.figures_trust import (
    distance_drift,
    null_distribution,
    reliability_diagram,
)
from skytwin.answers.figures_twins import twin_pairs

__all__ = [
    "ablation",
    "audit_effects",
    "audit_stability",
    "comparison",
    "composition",
    "distance_drift",
    "distance_histogram",
    "exciting_objects",
    "explanations",
    "field_map",
    "generated_closeness",
    "generated_interpolations",
    "generated_nearest",
    "generated_reconstructions",
    "generated_samples",
    "generated_temperatures",
    "image_map",
    "importances",
    "map_density",
    "map_placed",
    "map_scatter",
    "mosaic",
    "neighbour_distances",
    "null_distribution",
    "oddest",
    "probe_confusion",
    "probe_labels",
    "probe_reliability",
    "probe_roc",
    "probe_scores",
    "purity_curve",
    "reliability_diagram",
    "save",
    "score_histograms",
    "twin_pairs",
]
