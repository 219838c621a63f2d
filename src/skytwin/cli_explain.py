"""``skytwin explain``: where in the images, and in which features, a similarity lies."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from skytwin.cli_options import (
    CombineName,
    CutoutsAt,
    DisplayText,
    Emb,
    Emphasis,
    Like,
    MatchArcsec,
    MetricName,
    Quiet,
    Result,
    SameArcsec,
    Unlike,
    Weights,
    Where,
    numbers,
    tell,
)
from skytwin.embeddings.names import DEFAULT_COMBINE, DEFAULT_METRIC
from skytwin.errors import UsageError

__all__ = ["explain"]


def explain(
    embedding: Emb,
    like: Like,
    match: Annotated[
        list[str] | None,
        typer.Option("--match", help="Explain this object, by id. Repeatable."),
    ] = None,
    k: Annotated[int, typer.Option("-k", help="Without --match: explain the nearest so many.")] = 5,
    unlike: Unlike = None,
    emphasis: Emphasis = None,
    metric: MetricName = DEFAULT_METRIC,
    combine: CombineName = DEFAULT_COMBINE,
    where: Where = None,
    top: Annotated[
        int, typer.Option("--top", help="Nearest objects whose features are compared.")
    ] = 50,
    background: Annotated[
        int, typer.Option("--background", help="Random objects they are compared with.")
    ] = 1000,
    average: Annotated[
        int,
        typer.Option("--average", help="Random objects that say what is usual at a place."),
    ] = 64,
    features_only: Annotated[
        bool, typer.Option("--features-only", help="No maps: for any encoder.")
    ] = False,
    seed: Annotated[int, typer.Option("--seed", help="Of all random choices.")] = 0,
    same_arcsec: SameArcsec = 2.0,
    match_arcsec: MatchArcsec = 3.0,
    weights: Weights = None,
    out: Result = None,
    save: Annotated[
        list[Path] | None,
        typer.Option(
            "--save",
            help="The maps as .png .pdf, or the parts as .csv .vot .fits .parquet. Repeatable.",
        ),
    ] = None,
    display: DisplayText = None,
    cutouts: CutoutsAt = None,
    quiet: Quiet = False,
) -> None:
    """Say why objects are in the list: where in the images, and in which features."""
    from skytwin import report_explain
    from skytwin.answers.explain import explain_each
    from skytwin.answers.explain_features import separating_features
    from skytwin.answers.search import search
    from skytwin.embeddings.table import Embeddings

    if k < 1 or top < 1:
        raise UsageError(f"-k {k}, --top {top}; expected at least 1")
    report_explain.check_targets(out, save or [], pixels=not features_only)
    opened = Embeddings.open(embedding)
    images = opened.cutouts(cutouts) if cutouts is not None else None
    matches = search(
        opened,
        like,
        unlike=unlike or (),
        emphasis=numbers(emphasis, "--emphasis"),
        k=max(top, 1 if match else k),
        metric=metric,
        combine=combine,
        seed=seed,
        where=where,
        same_arcsec=same_arcsec,
        match_arcsec=match_arcsec,
        weights=weights,
    )
    features = separating_features(matches, background, seed, quiet=quiet)
    each = explain_each(
        matches,
        match or list(range(1, min(k, len(matches)) + 1)),
        pixels=not features_only,
        average=average,
        seed=seed,
        cutouts=images,
        weights=weights,
        quiet=quiet,
    )
    found = report_explain.Explained(
        matches=matches, each=each, features=features, cutouts=images, display=display
    )
    tell(report_explain.describe(found))
    tell(report_explain.save(found, out, save or []))
