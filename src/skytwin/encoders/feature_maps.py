"""Where in an image a vector comes from, for encoders whose vector is a mean over places.

A network that ends in global average pooling (Lin, Chen & Yan 2014, "Network in network",
section 3.2) gives a vector that is the mean of its last feature map over the places of the map;
so whatever is linear in the vector splits exactly over them (Zhou et al. 2016, "Learning deep
features for discriminative localization", eq. 2). The mean over an orbit of views does too, once
each view's map is turned back. Principal components are linear in the pixels themselves. Of an
encoder that takes the root of its features every place has the share in the root that it has in
the feature. The maps of several crops are laid on one grid over the widest.

Shapes: ``m_NDhw`` maps, whose mean over the last two axes is the vector ``z_ND``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from skytwin.encoders.encoder import Encoder, Network, Orbit, check_orbit, orbit_views
from skytwin.encoders.load import load_saved
from skytwin.encoders.pca import PcaNetwork
from skytwin.errors import UsageError

__all__ = ["FeatureMaps", "open_maps", "spread", "turn_back"]

TOLERANCE = 1e-5  # of the largest number of a vector
_GRID = 32  # cells of a side over the widest of several crops
_POOLED = "efficientnet, mobilenetv2, resnet, densenet or regnet"


@runtime_checkable
class _HasFeatures(Protocol):
    def features(self, x: np.ndarray, /) -> np.ndarray:
        """What comes before the pooling."""


@dataclass(frozen=True, eq=False, kw_only=True)
class FeatureMaps:
    """An encoder whose vector is the mean of a map, which it gives instead.

    Made by `open_maps`, or around an encoder at hand.

    Attributes
    ----------
    encoder : Encoder
        Opened with torch, if it is a network.

    Raises
    ------
    UsageError
        The mean of the last map is not the encoder's vector: it has other pooling, or layers
        after it (found out on two images of noise). Or it was computed in less than float32.
    """

    encoder: Encoder

    def __post_init__(self) -> None:
        if self.encoder.precision != "f32":
            raise UsageError(
                f"this embedding was made in {self.encoder.precision}, whose maps do not "
                "add up to its vectors; embed with --precision f32, or ask for the features "
                "alone (--features-only)"
            )
        size, channels = self.encoder.prepare.size, self.encoder.prepare.channels
        x = np.random.default_rng(0).standard_normal((2, channels, size, size), dtype=np.float32)
        network = self.encoder.network
        vectors = network.forward(x)
        apart = np.abs(_maps(network, x).mean(axis=(2, 3)) - vectors).max()
        if apart > TOLERANCE * np.abs(vectors).max():
            raise _not_pooled(network)

    def of(self, flux: np.ndarray) -> np.ndarray:
        """Maps of images, in the orientation of the images.

        Parameters
        ----------
        flux : ndarray, shape (n, C, H, W)
            As `Encoder.encode` takes them.

        Returns
        -------
        ndarray, shape (n, dim, h, w), float64
            The mean over the last two axes is the vector that `Encoder.encode` gives. The map
            covers the central ``encoder.prepare.crop`` pixels of an image.
        """
        found = []
        for image in flux:  # one at a time: the views of principal components are large
            parts = []
            for prepare in self.encoder.crops:
                views = orbit_views(prepare(image[None]), self.encoder.orbit)[:, 0]
                maps = turn_back(_maps(self.encoder.network, views), self.encoder.orbit)
                parts.append(maps.mean(axis=0))
            if self.encoder.inner:
                widest = self.encoder.prepare.crop
                parts = [
                    _on_grid(part, prepare.crop / widest)
                    for part, prepare in zip(parts, self.encoder.crops, strict=True)
                ]
            found.append(np.concatenate(parts))
        maps = np.stack(found)
        return _rooted(maps) if self.encoder.root else maps


def open_maps(
    folder: str | Path, *, weights: str | Path | None = None, device: str = "auto"
) -> FeatureMaps:
    """The encoder that `Encoder.save` wrote, with its maps; parameters as in `load_saved`.

    Raises
    ------
    UsageError
        The encoder's vector is not the mean of a map; and as `load_saved`.
    """
    # OpenVINO is given the network as a whole; of one opened by torch it gets the part it needs.
    return FeatureMaps(encoder=load_saved(folder, weights=weights, device=device, runtime="torch"))


def turn_back(views: np.ndarray, orbit: Orbit) -> np.ndarray:
    """Undo what `orbit_views` did to each view.

    Parameters
    ----------
    views : ndarray, shape (V, ..., S, S)
        In the order of `orbit_views`.
    orbit : str
        ``"none"``, ``"flips"`` or ``"d4"``.
    """
    check_orbit(orbit)
    if orbit == "none":
        return views
    if orbit == "flips":
        flips: list[tuple[int, ...]] = [(), (-1,), (-2,), (-2, -1)]
        return np.stack([np.flip(v, f) for v, f in zip(views, flips, strict=True)])
    turned = [np.rot90(view, -(number % 4), axes=(-2, -1)) for number, view in enumerate(views)]
    return np.stack(turned[:4] + [np.flip(view, -1) for view in turned[4:]])


def _maps(network: Network, x: np.ndarray) -> np.ndarray:
    """Maps (n, dim, h, w) of prepared images."""
    if isinstance(network, PcaNetwork):
        return _pixel_maps(network, x)
    features = network.features(x) if isinstance(network, _HasFeatures) else np.empty(0)
    if features.ndim == 4 and features.shape[1] != network.dim:
        features = np.moveaxis(features, 3, 1)  # some networks keep the channels last
    if features.ndim != 4 or features.shape[1] != network.dim:
        raise _not_pooled(network)
    return features.astype(np.float64)


def _pixel_maps(network: PcaNetwork, x: np.ndarray) -> np.ndarray:
    """Every pixel's part in every component, times the number of pixels.

    Of ``pca:N:abs`` the parts bear the sign of the component: ``|c| = sign(c) c``.
    """
    n, channels, height, width = x.shape
    pixels = x.reshape(n, 1, -1).astype(np.float64) - network.mean
    parts = (pixels * network.components).reshape(n, network.dim, channels, height * width)
    maps = parts.sum(axis=2) * (height * width)
    if network.name.endswith(":abs"):
        maps *= np.sign(maps.sum(axis=2, keepdims=True))
    return np.asarray(maps.reshape(n, network.dim, height, width))


def spread(cells: np.ndarray, size: int) -> np.ndarray:
    """Maps (..., h, w) over ``size`` x ``size`` pixels, each sum kept.

    Bilinear between the centres of cells; by area where pixels are the larger.
    """
    down, across = (_spreading(n, size) for n in cells.shape[-2:])
    found: np.ndarray = down @ cells @ across.T
    return found


def _spreading(cells: int, size: int) -> np.ndarray:
    """What every pixel takes from every cell, (size, cells); each column adds up to 1."""
    if size == cells:
        return np.eye(size)
    if size > cells:
        centre = ((np.arange(size) + 0.5) * cells / size - 0.5).clip(0, cells - 1)
        taken = np.maximum(0.0, 1 - np.abs(centre[:, None] - np.arange(cells)))
    else:
        edge, cell = np.arange(size + 1) * (cells / size), np.arange(cells)
        taken = np.minimum(edge[1:, None], cell + 1) - np.maximum(edge[:-1, None], cell)
        taken = taken.clip(0)
    whole: np.ndarray = taken / taken.sum(axis=0)
    return whole


def _on_grid(maps: np.ndarray, share: float) -> np.ndarray:
    """Maps (D, h, w) of a central crop on a grid over the whole, their mean kept."""
    size = max(1, round(share * _GRID))
    start = (_GRID - size) // 2
    placed = np.zeros((len(maps), _GRID, _GRID))
    scale = _GRID**2 / (maps.shape[1] * maps.shape[2])
    placed[:, start : start + size, start : start + size] = spread(maps, size) * scale
    return placed


def _rooted(maps: np.ndarray) -> np.ndarray:
    """Maps (n, D, h, w) scaled so that their mean is the signed root of what it was."""
    mean = maps.mean(axis=(2, 3), keepdims=True)
    scale = np.zeros_like(mean)
    np.divide(1.0, np.sqrt(np.abs(mean)), out=scale, where=mean != 0)
    scaled: np.ndarray = maps * scale
    return scaled


def _not_pooled(network: Network) -> UsageError:
    return UsageError(
        f"{network.name} does not end in global average pooling, so a similarity does not split "
        f"over its pixels; networks that do are for instance {_POOLED}, and pca:N: choose one, or "
        "ask for the features alone (--features-only)"
    )
