"""Maps: objects on a plane, such that the nearest of each stay near.

A map shows which objects lie together. It is no measurement: distances between groups, their
sizes and densities mean little on a t-SNE or UMAP map, and groups are drawn of pure noise too.
That is why every map comes with how well it preserves neighbourhoods.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa

from skytwin.answers.maps_layout import tsne, umap
from skytwin.answers.maps_quality import Quality, measure_quality
from skytwin.answers.maps_space import SHARES, Space, Variance, check_metric, fit_space
from skytwin.answers.resume import Steps
from skytwin.artefact import Parent
from skytwin.embeddings.names import DEFAULT_METRIC
from skytwin.embeddings.table import Embeddings
from skytwin.errors import DataError, UsageError, unknown
from skytwin.images import arrow
from skytwin.images.where import matching_rows

__all__ = ["METHODS", "SAMPLE", "Map", "MapSettings", "Method", "Origin", "make_map", "scores_of"]

Method = Literal["tsne", "umap", "pca"]
METHODS: tuple[Method, ...] = get_args(Method)
TITLES: dict[str, str] = {"tsne": "t-SNE", "umap": "UMAP", "pca": "PCA"}
_FEWEST = 4
#: A t-SNE of 200 000 takes about a gigabyte and half an hour; a picture shows no more anyway.
SAMPLE = 200_000


@dataclass(frozen=True, kw_only=True)
class MapSettings:
    """What shaped a map.

    Attributes
    ----------
    method : {"tsne", "umap", "pca"}
    metric : {"standardized", "cosine", "euclidean"}
        Which objects count as near, as in a search.
    perplexity : float
        t-SNE: about how many neighbours an object holds on to.
    neighbours : int
        UMAP: the same.
    pca : int
        Principal components that t-SNE and UMAP are given, at most.
    seed : int
    where : str or None
        Only objects that fulfil this.
    sample : int
        Of more objects than this, so many drawn at random are laid out.
    """

    method: Method = "tsne"
    metric: str = DEFAULT_METRIC
    perplexity: float = 30.0
    neighbours: int = 15
    pca: int = 50
    seed: int = 0
    where: str | None = None
    sample: int = SAMPLE


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What the vectors of a map are.

    Attributes
    ----------
    parent : Parent
        The embedding.
    encoder_name : str
    encoder_fingerprint : str or None
    dim : int
    bands : tuple of str
    pixel_scale : float or None
        Arcsec per pixel.
    """

    parent: Parent
    encoder_name: str
    encoder_fingerprint: str | None
    dim: int
    bands: tuple[str, ...]
    pixel_scale: float | None

    @classmethod
    def of(cls, embeddings: Embeddings) -> Origin:
        """That of an embedding."""
        return cls(
            parent=embeddings.as_parent(),
            encoder_name=embeddings.encoder_name,
            encoder_fingerprint=embeddings.encoder_fingerprint,
            dim=embeddings.dim,
            bands=embeddings.bands,
            pixel_scale=embeddings.pixel_scale,
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class Map:
    """Objects on a plane.

    Attributes
    ----------
    ids : ndarray, shape (N,), dtype object (str)
    xy : ndarray, shape (N, 2), float32
        Without unit; only who is near whom means something.
    catalog : pyarrow.Table
        Catalogue rows of the objects; of a map opened from its folder, the columns saved.
    settings : MapSettings
    quality : Quality
    variance : Variance
        How the variance of all components is spread.
    space : Space
        From stored vectors to the scores.
    scores : ndarray, shape (N, P), float32
        Principal components the map was made of.
    origin : Origin
    among : int
        Objects that those of the map were drawn from; as many where all are on it.
    """

    ids: np.ndarray
    xy: np.ndarray
    catalog: pa.Table
    settings: MapSettings
    quality: Quality
    variance: Variance
    space: Space
    scores: np.ndarray
    origin: Origin
    among: int

    @property
    def method(self) -> Method:
        """How it was made."""
        return self.settings.method

    @property
    def title(self) -> str:
        """The method as it is written."""
        return TITLES[self.method]

    def __len__(self) -> int:
        return len(self.ids)

    def column(self, name: str) -> pa.ChunkedArray:
        """A catalogue column by its name, with a clear error when there is none."""
        if name not in self.catalog.column_names:
            raise unknown("column", name, self.catalog.column_names)
        return self.catalog[name]

    def table(self, columns: tuple[str, ...] | list[str] = ()) -> pa.Table:
        """``id``, ``x``, ``y`` and the columns asked for."""
        made = pa.table(
            [pa.array(self.ids, pa.string()), *(pa.array(each) for each in self.xy.T)],
            schema=pa.schema(
                [
                    arrow.field("id", pa.string(), ucd="meta.id;meta.main"),
                    arrow.field("x", pa.float32(), description=f"{self.title} map"),
                    arrow.field("y", pa.float32(), description=f"{self.title} map"),
                ]
            ),
        )
        for name in columns:
            values = self.column(name)
            if name != "id":
                entry = self.catalog.schema.field(name)
                # The catalogue's own x and y are pixels, not places on the map.
                own = f"{name}_catalog" if name in made.column_names else name
                made = made.append_column(entry.with_name(own), values)
        return made

    def describe(self) -> dict[str, str]:
        """Where the map comes from, for the header of a table or picture."""
        return {
            "skytwin": "map",
            "embedding": self.origin.parent.fingerprint,
            "encoder": self.origin.encoder_name,
            "method": self.how,
            "trustworthiness": f"{self.quality.trustworthiness:.4f}",
        }

    @property
    def how(self) -> str:
        """Method and settings in a line."""
        used = self.settings
        count = 2 if used.method == "pca" else self.scores.shape[1]
        share = f"{self.space.share[:count].sum():.0%}"
        parts = [
            self.title,
            f"{used.metric} metric",
            f"{count} principal components ({share} of the variance)",
            {
                "tsne": f"perplexity {used.perplexity:g}",
                "umap": f"{used.neighbours} neighbours",
            }.get(used.method, ""),
            f"seed {used.seed}" if used.method != "pca" else "",
            f"where {used.where}" if used.where else "",
            f"a random {len(self)} of {self.among} objects" if len(self) < self.among else "",
        ]
        return ", ".join(filter(None, parts))

    @property
    def summary(self) -> str:
        """Plain text: what was made, how well it holds, how the variance is spread."""
        variance = self.variance
        heads = "".join(f"{share:>8.0%}" for share in SHARES)
        lines = [
            f"map of {len(self)} objects, {self.origin.dim} numbers each; {self.how}",
            *self.quality.lines,
            f"  {'principal components that carry, of the variance':<44}{heads}",
        ]
        for name, shares in (("standardized", variance.standardized), ("raw", variance.raw)):
            needed = "".join(f"{variance.needed(shares, share):>8}" for share in SHARES)
            lines.append(f"    {f'{name} vectors, of {len(shares)}':<47}{needed}")
        return "\n".join(lines)

    def to_pandas(self) -> Any:
        """Identifiers, places and catalogue as a pandas DataFrame."""
        return self.table(self.catalog.column_names).to_pandas()

    def __repr__(self) -> str:
        return f"Map({len(self)} objects, {self.how})"


def make_map(
    embeddings: Embeddings,
    method: str = "tsne",
    *,
    metric: str = DEFAULT_METRIC,
    perplexity: float = 30.0,
    neighbours: int = 15,
    pca: int = 50,
    where: str | None = None,
    sample: int = SAMPLE,
    seed: int = 0,
    threads: int = 1,
    steps: Steps | None = None,
    quiet: bool = True,
) -> Map:
    """Lay objects out on a plane.

    Parameters
    ----------
    embeddings : Embeddings
    method : {"tsne", "umap", "pca"}
        t-SNE needs openTSNE, UMAP umap-learn; PCA shows the first two principal components.
    metric : {"standardized", "cosine", "euclidean"}
        As in a search.
    perplexity : float
        Of t-SNE; it takes three times as many neighbours.
    neighbours : int
        Of UMAP.
    pca : int
        Principal components kept first, at most.
    where : str, optional
        SQL condition on the catalogue.
    sample : int
        Of more objects than this, so many drawn at random are laid out; `place` puts others on
        the map.
    seed : int
        The same seed gives the same map on the same machine.
    threads : int
    steps : Steps, optional
        Where a t-SNE of 10 000 objects or more keeps how far it has come.
    quiet : bool
        Show no progress.

    Raises
    ------
    UnknownName
        No such method, metric or column.
    UsageError
        Too few objects for the perplexity; a library is not installed.
    DataError
        NaN among the vectors, or vectors that do not vary.
    """
    settings = MapSettings(
        method=_check_method(method),
        metric=check_metric(metric),
        perplexity=float(perplexity),
        neighbours=neighbours,
        pca=pca,
        seed=seed,
        where=where,
        sample=sample,
    )
    if threads < 1 or pca < 2:
        raise UsageError(f"threads {threads}, pca {pca}; expected at least 1 and 2")
    if not 0 <= seed < 2**32:
        raise UsageError(f"seed {seed}; expected 0 to {2**32 - 1}")
    rows = np.arange(len(embeddings))
    if where is not None:
        rows = np.flatnonzero(matching_rows(embeddings.catalog, where))
    among = len(rows)
    if sample < _FEWEST:
        raise UsageError(f"sample {sample}; expected at least {_FEWEST} objects")
    if among > sample:
        rng = np.random.default_rng([seed, 4])
        rows = np.sort(rng.choice(rows, sample, replace=False))
    _require_enough(len(rows), settings)
    space, variance = fit_space(embeddings, rows, check_metric(metric), pca, seed=seed, quiet=quiet)
    scores = scores_of(space, embeddings, rows)
    if method == "tsne":
        xy = tsne(scores, settings.perplexity, seed=seed, threads=threads, quiet=quiet, steps=steps)
    elif method == "umap":
        xy = umap(scores, neighbours, seed=seed, quiet=quiet)
    else:
        xy = scores[:, :2]
    if not np.isfinite(xy).all():
        raise DataError(f"the {TITLES[method]} map did not converge; try another seed or method")
    quality = measure_quality(
        lambda some: space.prepared(embeddings.vectors.take(rows[some])),
        xy,
        scores[:, :2],
        embeddings.dim,
        seed=seed,
        quiet=quiet,
    )
    catalog = embeddings.catalog
    if len(rows) < len(embeddings):
        catalog = catalog.take(pa.array(rows))
    return Map(
        ids=np.asarray(catalog["id"].to_numpy(zero_copy_only=False)),
        xy=np.ascontiguousarray(xy, dtype=np.float32),
        catalog=catalog,
        settings=settings,
        quality=quality,
        variance=variance,
        space=space,
        scores=scores,
        origin=Origin.of(embeddings),
        among=among,
    )


def scores_of(space: Space, embeddings: Embeddings, rows: np.ndarray) -> np.ndarray:
    """Principal components of some rows, (n, P) float32, a block at a time."""
    scores = np.empty((len(rows), space.components.shape[1]), dtype=np.float32)
    for start in range(0, len(rows), 4096):
        here = slice(start, start + 4096)
        scores[here] = space.scores(embeddings.vectors.take(rows[here]))
    return scores


def _check_method(name: str) -> Method:
    for method in METHODS:
        if method == name:
            return method
    raise unknown("method", name, METHODS)


def _require_enough(count: int, settings: MapSettings) -> None:
    if settings.method == "tsne" and not 1 <= settings.perplexity < np.inf:
        raise UsageError(f"perplexity {settings.perplexity:g}; expected 1 or more")
    if settings.method == "umap" and settings.neighbours < 2:
        raise UsageError(f"{settings.neighbours} neighbours; expected at least 2")
    needed, what, remedy = {
        "tsne": (
            int(3 * settings.perplexity) + 1 if settings.method == "tsne" else 0,
            f"perplexity {settings.perplexity:g}",
            f"; lower --perplexity to {(count - 1) // 3}" if count > _FEWEST else "",
        ),
        "umap": (settings.neighbours + 1, f"{settings.neighbours} neighbours", ""),
        "pca": (_FEWEST, "a map", ""),
    }[settings.method]
    if count < max(needed, _FEWEST):
        raise UsageError(f"{count} object(s); {what} needs at least {max(needed, _FEWEST)}{remedy}")
