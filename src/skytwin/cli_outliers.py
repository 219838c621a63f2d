"""``skytwin outliers``: objects where hardly any others are."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from skytwin.cli_options import (
    CutoutsAt,
    DisplayText,
    Emb,
    GroupArcsec,
    Quiet,
    ResumedResult,
    Save,
    Where,
    listed,
    tell,
)
from skytwin.errors import UsageError

__all__ = ["outliers"]


def outliers(
    embedding: Emb,
    reference: Annotated[
        Path | None,
        typer.Option(
            "--reference", help="Embedding of what is ordinary (default: this one, in folds)."
        ),
    ] = None,
    against: Annotated[
        list[str] | None,
        typer.Option("--against", help="NAME=EMB: one more set to score and draw. Repeatable."),
    ] = None,
    methods: Annotated[
        str | None,
        typer.Option("--methods", help="Some of knn,mahalanobis,forest,flow (default: all)."),
    ] = None,
    flow: Annotated[
        str,
        typer.Option(
            "--flow", help="default, paper (30 times as long), or a fitted flow's folder."
        ),
    ] = "default",
    label: Annotated[
        str | None, typer.Option("--label", help="Column to show with the oddest.")
    ] = None,
    positive: Annotated[
        list[str] | None,
        typer.Option("--positive", help="Known to be odd, to check: column=value or SQL."),
    ] = None,
    folds: Annotated[
        int, typer.Option("--folds", help="Parts of the reference, each scored by the rest.")
    ] = 5,
    reference_rows: Annotated[
        int,
        typer.Option("--reference-rows", help="Of a larger set, so many at random are ordinary."),
    ] = 100_000,
    where: Where = None,
    group_arcsec: GroupArcsec = 2.0,
    seed: Annotated[int, typer.Option("--seed", help="Of all random choices.")] = 0,
    side: Annotated[int, typer.Option("--side", help="Rows and columns of the mosaic.")] = 6,
    out: ResumedResult = None,
    save: Save = None,
    display: DisplayText = None,
    cutouts: CutoutsAt = None,
    quiet: Quiet = False,
) -> None:
    """Score every object by how few others are near it, in four ways."""
    from skytwin.answers.outliers import outliers as run_outliers
    from skytwin.answers.outliers_scores import METHODS
    from skytwin.answers.outliers_settings import OutlierSettings
    from skytwin.answers.resume import Steps
    from skytwin.embeddings.table import Embeddings
    from skytwin.images.cutouts import Cutouts
    from skytwin.images.display import parse_display
    from skytwin.report_files import check_targets
    from skytwin.report_outliers import outliers_run, save_outliers

    check_targets(None, save or [])
    if not 1 <= side <= 40:
        raise UsageError(f"--side {side}; expected 1 to 40")
    settings = OutlierSettings(
        methods=tuple(listed(methods) or METHODS),
        flow=flow,
        folds=folds,
        positive=tuple(positive or ()),
        where=where,
        reference_rows=reference_rows,
        group_arcsec=group_arcsec,
        seed=seed,
    )
    look = parse_display(display) if display is not None else None
    images = Cutouts(cutouts) if cutouts is not None else None
    given = Embeddings.open(embedding)
    other = Embeddings.open(reference) if reference is not None else None
    sets = {name: Embeddings.open(folder) for name, folder in map(_named, against or [])}
    with outliers_run(out, settings, given, other, sets, label) as run:
        found = run_outliers(
            given,
            settings,
            reference=other,
            against=sets,
            label=label,
            steps=Steps(run),
            quiet=quiet,
        )
        typer.echo(found.summary)
        tell(save_outliers(found, run, save or [], display=look, cutouts=images, side=side))


def _named(text: str) -> tuple[str, str]:
    name, equals, folder = text.partition("=")
    if not (name and equals and folder):
        raise UsageError(f"--against {text}; expected NAME=EMB")
    return name, folder
