"""Products of float16 vectors with a few columns, as fast as their bytes can be read.

NumPy has to write float16 numbers out as float32 before it can multiply them (`widened`). faiss,
where it is installed, widens them in the processor's registers.
"""

from __future__ import annotations

import importlib
import threading
from typing import Any

import numpy as np

__all__ = ["products"]

# faiss takes as long to load as so many numbers take to widen.
_WORTH = 1 << 27
# faiss has a quick loop for vectors of so many numbers and its multiples.
_LANES = 8


class _Loaded:
    """faiss, from when it would have paid to have it."""

    def __init__(self) -> None:
        self._passed = 0
        self._faiss: Any = None
        self._missing = False
        self._own = threading.local()

    def ready(self, numbers: int) -> bool:
        """Whether to use it, for so many more numbers."""
        if self._faiss is None and not self._missing:
            self._passed += numbers
            if self._passed >= _WORTH:
                try:
                    self._faiss = importlib.import_module("faiss")
                except ImportError:
                    self._missing = True
        return self._faiss is not None

    def multiply(self, values: np.ndarray, column: np.ndarray) -> np.ndarray | None:
        """Values (n, D) times a column (D,), float32; None where a product is not finite."""
        faiss, scanner = self._faiss, self._scanner(values.shape[1])
        query = np.ascontiguousarray(column, dtype=np.float32)
        scanner.set_query(faiss.swig_ptr(query))
        scanner.set_list(0, 0.0)
        result = faiss.RangeSearchResult(1)
        found = faiss.RangeSearchPartialResult(result)
        # All within an infinite radius: the products of all rows, in their order.
        hits = found.new_result(0)
        codes = faiss.swig_ptr(np.asarray(values).view(np.uint8))
        scanner.scan_codes_range(len(values), codes, None, -np.inf, hits)
        if hits.nres != len(values):
            return None
        found.finalize()
        return np.asarray(faiss.rev_swig_ptr(result.distances, len(values)).copy())

    def _scanner(self, dim: int) -> Any:
        # Kept, one for each thread: faiss gives it to whoever asks, and Python cannot free it.
        held = self._own.__dict__.setdefault("scanners", {})
        if dim not in held:
            faiss = self._faiss
            quantizer = faiss.ScalarQuantizer(dim, faiss.ScalarQuantizer.QT_fp16)
            centre = faiss.IndexFlatIP(dim)
            scanner = quantizer.select_InvertedListScanner(
                faiss.METRIC_INNER_PRODUCT, centre, True, None, False
            )
            held[dim] = (scanner, quantizer, centre)
        return held[dim][0]


_loaded = _Loaded()


def products(values: np.ndarray, columns: np.ndarray, found: np.ndarray) -> bool:
    """Multiply without widening first.

    Equivalent, but for rounding, to::

        found[:] = widened(values) @ columns.T

    Parameters
    ----------
    values : ndarray, shape (n, D), float16
    columns : ndarray, shape (Q, D), float32
    found : ndarray, shape (n, Q), float32
        Filled.

    Returns
    -------
    bool
        False where it cannot be done, or is not worth loading faiss yet.
    """
    count, dim = values.shape
    if dim % _LANES or not count or not values.flags.c_contiguous:
        return False
    if not _loaded.ready(values.size * len(columns)):
        return False
    for number, column in enumerate(columns):
        product = _loaded.multiply(values, column)
        if product is None:
            return False
        found[:, number] = product
    return True
