"""Metrics and combinations by name, without what computes them: help texts need no more."""

from __future__ import annotations

from typing import Literal, get_args

from skytwin.errors import one_of

__all__ = [
    "COMBINATIONS",
    "DEFAULT_COMBINE",
    "DEFAULT_METRIC",
    "METRICS",
    "SAMPLED",
    "Combine",
    "Metric",
    "check_combine",
    "check_metric",
]

Metric = Literal["euclidean", "cosine", "standardized", "whitened", "csls"]
METRICS: tuple[Metric, ...] = get_args(Metric)
DEFAULT_METRIC: Metric = "standardized"
#: Those that need a random sample of the set.
SAMPLED: tuple[Metric, ...] = ("whitened", "csls")

Combine = Literal["mean", "min", "fusion", "logistic", "lda", "mean+logistic", "auto"]
COMBINATIONS: tuple[Combine, ...] = get_args(Combine)
DEFAULT_COMBINE: Combine = "auto"


def check_metric(name: str) -> Metric:
    """A known metric's name, or an error that lists them."""
    return one_of("metric", name, METRICS)


def check_combine(name: str) -> Combine:
    """A known combination's name, or an error that lists them."""
    return one_of("combination", name, COMBINATIONS)
