"""What shapes the scores of outliers."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from skytwin.answers.outliers_scores import METHODS, check_methods
from skytwin.densities.flow import PRESETS
from skytwin.errors import UsageError

__all__ = ["OutlierSettings"]


@dataclass(frozen=True, kw_only=True)
class OutlierSettings:
    """What shapes the scores.

    Attributes
    ----------
    methods : tuple of str
        Of ``knn``, ``mahalanobis``, ``forest``, ``flow``.
    flow : str
        ``default``, ``paper`` (48 blocks of 2 x 512), or the folder of a fitted one.
    folds : int
        Parts of the reference, each scored by models fitted on the rest.
    positive : tuple of str
        ``column=value`` or SQL: what is known to be odd, to hold the scores against.
    where : str or None
        Only objects that fulfil this.
    reference_rows : int
        Where the set is its own reference and larger than this, about so many of its objects,
        drawn at random, are the reference.
    group_arcsec : float
        Entries nearer than this, or linked so, are one object.
    seed : int
    level : float
        Coverage of the intervals.
    """

    methods: tuple[str, ...] = METHODS
    flow: str = "default"
    folds: int = 5
    positive: tuple[str, ...] = ()
    where: str | None = None
    reference_rows: int = 100_000
    group_arcsec: float = 2.0
    seed: int = 0
    level: float = 0.95

    def __post_init__(self) -> None:
        check_methods(self.methods)
        if self.folds < 2:
            raise UsageError(f"folds {self.folds}; expected at least 2")
        if self.reference_rows < 1:
            raise UsageError(f"reference rows {self.reference_rows}; expected at least 1")
        if not 0 <= self.seed < 2**32 - self.folds:
            raise UsageError(f"seed {self.seed}; expected 0 to {2**32 - self.folds - 1}")
        if not 0 < self.level < 1:
            raise UsageError(f"interval level {self.level}; expected a number between 0 and 1")

    def as_dict(self) -> dict[str, Any]:
        """For a manifest; a preset's own numbers too."""
        found = asdict(self)
        if self.flow in PRESETS:
            found["flow_settings"] = asdict(PRESETS[self.flow])
        return found
