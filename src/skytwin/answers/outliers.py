"""Objects where hardly any others are: outliers of a set, or of one set against another.

Four methods score every object, and none is trusted alone: a flow gives high densities to simple
images of another kind (Nalisnick et al. 2019, arXiv 1810.09136), and in many dimensions an outlier
need not be where the density is low at all. No object is scored by a model that has seen it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from skytwin.answers.outliers_check import Checked, check_scores
from skytwin.answers.outliers_fit import encoder_of, score_sets
from skytwin.answers.outliers_scores import check_methods
from skytwin.answers.outliers_sets import ENSEMBLE, Part, Scored, joined, part_of
from skytwin.answers.outliers_settings import OutlierSettings
from skytwin.answers.resume import Steps
from skytwin.densities.flow import PRESETS, Flow, preset
from skytwin.densities.flow_store import open_flow, require_same_encoder
from skytwin.embeddings.table import Embeddings, require_comparable
from skytwin.errors import DataError, UsageError
from skytwin.images.folds import grouped_split
from skytwin.images.groups import shared_places
from skytwin.images.where import matching_rows, positive_rows

__all__ = ["Outliers", "outliers"]

_SHOWN, _FEWEST = 5, 50
_WIDE = 40  # letters of a name in the summary


@dataclass(frozen=True, eq=False, kw_only=True)
class Outliers:
    """How odd every object is.

    Attributes
    ----------
    table : pyarrow.Table
        The oddest first: ``rank``, ``id``, ``ensemble`` (mean of the methods' percentiles) and
        ``ensemble_percentile``; of each method its score (higher is odder) and percentile among
        the reference; ``nearest_id``, ``nearest_distance`` and ``distance_25`` with their
        percentiles; the label column.
    scored : Scored
        The same by row of the embedding.
    reference : Scored
        The reference, each object scored by models that did not see it; ``scored`` itself where
        the set is its own reference.
    against : dict of str to Scored
        Further sets.
    flows : tuple of Flow
        Those fitted, one a fold.
    flow : Flow or None
        The first of them, or the one that was given.
    checks : tuple of Checked
    notes : tuple of str
    settings : OutlierSettings
    label : str or None
    """

    table: pa.Table
    scored: Scored
    reference: Scored
    against: dict[str, Scored]
    flows: tuple[Flow, ...]
    flow: Flow | None
    checks: tuple[Checked, ...]
    notes: tuple[str, ...]
    settings: OutlierSettings
    label: str | None

    @property
    def embeddings(self) -> Embeddings:
        """Whose objects were scored."""
        return self.scored.part.embeddings

    @property
    def own_reference(self) -> bool:
        """Whether the set is its own reference."""
        return self.scored is self.reference

    @property
    def sets(self) -> dict[str, Scored]:
        """All that was scored, by name, the reference first."""
        first = {} if self.own_reference else {self.scored.part.name: self.scored}
        return {self.reference.part.name: self.reference, **first, **self.against}

    @property
    def order(self) -> np.ndarray:
        """Places in ``scored``, the oddest first; what has no score last."""
        return _order(self.scored)

    def describe(self) -> dict[str, str]:
        """Where the numbers come from, for a table's header."""
        return {
            "skytwin": "outliers",
            "embedding": self.embeddings.as_parent().fingerprint,
            "reference": self.reference.part.embeddings.as_parent().fingerprint,
            "encoder": self.embeddings.encoder_name,
            "methods": ", ".join(self.settings.methods),
            "seed": str(self.settings.seed),
        }

    @property
    def summary(self) -> str:
        """Plain text: what was scored, the oddest, how far their neighbours are, the checks."""
        count = len(self.scored.part.rows)
        other = "" if self.own_reference else f" against {self.reference.part.name}"
        lines = [
            f"outliers: {count} objects{other}; {len(self.reference.part.rows)} reference objects, "
            f"{self.settings.folds} folds"
        ]
        if self.flow is not None:
            lines.append(f"  {_flow_line(self.flow, self.flows)}")
        lines += [f"  {note}" for note in self.notes]
        names = (ENSEMBLE, *self.settings.methods)
        heads = "".join(f"{name:>13}" for name in names)
        lines.append(f"  {'percentiles of the oddest':<{_WIDE}}{heads}")
        rows = self.table.slice(0, _SHOWN).to_pylist()
        for row in rows:
            kind = f" ({row[self.label]})" if self.label else ""
            values = "".join(f"{_percent(row[f'{name}_percentile']):>13}" for name in names)
            lines.append(f"  {_cut(row['id'] + kind):<{_WIDE}}{values}")
        near = self.reference.near
        heads = f"{'nearest':>13}{f'{near.k}th':>13}"
        lines.append(f"  {'distances to reference objects':<{_WIDE}}{heads}")
        for row in rows:
            values = "".join(
                f"{row[name]:>13.4g} ({row[f'{part}_percentile']:.1f} %)"
                for name, part in (("nearest_distance", "nearest"), ("distance_25", "distance_25"))
            )
            lines.append(f"  {_cut(row['id']):<{_WIDE}}{values}")
        for share, name in ((0.5, "median of the reference"), (0.99, "99 % of the reference")):
            ends = [float(np.quantile(near.distance[:, place], share)) for place in (0, -1)]
            values = f"{ends[0]:>13.4g}{'':>9}{ends[1]:>13.4g}"
            lines.append(f"  {name:<{_WIDE}}{values}")
        for what in dict.fromkeys(check.what for check in self.checks):
            mine = [check for check in self.checks if check.what == what]
            lines.append(f"  {what}: base rate {mine[0].base}")
            lines += [f"{check.line} among the first {check.purity.total}" for check in mine]
        return "\n".join(lines)

    def to_pandas(self) -> Any:
        """The table as a pandas DataFrame."""
        return self.table.to_pandas()

    def __repr__(self) -> str:
        return f"Outliers({len(self.table)} objects, {', '.join(self.settings.methods)})"


def outliers(
    embeddings: Embeddings,
    settings: OutlierSettings | None = None,
    *,
    reference: Embeddings | None = None,
    against: Mapping[str, Embeddings] | None = None,
    label: str | None = None,
    steps: Steps | None = None,
    quiet: bool = True,
) -> Outliers:
    """Score every object by how few others are near it.

    Parameters
    ----------
    embeddings : Embeddings
    settings : OutlierSettings, optional
    reference : Embeddings, optional
        What counts as ordinary; by default the set itself, in folds. What lies at the place of an
        object that is scored is left out of it.
    against : mapping of str to Embeddings, optional
        Further sets to score, by name.
    label : str, optional
        Column shown with the oddest.
    steps : Steps, optional
        Where what is done is kept, to go on after a kill: trainings of flows epoch by epoch,
        neighbours, scores of so many objects.
    quiet : bool

    Raises
    ------
    Mismatch
        Embeddings, or a fitted flow, of different encoders.
    UnknownName
        No such method, column or flow.
    UsageError
        zuko is not installed; a condition that cannot be read.
    DataError
        NaN among the vectors, or too few objects.
    """
    used = settings or OutlierSettings()
    if label is not None:
        embeddings.column(label)
    rows = np.arange(len(embeddings))
    if used.where is not None:
        rows = np.flatnonzero(matching_rows(embeddings.catalog, used.where))
    truth = positive_rows(embeddings.catalog, used.positive) if used.positive else None
    flow = _flow(used, embeddings)
    own = part_of(_name(embeddings, "these"), embeddings, rows, used.group_arcsec)
    notes: list[str] = []
    others: dict[str, Part] = {}
    base = own
    if reference is not None:
        require_comparable(embeddings, reference)
        kept = _apart(reference, own, used.group_arcsec, "reference", notes)
        base = part_of(_name(reference, "reference"), reference, kept, used.group_arcsec)
        others[""] = own
    elif len(rows) > used.reference_rows:
        inside = grouped_split(own.groups, used.reference_rows / len(rows), used.seed)
        base = replace(own.some(inside), name=f"{int(inside.sum())} of {own.name}")
        others[""] = own.some(~inside)
        notes.append(
            f"the reference is {int(inside.sum())} of the {len(rows)} objects, drawn at random; "
            "they were scored crosswise, the rest by all"
        )
    for name, other in (against or {}).items():
        require_comparable(embeddings, other)
        if name in (own.name, base.name):
            raise UsageError(f"--against {name}=...: that name is taken; choose another")
        kept = _apart(other, base, used.group_arcsec, name, notes)
        others[name] = part_of(name, other, kept, used.group_arcsec)
    _require_enough(base, (own, *others.values()))
    standard, found, flows = score_sets(
        base, others, check_methods(used.methods), flow, folds=used.folds,
        group_arcsec=used.group_arcsec, seed=used.seed, steps=steps, quiet=quiet,
    )  # fmt: skip
    scored = found.pop("", standard)
    if reference is None and scored is not standard:
        others.clear()  # millions of rows, perhaps
        scored = joined(own, standard, scored)
    seen = int(np.isnan(scored.scores.get("flow", np.zeros(1))).sum())
    if seen:
        notes.append(f"{seen} objects without a flow score: the flow has seen them")
    checks = _checks(
        scored, standard, found if reference is None else {"": scored, **found}, truth, used
    )
    known_flow = flows[0] if flows else flow if isinstance(flow, Flow) else None
    return Outliers(
        table=_table(scored, standard, label),
        scored=scored,
        reference=standard,
        against=found,
        flows=tuple(flows),
        flow=known_flow if "flow" in used.methods else None,
        checks=checks,
        notes=tuple(notes),
        settings=used,
        label=label,
    )


def _require_enough(base: Part, others: Iterable[Part]) -> None:
    for part, least in ((base, _FEWEST), *((other, 1) for other in others)):
        if len(part.rows) < least:
            raise DataError(
                f"{part.name}: {len(part.rows)} object(s) are left; expected at least {least}: "
                "choose a wider --where or another set"
            )


def _flow(used: OutlierSettings, embeddings: Embeddings) -> Any:
    """A fitted flow, or the settings to fit one with."""
    if used.flow in PRESETS or "flow" not in used.methods:
        return preset(used.flow if used.flow in PRESETS else "default")
    if not Path(used.flow).is_dir():
        return preset(used.flow)
    flow = open_flow(used.flow)
    require_same_encoder(flow, encoder_of(embeddings))
    return flow


def _name(embeddings: Embeddings, otherwise: str) -> str:
    return embeddings.folder.resolve().name if embeddings.folder else otherwise


def _apart(
    other: Embeddings, part: Part, group_arcsec: float, what: str, notes: list[str]
) -> np.ndarray:
    """Rows of a set that are no objects of a part."""
    shared = shared_places(part.places(), other.positions, group_arcsec, len(other))
    if other.as_parent().fingerprint == part.embeddings.as_parent().fingerprint:
        shared[part.rows] = True
    if shared.any():
        notes.append(f"{int(shared.sum())} objects of {what} left out: they are in {part.name}")
    if part.places() is None or other.positions is None:
        notes.append(f"no positions: objects that {what} shares with {part.name} are not known")
    return np.flatnonzero(~shared)


def _order(scored: Scored) -> np.ndarray:
    value = np.nan_to_num(scored.scores[ENSEMBLE], nan=-1.0)
    methods = [name for name in scored.scores if name != ENSEMBLE]
    # Of objects with equal percentiles the one that is farther by the first method comes first.
    tie = np.nan_to_num(scored.scores[methods[0]], nan=-np.inf)
    return np.lexsort((-tie, -value))


def _table(scored: Scored, reference: Scored, label: str | None) -> pa.Table:
    part = scored.part
    order = _order(scored)
    ids, others = part.embeddings.column("id"), reference.part.embeddings.column("id")
    near = scored.near
    columns: dict[str, Any] = {
        "rank": np.arange(1, len(order) + 1, dtype=np.int32),
        "id": ids.take(pa.array(part.rows[order])),
    }
    for method in (ENSEMBLE, *(name for name in scored.scores if name != ENSEMBLE)):
        columns[method] = scored.scores[method][order]
        columns[f"{method}_percentile"] = scored.percentiles[method][order]
    columns |= {
        "nearest_id": others.take(pa.array(near.rows[order])),
        "nearest_distance": near.distance[order, 0],
        "nearest_percentile": scored.near_percentile[order, 0],
        "distance_25": near.distance[order, -1],
        "distance_25_percentile": scored.near_percentile[order, 1],
    }
    made = pa.table(columns)
    if label is not None and label not in columns:
        made = made.append_column(label, part.embeddings.column(label).take(part.rows[order]))
    return made


def _checks(
    scored: Scored, standard: Scored, against: dict[str, Scored],
    truth: tuple[np.ndarray, np.ndarray] | None, used: OutlierSettings,
) -> tuple[Checked, ...]:  # fmt: skip
    """Known odd objects of the set, and every set of other objects among the reference."""
    found: list[Checked] = []
    if truth is not None:
        positive, known = (each[scored.part.rows] for each in truth)
        found += check_scores(
            " or ".join(used.positive),
            {name: values[known] for name, values in scored.scores.items()},
            positive[known],
            scored.part.groups[known],
            level=used.level,
            seed=used.seed,
        )
    for one in against.values():
        first = int(standard.part.groups.max()) + 1
        found += check_scores(
            f"{one.part.name} among {standard.part.name}",
            {
                name: np.concatenate([standard.scores[name], values])
                for name, values in one.scores.items()
            },
            np.repeat([False, True], [len(standard.part.rows), len(one.part.rows)]),
            np.concatenate([standard.part.groups, first + one.part.groups]),
            level=used.level,
            seed=used.seed,
        )
    return tuple(found)


def _flow_line(flow: Flow, flows: Sequence[Flow]) -> str:
    """What the flow is, and how likely it finds what it has not seen."""
    shape = f"{flow.settings.blocks} blocks of {' x '.join(map(str, flow.settings.hidden))}"
    held = np.concatenate([each.held_out for each in flows or [flow]])
    share = f"{flow.coordinates.share:.0%} of the variance"
    return (
        f"flow: {shape}, {flow.coordinates.dim} coordinates ({share}); mean held-out "
        f"log-likelihood {held.mean():.2f} nats, median {np.median(held):.2f} ({len(held)} "
        f"objects); mean of training rows {flow.curve[flow.best - 1][0]:.2f}"
    )


def _cut(text: str) -> str:
    return text if len(text) < _WIDE else f"{text[: _WIDE - 2]}…"


def _percent(value: float | None) -> str:
    return "-" if value is None or np.isnan(value) else f"{value:.1f}"
