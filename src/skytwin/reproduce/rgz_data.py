"""What was used in place of the paper's data and encoders."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from skytwin.answers.intervals import Proportion
from skytwin.images.groups import shared_places
from skytwin.reproduce import rgz_paper as paper
from skytwin.reproduce.content import Draft, Written, column
from skytwin.reproduce.rgz_inputs import LEVEL, Given

__all__ = ["data"]

Earlier = Mapping[str, Written]
_EXCLUDE = 5.0  # arcsec


def data(draft: Draft, given: Given, _: Earlier) -> None:
    """Sets, their classes and splits, and encoders."""
    draft.say(
        "The paper trains a VDVAE, SimCLR, BYOL and SimSiam on about 100 000 images of Radio "
        "Galaxy Zoo DR1 without labels, and reads FR classes from their vectors on MiraBest "
        "Confident (729 train, 104 test) and FR-DEEP NVSS (550, 50).",
        role="paper",
    )
    draft.table(
        "sets",
        _sets(given),
        [
            column("set", "set"),
            column("objects", "objects", "count"),
            column("paper", "in the paper", "count"),
            column("train", "train", "count"),
            column("test", "test", "count"),
            column("frii", "share of FRII", "share", ends="frii"),
            column("frame", "frame"),
            column("why", "how it came to be chosen"),
        ],
        "The sets. Labelled ones: the rows that count, and the sides of their split column.",
    )
    draft.table(
        "encoders",
        _encoders(given),
        [
            column("encoder", "encoder"),
            column("spec", "asked for as"),
            column("images", "learnt from, images", "count"),
            column("input", "sees"),
            column("dim", "numbers", "count"),
            column("orbit", "averaged over"),
            column("counterpart", "the paper's"),
        ],
        "The encoders at hand, and which of the paper's they stand beside",
    )
    shared = _shared(given)
    draft.table("shared", [shared], [], show=False)
    methods = {each.method for each in given.coded} - {None}
    absent = [name for key, name in paper.METHODS.items() if key not in methods]
    if given.lacking:
        draft.say(f"Lacking: {given.lacking}.", role="note")
    simulated = [each.title for each in given.labelled if each.simulated]
    if simulated:
        draft.say(
            f"Labelled sets are simulated ({'; '.join(simulated)}): they show that every step runs "
            "and what it reports. What the paper measured on the sky they can neither confirm nor "
            "refute.",
            role="note",
        )
    said = []
    if given.unlabelled.simulated:
        said.append(
            "The unlabelled set is simulated: its classes are drawn cleaner than the sky's, and "
            "sections that use it say what the method does, not what RGZ holds."
        )
    if absent:
        said.append(
            f"No {', '.join(absent)} is at hand; train one with `skytwin train CUTOUTS --recipe "
            f"rgz-{'vdvae' if 'VDVAE' in absent else absent[0].lower()} --out ENCODER` and give "
            "it with --encoder ENCODER."
        )
    said.append(
        f"After the table of classifiers the sections use one encoder, {given.main.title}"
        + ("." if given.main.method == "vdvae" else "; the paper's main one is its VDVAE.")
    )
    if shared["known"] and not shared["count"]:
        said.append("None of the unlabelled set lies within 5 arcsec of a MiraBest source.")
    elif shared["known"]:
        said.append("Of the unlabelled set {shared} lie within 5 arcsec of a MiraBest source; ")
        said[-1] += (
            "search and density leave them out, while PCA has seen their pixels (not their labels)."
        )
    else:
        said.append("Objects that the sets share are not known: one has no positions.")
    if any(each.cutouts.positions is None for each in given.labelled):
        said.append(
            "A set without positions may hold an object twice, on both sides of its split; "
            "`skytwin audit --leaks` looks for such pairs by their pixels."
        )
    draft.say(
        " ".join(said),
        role="differences",
        **({"shared": draft.at("shared", "count")} if shared["count"] else {}),
    )


def _sets(given: Given) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for each in given.labelled:
        theirs = paper.SETS[each.key]
        classes = each.cutouts.catalog["fr"].take(each.rows).to_pylist()
        share = Proportion.of(classes.count("FRII"), len(classes), LEVEL)
        train, test = each.sides
        rows.append(
            {
                "set": each.title,
                "objects": len(each.rows),
                "paper": theirs.train + theirs.test,
                "train": train if each.split else None,
                "test": test if each.split else None,
                "frii": share.value,
                "frii_lower": share.lower,
                "frii_upper": share.upper,
                "frame": _frame(each.cutouts),
                "why": each.why,
                "where": each.where,
            }
        )
    free = given.unlabelled
    rows.append(
        {
            "set": f"unlabelled: {free.title}",
            "objects": len(free.cutouts),
            "paper": paper.UNLABELLED,
            "frame": _frame(free.cutouts),
            "why": free.why,
        }
    )
    return rows


def _frame(cutouts: Any) -> str:
    height, width = cutouts.shape[2:]
    scale = cutouts.pixel_scale
    return f"{width} x {height} pixels" + (f' of {scale:.3g}"' if scale else "")


def _encoders(given: Given) -> list[dict[str, Any]]:
    rows = []
    for each in given.coded:
        found = each.embeddings["mirabest"]
        told = found.manifest.recipe["encoder"] if found.manifest else {}
        prepare, made_by = told.get("prepare", {}), told.get("made_by", {})
        images = made_by.get("images")
        if each.spec.startswith("pca:") and "unlabelled" in each.embeddings:
            images = len(given.unlabelled.cutouts)
        rows.append(
            {
                "encoder": each.title,
                "spec": each.spec,
                "images": images,
                "input": f"central {prepare.get('crop', '?')} as {prepare.get('size', '?')} pixels",
                "dim": found.dim,
                "orbit": "8 flips and turns" if each.orbit == "d4" else "nothing",
                "counterpart": paper.METHODS.get(each.method or "", "none"),
            }
        )
    return rows


def _shared(given: Given) -> dict[str, Any]:
    first, free = given.of("mirabest").cutouts, given.unlabelled.cutouts
    if first.positions is None or free.positions is None:
        return {"known": False, "count": None}
    found = shared_places(first.positions, free.positions, _EXCLUDE, len(free))
    return {"known": True, "count": int(np.sum(found))}
