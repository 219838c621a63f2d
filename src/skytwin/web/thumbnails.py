"""Pictures of objects as PNG."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from skytwin.answers.figures_mosaic import Look, encoded
from skytwin.embeddings.table import Embeddings
from skytwin.errors import unknown
from skytwin.images.brightness import Display, parse_display
from skytwin.images.cutouts import Cutouts
from skytwin.images.display import balance_of, guess_origin, png_bytes
from skytwin.web.uploads import Dropped

__all__ = ["Picture", "Pictures"]

# Bands are brought into balance over the images drawn together: beside so many others, always the
# same ones, an object has the same colours in every picture.
_BESIDE, _MOST_BALANCES = 7, 64


@dataclass(frozen=True, kw_only=True)
class Picture:
    """How an object is to be drawn.

    Attributes
    ----------
    stretch : str
        See `parse_display`; empty: as it comes.
    bands : tuple of str
        Empty: chosen by the bands' names.
    size : int
        Longest side in pixels; a smaller image stays as it is.
    whole : bool
        The whole frame, not the part that the encoder was given.
    """

    stretch: str = ""
    bands: tuple[str, ...] = ()
    size: int = 256
    whole: bool = False

    @property
    def display(self) -> Display | None:
        """As `to_rgb` takes it."""
        if not self.stretch and not self.bands:
            return None
        display = parse_display(self.stretch) if self.stretch else Display()
        return replace(display, bands=self.bands or None)


class Pictures:
    """Draws the objects of a set of cutouts.

    Parameters
    ----------
    embeddings : Embeddings
    cutouts : Cutouts
    """

    def __init__(self, embeddings: Embeddings, cutouts: Cutouts) -> None:
        self.cutouts = cutouts
        self.crop = encoded(embeddings)
        count = min(_BESIDE if len(cutouts.bands) > 1 else 0, len(cutouts))
        chosen = np.random.default_rng(0).choice(len(cutouts), count, replace=False)
        self._bottom_up = guess_origin(cutouts) == "lower"
        self._beside = cutouts.pixels(np.sort(chosen)) if count else None
        # Whether such bands are a picture, and how bright it is, is told from all images together.
        self._as_one = {band.lower() for band in cutouts.bands} == {"red", "green", "blue"}
        self._balances: dict[Display | None, np.ndarray] = {}

    def check(self, picture: Picture) -> None:
        """Refuse a picture that names what is not there.

        Raises
        ------
        UnknownName, UsageError
        """
        for band in picture.bands:
            if band not in self.cutouts.bands:
                raise unknown("band", band, self.cutouts.bands)
        _ = picture.display

    def of(self, name: str, picture: Picture) -> bytes:
        """One object, as a PNG file."""
        pixels = self.cutouts.pixels([self.cutouts.index[name]])
        return self._draw(pixels, picture, self._bottom_up)

    def of_dropped(self, dropped: Dropped, picture: Picture) -> bytes:
        """A dropped image, as a PNG file."""
        dtype = self.cutouts.dtype
        return self._draw(dropped.flux[None].astype(dtype), picture, dropped.bottom_up)

    def _balance(self, beside: np.ndarray, display: Display | None) -> np.ndarray:
        """Of the images that are always beside, for one way to draw: it is the costly part."""
        if display not in self._balances:
            if len(self._balances) >= _MOST_BALANCES:
                self._balances.clear()
            made = balance_of(beside, self.cutouts.bands, display)
            self._balances[display] = made
            return made
        return self._balances[display]

    def _draw(self, pixels: np.ndarray, picture: Picture, bottom_up: bool) -> bytes:
        look = Look(display=picture.display, crop=None if picture.whole else self.crop)
        together, balance = pixels, None
        as_it_is = look.display is None and pixels.dtype == np.uint8
        if self._beside is not None and not as_it_is:
            if self._as_one:
                together = np.concatenate([pixels, self._beside])
            else:
                balance = self._balance(self._beside, look.display)
        image = look.of_flux(together, self.cutouts.bands, bottom_up, balance)[0]
        height, width = image.shape[:2]
        scale = picture.size / max(height, width)
        if scale < 1:
            small = (max(1, round(width * scale)), max(1, round(height * scale)))
            image = cv2.resize(np.ascontiguousarray(image), small, interpolation=cv2.INTER_AREA)
        return png_bytes(image)
