"""The verb that turns cutouts into vectors."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from skytwin.artefact import MANIFEST, Manifest
from skytwin.embeddings.embed import embed_cutouts, require_fits
from skytwin.embeddings.engine import open_engine
from skytwin.embeddings.parts import Elsewhere
from skytwin.embeddings.table import ENCODER, Embeddings
from skytwin.embeddings.vectors import STORES
from skytwin.encoders.adapt import adapted
from skytwin.encoders.bundled import PREFIX, bundled_folder
from skytwin.encoders.encoder import Encoder
from skytwin.encoders.load import PRESETS, load_saved, open_encoder
from skytwin.errors import Mismatch, UsageError, one_of, unknown
from skytwin.images.compare import require_same_flux
from skytwin.images.cutouts import Cutouts

__all__ = ["embed"]


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
    batch: int | None = None,
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
    batch : int, optional
        Images per pass: by default 32, or 256 on a GPU.
    seed : int
        Of the choice of images that ``pca:N`` is fitted on.
    device : {"auto", "cpu", "cuda"}
    runtime : {"auto", "torch", "compiled", "openvino"}
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
