"""A fitted flow as a folder: arrays in safetensors, the rest in the manifest. No pickle."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
from safetensors.numpy import load_file, save

from skytwin.artefact import Manifest, Parent, damaged, from_dict
from skytwin.densities.flow import Coordinates, Flow, FlowSettings
from skytwin.errors import DamagedArtefact, DataError, Mismatch
from skytwin.files import write_atomically
from skytwin.run import result_folder

__all__ = ["KIND", "open_flow", "require_same_encoder", "save_flow"]

KIND = "flow"
_ARRAYS, _IDS = "flow.safetensors", "seen.json"


def save_flow(flow: Flow, folder: str | Path, *, parents: Mapping[str, Parent]) -> None:
    """Write a flow to a new folder.

    Raises
    ------
    OutputExists
        The folder holds something.
    """
    coordinates = flow.coordinates
    arrays = {f"weights/{name}": array for name, array in flow.weights.items()}
    arrays |= {
        "coordinates/used": coordinates.used,
        "coordinates/mean": coordinates.mean,
        "coordinates/scale": coordinates.scale,
        "coordinates/turn": coordinates.turn,
        "coordinates/widths": coordinates.widths,
        "held_out": flow.held_out,
    }
    if flow.places is not None:
        arrays["places"] = flow.places
    with result_folder(
        folder,
        kind=KIND,
        recipe={"settings": asdict(flow.settings), "seed": flow.seed},
        summary={
            "encoder": dict(flow.encoder),
            "coordinates": coordinates.dim,
            "share": coordinates.share,
            "rest": coordinates.rest,
            "rows": flow.rows,
            "best": flow.best,
            # Training that ran away ends with a likelihood that is no number, which JSON lacks.
            "curve": [[_finite(one) for one in pair] for pair in flow.curve],
            "held_out": flow.mean_held_out,
        },
        inputs={},
        parents=parents,
    ) as where:
        whole = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        write_atomically(where / _ARRAYS, save(whole))
        ids = json.dumps([str(name) for name in flow.ids])
        write_atomically(where / _IDS, ids.encode())


def open_flow(folder: str | Path) -> Flow:
    """A flow from its folder.

    Raises
    ------
    UsageError
        The folder holds no flow.
    DamagedArtefact
        A file is not what it was, or the arrays do not fit the settings.
    """
    path = Path(folder)
    manifest = Manifest.open(path, KIND)
    try:
        settings = from_dict(FlowSettings, manifest.recipe["settings"])
        arrays = load_file(path / _ARRAYS)
        ids = np.array(json.loads((path / _IDS).read_text(encoding="utf-8")), dtype=object)
        flow = _built(manifest, settings, arrays, ids)
    except (
        LookupError, TypeError, ValueError, AttributeError, RecursionError,
        safetensors.SafetensorError,
    ) as error:  # fmt: skip
        raise damaged(path, f"the flow cannot be read ({error!r})") from error
    except DataError as error:
        raise damaged(path, str(error)) from error
    _require_shapes(flow, path)
    return flow


def require_same_encoder(flow: Flow, encoder: Mapping[str, Any]) -> None:
    """Refuse to apply a flow to vectors of another encoder.

    Raises
    ------
    Mismatch
        What differs is named.
    """
    if flow.encoder.get("fingerprint") != encoder.get("fingerprint") or flow.encoder.get(
        "dim"
    ) != encoder.get("dim"):
        raise Mismatch(
            f"the flow was fitted on {_said(flow.encoder)}; the embedding has {_said(encoder)}: "
            "embed both alike, or fit a flow anew"
        )


def _said(encoder: Mapping[str, Any]) -> str:
    fingerprint = str(encoder.get("fingerprint"))[:12]
    return f"{encoder.get('dim')} numbers of {encoder.get('name')} (fingerprint {fingerprint})"


def _built(
    manifest: Manifest,
    settings: FlowSettings,
    arrays: dict[str, np.ndarray],
    ids: np.ndarray,
) -> Flow:
    summary = manifest.summary
    rest = summary["rest"]
    lead = "weights/"
    return Flow(
        settings=settings,
        coordinates=Coordinates(
            used=arrays["coordinates/used"],
            mean=arrays["coordinates/mean"],
            scale=arrays["coordinates/scale"],
            turn=arrays["coordinates/turn"],
            widths=arrays["coordinates/widths"],
            rest=None if rest is None else (rest[0], rest[1], rest[2]),
            share=summary["share"],
        ),
        weights={k.removeprefix(lead): v for k, v in arrays.items() if k.startswith(lead)},
        curve=tuple((_known(a), _known(b)) for a, b in summary["curve"]),
        best=summary["best"],
        rows=summary["rows"],
        held_out=arrays["held_out"],
        ids=ids,
        places=arrays.get("places"),
        encoder=summary["encoder"],
        seed=manifest.recipe["seed"],
    )


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _known(value: float | None) -> float:
    return float("nan") if value is None else float(value)


def _require_shapes(flow: Flow, path: Path) -> None:
    """Every array as the settings say, and finite."""
    dim = flow.coordinates.dim
    sizes = (dim, *flow.settings.hidden, 2 * dim)
    parts = 2 * flow.settings.blocks * (len(sizes) - 1)
    if len(flow.weights) != parts:
        found = len(flow.weights)
        raise damaged(path, f"arrays do not fit the settings: {found} of weights, not {parts}")
    wanted: dict[str, tuple[int, ...]] = {}
    for block in range(flow.settings.blocks):
        for layer, (into, out) in enumerate(itertools.pairwise(sizes)):
            wanted[f"{block}.{layer}.weight"] = (out, into)
            wanted[f"{block}.{layer}.bias"] = (out,)
    shapes = {name: array.shape for name, array in flow.weights.items()}
    if shapes != wanted:
        odd = sorted(set(shapes.items()) ^ set(wanted.items()))[:1]
        raise damaged(path, f"arrays do not fit the settings, e.g. {odd}")
    if not all(np.isfinite(array).all() for array in flow.weights.values()):
        raise DamagedArtefact(f"{str(path)!r} holds weights that are no numbers; fit it anew")
