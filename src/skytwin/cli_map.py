"""``skytwin map``: objects on a plane, and more objects on the same plane."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from skytwin.cli_options import CutoutsAt, DisplayText, Emb, Quiet, ResumedResult, Save, Where, tell
from skytwin.embeddings.names import DEFAULT_METRIC
from skytwin.errors import UsageError

__all__ = ["map_"]


def map_(
    embedding: Emb,
    method: Annotated[
        str, typer.Option("--method", help="tsne, umap or pca: how to lay them out.")
    ] = "tsne",
    color: Annotated[
        list[str] | None,
        typer.Option("--color", help="Colour by a catalogue column, or density. Repeatable."),
    ] = None,
    thumbnails: Annotated[
        int, typer.Option("--thumbnails", help="A map made of images, so many across; 0: none.")
    ] = 0,
    onto: Annotated[
        Path | None,
        typer.Option("--onto", help="Place these objects on a map that is there (its folder)."),
    ] = None,
    metric: Annotated[
        str, typer.Option("--metric", help="standardized, cosine or euclidean.")
    ] = DEFAULT_METRIC,
    perplexity: Annotated[
        float, typer.Option("--perplexity", help="t-SNE: about how many neighbours to hold on to.")
    ] = 30.0,
    neighbours: Annotated[int, typer.Option("--neighbours", help="UMAP: the same.")] = 15,
    pca: Annotated[int, typer.Option("--pca", help="Principal components kept first.")] = 50,
    where: Where = None,
    sample: Annotated[
        int, typer.Option("--sample", help="Of more objects, so many drawn at random.")
    ] = 200_000,
    seed: Annotated[int, typer.Option("--seed", help="The same seed gives the same map.")] = 0,
    threads: Annotated[int, typer.Option("--threads", help="Processor threads for t-SNE.")] = 1,
    out: ResumedResult = None,
    save: Save = None,
    display: DisplayText = None,
    cutouts: CutoutsAt = None,
    quiet: Quiet = False,
) -> None:
    """Draw a 2-D map of the vectors, and say how far it can be trusted."""
    from skytwin import report_map
    from skytwin.answers.maps import make_map
    from skytwin.answers.maps_place import place
    from skytwin.answers.resume import Steps
    from skytwin.embeddings.table import Embeddings
    from skytwin.report_files import resumed

    opened = Embeddings.open(embedding)
    look = report_map.Look(
        color=color or (), thumbnails=thumbnails, cutouts=cutouts, display=display
    )
    if onto is not None and (color or thumbnails or where):
        raise UsageError("--color, --thumbnails and --where do not go with --onto; leave them out")
    # A map goes on in a folder that is there; a placement wants a new one.
    images = report_map.check(opened, look, None if onto is None else out, save or [])
    if onto is not None:
        placed = place(onto, opened, quiet=quiet)
        typer.echo(placed.summary)
        tell(report_map.save_placement(placed, out, save or []))
        return
    settings: dict[str, Any] = {
        "method": method,
        "metric": metric,
        "perplexity": perplexity,
        "neighbours": neighbours,
        "pca": pca,
        "where": where,
        "sample": sample,
        "seed": seed,
    }
    with resumed(out, "map", settings, {"embeddings": opened.as_parent()}) as run:
        found = make_map(opened, **settings, threads=threads, steps=Steps(run), quiet=quiet)
        typer.echo(found.summary)
        tell(report_map.save_map(found, opened, look, images, run, save or []))
