"""Vectors of one range of images after the other: here, or by workers elsewhere."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from skytwin.embeddings.engine import Engine
from skytwin.encoders.encoder import Encoder
from skytwin.encoders.load import load_saved
from skytwin.images.cutouts import Cutouts

__all__ = ["Elsewhere", "encoded_parts"]


@dataclass(frozen=True, kw_only=True)
class Elsewhere:
    """Workers, and how they open an encoder that was saved.

    Attributes
    ----------
    engine : Engine
    weights : str or None
        The weights file of a ``timm:`` network, where all workers see it.
    device, runtime : str
        As of `skytwin.encoders.load.load_saved`.
    """

    engine: Engine
    weights: str | None = None
    device: str = "auto"
    runtime: str = "auto"


@dataclass(frozen=True, kw_only=True)
class _Job:
    """What a worker needs to know, small and the same for all ranges."""

    cutouts: str
    cutouts_fingerprint: str
    encoder: str
    weights: str | None
    device: str
    runtime: str
    batch: int


def encoded_parts(
    cutouts: Cutouts,
    encoder: Encoder,
    saved: Path,
    parts: Sequence[slice],
    batch: int,
    elsewhere: Elsewhere | None = None,
) -> Iterator[np.ndarray]:
    """The vectors of each range of rows, in order, (n, D) float32.

    Parameters
    ----------
    cutouts : Cutouts
    encoder : Encoder
    saved : Path
        Where the encoder was saved, for workers.
    parts : sequence of slice
    batch : int
        Images per pass through the network.
    elsewhere : Elsewhere, optional
        Workers; by default this process encodes.
    """
    if elsewhere is None:
        for flux in _read_ahead(cutouts, parts):
            yield np.asarray(encoder.encode(flux, batch=batch), dtype=np.float32)
        return
    job = _Job(
        cutouts=str(cutouts.folder.resolve()),
        cutouts_fingerprint=cutouts.manifest.fingerprint,
        encoder=str(saved.resolve()),
        weights=elsewhere.weights,
        device=elsewhere.device,
        runtime=elsewhere.runtime,
        batch=batch,
    )
    yield from elsewhere.engine.in_order(functools.partial(_encode, job), parts)


def _encode(job: _Job, rows: slice) -> np.ndarray:
    cutouts, encoder = _opened(job)
    return np.asarray(encoder.encode(cutouts.flux(rows), batch=job.batch), dtype=np.float32)


@functools.lru_cache(maxsize=1)
def _opened(job: _Job) -> tuple[Cutouts, Encoder]:
    """Once for each worker and embedding; the fingerprint tells folders made anew apart."""
    how = {"weights": job.weights, "device": job.device, "runtime": job.runtime}
    return Cutouts(job.cutouts), load_saved(job.encoder, **how)  # type: ignore[arg-type]


def _read_ahead(cutouts: Cutouts, parts: Sequence[slice]) -> Iterator[np.ndarray]:
    """The flux of each range, the next one being read while this one is encoded."""
    with ThreadPoolExecutor(1, thread_name_prefix="embed") as pool:
        ahead = pool.submit(cutouts.flux, parts[0]) if parts else None
        for following in [*parts[1:], None]:
            flux = ahead.result() if ahead else None
            ahead = pool.submit(cutouts.flux, following) if following else None
            if flux is not None:
                yield flux
