"""Pairs of entries that show the same: collected by kind, the images' compared."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from skytwin.answers.leaks_pixels import Peaks, Scan, Scene, align, coarse, scan
from skytwin.answers.leaks_vectors import nearest_in, same_pairs
from skytwin.embeddings.table import Embeddings
from skytwin.errors import Mismatch, UsageError
from skytwin.images.compare import require_same_scale
from skytwin.images.cutouts import Cutouts

__all__ = [
    "FIELD_KINDS",
    "KINDS",
    "OBJECT_KINDS",
    "Entry",
    "Found",
    "Frames",
    "ImageOutcome",
    "image_pairs",
    "open_frames",
]

#: Strongest first: a pair has the first that applies.
KINDS = (
    "identical image",
    "near-identical image",
    "same position",
    "identical vector",
    "overlapping frames",
    "near-identical vector",
    "alike elsewhere",
)
#: Kinds that say: one object.
OBJECT_KINDS = KINDS[:4]
#: Kinds that say: pixels in common.
FIELD_KINDS = KINDS[:5]

_NEIGHBOURS = 5
_MOVED = 0.1  # of the frame: further off, the two frames are centred on two places
_CALIBRATION = 300  # pairs
_SIGMAS, _FIRST_SIGMAS = 6.0, 2.5
_LOWEST, _HIGHEST, _HIGHEST_UNTURNED = 0.5, 0.9995, 0.999
_OVERLAP = 0.9  # similarity that is enough where positions say that two frames overlap
_PROMISING = 0.75  # of the typical distance between signatures
_ALL_COMPARED, _MOST_COMPARED, _MOST_OVERLAPS = 2_000, 30_000, 5_000
_FALSE_SHARE = 0.01
_FEWEST = 10  # pairs that a threshold can be measured on


@dataclass(kw_only=True)
class Entry:
    """What is known of one pair."""

    kind: str
    similarity: float = float("nan")
    turn: int = -1
    shift: tuple[int, int] = (0, 0)


@dataclass
class Found:
    """Pairs by rows, each with the strongest kind that was said of it."""

    pairs: dict[tuple[int, int], Entry] = field(default_factory=dict)

    def add(self, kind: str, pairs: Iterable[Iterable[int]]) -> None:
        """Say a kind of some pairs, shape (n, 2)."""
        for one, two in pairs:
            self.put(int(one), int(two), Entry(kind=kind))

    def put(self, one: int, two: int, entry: Entry) -> None:
        """Say something of a pair; what is known of it otherwise is kept."""
        before = self.pairs.get((one, two))
        if before is not None:
            if KINDS.index(before.kind) < KINDS.index(entry.kind):
                entry.kind = before.kind
            if entry.turn < 0:
                entry.similarity, entry.turn, entry.shift = (
                    before.similarity,
                    before.turn,
                    before.shift,
                )
        self.pairs[one, two] = entry

    def of_kinds(self, kinds: Iterable[str]) -> np.ndarray:
        """The pairs of some kinds, shape (n, 2), int64."""
        wanted = set(kinds)
        rows = [pair for pair, entry in self.pairs.items() if entry.kind in wanted]
        return np.array(rows, dtype=np.int64).reshape(-1, 2)

    def ordered(self) -> list[tuple[tuple[int, int], Entry]]:
        """All of them, by kind, then the most alike, then by row."""

        def key(item: tuple[tuple[int, int], Entry]) -> tuple[int, float, tuple[int, int]]:
            pair, entry = item
            known = not np.isnan(entry.similarity)
            return KINDS.index(entry.kind), -entry.similarity if known else 0.0, pair

        return sorted(self.pairs.items(), key=key)


@dataclass(frozen=True, eq=False, kw_only=True)
class Frames:
    """The images of one or two sets, cut to one side.

    Attributes
    ----------
    cutouts : tuple of Cutouts
        One, or one for each set.
    rows : tuple of ndarray
        The rows of the cutouts that the embeddings' rows were made from.
    side : int
        Pixels.
    frame_arcsec : float or None
        The side on the sky.
    """

    cutouts: tuple[Cutouts, ...]
    rows: tuple[np.ndarray, ...]
    side: int
    frame_arcsec: float | None


@dataclass(frozen=True, eq=False, kw_only=True)
class ImageOutcome:
    """What the comparison of images found beside the pairs.

    Attributes
    ----------
    threshold : float
        Similarity from which images count as nearly the same, however they are turned.
    unturned : float
        The same for images that lie alike as they are: at most ``threshold``.
    blank : tuple of ndarray of bool
        Of each set, rows without any content.
    compared : int
        Pairs that were compared at full resolution.
    capped : bool
        More were worth it, and the least promising were left out.
    """

    threshold: float
    unturned: float
    blank: tuple[np.ndarray, ...]
    compared: int
    capped: bool = False


def open_frames(sets: tuple[Embeddings, ...], given: tuple[Cutouts | None, ...]) -> Frames | str:
    """The images of one or two embeddings, or why they cannot be compared.

    Raises
    ------
    UnknownName
        Cutouts were given that lack an object.
    """
    found = []
    for embeddings, cutouts in zip(sets, given, strict=False):
        try:
            found.append(cutouts if cutouts is not None else embeddings.cutouts())
        except (UsageError, Mismatch) as reason:
            return f"images were not compared: {reason}"
    if len(found) == 2:
        one, two = found
        if len(one.bands) != len(two.bands):
            return (
                f"images were not compared: bands {', '.join(one.bands)} and {', '.join(two.bands)}"
            )
        try:
            require_same_scale(two.pixel_scale, one.pixel_scale, str(two.folder))
        except Mismatch as reason:
            return f"images were not compared: {reason}"
    side = min(min(each.shape[2:]) for each in found)
    scale = found[0].pixel_scale
    return Frames(
        cutouts=tuple(found),
        rows=tuple(
            np.array([cutouts.index[str(name)] for name in embeddings.ids], dtype=np.int64)
            for embeddings, cutouts in zip(sets, found, strict=True)
        ),
        side=side,
        frame_arcsec=None if scale is None else side * scale,
    )


def image_pairs(
    frames: Frames, near: np.ndarray, found: Found, *, seed: int = 0, quiet: bool = False
) -> ImageOutcome:
    """Compare images, and add to the pairs those that are the same or nearly so.

    Parameters
    ----------
    frames : Frames
    near : ndarray, shape (n, 2), int64
        Rows to compare beside those with like signatures and near positions: near vectors.
    found : Found
        Gets the pairs.
    seed : int
        Of the sample that the threshold is measured on.
    quiet : bool
        Show no progress.
    """
    scans = tuple(
        _of_rows(scan(cutouts, frames.side, quiet=quiet), rows)
        for cutouts, rows in zip(frames.cutouts, frames.rows, strict=True)
    )
    one, two = scans[0], scans[-1]
    within = len(scans) == 1
    same = same_pairs(one.digest, None if within else two.digest)
    same = same[~one.blank[same[:, 0]]]
    for a, b in same:
        found.put(int(a), int(b), Entry(kind="identical image", similarity=1.0, turn=0))
    # Of identical images the first speaks for all; blank ones say nothing.
    spoken = ~one.blank
    if within:
        spoken[same[:, 1]] = False
    here = np.flatnonzero(spoken)
    there = here if within else np.flatnonzero(~two.blank)
    blank = tuple(each.blank for each in scans)
    if len(here) < 1 + within or not len(there):
        return ImageOutcome(threshold=_HIGHEST, unturned=_HIGHEST, blank=blank, compared=0)
    second = None if within else two.signature[there]
    like = nearest_in(one.signature[here], second, _NEIGHBOURS, quiet=quiet)
    pairs = np.stack([here[like.rows], there[like.others]], axis=1)
    last = np.flatnonzero(like.rank == like.rank.max())
    typical = float(np.median(like.distance[last]))
    apart = pairs[np.random.default_rng(seed).permutation(last)[:_CALIBRATION]]
    # What is near on the sky is compared, however unlike it is.
    known = found.of_kinds(("same position", "overlapping frames"))[:_MOST_OVERLAPS]
    known = known[~(one.blank[known[:, 0]] | two.blank[known[:, 1]])]
    pairs = _once(pairs, within)
    comparison = _Comparison(one=one, two=two, frames=frames, quiet=quiet)
    threshold = _limit(comparison.similarities(apart), _SIGMAS)
    peaks = comparison.peaks(pairs)
    step = np.linalg.norm(one.signature[pairs[:, 0]] - two.signature[pairs[:, 1]], axis=1)
    enough = _limit(comparison.peaks(apart).best, _FIRST_SIGMAS, lowest=0.0)
    good = (step <= _PROMISING * typical) | (peaks.best >= enough)
    promising = np.flatnonzero(good | (len(pairs) <= _ALL_COMPARED))
    capped = len(promising) > _MOST_COMPARED
    promising = promising[np.argsort(step[promising], kind="stable")[:_MOST_COMPARED]]
    pairs = pairs[promising]
    entries = comparison.entries(pairs, peaks.take(promising))
    unturned = _unturned(entries, threshold)
    for (a, b), entry in zip(pairs, entries, strict=True):
        if entry.similarity >= (unturned if entry.turn == 0 else threshold):
            entry.kind = comparison.kind(entry)
            found.put(int(a), int(b), entry)
    for (a, b), entry in zip(known, comparison.entries(known), strict=True):
        sure = min(unturned, _OVERLAP) if entry.turn == 0 else threshold
        if entry.similarity >= sure:
            entry.kind = comparison.kind(entry)
            found.put(int(a), int(b), entry)
    # Vectors may favour one orientation, so that ``unturned`` does not hold for these.
    near = near[~(one.blank[near[:, 0]] | two.blank[near[:, 1]])]
    for (a, b), entry in zip(near, comparison.entries(near), strict=True):
        if entry.similarity >= threshold:
            entry.kind = comparison.kind(entry)
            found.put(int(a), int(b), entry)
    return ImageOutcome(
        threshold=threshold,
        unturned=unturned,
        blank=blank,
        compared=len(pairs) + len(known),
        capped=capped,
    )


@dataclass(frozen=True, eq=False, kw_only=True)
class _Comparison:
    """Two sets of images, seen from afar and, pair by pair, closely."""

    one: Scan
    two: Scan
    frames: Frames
    quiet: bool

    def peaks(self, pairs: np.ndarray) -> Peaks:
        return coarse(self.one, self.two, pairs[:, 0], pairs[:, 1], quiet=self.quiet)

    def entries(self, pairs: np.ndarray, peaks: Peaks | None = None) -> list[Entry]:
        cleaned = self.one.cleaned and self.two.cleaned
        here, there = (
            Scene(cutouts=cutouts, side=self.frames.side, cleaned=cleaned)
            for cutouts in (self.frames.cutouts[0], self.frames.cutouts[-1])
        )
        alike = align(
            here,
            there,
            self.frames.rows[0][pairs[:, 0]],
            self.frames.rows[-1][pairs[:, 1]],
            peaks or self.peaks(pairs),
            quiet=self.quiet,
        )
        return [
            Entry(kind=KINDS[-1], similarity=a.similarity, turn=a.turn, shift=(a.dy, a.dx))
            for a in alike
        ]

    def similarities(self, pairs: np.ndarray) -> np.ndarray:
        return np.array([entry.similarity for entry in self.entries(pairs)])

    def kind(self, entry: Entry) -> str:
        moved = max(map(abs, entry.shift)) > _MOVED * self.frames.side
        return "overlapping frames" if moved else "near-identical image"


def _unturned(entries: list[Entry], threshold: float) -> float:
    """Similarity from which images that lie alike as they are count as nearly the same.

    Different objects are as often most alike at any of the 8 turns; copies within a survey lie
    as they are. So the pairs that are turned, over 7, are how many of the others are due to
    chance (as decoys tell in proteomics, Elias & Gygi 2007). The limit is the lowest at which
    that is one in a hundred at most, one turned pair always added.
    """
    straight = np.sort([e.similarity for e in entries if e.turn == 0])[::-1]
    decoys = np.sort([e.similarity for e in entries if e.turn > 0 and e.similarity < threshold])
    beyond = len(decoys) - np.searchsorted(decoys, straight, side="left")
    good = (beyond + 1) / 7 <= _FALSE_SHARE * np.arange(1, len(straight) + 1)
    highest = min(threshold, _HIGHEST_UNTURNED)
    lowest = straight[np.flatnonzero(good)[-1]] if good.any() else highest
    return float(np.clip(lowest, _LOWEST, highest))


def _of_rows(seen: Scan, rows: np.ndarray) -> Scan:
    return Scan(
        digest=seen.digest[rows],
        blank=seen.blank[rows],
        signature=seen.signature[rows],
        small=seen.small[rows],
        cleaned=seen.cleaned,
        side=seen.side,
    )


def _once(pairs: np.ndarray, within: bool) -> np.ndarray:
    """Every pair once, and within one set the lower row first."""
    if within:
        pairs = np.sort(pairs, axis=1)
        pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    return np.unique(pairs, axis=0)


def _limit(similarities: np.ndarray, sigmas: float, lowest: float = _LOWEST) -> float:
    """A limit that different objects do not reach, from pairs most of which are different.

    In Fisher's z = artanh(r), whose scatter does not depend on r: the median and so many times
    the distance from it to the 84th percentile.
    """
    if len(similarities) < _FEWEST:
        return _HIGHEST
    z = np.arctanh(np.clip(similarities, -1, 1 - 1e-9))
    middle, high = np.quantile(z, [0.5, 0.84])
    return float(np.clip(np.tanh(middle + sigmas * (high - middle)), lowest, _HIGHEST))
