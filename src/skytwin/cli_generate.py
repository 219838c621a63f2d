"""``skytwin generate``: images from a trained VDVAE, and how close they are."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from skytwin.cli_options import Quiet, ResumedResult, Save, tell
from skytwin.errors import UsageError

__all__ = ["generate"]


def generate(
    encoder: Annotated[
        Path, typer.Argument(help="Folder that `skytwin train --method vdvae` wrote.")
    ],
    count: Annotated[int, typer.Option("-n", "--count", help="Samples to keep and show.")] = 64,
    temperature: Annotated[
        float, typer.Option("--temperature", help="Of the priors; 1 is the model.")
    ] = 1.0,
    latents: Annotated[
        str,
        typer.Option(
            "--latents",
            help="Where top latents come from: prior (the model's), or fitted (a Gaussian of those "
            "of training images, whose sizes come out right).",
        ),
    ] = "prior",
    condition: Annotated[
        list[str] | None,
        typer.Option(
            "--condition",
            help="COLUMN=VALUE, of a VDVAE trained on conditions; else as the data. Repeatable.",
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option("--data", help="Cutouts to compare with (default: those it was trained on)."),
    ] = None,
    judge: Annotated[
        list[Path] | None,
        typer.Option(
            "--judge", help="Encoder or embedding whose vectors are compared too. Repeatable."
        ),
    ] = None,
    compared: Annotated[
        int, typer.Option("--compared", help="Samples and held-out images in the tests.")
    ] = 500,
    most: Annotated[
        int, typer.Option("--most", help="Training images searched for the nearest, at most.")
    ] = 20_000,
    isophote: Annotated[
        float, typer.Option("--isophote", help="Where sizes are measured, in [0, 1].")
    ] = 0.1,
    flow: Annotated[
        Path | None,
        typer.Option("--flow", help="Fitted flow whose log-likelihoods are compared too."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of all random choices.")] = 0,
    device: Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")] = "auto",
    out: ResumedResult = None,
    save: Save = None,
    quiet: Quiet = False,
) -> None:
    """Generate images with a trained VDVAE, and say how close they are to real ones."""
    from skytwin.answers.generate import generate as run_generate
    from skytwin.answers.generate_data import open_real
    from skytwin.answers.generate_judges import encoder_judge, flow_density
    from skytwin.answers.resume import Steps
    from skytwin.report_files import check_targets
    from skytwin.report_generate import generated_run, save_generated

    check_targets(None, save or [])
    wanted = dict(_condition(text) for text in condition or ())
    try:
        from skytwin.encoders.generator import open_generator
    except ModuleNotFoundError as error:
        raise UsageError(
            f"generating needs {error.name}, which is not installed; install skytwin[networks]"
        ) from error
    generator = open_generator(encoder, device=device)
    judges = tuple(
        encoder_judge(one, generator.channels, generator.shape.size, device=device)
        for one in judge or ()
    )
    settings: dict[str, Any] = {
        "count": count,
        "temperature": temperature,
        "latents": latents,
        "conditions": wanted,
        "compared": compared,
        "most": most,
        "isophote": isophote,
        "seed": seed,
    }
    density = None if flow is None else flow_density(flow, generator)
    images = open_real(generator.manifest, data)
    with generated_run(out, generator, images, judges, flow, settings) as run:
        found = run_generate(
            generator,
            data=data,
            judges=judges,
            density=density,
            steps=Steps(run),
            quiet=quiet,
            **settings,
        )
        typer.echo(found.summary)
        tell(save_generated(found, run, save or []))


def _condition(text: str) -> tuple[str, float]:
    name, equals, value = text.partition("=")
    try:
        if not equals or not name.strip():
            raise ValueError(text)
        return name.strip(), float(value)
    except ValueError as error:
        raise UsageError(
            f"--condition {text}; expected COLUMN=VALUE, e.g. las_arcsec=30"
        ) from error
