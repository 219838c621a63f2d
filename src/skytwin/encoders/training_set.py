"""Images of a training run: which rows train and which validate, prepared once and kept at hand.

Prepared images lie in one file of half-precision numbers in [0, 1] (kept to 0.0005), mapped into
memory: an epoch reads them in any order at the speed of the disk's cache, and decompression,
stretch and resize are paid once.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from skytwin.artefact import PARTS, json_bytes
from skytwin.encoders.balance import Balance, balanced, known_rows
from skytwin.encoders.recipe_settings import BalanceSettings, ValidationSettings
from skytwin.errors import DataError, UsageError, unknown
from skytwin.files import sync, write_atomically
from skytwin.images.columns import numbers
from skytwin.images.cutouts import Cutouts
from skytwin.images.folds import grouped_split
from skytwin.images.groups import shared_places, sky_groups
from skytwin.images.prepare import Prepare
from skytwin.images.where import matching_rows
from skytwin.progress import Progress

__all__ = ["Conditions", "Rows", "TrainingSet", "choose_rows", "prepare_images"]

_READ_ROWS = 256
_MEASURED = 2048  # images that mean and deviation of a channel are taken from
_PIXELS, _MEASURES = f"{PARTS}/pixels.npy", f"{PARTS}/pixels.json"
_WAIT_S = 6 * 3600


@dataclass(frozen=True, eq=False, kw_only=True)
class Conditions:
    """Catalogue columns a VDVAE is conditioned on, standardised.

    Attributes
    ----------
    names : tuple of str
        ``"COLUMN"`` or ``"log:COLUMN"``.
    mean, std : tuple of float
        Over the training rows.
    values : ndarray, shape (N, K), float32
        Standardised; of all rows of the cutouts.
    """

    names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    values: np.ndarray


@dataclass(frozen=True, eq=False, kw_only=True)
class Rows:
    """Rows of the cutouts, by what they are for.

    Attributes
    ----------
    train, validate : ndarray of int64
        Ascending.
    left_out : dict of str to int
        Rows that are neither, by reason.
    conditions : Conditions or None
    balance : Balance or None
    """

    train: np.ndarray
    validate: np.ndarray
    left_out: dict[str, int]
    conditions: Conditions | None
    balance: Balance | None = None

    def digest(self) -> str:
        """Hash over both sides."""
        digest = hashlib.sha256(self.train.tobytes() + b"|" + self.validate.tobytes())
        return digest.hexdigest()


@dataclass(frozen=True, eq=False, kw_only=True)
class TrainingSet:
    """Prepared images, of the training rows and then of the validation rows.

    Attributes
    ----------
    images : ndarray, shape (n, C, size, size), float16
        Mapped; in [0, 1], NaN without data where the method masks it.
    count : int
        Training images: the first ones.
    mean, std : tuple of float
        Of each channel, over a sample of the training images.
    condition : ndarray, shape (n, K), float32, or None
    rate : ndarray, shape (count,), or None
        Draws of each training image in an epoch.
    """

    images: np.ndarray
    count: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    condition: np.ndarray | None
    rate: np.ndarray | None = None


def choose_rows(
    cutouts: Cutouts,
    settings: ValidationSettings,
    *,
    seed: int,
    where: str | None = None,
    exclude: Sequence[tuple[str, np.ndarray | None]] = (),
    exclude_arcsec: float = 5.0,
    conditions: Sequence[str] = (),
    balance: BalanceSettings | None = None,
) -> Rows:
    """Which rows train and which validate.

    Parameters
    ----------
    cutouts : Cutouts
    settings : ValidationSettings
        Share of the validation, and what counts as one place on the sky: objects at one place
        stay on one side.
    seed : int
        Of the split.
    where : str, optional
        SQL condition on the catalogue: only these.
    exclude : sequence of (name, positions)
        Sets to be left out, such as a labelled one that the encoder will be tested on; RA and
        Dec in degrees, shape (M, 2).
    exclude_arcsec : float
        What counts as the same place.
    conditions : sequence of str
        Rows without these numbers are left out.
    balance : BalanceSettings, optional
        Rows without a value in its column are left out.

    Raises
    ------
    UsageError
        Positions are needed and not there; nothing is left to train on.
    """
    keep = np.ones(len(cutouts), dtype=bool)
    left_out: dict[str, int] = {}

    def leave_out(rows: np.ndarray, why: str) -> None:
        left_out[why] = int((rows & keep).sum())
        keep[rows] = False

    if where is not None:
        leave_out(~matching_rows(cutouts.catalog, where), f"not {where}")
    here = cutouts.positions
    for name, positions in exclude:
        for what, sky in ((str(cutouts.folder), here), (name, positions)):
            if sky is None or not np.isfinite(sky).all(axis=1).any():
                raise UsageError(
                    f"{what!r} has no sky positions, so what both sets show cannot be told; leave "
                    "--exclude out, or ingest with a catalogue that has RA and Dec"
                )
        leave_out(shared_places(positions, here, exclude_arcsec, len(cutouts)), f"in {name}")
    raw = _condition_values(cutouts, conditions)
    if raw is not None:
        leave_out(~np.isfinite(raw).all(axis=1), f"without {', '.join(conditions)}")
    if balance is not None and balance.column is not None:
        known = known_rows(cutouts.catalog, balance.column)
        leave_out(~known, f"without {balance.column}")
    rows = np.flatnonzero(keep)
    if len(rows) < 2:
        raise UsageError(f"{len(rows)} of {len(cutouts)} images are left to train on; need 2")
    validate = np.zeros(len(rows), dtype=bool)
    if settings.share > 0:
        places = None if here is None else here[rows]
        validate = grouped_split(
            sky_groups(places, settings.group_arcsec, len(rows)), settings.share, seed
        )
    train = rows[~validate]
    return Rows(
        train=train,
        validate=rows[validate],
        left_out=left_out,
        conditions=None if raw is None else _standardised(raw, train, tuple(conditions)),
        balance=None
        if balance is None or balance.column is None
        else balanced(cutouts.catalog, balance, train),
    )


def _condition_values(cutouts: Cutouts, names: Sequence[str]) -> np.ndarray | None:
    columns = []
    for name in names:
        column = name.removeprefix("log:")
        if column not in cutouts.catalog.column_names:
            raise unknown("column", column, cutouts.catalog.column_names)
        values = numbers(cutouts.catalog, column)
        if name.startswith("log:"):
            with np.errstate(divide="ignore", invalid="ignore"):
                values = np.log(values)
        columns.append(values)
    return np.stack(columns, axis=1) if columns else None


def _standardised(raw: np.ndarray, train: np.ndarray, names: tuple[str, ...]) -> Conditions:
    mean, std = raw[train].mean(axis=0), raw[train].std(axis=0)
    for name, deviation in zip(names, std, strict=True):
        if deviation == 0:
            raise UsageError(f"column {name} is the same for all training images; leave it out")
    with np.errstate(invalid="ignore"):
        values = ((raw - mean) / std).astype(np.float32)
    return Conditions(
        names=names, mean=tuple(map(float, mean)), std=tuple(map(float, std)), values=values
    )


def prepare_images(
    cutouts: Cutouts,
    rows: Rows,
    prepare: Prepare,
    folder: Path,
    *,
    masked: bool,
    leader: bool = True,
    quiet: bool = False,
) -> TrainingSet:
    """Prepare every image once, into a file of the run's folder; or open what is there.

    Parameters
    ----------
    cutouts : Cutouts
    rows : Rows
    prepare : Prepare
        Without mean and deviation.
    folder : Path
        The run's.
    masked : bool
        Keep missing pixels as NaN.
    leader : bool
        False in all but one of several processes: they wait for the file.
    quiet : bool
        Show no progress.
    """
    every = np.concatenate([rows.train, rows.validate])
    identity = {
        "rows": rows.digest(),
        "prepare": prepare.to_dict(),
        "cutouts": cutouts.manifest.fingerprint,
        "masked": masked,
    }
    found = _measures(folder, identity)
    if found is None and leader:
        found = _write_images(cutouts, every, len(rows.train), prepare, folder, identity, quiet)
    waited = time.monotonic()
    while found is None:
        if time.monotonic() - waited > _WAIT_S:
            raise DataError(f"waited for {str(folder / _PIXELS)!r} in vain; is process 0 alive?")
        time.sleep(0.2)
        found = _measures(folder, identity)
    values = rows.conditions.values[every] if rows.conditions is not None else None
    return TrainingSet(
        images=np.load(folder / _PIXELS, mmap_mode="r"),
        count=len(rows.train),
        mean=tuple(found["mean"]),
        std=tuple(found["std"]),
        condition=values,
        rate=None if rows.balance is None else rows.balance.rate,
    )


def _measures(folder: Path, identity: dict[str, Any]) -> dict[str, Any] | None:
    """What was written beside the pixels once they were whole, if it is of this very set."""
    try:
        held = json.loads((folder / _MEASURES).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    same = held.get("identity") == json.loads(json.dumps(identity))
    return held if same and (folder / _PIXELS).is_file() else None


def _write_images(
    cutouts: Cutouts,
    every: np.ndarray,
    count: int,
    prepare: Prepare,
    folder: Path,
    identity: dict[str, Any],
    quiet: bool,
) -> dict[str, Any]:
    path = folder / _PIXELS
    path.parent.mkdir(exist_ok=True)
    shape = (len(every), prepare.channels, prepare.size, prepare.size)
    images = np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=shape)
    # In the order of the file they are read from, wherever in this one they belong.
    order = np.argsort(every, kind="stable")
    with Progress("prepare", len(every), quiet=quiet) as bar:
        for start in range(0, len(every), _READ_ROWS):
            places = order[start : start + _READ_ROWS]
            flux = cutouts.flux(every[places])
            x = prepare(flux)
            if identity["masked"]:
                x[prepare.gaps(flux)] = np.nan
            images[places] = x
            bar.advance(len(places))
    images.flush()
    del images
    sync(path)
    sample = np.load(path, mmap_mode="r")[: min(count, _MEASURED)].astype(np.float64)
    mean = np.nanmean(sample, axis=(0, 2, 3))
    std = np.nanstd(sample, axis=(0, 2, 3))
    if not (std > 0).all():
        raise DataError(
            "the images are all alike once prepared; check input.crop and input.stretch"
        )
    held = {"identity": identity, "mean": mean.tolist(), "std": std.tolist()}
    write_atomically(folder / _MEASURES, json_bytes(held))
    return held
