"""What ``skytwin index`` prints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from skytwin.answers.indexing import Built

__all__ = ["describe_index"]


def describe_index(built: Built) -> str:
    """What was built, and its recall by kind of query."""
    index = built.index
    size = sum(entry["bytes"] for entry in index.manifest.files.values())
    lines = [f"{index!r}, {size / 1e6:.1f} MB"]
    if built.source is not None:
        lines.append(
            f"  {built.added} vectors added to the {len(index) - built.added} of "
            f"{built.source.path}, whose codes were taken over"
        )
    kinds = built.recall.items()
    if not kinds:
        return "\n".join([*lines, "  too few objects to measure recall on; searches are exact"])
    lines.append(f"  recall, measured against the exact scan on {_queries(built)}:")
    what = "efSearch" if index.kind == "hnsw-sq8" else "cells"
    lines.append(f"    {'query':<15}{'nearest':>8}{'recall':>23}{what:>10}{'candidates':>12}")
    # Single references first, and the fewer of the nearest.
    for kind, depths in sorted(kinds, key=lambda each: _order(each[1])):
        for depth, found in sorted(depths.items(), key=lambda each: int(each[0])):
            recall = f"{found['value']:.3f} [{found['lower']:.3f}, {found['upper']:.3f}]"
            use = "" if found["reached"] else "  exact instead"
            lines.append(
                f"    {kind:<15}{depth:>8}{recall:>23}{found['probes']:>10}"
                f"{found['candidates']:>12}{use}"
            )
    return "\n".join(lines)


def _order(depths: Mapping[str, Any]) -> int:
    return int(max(found["references"] for found in depths.values()))


def _queries(built: Built) -> str:
    counts = {
        (found["references"], found["queries"])
        for depths in built.recall.values()
        for found in depths.values()
    }
    return " and ".join(
        f"{queries} queries of {references} reference{'s' * (references > 1)}"
        for references, queries in sorted(counts)
    )
