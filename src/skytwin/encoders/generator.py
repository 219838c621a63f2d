"""A trained Very Deep VAE as a generator: NumPy in and out.

All images are prepared ones, ``(n, C, size, size)`` float32 in [0, 1]: what the network was
trained on, after crop, stretch and resize. That is no flux; a stretch that is measured on each
image cannot be undone. What the network gives are expected images, without pixel noise.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from skytwin.artefact import Manifest
from skytwin.encoders.checkpoint import WEIGHTS_FILE
from skytwin.encoders.encoder import ENCODER_FILE
from skytwin.encoders.load import load_saved
from skytwin.encoders.runtime import choose_device
from skytwin.encoders.served import VdvaeEncoder
from skytwin.encoders.vdvae import Vdvae, VdvaeShape
from skytwin.encoders.views import generator_on
from skytwin.errors import UsageError
from skytwin.images.prepare import Prepare
from skytwin.progress import Progress

__all__ = ["Conditioning", "Generator", "Reconstructed", "open_generator"]

_DRAW = 1  # sets the draws of reconstructions apart from samples


@dataclass(frozen=True, kw_only=True)
class Conditioning:
    """Catalogue columns that a network was conditioned on.

    Attributes
    ----------
    names : tuple of str
        ``"COLUMN"`` or ``"log:COLUMN"``.
    mean, std : tuple of float
        Over the training rows.
    """

    names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the catalogue."""
        return tuple(name.removeprefix("log:") for name in self.names)

    def standardised(self, values_NK: np.ndarray) -> np.ndarray:
        """What the network takes, of values as the catalogue has them; NaN stays NaN."""
        raw = np.array(values_NK, dtype=np.float64)
        for place, name in enumerate(self.names):
            if name.startswith("log:"):
                with np.errstate(divide="ignore", invalid="ignore"):
                    raw[:, place] = np.log(raw[:, place])
        raw[~np.isfinite(raw)] = np.nan
        return ((raw - self.mean) / self.std).astype(np.float32)


@dataclass(frozen=True, kw_only=True, eq=False)
class Reconstructed:
    """Images after their own latents.

    Attributes
    ----------
    mean, draw, top : ndarray, shape (n, C, size, size)
        From the posteriors' means; from one draw of the latents; from the mean of the top latent
        alone, the others at their priors' means.
    kl_NL : ndarray, shape (n, layers), float64
        Nats of each layer that the draw cost, the top layer first.
    bits_per_dim : ndarray, shape (n,)
        Of each image's evidence lower bound.
    """

    mean: np.ndarray
    draw: np.ndarray
    top: np.ndarray
    kl_NL: np.ndarray
    bits_per_dim: np.ndarray


class Generator:
    """The network of an encoder folder; see `open_generator`.

    Attributes
    ----------
    folder : Path
    manifest : Manifest
    prepare : Prepare
        From flux to the images it was trained on.
    shape : VdvaeShape
    conditioning : Conditioning or None
    fingerprint : str
        Of the encoder.
    pixel_scale : float or None
        Arcsec per pixel of the cutouts it was trained on.
    batch : int
        Images at a time. Random numbers follow from the number of the batch, so that what is made
        in parts of whole batches is what is made at once.
    """

    batch = 32

    def __init__(
        self,
        folder: Path,
        manifest: Manifest,
        vdvae: Vdvae,
        prepare: Prepare,
        fingerprint: str,
        pixel_scale: float | None,
        device: torch.device,
    ) -> None:
        self.folder, self.manifest, self.prepare = folder, manifest, prepare
        self.fingerprint, self.pixel_scale = fingerprint, pixel_scale
        self.shape: VdvaeShape = vdvae.shape
        told = manifest.summary.get("conditions")
        self.conditioning = (
            Conditioning(**{key: tuple(told[key]) for key in ("names", "mean", "std")})
            if told
            else None
        )
        self._device = device
        self._vdvae = vdvae.eval().requires_grad_(False).to(device)
        self._encoder = VdvaeEncoder(self._vdvae)

    @property
    def device(self) -> str:
        """Where it runs, ``"cpu"`` or ``"cuda"``."""
        return self._device.type

    @property
    def channels(self) -> tuple[str, ...]:
        """Name of each channel of an image."""
        return tuple("+".join(mix) for mix in self.prepare.mix)

    @property
    def scale(self) -> float | None:
        """Arcsec per pixel of the prepared images."""
        if self.pixel_scale is None:
            return None
        return self.pixel_scale * self.prepare.crop / self.prepare.size

    @property
    def latent_numbers(self) -> int:
        """Numbers of all layers of latents together."""
        return sum(channels * side * side for channels, side in self.shape.latents)

    def sample(
        self,
        count: int,
        *,
        temperature: float = 1.0,
        condition_NK: np.ndarray | None = None,
        top_ND: np.ndarray | None = None,
        seed: int = 0,
        first: int = 0,
        quiet: bool = True,
    ) -> np.ndarray:
        """Images of latents from the prior.

        The first images of a seed are the same however many follow, and so are their latents'
        random numbers at another temperature.

        Parameters
        ----------
        count : int
        temperature : float
            Times every prior's sigma; 1 is the model as it was trained.
        condition_NK : ndarray, shape (count, K), optional
            Standardised.
        top_ND : ndarray, shape (count, D), optional
            The top latents; only those below come from their priors.
        seed : int
        first : int
            So many images of the seed are passed over, a multiple of ``batch``.
        quiet : bool
            Show no progress.

        Raises
        ------
        UsageError
            Conditions are missing, or given to a network without.
        """
        self._require_conditions(condition_NK)
        if not temperature >= 0:
            raise UsageError(f"temperature {temperature:g}; expected 0 or more")
        out = np.empty((count, *self.image), dtype=np.float32)
        size = self.batch
        wanted, top = (_padded(given, count, size) for given in (condition_NK, top_ND))
        with Progress("sample", count, quiet=quiet) as bar, self._one_way():
            for start in range(0, count, size):
                rows = slice(start, min(start + size, count))
                condition = None if wanted is None else self._there(wanted[start : start + size])
                # A whole batch every time, for the sake of those that come first.
                draws = self._random(seed, (first + start) // size)
                if top is None:
                    made = self._vdvae.sample(size, temperature, condition, draws)
                else:
                    given = [self._there(top[start : start + size])]
                    made = self._vdvae.decode(
                        given, condition, temperature=temperature, generator=draws
                    )
                out[rows] = made[: rows.stop - start].cpu().numpy()
                bar.advance(rows.stop - start)
        return out

    def reconstruct(
        self,
        x_NCHW: np.ndarray,
        condition_NK: np.ndarray | None = None,
        *,
        seed: int = 0,
        first: int = 0,
        quiet: bool = True,
    ) -> Reconstructed:
        """Encode and decode images.

        Parameters
        ----------
        x_NCHW : ndarray
            NaN is no data.
        condition_NK : ndarray, optional
            Standardised; NaN, or none at all, is not known.
        seed : int
            Of the draw.
        first : int
            Place of the first image among all that share a seed, a multiple of ``batch``.
        quiet : bool
        """
        parts: list[dict[str, np.ndarray]] = []
        with Progress("reconstruct", len(x_NCHW), quiet=quiet) as bar, self._one_way():
            for number, (x, condition) in enumerate(self._batches(x_NCHW, condition_NK)):
                batch = first // self.batch + number
                means = self._vdvae.encode_all(x, condition)
                draws = self._vdvae.encode_all(
                    x, condition, temperature=1.0, generator=self._random(seed, batch, _DRAW)
                )
                # The same draws again, so that what is counted is what this very draw cost.
                with torch.no_grad():
                    again = self._random(seed, batch, _DRAW)
                    bound = self._vdvae(x, condition, generator=again)
                nats = bound.reconstruction_B + bound.kl_LB.sum(0)
                found = {
                    "mean": self._vdvae.decode(means, condition),
                    "draw": self._vdvae.decode(draws, condition),
                    "top": self._vdvae.decode(means[:1], condition),
                    "kl_NL": bound.kl_LB.T.double(),
                    "bits_per_dim": nats.double() / (bound.dims_B.clamp_min(1) * np.log(2)),
                }
                parts.append({name: one.cpu().numpy() for name, one in found.items()})
                bar.advance(len(x))
        return self.joined(parts)

    @staticmethod
    def joined(parts: Sequence[Mapping[str, np.ndarray]]) -> Reconstructed:
        """Images one after another, of the arrays of some `Reconstructed`."""
        return Reconstructed(
            **{name: np.concatenate([one[name] for one in parts]) for name in parts[0]}
        )

    def encode(self, x_NCHW: np.ndarray) -> np.ndarray:
        """Codes ``(n, latent_dim)`` as ``skytwin embed`` makes them without an orbit."""
        with self._one_way():
            found = [self._encoder(x).float().cpu().numpy() for x, _ in self._batches(x_NCHW, None)]
        return np.concatenate(found)

    def draw_top(
        self,
        x_NCHW: np.ndarray,
        condition_NK: np.ndarray | None = None,
        *,
        seed: int = 0,
        first: int = 0,
    ) -> np.ndarray:
        """One draw ``(n, latent_dim)`` of each image's top latent; as `reconstruct` otherwise."""
        found = []
        with self._one_way():
            for number, (x, condition) in enumerate(self._batches(x_NCHW, condition_NK)):
                draws = self._random(seed, first // self.batch + number, _DRAW)
                z_BD = self._vdvae.encode(x, condition, temperature=1.0, generator=draws)
                found.append(z_BD.cpu().numpy())
        return np.concatenate(found)

    def interpolate(
        self,
        ends_P2CHW: np.ndarray,
        steps: int,
        condition_P2K: np.ndarray | None = None,
    ) -> np.ndarray:
        """From one image to another, ``(pairs, steps, C, size, size)``, the ends included.

        Linear in the posterior means of all layers at once; see `Vdvae.interpolate`.
        """
        rows = []
        with self._one_way():
            for place, ends in enumerate(ends_P2CHW):
                given = None if condition_P2K is None else condition_P2K[place]
                one, other = self._there(ends)
                rows.append(
                    self._vdvae.interpolate(one, other, steps, self._condition(given, 2))
                    .cpu()
                    .numpy()
                )
        return np.stack(rows)

    @property
    def image(self) -> tuple[int, int, int]:
        """Shape of an image."""
        return (self.shape.channels, self.shape.size, self.shape.size)

    def _require_conditions(self, condition_NK: np.ndarray | None) -> None:
        count = self.shape.conditions
        if condition_NK is not None and not count:
            raise UsageError(
                f"conditions given, but the VDVAE in {str(self.folder)!r} was trained without: "
                "leave --condition out, or train with --set 'conditions=[\"COLUMN\"]'"
            )
        if condition_NK is None and count:
            raise UsageError(
                f"the VDVAE in {str(self.folder)!r} was trained with {count} condition(s) and got "
                "none; give one row per image, standardised"
            )

    def _batches(
        self, x_NCHW: np.ndarray, condition_NK: np.ndarray | None
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor | None]]:
        for start in range(0, len(x_NCHW), self.batch):
            x = self._there(x_NCHW[start : start + self.batch])
            given = None if condition_NK is None else condition_NK[start : start + self.batch]
            yield x, self._condition(given, len(x))

    def _condition(self, given: np.ndarray | None, count: int) -> torch.Tensor | None:
        if not self.shape.conditions:
            return None
        if given is None:
            given = np.full((count, self.shape.conditions), np.nan, dtype=np.float32)
        return self._there(given)

    def _there(self, array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array, np.float32)).to(self._device)

    def _random(self, seed: int, batch: int, what: int = 0) -> torch.Generator:
        mixed = np.random.SeedSequence([seed, batch, what]).generate_state(1, np.uint64)[0]
        return generator_on(self._device, torch.Generator().manual_seed(int(mixed >> 1)))

    def _one_way(self) -> Any:
        return torch.inference_mode()


def open_generator(folder: str | Path, *, device: str = "auto") -> Generator:
    """The VDVAE of a folder that ``skytwin train --method vdvae`` left.

    Parameters
    ----------
    folder : path
    device : {"auto", "cpu", "cuda"}

    Raises
    ------
    UsageError
        The folder holds no encoder, or one that is no VDVAE.
    DamagedArtefact
        It is not what was written.
    """
    path = Path(folder)
    manifest = Manifest.open(path, "encoder")
    name = str(manifest.summary.get("encoder", "an encoder"))
    if name != "vdvae" or not (path / ENCODER_FILE).is_file():
        raise UsageError(
            f"{str(path)!r} holds {name}, which cannot generate; expected the folder of "
            "skytwin train --method vdvae"
        )
    chosen = choose_device(device)
    # Checks weights against fingerprints, and says what is wrong with them.
    encoder = load_saved(path, device="cpu", runtime="torch")
    told: dict[str, Any] = encoder.network.describe()
    vdvae = Vdvae(VdvaeShape.from_dict(dict(told["shape"])))
    vdvae.load_state_dict(load_file(path / WEIGHTS_FILE))
    return Generator(
        path,
        manifest,
        vdvae,
        encoder.prepare,
        encoder.fingerprint,
        encoder.pixel_scale,
        chosen,
    )


def _padded(given: np.ndarray | None, count: int, batch: int) -> np.ndarray | None:
    """Rows up to a whole number of batches: the last again."""
    if given is None:
        return None
    if len(given) != count:
        raise UsageError(
            f"{len(given)} conditions or latents for {count} images; expected one each"
        )
    return np.concatenate([given, np.repeat(given[-1:], -count % batch, axis=0)])
