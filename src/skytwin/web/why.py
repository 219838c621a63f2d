"""Where in the images a likeness lies, for a page to lay over pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from skytwin.answers.explain import explain
from skytwin.answers.explain_maps import ScoreMap
from skytwin.answers.search import Matches
from skytwin.embeddings.table import Embeddings
from skytwin.encoders.feature_maps import FeatureMaps, open_maps
from skytwin.errors import SkytwinError, UsageError
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
        #: What takes time now, for a page to say.
        self.doing = ""

    @property
    def ready(self) -> bool:
        """Whether the network is at hand."""
        return self._network is not None

    def prepare(self) -> bool:
        """Load the network, most of the time of a first answer; whether there is one."""
        try:
            self._load()
        except SkytwinError:  # said to whom asks for an explanation
            return False
        return True

    def _load(self) -> FeatureMaps:
        if self._network is None:
            self.doing = "loading the network"
            try:
                folder = self._embeddings.encoder_folder()
                self._network = open_maps(folder, weights=self._weights)
            finally:
                self.doing = ""
        return self._network

    def of(self, matches: Matches, name: str) -> dict[str, Any]:
        """Maps of an object and of the nearest references, as JSON.

        Raises
        ------
        UsageError
            There are no images, or the encoder's vectors do not split over pixels.
        """
        if self._pictures is None:
            raise UsageError("no images are at hand to explain a likeness with")
        network = self._load()
        self.doing = f"comparing with {_AVERAGE} other objects"
        try:
            found = explain(
                matches,
                name,
                average=_AVERAGE,
                maps=network,
                cutouts=self._pictures.cutouts,
                quiet=True,
            )
        finally:
            self.doing = ""
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
