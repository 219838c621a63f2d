"""Vectors that something else made, in an array file: NPY, NPZ, HDF5, Zarr."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from skytwin.errors import DataError, in_words
from skytwin.images.arrayfiles import choose, open_arrays
from skytwin.images.arrays import columns_beside, identifiers, short_names
from skytwin.images.texts import numbered

__all__ = ["VectorFile"]

_AT_ONCE = 16_384


class VectorFile:
    """The vectors of an array file, and the columns beside them.

    Parameters
    ----------
    path : Path
        ``.npy .npz .h5 .hdf5``, or Zarr as a folder or zip.
    dataset : str, optional
        The array (N, D) of vectors; needed if several arrays of numbers have two axes.
    ids : str, optional
        The array of identifiers; by default one called id, ids, objid, object_id or name, if its
        values are unique, else row numbers.

    Raises
    ------
    UsageError
        No such file or array, several candidates.
    DataError
        A damaged file, one without vectors, ids that are not unique.
    """

    def __init__(self, path: Path, *, dataset: str | None = None, ids: str | None = None) -> None:
        self.location = str(path)
        arrays = open_arrays(path)
        self.name = choose(path, arrays, dataset, axes=(2,), what="vectors")
        self._array = array = arrays[self.name]
        self.shape: tuple[int, int] = (array.shape[0], array.shape[1])
        if 0 in self.shape:
            raise DataError(f"{self.name!r} in {self.location!r} holds no vectors: {self.shape}")
        columns = columns_beside(arrays, self.shape[0])
        self.id_name, found = identifiers(columns, ids, self.shape[0], self.location)
        self.ids: Sequence[str] = found
        kept = {key: value for key, value in columns.items() if key != self.id_name}
        self.table = pa.table(short_names(kept)) if kept else None
        self.origins: Sequence[str] = numbered(self.shape[0], f"{path.name}[", "]")

    def block(self, first: int, stop: int) -> np.ndarray:
        """Rows ``first`` to ``stop``, (n, D) float32.

        Raises
        ------
        DataError
            They cannot be read.
        """
        values = np.empty((stop - first, self.shape[1]), dtype=np.float32)
        try:
            with np.errstate(over="ignore"):  # a number too large for float32 becomes infinite
                for begin in range(first, stop, _AT_ONCE):
                    end = min(begin + _AT_ONCE, stop)
                    values[begin - first : end - first] = self._array.part(begin, end)
        except Exception as error:  # damage shows as another error in every format
            reason = in_words(error)
            raise DataError(
                f"rows {first} to {stop - 1} of {self.location!r} cannot be read: {reason}"
            ) from None
        return values
