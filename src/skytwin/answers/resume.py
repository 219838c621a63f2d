"""Finished steps of a long verb, kept as they are made, so that a killed run goes on."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from skytwin.artefact import PARTS
from skytwin.progress import Progress
from skytwin.run import Run

__all__ = ["Arrays", "Job", "Step", "Steps"]

Arrays = Mapping[str, np.ndarray]
Step = tuple[str, ...]


@dataclass(frozen=True, eq=False, kw_only=True)
class Job:
    """A step to be made.

    Attributes
    ----------
    step : tuple of str
        Its name, and what it depends on besides the recipe and the parents of the run.
    make : callable
        Gives what comes of it. The same arrays every time.
    count : int
        For the progress.
    """

    step: Step
    make: Callable[[], Arrays]
    count: int = 1


class Steps:
    """What came of every step, by its name.

    Parameters
    ----------
    run : Run, optional
        Where each is written and journalled as it is made, and from where those of an earlier,
        killed run are read; in memory alone without.
    """

    def __init__(self, run: Run | None = None) -> None:
        self._run = run
        self._held: dict[Step, Arrays] = {}
        self._files: dict[Step, str] = {}
        for entry in run.journal if run is not None else ():
            step, name = entry.get("step"), str(entry.get("file"))
            if run is not None and step and (run.folder / name).is_file():
                self._files[tuple(step)] = name

    def __len__(self) -> int:
        return len(self._held) + len(self._files)

    def __contains__(self, step: Step) -> bool:
        return step in self._held or step in self._files

    def put(self, step: Step, arrays: Arrays) -> None:
        """Keep what came of a step."""
        if self._run is None:
            self._held[step] = arrays
            return
        stream = io.BytesIO()
        np.savez(stream, allow_pickle=False, **dict(arrays))
        name = f"{PARTS}/step-{len(self._run.journal) + 1}.npz"
        self._run.write(name, stream.getvalue())
        self._run.record({"step": list(step), "file": name})
        self._files[step] = name

    def take(self, step: Step) -> Arrays:
        """What came of a step; it is no longer held in memory."""
        if step in self._held:
            return self._held.pop(step)
        assert self._run is not None  # files come from a run
        with np.load(self._run.folder / self._files[step], allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}

    def place(self, name: str) -> Path | None:
        """Where a training may keep its own state until the run is finished; None without a run."""
        if self._run is None:
            return None
        if not self._run.journal:  # from here on there is something worth resuming
            self._run.record({"kept": PARTS})
        return self._run.folder / PARTS / name

    def make(
        self, what: str, jobs: Sequence[Job], *, unit: str = "images", quiet: bool = True
    ) -> list[Arrays]:
        """What comes of some jobs, in their order; those that are kept are not done again.

        Parameters
        ----------
        what : str
            Shown with the progress.
        jobs : sequence of Job
        unit : str
            What their counts count.
        quiet : bool
        """
        done = sum(job.count for job in jobs if job.step in self)
        total = sum(job.count for job in jobs)
        with Progress(what, total, done=done, unit=unit, quiet=quiet) as bar:
            for job in jobs:
                if job.step not in self:
                    self.put(job.step, job.make())
                    bar.advance(job.count)
        return [self.take(job.step) for job in jobs]
