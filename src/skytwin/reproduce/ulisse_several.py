"""Several prototypes at once, and the steps from the paper's way to the default."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from skytwin.answers.compare import compare
from skytwin.images.where import positive_rows
from skytwin.reproduce.content import Draft, Written, column
from skytwin.reproduce.ulisse_figures import ladder
from skytwin.reproduce.ulisse_searches import LEVEL, Given, Way, spread

__all__ = ["several"]

Earlier = Mapping[str, Written]
_COUNTS = (1, 5, 20)


def several(draft: Draft, given: Given, _: Earlier) -> None:
    """Several prototypes at once, and what else separates the default from the paper's way."""
    draft.say(
        "The paper leaves for later how distances to several prototypes should be combined. Here "
        "the way from the paper's search to this package's default is taken step by step; each "
        "step is measured with references drawn at random and left out, the same for every step.",
        role="paper",
    )
    rows: list[dict[str, Any]] = []
    each: dict[tuple[str, str], np.ndarray] = {}
    for kind in given.kinds:
        hits, known = positive_rows(given.recipe.embeddings.catalog, (kind.condition,))
        most = int((hits & known).sum()) // 2
        for step, way, count in _steps(given):
            if count > most:
                continue
            found = compare(
                way.embeddings,
                kind.condition,
                ways=[(way.metric, way.combine)],
                references=count,
                draws=max(2, given.searches.draws),
                top=given.top,
                seed=given.searches.seed,
                level=LEVEL,
                quiet=given.searches.quiet,
            )
            (row,) = found.table.to_pylist()
            each[kind.name, step] = found.each[0]
            rows.append(
                {
                    "kind": kind.name,
                    "step": step,
                    "metric": way.metric,
                    "combine": way.combine,
                    "references": count,
                    "top": given.top,
                    "purity": row["purity"],
                    "lower": row["lower"],
                    "upper": row["upper"],
                    "base_rate": found.base.value,
                    "lift": row["lift"],
                    "lift_lower": row["lower"] / found.base.value,
                    "lift_upper": row["upper"] / found.base.value,
                }
            )
    draft.table(
        "steps",
        rows,
        [
            column("kind", "class"),
            column("step", "step"),
            column("references", "references", "count"),
            column("purity", f"purity of nearest {given.top}", "share", ends=""),
            column("base_rate", "base rate", "share"),
            column("lift", "lift", "lift", ends="lift"),
        ],
        f"Mean over {max(2, given.searches.draws)} draws of references; intervals are Student's t "
        "over the draws",
    )
    draft.figure(
        "steps",
        ladder(rows),
        f"Purity of the nearest {given.top}, step by step; the dashed line is the base rate.",
        alt="One panel a class; dots with intervals, from pixels to twenty references",
    )
    _discuss_several(draft, each, given)


def _steps(given: Given) -> list[tuple[str, Way, int]]:
    recipe, default = given.recipe, given.default
    scaled = replace(recipe, metric="standardized")
    steps = [("pixels, 1 reference", given.pixels, 1)] if given.pixels is not None else []
    steps += [("paper's way, 1", recipe, 1), ("paper's way, 5", recipe, 5)]
    steps += [("standardised, 1", scaled, 1)]
    steps += [(f"crops and orbit, {n}", default, n) for n in _COUNTS]
    return [(name, way, count) for name, way, count in steps if way is not None]


_CHANGES = (
    ("five prototypes in place of one", "paper's way, 5", "paper's way, 1"),
    ("standardised features", "standardised, 1", "paper's way, 1"),
    ("crops and an average over turns", "crops and orbit, 1", "standardised, 1"),
    ("five references on top of that", "crops and orbit, 5", "crops and orbit, 1"),
    ("twenty in place of five", "crops and orbit, 20", "crops and orbit, 5"),
)


def _discuss_several(draft: Draft, each: dict[tuple[str, str], np.ndarray], given: Given) -> None:
    """What every step changes, draw by draw: all steps were given the same draws."""
    rows = [
        {
            "change": name,
            "kind": kind.name,
            **spread(each[kind.name, one] - each[kind.name, other], given.searches.seed).named(
                "points"
            ),
        }
        for name, one, other in _CHANGES
        for kind in given.kinds
        if (kind.name, one) in each and (kind.name, other) in each
    ]
    draft.table(
        "changes",
        rows,
        [
            column("change", "what changes"),
            column("kind", "class"),
            column("points", "points of purity", "points", ends="points"),
        ],
        "Change of purity from step to step, mean over the same draws; bootstrap intervals over "
        "the draws",
    )
    said = []
    for name, _, _ in _CHANGES:
        own = [row for row in rows if row["change"] == name]
        up = [row["kind"] for row in own if row["points_lower"] > 0]
        down = [row["kind"] for row in own if row["points_upper"] < 0]
        told = ", ".join([f"more for {' and '.join(up)}"] * bool(up))
        told += ", " * bool(up and down) + ", ".join(
            [f"less for {' and '.join(down)}"] * bool(down)
        )
        said.append(f"{name}: {told or 'no change that can be told'}")
    tuned = (
        " The settings of the default were chosen on these very galaxies: its lead here is an "
        "upper bound."
    )
    draft.say(
        "Interval and all, " + "; ".join(said) + ". The draws share one set: the intervals say how "
        "much a change hangs on the references, not how it would be on another survey."
        + (tuned if given.survey.galaxy_zoo else ""),
        role="differences",
    )
