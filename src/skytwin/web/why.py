"""Where in the images a likeness lies, for a page to lay over pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from skytwin.answers.explain import explain
from skytwin.answers.explain_maps import ScoreMap
from skytwin.answers.search import Matches
from skytwin.embeddings.table import Embeddings
from skytwin.encoders.feature_maps import FeatureMaps, open_maps
from skytwin.errors import UsageError
from skytwin.web.thumbnails import Pictures

__all__ = ["Why"]

# Fewer than the command line takes: a page waits, and turned images count eightfold.
_AVERAGE = 16
_REFERENCES = 4


class Why:
    """Explains matches with an encoder that stays open.

    Parameters
    ----------
    embeddings : Embeddings
    pictures : Pictures or None
    weights : Path or None
    """

    def __init__(
        self, embeddings: Embeddings, pictures: Pictures | None, weights: Path | None
    ) -> None:
        self._embeddings, self._pictures, self._weights = embeddings, pictures, weights
        self._network: FeatureMaps | None = None

    def of(self, matches: Matches, name: str) -> dict[str, Any]:
        """Maps of an object and of the nearest references, as JSON.

        Raises
        ------
        UsageError
            There are no images, or the encoder's vectors do not split over pixels.
        """
        if self._pictures is None:
            raise UsageError("no images are at hand to explain a likeness with")
        if self._network is None:
            folder = self._embeddings.encoder_folder()
            self._network = open_maps(folder, weights=self._weights)
        found = explain(
            matches,
            name,
            average=_AVERAGE,
            maps=self._network,
            cutouts=self._pictures.cutouts,
            quiet=True,
        )
        maps = [found.map_match, *found.map_queries]
        return {
            "kind": found.kind,
            "score": float(found.score),
            "distance": float(found.distance),
            "average": found.average,
            "maps": [_as_json(one) for one in maps if one is not None][: 1 + _REFERENCES],
        }


def _as_json(one: ScoreMap) -> dict[str, Any]:
    cells = one.cells[::-1] if one.bottom_up else one.cells
    return {
        "id": one.name,
        "crop": one.crop,
        "value": float(one.value),
        "central": float(one.central / one.value) if one.value else None,
        "cells": [[float(f"{cell:.5g}") for cell in row] for row in cells],
    }
