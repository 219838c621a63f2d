"""How likely a flow finds each set, what it finds least likely, and what lies near the worst."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from skytwin.answers.figures_mosaic import encoded, mosaic
from skytwin.answers.figures_outliers import neighbour_distances
from skytwin.answers.intervals import Proportion
from skytwin.answers.outliers import Outliers, outliers
from skytwin.answers.outliers_sets import ENSEMBLE
from skytwin.answers.outliers_settings import OutlierSettings
from skytwin.answers.resume import Steps
from skytwin.answers.search import Matches, search
from skytwin.embeddings.table import Embeddings
from skytwin.reproduce.content import Draft, Written, column
from skytwin.reproduce.places import stage
from skytwin.reproduce.rgz_encoders import like
from skytwin.reproduce.rgz_figures import densities, lowest
from skytwin.reproduce.rgz_inputs import LEVEL, Given
from skytwin.reproduce.rgz_samples import sampled
from skytwin.run import Run

__all__ = ["density"]

Earlier = Mapping[str, Written]
_FOLDS, _LOWEST, _SIDE = 3, 25, 5
_LETTERS = 16  # below a picture
_SAMPLES, _OTHERS = 300, 100


def density(draft: Draft, given: Given, _: Earlier) -> None:
    """Log-likelihoods of every set under a flow of the unlabelled one, and its outliers."""
    draft.say(
        "Figure 11 of the paper: log-likelihoods under a masked autoregressive flow of RGZ's "
        "vectors, as histograms of RGZ, MiraBest, FR-DEEP and generated images; the least likely "
        "are shown, and a search for neighbours of the worst finds nothing like it.",
        role="paper",
    )
    if importlib.util.find_spec("zuko") is None:
        draft.say(
            "Not done: a flow needs zuko, which is not installed; install skytwin[density].",
            role="note",
        )
        return
    first, other = given.of("mirabest"), given.of("frdeep")
    free = given.main.embeddings["unlabelled"]
    own = given.main.embeddings["mirabest"]
    against: dict[str, Embeddings] = {other.title: like(given.main.embeddings["frdeep"], own)}
    made = sampled(given, _SAMPLES)
    if made is not None:
        against["generated"] = made
    settings = OutlierSettings(
        methods=("flow",), flow=given.asked.flow, folds=_FOLDS, where=first.where,
        seed=given.asked.seed, level=LEVEL,
    )  # fmt: skip
    sets = {"unlabelled": free, "own": own, **against}
    parents = {name: each.as_parent() for name, each in sets.items()}
    told = {"settings": settings.as_dict(), **{k: one.fingerprint for k, one in parents.items()}}
    kept = stage(given.home, "flows", told)
    # Never finished: what is kept there is read again where the section is written again.
    with Run(kept, kind="flows", recipe=settings.as_dict(), inputs={}, parents=parents) as run:
        found = outliers(
            own, settings, reference=like(free, own), against=against, label="fr",
            steps=Steps(run), quiet=given.asked.quiet,
        )  # fmt: skip
    found = _by_likelihood(found)
    scores = {
        "unlabelled": found.reference.scores["flow"],
        first.title: found.scored.scores["flow"],
        **{name: one.scores["flow"] for name, one in found.against.items()},
    }
    _told(draft, given, found, {name: -score for name, score in scores.items()})
    _least(draft, given, found)
    _worst(draft, given, found)
    _discuss(draft, given, found)


def _by_likelihood(found: Outliers) -> Outliers:
    """The same, ordered by the likelihood itself: percentiles of several folds may disagree."""
    scores = {**found.scored.scores, ENSEMBLE: found.scored.scores["flow"]}
    return replace(found, scored=replace(found.scored, scores=scores))


def _told(draft: Draft, given: Given, found: Outliers, sets: Mapping[str, np.ndarray]) -> None:
    rows = []
    checks = {check.what: check for check in found.checks if check.method == "flow"}
    by_name = dict(zip(list(sets)[1:], checks.values(), strict=True))
    for name, value in sets.items():
        row: dict[str, Any] = {
            "set": name,
            "objects": len(value),
            **{f"q{q}": float(np.quantile(value, q / 100)) for q in (1, 25, 50, 75)},
        }
        if name in by_name:
            auc = by_name[name].auc
            row |= {"auc": auc.value, "auc_lower": auc.lower, "auc_upper": auc.upper}
        rows.append(row)
    draft.table(
        "likelihood",
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
        "Log-likelihood (nats) of every set, each object under flows that have not seen it. Last "
        "column: chance that one of the set is less likely than one of the unlabelled; 0.5 is "
        "chance, bootstrap of the objects.",
    )
    flow = found.flow
    if flow is not None:
        shape = f"{flow.settings.blocks} blocks of {' x '.join(map(str, flow.settings.hidden))}"
        draft.say(
            f"The flow: {shape} on {flow.coordinates.dim} principal components "
            f"({flow.coordinates.share:.0%} of the variance) of {given.main.title}, {_FOLDS} "
            "folds. The paper's has 48 blocks of 2 x 512 on all 256 numbers (--flow paper; hours).",
            role="note",
        )
    draft.figure(
        "likelihood",
        densities(sets),
        "Log-likelihood of each set under the flow of the unlabelled one"
        + (", generated images among them." if "generated" in sets else "."),
        alt="Outlines of histograms, one a set, the least likely on the left",
    )


def _least(draft: Draft, given: Given, found: Outliers) -> None:
    """The least likely of MiraBest, with their classes against their base rates."""
    first = given.of("mirabest")
    order = found.order[:_LOWEST]
    part = found.scored.part
    rows = part.rows[order]
    names = [str(name) for name in part.embeddings.ids[rows]]
    score = -found.scored.scores["flow"][order]
    columns = part.embeddings.catalog.column_names
    labels = [name for name in ("fr", "morphology") if name in columns]
    told = {name: part.embeddings.catalog[name].take(rows).to_pylist() for name in labels}
    draft.table(
        "lowest",
        [
            {
                "rank": number + 1,
                "id": name,
                "log_likelihood": float(score[number]),
                "percentile": float(found.scored.percentiles["flow"][order][number]),
                "nearest": float(found.scored.near.distance[order[number], 0]),
                "nearest_percentile": float(found.scored.near_percentile[order[number], 0]),
                **{label: values[number] for label, values in told.items()},
            }
            for number, name in enumerate(names)
        ],
        [],
        show=False,
    )
    shares: list[dict[str, Any]] = []
    for label in labels:
        every = part.embeddings.catalog[label].take(part.rows).to_pylist()
        for value in sorted({str(one) for one in every}):
            hits = [str(one) for one in told[label]].count(value)
            base = Proportion.of([str(one) for one in every].count(value), len(every), LEVEL)
            one = Proportion.of(hits, len(names), LEVEL)
            shares.append(
                {
                    "label": label, "value": value, "hits": one.hits, "share": one.value,
                    "share_lower": one.lower, "share_upper": one.upper, "base_rate": base.value,
                }
            )  # fmt: skip
    draft.table(
        "classes",
        shares,
        [
            column("label", "label"),
            column("value", "class"),
            column("hits", f"among the {len(names)} least likely", "count"),
            column("share", "share", "share", ends="share"),
            column("base_rate", "base rate", "share"),
        ],
        f"Classes of the {len(names)} least likely of {first.title}; Jeffreys intervals",
    )
    draft.figure(
        "lowest",
        lowest(
            first.cutouts, names, [f"{value:.4g}" for value in score],
            [_cut(", ".join(map(str, kinds))) for kinds in zip(*told.values(), strict=True)],
            f"least likely of {len(part.rows)}; log-likelihood (nats), class",
            side=_SIDE, crop=encoded(given.main.embeddings["mirabest"]),
        ),
        f"The {len(names)} least likely of {first.title}, the least first, as the encoder sees "
        "them: what lies outside its crop is not shown.",
        alt="Pictures with log-likelihood above and class below",
    )  # fmt: skip


def _cut(text: str) -> str:
    return text if len(text) <= _LETTERS else f"{text[: _LETTERS - 1]}…"


def _worst(draft: Draft, given: Given, found: Outliers) -> None:
    """What a search finds for the least likely, and how far that is."""
    own = given.main.embeddings["mirabest"]
    free = given.main.embeddings["unlabelled"]
    rows = draft.tables["lowest"].to_pylist()
    usual = found.reference.near.distance[:, 0]
    free_like = like(free, own)

    def nearest(name: str, count: int = 1) -> Matches:
        return search(
            free_like, f"{own.folder}:{name}", k=count, metric="cosine", seed=given.asked.seed
        )

    matches = nearest(rows[0]["id"], 25)
    names = [str(name) for name in found.scored.part.embeddings.ids[found.scored.part.rows]]
    rng = np.random.default_rng([given.asked.seed, 7])
    others = [str(n) for n in rng.permutation([n for n in names if n != rows[0]["id"]])[:_OTHERS]]
    cosine = np.array([nearest(name).distance[0] for name in others])
    draft.table(
        "worst",
        [
            _distance("Euclidean, standardised numbers", "the unlabelled among themselves",
                      rows[0]["id"], rows[0]["nearest"], usual),
            _distance("cosine, as the search goes", f"{len(others)} other sources of the set",
                      rows[0]["id"], float(matches.distance[0]), cosine),
        ],
        [
            column("metric", "distance"),
            column("id", "least likely"),
            column("nearest", "of its nearest", "number"),
            column("beside", "beside"),
            column("median", "their median", "number"),
            column("high", "99 % of them within", "number"),
            column("times", "times the median", "lift"),
        ],
        "Distance of the least likely source to the nearest unlabelled one, and what is ordinary",
    )  # fmt: skip
    draft.figure(
        "distances",
        neighbour_distances(found),
        "Distances to the nearest and the 25th nearest of the unlabelled: theirs among themselves "
        "(grey), and of the five least likely (red).",
        alt="Two histograms with five red lines",
    )
    label = "fr" if "fr" in free.catalog.column_names else None
    draft.figure(
        "neighbours",
        mosaic(matches, side=_SIDE, label=label, cutouts=given.unlabelled.cutouts),
        "What a search finds for the least likely source all the same: 25 nearest always exist.",
        alt="The least likely source on the left, and the 25 nearest unlabelled objects",
    )


def _distance(
    metric: str, beside: str, name: str, nearest: float, usual: np.ndarray
) -> dict[str, Any]:
    median, high = (float(np.quantile(usual, share)) for share in (0.5, 0.99))
    return {
        "metric": metric,
        "id": name,
        "nearest": nearest,
        "beside": beside,
        "median": median,
        "high": high,
        "times": nearest / median if median > 0 else None,
    }


def _discuss(draft: Draft, given: Given, found: Outliers) -> None:
    said = []
    for row in draft.tables["likelihood"].to_pylist()[1:]:
        way = (
            "less likely than the unlabelled"
            if row["auc_lower"] > 0.5
            else "more likely than the unlabelled's own"
            if row["auc_upper"] < 0.5
            else "not told apart from the unlabelled"
        )
        said.append(f"{row['set']}: {way}.")
    odd = [
        f"{row['label']} {row['value']}"
        for row in draft.tables["classes"].to_pylist()
        if row["share_lower"] > row["base_rate"]
    ]
    said.append(
        f"Among the least likely {', '.join(odd)} stand above their base rate."
        if odd
        else "No class stands above its base rate among the least likely."
    )
    straight, cosine = draft.tables["worst"].to_pylist()
    far = [one["nearest"] > one["high"] for one in (straight, cosine)]
    said.append(
        "The nearest of the least likely is {times} the usual distance away (Euclidean), and by "
        "the cosine of the search {cosine} the usual one: "
    )
    said[-1] += {
        (True, True): "farther than 99 % of ordinary ones by both, so the search fails, as in the "
        "paper.",
        (True, False): "farther than 99 % of ordinary ones by the first, not so by the second. A "
        "cosine forgets how long a vector is, and the search may show as neighbours what are none.",
        (False, True): "within 99 % of ordinary ones by the first, not so by the second: the "
        "search fails, as in the paper.",
        (
            False,
            False,
        ): "within 99 % of ordinary ones by both. Here the search does not fail, and a low density "
        "alone makes no outlier.",
    }[far[0], far[1]]
    sim = (
        "The unlabelled set is simulated, so a set that is unlikely here may simply be real. "
        if given.unlabelled.simulated
        else ""
    )
    draft.say(
        " ".join(said) + f" {sim}A flow gives high densities to simple images of any kind, so a "
        "likelihood says how a set differs from another, not whether it is wrong; `skytwin "
        "outliers` holds three other methods beside it.",
        role="differences",
        times=draft.at("worst", "times", metric=straight["metric"]),
        cosine=draft.at("worst", "times", metric=cosine["metric"]),
    )
    names = {
        found.reference.part.name: "the unlabelled set",
        found.scored.part.name: given.of("mirabest").title,
    }
    for told in found.notes:
        note = told
        for name, title in names.items():
            note = note.replace(name, title)
        draft.say(f"{note[0].upper()}{note[1:]}.", role="note")
