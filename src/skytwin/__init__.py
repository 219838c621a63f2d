"""Find more objects like these, in my survey, with a purity I can trust.

The verbs ``ingest -> embed -> search -> purity`` each take and leave plain types; ``figures``
draws them. Names are loaded when first used, so that importing skytwin costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from skytwin.answers import figures
    from skytwin.answers.audit import Audit, audit
    from skytwin.answers.calibrate import Calibration, calibrate
    from skytwin.answers.compare import Comparison, compare
    from skytwin.answers.explain import Explanation, explain
    from skytwin.answers.export import write_table
    from skytwin.answers.generate import Generated, generate
    from skytwin.answers.importance import Importance, importance
    from skytwin.answers.indexing import build_index
    from skytwin.answers.leaks import Twins, find_twins
    from skytwin.answers.maps import Map, make_map
    from skytwin.answers.maps_place import open_map, place
    from skytwin.answers.outliers import Outliers, outliers
    from skytwin.answers.outliers_settings import OutlierSettings
    from skytwin.answers.probe import Probe, probe
    from skytwin.answers.probe_fit import Predictions, predict
    from skytwin.answers.probe_kept import KeptProbe, open_probes
    from skytwin.answers.purity import PurityCurve, purity
    from skytwin.answers.query import Reference
    from skytwin.answers.search import Matches, search
    from skytwin.answers.trust import Trust, trust
    from skytwin.densities.flow_store import open_flow
    from skytwin.embeddings.adopt import adopt
    from skytwin.embeddings.index import Index
    from skytwin.embeddings.join import join
    from skytwin.embeddings.table import Embeddings
    from skytwin.encoders.encoder import Encoder
    from skytwin.encoders.recipe import Recipe
    from skytwin.errors import SkytwinError
    from skytwin.images.cutouts import Cutouts
    from skytwin.images.detect import DetectSettings
    from skytwin.images.fetch import Fetched, fetch
    from skytwin.images.join import join_cutouts
    from skytwin.images.simulate import simulate_survey
    from skytwin.verbs import ingest, open  # noqa: A004
    from skytwin.verbs_embed import embed
    from skytwin.verbs_train import train

_HOME = {
    "Audit": "skytwin.answers.audit",
    "Calibration": "skytwin.answers.calibrate",
    "Comparison": "skytwin.answers.compare",
    "Cutouts": "skytwin.images.cutouts",
    "DetectSettings": "skytwin.images.detect",
    "Embeddings": "skytwin.embeddings.table",
    "Encoder": "skytwin.encoders.encoder",
    "Explanation": "skytwin.answers.explain",
    "Fetched": "skytwin.images.fetch",
    "Generated": "skytwin.answers.generate",
    "Importance": "skytwin.answers.importance",
    "Index": "skytwin.embeddings.index",
    "Map": "skytwin.answers.maps",
    "KeptProbe": "skytwin.answers.probe_kept",
    "Matches": "skytwin.answers.search",
    "OutlierSettings": "skytwin.answers.outliers_settings",
    "Outliers": "skytwin.answers.outliers",
    "Predictions": "skytwin.answers.probe_fit",
    "Probe": "skytwin.answers.probe",
    "PurityCurve": "skytwin.answers.purity",
    "Recipe": "skytwin.encoders.recipe",
    "Reference": "skytwin.answers.query",
    "SkytwinError": "skytwin.errors",
    "Trust": "skytwin.answers.trust",
    "Twins": "skytwin.answers.leaks",
    "adopt": "skytwin.embeddings.adopt",
    "audit": "skytwin.answers.audit",
    "build_index": "skytwin.answers.indexing",
    "calibrate": "skytwin.answers.calibrate",
    "compare": "skytwin.answers.compare",
    "embed": "skytwin.verbs_embed",
    "explain": "skytwin.answers.explain",
    "fetch": "skytwin.images.fetch",
    "figures": "skytwin.answers.figures",
    "find_twins": "skytwin.answers.leaks",
    "generate": "skytwin.answers.generate",
    "importance": "skytwin.answers.importance",
    "ingest": "skytwin.verbs",
    "join": "skytwin.embeddings.join",
    "join_cutouts": "skytwin.images.join",
    "make_map": "skytwin.answers.maps",
    "open": "skytwin.verbs",
    "open_flow": "skytwin.densities.flow_store",
    "open_map": "skytwin.answers.maps_place",
    "open_probes": "skytwin.answers.probe_kept",
    "outliers": "skytwin.answers.outliers",
    "place": "skytwin.answers.maps_place",
    "predict": "skytwin.answers.probe_fit",
    "probe": "skytwin.answers.probe",
    "purity": "skytwin.answers.purity",
    "search": "skytwin.answers.search",
    "simulate_survey": "skytwin.images.simulate",
    "train": "skytwin.verbs_train",
    "trust": "skytwin.answers.trust",
    "write_table": "skytwin.answers.export",
}

__all__ = [
    "Audit",
    "Calibration",
    "Comparison",
    "Cutouts",
    "DetectSettings",
    "Embeddings",
    "Encoder",
    "Explanation",
    "Fetched",
    "Generated",
    "Importance",
    "Index",
    "KeptProbe",
    "Map",
    "Matches",
    "OutlierSettings",
    "Outliers",
    "Predictions",
    "Probe",
    "PurityCurve",
    "Recipe",
    "Reference",
    "SkytwinError",
    "Trust",
    "Twins",
    "adopt",
    "audit",
    "build_index",
    "calibrate",
    "compare",
    "embed",
    "explain",
    "fetch",
    "figures",
    "find_twins",
    "generate",
    "importance",
    "ingest",
    "join",
    "join_cutouts",
    "make_map",
    "open",
    "open_flow",
    "open_map",
    "open_probes",
    "outliers",
    "place",
    "predict",
    "probe",
    "purity",
    "search",
    "simulate_survey",
    "train",
    "trust",
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
