"""Flows of the unlabelled set as an encoder sees it, and how likely they find every set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from skytwin.answers.outliers import Outliers, outliers
from skytwin.answers.outliers_sets import ENSEMBLE
from skytwin.answers.outliers_settings import OutlierSettings
from skytwin.embeddings.table import Embeddings
from skytwin.reproduce.content import Draft, column
from skytwin.reproduce.places import kept_steps
from skytwin.reproduce.rgz_encoders import like
from skytwin.reproduce.rgz_figures import densities
from skytwin.reproduce.rgz_inputs import LEVEL, Coded, Given

__all__ = ["flows", "show_likelihoods"]

_FOLDS = 3


def flows(given: Given, coded: Coded, generated: Mapping[str, Embeddings]) -> Outliers:
    """MiraBest, FR-DEEP and generated images under flows of the unlabelled set.

    Parameters
    ----------
    given : Given
    coded : Coded
        With vectors of all sets.
    generated : mapping of str to Embeddings
        Further sets as the same encoder sees them.
    """
    first, other = given.of("mirabest"), given.of("frdeep")
    free, own = coded.embeddings["unlabelled"], coded.embeddings["mirabest"]
    against = {other.title: like(coded.embeddings["frdeep"], own), **generated}
    settings = OutlierSettings(
        methods=("flow",), flow=given.asked.flow, folds=_FOLDS, where=first.where,
        seed=given.asked.seed, level=LEVEL,
    )  # fmt: skip
    parents = {name: each.as_parent() for name, each in
               {"unlabelled": free, "own": own, **against}.items()}  # fmt: skip
    with kept_steps(given.home, "flows", settings.as_dict(), parents) as steps:
        found = outliers(
            own, settings, reference=like(free, own), against=against, label="fr",
            steps=steps, quiet=given.asked.quiet,
        )  # fmt: skip
    # Ordered by the likelihood itself: percentiles of several folds may disagree.
    scores = {**found.scored.scores, ENSEMBLE: found.scored.scores["flow"]}
    return replace(found, scored=replace(found.scored, scores=scores))


def show_likelihoods(draft: Draft, coded: Coded, title: str, found: Outliers, name: str) -> None:
    """A table and a figure of every set's log-likelihood, and which flow it was.

    Parameters
    ----------
    draft : Draft
    coded : Coded
        Whose vectors they are.
    title : str
        Of MiraBest.
    found : Outliers
        What `flows` found of them.
    name : str
        Of the table and of the figure.
    """
    scored = {"unlabelled": found.reference, title: found.scored, **found.against}
    sets = {key: -one.scores["flow"] for key, one in scored.items()}
    checks = [check.auc for check in found.checks if check.method == "flow"]
    rows: list[dict[str, Any]] = [
        {
            "set": key,
            "encoder": coded.title,
            "objects": len(value),
            **{f"q{q}": float(np.quantile(value, q / 100)) for q in (1, 25, 50, 75)},
        }
        for key, value in sets.items()
    ]
    for row, auc in zip(rows[1:], checks, strict=True):
        row |= {"auc": auc.value, "auc_lower": auc.lower, "auc_upper": auc.upper}
    draft.table(
        name,
        rows,
        [
            column("set", "set"),
            column("objects", "objects", "count"),
            column("q1", "1 %", "number"),
            column("q25", "25 %", "number"),
            column("q50", "median", "number"),
            column("q75", "75 %", "number"),
            column("auc", "less likely than the unlabelled", "number", ends="auc"),
        ],
        f"Log-likelihood (nats) of every set as {coded.title} sees it, each object under flows "
        "that have not seen it. Last column: chance that one of the set is less likely than one of "
        "the unlabelled; 0.5 is chance, bootstrap of the objects.",
    )
    flow = found.flow
    if flow is not None:
        shape = f"{flow.settings.blocks} blocks of {' x '.join(map(str, flow.settings.hidden))}"
        draft.say(
            f"The flow: {shape} on {flow.coordinates.dim} principal components "
            f"({flow.coordinates.share:.0%} of the variance) of {coded.title}, {_FOLDS} folds. The "
            "paper's has 48 blocks of 2 x 512 on all 256 numbers (--flow paper; hours).",
            role="note",
        )
    draft.figure(
        name,
        densities(sets),
        f"Log-likelihood of each set under the flow of the unlabelled one, {coded.title}.",
        alt="Outlines of histograms, one a set, the least likely on the left",
    )
