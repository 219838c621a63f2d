"""One image file, or one member of an archive, to pixels: FITS, JPEG, PNG, TIFF, NPY."""

from __future__ import annotations

import bz2
import gzip
import zlib
from collections.abc import Callable, Sequence
from io import SEEK_CUR, SEEK_END, BytesIO
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

import cv2
import numpy as np
from PIL.Image import Image
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from skytwin.errors import BadImage, SkytwinError, UsageError, in_words, unknown
from skytwin.images.fitsfile import read_fits
from skytwin.images.npy import read_npy
from skytwin.images.packed import require_likely
from skytwin.images.pixels import MAX_PIXELS, check_size, native
from skytwin.images.quiet import quiet
from skytwin.images.source import RawImage
from skytwin.images.tiff import read_tiff

__all__ = ["IMAGE_SUFFIXES", "MAX_PIXELS", "image_suffix", "is_fits", "read_image"]

_FITS = tuple(
    plain + packed for plain in (".fits", ".fit", ".fts") for packed in ("", ".gz", ".bz2", ".fz")
)
_MOST_CHUNKS = 200_000
_GRAY, _RGB = ("gray",), ("red", "green", "blue")


def read_image(
    where: Path | tuple[str, bytes], *, hdu: Sequence[str | int] | None = None
) -> RawImage:
    """Read one image.

    The format goes by the name's suffix, one of `IMAGE_SUFFIXES`; it is never guessed.

    - **FITS**: BSCALE, BZERO and BLANK applied; the position, the pixel scale and the unit from
      the header. The primary image if there is one; else the only image; else all images, as
      bands named by EXTNAME (or FILTER), if they are two-dimensional and of one shape. A cube is
      ``(C, H, W)``; axes of length 1 are dropped.
    - **JPEG, PNG**: RGB or gray, a palette resolved, alpha dropped; 16-bit PNG keeps uint16.
      EXIF orientation is ignored: pixels stay in the file's order, the one a catalogue of pixel
      positions was made in, and the tag belongs to hand-held cameras.
    - **TIFF**: any numeric type; pages are bands, an alpha channel is dropped.
    - **NPY**: ``(H, W)``, ``(C, H, W)``, or ``(H, W, C)`` if the last axis has at most 5
      elements and the first has more.

    Parameters
    ----------
    where : Path or (str, bytes)
        A file, or a name and the content of that file.
    hdu : sequence of str or int, optional
        For FITS: the HDUs that are the bands, by EXTNAME or by number counted from 0.

    Returns
    -------
    RawImage
        Pixels ``(C, H, W)``, of the file's type, in native byte order.

    Raises
    ------
    UnknownName
        No reader goes with the suffix.
    UsageError
        ``hdu`` is given for a file that is no FITS.
    BadImage
        The file is missing, damaged, too large (`MAX_PIXELS`) or holds no image.
    """
    name = where.name if isinstance(where, Path) else where[0]
    suffix = image_suffix(name)
    if suffix is None:
        raise unknown(
            "image format", PurePosixPath(name).suffix, IMAGE_SUFFIXES, f"got the file {name!r}"
        )
    if hdu is not None and suffix not in _FITS:
        raise UsageError(f"hdu picks parts of a FITS file; {name!r} is none; leave it out")
    try:
        if isinstance(where, Path) and not (where.is_file() or where.is_dir()) and where.exists():
            # A pipe would be waited for, and a device has no end.
            raise BadImage("cannot be opened: a pipe or a device, no file")
        with where.open("rb") if isinstance(where, Path) else BytesIO(where[1]) as stream:
            if not stream.read(1):
                raise BadImage("the file is empty")
            stream.seek(0)
            if suffix in _FITS:
                return _fits(where, stream, suffix, hdu)
            return _READERS[suffix](stream)
    except SkytwinError:
        raise
    except FileNotFoundError:
        raise BadImage("no such file") from None
    except (IsADirectoryError, PermissionError) as error:
        raise BadImage(f"cannot be opened: {error.strerror}") from None
    except Exception as error:  # decoders meet damage with errors of every kind
        raise BadImage(f"damaged {suffix} file: {in_words(error)}") from None


def image_suffix(name: str) -> str | None:
    """The suffix, of `IMAGE_SUFFIXES`, that a file name ends with in any case; None without."""
    lower = name.lower()
    if not lower.endswith(IMAGE_SUFFIXES):
        return None
    found = [suffix for suffix in IMAGE_SUFFIXES if lower.endswith(suffix)]
    # A name that is nothing but a suffix is a hidden file.
    return found[0] if found and lower.rpartition("/")[2] != found[0] else None


def is_fits(name: str) -> bool:
    """Whether a file name has a suffix of FITS."""
    return image_suffix(name) in _FITS


def _fits(
    where: Path | tuple[str, bytes], stream: BinaryIO, suffix: str, hdu: Sequence[str | int] | None
) -> RawImage:
    if suffix.endswith(".gz"):
        packed = stream.seek(0, SEEK_END)
        stream.seek(0)
        with gzip.open(stream) as content:
            image = read_fits(where, cast("BinaryIO", content), hdu, packed=packed)
            # The checksum is only looked at on reaching the end.
            for _ in range(256):
                if not content.read(2**20):
                    break
            return image
    if suffix.endswith(".bz2"):
        packed = stream.seek(0, SEEK_END)
        stream.seek(0)
        with bz2.open(stream) as content:
            return read_fits(where, cast("BinaryIO", content), hdu, packed=packed)
    return read_fits(where, stream, hdu)


def _jpeg(stream: BinaryIO) -> RawImage:
    with quiet():
        image = JpegImageFile(stream)
    return _picture(image, stream)


def _png(stream: BinaryIO) -> RawImage:
    # pillow reduces 16-bit colour to 8 bits; the header says whether that would happen.
    head = stream.read(26)
    plain = _critical_chunks(stream)
    stream.seek(0)
    with quiet():
        image = PngImageFile(stream)
    picture = _picture(image, stream)
    if len(head) < 26 or head[24] != 16:
        return picture
    pixels = cv2.imdecode(np.frombuffer(plain, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.dtype != np.uint16 or pixels.shape[:2] != picture.pixels.shape[1:]:
        raise BadImage("damaged .png file: its 16-bit pixels cannot be decoded")
    if head[25] in {0, 4}:  # gray, without and with alpha
        plane = pixels if pixels.ndim == 2 else pixels[..., 0]
        return RawImage(pixels=np.ascontiguousarray(plane[None]), bands=_GRAY)
    return RawImage(pixels=np.ascontiguousarray(pixels[..., 2::-1].transpose(2, 0, 1)), bands=_RGB)


def _critical_chunks(stream: BinaryIO) -> bytes:
    """A PNG without what is not needed for its pixels, each part held against its check sum.

    pillow passes over the sums of the pixels; libpng prints what it makes of the other parts.
    """
    size = stream.seek(0, SEEK_END)
    stream.seek(0)
    parts = [stream.read(8)]
    for _ in range(_MOST_CHUNKS):
        start = stream.read(8)
        length = int.from_bytes(start[:4], "big")
        if not start[4:5].isupper():
            if len(start) < 8:
                return b"".join(parts)
            stream.seek(length + 4, SEEK_CUR)
            continue
        # No more at a time than there is: a length is not to be believed.
        content, check = stream.read(min(length, size)), stream.read(4)
        if len(check) == 4 and zlib.crc32(start[4:] + content) != int.from_bytes(check, "big"):
            name = start[4:].decode("ascii", "replace")
            raise BadImage(f"damaged .png file: the check sum of its part {name} is wrong")
        parts += [start, content, check]
        if start[4:] == b"IEND":
            return b"".join(parts)
    raise BadImage(f"damaged .png file: more than {_MOST_CHUNKS} parts")


def _picture(image: JpegImageFile | PngImageFile, stream: BinaryIO) -> RawImage:
    """Decode a picture whose header is read; pillow refuses one that ends early."""
    check_size(image.size[1], image.size[0])
    place = stream.tell()
    require_likely(stream.seek(0, SEEK_END), image.size[0] * image.size[1] * len(image.getbands()))
    stream.seek(place)
    image.load()
    plain: Image = image
    if image.mode in {"1", "LA"}:
        plain = image.convert("L")
    elif image.mode == "P":  # by way of RGBA, as pillow warns of a transparent palette
        plain = image.convert("RGBA")
    elif image.mode not in {"L", "RGB", "RGBA", "I;16"}:
        plain = image.convert("RGB")
    pixels = np.array(plain)
    if pixels.ndim == 2:
        return RawImage(pixels=native(pixels)[None], bands=_GRAY)
    return RawImage(pixels=np.ascontiguousarray(pixels[..., :3].transpose(2, 0, 1)), bands=_RGB)


_READERS: dict[str, Callable[[BinaryIO], RawImage]] = {
    ".jpg": _jpeg,
    ".jpeg": _jpeg,
    ".png": _png,
    ".tif": read_tiff,
    ".tiff": read_tiff,
    ".npy": read_npy,
}

IMAGE_SUFFIXES = (*_FITS, *_READERS)
