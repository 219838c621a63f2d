"""What the nearest are, and what one band alone costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from skytwin.answers.intervals import Proportion
from skytwin.images.where import positive_rows
from skytwin.reproduce import ulisse_paper as paper
from skytwin.reproduce.content import Draft, Written, column
from skytwin.reproduce.ulisse_figures import bands as draw_bands
from skytwin.reproduce.ulisse_figures import shares
from skytwin.reproduce.ulisse_inputs import Kind
from skytwin.reproduce.ulisse_searches import LEVEL, Given, Searches, Way, labels, spread, top_of

__all__ = ["bands", "composition"]

Earlier = Mapping[str, Written]
_MOST_CLASSES = 12
_MORE_THAN = 1.5


def composition(draft: Draft, given: Given, _: Earlier) -> None:
    """What the nearest 1000, and the nearest hundredth, are."""
    draft.say(
        f"Of the {paper.TOP} nearest to two prototypes in a set of quasars, stars and galaxies, "
        f"{100 * paper.QSO[0]:.1f} and {100 * paper.QSO[1]:.1f} % are QSO, at a base rate of "
        f"{100 * paper.QSO_BASE:.1f} %. Of the {paper.TOP} nearest to five prototypes, "
        f"{', '.join(f'{100 * share:.1f}' for share in paper.AGN_NEAR)} % are AGN of z < 0.2, at "
        f"{100 * paper.AGN_NEAR_BASE:.2f} %.",
        role="paper",
    )
    of, emb = given.survey.column, given.recipe.embeddings
    if of is None:
        draft.say("Not done: no column holds the classes; name it with --column.", role="note")
        return
    label = labels(emb, of)
    known = np.array([value is not None for value in label])
    names, totals = np.unique(label[known].astype(str), return_counts=True)
    size = len(emb)
    tops = sorted(
        {
            max(5, round(paper.TOP / paper.SIZE * size)),
            *([paper.TOP] if size >= 2 * paper.TOP else []),
        }
    )
    if len(names) > _MOST_CLASSES:
        draft.say(f"Column {of} has {len(names)} values; the most frequent are shown.", role="note")
        keep = np.argsort(-totals)[:_MOST_CLASSES]
        names, totals = names[keep], totals[keep]
    rows, own = [], []
    for kind in given.kinds:
        found = given.searches.ranked(given.recipe, kind)
        inside = set(label[positive_rows(emb.catalog, (kind.condition,))[0]])
        for top in tops:
            heads = [
                [value for value in label[one.rows] if value is not None][:top] for one in found
            ]
            for name, total in zip(names, totals, strict=True):
                share = spread(
                    [np.mean([v == name for v in head]) for head in heads], given.searches.seed
                )
                base = float(total / known.sum())
                rows.append(
                    {
                        "kind": kind.name,
                        "top": top,
                        "class": str(name),
                        "own": str(name) in inside,
                        **share.named("share"),
                        "base_rate": base,
                        "lift": share.value / base,
                    }
                )
            values = [one.within(top).value for one in found]
            mean = spread(values, given.searches.seed)
            base = found[0].base.value
            own.append(
                {
                    "kind": kind.name,
                    "top": top,
                    "of_set": top / size,
                    **mean.named("share"),
                    "base_rate": base,
                    "lift": mean.value / base,
                    "lift_lower": mean.lower / base,
                    "lift_upper": mean.upper / base,
                    "best_lift": min(1.0, base * size / top) / base,
                }
            )
    draft.table("classes", rows, [], show=False)
    draft.table(
        "own",
        own,
        [
            column("kind", "prototypes"),
            column("top", "nearest", "count"),
            column("of_set", "of the set", "share"),
            column("share", "of their class", "share", ends="share"),
            column("base_rate", "base rate", "share"),
            column("lift", "lift", "lift", ends="lift"),
            column("best_lift", "possible", "lift"),
        ],
        f"Share of the prototype's own class, {given.recipe.title}; mean over prototypes, "
        "bootstrap intervals",
    )
    top = tops[0]
    draft.figure(
        "composition",
        shares([row for row in rows if row["top"] == top], top),
        f"What the nearest {top} are (the share of the set that the paper's {paper.TOP} of "
        f"{paper.SIZE} are), mean over prototypes, beside the base rates. All classes and lengths "
        "are in the table classes.parquet.",
        alt="Share of every class among the nearest beside its base rate, one panel a class",
    )
    _discuss_composition(draft, own, rows, top)


def _discuss_composition(
    draft: Draft, own: list[dict[str, Any]], rows: list[dict[str, Any]], top: int
) -> None:
    qso = [share / paper.QSO_BASE for share in paper.QSO]
    near = [share / paper.AGN_NEAR_BASE for share in paper.AGN_NEAR]
    first = [row for row in own if row["top"] == top]
    numbers = {
        f"l{i}": draft.at("own", "lift", kind=r["kind"], top=top) for i, r in enumerate(first)
    }
    said = (
        f"In lifts the paper's lists are at {qso[0]:.1f} and {qso[1]:.1f} for QSO and "
        f"{min(near):.1f} to {max(near):.1f} for AGN of z < 0.2; ours, at the same share of the "
        "set, at " + ", ".join(f"{r['kind']} {{l{i}}}" for i, r in enumerate(first)) + ". "
    )
    said += (
        "That share, a hundredth, is 1000 of the paper's 100 000; how large its set with QSO is, "
        "this report does not know. "
    )
    full = [row for row in own if row["top"] == paper.TOP]
    if full and top != paper.TOP:
        numbers["of"] = draft.at("own", "of_set", kind=full[0]["kind"], top=paper.TOP)
        said += (
            f"The nearest {paper.TOP} are {{of}} of this set, where the paper's are 1 % of "
            "theirs: so long a list cannot be far above its base rate, and its lifts must not be "
            "set beside the paper's. "
        )
    drawn_in = [
        f"{row['class']} near {row['kind']}"
        for row in rows
        if row["top"] == top
        and not row["own"]
        and row["share_lower"] > _MORE_THAN * row["base_rate"]
    ]
    said += (
        f"Other classes come in at more than {_MORE_THAN} times their base rate, interval "
        f"included: {'; '.join(drawn_in)}. This is what the network takes for alike."
        if drawn_in
        else "No other class comes in clearly above its base rate."
    )
    draft.say(said, role="differences", **numbers)


def bands(draft: Draft, given: Given, _: Earlier) -> None:
    """One band alone against three."""
    draft.say(
        "The paper repeats its search on the i band alone: purity falls by up to "
        f"{100 * paper.BANDS_COST:.0f} points in {paper.BANDS_LOSE} of {paper.BANDS_OF} cases, "
        "and by nearly all in one.",
        role="paper",
    )
    rows: list[dict[str, Any]] = []
    if given.alone is not None:
        for kind in given.kinds:
            rows += _one_band("this survey", given.recipe, given.alone, kind, given.searches)
    if given.frames is not None:
        three = replace(given.recipe, name="frames", title="gri", embeddings=given.frames.colour)
        alone = replace(given.recipe, name="frames-i", title="i", embeddings=given.frames.alone)
        for name in ("galaxies", "stars"):
            kind = Kind(name=name, condition=f"source_table={name}")
            rows += _one_band("SDSS frames", three, alone, kind, given.searches)
    if not rows:
        draft.say(
            "Not done: the images have one band, or no band that is known to be i; name the "
            "bands when they are ingested (skytwin ingest --bands).",
            role="note",
        )
        return
    if given.alone is not None and given.survey.cutouts.bands == ("red", "green", "blue"):
        draft.say(
            "In a colour picture of SDSS the red channel is the i band, but not alone: the "
            "stretch that made the picture took the brightness of all three bands. The channel "
            "is given to the network three times."
        )
    if given.frames is not None:
        draft.say(
            f"The FITS frames hold the bands themselves: {len(given.frames.cutouts)} galaxies and "
            "stars, 64 pixels of 0.396 arcsec, drawn for the network by one Lupton stretch from "
            "i, r, g and from i, i, i. Their labels tell galaxies from stars, which is not what "
            "the paper asks, but its bands are."
        )
    draft.table("each", rows, [], show=False)
    draft.table(
        "bands",
        _band_means(rows, given.searches),
        [
            column("set", "set"),
            column("kind", "class"),
            column("top", "nearest", "count"),
            column("three", "three bands", "share", ends="three"),
            column("one", "one band", "share", ends="one"),
            column("base_rate", "base rate", "share"),
            column("change", "points", "points", ends="change"),
            column("worse", "prototypes that lose", "count"),
            column("prototypes", "of", "count"),
            column("worst", "largest loss, points", "points"),
        ],
        f"Purity of the nearest, {given.recipe.title}; mean over prototypes, bootstrap intervals "
        "of pairs",
    )
    draft.figure(
        "bands",
        draw_bands(rows, paper.BANDS_COST),
        "Purity with one band less purity with three, a dot a prototype; the bar is their mean.",
        alt="Dots of gain and loss of purity by class, around zero",
    )
    _discuss_bands(draft)


def _one_band(
    name: str, three: Way, one: Way, kind: Kind, searches: Searches
) -> list[dict[str, Any]]:
    top = top_of(len(three.embeddings))
    few = Searches(
        draws=min(paper.BANDS_OF, searches.draws), seed=searches.seed, quiet=searches.quiet
    )
    rows = []
    for draw, (a, b) in enumerate(zip(few.ranked(three, kind), few.ranked(one, kind), strict=True)):
        before, after = a.within(top).value, b.within(top).value
        rows.append(
            {
                "set": name,
                "kind": kind.name,
                "draw": draw,
                "prototype": a.ids[0],
                "top": top,
                "three": before,
                "one": after,
                "change": after - before,
                "base_rate": a.base.value,
            }
        )
    return rows


def _band_means(rows: list[dict[str, Any]], searches: Searches) -> list[dict[str, Any]]:
    found = []
    for name, kind in dict.fromkeys((r["set"], r["kind"]) for r in rows):
        own = [r for r in rows if (r["set"], r["kind"]) == (name, kind)]
        worse = Proportion.of(sum(r["change"] < 0 for r in own), len(own), LEVEL)
        found.append(
            {
                "set": name,
                "kind": kind,
                "top": own[0]["top"],
                **spread([r["three"] for r in own], searches.seed).named("three"),
                **spread([r["one"] for r in own], searches.seed).named("one"),
                **spread([r["change"] for r in own], searches.seed).named("change"),
                "worse": worse.hits,
                "prototypes": worse.total,
                "worse_share": worse.value,
                "worse_lower": worse.lower,
                "worse_upper": worse.upper,
                "worst": min(r["change"] for r in own),
                "base_rate": own[0]["base_rate"],
            }
        )
    return found


def _discuss_bands(draft: Draft) -> None:
    rows = draft.tables["bands"].to_pylist()
    lose = [f"{r['kind']} ({r['set']})" for r in rows if r["change_upper"] < 0]
    gain = [f"{r['kind']} ({r['set']})" for r in rows if r["change_lower"] > 0]
    theirs = Proportion.of(paper.BANDS_LOSE, paper.BANDS_OF, LEVEL)
    alike = [
        r for r in rows
        if r["worse_lower"] <= theirs.upper and r["worse_upper"] >= theirs.lower
    ]  # fmt: skip
    said = (
        f"One band alone costs purity, interval and all, for {', '.join(lose) or 'no class'}, and "
        f"gains it for {', '.join(gain) or 'none'}. The paper's {paper.BANDS_LOSE} of "
        f"{paper.BANDS_OF} prototypes that lose is {100 * theirs.lower:.0f} to "
        f"{100 * theirs.upper:.0f} % by its Jeffreys interval; the share of ours that lose agrees "
        f"with it, intervals meeting, in {len(alike)} of {len(rows)} rows. "
    )
    if len(alike) < len(rows):
        said += (
            "Where it does not, the class may matter: an active nucleus shows in colours, a "
            "shape needs none. These data cannot tell. "
        )
    idle = [f"{r['kind']} ({r['set']})" for r in rows if r["three_lower"] <= r["base_rate"]]
    if idle:
        said += (
            "With three bands the mean is not above the base rate, interval and all, for "
            f"{', '.join(idle)}: a band can cost little there, since little was gained. "
        )
    draft.say(
        said + "Ten prototypes bound such a share to within some thirty points only.",
        role="differences",
    )
