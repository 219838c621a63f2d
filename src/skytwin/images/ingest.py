"""Images of any kind -> `Cutouts`: shard by shard, in order, resumable at any moment."""

from __future__ import annotations

import csv
import hashlib
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from skytwin.artefact import PARTS
from skytwin.errors import BadImage, DataError, UsageError
from skytwin.files import hash_file, sync
from skytwin.images.catalog import read_table
from skytwin.images.catalog_file import CATALOG
from skytwin.images.compare import arcsec, same_scale
from skytwin.images.cutouts import (
    PIXELS,
    REJECTED,
    Cutouts,
    Geometry,
    sized_pixels,
    summarise,
)
from skytwin.images.framing import Framing
from skytwin.images.ingest_rows import Catalog, assemble
from skytwin.images.source import ImageSource, RawImage
from skytwin.progress import Progress
from skytwin.run import Run
from skytwin.threads import processor_count

__all__ = ["Rejected", "ingest_source"]

PART = PARTS + "/{:06d}.parquet"


@dataclass(frozen=True, kw_only=True)
class Rejected:
    """An image that was left out."""

    id: str
    origin: str
    reason: str


@dataclass(frozen=True, eq=False, kw_only=True)
class _Taken:
    index: int
    image: RawImage


def ingest_source(
    source: ImageSource,
    out: str | Path,
    *,
    catalog: Catalog | None = None,
    framing: Framing | None = None,
    pixel_scale: float | None = None,
    unit: str | None = None,
    workers: int | None = None,
    shard_rows: int | None = None,
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
    workers : int, optional
        Reading threads; the number of cores by default.
    shard_rows : int, optional
        Images per file of the pixel store; about 64 MB of them by default.
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
    if workers is not None and workers < 1:
        raise UsageError(f"{workers} workers; expected at least 1")
    table = read_table(catalog.path) if catalog else None
    if table is not None and catalog is not None:
        catalog.check(table, source.ids)
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
    inputs = {"source": source.location, "catalog": str(catalog.path) if catalog else None}
    with Run(out, kind="cutouts", recipe=recipe, inputs=inputs) as run:
        writer = _Writer(run, source, framing, pixel_scale, unit, shard_rows)
        with Progress(verb, len(source.ids), done=writer.next, quiet=quiet) as bar:
            for taken in _read_all(source, writer.next, workers or processor_count()):
                writer.add(*taken)
                bar.advance(1)
        writer.flush()
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
        framing: Framing,
        pixel_scale: float | None,
        unit: str | None,
        shard_rows: int | None,
    ) -> None:
        self._run, self._source, self._framing = run, source, framing
        self._scale, self._unit, self._shard_rows = pixel_scale, unit, shard_rows
        self._buffer: list[_Taken] = []
        self._rejected: list[Rejected] = []
        self.geometry: Geometry | None = None
        self.next = self.count = 0
        self.parts: list[str] = []
        self.hashes: dict[str, str] = {}
        for entry in run.journal:
            found = entry["geometry"]
            self.geometry = Geometry(
                **{**found, "shape": tuple(found["shape"]), "bands": tuple(found["bands"])}
            )
            self.next, self.count = entry["next"], self.count + entry["rows"]
            self.parts.append(entry["part"])
            self.hashes[entry["file"]] = entry["sha256"]

    def add(self, index: int, image: RawImage | BadImage) -> None:
        """Take the next image in order, or note why it is left out."""
        if isinstance(image, BadImage):
            self._reject(index, str(image))
        else:
            try:
                framed = self._fit(index, image)
            except BadImage as reason:
                self._reject(index, str(reason))
            else:
                self._buffer.append(_Taken(index=index, image=framed))
        self.next = index + 1
        if self.geometry and len(self._buffer) >= (self._shard_rows or self.geometry.shard_rows):
            self.flush()

    def _reject(self, index: int, reason: str) -> None:
        self._rejected.append(
            Rejected(id=self._source.ids[index], origin=self._source.origins[index], reason=reason)
        )

    def _fit(self, index: int, image: RawImage) -> RawImage:
        if self._scale is not None or self._unit is not None:
            image = RawImage(
                **{
                    **vars(image),
                    "pixel_scale": self._scale or image.pixel_scale,
                    "unit": self._unit or image.unit,
                }
            )
        check_content(image.pixels)
        image = self._framing.apply(image)
        now = _geometry(image)
        if self.geometry is None:
            self.geometry = now
        want = self.geometry
        if now.shape[0] != want.shape[0] or (image.bands and now.bands != want.bands):
            raise BadImage(f"bands {', '.join(now.bands)}; expected {', '.join(want.bands)}")
        if now.shape != want.shape:
            height, width = now.shape[1:]
            raise UsageError(
                f"images of mixed shape: {self._source.origins[index]} is {height} x {width}, "
                f"those before it {want.shape[1]} x {want.shape[2]}; give --crop PIXELS "
                "(central cut) or --size PIXELS (resample)"
            )
        if now.dtype != want.dtype:
            raise BadImage(f"pixels are {now.dtype}; expected {want.dtype} like the first image")
        if now.unit != want.unit:
            raise BadImage(
                f"flux in {now.unit or 'no stated unit'}; expected {want.unit or 'no stated unit'} "
                "like the first image (--unit overrules)"
            )
        if not same_scale(now.pixel_scale, want.pixel_scale):
            raise BadImage(
                f"pixel scale {arcsec(now.pixel_scale)}; expected {arcsec(want.pixel_scale)} "
                "like the first image"
            )
        return image

    def flush(self) -> None:
        """Write what is buffered as one shard; once the journal has it, it is done."""
        if not self._buffer or self.geometry is None:
            return
        number, rows = len(self.parts), len(self._buffer)
        size = self._shard_rows or self.geometry.shard_rows
        folder = self._run.folder
        file = f"{PIXELS}/c/{number}/0/0/0"
        (folder / file).unlink(missing_ok=True)  # of a run that was killed while it wrote it
        array = sized_pixels(folder, self.geometry, size, self.count + rows)
        array[self.count :] = np.stack([taken.image.pixels for taken in self._buffer])
        sync(folder / file)
        for parent in (folder / file).relative_to(folder).parents:
            sync(folder / parent)
        part = PART.format(number)
        self._run.write(part, lambda path: pq.write_table(self._rows(), path))
        digest = hash_file(folder / file)
        self._run.record(
            {
                "rows": rows,
                "next": self.next,
                "file": file,
                "sha256": digest,
                "part": part,
                "geometry": asdict(self.geometry),
                "rejected": [vars(entry) for entry in self._rejected],
            }
        )
        self.count += rows
        self.parts.append(part)
        self.hashes[file] = digest
        self._buffer, self._rejected = [], []

    def _rows(self) -> pa.Table:
        taken = self._buffer
        return pa.table(
            {
                "index": pa.array([t.index for t in taken], pa.int64()),
                "ra": pa.array([t.image.ra for t in taken], pa.float64()),
                "dec": pa.array([t.image.dec for t in taken], pa.float64()),
            }
        )

    def all_rejected(self) -> list[Rejected]:
        """Every image left out, those of earlier runs included."""
        before = [Rejected(**row) for entry in self._run.journal for row in entry["rejected"]]
        return before + self._rejected


def _read_all(
    source: ImageSource, start: int, workers: int
) -> Iterator[tuple[int, RawImage | BadImage]]:
    """Read ahead in threads, hand over in order."""

    def read(index: int) -> RawImage | BadImage:
        try:
            return source.read(index)
        except BadImage as error:
            return error

    ahead: deque[tuple[int, Future[RawImage | BadImage]]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="ingest") as pool:
        try:
            for index in range(start, len(source.ids)):
                ahead.append((index, pool.submit(read, index)))
                if len(ahead) >= 8 * workers:
                    first, future = ahead.popleft()
                    yield first, future.result()
            while ahead:
                first, future = ahead.popleft()
                yield first, future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def check_content(pixels: np.ndarray) -> None:
    if pixels.size == 0:
        raise BadImage(f"empty image of shape {pixels.shape}")
    finite = pixels
    if np.issubdtype(pixels.dtype, np.floating):
        finite = pixels[np.isfinite(pixels)]
        if finite.size == 0:
            raise BadImage("no finite pixel (all NaN)")
    if finite.min() == finite.max():
        raise BadImage(f"constant image: every pixel is {finite.flat[0]}")


def _geometry(image: RawImage) -> Geometry:
    channels, height, width = image.pixels.shape
    return Geometry(
        shape=(channels, height, width),
        dtype=image.pixels.dtype.name,
        bands=image.bands or tuple(f"band{i + 1}" for i in range(channels)),
        unit=image.unit,
        pixel_scale=image.pixel_scale,
    )


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
