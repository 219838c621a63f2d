"""The ``skytwin`` command: one sub-command per verb, each opens, calls, saves and prints."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from skytwin.cli_certify import app as certify_app
from skytwin.errors import SkytwinError, UsageError

__all__ = ["app", "main"]

app = typer.Typer(
    name="skytwin",
    help="Find more objects like these, in my survey, with a purity I can trust.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.add_typer(certify_app, name="certify")
_INTERRUPTED = 130
Out = Annotated[Path, typer.Option("--out", help="Folder to write; resumed if unfinished.")]
Result = Annotated[
    Path | None, typer.Option("--out", help="New folder for tables, pictures and manifest.")
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
MetricName = Annotated[str, typer.Option("--metric", help="standardized, euclidean or cosine.")]
CombineName = Annotated[
    str, typer.Option("--combine", help="Distance to several references: mean or min.")
]
SameArcsec = Annotated[
    float, typer.Option("--same-arcsec", help="Nearer than this on the sky: the same object.")
]
MatchArcsec = Annotated[
    float, typer.Option("--match-arcsec", help="How far from RA,DEC its object may lie.")
]
Weights = Annotated[Path | None, typer.Option("--weights", help="Weights as .safetensors.")]
CutoutsAt = Annotated[
    Path | None, typer.Option("--cutouts", help="Where the cutouts are, if they were moved.")
]
DisplayText = Annotated[
    str | None,
    typer.Option("--display", help="Stretch of the pictures: asinh, log, linear, clip:1,99."),
]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress.")]


@app.command()
def ingest(
    source: Annotated[
        list[str],
        typer.Argument(
            help="Folder or archive of images, array file, published set "
            "(frdeep-nvss, frdeep-first, mirabest), or one mosaic per band."
        ),
    ],
    out: Out,
    catalog: Annotated[
        Path | None, typer.Option("--catalog", help="Table to join: CSV, FITS, VOTable, ...")
    ] = None,
    match_arcsec: Annotated[
        float | None,
        typer.Option("--match-arcsec", help="Join on the sky within this; by id without it."),
    ] = None,
    size: Annotated[
        int | None, typer.Option("--size", help="Side in pixels: cut (mosaic) or resampled to.")
    ] = None,
    crop: Annotated[
        int | None, typer.Option("--crop", help="Keep the central part, this many pixels wide.")
    ] = None,
    bands: Annotated[str | None, typer.Option("--bands", help="Channel names: g,r,i.")] = None,
    pattern: Annotated[
        str | None, typer.Option("--pattern", help="One file per band: '{id}_{band}.fits'.")
    ] = None,
    pixel_scale: Annotated[
        float | None, typer.Option("--pixel-scale", help="Arcsec per pixel; overrules the WCS.")
    ] = None,
    unit: Annotated[str | None, typer.Option("--unit", help="Flux unit; overrules BUNIT.")] = None,
    positions: Annotated[
        list[Path] | None,
        typer.Option("--positions", help="Table of positions in the mosaic. Repeatable."),
    ] = None,
    detect: Annotated[bool, typer.Option("--detect", help="Find the objects (sep).")] = False,
    threshold: Annotated[
        float | None, typer.Option("--threshold", help="Of the detection, in sigma [3].")
    ] = None,
    max_objects: Annotated[
        int | None, typer.Option("--max-objects", help="Only the brightest so many detections.")
    ] = None,
    position_band: Annotated[
        str | None, typer.Option("--position-band", help="Band whose pixels x, y count in.")
    ] = None,
    pixel_origin: Annotated[
        int | None,
        typer.Option(
            "--pixel-origin", help="Number of the first pixel in x, y [1 for X_IMAGE, else 0]."
        ),
    ] = None,
    id_column: Annotated[str | None, typer.Option("--id-column")] = None,
    ra_column: Annotated[str | None, typer.Option("--ra-column")] = None,
    dec_column: Annotated[str | None, typer.Option("--dec-column")] = None,
    x_column: Annotated[str | None, typer.Option("--x-column")] = None,
    y_column: Annotated[str | None, typer.Option("--y-column")] = None,
    hdu: Annotated[
        list[str] | None, typer.Option("--hdu", help="FITS extension, name or number. Repeatable.")
    ] = None,
    dataset: Annotated[
        str | None, typer.Option("--dataset", help="Array file: the dataset of images.")
    ] = None,
    ids: Annotated[
        str | None, typer.Option("--ids", help="Array file: the dataset of identifiers.")
    ] = None,
    layout: Annotated[
        str | None, typer.Option("--layout", help="Array file: NHW, NCHW or NHWC.")
    ] = None,
    workers: Annotated[int | None, typer.Option("--workers", help="Reading threads.")] = None,
    quiet: Quiet = False,
) -> None:
    """Turn images into cutouts, joined with a catalogue."""
    from skytwin.images.detect import DetectSettings
    from skytwin.verbs import ingest as run

    if not detect and (threshold is not None or max_objects is not None):
        raise UsageError("--threshold and --max-objects go with --detect")
    made = run(
        source,
        out,
        catalog=catalog,
        match_arcsec=match_arcsec,
        size=size,
        crop=crop,
        bands=_listed(bands),
        pattern=pattern,
        pixel_scale=pixel_scale,
        unit=unit,
        positions=positions or (),
        detect=detect
        and DetectSettings(
            threshold_sigma=3.0 if threshold is None else threshold, max_objects=max_objects
        ),
        position_band=position_band,
        pixel_origin=pixel_origin,
        id_column=id_column,
        ra_column=ra_column,
        dec_column=dec_column,
        x_column=x_column,
        y_column=y_column,
        hdu=[int(name) if name.isdigit() else name for name in hdu or []],
        dataset=dataset,
        ids=ids,
        layout=layout,
        workers=workers,
        quiet=quiet,
    )
    from skytwin.report import describe_cutouts

    typer.echo(describe_cutouts(made))


@app.command()
def embed(
    cutouts: Annotated[Path, typer.Argument(help="Folder that `skytwin ingest` wrote.")],
    out: Out,
    encoder: Annotated[
        str | None,
        typer.Option("--encoder", help="timm:NAME, hf_hub:ORG/NAME, pca:N, or another embedding."),
    ] = None,
    preset: Annotated[
        str | None, typer.Option("--preset", help="Settings of a published method: ulisse.")
    ] = None,
    weights: Weights = None,
    size: Annotated[
        int | None, typer.Option("--size", help="Network input, pixels [224 for networks].")
    ] = None,
    crop: Annotated[
        str | None, typer.Option("--crop", help="Central part to look at: 64 or 30arcsec.")
    ] = None,
    bands: Annotated[
        str | None, typer.Option("--bands", help="Choose i,r,g; repeat i,i,i; average g+r+i.")
    ] = None,
    stretch: Annotated[
        str | None,
        typer.Option(
            "--stretch",
            help="For the network: linear, asinh, log, clip:0.5,99.5, zscale, lupton, "
            "or INTERVAL+FUNCTION [linear].",
        ),
    ] = None,
    orbit: Annotated[
        str | None,
        typer.Option("--orbit", help="Average over flips or d4 (flips and quarter turns) [none]."),
    ] = None,
    batch: Annotated[int, typer.Option("--batch", help="Images per pass.")] = 32,
    seed: Annotated[int, typer.Option("--seed", help="Of the sample that pca:N is fitted on.")] = 0,
    device: Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")] = "auto",
    runtime: Annotated[
        str, typer.Option("--runtime", help="auto, torch or openvino (CPU only, faster).")
    ] = "auto",
    quiet: Quiet = False,
) -> None:
    """Turn cutouts into vectors."""
    from skytwin.verbs import embed as run

    made = run(
        cutouts,
        encoder,
        out,
        preset=preset,
        weights=weights,
        size=size,
        crop=crop,
        bands=bands,
        stretch=stretch,
        orbit=orbit,
        batch=batch,
        seed=seed,
        device=device,
        runtime=runtime,
        quiet=quiet,
    )
    from skytwin.report import describe_embeddings

    typer.echo(describe_embeddings(made))


@app.command()
def search(
    embedding: Emb,
    like: Like,
    k: Annotated[int, typer.Option("-k", help="How many matches.")] = 25,
    radius: Annotated[
        float | None, typer.Option("--radius", help="All matches within this distance instead.")
    ] = None,
    metric: MetricName = "standardized",
    combine: CombineName = "mean",
    where: Annotated[
        str | None, typer.Option("--where", help="Only rows with, e.g. 'z < 0.2 and mag_r < 19'.")
    ] = None,
    include_self: Annotated[
        bool, typer.Option("--include-self", help="Keep the references in the list.")
    ] = False,
    same_arcsec: SameArcsec = 2.0,
    match_arcsec: MatchArcsec = 3.0,
    weights: Weights = None,
    out: Result = None,
    save: Save = None,
    label: Annotated[
        str | None, typer.Option("--label", help="Column to write on the pictures.")
    ] = None,
    side: Annotated[int, typer.Option("--side", help="The mosaic is side x side.")] = 5,
    display: DisplayText = None,
    cutouts: CutoutsAt = None,
) -> None:
    """Find the objects most like some references."""
    from skytwin import report
    from skytwin.answers.search import search as run
    from skytwin.embeddings.table import Embeddings

    report.check_targets(out, save or [])
    found = run(
        Embeddings.open(embedding),
        like,
        k=k,
        radius=radius,
        metric=metric,
        combine=combine,
        where=where,
        include_self=include_self,
        same_arcsec=same_arcsec,
        match_arcsec=match_arcsec,
        weights=weights,
    )
    look = report.Look(label=label, side=side, display=display, cutouts=cutouts)
    typer.echo(report.describe_matches(found))
    _tell(report.save_matches(found, out, save or [], look))


@app.command()
def purity(
    embedding: Emb,
    like: Like,
    positive: Annotated[
        list[str], typer.Option("--positive", help="column=value or SQL; several: or.")
    ],
    metric: MetricName = "standardized",
    combine: CombineName = "mean",
    at_purity: Annotated[
        float | None, typer.Option("--at-purity", help="Threshold for this purity.")
    ] = None,
    radius: Annotated[
        float | None, typer.Option("--radius", help="Purity within this distance.")
    ] = None,
    carry_to: Annotated[
        Path | None, typer.Option("--carry-to", help="Apply the threshold to this embedding.")
    ] = None,
    top: Annotated[
        int, typer.Option("--top", help="Composition of the nearest so many (with --by).")
    ] = 1000,
    by: Annotated[str | None, typer.Option("--by", help="Column of the composition.")] = None,
    compare: Annotated[
        list[Path] | None,
        typer.Option("--compare", help="Another embedding of the same objects. Repeatable."),
    ] = None,
    same_arcsec: SameArcsec = 2.0,
    match_arcsec: MatchArcsec = 3.0,
    weights: Weights = None,
    out: Result = None,
    save: Save = None,
) -> None:
    """Measure how pure the list is at every distance, on labelled objects."""
    from skytwin import report
    from skytwin.answers.purity import purity as run
    from skytwin.embeddings.table import Embeddings

    settings: dict[str, Any] = {
        "metric": metric,
        "combine": combine,
        "same_arcsec": same_arcsec,
        "match_arcsec": match_arcsec,
        "weights": weights,
    }
    if at_purity is not None and radius is not None:
        raise UsageError("--at-purity and --radius both set the threshold; give one of them")
    if carry_to is not None and at_purity is None and radius is None:
        raise UsageError("--carry-to needs a threshold: --at-purity P or --radius T")
    report.check_targets(out, save or [])
    curve = run(Embeddings.open(embedding), like, positive, **settings)
    threshold = None
    if at_purity is not None:
        threshold = curve.at_purity(at_purity)
    elif radius is not None:
        threshold = curve.at_distance(radius)
    found = report.PurityFindings(
        curve=curve,
        threshold=threshold,
        carried=curve.carry_to(Embeddings.open(carry_to), threshold)
        if carry_to is not None and threshold is not None
        else None,
        composition=curve.composition(by, top) if by else None,
        others={
            str(path): run(Embeddings.open(path), like, positive, **settings)
            for path in compare or []
        },
        name=str(embedding),
    )
    typer.echo(report.describe_purity(found))
    _tell(report.save_purity(found, out, save or []))


@app.command()
def info(
    folder: Annotated[Path, typer.Argument(help="Any folder that skytwin wrote.")],
    verify: Annotated[
        bool, typer.Option("--verify", help="Read every byte, whatever the time stamps say.")
    ] = False,
    sheet: Annotated[
        Path | None, typer.Option("--sheet", help="Save a picture of the first cutouts (.png).")
    ] = None,
    display: DisplayText = None,
) -> None:
    """Say what a folder holds, how it was made and from what."""
    from skytwin import report

    typer.echo(report.describe_folder(folder, verify=verify))
    if sheet is not None:
        report.save_sheet(folder, sheet, display)


def _tell(text: str) -> None:
    if text:
        typer.echo(text)


def _listed(text: str | None) -> list[str] | None:
    return [part.strip() for part in text.split(",")] if text is not None else None


def main() -> None:
    """Run the command; a `SkytwinError` becomes one line and its exit code."""
    try:
        status = app(standalone_mode=False)
    except SkytwinError as error:
        _fail(str(error), error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        status = _INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()  # the reader has gone: there is no one to tell
        sys.exit(0)
    except OSError as error:
        _fail(f"{error.strerror or error}: {error.filename or 'the output'}", 1)
    except Exception as error:
        # Click's own usage errors know how to show themselves.
        if not hasattr(error, "format_message"):
            raise
        _fail(error.format_message(), getattr(error, "exit_code", 2))
    # Typer gives an interrupt back as a status, or raises it, by its version.
    if status == _INTERRUPTED:
        _fail("interrupted; repeat the command to resume", _INTERRUPTED)
    sys.exit(status if isinstance(status, int) else 0)


def _fail(message: str, code: int) -> None:
    # One line whatever a file's name holds, and nothing that steers a terminal.
    line = "".join(c if c.isprintable() else "?" for c in " ".join(message.split()))
    sys.stderr.write(f"skytwin: error: {line}\n")
    sys.exit(code)
