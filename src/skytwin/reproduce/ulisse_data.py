"""What was used, and the nearest neighbours as pictures."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from typing import Any

from skytwin.answers.figures_mosaic import mosaic
from skytwin.answers.intervals import Proportion
from skytwin.answers.search import search
from skytwin.images.cutouts import REJECTED
from skytwin.images.where import positive_rows
from skytwin.reproduce import ulisse_paper as paper
from skytwin.reproduce.content import Draft, Written, column
from skytwin.reproduce.ulisse_searches import LEVEL, Given

__all__ = ["BASE", "LIFT", "data", "interval", "mosaics"]

Earlier = Mapping[str, Written]
LIFT = column("lift", "lift", "lift", ends="lift")
BASE = column("base_rate", "base rate", "share")


def interval(found: Proportion, name: str, base: float) -> dict[str, Any]:
    """A proportion, its base rate and its lift as columns of a table."""
    return {
        name: found.value,
        f"{name}_lower": found.lower,
        f"{name}_upper": found.upper,
        "base_rate": base,
        "lift": found.value / base,
        "lift_lower": found.lower / base,
        "lift_upper": found.upper / base,
    }


def data(draft: Draft, given: Given, _: Earlier) -> None:
    """What was used in place of the paper's data and network."""
    survey, own = given.survey, given.recipe.embeddings
    prepare = own.manifest.recipe["encoder"]["prepare"] if own.manifest else {}
    height, width = survey.cutouts.shape[2:]
    scale = survey.cutouts.pixel_scale
    rejected = survey.cutouts.folder / REJECTED
    left_out = 0
    if rejected.is_file():
        with rejected.open(encoding="utf-8", newline="") as stream:
            left_out = sum(1 for _ in csv.DictReader(stream))
    labelled = "AGN, in the cleaned MPA-JHU catalogue"
    rows = [
        ("objects searched", f"{paper.SIZE}", str(len(own))),
        ("class looked for", labelled, "; ".join(kind.condition for kind in given.kinds)),
        (
            "frame",
            '64 x 64 pixels of 0.4"',
            f"{width} x {height} pixels" + (f' of {scale:.3g}"' if scale else ", scale not stated"),
        ),
        ("bands", "gri as colour JPEG", ", ".join(survey.cutouts.bands)),
        ("stretch", "that of the JPEG", survey.stretch),
        ("network", "EfficientNet-B0, ImageNet", own.encoder_name),
        ("network's input", "224 pixels", f"{prepare.get('size', '?')} pixels"),
        ("numbers per object", "1280", str(own.dim)),
        ("distance", "Euclidean, one prototype", "the same; beside it, this package's default"),
        ("images left out", "those without a cutout", str(left_out)),
        (
            "prototypes",
            "some, chosen",
            f"{given.searches.draws} a class at most, drawn, seed {given.searches.seed}",
        ),
    ]
    draft.table(
        "setup",
        [{"item": item, "paper": theirs, "here": ours} for item, theirs, ours in rows],
        [
            column("item", ""),
            column("paper", "paper"),
            column("here", "here"),
        ],
        "What the paper used, and what this report uses",
    )
    found: list[dict[str, Any]] = []
    for kind in given.kinds:
        hits, known = positive_rows(own.catalog, (kind.condition,))
        share = Proportion.of(int(hits.sum()), int(known.sum()), LEVEL)
        found.append(
            {
                "kind": kind.name,
                "condition": kind.condition,
                "objects": share.hits,
                "labelled": share.total,
                "base_rate": share.value,
                "lower": share.lower,
                "upper": share.upper,
                "most_lift": 1 / share.value,
            }
        )
    draft.table(
        "classes",
        found,
        [
            column("kind", "class"),
            column("condition", "condition"),
            column("objects", "objects", "count"),
            column("labelled", "of labelled", "count"),
            column("base_rate", "base rate", "share", ends=""),
            column("most_lift", "largest possible lift", "lift"),
        ],
        "The classes looked for. A list of nothing else has the largest possible lift.",
    )
    draft.say(
        f"Searched: {survey.title} ({survey.why}). Network: {own.encoder_name} "
        f"({given.network.why})."
    )
    if survey.galaxy_zoo:
        draft.say(
            "The paper looks for active galactic nuclei. Their labels are not part of these "
            "data, so nothing below is a purity of AGN, and no number below reproduces one. The "
            "labels are the shapes that Galaxy Zoo's volunteers saw. What can be compared is the "
            "method: how far a list is above its base rate, how that falls with distance, "
            "whether a threshold carries over, what a band is worth. The measure is the lift, "
            "purity over base rate.",
            role="note",
        )
    elif survey.simulated:
        draft.say(
            "These are simulated galaxies. They show that every step runs and what it reports; "
            "what the paper measured on the sky they can neither confirm nor refute.",
            role="note",
        )
    said = (
        f"The paper's set is {paper.SIZE / len(own):.3g} times as large as this one. A list of a "
        "given length therefore reaches deeper into this set; lists are compared at the same "
        "length and at the same share of the set. "
    )
    if survey.galaxy_zoo:
        said += (
            "Shape is written all over an image; an active nucleus is a few pixels of it. The "
            "task here may be easier or harder for that reason alone. "
        )
    if own.positions is None:
        said += (
            "These data have no positions: an object that is listed twice counts twice, and a "
            "half may hold one of its entries each. "
        )
    rarest = min(given.kinds, key=lambda k: draft.value("classes", "base_rate", kind=k.name))
    draft.say(
        said + "The paper's base rate is {theirs}; here the rarest class has {rarest}.",
        role="differences",
        theirs=f"{100 * paper.BASE:.3g} %",
        rarest=draft.at("classes", "base_rate", kind=rarest.name),
    )


def mosaics(draft: Draft, given: Given, _: Earlier) -> None:
    """The 25 nearest of one prototype a class, the paper's way and the default."""
    draft.say(
        "The paper shows the 25 nearest neighbours of each prototype. Here is the first "
        "prototype drawn of each class; no other was looked at.",
        role="paper",
    )
    rows, drawings = [], []
    for kind in given.kinds:
        for way in (given.recipe, given.default):
            curve = given.searches.curve(way, kind, 0)
            ids = [str(r.id) for r in curve.references]
            matches = search(
                way.embeddings, ids, k=25, metric=way.metric, combine=way.combine,
                seed=given.searches.seed,
            )  # fmt: skip
            hits, known = positive_rows(
                way.embeddings.catalog.take(matches.rows), (kind.condition,)
            )
            share = Proportion.of(int(hits.sum()), int(known.sum()), LEVEL)
            rows.append(
                {
                    "kind": kind.name,
                    "way": way.title,
                    "prototype": ids[0],
                    "references": len(ids),
                    "hits": share.hits,
                    "of": share.total,
                    **interval(share, "share", curve.base.value),
                }
            )
            drawn = mosaic(matches, side=5, label=given.survey.column, cutouts=given.survey.cutouts)
            drawings.append((kind, way, drawn))
    draft.table(
        "nearest",
        rows,
        [
            column("kind", "class"),
            column("way", "searched"),
            column("prototype", "prototype"),
            column("hits", "of its class", "count"),
            column("share", "share of 25", "share", ends="share"),
            BASE,
            LIFT,
        ],
        "Objects of the prototype's class among the 25 nearest; Jeffreys intervals",
    )
    for number, (kind, way, drawn) in enumerate(drawings):
        draft.figure(
            f"mosaic-{number + 1}",
            drawn,
            f"{kind.name}, {way.title}: {{hits}} of the 25 nearest are of the class.",
            alt=f"The prototype and the 25 objects nearest to it, {kind.name}, {way.title}",
            hits=draft.at("nearest", "hits", kind=kind.name, way=way.title),
        )
    better = sum(b["hits"] > a["hits"] for a, b in zip(rows[::2], rows[1::2], strict=True))
    draft.say(
        "One prototype is one draw: the intervals above are of 25 objects each, and the next "
        f"section averages over prototypes. The default finds more of the class in {better} of "
        f"{len(given.kinds)} classes here. Neighbours of the paper's way that are of another "
        "class mostly share with the prototype what fills the frame: its size, colour and "
        "brightness, and what else is in the frame, as the paper says of its own failures. Look "
        "at the pictures to judge; `skytwin audit` measures it.",
        role="differences",
    )
