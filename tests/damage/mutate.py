"""One damaged input by its number: the same seed, format and number give the same bytes."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np

from .bits import BLIND
from .case import Format

__all__ = ["mutate"]


def mutate(format_: Format, work: Path, seed: int, number: int) -> str:
    """Damage the valid input in a folder; what was done, in words.

    Cases take turns between damage that knows nothing of the format and what was made for it.
    """
    rng = np.random.default_rng([seed, zlib.crc32(format_.name.encode()), number])
    turn, kind = divmod(number, 2)
    if kind or not format_.absurd:
        turn = turn if format_.absurd else number
        path = _target(format_, work, rng)
        data = path.read_bytes()
        others = sorted(p for p in work.rglob("*") if p.is_file() and not p.is_symlink())
        other = others[int(rng.integers(len(others)))].read_bytes()
        changed, text = BLIND[turn % len(BLIND)](data, other, rng)
        path.write_bytes(changed)
        text = f"{path.relative_to(work)}: {text}"
    else:
        text = format_.absurd[turn % len(format_.absurd)](work, rng)
    if format_.after is not None:
        format_.after(work)
    return text


def _target(format_: Format, work: Path, rng: np.random.Generator) -> Path:
    files = sorted(path for pattern in format_.targets for path in work.glob(pattern))
    files = [path for path in files if path.is_file() and path.stat().st_size]
    return files[int(rng.integers(len(files)))]
