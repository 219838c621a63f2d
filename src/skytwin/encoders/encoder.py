"""From cutouts to vectors: a network, what prepares its input, and the views averaged over."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from skytwin.errors import unknown
from skytwin.files import write_atomically
from skytwin.images.prepare import Prepare
from skytwin.threads import thread_count

__all__ = [
    "ENCODER_FILE",
    "ORBITS",
    "Encoder",
    "Network",
    "Orbit",
    "check_orbit",
    "fingerprint",
    "orbit_views",
    "signed_root",
]

Orbit = Literal["none", "flips", "d4"]
ORBITS: tuple[Orbit, ...] = ("none", "flips", "d4")
ENCODER_FILE = "encoder.json"


class Network(Protocol):
    """Prepared pixels to vectors."""

    @property
    def name(self) -> str:
        """The specification that opens it: ``"timm:efficientnet_b0"``, ``"pca:64"``."""

    @property
    def dim(self) -> int:
        """Length of a vector."""

    @property
    def fingerprint(self) -> str:
        """Hash of architecture and weights."""

    def forward(self, x: np.ndarray, /) -> np.ndarray:
        """Vectors ``(n, dim)`` of prepared images ``(n, K, S, S)``, both float32.

        Several threads may call it at once.
        """

    def describe(self) -> dict[str, Any]:
        """How the network came about, JSON-able, without where its files lie."""

    def save(self, folder: Path, /) -> dict[str, Any]:
        """Write into the folder what cannot be had elsewhere; say, JSON-able, what lies where."""


class OnDevice(Protocol):
    """A network on a GPU: see `skytwin.encoders.on_device.DeviceRun`."""

    def vectors(self, p_NPHW: np.ndarray, prepare: Prepare, orbit: Orbit, batch: int) -> np.ndarray:
        """The mean over an orbit's views of what `Prepare.planes` gave, shape (n, dim)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Encoder:
    """What turns cutouts into vectors; all that shapes a vector is in its fingerprint.

    Attributes
    ----------
    network : Network
    prepare : Prepare
        From flux to the network's input.
    inner : tuple of Prepare
        The same for smaller crops, of which the vector holds the features too: those of
        ``prepare`` come first. The source and its surroundings, each at its own resolution.
    orbit : str
        The vector is the mean over the views of the prepared image: ``"none"``, the image as it
        is; ``"flips"``, mirrored along x, along y, and both; ``"d4"``, the four quarter turns
        of the image and of its mirror image. Being square, the prepared image may be turned in
        place of the flux.
    root : bool
        The square root of every number of the vector, its sign kept, is taken last. Pooled
        features count how often something was seen, and their spread grows with their mean; the
        root evens that out (RootSIFT: Arandjelovic & Zisserman 2012, CVPR, section 3).
    precision : str
        What the network computes in: ``"f32"`` or ``"bf16"``.
    pixel_scale : float or None
        Arcsec per pixel of the cutouts the encoder was made for; not part of the fingerprint.
    """

    network: Network
    prepare: Prepare
    inner: tuple[Prepare, ...] = ()
    orbit: Orbit = "none"
    root: bool = False
    precision: str = "f32"
    pixel_scale: float | None = None

    def __post_init__(self) -> None:
        check_orbit(self.orbit)

    @property
    def crops(self) -> tuple[Prepare, ...]:
        """What prepares each part of the vector, the widest crop first."""
        return (self.prepare, *self.inner)

    @property
    def name(self) -> str:
        """The specification of its network, e.g. ``"timm:efficientnet_b0"``."""
        return self.network.name

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return self.network.dim * len(self.crops)

    @property
    def bands(self) -> tuple[str, ...]:
        """Names, in order, of the bands of the flux it takes."""
        return self.prepare.bands

    @cached_property
    def fingerprint(self) -> str:
        """Hash over the network's fingerprint, and all that is done before and after it."""
        content: dict[str, Any] = {
            "network": self.network.fingerprint,
            "prepare": self.prepare.to_dict(),
            "orbit": self.orbit,
        }
        if self.inner:
            content["inner"] = [one.to_dict() for one in self.inner]
        if self.root:
            content["root"] = True
        if self.precision != "f32":
            content["precision"] = self.precision
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    @property
    def on_device(self) -> OnDevice | None:
        """Where its network runs, if that is a GPU; it does the rest of the preparation there."""
        return getattr(self.network, "on_device", None)

    def encode(self, flux: np.ndarray, batch: int = 32) -> np.ndarray:
        """Vectors of images.

        Parameters
        ----------
        flux : ndarray, shape (n, C, H, W)
            Of the encoder's bands; NaN is no data.
        batch : int
            At most so many views go through the network at a time.

        Returns
        -------
        ndarray, shape (n, dim), float32

        Raises
        ------
        Mismatch
            Other bands, or images smaller than the encoder's crop.
        """
        vectors = np.empty((len(flux), self.dim), dtype=np.float32)
        views = len(orbit_views(np.empty((0, 1, 1, 1), dtype=np.float32), self.orbit))
        step = max(1, batch // views)

        def fill(start: int) -> None:
            rows = slice(start, start + step)
            vectors[rows] = self._vectors(flux[rows], batch)

        # Images are prepared by one thread while the network runs in another.
        with ThreadPoolExecutor(thread_count(), thread_name_prefix="encode") as pool:
            list(pool.map(fill, range(0, len(flux), step)))
        return signed_root(vectors) if self.root else vectors

    def _vectors(self, flux: np.ndarray, batch: int) -> np.ndarray:
        """Of a few images, before the root is taken."""
        return np.concatenate([self._of_crop(one, flux, batch) for one in self.crops], axis=1)

    def _of_crop(self, prepare: Prepare, flux: np.ndarray, batch: int) -> np.ndarray:
        device = self.on_device
        if device is not None:
            return device.vectors(prepare.planes(flux), prepare, self.orbit, batch)
        x = prepare(flux)
        stack = orbit_views(x, self.orbit)
        views = stack.reshape(-1, *x.shape[1:])
        passes = [self.network.forward(views[i : i + batch]) for i in range(0, len(views), batch)]
        of_views = np.concatenate(passes).reshape(len(stack), len(x), self.network.dim)
        return np.asarray(of_views.mean(axis=0, dtype=np.float32))

    def describe(self) -> dict[str, Any]:
        """All that shapes a vector, JSON-able; what lies where is only in `save`'s file."""
        return {
            "network": self.name,
            "dim": self.dim,
            "network_fingerprint": self.network.fingerprint,
            "made_by": self.network.describe(),
            "prepare": self.prepare.to_dict(),
            "inner": [one.to_dict() for one in self.inner],
            "orbit": self.orbit,
            "root": self.root,
            "precision": self.precision,
            "pixel_scale": self.pixel_scale,
            "fingerprint": self.fingerprint,
        }

    def save(self, folder: Path) -> None:
        """Write ``encoder.json``, and the network's own files, into an existing folder;
        `skytwin.encoders.load.load_saved` reads them back.
        """
        content = {**self.describe(), "files": self.network.save(folder)}
        write_atomically(folder / ENCODER_FILE, (json.dumps(content, indent=1) + "\n").encode())


def orbit_views(x: np.ndarray, orbit: Orbit) -> np.ndarray:
    """The views of square images that an orbit averages over.

    Parameters
    ----------
    x : ndarray, shape (n, K, S, S)
    orbit : str
        ``"none"``, ``"flips"`` or ``"d4"``.

    Returns
    -------
    ndarray, shape (views, n, K, S, S)
        1, 4 or 8 views, the image as it is first; C-contiguous.
    """
    check_orbit(orbit)
    mirrored = x[..., ::-1]
    if orbit == "none":
        views = [x]
    elif orbit == "flips":
        views = [x, mirrored, x[..., ::-1, :], mirrored[..., ::-1, :]]
    else:
        views = [np.rot90(v, turns, axes=(-2, -1)) for v in (x, mirrored) for turns in range(4)]
    return np.stack(views)


def signed_root(x: np.ndarray) -> np.ndarray:
    """``sign(x) sqrt(|x|)``, in the type of ``x``."""
    return np.asarray(np.copysign(np.sqrt(np.abs(x)), x))


def check_orbit(orbit: str) -> None:
    """Raise `UnknownName` unless ``orbit`` is one."""
    if orbit not in ORBITS:
        raise unknown("orbit", orbit, ORBITS)


def fingerprint(name: str, arrays: Mapping[str, np.ndarray]) -> str:
    """Hash of a network: its name, and the names, shapes, types and bytes of its arrays."""
    digest = hashlib.sha256(name.encode())
    for key in sorted(arrays):
        array = np.ascontiguousarray(arrays[key])
        digest.update(f"\n{key} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.data if array.size else b"")
    return digest.hexdigest()
