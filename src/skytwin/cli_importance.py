"""``skytwin importance``: which components of the vectors foretell a property."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from skytwin.cli_options import Emb, GroupArcsec, Quiet, ResumedResult, Save, Where, tell

__all__ = ["importance"]


def importance(
    embedding: Emb,
    target: Annotated[
        str, typer.Option("--target", help="Numeric column to predict, e.g. las_arcsec.")
    ],
    trees: Annotated[
        int, typer.Option("--trees", help="At least so many trees, one per batch of rows.")
    ] = 100,
    batch: Annotated[int, typer.Option("--batch", help="Rows that a tree is grown on.")] = 1000,
    test_share: Annotated[
        float, typer.Option("--test-share", help="Share of the objects held out.")
    ] = 0.25,
    repeats: Annotated[int, typer.Option("--repeats", help="Shuffles of each component.")] = 5,
    group_arcsec: GroupArcsec = 2.0,
    where: Where = None,
    seed: Annotated[int, typer.Option("--seed", help="Of all random choices.")] = 0,
    out: ResumedResult = None,
    save: Save = None,
    quiet: Quiet = False,
) -> None:
    """Rank the components of the vectors by what they say of a numeric column."""
    from skytwin.answers.importance import importance as run_importance
    from skytwin.answers.resume import Steps
    from skytwin.embeddings.table import Embeddings
    from skytwin.report_files import check_targets, resumed
    from skytwin.report_importance import save_importance

    check_targets(None, save or [])
    settings: dict[str, Any] = {
        "target": target,
        "trees": trees,
        "batch": batch,
        "test_share": test_share,
        "repeats": repeats,
        "group_arcsec": group_arcsec,
        "where": where,
        "seed": seed,
    }
    given = Embeddings.open(embedding)
    with resumed(out, "importance", settings, {"embeddings": given.as_parent()}) as run:
        found = run_importance(given, **settings, steps=Steps(run), quiet=quiet)
        typer.echo(found.summary)
        tell(save_importance(found, run, save or []))
