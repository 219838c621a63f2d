"""An encoder from its specification, or from the folder it was saved in."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from skytwin.encoders.adapt import crops
from skytwin.encoders.bundled import weights_path
from skytwin.encoders.encoder import ENCODER_FILE, Encoder, Network, Orbit, check_orbit
from skytwin.encoders.mobilenet import PlainMobileNet, can_run
from skytwin.encoders.pca import PcaNetwork, fit_pca, parse_pca
from skytwin.encoders.recipe import METHODS
from skytwin.errors import DamagedArtefact, Mismatch, UsageError, unknown
from skytwin.images.prepare import (
    BandMix,
    Interpolation,
    PixelSource,
    Prepare,
    parse_bands,
    unnormalised,
)
from skytwin.images.stretch import Stretch

if TYPE_CHECKING:
    from skytwin.encoders.backbone import BackboneNetwork

__all__ = ["PRESETS", "load_saved", "open_encoder"]

# Arguments of `open_encoder` by the name of the work they come from.
PRESETS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        # Doorenbos et al. 2022, A&A 666, A171: whole SDSS thumbnails, 8-bit pixels over 255.
        "ulisse": MappingProxyType(
            {
                "spec": "timm:efficientnet_b0",
                "size": 224,
                "stretch": "linear",
                "orbit": "none",
                "interpolation": "bilinear",
            }
        )
    }
)
_PCA_SIZE = 64


def open_encoder(
    spec: str,
    *,
    cutouts_like: PixelSource,
    weights: str | Path | None = None,
    size: int | None = None,
    crop: str | None = None,
    bands: str | None = None,
    stretch: str = "linear",
    orbit: Orbit = "none",
    root: bool = False,
    interpolation: Interpolation | None = None,
    seed: int = 0,
    device: str = "auto",
    runtime: str = "auto",
    precision: str = "f32",
) -> Encoder:
    """An encoder for a set of cutouts.

    Parameters
    ----------
    spec : str
        ``"timm:NAME"`` or ``"hf_hub:ORG/NAME"``, a pretrained network; ``"pca:N"`` or
        ``"pca:N:abs"``, principal components fitted on these cutouts.
    cutouts_like : PixelSource
        The cutouts: their bands, pixel scale, dtype and frame shape the preparation.
    weights : path, optional
        ``.safetensors`` file for ``timm:``, in place of the hub's.
    size : int, optional
        Pixels of a side of the network's input. By default 224 for ``timm:``, the crop but at
        most 64 for ``pca:``.
    crop : str, optional
        Central part used: ``"64"`` or ``"64px"``, or ``"30arcsec"``. By default the whole frame,
        which is then the encoder's field of view: of a larger image it uses the centre.
        Several, ``"64,96"``, give a vector that holds the features of each.
    bands : str, optional
        ``"i,r,g"``, ``"i"``, ``"g+r+i"``: see `parse_bands`. By default all.
    stretch : str
        See `Stretch.parse`; settled here for the cutouts' dtype.
    orbit : str
        ``"none"``, ``"flips"``, ``"d4"``: see `Encoder`.
    root : bool
        Take the square root of every feature: see `Encoder`.
    interpolation : str, optional
        See `Prepare`. By default ``"area"`` to shrink and ``"bilinear"`` to enlarge.
    seed : int
        Of the fit of ``pca:``.
    device : str
        ``"cpu"``, ``"cuda"`` or ``"auto"``, for ``timm:``.
    runtime : str
        ``"torch"``, ``"compiled"``, ``"openvino"`` or ``"auto"``, for ``timm:``.
    precision : str
        ``"f32"`` or ``"bf16"``, for ``timm:``.

    Raises
    ------
    UnknownName
        No such encoder, band, stretch, orbit.
    UsageError
        A crop larger than the frame or not a length, bands that the network cannot take, a
        frame that is not square without ``crop``.
    Mismatch
        Weights of another network.
    Unreachable
        No weights given, and none could be fetched.
    """
    if spec.startswith(("hf_hub:", "hf-hub:")):
        spec = f"timm:{spec}"
    if not spec.startswith(("timm:", "pca:")):
        raise unknown(
            "encoder",
            spec,
            ["timm:NAME", "hf_hub:ORG/NAME", "pca:N"],
            "or give the folder of an embedding to use its encoder",
        )
    check_orbit(orbit)
    if size is not None and size < 1:
        raise UsageError(f"size is {size}; expected at least 1 pixel")
    frames = crops(crop, cutouts_like)
    chosen = parse_bands(bands, cutouts_like.bands) if bands is not None else None
    settled = Stretch.parse(stretch).resolve(cutouts_like.dtype)

    def prepare(frame: int, size: int, mix: tuple[BandMix, ...], **network: Any) -> Prepare:
        return Prepare(
            bands=tuple(cutouts_like.bands),
            mix=mix,
            crop=frame,
            stretch=settled,
            size=size,
            interpolation=interpolation or ("area" if size < frame else "bilinear"),
            **network,
        )

    if spec.startswith("pca:"):
        parse_pca(spec)
        _require_f32(spec, precision)
        if weights is not None:
            raise UsageError(
                f"{spec} is fitted on the cutouts and takes no --weights; leave it out"
            )
        if len(frames) > 1:
            raise UsageError(f"crop {crop!r}: {spec} is fitted on one crop; give one")
        prepared = [
            unnormalised(
                cutouts_like,
                crop=frames[0],
                size=size or min(frames[0], _PCA_SIZE),
                stretch=stretch,
                bands=bands,
                interpolation=interpolation,
            )
        ]
        network: Network = fit_pca(spec, cutouts_like, prepared[0], seed=seed)
    else:
        backbone = _backbone(
            spec,
            weights=weights,
            size=size,
            device=device,
            runtime=runtime,
            precision=precision,
        )
        prepared = [
            prepare(
                frame,
                backbone.size,
                _mix_for(spec, chosen, cutouts_like.bands, backbone.channels),
                channels=backbone.channels,
                mean=backbone.mean,
                std=backbone.std,
            )
            for frame in frames
        ]
        network = backbone
    return Encoder(
        network=network,
        prepare=prepared[0],
        inner=tuple(prepared[1:]),
        orbit=orbit,
        root=root,
        precision=precision,
        pixel_scale=cutouts_like.pixel_scale,
    )


def load_saved(
    folder: str | Path,
    *,
    weights: str | Path | None = None,
    device: str = "auto",
    runtime: str = "auto",
    precision: str | None = None,
) -> Encoder:
    """The encoder that `Encoder.save` wrote, with the very same weights.

    Parameters
    ----------
    folder : path
        Where ``encoder.json`` lies.
    weights : path, optional
        The weights file of a ``timm:`` network, if it is not where it was.
    device : str
        ``"cpu"``, ``"cuda"`` or ``"auto"``.
    runtime : str
        ``"torch"``, ``"compiled"``, ``"openvino"`` or ``"auto"``; their vectors agree within
        rounding.
    precision : str, optional
        ``"f32"`` or ``"bf16"``, in place of that it was saved with.

    Raises
    ------
    UsageError
        The folder holds no encoder; the weights file is gone and none is given.
    Mismatch
        These are not the weights the encoder was made with.
    DamagedArtefact
        The folder is not what was written.
    """
    path = Path(folder) / ENCODER_FILE
    if not path.is_file():
        raise UsageError(
            f"{str(folder)!r} holds no encoder ({ENCODER_FILE}); expected a folder that "
            "skytwin embed wrote"
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        name, orbit, made_by = content["network"], content["orbit"], content["made_by"]
        prepare = Prepare.from_dict(content["prepare"])
        inner = tuple(Prepare.from_dict(one) for one in content.get("inner", ()))
        root = bool(content.get("root", False))
        pixel_scale, files = content["pixel_scale"], content["files"]
        expected = content["network_fingerprint"], content["fingerprint"]
        stored = str(content.get("precision", "f32"))
        _require_types(name=(name, str), made_by=(made_by, dict), files=(files, dict),
                       fingerprints=("".join(expected), str),
                       pixel_scale=(pixel_scale, (int, float, type(None))))  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DamagedArtefact(
            f"{str(path)!r} cannot be read ({error!r}); restore it or make the folder anew"
        ) from error
    chosen = precision or stored
    if name.startswith("pca:"):
        _require_f32(name, chosen)
        if weights is not None:
            raise UsageError(f"{name} keeps its components with it; leave --weights out")
        network: Network = PcaNetwork.load(Path(folder), name, made_by)
    elif name.partition(":")[0] in METHODS:
        network = _trained(
            Path(folder),
            name,
            made_by,
            files,
            channels=prepare.channels,
            size=prepare.size,
            weights=weights,
            device=device,
            runtime=runtime,
            precision=chosen,
        )
    else:
        network = _backbone(
            name,
            weights=weights or _where(name, files),
            size=prepare.size,
            device=device,
            runtime=runtime,
            precision=chosen,
        )
    if network.fingerprint != expected[0]:
        sha256 = made_by.get("weights_sha256")
        remedy = f"the file of SHA-256 {sha256[:12]}..." if sha256 else "the file it was made with"
        raise Mismatch(
            f"the weights {str(weights or files.get('weights') or 'on the hub')!r} of {name} are "
            f"not those this encoder was made with (fingerprint {network.fingerprint[:12]}, "
            f"expected {expected[0][:12]}); give --weights {remedy}"
        )
    encoder = Encoder(
        network=network,
        prepare=prepare,
        inner=inner,
        orbit=orbit,
        root=root,
        precision=stored,
        pixel_scale=pixel_scale,
    )
    if encoder.fingerprint != expected[1]:
        raise DamagedArtefact(f"{str(path)!r} was edited; restore it or make the folder anew")
    return encoder if chosen == stored else dataclasses.replace(encoder, precision=chosen)


def _require_types(**values: tuple[object, type | tuple[type, ...]]) -> None:
    for key, (value, kind) in values.items():
        if not isinstance(value, kind):
            raise TypeError(f"{key} is {type(value).__name__}")


def _require_f32(name: str, precision: str) -> None:
    if precision != "f32":
        raise UsageError(f"{name} runs in float32; leave --precision out")


def _where(name: str, files: Mapping[str, Any]) -> str | None:
    stored = files.get("weights")
    if not isinstance(stored, str | None):
        raise DamagedArtefact(f"the weights of {name} lie in {stored!r}, no file; restore it")
    if stored is not None and not Path(stored).is_file():
        raise UsageError(
            f"the weights of {name} are no longer at {stored!r}; say where with --weights FILE"
        )
    return stored


def _backbone(
    spec: str, *, weights: str | Path | None, size: int | None, **how: str
) -> BackboneNetwork:
    try:
        # torch and timm take seconds to import, and are optional.
        from skytwin.encoders.backbone import open_backbone
    except ModuleNotFoundError as error:
        raise UsageError(
            f"encoder {spec!r} needs {error.name}, which is not installed; install "
            "skytwin[networks]"
        ) from error
    return open_backbone(spec, weights=weights, size=size, **how)


def _trained(
    folder: Path,
    name: str,
    made_by: Mapping[str, Any],
    files: Mapping[str, Any],
    *,
    weights: str | Path | None,
    **how: Any,
) -> Network:
    try:
        # torch takes seconds to import, and is optional.
        from skytwin.encoders.checkpoint import load_trained
    except ModuleNotFoundError as error:
        anywhere = how["device"] != "cuda" and how["runtime"] not in ("compiled", "openvino")
        if can_run(name) and anywhere and how["precision"] == "f32":
            return PlainMobileNet(name, made_by, weights_path(folder, name, files, weights))
        raise UsageError(
            f"encoder {name!r} needs {error.name}, which is not installed; install "
            "skytwin[networks]"
        ) from error
    return load_trained(folder, name, made_by, files, weights=weights, **how)


def _mix_for(
    spec: str, chosen: tuple[BandMix, ...] | None, bands: tuple[str, ...], channels: int
) -> tuple[BandMix, ...]:
    mix = chosen or tuple((name,) for name in bands)
    if len(mix) not in (1, channels):
        given = "were chosen" if chosen else "are in the cutouts"
        names = ",".join("+".join(one) for one in mix)
        example = ",".join([*bands, *bands[-1:] * channels][:channels])
        raise UsageError(
            f"{spec} takes {channels} band(s) and {len(mix)} {given} ({names}); choose 1 or "
            f"{channels} with --bands, e.g. --bands {example}"
        )
    return mix
