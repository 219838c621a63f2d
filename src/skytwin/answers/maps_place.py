"""A saved map opened again, and more objects placed on it.

The folder holds arrays only (``model/*.npy``): what brings vectors to scores, and the scores of
the objects on the map. The embedding it was made from is not needed to place others.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from skytwin.answers.maps import Map, MapSettings, Origin, scores_of
from skytwin.answers.maps_layout import nearest_scores, place_tsne, place_umap
from skytwin.answers.maps_quality import Quality
from skytwin.answers.maps_space import Space, Variance, check_metric
from skytwin.artefact import Manifest, from_dict
from skytwin.embeddings.table import Embeddings
from skytwin.errors import Mismatch, UsageError
from skytwin.images.compare import require_same_scale
from skytwin.progress import Progress

__all__ = ["MAP", "Placement", "open_map", "place", "stored", "write_model"]

MAP = "map.parquet"
_MODEL = "model"
_ROWS = 1000
_AT_ONCE = 100_000  # objects placed, each by itself


@dataclass(frozen=True, eq=False, kw_only=True)
class Placement:
    """Objects placed on a map that they did not shape.

    Attributes
    ----------
    xy : ndarray, shape (M, 2), float32
    near : ndarray, shape (M,), int64
        Row on the map of the object that each is most like.
    distance : ndarray, shape (M,), float64
        To it, between principal components.
    farther_than : ndarray, shape (M,), float64
        Share of the map's own objects that are nearer to their nearest. Near 1: the map has
        nothing like it, and its place means nothing.
    map : Map
    embeddings : Embeddings
    """

    xy: np.ndarray
    near: np.ndarray
    distance: np.ndarray
    farther_than: np.ndarray
    map: Map
    embeddings: Embeddings

    def __len__(self) -> int:
        return len(self.xy)

    @property
    def ids(self) -> np.ndarray:
        """Identifiers, shape (M,), dtype object (str)."""
        return self.embeddings.ids

    @property
    def nearest(self) -> np.ndarray:
        """The object of the map that each is most like, shape (M,), dtype object (str)."""
        found: np.ndarray = self.map.ids[self.near]
        return found

    @property
    def table(self) -> pa.Table:
        """``id``, ``x``, ``y``, ``nearest``, ``distance``, ``farther_than``."""
        return pa.table(
            {
                "id": self.embeddings.column("id").combine_chunks(),
                "x": self.xy[:, 0],
                "y": self.xy[:, 1],
                "nearest": pa.array(self.map.ids, pa.string()).take(pa.array(self.near)),
                "distance": self.distance,
                "farther_than": self.farther_than,
            }
        )

    @property
    def summary(self) -> str:
        """Plain text: how many, and how many the map has nothing like."""
        far = int((self.farther_than >= 0.99).sum())
        return (
            f"{len(self)} objects placed on a map of {len(self.map)} ({self.map.how})\n"
            f"  {far} ({far / len(self):.1%}) lie farther from the map's objects than 99% of those "
            "lie from each other; 1% would by chance"
        )


def place(onto: Map | str | Path, embeddings: Embeddings, *, quiet: bool = True) -> Placement:
    """Place objects on a map that stays as it is.

    Parameters
    ----------
    onto : Map or path
        A map, or the folder of one.
    embeddings : Embeddings
        Of the same encoder.
    quiet : bool

    Raises
    ------
    Mismatch
        The vectors are those of another encoder.

    Notes
    -----
    t-SNE: each starts at the median of its 25 nearest and moves by itself (Poličar et al. 2019).
    An object like none of the map's is placed too: look at ``farther_than``.
    """
    found = onto if isinstance(onto, Map) else open_map(onto)
    _require_same(found.origin, embeddings)
    xy = np.empty((len(embeddings), 2), dtype=np.float32)
    near, apart = np.empty(len(embeddings), dtype=np.int64), np.empty(len(embeddings))
    with Progress("place", len(embeddings), unit="objects", quiet=quiet) as bar:
        for start in range(0, len(embeddings), _AT_ONCE):
            rows = np.arange(start, min(start + _AT_ONCE, len(embeddings)))
            new = scores_of(found.space, embeddings, rows)
            embeddings.vectors.release()
            xy[rows] = _placed(found, new)
            nearest, distance = nearest_scores(found.scores, 1, new)
            near[rows], apart[rows] = nearest[:, 0], distance[:, 0]
            bar.advance(len(rows))
    return Placement(
        xy=xy,
        near=near,
        distance=apart,
        farther_than=_rank(found, apart),
        map=found,
        embeddings=embeddings,
    )


def _placed(found: Map, new: np.ndarray) -> np.ndarray:
    """Places of objects with these scores, shape (m, 2)."""
    used = found.settings
    if used.method == "tsne":
        return place_tsne(found.scores, found.xy, new, seed=used.seed, threads=1, quiet=True)
    if used.method == "umap":
        return place_umap(found.scores, found.xy, new, neighbours=used.neighbours, seed=used.seed)
    return new[:, :2]


def _rank(found: Map, distance: np.ndarray) -> np.ndarray:
    """Share of the map's objects, of a random 1000, whose nearest is nearer than each distance."""
    rng = np.random.default_rng([found.settings.seed, 3])
    rows = rng.choice(len(found), min(_ROWS, len(found)), replace=False)
    near, apart = nearest_scores(found.scores, 2, found.scores[rows])
    own = np.where(near[:, 0] == rows, apart[:, 1], apart[:, 0])
    share: np.ndarray = np.searchsorted(np.sort(own), distance) / len(own)
    return share


def _require_same(origin: Origin, other: Embeddings) -> None:
    what = str(other.folder or "the embedding")
    if origin.dim != other.dim:
        raise Mismatch(
            f"{what} has vectors of {other.dim} numbers; the map is of {origin.dim}: embed both "
            "alike"
        )
    if origin.bands and other.bands and origin.bands != other.bands:
        raise Mismatch(
            f"{what} has bands {', '.join(other.bands)}; the map is of {', '.join(origin.bands)}"
        )
    require_same_scale(other.pixel_scale, origin.pixel_scale, what)
    if origin.encoder_fingerprint != other.encoder_fingerprint:
        raise Mismatch(
            f"{what} was made by another encoder or with other settings ({other.encoder_name}) "
            f"than the map's ({origin.encoder_name}, fingerprint "
            f"{str(origin.encoder_fingerprint)[:12]}): embed both alike"
        )


def stored(found: Map) -> tuple[dict[str, Any], dict[str, Any]]:
    """Recipe and summary of a map's manifest: all that `open_map` needs beside the arrays."""
    origin = found.origin
    summary = {
        "objects": len(found),
        "among": found.among,
        "quality": asdict(found.quality),
        "variance_rows": found.variance.rows,
        "encoder": origin.encoder_name,
        "encoder_fingerprint": origin.encoder_fingerprint,
        "dim": origin.dim,
        "bands": list(origin.bands),
        "pixel_scale": origin.pixel_scale,
    }
    return asdict(found.settings), summary


def write_model(found: Map, folder: Path) -> None:
    """Write the arrays of a map below a folder."""
    where = folder / _MODEL
    where.mkdir(exist_ok=True)  # a killed run may have left it
    for name, array in {
        "scores": found.scores,
        "mean": found.space.mean,
        "inverse_scale": found.space.inverse_scale,
        "centre": found.space.centre,
        "components": found.space.components,
        "share": found.space.share,
        "variance_standardized": found.variance.standardized,
        "variance_raw": found.variance.raw,
    }.items():
        np.save(where / f"{name}.npy", array, allow_pickle=False)


def open_map(folder: str | Path) -> Map:
    """Open a folder that ``skytwin map`` wrote.

    Raises
    ------
    UsageError
        The folder holds no map.
    DamagedArtefact
        A file is not what it was.
    """
    path = Path(folder)
    manifest = Manifest.open(path, "map")
    if manifest.parents.get("embeddings") is None:
        raise UsageError(f"{str(path)!r} names no embedding; make the map anew")
    table = pq.read_table(path / MAP)
    summary = manifest.summary
    array = {file.stem: np.load(file, allow_pickle=False) for file in (path / _MODEL).glob("*.npy")}
    settings = from_dict(MapSettings, manifest.recipe)
    parts = {"mean", "inverse_scale", "centre", "components", "share"}
    return Map(
        ids=np.asarray(table["id"].to_numpy(zero_copy_only=False)),
        xy=np.stack([table["x"].to_numpy(), table["y"].to_numpy()], axis=1),
        catalog=table.drop_columns(["x", "y"]),
        settings=settings,
        quality=from_dict(Quality, summary["quality"]),
        variance=Variance(
            standardized=array["variance_standardized"],
            raw=array["variance_raw"],
            rows=summary["variance_rows"],
        ),
        space=Space(metric=check_metric(settings.metric), **{name: array[name] for name in parts}),
        scores=array["scores"],
        among=summary.get("among", len(table)),
        origin=Origin(
            parent=manifest.parents["embeddings"],
            encoder_name=summary["encoder"],
            encoder_fingerprint=summary["encoder_fingerprint"],
            dim=summary["dim"],
            bands=tuple(summary["bands"]),
            pixel_scale=summary["pixel_scale"],
        ),
    )
