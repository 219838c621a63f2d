"""Every format that skytwin takes."""

from __future__ import annotations

from .case import Format
from .formats_arrays import FORMATS as ARRAYS
from .formats_folders import FORMATS as FOLDERS
from .formats_images import FORMATS as IMAGES
from .formats_tables import FORMATS as TABLES

__all__ = ["FORMATS"]

FORMATS: dict[str, Format] = {one.name: one for one in (*IMAGES, *ARRAYS, *TABLES, *FOLDERS)}
