"""Images that were dropped on the page: decoded apart, encoded as the survey was."""

from __future__ import annotations

import hashlib
import io
import json
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from skytwin.answers.query_image import fit_image
from skytwin.embeddings.table import Embeddings
from skytwin.encoders.encoder import Encoder
from skytwin.encoders.load import load_saved
from skytwin.errors import BadImage, DataError, Mismatch, UsageError, unknown
from skytwin.images.apart import REFUSED, run_apart
from skytwin.images.ingest import check_content
from skytwin.images.readers import IMAGE_SUFFIXES, image_suffix, is_fits
from skytwin.images.source import RawImage
from skytwin.web.settings import Limits

__all__ = ["PREFIX", "Dropped", "Uploads", "decode"]

#: How a dropped image is named in an address; an object's own id comes first.
PREFIX = "image:"


@dataclass(frozen=True, eq=False, kw_only=True)
class Dropped:
    """An image file as a reference.

    Attributes
    ----------
    key : str
        `PREFIX` and the first digits of the SHA-256 of its content.
    name : str
        The file's name.
    flux : ndarray, shape (C, H, W), float32
        Framed as the survey's images are.
    vector : ndarray, shape (D,), float32
    bottom_up : bool
        Row 0 is the lowest.
    """

    key: str
    name: str
    flux: np.ndarray
    vector: np.ndarray
    bottom_up: bool


class Uploads:
    """The images dropped so far, the latest `Limits.images` of them.

    Parameters
    ----------
    embeddings : Embeddings
    weights : Path or None
    limits : Limits
    """

    def __init__(self, embeddings: Embeddings, weights: Path | None, limits: Limits) -> None:
        self._embeddings, self._weights, self._limits = embeddings, weights, limits
        self._kept: OrderedDict[str, Dropped] = OrderedDict()
        self._encoder: Encoder | None = None

    @property
    def possible(self) -> bool:
        """Whether the embedding has an encoder: vectors that were made elsewhere have none."""
        try:
            self._embeddings.encoder_folder()
        except UsageError:
            return False
        return True

    def __getitem__(self, key: str) -> Dropped:
        if key not in self._kept:
            raise unknown("image", key, (), "it is kept while the server runs: drop it again")
        self._kept.move_to_end(key)
        return self._kept[key]

    def made(self, name: str, content: bytes) -> Dropped:
        """Decode, frame and encode an image file; `keep` holds it.

        Raises
        ------
        UsageError
            The embedding cannot encode images.
        BadImage
            The file is damaged, too large, or no image.
        Mismatch
            Its bands, scale or frame are not those of the survey.
        """
        embeddings = self._embeddings
        self._embeddings.encoder_folder()
        if image_suffix(name) is None:
            raise unknown("image format", Path(name).suffix, IMAGE_SUFFIXES)
        key = PREFIX + hashlib.sha256(content).hexdigest()[:16]
        image = decode(name, content, self._limits)
        try:
            check_content(image.pixels)
        except BadImage as reason:
            raise BadImage(f"{name}: {reason}; choose another image") from None
        flux = fit_image(embeddings, image, name)
        vector = np.asarray(self._load().encode(flux[None])[0], dtype=np.float32)
        if not np.isfinite(vector).all():
            raise DataError(f"{name}: the network gave NaN or infinity; choose another image")
        return Dropped(key=key, name=name, flux=flux, vector=vector, bottom_up=is_fits(name))

    def keep(self, dropped: Dropped) -> Dropped:
        """Hold an image; the one used longest ago goes where there are too many."""
        self._kept[dropped.key] = dropped
        self._kept.move_to_end(dropped.key)
        while len(self._kept) > self._limits.images:
            self._kept.popitem(last=False)
        return dropped

    def _load(self) -> Encoder:
        if self._encoder is None:
            folder = self._embeddings.encoder_folder()
            encoder = load_saved(folder, weights=self._weights, runtime="torch")
            if self._embeddings.encoder_fingerprint != encoder.fingerprint:
                raise Mismatch("the saved encoder is not the one that made this embedding")
            self._encoder = encoder
        return self._encoder


def decode(name: str, content: bytes, limits: Limits) -> RawImage:
    """An image file of unknown origin, decoded by a process of its own.

    Raises
    ------
    BadImage
        It is damaged, or decoding takes more time or memory than `Limits` allow.
    """
    bounds = (limits.upload_pixels, limits.decode_bytes, limits.decode_seconds)
    done = run_apart(
        "skytwin.web.decode", [name, *map(str, bounds)], content, seconds=limits.decode_seconds
    )
    if done is None:
        raise BadImage(f"{name}: not decoded within {limits.decode_seconds:g} s")
    if done.returncode == REFUSED:
        raise BadImage(f"{name}: {done.stderr.decode(errors='replace')}")
    if done.returncode != 0:
        raise BadImage(f"{name}: cannot be decoded within the bounds of time and memory")
    with np.load(io.BytesIO(done.stdout), allow_pickle=False) as parts:
        about = json.loads(str(parts["about"]))
        pixels = parts["pixels"]
    bands = tuple(about.pop("bands") or ()) or None
    return RawImage(pixels=pixels, bands=bands, **about)
