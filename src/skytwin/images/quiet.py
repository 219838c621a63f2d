"""Silence for libraries that warn of odd headers: an image reads, or is refused with a reason."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["quiet"]

# warnings.catch_warnings swaps a global list: two threads in it at once would leave one's
# filters behind.
_LOCK = threading.RLock()


@contextmanager
def quiet() -> Iterator[None]:
    """Ignore warnings inside the block; one thread at a time."""
    with _LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
