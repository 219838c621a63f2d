"""Which covariates set one group apart from another, and which of these smell of a shortcut.

A defect (a gap, a seam) is no property of an object: any excess counts. A number of the frame
(background, noise, position) may go with the object's own light, so what counts is what is left
once flux, size and shape are taken into account. A number of the object or of the catalogue may
be the very property wanted: it is reported, never called a shortcut.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
from scipy.stats import mannwhitneyu

from skytwin.answers.audit_covariates import CATALOGUE
from skytwin.answers.audit_images import DEFECT, FRAME, OBJECT
from skytwin.answers.audit_tests import Effects, effects, explained, scores
from skytwin.errors import UsageError

__all__ = ["Comparison", "Rules", "Verdict", "compare"]

Verdict = Literal[
    "shortcut", "with the object", "shared", "matches only", "references only", "no difference"
]

# Less of these is no artefact.
_ONE_SIDED = frozenset(
    ("gaps", "gaps at border", "seam step", "seam line", "zeros", "saturated", "background tilt")
)


@dataclass(frozen=True, kw_only=True)
class Rules:
    """When a difference counts.

    Attributes
    ----------
    effect : float
        Smallest Cliff's delta, of either sign. A third is 'medium' (Romano et al. 2006).
    defect_effect : float
        The same for defects, which a sound image does not have at all.
    alpha : float
        Largest family-wise p-value.
    level : float
        Coverage of the intervals.
    permutations : int
    """

    effect: float = 0.33
    defect_effect: float = 0.1
    alpha: float = 0.01
    level: float = 0.95
    permutations: int = 1999

    def __post_init__(self) -> None:
        for name, low, high in (
            ("effect", 0.0, 1.0),
            ("defect_effect", 0.0, 1.0),
            ("alpha", 0.0, 1.0),
            ("level", 0.0, 1.0),
        ):
            value = getattr(self, name)
            if not low < value < high:
                raise UsageError(f"{name} {value}; expected a number between 0 and 1")
        needed = int(np.ceil(1 / self.alpha)) - 1
        if self.permutations < max(99, needed):
            raise UsageError(
                f"permutations {self.permutations}; alpha {self.alpha:g} takes at least "
                f"{max(99, needed)}"
            )


@dataclass(frozen=True, eq=False, kw_only=True)
class Comparison:
    """Two groups in every covariate.

    Attributes
    ----------
    table : pyarrow.Table
        One row per covariate: ``covariate``, ``kind``; ``matches``, ``controls`` (medians);
        ``delta``, ``lower``, ``upper`` (Cliff's delta with its interval); ``p``, ``p_adjusted``
        (family-wise); ``left``, ``p_left`` (delta and its family-wise p once the objects' own
        light is taken into account; null but for numbers of the frame that differ);
        ``references`` (delta of the references; null where unknown); ``verdict``.
    """

    table: pa.Table

    def named(self, *verdicts: Verdict) -> list[str]:
        """Covariates with one of these verdicts, the largest effect first."""
        rows = [r for r in self.table.to_pylist() if r["verdict"] in verdicts]
        return [r["covariate"] for r in sorted(rows, key=lambda r: -abs(r["delta"]))]

    def row(self, covariate: str) -> dict[str, object]:
        """What is said of one covariate."""
        return next(r for r in self.table.to_pylist() if r["covariate"] == covariate)


def compare(
    names: Sequence[str],
    kinds: Sequence[str],
    one: np.ndarray,
    other: np.ndarray,
    references: np.ndarray | None,
    rules: Rules,
    seed: int,
) -> Comparison:
    """Compare a group with another in all covariates.

    Parameters
    ----------
    names, kinds : sequence of str, length p
    one, other : ndarray, shapes (n, p) and (m, p)
    references : ndarray, shape (r, p), or None
        Of the references, NaN where unknown. None: there is no such thing, and a difference needs
        no confirmation.
    rules : Rules
    seed : int
        Of permutations and forest.
    """
    found = effects(one, other, level=rules.level, permutations=rules.permutations, seed=seed)
    left = _left(np.array(kinds), one, other, found, rules, seed)
    if references is None:
        lean = np.where(np.isnan(found.delta), np.nan, found.delta)
    else:
        lean = _lean(references, other)
    known = references is not None
    columns: dict[str, list[object]] = {"references": [], "verdict": []}
    for place, (name, kind) in enumerate(zip(names, kinds, strict=True)):
        said = _verdict(name, kind, place, found, left, lean, rules)
        if said == "no difference" and kind == DEFECT and references is not None:
            said = _of_references(references[:, place], other[:, place], rules)
        columns["references"].append(_number(lean[place]) if known else None)
        columns["verdict"].append(said)
    table = pa.table(
        {
            "covariate": list(names),
            "kind": list(kinds),
            "matches": _medians(one),
            "controls": _medians(other),
            "delta": pa.array(found.delta, from_pandas=True),
            "lower": pa.array(found.lower, from_pandas=True),
            "upper": pa.array(found.upper, from_pandas=True),
            "p": found.p,
            "p_adjusted": found.p_adjusted,
            "left": pa.array(left[0], from_pandas=True),
            "p_left": pa.array(left[1], from_pandas=True),
            "references": pa.array(columns["references"], pa.float64()),
            "verdict": columns["verdict"],
        }
    )
    return Comparison(table=table)


def _of_references(references: np.ndarray, controls: np.ndarray, rules: Rules) -> Verdict:
    """Whether references share a defect that the list has not followed (Mann & Whitney 1947)."""
    own, others = references[np.isfinite(references)], controls[np.isfinite(controls)]
    if not (len(own) and len(others)):
        return "no difference"
    p = mannwhitneyu(own, others, alternative="greater").pvalue
    defects = 4  # that are looked for, so the smallest of as many p-values counts
    return "references only" if p <= rules.alpha / defects else "no difference"


def _medians(values: np.ndarray) -> pa.Array:
    medians = [np.median(v[np.isfinite(v)]) if np.isfinite(v).any() else np.nan for v in values.T]
    return pa.array(np.array(medians, dtype=np.float64), from_pandas=True)


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _lean(references: np.ndarray, controls: np.ndarray) -> np.ndarray:
    """Cliff's delta of the references over the controls, (p,), NaN where unknown."""
    placed = 2 * scores(references, controls) - 1
    known = np.isfinite(placed)
    count = known.sum(axis=0)
    total = np.where(known, placed, 0.0).sum(axis=0)
    mean: np.ndarray = np.full(len(count), np.nan)
    np.divide(total, count, out=mean, where=count > 0)
    return mean


def _left(
    kinds: np.ndarray,
    one: np.ndarray,
    other: np.ndarray,
    found: Effects,
    rules: Rules,
    seed: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Delta and family-wise p of frame covariates beyond the object's own, each (p,).

    Only of those that differ at all: NaN for the others.
    """
    delta, p = np.full(len(kinds), np.nan), np.full(len(kinds), np.nan)
    frame = (kinds == FRAME) & _differs(found, rules.effect, rules.alpha)
    own = kinds == (OBJECT if (kinds == OBJECT).any() else CATALOGUE)
    usable = own & np.isfinite(other).any(axis=0) & np.isfinite(one).any(axis=0)
    if not (frame.any() and usable.any()):
        return delta, p
    rest = explained(
        (one[:, usable], other[:, usable]), (one[:, frame], other[:, frame]), seed=seed
    )
    left = effects(*rest, level=rules.level, permutations=rules.permutations, seed=seed)
    delta[frame], p[frame] = left.delta, left.p_adjusted
    return delta, p


def _differs(found: Effects, least: float, alpha: float) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return np.asarray((np.abs(found.delta) >= least) & (found.p_adjusted <= alpha))


def _verdict(
    name: str,
    kind: str,
    place: int,
    found: Effects,
    left: tuple[np.ndarray, np.ndarray],
    lean: np.ndarray,
    rules: Rules,
) -> Verdict:
    delta = found.delta[place]
    least = rules.defect_effect if kind == DEFECT else rules.effect
    if not (abs(delta) >= least and found.p_adjusted[place] <= rules.alpha):
        return "no difference"
    if delta < 0 and name in _ONE_SIDED:
        return "no difference"
    sign = np.sign(delta)
    remains, p_left = left[0][place], left[1][place]
    if (
        kind == FRAME
        and np.isfinite(remains)
        and not (sign * remains >= least and p_left <= rules.alpha)
    ):
        return "with the object"
    # Unknown references cannot acquit: what the matches share is then said as it is.
    alike = not np.isfinite(lean[place]) or sign * lean[place] >= least
    if not alike:
        return "matches only"
    return "shortcut" if kind in (DEFECT, FRAME) else "shared"
