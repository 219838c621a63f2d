"""``skytwin labels``: what people answered on the page of ``skytwin serve``, out and in."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from skytwin.cli_options import Emb

__all__ = ["app"]

app = typer.Typer(
    help="Labels that people gave on the page of `skytwin serve`: show, export, import.",
    no_args_is_help=True,
)

Book = Annotated[Path, typer.Argument(help="Label book: EMB.labels.sqlite, or --label-book.")]


@app.command()
def show(book: Book) -> None:
    """Say what is asked, who answered, and how far they agree."""
    from skytwin import report_labels

    typer.echo(report_labels.describe_book(book))


@app.command()
def export(
    book: Book,
    out: Annotated[
        Path, typer.Option("--out", help="New file: .csv, .parquet, .vot, .fits, .ecsv.")
    ],
    question: Annotated[
        str | None, typer.Option("--question", help="Which question, where there are several.")
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Every person's answer, not the majority's.")
    ] = False,
) -> None:
    """Write labels as a table with the columns id and label."""
    from skytwin import report_labels

    typer.echo(report_labels.export_labels(book, out, question, every=every))


@app.command(name="import")
def import_(
    book: Book,
    embedding: Emb,
    table: Annotated[Path, typer.Argument(help="Table with the columns id and label.")],
    question: Annotated[str, typer.Option("--question", help="Which question; new ones too.")],
    who: Annotated[
        str | None,
        typer.Option("--who", help="Who answered; else the column who of the table says it."),
    ] = None,
    id_column: Annotated[
        str | None, typer.Option("--id-column", help="Column of identifiers.")
    ] = None,
    label_column: Annotated[
        str | None, typer.Option("--label-column", help="Column of answers.")
    ] = None,
) -> None:
    """Take labels from a table into a book."""
    from skytwin import report_labels

    typer.echo(
        report_labels.import_labels(
            book,
            embedding,
            table,
            name=question,
            who=who,
            id_name=id_column,
            label_name=label_column,
        )
    )
