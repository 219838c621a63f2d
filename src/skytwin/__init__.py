"""Find more objects like these, in my survey, with a purity I can trust.

The verbs ``ingest -> embed -> search -> purity`` each take and leave plain types; ``figures``
draws them. Names are loaded when first used, so that importing skytwin costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from skytwin.answers import figures
    from skytwin.answers.export import write_table
    from skytwin.answers.purity import PurityCurve, purity
    from skytwin.answers.query import Reference
    from skytwin.answers.search import Matches, search
    from skytwin.embeddings.table import Embeddings
    from skytwin.errors import SkytwinError
    from skytwin.images.cutouts import Cutouts
    from skytwin.images.detect import DetectSettings
    from skytwin.verbs import embed, ingest, open  # noqa: A004

_HOME = {
    "Cutouts": "skytwin.images.cutouts",
    "DetectSettings": "skytwin.images.detect",
    "Embeddings": "skytwin.embeddings.table",
    "Matches": "skytwin.answers.search",
    "PurityCurve": "skytwin.answers.purity",
    "Reference": "skytwin.answers.query",
    "SkytwinError": "skytwin.errors",
    "embed": "skytwin.verbs",
    "figures": "skytwin.answers.figures",
    "ingest": "skytwin.verbs",
    "open": "skytwin.verbs",
    "purity": "skytwin.answers.purity",
    "search": "skytwin.answers.search",
    "write_table": "skytwin.answers.export",
}

__all__ = [
    "Cutouts",
    "DetectSettings",
    "Embeddings",
    "Matches",
    "PurityCurve",
    "Reference",
    "SkytwinError",
    "embed",
    "figures",
    "ingest",
    "open",
    "purity",
    "search",
    "write_table",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("skytwin")
    if name not in _HOME:
        raise AttributeError(f"module 'skytwin' has no attribute {name!r}")
    home = importlib.import_module(_HOME[name])
    value = home if name == "figures" else getattr(home, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
