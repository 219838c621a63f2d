"""The encoders of a study of radio galaxies, and the sets as they see them."""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from skytwin.artefact import MANIFEST, Manifest
from skytwin.embeddings.table import Embeddings
from skytwin.encoders.bundled import PREFIX, bundled_encoders
from skytwin.encoders.recipe import read_recipe
from skytwin.errors import UsageError
from skytwin.images.cutouts import Cutouts
from skytwin.images.datasets import FOLDER_VARIABLE
from skytwin.reproduce import rgz_paper as paper
from skytwin.reproduce.places import embedded, stage
from skytwin.reproduce.rgz_inputs import Asked, Coded
from skytwin.reproduce.ulisse_inputs import data_folder
from skytwin.verbs_train import train

__all__ = ["encoders", "like"]

_COMPONENTS, _CROP = 128, 96
_WEIGHTS = "mobilenetv2_100*.safetensors"
#: How many images, repeats counted, a VDVAE of the study's own is shown: minutes on a CPU.
_SHOWN_TO_VDVAE = 48_000


def encoders(
    asked: Asked, home: Path, sets: dict[str, Cutouts], tell: Callable[[str], None]
) -> tuple[tuple[Coded, ...], str]:
    """The encoders at hand with the sets as they see them, and what is lacking.

    The first of them is followed through the study: the first VDVAE that was asked for, else the
    first encoder. It sees the unlabelled set, too; so do VDVAEs, and PCA, which is fitted on it.
    Where none was asked for, a small VDVAE is trained on the unlabelled set, for its images.
    """
    specs, lacking = _specs(asked)
    specs.sort(key=lambda spec: _method(spec) != "vdvae")
    if not asked.encoders:
        made, why = _small_vdvae(asked, home, sets, tell)
        specs += made
        lacking = "; ".join(filter(None, (lacking, why)))
    count = min(_COMPONENTS, len(sets["unlabelled"]) // 2)
    if not any(spec.startswith("pca:") for spec in specs):
        specs.append(f"pca:{count}:abs")
    found: list[Coded] = []
    for spec in specs:
        tell(f"encoder: {spec} ...")
        wanted = spec == specs[0] or spec.startswith("pca:") or _method(spec) == "vdvae"
        found.append(_coded(asked, home, spec, sets, with_unlabelled=wanted, known=found))
    return tuple(found), lacking


def _specs(asked: Asked) -> tuple[list[str], str]:
    if asked.encoders:
        return list(dict.fromkeys(asked.encoders)), ""
    if asked.weights is not None:
        raise UsageError("--weights go with a network; name it with --encoder timm:NAME")
    missing = [name for name in ("torch", "timm") if importlib.util.find_spec(name) is None]
    if missing:
        return [], f"{' and '.join(missing)} not installed: no networks"
    found = [name for name in bundled_encoders() if name == f"{PREFIX}radio"]
    data = data_folder()
    if data is not None and any((data / "weights").glob(_WEIGHTS)):
        return [*found, "timm:mobilenetv2_100"], ""
    return found, f"no ImageNet weights in {FOLDER_VARIABLE}/weights"


def _small_vdvae(
    asked: Asked, home: Path, sets: dict[str, Cutouts], tell: Callable[[str], None]
) -> tuple[list[str], str]:
    """A VDVAE trained on the unlabelled set, but for what a labelled one shows; and what it lacks.

    About as many images are shown to it whatever the set's size, so that it takes minutes.
    """
    if any(importlib.util.find_spec(name) is None for name in ("torch", "pytorch_lightning")):
        return [], "skytwin[train] not installed: no VDVAE"
    free = sets["unlabelled"]
    places = [sets[key].folder for key in paper.SETS if sets[key].positions is not None]
    settings: dict[str, Any] = {
        "recipe": "vdvae-tiny",
        "changes": [
            f"epochs={-(-_SHOWN_TO_VDVAE // len(free))}",
            # In the whole frame, as it is, a source is a few faint pixels: nothing would be learnt.
            f'input.crop="{min(64, *free.shape[2:])}"',
            'input.stretch="sigma:3+asinh:0.1"',
        ],
        "seed": asked.seed,
        "exclude": places if free.positions is not None else [],
    }
    told = {
        **settings,
        # As it reads now: another version's recipe of this name is another encoder.
        "recipe": read_recipe(settings["recipe"], changes=settings["changes"]).to_dict(),
        "exclude": [Manifest.open(place).fingerprint for place in places],
    }
    folder = stage(home, "vdvae-tiny", {"cutouts": free.manifest.fingerprint, **told})
    if not (folder / MANIFEST).is_file():
        tell("encoder: training a small VDVAE ...")
        train(free, folder, quiet=asked.quiet, **settings)
    return [str(folder)], "a VDVAE trained as long as the paper's (one was, for minutes)"


def _method(spec: str) -> str | None:
    """How a finished encoder was trained."""
    if spec.startswith(PREFIX):
        return "simclr"
    if spec.startswith(("timm:", "pca:")):
        return None
    method = Manifest.open(spec, "encoder").summary["encoder"].partition(":")[0]
    return method if method in paper.METHODS else None


def _coded(
    asked: Asked,
    home: Path,
    spec: str,
    sets: dict[str, Cutouts],
    *,
    with_unlabelled: bool,
    known: list[Coded],
) -> Coded:
    method, pixels = _method(spec), spec.startswith("pca:")
    finished = spec.startswith(PREFIX) or not spec.startswith(("timm:", "pca:"))
    orbit = "none" if method == "vdvae" else "d4"
    side = min(min(each.shape[2:]) for each in sets.values())
    eight_bit = all(each.dtype == np.uint8 for each in sets.values())
    settings: dict[str, Any] = {"orbit": orbit}
    encoder: str | Path = spec if spec.startswith(PREFIX) else Path(spec) if finished else spec
    weights = None
    if not finished:
        settings["stretch"] = "linear" if eight_bit else "sigma:3"
        settings["crop"] = str(min(_CROP, side)) if pixels else f"{min(64, side)},{min(96, side)}"
    if spec.startswith("timm:"):
        settings["root"] = True
        weights = asked.weights or _weights(spec)
    if finished:
        settings["any_scale"] = True
    slug = "".join(c if c.isalnum() else "-" for c in Path(spec).name)
    found: dict[str, Embeddings] = {}
    keys = ["unlabelled", "mirabest", "frdeep"] if with_unlabelled else ["mirabest", "frdeep"]
    first: Embeddings | None = None
    for key in keys:
        name = f"{key}-{slug}"
        if finished or first is None:
            made = embedded(home, name, sets[key], encoder, weights=weights, quiet=asked.quiet,
                            **settings)  # fmt: skip
        else:  # the very same encoder, whatever the scale
            made = embedded(home, name, sets[key], _folder(first), weights=weights,
                            quiet=asked.quiet, any_scale=True)  # fmt: skip
        first = first or made
        found[key] = made
    title = _title(spec, method, found["mirabest"], own=Path(spec).parent == home)
    if title in {each.title for each in known}:
        title = f"{title} ({len(known) + 1})"
    return Coded(
        spec=spec,
        title=title,
        method=method,
        orbit=orbit,
        embeddings=found,
        folder=Path(spec) if finished and not spec.startswith(PREFIX) else None,
    )


def _folder(embeddings: Embeddings) -> Path:
    if embeddings.folder is None:
        raise UsageError("an embedding without a folder has no encoder to take over")
    return embeddings.folder


def _weights(spec: str) -> Path | None:
    """Weights of a network that lie in the folder of published data."""
    data = data_folder()
    name = spec.partition(":")[2]
    return (
        next(iter(sorted((data / "weights").glob(f"{name}*.safetensors"))), None) if data else None
    )


def _title(spec: str, method: str | None, embeddings: Embeddings, *, own: bool) -> str:
    if own:
        return f"{paper.METHODS[method or '']}, trained here for minutes"
    if spec.startswith("pca:"):
        return f"PCA {embeddings.dim}, of the unlabelled"
    if spec.startswith("timm:"):
        return f"{spec.partition(':')[2]}, ImageNet"
    name = paper.METHODS.get(method or "", embeddings.encoder_name)
    return f"{name}, {spec if spec.startswith(PREFIX) else Path(spec).name}"


def like(embeddings: Embeddings, other: Embeddings) -> Embeddings:
    """An embedding as if its images had the pixels of another's, as the paper takes them.

    The paper shows images of 15 arcsec per pixel to encoders of 1.8 arcsec per pixel; what asks
    for one scale would refuse to compare them.
    """
    made = copy.copy(embeddings)
    made.pixel_scale = other.pixel_scale
    return made
