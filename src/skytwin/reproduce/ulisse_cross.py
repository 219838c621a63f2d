"""Prototypes and thresholds of one survey, taken to another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from skytwin.answers.figures_mosaic import mosaic
from skytwin.answers.intervals import Proportion
from skytwin.answers.search import search
from skytwin.embeddings.neighbours import rank_all
from skytwin.embeddings.table import Embeddings
from skytwin.errors import SkytwinError, UsageError
from skytwin.images.where import positive_rows
from skytwin.reproduce import ulisse_paper as paper
from skytwin.reproduce.content import Draft, Written, column
from skytwin.reproduce.ulisse_figures import selected
from skytwin.reproduce.ulisse_inputs import Kind
from skytwin.reproduce.ulisse_searches import (
    LEVEL,
    Given,
    drawn,
    spread,
)

__all__ = ["cross"]

Earlier = Mapping[str, Written]


def cross(draft: Draft, given: Given, _: Earlier) -> None:
    """Prototypes of one survey, looked for in another."""
    draft.say(
        "The paper takes its two prototypes and thresholds to another survey (the LSST AGN data) "
        f"and finds {paper.CROSS[0]} objects within the one and {paper.CROSS[1]} within the "
        "other: distances do not mean the same there.",
        role="paper",
    )
    other = given.other
    if other is None:
        draft.say(
            "Not done: no second survey is at hand that the encoder can read (same bands). Give "
            "one with --second FOLDER.",
            role="note",
        )
        return
    try:
        labelled = all(positive_rows(other.catalog, (k.condition,))[0].any() for k in given.kinds)
    except UsageError:
        labelled = False
    draft.say(
        f"The other survey: {given.other_title}. Thresholds take in the nearest {given.top} of "
        f"the first survey, {given.recipe.title}. "
        + (
            "It has the same labels."
            if labelled
            else "It has no such labels: purity there cannot be told."
        )
    )
    rows = [row for kind in given.kinds for row in _elsewhere(given, kind, other, labelled)]
    means = [
        _elsewhere_mean([r for r in rows if r["kind"] == k.name], k, given) for k in given.kinds
    ]
    draft.table("each", rows, [], show=False)
    draft.table(
        "selected",
        means,
        [
            column("kind", "class"),
            column("prototypes", "prototypes", "count"),
            column("share_here", "within T, here", "share"),
            column("share_there", "within T, there", "share", ends="share_there"),
            column("median_there", "objects there, median", "number"),
            column("none", "prototypes with none", "count"),
            *(
                [
                    column("there", "purity there", "share", ends="there"),
                    column("base_there", "base rate there", "share"),
                ]
                if labelled
                else []
            ),
        ],
        "Objects of the other survey within the threshold of the first; bootstrap intervals over "
        "prototypes",
    )
    draft.figure(
        "selected",
        selected(rows),
        "Share of each survey within each prototype's threshold. Dashes: where it was set; dots: "
        "where it was carried.",
        alt="One panel a class: dots of the other survey against dashes of the first",
    )
    _drift(draft, given, other)
    folder = given.recipe.embeddings.folder
    ids = drawn(given.recipe.embeddings, given.kinds[0], 1, 1, given.searches.seed)[0]
    if folder is not None:
        matches = search(other, f"{folder}:{ids[0]}", k=25, metric=given.recipe.metric)
        below = "source_table" if "source_table" in other.catalog.column_names else None
        draft.figure(
            "mosaic",
            mosaic(matches, side=5, label=below),
            f"The 25 objects of the other survey nearest to prototype 1 of {given.kinds[0].name}, "
            "whatever their distance.",
            alt="Pictures of the prototype and of the 25 nearest objects of the other survey",
        )
    _discuss_cross(draft, means)


def _elsewhere(given: Given, kind: Kind, other: Embeddings, labelled: bool) -> list[dict[str, Any]]:
    way, searches = given.recipe, given.searches
    rows = []
    for draw, ids in enumerate(drawn(way.embeddings, kind, searches.draws, 1, searches.seed)):
        curve = searches.curve_of(way, kind, ids)
        at = int(np.searchsorted(curve.count, given.top))
        ranked = rank_all(other.vectors, curve.ranker)
        inside = ranked.rows[ranked.distance <= curve.distance[at]]
        row = {
            "kind": kind.name,
            "draw": draw,
            "prototype": ids[0],
            "threshold": float(curve.distance[at]),
            "share_here": float(curve.count[at] / curve.count[-1]),
            "count_there": len(inside),
            "share_there": len(inside) / len(other),
        }
        if labelled:
            hits, known = positive_rows(other.catalog, (kind.condition,))
            share = Proportion.of(int(hits[inside].sum()), int(known[inside].sum()), LEVEL)
            row |= {"there": share.value, "base_there": float(hits[known].mean())}
        rows.append(row)
    return rows


def _elsewhere_mean(rows: list[dict[str, Any]], kind: Kind, given: Given) -> dict[str, Any]:
    seed = given.searches.seed
    counts = [row["count_there"] for row in rows]
    found = {
        "kind": kind.name,
        "prototypes": len(rows),
        "share_here": rows[0]["share_here"],
        **spread([row["share_there"] for row in rows], seed).named("share_there"),
        "median_there": float(np.median(counts)),
        "none": sum(count == 0 for count in counts),
    }
    if "there" in rows[0]:
        values = [row["there"] for row in rows if row["count_there"]]
        found |= {**spread(values, seed).named("there"), "base_there": rows[0]["base_there"]}
    return found


def _drift(draft: Draft, given: Given, other: Embeddings) -> None:
    """How the distances of the two surveys to prototype 1 differ, by class."""
    rows = []
    for kind in given.kinds:
        curve = given.searches.curve(given.recipe, kind, 0)
        try:
            found = curve.carry_to(other, curve.at_count(given.top), seed=given.searches.seed).drift
        except SkytwinError as error:
            draft.say(f"The distances were not compared: {error}.", role="note")
            return
        if found is None:
            continue
        rows.append(
            {
                "kind": kind.name,
                "ks": found.ks.value,
                "ks_lower": found.ks.lower,
                "ks_upper": found.ks.upper,
                "farther": found.auc.value,
                "farther_lower": found.auc.lower,
                "farther_upper": found.auc.upper,
                "median_here": found.median_here,
                "median_there": found.median_there,
                "verdict": {"same": "alike", "differ": "different", "unclear": "cannot be told"}[
                    found.verdict
                ],
            }
        )
    draft.table(
        "drift",
        rows,
        [
            column("kind", "class"),
            column("median_here", "median distance, here", "number"),
            column("median_there", "there", "number"),
            column("ks", "KS distance", "number", ends="ks"),
            column("farther", "chance that one there is farther", "share", ends="farther"),
            column("verdict", "distances are"),
        ],
        "Distances to prototype 1 of each class in the two surveys",
    )


def _discuss_cross(draft: Draft, means: list[dict[str, Any]]) -> None:
    fewer = [r["kind"] for r in means if r["share_there_upper"] < r["share_here"]]
    more = [r["kind"] for r in means if r["share_there_lower"] > r["share_here"]]
    none = sum(r["none"] for r in means)
    total = sum(r["prototypes"] for r in means)
    drift = draft.tables["drift"].to_pylist() if "drift" in draft.tables else []
    moved = sum(row["verdict"] == "different" for row in drift)
    said = (
        f"In {len(fewer)} of {len(means)} classes the threshold takes in clearly less of the "
        f"other survey than of its own, in {len(more)} clearly more; {none} of {total} prototypes "
        "find nothing there. "
    )
    if moved:
        said += (
            f"The distances themselves differ for {moved} of {len(drift)} prototypes: the number "
            "of objects within a threshold says first of all how the pictures were made. This is "
            "what the paper saw, 47 objects for one prototype and none for the other. "
        )
    elif drift:
        said += (
            "The distances of the two surveys are not shown to differ: here a threshold would "
            "carry over, which the paper's did not. "
        )
    draft.say(
        said
        + "A threshold is part of a survey; across surveys take ranks, or set it anew on labels "
        "there (`skytwin purity --carry-to` warns of this).",
        role="differences",
    )
