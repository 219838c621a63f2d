"""Whom an audit measures: matches, random others, labelled ones, references."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from skytwin.answers.audit_covariates import Covariates, catalogue_covariates, image_covariates
from skytwin.answers.query import Reference
from skytwin.answers.ranking import eligible
from skytwin.answers.search import Matches
from skytwin.embeddings.table import ENCODER
from skytwin.encoders.encoder import ENCODER_FILE
from skytwin.errors import DataError
from skytwin.images.cutouts import Cutouts

__all__ = ["FEWEST", "Measured", "Sample", "cutout_rows", "draw", "measure"]

FEWEST = 10  # matches, and controls, below which a difference cannot be told from chance
_MOST = 1000  # matches that are measured
_LABELLED = 300  # positives, and as many others, whose labels are looked into


@dataclass(frozen=True, eq=False, kw_only=True)
class Sample:
    """Rows of the embedding that are measured, each (n,) int64, by what they are for."""

    matches: np.ndarray
    controls: np.ndarray
    labelled: np.ndarray
    positives: np.ndarray
    negatives: np.ndarray
    references: np.ndarray

    @property
    def rows(self) -> np.ndarray:
        """Every row once."""
        return np.unique(np.concatenate(list(vars(self).values())))


def draw(
    matches: Matches,
    controls: int,
    labels: tuple[np.ndarray, np.ndarray] | None,
    rng: np.random.Generator,
) -> Sample:
    """Choose whom to measure: controls come from what the search could have returned."""
    embeddings, settings = matches.embeddings, matches.settings
    keep, _ = eligible(
        embeddings,
        matches.references,
        same_arcsec=settings["same_arcsec"],
        where=settings["where"],
    )
    free = np.ones(len(embeddings), dtype=bool) if keep is None else keep.copy()
    listed = np.asarray(matches.rows)[free[matches.rows]]
    rest = free.copy()
    rest[matches.rows] = False
    others = rng.permutation(np.flatnonzero(rest))
    if len(others) < FEWEST or len(listed) < FEWEST:
        raise DataError(
            f"{len(listed)} matches and {len(others)} objects besides, references left out; "
            f"expected at least {FEWEST} of each: ask for "
            f"{'a shorter' if len(others) < FEWEST else 'a longer'} list"
        )
    chosen = rng.permutation(listed)[:_MOST] if len(listed) > _MOST else listed
    none = np.empty(0, dtype=np.int64)
    labelled = positives = negatives = none
    if labels is not None:
        hits, known = labels
        labelled = others[known[others]][:controls]
        every = rng.permutation(np.flatnonzero(free & known))
        positives = every[hits[every]][:_LABELLED]
        negatives = every[~hits[every]][:_LABELLED]
    rows = [
        embeddings.index[r.id]
        for r in matches.references
        if r.id is not None and r.id in embeddings.index and not r.negative
    ]
    return Sample(
        matches=chosen,
        controls=others[:controls],
        labelled=labelled,
        positives=positives,
        negatives=negatives,
        references=np.array(rows, dtype=np.int64),
    )


@dataclass(frozen=True, eq=False, kw_only=True)
class Measured:
    """Covariates of all rows of a sample, and of the references."""

    rows: np.ndarray
    covariates: Covariates
    references: np.ndarray

    def of(self, rows: np.ndarray) -> np.ndarray:
        """Of some of these rows, (n, p)."""
        return np.asarray(self.covariates.values[np.searchsorted(self.rows, rows)])


def measure(
    matches: Matches,
    sample: Sample,
    images: Cutouts | None,
    used: Sequence[str],
    quiet: bool,
) -> Measured:
    """The covariates of a sample: the catalogue's, and the images' where there are any.

    ``used`` are the conditions whose columns say nothing new.
    """
    rows = sample.rows
    whole = catalogue_covariates(matches.embeddings.catalog, rows, used)
    strangers = _with_images(matches.references) if images is not None else []
    if images is not None:
        seen = image_covariates(
            images,
            cutout_rows(matches, images, rows),
            crop=_crop(matches),
            extra=[r.image for r in strangers if r.image is not None],
            quiet=quiet,
        )
        # Images given as references have no catalogue row.
        blank = np.full((len(strangers), len(whole.names)), np.nan)
        whole = Covariates(
            names=whole.names,
            kinds=whole.kinds,
            values=np.concatenate([whole.values, blank]),
            skipped=whole.skipped,
        ).beside(seen)
    values = whole.values
    own = values[np.searchsorted(rows, sample.references)]
    references = np.concatenate([own, values[len(rows) :]])
    constant = _constant(values)
    return Measured(
        rows=rows,
        covariates=Covariates(
            names=tuple(n for n, c in zip(whole.names, constant, strict=True) if not c),
            kinds=tuple(k for k, c in zip(whole.kinds, constant, strict=True) if not c),
            values=values[: len(rows), ~constant],
            skipped=whole.skipped,
        ),
        references=references[:, ~constant],
    )


def _constant(values: np.ndarray) -> np.ndarray:
    """Columns with no more than one value, (p,) bool."""
    return np.array([len(np.unique(v[np.isfinite(v)])) < 2 for v in values.T], dtype=bool)


def _with_images(references: Sequence[Reference]) -> list[Reference]:
    return [r for r in references if r.image is not None and not r.negative]


def _crop(matches: Matches) -> int | None:
    """Central pixels that the encoder looks at, read without opening its network."""
    folder = matches.embeddings.folder
    if folder is None:
        return None
    try:
        content = json.loads((folder / ENCODER / ENCODER_FILE).read_text(encoding="utf-8"))
        return int(content["prepare"]["crop"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def cutout_rows(matches: Matches, cutouts: Cutouts, rows: np.ndarray) -> np.ndarray:
    """Rows of the cutouts that belong to rows of the embedding."""
    names = matches.embeddings.ids[rows]
    return np.array([cutouts.index[str(name)] for name in names], dtype=np.int64)
