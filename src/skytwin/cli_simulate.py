"""``skytwin simulate``: a survey whose every object is known."""

from __future__ import annotations

from typing import Annotated

import typer

from skytwin.cli_options import Out, Quiet, listed
from skytwin.errors import UsageError

__all__ = ["simulate"]


def simulate(
    kind: Annotated[str, typer.Argument(help="optical or radio.")],
    count: Annotated[int, typer.Argument(help="How many objects.")],
    out: Out,
    seed: Annotated[int, typer.Option("--seed", help="Of everything drawn.")] = 0,
    size: Annotated[
        int | None, typer.Option("--size", help="Pixels of a side [64 optical, 150 radio].")
    ] = None,
    mix: Annotated[
        str | None, typer.Option("--mix", help="Shares of classes: merger=0.02,disk=0.5.")
    ] = None,
    bands: Annotated[str | None, typer.Option("--bands", help="Optical: g,r,i.")] = None,
    pixel_scale: Annotated[
        float | None, typer.Option("--pixel-scale", help="Arcsec per pixel [0.396, 1.8].")
    ] = None,
    survey: Annotated[
        str | None, typer.Option("--survey", help="Radio: beam and noise of first or nvss.")
    ] = None,
    depth: Annotated[float, typer.Option("--depth", help="Noise divided by this.")] = 1.0,
    eight_bit: Annotated[
        bool, typer.Option("--eight-bit", help="Radio: cut at 3 sigma and scaled, as MiraBest.")
    ] = False,
    workers: Annotated[int | None, typer.Option("--workers", help="Processes.")] = None,
    quiet: Quiet = False,
) -> None:
    """Draw a survey with known truth, as cutouts with a catalogue."""
    from skytwin.images.simulate import simulate_survey
    from skytwin.report import describe_cutouts

    made = simulate_survey(
        kind,
        count,
        out,
        seed=seed,
        size=size,
        bands=listed(bands),
        mix=_shares(mix),
        pixel_scale=pixel_scale,
        depth=depth,
        survey=survey,
        eight_bit=eight_bit,
        workers=workers,
        quiet=quiet,
    )
    typer.echo(describe_cutouts(made))


def _shares(text: str | None) -> dict[str, float] | None:
    """``"merger=0.02,disk=0.5"``."""
    if text is None:
        return None
    try:
        pairs = [part.split("=") for part in text.split(",")]
        return {name.strip(): float(share) for name, share in pairs}
    except ValueError as error:
        raise UsageError(f"--mix {text}; expected shares such as merger=0.02,disk=0.5") from error
