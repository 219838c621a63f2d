"""``skytwin index`` and ``skytwin join``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from skytwin.cli_options import Emb, Out, Quiet

__all__ = ["index", "join"]


def index(
    embedding: Emb,
    kind: Annotated[
        str,
        typer.Option("--kind", help="ivf-sq8 (on disk), or hnsw-sq8 (in memory, faster)."),
    ] = "ivf-sq8",
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder to write; resumed if unfinished [EMBEDDING.index]."),
    ] = None,
    anew: Annotated[
        bool, typer.Option("--anew", help="Learn anew; do not carry on the index of a part.")
    ] = False,
    queries: Annotated[
        int, typer.Option("--queries", help="Objects that recall is measured on.")
    ] = 100,
    seed: Annotated[int, typer.Option("--seed", help="Of all random choices.")] = 0,
    quiet: Quiet = False,
) -> None:
    """Make searching a large embedding faster, and measure what that misses."""
    from skytwin.answers.indexing import build_index
    from skytwin.embeddings.table import Embeddings
    from skytwin.report_index import describe_index

    built = build_index(
        Embeddings.open(embedding),
        out,
        kind=kind,
        anew=anew,
        queries=queries,
        seed=seed,
        quiet=quiet,
    )
    typer.echo(describe_index(built))


def join(
    parts: Annotated[
        list[Path], typer.Argument(help="Embeddings by one encoder, or cutouts of one kind.")
    ],
    out: Out,
    store: Annotated[
        str | None,
        typer.Option("--store", help="Vectors as float32 or float16 (default: as in the parts)."),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Make one embedding of several, or one set of cutouts."""
    from skytwin.artefact import Manifest
    from skytwin.errors import UsageError

    if Manifest.open(parts[0]).kind == "cutouts":
        from skytwin.images.join import join_cutouts
        from skytwin.report import describe_cutouts

        if store is not None:
            raise UsageError("--store is for vectors; cutouts are joined as they are")
        typer.echo(describe_cutouts(join_cutouts(parts, out, quiet=quiet)))
        return
    from skytwin.embeddings.join import join as run
    from skytwin.embeddings.vectors import STORES
    from skytwin.errors import one_of
    from skytwin.report import describe_embeddings

    chosen = None if store is None else one_of("store", store, STORES)
    typer.echo(describe_embeddings(run(parts, out, store=chosen, quiet=quiet)))
