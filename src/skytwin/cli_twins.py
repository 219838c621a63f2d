"""``skytwin twins``: one object more than once, within an embedding or between two."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from skytwin.cli_options import CutoutsAt, DisplayText, Emb, Quiet, Result, Save, tell
from skytwin.errors import UsageError

__all__ = ["twins"]


def twins(
    embedding: Emb,
    other: Annotated[
        Path | None, typer.Option("--other", help="Find what is also in this embedding instead.")
    ] = None,
    group_arcsec: Annotated[
        float, typer.Option("--group-arcsec", help="Nearer than this on the sky: one object.")
    ] = 2.0,
    label: Annotated[
        str | None, typer.Option("--label", help="Column of classes: say where copies disagree.")
    ] = None,
    split: Annotated[
        str | None, typer.Option("--split", help="Column of train and test: say what leaks.")
    ] = None,
    images: Annotated[
        bool, typer.Option("--images/--no-images", help="Compare the images, too.")
    ] = True,
    seed: Annotated[int, typer.Option("--seed", help="Of the samples that limits come from.")] = 0,
    out: Result = None,
    save: Save = None,
    display: DisplayText = None,
    cutouts: CutoutsAt = None,
    other_cutouts: Annotated[
        Path | None, typer.Option("--other-cutouts", help="Where those of --other are.")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Find entries that show the same object: by position, image and vector."""
    from skytwin import report_twins
    from skytwin.answers.leaks import find_twins
    from skytwin.embeddings.table import Embeddings

    if other is None and other_cutouts is not None:
        raise UsageError("--other-cutouts goes with --other")
    report_twins.check_targets(out, save or [])
    opened = Embeddings.open(embedding)
    second = Embeddings.open(other) if other is not None else None
    for each in (opened, second):
        for column in (label, split):
            if each is not None and column is not None:
                each.column(column)
    here = opened.cutouts(cutouts) if cutouts is not None else None
    there = second.cutouts(other_cutouts) if second is not None and other_cutouts else None
    found = report_twins.TwinFindings(
        twins=find_twins(
            opened,
            other=second,
            cutouts=here,
            other_cutouts=there,
            group_arcsec=group_arcsec,
            images=images,
            seed=seed,
            quiet=quiet,
        ),
        label=label,
        split=split,
        display=display,
        cutouts=here,
        other_cutouts=there,
    )
    tell(report_twins.describe(found))
    tell(report_twins.save(found, out, save or []))
