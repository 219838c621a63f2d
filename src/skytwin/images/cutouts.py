"""Cutouts: N images in one Zarr array, row-aligned with a catalogue in Parquet.

The folder holds ``pixels.zarr`` (axes object, band, y, x; the source's own dtype, NaN where a
float image has no data), ``catalog.parquet`` (``id``, ``ra`` and ``dec`` in degrees where known,
``origin``, then the catalogue's own columns) and ``rejected.csv`` (what was left out, and why).
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import zarr

from skytwin.artefact import Manifest, Parent, reading
from skytwin.errors import UsageError
from skytwin.files import write_atomically
from skytwin.images.at_hand import at_hand
from skytwin.images.catalog_file import read_catalog
from skytwin.images.columns import canonical_positions
from skytwin.images.row_scan import ScannedIndex
from skytwin.images.rows import RowIndex
from skytwin.images.shards import COMPRESSOR, chunk_rows, fill_value

if TYPE_CHECKING:
    from astropy.table import Table

__all__ = ["PIXELS", "REJECTED", "Cutouts", "Geometry", "sized_pixels"]

PIXELS, REJECTED = "pixels.zarr", "rejected.csv"
_DESCRIPTION = "zarr.json"
_CHUNK_BYTES, _SHARD_BYTES = 1 << 20, 64 << 20


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """What every image of a set of cutouts has in common.

    Attributes
    ----------
    shape : tuple of int
        ``(C, H, W)``.
    dtype : str
        NumPy name of the stored dtype.
    bands : tuple of str
        One name per channel.
    unit : str or None
        Flux unit.
    pixel_scale : float or None
        Arcsec per pixel.
    """

    shape: tuple[int, int, int]
    dtype: str
    bands: tuple[str, ...]
    unit: str | None
    pixel_scale: float | None

    @property
    def chunk_rows(self) -> int:
        """Images in one compressed chunk: about a megabyte, a power of two."""
        size = int(np.prod(self.shape)) * np.dtype(self.dtype).itemsize
        return int(2 ** max(0, int(np.log2(max(1, _CHUNK_BYTES // size)))))

    @property
    def shard_rows(self) -> int:
        """Images in one file of the array: what is written, and may be lost, at a time."""
        return self.chunk_rows * (_SHARD_BYTES // _CHUNK_BYTES)


def sized_pixels(folder: Path, geometry: Geometry, shard_rows: int, count: int) -> None:
    """Make the array of axes (object, band, y, x) in ``folder/pixels.zarr`` ``count`` long.

    Its description is written anew, whole and flushed, so that no kill and no power cut leaves an
    array that cannot be opened; its shards are left as they are.
    """
    store: dict[str, Any] = {}
    _laid_out(store, geometry, shard_rows, count)
    (folder / PIXELS).mkdir(exist_ok=True)
    write_atomically(folder / PIXELS / _DESCRIPTION, store[_DESCRIPTION].to_bytes())


def _laid_out(
    store: dict[str, Any], geometry: Geometry, shard_rows: int, count: int
) -> zarr.Array[Any]:
    return zarr.create_array(
        store,
        shape=(count, *geometry.shape),
        chunks=(chunk_rows(geometry, shard_rows), *geometry.shape),
        shards=(shard_rows, *geometry.shape),
        dtype=geometry.dtype,
        fill_value=fill_value(geometry),
        compressors=COMPRESSOR,
        dimension_names=("object", "band", "y", "x"),
        attributes={
            "bands": list(geometry.bands),
            "unit": geometry.unit,
            "pixel_scale_arcsec": geometry.pixel_scale,
        },
    )


class Cutouts:
    """N image cutouts of one survey, with their catalogue.

    Attributes
    ----------
    folder : Path
        Where they lie.
    manifest : Manifest
        How they were made.
    bands : tuple of str
        One name per channel.
    pixel_scale : float or None
        Arcsec per pixel.
    unit : str or None
        Unit of the flux.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = at_hand(folder)
        self.manifest = Manifest.open(self.folder, "cutouts")
        summary = self.manifest.summary
        with reading(self.folder, "the manifest's summary"):
            self.bands: tuple[str, ...] = tuple(str(band) for band in summary["bands"])
            scale, unit = summary["pixel_scale"], summary["unit"]
            self.pixel_scale: float | None = scale if scale is None else float(scale)
            self.unit: str | None = unit if unit is None else str(unit)
            count, channels, height, width = (int(n) for n in summary["shape"])
            self.shape = (count, channels, height, width)
            self.dtype = np.dtype(str(summary["dtype"]))
            if not len(self.bands) == channels > 0:
                raise ValueError(f"{len(self.bands)} bands for {channels} channels")

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        n, _, height, width = self.shape
        scale = f', {self.pixel_scale:.3g}"/pixel' if self.pixel_scale else ""
        return f"Cutouts({n} x {height} x {width} pixels, bands {', '.join(self.bands)}{scale})"

    def _repr_html_(self) -> str:
        from skytwin.images.display import contact_sheet_html

        return contact_sheet_html(self)

    @functools.cached_property
    def catalog(self) -> pa.Table:
        """One row per image; the first column is ``id``."""
        return read_catalog(self.folder, len(self))

    @functools.cached_property
    def ids(self) -> np.ndarray:
        """Identifiers, shape (N,), dtype object (str)."""
        return np.asarray(self.catalog["id"].to_numpy(zero_copy_only=False))

    @functools.cached_property
    def index(self) -> RowIndex:
        """Rows by identifier."""
        return ScannedIndex(self.catalog["id"])

    @functools.cached_property
    def positions(self) -> np.ndarray | None:
        """RA and Dec in degrees, shape (N, 2), NaN where unknown; None without positions."""
        return canonical_positions(self.catalog)

    @functools.cached_property
    def _pixels(self) -> zarr.Array[Any]:
        with reading(self.folder, PIXELS):
            array = zarr.open_array(self.folder / PIXELS, mode="r")
            if array.shape != self.shape or array.dtype != self.dtype:
                raise ValueError(f"{array.dtype} {array.shape}, not {self.dtype} {self.shape}")
            return array

    def pixels(self, rows: slice | Sequence[int] | np.ndarray) -> np.ndarray:
        """Images in their stored dtype, shape (n, C, H, W)."""
        if isinstance(rows, slice):
            with reading(self.folder, PIXELS):
                return np.asarray(self._pixels[rows])
        wanted = np.asarray(rows, dtype=np.int64)
        if wanted.size and not (wanted.min() >= 0 and wanted.max() < len(self)):
            raise UsageError(f"rows {wanted.min()}..{wanted.max()}; expected 0..{len(self) - 1}")
        order = np.argsort(wanted, kind="stable")
        unique, inverse = np.unique(wanted[order], return_inverse=True)
        with reading(self.folder, PIXELS):
            images = np.asarray(self._pixels.oindex[unique, :, :, :])[inverse]
        result = np.empty_like(images)
        result[order] = images
        return result

    def flux(self, rows: slice | Sequence[int] | np.ndarray) -> np.ndarray:
        """Images as float32, shape (n, C, H, W), NaN where there is no data.

        Parameters
        ----------
        rows : slice or sequence of int
            Row numbers, in any order.
        """
        return self.pixels(rows).astype(np.float32, copy=False)

    def to_astropy(self) -> Table:
        """The catalogue as an astropy table, units and UCDs kept."""
        from skytwin.images.arrow import to_astropy

        return to_astropy(self.catalog)

    def to_pandas(self) -> Any:
        """The catalogue as a pandas DataFrame."""
        return self.catalog.to_pandas()

    def as_parent(self) -> Parent:
        """How a result made from these cutouts refers to them."""
        return Parent(
            kind="cutouts",
            path=str(self.folder.resolve()),
            fingerprint=self.manifest.fingerprint,
        )


def summarise(geometry: Geometry, count: int, counts: Mapping[str, int]) -> dict[str, Any]:
    """The ``summary`` of a cutouts manifest."""
    return {
        "shape": [count, *geometry.shape],
        "dtype": geometry.dtype,
        "bands": list(geometry.bands),
        "unit": geometry.unit,
        "pixel_scale": geometry.pixel_scale,
        **counts,
    }
