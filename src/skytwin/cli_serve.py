"""``skytwin serve``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from skytwin.cli_options import CutoutsAt, Emb, Weights
from skytwin.errors import UsageError

__all__ = ["serve"]


def serve(
    embedding: Emb,
    maps: Annotated[
        list[Path] | None, typer.Option("--maps", help="Folder of `skytwin map`. Repeatable.")
    ] = None,
    beside: Annotated[
        list[Path] | None,
        typer.Option("--beside", help="Another embedding of the same objects. Repeatable."),
    ] = None,
    positive: Annotated[
        list[str] | None,
        typer.Option(
            "--positive", help="For purity: what is positive, column=value or SQL; several: or."
        ),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option("--labels", help="The same from a table with the columns id and label."),
    ] = None,
    outliers: Annotated[
        Path | None,
        typer.Option("--outliers", help="Folder of `skytwin outliers`: its scores as columns."),
    ] = None,
    moc: Annotated[
        list[Path] | None,
        typer.Option("--moc", help="MOC to draw and to search within (.fits, .json). Repeatable."),
    ] = None,
    samp: Annotated[
        bool, typer.Option("--samp", help="What TOPCAT or Aladin points at becomes the query.")
    ] = False,
    aladin: Annotated[
        bool,
        typer.Option("--aladin", help="Offer Aladin Lite, loaded from the CDS when turned on."),
    ] = False,
    aladin_from: Annotated[
        Path | None, typer.Option("--aladin-from", help="Folder with aladin.js to load it from.")
    ] = None,
    label_book: Annotated[
        Path | None,
        typer.Option(
            "--label-book", help="File of the labels given on the page; beside EMB by default."
        ),
    ] = None,
    plans: Annotated[
        list[Path] | None,
        typer.Option("--plan", help="Folder of `certify plan`, to label. Repeatable."),
    ] = None,
    port: Annotated[int, typer.Option("--port", help="Port; 0: any that is free.")] = 0,
    host: Annotated[
        str, typer.Option("--host", help="Address to listen at; another needs --token.")
    ] = "127.0.0.1",
    token: Annotated[
        str | None, typer.Option("--token", help="Secret that every client has to know.")
    ] = None,
    open_: Annotated[
        bool, typer.Option("--open/--no-open", help="Open the page in a browser.")
    ] = False,
    cutouts: CutoutsAt = None,
    weights: Weights = None,
) -> None:
    """Open a local page to look at matches."""
    try:
        from skytwin.vo.cone import routes
        from skytwin.web.serve import serve as run
        from skytwin.web.settings import Settings
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("skytwin"):
            raise
        raise UsageError(
            f"serving pages needs {error.name}; install it with pip install 'skytwin[serve]'"
        ) from None
    settings = Settings(
        embedding=embedding,
        cutouts=cutouts,
        beside=tuple(beside or ()),
        maps=tuple(maps or ()),
        positive=tuple(positive or ()),
        labels=labels,
        outliers=outliers,
        mocs=tuple(moc or ()),
        samp=samp,
        aladin=aladin,
        aladin_from=aladin_from,
        label_book=label_book,
        plans=tuple(plans or ()),
        weights=weights,
        host=host,
        port=port,
        token=token,
    )

    def tell(address: str) -> None:
        typer.echo(f"serving {embedding} at {address}\nCtrl-C stops it")

    run(
        settings,
        tell=tell,
        browse=open_,
        extra=lambda opened: [] if opened.positions is None else routes(opened),
    )
