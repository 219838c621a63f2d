"""``skytwin search`` and ``skytwin purity``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from skytwin.cli_options import (
    BackgroundSeed,
    CombineName,
    CutoutsAt,
    Dask,
    DisplayText,
    Emb,
    Emphasis,
    GroupArcsec,
    Like,
    MatchArcsec,
    MetricName,
    Positive,
    Result,
    SameArcsec,
    Save,
    Unlike,
    Weights,
    Where,
    Workers,
    numbers,
    tell,
)
from skytwin.embeddings.names import DEFAULT_COMBINE, DEFAULT_METRIC
from skytwin.errors import UsageError

__all__ = ["purity", "search"]


def search(
    embedding: Emb,
    like: Like,
    unlike: Unlike = None,
    emphasis: Emphasis = None,
    k: Annotated[int, typer.Option("-k", help="How many matches.")] = 25,
    radius: Annotated[
        float | None, typer.Option("--radius", help="All matches within this distance instead.")
    ] = None,
    metric: MetricName = DEFAULT_METRIC,
    combine: CombineName = DEFAULT_COMBINE,
    seed: BackgroundSeed = 0,
    where: Where = None,
    inside: Annotated[
        Path | None, typer.Option("--inside", help="Only what lies inside this MOC (.fits, .json).")
    ] = None,
    include_self: Annotated[
        bool, typer.Option("--include-self", help="Keep the references in the list.")
    ] = False,
    positive: Annotated[
        list[str] | None,
        typer.Option(
            "--positive", help="Gives a probability: what is positive, column=value or SQL."
        ),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option("--labels", help="The same from a table with the columns id and label."),
    ] = None,
    null_queries: Annotated[
        int | None,
        typer.Option("--null-queries", help="Random queries to compare with; 0: none [99 or 39]."),
    ] = None,
    same_arcsec: SameArcsec = 2.0,
    match_arcsec: MatchArcsec = 3.0,
    weights: Weights = None,
    exact: Annotated[
        bool, typer.Option("--exact", help="Use no index: nothing is missing.")
    ] = False,
    index: Annotated[
        Path | None,
        typer.Option("--index", help="Index to use [EMBEDDING.index, where the set is large]."),
    ] = None,
    samp: Annotated[
        str | None, typer.Option("--samp", help="Send the matches to topcat, aladin or all.")
    ] = None,
    out: Result = None,
    save: Save = None,
    label: Annotated[
        str | None, typer.Option("--label", help="Column to write on the pictures.")
    ] = None,
    side: Annotated[int, typer.Option("--side", help="The mosaic is side x side.")] = 5,
    display: DisplayText = None,
    cutouts: CutoutsAt = None,
    workers: Workers = None,
    dask: Dask = None,
) -> None:
    """Find the objects most like some references."""
    from skytwin import report_search as report
    from skytwin.answers.search import search as run
    from skytwin.answers.trust import trust
    from skytwin.embeddings.engine import open_engine
    from skytwin.embeddings.table import Embeddings
    from skytwin.report_files import check_targets

    check_targets(out, save or [])
    if samp is not None:
        from skytwin.vo import require_extra

        require_extra("SAMP", "pyvo")
    with open_engine(dask=dask, workers=workers) as engine:
        found = run(
            Embeddings.open(embedding),
            like,
            unlike=unlike or (),
            emphasis=numbers(emphasis, "--emphasis"),
            k=k,
            radius=radius,
            metric=metric,
            combine=combine,
            seed=seed,
            where=where,
            inside=inside,
            include_self=include_self,
            same_arcsec=same_arcsec,
            match_arcsec=match_arcsec,
            weights=weights,
            exact=exact,
            index=index,
            engine=engine,
            quiet=False,
        )
    look = report.Look(label=label, side=side, display=display, cutouts=cutouts)
    trusted = trust(
        found,
        positive=positive or None,
        labels=labels,
        null_queries=null_queries,
        group_arcsec=same_arcsec,
        seed=seed,
    )
    typer.echo(report.describe_matches(trusted))
    tell(report.save_matches(trusted, out, save or [], look))
    if samp is not None:
        from skytwin.vo.samp import send_matches

        typer.echo(f"sent to {send_matches(found, samp, trusted.table)}")


def purity(
    embedding: Emb,
    like: Like,
    positive: Positive,
    unlike: Unlike = None,
    emphasis: Emphasis = None,
    metric: MetricName = DEFAULT_METRIC,
    combine: CombineName = DEFAULT_COMBINE,
    seed: BackgroundSeed = 0,
    at_purity: Annotated[
        float | None, typer.Option("--at-purity", help="Threshold for this purity.")
    ] = None,
    radius: Annotated[
        float | None, typer.Option("--radius", help="Purity within this distance.")
    ] = None,
    carry_to: Annotated[
        Path | None, typer.Option("--carry-to", help="Apply the threshold to this embedding.")
    ] = None,
    top: Annotated[
        int, typer.Option("--top", help="Composition of the nearest so many (with --by).")
    ] = 1000,
    by: Annotated[str | None, typer.Option("--by", help="Column of the composition.")] = None,
    compare: Annotated[
        list[Path] | None,
        typer.Option("--compare", help="Another embedding of the same objects. Repeatable."),
    ] = None,
    same_arcsec: SameArcsec = 2.0,
    group_arcsec: GroupArcsec = 2.0,
    match_arcsec: MatchArcsec = 3.0,
    weights: Weights = None,
    out: Result = None,
    save: Save = None,
) -> None:
    """Measure how pure the list is at every distance, on labelled objects."""
    from skytwin import report_purity as report
    from skytwin.answers.purity import purity as run
    from skytwin.embeddings.table import Embeddings
    from skytwin.report_files import check_targets

    settings: dict[str, Any] = {
        "unlike": unlike or (),
        "emphasis": numbers(emphasis, "--emphasis"),
        "metric": metric,
        "combine": combine,
        "seed": seed,
        "same_arcsec": same_arcsec,
        "group_arcsec": group_arcsec,
        "match_arcsec": match_arcsec,
        "weights": weights,
    }
    if at_purity is not None and radius is not None:
        raise UsageError("--at-purity and --radius both set the threshold; give one of them")
    if carry_to is not None and at_purity is None and radius is None:
        raise UsageError("--carry-to needs a threshold: --at-purity P or --radius T")
    check_targets(out, save or [])
    curve = run(Embeddings.open(embedding), like, positive, **settings)
    threshold = None
    if at_purity is not None:
        threshold = curve.at_purity(at_purity)
    elif radius is not None:
        threshold = curve.at_distance(radius)
    found = report.PurityFindings(
        curve=curve,
        threshold=threshold,
        carried=curve.carry_to(Embeddings.open(carry_to), threshold)
        if carry_to is not None and threshold is not None
        else None,
        composition=curve.composition(by, top) if by else None,
        others={
            str(path): run(Embeddings.open(path), like, positive, **settings)
            for path in compare or []
        },
        name=str(embedding),
    )
    typer.echo(report.describe_purity(found))
    tell(report.save_purity(found, out, save or []))
