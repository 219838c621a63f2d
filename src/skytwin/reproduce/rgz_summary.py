"""The paper's numbers and ours, side by side: what carries over."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from skytwin.encoders.bundled import PREFIX
from skytwin.reproduce import rgz_paper as paper
from skytwin.reproduce.content import Draft, Written, column
from skytwin.reproduce.rgz_inputs import Given, LabelledSet
from skytwin.reproduce.rgz_table import OURS, PICKED

__all__ = ["summary"]

Earlier = Mapping[str, Written]
SAME, OTHER = "as in the paper", "not as in the paper"


def summary(draft: Draft, given: Given, earlier: Earlier) -> None:
    """One row per number, or claim, of the paper that has a counterpart."""
    rows = _accuracies(given, earlier["table"])
    draft.table(
        "compared",
        rows,
        [
            column("set", "set"),
            column("quantity", "the paper's"),
            column("paper", "paper", "number", ends="paper"),
            column("what", "here"),
            column("here", "here", "number", ends="here"),
            column("careful", "classifier by cross-validation", "number", ends="careful"),
            column("base_rate", "base rate", "number"),
            column("verdict", "intervals"),
            column("why", "why"),
        ],
        "Accuracy on the test rows, of the classifier that is best on them (as the paper chose). "
        "95 % intervals: of the paper's from its counts of test rows, ours over resampled objects. "
        "A representation is set against the same method of the paper, and against the paper's "
        "best where the paper has none of the kind.",
    )
    claims = [
        *_order(given, earlier["maps"]),
        *_size(earlier["importance"]),
        *_density(earlier["density"]),
        *_samples(earlier["images"]),
    ]
    draft.table(
        "claims",
        claims,
        [
            column("shown", "the paper shows"),
            column("what", "here, measured"),
            column("here", "here", "number", ends="here"),
            column("base_rate", "nothing would be", "number"),
            column("verdict", "found"),
        ],
        "What the paper shows as pictures, and a number for it here. What is missing could not be "
        "measured with what is at hand.",
    )
    _say(draft, given, rows, claims)


def _accuracies(given: Given, table: Written) -> list[dict[str, Any]]:
    chosen = table.rows("chosen")
    methods = {coded.title: coded.method for coded in given.coded}
    found = []
    for each in given.labelled:
        theirs = {row.method: row for row in paper.ROWS if row.labelled == each.key}
        best = max(theirs.values(), key=lambda row: row.accuracy)
        own = [row for row in chosen if row["set"] == each.key and row["rule"] == PICKED]
        careful = {
            row["encoder"]: row for row in chosen if row["set"] == each.key and row["rule"] == OURS
        }
        for row in own:
            method = methods.get(row["encoder"])
            other = theirs.get(method or "", best)
            counted = other.proportion("accuracy")
            named = paper.METHODS[other.method]
            by_cv = careful.get(row["encoder"], {})
            verdict = (
                "ours lower"
                if row["accuracy_upper"] < counted.lower
                else "ours higher"
                if row["accuracy_lower"] > counted.upper
                else "meet"
            )
            found.append(
                {
                    "set": each.title,
                    "quantity": named if method else f"{named}, its best",
                    "paper": other.accuracy,
                    "paper_lower": counted.lower,
                    "paper_upper": counted.upper,
                    "what": f"{row['encoder']} ({row['classifier']})",
                    "here": row["accuracy"],
                    "here_lower": row["accuracy_lower"],
                    "here_upper": row["accuracy_upper"],
                    **{
                        f"careful{end}": by_cv.get(f"accuracy{end}")
                        for end in ("", "_lower", "_upper")
                    },
                    "base_rate": row["base_rate"],
                    "verdict": verdict,
                    "why": _why(given, each, row["encoder"]),
                }
            )
    return found


def _why(given: Given, each: LabelledSet, encoder: str) -> str:
    """What differs beside the method."""
    if not each.published:
        return "other objects than the paper's"
    coded = next((one for one in given.coded if one.title == encoder), None)
    if coded is None:
        return "no learning from images at all"
    if coded.spec.startswith("pca:"):
        return "linear; averaged over flips and turns"
    if coded.spec.startswith("timm:"):
        return "learnt from photographs; two crops, averaged over flips and turns"
    told = coded.embeddings[each.key].manifest
    made_by = told.recipe["encoder"].get("made_by", {}) if told else {}
    free = given.unlabelled
    if made_by.get("cutouts") == free.cutouts.manifest.fingerprint:
        other = f"learnt from the {'simulated' if free.simulated else 'unlabelled'} images"
    else:
        simulated = coded.spec.startswith(PREFIX)
        other = "learnt from simulated images" if simulated else "another training"
    return other + ("; averaged over flips and turns" if coded.orbit == "d4" else "")


def _claim(
    shown: str, what: str, row: Mapping[str, Any], name: str, base: float, verdict: str
) -> dict[str, Any]:
    return {
        "shown": shown,
        "what": what,
        "here": row[name],
        "here_lower": row[f"{name}_lower"],
        "here_upper": row[f"{name}_upper"],
        "base_rate": base,
        "verdict": verdict,
    }


def _order(given: Given, maps: Written) -> list[dict[str, Any]]:
    return [
        _claim(
            "t-SNE map coloured by angular size",
            f"{row['set']}, {row['encoder']}: rank correlation of a source's size with the mean "
            "of its neighbours on the map",
            row,
            "order",
            0.0,
            "ordered by size" if row["order_lower"] > 0 else "no order seen",
        )
        for row in maps.rows("maps")
        if row["encoder"] == given.main.title and row.get("order") is not None
    ]


def _size(importance: Written) -> list[dict[str, Any]]:
    return [
        _claim(
            "figure 7: components that matter for the angular size",
            f"{row['set']}: R2 of the forest on held-out objects",
            row,
            "r2",
            0.0,
            "the size is predicted" if row["r2_lower"] > 0 else "not predicted",
        )
        for row in importance.rows("importance")
    ]


def _density(density: Written) -> list[dict[str, Any]]:
    found = [
        _claim(
            "figure 11: log-likelihoods of the sets under one flow",
            f"{row['set']}, {row['encoder']}: chance to be less likely than an unlabelled one",
            row,
            "auc",
            0.5,
            "less likely"
            if row["auc_lower"] > 0.5
            else "more likely"
            if row["auc_upper"] < 0.5
            else "not told apart",
        )
        for name in ("likelihood", "generated")
        for row in density.rows(name)
        if row.get("auc") is not None
    ]
    found.extend(
        {
            "shown": "the search for neighbours of the worst outlier fails",
            "what": f"{row['metric']}: distance of its nearest, over the median of ordinary ones",
            "here": row["times"],
            "base_rate": 1.0,
            "verdict": SAME if row["nearest"] > row["high"] else f"{OTHER}: within 99 % of them",
        }
        for row in density.rows("worst")
    )
    return found


def _samples(images: Written) -> list[dict[str, Any]]:
    return [
        _claim(
            "images from the prior are too small",
            f"chance that a sample's {row['name']} is larger than a held-out image's",
            row,
            "auc",
            0.5,
            SAME
            if row["auc_upper"] < 0.5
            else f"{OTHER}: larger"
            if row["auc_lower"] > 0.5
            else f"{OTHER}: no difference shown",
        )
        for row in images.rows("light")
        if (row["name"], row["latents"]) == ("extent", "prior")
    ]


def _say(
    draft: Draft, given: Given, rows: list[dict[str, Any]], claims: list[dict[str, Any]]
) -> None:
    counts = {
        word: sum(row["verdict"] == word for row in rows)
        for word in ("meet", "ours lower", "ours higher")
    }
    published = [each.title for each in given.labelled if each.published]
    said = (
        f"{' and '.join(published)} {'are' if len(published) > 1 else 'is'} the paper's, with its "
        "split. "
        if published
        else "No labelled set here is the paper's: no number below checks one of its own. "
    )
    said += (
        f"Of {len(rows)} comparisons of accuracy the intervals meet in {counts['meet']}; ours are "
        f"lower in {counts['ours lower']} and higher in {counts['ours higher']}. With some hundred "
        "test rows, or fifty, only large differences can show. "
    )
    tested = [row for row in claims if row["verdict"].startswith((SAME, OTHER))]
    if tested:
        holds = sum(row["verdict"] == SAME for row in tested)
        said += (
            f"Of its statements about outliers and samples {len(tested)} could be put to the test; "
            f"{holds} came out as there."
        )
    draft.say(said)
    if given.vdvae is None:
        draft.say(
            "The paper's main encoder, a VDVAE, is not among those at hand: its row of Table 2 and "
            "its images are not reproduced here. The last section says how to.",
            role="note",
        )
    if given.unlabelled.simulated:
        draft.say(
            "The unlabelled set is simulated. Maps, densities and searches on it show the method; "
            "with RGZ DR1 (--unlabelled FOLDER) they show the paper's data.",
            role="note",
        )
