"""What a Very Deep VAE looks like: the settings that its weights need to be read with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, Self, get_args

from skytwin.errors import UsageError, unknown

__all__ = ["VdvaeShape"]

Likelihood = Literal["gaussian", "logistic"]
Resampling = Literal["plain", "learned"]
PerStage = int | tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class VdvaeShape:
    """What a network looks like.

    What is per stage is one number for all, or a tuple from full size down to one pixel.

    Attributes
    ----------
    size, channels : int
        Pixels of a side of the input, and its bands.
    stages : int
        Each half the size of the one before; the last is one pixel. ``size`` is a multiple of
        ``2 ** (stages - 2)``, and at least ``2 ** (stages - 1)``: for six stages 32, 48, 64, ...
    width : int or tuple of int
        Channels.
    encoder_blocks, decoder_blocks : int or tuple of int
        Residual blocks, and layers of latents.
    latent_dim : int
        Of the first layer at one pixel: the representation.
    z_channels : int
        Channels of all other latents.
    bottleneck : float
        Channels inside a residual block, over those outside.
    resampling : str
        Between stages: ``"plain"``, means down and nearest neighbours up, as published; or
        ``"learned"``, with weights of its own for every place of a patch.
    likelihood : str
        ``"gaussian"`` or ``"logistic"``.
    sigma : float, optional
        Of the Gaussian likelihood, if it is not to be learned.
    levels, components : int
        Of the logistic likelihood.
    conditions : int
        Catalogue columns, standardised, that decoder and posterior are given.
    """

    size: int
    channels: int = 1
    stages: int = 6
    width: PerStage = 64
    encoder_blocks: PerStage = 2
    decoder_blocks: PerStage = 2
    latent_dim: int = 256
    z_channels: int = 16
    bottleneck: float = 0.25
    resampling: Resampling = "plain"
    likelihood: Likelihood = "gaussian"
    sigma: float | None = None
    levels: int = 256
    components: int = 10
    conditions: int = 0

    def __post_init__(self) -> None:
        if self.likelihood not in get_args(Likelihood):
            raise unknown("likelihood", self.likelihood, get_args(Likelihood))
        if self.resampling not in get_args(Resampling):
            raise unknown("resampling", self.resampling, get_args(Resampling))
        if self.stages < 2:
            raise UsageError(f"{self.stages} stages; expected at least 2")
        smallest, step = 1 << (self.stages - 1), 1 << (self.stages - 2)
        if self.size < smallest:
            raise UsageError(
                f"images of {self.size} pixels are smaller than the network's {self.stages} "
                f"stages; expected at least {smallest}: resize them, or have "
                f"{max(2, self.size.bit_length())} stages or fewer"
            )
        if self.size % step:
            near = self.size // step * step
            raise UsageError(
                f"images of {self.size} pixels cannot be halved {self.stages - 2} times; expected "
                f"a multiple of {step}: resize them to {near} or {near + step}"
            )
        for name in ("width", "encoder_blocks", "decoder_blocks"):
            values = getattr(self, name)
            if isinstance(values, tuple) and len(values) != self.stages:
                raise UsageError(
                    f"{name} {values} for {self.stages} stages; give one number per stage, or one"
                )
            if min(self._per_stage(values)) < 1:
                raise UsageError(f"{name} is {values}; expected at least 1")
        for name, least in (
            ("channels", 1),
            ("latent_dim", 1),
            ("z_channels", 1),
            ("levels", 2),
            ("components", 1),
            ("conditions", 0),
        ):
            if getattr(self, name) < least:
                raise UsageError(f"{name} is {getattr(self, name)}; expected at least {least}")
        if not 0 < self.bottleneck <= 1:
            raise UsageError(f"bottleneck is {self.bottleneck}; expected more than 0, at most 1")
        if self.sigma is not None and not self.sigma > 0:
            raise UsageError(f"sigma is {self.sigma}; expected more than 0, or None to learn it")

    @property
    def sides(self) -> tuple[int, ...]:
        """Pixels of a side at each stage, from ``size`` down to 1."""
        return (*(self.size >> stage for stage in range(self.stages - 1)), 1)

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each stage."""
        return self._per_stage(self.width)

    @property
    def encoder_depths(self) -> tuple[int, ...]:
        """Residual blocks of each stage of the encoder."""
        return self._per_stage(self.encoder_blocks)

    @property
    def decoder_depths(self) -> tuple[int, ...]:
        """Top-down blocks of each stage of the decoder."""
        return self._per_stage(self.decoder_blocks)

    @property
    def latents(self) -> tuple[tuple[int, int], ...]:
        """Channels and side of each layer's latent, from the top down."""
        found = [
            (self.z_channels, side)
            for side, depth in zip(self.sides[::-1], self.decoder_depths[::-1], strict=True)
            for _ in range(depth)
        ]
        return ((self.latent_dim, 1), *found[1:])

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; back with `from_dict`."""
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in asdict(self).items()
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Back from `to_dict`.

        Raises
        ------
        UnknownName
            A key that is no setting.
        """
        known = [field.name for field in fields(cls)]
        for key in data:
            if key not in known:
                raise unknown("setting of VdvaeShape", key, known)
        values: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in data.items()
        }
        return cls(**values)

    def _per_stage(self, values: PerStage) -> tuple[int, ...]:
        return values if isinstance(values, tuple) else (values,) * self.stages
