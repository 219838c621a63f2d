"""``skytwin compare``: which metric and combination finds most, on labelled objects."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from skytwin.cli_options import (
    Emb,
    Positive,
    Quiet,
    ResumedResult,
    SameArcsec,
    Save,
    counts,
    listed,
    tell,
)

__all__ = ["compare"]


def compare(
    embedding: Emb,
    positive: Positive,
    ways: Annotated[
        str | None,
        typer.Option(
            "--ways", help="METRIC+COMBINE,...: standardized+mean,euclidean+min (default: all)."
        ),
    ] = None,
    references: Annotated[
        str, typer.Option("--references", help="How many references; several: 1,5,20.")
    ] = "5",
    negatives: Annotated[
        str, typer.Option("--negatives", help="How many negative ones; several: 0,5.")
    ] = "0",
    draws: Annotated[int, typer.Option("--draws", help="Random draws of references.")] = 30,
    top: Annotated[int, typer.Option("--top", help="Purity of the nearest so many.")] = 100,
    same_arcsec: SameArcsec = 2.0,
    seed: Annotated[int, typer.Option("--seed", help="Of the draws and the background.")] = 0,
    out: ResumedResult = None,
    save: Save = None,
    quiet: Quiet = False,
) -> None:
    """Score ways of searching by leaving references out, on labelled objects."""
    from skytwin.answers.compare import WAYS
    from skytwin.answers.compare import compare as run_compare
    from skytwin.answers.resume import Steps
    from skytwin.embeddings.table import Embeddings
    from skytwin.report_compare import save_comparison
    from skytwin.report_files import check_targets, resumed

    check_targets(None, save or [])
    settings: dict[str, Any] = {
        "positive": positive,
        "ways": list(WAYS) if ways is None else [_way(text) for text in listed(ways) or []],
        "references": counts(references, "--references"),
        "negatives": counts(negatives, "--negatives"),
        "draws": draws,
        "top": top,
        "same_arcsec": same_arcsec,
        "seed": seed,
    }
    given = Embeddings.open(embedding)
    with resumed(out, "comparison", settings, {"embeddings": given.as_parent()}) as run:
        found = run_compare(given, **settings, steps=Steps(run), quiet=quiet)
        typer.echo(found.summary)
        tell(save_comparison(found, run, save or []))


def _way(text: str) -> tuple[str, str]:
    metric, _, combine = text.partition("+")
    return metric.strip(), combine.strip() or "mean"
