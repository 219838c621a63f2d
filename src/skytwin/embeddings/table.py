"""Embeddings: vectors at rest, row-aligned with a catalogue, with the encoder that made them.

The folder holds ``vectors/*.npy`` (float32, memory-mapped shards), ``statistics/*.npy`` (feature
means and scales, row lengths), ``catalog.parquet`` and ``encoder/`` (all it takes to encode one
more image in the same way).
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from skytwin.artefact import Manifest, Parent, reading
from skytwin.embeddings.sample import Sample, draw
from skytwin.embeddings.vectors import Statistics, Vectors, mapped, measure
from skytwin.errors import Mismatch, UsageError, unknown
from skytwin.images import arrow
from skytwin.images.at_hand import at_hand
from skytwin.images.catalog_file import read_catalog
from skytwin.images.columns import canonical_positions
from skytwin.images.compare import require_same_scale
from skytwin.images.row_scan import ScannedIndex
from skytwin.images.rows import RowIndex

if TYPE_CHECKING:
    from astropy.table import Table

    from skytwin.images.cutouts import Cutouts

__all__ = ["Embeddings"]

ENCODER, STATISTICS, SHARDS = "encoder", "statistics", "vectors"


class Embeddings:
    """N objects as vectors of D numbers.

    Made by `skytwin.embed`, opened with `skytwin.open`, or wrapped around vectors from
    elsewhere with `Embeddings.from_arrays`.

    Attributes
    ----------
    vectors : Vectors
        Shape (N, D), float32; index it with rows.
    catalog : pyarrow.Table
        One row per object, first column ``id``.
    statistics : Statistics
        Means, scales and lengths that the metrics use.
    folder : Path or None
        Where they lie; None for those made from arrays.
    manifest : Manifest or None
        How they were made.
    bands : tuple of str
        Bands of the images they were made from; empty where unknown.
    pixel_scale : float or None
        Arcsec per pixel of those images.
    encoder_name : str
        What made the vectors.
    encoder_fingerprint : str or None
        Equal for embeddings that can be compared.
    """

    def __init__(
        self,
        vectors: Vectors,
        catalog: pa.Table,
        statistics: Statistics,
        *,
        folder: Path | None = None,
        manifest: Manifest | None = None,
    ) -> None:
        self.vectors, self.catalog, self.statistics = vectors, catalog, statistics
        self.folder, self.manifest = folder, manifest
        self._samples: dict[int, Sample] = {}
        summary = manifest.summary if manifest else {}
        self.bands: tuple[str, ...] = tuple(summary.get("bands", ()))
        self.pixel_scale: float | None = summary.get("pixel_scale")
        self.encoder_name: str = summary.get("encoder", "unknown encoder")
        self.encoder_fingerprint: str | None = summary.get("encoder_fingerprint")

    @classmethod
    def open(cls, folder: str | Path) -> Embeddings:
        """Open a folder that `skytwin.embed` wrote, its vectors memory-mapped.

        Raises
        ------
        UsageError
            The folder is no embedding.
        DamagedArtefact
            A file is not what it was when the folder was finished.
        """
        path = at_hand(folder)
        manifest = Manifest.open(path, "embeddings")
        shards = [name for name in manifest.files if name.startswith(f"{SHARDS}/")]
        with reading(path, SHARDS):
            vectors = Vectors.open(path, sorted(shards))
        return cls(
            vectors,
            read_catalog(path, len(vectors)),
            read_statistics(path, vectors.shape),
            folder=path,
            manifest=manifest,
        )

    @classmethod
    def from_arrays(
        cls, vectors: np.ndarray, ids: Sequence[object], table: object = None
    ) -> Embeddings:
        """Wrap vectors that were made elsewhere.

        Parameters
        ----------
        vectors : array_like, shape (N, D)
            Finite numbers.
        ids : sequence, length N
            Unique identifiers, taken as text.
        table : pyarrow.Table, astropy Table, pandas DataFrame or dict of columns, optional
            Row-aligned columns; ``ra`` and ``dec`` in degrees make positions known.

        Raises
        ------
        UsageError
            Shapes do not fit.
        DataError
            NaN or infinity among the vectors; an id that occurs twice.
        """
        array = np.ascontiguousarray(vectors, dtype=np.float32)
        if array.ndim != 2 or 0 in array.shape:
            raise UsageError(f"vectors of shape {array.shape}; expected (N, D), neither 0")
        if len(ids) != len(array):
            raise UsageError(f"{len(ids)} ids for {len(array)} vectors; expected one each")
        names = [str(name) for name in ids]
        RowIndex(np.array(names, dtype=object))
        columns = pa.table({"id": pa.array(names, pa.string())})
        if table is not None:
            extra = arrow.from_any(table)
            if len(extra) != len(array):
                raise UsageError(f"table of {len(extra)} rows for {len(array)} vectors")
            for entry in extra.schema:
                if entry.name != "id":
                    columns = columns.append_column(entry, extra[entry.name])
        whole = Vectors([array])
        return cls(whole, columns, measure(whole))

    def __len__(self) -> int:
        return len(self.vectors)

    def __repr__(self) -> str:
        where = f", {self.folder}" if self.folder else ""
        return f"Embeddings({len(self)} x {self.dim}, {self.encoder_name}{where})"

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return self.vectors.shape[1]

    @functools.cached_property
    def ids(self) -> np.ndarray:
        """Identifiers, shape (N,), dtype object (str)."""
        return np.asarray(self.catalog["id"].to_numpy(zero_copy_only=False))

    def names(self, rows: Sequence[int] | np.ndarray) -> list[str]:
        """Identifiers of some rows, without making Python text of all."""
        found: list[str] = self.catalog["id"].take(pa.array(rows, pa.int64())).to_pylist()
        self.index.note(found, rows)
        return found

    @functools.cached_property
    def index(self) -> RowIndex:
        """Rows by identifier."""
        return ScannedIndex(self.catalog["id"])

    @functools.cached_property
    def positions(self) -> np.ndarray | None:
        """RA and Dec in degrees, shape (N, 2), NaN where unknown; None without positions."""
        return canonical_positions(self.catalog)

    def sample(self, seed: int = 0) -> Sample:
        """A random sample of the set, as background; drawn once per seed."""
        if seed not in self._samples:
            self._samples[seed] = draw(self.vectors, self.statistics, seed=seed)
        return self._samples[seed]

    def cutouts(self, folder: str | Path | None = None) -> Cutouts:
        """The cutouts these vectors were made from.

        Parameters
        ----------
        folder : str or Path, optional
            Where they lie now, if they were moved.

        Raises
        ------
        UsageError
            They are not there.
        Mismatch
            The folder holds other cutouts.
        """
        # Zarr is slow to import, and a search that prints text shows no image.
        from skytwin.images.cutouts import Cutouts

        parent = self.manifest.parents.get("cutouts") if self.manifest else None
        if folder is None:
            if parent is None or self.folder is None:
                raise UsageError("this embedding was not made from cutouts; no image to show")
            beside = self.folder.parent / Path(parent.path).name
            folder = next((p for p in (Path(parent.path), beside) if p.is_dir()), None)
            if folder is None:
                raise UsageError(
                    f"the cutouts of this embedding are no longer in {parent.path!r}; say where "
                    "they are with --cutouts FOLDER"
                )
        found = Cutouts(folder)
        if parent is not None and found.manifest.fingerprint != parent.fingerprint:
            raise Mismatch(
                f"{str(folder)!r} holds other cutouts than this embedding was made from "
                f"(fingerprint {found.manifest.fingerprint[:12]}, expected "
                f"{parent.fingerprint[:12]})"
            )
        return found

    def encoder_folder(self) -> Path:
        """Where the encoder lies that made these vectors.

        Raises
        ------
        UsageError
            They were made elsewhere.
        """
        if self.folder is None or not (self.folder / ENCODER).is_dir():
            raise UsageError(
                "this embedding has no encoder, its vectors were made elsewhere; give vectors or "
                "identifiers in place of images"
            )
        return self.folder / ENCODER

    def column(self, name: str) -> pa.ChunkedArray:
        """A catalogue column by its name, with a clear error when there is none."""
        if name not in self.catalog.column_names:
            raise unknown("column", name, self.catalog.column_names)
        return self.catalog[name]

    def to_astropy(self) -> Table:
        """The catalogue as an astropy table, units and UCDs kept."""
        return arrow.to_astropy(self.catalog)

    def to_pandas(self) -> Any:
        """The catalogue as a pandas DataFrame."""
        return self.catalog.to_pandas()

    def as_parent(self) -> Parent:
        """How a result made from this embedding refers to it."""
        if self.folder is None or self.manifest is None:
            return Parent(kind="arrays", path="", fingerprint=_array_fingerprint(self))
        return Parent(
            kind="embeddings",
            path=str(self.folder.resolve()),
            fingerprint=self.manifest.fingerprint,
        )


def read_statistics(folder: Path, shape: tuple[int, int]) -> Statistics:
    """Read what `measure` found of vectors of this shape when the folder was finished."""
    count, dim = shape
    want = {"mean": (dim,), "scale": (dim,), "norms": (count, 2)}
    with reading(folder, STATISTICS):
        parts = {name: mapped(folder / STATISTICS / f"{name}.npy") for name in want}
        for name, part in parts.items():
            if part.shape != want[name] or part.dtype != np.float64:
                raise ValueError(f"{name} is {part.dtype} {part.shape}, not float64 {want[name]}")
    return Statistics(**parts)


def require_comparable(one: Embeddings, other: Embeddings) -> None:
    """Refuse to compare vectors of different encoders, bands or pixel scales.

    Raises
    ------
    Mismatch
        What differs is named.
    """
    what = str(other.folder or "the other embedding")
    if one.dim != other.dim:
        raise Mismatch(
            f"{what} has vectors of {other.dim} numbers; expected {one.dim}: embed both alike"
        )
    if one.bands and other.bands and one.bands != other.bands:
        raise Mismatch(
            f"{what} has bands {', '.join(other.bands)}; expected {', '.join(one.bands)}"
        )
    require_same_scale(other.pixel_scale, one.pixel_scale, what)
    if one.encoder_fingerprint != other.encoder_fingerprint:
        raise Mismatch(
            f"{what} was made by another encoder or with other settings ({other.encoder_name}; "
            f"expected {one.encoder_name}, fingerprint {str(one.encoder_fingerprint)[:12]}): "
            "embed both with the same --encoder, --crop, --bands, --stretch, --size and --orbit"
        )


def _array_fingerprint(embeddings: Embeddings) -> str:
    digest = hashlib.sha256()
    for block in embeddings.vectors.blocks(release=True):
        digest.update(np.ascontiguousarray(block.values).tobytes())
    return digest.hexdigest()
