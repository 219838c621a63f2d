"""``skytwin ingest`` and ``skytwin embed``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from skytwin.cli_options import (
    Dask,
    Out,
    Quiet,
    Weights,
    Workers,
    listed,
)
from skytwin.errors import UsageError

__all__ = ["embed", "ingest"]


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
    threads: Annotated[
        int | None, typer.Option("--threads", help="Reading threads (default: one per core).")
    ] = None,
    workers: Workers = None,
    dask: Dask = None,
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
        bands=listed(bands),
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
        threads=threads,
        workers=workers,
        dask=dask,
        quiet=quiet,
    )
    from skytwin.report import describe_cutouts

    typer.echo(describe_cutouts(made))


def embed(
    cutouts: Annotated[Path, typer.Argument(help="Folder that `skytwin ingest` wrote.")],
    out: Out,
    encoder: Annotated[
        str | None,
        typer.Option(
            "--encoder",
            help="timm:NAME, hf_hub:ORG/NAME, pca:N, what `skytwin train` left, or another "
            "embedding.",
        ),
    ] = None,
    preset: Annotated[
        str | None, typer.Option("--preset", help="Settings of a published method: ulisse.")
    ] = None,
    weights: Weights = None,
    size: Annotated[
        int | None, typer.Option("--size", help="Network input, pixels [224 for networks].")
    ] = None,
    crop: Annotated[
        str | None,
        typer.Option("--crop", help="Central part to look at: 64 or 30arcsec; several: 64,96."),
    ] = None,
    bands: Annotated[
        str | None, typer.Option("--bands", help="Choose i,r,g; repeat i,i,i; average g+r+i.")
    ] = None,
    stretch: Annotated[
        str | None,
        typer.Option(
            "--stretch",
            help="For the network: linear, asinh, log, clip:0.5,99.5, zscale, lupton, "
            "or INTERVAL+FUNCTION (default: linear).",
        ),
    ] = None,
    orbit: Annotated[
        str | None,
        typer.Option(
            "--orbit", help="Average over flips or d4 (flips and quarter turns) (default: none)."
        ),
    ] = None,
    root: Annotated[
        bool, typer.Option("--root", help="Square root of every feature, which evens them out.")
    ] = False,
    any_scale: Annotated[
        bool,
        typer.Option("--any-scale", help="A finished encoder: take another pixel scale than its."),
    ] = False,
    batch: Annotated[
        int | None, typer.Option("--batch", help="Images per pass (default: 32; 256 on a GPU).")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of the sample that pca:N is fitted on.")] = 0,
    device: Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")] = "auto",
    precision: Annotated[
        str | None,
        typer.Option("--precision", help="f32, or bf16: faster where the processor has it."),
    ] = None,
    runtime: Annotated[
        str,
        typer.Option(
            "--runtime",
            help="auto, torch, compiled (by torch, takes a minute) or openvino (on a CPU).",
        ),
    ] = "auto",
    store: Annotated[
        str, typer.Option("--store", help="Numbers as float32, or float16: half the size.")
    ] = "float32",
    workers: Workers = None,
    dask: Dask = None,
    quiet: Quiet = False,
) -> None:
    """Turn cutouts into vectors."""
    from skytwin.verbs_embed import embed as run

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
        root=root,
        any_scale=any_scale,
        batch=batch,
        seed=seed,
        device=device,
        runtime=runtime,
        precision=precision,
        store=store,
        workers=workers,
        dask=dask,
        quiet=quiet,
    )
    from skytwin.report import describe_embeddings

    typer.echo(describe_embeddings(made))
