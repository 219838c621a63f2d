"""A probe that is kept: numbers and JSON, no code.

``probe-N.safetensors`` (weights), ``probe-N.json`` (classes, encoders, metrics at test) and
``probe-N.parquet`` (the training objects and their held-out logits), one N for each set of
vectors that was probed.
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

from skytwin.answers.probe_classifiers import (
    LINEAR,
    Linear,
    check_classifiers,
    fit_classifier,
    undisturbed,
)
from skytwin.answers.probe_data import Labelled, Source
from skytwin.answers.probe_run import Scaling
from skytwin.artefact import Manifest, json_bytes
from skytwin.embeddings.table import Embeddings
from skytwin.errors import DamagedArtefact, Mismatch, UsageError
from skytwin.images.compare import require_same_scale
from skytwin.images.folds import grouped_folds

__all__ = ["KeptProbe", "Part", "keep", "open_probes", "require_keepable"]

_HELD_OUT = 5  # folds


@dataclass(frozen=True, kw_only=True)
class Part:
    """The encoder of an embedding, and what images it was given."""

    encoder: str
    encoder_fingerprint: str | None
    dim: int
    bands: tuple[str, ...]
    pixel_scale: float | None

    @classmethod
    def of(cls, embeddings: Embeddings) -> Part:
        """That of an embedding."""
        return cls(
            encoder=embeddings.encoder_name,
            encoder_fingerprint=embeddings.encoder_fingerprint,
            dim=embeddings.dim,
            bands=embeddings.bands,
            pixel_scale=embeddings.pixel_scale,
        )

    def require_like(self, embeddings: Embeddings) -> None:
        """Refuse vectors of this encoder that are of other images or of another length.

        Raises
        ------
        Mismatch
        """
        if self.dim != embeddings.dim:
            raise Mismatch(
                f"vectors of {embeddings.dim} numbers; the probe expects {self.dim}: embed alike"
            )
        if self.bands and embeddings.bands and self.bands != embeddings.bands:
            raise Mismatch(
                f"bands {', '.join(embeddings.bands)}; the probe expects {', '.join(self.bands)}: "
                "embed alike"
            )
        require_same_scale(embeddings.pixel_scale, self.pixel_scale, "the embedding")


@dataclass(frozen=True, eq=False, kw_only=True)
class KeptProbe:
    """A linear probe, and what it takes to apply it and to see that it does not apply.

    Attributes
    ----------
    classifier, label : str
    classes : tuple of str
        Of two the second is the positive one.
    mean, scale : ndarray, shape (D,), float64
        Of the training rows; the weights of several parts are in the scale.
    linear : Linear
        On standardised vectors.
    parts : tuple of Part
        Whose vectors it takes, side by side in this order.
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
    parts: tuple[Part, ...]
    tested: dict[str, Any]
    base_rate: dict[str, float]
    trained: np.ndarray
    held_out: np.ndarray

    def __repr__(self) -> str:
        return f"KeptProbe({self.classifier} for {self.label} on {self.encoder})"

    @property
    def encoder(self) -> str:
        """What makes its vectors: one encoder, or several side by side."""
        return " + ".join(part.encoder for part in self.parts)

    def logits(self, vectors: np.ndarray) -> np.ndarray:
        """Of vectors as the encoders give them, (n, D), side by side in the order of ``parts``;
        shape (n, 1) for two classes, or (n, K).
        """
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
            "parts": [{**vars(part), "bands": list(part.bands)} for part in self.parts],
            "tested": self.tested,
            "base_rate": self.base_rate,
        }
        (folder / f"probe-{number}.json").write_bytes(json_bytes(about))
        columns = {"id": pa.array(self.trained.astype(str))}
        for place, logit in enumerate(self.held_out.T):
            columns[f"held_out_logit_{place}"] = pa.array(logit)
        pq.write_table(pa.table(columns), folder / f"probe-{number}.parquet")


def require_keepable(classifier: str) -> None:
    """Refuse a classifier that cannot be stored as plain numbers."""
    check_classifiers([classifier])
    if classifier not in LINEAR:
        raise UsageError(
            f"{classifier} cannot be kept: only linear probes are stored, as plain numbers; "
            f"expected one of {', '.join(LINEAR)}"
        )


def keep(
    embeddings: Sequence[Embeddings],
    source: Source,
    labelled: Labelled,
    classifier: str,
    *,
    label: str,
    tested: dict[str, Any],
    seed: int,
) -> KeptProbe:
    """Fit a linear probe on the training rows; see `skytwin.answers.probe.Probe.fit_final`.

    ``embeddings`` are those that stand side by side in the source's vectors.
    """
    require_keepable(classifier)
    train = np.flatnonzero(~labelled.test)
    truth, group, classes = labelled.truth[train], labelled.group[train], len(labelled.classes)

    def fit(rows: np.ndarray) -> tuple[Scaling, Linear]:
        seen = source.vectors[train[rows]]
        scaling = Scaling.of(seen, None, source.widths)
        x = scaling.apply(seen)
        with undisturbed():
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
        parts=tuple(Part.of(each) for each in embeddings),
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
            parts=tuple(Part(**{**one, "bands": tuple(one["bands"])}) for one in about["parts"]),
            tested=about["tested"],
            base_rate=about["base_rate"],
            trained=np.asarray(rows["id"].to_numpy(zero_copy_only=False)),
            held_out=np.stack([rows[c].to_numpy() for c in logits], axis=1),
        )
    except (KeyError, ValueError, TypeError) as error:
        raise DamagedArtefact(f"{str(path / name)!r} cannot be read ({error!r})") from None
