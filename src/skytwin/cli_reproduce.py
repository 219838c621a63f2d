"""``skytwin reproduce``: a paper's study as one command, from data to a report."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from skytwin.cli_options import Quiet, Weights, listed
from skytwin.errors import UsageError

if TYPE_CHECKING:
    from skytwin.reproduce.plan import Done

__all__ = ["app"]

app = typer.Typer(
    help="Redo a paper's study on your data, as a report.",
    no_args_is_help=True,
    add_completion=False,
)


@app.callback()
def _papers() -> None:
    """Redo a paper's study on your data, as a report."""


@app.command()
def ulisse(
    out: Annotated[Path, typer.Option("--out", help="Folder of the report; run again to go on.")],
    cutouts: Annotated[
        Path | None,
        typer.Option("--cutouts", help="Your images: a folder, archive, or ingested cutouts."),
    ] = None,
    catalog: Annotated[
        Path | None, typer.Option("--catalog", help="Table with their classes, joined by id.")
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option("--label", help="Class to look for: column=value or SQL. Repeatable."),
    ] = None,
    column: Annotated[
        str | None, typer.Option("--column", help="Column of all classes, if not that of --label.")
    ] = None,
    second: Annotated[
        Path | None, typer.Option("--second", help="Images of another survey, same bands.")
    ] = None,
    second_catalog: Annotated[
        Path | None, typer.Option("--second-catalog", help="Its table.")
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option("--encoder", help="timm:NAME or pca:N; the paper's is timm:efficientnet_b0."),
    ] = None,
    weights: Weights = None,
    recipe_embedding: Annotated[
        Path | None,
        typer.Option("--recipe-embedding", help="Ready embedding, the paper's way."),
    ] = None,
    embedding: Annotated[
        Path | None, typer.Option("--embedding", help="Ready embedding, as you would search it.")
    ] = None,
    bands: Annotated[
        str | None, typer.Option("--bands", help="What the network is given: i,r,g.")
    ] = None,
    stretch: Annotated[
        str | None, typer.Option("--stretch", help="Flux to brightness: lupton, asinh, linear.")
    ] = None,
    draws: Annotated[int, typer.Option("--draws", help="Prototypes of each class.")] = 12,
    seed: Annotated[int, typer.Option("--seed", help="Of all random choices.")] = 0,
    quiet: Quiet = False,
) -> None:
    """Redo Doorenbos et al. 2022: one-shot retrieval, from images to a report.

    Runs on --cutouts; else on Galaxy Zoo 1 where SKYTWIN_DATA holds it; else on a simulated survey.
    The report says which, and with which network.
    """
    try:
        from skytwin.reproduce.ulisse import Asked, reproduce_ulisse
    except ModuleNotFoundError as error:
        raise UsageError(
            f"a report needs {error.name}, which is not installed; install skytwin[reproduce]"
        ) from error

    done = reproduce_ulisse(
        out,
        Asked(
            cutouts=cutouts,
            catalog=catalog,
            labels=tuple(label or ()),
            column=column,
            second=second,
            second_catalog=second_catalog,
            encoder=encoder,
            weights=weights,
            recipe_embedding=recipe_embedding,
            embedding=embedding,
            bands=bands,
            stretch=stretch,
            draws=draws,
            seed=seed,
            quiet=quiet,
        ),
        tell=_teller("ulisse", quiet=quiet),
    )
    _say(done, out)


@app.command()
def rgz(
    out: Annotated[Path, typer.Option("--out", help="Folder of the report; run again to go on.")],
    encoder: Annotated[
        list[str] | None,
        typer.Option(
            "--encoder",
            help="Folder that `skytwin train` wrote, skytwin:NAME, timm:NAME or pca:N, in place "
            "of those at hand. Repeatable.",
        ),
    ] = None,
    weights: Weights = None,
    unlabelled: Annotated[
        Path | None,
        typer.Option("--unlabelled", help="RGZ DR1: a folder of images, or ingested cutouts."),
    ] = None,
    unlabelled_catalog: Annotated[
        Path | None, typer.Option("--unlabelled-catalog", help="Its table, joined by id.")
    ] = None,
    size_column: Annotated[
        str | None, typer.Option("--size-column", help="Its column of the angular size.")
    ] = None,
    mirabest: Annotated[
        Path | None,
        typer.Option("--mirabest", help="MiraBest as cutouts (default: from SKYTWIN_DATA)."),
    ] = None,
    frdeep: Annotated[
        Path | None,
        typer.Option("--frdeep", help="FR-DEEP as cutouts (default: from SKYTWIN_DATA)."),
    ] = None,
    classifiers: Annotated[
        str | None,
        typer.Option(
            "--classifiers", help="Some of knn,rf,svc,lr,gb,ext,svc-scale,lda (default: all)."
        ),
    ] = None,
    folds: Annotated[
        int, typer.Option("--folds", help="Of the cross-validation that chooses a classifier.")
    ] = 5,
    flow: Annotated[
        str, typer.Option("--flow", help="Density: default, or paper (hours).")
    ] = "default",
    count: Annotated[
        int, typer.Option("--count", help="Simulated sources where no --unlabelled is given.")
    ] = 4000,
    seed: Annotated[int, typer.Option("--seed", help="Of all random choices.")] = 0,
    quiet: Quiet = False,
) -> None:
    """Redo Andrianomena & Tang 2023: radio galaxies by their latent vectors, to a report.

    Runs on MiraBest and FR-DEEP where SKYTWIN_DATA holds them, else on simulated sets, and on
    --unlabelled, else on a simulated radio survey. The report says which, and with which encoders.
    """
    try:
        from skytwin.reproduce.rgz import Asked, reproduce_rgz
        from skytwin.reproduce.rgz_inputs import CLASSIFIERS
    except ModuleNotFoundError as error:
        raise UsageError(
            f"a report needs {error.name}, which is not installed; install skytwin[reproduce]"
        ) from error

    done = reproduce_rgz(
        out,
        Asked(
            encoders=tuple(encoder or ()),
            weights=weights,
            unlabelled=unlabelled,
            unlabelled_catalog=unlabelled_catalog,
            size_column=size_column,
            mirabest=mirabest,
            frdeep=frdeep,
            classifiers=tuple(listed(classifiers) or CLASSIFIERS),
            folds=folds,
            flow=flow,
            count=count,
            seed=seed,
            quiet=quiet,
        ),
        tell=_teller("rgz", quiet=quiet),
    )
    _say(done, out)


def _teller(paper: str, *, quiet: bool) -> Callable[[str], None]:
    """What shows a line of progress."""

    def tell(line: str) -> None:
        if not quiet:
            sys.stderr.write(f"reproduce {paper}: {line}\n")
            sys.stderr.flush()

    return tell


def _say(done: tuple[Done, ...], out: Path) -> None:
    """What was written."""
    made = [one for one in done if one.outcome == "made" and one.name != "page"]
    kept = len(done) - 1 - len(made)
    typer.echo(f"{len(made)} section(s) written, {kept} unchanged")
    typer.echo(f"written: {out / 'index.html'}")
