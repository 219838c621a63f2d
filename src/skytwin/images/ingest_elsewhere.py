"""Images read by workers: they decode, cut and compress; the order and the files stay here.

Three kinds of tasks: one reads some images and keeps their pixels on its worker, and says only
what they are like; one compresses a part of a shard, from whichever workers have its pixels; one
joins the parts and writes the file that they make beside those that are done. So no pixel passes
through the one process that keeps the order: it gives the file its place, and only then does the
file count.
"""

from __future__ import annotations

import functools
import hashlib
import platform
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from skytwin.artefact import PARTS
from skytwin.errors import BadImage, SkytwinError, Unreachable
from skytwin.files import disk_errors, sync
from skytwin.images.cutouts import Geometry
from skytwin.images.ingest_image import Changes, Kind, read_framed
from skytwin.images.shards import chunk_rows, joined, packed_chunks
from skytwin.images.source import ImageSource
from skytwin.threads import processor_count

__all__ = [
    "Elsewhere",
    "Packed",
    "Packing",
    "Pixels",
    "Seen",
    "Shape",
    "Workers",
    "pack_elsewhere",
    "read_elsewhere",
]

# Images of a task: this many at least; at most a shard, whose pixels then need not travel; and no
# more than leave so many tasks for each thread, so that all end at about the same time.
_FEWEST, _TASKS_LEFT = 32, 4
# Parts of a shard at most, one for each worker, so that none is idle while the last one is made.
_PARTS = 8


class Packing(Protocol):
    """A file that is being made."""

    def done(self) -> bool:
        """Whether it need not be waited for."""

    def result(self) -> Any:
        """`Packed`, once it is made."""


@dataclass(frozen=True, kw_only=True)
class Packed:
    """A file that is whole, but has not got its place yet.

    Attributes
    ----------
    path : str
    sha256 : str
        Of its content.
    """

    path: str
    sha256: str

    @classmethod
    def of(cls, pixels: np.ndarray, shape: Shape) -> Packed:
        """Of the images of a shard, (n, C, H, W), none of them constant."""
        threads = processor_count()
        return cls.joined(packed_chunks(pixels, shape.geometry, shape.rows, threads=threads), shape)

    @classmethod
    def joined(cls, chunks: Sequence[np.ndarray], shape: Shape) -> Packed:
        """Of all chunks of a shard; see `skytwin.images.shards.packed_chunks`."""
        folder, digest = Path(shape.folder), hashlib.sha256()
        path = folder / PARTS / f"shard-{uuid.uuid4().hex}"
        with disk_errors(folder):
            path.parent.mkdir(exist_ok=True)
            with path.open("wb") as stream:
                for part in joined(chunks, shape.geometry, shape.rows):
                    digest.update(part.data)
                    stream.write(part.data)
            sync(path)
        return cls(path=str(path), sha256=digest.hexdigest())


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What all shards of one array have in common.

    Attributes
    ----------
    folder : str
        Of the cutouts.
    geometry : Geometry
    rows : int
        Images of a shard, but for the last one.
    """

    folder: str
    geometry: Geometry
    rows: int


class Workers(Protocol):
    """Where tasks run; `skytwin.embeddings.engine.Engine` is one."""

    workers: int

    def kept(
        self, function: Callable[..., Any], tasks: Iterable[Any], *, shared: Any = None
    ) -> Iterator[tuple[Any, Any]]:
        """First of the pair that a function gives for each task; the second stays there."""

    def of_kept(self, function: Callable[..., Any], task: Any, kept: Sequence[Any]) -> Packing:
        """What a function gives for a task and what was kept."""

    def kept_of(self, function: Callable[..., Any], task: Any, kept: Sequence[Any]) -> Any:
        """The same, which stays where it was made."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Elsewhere:
    """Workers, and how each opens the source of images.

    Attributes
    ----------
    workers : Workers
    open : callable
        Gives the source; named by its module, with what it takes.
    """

    workers: Workers
    open: Callable[[], ImageSource]


@dataclass(frozen=True, eq=False, kw_only=True)
class Pixels:
    """Where the pixels of one image are: on which worker, among those of which kind."""

    kept: Any
    kind: int
    place: int


@dataclass(frozen=True, eq=False, kw_only=True)
class Seen:
    """One image that a worker has read.

    Attributes
    ----------
    kind : Kind
    ra, dec : float or None
    pixels : Pixels
    """

    kind: Kind
    ra: float | None
    dec: float | None
    pixels: Pixels


@dataclass(frozen=True, kw_only=True)
class _Opening:
    """What all tasks of an ingest need; equal where it is one ingest."""

    token: str
    digest: str
    digest_of: Callable[[Sequence[str]], str] = field(compare=False)
    changes: Changes = field(compare=False)
    open: Callable[[], ImageSource] = field(compare=False)


@dataclass(frozen=True, eq=False, kw_only=True)
class _Told:
    """What some images are like: the number of their kind each, -1 for one that is left out."""

    kinds: tuple[Kind, ...]
    kind: np.ndarray
    sky: list[tuple[float | None, float | None]]
    reasons: dict[int, str]


def read_elsewhere(
    elsewhere: Elsewhere,
    ids: Sequence[str],
    digest_of: Callable[[Sequence[str]], str],
    changes: Changes,
    start: int,
    shard_rows: Callable[[], int | None],
) -> Iterator[tuple[int, Seen | BadImage]]:
    """Every image from number ``start`` on, in order.

    Parameters
    ----------
    elsewhere : Elsewhere
    ids : sequence of str
        Of the source as it is here: a worker that sees another one says so.
    digest_of : callable
        Of such ids.
    changes : Changes
    start : int
    shard_rows : callable
        Images of a file, once one was taken.
    """
    opening = _Opening(
        token=uuid.uuid4().hex,
        digest=digest_of(ids),
        digest_of=digest_of,
        changes=changes,
        open=elsewhere.open,
    )

    def portions() -> Iterator[range]:
        at = start
        while at < len(ids):
            shard, share = shard_rows(), _TASKS_LEFT * elsewhere.workers.workers
            rows = min(max((len(ids) - at) // share, _FEWEST), len(ids) - at)
            rows = min(rows, _FEWEST if shard is None else shard - (at - start) % shard)
            yield range(at, at + rows)
            at += rows

    at = start
    for told, kept in elsewhere.workers.kept(_read, portions(), shared=opening):
        places = [0] * len(told.kinds)
        for number, kind in enumerate(told.kind.tolist()):
            if kind < 0:
                yield at, BadImage(told.reasons[number])
            else:
                ra, dec = told.sky[number]
                pixels = Pixels(kept=kept, kind=kind, place=places[kind])
                yield at, Seen(kind=told.kinds[kind], ra=ra, dec=dec, pixels=pixels)
                places[kind] += 1
            at += 1


def pack_elsewhere(elsewhere: Elsewhere, pixels: Sequence[Pixels], shape: Shape) -> Packing:
    """The file of a shard that holds these images."""
    workers, rows = elsewhere.workers, chunk_rows(shape.geometry, shape.rows)
    chunks = -(-len(pixels) // rows)
    step = rows * -(-chunks // min(workers.workers, _PARTS))
    made = []
    for start in range(0, len(pixels), step):
        runs: list[tuple[Any, list[tuple[int, int]]]] = []
        for each in pixels[start : start + step]:
            if not runs or runs[-1][0] is not each.kept:
                runs.append((each.kept, []))
            runs[-1][1].append((each.kind, each.place))
        task = _Part(shape=shape, places=tuple(np.array(places) for _, places in runs))
        made.append(workers.kept_of(_pack, task, [kept for kept, _ in runs]))
    return workers.of_kept(_join, shape, made)


@dataclass(frozen=True, eq=False, kw_only=True)
class _Part:
    """Which images of what was kept make some chunks: kind and place, (n, 2), of each run."""

    shape: Shape
    places: tuple[np.ndarray, ...]


def _read(rows: range, opening: _Opening) -> tuple[_Told, tuple[np.ndarray, ...]]:
    """On a worker: what some images are like, and their pixels, kind by kind."""
    source = _opened(opening)
    kinds: dict[Kind, int] = {}
    pixels: list[list[np.ndarray]] = []
    kind = np.full(len(rows), -1)
    reasons: dict[int, str] = {}
    sky: list[tuple[float | None, float | None]] = [(None, None)] * len(rows)
    for number, index in enumerate(rows):
        image = read_framed(source, index, opening.changes)
        if isinstance(image, BadImage):
            reasons[number] = str(image)
            continue
        kind[number] = kinds.setdefault(Kind.of(image), len(kinds))
        if kind[number] == len(pixels):
            pixels.append([])
        pixels[kind[number]].append(image.pixels)
        sky[number] = (image.ra, image.dec)
    told = _Told(kinds=tuple(kinds), kind=kind, sky=sky, reasons=reasons)
    return told, tuple(np.stack(each) for each in pixels)


def _pack(part: _Part, *runs: tuple[np.ndarray, ...]) -> list[np.ndarray]:
    """On a worker: some chunks of a shard."""
    rows = [
        run[kind][place]
        for run, places in zip(runs, part.places, strict=True)
        for kind, place in places.tolist()
    ]
    return packed_chunks(np.stack(rows), part.shape.geometry, part.shape.rows)


def _join(shape: Shape, *parts: list[np.ndarray]) -> Packed:
    """On a worker: the file that one shard is."""
    if not Path(shape.folder).is_dir():
        raise Unreachable(
            f"the worker on {platform.node()} sees no folder {shape.folder!r} to write in; "
            "all workers must see the same folders under the same paths"
        )
    return Packed.joined([chunk for part in parts for chunk in part], shape)


@functools.lru_cache(maxsize=1)
def _opened(opening: _Opening) -> ImageSource:
    """Once for each worker and ingest."""
    try:
        source = opening.open()
    except SkytwinError as error:
        raise Unreachable(
            f"the worker on {platform.node()} cannot open the images: {error}; all workers must "
            "see the same files under the same paths"
        ) from None
    if opening.digest_of(source.ids) != opening.digest:
        raise Unreachable(
            f"the worker on {platform.node()} sees other images there ({len(source.ids)} of them) "
            "than were listed; let nothing be added or removed, then repeat the command to resume"
        )
    return source
