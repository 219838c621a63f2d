"""Principal components of the pixels: the baseline that needs no weights.

``pca:N`` gives the N components of the prepared image; ``pca:N:abs`` their absolute values. A
component is signed, and an image and its mirror image often differ in that sign alone: the mean
over an orbit of views then cancels it. With ``orbit="d4"`` use ``pca:N:abs``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
from safetensors.numpy import load_file, save

from skytwin.encoders.encoder import fingerprint
from skytwin.errors import DamagedArtefact, DataError, Mismatch, UsageError, unknown
from skytwin.files import write_atomically
from skytwin.images.prepare import PixelSource, Prepare

__all__ = ["PCA_FILE", "PcaNetwork", "fit_pca", "parse_pca"]

PCA_FILE = "pca.safetensors"
_ARRAYS = ("mean", "components", "explained_variance")
_MAX_VALUES = 1 << 27  # half a gigabyte of float32
_EXACT_SIDE = 1024  # up to here the exact decomposition takes seconds
_READ_ROWS = 256


@dataclass(frozen=True, kw_only=True, eq=False)
class PcaNetwork:
    """Projection of prepared pixels onto their principal components.

    Attributes
    ----------
    name : str
        ``"pca:N"`` or ``"pca:N:abs"``.
    mean : ndarray, shape (P,), float32
        Mean prepared image, flattened from ``(K, S, S)``.
    components : ndarray, shape (N, P), float32
        Orthonormal rows, by falling variance.
    explained_variance : ndarray, shape (N,), float32
    """

    name: str
    mean: np.ndarray
    components: np.ndarray
    explained_variance: np.ndarray
    made_by: dict[str, Any]

    @property
    def dim(self) -> int:
        """Number of components."""
        return len(self.components)

    @cached_property
    def fingerprint(self) -> str:
        """Hash over the name and the arrays."""
        return fingerprint(self.name, self._arrays())

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Components ``(n, dim)`` of prepared images ``(n, K, S, S)``.

        Raises
        ------
        Mismatch
            Images of another size than the components.
        """
        pixels = x.reshape(len(x), int(np.prod(x.shape[1:])))
        if pixels.shape[1] != len(self.mean):
            raise Mismatch(
                f"{self.name} was fitted on {len(self.mean)} pixels per image; got "
                f"{' x '.join(map(str, x.shape[1:]))}"
            )
        vectors: np.ndarray = (pixels - self.mean) @ self.components.T
        return np.abs(vectors) if self.name.endswith(":abs") else vectors

    def describe(self) -> dict[str, Any]:
        """Seed and number of images of the fit, and the share of the variance it keeps."""
        return self.made_by

    def save(self, folder: Path) -> dict[str, Any]:
        """Write ``pca.safetensors``."""
        write_atomically(folder / PCA_FILE, save(self._arrays()))
        return {"components": PCA_FILE}

    @classmethod
    def load(cls, folder: Path, name: str, made_by: dict[str, Any]) -> Self:
        """Back from `save`.

        Raises
        ------
        DamagedArtefact
            The file is missing or is not what `save` wrote.
        """
        try:
            arrays = load_file(folder / PCA_FILE)
            mean, components, variance = (arrays[key] for key in _ARRAYS)
            if (components.ndim, mean.shape, variance.shape) != (
                2,
                components.shape[1:],
                components.shape[:1],
            ) or any(array.dtype != np.float32 for array in (mean, components, variance)):
                raise ValueError("its arrays do not fit each other")
            return cls(name=name, made_by=made_by, **{key: arrays[key] for key in _ARRAYS})
        except Exception as error:  # safetensors has an error class of its own for each case
            raise DamagedArtefact(
                f"{str(folder / PCA_FILE)!r} cannot be read ({error}); make the embedding anew"
            ) from error

    def _arrays(self) -> dict[str, np.ndarray]:
        return {key: getattr(self, key) for key in _ARRAYS}


def parse_pca(spec: str) -> int:
    """``"pca:64"`` or ``"pca:64:abs"`` -> 64.

    Raises
    ------
    UnknownName
        Anything else.
    """
    match = re.fullmatch(r"pca:([1-9]\d*)(:abs)?", spec)
    if match is None:
        raise unknown("encoder", spec, ["pca:64", "pca:64:abs"], "pca takes a number of components")
    return int(match[1])


def fit_pca(
    spec: str, source: PixelSource, prepare: Prepare, *, seed: int = 0, max_fit: int = 20_000
) -> PcaNetwork:
    """Fit principal components on a random subset of the cutouts.

    Parameters
    ----------
    spec : str
        ``"pca:N"`` or ``"pca:N:abs"``.
    source : PixelSource
    prepare : Prepare
        What makes network input of the flux.
    seed : int
        Of the choice of images and of the randomised decomposition, which takes over from the
        exact one where both images and pixels are more than 1024.
    max_fit : int
        Largest number of images; fewer where they would take more than half a gigabyte.

    Raises
    ------
    UsageError
        More components than images or pixels.
    DataError
        The images do not differ.
    """
    count = parse_pca(spec)
    if not 0 <= seed < 1 << 32:
        raise UsageError(f"seed {seed}; expected 0 to {(1 << 32) - 1}")
    pixels = prepare.channels * prepare.size**2
    total = source.shape[0]
    used = max(1, min(total, max_fit, _MAX_VALUES // pixels))
    if count > min(used, pixels):
        raise UsageError(
            f"{spec} from {used} images of {pixels} pixels; at most {min(used, pixels)} "
            f"components: use pca:{min(used, pixels)} or fewer"
        )
    rows = np.sort(np.random.default_rng(seed).choice(total, used, replace=False))
    x = np.empty((used, pixels), dtype=np.float32)
    for start in range(0, used, _READ_ROWS):
        part = rows[start : start + _READ_ROWS]
        x[start : start + len(part)] = prepare(source.flux(part)).reshape(len(part), pixels)
    if not (x != x[0]).any():
        raise DataError(
            f"the {used} images are all alike once prepared; {spec} needs images that differ: "
            "check --crop and --stretch"
        )

    # scikit-learn takes a second to import, and only fitting needs it.
    from sklearn.decomposition import PCA

    exact = min(used, pixels) <= _EXACT_SIDE
    model = PCA(
        count, svd_solver="full" if exact else "randomized", random_state=seed, copy=False
    ).fit(x)
    return PcaNetwork(
        name=spec,
        mean=np.ascontiguousarray(model.mean_, dtype=np.float32),
        components=np.ascontiguousarray(model.components_, dtype=np.float32),
        explained_variance=np.ascontiguousarray(model.explained_variance_, dtype=np.float32),
        made_by={
            "seed": seed,
            "images": used,
            "solver": "exact" if exact else "randomized",
            "explained_variance_ratio": round(float(model.explained_variance_ratio_.sum()), 4),
        },
    )
