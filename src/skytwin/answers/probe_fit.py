"""A kept probe applied to more vectors of the same encoders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from skytwin.answers.drift import Drift, compare_distances
from skytwin.answers.probe_classifiers import from_logits
from skytwin.answers.probe_kept import KeptProbe, open_probes
from skytwin.embeddings.table import Embeddings
from skytwin.errors import DataError, Mismatch, UsageError
from skytwin.images.where import matching_rows

__all__ = ["Predictions", "predict"]

_FEWEST = 20
_BLOCK = 16384


@dataclass(frozen=True, eq=False, kw_only=True)
class Predictions:
    """Classes of objects, as a kept probe sees them.

    Attributes
    ----------
    table : pyarrow.Table
        One row per object: ``id``, ``ra`` and ``dec`` where known, ``predicted``, ``p_CLASS`` for
        every class, ``trained`` (the probe was fitted on this object).
    probe : KeptProbe
    drift : Drift or None
        Logits of the training objects, held out, against those here, training objects aside; of
        several classes that which differs most; None of too few.
    left_out : int
        Objects with NaN among their numbers, without a prediction.
    absent : int
        Objects that are not in every embedding: not in the table.
    embeddings : tuple of Embeddings
        In the order of the probe's parts.
    where : str or None
        The condition asked for.
    seed : int
    """

    table: pa.Table
    probe: KeptProbe
    drift: Drift | None
    left_out: int
    absent: int
    embeddings: tuple[Embeddings, ...]
    where: str | None
    seed: int

    @property
    def warning(self) -> str | None:
        """What to beware of, in one line; None where there is nothing."""
        if self.drift is None:
            return f"fewer than {_FEWEST} new objects: not compared with the training objects"
        if self.drift.verdict == "differ":
            return (
                "the scores here are distributed otherwise than in training (KS "
                f"{self.drift.ks}, more than {self.drift.tolerance:g}): the classes are mixed "
                "otherwise or the images differ, and accuracy and probabilities need not hold"
            )
        if self.drift.verdict == "unclear":
            return (
                "not told whether the scores are distributed as in training (KS "
                f"{self.drift.ks}, tolerance {self.drift.tolerance:g}): more objects would"
            )
        return None

    @property
    def summary(self) -> str:
        """Plain text: how many of each class, and whether to believe it."""
        names = self.table["predicted"].to_pylist()
        counts = ", ".join(f"{names.count(name)} {name}" for name in self.probe.classes)
        accuracy = self.probe.tested.get("accuracy", {})
        lines = [
            f"{len(self.table)} objects{f' with {self.where}' if self.where else ''} by "
            f"{self.probe.classifier} for {self.probe.label}: {counts}",
            "  on its own test rows: accuracy {value:.3f} [{lower:.3f}, {upper:.3f}]".format(
                **accuracy
            ),
        ]
        trained = int(np.sum(self.table["trained"].to_numpy(zero_copy_only=False)))
        if trained:
            lines.append(f"  {trained} of them trained it: their predictions flatter it")
        if self.left_out:
            lines.append(f"  {self.left_out} with NaN among the numbers: no prediction")
        if self.absent:
            lines.append(f"  {self.absent} not in every embedding: left out")
        if self.warning:
            lines.append(f"  warning: {self.warning}")
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"Predictions({len(self.table)} objects, {self.probe!r})"

    def describe(self) -> dict[str, str]:
        """Where the predictions come from, for a table's header."""
        found = {
            "skytwin": "predictions",
            "label": self.probe.label,
            "classifier": self.probe.classifier,
        }
        for number, each in enumerate(self.embeddings, 1):
            found[f"embedding_{number}"] = each.as_parent().fingerprint
            found[f"encoder_{number}"] = each.encoder_name
        return found


def predict(
    embeddings: Embeddings | Sequence[Embeddings],
    probe: str | Path | KeptProbe | Sequence[KeptProbe],
    *,
    where: str | None = None,
    seed: int = 0,
) -> Predictions:
    """Apply a kept probe.

    Parameters
    ----------
    embeddings : Embeddings or sequence of Embeddings
        Made by the very encoder that the probe was fitted on; by all of them, in any order, for a
        probe of several together. Catalogue columns are those of the first.
    probe : path, KeptProbe or sequence of KeptProbe
        Of several, that of the same encoders.
    where : str, optional
        SQL condition on the catalogue: only these rows.
    seed : int
        Of the resamples that the drift's interval comes from.

    Raises
    ------
    Mismatch
        Other encoders, or other bands, pixel scale or length of vectors.
    DataError
        No object fulfils the condition, or is in every embedding.
    """
    several = [embeddings] if isinstance(embeddings, Embeddings) else list(embeddings)
    if not several:
        raise UsageError("no embedding to predict for; give at least one")
    if isinstance(probe, KeptProbe):
        probes = [probe]
    else:
        probes = open_probes(probe) if isinstance(probe, str | Path) else list(probe)
    chosen, ordered = _matching(several, probes)
    first = several[0]
    rows, absent = _rows(several, where)
    at = [
        rows if each is first else np.array([each.index[str(i)] for i in first.ids[rows]])
        for each in ordered
    ]
    logits = np.concatenate(
        [
            chosen.logits(
                np.concatenate(
                    [
                        each.vectors[own[begin : begin + _BLOCK]]
                        for each, own in zip(ordered, at, strict=True)
                    ],
                    axis=1,
                )
            )
            for begin in range(0, len(rows), _BLOCK)
        ]
    )
    bad = ~np.isfinite(logits).all(axis=1)
    outputs = from_logits(np.where(bad[:, None], 0.0, logits))
    trained = np.isin(first.ids[rows].astype(str), chosen.trained.astype(str))
    kept = {"ra", "dec"} & set(first.catalog.column_names)
    table = first.catalog.select(["id", *sorted(kept, reverse=True)]).take(pa.array(rows))
    names = np.array(chosen.classes, dtype=object)[outputs.predicted]
    columns: dict[str, Any] = {"predicted": pa.array(names, pa.string(), mask=bad)}
    if outputs.probability is not None:
        for place, name in enumerate(chosen.classes):
            columns[f"p_{name}"] = pa.array(outputs.probability[:, place], mask=bad)
    columns["trained"] = pa.array(trained)
    for name, column in columns.items():
        table = table.append_column(name, column)
    return Predictions(
        table=table,
        probe=chosen,
        drift=_drift(chosen.held_out, logits[~bad & ~trained], seed),
        left_out=int(bad.sum()),
        absent=absent,
        embeddings=tuple(ordered),
        where=where,
        seed=seed,
    )


def _rows(several: Sequence[Embeddings], where: str | None) -> tuple[np.ndarray, int]:
    """Rows of the first that are asked for and in all, and how many objects are not in all."""
    first = several[0]
    asked = np.ones(len(first), dtype=bool)
    if where is not None:
        asked = matching_rows(first.catalog, where)
        if not asked.any():
            raise DataError(f"no object fulfils {where!r}; loosen the condition")
    if len(several) == 1:
        return np.flatnonzero(asked), 0
    shared = set(first.ids).intersection(*(each.ids for each in several[1:]))
    inside = np.array([name in shared for name in first.ids], dtype=bool)
    if not (asked & inside).any():
        raise DataError(
            "no object asked for is in every embedding; expected embeddings of the same objects, "
            "matched by id"
        )
    elsewhere = set().union(*(each.ids for each in several[1:])) - set(first.ids)
    return np.flatnonzero(asked & inside), int((asked & ~inside).sum()) + len(elsewhere)


def _matching(
    several: Sequence[Embeddings], probes: Sequence[KeptProbe]
) -> tuple[KeptProbe, list[Embeddings]]:
    """The probe of just these encoders, and the embeddings in its order."""
    for probe in probes:
        left, ordered = list(several), []
        for part in probe.parts:
            for each in left:
                if each.encoder_fingerprint == part.encoder_fingerprint:
                    left.remove(each)
                    ordered.append(each)
                    break
        if len(ordered) == len(probe.parts) and not left:
            for part, each in zip(probe.parts, ordered, strict=True):
                part.require_like(each)
            return probe, ordered
    made = " or ".join(dict.fromkeys(each.encoder for each in probes))
    here = " + ".join(each.encoder_name for each in several)
    raise Mismatch(
        f"the probe was fitted on vectors of {made}; these are of {here}, or of other settings: "
        "embed with the encoders and settings of the probe, or fit a probe on these"
    )


def _drift(held_out: np.ndarray, logits: np.ndarray, seed: int) -> Drift | None:
    known = held_out[np.isfinite(held_out).all(axis=1)]
    if min(len(known), len(logits)) < _FEWEST:
        return None
    each = [
        compare_distances(here, there, seed=seed)
        for here, there in zip(known.T, logits.T, strict=True)
    ]
    return max(each, key=lambda found: found.ks.value)
