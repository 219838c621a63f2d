"""Purity against distance, and thresholds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from skytwin.answers.figures_curves import purity_curve
from skytwin.reproduce import ulisse_paper as paper
from skytwin.reproduce.content import Draft, Written, column
from skytwin.reproduce.ulisse_data import BASE, LIFT, interval
from skytwin.reproduce.ulisse_figures import curves
from skytwin.reproduce.ulisse_searches import LEVEL, Given, Way, spread

__all__ = ["purity", "thresholds"]

Earlier = Mapping[str, Written]
_SHARES = 40  # points of a curve


def _tops(given: Given) -> list[int]:
    """Lengths of lists: short, as elsewhere in the report, a hundredth, and the paper's 1000."""
    size = len(given.recipe.embeddings)
    tops = {25, given.top, max(5, round(0.01 * size)), paper.TOP}
    return sorted(top for top in tops if top <= size // 3)


def purity(draft: Draft, given: Given, _: Earlier) -> None:
    """Purity within every distance, averaged over prototypes."""
    draft.say(
        "The paper's central figure: the share of AGN among all objects within a distance, which "
        "falls to the base rate as the distance takes in the whole set. Over its prototypes, "
        f"lists are {100 * paper.RANGE[0]:.0f} to {100 * paper.RANGE[1]:.0f} % pure at a base "
        f"rate of {100 * paper.RANGE_BASE:.0f} %.",
        role="paper",
    )
    ways = [way for way in (given.recipe, given.default, given.pixels) if way is not None]
    size = len(given.recipe.embeddings)
    counts = np.unique(np.geomspace(3, size - 8, _SHARES).astype(int))
    lines: dict[str, np.ndarray] = {}
    table, points = [], []
    for kind in given.kinds:
        for way in ways:
            found = given.searches.ranked(way, kind)
            base = found[0].base.value
            each = np.array([one.purity_at(counts) for one in found])
            if way is given.recipe:
                lines[kind.name] = each
            for at, count in enumerate(counts):
                points.append(
                    {
                        "kind": kind.name,
                        "way": way.name,
                        "count": int(count),
                        "share": count / size,
                        **spread(each[:, at], given.searches.seed).named("purity"),
                        "base_rate": base,
                    }
                )
            for top in _tops(given):
                values = [one.within(top).value for one in found]
                table.append(_purity_row(kind.name, way, top, values, base, given))
    draft.table("curves", points, [], show=False)
    draft.table(
        "purity",
        table,
        [
            column("kind", "class"),
            column("searched", "searched"),
            column("top", "nearest", "count"),
            column("purity", "purity", "share", ends="purity"),
            column("range", "range over prototypes"),
            BASE,
            LIFT,
            column("best_lift", "possible", "lift"),
        ],
        "Mean purity of the nearest, over prototypes; intervals are bootstrap intervals over the "
        f"prototypes ({LEVEL:.0%}). Possible: the lift of a list that holds every object of the "
        "class that fits in it.",
    )
    titles = {way.name: way.title for way in ways}
    draft.figure(
        "purity",
        curves(points, titles, lines),
        "Purity against the share of the set taken in. Bold: mean over prototypes with its "
        f"interval. Thin: single prototypes, {given.recipe.title}.",
        alt="One panel a class; purity falls from the nearest objects to the base rate",
    )
    _discuss_purity(draft, given, table)


def _purity_row(
    kind: str, way: Way, top: int, values: list[float], base: float, given: Given
) -> dict[str, Any]:
    found = spread(values, given.searches.seed)
    positives = base * len(way.embeddings)
    return {
        "kind": kind,
        "way": way.name,
        "searched": way.title,
        "top": top,
        "prototypes": found.count,
        **found.named("purity"),
        "range": f"{100 * found.least:.0f} to {100 * found.most:.0f} %",
        "base_rate": base,
        "lift": found.value / base,
        "lift_lower": found.lower / base,
        "lift_upper": found.upper / base,
        "lift_least": found.least / base,
        "lift_most": found.most / base,
        "best_lift": min(1.0, positives / top) / base,
    }


def _discuss_purity(draft: Draft, given: Given, table: list[dict[str, Any]]) -> None:
    top = given.top
    own = [r for r in table if r["way"] == given.recipe.name and r["top"] == top]
    above = [r["kind"] for r in own if r["lift_lower"] > 1]
    low, high = (bound / paper.RANGE_BASE for bound in paper.RANGE)
    said = [
        f"Of {len(own)} classes, {len(above)} ({', '.join(above) or 'none'}) are above their base "
        f"rate in the mean of the {top} nearest of one prototype, the whole interval above it. "
        f"The paper's lists have lifts of {low:.2g} to {high:.2g}, each within a threshold of its "
        "own; here the length of the list is fixed beforehand, which can only be lower than the "
        "highest cut. Lifts of single prototypes: "
    ]
    numbers = {}
    for at, row in enumerate(own):
        where = {"kind": row["kind"], "way": row["way"], "top": top}
        numbers[f"a{at}"] = draft.at("purity", "lift", **where)
        said.append(f"{row['kind']} {{a{at}}} in the mean, from {{b{at}}} to {{c{at}}}; ")
        numbers[f"b{at}"] = draft.at("purity", "lift_least", style="lift", **where)
        numbers[f"c{at}"] = draft.at("purity", "lift_most", style="lift", **where)
    below = sum(row["lift_least"] < 1 for row in own)
    said.append(
        f"in {below} of {len(own)} classes a prototype gives a list below the base rate: one "
        "prototype is a lottery, which a few shown prototypes cannot tell. "
    )
    if given.pixels is not None:
        floor = {r["kind"]: r for r in table if r["way"] == "pixels" and r["top"] == top}
        beaten = [r["kind"] for r in own if r["purity_lower"] > floor[r["kind"]]["purity_upper"]]
        said.append(
            "Principal components of the pixels, searched alike, are clearly beaten by the "
            f"network in {len(beaten)} of {len(own)} classes ({', '.join(beaten) or 'none'}), "
            "intervals apart: elsewhere the pixels alone may account for what is found. "
        )
    default = {r["kind"]: r for r in table if r["way"] == given.default.name and r["top"] == top}
    gained = [r["kind"] for r in own if default[r["kind"]]["purity_lower"] > r["purity_upper"]]
    said.append(
        f"The default of this package is above the paper's way, intervals apart, in {len(gained)} "
        f"of {len(own)} classes ({', '.join(gained) or 'none'})."
    )
    draft.say("".join(said), role="differences", **numbers)


def thresholds(draft: Draft, given: Given, _: Earlier) -> None:
    """Two prototypes a class, their thresholds and lists, beside the paper's two."""
    draft.say(
        "The paper gives two prototypes a threshold each, T, and counts AGN within it. Distances "
        "of another network are other numbers, so thresholds are set here by what they take in: "
        "as many objects as the paper's, and as large a share of the set.",
        role="paper",
    )
    rows = [
        {
            "object": one.name,
            "set": "paper, AGN",
            "rule": "as published",
            "threshold": one.threshold,
            "count": one.count,
            **interval(one.here, "purity", paper.BASE),
        }
        for one in paper.OBJECTS
    ]
    size = len(given.recipe.embeddings)
    for draw, one in enumerate(paper.OBJECTS):
        for kind in given.kinds:
            found = given.searches.ranked(given.recipe, kind)[draw]
            share = max(2, round(one.count / paper.SIZE * size))
            for rule, count in (("as many objects", one.count), ("as large a share", share)):
                if count > size // 3:
                    continue
                within = found.within(count)
                rows.append(
                    {
                        "object": f"prototype {draw + 1}",
                        "set": kind.name,
                        "rule": rule,
                        "threshold": found.radius(count),
                        "count": within.total,
                        **interval(within, "purity", found.base.value),
                    }
                )
    draft.table(
        "thresholds",
        rows,
        [
            column("set", "class"),
            column("object", "prototype"),
            column("rule", "threshold takes in"),
            column("threshold", "T", "number"),
            column("count", "objects", "count"),
            column("purity", "purity", "share", ends="purity"),
            BASE,
            LIFT,
        ],
        "Lists within a threshold; Jeffreys intervals (of the paper's too: computed here from "
        "its counts)",
    )
    for number, kind in enumerate(given.kinds):
        curve = given.searches.curve(given.recipe, kind, 0)
        cut = curve.at_count(min(paper.OBJECTS[0].count, size // 3))
        draft.figure(
            f"curve-{number + 1}",
            purity_curve(curve, threshold=cut),
            f"{kind.name}, prototype 1, {given.recipe.title}: purity within every distance, as in "
            "the paper's figure; the dot is the threshold of the table.",
            alt=f"Purity against distance for one {kind.name}, falling to the base rate",
        )
    theirs, ours = rows[: len(paper.OBJECTS)], rows[len(paper.OBJECTS) :]
    by_name = dict(zip(("prototype 1", "prototype 2"), theirs, strict=True))
    alike = [
        r for r in ours
        if r["lift_lower"] <= by_name[r["object"]]["lift_upper"]
        and r["lift_upper"] >= by_name[r["object"]]["lift_lower"]
    ]  # fmt: skip
    lower = [r for r in ours if r["lift_upper"] < by_name[r["object"]]["lift_lower"]]
    draft.say(
        f"The paper's lists have lifts of {{one}} and {{two}}. Of {len(ours)} lists here, "
        f"{len(alike)} have an interval of the lift that meets that of the paper's, {len(lower)} "
        f"lie below and {len(ours) - len(alike) - len(lower)} above. Three things are not alike: "
        "the class; that the paper's prototypes were chosen by its authors, and these are the "
        "first two drawn; and that a list of the same share of this set is short, so that its "
        "interval is wide and meets almost anything.",
        role="differences",
        one=draft.at("thresholds", "lift", object="Object 1"),
        two=draft.at("thresholds", "lift", object="Object 2"),
    )
