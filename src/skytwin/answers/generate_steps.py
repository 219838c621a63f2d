"""The steps of `skytwin.answers.generate` that take long, kept as they are done.

Every name of a step begins with the digest of the real images: what was kept beside others is
made again. Names of what depends on samples say where their top latents come from, so that samples
of both kinds may share the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from skytwin.answers.drift import Effect
from skytwin.answers.generate_closeness import FEWEST, Comparison, Nearest, compare_vectors
from skytwin.answers.generate_data import RealImages, prepared_blocks
from skytwin.answers.generate_judges import Judge
from skytwin.answers.generate_latents import FittedLatents, Latents
from skytwin.answers.resume import Arrays, Job, Step, Steps
from skytwin.progress import Progress

if TYPE_CHECKING:
    from skytwin.encoders.generator import Generator, Reconstructed

__all__ = ["HELD", "REBUILT", "SAMPLES", "TEMPERATURES", "TRAINED", "Work"]

SAMPLES, REBUILT = "samples", "reconstructions"
HELD, TRAINED = "held-out images", "training images"
TEMPERATURES = (0.3, 0.5, 0.7, 0.85, 1.0)
_PAIRED = ((SAMPLES, HELD), (SAMPLES, REBUILT), (REBUILT, HELD), (TRAINED, HELD))
_LOOKED = 4096  # training images between two records of the nearest
_JUDGED = 256  # images that a judge sees at a time
_ENCODED = 8  # batches between two records of latents


class Work:
    """What the network does for one answer.

    Parameters
    ----------
    generator : Generator
    real : RealImages
    seed : int
    steps : Steps
        Where what is done is kept.
    quiet : bool
    """

    def __init__(
        self, generator: Generator, real: RealImages, seed: int, steps: Steps, quiet: bool
    ) -> None:
        self._generator, self._real, self._seed = generator, real, seed
        self._steps, self._quiet = steps, quiet
        self._mark = real.digest()
        self._latents: FittedLatents | None = None

    def fit_latents(self, x_NCHW: np.ndarray, condition_NK: np.ndarray | None) -> None:
        """Top latents of samples come from a Gaussian fitted to those of some images."""
        size = self._generator.batch

        def drawn(rows: slice) -> Arrays:
            known = None if condition_NK is None else condition_NK[rows]
            return {
                "top": self._generator.draw_top(
                    x_NCHW[rows], known, seed=self._seed, first=rows.start
                )
            }

        found = self._in_parts("latents", ("latents",), len(x_NCHW), _ENCODED * size, drawn)
        top = np.concatenate([one["top"] for one in found])
        self._latents = FittedLatents.fit(top, condition_NK)

    def _sample(
        self, count: int, temperature: float, condition_NK: np.ndarray | None, first: int
    ) -> Arrays:
        top = None
        if self._latents is not None:
            top = self._latents.draw(
                count,
                temperature,
                condition_NK,
                seed=self._seed,
                first=first,
                batch=self._generator.batch,
            )
        image = self._generator.sample(
            count,
            temperature=temperature,
            condition_NK=condition_NK,
            top_ND=top,
            seed=self._seed,
            first=first,
        )
        return {"image": image}

    def sample(self, count: int, temperature: float, condition_NK: np.ndarray | None) -> np.ndarray:
        """The samples that are measured, a batch a step."""

        def drawn(rows: slice) -> Arrays:
            known = None if condition_NK is None else condition_NK[rows]
            return self._sample(rows.stop - rows.start, temperature, known, rows.start)

        step, size = ("sample", self._kind), self._generator.batch
        found = self._in_parts("sample", step, count, size, drawn)
        return np.concatenate([one["image"] for one in found])

    def reconstruct(self, x_NCHW: np.ndarray, condition_NK: np.ndarray | None) -> Reconstructed:
        """Images after their own latents, a batch a step."""

        def rebuilt(rows: slice) -> Arrays:
            known = None if condition_NK is None else condition_NK[rows]
            found = self._generator.reconstruct(
                x_NCHW[rows], known, seed=self._seed, first=rows.start
            )
            return vars(found)

        size = self._generator.batch
        return self._generator.joined(
            self._in_parts("reconstruct", ("reconstruct",), len(x_NCHW), size, rebuilt)
        )

    def nearest(self, sets: Sequence[np.ndarray]) -> Nearest:
        """The nearest training image of every image of some sets."""
        rows = self._real.among
        found = Nearest(np.concatenate([x.reshape(len(x), -1) for x in sets]))
        starts = range(0, len(rows), _LOOKED)
        named: list[Step] = [(self._mark, "nearest", self._kind, str(start)) for start in starts]
        kept = max((n + 1 for n, step in enumerate(named) if step in self._steps), default=0)
        if kept:
            found.go_on(**self._steps.take(named[kept - 1]))
        with Progress(
            "nearest", len(rows), done=min(kept * _LOOKED, len(rows)), quiet=self._quiet
        ) as bar:
            for start, step in zip(starts[kept:], named[kept:], strict=True):
                some = rows[start : start + _LOOKED]
                for _, x, _ in prepared_blocks(self._real.cutouts, some, self._generator.prepare):
                    found.show(x.reshape(len(x), -1))
                    bar.advance(len(x))
                self._steps.put(step, found.state())
        return found

    def judged(
        self, judges: Sequence[Judge], sets: Mapping[str, np.ndarray]
    ) -> list[dict[str, np.ndarray]]:
        """What every judge makes of every set, by its name."""
        found: list[dict[str, np.ndarray]] = []
        for number, judge in enumerate(judges):
            jobs, last = [], []
            for name, x in sets.items():
                step = ("judge", str(number), *self._of(name))
                jobs += self._parts(step, len(x), _JUDGED, partial(_seen, judge, x))
                last.append(len(jobs))
            made = self._steps.make(f"judge {number + 1}", jobs, quiet=self._quiet)
            each = np.split(np.arange(len(made)), last[:-1])
            found.append(
                {
                    name: np.concatenate([made[place]["vectors"] for place in places])
                    for name, places in zip(sets, each, strict=True)
                }
            )
        return found

    def compare(
        self,
        judges: Sequence[Judge],
        judged: Sequence[Mapping[str, np.ndarray]],
        permutations: int,
        level: float,
    ) -> tuple[Comparison, ...]:
        """Every judge on: samples, reconstructions and training images against held-out images,
        and samples against reconstructions.

        Reconstructions of one half of the held-out images are held against the other half.
        """
        asked: list[tuple[str, tuple[str, np.ndarray], tuple[str, np.ndarray]]] = []
        jobs = []
        for number, (judge, vectors) in enumerate(zip(judges, judged, strict=True)):
            # Of an image and its own reconstruction in two sets a classifier would make use.
            halves = {REBUILT: vectors[REBUILT][::2], HELD: vectors[HELD][1::2]}
            for one, other in _PAIRED:
                taken = halves if (one, other) == (REBUILT, HELD) else vectors
                if min(len(taken[one]), len(taken[other])) < FEWEST:
                    continue
                asked.append((judge.name, (one, taken[one]), (other, taken[other])))
                jobs.append(
                    Job(
                        step=(self._mark, "test", str(number), *self._of(one), *self._of(other)),
                        make=partial(_compared, *asked[-1], permutations, level, self._seed),
                    )
                )
        made = self._steps.make("compare", jobs, unit="tests", quiet=self._quiet)
        return tuple(
            _comparison(*each, arrays["found"]) for each, arrays in zip(asked, made, strict=True)
        )

    def panels(
        self,
        count: int,
        condition_NK: np.ndarray | None,
        ends_P2CHW: np.ndarray,
        condition_P2K: np.ndarray | None,
        steps: int,
    ) -> tuple[np.ndarray, np.ndarray]:
        """The same random numbers at each temperature, and interpolations; images to look at."""

        def swept(temperature: float) -> Arrays:
            return self._sample(count, temperature, condition_NK, 0)

        def between(pair: int) -> Arrays:
            known = None if condition_P2K is None else condition_P2K[pair : pair + 1]
            one = self._generator.interpolate(ends_P2CHW[pair : pair + 1], steps, known)
            return {"image": one[0]}

        jobs = [
            Job(
                step=(self._mark, "temperature", self._kind, str(t)),
                make=partial(swept, t),
                count=self._generator.batch,  # a sample takes a whole batch
            )
            for t in TEMPERATURES
        ]
        jobs += [
            Job(
                step=(self._mark, "interpolation", str(pair)),
                make=partial(between, pair),
                count=steps,
            )
            for pair in range(len(ends_P2CHW))
        ]
        made = [one["image"] for one in self._steps.make("panels", jobs, quiet=self._quiet)]
        return np.stack(made[: len(TEMPERATURES)]), np.stack(made[len(TEMPERATURES) :])

    @property
    def _kind(self) -> Latents:
        return "prior" if self._latents is None else "fitted"

    def _of(self, name: str) -> Step:
        """A set of images in the name of a step."""
        return (name, self._kind) if name == SAMPLES else (name,)

    def _in_parts(
        self, what: str, step: Step, count: int, size: int, make: Callable[[slice], Arrays]
    ) -> list[Arrays]:
        return self._steps.make(what, self._parts(step, count, size, make), quiet=self._quiet)

    def _parts(
        self, step: Step, count: int, size: int, make: Callable[[slice], Arrays]
    ) -> list[Job]:
        """Rows, so many a step."""
        parts = [slice(start, min(start + size, count)) for start in range(0, count, size)]
        return [
            Job(
                step=(self._mark, *step, str(rows.start)),
                make=partial(make, rows),
                count=rows.stop - rows.start,
            )
            for rows in parts
        ]


def _seen(judge: Judge, x_NCHW: np.ndarray, rows: slice) -> Arrays:
    return {"vectors": np.asarray(judge.vectors(x_NCHW[rows]))}


def _compared(
    judge: str, one: tuple[str, np.ndarray], other: tuple[str, np.ndarray],
    permutations: int, level: float, seed: int,
) -> Arrays:  # fmt: skip
    found = compare_vectors(judge, one, other, permutations=permutations, level=level, seed=seed)
    auc = found.auc
    return {"found": np.array([found.energy, found.p, auc.value, auc.lower, auc.upper])}


def _comparison(
    judge: str, one: tuple[str, np.ndarray], other: tuple[str, np.ndarray], found: np.ndarray
) -> Comparison:
    energy, p, value, lower, upper = map(float, found)
    return Comparison(
        judge=judge,
        one=one[0],
        other=other[0],
        count_one=len(one[1]),
        count_other=len(other[1]),
        energy=energy,
        p=p,
        auc=Effect(value=value, lower=lower, upper=upper),
    )
