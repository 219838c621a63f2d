"""Scores of classifiers on sets of vectors, and what tells two of them apart."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from skytwin.answers.calibrate_fit import Reliability
from skytwin.answers.probe_classifiers import undisturbed
from skytwin.answers.probe_data import Labelled, Source
from skytwin.answers.probe_metrics import (
    Estimate,
    Outputs,
    Resamples,
    calibration_error,
    confusion,
    cross_validated,
    estimates,
    holm,
    mcnemar,
    reliability_of,
    replicates,
)
from skytwin.answers.probe_run import draw_labels, few_labels, folded
from skytwin.answers.probe_steps import (
    Fit,
    Fitted,
    Shared,
    Step,
    as_outputs,
    fitted,
    fitted_apart,
)
from skytwin.answers.resume import Steps
from skytwin.embeddings.engine import Engine
from skytwin.progress import Progress
from skytwin.threads import Threads, thread_count

__all__ = ["CURVES", "METRICS", "Score", "Work", "compared", "every_label"]

METRICS = ("accuracy", "auc", "balanced", "specificity", "recall", "brier")
# Fits under way for each thread of a worker: some take a hundred times as long as others.
_AHEAD = 16
# Tasks for each thread of a worker that make all end at about the same time.
_ENOUGH = 8
_ROOM = 4 << 30  # bytes of vectors, standardised for each fit that is under way
_WHOLE = "test"  # the step that is fitted on all training rows
_ENDS = ("", "_lower", "_upper")
CURVES = pa.schema(
    [("embedding", pa.string()), ("classifier", pa.string())]
    + [("labels", pa.int64()), ("draws", pa.int64())]
    + [(name + end, pa.float64()) for name in ("accuracy", "auc") for end in _ENDS]
)
_COMPARED = pa.schema(
    [("classifier", pa.string()), ("one", pa.string()), ("other", pa.string())]
    + [(f"{n}_difference{e}", pa.float64()) for n in ("accuracy", "auc") for e in _ENDS]
    + [("only_one_right", pa.int64()), ("only_other_right", pa.int64())]
    + [("p", pa.float64()), ("p_holm", pa.float64())]
)


@dataclass(frozen=True, eq=False, kw_only=True)
class Score:
    """One classifier on one set of vectors.

    Attributes
    ----------
    embedding, classifier : str
    dim : int
    baseline : bool
    metrics : dict of str to Estimate
        On the test rows: ``accuracy``, ``auc``, ``balanced``, with two classes ``specificity``
        and ``recall``, with probabilities ``brier``; intervals over resampled objects.
    calibration_error : float or None
        Expected calibration error over ten bins; None without probabilities.
    reliability : Reliability or None
    confusion : ndarray, shape (K, K), int64
        Classes in rows, what they were taken for in columns.
    outputs : Outputs
        What it says of the test rows.
    cv_accuracy, cv_auc : Estimate or None
        Over folds of the training rows.
    """

    embedding: str
    classifier: str
    dim: int
    baseline: bool
    metrics: dict[str, Estimate]
    calibration_error: float | None
    reliability: Reliability | None
    confusion: np.ndarray
    outputs: Outputs
    cv_accuracy: Estimate | None
    cv_auc: Estimate | None

    def __repr__(self) -> str:
        accuracy, auc = self.metrics["accuracy"], self.metrics["auc"]
        return f"Score({self.embedding}, {self.classifier}: accuracy {accuracy}, AUC {auc})"


@dataclass(frozen=True, eq=False, kw_only=True)
class Work:
    """What every fit of one probe shares.

    Attributes
    ----------
    labelled : Labelled
    classifiers : sequence of str
    folds, repeats : int
    budgets : sequence of int
    draws : int
    again : Resamples
    seed : int
    level : float
    fits : Steps
    """

    labelled: Labelled
    classifiers: Sequence[str]
    folds: int
    repeats: int
    budgets: Sequence[int]
    draws: int
    again: Resamples
    seed: int
    level: float
    fits: Steps

    @property
    def count(self) -> int:
        """How often each classifier is fitted to a set of vectors."""
        return 1 + self.folds * self.repeats + len(self.budgets) * self.draws

    def at_once(
        self, sources: Sequence[Source], engine: Engine | None, jobs: int | None
    ) -> list[Sequence[Source]]:
        """Sources to `fit` together.

        Each alone, so that little is held of what came of it, unless that leaves threads idle.
        """
        enough = _ENOUGH * (jobs or thread_count())
        few = engine is None and self.count * len(self.classifiers) < enough
        return [sources] if few else [[source] for source in sources]

    def fit(
        self,
        sources: Sequence[Source],
        engine: Engine | None,
        jobs: int | None,
        bar: Progress,
    ) -> None:
        """Make the fits that are missing: `scores` and `curve` find them made.

        On workers, whose forests take so many threads; or by so many threads side by side, fewer
        where their copies of the vectors would take too much room.
        """
        if engine is not None:
            for source in sources:  # what all fits of one need is sent at once
                self._fit(engine, fitted_apart, [source], jobs or 1, bar)
            return
        jobs = jobs or thread_count()
        largest = max(len(each.vectors) * each.dim * 8 for each in sources)
        beside = max(1, min(jobs, _ROOM // largest))
        with undisturbed():
            self._fit(Threads(beside), fitted, sources, jobs // beside, bar)

    def _fit(
        self,
        workers: Engine | Threads,
        made: Callable[[Fit, Shared], Fitted],
        sources: Sequence[Source],
        jobs: int,
        bar: Progress,
    ) -> None:
        def missing() -> Iterator[Fit]:
            for source in sources:
                # Components take a while, and so does a task on its way to a worker: once for all
                # classifiers of a step, unless that leaves workers without a task.
                far = isinstance(workers, Engine) and self.count >= _ENOUGH * workers.workers
                together = source.components is not None or far
                for step in self._steps():
                    keys = ((source.name, name, step.name) for name in self.classifiers)
                    names = [key[1] for key in keys if key not in self.fits]
                    for some in [names] if together and names else [[name] for name in names]:
                        yield Fit(
                            source=source.name,
                            step=step,
                            classifiers=tuple(some),
                            seed=self.seed,
                            jobs=jobs,
                        )

        shared: Shared = ({each.name: each for each in sources}, self.labelled)
        for source, step, found in workers.in_order(made, missing(), shared=shared, ahead=_AHEAD):
            for name, arrays in found.items():
                self.fits.put((source, name, step), arrays)
                bar.advance(1, f"{source}, {name}")

    def _steps(self) -> Iterator[Step]:
        """Every fit of a set of vectors, in the order in which they are asked for."""
        repeats = self.repeats if self.folds else 0
        for number, train, out in folded(self.labelled, self.folds, repeats, self.seed):
            yield Step(name=f"fold {number}", train=train, test=out, scores=True)
        train = np.flatnonzero(~self.labelled.test)
        yield Step(name=_WHOLE, train=train, test=self.test, scores=False)
        for budget in self.budgets:
            for draw in range(self.draws):
                train = draw_labels(self.labelled, budget, self.seed + draw)
                yield Step(name=_few(budget, draw), train=train, test=self.test, scores=False)

    @property
    def test(self) -> np.ndarray:
        """Test rows."""
        return np.flatnonzero(self.labelled.test)

    @property
    def truth(self) -> np.ndarray:
        """Their classes."""
        return np.asarray(self.labelled.truth[self.test])

    def _asked(self, source: Source, name: str, step: str) -> Outputs:
        """What a classifier says of the test rows."""
        return as_outputs(self.fits.take((source.name, name, step)))

    def scores(self, source: Source) -> tuple[list[Score], dict[str, dict[str, np.ndarray]]]:
        """Every classifier on one set of vectors, and its metrics in every resample."""
        found, drawn = [], {}
        for name in self.classifiers:
            within = [
                self.fits.take((source.name, name, f"fold {number}"))["scores"]
                for number in range(self.folds * self.repeats)
            ]
            outputs = self._asked(source, name, _WHOLE)
            drawn[name] = replicates(outputs, self.truth, self.again)
            each = np.reshape(within, (-1, 2)).T
            found.append(self._score(source, name, outputs, drawn[name], each))
        return found, drawn

    def _score(
        self,
        source: Source,
        name: str,
        outputs: Outputs,
        drawn: dict[str, np.ndarray],
        within: np.ndarray,
    ) -> Score:
        bins = reliability_of(outputs, self.truth, self.level)
        cv: list[Estimate | None] = [None, None]
        if self.folds:
            cv = [cross_validated(each, self.folds, self.level) for each in within]
        return Score(
            embedding=source.name,
            classifier=name,
            dim=source.dim,
            baseline=source.baseline,
            metrics=estimates(outputs, self.truth, self.again.group, drawn, self.level),
            calibration_error=None if bins is None else calibration_error(bins),
            reliability=bins,
            confusion=confusion(self.truth, outputs.predicted, len(self.labelled.classes)),
            outputs=outputs,
            cv_accuracy=cv[0],
            cv_auc=cv[1],
        )

    def curve(self, source: Source) -> list[dict[str, Any]]:
        """Rows of `CURVES` from few labels."""
        rows = []
        for budget in self.budgets:
            for name in self.classifiers:
                several = [
                    self._asked(source, name, _few(budget, draw)) for draw in range(self.draws)
                ]
                row: dict[str, Any] = {"embedding": source.name, "classifier": name}
                row |= {"labels": budget, "draws": self.draws}
                found = few_labels(several, self.truth, self.again, self.level)
                for metric, ends in found.items():
                    row |= {metric + end: value for end, value in zip(_ENDS, ends, strict=True)}
                rows.append(row)
        return rows


def _few(budget: int, draw: int) -> str:
    """Name of the step that learns from few labels."""
    return f"{budget} labels, draw {draw}"


def every_label(score: Score, labels: int) -> dict[str, Any]:
    """The row of `CURVES` that takes all labels."""
    row: dict[str, Any] = {"embedding": score.embedding, "classifier": score.classifier}
    row |= {"labels": labels, "draws": 1}
    for name in ("accuracy", "auc"):
        cell = score.metrics[name]
        row |= {name: cell.value, f"{name}_lower": cell.lower, f"{name}_upper": cell.upper}
    return row


def compared(
    scores: Sequence[Score],
    drawn: dict[tuple[str, str], dict[str, np.ndarray]],
    truth: np.ndarray,
    level: float,
) -> pa.Table:
    """Sets of vectors against each other, each classifier by itself, baselines only as the other.

    Parameters
    ----------
    scores : sequence of Score
    drawn : dict of (embedding, classifier) to dict of str to ndarray
        Metrics in every resample, the same resamples for all.
    truth : ndarray, shape (n,), int
    level : float
    """
    tail = (1 - level) / 2
    rows: list[dict[str, Any]] = []
    for one, other in itertools.combinations(scores, 2):
        if one.classifier != other.classifier or one.baseline:
            continue
        row: dict[str, Any] = {"classifier": one.classifier}
        row |= {"one": one.embedding, "other": other.embedding}
        for name in ("accuracy", "auc"):
            value = one.metrics[name].value - other.metrics[name].value
            both = [drawn[each.embedding, each.classifier][name] for each in (one, other)]
            lower, upper = np.nanquantile(both[0] - both[1], [tail, 1 - tail])
            key = f"{name}_difference"
            row |= {key: value, f"{key}_lower": float(lower), f"{key}_upper": float(upper)}
        right = [each.outputs.predicted == truth for each in (one, other)]
        row["only_one_right"], row["only_other_right"], row["p"] = mcnemar(right[0], right[1])
        rows.append(row)
    for row, adjusted in zip(rows, holm([row["p"] for row in rows]), strict=True):
        row["p_holm"] = adjusted
    return pa.Table.from_pylist(rows, schema=_COMPARED)
