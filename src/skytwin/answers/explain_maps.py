"""An image's score, place by place: maps that add up to it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from skytwin.answers.query import Reference
from skytwin.answers.search import Matches
from skytwin.embeddings.table import Embeddings
from skytwin.encoders.encoder import orbit_views
from skytwin.encoders.feature_maps import FeatureMaps, open_maps, spread
from skytwin.errors import Mismatch, SkytwinError, UsageError
from skytwin.images.cutouts import Cutouts
from skytwin.images.display import guess_origin
from skytwin.progress import Progress

__all__ = ["MappedImage", "Maps", "ScoreMap"]

# Vectors stored by OpenVINO and maps made by torch differ by rounding; other images by more.
_SAME = 1e-3


@dataclass(frozen=True, eq=False, kw_only=True)
class ScoreMap:
    """One image's score, place by place.

    Attributes
    ----------
    name : str
        The object.
    value : float
        What the places add up to.
    cells : ndarray, shape (h, w), float64
        In places of the feature map, in the orientation of the stored image; positive: it makes
        the score higher.
    size : int
        Pixels of a side of the network's input.
    crop : int
        Central pixels of the cutout that the map covers.
    image : ndarray, shape (C, H, W)
        The cutout, as stored.
    bottom_up : bool
        Its row 0 is the lowest, as in FITS.
    """

    name: str
    value: float
    cells: np.ndarray
    size: int
    crop: int
    image: np.ndarray
    bottom_up: bool

    @property
    def residual(self) -> float:
        """What is left of the value after the sum over places: rounding."""
        return self.value - float(self.cells.sum())

    @cached_property
    def pixels(self) -> np.ndarray:
        """In pixels of the network's input, shape (size, size); the same sum as ``cells``."""
        return spread(self.cells, self.size)

    @cached_property
    def on_cutout(self) -> np.ndarray:
        """In pixels of the cutout, shape (H, W), the same sum; NaN outside the crop."""
        height, width = self.image.shape[-2:]
        found = np.full((height, width), np.nan)
        top, left = height // 2 - self.crop // 2, width // 2 - self.crop // 2
        found[top : top + self.crop, left : left + self.crop] = spread(self.cells, self.crop)
        return found

    @property
    def central(self) -> float:
        """Part of the value that comes from the middle half of both axes, a quarter of the area."""
        n = 4 * self.size
        return float(spread(self.cells, n)[n // 4 : n - n // 4, n // 4 : n - n // 4].sum())


@dataclass(frozen=True, eq=False, kw_only=True)
class MappedImage:
    """A cutout and its feature map.

    Attributes
    ----------
    name : str
    image : ndarray, shape (C, H, W)
        As stored.
    bottom_up : bool
    places : ndarray, shape (D, h, w), float64
        The feature map less the average object's pattern: its mean is the vector.
    """

    name: str
    image: np.ndarray
    bottom_up: bool
    places: np.ndarray


@dataclass(frozen=True, eq=False, kw_only=True)
class Maps:
    """The encoder with its maps, the cutouts, and the average object's pattern.

    Attributes
    ----------
    network : FeatureMaps
    cutouts : Cutouts
    pattern : ndarray, shape (D, h, w) or ()
        Mean map of random objects less its own mean over places, so that its mean is 0: at the
        edge of a frame there is sky, whatever the object.
    average : int
        How many objects those were.
    """

    network: FeatureMaps
    cutouts: Cutouts
    pattern: np.ndarray
    average: int

    @classmethod
    def of(
        cls,
        matches: Matches,
        *,
        network: FeatureMaps | None = None,
        cutouts: Cutouts | None = None,
        weights: str | Path | None = None,
        average: int = 64,
        seed: int = 0,
        quiet: bool = False,
    ) -> Maps:
        """Open what is needed, and average the maps of ``average`` random objects.

        Raises
        ------
        UsageError, Mismatch
            See `skytwin.answers.explain.explain`.
        """
        embeddings = matches.embeddings
        if average < 0:
            raise UsageError(f"average of {average} objects; expected 0 or more")
        folder = embeddings.encoder_folder()
        source = cutouts if cutouts is not None else embeddings.cutouts()
        opened = network or open_maps(folder, weights=weights)
        if opened.encoder.fingerprint != embeddings.encoder_fingerprint:
            raise Mismatch("this encoder is not the one that made the embedding; open that one")
        rows = np.random.default_rng(seed).permutation(len(embeddings))[:average]
        total: np.ndarray = np.zeros(())
        with Progress("explain", len(rows), unit="average objects", quiet=quiet) as progress:
            for row in rows:
                name = str(embeddings.ids[row])
                flux = source.flux([source.index[name]])
                maps = opened.of(flux)[0]
                _require_same(maps, embeddings.vectors[row], name)
                total = total + maps
                progress.advance(1)
        if total.ndim:
            # The map of a turned image is the turned map: every object counts in all its views.
            total = orbit_views(total[None], opened.encoder.orbit).mean(axis=0)[0] / len(rows)
            total = total - total.mean(axis=(1, 2), keepdims=True)
        return cls(network=opened, cutouts=source, pattern=total, average=len(rows))

    def of_object(self, name: str, vector: np.ndarray) -> MappedImage:
        """An object of the survey."""
        image = self.cutouts.pixels([self.cutouts.index[name]])[0]
        return self._mapped(name, image, guess_origin(self.cutouts) == "lower", vector)

    def of_reference(self, reference: Reference) -> MappedImage | None:
        """A reference, where it has an image."""
        image, bottom_up = _reference_image(reference, self.cutouts)
        if image is None:
            return None
        return self._mapped(reference.name, image, bottom_up, reference.vector)

    def score_map(self, mapped: MappedImage, value: float, cells: np.ndarray) -> ScoreMap:
        """A score over an image."""
        prepare = self.network.encoder.prepare
        return ScoreMap(
            name=mapped.name,
            value=value,
            cells=cells,
            size=prepare.size,
            crop=prepare.crop,
            image=mapped.image,
            bottom_up=mapped.bottom_up,
        )

    def _mapped(
        self, name: str, image: np.ndarray, bottom_up: bool, vector: np.ndarray
    ) -> MappedImage:
        maps = self.network.of(image[None].astype(np.float32))[0]
        _require_same(maps, vector, name)
        return MappedImage(name=name, image=image, bottom_up=bottom_up, places=maps - self.pattern)


def _reference_image(reference: Reference, own: Cutouts) -> tuple[np.ndarray | None, bool]:
    """The reference's cutout, where there is one, and whether its row 0 is the lowest."""
    if reference.image is not None:
        return reference.image, reference.bottom_up
    source, name = own, reference.id
    if reference.kind == "other embedding":
        folder, _, name = reference.name.partition(":")
        try:
            source = Embeddings.open(folder).cutouts()
        except SkytwinError:  # moved since the search: it has no map
            return None, False
    if name is None or name not in source.index:
        return None, False
    return source.pixels([source.index[name]])[0], guess_origin(source) == "lower"


def _require_same(maps: np.ndarray, vector: np.ndarray, name: str) -> None:
    apart = np.abs(maps.mean(axis=(1, 2)) - vector).max()
    if apart > _SAME * max(np.abs(vector).max(), np.finfo(np.float32).tiny):
        raise Mismatch(
            f"the image of {name} does not give the vector that is stored for it (they differ by "
            f"{apart:.2g}); give the cutouts that were embedded with --cutouts FOLDER"
        )
