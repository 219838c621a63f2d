"""Answers kept between runs, by what was asked."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

from skytwin.errors import SkytwinError
from skytwin.files import write_atomically
from skytwin.images.fetch_web import Answer

__all__ = ["Cache"]


class Cache:
    """A folder of answers; an entry counts once it has been read and checked again.

    Parameters
    ----------
    folder : Path
        Made if need be.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get(self, url: str, check: Callable[[bytes], None]) -> Answer | None:
        """The answer kept for an address; None where there is none, or a damaged one."""
        about, content = self._places(url)
        try:
            told = json.loads(about.read_text(encoding="utf-8"))
            kept = content.read_bytes()
            if hashlib.sha256(kept).hexdigest() != told["sha256"] or told["asked"] != url:
                return None
            check(kept)
            return Answer(content=kept, url=told["url"], attempts=0, date=told["date"])
        except (OSError, ValueError, KeyError, TypeError, SkytwinError):
            return None

    def put(self, url: str, answer: Answer) -> None:
        """Keep an answer."""
        about, content = self._places(url)
        about.parent.mkdir(parents=True, exist_ok=True)
        told = {
            "asked": url,
            "url": answer.url,
            "date": answer.date,
            "sha256": hashlib.sha256(answer.content).hexdigest(),
        }
        write_atomically(content, answer.content)
        write_atomically(about, json.dumps(told).encode())

    def _places(self, url: str) -> tuple[Path, Path]:
        key = hashlib.sha256(url.encode()).hexdigest()
        place = self.folder / key[:2] / key
        return place.with_suffix(".json"), place.with_suffix(".image")
