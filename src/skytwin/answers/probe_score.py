"""Scores of classifiers on sets of vectors, and what tells two of them apart."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from skytwin.answers.calibrate_fit import Reliability
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
from skytwin.answers.probe_steps import Fit, Step, as_outputs, fitted
from skytwin.answers.resume import Arrays, Steps
from skytwin.embeddings.engine import Engine
from skytwin.progress import Progress

__all__ = ["CURVES", "METRICS", "Score", "Work", "compared", "every_label"]

METRICS = ("accuracy", "auc", "balanced", "specificity", "recall", "brier")
# Fits under way for each thread of a worker: some take a hundred times as long as others.
_AHEAD = 16
# Tasks for each thread of a worker that make all end at about the same time.
_ENOUGH = 8
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
    """What every fit of one probe shares."""

    labelled: Labelled
    classifiers: Sequence[str]
    again: Resamples
    seed: int
    jobs: int
    level: float
    fits: Steps
    bar: Progress

    def fit_elsewhere(
        self,
        engine: Engine,
        source: Source,
        folds: int,
        repeats: int,
        budgets: Sequence[int],
        draws: int,
    ) -> None:
        """Make the fits that are missing on workers: `scores` and `curve` find them made."""
        # Scaling, and components all the more, take a while: once for all classifiers of a step,
        # unless that leaves workers without a task.
        count = folds * repeats + 1 + len(budgets) * draws
        together = source.components is not None or count >= _ENOUGH * engine.workers

        def missing() -> Iterator[Fit]:
            for step in self._steps(folds, repeats, budgets, draws):
                keys = ((source.name, name, step.name) for name in self.classifiers)
                names = [key[1] for key in keys if key not in self.fits]
                for some in [names] if together and names else [[name] for name in names]:
                    yield Fit(step=step, classifiers=tuple(some), seed=self.seed, jobs=self.jobs)

        shared = (source, self.labelled)
        for step, found in engine.in_order(fitted, missing(), shared=shared, ahead=_AHEAD):
            for name, arrays in found.items():
                self._put(source, name, step, arrays)

    def _put(self, source: Source, name: str, step: str, arrays: Arrays) -> None:
        self.fits.put((source.name, name, step), arrays)
        self.bar.advance(1, f"{source.name}, {name}")

    def _steps(
        self, folds: int, repeats: int, budgets: Sequence[int], draws: int
    ) -> Iterator[Step]:
        """Every fit of a set of vectors, in the order in which they are asked for."""
        for number, train, out in folded(self.labelled, folds, repeats if folds else 0, self.seed):
            yield Step(name=f"fold {number}", train=train, test=out, scores=True)
        yield self._whole()
        for budget in budgets:
            for draw in range(draws):
                yield self._few(budget, draw)

    def _whole(self) -> Step:
        """Fitted on all training rows."""
        train = np.flatnonzero(~self.labelled.test)
        return Step(name="test", train=train, test=self.test, scores=False)

    def _few(self, budget: int, draw: int) -> Step:
        """Fitted on few labels."""
        train = draw_labels(self.labelled, budget, self.seed + draw)
        name = f"{budget} labels, draw {draw}"
        return Step(name=name, train=train, test=self.test, scores=False)

    @property
    def test(self) -> np.ndarray:
        """Test rows."""
        return np.flatnonzero(self.labelled.test)

    @property
    def truth(self) -> np.ndarray:
        """Their classes."""
        return np.asarray(self.labelled.truth[self.test])

    def _each(self, source: Source, step: Step) -> dict[str, Arrays]:
        """What came of each classifier, fitted unless it was before."""
        keys = {name: (source.name, name, step.name) for name in self.classifiers}
        missing = [name for name, key in keys.items() if key not in self.fits]
        fit = Fit(step=step, classifiers=tuple(missing), seed=self.seed, jobs=self.jobs)
        for name, arrays in fit.each(source, self.labelled):
            self._put(source, name, step.name, arrays)
        return {name: self.fits.take(key) for name, key in keys.items()}

    def _asked(self, source: Source, step: Step) -> dict[str, Outputs]:
        """What each classifier says of the test rows."""
        return {name: as_outputs(arrays) for name, arrays in self._each(source, step).items()}

    def scores(
        self, source: Source, folds: int, repeats: int
    ) -> tuple[list[Score], dict[str, dict[str, np.ndarray]]]:
        """Every classifier on one set of vectors, and its metrics in every resample."""
        within = {name: np.empty((2, folds * repeats)) for name in self.classifiers}
        steps = self._steps(folds, repeats, (), 0)
        for number, step in enumerate(itertools.islice(steps, folds * repeats)):
            for name, arrays in self._each(source, step).items():
                within[name][:, number] = arrays["scores"]
        asked = self._asked(source, self._whole())
        drawn = {name: replicates(each, self.truth, self.again) for name, each in asked.items()}
        return [
            self._score(source, name, outputs, drawn[name], within[name], folds)
            for name, outputs in asked.items()
        ], drawn

    def _score(
        self,
        source: Source,
        name: str,
        outputs: Outputs,
        drawn: dict[str, np.ndarray],
        within: np.ndarray,
        folds: int,
    ) -> Score:
        bins = reliability_of(outputs, self.truth, self.level)
        cv = [cross_validated(each, folds, self.level) for each in within] if folds else [None] * 2
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

    def curve(self, source: Source, budgets: Sequence[int], draws: int) -> list[dict[str, Any]]:
        """Rows of `CURVES` from few labels."""
        rows = []
        for budget in budgets:
            each: dict[str, list[Outputs]] = {name: [] for name in self.classifiers}
            for draw in range(draws):
                for name, outputs in self._asked(source, self._few(budget, draw)).items():
                    each[name].append(outputs)
            for name, several in each.items():
                row: dict[str, Any] = {"embedding": source.name, "classifier": name}
                row |= {"labels": budget, "draws": draws}
                found = few_labels(several, self.truth, self.again, self.level)
                for metric, ends in found.items():
                    row |= {metric + end: value for end, value in zip(_ENDS, ends, strict=True)}
                rows.append(row)
        return rows


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
