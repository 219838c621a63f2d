"""Are the matches alike for a reason that the astronomer wants?

Matches are compared with random objects of the same survey in every number that is at hand; see
``docs/explanation/audit.md`` for what each verdict means, and when not to believe it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from skytwin.answers.audit_groups import Comparison, Rules, compare
from skytwin.answers.audit_purity import matched_purity
from skytwin.answers.audit_sample import FEWEST, Measured, Sample, draw, measure
from skytwin.answers.audit_stability import measure_stability
from skytwin.answers.audit_text import audit_lines
from skytwin.answers.search import Matches
from skytwin.errors import DataError, SkytwinError, UsageError
from skytwin.images import arrow
from skytwin.images.cutouts import Cutouts
from skytwin.images.where import positive_rows

if TYPE_CHECKING:
    from astropy.table import Table

__all__ = ["Audit", "audit"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Audit:
    """What the matches have in common beside what was asked for.

    Attributes
    ----------
    matches : Matches
        What was audited.
    differences : Comparison
        Matches against random objects of the same survey, covariate by covariate.
    labels : Comparison or None
        Labelled positives against labelled others: what a purity cannot tell from the class.
    purity : pyarrow.Table or None
        Purity against controls alike in each covariate; see `matched_purity`.
    stability : pyarrow.Table or None
        Share of the first matches that stays; see `measure_stability`.
    measured, controls : int
        Matches and random objects that were measured.
    settings : dict
        As recorded in manifests.
    notes : tuple of str
        What could not be done, and what a reader should know.
    """

    matches: Matches
    differences: Comparison
    labels: Comparison | None
    purity: pa.Table | None
    stability: pa.Table | None
    measured: int
    controls: int
    settings: dict[str, Any]
    notes: tuple[str, ...]

    @property
    def shortcuts(self) -> list[str]:
        """Covariates that references and matches share and that no object should decide."""
        return self.differences.named("shortcut")

    @property
    def shared(self) -> list[str]:
        """Covariates of the objects that references and matches share: wanted, or not?"""
        return self.differences.named("shared")

    @property
    def in_labels(self) -> list[str]:
        """Covariates of the frame that come with the label itself."""
        return self.labels.named("shortcut") if self.labels is not None else []

    def __repr__(self) -> str:
        found = ", ".join(self.shortcuts) or "none"
        return f"Audit({self.measured} matches, {self.controls} controls, shortcuts: {found})"

    @property
    def summary(self) -> str:
        """The findings as lines of text."""
        return "\n".join(audit_lines(self))

    def to_astropy(self) -> Table:
        """The differences as an astropy table."""
        return arrow.to_astropy(self.differences.table, meta=self.describe())

    def to_pandas(self) -> Any:
        """The differences as a pandas DataFrame."""
        return self.differences.table.to_pandas()

    def describe(self) -> dict[str, str]:
        """What the audit says and where it comes from, for a table's header."""
        return {
            **self.matches.describe(),
            "skytwin": "audit",
            "shortcuts": ", ".join(self.shortcuts) or "none",
            **{f"audit_{name}": str(value) for name, value in self.settings.items()},
        }


def audit(
    matches: Matches,
    *,
    positive: str | Sequence[str] | None = None,
    cutouts: Cutouts | None = None,
    controls: int = 1000,
    stability: int = 20,
    angle: float = 33.0,
    rules: Rules | None = None,
    weights: str | Path | None = None,
    seed: int = 0,
    quiet: bool = False,
) -> Audit:
    """Look for what the matches have in common beside what was asked for.

    Parameters
    ----------
    matches : Matches
        At least 10; of more than 1000, a random 1000 are measured.
    positive : str or sequence of str, optional
        Conditions that name the labelled positives, as in `skytwin.purity`: adds the purity
        against matched controls, and what the labels themselves go with.
    cutouts : Cutouts, optional
        Where the images are, if they were moved. Without any, catalogue columns only.
    controls : int
        Random objects to compare with, at least 10.
    stability : int
        First matches that are encoded again after each change; 0 leaves that out.
    angle : float
        Of one of the turns, degrees.
    rules : Rules, optional
        When a difference counts.
    weights : path, optional
        Of the encoder, if they are no longer where they were.
    seed : int
        Of the controls, permutations, forest and shifts.
    quiet : bool
        Show no progress.

    Returns
    -------
    Audit

    Raises
    ------
    UsageError
        A setting is out of range; a condition cannot be read.
    DataError
        Too few matches, too few objects besides, nothing to compare.
    """
    rules = rules or Rules()
    conditions = _conditions(positive)
    _check(matches, controls, stability, angle, seed)
    embeddings = matches.embeddings
    labels = positive_rows(embeddings.catalog, conditions) if conditions else None
    if labels is not None and not labels[0].any():
        raise DataError(f"no object fulfils {' or '.join(conditions)}; check the value's spelling")
    rng = np.random.default_rng(seed)
    sample = draw(matches, controls, labels, rng)
    notes: list[str] = []
    images = _images(matches, cutouts, notes)
    used = [*conditions, *filter(None, [matches.settings.get("where")])]
    found = measure(matches, sample, images, used, quiet)
    if not found.covariates.names:
        raise DataError(
            "nothing to compare: the catalogue has no column of numbers and there are no images; "
            "join a catalogue, or give --cutouts"
        )
    names, kinds = found.covariates.names, found.covariates.kinds
    one, other = found.of(sample.matches), found.of(sample.controls)
    settings = {
        "positive": list(conditions),
        "controls": controls,
        "stability": stability,
        "angle": angle,
        "seed": seed,
        **vars(rules),
    }
    differences = compare(names, kinds, one, other, found.references, rules, seed)
    inside = purity = None
    if labels is not None:
        yes, no = sample.positives, sample.negatives
        if min(len(yes), len(no)) >= FEWEST:
            inside = compare(names, kinds, found.of(yes), found.of(no), None, rules, seed)
        else:
            notes.append(f"{len(yes)} positives and {len(no)} others: too few to look into labels")
        purity = _purity(sample, found, labels, rules.level, seed, notes)
    stable = None
    if stability and images is not None:
        stable = _stability(
            matches, images, sample, notes, stability, angle, weights, rules.level, seed, quiet
        )
    if found.covariates.skipped:
        shown = [f"{name} ({why})" for name, why in found.covariates.skipped[:5]]
        more = len(found.covariates.skipped) - len(shown)
        notes.append(f"columns left out: {', '.join(shown)}{f', and {more} more' * (more > 0)}")
    return Audit(
        matches=matches,
        differences=differences,
        labels=inside,
        purity=purity,
        stability=stable,
        measured=len(sample.matches),
        controls=len(sample.controls),
        settings=settings,
        notes=tuple(notes),
    )


def _conditions(positive: str | Sequence[str] | None) -> tuple[str, ...]:
    if positive is None:
        return ()
    return (positive,) if isinstance(positive, str) else tuple(positive)


def _check(matches: Matches, controls: int, stability: int, angle: float, seed: int) -> None:
    if len(matches) < FEWEST:
        raise DataError(
            f"{len(matches)} match(es) to audit; expected at least {FEWEST}: ask for a longer list"
        )
    if controls < FEWEST:
        raise UsageError(f"controls {controls}; expected at least {FEWEST}")
    if stability < 0:
        raise UsageError(f"stability {stability}; expected 0 (none) or a number of matches")
    if not np.isfinite(angle):
        raise UsageError(f"angle {angle}; expected degrees")
    if seed < 0:
        raise UsageError(f"seed {seed}; expected 0 or more")


def _images(matches: Matches, cutouts: Cutouts | None, notes: list[str]) -> Cutouts | None:
    """The cutouts; without them, why."""
    if cutouts is not None:
        return cutouts
    try:
        return matches.embeddings.cutouts()
    except SkytwinError as reason:
        notes.append(f"without images, so catalogue columns only: {reason}")
        return None


def _purity(
    sample: Sample,
    found: Measured,
    labels: tuple[np.ndarray, np.ndarray],
    level: float,
    seed: int,
    notes: list[str],
) -> pa.Table | None:
    hits, known = labels
    mine = sample.matches[known[sample.matches]]
    if min(len(mine), len(sample.labelled)) < FEWEST:
        notes.append(
            f"{len(mine)} labelled matches and {len(sample.labelled)} labelled controls: too few "
            "for a purity against matched controls"
        )
        return None
    return matched_purity(
        found.covariates.names,
        (found.of(mine), hits[mine]),
        (found.of(sample.labelled), hits[sample.labelled]),
        level=level,
        seed=seed,
    )


def _stability(
    matches: Matches,
    images: Cutouts,
    sample: Sample,
    notes: list[str],
    top: int,
    angle: float,
    weights: str | Path | None,
    level: float,
    seed: int,
    quiet: bool,
) -> pa.Table | None:
    try:
        table, said = measure_stability(
            matches,
            images,
            sample.controls,
            top=top,
            angle=angle,
            weights=weights,
            level=level,
            seed=seed,
            quiet=quiet,
        )
    except UsageError as reason:  # the weights were moved: the rest still stands
        if weights is not None:
            raise
        notes.append(f"without a stability test: {reason}")
        return None
    notes.extend(said)
    return table
