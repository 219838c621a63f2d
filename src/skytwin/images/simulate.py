"""Simulated surveys with known truth -> `Cutouts`.

A simulator is an image source like any other: what `ingest` does about shards, journal and
resuming holds here, too. What it draws is in `simulate_radio` and `simulate_optical`.
"""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
import signal
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pyarrow as pa

from skytwin.errors import DataError, UsageError, unknown
from skytwin.images.cutouts import Cutouts
from skytwin.images.ingest import ingest_source
from skytwin.images.simulate_radio import RADIO_MIX, RadioSettings, RadioSimulator
from skytwin.images.simulate_sky import TILE, Simulator, as_table, mixture, require_room
from skytwin.images.simulate_survey import OPTICAL_MIX, OpticalSettings
from skytwin.images.source import RawImage
from skytwin.threads import processor_count

__all__ = ["KINDS", "SimulatedSource", "simulate_survey", "simulator"]

KINDS = ("optical", "radio")
# A worker's start costs about as much as drawing so many objects.
_WORTH_A_POOL = 1024
_SURVEYS: Mapping[str, Mapping[str, float]] = {
    "first": {"pixel_scale": 1.8, "beam_arcsec": 5.4, "noise": 1.6e-4, "las_scale": 1.0},
    "nvss": {"pixel_scale": 15.0, "beam_arcsec": 45.0, "noise": 4.5e-4, "las_scale": 3.0},
}


def simulate_survey(
    kind: str,
    count: int,
    out: str | Path,
    *,
    seed: int = 0,
    size: int | None = None,
    bands: Sequence[str] | None = None,
    mix: Mapping[str, float] | None = None,
    pixel_scale: float | None = None,
    depth: float = 1.0,
    survey: str | None = None,
    eight_bit: bool = False,
    workers: int | None = None,
    shard_rows: int | None = None,
    quiet: bool = False,
) -> Cutouts:
    """Draw a survey whose every object is known.

    The catalogue holds the truth. The same call gives the same bytes, whatever the number of
    workers, and whether or not it was interrupted on the way; a survey is the head of a larger
    one of the same settings.

    Parameters
    ----------
    kind : {"optical", "radio"}
    count : int
        Number of images.
    out : path
        New folder, or that of an unfinished run of this very call, which is resumed.
    seed : int
        Of everything.
    size : int, optional
        Pixels of a side: 64 for optical, 150 for radio.
    bands : sequence of str, optional
        Of u, g, r, i, z for optical; g, r, i by default.
    mix : mapping of str to float, optional
        Share of each class that is named; the others share the rest as by default. Shares that
        sum to 1 or more leave nothing for the others.
    pixel_scale : float, optional
        Arcsec per pixel.
    depth : float
        How many times fainter the noise is than that of the survey imitated.
    survey : {"first", "nvss"}, optional
        What a radio survey imitates; FIRST by default.
    eight_bit : bool
        Radio images as MiraBest has them: see `skytwin.images.simulate_radio.as_published`.
    workers : int, optional
        Processes; the number of cores by default.
    shard_rows : int, optional
        Images per file of the pixel store; about 64 MB of them by default.
    quiet : bool
        Show no progress.

    Returns
    -------
    Cutouts

    Raises
    ------
    UnknownName
        No such kind, class, band or survey.
    UsageError
        A setting is out of range; GalSim is not installed and the survey optical; the output is
        taken.
    """
    if count < 1:
        raise UsageError(f"{count} images; expected at least 1")
    if workers is not None and workers < 1:
        raise UsageError(f"{workers} workers; expected at least 1")
    made = simulator(
        kind,
        seed=seed,
        size=size,
        bands=bands,
        mix=mix,
        pixel_scale=pixel_scale,
        depth=depth,
        survey=survey,
        eight_bit=eight_bit,
    )
    processes = workers or (processor_count() if count >= _WORTH_A_POOL else 1)
    with SimulatedSource(made, count, processes) as source:
        return ingest_source(
            source,
            out,
            threads=processes,
            shard_rows=shard_rows,
            verb="simulate",
            quiet=quiet,
        )


def simulator(
    kind: str,
    *,
    seed: int = 0,
    size: int | None = None,
    bands: Sequence[str] | None = None,
    mix: Mapping[str, float] | None = None,
    pixel_scale: float | None = None,
    depth: float = 1.0,
    survey: str | None = None,
    eight_bit: bool = False,
) -> Simulator:
    """What draws a survey of these settings, tile by tile; see `simulate_survey`."""
    if kind not in KINDS:
        raise unknown("kind of survey", kind, KINDS)
    if seed < 0:
        raise UsageError(f"seed is {seed}; expected a whole number from 0 up")
    if not 0 < depth < float("inf"):
        raise UsageError(f"depth is {depth}; expected a positive number")
    given = {"size": size, "pixel_scale": pixel_scale}
    chosen: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if kind == "radio":
        if bands is not None:
            raise UsageError(
                f"bands {','.join(bands)} of a radio survey; it has the one band 1.4GHz: leave "
                "--bands out"
            )
        name = survey or "first"
        if name not in _SURVEYS:
            raise unknown("survey", name, _SURVEYS)
        about: dict[str, Any] = {**_SURVEYS[name], **chosen}
        about["noise"] /= depth
        settings = RadioSettings(eight_bit=eight_bit, mix=mixture(mix, RADIO_MIX), **about)
        return RadioSimulator(settings=settings, seed=seed)
    if survey is not None or eight_bit:
        raise UsageError(
            f"{'--survey' if survey is not None else '--eight-bit'} belongs to radio surveys; "
            "leave it out, or simulate radio"
        )
    if bands is not None:
        chosen["bands"] = tuple(bands)
    return _optical(
        OpticalSettings(depth=depth, mix=mixture(mix, OPTICAL_MIX), **chosen), seed=seed
    )


def _optical(settings: OpticalSettings, *, seed: int) -> Simulator:
    if importlib.util.find_spec("galsim") is None:
        raise UsageError(
            "an optical survey needs GalSim, which is not installed; install skytwin[simulate]"
        )
    # GalSim is optional, and slow to import.
    from skytwin.images.simulate_optical import OpticalSimulator

    return OpticalSimulator(settings=settings, seed=seed)


class SimulatedSource:
    """A survey as a row of images, drawn ahead tile by tile; see `ImageSource`.

    Use as a context manager: it may hold processes.
    """

    def __init__(self, made: Simulator, count: int, workers: int = 1) -> None:
        geometry = made.geometry
        frame_deg = geometry.shape[1] * float(geometry.pixel_scale or 1) / 3600
        require_room(count, frame_deg)
        tiles = -(-count // TILE)
        columns = [made.truth(tile) for tile in range(tiles)]
        whole = {name: np.concatenate([c[name] for c in columns])[:count] for name in columns[0]}
        self.table: pa.Table = as_table(whole, made.fields())
        self._ra, self._dec = whole["ra"], whole["dec"]
        self.ids: Sequence[str] = [f"sim-{made.kind}-{made.seed}-{i:07d}" for i in range(count)]
        self.origins: Sequence[str] = [f"tile{i // TILE:05d}[{i % TILE}]" for i in range(count)]
        self.recipe: Mapping[str, Any] = {
            "simulate": made.kind,
            "seed": made.seed,
            "settings": made.recipe(),
        }
        self.location = f"simulated {made.kind} survey"
        self._made, self._count, self._tiles, self._workers = made, count, tiles, workers
        self._lock = threading.Lock()
        self._pool: ProcessPoolExecutor | None = None
        self._drawn: dict[int, Future[np.ndarray]] = {}

    def __enter__(self) -> Self:
        if self._workers > 1:
            # A plain fork would copy locks that the reading threads hold.
            how = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else None
            self._pool = ProcessPoolExecutor(
                self._workers,
                mp_context=multiprocessing.get_context(how or "spawn"),
                initializer=_settle,
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def read(self, index: int) -> RawImage:
        """One image; see `skytwin.images.source.ImageSource.read`."""
        tile, slot = divmod(index, TILE)
        geometry = self._made.geometry
        try:
            pixels = self._tile(tile).result()[slot]
        except BrokenProcessPool:
            raise DataError(
                "a simulating process ended early (out of memory, or a script without "
                "`if __name__ == '__main__':`); repeat the call with workers=1"
            ) from None
        return RawImage(
            pixels=pixels,
            bands=geometry.bands,
            unit=geometry.unit,
            pixel_scale=geometry.pixel_scale,
            ra=float(self._ra[index]),
            dec=float(self._dec[index]),
        )

    def _tile(self, tile: int) -> Future[np.ndarray]:
        with self._lock:
            ahead = range(tile, min(tile + 2 * self._workers + 1, self._tiles))
            for number in ahead if self._pool is not None else (tile,):
                if number not in self._drawn:
                    self._drawn[number] = self._start(number)
            # Readers are at most a few images apart, so they ask for two tiles at most.
            for number in [n for n in self._drawn if n < tile - 1 - self._workers // 4]:
                del self._drawn[number]
            return self._drawn[tile]

    def _start(self, tile: int) -> Future[np.ndarray]:
        count = min(TILE, self._count - tile * TILE)
        if self._pool is not None:
            return self._pool.submit(_render, self._made, tile, count)
        here: Future[np.ndarray] = Future()
        try:
            here.set_result(self._made.render(tile, count))
        except BaseException as error:
            here.set_exception(error)
        return here


def _settle() -> None:
    """In a worker: leave an interrupt to the parent, and end when it is gone, even if killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def follow() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def _render(made: Simulator, tile: int, count: int) -> np.ndarray:
    return made.render(tile, count)
