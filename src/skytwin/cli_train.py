"""``skytwin train``: an encoder of one's own, without labels."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from skytwin.cli_options import Out, Quiet, Save, tell

__all__ = ["train"]


def train(
    cutouts: Annotated[Path, typer.Argument(help="Folder that `skytwin ingest` wrote.")],
    out: Out,
    method: Annotated[
        str | None, typer.Option("--method", help="simclr, byol, simsiam or vdvae.")
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option("--recipe", help="A .toml file, or one that comes along: rgz-simclr, ..."),
    ] = None,
    epochs: Annotated[int | None, typer.Option("--epochs")] = None,
    batch: Annotated[int | None, typer.Option("--batch", help="Images per step.")] = None,
    backbone: Annotated[
        str | None, typer.Option("--backbone", help="A model of timm (default: resnet34).")
    ] = None,
    size: Annotated[int | None, typer.Option("--size", help="Network input, pixels [64].")] = None,
    crop: Annotated[
        str | None,
        typer.Option("--crop", help="Central part to look at: 64 or 30arcsec (default: all)."),
    ] = None,
    bands: Annotated[
        str | None, typer.Option("--bands", help="Choose i,r,g; average g+r+i (default: all).")
    ] = None,
    stretch: Annotated[
        str | None, typer.Option("--stretch", help="As of `skytwin embed` (default: linear).")
    ] = None,
    balance: Annotated[
        str | None,
        typer.Option("--balance", help="Column whose classes, or ranges, are seen as often."),
    ] = None,
    change: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any other key of the recipe: optimizer.lr=0.1. Repeatable."),
    ] = None,
    where: Annotated[
        str | None, typer.Option("--where", help="Train on these only: SQL on the catalogue.")
    ] = None,
    exclude: Annotated[
        list[Path] | None,
        typer.Option(
            "--exclude", help="Leave out what this set shows: cutouts or a table. Repeatable."
        ),
    ] = None,
    exclude_arcsec: Annotated[
        float, typer.Option("--exclude-arcsec", help="What counts as the same place.")
    ] = 5.0,
    label: Annotated[
        str | None, typer.Option("--label", help="Column that a kNN probe is scored on.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of weights, views, order, split.")] = 0,
    device: Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")] = "auto",
    devices: Annotated[
        int, typer.Option("--devices", help="GPUs (or CPU processes) per machine.")
    ] = 1,
    nodes: Annotated[int, typer.Option("--nodes", help="Machines.")] = 1,
    resume: Annotated[
        bool, typer.Option("--resume", help="Insist on an unfinished run to go on with.")
    ] = False,
    save: Save = None,
    quiet: Quiet = False,
) -> None:
    """Train an encoder on cutouts, without labels."""
    from skytwin import report_train
    from skytwin.verbs_train import train as run

    report_train.check_targets(save or [])
    given = {
        "epochs": epochs,
        "batch": batch,
        "backbone": backbone,
        "input.size": size,
        "input.crop": crop,
        "input.bands": bands,
        "input.stretch": stretch,
        "balance.column": balance,
    }
    changes = [f"{key}={_toml(value)}" for key, value in given.items() if value is not None]
    run(
        cutouts,
        out,
        method=method,
        recipe=recipe,
        changes=[*changes, *(change or [])],
        seed=seed,
        where=where,
        exclude=exclude or (),
        exclude_arcsec=exclude_arcsec,
        label=label,
        device=device,
        devices=devices,
        nodes=nodes,
        resume=resume,
        quiet=quiet,
    )
    if report_train.leads():
        tell(report_train.describe(out))
        tell(report_train.save(out, save or []))


def _toml(value: str | int) -> str:
    """A value as TOML writes it: a crop of 64 is text."""
    return str(value) if isinstance(value, int) else '"' + value.replace('"', "") + '"'
