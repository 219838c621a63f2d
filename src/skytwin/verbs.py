"""The verbs that make artefacts: `ingest` and `embed`, and `open` for what they left."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from skytwin.artefact import MANIFEST, Manifest
from skytwin.embeddings.embed import embed_cutouts, require_fits
from skytwin.embeddings.engine import open_engine
from skytwin.embeddings.parts import Elsewhere
from skytwin.embeddings.table import ENCODER, Embeddings
from skytwin.embeddings.vectors import STORES
from skytwin.encoders.bundled import PREFIX, bundled_folder
from skytwin.encoders.encoder import Encoder
from skytwin.encoders.load import PRESETS, adapted, load_saved, open_encoder
from skytwin.errors import Mismatch, UsageError, one_of, unknown
from skytwin.images.at_hand import at_hand
from skytwin.images.compare import require_same_flux
from skytwin.images.cutouts import Cutouts
from skytwin.images.detect import DetectSettings
from skytwin.images.framing import Framing
from skytwin.images.ingest import ingest_source
from skytwin.images.ingest_elsewhere import Elsewhere as ReadElsewhere
from skytwin.images.ingest_rows import Catalog
from skytwin.images.mosaic import MosaicSource
from skytwin.images.open_source import open_source
from skytwin.images.source import ImageSource

__all__ = ["embed", "ingest", "open"]


def open(folder: str | Path) -> Cutouts | Embeddings | Encoder:  # noqa: A001  (as in astropy)
    """Open a folder of cutouts, embeddings or an encoder, checked against its manifest.

    Raises
    ------
    UsageError
        The folder is none of these.
    DamagedArtefact
        A file is not what it was when the folder was finished.
    """
    folder = at_hand(folder)
    manifest = Manifest.open(folder)
    if manifest.kind == "cutouts":
        return Cutouts(folder)
    if manifest.kind == "embeddings":
        return Embeddings.open(folder)
    if manifest.kind == "encoder":
        return load_saved(folder)
    raise UsageError(
        f"{str(folder)!r} holds {manifest.kind}; expected cutouts, embeddings or an encoder"
    )


def ingest(
    source: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    catalog: str | Path | None = None,
    id_column: str | None = None,
    ra_column: str | None = None,
    dec_column: str | None = None,
    match_arcsec: float | None = None,
    size: int | None = None,
    crop: int | None = None,
    bands: Sequence[str] | None = None,
    pixel_scale: float | None = None,
    unit: str | None = None,
    pattern: str | None = None,
    hdu: Sequence[str | int] | None = None,
    dataset: str | None = None,
    ids: str | None = None,
    layout: str | None = None,
    positions: str | Path | Sequence[str | Path] = (),
    position_band: str | None = None,
    x_column: str | None = None,
    y_column: str | None = None,
    pixel_origin: int | None = None,
    detect: bool | DetectSettings = False,
    threads: int | None = None,
    workers: int | None = None,
    dask: str | None = None,
    quiet: bool = False,
) -> Cutouts:
    """Turn images into `Cutouts`.

    Parameters
    ----------
    source : path, name, or sequence of paths
        A folder or archive of images, an array file, a batch archive, the name of a published
        set; or, with ``positions`` or ``detect``, one mosaic per band.
    out : path
        New folder, or that of an unfinished run of this very call, which is resumed.
    catalog : path, optional
        A table to join: by id, or on the sky where ``match_arcsec`` is given.
    id_column, ra_column, dec_column, x_column, y_column : str, optional
        Columns of the catalogue, or of the positions.
    match_arcsec : float, optional
        Join on the sky, nearest within this angle.
    size : int, optional
        Side of the cutouts in pixels: cut so from a mosaic, else resampled to it.
    crop : int, optional
        Side of the central part to keep, in pixels, before any resampling.
    bands : sequence of str, optional
        Names of the channels, or with ``pattern`` which to take, in order.
    pixel_scale : float, optional
        Arcsec per pixel, where the files do not say or are wrong.
    unit : str, optional
        Flux unit, likewise.
    pattern : str, optional
        One file per band: ``"{id}_{band}.fits"``.
    hdu : sequence of str or int, optional
        FITS extensions to read.
    dataset, ids, layout : str, optional
        Of an array file: the dataset of images, that of identifiers, the order of axes.
    positions : path or sequence of paths
        Tables of positions in a mosaic.
    position_band : str, optional
        The band whose pixels the positions count in; the first by default.
    pixel_origin : {0, 1}, optional
        What the first pixel is called in the positions; by default 1 for SExtractor's columns
        (``X_IMAGE``), else 0.
    detect : bool or DetectSettings
        Find the objects in the mosaic.
    threads : int, optional
        Reading threads of this process; the number of cores by default.
    workers : int, optional
        Read in so many processes of this machine, of one thread each.
    dask : str, optional
        Read on the workers of this Dask scheduler, which must see the same files.
    quiet : bool
        Show no progress.

    Returns
    -------
    Cutouts

    Raises
    ------
    UsageError
        The settings do not fit the source; the output is taken; images of mixed shape.
    DataError
        No image could be used; the catalogue fits no image.
    """
    tables = [positions] if isinstance(positions, (str, Path)) else list(positions)
    cut = bool(tables or detect)
    _refuse(
        "needs --positions TABLE or --detect" if not cut else "does not go with a mosaic",
        {"x-column": x_column, "y-column": y_column, "pixel-origin": pixel_origin,
         "position-band": position_band}
        if not cut
        else {"pattern": pattern, "dataset": dataset, "ids": ids, "layout": layout},
    )  # fmt: skip
    if not tables and catalog is None:
        _refuse(
            "names a column; give its table with --catalog or --positions",
            {"id-column": id_column, "ra-column": ra_column, "dec-column": dec_column},
        )
    sources = [source] if isinstance(source, (str, Path)) else list(source)
    named = tuple(bands) if bands is not None else None
    reader: partial[Any]
    if cut:
        settings = detect if isinstance(detect, DetectSettings) else DetectSettings()
        if size is None:
            raise UsageError("cutting from a mosaic needs --size PIXELS, the side of a cutout")
        reader = partial(
            MosaicSource,
            [Path(path) for path in sources],
            positions=[Path(path) for path in tables],
            detect=settings if detect else None,
            size=size,
            bands=named,
            hdu=tuple(hdu) if hdu else None,
            ra_column=ra_column if tables else None,
            dec_column=dec_column if tables else None,
            x_column=x_column,
            y_column=y_column,
            id_column=id_column if tables else None,
            pixel_origin=pixel_origin,
            position_band=position_band,
        )
        framing = Framing(crop=crop)
    else:
        if len(sources) != 1:
            raise UsageError(
                f"{len(sources)} sources; several are bands of a mosaic and need --positions "
                "TABLE or --detect"
            )
        reader = partial(
            open_source,
            str(sources[0]),
            pattern=pattern,
            bands=named,
            hdu=tuple(hdu) if hdu else None,
            dataset=dataset,
            ids=ids,
            layout=layout,
        )
        framing = Framing(crop=crop, size=size)
    joined = None
    if catalog is not None:
        joined = Catalog(
            path=Path(catalog),
            id_column=id_column,
            ra_column=ra_column,
            dec_column=dec_column,
            match_arcsec=match_arcsec,
        )
    elif match_arcsec is not None:
        raise UsageError("--match-arcsec joins a catalogue; give one with --catalog TABLE")
    if threads is not None and (workers is not None or dask is not None):
        raise UsageError("--threads read in this process; leave it out with --workers or --dask")
    opened = reader()
    with open_engine(dask=dask, workers=workers) as engine:
        there = None if engine is None else ReadElsewhere(workers=engine, open=_absolute(reader))
        return ingest_source(
            opened,
            out,
            catalog=joined,
            framing=framing,
            pixel_scale=pixel_scale,
            unit=unit,
            threads=threads,
            elsewhere=there,
            quiet=quiet,
        )


def embed(
    cutouts: Cutouts | str | Path,
    encoder: str | Path | None,
    out: str | Path,
    *,
    weights: str | Path | None = None,
    size: int | None = None,
    crop: str | int | None = None,
    bands: str | None = None,
    stretch: str | None = None,
    orbit: str | None = None,
    root: bool = False,
    preset: str | None = None,
    any_scale: bool = False,
    batch: int = 32,
    seed: int = 0,
    device: str = "auto",
    runtime: str = "auto",
    precision: str | None = None,
    store: str = "float32",
    workers: int | None = None,
    dask: str | None = None,
    quiet: bool = False,
) -> Embeddings:
    """Turn cutouts into vectors.

    Parameters
    ----------
    cutouts : Cutouts or path
    encoder : str or path, optional with ``preset``
        ``"timm:NAME"`` (``"hf_hub:ORG/NAME"`` from the hub), ``"pca:N"`` or
        ``"pca:N:abs"``; the folder of another embedding, whose encoder is used as it is; or that
        of an encoder that `train` made, which takes ``crop``, ``bands`` (those that stand for its
        own, in its order), ``stretch``, ``orbit``, ``root`` and ``precision``; or
        ``"skytwin:NAME"``, one of these that comes along.
    out : path
        New folder, or that of an unfinished run of this very call, which is resumed.
    weights : path, optional
        A safetensors file in place of the hub's weights.
    size : int, optional
        Side of the network's input in pixels: 224 for networks.
    crop : str or int, optional
        Side of the central part that is looked at: ``64`` pixels or ``"30arcsec"``. Several,
        ``"64,96"``, give a vector with the features of each.
    bands : str, optional
        ``"i,r,g"`` to choose, ``"i,i,i"`` to repeat, ``"g+r+i"`` to average.
    stretch : str, optional
        Flux to brightness, for the network: ``"linear"``, ``"asinh:0.1"``, ``"clip:0.5,99.5"``,
        ``"zscale+log"``, ``"lupton"``, ...
    orbit : {"none", "flips", "d4"}, optional
        Average the vector over the image's flips, or flips and quarter turns.
    preset : {"ulisse"}, optional
        Settings of a published method; others given here overrule them.
    root : bool
        Store the square root of every feature: evens out their variances (RootSIFT).
    any_scale : bool
        Let a finished encoder take images of another pixel scale than it was made for; it looks
        at the same number of pixels.
    batch : int
        Images per pass.
    seed : int
        Of the choice of images that ``pca:N`` is fitted on.
    device : {"auto", "cpu", "cuda"}
    runtime : {"auto", "torch", "openvino"}
        What runs a network; OpenVINO where it is installed, on a CPU.
    precision : {"f32", "bf16"}, optional
        What a network computes in: bf16 is faster on processors with units for it; its vectors
        differ by about 7 %, and a sixth of the nearest 25 (docs/performance.md). By default f32,
        or that of the finished encoder.
    store : {"float32", "float16"}
        What a number is kept in: float16 halves the files, and keeps 11 bits of each number.
    workers : int, optional
        Encode in so many processes of this machine, of one thread each.
    dask : str, optional
        Encode on the workers of this Dask scheduler, which must see the same folders.
    quiet : bool
        Show no progress.

    Returns
    -------
    Embeddings

    Raises
    ------
    UnknownName
        No such encoder, band or stretch.
    Unreachable
        The hub did not answer and no weights were given.
    """
    taken = cutouts if isinstance(cutouts, Cutouts) else Cutouts(cutouts)
    given = {
        name: value
        for name, value in (
            ("size", size),
            ("crop", None if crop is None else str(crop)),
            ("bands", bands),
            ("stretch", stretch),
            ("orbit", orbit),
            ("root", root or None),
        )
        if value is not None
    }
    if encoder is not None and (str(encoder).startswith(PREFIX) or Path(encoder).is_dir()):
        opened = _finished(
            encoder,
            taken,
            given,
            preset,
            any_scale,
            weights=weights,
            device=device,
            runtime=runtime,
            precision=precision,
        )
    elif any_scale:
        raise UsageError("--any-scale is for finished encoders, which were made for one scale")
    else:
        opened = open_encoder(
            cutouts_like=taken,
            weights=weights,
            seed=seed,
            device=device,
            runtime=runtime,
            precision=precision or "f32",
            **_with_preset(encoder, preset, given),
        )
    kept = one_of("store", store, STORES)
    found = None if weights is None else str(Path(weights).resolve())
    with open_engine(dask=dask, workers=workers) as engine:
        elsewhere = None
        if engine is not None:
            elsewhere = Elsewhere(engine=engine, weights=found, device=device, runtime=runtime)
        return embed_cutouts(
            taken, opened, out, batch=batch, store=kept, elsewhere=elsewhere, quiet=quiet
        )


def _finished(
    encoder: str | Path,
    cutouts: Cutouts,
    given: dict[str, Any],
    preset: str | None,
    any_scale: bool,
    *,
    precision: str | None,
    **how: Any,
) -> Encoder:
    """A finished encoder: of another embedding as it is, a trained one with an orbit."""
    bundled = str(encoder).startswith(PREFIX)
    folder = bundled_folder(str(encoder)) if bundled else Path(encoder)
    trained = bundled or ((folder / MANIFEST).is_file() and Manifest.open(folder).kind == "encoder")
    free = {"orbit", "root", "precision", "crop", "bands", "stretch"} if trained else set()
    named = sorted((given.keys() | ({"precision"} if precision else set())) - free)
    if preset or named:
        named = named or ["preset"]
        raise UsageError(
            f"{str(encoder)!r} is a finished encoder with settings of its own; leave out "
            f"{', '.join('--' + name for name in named)}"
        )
    nested = folder if trained else folder / ENCODER
    opened = load_saved(nested if nested.is_dir() else folder, precision=precision, **how)
    if any_scale:
        opened = dataclasses.replace(opened, pixel_scale=cutouts.pixel_scale)
    looks = {name: given.pop(name, None) for name in ("crop", "bands", "stretch")}
    if trained and looks["bands"] is None and cutouts.bands != opened.bands:
        own = ", ".join("+".join(mix) for mix in opened.prepare.mix)
        raise Mismatch(
            f"{str(cutouts.folder)!r} has bands {', '.join(cutouts.bands)}; the encoder takes "
            f"{', '.join(opened.bands)}, and looks at {own}: say with --bands which of yours "
            "stand for these, in this order"
        )
    if trained:
        opened = adapted(opened, cutouts, **looks)
    require_fits(opened, cutouts)
    if (
        looks["stretch"] is None
        and (folder / MANIFEST).is_file()
        and opened.prepare.stretch.absolute
    ):
        made_from = Manifest.open(folder).summary
        want = (np.dtype(made_from["image_dtype"]), made_from["image_unit"])
        require_same_flux((cutouts.dtype, cutouts.unit), want, str(cutouts.folder))
    return dataclasses.replace(opened, **given)


def _absolute(reader: partial[Any]) -> partial[ImageSource]:
    """The same for workers, which stand in another folder."""

    def whole(path: Any) -> Any:
        if isinstance(path, list):
            return [whole(each) for each in path]
        return type(path)(Path(path).resolve()) if Path(path).exists() else path

    named = {**reader.keywords}
    if "positions" in named:
        named["positions"] = whole(named["positions"])
    return partial(reader.func, *map(whole, reader.args), **named)


def _refuse(why: str, options: dict[str, Any]) -> None:
    """An option that would be passed over in silence is a mistake of the caller."""
    for name, value in options.items():
        if value is not None:
            raise UsageError(f"--{name} {value} {why}")


def _with_preset(
    encoder: str | Path | None, preset: str | None, given: dict[str, Any]
) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    if preset is not None:
        if preset not in PRESETS:
            raise unknown("preset", preset, PRESETS)
        settings = dict(PRESETS[preset])
    if encoder is not None:
        settings["spec"] = str(encoder)
    if "spec" not in settings:
        raise UsageError(
            f"no encoder; give --encoder timm:NAME or pca:N, or --preset {' or '.join(PRESETS)}"
        )
    return {**settings, **given}
