"""Images of any kind -> `Cutouts`: shard by shard, in order, resumable at any moment."""

from __future__ import annotations

import csv
import hashlib
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from skytwin.addresses import shown
from skytwin.artefact import PARTS, Parent
from skytwin.errors import BadImage, DataError, UsageError
from skytwin.files import sync
from skytwin.images.catalog_file import CATALOG
from skytwin.images.cutouts import (
    PIXELS,
    REJECTED,
    Cutouts,
    Geometry,
    sized_pixels,
    summarise,
)
from skytwin.images.framing import Framing
from skytwin.images.ingest_elsewhere import (
    Elsewhere,
    Packed,
    Packing,
    Seen,
    Shape,
    pack_elsewhere,
    read_elsewhere,
)
from skytwin.images.ingest_image import Changes, Kind, check_content, read_framed, unlike
from skytwin.images.ingest_rows import Catalog, assemble
from skytwin.images.remote_source import RemoteSource
from skytwin.images.source import ImageSource, RawImage
from skytwin.progress import Progress
from skytwin.run import Run
from skytwin.threads import processor_count

__all__ = ["Rejected", "check_content", "ingest_source"]

PART = PARTS + "/{:06d}.parquet"
# Shards that workers may make at once.
_SHARDS_AHEAD = 4


@dataclass(frozen=True, kw_only=True)
class Rejected:
    """An image that was left out."""

    id: str
    origin: str
    reason: str


@dataclass(frozen=True, eq=False, kw_only=True)
class _Taken:
    """An image that was taken; its pixels are here, or on a worker that says where."""

    index: int
    ra: float | None
    dec: float | None
    pixels: Any


@dataclass(frozen=True, eq=False, kw_only=True)
class _Shard:
    """Images that make one file, and those that were left out since the one before it."""

    taken: list[_Taken]
    next: int
    rejected: list[Rejected]


def ingest_source(
    source: ImageSource,
    out: str | Path,
    *,
    catalog: Catalog | None = None,
    framing: Framing | None = None,
    pixel_scale: float | None = None,
    unit: str | None = None,
    threads: int | None = None,
    elsewhere: Elsewhere | None = None,
    shard_rows: int | None = None,
    parents: Mapping[str, Parent] | None = None,
    verb: str = "ingest",
    quiet: bool = False,
) -> Cutouts:
    """Read every image of a source and store the good ones.

    Parameters
    ----------
    source : ImageSource
        Where the images come from.
    out : str or Path
        New folder, or that of an unfinished run of this call, which is resumed.
    catalog : Catalog, optional
        A table to join, by id or on the sky.
    framing : Framing, optional
        Central crop and resampling that bring images to one shape.
    pixel_scale : float, optional
        Arcsec per pixel of the images as they are read; overrules their WCS.
    unit : str, optional
        Flux unit; overrules the files'.
    threads : int, optional
        Reading threads; by default one per core, and more where images come from an address.
    elsewhere : Elsewhere, optional
        The workers that read, in place of this process.
    shard_rows : int, optional
        Images per file of the pixel store; about 64 MB of them by default.
    parents : mapping of str to Parent, optional
        What the images were read from, where skytwin made it.
    verb : str
        What the progress calls it.
    quiet : bool
        Show no progress.

    Returns
    -------
    Cutouts

    Raises
    ------
    UsageError
        Images of different shapes and no ``framing`` to mend it; the output is taken.
    DataError
        No image could be used; the catalogue fits no image.
    """
    framing = framing or Framing()
    if pixel_scale is not None and not 0 < pixel_scale < float("inf"):
        raise UsageError(f"pixel scale {pixel_scale} arcsec; expected a positive number")
    if threads is not None and threads < 1:
        raise UsageError(f"{threads} threads; expected at least 1")
    table = catalog.read(source.ids) if catalog else None
    recipe = {
        "source": dict(source.recipe),
        "images": len(source.ids),
        "ids_sha256": _digest(source.ids),
        "catalog": catalog.recipe() if catalog else None,
        "framing": asdict(framing),
        "pixel_scale": pixel_scale,
        "unit": unit,
        "shard_rows": shard_rows,
    }
    inputs = {"source": source.location, "catalog": shown(catalog.path) if catalog else None}
    if isinstance(source, RemoteSource):
        inputs["source_state"] = source.state
    with Run(out, kind="cutouts", recipe=recipe, inputs=inputs, parents=parents) as run:
        writer = _Writer(run, source, shard_rows, elsewhere)
        changes = Changes(framing=framing, pixel_scale=pixel_scale, unit=unit)
        images: Iterator[tuple[int, RawImage | Seen | BadImage]]
        if elsewhere is None:
            images = _read_all(source, writer.next, changes, threads or _threads_for(source))
        else:
            images = read_elsewhere(
                elsewhere, source.ids, _digest, changes, writer.next, lambda: writer.shard_rows
            )
        with Progress(verb, len(source.ids), done=writer.next, quiet=quiet) as bar:
            for index, image in images:
                writer.add(index, image)
                bar.advance(1)
        writer.close()
        if writer.geometry is None:
            raise DataError(_nothing(source, writer.all_rejected()))
        rows = pa.concat_tables(pq.read_table(run.folder / name) for name in writer.parts)
        joined = assemble(rows, source, catalog, table)
        run.write(CATALOG, lambda path: pq.write_table(joined.table, path, compression="zstd"))
        rejected = [*writer.all_rejected(), *(Rejected(**row) for row in joined.rows_without_image)]
        run.write(REJECTED, lambda path: _write_rejected(path, rejected))
        counts = {
            "rejected": len(writer.all_rejected()),
            "images_without_catalog_row": joined.images_without_row,
            "catalog_rows_without_image": len(joined.rows_without_image),
        }
        run.finish(summarise(writer.geometry, writer.count, counts), writer.hashes)
    return Cutouts(out)


class _Writer:
    """Collects accepted images and writes them a shard at a time, with their rows."""

    def __init__(
        self,
        run: Run,
        source: ImageSource,
        shard_rows: int | None,
        elsewhere: Elsewhere | None,
    ) -> None:
        self._run, self._source = run, source
        self._wanted_rows, self._elsewhere = shard_rows, elsewhere
        self._buffer: list[_Taken] = []
        self._rejected: list[Rejected] = []
        #: Shards that workers make, in order.
        self._making: deque[tuple[_Shard, Packing]] = deque()
        self.geometry: Geometry | None = None
        #: Images of a file, once one was taken.
        self.shard_rows: int | None = None
        self._alike: Kind | None = None
        self.next = self.count = 0
        self.parts: list[str] = []
        self.hashes: dict[str, str] = {}
        for entry in run.journal:
            found = entry["geometry"]
            self.geometry = Geometry(
                **{**found, "shape": tuple(found["shape"]), "bands": tuple(found["bands"])}
            )
            self.shard_rows = shard_rows or self.geometry.shard_rows
            self.next, self.count = entry["next"], self.count + entry["rows"]
            self.parts.append(entry["part"])
            self.hashes[entry["file"]] = entry["sha256"]

    def add(self, index: int, image: RawImage | Seen | BadImage) -> None:
        """Take the next image in order, or note why it is left out."""
        reason = str(image) if isinstance(image, BadImage) else self._refused(index, image)
        if isinstance(image, BadImage) or reason is not None:
            name, origin = self._source.ids[index], self._source.origins[index]
            self._rejected.append(Rejected(id=name, origin=origin, reason=str(reason)))
        else:
            self._buffer.append(
                _Taken(index=index, ra=image.ra, dec=image.dec, pixels=image.pixels)
            )
        self.next = index + 1
        if self.shard_rows is not None and len(self._buffer) >= self.shard_rows:
            self._flush()

    def _refused(self, index: int, image: RawImage | Seen) -> str | None:
        """Why an image cannot stand beside those before it, if it cannot."""
        kind = image.kind if isinstance(image, Seen) else Kind.of(image)
        if kind is self._alike:
            return None
        if self.geometry is None:
            self.geometry = kind.geometry
            self.shard_rows = self._wanted_rows or kind.geometry.shard_rows
        reason = unlike(kind, self.geometry, self._source.origins[index])
        if reason is None:
            self._alike = kind
        return reason

    def _flush(self) -> None:
        """Write what is buffered as one shard, here, or once a worker has made its file."""
        if not self._buffer or self.geometry is None or self.shard_rows is None:
            return
        shard = _Shard(taken=self._buffer, next=self.next, rejected=self._rejected)
        self._buffer, self._rejected = [], []
        pixels = [taken.pixels for taken in shard.taken]
        shape = Shape(
            folder=str(self._run.folder.resolve()), geometry=self.geometry, rows=self.shard_rows
        )
        if self._elsewhere is None:
            self._keep(shard, Packed.of(np.stack(pixels), shape))
            return
        self._making.append((shard, pack_elsewhere(self._elsewhere, pixels, shape)))
        while len(self._making) > _SHARDS_AHEAD or (self._making and self._making[0][1].done()):
            self._keep_next()

    def close(self) -> None:
        """Write what is left."""
        self._flush()
        while self._making:
            self._keep_next()

    def _keep_next(self) -> None:
        shard, made = self._making.popleft()
        self._keep(shard, made.result())

    def _keep(self, shard: _Shard, packed: Packed) -> None:
        """Write one shard; once the journal has it, it is done."""
        assert self.geometry is not None  # there is an image
        assert self.shard_rows is not None
        number, rows = len(self.parts), len(shard.taken)
        folder = self._run.folder
        file = f"{PIXELS}/c/{number}/0/0/0"
        sized_pixels(folder, self.geometry, self.shard_rows, self.count + rows)
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        Path(packed.path).replace(folder / file)
        for parent in (folder / file).relative_to(folder).parents:
            sync(folder / parent)
        part = PART.format(number)
        self._run.write(part, lambda path: pq.write_table(_rows(shard.taken), path))
        self._run.record(
            {
                "rows": rows,
                "next": shard.next,
                "file": file,
                "sha256": packed.sha256,
                "part": part,
                "geometry": asdict(self.geometry),
                "rejected": [vars(entry) for entry in shard.rejected],
            }
        )
        self.count += rows
        self.parts.append(part)
        self.hashes[file] = packed.sha256

    def all_rejected(self) -> list[Rejected]:
        """Every image left out, those of earlier runs included."""
        before = [Rejected(**row) for entry in self._run.journal for row in entry["rejected"]]
        return before + self._rejected


def _rows(taken: list[_Taken]) -> pa.Table:
    return pa.table(
        {
            "index": pa.array([t.index for t in taken], pa.int64()),
            "ra": pa.array([t.ra for t in taken], pa.float64()),
            "dec": pa.array([t.dec for t in taken], pa.float64()),
        }
    )


def _threads_for(source: ImageSource) -> int:
    """One per core, and more where each mostly waits."""
    more = source.threads if isinstance(source, RemoteSource) else None
    return max(processor_count(), more or 1)


def _read_all(
    source: ImageSource, start: int, changes: Changes, threads: int
) -> Iterator[tuple[int, RawImage | BadImage]]:
    """Read ahead in threads, hand over in order."""
    ahead: deque[tuple[int, Future[RawImage | BadImage]]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="ingest") as pool:
        try:
            for index in range(start, len(source.ids)):
                ahead.append((index, pool.submit(read_framed, source, index, changes)))
                if len(ahead) >= max(2 * threads, 8 * processor_count()):
                    first, future = ahead.popleft()
                    yield first, future.result()
            while ahead:
                first, future = ahead.popleft()
                yield first, future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _digest(ids: Any) -> str:
    digest = hashlib.sha256()
    for name in ids:
        digest.update(str(name).encode() + b"\0")
    return digest.hexdigest()


def _nothing(source: ImageSource, rejected: list[Rejected]) -> str:
    reasons = Counter(entry.reason for entry in rejected)
    if not reasons:
        return f"no image in {source.location!r}"
    (reason, count) = reasons.most_common(1)[0]
    return (
        f"none of {len(source.ids)} image(s) in {source.location!r} can be used; "
        f"{count} of them: {reason}"
    )


def _write_rejected(path: Path, rejected: list[Rejected]) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["id", "origin", "reason"])
        writer.writerows((entry.id, entry.origin, entry.reason) for entry in rejected)
