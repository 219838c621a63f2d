"""Products of stored vectors with a matrix in float32, and how far they may be from exact.

The float32 product is bounded (Higham 2002, eq. 3.5: ``|fl(x.w) - x.w| <= gamma_D |x| |w|``), which
tells a scan which rows float64 has to settle.
"""

from __future__ import annotations

import functools
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from skytwin.embeddings.half import products
from skytwin.embeddings.vectors import cache_rows, widened
from skytwin.threads import thread_count

__all__ = ["UNIT", "narrow_product", "product", "product_error"]

#: Half the spacing of float32 at 1.
UNIT = 2.0**-24
_FEW_COLUMNS = 8
# Rows of float16 that are widened for one product of matrices.
_WIDE_ROWS = 4096
# So many numbers are multiplied by one thread before a second has begun.
_WORTH_THREADS = 1 << 20


def product_error(dim: int) -> float:
    """Bound of a float32 dot product of ``dim`` terms, relative to the lengths of its factors."""
    # Two more roundings than terms: the reference to float32, and the result.
    unit = (dim + 2) * UNIT
    return unit / (1 - unit)


def product(values: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Values (n, D), float32 or float16, times a float32 matrix (D, Q), as float64.

    A few columns are multiplied one by one with what is in the processor's cache, row by row,
    which keeps up with memory where products of matrices do not. float16 is widened there, or
    by faiss (`skytwin.embeddings.half`), so that memory is read at its two bytes a number.
    """
    return narrow_product(values, matrix).astype(np.float64)


def narrow_product(values: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """The same, as it comes: float32."""
    count, columns = len(values), matrix.shape[1]
    if columns > _FEW_COLUMNS:
        if values.dtype != np.float16:
            return np.asarray(values @ matrix)
        wide = np.empty((count, columns), dtype=np.float32)
        for first in range(0, count, _WIDE_ROWS):
            some = slice(first, first + _WIDE_ROWS)
            np.matmul(widened(values[some]), matrix, out=wide[some])
        return wide
    found = np.empty((count, columns), dtype=np.float32)
    each = np.ascontiguousarray(matrix.T)
    workers = thread_count() if values.size >= _WORTH_THREADS else 1
    if workers == 1:
        _by_rows(values, each, found)
        return found
    step = -(-count // workers)
    tasks = [
        _workers(os.getpid(), workers).submit(
            _by_rows, values[first : first + step], each, found[first : first + step]
        )
        for first in range(0, count, step)
    ]
    for task in tasks:
        task.result()
    return found


def _by_rows(values: np.ndarray, each: np.ndarray, found: np.ndarray) -> None:
    """Fill ``found`` (n, Q) with a few columns, as many rows at a time as stay in the cache."""
    count, dim = values.shape
    narrow, several = values.dtype == np.float16, len(each) > 1
    if narrow and products(values, each, found):
        return
    step = cache_rows(dim) if narrow or several else max(1, count)
    space = np.empty((min(step, count), dim), dtype=np.float32) if narrow else None
    for first in range(0, count, step):
        part, into = widened(values[first : first + step], space), found[first : first + step]
        for number, column in enumerate(each):
            into[:, number] = np.vecdot(part, column)


@functools.cache
def _workers(process: int, count: int) -> ThreadPoolExecutor:
    # Of each process its own: a fork takes no threads along.
    return ThreadPoolExecutor(count, thread_name_prefix=f"scan-{process}")
