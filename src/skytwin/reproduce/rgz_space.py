"""What the vectors hold of the angular size: maps, principal components, importances."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.spatial import cKDTree
from scipy.stats import rankdata

from skytwin.answers.figures_importance import importances
from skytwin.answers.figures_map import map_scatter
from skytwin.answers.importance import Importance, importance
from skytwin.answers.intervals import Proportion
from skytwin.answers.maps import Map, make_map
from skytwin.answers.maps_space import SHARES, fit_space
from skytwin.embeddings.table import Embeddings
from skytwin.errors import DataError
from skytwin.images.columns import numbers
from skytwin.reproduce.content import Draft, Written, column
from skytwin.reproduce.rgz_inputs import LEVEL, Coded, Given

__all__ = ["maps", "properties"]

Earlier = Mapping[str, Written]
_NEAR, _RESAMPLES = 15, 500
_PERPLEXITY = 30.0
_COLLAPSED = 2  # components


def maps(draft: Draft, given: Given, _: Earlier) -> None:
    """t-SNE maps coloured by size and class, how far to trust them, and principal components."""
    draft.say(
        "The paper shows a t-SNE map of its vectors, coloured by angular size, and how the "
        "variance is spread over principal components. A map groups pure noise, too, so each has "
        "its trustworthiness here (1: neighbours on the map are neighbours; chance beside it), "
        "and what the colours seem to say is measured.",
        role="paper",
    )
    method = "tsne" if importlib.util.find_spec("openTSNE") else "pca"
    if method == "pca":
        draft.say(
            "openTSNE is not installed: the maps are the first two principal components. "
            "Install skytwin[map] for the paper's.",
            role="note",
        )
    rows, drawings = [], []
    for name, coded, embeddings, where, size, label in _mapped(given):
        count = len(embeddings) if where is None else len(given.of("mirabest").rows)
        found = make_map(
            embeddings,
            method,
            where=where,
            perplexity=min(_PERPLEXITY, (count - 1) // 3),
            seed=given.asked.seed,
            quiet=given.asked.quiet,
        )
        rows.append({"set": name, "encoder": coded.title, **_quality(found, size, label, given)})
        if coded is given.main:
            drawings += [(name, found, one) for one in (size, label) if one]
    draft.table(
        "maps",
        rows,
        [
            column("set", "set"),
            column("encoder", "encoder"),
            column("objects", "objects", "count"),
            column("trust", "trustworthiness", "number"),
            column("chance", "by chance", "number"),
            column("order", "size: rank correlation with neighbours'", "number", ends="order"),
            column("alike", "nearest is of its class", "share", ends="alike"),
            column("base_rate", "by chance", "share"),
        ],
        f"The maps. Neighbours: the {_NEAR} nearest on the map. Intervals: bootstrap of the "
        "objects (size); of objects whose nearest neighbour is of their class (Jeffreys).",
    )
    for number, (name, found, coloured) in enumerate(drawings, start=1):
        draft.figure(
            f"map-{number}",
            _titled(found, coloured),
            f"{name} as {given.main.title} sees it, by {coloured}; trustworthiness {{trust}}.",
            alt=f"A map of {name}, every object a dot coloured by {coloured}",
            trust=draft.at("maps", "trust", set=name, encoder=given.main.title),
        )
    _variance(draft, given)
    _discuss_maps(draft, given, rows)


def _titled(found: Map, coloured: str) -> Any:
    """The map with a short title: the caption names the encoder."""
    axes = map_scatter(found, coloured)
    axes.set_title(f"{found.title} of {len(found)} objects", loc="left")
    return axes


def _mapped(
    given: Given,
) -> list[tuple[str, Coded, Embeddings, str | None, str | None, str | None]]:
    """What is mapped: the unlabelled set by size, MiraBest by size and class, each encoder's."""
    free, first = given.unlabelled, given.of("mirabest")
    found: list[tuple[str, Coded, Embeddings, str | None, str | None, str | None]] = [
        ("unlabelled", given.main, given.main.embeddings["unlabelled"], None, free.size, None)
    ]
    size = "las_arcsec" if "las_arcsec" in first.cutouts.catalog.column_names else None
    found.extend(
        (first.title, coded, coded.embeddings[first.key], first.where, size, "fr")
        for coded in given.coded
    )
    return found


def _quality(found: Map, size: str | None, label: str | None, given: Given) -> dict[str, Any]:
    """Trust, and whether neighbours on the map are alike."""
    row: dict[str, Any] = {
        "objects": len(found),
        "trust": found.quality.trustworthiness,
        "chance": found.quality.chance[0],
        "continuity": found.quality.continuity,
    }
    near = cKDTree(found.xy).query(found.xy, k=_NEAR + 1)[1][:, 1:]
    if size is not None:
        value = numbers(found.catalog, size)
        known = np.isfinite(value)
        with np.errstate(invalid="ignore"):
            mean = np.array(
                [np.nanmean(v) if np.isfinite(v).any() else np.nan for v in value[near]]
            )
        known &= np.isfinite(mean)
        own, theirs = value[known], mean[known]
        rng = np.random.default_rng([given.asked.seed, 5])
        drawn = [
            _spearman(own[some], theirs[some])
            for some in rng.integers(len(own), size=(_RESAMPLES, len(own)))
        ]
        lower, upper = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        row |= {"order": _spearman(own, theirs), "order_lower": lower, "order_upper": upper}
    if label is not None:
        kind = np.array(found.column(label).to_pylist(), dtype=object)
        same = Proportion.of(int((kind[near[:, 0]] == kind).sum()), len(kind), LEVEL)
        _, counts = np.unique(kind.astype(str), return_counts=True)
        share = counts / counts.sum()
        row |= {"alike": same.value, "alike_lower": same.lower, "alike_upper": same.upper}
        row |= {"base_rate": float(np.square(share).sum())}
    return row


def _spearman(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.corrcoef(rankdata(one), rankdata(other))[0, 1])


def _variance(draft: Draft, given: Given) -> None:
    """How many principal components carry how much of the variance."""
    rows = []
    for name, coded, embeddings, where, _, _ in _mapped(given):
        at = given.of("mirabest").rows if where else np.arange(len(embeddings))
        _, variance = fit_space(embeddings, at, "standardized", 2, seed=given.asked.seed)
        needed = {
            f"{kind}_{share:.0%}".rstrip("%"): variance.needed(values, share)
            for kind, values in (("raw", variance.raw), ("scaled", variance.standardized))
            for share in SHARES
        }
        rows.append({"set": name, "encoder": coded.title, "dim": embeddings.dim, **needed})
    draft.table(
        "variance",
        rows,
        [
            column("set", "set"),
            column("encoder", "encoder"),
            column("dim", "numbers", "count"),
            column("raw_90", "90 %", "count"),
            column("raw_95", "95 %", "count"),
            column("raw_99", "99 %", "count"),
            column("scaled_90", "scaled: 90 %", "count"),
            column("scaled_99", "99 %", "count"),
        ],
        "Principal components that carry so much of the variance, of the vectors as they are and "
        "with every number scaled to the same deviation",
    )


def _discuss_maps(draft: Draft, given: Given, rows: list[dict[str, Any]]) -> None:
    main = [row for row in rows if row["encoder"] == given.main.title]
    said = []
    for row in main:
        if "order" in row:
            seen = (
                "sources of like size lie together"
                if row["order_lower"] > 0.3
                else "size orders the map weakly"
                if row["order_lower"] > 0
                else "size is not seen to order the map"
            )
            said.append(f"{row['set']}: {seen}.")
        else:
            said.append(f"{row['set']}: no angular sizes (--size-column names their column).")
    classes = [row for row in rows if "alike" in row]
    above = [row["encoder"] for row in classes if row["alike_lower"] > row["base_rate"]]
    said.append(
        f"The nearest on the map is of the same class more often than by chance for {len(above)} "
        f"of {len(classes)} encoders."
    )
    first = next(r for r in draft.tables["variance"].to_pylist()
                 if r["encoder"] == given.main.title)  # fmt: skip
    said.append(
        f"Of {given.main.title}'s {first['dim']} numbers, principal components that carry 99 % of "
        "the variance of the unlabelled set: {few}"
        + (
            ". The vectors have collapsed onto a line or a plane: what this encoder says in any "
            "section says little of the paper's. `skytwin train` reports active units; --recipe "
            "vdvae-tiny keeps the top latent from falling silent."
            if first["raw_99"] <= _COLLAPSED < first["dim"]
            else ", far fewer than there are."
            if first["raw_99"] < 0.5 * first["dim"]
            else ", most of what there is."
        )
    )
    draft.say(
        " ".join(said),
        role="differences",
        few=draft.at("variance", "raw_99", set="unlabelled", encoder=given.main.title),
    )


def properties(draft: Draft, given: Given, _: Earlier) -> None:
    """Components that foretell the angular size, R2 first."""
    draft.say(
        "Figure 7 of the paper: which components matter to a random forest that predicts the "
        "angular size, grown by one tree per batch of 1000 rows. Read R2 on held-out objects "
        "first: without it an importance means nothing. Impurity importance is what the paper "
        "shows; permutation on held-out objects is what to trust.",
        role="paper",
    )
    first = given.of("mirabest")
    wanted: list[tuple[str, Embeddings, str | None, str | None]] = [
        ("unlabelled", given.main.embeddings["unlabelled"], given.unlabelled.size, None),
        (
            first.title,
            given.main.embeddings[first.key],
            "las_arcsec" if "las_arcsec" in first.cutouts.catalog.column_names else None,
            first.where,
        ),
    ]
    rows, found = [], []
    for name, embeddings, target, where in wanted:
        if target is None:
            draft.say(
                f"Not done on {name}: its catalogue has no angular size. --size-column names the "
                "column of the unlabelled set.",
                role="note",
            )
            continue
        try:
            one = importance(
                embeddings, target, where=where, seed=given.asked.seed, level=LEVEL,
                quiet=given.asked.quiet,
            )  # fmt: skip
        except DataError as error:
            draft.say(f"Not done on {name}: {error}.", role="note")
            continue
        rows.append(_importance_row(name, one))
        found.append((name, one))
    if not rows:
        return
    draft.table(
        "importance",
        rows,
        [
            column("set", "set"),
            column("target", "property"),
            column("r2", "R2, held out", "number", ends="r2"),
            column("trained", "trained on", "count"),
            column("tested", "held out", "count"),
            column("dim", "numbers", "count"),
            column("above", "matter more than chance", "count"),
            column("half", "carry half of the impurity", "count"),
            column("agreement", "rank correlation of the two", "number"),
        ],
        f"{given.main.title}: a forest's prediction of the angular size. A base rate of R2 is 0, "
        "that of always predicting the mean.",
    )
    for number, (name, one) in enumerate(found, start=1):
        draft.table(f"components-{number}", one.table, [], show=False)
        draft.figure(
            f"importance-{number}",
            importances(one),
            f"{name}: mean value of every component against its importance, R2 {{r2}}. Left as "
            "in the paper's figure 7; right on held-out objects.",
            alt="Two panels of dots, a component each",
            r2=draft.at("importance", "r2", set=name),
        )
    said = []
    for row in rows:
        if row["r2_lower"] <= 0:
            said.append(f"{row['set']}: the size is not predicted, importances mean nothing.")
        else:
            few = row["half"] <= max(5, 0.05 * row["dim"])
            said.append(
                f"{row['set']}: the size is predicted, and {row['half']} of {row['dim']} numbers "
                "carry half of the impurity importance: "
                + ("a few components hold it." if few else "it is spread over many.")
            )
        said.append(f"{row['above']} lose more R2 when shuffled than any other gains by chance.")
    draft.say(
        " ".join(said) + " Components that say the same share their importance: a low one may "
        "still hold the size.",
        role="differences",
    )


def _importance_row(name: str, one: Importance) -> dict[str, Any]:
    impurity = np.sort(one.table["impurity"].to_numpy())[::-1]
    return {
        "set": name,
        "target": one.target,
        "r2": one.r2,
        "r2_lower": one.lower,
        "r2_upper": one.upper,
        "trained": one.trained,
        "tested": one.tested,
        "dim": len(one.table),
        "above": int((one.table["permutation"].to_numpy() > one.noise).sum()),
        "half": int(np.searchsorted(np.cumsum(impurity), 0.5)) + 1,
        "agreement": one.agreement,
        "trees": one.trees,
    }
