"""Why this object is in the list: its similarity, split over pixels and over features.

The split is exact (`skytwin.answers.explain_score`): parts add up to what the list is ordered
by. Over pixels it needs an encoder whose vector is the mean of a map
(`skytwin.encoders.feature_maps`), and every place is compared with the average object at that
place. What a part does not say is in ``docs/explanation/explain.md``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from skytwin.answers.explain_maps import MappedImage, Maps, ScoreMap
from skytwin.answers.explain_score import Kind, Linear, Scoring, scoring
from skytwin.answers.search import Matches
from skytwin.encoders.feature_maps import FeatureMaps
from skytwin.errors import UsageError
from skytwin.images.cutouts import Cutouts

__all__ = ["Explanation", "Linear", "ScoreMap", "explain", "explain_each"]

_MOST_PAIRED = 400  # places of a map: their pairs fill a megabyte


@dataclass(frozen=True, eq=False, kw_only=True)
class Explanation:
    """One object's score, split.

    Attributes
    ----------
    id : str
    rank : int or None
        Its place in the list; None beyond it.
    kind : str
        What ``score`` is: ``"similarity"`` (mean cosine; less that to negative references),
        ``"minus distance"`` (Euclidean), ``"logit"`` (learned), ``"score"`` (given).
    score : float
    base : float
        What is not split: of a logit, that of the average object; else 0.
    distance : float
        The list's distance.
    features : pyarrow.Table
        By falling ``part``: ``feature``, ``part`` (adds up to ``score - base``), ``share`` of
        it, ``value``, ``reference`` (weighted mean over the positive ones), both in standard
        deviations from the survey's mean.
    map_match : ScoreMap or None
        None where only features were asked for.
    map_queries : tuple of ScoreMap or None
        For each reference its own similarity to the object (its own logit) over its own image;
        None for one without an image.
    pairs : tuple of ndarray or None
        For each reference its similarity over pairs of places, (h, w) of the object by (h', w')
        of the reference; None where there is no cosine or map, or more than 400 places.
    average : int
        Random objects whose mean map the places were compared with; 0: none.
    matches : Matches
    """

    id: str
    rank: int | None
    kind: Kind
    score: float
    base: float
    distance: float
    features: pa.Table
    map_match: ScoreMap | None
    map_queries: tuple[ScoreMap | None, ...]
    pairs: tuple[np.ndarray | None, ...]
    average: int
    matches: Matches

    @property
    def map_query(self) -> ScoreMap | None:
        """The map of the reference that is nearest to the object."""
        vectors = self.matches.embeddings.vectors[[self.matches.embeddings.index[self.id]]]
        return self.map_queries[int(self.matches.ranker.exact(vectors).each[0].argmin())]

    @property
    def residual(self) -> float:
        """Largest difference between a map's sum and what it should be; 0 without maps."""
        maps = [m for m in (self.map_match, *self.map_queries) if m is not None]
        return max((abs(m.residual) for m in maps), default=0.0)

    def __repr__(self) -> str:
        where = "" if self.rank is None else f", rank {self.rank}"
        return f"Explanation({self.id}{where}, {self.kind} {self.score:.4g})"


def explain(
    matches: Matches,
    match: str | int = 1,
    *,
    direction: Linear | None = None,
    pixels: bool = True,
    average: int = 64,
    seed: int = 0,
    maps: FeatureMaps | None = None,
    cutouts: Cutouts | None = None,
    weights: str | Path | None = None,
    quiet: bool = False,
) -> Explanation:
    """Say where the score of one object comes from.

    Parameters
    ----------
    matches : Matches
    match : str or int
        An identifier, in the list or not, or a rank from 1.
    direction : Linear, optional
        Split this score instead of what the list is ordered by.
    pixels : bool
        Also over pixels.
    average : int
        Random objects whose mean map says what is usual at a place; 0: every place is compared
        with the mean over all places. The sum is the same.
    seed : int
        Of their choice.
    maps : FeatureMaps, optional
        The encoder, opened before with `skytwin.encoders.feature_maps.open_maps`.
    cutouts : Cutouts, optional
        The images, where they are not those the embedding remembers.
    weights : path, optional
        The encoder's weights file, if it is no longer where it was.
    quiet : bool
        Show no progress.

    Returns
    -------
    Explanation

    Raises
    ------
    UnknownName
        No such object.
    UsageError
        No such rank; the encoder's vectors do not split over pixels; the order of the list does
        not split over features; there is no encoder or no image.
    Mismatch
        The images or weights are not those the vectors were made with.
    """
    (found,) = explain_each(
        matches,
        [match],
        direction=direction,
        pixels=pixels,
        average=average,
        seed=seed,
        maps=maps,
        cutouts=cutouts,
        weights=weights,
        quiet=quiet,
    )
    return found


def explain_each(
    matches: Matches,
    which: Sequence[str | int],
    *,
    direction: Linear | None = None,
    pixels: bool = True,
    average: int = 64,
    seed: int = 0,
    maps: FeatureMaps | None = None,
    cutouts: Cutouts | None = None,
    weights: str | Path | None = None,
    quiet: bool = False,
) -> tuple[Explanation, ...]:
    """`explain` for several objects, in which the average object and the references are mapped
    once; parameters as there.
    """
    rows = [_row(matches, match) for match in which]
    scored = [scoring(matches, matches.embeddings.vectors[row], direction) for row in rows]
    opened = None
    references: list[MappedImage | None] = [None] * len(matches.references)
    if pixels:
        opened = Maps.of(
            matches,
            network=maps,
            cutouts=cutouts,
            weights=weights,
            average=average,
            seed=seed,
            quiet=quiet,
        )
        references = [opened.of_reference(reference) for reference in matches.references]
    return tuple(
        _one(matches, row, score, opened, references)
        for row, score in zip(rows, scored, strict=True)
    )


def _one(
    matches: Matches,
    row: int,
    scored: Scoring,
    opened: Maps | None,
    references: Sequence[MappedImage | None],
) -> Explanation:
    name, x = str(matches.embeddings.ids[row]), matches.embeddings.vectors[row]
    place = np.flatnonzero(matches.rows == row)
    own: ScoreMap | None = None
    queries: list[ScoreMap | None] = [None] * len(references)
    pairs: list[np.ndarray | None] = [None] * len(references)
    if opened is not None:
        mapped = opened.of_object(name, x)
        line = scored.match
        own = opened.score_map(mapped, line.value(x) - line.base, line.cells(mapped.places))
        few = mapped.places[0].size <= _MOST_PAIRED
        for number, (line, known) in enumerate(zip(scored.references, references, strict=True)):
            if known is None:
                continue
            value = line.value(matches.references[number].vector) - line.base
            queries[number] = opened.score_map(known, value, line.cells(known.places))
            if few and scored.space is not None:
                pairs[number] = scored.space.pairs(mapped.places, known.places)
    return Explanation(
        id=name,
        rank=int(place[0]) + 1 if len(place) else None,
        kind=scored.kind,
        score=scored.match.value(x),
        base=scored.match.base,
        distance=float(matches.ranker.exact(x[None]).distance[0]),
        features=_features(matches, scored.match, x),
        map_match=own,
        map_queries=tuple(queries),
        pairs=tuple(pairs),
        average=0 if opened is None else opened.average,
        matches=matches,
    )


def _features(matches: Matches, line: Linear, x: np.ndarray) -> pa.Table:
    statistics = matches.embeddings.statistics
    positives = [r for r in matches.references if not r.negative]
    mean = np.average([r.vector for r in positives], axis=0, weights=[r.weight for r in positives])
    parts = line.parts(x)
    total = parts.sum()
    order = np.argsort(-parts, kind="stable")
    value, reference = (
        (vector.astype(np.float64) - statistics.mean) * statistics.inverse_scale
        for vector in (x, mean)
    )
    return pa.table(
        {
            "feature": order,
            "part": parts[order],
            "share": parts[order] / total if total else np.full(len(parts), np.nan),
            "value": value[order],
            "reference": reference[order],
        }
    )


def _row(matches: Matches, match: str | int) -> int:
    if isinstance(match, str):
        return int(matches.embeddings.index[match])
    if not 1 <= match <= len(matches):
        raise UsageError(f"rank {match}; expected 1 to {len(matches)}, or an identifier")
    return int(matches.rows[match - 1])
