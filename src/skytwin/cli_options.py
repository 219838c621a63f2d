"""Options that several sub-commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from skytwin.errors import UsageError

__all__ = [
    "BackgroundSeed",
    "CombineName",
    "CutoutsAt",
    "Dask",
    "DisplayText",
    "Emb",
    "Emphasis",
    "GroupArcsec",
    "Like",
    "MatchArcsec",
    "MetricName",
    "Out",
    "Positive",
    "Quiet",
    "Result",
    "ResumedResult",
    "SameArcsec",
    "Save",
    "Unlike",
    "Weights",
    "Where",
    "Workers",
    "counts",
    "listed",
    "numbers",
    "tell",
]

Out = Annotated[Path, typer.Option("--out", help="Folder to write; resumed if unfinished.")]
Result = Annotated[
    Path | None, typer.Option("--out", help="New folder for tables, pictures and manifest.")
]
ResumedResult = Annotated[
    Path | None,
    typer.Option("--out", help="Folder for tables, pictures, manifest; resumed if unfinished."),
]
Save = Annotated[
    list[Path] | None,
    typer.Option(
        "--save", help="One more file: .vot .fits .parquet .csv .ecsv, or .png .pdf. Repeatable."
    ),
]
Emb = Annotated[Path, typer.Argument(help="Folder that `skytwin embed` wrote.")]
Like = Annotated[
    list[str],
    typer.Option("--like", help="Reference: an id, RA,DEC, an image file, or EMB:ID. Repeatable."),
]
Positive = Annotated[
    list[str], typer.Option("--positive", help="column=value or SQL; several: or.")
]
Unlike = Annotated[
    list[str] | None,
    typer.Option("--unlike", help="Negative reference, given as --like is. Repeatable."),
]
Emphasis = Annotated[
    str | None, typer.Option("--emphasis", help="Weights of the references, in order: 2,1,1.")
]
MetricName = Annotated[
    str,
    typer.Option("--metric", help="standardized, euclidean, cosine, whitened or csls."),
]
CombineName = Annotated[
    str,
    typer.Option(
        "--combine",
        help="Several references as one: auto, mean, min, fusion, logistic, lda, mean+logistic.",
    ),
]
BackgroundSeed = Annotated[
    int, typer.Option("--seed", help="Of the random background that some combinations take.")
]
SameArcsec = Annotated[
    float, typer.Option("--same-arcsec", help="Nearer than this on the sky: the same object.")
]
GroupArcsec = Annotated[
    float,
    typer.Option("--group-arcsec", help="Entries nearer than this, or linked so: one object."),
]
MatchArcsec = Annotated[
    float, typer.Option("--match-arcsec", help="How far from RA,DEC its object may lie.")
]
Where = Annotated[
    str | None, typer.Option("--where", help="Only rows with, e.g. 'z < 0.2 and mag_r < 19'.")
]
Weights = Annotated[Path | None, typer.Option("--weights", help="Weights as .safetensors.")]
CutoutsAt = Annotated[
    Path | None, typer.Option("--cutouts", help="Where the cutouts are, if they were moved.")
]
DisplayText = Annotated[
    str | None,
    typer.Option("--display", help="Stretch of the pictures: asinh, log, linear, clip:1,99."),
]
Workers = Annotated[
    int | None, typer.Option("--workers", help="So many processes of this machine (Dask).")
]
Dask = Annotated[
    str | None, typer.Option("--dask", help="Workers of this Dask scheduler: tcp://host:8786.")
]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress.")]


def tell(text: str) -> None:
    """Print, unless there is nothing to say."""
    if text:
        typer.echo(text)


def listed(text: str | None) -> list[str] | None:
    """``"g, r,i"`` as its parts."""
    return [part.strip() for part in text.split(",")] if text is not None else None


def numbers(text: str | None, option: str) -> list[float] | None:
    """``"2,1,1"`` as numbers, or an error that names the option."""
    try:
        return [float(part) for part in text.split(",")] if text is not None else None
    except ValueError as error:
        raise UsageError(f"{option} {text}; expected numbers such as 2,1,1") from error


def counts(text: str, option: str) -> list[int]:
    """``"1,5,20"`` as whole numbers, or an error that names the option."""
    found = numbers(text, option) or []
    if any(number != int(number) for number in found):
        raise UsageError(f"{option} {text}; expected whole numbers such as 1,5,20")
    return [int(number) for number in found]
