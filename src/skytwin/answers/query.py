"""References: the objects a search starts from, however they are given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias

import erfa
import numpy as np

from skytwin.embeddings.ranker import check_emphasis
from skytwin.embeddings.table import Embeddings, require_comparable
from skytwin.errors import Mismatch, UsageError, unknown

__all__ = ["Like", "Reference", "reference_at", "resolve", "same_object"]

Like: TypeAlias = str | Path | tuple[float, float] | np.ndarray


@dataclass(frozen=True, eq=False, kw_only=True)
class Reference:
    """One object to search from.

    Attributes
    ----------
    name : str
        What to call it.
    kind : str
        Where its vector comes from.
    vector : ndarray, shape (D,), float32
    id : str or None
        Its identifier, where it is a row of the embedding that is searched.
    ra, dec : float or None
        Sky position in degrees, where known.
    image : ndarray or None, shape (C, H, W), float32
        The flux of an image file, framed as the embedding's images are.
    bottom_up : bool
        Row 0 of that image is its lowest, as in FITS.
    negative : bool
        The search turns away from it.
    weight : float
        Its emphasis among the positive, or the negative, references.
    """

    name: str
    kind: Literal["object", "other embedding", "image", "vector"]
    vector: np.ndarray
    id: str | None = None
    ra: float | None = None
    dec: float | None = None
    image: np.ndarray | None = None
    bottom_up: bool = False
    negative: bool = False
    weight: float = 1.0

    @property
    def told(self) -> str:
        """As a manifest tells it: ``"object: NAME"``, ``"negative image: FILE"``."""
        return f"{'negative ' * self.negative}{self.kind}: {self.name}"


def resolve(
    embeddings: Embeddings,
    like: Like | Sequence[Like],
    *,
    unlike: Like | Sequence[Like] = (),
    emphasis: Sequence[float] | None = None,
    match_arcsec: float = 3.0,
    weights: str | Path | None = None,
) -> tuple[Reference, ...]:
    """Turn what a user names into reference vectors.

    Parameters
    ----------
    embeddings : Embeddings
        The set that will be searched.
    like : one or several of
        An id; ``(ra, dec)`` or ``"RA,DEC"`` in degrees (the nearest object); an image file
        (encoded as the set was); ``"OTHER_EMBEDDING:ID"``; a vector of D numbers. Text is
        tried in this order: id, file, position, other embedding.
    unlike : none, one or several of the same
        Negative references: what the search turns away from.
    emphasis : sequence of float, optional
        Weights of the positive references, 1 each by default.
    match_arcsec : float
        How far from a position its object may lie.
    weights : path, optional
        The encoder's weights, if they are no longer where they were.

    Returns
    -------
    tuple of Reference
        The positive ones first.

    Raises
    ------
    UnknownName
        No such id.
    UsageError
        No object at that position; the text is none of these; an object is positive and negative.
    Mismatch
        An image or embedding of other bands, scale, stretch or encoder.
    """
    ahead = _several(like)
    if not ahead:
        raise UsageError("no reference; give at least one id, position, image or vector")
    found = [_resolve_one(embeddings, one, match_arcsec, weights) for one in ahead]
    emphases = check_emphasis(emphasis, len(found))
    positives = [replace(r, weight=float(w)) for r, w in zip(found, emphases, strict=True)]
    negatives = [
        replace(_resolve_one(embeddings, one, match_arcsec, weights), negative=True)
        for one in _several(unlike)
    ]
    _refuse_both(positives, negatives)
    return (*positives, *negatives)


def _several(like: Like | Sequence[Like]) -> list[Like]:
    if isinstance(like, (str, Path)) or _is_position(like) or _is_vector(like):
        return [like]  # type: ignore[list-item]
    return list(like)


def _refuse_both(positives: Sequence[Reference], negatives: Sequence[Reference]) -> None:
    both = {r.name for r in positives if r.id} & {r.name for r in negatives if r.id}
    if both:
        raise UsageError(f"{min(both)!r} is given as a positive and as a negative reference")


def same_object(
    embeddings: Embeddings,
    references: Sequence[Reference],
    same_arcsec: float,
    rows: np.ndarray | None = None,
) -> np.ndarray:
    """Rows that are a reference itself, or lie at its place on the sky, (N,) or (rows,) bool."""
    some = slice(None) if rows is None else rows
    own = np.arange(len(embeddings))[some]
    same = np.zeros(len(own), dtype=bool)
    positions = None if embeddings.positions is None else embeddings.positions[some]
    for reference in references:
        # By name too: the two halves of a survey may share an object, and a reference from one
        # must not be counted in the other.
        if reference.id is not None and reference.id in embeddings.index:
            same |= own == embeddings.index[reference.id]
        if positions is not None and reference.ra is not None and reference.dec is not None:
            # An angle is at least the difference in declination, which takes a tenth of the time.
            reach = same_arcsec / 3600 * (1 + 1e-9) + 1e-12
            near = np.flatnonzero(np.abs(positions[:, 1] - reference.dec) <= reach)
            apart = separation_arcsec(positions[near], reference.ra, reference.dec)
            same[near] |= apart <= same_arcsec
    return same


def separation_arcsec(positions: np.ndarray, ra: float, dec: float) -> np.ndarray:
    """Angles between positions (N, 2) and one point, all in degrees, as arcsec; NaN stays."""
    a, b = np.radians(positions).T
    apart: np.ndarray = np.degrees(erfa.seps(a, b, np.radians(ra), np.radians(dec)))
    return apart * 3600.0


def _is_position(like: object) -> bool:
    return (
        isinstance(like, tuple)
        and len(like) == 2
        and all(isinstance(value, (int, float, np.number)) for value in like)
    )


def _is_vector(like: object) -> bool:
    return isinstance(like, np.ndarray) and like.ndim == 1 and like.dtype.kind in "fiu"


def _resolve_one(
    embeddings: Embeddings, like: Like, match_arcsec: float, weights: str | Path | None
) -> Reference:
    if isinstance(like, np.ndarray):
        if like.shape != (embeddings.dim,):
            raise Mismatch(f"vector of shape {like.shape}; expected ({embeddings.dim},)")
        return Reference(name="vector", kind="vector", vector=like.astype(np.float32))
    if isinstance(like, tuple):
        return _at_position(embeddings, float(like[0]), float(like[1]), match_arcsec)
    if isinstance(like, Path):
        return _from_image(embeddings, like, weights)
    text = str(like).strip()
    if text in embeddings.index:
        return reference_at(embeddings, embeddings.index[text])
    if _is_file(text):
        return _from_image(embeddings, Path(text), weights)
    if (position := _parse_position(text)) is not None:
        return _at_position(embeddings, *position, match_arcsec)
    folder, colon, name = text.partition(":")
    if colon and _is_folder(folder):
        other = Embeddings.open(folder)
        require_comparable(embeddings, other)
        found = reference_at(other, other.index[name])
        return Reference(**{**vars(found), "name": text, "kind": "other embedding", "id": None})
    from skytwin.images.readers import IMAGE_SUFFIXES

    if text.lower().endswith(tuple(IMAGE_SUFFIXES)):
        raise UsageError(f"no image file {text!r}")
    raise unknown(
        "id",
        text,
        embeddings.ids,
        "a reference is an id, RA,DEC in degrees, an image file or EMBEDDING:ID",
    )


def _from_image(embeddings: Embeddings, path: Path, weights: str | Path | None) -> Reference:
    # Readers and networks are slow to import, and most references are objects of the set.
    from skytwin.answers.query_image import encode_file

    made = encode_file(embeddings, path, weights)
    return Reference(
        name=path.name,
        kind="image",
        vector=made.vector,
        ra=made.ra,
        dec=made.dec,
        image=made.flux,
        bottom_up=made.bottom_up,
    )


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except OSError:  # too long for a file's name
        return False


def _is_folder(text: str) -> bool:
    try:
        return Path(text).is_dir()
    except OSError:
        return False


def _parse_position(text: str) -> tuple[float, float] | None:
    parts = text.replace(",", " ").split()
    if len(parts) != 2:
        return None
    try:
        return float(parts[0]), float(parts[1])
    except ValueError:
        return None


def reference_at(embeddings: Embeddings, row: int, *, negative: bool = False) -> Reference:
    """An object of the embedding as a reference."""
    ra = dec = None
    if embeddings.positions is not None and np.isfinite(embeddings.positions[row]).all():
        ra, dec = (float(value) for value in embeddings.positions[row])
    (name,) = embeddings.names([row])
    vector = embeddings.vectors[row]
    return Reference(
        name=name, kind="object", vector=vector, id=name, ra=ra, dec=dec, negative=negative
    )


def _at_position(embeddings: Embeddings, ra: float, dec: float, match_arcsec: float) -> Reference:
    if not match_arcsec >= 0:
        raise UsageError(f"match-arcsec {match_arcsec}; expected 0 or more")
    if not (-360.0 <= ra <= 360.0 and -90.0 <= dec <= 90.0):
        raise UsageError(f"position {ra}, {dec}; expected RA, Dec in degrees")
    if embeddings.positions is None:
        raise UsageError(
            "this embedding has no sky positions; name objects by id, or ingest with a catalogue "
            "that has RA and Dec"
        )
    apart = separation_arcsec(embeddings.positions, ra, dec)
    if np.isnan(apart).all():
        raise UsageError("no object of this embedding has a sky position; name one by id")
    row = int(np.nanargmin(apart))
    if apart[row] > match_arcsec:
        raise UsageError(
            f"no object within {match_arcsec:g} arcsec of {ra}, {dec}; the nearest, "
            f"{embeddings.names([row])[0]}, is {apart[row]:.1f} arcsec away: correct the "
            "position or widen --match-arcsec"
        )
    return reference_at(embeddings, row)
