"""``skytwin fetch``: images of a survey by position."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from skytwin.cli_options import Out, Quiet, listed

__all__ = ["fetch"]


def fetch(
    positions: Annotated[Path, typer.Argument(help="Table with RA and Dec: CSV, VOTable, FITS.")],
    out: Out,
    survey: Annotated[
        str, typer.Option("--survey", help="sdss, legacy, hips:ID; sdss:dr17, legacy:LAYER.")
    ],
    size: Annotated[float, typer.Option("--size", help="Side of the images in arcsec.")],
    pixel_scale: Annotated[
        float | None,
        typer.Option(
            "--pixel-scale", help="Arcsec per pixel; the survey's by default, needed for hips."
        ),
    ] = None,
    bands: Annotated[
        str | None, typer.Option("--bands", help="Of legacy FITS; g,r,z by default.")
    ] = None,
    format_: Annotated[
        str | None, typer.Option("--format", help="fits or jpeg; sdss has jpeg only.")
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option("--rate", help="Requests per second at most; 2, or 5 for hips."),
    ] = None,
    retries: Annotated[int, typer.Option("--retries", help="Further attempts at one image.")] = 4,
    backoff: Annotated[
        float, typer.Option("--backoff", help="Longest first pause in s; doubles each time.")
    ] = 2.0,
    timeout: Annotated[
        float, typer.Option("--timeout", help="Seconds that one answer may take.")
    ] = 60.0,
    workers: Annotated[int, typer.Option("--workers", help="Requests under way at a time.")] = 4,
    seed: Annotated[int, typer.Option("--seed", help="Of the pauses' jitter.")] = 0,
    cache: Annotated[
        Path | None, typer.Option("--cache", help="Folder that keeps answers for other runs.")
    ] = None,
    give_up: Annotated[
        bool, typer.Option("--give-up", help="Finish without what did not come.")
    ] = False,
    base_url: Annotated[
        str | None, typer.Option("--base-url", help="A mirror that answers in the same way.")
    ] = None,
    id_column: Annotated[str | None, typer.Option("--id-column")] = None,
    ra_column: Annotated[str | None, typer.Option("--ra-column")] = None,
    dec_column: Annotated[str | None, typer.Option("--dec-column")] = None,
    quiet: Quiet = False,
) -> None:
    """Fetch a survey's images of a list of positions."""
    from skytwin.images.fetch import fetch as run

    fetched = run(
        positions,
        out,
        survey=survey,
        size_arcsec=size,
        pixel_scale=pixel_scale,
        bands=listed(bands),
        format=format_,
        base_url=base_url,
        id_column=id_column,
        ra_column=ra_column,
        dec_column=dec_column,
        rate=rate,
        retries=retries,
        backoff_s=backoff,
        timeout_s=timeout,
        workers=workers,
        seed=seed,
        cache=cache,
        give_up=give_up,
        quiet=quiet,
    )
    typer.echo(fetched.summary)
