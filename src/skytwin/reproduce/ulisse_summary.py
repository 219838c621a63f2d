"""The paper's numbers and ours, side by side: what carries over."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from skytwin.answers.intervals import Proportion
from skytwin.reproduce import ulisse_paper as paper
from skytwin.reproduce.content import Draft, Written, column
from skytwin.reproduce.ulisse_carry import FIXED
from skytwin.reproduce.ulisse_searches import LEVEL, Given

__all__ = ["summary"]

Earlier = Mapping[str, Written]
_ENOUGH = 12  # prototypes


def summary(draft: Draft, given: Given, earlier: Earlier) -> None:
    """One row per number of the paper that has a counterpart."""
    rows = [
        *_lists(given, earlier["purity"]),
        *_compositions(earlier["composition"]),
        *_carry(given, earlier["carry"]),
        *_bands(earlier["bands"]),
    ]
    draft.table(
        "compared",
        rows,
        [
            column("quantity", "quantity"),
            column("paper", "paper", "number", ends="paper"),
            column("paper_base", "base rate", "share"),
            column("what", "here, for"),
            column("here", "here", "number", ends="here"),
            column("here_base", "base rate", "share"),
            column("verdict", "intervals"),
        ],
        "The paper's numbers and ours. Lists are compared by lift, purity over base rate. The "
        "paper's brackets are ranges over its prototypes where the row says so, else 95 % "
        "intervals of its counts, computed here. Ours are 95 % intervals: of means over "
        "prototypes (bootstrap), and of the share of prototypes that lose (Jeffreys).",
    )
    counts = {
        word: sum(row["verdict"] == word for row in rows)
        for word in ("meet", "ours lower", "ours higher")
    }
    agn = (
        "No label here is the paper's, so this is no check of its purity of AGN: it says whether "
        "the method behaves alike on other classes. "
        if given.survey.galaxy_zoo or given.survey.simulated
        else "Whether the classes given are the paper's, their owner knows. "
    )
    draft.say(
        agn
        + f"Of {len(rows)} comparisons the intervals meet in {counts['meet']}; ours are lower in "
        f"{counts['ours lower']} and higher in {counts['ours higher']}. The sections below say "
        "why, each at its end."
    )
    if given.searches.draws < _ENOUGH:
        draft.say(
            f"With {given.searches.draws} prototypes a class the bootstrap intervals are too "
            f"narrow; give {_ENOUGH} or more with --draws.",
            role="note",
        )
    above = [
        row
        for row in earlier["purity"].rows("purity")
        if row["way"] == given.recipe.name and row["top"] == given.top
    ]
    found = [row["kind"] for row in above if row["lift_lower"] > 1]
    lost = [row["kind"] for row in above if row["lift_lower"] <= 1]
    draft.say(
        "The paper's claim in a sentence, that one prototype finds more of its kind than chance, "
        f"holds here for {', '.join(found) or 'no class'}"
        + (f" and is not shown for {', '.join(lost)}." if lost else ".")
    )


def _verdict(theirs: tuple[float, float], ours: tuple[float, float]) -> str:
    if ours[1] < theirs[0]:
        return "ours lower"
    return "ours higher" if ours[0] > theirs[1] else "meet"


def _row(
    quantity: str,
    theirs: tuple[float | None, float, float],
    paper_base: float | None,
    what: str,
    ours: tuple[float, float, float],
    here_base: float | None,
) -> dict[str, Any]:
    return {
        "quantity": quantity,
        "paper": theirs[0],
        "paper_lower": theirs[1],
        "paper_upper": theirs[2],
        "paper_base": paper_base,
        "what": what,
        "here": ours[0],
        "here_lower": ours[1],
        "here_upper": ours[2],
        "here_base": here_base,
        "verdict": _verdict(theirs[1:], ours[1:]),
    }


def _lists(given: Given, purity: Written) -> list[dict[str, Any]]:
    low, high = (bound / paper.RANGE_BASE for bound in paper.RANGE)
    return [
        _row(
            "lift of a prototype's list (range over prototypes)",
            (None, low, high),
            paper.RANGE_BASE,
            f"{row['kind']}, nearest {row['top']}",
            (row["lift"], row["lift_lower"], row["lift_upper"]),
            row["base_rate"],
        )
        for row in purity.rows("purity")
        if row["way"] == given.recipe.name and row["top"] == given.top
    ]


def _compositions(composition: Written) -> list[dict[str, Any]]:
    rows = composition.rows("own")
    least = min((row["top"] for row in rows), default=0)
    near = [share / paper.AGN_NEAR_BASE for share in paper.AGN_NEAR]
    mean = sum(near) / len(near)
    return [
        _row(
            "lift of the nearest 1000, 1 % here (AGN, z < 0.2; mean and range of five)",
            (mean, min(near), max(near)),
            paper.AGN_NEAR_BASE,
            f"{row['kind']}, nearest {row['top']}",
            (row["lift"], row["lift_lower"], row["lift_upper"]),
            row["base_rate"],
        )
        for row in rows
        if row["top"] == least
    ]


def _carry(given: Given, carried: Written) -> list[dict[str, Any]]:
    one = paper.OBJECTS[0]
    # The difference of two independent proportions, by the square and add rule (Newcombe 1998).
    p, q = one.there, one.here
    low = p.value - q.value - ((p.value - p.lower) ** 2 + (q.upper - q.value) ** 2) ** 0.5
    high = p.value - q.value + ((p.upper - p.value) ** 2 + (q.value - q.lower) ** 2) ** 0.5
    return [
        _row(
            "purity carried over, second half less first (Object 1)",
            (p.value - q.value, low, high),
            None,
            f"{row['kind']}, {FIXED}",
            (row["change"], row["change_lower"], row["change_upper"]),
            row["base_there"],
        )
        for row in carried.rows("carried")
        if row["way"] == given.recipe.name and row["rule"] == FIXED
    ]


def _bands(bands: Written) -> list[dict[str, Any]]:
    theirs = Proportion.of(paper.BANDS_LOSE, paper.BANDS_OF, LEVEL)
    return [
        _row(
            "share of prototypes that lose with one band",
            (theirs.value, theirs.lower, theirs.upper),
            None,
            f"{row['kind']} ({row['set']})",
            (row["worse_share"], row["worse_lower"], row["worse_upper"]),
            row["base_rate"],
        )
        for row in bands.rows("bands")
    ]
