"""How likely a flow finds each set, what it finds least likely, and what lies near the worst."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import Any

import numpy as np

from skytwin.answers.figures_mosaic import encoded, mosaic
from skytwin.answers.figures_outliers import neighbour_distances
from skytwin.answers.intervals import Proportion
from skytwin.answers.outliers import Outliers
from skytwin.answers.search import Matches, search
from skytwin.embeddings.table import Embeddings
from skytwin.reproduce.content import Draft, Written, column
from skytwin.reproduce.rgz_encoders import like
from skytwin.reproduce.rgz_figures import lowest
from skytwin.reproduce.rgz_flows import flows, show_likelihoods
from skytwin.reproduce.rgz_inputs import LEVEL, Given

__all__ = ["density"]

Earlier = Mapping[str, Written]
_LOWEST, _SIDE = 25, 5
_LETTERS = 16  # below a picture
_OTHERS = 100


def density(draft: Draft, given: Given, earlier: Earlier) -> None:
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
    generated = _generated(given, earlier["images"])
    own = given.main is given.vdvae
    found = flows(given, given.main, generated if own else {})
    show_likelihoods(draft, given.main, given.of("mirabest").title, found, "likelihood")
    _least(draft, given, found)
    _worst(draft, given, found)
    if given.vdvae is not None and not own:
        draft.heading("With a VDVAE, and with what it generates")
        draft.say(
            f"The paper's flow is of its VDVAE's numbers; generated images are compared as the "
            f"VDVAE itself sees them. So once more with {given.vdvae.title}."
        )
        again = flows(given, given.vdvae, generated)
        show_likelihoods(draft, given.vdvae, given.of("mirabest").title, again, "generated")
    _discuss(draft, given, found)


def _generated(given: Given, images: Written) -> dict[str, Embeddings]:
    """Samples as the VDVAE sees them, by where their top latents come from; none without one."""
    if given.vdvae is None:
        return {}
    like_these = given.vdvae.embeddings["mirabest"]
    codes: dict[str, list[list[float]]] = {}
    for row in images.rows("codes"):
        codes.setdefault(f"generated, {row['latents']} latents", []).append(row["code"])
    found = {}
    for name, vectors in codes.items():
        made = Embeddings.from_arrays(
            np.array(vectors, np.float32), [f"sample-{n}" for n in range(len(vectors))]
        )
        made.encoder_name = like_these.encoder_name
        made.encoder_fingerprint = like_these.encoder_fingerprint
        found[name] = made
    return found


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


def _way(row: Mapping[str, Any]) -> str:
    return (
        "less likely than the unlabelled"
        if row["auc_lower"] > 0.5
        else "more likely than the unlabelled's own"
        if row["auc_upper"] < 0.5
        else "not told apart from the unlabelled"
    )


def _discuss(draft: Draft, given: Given, found: Outliers) -> None:
    said = []
    for name in ("likelihood", "generated"):
        if name in draft.tables:
            _, *rows = draft.tables[name].to_pylist()
            ways = "; ".join(f"{row['set']} {_way(row)}" for row in rows)
            said.append(f"With {rows[0]['encoder']}: {ways}.")
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
