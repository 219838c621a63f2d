"""References that are image files: framed and encoded as a set's own images were."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from skytwin.embeddings.table import Embeddings
from skytwin.encoders.load import load_saved
from skytwin.errors import BadImage, DataError, Mismatch, UsageError
from skytwin.images.compare import require_same_flux, require_same_scale
from skytwin.images.framing import Framing
from skytwin.images.ingest import check_content
from skytwin.images.readers import is_fits, read_image
from skytwin.images.source import RawImage

__all__ = ["EncodedFile", "encode_file", "fit_image"]


@dataclass(frozen=True, eq=False, kw_only=True)
class EncodedFile:
    """An image file as a reference needs it.

    Attributes
    ----------
    vector : ndarray, shape (D,), float32
    flux : ndarray, shape (C, H, W), float32
        Framed as the embedding's images are.
    ra, dec : float or None
        Sky position in degrees, where the file tells it.
    bottom_up : bool
        Row 0 is its lowest, as in FITS.
    """

    vector: np.ndarray
    flux: np.ndarray
    ra: float | None
    dec: float | None
    bottom_up: bool


def encode_file(
    embeddings: Embeddings, path: Path, weights: str | Path | None = None
) -> EncodedFile:
    """Read an image file and encode it as the embedding's images were.

    Raises
    ------
    BadImage
        It cannot be read, or holds nothing.
    Mismatch
        Other bands, scale, unit or frame; the weights are of another encoder.
    DataError
        The network gave NaN or infinity.
    """
    folder = embeddings.encoder_folder()
    try:
        image = read_image(path)
        check_content(image.pixels)
    except BadImage as reason:
        raise BadImage(f"{path.name}: {reason}; choose another image") from reason
    flux = fit_image(embeddings, image, path.name)
    encoder = load_saved(
        # For one image, OpenVINO takes longer to prepare than torch to run.
        folder,
        weights=weights,
        runtime="torch",
    )
    if embeddings.encoder_fingerprint != encoder.fingerprint:
        raise Mismatch("the saved encoder is not the one that made this embedding")
    vector = encoder.encode(flux[None])[0]
    if not np.isfinite(vector).all():
        raise DataError(f"{path.name}: the network gave NaN or infinity; choose another image")
    return EncodedFile(
        vector=vector, flux=flux, ra=image.ra, dec=image.dec, bottom_up=is_fits(path.name)
    )


def fit_image(embeddings: Embeddings, image: RawImage, name: str) -> np.ndarray:
    """A query image's flux, (C, H, W) float32, framed as the embedding's own images were.

    Raises
    ------
    Mismatch
        Bands, pixel scale, unit or frame cannot be those of the embedding.
    """
    manifest = embeddings.manifest
    if manifest is None:
        raise UsageError("vectors from arrays have no image frame")
    summary = manifest.summary
    channels, height, width = summary["image_shape"]
    got = len(image.pixels)
    if got != channels or (image.bands and not _same_bands(image.bands, embeddings.bands)):
        named = ", ".join(image.bands) if image.bands else f"{got} unnamed"
        raise Mismatch(f"{name} has bands {named}; expected {', '.join(embeddings.bands)}")
    if summary["absolute_stretch"]:
        want = (np.dtype(str(summary["image_dtype"])), summary["image_unit"])
        require_same_flux((image.pixels.dtype, image.unit), want, name)
    framing = Framing(**summary["framing"])
    image = framing.apply(image)
    require_same_scale(image.pixel_scale, embeddings.pixel_scale, name)
    if image.pixels.shape[1:] != (height, width):
        image = _cut_to(image, embeddings, (height, width), name)
    return np.asarray(image.pixels, dtype=np.float32)


def _same_bands(given: tuple[str, ...], want: tuple[str, ...]) -> bool:
    # A lone channel's name differs from file to file ("gray", "1.4GHz"): there is nothing to mix.
    return len(want) == 1 or given == want


def _cut_to(image: RawImage, embeddings: Embeddings, frame: tuple[int, int], name: str) -> RawImage:
    got = image.pixels.shape[1:]
    if image.pixel_scale is None or embeddings.pixel_scale is None:
        raise Mismatch(
            f"{name} is {got[0]} x {got[1]} pixels and the embedding's images {frame[0]} x "
            f"{frame[1]}; without both pixel scales they cannot be compared: cut the image to "
            "the same frame"
        )
    if got[0] < frame[0] or got[1] < frame[1] or frame[0] != frame[1]:
        raise Mismatch(
            f"{name} is {got[0]} x {got[1]} pixels, smaller than the {frame[0]} x {frame[1]} "
            "of the embedding's images; cut it wider"
        )
    return Framing(crop=frame[0]).apply(image)
