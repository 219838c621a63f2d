"""FITS headers: find the HDUs and what they say of their images, with as little parsing as goes.

Reference: Pence et al. 2010, A&A 524, A42 (the standard, version 3.0).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from skytwin.errors import BadImage

__all__ = ["DTYPES", "Hdu", "walk"]

#: BITPIX to the NumPy type of a stored number, without its byte order.
DTYPES = {8: "u1", 16: "i2", 32: "i4", 64: "i8", -32: "f4", -64: "f8"}
_BLOCK, _CARD = 2880, 80
_MAX_HEADER = 1000 * _BLOCK
_STRING = re.compile(r"\s*'((?:[^']|'')*)'")


@dataclass(frozen=True, kw_only=True, eq=False)
class Hdu:
    """One header-data unit of a FITS file.

    Attributes
    ----------
    number : int
        Counted from 0, the primary.
    cards : dict
        Keyword to its 80-byte card; the first one where a keyword comes twice.
    shape : tuple of int
        Of the image (H and W last) without leading axes of length 1; empty without one.
    bitpix : int
        The image's BITPIX.
    offset, size : int
        Where the data unit begins, and its length in bytes without the padding.
    tiled : bool
        The image is tile-compressed in a binary table.
    """

    number: int
    cards: dict[bytes, bytes]
    shape: tuple[int, ...]
    bitpix: int
    offset: int
    size: int
    tiled: bool

    def get(self, keyword: str) -> str | float | bool | None:
        """A card's value; None where the card is missing, empty or unreadable."""
        card = self.cards.get(keyword.encode())
        return None if card is None else _value(card)

    def text(self, *keywords: str) -> str | None:
        """The first of these keywords that has a value, as stripped text."""
        for keyword in keywords:
            value = self.get(keyword)
            if value is not None and str(value).strip():
                return str(value).strip()
        return None

    @property
    def label(self) -> str:
        """For messages: ``1 SCI 64x64``."""
        name = self.text("EXTNAME") or ("PRIMARY" if self.number == 0 else "")
        size = "x".join(map(str, self.shape)) or "no image"
        return " ".join(part for part in (str(self.number), name, size) if part)


def walk(stream: BinaryIO) -> Iterator[Hdu]:
    """The HDUs of a FITS file, one by one; no data unit is read.

    Raises
    ------
    BadImage
        The content is no FITS, or its headers are damaged.
    """
    start = number = 0
    while True:
        stream.seek(start)
        cards, length = _cards(stream, number)
        if cards is None:
            return
        unit = _hdu(number, cards, start + length)
        yield unit
        start = unit.offset + -(-unit.size // _BLOCK) * _BLOCK
        number += 1


def _cards(stream: BinaryIO, number: int) -> tuple[dict[bytes, bytes] | None, int]:
    """The cards of the header that begins here, and its length; None at the file's end."""
    header, end = b"", -1
    while end < 0:
        block = stream.read(_BLOCK)
        if not header and not block.startswith(b"SIMPLE  =" if number == 0 else b"XTENSION="):
            if number == 0:
                raise BadImage("not a FITS file" if block else "the file is empty")
            return None, 0  # the standard allows other records after the last HDU
        if len(block) < _BLOCK or len(header) > _MAX_HEADER:
            raise BadImage(f"truncated in the header of HDU {number}: there is no END")
        end = block.find(b"END     ")
        while end % _CARD and end > 0:
            end = block.find(b"END     ", end + 1)
        header += block
    last = len(header) - _BLOCK + end
    # Backwards, so that of a keyword that comes twice the first one stays.
    return {
        header[at : at + 8].rstrip(): header[at : at + _CARD]
        for at in range(last - _CARD, -1, -_CARD)
    }, len(header)


def _hdu(number: int, cards: dict[bytes, bytes], offset: int) -> Hdu:
    bitpix, axes = _size(number, cards, "")
    groups = _integer(number, cards, "GCOUNT", 1) if number else 1
    parameters = _integer(number, cards, "PCOUNT", 0) if number else 0
    elements = groups * (parameters + math.prod(axes)) if axes else 0
    size = abs(bitpix) // 8 * elements
    tiled = number > 0 and _value(cards.get(b"ZIMAGE", b"")) is True
    if tiled:
        _integer(number, cards, "THEAP", 0)  # one below 0 leads cfitsio out of its memory
        bitpix, axes = _size(number, cards, "Z")
    elif number and not str(_value(cards[b"XTENSION"])).startswith("IMAGE"):
        axes = []
    shape = axes[::-1]
    if 0 in shape:
        shape = []
    lead = [length for length in shape[:-2] if length != 1]
    return Hdu(
        number=number,
        cards=cards,
        shape=(*lead, *shape[-2:]),
        bitpix=bitpix,
        offset=offset,
        size=size,
        tiled=tiled,
    )


def _size(number: int, cards: dict[bytes, bytes], prefix: str) -> tuple[int, list[int]]:
    """BITPIX and the axes' lengths, fastest first."""
    bitpix = _integer(number, cards, f"{prefix}BITPIX")
    if bitpix not in DTYPES:
        raise BadImage(f"damaged header of HDU {number}: BITPIX is {bitpix}")
    axes = [
        _integer(number, cards, f"{prefix}NAXIS{axis + 1}")
        for axis in range(min(_integer(number, cards, f"{prefix}NAXIS"), 999))
    ]
    return bitpix, axes


def _integer(number: int, cards: dict[bytes, bytes], keyword: str, default: int = -1) -> int:
    value = _value(cards.get(keyword.encode(), b""))
    found = default if value is None else value
    if isinstance(found, bool) or not isinstance(found, int | float) or found != int(found):
        raise BadImage(f"damaged header of HDU {number}: {keyword} is {found!r}")
    if found < 0 and not keyword.endswith("BITPIX"):
        raise BadImage(f"damaged header of HDU {number}: {keyword} is missing or negative")
    return int(found)


def _value(card: bytes) -> str | float | bool | None:
    if card[8:10] != b"= ":
        return None
    body = card[10:].decode("ascii", "replace")
    quoted = _STRING.match(body)
    if quoted:
        return quoted[1].replace("''", "'").rstrip()
    word = body.split("/", 1)[0].strip()
    if word in {"T", "F"}:
        return word == "T"
    try:
        return int(word)
    except ValueError:
        pass
    try:
        return float(word.replace("D", "E").replace("d", "e"))
    except ValueError:
        return None
