"""``skytwin adopt``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from skytwin.cli_options import Out, Quiet

__all__ = ["adopt"]


def adopt(
    vectors: Annotated[
        Path, typer.Argument(help="Array (N, D) of another tool: .npy .npz .h5 .hdf5, Zarr.")
    ],
    out: Out,
    catalog: Annotated[
        Path | None,
        typer.Option("--catalog", help="Table: joined by id if the vectors have ids, else by row."),
    ] = None,
    id_name: Annotated[
        str | None, typer.Option("--id-column", help="The catalogue's column of identifiers.")
    ] = None,
    dataset: Annotated[
        str | None, typer.Option("--dataset", help="The array of vectors, if there are several.")
    ] = None,
    ids: Annotated[
        str | None, typer.Option("--ids", help="The array of identifiers beside them.")
    ] = None,
    made_by: Annotated[
        str, typer.Option("--made-by", help="What made them; only the same can be compared.")
    ] = "own vectors",
    quiet: Quiet = False,
) -> None:
    """Make an embedding of vectors from another tool."""
    from skytwin.embeddings.adopt import adopt as run

    made = run(
        vectors,
        out,
        catalog=catalog,
        id_name=id_name,
        dataset=dataset,
        ids=ids,
        made_by=made_by,
        quiet=quiet,
    )
    from skytwin.report import describe_embeddings

    typer.echo(describe_embeddings(made))
