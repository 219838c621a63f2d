"""Images that show the same: exactly, or but for a turn, a shift, noise or compression.

Two steps. A *signature* of every image, the logarithm of its power spectrum at low spatial
frequencies averaged over the 8 turns and mirror images, does not change with a turn or a shift
of what is shown (a shift moves only the phases of a Fourier transform). The nearest signatures
are the pairs worth comparing. These are compared pixel by pixel: Pearson's correlation of the
*textures* over the overlap, at the best of the 8 turns and of all shifts of up to three eighths
of the frame (phases and shifts: Kuglin & Hines 1975; normalising over the overlap: Padfield
2012).

The texture is what is left when a Gaussian of 2 pixels width is taken away, cut at 3 times its
scatter. Two galaxies alike have like brightness profiles, but only two pictures of one place
have the same noise and the same faint neighbours, and after the cut these weigh as much as the
galaxy. In images whose noise was cut away beforehand (half of the pixels have one value) there
is nothing but the source, and the texture is not cut.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from scipy import fft

from skytwin.answers.leaks_vectors import row_digests
from skytwin.images.cutouts import Cutouts
from skytwin.progress import Progress

__all__ = [
    "TURNS",
    "Alike",
    "Peaks",
    "Scan",
    "Scene",
    "align",
    "coarse",
    "greys",
    "scan",
    "turned",
]

#: How the second image of a pair is turned to lie as the first: mirrored left to right first,
#: then turned by quarters, counter-clockwise where row 0 is drawn on top.
TURNS = (
    "none",
    "turn 90",
    "turn 180",
    "turn 270",
    "mirror",
    "mirror, turn 90",
    "mirror, turn 180",
    "mirror, turn 270",
)

_SMALL = 32  # pixels a side: what signatures and first comparisons are made from
_MIDDLE = 64  # what the final comparison is made at
_SOFT = 0.8  # of those pixels: without this blur, half a pixel of shift changes a signature
_FREQUENCIES = 10
_BLUR = 2.0  # pixels of the small and the middle images
_CUT = 3.0
_REACH = 0.375  # of the frame
_BATCH = 512
_BYTES_AT_ONCE = 128 << 20
_CLEANED = 0.5
_FINE_TURNS = 2


@dataclass(frozen=True, eq=False, kw_only=True)
class Scan:
    """What was seen of every image in one pass.

    Attributes
    ----------
    digest : ndarray, shape (N,), 16 bytes
        Equal for equal pixels.
    blank : ndarray, shape (N,), bool
        Images with the same value in every pixel, or none: they are no copies of each other.
    signature : ndarray, shape (N, d), float32
    small : ndarray, shape (N, s, s), float16
        Textures, reduced.
    cleaned : bool
        The noise was cut away in most images.
    side : int
        Pixels a side of the central square that was looked at.
    """

    digest: np.ndarray
    blank: np.ndarray
    signature: np.ndarray
    small: np.ndarray
    cleaned: bool
    side: int


@dataclass(frozen=True, eq=False, kw_only=True)
class Scene:
    """Images to compare: the cutouts, the side of their central square, and how to see them."""

    cutouts: Cutouts
    side: int
    cleaned: bool


@dataclass(frozen=True, kw_only=True)
class Alike:
    """How alike two images are.

    Attributes
    ----------
    similarity : float
        Correlation of the textures over the overlap; 1 is the same picture.
    turn : int
        Index into `TURNS`.
    dy, dx : int
        Pixels by which the turned second image is to be moved.
    """

    similarity: float
    turn: int
    dy: int
    dx: int


@dataclass(frozen=True, eq=False, kw_only=True)
class Peaks:
    """Best correlations of reduced images, turn by turn.

    Attributes
    ----------
    height : ndarray, shape (n, 8), float64
    dy, dx : ndarray, shape (n, 8), int64
        Where they are reached, in reduced pixels.
    side : int
        Reduced pixels a side.
    """

    height: np.ndarray
    dy: np.ndarray
    dx: np.ndarray
    side: int

    @property
    def best(self) -> np.ndarray:
        """The highest of every pair, shape (n,)."""
        highest: np.ndarray = self.height.max(axis=1)
        return highest

    def take(self, which: np.ndarray) -> Peaks:
        """Those of some pairs."""
        return Peaks(
            height=self.height[which], dy=self.dy[which], dx=self.dx[which], side=self.side
        )


def greys(cutouts: Cutouts, rows: np.ndarray | slice, side: int) -> np.ndarray:
    """Central squares, the mean over the bands, shape (n, side, side) float32.

    Pixels without data get the median of the image; an image without any becomes 0.
    """
    return _grey(cutouts.pixels(rows), side)


def scan(cutouts: Cutouts, side: int | None = None, *, quiet: bool = False) -> Scan:
    """Look at every image once.

    Parameters
    ----------
    cutouts : Cutouts
    side : int, optional
        Pixels a side of the central square to look at; all that is square by default.
    quiet : bool
        Show no progress.
    """
    count, _, height, width = cutouts.shape
    side = side or min(height, width)
    step = _rows_at_once(cutouts)
    digests, blanks, signatures, textures, modes = [], [], [], [], []
    # How the textures are made is settled by images spread over the whole set.
    some = np.unique(np.linspace(0, count - 1, min(count, 64)).astype(np.int64))
    for grey in greys(cutouts, some, side):
        values, times = np.unique(grey, return_counts=True)
        if len(values) > 1:
            modes.append(times.max() / grey.size)
    cleaned = bool(modes) and float(np.median(modes)) > _CLEANED
    with Progress("twins", count, quiet=quiet) as progress:
        for first in range(0, count, step):
            pixels = cutouts.pixels(slice(first, min(first + step, count)))
            digests.append(row_digests(pixels))
            grey = _grey(pixels, side)
            blanks.append(grey.max(axis=(1, 2)) <= grey.min(axis=(1, 2)))
            small = np.stack([_reduce(_soft(image), _SMALL) for image in grey])
            signatures.append(_signatures(small))
            textures.append(
                np.stack([_texture(image, cleaned) for image in small]).astype(np.float16)
            )
            progress.advance(len(pixels))
    return Scan(
        digest=np.concatenate(digests),
        blank=np.concatenate(blanks),
        signature=np.concatenate(signatures),
        small=np.concatenate(textures),
        cleaned=cleaned,
        side=side,
    )


def coarse(
    one: Scan, two: Scan, rows: np.ndarray, others: np.ndarray, *, quiet: bool = True
) -> Peaks:
    """Correlate the reduced textures of pairs of images, at every turn and shift."""
    side = one.small.shape[1]
    height = np.empty((len(rows), len(TURNS)))
    dy, dx = np.empty((2, len(rows), len(TURNS)), dtype=np.int64)
    reach = max(1, int(_REACH * side))
    moves = np.arange(-reach, reach + 1)
    with Progress("turn", len(rows), unit="pairs", quiet=quiet) as bar:
        for first in range(0, len(rows), _BATCH):
            part = slice(first, first + _BATCH)
            here = fft.rfft2(one.small[rows[part]].astype(np.float32))
            second = two.small[others[part]].astype(np.float32)
            for turn in range(len(TURNS)):
                there = fft.rfft2(turned(second, turn))
                product = fft.irfft2(here * np.conj(there), s=(side, side))
                window = product[:, (moves % side)[:, None], (moves % side)[None, :]]
                flat = window.reshape(len(here), -1)
                at = flat.argmax(axis=1)
                height[part, turn] = np.take_along_axis(flat, at[:, None], axis=1)[:, 0]
                dy[part, turn], dx[part, turn] = moves[at // len(moves)], moves[at % len(moves)]
            bar.advance(len(here))
    return Peaks(height=height, dy=dy, dx=dx, side=side)


def align(
    one: Scene, two: Scene, rows: np.ndarray, others: np.ndarray, peaks: Peaks, *,
    quiet: bool = True,
) -> list[Alike]:  # fmt: skip
    """Compare pairs of images, moved to lie on each other at their full resolution.

    Parameters
    ----------
    one, two : Scene
    rows, others : ndarray, shape (n,), int64
        Rows of the cutouts.
    peaks : Peaks
        Of the same pairs: the most promising turns, and none at all, are tried.
    quiet : bool
        Show no progress.
    """
    result: dict[int, Alike] = {}
    # In order of row, and many at a time: a chunk of the file holds many images.
    order = np.lexsort((others, rows))
    step = _rows_at_once(one.cutouts)
    with Progress("align", len(order), unit="pairs", quiet=quiet) as bar:
        for first in range(0, len(order), step):
            part = order[first : first + step]
            here = greys(one.cutouts, rows[part], one.side)
            there = greys(two.cutouts, others[part], two.side)
            for pair, a, b in zip(part.tolist(), here, there, strict=True):
                result[pair] = _align(a, b, peaks, pair, one.cleaned and two.cleaned)
                bar.advance(1)
    return [result[pair] for pair in range(len(rows))]


def turned(image: np.ndarray, turn: int) -> np.ndarray:
    """An image (..., H, W) turned as `TURNS` says."""
    lying = image[..., ::-1] if turn >= 4 else image
    return np.rot90(lying, turn % 4, axes=(-2, -1))


def _rows_at_once(cutouts: Cutouts) -> int:
    _, channels, height, width = cutouts.shape
    # As float32, which they become.
    return max(1, min(4096, _BYTES_AT_ONCE // (4 * channels * height * width)))


def _grey(pixels: np.ndarray, side: int) -> np.ndarray:
    height, width = pixels.shape[2:]
    top, left = (height - side) // 2, (width - side) // 2
    square = pixels[:, :, top : top + side, left : left + side].astype(np.float32)
    known = np.isfinite(square)
    if known.all():
        return np.asarray(square.mean(axis=1))
    weight = known.sum(axis=1)
    total = np.where(known, square, 0).sum(axis=1)
    grey = np.divide(total, weight, out=np.full(total.shape, np.nan, np.float32), where=weight > 0)
    for image in grey:
        here = np.isfinite(image)
        image[~here] = np.median(image[here]) if here.any() else 0.0
    return np.asarray(grey)


def _soft(image: np.ndarray) -> np.ndarray:
    width = _SOFT * len(image) / _SMALL
    return np.asarray(cv2.GaussianBlur(image, (0, 0), width)) if len(image) > _SMALL else image


def _reduce(image: np.ndarray, most: int) -> np.ndarray:
    """At most so many pixels a side."""
    height, width = image.shape
    shrink = most / max(height, width)
    if shrink >= 1:
        return np.asarray(np.ascontiguousarray(image))
    size = (max(1, round(width * shrink)), max(1, round(height * shrink)))
    return np.asarray(cv2.resize(np.ascontiguousarray(image), size, interpolation=cv2.INTER_AREA))


def _texture(image: np.ndarray, cleaned: bool) -> np.ndarray:
    """What is left without the smooth part, of mean 0 and length 1; 0 where nothing is."""
    rough = image - cv2.GaussianBlur(image, (0, 0), _BLUR)
    if not cleaned:
        scatter = 1.4826 * np.median(np.abs(rough - np.median(rough)))
        if scatter > 0:
            rough = np.clip(rough / scatter, -_CUT, _CUT)
    rough = rough - rough.mean()
    length = float(np.linalg.norm(rough))
    return np.asarray(rough / length if length > 0 else np.zeros_like(rough))


def _signatures(small: np.ndarray) -> np.ndarray:
    """Shape (n, s, s) -> (n, d) float32, of mean 0 and length 1 each."""
    side = small.shape[1]
    reach = min(_FREQUENCIES, (side - 1) // 2)
    level = np.median(small, axis=(1, 2), keepdims=True)
    power = np.abs(fft.fft2(small - level, axes=(1, 2)))
    pick = np.arange(-reach, reach + 1)
    power = power[:, pick[:, None], pick[None, :]]
    power = power + power.transpose(0, 2, 1)
    power = power + power[:, ::-1]
    power = (power + power[:, :, ::-1])[:, reach:, reach:]
    down, right = np.triu_indices(reach + 1)
    values = power[:, down, right]
    values = np.log(values + 1e-3 * values.max(axis=1, keepdims=True) + 1e-30)
    values -= values.mean(axis=1, keepdims=True)
    length = np.linalg.norm(values, axis=1, keepdims=True)
    unit = np.divide(values, length, out=np.zeros_like(values), where=length > 0)
    return np.asarray(unit, dtype=np.float32)


def _align(a: np.ndarray, b: np.ndarray, peaks: Peaks, pair: int, cleaned: bool) -> Alike:
    scale = len(a) / peaks.side
    window = math.ceil(1.5 * scale) + 1
    height = peaks.height[pair]
    turns = {0, *np.argsort(-height)[:_FINE_TURNS].tolist()}
    texture = _texture(a, cleaned)
    found = []
    for turn in sorted(turns):
        lying = np.ascontiguousarray(turned(b, turn))
        about = [round(float(each[pair, turn]) * scale) for each in (peaks.dy, peaks.dx)]
        dy, dx = _shift(texture, _texture(lying, cleaned), about, window)
        found.append(Alike(similarity=_overlap(a, lying, dy, dx, cleaned), turn=turn, dy=dy, dx=dx))
    return max(found, key=lambda alike: alike.similarity)


def _shift(a: np.ndarray, b: np.ndarray, about: list[int], window: int) -> tuple[int, int]:
    side = len(a)
    product = fft.irfft2(fft.rfft2(a) * np.conj(fft.rfft2(b)), s=a.shape)
    most = int(_REACH * side)
    down, right = (
        np.arange(max(middle - window, -most), min(middle + window, most) + 1) for middle in about
    )
    part = product[(down % side)[:, None], (right % side)[None, :]]
    at = np.unravel_index(int(part.argmax()), part.shape)
    return int(down[at[0]]), int(right[at[1]])


def _overlap(a: np.ndarray, b: np.ndarray, dy: int, dx: int, cleaned: bool) -> float:
    side = len(a)
    here = a[max(dy, 0) : side + min(dy, 0), max(dx, 0) : side + min(dx, 0)]
    there = b[max(-dy, 0) : side + min(-dy, 0), max(-dx, 0) : side + min(-dx, 0)]
    one, two = (_texture(_reduce(part, _MIDDLE), cleaned) for part in (here, there))
    return float(min(np.einsum("ij,ij->", one, two), 1.0))
