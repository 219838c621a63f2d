"""A probe that is kept, and applied to more vectors of the same encoder.

A kept probe is numbers and JSON, no code: ``probe-N.safetensors`` (weights), ``probe-N.json``
(classes, encoder, metrics at test) and ``probe-N.parquet`` (the training objects and their
held-out logits), one N for each embedding that was probed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.numpy import load_file, save_file

from skytwin.answers.drift import Drift, compare_distances
from skytwin.answers.probe_classifiers import (
    LINEAR,
    Linear,
    check_classifiers,
    fit_classifier,
    from_logits,
)
from skytwin.answers.probe_data import Labelled, Source
from skytwin.answers.probe_run import Scaling
from skytwin.artefact import Manifest, json_bytes
from skytwin.embeddings.table import Embeddings
from skytwin.errors import DamagedArtefact, Mismatch, UsageError
from skytwin.images.compare import require_same_scale
from skytwin.images.groups import grouped_folds

__all__ = ["KeptProbe", "Predictions", "keep", "open_probes", "predict", "require_keepable"]

_HELD_OUT = 5  # folds
_FEWEST = 20


@dataclass(frozen=True, eq=False, kw_only=True)
class KeptProbe:
    """A linear probe, and what it takes to apply it and to see that it does not apply.

    Attributes
    ----------
    classifier, label : str
    classes : tuple of str
        Of two the second is the positive one.
    mean, scale : ndarray, shape (D,), float64
        Of the training rows.
    linear : Linear
        On standardised vectors.
    encoder, encoder_fingerprint : str, str or None
    bands : tuple of str
    pixel_scale : float or None
    tested : dict
        Metrics on the test rows with their intervals.
    base_rate : dict of str to float
        Share of every class among the training rows; the probabilities hold at these.
    trained : ndarray of str, shape (n,)
        Identifiers of the training objects.
    held_out : ndarray, shape (n, 1) or (n, K), float64
        Their logits by fits without their fold; NaN where there were too few for folds.
    """

    classifier: str
    label: str
    classes: tuple[str, ...]
    mean: np.ndarray
    scale: np.ndarray
    linear: Linear
    encoder: str
    encoder_fingerprint: str | None
    bands: tuple[str, ...]
    pixel_scale: float | None
    tested: dict[str, Any]
    base_rate: dict[str, float]
    trained: np.ndarray
    held_out: np.ndarray

    def __repr__(self) -> str:
        return f"KeptProbe({self.classifier} for {self.label} on {self.encoder})"

    def logits(self, vectors: np.ndarray) -> np.ndarray:
        """Of vectors as the encoder gives them, (n, D); shape (n, 1) for two classes, or (n, K)."""
        return self.linear.logits((vectors.astype(np.float64) - self.mean) / self.scale)

    def save(self, folder: Path, number: int = 1) -> None:
        """Write it into a folder, as one of several."""
        arrays = {
            "mean": self.mean,
            "scale": self.scale,
            "coefficients": self.linear.coefficients,
            "intercept": self.linear.intercept,
        }
        save_file(
            {name: np.ascontiguousarray(x) for name, x in arrays.items()},
            folder / f"probe-{number}.safetensors",
        )
        about = {
            "classifier": self.classifier,
            "label": self.label,
            "classes": list(self.classes),
            "encoder": self.encoder,
            "encoder_fingerprint": self.encoder_fingerprint,
            "bands": list(self.bands),
            "pixel_scale": self.pixel_scale,
            "tested": self.tested,
            "base_rate": self.base_rate,
        }
        (folder / f"probe-{number}.json").write_bytes(json_bytes(about))
        columns = {"id": pa.array(self.trained.astype(str))}
        for place, logit in enumerate(self.held_out.T):
            columns[f"held_out_logit_{place}"] = pa.array(logit)
        pq.write_table(pa.table(columns), folder / f"probe-{number}.parquet")


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
    embeddings : Embeddings
    """

    table: pa.Table
    probe: KeptProbe
    drift: Drift | None
    left_out: int
    embeddings: Embeddings

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
            f"{len(self.table)} objects by {self.probe.classifier} for {self.probe.label}: "
            f"{counts}",
            "  on its own test rows: accuracy {value:.3f} [{lower:.3f}, {upper:.3f}]".format(
                **accuracy
            ),
        ]
        trained = int(np.sum(self.table["trained"].to_numpy(zero_copy_only=False)))
        if trained:
            lines.append(f"  {trained} of them trained it: their predictions flatter it")
        if self.left_out:
            lines.append(f"  {self.left_out} with NaN among the numbers: no prediction")
        if self.warning:
            lines.append(f"  warning: {self.warning}")
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"Predictions({len(self.table)} objects, {self.probe!r})"

    def describe(self) -> dict[str, str]:
        """Where the predictions come from, for a table's header."""
        return {
            "skytwin": "predictions",
            "label": self.probe.label,
            "classifier": self.probe.classifier,
            "embedding": self.embeddings.as_parent().fingerprint,
            "encoder": self.embeddings.encoder_name,
        }


def require_keepable(classifier: str) -> None:
    """Refuse a classifier that cannot be stored as plain numbers."""
    check_classifiers([classifier])
    if classifier not in LINEAR:
        raise UsageError(
            f"{classifier} cannot be kept: only linear probes are stored, as plain numbers; "
            f"expected one of {', '.join(LINEAR)}"
        )


def keep(
    embeddings: Embeddings,
    source: Source,
    labelled: Labelled,
    classifier: str,
    *,
    label: str,
    tested: dict[str, Any],
    seed: int,
) -> KeptProbe:
    """Fit a linear probe on the training rows; see `skytwin.answers.probe.Probe.fit_final`."""
    require_keepable(classifier)
    train = np.flatnonzero(~labelled.test)
    truth, group, classes = labelled.truth[train], labelled.group[train], len(labelled.classes)

    def fit(rows: np.ndarray) -> tuple[Scaling, Linear]:
        scaling = Scaling.of(source.vectors[train[rows]], None)
        x = scaling.apply(source.vectors[train[rows]])
        found = fit_classifier(classifier, x, truth[rows], group[rows], classes, seed=seed)
        assert isinstance(found, Linear)  # of LINEAR, all are
        return scaling, found

    scaling, linear = fit(np.arange(len(train)))
    held_out = np.full((len(train), len(linear.intercept)), np.nan)
    objects = min(len(np.unique(group[truth == k])) for k in range(classes))
    if objects > 1:
        part = grouped_folds(group, min(_HELD_OUT, objects), seed, stratify=truth)
        for fold in range(int(part.max()) + 1):
            inside, out = np.flatnonzero(part != fold), part == fold
            if len(np.unique(truth[inside])) == classes:
                own, found = fit(inside)
                held_out[out] = found.logits(own.apply(source.vectors[train[out]]))
    share = np.bincount(truth, minlength=classes) / len(truth)
    return KeptProbe(
        classifier=classifier,
        label=label,
        classes=labelled.classes,
        mean=scaling.mean,
        scale=scaling.scale,
        linear=linear,
        encoder=embeddings.encoder_name,
        encoder_fingerprint=embeddings.encoder_fingerprint,
        bands=embeddings.bands,
        pixel_scale=embeddings.pixel_scale,
        tested=tested,
        base_rate={name: float(x) for name, x in zip(labelled.classes, share, strict=True)},
        trained=labelled.ids[train],
        held_out=held_out,
    )


def open_probes(folder: str | Path) -> list[KeptProbe]:
    """The probes that `skytwin probe --keep` left in a result folder.

    Raises
    ------
    UsageError
        The folder is no result of a probe, or none was kept.
    DamagedArtefact
        A file is not what it was.
    """
    path = Path(folder)
    manifest = Manifest.open(path, "probe")
    names = sorted(n[:-5] for n in manifest.files if n.startswith("probe-") and n.endswith(".json"))
    if not names:
        raise UsageError(
            f"{str(path)!r} keeps no probe; run skytwin probe with --keep lr (or lda, linear)"
        )
    return [_opened(path, name) for name in names]


def _opened(path: Path, name: str) -> KeptProbe:
    try:
        about = json.loads((path / f"{name}.json").read_text(encoding="utf-8"))
        arrays = load_file(path / f"{name}.safetensors")
        rows = pq.read_table(path / f"{name}.parquet")
        logits = [c for c in rows.column_names if c != "id"]
        return KeptProbe(
            classifier=about["classifier"],
            label=about["label"],
            classes=tuple(about["classes"]),
            mean=arrays["mean"],
            scale=arrays["scale"],
            linear=Linear(coefficients=arrays["coefficients"], intercept=arrays["intercept"]),
            encoder=about["encoder"],
            encoder_fingerprint=about["encoder_fingerprint"],
            bands=tuple(about["bands"]),
            pixel_scale=about["pixel_scale"],
            tested=about["tested"],
            base_rate=about["base_rate"],
            trained=np.asarray(rows["id"].to_numpy(zero_copy_only=False)),
            held_out=np.stack([rows[c].to_numpy() for c in logits], axis=1),
        )
    except (KeyError, ValueError, TypeError) as error:
        raise DamagedArtefact(f"{str(path / name)!r} cannot be read ({error!r})") from None


def predict(
    embeddings: Embeddings, probe: str | Path | KeptProbe | Sequence[KeptProbe], *, seed: int = 0
) -> Predictions:
    """Apply a kept probe.

    Parameters
    ----------
    embeddings : Embeddings
        Made by the very encoder that the probe was fitted on.
    probe : path, KeptProbe or sequence of KeptProbe
        Of several, that of the same encoder.
    seed : int
        Of the resamples that the drift's interval comes from.

    Raises
    ------
    Mismatch
        Another encoder, or other bands, pixel scale or length of vectors.
    """
    if isinstance(probe, KeptProbe):
        several = [probe]
    else:
        several = open_probes(probe) if isinstance(probe, str | Path) else list(probe)
    chosen = _matching(embeddings, several)
    logits = np.concatenate([chosen.logits(block.values) for block in embeddings.vectors.blocks()])
    bad = ~np.isfinite(logits).all(axis=1)
    outputs = from_logits(np.where(bad[:, None], 0.0, logits))
    trained = np.isin(embeddings.ids.astype(str), chosen.trained.astype(str))
    kept = {"ra", "dec"} & set(embeddings.catalog.column_names)
    table = embeddings.catalog.select(["id", *sorted(kept, reverse=True)])
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
        embeddings=embeddings,
    )


def _matching(embeddings: Embeddings, several: Sequence[KeptProbe]) -> KeptProbe:
    for probe in several:
        if probe.encoder_fingerprint == embeddings.encoder_fingerprint:
            break
    else:
        made = " or ".join(dict.fromkeys(each.encoder for each in several))
        raise Mismatch(
            f"the probe was fitted on vectors of {made}; these are of {embeddings.encoder_name}, "
            "or of other settings: embed with the encoder and settings of the probe, or fit a "
            "probe on these"
        )
    if len(probe.mean) != embeddings.dim:
        raise Mismatch(
            f"vectors of {embeddings.dim} numbers; the probe expects {len(probe.mean)}: embed alike"
        )
    if probe.bands and embeddings.bands and probe.bands != embeddings.bands:
        raise Mismatch(
            f"bands {', '.join(embeddings.bands)}; the probe expects {', '.join(probe.bands)}: "
            "embed alike"
        )
    require_same_scale(embeddings.pixel_scale, probe.pixel_scale, "the embedding")
    return probe


def _drift(held_out: np.ndarray, logits: np.ndarray, seed: int) -> Drift | None:
    known = held_out[np.isfinite(held_out).all(axis=1)]
    if min(len(known), len(logits)) < _FEWEST:
        return None
    each = [
        compare_distances(here, there, seed=seed)
        for here, there in zip(known.T, logits.T, strict=True)
    ]
    return max(each, key=lambda found: found.ks.value)
