"""The verb `ingest`, and `open` for what a verb left."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from skytwin.artefact import Manifest
from skytwin.embeddings.engine import open_engine
from skytwin.embeddings.table import Embeddings
from skytwin.encoders.encoder import Encoder
from skytwin.encoders.load import load_saved
from skytwin.errors import UsageError
from skytwin.images.at_hand import at_hand
from skytwin.images.cutouts import Cutouts
from skytwin.images.detect import DetectSettings
from skytwin.images.framing import Framing
from skytwin.images.ingest import ingest_source
from skytwin.images.ingest_elsewhere import Elsewhere as ReadElsewhere
from skytwin.images.ingest_rows import Catalog
from skytwin.images.mosaic import MosaicSource
from skytwin.images.open_source import open_source
from skytwin.images.source import ImageSource

__all__ = ["ingest", "open"]


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
