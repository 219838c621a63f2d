"""Encoders that come with skytwin, trained on simulated images alone."""

from __future__ import annotations

import importlib.resources
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from skytwin.encoders.encoder import ENCODER_FILE
from skytwin.errors import DamagedArtefact, UsageError, unknown

__all__ = [
    "PREFIX",
    "WEIGHTS_FILE",
    "bundled_encoders",
    "bundled_folder",
    "bundled_home",
    "name_of",
    "weights_path",
]

PREFIX = "skytwin:"
WEIGHTS_FILE = "weights.safetensors"


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


def weights_path(
    folder: Path, name: str, files: Mapping[str, Any], given: str | Path | None
) -> Path:
    """The weights of a trained network: those given, bundled ones, or those beside it.

    Raises
    ------
    UsageError
        They are no longer where they were.
    DamagedArtefact
        The folder does not say where they lie.
    """
    stored = files.get("weights")
    if not isinstance(stored, str):
        raise DamagedArtefact(
            f"{str(folder)!r} does not say where the weights of {name} lie; restore it"
        )
    if given is not None:
        path = Path(given)
    elif stored.startswith(PREFIX):
        path = bundled_folder(stored) / WEIGHTS_FILE
    else:
        path = folder / stored
    if not path.is_file():
        raise UsageError(
            f"the weights of {name} are no longer at {str(path)!r}; say where with --weights FILE"
        )
    return path
