"""Files that are not what a name promises, and edits that several formats share."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from .case import Absurd

__all__ = ["edit", "fits_cards", "json_values", "no_file", "whole"]


def edit(name: str, what: str, change: Callable[[bytes], bytes]) -> Absurd:
    """A change of a file's whole content."""

    def damage(work: Path, rng: np.random.Generator) -> str:
        path = work / name
        path.write_bytes(change(path.read_bytes()))
        return f"{name}: {what}"

    return damage


def whole(name: str, what: str, content: Callable[[], bytes]) -> Absurd:
    """Another content."""
    return edit(name, what, lambda _: content())


def no_file(name: str) -> tuple[Absurd, ...]:
    """An empty file, one that may not be read, a pipe, a folder, links that lead nowhere good."""

    def remade(what: str, make: Callable[[Path], object]) -> Absurd:
        def damage(work: Path, rng: np.random.Generator) -> str:
            (work / name).unlink()
            make(work / name)
            return f"{name}: {what}"

        return damage

    def locked(path: Path) -> None:
        path.write_bytes(b"SIMPLE  =")
        path.chmod(0)

    return (
        remade("empty", lambda path: path.write_bytes(b"")),
        remade("one byte", lambda path: path.write_bytes(b"\0")),
        remade("no permission", locked),
        remade("a pipe that no one writes to", os.mkfifo),
        remade("a link to itself", lambda path: path.symlink_to(path.name)),
        remade("a link to a file that is not there", lambda path: path.symlink_to("nosuch")),
        remade("a link to /dev/zero", lambda path: path.symlink_to("/dev/zero")),
    )


def fits_cards(name: str, keywords: Sequence[tuple[str, str]]) -> tuple[Absurd, ...]:
    """FITS cards with absurd values, the last card of that name in the file first."""

    def card(keyword: str, value: str) -> Absurd:
        def change(data: bytes) -> bytes:
            new = f"{keyword:8s}= {value:>20s}".encode().ljust(80)[:80]
            at = data.rfind(b"\n" + keyword.encode().ljust(8) + b"= ") + 1
            for found in re.finditer(re.escape(keyword.encode().ljust(8) + b"= "), data):
                if found.start() % 80 == 0:
                    at = found.start()
            if data[at : at + 8].strip() != keyword.encode():
                # Not there: before the last END.
                ends = [m.start() for m in re.finditer(rb"END {77}", data) if m.start() % 80 == 0]
                at = ends[-1] if ends else 0
                if len(ends) and data[at + 80 : at + 160].strip() == b"":
                    return data[:at] + new + b"END".ljust(80) + data[at + 160 :]
            return data[:at] + new + data[at + 80 :]

        return edit(name, f"{keyword} = {value}", change)

    return tuple(card(*pair) for pair in keywords)


def json_values(name: str, pairs: Sequence[tuple[str, str]]) -> tuple[Absurd, ...]:
    """The value of a JSON key, wherever it is first, replaced by a text."""

    def value(key: str, new: str) -> Absurd:
        def change(data: bytes) -> bytes:
            text = data.decode()
            at = re.search(rf'"{re.escape(key)}"\s*:\s*', text)
            if at is None:
                return text.replace("{", f'{{"{key}": {new},', 1).encode()
            return (text[: at.end()] + new + text[_end(text, at.end()) :]).encode()

        return edit(name, f"{key} = {new[:40]}", change)

    return tuple(value(*pair) for pair in pairs)


def _end(text: str, start: int) -> int:
    """Where the JSON value that begins at ``start`` ends."""
    depth, quoted = 0, False
    for at in range(start, len(text)):
        letter = text[at]
        if quoted:
            quoted = letter != '"' or text[at - 1] == "\\"
        elif letter == '"':
            quoted = True
        elif letter in "[{":
            depth += 1
        elif letter in "]}":
            if depth == 0:
                return at
            depth -= 1
        elif letter == "," and depth == 0:
            return at
    return len(text)
