"""How well simple classifiers read a label from frozen vectors."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from skytwin.answers.intervals import Proportion
from skytwin.answers.probe_classifiers import CLASSIFIERS, check_classifiers
from skytwin.answers.probe_data import (
    Labelled,
    Source,
    gather,
    named,
    pixel_sources,
    require_folds,
    widest,
)
from skytwin.answers.probe_kept import KeptProbe, keep
from skytwin.answers.probe_metrics import Resamples
from skytwin.answers.probe_run import budgets_within
from skytwin.answers.probe_score import CURVES, METRICS, Score, Work, compared, every_label
from skytwin.answers.resume import Steps
from skytwin.embeddings.engine import Engine
from skytwin.embeddings.table import Embeddings
from skytwin.errors import UsageError, unknown
from skytwin.progress import Progress
from skytwin.run import Run

if TYPE_CHECKING:
    from skytwin.images.cutouts import Cutouts

__all__ = ["BUDGET", "Probe", "Score", "choose_classifiers", "probe", "probe_run"]

BUDGET = (10, 30, 100, 300, 1000, 3000, 10000)
_MODEST = 1024  # numbers above which gradient boosting takes minutes


@dataclass(frozen=True, eq=False, kw_only=True)
class Probe:
    """How well a label is read from vectors.

    Attributes
    ----------
    scores : tuple of Score
    comparisons : pyarrow.Table
        One row per classifier and two sets of vectors: ``classifier``, ``one``, ``other``,
        ``accuracy_difference`` and ``auc_difference`` (one less other) with ``_lower`` and
        ``_upper``, ``only_one_right``, ``only_other_right``, ``p`` (exact McNemar) and ``p_holm``
        (adjusted for all rows).
    curves : pyarrow.Table
        ``embedding``, ``classifier``, ``labels``, ``draws``, ``accuracy`` and ``auc`` on the test
        rows with ``_lower`` and ``_upper``; the last row of each takes every label.
    label : str
    labelled : Labelled
        The objects, their classes and sides; of two classes the second is the positive one.
    base : Proportion
        Accuracy on the test rows of always saying the most frequent training class.
    notes : tuple of str
        What else to know.
    settings : dict
    embeddings : dict of str to Embeddings
    sources : tuple of Source
    level : float
        Coverage of the intervals.
    """

    scores: tuple[Score, ...]
    comparisons: pa.Table
    curves: pa.Table
    label: str
    labelled: Labelled
    base: Proportion
    notes: tuple[str, ...]
    settings: dict[str, Any]
    embeddings: dict[str, Embeddings]
    sources: tuple[Source, ...]
    level: float

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes; of two the second is the positive one."""
        return self.labelled.classes

    @property
    def truth(self) -> np.ndarray:
        """Numbers of the classes of the test rows."""
        return np.asarray(self.labelled.truth[self.labelled.test])

    @property
    def best(self) -> Score:
        """The most accurate on the test rows, baselines aside, the larger AUC where two are."""
        ours = [score for score in self.scores if not score.baseline]
        return max(ours, key=lambda s: (s.metrics["accuracy"].value, s.metrics["auc"].value))

    def score(self, classifier: str, embedding: str | None = None) -> Score:
        """That of one classifier; of the first embedding unless named."""
        embedding = embedding or self.sources[0].name
        for each in self.scores:
            if (each.embedding, each.classifier) == (embedding, classifier):
                return each
        if embedding not in {each.embedding for each in self.scores}:
            raise unknown("embedding", embedding, (source.name for source in self.sources))
        raise unknown("classifier", classifier, self.settings["classifiers"])

    def fit_final(self, classifier: str, embedding: str | None = None) -> KeptProbe:
        """The probe as it was tested (fitted on the training rows), to keep and apply elsewhere.

        Raises
        ------
        UsageError
            The classifier is not linear, and cannot be kept without running code on opening.
        """
        score = self.score(classifier, embedding)
        source = next(each for each in self.sources if each.name == score.embedding)
        if source.baseline:
            raise UsageError(f"{source.name!r} is a baseline; keep a probe of an embedding")
        tested = {name: vars(value) for name, value in score.metrics.items()}
        return keep(
            [self.embeddings[name] for name in source.parts],
            source,
            self.labelled,
            classifier,
            label=self.label,
            tested=tested,
            seed=int(self.settings["seed"]),
        )

    @property
    def table(self) -> pa.Table:
        """One row per set of vectors and classifier."""
        rows = []
        for score in self.scores:
            row: dict[str, Any] = {
                "embedding": score.embedding,
                "dim": score.dim,
                "classifier": score.classifier,
            }
            cells = {name: score.metrics.get(name) for name in METRICS}
            cells |= {"cv_accuracy": score.cv_accuracy, "cv_auc": score.cv_auc}
            for name, cell in cells.items():
                row[name] = None if cell is None else cell.value
                row[f"{name}_lower"] = None if cell is None else cell.lower
                row[f"{name}_upper"] = None if cell is None else cell.upper
            row["calibration_error"] = score.calibration_error
            row["base_rate"] = self.base.value
            rows.append(row)
        types = {"embedding": pa.string(), "dim": pa.int64(), "classifier": pa.string()}
        return pa.Table.from_pylist(
            rows, schema=pa.schema([(name, types.get(name, pa.float64())) for name in rows[0]])
        )

    @property
    def predictions(self) -> pa.Table:
        """The test rows: ``id``, ``truth``, and what each classifier on each embedding says."""
        test, names = self.labelled.test, np.array(self.classes, dtype=object)
        columns = {"id": self.labelled.ids[test].astype(str), "truth": names[self.truth]}
        for score in self.scores:
            columns[f"{score.embedding}: {score.classifier}"] = names[score.outputs.predicted]
        return pa.table(columns)

    def to_pandas(self) -> Any:
        """The table as a pandas DataFrame."""
        return self.table.to_pandas()

    def describe(self) -> dict[str, str]:
        """Where the numbers come from, for a table's header."""
        found = {"skytwin": "probe", "label": self.label, "classes": ", ".join(self.classes)}
        if len(self.classes) == 2:
            found["positive"] = self.classes[1]
        found |= {"test_rows": str(len(self.truth)), "base_rate": str(self.base)}
        for number, each in enumerate(self.embeddings.values(), 1):
            found[f"embedding_{number}"] = each.as_parent().fingerprint
            found[f"encoder_{number}"] = each.encoder_name
        return found | {"seed": str(self.settings["seed"])}

    def __repr__(self) -> str:
        return f"Probe({self.label}, {len(self.truth)} test rows; best {self.best!r})"


def probe(
    embeddings: Embeddings | Sequence[Embeddings] | Mapping[str, Embeddings],
    label: str,
    *,
    together: bool = False,
    split: str | None = None,
    positive: str | None = None,
    where: str | None = None,
    classifiers: Sequence[str] | None = None,
    folds: int = 10,
    repeats: int = 3,
    group_arcsec: float = 2.0,
    bootstrap: int = 1000,
    budget: Sequence[int] = BUDGET,
    draws: int = 5,
    baselines: bool = True,
    crop: int | None = None,
    cutouts: Cutouts | None = None,
    seed: int = 0,
    level: float = 0.95,
    jobs: int | None = None,
    engine: Engine | None = None,
    out: str | Path | None = None,
    quiet: bool = True,
) -> Probe:
    """Read a label from vectors with simple classifiers.

    Parameters
    ----------
    embeddings : Embeddings, or several as a sequence or by name
        Matched by object id. Catalogue columns are those of the first.
    label : str
        Column of classes.
    together : bool
        Also read the label from all embeddings side by side, every embedding weighing alike
        (see `skytwin.answers.probe_run.Scaling`).
    split : str, optional
        Column of ``train`` and ``test``. Without it a fifth of the objects are the test rows.
    positive : str, optional
        Of two classes, the one that ``recall`` and the AUC are of; the last by name.
    where : str, optional
        SQL condition on the catalogue.
    classifiers : sequence of str, optional
        Some of `skytwin.answers.probe_classifiers.CLASSIFIERS`. All by default, but for ``gb``
        where vectors have more than 1024 numbers.
    folds, repeats : int
        Of the cross-validation on the training rows; 0 folds for none.
    group_arcsec : float
        Rows nearer than this, or linked by such, are one object: never on two sides or folds.
    bootstrap : int
        Resamples of the test objects.
    budget : sequence of int
        Numbers of labels to learn from, beside all of them; empty for none.
    draws : int
        Of each number of labels.
    baselines : bool
        Also read the label from pixels and their principal components.
    crop : int, optional
        Central pixels of the baselines; by default those of the first embedding.
    cutouts : Cutouts, optional
        For the baselines, if they were moved.
    seed : int
    level : float
        Coverage of the intervals.
    jobs : int, optional
        Fits side by side, as many as processors unless given; with an engine, threads of each
        forest there, 1 unless given. The result is the same.
    engine : Engine, optional
        Workers that fit; see `skytwin.embeddings.engine.open_engine`.
    out : path, optional
        Folder to keep every fit in as it is made: killed, the same call goes on from there to the
        same result. `skytwin.report_probe.save_probe` finishes the folder.
    quiet : bool
        Show no progress.

    Raises
    ------
    UsageError
        A setting is out of range; no such column, class or classifier.
    OutputExists
        ``out`` holds anything else.
    DataError
        One class, or one of too few objects for the folds.
    """
    _check_numbers(folds, repeats, bootstrap, budget, draws, level)
    given = named(embeddings)
    chosen, notes = choose_classifiers(classifiers, widest(given.values(), together))
    settings: dict[str, Any] = {
        "label": label,
        "together": together,
        "split": split,
        "positive": positive,
        "where": where,
        "classifiers": list(chosen),
        "folds": folds,
        "repeats": repeats,
        "group_arcsec": group_arcsec,
        "bootstrap": bootstrap,
        "budget": [int(each) for each in budget],
        "draws": draws,
        "baselines": baselines,
        "crop": crop,
        "seed": seed,
        "level": level,
    }
    with contextlib.ExitStack() as stack:
        run = None if out is None else stack.enter_context(probe_run(out, given, settings))
        labelled, sources = gather(
            given,
            label,
            together=together,
            split=split,
            positive=positive,
            where=where,
            group_arcsec=group_arcsec,
            seed=seed,
        )
        if folds:
            require_folds(labelled, folds, label)
        notes = [*labelled.notes, *notes]
        train = int((~labelled.test).sum())
        if baselines:
            made, said = pixel_sources(
                list(given.values()), labelled.ids, train, crop=crop, cutouts=cutouts
            )
            sources += made
            notes.append(said)
        again = Resamples(group=labelled.group[labelled.test], count=bootstrap, seed=seed)
        budgets = budgets_within(budget, labelled)
        scores: list[Score] = []
        curves: list[dict[str, Any]] = []
        drawn: dict[tuple[str, str], dict[str, np.ndarray]] = {}
        fits = Steps(run)
        work = Work(
            labelled=labelled,
            classifiers=chosen,
            folds=folds,
            repeats=repeats,
            budgets=budgets,
            draws=draws,
            again=again,
            seed=seed,
            level=level,
            fits=fits,
        )
        total = len(sources) * len(chosen) * work.count
        with Progress("probe", total, done=len(fits), unit="fits", quiet=quiet) as bar:
            for some in work.at_once(sources, engine, jobs):
                work.fit(some, engine, jobs, bar)
                for source in some:
                    found, own = work.scores(source)
                    scores += found
                    drawn |= {(source.name, name): one for name, one in own.items()}
                    curves += work.curve(source)
                    curves += [every_label(score, train) for score in found] if budget else []
    truth = labelled.truth
    often = np.bincount(truth[~labelled.test], minlength=len(labelled.classes)).argmax()
    asked = truth[labelled.test]
    # What is joined comes first: its gain over each alone is asked for, not the reverse.
    joined = {source.name for source in sources if len(source.parts) > 1}
    in_order = sorted(scores, key=lambda score: score.embedding not in joined)
    return Probe(
        scores=tuple(scores),
        comparisons=compared(in_order, drawn, asked, level),
        curves=pa.Table.from_pylist(curves, schema=CURVES),
        label=label,
        labelled=labelled,
        base=Proportion.of(int((asked == often).sum()), len(asked), level),
        notes=tuple(notes),
        settings=settings,
        embeddings=given,
        sources=tuple(sources),
        level=level,
    )


def probe_run(
    out: str | Path, embeddings: Mapping[str, Embeddings], settings: Mapping[str, Any]
) -> Run:
    """The folder of a probe with these settings, to fill or to go on with."""
    parents = {name: each.as_parent() for name, each in embeddings.items()}
    return Run(
        out,
        kind="probe",
        recipe=settings,
        inputs={name: parent.path for name, parent in parents.items()},
        parents=parents,
    )


def choose_classifiers(given: Sequence[str] | None, dim: int) -> tuple[tuple[str, ...], list[str]]:
    """The classifiers named, or those that take no minutes a fit, and what to say of the others."""
    if given is not None:
        return check_classifiers([given] if isinstance(given, str) else given), []
    if dim <= _MODEST:
        return CLASSIFIERS, []
    note = f"without gb, which takes minutes a fit on {dim} numbers: --classifiers names it"
    return tuple(name for name in CLASSIFIERS if name != "gb"), [note]


def _check_numbers(
    folds: int, repeats: int, bootstrap: int, budget: Sequence[int], draws: int, level: float
) -> None:
    if folds < 0 or folds == 1:
        raise UsageError(f"{folds} folds; expected at least 2, or 0 for no cross-validation")
    if repeats < 1 or draws < 1:
        raise UsageError(f"{repeats} repeats, {draws} draws; expected at least 1 of each")
    if bootstrap < 100:
        raise UsageError(f"{bootstrap} resamples; an interval takes at least 100")
    if any(each < 1 for each in budget):
        raise UsageError(f"budget {list(budget)}; expected numbers of labels of at least 1")
    if not 0 < level < 1:
        raise UsageError(f"interval level {level}; expected a number between 0 and 1")
