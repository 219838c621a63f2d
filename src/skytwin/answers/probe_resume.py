"""Finished fits of a probe, kept as they are made, so that a killed run goes on."""

from __future__ import annotations

import io
from collections.abc import Mapping

import numpy as np

from skytwin.artefact import PARTS
from skytwin.run import Run

__all__ = ["Arrays", "Fits"]

Arrays = Mapping[str, np.ndarray]
Step = tuple[str, str, str]  # vectors, classifier, which fit


class Fits:
    """What came of every fit, by vectors, classifier and step.

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
            name = str(entry["file"])
            if run is not None and (run.folder / name).is_file():
                vectors, classifier, step = entry["fit"]
                self._files[vectors, classifier, step] = name

    def __len__(self) -> int:
        return len(self._held) + len(self._files)

    def __contains__(self, step: Step) -> bool:
        return step in self._held or step in self._files

    def put(self, step: Step, arrays: Arrays) -> None:
        """Keep what came of a fit."""
        if self._run is None:
            self._held[step] = arrays
            return
        stream = io.BytesIO()
        np.savez(stream, allow_pickle=False, **dict(arrays))
        name = f"{PARTS}/fit-{len(self._run.journal) + 1}.npz"
        self._run.write(name, stream.getvalue())
        self._run.record({"fit": list(step), "file": name})
        self._files[step] = name

    def take(self, step: Step) -> Arrays:
        """What came of a fit; it is no longer held in memory."""
        if step in self._held:
            return self._held.pop(step)
        assert self._run is not None  # files come from a run
        with np.load(self._run.folder / self._files[step], allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
