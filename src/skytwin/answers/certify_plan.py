"""What to label for a certificate: `CertifyPlan`, drawn in rounds, shown in a blind order.

A plan fixes, before any of its labels is seen, which ranks they will be used to test. It keeps
the ranking, so that nothing has to be searched again.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from skytwin.answers.certify_bounds import Round
from skytwin.answers.export import write_table
from skytwin.artefact import Manifest, Parent
from skytwin.images import arrow
from skytwin.run import result_folder

__all__ = ["CertifyPlan"]

KIND, OBJECTS, DRAWN, TO_LABEL = "certify-plan", "objects.parquet", "drawn.parquet", "to_label"


@dataclass(frozen=True, eq=False, kw_only=True)
class CertifyPlan:
    """Objects to label, and what their labels will be used for.

    Attributes
    ----------
    objects : pyarrow.Table
        All N objects in order of rank: ``row``, ``id``, and ``ra``, ``dec`` where known. Each
        object of the sky once, no reference among them.
    rounds : tuple of Round
        All rounds so far; the last is the one to label now.
    rank, round, depth : ndarray, shape (n,), int64
        Of the objects drawn in all rounds, each round in a blind order: rank from 1, round from
        0, depth of the layer that drew each.
    known : ndarray, shape (n,), int8
        Labels of earlier rounds; `UNKNOWN` for those that are to come.
    purity, confidence : float
        What the list shall have, and how surely.
    budget : int
        Labels planned in all, the later rounds of the schedule included.
    controls : int
        Of these, drawn blindly from the whole survey.
    schedule : int
        Rounds the budget is spread over.
    smallest : int
        Shorter lists are not certified.
    seed : int
        Of the draw and of the blind order.
    settings : dict
        How the ranking was made, as recorded in manifests.
    parents : dict of str to Parent
    """

    objects: pa.Table
    rounds: tuple[Round, ...]
    rank: np.ndarray
    round: np.ndarray
    depth: np.ndarray
    known: np.ndarray
    purity: float
    confidence: float
    budget: int
    controls: int
    schedule: int
    smallest: int
    seed: int
    settings: dict[str, Any]
    parents: dict[str, Parent]

    def __len__(self) -> int:
        return int(self.now.sum())

    def __repr__(self) -> str:
        return (
            f"CertifyPlan(round {self.number} of {max(self.schedule, self.number)}: "
            f"{len(self)} of {self.size} objects to label; purity {self.purity:g} at "
            f"{self.confidence:.0%} confidence)"
        )

    @property
    def size(self) -> int:
        """Objects that were ranked."""
        return len(self.objects)

    @property
    def number(self) -> int:
        """The round to label now, from 1."""
        return len(self.rounds)

    @property
    def now(self) -> np.ndarray:
        """Which of the drawn objects are to be labelled in this round, shape (n,), bool."""
        return np.asarray(self.round == self.number - 1)

    @property
    def finished(self) -> bool:
        """Whether the schedule has no further round."""
        return self.number >= self.schedule

    @property
    def rows(self) -> np.ndarray:
        """Rows of the survey to label, in the blind order, int64."""
        return self._column("row", self.rank[self.now])

    @property
    def ids(self) -> np.ndarray:
        """Identifiers of the objects to label, in the blind order, dtype object."""
        return self._column("id", self.rank[self.now])

    @property
    def drawn_ids(self) -> np.ndarray:
        """Identifiers of all objects drawn in all rounds, dtype object."""
        return self._column("id", self.rank)

    @property
    def error(self) -> float:
        """Allowed probability of a false certificate."""
        return 1.0 - self.confidence

    @functools.cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the ranking: identifiers in order."""
        digest = hashlib.sha256()
        for chunk in self.objects["id"].chunks:
            digest.update("\n".join(chunk.to_pylist()).encode() + b"\n")
        return digest.hexdigest()

    @property
    def table(self) -> pa.Table:
        """The objects to label: order, id, position, and an empty label. No rank, no distance."""
        shown = self.objects.take(pa.array(self.rank[self.now] - 1)).drop_columns(["row"])
        order = arrow.field("order", pa.int64(), description="in which to label")
        label = arrow.field("label", pa.string(), description="yes, no or unsure")
        columns = [
            pa.array(np.arange(1, len(shown) + 1)),
            *shown.columns,
            pa.nulls(len(shown), pa.string()),
        ]
        return pa.Table.from_arrays(columns, schema=pa.schema([order, *shown.schema, label]))

    def to_pandas(self) -> Any:
        """The objects to label as a pandas DataFrame."""
        return self.table.to_pandas()

    def save(self, folder: str | Path) -> None:
        """Write the plan, the objects to label among it as ``to_label.csv`` and ``.parquet``.

        Raises
        ------
        OutputExists
            The folder exists and is not empty.
        """
        recipe = {
            **{name: getattr(self, name) for name in _NUMBERS},
            "rounds": [dataclasses.asdict(planned) for planned in self.rounds],
            "ranking": self.settings,
        }
        summary = {
            "objects": self.size,
            "round": self.number,
            "to_label": len(self),
            "ranking_sha256": self.fingerprint,
        }
        with result_folder(
            folder, kind=KIND, recipe=recipe, summary=summary, inputs={}, parents=self.parents
        ) as where:
            pq.write_table(self.objects, where / OBJECTS)
            drawn = {name: getattr(self, name) for name in _DRAWN}
            pq.write_table(pa.table(drawn), where / DRAWN)
            meta = {"skytwin": KIND, "ranking": self.fingerprint}
            for ending in ("csv", "parquet"):
                write_table(self.table, where / f"{TO_LABEL}.{ending}", meta)

    @classmethod
    def open(cls, folder: str | Path) -> CertifyPlan:
        """Open what `save` wrote.

        Raises
        ------
        UsageError
            The folder is no plan.
        DamagedArtefact
            A file is not what it was, ``to_label.csv`` included: fill in a copy of it.
        """
        path = Path(folder)
        manifest = Manifest.open(path, KIND)
        recipe = manifest.recipe
        drawn = pq.read_table(path / DRAWN)
        rounds = tuple(
            Round(
                layers=tuple((int(depth), int(count)) for depth, count in entry["layers"]),
                chain=tuple(entry["chain"]),
                share=entry["share"],
            )
            for entry in recipe["rounds"]
        )
        return cls(
            objects=pq.read_table(path / OBJECTS, memory_map=True),
            rounds=rounds,
            settings=recipe["ranking"],
            parents=manifest.parents,
            **{name: drawn[name].to_numpy() for name in _DRAWN},
            **{name: recipe[name] for name in _NUMBERS},
        )

    def _column(self, name: str, rank: np.ndarray) -> np.ndarray:
        taken = self.objects[name].take(pa.array(rank - 1))
        return np.asarray(taken.to_numpy(zero_copy_only=False))


_DRAWN = ("rank", "round", "depth", "known")
_NUMBERS = ("purity", "confidence", "budget", "controls", "schedule", "smallest", "seed")
