"""Damage that needs no knowledge of a format: bits, runs of bytes, lengths, numbers in text."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np

__all__ = ["BLIND", "FLIPS"]

Damage = Callable[[bytes, bytes, np.random.Generator], tuple[bytes, str]]

_LIMITS = [
    value & (256**width - 1)
    for width in (8,)
    for value in (0, 1, 127, 255, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1)
] + [2**63, 2**64 - 1]
_NUMBERS = (
    b"0", b"-1", b"999999999999", b"4294967296", b"9223372036854775807", b"-9223372036854775808",
    b"1e308", b"1e999", b"nan", b"NaN", b"Infinity", b"9" * 5000, b"0x10", b"", b"null", b"[]",
)  # fmt: skip


def _place(data: bytes, rng: np.random.Generator) -> int:
    """Anywhere, with the first and last hundreds of bytes, where headers lie, more often."""
    if not data:
        return 0
    kind = rng.integers(4)
    if kind == 0:
        return int(rng.integers(min(len(data), 512)))
    if kind == 1:
        return len(data) - 1 - int(rng.integers(min(len(data), 512)))
    return int(rng.integers(len(data)))


def _run(data: bytes, rng: np.random.Generator) -> tuple[int, int]:
    start = _place(data, rng)
    return start, min(len(data), start + 1 + int(rng.integers(1, 2 ** rng.integers(1, 11))))


def flip(data: bytes, other: bytes, rng: np.random.Generator) -> tuple[bytes, str]:
    """1 to 8 bits."""
    changed = bytearray(data)
    places = [_place(data, rng) for _ in range(int(rng.integers(1, 9)))] if data else []
    for place in places:
        changed[place] ^= 1 << int(rng.integers(8))
    return bytes(changed), f"bits flipped at {places}"


def zeroed(data: bytes, other: bytes, rng: np.random.Generator) -> tuple[bytes, str]:
    """A run of bytes set to 0 or 255."""
    start, end = _run(data, rng)
    fill = b"\0" if rng.integers(2) else b"\xff"
    return data[:start] + fill * (end - start) + data[end:], f"{start}:{end} set to {fill!r}"


def randomised(data: bytes, other: bytes, rng: np.random.Generator) -> tuple[bytes, str]:
    """A run of random bytes in place of what was there."""
    start, end = _run(data, rng)
    return data[:start] + rng.bytes(end - start) + data[end:], f"{start}:{end} randomised"


def truncated(data: bytes, other: bytes, rng: np.random.Generator) -> tuple[bytes, str]:
    """Cut short, anywhere or within the last bytes."""
    keep = int(rng.integers(len(data))) if rng.integers(2) else len(data) - 1 - len(data) // 50
    return data[: max(0, keep)], f"truncated to {keep} of {len(data)} bytes"


def extended(data: bytes, other: bytes, rng: np.random.Generator) -> tuple[bytes, str]:
    """Random bytes, or the file again, after its end."""
    tail = data if rng.integers(2) else rng.bytes(int(rng.integers(1, 4096)))
    return data + tail, f"{len(tail)} bytes more"


def doubled(data: bytes, other: bytes, rng: np.random.Generator) -> tuple[bytes, str]:
    """A run that comes twice."""
    start, end = _run(data, rng)
    return data[:end] + data[start:end] + data[end:], f"{start}:{end} twice"


def removed(data: bytes, other: bytes, rng: np.random.Generator) -> tuple[bytes, str]:
    """A run taken out."""
    start, end = _run(data, rng)
    return data[:start] + data[end:], f"{start}:{end} taken out"


def spliced(data: bytes, other: bytes, rng: np.random.Generator) -> tuple[bytes, str]:
    """The beginning of one file, the end of another."""
    here, there = _place(data, rng), _place(other, rng)
    return data[:here] + other[there:], f"first {here} bytes, then another file from {there}"


def limits(data: bytes, other: bytes, rng: np.random.Generator) -> tuple[bytes, str]:
    """1 to 8 bytes set to a number at which integers end."""
    width = int(rng.choice([1, 2, 4, 8]))
    start = _place(data, rng)
    value = int(rng.choice(np.array(_LIMITS, dtype=np.uint64))) & (256**width - 1)
    order = "little" if rng.integers(2) else "big"
    word = value.to_bytes(width, order)  # type: ignore[arg-type]
    return data[:start] + word + data[start + width :], f"{word!r} at {start}"


def number(data: bytes, other: bytes, rng: np.random.Generator) -> tuple[bytes, str]:
    """A number that is written in text, replaced by an absurd one."""
    found = list(re.finditer(rb"(?<![0-9A-Za-z])-?\d+(\.\d+)?", data[: 1 << 16]))
    if not found:
        return limits(data, other, rng)
    match = found[int(rng.integers(len(found)))]
    new = _NUMBERS[int(rng.integers(len(_NUMBERS)))]
    text = f"{match[0][:20]!r} at {match.start()} becomes {new[:20]!r}"
    return data[: match.start()] + new + data[match.end() :], text


def word(data: bytes, other: bytes, rng: np.random.Generator) -> tuple[bytes, str]:
    """A word of the text swapped with another of its words."""
    found = list(re.finditer(rb"[A-Za-z_][A-Za-z_0-9]+", data[: 1 << 16]))
    if len(found) < 2:
        return randomised(data, other, rng)
    one, two = (found[int(rng.integers(len(found)))] for _ in range(2))
    text = f"{one[0][:20]!r} at {one.start()} becomes {two[0][:20]!r}"
    return data[: one.start()] + two[0] + data[one.end() :], text


FLIPS: tuple[Damage, ...] = (flip, zeroed, randomised, truncated)
#: What is done to every format.
BLIND: tuple[Damage, ...] = (
    *FLIPS, extended, flip, doubled, removed, spliced, limits, number, limits, word, flip,
)  # fmt: skip
