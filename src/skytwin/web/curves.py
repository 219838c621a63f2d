"""Curves against distance, thinned to what a screen shows."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from skytwin.answers.purity import PurityCurve
from skytwin.answers.ranking import eligible
from skytwin.answers.search import Matches
from skytwin.embeddings.neighbours import rank_all

__all__ = ["counts_of", "curve_of"]

_NEAREST, _POINTS = 200, 200


def counts_of(matches: Matches) -> dict[str, Any]:
    """How many objects lie within every distance of a query, as JSON, thinned."""
    settings = matches.settings
    keep, _ = eligible(
        matches.embeddings,
        matches.references,
        same_arcsec=settings["same_arcsec"],
        where=settings["where"],
        inside=settings["inside"],
    )
    ranked = rank_all(matches.embeddings.vectors, matches.ranker, keep=keep)
    at = _thinned(len(ranked.rows))
    return {
        "total": len(ranked.rows),
        "distance": [float(d) for d in ranked.distance[at]],
        "count": [int(i) + 1 for i in at],
    }


def curve_of(curve: PurityCurve) -> dict[str, Any]:
    """Purity against distance as JSON, thinned."""
    at = _thinned(len(curve))
    lower, upper = curve.interval(at)
    shown = {"distance": curve.distance[at], "purity": curve.purity[at]}
    return {
        "positive": list(curve.positive),
        "base": asdict(curve.base),
        "unlabelled": curve.unlabelled,
        "repeats": curve.repeats,
        **{
            name: [float(v) for v in values]
            for name, values in {**shown, "lower": lower, "upper": upper}.items()
        },
        **{name: [int(v) for v in getattr(curve, name)[at]] for name in ("count", "positives")},
    }


def _thinned(count: int) -> np.ndarray:
    """Some of ``count`` places in order: the first all, then ever fewer."""
    if count <= _NEAREST + _POINTS:
        return np.arange(count)
    near = np.geomspace(_NEAREST, count, _POINTS) - 1
    even = np.linspace(_NEAREST, count - 1, _POINTS)
    later = np.rint(np.concatenate([near, even])).astype(np.int64)
    return np.unique(np.concatenate([np.arange(_NEAREST), later]))
