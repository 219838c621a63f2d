"""The real images that generated ones are held against.

A generator must be compared with images it was not trained on, and copies are looked for among
those it was. Both sides of the split are found again from what the encoder's folder says of its
training; where that cannot be, another split is made and said so.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from skytwin.artefact import Manifest
from skytwin.embeddings.places import places_of
from skytwin.encoders.recipe import Recipe
from skytwin.encoders.training_set import choose_rows
from skytwin.errors import DataError, SkytwinError, UsageError
from skytwin.images.columns import numbers
from skytwin.images.compare import require_same_scale
from skytwin.images.cutouts import Cutouts
from skytwin.images.folds import grouped_split
from skytwin.images.groups import first_rows, sky_groups
from skytwin.images.prepare import Prepare

__all__ = ["RealImages", "column_values", "find_real", "open_real", "prepared_blocks"]

_BLOCK = 256
_GROUP_ARCSEC = 2.0
_FEWEST = 20


@dataclass(frozen=True, eq=False, kw_only=True)
class RealImages:
    """Rows of a set of cutouts, by what they are for.

    Attributes
    ----------
    cutouts : Cutouts
    among : ndarray of int64
        Where nearest images are looked for: the training images, if they are known.
    held : ndarray of int64
        Compared with the samples: images that were not trained on, one of each place on the sky.
    trained : bool
        Whether ``among`` were trained on and ``held`` were not.
    note : str
        What to beware of; empty where the split is that of the training.
    """

    cutouts: Cutouts
    among: np.ndarray
    held: np.ndarray
    trained: bool
    note: str

    def digest(self) -> str:
        """SHA-256 of which images these are."""
        found = hashlib.sha256(self.cutouts.manifest.fingerprint.encode())
        for rows in (self.among, self.held):
            found.update(np.array([len(rows), *rows], dtype="<i8").tobytes())
        return found.hexdigest()


def find_real(
    manifest: Manifest,
    prepare: Prepare,
    pixel_scale: float | None,
    *,
    data: str | Path | None = None,
    compared: int = 500,
    most: int = 20_000,
    seed: int = 0,
) -> RealImages:
    """Open the real images and split them.

    Parameters
    ----------
    manifest : Manifest
        The encoder's.
    prepare : Prepare
        What the encoder does to flux.
    pixel_scale : float or None
        Of the images it was trained on.
    data : path, optional
        Cutouts; by default those it was trained on.
    compared : int
        At most so many are compared with the samples.
    most : int
        At most so many are searched for the nearest.
    seed : int
        Of the choice.

    Raises
    ------
    UsageError
        The cutouts it was trained on are no longer there and no others are given.
    Mismatch
        Other bands, pixel scale, or images that are too small.
    DataError
        Fewer than 40 images.
    """
    cutouts = open_real(manifest, data)
    if cutouts.bands != prepare.bands:
        raise UsageError(
            f"{str(cutouts.folder)!r} has bands {', '.join(cutouts.bands)}; the encoder takes "
            f"{', '.join(prepare.bands)}"
        )
    require_same_scale(cutouts.pixel_scale, pixel_scale, str(cutouts.folder))
    if len(cutouts) < 2 * _FEWEST:
        raise DataError(
            f"{len(cutouts)} images in {str(cutouts.folder)!r}; a comparison needs {2 * _FEWEST}"
        )
    among, held, note = _split(manifest, cutouts, seed)
    rng = np.random.default_rng([seed, 11])
    places = cutouts.positions
    held = held[
        first_rows(sky_groups(None if places is None else places[held], _GROUP_ARCSEC, len(held)))
    ]
    return RealImages(
        cutouts=cutouts,
        among=_some(among, most, rng),
        held=_some(held, compared, rng),
        trained=not note,
        note=note,
    )


def open_real(manifest: Manifest, data: str | Path | None) -> Cutouts:
    """The cutouts that an encoder was trained on, or those given.

    Raises
    ------
    UsageError
        They are no longer there and no others are given.
    """
    if data is not None:
        return Cutouts(data)
    parent = manifest.parents.get("cutouts")
    if parent is None or not Path(parent.path).is_dir():
        where = repr(parent.path) if parent else "any place it knows of"
        raise UsageError(
            f"the cutouts the encoder was trained on are no longer at {where}; say where, or give "
            "others, with --data CUTOUTS"
        )
    return Cutouts(parent.path)


def _split(manifest: Manifest, cutouts: Cutouts, seed: int) -> tuple[np.ndarray, np.ndarray, str]:
    """Training and held-out rows, and what is wrong with them."""
    parent = manifest.parents.get("cutouts")
    told = manifest.recipe
    if parent is None or parent.fingerprint != cutouts.manifest.fingerprint:
        return *_anew(cutouts, seed), (
            "these are not the cutouts it was trained on: nearest images and copies are those of "
            "this set"
        )
    recipe = Recipe.from_dict(told["recipe"], "the encoder's recipe")
    try:
        exclude = [places_of(Path(path))[:2] for path in manifest.inputs.get("exclude", [])]
    except SkytwinError as error:
        return *_anew(cutouts, seed), f"the split of the training cannot be had again ({error})"
    rows = choose_rows(
        cutouts,
        recipe.validation,
        seed=told["seed"],
        where=told["where"],
        exclude=exclude,
        exclude_arcsec=told["exclude_arcsec"] or 5.0,
        conditions=recipe.conditions,
        balance=recipe.balance,
    )
    if rows.digest() != told["rows"]:
        return *_anew(cutouts, seed), (
            "the split of the training cannot be had again: the compared images may have been "
            "trained on"
        )
    if len(rows.validate) < _FEWEST:
        train, held = _anew(cutouts, seed, rows.train)
        return (
            train,
            held,
            (
                f"{len(rows.validate)} images were held out of the training, too few: the compared "
                "images were trained on, which flatters"
            ),
        )
    return rows.train, rows.validate, ""


def _anew(
    cutouts: Cutouts, seed: int, rows: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    rows = np.arange(len(cutouts)) if rows is None else rows
    places = cutouts.positions
    groups = sky_groups(None if places is None else places[rows], _GROUP_ARCSEC, len(rows))
    held = grouped_split(groups, 0.5 if len(rows) < 10 * _FEWEST else 0.2, seed)
    return rows[~held], rows[held]


def _some(rows: np.ndarray, most: int, rng: np.random.Generator) -> np.ndarray:
    if len(rows) <= most:
        return np.sort(rows)
    return np.sort(rng.choice(rows, most, replace=False))


def prepared_blocks(
    cutouts: Cutouts, rows: np.ndarray, prepare: Prepare
) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """Yield (places among the rows, prepared images, where they have data), a block at a time."""
    for start in range(0, len(rows), _BLOCK):
        place = slice(start, min(start + _BLOCK, len(rows)))
        flux = cutouts.flux(rows[place])
        yield place, prepare(flux), ~prepare.gaps(flux)


def column_values(cutouts: Cutouts, columns: tuple[str, ...]) -> np.ndarray:
    """Columns of the catalogue, (N, K) float64."""
    return np.stack([numbers(cutouts.catalog, name) for name in columns], axis=1)
