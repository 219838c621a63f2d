"""A folder of images, or an archive of them: one file an object, or one file per band."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from skytwin.addresses import shown
from skytwin.errors import BadImage, DataError, UsageError, unknown
from skytwin.images.members import Members, open_members
from skytwin.images.readers import IMAGE_SUFFIXES, image_suffix, is_fits, read_image
from skytwin.images.source import RawImage

__all__ = ["FolderSource", "natural"]


def natural(name: str) -> list[tuple[int, int, str]]:
    """A sorting key in which ``img2`` comes before ``img10``."""
    return [
        (0, int(part), part) if part.isdecimal() else (1, 0, part)
        for part in re.split(r"(\d+)", name)
        if part
    ]


class FolderSource:
    """The images below a folder, or in a zip or tar archive.

    Without ``pattern``, every file with a known suffix is one image; its id is the file's name
    without the suffix, or, if such names repeat, every id is the relative path without it. With
    ``pattern``, the files that fit it are images by the id (and band) that the pattern finds.

    Parameters
    ----------
    path : Path
        A folder (searched with its subfolders, hidden ones aside) or an archive.
    pattern : str, optional
        A file name such as ``"{id}_{band}.fits"``, or a relative path if it has a ``/``. ``*``
        stands for anything but ``/``.
    bands : sequence of str, optional
        With a pattern that has ``{band}``: the bands wanted, in order (else all, sorted).
        Without: names for the channels of every image.
    hdu : sequence of str or int, optional
        See `skytwin.images.readers.read_image`.
    members : Members, optional
        The files, where they are no longer to be looked for.

    Attributes
    ----------
    ignored : int
        Files that are no images, or do not fit the pattern.

    Raises
    ------
    UsageError
        No such folder, an unusable pattern, two files that would get the same id.
    DataError
        No image in it, or a damaged archive.
    """

    def __init__(
        self,
        path: Path,
        *,
        pattern: str | None = None,
        bands: Sequence[str] | None = None,
        hdu: Sequence[str | int] | None = None,
        members: Members | None = None,
    ) -> None:
        self.location = shown(path)
        self.table = None
        self.recipe: Mapping[str, Any] = {
            "pattern": pattern,
            "bands": None if bands is None else list(bands),
            "hdu": None if hdu is None else list(hdu),
        }
        self._bands = None if bands is None else tuple(bands)
        self._hdu = None if hdu is None else tuple(hdu)
        self._members = members or open_members(path, lambda name: image_suffix(name) is not None)
        names = sorted((n for n in self._members.names if image_suffix(n)), key=natural)
        if not names:
            raise DataError(
                f"no image in {self.location!r} (of {len(self._members.names)} files); expected "
                f"files ending in {', '.join(IMAGE_SUFFIXES)}"
            )
        self._by_band = pattern is not None and "{band}" in pattern
        if pattern is None:
            groups = _one_each(names)
        else:
            groups = _by_pattern(names, pattern)
            if self._by_band:
                self._bands, groups = _choose(groups, self._bands)
        used = [name for files in groups.values() for name in files.values()]
        if self._hdu is not None and not all(map(is_fits, used)):
            other = next(name for name in used if not is_fits(name))
            raise UsageError(f"hdu picks parts of FITS files; {other!r} is none; leave it out")
        self.ignored = len(self._members.names) - len(used)
        self.ids: Sequence[str] = [_printable(name) for name in groups]
        self._files = list(groups.values())
        self.origins: Sequence[str] = [_printable(", ".join(f.values())) for f in self._files]

    def read(self, index: int) -> RawImage:
        """Read one image; see `skytwin.images.source.ImageSource.read`."""
        files = self._files[index]
        if not self._by_band:
            (name,) = files.values()
            return _renamed(self._open(name), self._bands)
        bands = self._bands or ()
        missing = [band for band in bands if band not in files]
        if missing:
            raise BadImage(f"no file for band(s) {', '.join(missing)}")
        planes = []
        for band in bands:
            try:
                planes.append(self._open(files[band]))
            except BadImage as error:
                raise BadImage(f"band {band}: {error}") from None
        return _stack(planes, bands)

    def _open(self, name: str) -> RawImage:
        return read_image(self._members.fetch(name), hdu=self._hdu)


def _one_each(names: Sequence[str]) -> dict[str, dict[str, str]]:
    """Every file an image of its own."""
    labels: tuple[Callable[[str], str], ...] = (lambda name: _bare(name).rpartition("/")[2], _bare)
    for label in labels:
        groups = {label(name): {"": name} for name in names}
        if len(groups) == len(names):
            return groups
    first = {_bare(name): name for name in reversed(names)}
    twice = next(name for name in names if first[_bare(name)] != name)
    raise UsageError(
        f"{first[_bare(twice)]!r} and {twice!r} would both get the id {_bare(twice)!r}; keep one "
        "of them in the folder, or choose with a pattern such as '{id}.fits'"
    )


def _by_pattern(names: Sequence[str], pattern: str) -> dict[str, dict[str, str]]:
    """The files that fit, by id and band."""
    expression = _expression(pattern)
    groups: dict[str, dict[str, str]] = {}
    for name in names:
        found = expression.fullmatch(name if "/" in pattern else name.rpartition("/")[2])
        if found is None:
            continue
        band = found.groupdict().get("band", "")
        files = groups.setdefault(found["id"], {})
        if band in files:
            what = f"id {found['id']!r}" + (f", band {band!r}" if band else "")
            raise UsageError(
                f"{files[band]!r} and {name!r} both fit {pattern!r} with {what}; make the pattern "
                "narrower, with the folder in it if need be"
            )
        files[band] = name
    if not groups:
        raise DataError(
            f"none of {len(names)} images fits the pattern {pattern!r}; the first is {names[0]!r}"
        )
    return groups


def _choose(
    groups: Mapping[str, Mapping[str, str]], wanted: tuple[str, ...] | None
) -> tuple[tuple[str, ...], dict[str, dict[str, str]]]:
    """The bands in order, those asked for or all, and the files of the objects that have any."""
    found = sorted({band for files in groups.values() for band in files})
    bands = tuple(found) if wanted is None else wanted
    for band in bands:
        if band not in found:
            raise unknown("band", band, found, "no file that fits the pattern has it")
    chosen = {
        name: {band: file for band, file in files.items() if band in bands}
        for name, files in groups.items()
    }
    return bands, {name: files for name, files in chosen.items() if files}


def _expression(pattern: str) -> re.Pattern[str]:
    """``{id}`` takes as much as it can, ``{band}`` as little: bands are the short part."""
    fields = {"{id}": "[^/]+", "{band}": "[^/]+?"}
    parts, seen = [], set()
    for part in re.split(r"(\{[^{}]*\}|\*)", pattern):
        if part == "*":
            parts.append("[^/]*?")
        elif part in fields:
            name = part[1:-1]
            parts.append(f"(?P={name})" if name in seen else f"(?P<{name}>{fields[part]})")
            seen.add(name)
        elif part.startswith("{"):
            raise UsageError(f"unknown field {part} in the pattern; expected {{id}} and {{band}}")
        else:
            parts.append(re.escape(part))
    if "id" not in seen:
        raise UsageError(f"the pattern {pattern!r} has no {{id}}; try '{{id}}_{{band}}.fits'")
    return re.compile("".join(parts))


def _renamed(image: RawImage, bands: tuple[str, ...] | None) -> RawImage:
    if bands is None:
        return image
    if len(bands) != len(image.pixels):
        raise BadImage(f"{len(image.pixels)} channel(s); {len(bands)} band(s) were named")
    return replace(image, bands=bands)


def _stack(planes: Sequence[RawImage], bands: tuple[str, ...]) -> RawImage:
    """One image of single-channel images that cover the same pixels of the sky."""
    first = planes[0]
    for band, plane in zip(bands, planes, strict=True):
        if len(plane.pixels) != 1:
            raise BadImage(f"band {band} has {len(plane.pixels)} channels; expected 1")
        if plane.pixels.shape != first.pixels.shape:
            sizes = (f"{p.pixels.shape[1]}x{p.pixels.shape[2]}" for p in (first, plane))
            raise BadImage(f"bands {bands[0]} and {band} differ in shape ({', '.join(sizes)})")
        if first.pixel_scale is None or plane.pixel_scale is None:
            continue
        if not math.isclose(plane.pixel_scale, first.pixel_scale, rel_tol=0.01):
            raise BadImage(
                f"bands {bands[0]} and {band} differ in pixel scale "
                f"({first.pixel_scale:.4g}, {plane.pixel_scale:.4g} arcsec)"
            )
        offset = _separation_arcsec(first, plane) / first.pixel_scale
        if offset > 0.5:
            raise BadImage(
                f"bands {bands[0]} and {band} are {offset:.1f} pixels apart on the sky; ingest "
                "them as mosaics, which are cut by sky position"
            )
    units = {plane.unit for plane in planes}
    return replace(
        first,
        pixels=np.concatenate([plane.pixels for plane in planes]),
        bands=bands,
        unit=first.unit if len(units) == 1 else None,
    )


def _separation_arcsec(one: RawImage, other: RawImage) -> float:
    """Between two centres, by the haversine formula; 0 where one is unknown."""
    if one.ra is None or one.dec is None or other.ra is None or other.dec is None:
        return 0.0
    ra1, dec1, ra2, dec2 = map(math.radians, (one.ra, one.dec, other.ra, other.dec))
    chord = (
        math.sin((dec2 - dec1) / 2) ** 2
        + math.cos(dec1) * math.cos(dec2) * math.sin((ra2 - ra1) / 2) ** 2
    )
    return math.degrees(2 * math.asin(math.sqrt(min(1.0, chord)))) * 3600


def _bare(name: str) -> str:
    """A name without its suffix."""
    return name[: len(name) - len(image_suffix(name) or "")]


def _printable(name: str) -> str:
    """File names need not be UTF-8; identifiers must be."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")
