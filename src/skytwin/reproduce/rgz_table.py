"""Table 2 of the paper: classes read from vectors by simple classifiers, with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from skytwin.answers.figures_probe import probe_scores
from skytwin.answers.probe import Probe, probe
from skytwin.answers.probe_classifiers import PAPER
from skytwin.answers.probe_score import Score
from skytwin.reproduce import rgz_paper as paper
from skytwin.reproduce.content import Draft, Written, column
from skytwin.reproduce.places import stage
from skytwin.reproduce.rgz_figures import chosen_scores
from skytwin.reproduce.rgz_inputs import LEVEL, Given, LabelledSet

__all__ = ["OURS", "PICKED", "THEIRS", "table"]

Earlier = Mapping[str, Written]
#: How a classifier was chosen.
PICKED, OURS, THEIRS = "best on the test rows", "by cross-validation", "the paper, on its test rows"
_METRICS = ("accuracy", "auc", "specificity", "recall")
_SLOW = "gb"


def table(draft: Draft, given: Given, _: Earlier) -> None:
    """Every classifier on every representation, and the chosen ones beside the paper's."""
    draft.say(
        "The paper gives, for each representation and set, the best of six classifiers on the test "
        "rows. That choice is made here, too, to compare like with like; it flatters, so the "
        "classifier that cross-validation on the training rows would have chosen stands beside it.",
        role="paper",
    )
    scores: list[dict[str, Any]] = []
    chosen: list[dict[str, Any]] = []
    figures = []
    for each in given.labelled:
        found = _probes(given, each)
        rows = [_score_row(each, one, score) for one in found for score in one.scores]
        scores += rows
        chosen += _chosen(each, rows)
        figures.append((each, found[0]))
    draft.table("scores", scores, [], show=False)
    draft.table("chosen", chosen, [], show=False)
    for each, fitted in figures:
        mine = [row for row in chosen if row["set"] == each.key]
        draft.table(
            f"table-{each.key}",
            mine,
            [
                column("encoder", "representation"),
                column("rule", "classifier chosen"),
                column("classifier", "it is"),
                *(
                    column(name, head, "number", ends=name)
                    for name, head in zip(
                        _METRICS,
                        ("accuracy", "AUC", "specificity (FRI)", "recall (FRII)"),
                        strict=True,
                    )
                ),
                column("base_rate", "base rate", "number"),
            ],
            f"{each.title}. Intervals are 95 %: of ours over resampled test objects, of the "
            "paper's as its counts of test rows make them (none for its AUC). Base rate: accuracy "
            "of always saying the most frequent class.",
        )
        draft.figure(
            f"chosen-{each.key}",
            chosen_scores(mine),
            f"{each.title}: accuracy and AUC of the chosen classifiers. Squares: the paper's.",
            alt="Dots with intervals, one line a representation, beside the paper's values",
        )
        draft.figure(
            f"every-{each.key}",
            probe_scores(fitted),
            f"{each.title}: every classifier"
            + (f" but {_SLOW}" if _SLOW in given.asked.classifiers else "")
            + " on every representation.",
            alt="Accuracy and AUC by classifier, a colour for each representation",
        )
    draft.say(_about(given.asked.classifiers), role="note")
    _discuss(draft, given, chosen)


def _about(names: Sequence[str]) -> str:
    """What the classifiers are."""
    six = [name for name in names if name in PAPER]
    said = [f"Classifiers: {', '.join(names)}."]
    if six:
        said.append(f"The paper's, with its settings: {', '.join(six)}.")
    if "svc" in names:
        said.append(
            "svc at gamma 0.2 takes one class for all on standardised vectors of many numbers"
            + ("; svc-scale has scikit-learn's default." if "svc-scale" in names else ".")
        )
    if "lda" in names:
        said.append("lda is linear discriminant analysis with a shrunk covariance.")
    if _SLOW in names:
        said.append(
            f"{_SLOW} was fitted once: its cross-validation would take longer than all else "
            "together, so it cannot be chosen by it."
        )
    left = [name for name in PAPER if name not in names]
    if left:
        said.append(f"Of the paper's six not asked for: {', '.join(left)}.")
    return " ".join([*said, "Every number is in the section's table of scores."])


def _probes(given: Given, each: LabelledSet) -> tuple[Probe, ...]:
    """The classifiers that are quick, cross-validated, and then the slow one."""
    asked = given.asked
    embeddings = {coded.title: coded.embeddings[each.key] for coded in given.coded}
    quick = tuple(name for name in asked.classifiers if name != _SLOW)
    found = []
    for names, folds in ((quick, asked.folds), ((_SLOW,), 0)):
        if not set(names) & set(asked.classifiers):
            continue
        told = {
            "embeddings": {name: e.as_parent().fingerprint for name, e in embeddings.items()},
            "classifiers": names,
            "folds": folds,
            "where": each.where,
            "split": each.split,
            "seed": asked.seed,
        }
        found.append(
            probe(
                embeddings,
                "fr",
                split=each.split,
                positive="FRII",
                where=each.where,
                classifiers=names,
                folds=folds,
                repeats=1,
                budget=(),
                seed=asked.seed,
                level=LEVEL,
                out=stage(given.home, f"probe-{each.key}", told),
                quiet=asked.quiet,
            )
        )
    return tuple(found)


def _score_row(each: LabelledSet, found: Probe, score: Score) -> dict[str, Any]:
    row: dict[str, Any] = {
        "set": each.key,
        "encoder": score.embedding,
        "baseline": score.baseline,
        "dim": score.dim,
        "classifier": score.classifier,
    }
    for name in _METRICS:
        cell = score.metrics[name]
        row |= {name: cell.value, f"{name}_lower": cell.lower, f"{name}_upper": cell.upper}
    cv = score.cv_accuracy
    row |= {"cv_accuracy": None if cv is None else cv.value}
    row |= {"base_rate": found.base.value, "test": len(found.truth)}
    return row


def _chosen(each: LabelledSet, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Two rows a representation, then the paper's."""
    found: list[dict[str, Any]] = []
    for name in dict.fromkeys(row["encoder"] for row in rows):
        own = [row for row in rows if row["encoder"] == name]
        six = [row for row in own if row["classifier"] in PAPER] or own
        found.append({**max(six, key=lambda r: (r["accuracy"], r["auc"])), "rule": PICKED})
        tried = [row for row in own if row["cv_accuracy"] is not None]
        if tried:
            found.append({**max(tried, key=lambda r: r["cv_accuracy"]), "rule": OURS})
    for theirs in paper.ROWS:
        if theirs.labelled != each.key:
            continue
        row: dict[str, Any] = {
            "set": each.key,
            "encoder": f"{paper.METHODS[theirs.method]}, the paper's",
            "baseline": False,
            "classifier": theirs.classifier,
            "rule": THEIRS,
            "auc": theirs.auc,
            "base_rate": max(paper.SETS[each.key].fri, paper.SETS[each.key].frii)
            / paper.SETS[each.key].test,
            "test": paper.SETS[each.key].test,
        }
        for metric in ("accuracy", "specificity", "recall"):
            counted = theirs.proportion(metric)
            row |= {
                metric: getattr(theirs, metric),
                f"{metric}_lower": counted.lower,
                f"{metric}_upper": counted.upper,
            }
        found.append(row)
    return found


def _discuss(draft: Draft, given: Given, chosen: Sequence[Mapping[str, Any]]) -> None:
    facts: list[dict[str, Any]] = []
    said = []
    for each in given.labelled:
        own = [r for r in chosen if r["set"] == each.key and r["rule"] == PICKED]
        by_cv = {r["encoder"]: r for r in chosen if r["set"] == each.key and r["rule"] == OURS}
        theirs = max(
            (r for r in chosen if r["set"] == each.key and r["rule"] == THEIRS),
            key=lambda r: r["accuracy"],
        )
        pixels = [r for r in own if r["baseline"] or r["encoder"].startswith("PCA ")]
        networks = [r for r in own if r not in pixels]
        best = max(networks or own, key=lambda r: r["accuracy"])
        plain = max(pixels, key=lambda r: r["accuracy"], default=None)
        gains = [r["accuracy"] - by_cv[r["encoder"]]["accuracy"] for r in own
                 if r["encoder"] in by_cv]  # fmt: skip
        facts.append(
            {
                "set": each.key,
                "best": best["accuracy"],
                "paper": theirs["accuracy"],
                "plain": plain["accuracy"] if plain else None,
                "flattery": sum(gains) / len(gains) if gains else None,
            }
        )
        way = _way(best, theirs)
        mean = "{best_" + each.key + "}"
        said.append(
            f"{each.title}: the best {'network' if networks else 'representation'} here, "
            f"{best['encoder']}, reaches {mean} where "
            f"the paper's best ({theirs['encoder'].removesuffix(', the paper' + chr(39) + 's')}) "
            f"has {{paper_{each.key}}}; the intervals {way}."
        )
        if plain is not None:
            against = "not below" if plain["accuracy_upper"] >= theirs["accuracy"] else "below"
            said.append(
                f"Pixels without any network reach {{plain_{each.key}}}: as far as "
                f"{best['test']} test rows can tell, {against} the paper's best."
            )
        if gains:
            said.append(
                "The best of the paper's classifiers on the test rows, less the one that "
                f"cross-validation chooses among all: {{flattery_{each.key}}} points of accuracy, "
                "mean over the representations."
            )
        if not each.published:
            said.append("The rows are not the paper's, so this is no check of its numbers.")
    draft.table(
        "facts",
        facts,
        [
            column("set", "set"),
            column("best", "best here", "number"),
            column("plain", "best of pixels", "number"),
            column("paper", "the paper's best", "number"),
            column("flattery", "gained by choosing on test rows", "points"),
        ],
        show=False,
    )
    numbers = {
        f"{name}_{row['set']}": draft.at("facts", name, set=row["set"])
        for row in facts
        for name in ("best", "paper", "plain", "flattery")
        if row[name] is not None
    }
    draft.say(
        " ".join(said) + " The paper's networks saw 100 000 real images; which of ours saw what "
        "is in the section on data and encoders.",
        role="differences",
        **numbers,
    )


def _way(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    if one["accuracy_lower"] > other["accuracy_upper"]:
        return "are apart, ours higher"
    if one["accuracy_upper"] < other["accuracy_lower"]:
        return "are apart, ours lower"
    return "meet"
