"""Encoders that come with skytwin, trained on simulated images alone."""

from __future__ import annotations

import importlib.resources
from pathlib import Path

from skytwin.encoders.encoder import ENCODER_FILE
from skytwin.errors import unknown

__all__ = ["PREFIX", "bundled_encoders", "bundled_folder", "bundled_home", "name_of"]

PREFIX = "skytwin:"


def bundled_encoders() -> dict[str, Path]:
    """Their folders by name: ``"skytwin:radio"``."""
    home = bundled_home()
    found = sorted(home.glob(f"*/{ENCODER_FILE}")) if home.is_dir() else []
    return {f"{PREFIX}{path.parent.name}": path.parent for path in found}


def bundled_folder(name: str) -> Path:
    """The folder of one.

    Raises
    ------
    UnknownName
        None of this name comes with skytwin.
    """
    known = bundled_encoders()
    if name not in known:
        raise unknown("encoder", name, known)
    return known[name]


def name_of(file: Path) -> str | None:
    """Which bundled encoder a file is part of: ``"skytwin:radio"``, or None."""
    inside = file.resolve().parent
    return f"{PREFIX}{inside.name}" if inside.parent == bundled_home().resolve() else None


def bundled_home() -> Path:
    """Where they lie."""
    return Path(str(importlib.resources.files("skytwin") / "bundled"))
