"""A source of one set as query in another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from skytwin.answers.figures_mosaic import mosaic
from skytwin.answers.search import Matches, search
from skytwin.embeddings.table import Embeddings
from skytwin.images.where import matching_rows
from skytwin.reproduce.content import Draft, Written, column
from skytwin.reproduce.rgz_encoders import like
from skytwin.reproduce.rgz_inputs import Given
from skytwin.reproduce.ulisse_searches import spread

__all__ = ["similar"]

Earlier = Mapping[str, Written]
_QUERIES, _TOP, _SHOWN = 24, 25, 25
_CLASSES = ("FRI", "FRII")
#: The paper's metric first, then this package's default.
_METRICS = {"cosine": "cosine", "standardized": "cosine of standardised numbers"}


def similar(draft: Draft, given: Given, _: Earlier) -> None:
    """Sources of MiraBest looked for in the other sets."""
    first, other = given.of("mirabest"), given.of("frdeep")
    draft.say(
        "The paper takes a source of one set and finds the most similar of another by the cosine "
        "of their vectors, shown as pictures. Here the first query drawn of each class is shown; "
        f"numbers are means over up to {_QUERIES} queries of each class.",
        role="paper",
    )
    targets: list[tuple[str, Embeddings]] = [
        (first.title, given.main.embeddings["mirabest"]),
        ("unlabelled", given.main.embeddings["unlabelled"]),
        (other.title, given.main.embeddings["frdeep"]),
    ]
    queries = _queries(given)
    rows: list[dict[str, Any]] = []
    each: list[dict[str, Any]] = []
    shown: list[tuple[str, str, Matches]] = []
    for target, embeddings in targets:
        known = _known(given, embeddings)
        for metric in _METRICS:
            for kind in _CLASSES:
                mine = []
                for number, name in enumerate(queries[kind]):
                    found = _search(given, embeddings, known, name, metric)
                    mine.append(
                        {
                            "target": target,
                            "metric": metric,
                            "kind": kind,
                            "query": name,
                            **_counted(found, kind),
                        }
                    )
                    if number == 0 and metric == "cosine" and target != first.title:
                        shown.append((target, kind, found))
                each += mine
                rows.append(_mean(mine, given.asked.seed))
    draft.table("each", each, [], show=False)
    draft.table(
        "found",
        rows,
        [
            column("target", "searched"),
            column("how", "metric"),
            column("kind", "query of MiraBest"),
            column("queries", "queries", "count"),
            column("purity", f"same class among {_TOP}", "share", ends="purity"),
            column("base_rate", "base rate", "share"),
            column("nearest", "distance of the nearest, median", "number"),
            column("last", f"of the {_TOP}th", "number"),
        ],
        f"Objects of the query's class among the {_TOP} nearest of known class FRI or FRII. "
        "Bootstrap intervals over queries. MiraBest in itself: the query left out.",
    )
    for number, (target, kind, found) in enumerate(shown, start=1):
        cutouts = given.unlabelled.cutouts if target == "unlabelled" else other.cutouts
        names = found.embeddings.catalog.column_names
        draft.figure(
            f"mosaic-{number}",
            mosaic(found, side=5, label="fr" if "fr" in names else None, cutouts=cutouts),
            f"The {_SHOWN} of {target} nearest to one {kind} of {first.title}, cosine distance"
            + (", its class below each." if "fr" in names else "."),
            alt=f"The query on the left and the {_SHOWN} nearest objects of {target}",
        )
    _discuss(draft, given, rows)


def _queries(given: Given) -> dict[str, list[str]]:
    """Identifiers drawn of each class, the test rows where there are such."""
    first = given.of("mirabest")
    catalog = first.cutouts.catalog.take(first.rows)
    kinds = np.array(catalog["fr"].to_pylist(), dtype=object)
    ids = np.array(catalog["id"].to_pylist(), dtype=object)
    known = {str(name) for name in given.main.embeddings["mirabest"].ids}
    fits = np.array([str(name) in known for name in ids])
    if first.split is not None:
        fits &= np.array(catalog[first.split].to_pylist(), dtype=object) == "test"
    rng = np.random.default_rng([given.asked.seed, 3])
    return {
        kind: [str(n) for n in rng.permutation(ids[fits & (kinds == kind)])[:_QUERIES]]
        for kind in _CLASSES
    }


def _known(given: Given, target: Embeddings) -> np.ndarray:
    """Which rows count: those of class FRI or FRII, all where no class is told; (N,) bool."""
    if target is given.main.embeddings["mirabest"]:
        return matching_rows(target.catalog, given.of("mirabest").where)
    if "fr" not in target.catalog.column_names:
        return np.ones(len(target), dtype=bool)
    return np.isin(np.array(target.catalog["fr"].to_pylist(), dtype=str), _CLASSES)


def _search(given: Given, target: Embeddings, known: np.ndarray, name: str, metric: str) -> Matches:
    """The nearest of known class."""
    own = given.main.embeddings["mirabest"]
    query = name if target is own else f"{own.folder}:{name}"
    among, k = like(target, own), 2 * _TOP
    while True:
        found = search(among, query, k=k, metric=metric, seed=given.asked.seed)
        keep = np.flatnonzero(known[found.rows])[:_TOP]
        if len(keep) == _TOP or k >= len(target):
            break
        k *= 2
    return replace(
        found,
        rows=found.rows[keep],
        distance=found.distance[keep],
        reference=found.reference[keep],
    )


def _counted(found: Matches, kind: str) -> dict[str, Any]:
    row: dict[str, Any] = {
        "nearest": float(found.distance[0]),
        "last": float(found.distance[-1]),
    }
    catalog = found.embeddings.catalog
    if "fr" in catalog.column_names:
        classes = catalog["fr"].take(found.rows).to_pylist()
        every = [value for value in catalog["fr"].to_pylist() if value in _CLASSES]
        row["purity"] = classes.count(kind) / len(classes)
        row["base_rate"] = every.count(kind) / len(every)
    return row


def _mean(rows: list[dict[str, Any]], seed: int) -> dict[str, Any]:
    first = rows[0]
    found: dict[str, Any] = {
        "target": first["target"],
        "metric": first["metric"],
        "how": _METRICS[first["metric"]],
        "kind": first["kind"],
        "queries": len(rows),
        "nearest": float(np.median([row["nearest"] for row in rows])),
        "last": float(np.median([row["last"] for row in rows])),
    }
    if "purity" in first:
        found |= spread([row["purity"] for row in rows], seed).named("purity")
        found["base_rate"] = first["base_rate"]
    return found


def _discuss(draft: Draft, given: Given, rows: list[dict[str, Any]]) -> None:
    said = []
    own = given.of("mirabest").title
    for target in dict.fromkeys(row["target"] for row in rows):
        mine = [r for r in rows if r["target"] == target and r["metric"] == "cosine"]
        if "purity" not in mine[0]:
            said.append(f"{target} has no classes: look at the pictures.")
            continue
        good = [r["kind"] for r in mine if r["purity_lower"] > r["base_rate"]]
        worse = [r["kind"] for r in mine if r["purity_upper"] < r["base_rate"]]
        rest = [r["kind"] for r in mine if r["kind"] not in good + worse]
        parts = (
            (good, "above the base rate"),
            (rest, "no more often than by chance, as far as can be told"),
            (worse, "below the base rate"),
        )
        words = [f"{' and '.join(kinds)} queries find their class {how}" for kinds, how in parts
                 if kinds]  # fmt: skip
        said.append(f"In {target} {', '.join(words)}.")
        if good and worse:
            said.append(
                f"Whichever class asks, more {good[0]} than their share are found there: the two "
                "sets differ more than the two classes do."
            )
    near = {r["target"]: r["nearest"] for r in rows if r["metric"] == "cosine"}
    farther = [t for t in near if t != own and near[t] > near[own]]
    if farther:
        said.append(
            f"The nearest of {' and of '.join(farther)} is farther than the nearest of the "
            "query's own set: part of what is found is the best of a set that looks different."
        )
    else:
        said.append("Other sets hold objects as near as the query's own set does.")
    draft.say(
        " ".join(said) + " A cosine near 0 means alike to this encoder; whether it means alike to "
        f"an astronomer the pictures must say.{_scales(given)}",
        role="differences",
    )


def _scales(given: Given) -> str:
    """What to know where the sets have other pixels."""
    one, other = (given.of(key) for key in ("mirabest", "frdeep"))
    scales = one.cutouts.pixel_scale, other.cutouts.pixel_scale
    if None in scales or scales[0] == scales[1]:
        return ""
    return (
        f" {other.title} has {scales[1]:.3g} arcsec per pixel and {one.title} {scales[0]:.3g}: the "
        "encoder sees another stretch of sky there, and no part of the search corrects for it."
    )
