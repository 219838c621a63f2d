"""What a probe is fitted and tested on: labelled objects, sides, and vectors to read from."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np

from skytwin.embeddings.table import Embeddings
from skytwin.errors import DataError, Mismatch, UsageError, unknown
from skytwin.images.cutouts import Cutouts
from skytwin.images.folds import grouped_split
from skytwin.images.framing import central
from skytwin.images.groups import sky_groups
from skytwin.images.where import matching_rows

__all__ = [
    "Labelled",
    "Source",
    "gather",
    "joined_name",
    "named",
    "pixel_sources",
    "require_folds",
    "widest",
]

_PIXELS, _COMPONENTS = 32, 64
_TEST_SHARE = 0.2
_BLOCK = 512


@dataclass(frozen=True, eq=False, kw_only=True)
class Source:
    """Vectors to read a label from.

    Attributes
    ----------
    name : str
    vectors : ndarray, shape (n, D), float32
        Of the labelled objects, in their order.
    components : int or None
        Principal components that are taken of them, fitted on training rows.
    baseline : bool
        Made from pixels, to compare with.
    parts : tuple of str
        Names of the embeddings that stand side by side in the vectors; none of a baseline.
    widths : tuple of int
        How many numbers are of each.
    """

    name: str
    vectors: np.ndarray
    components: int | None = None
    baseline: bool = False
    parts: tuple[str, ...] = ()
    widths: tuple[int, ...] = ()

    @property
    def dim(self) -> int:
        """Numbers that a classifier sees."""
        return self.vectors.shape[1] if self.components is None else self.components


@dataclass(frozen=True, eq=False, kw_only=True)
class Labelled:
    """The objects that count.

    Attributes
    ----------
    ids : ndarray of str, shape (n,)
    classes : tuple of str
        Of two, the positive one last.
    truth, group : ndarray, shape (n,), int64
        Number of the class, and of the object on the sky.
    test : ndarray, shape (n,), bool
    left_out : dict of str to int
        Why rows do not count, and how many.
    notes : tuple of str
    """

    ids: np.ndarray
    classes: tuple[str, ...]
    truth: np.ndarray
    group: np.ndarray
    test: np.ndarray
    left_out: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def named(
    embeddings: Embeddings | Sequence[Embeddings] | Mapping[str, Embeddings],
) -> dict[str, Embeddings]:
    """Embeddings by name: that of their folder unless given, numbered where it repeats."""
    if isinstance(embeddings, Mapping):
        found = {str(name): each for name, each in embeddings.items()}
    else:
        several = [embeddings] if isinstance(embeddings, Embeddings) else list(embeddings)
        found = {}
        for number, each in enumerate(several, 1):
            name = each.folder.resolve().name if each.folder else f"vectors {number}"
            found[name if name not in found else f"{name} ({number})"] = each
    if not found:
        raise UsageError("no embedding to probe; give at least one")
    return found


def joined_name(names: Iterable[str]) -> str:
    """Of several embeddings side by side."""
    return " + ".join(names)


def widest(embeddings: Iterable[Embeddings], together: bool) -> int:
    """Numbers in the longest vector that a label is read from."""
    dims = [each.dim for each in embeddings]
    return sum(dims) if together else max(dims)


def gather(
    embeddings: Mapping[str, Embeddings],
    label: str,
    *,
    together: bool = False,
    split: str | None,
    positive: str | None,
    where: str | None,
    group_arcsec: float,
    seed: int,
) -> tuple[Labelled, list[Source]]:
    """The labelled objects that every embedding has, and their vectors.

    Label, split, condition and positions are those of the first embedding's catalogue. With
    ``together`` one more set of vectors holds those of all embeddings side by side.

    Raises
    ------
    UsageError
        Unknown column or positive class; a split without train or test; one embedding together.
    DataError
        One class, or a side without one of them.
    Mismatch
        Two embeddings give an object different labels.
    """
    if together and len(embeddings) < 2:
        raise UsageError("one embedding together; expected two or more: name another, or leave it")
    first = next(iter(embeddings.values()))
    text = _text(first, label)
    sides = None if split is None else _sides(first, split)
    left_out: dict[str, int] = {}
    kept = np.ones(len(first), dtype=bool)

    def leave(why: str, bad: np.ndarray) -> None:
        left_out[why] = int((bad & kept).sum())
        kept[bad] = False

    if where is not None:
        leave("outside the condition", ~matching_rows(first.catalog, where))
    leave("without a label", np.array([value is None for value in text], dtype=bool))
    if len(embeddings) > 1:
        absent = [
            np.array([name not in each.index for name in first.ids], dtype=bool)
            for each in embeddings.values()
        ]
        leave("not in every embedding", np.any(absent, axis=0))
    if sides is not None:
        leave("neither train nor test", sides < 0)
    for each in embeddings.values():
        _require_same_labels(each, first, text, label, kept)
    places = np.flatnonzero(kept)
    rows = [
        np.array([each.index[str(n)] for n in first.ids[places]], dtype=np.int64)
        for each in embeddings.values()
    ]
    bad = np.zeros(len(first), dtype=bool)
    for each, at in zip(embeddings.values(), rows, strict=True):
        for begin in range(0, len(at), _BLOCK):
            part = slice(begin, begin + _BLOCK)
            bad[places[part]] |= ~np.isfinite(each.vectors[at[part]]).all(axis=1)
    leave("with NaN among the numbers", bad)
    classes, truth = _classes(text[kept], label, positive, sum(left_out.values()))
    positions = None if first.positions is None else first.positions[kept]
    group = sky_groups(positions, group_arcsec, int(kept.sum()))
    notes = [
        f"{count} rows of {name} are not in {next(iter(embeddings))}: left out"
        for name, each in embeddings.items()
        if each is not first and (count := sum(str(i) not in first.index for i in each.ids))
    ]
    if positions is None:
        notes.append("no positions: every row counts as its own object")
    mixed = len(np.unique(np.stack([group, truth]), axis=1).T) - len(np.unique(group))
    if mixed:
        notes.append(f"{mixed} label(s) contradict another row of the same object on the sky")
    if sides is None:
        test = grouped_split(group, _TEST_SHARE, seed, stratify=truth)
        notes.append(
            f"no split given: {_TEST_SHARE:.0%} of the objects are the test rows, at random"
        )
    else:
        test = sides[kept] == 1
    shared = ~test & np.isin(group, group[test])
    left_out["of train at the place of a test row"] = int(shared.sum())
    final = ~shared
    labelled = Labelled(
        ids=first.ids[kept][final],
        classes=classes,
        truth=truth[final],
        group=np.unique(group[final], return_inverse=True)[1],
        test=test[final],
        left_out={why: count for why, count in left_out.items() if count},
        notes=tuple(notes),
    )
    _require_sides(labelled, label)
    return labelled, _sources(embeddings, [at[kept[places]][final] for at in rows], together)


def _sources(
    embeddings: Mapping[str, Embeddings], rows: Sequence[np.ndarray], together: bool
) -> list[Source]:
    """Each embedding alone and, if asked, all side by side; the numbers are in memory once."""
    names, several = tuple(embeddings), list(embeddings.values())
    widths = tuple(each.dim for each in several)
    if not together:
        return [
            Source(name=name, vectors=each.vectors[at], parts=(name,), widths=(each.dim,))
            for name, each, at in zip(names, several, rows, strict=True)
        ]
    whole = np.empty((len(rows[0]), sum(widths)), dtype=np.float32)
    blocks = np.split(whole, np.cumsum(widths)[:-1], axis=1)
    for each, at, block in zip(several, rows, blocks, strict=True):
        for begin in range(0, len(at), _BLOCK):
            block[begin : begin + _BLOCK] = each.vectors[at[begin : begin + _BLOCK]]
    alone = [
        Source(name=name, vectors=block, parts=(name,), widths=(block.shape[1],))
        for name, block in zip(names, blocks, strict=True)
    ]
    return [*alone, Source(name=joined_name(names), vectors=whole, parts=names, widths=widths)]


def _text(embeddings: Embeddings, column: str) -> np.ndarray:
    """A column as text, None where there is nothing, shape (N,) object."""
    found = np.empty(len(embeddings), dtype=object)
    for row, value in enumerate(embeddings.column(column).to_pylist()):
        missing = value is None or value == "" or (isinstance(value, float) and math.isnan(value))
        found[row] = None if missing else str(value)
    return found


def _sides(embeddings: Embeddings, split: str) -> np.ndarray:
    """0 train, 1 test, -1 neither, shape (N,)."""
    text = _text(embeddings, split)
    values = {str(value).lower() for value in text}
    missing = [side for side in ("train", "test") if side not in values]
    if missing:
        got = ", ".join(sorted({str(v) for v in text if v is not None})[:8]) or "nothing"
        raise UsageError(
            f"split column {split!r} has no {' and no '.join(missing)} (it holds {got}); expected "
            "the values train and test: name another column, or leave --split out"
        )
    number = {"train": 0, "test": 1}
    return np.array([number.get(str(value).lower(), -1) for value in text])


def _classes(
    text: np.ndarray, label: str, positive: str | None, left_out: int
) -> tuple[tuple[str, ...], np.ndarray]:
    classes, truth = np.unique(text.astype(str), return_inverse=True)
    names = [str(name) for name in classes]
    if len(names) < 2:
        only = f"all {names[0]}" if names else "none"
        raise DataError(
            f"label {label!r}: {len(text)} labelled rows, {only} ({left_out} rows left out); "
            "expected at least two classes: choose another label or a wider --where"
        )
    if positive is not None:
        if positive not in names:
            raise unknown("positive class", positive, names)
        if len(names) > 2:
            raise UsageError(
                f"positive class {positive!r} goes with two classes; label {label!r} has "
                f"{len(names)} ({', '.join(names[:8])}): leave it out, or choose two with --where"
            )
        if positive == names[0]:
            names.reverse()
            truth = 1 - truth
    return tuple(names), truth.astype(np.int64)


def _require_same_labels(
    other: Embeddings, first: Embeddings, text: np.ndarray, label: str, kept: np.ndarray
) -> None:
    if other is first or label not in other.catalog.column_names:
        return
    theirs = _text(other, label)
    for row in np.flatnonzero(kept):
        got = theirs[other.index[str(first.ids[row])]]
        if got is not None and got != text[row]:
            raise Mismatch(
                f"label {label!r} of {first.ids[row]!r} is {text[row]} in one embedding and {got} "
                "in another; expected one label for one object: join one catalogue to both"
            )


def _require_sides(labelled: Labelled, label: str) -> None:
    for side, rows in (("train", ~labelled.test), ("test", labelled.test)):
        count = np.bincount(labelled.truth[rows], minlength=len(labelled.classes))
        for name, number in zip(labelled.classes, count, strict=True):
            if number < (2 if side == "train" else 1):
                raise DataError(
                    f"label {label!r}: class {name} has {number} {side} row(s); expected at least "
                    f"{2 if side == 'train' else 1}: leave the class out with --where, or choose "
                    "another split"
                )


def pixel_sources(
    embeddings: Sequence[Embeddings],
    ids: np.ndarray,
    train: int,
    *,
    crop: int | None = None,
    cutouts: Cutouts | None = None,
) -> tuple[list[Source], str]:
    """The pixels themselves as vectors, and their principal components; with what they are.

    The central ``crop`` pixels, averaged down to at most 32 x 32, flux as it is. By default the
    crop is that of the first embedding, or the whole frame.

    Parameters
    ----------
    embeddings : sequence of Embeddings
        The cutouts of the first whose cutouts are there are taken.
    ids : ndarray of str, shape (n,)
    train : int
        How many of them train: there are fewer components.
    crop : int, optional
    cutouts : Cutouts, optional
    """
    why = ""
    for each in embeddings if cutouts is None else ():
        try:
            cutouts = each.cutouts()
            break
        except (UsageError, DataError) as error:
            why = why or str(error)
    if cutouts is None:
        return [], f"no baselines from pixels: {why}"
    missing = [str(name) for name in ids if str(name) not in cutouts.index]
    if missing:
        return [], f"no baselines from pixels: the cutouts lack {len(missing)}, e.g. {missing[0]!r}"
    side = min(cutouts.shape[2:])
    crop = min(side, crop or _crop_of(embeddings[0]) or side)
    size = min(_PIXELS, crop)
    rows = np.array([cutouts.index[str(name)] for name in ids])
    blocks = [
        _shrunk(cutouts, rows[at : at + _BLOCK], crop, size) for at in range(0, len(rows), _BLOCK)
    ]
    pixels = np.concatenate(blocks)
    count = min(_COMPONENTS, train - 1, pixels.shape[1])
    return [
        Source(name="pixels", vectors=pixels, baseline=True),
        Source(name=f"pixels, PCA {count}", vectors=pixels, components=count, baseline=True),
    ], f"baselines: the central {crop} x {crop} pixels as {size} x {size}, flux as it is"


def _crop_of(embeddings: Embeddings) -> int | None:
    recipe = embeddings.manifest.recipe if embeddings.manifest else {}
    prepare = (recipe.get("encoder") or {}).get("prepare") or {}
    crop = prepare.get("crop")
    return crop if isinstance(crop, int) and crop > 0 else None


def _shrunk(cutouts: Cutouts, rows: np.ndarray, crop: int, size: int) -> np.ndarray:
    """Images as rows of pixels, shape (n, C * size * size) float32."""
    flux = np.array(central(cutouts.flux(rows), crop))
    bad = ~np.isfinite(flux)
    for image, band in zip(*np.nonzero(bad.any(axis=(2, 3))), strict=True):
        plane, hole = flux[image, band], bad[image, band]
        plane[hole] = np.median(plane[~hole]) if not hole.all() else 0.0
    planes = flux.reshape(-1, crop, crop)
    small = [cv2.resize(each, (size, size), interpolation=cv2.INTER_AREA) for each in planes]
    return np.asarray(small, dtype=np.float32).reshape(len(rows), -1)


def require_folds(labelled: Labelled, folds: int, label: str) -> None:
    """Refuse more folds than a class has training objects."""
    train = ~labelled.test
    for number, name in enumerate(labelled.classes):
        objects = len(np.unique(labelled.group[train & (labelled.truth == number)]))
        if objects < folds:
            fewer = f"--folds {objects} or fewer" if objects > 1 else "--folds 0"
            raise DataError(
                f"label {label!r}: class {name} has {objects} training object(s) for {folds} "
                f"folds; expected at least one a fold: {fewer}, or leave the class out with --where"
            )
