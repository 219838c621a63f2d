"""What is opened beside an embedding: maps of it, and other embeddings of its objects."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from skytwin.answers.maps_place import open_map
from skytwin.embeddings.table import Embeddings
from skytwin.errors import Mismatch, UsageError
from skytwin.web.settings import Settings

__all__ = ["map_points", "open_beside"]


def open_beside(embeddings: Embeddings, settings: Settings) -> dict[str, Embeddings]:
    """More embeddings of the same objects, by the names of their folders.

    Raises
    ------
    Mismatch
        One is of other objects.
    UsageError
        Two have one name.
    """
    found: dict[str, Embeddings] = {}
    for path in settings.beside:
        other = Embeddings.open(path)
        name = path.resolve().name
        if name in found or name == settings.embedding.resolve().name:
            raise UsageError(f"two embeddings are called {name!r}; rename one of the folders")
        if not any(str(one) in embeddings.index for one in other.ids):
            raise Mismatch(f"{str(path)!r} is of other objects; give an embedding of the same ones")
        found[name] = other
    return found


def map_points(embeddings: Embeddings, folder: Path) -> bytes:
    """A map's points: x, y (float32) and row (uint32), little-endian, one after the other.

    Raises
    ------
    Mismatch
        The map is of other objects.
    """
    found = open_map(folder)
    missing = [str(name) for name in found.ids if name not in embeddings.index]
    if missing:
        raise Mismatch(
            f"{str(folder)!r} is a map of other objects ({len(missing)} are not in this "
            f"embedding, such as {missing[0]!r}); give a map of this one"
        )
    points = np.empty(len(found.ids), dtype=[("x", "<f4"), ("y", "<f4"), ("row", "<u4")])
    points["x"], points["y"] = found.xy.T
    points["row"] = [embeddings.index[str(name)] for name in found.ids]
    return points.tobytes()
