"""Batches of pickled images, as CIFAR-10 and its astronomical heirs are published."""

from __future__ import annotations

import math
import re
import tarfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa

from skytwin.errors import DataError, UsageError
from skytwin.images.folder import natural
from skytwin.images.inert import load_plain
from skytwin.images.members import TarEntry
from skytwin.images.packed import require_likely
from skytwin.images.pixels import check_numeric, check_size, native
from skytwin.images.readers import image_suffix
from skytwin.images.source import RawImage

__all__ = ["BatchSource", "is_batch", "is_batches"]

_BATCH = re.compile(r"(data|train|val|test)_batch(_\d+)?")
_META = "batches.meta"
_TARS = (".tar", ".tar.gz", ".tgz")
_MAX_BATCH = 2**31


class BatchSource:
    """The images of an archive, or folder, of ``data_batch_1, ..., test_batch``, ``batches.meta``.

    Each batch is a pickled dict with ``data`` (rows of one image: H x W pixels of a square,
    three times as many for red, green and blue, or a shape of their own), ``labels`` and
    ``filenames``. Only plain arrays are unpickled; see `skytwin.images.inert`.

    Parameters
    ----------
    path : Path
        A tar file or a folder.

    Attributes
    ----------
    table : pyarrow.Table
        ``split`` ("train", "test", "val"), ``batch``, and where the batches have them ``label``
        (int), ``class`` (its name) and ``filename``.

    Raises
    ------
    UsageError
        There is no such file, or it holds no batches.
    DataError
        A batch is damaged, or would load more than plain arrays.
    """

    def __init__(self, path: Path) -> None:
        self.location = str(path)
        self.recipe: Mapping[str, Any] = {}
        contents = dict(_contents(path))
        names = sorted(
            (name for name in contents if name != _META),
            key=lambda name: (name.startswith("test"), natural(name)),
        )
        if not names:
            raise UsageError(
                f"{self.location!r} holds no batches; expected files called data_batch_1, ..."
            )
        classes = _classes(contents.get(_META))
        self._images: list[np.ndarray] = []
        columns: dict[str, list[Any]] = {key: [] for key in _COLUMNS}
        origins = []
        for name in names:
            batch = _load(name, contents.pop(name))
            images = _images(name, batch)
            self._images += images
            origins += [f"{path.name}/{name}[{row}]" for row in range(len(images))]
            for key, values in _columns(name, batch, len(images), classes).items():
                columns[key] += values
        self.origins: Sequence[str] = origins
        self.table = pa.table(
            {
                key: pa.array(values, _COLUMNS[key])
                for key, values in columns.items()
                if any(value is not None for value in values)
            }
        )
        self.ids: Sequence[str] = _ids(columns)

    def read(self, index: int) -> RawImage:
        """Read one image; see `skytwin.images.source.ImageSource.read`."""
        pixels = native(self._images[index])
        return RawImage(pixels=pixels, bands=("red", "green", "blue") if len(pixels) == 3 else None)


_COLUMNS = {
    "split": pa.string(),
    "batch": pa.string(),
    "label": pa.int64(),
    "class": pa.string(),
    "filename": pa.string(),
}


def is_batches(path: Path) -> bool:
    """Whether a folder or tar file holds batches rather than images."""
    if path.is_dir():
        return any(is_batch(entry.name) for entry in path.iterdir())
    if not path.name.lower().endswith(_TARS):
        return False
    try:
        with tarfile.open(path, "r|*") as tar:
            for entry in tar:
                name = PurePosixPath(entry.name).name
                if entry.isfile() and (is_batch(name) or image_suffix(name)):
                    return is_batch(name)
    except (tarfile.TarError, zlib.error, EOFError, OSError):
        return False
    return False


def is_batch(name: str) -> bool:
    """Whether a file is called as a batch is."""
    return _BATCH.fullmatch(name) is not None


def _contents(path: Path) -> Iterator[tuple[str, bytes]]:
    """Name and content of each batch, and of the file that names the classes."""
    if path.is_dir():
        for file in path.iterdir():
            if file.is_file() and (is_batch(file.name) or file.name == _META):
                yield file.name, file.read_bytes()
        return
    if not path.is_file():
        raise UsageError(f"no file or folder {str(path)!r}; expected an archive of batches")
    try:
        packed = path.stat().st_size
        with tarfile.open(path, "r|*", tarinfo=TarEntry) as tar:
            for entry in tar:
                require_likely(packed, entry.offset_data + entry.size, repr(str(path)))
                name = PurePosixPath(entry.name).name
                if not entry.isfile() or not (is_batch(name) or name == _META):
                    continue
                if entry.size > _MAX_BATCH:
                    raise DataError(f"batch {name!r} has {entry.size} bytes; too many to load")
                stream = tar.extractfile(entry)
                yield name, b"" if stream is None else stream.read()
    except (tarfile.TarError, zlib.error, EOFError, OSError) as error:
        raise DataError(f"{str(path)!r} is damaged ({error}); fetch it anew") from None


def _load(name: str, content: bytes) -> Mapping[str, Any]:
    try:
        batch = load_plain(content)
    except DataError as error:
        raise DataError(f"batch {name!r}: {error}") from None
    if not isinstance(batch, dict):
        raise DataError(f"batch {name!r} is a {type(batch).__name__}; expected a dict with 'data'")
    # Pickles of Python 2 that were loaded and written again may have keys of bytes.
    return {k.decode("latin-1") if isinstance(k, bytes) else str(k): v for k, v in batch.items()}


def _classes(content: bytes | None) -> Sequence[str]:
    if content is None:
        return ()
    return [_text(name) for name in _load(_META, content).get("label_names") or ()]


def _images(name: str, batch: Mapping[str, Any]) -> list[np.ndarray]:
    if "data" not in batch:
        raise DataError(f"batch {name!r} has no 'data', only {', '.join(map(repr, batch))}")
    try:
        return [_shaped(np.asarray(row)) for row in batch["data"]]
    except DataError as error:
        raise DataError(f"batch {name!r}: {error}") from None
    except (TypeError, ValueError):
        raise DataError(f"batch {name!r}: 'data' is no list of arrays") from None


def _shaped(row: np.ndarray) -> np.ndarray:
    """``(C, H, W)``."""
    check_numeric(row.dtype)
    if row.ndim == 1:
        for channels in (1, 3):
            side = math.isqrt(row.size // channels)
            if row.size and channels * side * side == row.size:
                row = row.reshape(channels, side, side)
                break
        else:
            raise DataError(f"{row.size} pixels a row are no square image, nor one of 3 colours")
    elif row.ndim == 2:
        row = row[None]
    elif row.ndim != 3:
        raise DataError(f"images of shape {row.shape}; expected at most 3 axes")
    check_size(*row.shape)
    return row


def _columns(
    name: str, batch: Mapping[str, Any], count: int, classes: Sequence[str]
) -> dict[str, list[Any]]:
    labels = batch.get("labels", batch.get("fine_labels"))
    files = batch.get("filenames")
    for what, values in (("labels", labels), ("filenames", files)):
        if values is not None and not isinstance(values, list | np.ndarray):
            raise DataError(f"batch {name!r}: its {what} are no list")
        if values is not None and len(values) != count:
            raise DataError(f"batch {name!r} has {len(values)} {what} for {count} images")
    try:
        numbers = [None] * count if labels is None else [int(np.int64(label)) for label in labels]
    except (TypeError, ValueError, OverflowError):
        raise DataError(f"batch {name!r}: its labels are not all whole numbers") from None
    return {
        "split": [{"data": "train"}.get(name.partition("_")[0], name.partition("_")[0])] * count,
        "batch": [name] * count,
        "label": numbers,
        "class": [
            classes[label] if label is not None and 0 <= label < len(classes) else None
            for label in numbers
        ],
        "filename": [None] * count
        if files is None
        else [PurePosixPath(_text(file)).name for file in files],
    }


def _ids(columns: Mapping[str, Sequence[Any]]) -> list[str]:
    """The files' stems where these are unique, else batch and row."""
    files = columns["filename"]
    if None not in files:
        stems = [file[: len(file) - len(image_suffix(file) or "")] for file in files]
        if len(set(stems)) == len(stems):
            return stems
    rows: dict[str, int] = {}
    ids = []
    for batch in columns["batch"]:
        rows[batch] = rows.get(batch, -1) + 1
        ids.append(f"{batch}/{rows[batch]}")
    return ids


def _text(value: object) -> str:
    text = value.decode("latin-1") if isinstance(value, bytes) else str(value)
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
