"""Does the list stay when the images are turned, moved, stretched otherwise, or lose a band?

The first matches and as many competitors are changed, encoded again, and ranked again. What
changes a single observation (a turn, a shift) is done to the candidates; what changes the whole
survey (stretch, bands, background, border) is done to the references too, and features are
standardised anew. Leaving out each band is the ablation of Doorenbos et al. 2022 (A&A 666, A171).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pyarrow as pa

from skytwin.answers.audit_images import background, row_median
from skytwin.answers.audit_sample import cutout_rows
from skytwin.answers.intervals import Proportion
from skytwin.answers.ranking import How, eligible, make_ranker
from skytwin.answers.search import Matches
from skytwin.embeddings.neighbours import nearest
from skytwin.embeddings.ranker import Ranker
from skytwin.encoders.load import load_saved
from skytwin.errors import Mismatch
from skytwin.images.cutouts import Cutouts
from skytwin.images.stretch import Stretch
from skytwin.progress import Progress

if TYPE_CHECKING:
    from skytwin.encoders.encoder import Encoder
    from skytwin.images.prepare import Prepare

__all__ = ["Change", "changes", "measure_stability", "other_stretch", "shifted", "turned"]

_BATCH = 32
_BORDER = 8  # one part in so many of the frame, on each side
_SAME = 1e-3


@dataclass(frozen=True, kw_only=True)
class Change:
    """One thing done to images.

    Attributes
    ----------
    name : str
    apply : callable
        (n, C, H, W) -> (n, C, H, W).
    survey : bool
        Done to the references too.
    stretch : Stretch or None
        Instead of the encoder's own.
    """

    name: str
    apply: Callable[[np.ndarray], np.ndarray]
    survey: bool = False
    stretch: Stretch | None = None


def measure_stability(
    matches: Matches,
    cutouts: Cutouts,
    controls: np.ndarray,
    *,
    top: int = 20,
    angle: float = 33.0,
    weights: str | Path | None = None,
    level: float = 0.95,
    seed: int = 0,
    quiet: bool = False,
) -> tuple[pa.Table, tuple[str, ...]]:
    """Which share of the first matches stays, change by change.

    Parameters
    ----------
    matches : Matches
    cutouts : Cutouts
    controls : ndarray of int
        Rows of random objects that are not matches; the first ``2 top`` are used.
    top : int
        First matches that are followed.
    angle : float
        Of the turn that is not a right one, degrees.
    weights : path, optional
        Of the encoder, if they are no longer where they were.
    level : float
        Coverage of the intervals.
    seed : int
        Of the directions of the shifts.
    quiet : bool
        Show no progress.

    Returns
    -------
    pyarrow.Table
        ``change``; ``references`` (changed too); ``kept`` of ``top``, the matches still among the
        first ``top`` of themselves and the controls; ``share``, ``lower``, ``upper`` (Jeffreys);
        ``close``, ``close_lower``, ``close_upper``, the same against the objects ranked next;
        ``moved``, the median change of rank among matches and those ranked next.
    tuple of str
        What a reader should know.

    Raises
    ------
    UsageError
        The weights are gone; vectors made elsewhere have no encoder.
    Mismatch
        The cutouts do not give the vectors that are stored.
    """
    embeddings = matches.embeddings
    encoder = load_saved(embeddings.encoder_folder(), weights=weights)
    if encoder.fingerprint != embeddings.encoder_fingerprint:
        raise Mismatch("the saved encoder is not the one that made this embedding")
    count = min(top, len(matches))
    first = np.asarray(matches.rows[:count])
    after = _ranked_next(matches, count)
    rows = np.concatenate([first, after, controls[: 2 * count]])
    flux = cutouts.flux(cutout_rows(matches, cutouts, rows))
    images, notes = _reference_images(matches, cutouts)
    listed = list(changes(encoder.prepare, cutouts.bands, flux, angle, seed))
    found: list[dict[str, object]] = []
    plain, before = np.empty((0, embeddings.dim)), np.empty(0)
    with Progress("re-encode", len(listed) * len(flux), quiet=quiet) as bar:
        for change in listed:
            changed = _with_stretch(encoder, change.stretch)
            vectors = _encode(changed, change.apply(flux))
            if change.name == "nothing":
                _require_same(vectors, embeddings.vectors[rows])
                plain, before = vectors, matches.ranker.exact(vectors).distance
            ranker = matches.ranker
            if change.survey:
                random = slice(count + len(after), None)
                settle = _as_before(plain[random], vectors[random])
                vectors = settle(vectors)
                if images:
                    own = settle(_encode(changed, change.apply(np.stack(list(images.values())))))
                    ranker = _with_references(matches, dict(zip(images, own, strict=True)))
            distance = ranker.exact(vectors).distance
            found.append(_kept(change, distance, before, count, len(after), level))
            bar.advance(len(flux))
    return pa.Table.from_pylist(found), tuple(notes)


def _kept(
    change: Change,
    distance: np.ndarray,
    before: np.ndarray,
    count: int,
    after: int,
    level: float,
) -> dict[str, object]:
    own = distance[:count]
    near, far = distance[count : count + after], distance[count + after :]
    kept, close = (_staying(own, others) for others in (far, near))
    share, tight = Proportion.of(kept, count, level), Proportion.of(close, count, level)
    old = np.argsort(np.argsort(before[: count + after], kind="stable"))
    new = np.argsort(np.argsort(distance[: count + after], kind="stable"))
    known = bool(after)
    return {
        "change": change.name,
        "references": change.survey,
        "kept": kept,
        "top": count,
        "share": share.value,
        "lower": share.lower,
        "upper": share.upper,
        "close": tight.value if known else None,
        "close_lower": tight.lower if known else None,
        "close_upper": tight.upper if known else None,
        "moved": float(np.median(np.abs(new - old)[:count])),
    }


def _staying(own: np.ndarray, others: np.ndarray) -> int:
    """How many of n matches are among the first n of themselves and others."""
    order = np.argsort(np.concatenate([own, others]), kind="stable")
    return int((order[: len(own)] < len(own)).sum())


def _ranked_next(matches: Matches, count: int) -> np.ndarray:
    """Rows of the ``count`` objects that follow the first ``count``."""
    if len(matches) >= 2 * count:
        return np.asarray(matches.rows[count : 2 * count])
    settings = matches.settings
    keep, _ = eligible(
        matches.embeddings,
        matches.references,
        same_arcsec=settings["same_arcsec"],
        where=settings["where"],
        include_self=settings["include_self"],
    )
    found = nearest(matches.embeddings.vectors, matches.ranker, 2 * count, keep=keep)
    return np.asarray(found.rows[~np.isin(found.rows, matches.rows[:count])][:count])


def _reference_images(
    matches: Matches, cutouts: Cutouts
) -> tuple[dict[int, np.ndarray], list[str]]:
    """The references' flux by their number, and which have none."""
    images: dict[int, np.ndarray] = {}
    blind = []
    for number, reference in enumerate(matches.references):
        if reference.image is not None:
            images[number] = reference.image
        elif reference.id is not None and reference.id in cutouts.index:
            images[number] = cutouts.flux([cutouts.index[reference.id]])[0]
        else:
            blind.append(reference.name)
    if not blind:
        return images, []
    return images, [f"without an image, so never changed: {', '.join(blind)}"]


def _as_before(plain: np.ndarray, changed: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Each feature's mean and width brought back to those of the unchanged survey.

    As if the whole survey had been changed and its features standardised anew; both are measured
    on the same random objects (n, D), before and after.
    """
    width, own = changed.std(axis=0), plain.std(axis=0)
    scale = np.divide(own, width, out=np.ones_like(width), where=width > 0)
    middle, mean = changed.mean(axis=0), plain.mean(axis=0)
    return lambda x: np.asarray((x - middle) * scale + mean, dtype=np.float32)


def _with_references(matches: Matches, vectors: dict[int, np.ndarray]) -> Ranker:
    """The list's own ranking, with other vectors for some references."""
    references = list(matches.references)
    for number, vector in vectors.items():
        references[number] = dataclasses.replace(references[number], vector=vector)
    settings = matches.settings
    how = How.of(
        metric=settings["metric"],
        combine=settings["combine"] or "mean",
        seed=settings["seed"] or 0,
        same_arcsec=settings["same_arcsec"],
    )
    return make_ranker(matches.embeddings, references, how)


def _with_stretch(encoder: Encoder, stretch: Stretch | None) -> Encoder:
    if stretch is None:
        return encoder
    return dataclasses.replace(
        encoder, prepare=dataclasses.replace(encoder.prepare, stretch=stretch)
    )


def _encode(encoder: Encoder, flux: np.ndarray) -> np.ndarray:
    vectors = np.asarray(encoder.encode(flux, batch=_BATCH), dtype=np.float32)
    # An image that becomes empty has no direction: the mean vector is as far as any.
    return np.nan_to_num(vectors, nan=0.0, posinf=0.0, neginf=0.0)


def _require_same(now: np.ndarray, stored: np.ndarray) -> None:
    apart = np.abs(now - stored).max()
    if apart > _SAME * max(np.abs(stored).max(), np.finfo(np.float32).tiny):
        raise Mismatch(
            f"the cutouts do not give the vectors that are stored (they differ by {apart:.2g}); "
            "give the cutouts that were embedded with --cutouts FOLDER"
        )


def changes(
    prepare: Prepare, bands: Sequence[str], flux: np.ndarray, angle: float, seed: int
) -> Iterator[Change]:
    """What is done to the images, first of all nothing.

    Parameters
    ----------
    prepare : Prepare
        Of the encoder.
    bands : sequence of str
    flux : ndarray, shape (n, C, H, W)
        Of which the usual background is taken.
    angle : float
        Degrees.
    seed : int
        Of the directions of the shifts.
    """
    yield Change(name="nothing", apply=lambda x: x)
    yield Change(name="turned by 90 deg", apply=lambda x: np.rot90(x, axes=(2, 3)).copy())
    yield Change(name=f"turned by {angle:g} deg", apply=lambda x: turned(x, angle))
    for pixels in (1, 2):
        yield Change(
            name=f"moved by {pixels} pixel" + "s" * (pixels > 1),
            apply=lambda x, pixels=pixels: shifted(x, pixels, seed),  # type: ignore[misc]
        )
    other = other_stretch(prepare.stretch)
    yield Change(name=f"stretch {other}", apply=lambda x: x, survey=True, stretch=other)
    if len(bands) > 1:
        for place, band in enumerate(bands):
            yield Change(
                name=f"without {band}",
                apply=lambda x, place=place: _without(x, place),  # type: ignore[misc]
                survey=True,
            )
    level, _ = background(flux)
    usual = row_median(level.T)
    yield Change(name="background levelled", apply=lambda x: _levelled(x, usual), survey=True)
    yield Change(name="border covered", apply=lambda x: _covered(x, prepare.crop), survey=True)


def turned(flux: np.ndarray, angle: float) -> np.ndarray:
    """Images turned about their centres, counter-clockwise as arrays, corners mirrored in.

    Bilinear; a pixel that draws on one without data has none itself.
    """
    height, width = flux.shape[2:]
    matrix = cv2.getRotationMatrix2D((width // 2, height // 2), angle, 1.0)

    def turn(plane: np.ndarray) -> np.ndarray:
        plain = np.ascontiguousarray(plane, dtype=np.float32)
        return cv2.warpAffine(
            plain,
            matrix,
            (width, height),
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REFLECT_101,
        )

    out = np.empty(flux.shape, dtype=np.float32)
    for image, target in zip(flux, out, strict=True):
        for plane, place in zip(image, target, strict=True):
            gap = ~np.isfinite(plane)
            place[:] = turn(np.where(gap, 0, plane))
            if gap.any():
                place[turn(gap) > 1e-3] = np.nan
    return out


def shifted(flux: np.ndarray, pixels: int, seed: int) -> np.ndarray:
    """Images moved by whole pixels, each in one of eight directions, the edge repeated."""
    steps = np.array([(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if (y, x) != (0, 0)])
    drawn = np.random.default_rng(seed).integers(0, len(steps), len(flux))
    height, width = flux.shape[2:]
    out = np.empty_like(flux)
    for image, (down, right), target in zip(flux, pixels * steps[drawn], out, strict=True):
        rows = np.clip(np.arange(height) - down, 0, height - 1)
        columns = np.clip(np.arange(width) - right, 0, width - 1)
        target[:] = image[:, rows][:, :, columns]
    return out


def other_stretch(stretch: Stretch) -> Stretch:
    """A stretch near to the one given: the next function, or its parameter moved."""
    if stretch.function == "lupton":
        scale, softening, minimum = stretch.parameters
        return dataclasses.replace(stretch, parameters=(1.5 * scale, softening, minimum))
    if stretch.function in ("asinh", "log"):
        factor = 3.0 if stretch.function == "asinh" else 0.3
        (a,) = stretch.parameters
        return dataclasses.replace(
            stretch, parameters=(float(f"{min(max(factor * a, 1e-6), 1e9):.6g}"),)
        )
    other = "sqrt" if stretch.function == "linear" else "linear"
    return dataclasses.replace(stretch, function=other, parameters=())


def _without(flux: np.ndarray, place: int) -> np.ndarray:
    """A band replaced by the mean of the others."""
    out = flux.copy()
    others = [band for band in range(flux.shape[1]) if band != place]
    out[:, place] = flux[:, others].mean(axis=1)
    return out


def _levelled(flux: np.ndarray, usual: np.ndarray) -> np.ndarray:
    """All backgrounds brought to one level per band."""
    level, _ = background(flux)
    gain = np.nan_to_num(usual - level).astype(np.float32)
    return np.asarray(flux + gain[:, :, None, None], dtype=np.float32)


def _covered(flux: np.ndarray, crop: int) -> np.ndarray:
    """The border of what the encoder sees, and all gaps, set to the image's own background."""
    level, _ = background(flux)
    height, width = flux.shape[2:]
    edge = max(1, crop // _BORDER)
    top, left = height // 2 - crop // 2, width // 2 - crop // 2
    cover = np.ones((height, width), dtype=bool)
    cover[top + edge : top + crop - edge, left + edge : left + crop - edge] = False
    fill = np.nan_to_num(level).astype(np.float32)[:, :, None, None]
    return np.where(cover | ~np.isfinite(flux), fill, flux)
