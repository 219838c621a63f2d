"""What looks at images in place of a person: vectors that two sets are compared on.

A VDVAE that judges its own samples is lenient: what its encoder does not see it does not miss.
The pixels' principal components see brightness and layout, hardly texture. An encoder that was
trained otherwise is the better judge.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from skytwin.answers.generate_reconstruction import LinearCode
from skytwin.densities.flow_likelihood import Likelihood
from skytwin.densities.flow_store import open_flow, require_same_encoder
from skytwin.embeddings.table import ENCODER
from skytwin.encoders.bundled import PREFIX, bundled_folder
from skytwin.encoders.load import load_saved
from skytwin.errors import UsageError
from skytwin.images.prepare import Prepare
from skytwin.images.stretch import Stretch

if TYPE_CHECKING:
    from skytwin.encoders.generator import Generator

__all__ = ["Judge", "encoder_judge", "flow_density", "own_judge", "pixel_judge"]

_COMPONENTS = 32
_BATCH = 32


@dataclass(frozen=True, kw_only=True)
class Judge:
    """Vectors of prepared images.

    Attributes
    ----------
    name : str
    vectors : callable
        ``(n, C, size, size)`` in [0, 1] to ``(n, D)``.
    fingerprint : str
        Of the encoder; empty where it follows from the rest.
    """

    name: str
    vectors: Callable[[np.ndarray], np.ndarray]
    fingerprint: str = ""


def own_judge(generator: Generator) -> Judge:
    """The encoder of the VDVAE itself."""
    return Judge(name="its own code", vectors=generator.encode)


def pixel_judge(code: LinearCode) -> Judge:
    """The first 32 principal components of the training images' pixels."""

    def vectors(x_NCHW: np.ndarray) -> np.ndarray:
        return code.numbers(x_NCHW.reshape(len(x_NCHW), -1), _COMPONENTS)

    return Judge(name="PCA of pixels", vectors=vectors)


def encoder_judge(
    spec: str | Path, channels: tuple[str, ...], size: int, *, device: str = "auto"
) -> Judge:
    """Another encoder: real and generated images go through its network alike.

    Its own crop and stretch are for flux and left out: it is shown the prepared images of the
    VDVAE, resized, in [0, 1] and then normalised as it is used to.

    Parameters
    ----------
    spec : str or path
        Folder of an encoder or of an embedding, or ``"skytwin:NAME"``.
    channels : tuple of str
        Of the prepared images.
    size : int
        Pixels of a side.
    device : str

    Raises
    ------
    UsageError
        There is no encoder, or it takes another number of channels.
    """
    if str(spec).startswith(PREFIX):
        folder = bundled_folder(str(spec))
    else:
        nested = Path(spec) / ENCODER
        folder = nested if nested.is_dir() else Path(spec)
    encoder = load_saved(folder, device=device)
    wanted = encoder.prepare
    if len(channels) not in (1, wanted.channels):
        raise UsageError(
            f"judge {encoder.name} takes {wanted.channels} channel(s); the VDVAE makes images of "
            f"{len(channels)} ({', '.join(channels)}): choose another"
        )
    prepare = Prepare(
        bands=channels,
        mix=tuple((name,) for name in channels),
        crop=size,
        stretch=Stretch.parse("range:0,1"),
        size=wanted.size,
        channels=wanted.channels,
        mean=wanted.mean,
        std=wanted.std,
        interpolation="area" if wanted.size < size else "bilinear",
    )

    def vectors(x_NCHW: np.ndarray) -> np.ndarray:
        return np.concatenate(
            [
                encoder.network.forward(prepare(x_NCHW[start : start + _BATCH]))
                for start in range(0, len(x_NCHW), _BATCH)
            ]
        )

    return Judge(name=encoder.name, vectors=vectors, fingerprint=encoder.fingerprint)


def flow_density(folder: str | Path, generator: Generator) -> Likelihood:
    """Log-likelihoods of codes under a flow that was fitted on the same encoder's vectors.

    Raises
    ------
    UsageError
        The folder holds no flow.
    Mismatch
        A flow of another encoder, or of vectors averaged over an orbit, which codes are not.
    """
    flow = open_flow(folder)
    own = {"name": "vdvae", "fingerprint": generator.fingerprint, "dim": generator.shape.latent_dim}
    require_same_encoder(flow, own)
    return Likelihood(flow)
