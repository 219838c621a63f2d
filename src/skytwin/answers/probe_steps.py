"""One fit of a probe: what it takes, what is kept of it, wherever it is made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from skytwin.answers.probe_classifiers import undisturbed
from skytwin.answers.probe_data import Labelled, Source
from skytwin.answers.probe_metrics import Outputs
from skytwin.answers.probe_run import fit_all, scores_of
from skytwin.answers.resume import Arrays

__all__ = ["Fit", "Fitted", "Shared", "Step", "as_outputs", "fitted", "fitted_apart"]

#: Vectors by their name, and what all fits have in common.
Shared = tuple[Mapping[str, Source], Labelled]
#: Names of vectors and step, and what is kept of each classifier.
Fitted = tuple[str, str, dict[str, Arrays]]


@dataclass(frozen=True, eq=False, kw_only=True)
class Step:
    """Rows to fit on, and rows to ask about.

    Attributes
    ----------
    name : str
    train, test : ndarray of int
    scores : bool
        Keep accuracy and AUC alone, not what was said of every row.
    """

    name: str
    train: np.ndarray
    test: np.ndarray
    scores: bool


@dataclass(frozen=True, eq=False, kw_only=True)
class Fit:
    """Some classifiers in one step.

    Attributes
    ----------
    source : str
        Name of the vectors.
    step : Step
    classifiers : tuple of str
    seed : int
    jobs : int
        Threads of the forests.
    """

    source: str
    step: Step
    classifiers: tuple[str, ...]
    seed: int
    jobs: int

    def each(self, source: Source, labelled: Labelled) -> Iterator[tuple[str, Arrays]]:
        """What is kept of each classifier, one after the other; within `undisturbed`."""
        step = self.step
        for name, outputs in fit_all(
            source,
            labelled,
            step.train,
            step.test,
            self.classifiers,
            seed=self.seed,
            jobs=self.jobs,
        ):
            if step.scores:
                yield name, {"scores": np.array(scores_of(outputs, labelled.truth[step.test]))}
            else:
                yield name, _as_arrays(outputs)


def fitted(fit: Fit, shared: Shared) -> Fitted:
    """Make the fit; within `undisturbed`."""
    sources, labelled = shared
    return fit.source, fit.step.name, dict(fit.each(sources[fit.source], labelled))


def fitted_apart(fit: Fit, shared: Shared) -> Fitted:
    """`fitted` in a process of its own."""
    with undisturbed():
        return fitted(fit, shared)


def _as_arrays(outputs: Outputs) -> Arrays:
    found = {"values": outputs.values, "predicted": outputs.predicted}
    return found if outputs.probability is None else {**found, "probability": outputs.probability}


def as_outputs(arrays: Arrays) -> Outputs:
    """What a classifier said, as it was kept."""
    return Outputs(
        values=arrays["values"],
        probability=arrays.get("probability"),
        predicted=arrays["predicted"],
    )
