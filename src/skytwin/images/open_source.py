"""From what a user names to the source that reads it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from skytwin.addresses import address_of, name_of
from skytwin.errors import UsageError
from skytwin.images.arrayfiles import ARRAY_SUFFIXES, ZARR_MARKS, is_array_file
from skytwin.images.arrays import ArraySource
from skytwin.images.at_hand import called
from skytwin.images.batches import BatchSource, is_batch, is_batches
from skytwin.images.datasets import DATASETS, open_dataset
from skytwin.images.folder import FolderSource
from skytwin.images.members import ARCHIVE_SUFFIXES, is_archive
from skytwin.images.readers import image_suffix
from skytwin.images.remote import Remote, state_of
from skytwin.images.remote_copy import local_copy
from skytwin.images.remote_source import RemoteFolder, RemoteSource
from skytwin.images.source import ImageSource

__all__ = ["open_source"]

# Addresses of this machine.
_HERE = ("file:", "local:")


def open_source(
    spec: str | Path,
    *,
    pattern: str | None = None,
    bands: Sequence[str] | None = None,
    hdu: Sequence[str | int] | None = None,
    dataset: str | None = None,
    ids: str | None = None,
    layout: str | None = None,
) -> ImageSource:
    """Open a source of images by what it is.

    Parameters
    ----------
    spec : str or Path
        The name of a published set (`skytwin.images.datasets.DATASETS`), a folder or archive of
        images, an array file, or a folder or archive of batches; here or at an address. A folder
        of images at an address is read file by file, anything else from a copy.
    pattern, hdu
        For images in files: see `skytwin.images.folder.FolderSource`.
    dataset, ids, layout
        For array files: see `skytwin.images.arrays.ArraySource`.
    bands
        For both.

    Raises
    ------
    UsageError
        There is no such source, or an option does not go with it.
    DataError
        The source is damaged or empty.
    """
    given = {
        "pattern": pattern, "bands": bands, "hdu": hdu,
        "dataset": dataset, "ids": ids, "layout": layout,
    }  # fmt: skip

    def only(what: str, *allowed: str) -> None:
        for option, value in given.items():
            if value is not None and option not in allowed:
                takes = f"it takes {', '.join(allowed)}" if allowed else "it takes no options"
                raise UsageError(f"{option} does not go with {what} {str(spec)!r}; {takes}")

    if str(spec) in DATASETS:
        only("the published set")
        return open_dataset(str(spec))
    address = address_of(spec)
    if address is not None and not address.startswith(_HERE):
        return _elsewhere(Remote(address), **given)
    path = local_copy(spec) if address is not None else Path(spec)
    if not str(spec) or not path.exists():
        raise UsageError(f"no file or folder {str(spec)!r}; expected {_EXPECTED}")
    if not (path.is_file() or path.is_dir()):
        raise UsageError(f"{str(spec)!r} is a pipe or a device; expected {_EXPECTED}")
    if is_array_file(path):
        only("the array file", "dataset", "ids", "layout", "bands")
        return ArraySource(path, dataset=dataset, ids=ids, bands=bands, layout=layout)
    if is_batches(path):
        only("the batches in")
        return BatchSource(path)
    if path.is_dir() or is_archive(path):
        only("the images in", "pattern", "bands", "hdu")
        return FolderSource(path, pattern=pattern, bands=bands, hdu=hdu)
    hint = (
        "; to ingest this one image, give the folder it is in; a mosaic needs --positions or "
        "--detect"
        if image_suffix(path.name)
        else ""
    )
    raise UsageError(f"{str(spec)!r} is no source of images; expected {_EXPECTED}{hint}")


def _elsewhere(remote: Remote, **given: Any) -> ImageSource:
    """What lies at an address."""
    name = name_of(remote.shown)
    entry = remote.info()
    found = {name: entry} if entry is not None else remote.list()
    if not found:
        raise UsageError(f"nothing below {remote.shown!r}; expected {_EXPECTED}")
    whole = entry is not None or any(part in ZARR_MARKS or is_batch(part) for part in found)
    if not whole:
        foreign = [key for key in ("dataset", "ids", "layout") if given.pop(key) is not None]
        if foreign:
            raise UsageError(
                f"{foreign[0]} does not go with the images in {remote.shown!r}; it takes pattern, "
                "bands, hdu"
            )
        members = RemoteFolder(remote, found)
        source: ImageSource = FolderSource(Path(remote.shown), members=members, **given)
        threads = members.threads
    else:
        if entry is not None and not name.lower().endswith((*ARRAY_SUFFIXES, *ARCHIVE_SUFFIXES)):
            raise UsageError(f"{remote.shown!r} is no source of images; expected {_EXPECTED}")
        here = local_copy(remote.address, folder=True)
        with called(here, remote.shown):
            source, threads = open_source(here, **given), None
    return RemoteSource(source, location=remote.shown, state=state_of(found), threads=threads)


_EXPECTED = (
    f"a folder of images, an archive of them ({' '.join(ARCHIVE_SUFFIXES)}), an array file "
    f"({' '.join(ARRAY_SUFFIXES)}), or a published set ({', '.join(DATASETS)})"
)
