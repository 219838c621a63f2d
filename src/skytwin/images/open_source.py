"""From what a user names to the source that reads it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from skytwin.errors import UsageError
from skytwin.images.arrayfiles import ARRAY_SUFFIXES, is_array_file
from skytwin.images.arrays import ArraySource
from skytwin.images.batches import BatchSource, is_batches
from skytwin.images.datasets import DATASETS, open_dataset
from skytwin.images.folder import FolderSource
from skytwin.images.members import ARCHIVE_SUFFIXES, is_archive
from skytwin.images.readers import image_suffix
from skytwin.images.source import ImageSource

__all__ = ["open_source"]


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
        images, an array file, or a folder or archive of batches.
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
    path = Path(spec)
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


_EXPECTED = (
    f"a folder of images, an archive of them ({' '.join(ARCHIVE_SUFFIXES)}), an array file "
    f"({' '.join(ARRAY_SUFFIXES)}), or a published set ({', '.join(DATASETS)})"
)
