"""``skytwin samp`` and ``skytwin footprint``: with TOPCAT, Aladin and the Virtual Observatory."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from skytwin.cli_options import CombineName, Emb, MatchArcsec, MetricName, Quiet, SameArcsec, Where
from skytwin.embeddings.names import DEFAULT_COMBINE, DEFAULT_METRIC

__all__ = ["footprint", "samp"]


def samp(
    embedding: Emb,
    k: Annotated[int, typer.Option("-k", help="How many matches to send back.")] = 25,
    catalog: Annotated[
        bool, typer.Option("--catalog", help="First send the whole catalogue, to pick rows from.")
    ] = False,
    metric: MetricName = DEFAULT_METRIC,
    combine: CombineName = DEFAULT_COMBINE,
    where: Where = None,
    same_arcsec: SameArcsec = 2.0,
    match_arcsec: MatchArcsec = 3.0,
) -> None:
    """Answer what TOPCAT or Aladin points at with the objects most like it; Ctrl-C ends it."""
    from skytwin.embeddings.table import Embeddings
    from skytwin.vo import require_extra

    require_extra("SAMP", "pyvo")
    from skytwin.vo.samp import Desk, answer

    opened = Embeddings.open(embedding)

    def ready() -> None:
        typer.echo("connected; pick a row or a place on the sky in TOPCAT or Aladin (Ctrl-C ends)")

    try:
        with Desk() as desk:
            if catalog:
                about = {"skytwin": "catalog", "embedding": opened.as_parent().fingerprint}
                sent = desk.send(opened.catalog, about, Path(embedding).name)
                typer.echo(f"catalogue of {len(opened)} objects sent to {sent}")
            answer(
                desk,
                opened,
                typer.echo,
                ready=ready,
                k=k,
                metric=metric,
                combine=combine,
                where=where,
                same_arcsec=same_arcsec,
                match_arcsec=match_arcsec,
            )
        typer.echo("the hub has closed")
    except KeyboardInterrupt:
        typer.echo("stopped")


def footprint(
    source: Annotated[Path, typer.Argument(help="Embedding, cutouts, or a table with RA and Dec.")],
    out: Annotated[Path, typer.Option("--out", help="New file: .fits or .json (MOC).")],
    order: Annotated[
        int | None,
        typer.Option("--order", help="HEALPix order, 0 to 29; by default from the images' size."),
    ] = None,
    size: Annotated[
        float | None,
        typer.Option("--size", help="Side of the images in arcsec; by default the cutouts'."),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Write the sky that a survey covers as a MOC, for Aladin, TOPCAT and --inside."""
    from skytwin.files import require_new
    from skytwin.images.moc import MOC_ENDINGS
    from skytwin.vo.footprint import footprint as run

    require_new(out, MOC_ENDINGS)
    found = run(source, order=order, size_arcsec=size, quiet=quiet)
    found.save(out)
    typer.echo(found.summary)
    typer.echo(f"written: {out}")
