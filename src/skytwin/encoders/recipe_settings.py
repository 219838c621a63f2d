"""Settings of a recipe, table by table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from skytwin.errors import UsageError

__all__ = [
    "BalanceSettings",
    "HeadSettings",
    "InputSettings",
    "LossSettings",
    "OptimizerSettings",
    "ValidationSettings",
    "ViewSettings",
]


@dataclass(frozen=True, kw_only=True)
class InputSettings:
    """From flux to the network's input; as the options of ``skytwin embed``.

    Attributes
    ----------
    size : int
        Pixels of a side.
    crop, bands : str or None
        Central part, and bands: by default all.
    stretch : str
    turned : bool
        Show a VDVAE an image in one of its eight quarter turns and mirror images, drawn anew each
        time: for few images. The other methods do so by their views.
    """

    size: int = 64
    crop: str | None = None
    bands: str | None = None
    stretch: str = "linear"
    turned: bool = False

    def __post_init__(self) -> None:
        if self.size < 1:
            raise UsageError(f"input.size {self.size}; expected at least 1 pixel")


@dataclass(frozen=True, kw_only=True)
class ViewSettings:
    """Random views of an image, each drawn for each view; brightness is in [0, 1].

    Attributes
    ----------
    flip : bool
        Mirror along x and along y, each with probability one half.
    rotate : str
        ``"any"`` angle, ``"quarter"`` turns or ``"none"``.
    area : tuple of float
        The share of the frame that is kept, drawn between the two, then enlarged to the frame.
    shift : float
        The crop's centre lies at most this share of the free room from the frame's: 1 is
        anywhere, 0 the centre.
    brightness, contrast : float
        Added at most, and multiplied by at most one plus or minus, for all bands alike.
    noise : float
        At most this times the image's own pixel noise is added (or 0.02 where it has none,
        as in pictures cut off below 3 sigma).
    blur : float
        Probability of a Gaussian blur.
    blur_sigma : tuple of float
        Its width in pixels, drawn between the two.
    """

    flip: bool = True
    rotate: Literal["any", "quarter", "none"] = "any"
    area: tuple[float, float] = (0.5, 1.0)
    shift: float = 1.0
    brightness: float = 0.1
    contrast: float = 0.2
    noise: float = 0.5
    blur: float = 0.3
    blur_sigma: tuple[float, float] = (0.3, 1.5)

    def __post_init__(self) -> None:
        low, high = self.area
        if not 0 < low <= high <= 1:
            raise UsageError(
                f"views.area {low:g}, {high:g}; expected two shares of the frame, 0 < low <= "
                "high <= 1, e.g. [0.5, 1.0]"
            )
        if not 0 <= self.shift <= 1 or not 0 <= self.blur <= 1:
            raise UsageError(
                f"views.shift {self.shift:g}, views.blur {self.blur:g}; expected 0 to 1"
            )
        if not 0 < self.blur_sigma[0] <= self.blur_sigma[1]:
            raise UsageError(f"views.blur_sigma {list(self.blur_sigma)}; expected 0 < low <= high")
        for name in ("brightness", "contrast", "noise"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise UsageError(f"views.{name} {getattr(self, name):g}; expected 0 or more")


@dataclass(frozen=True, kw_only=True)
class HeadSettings:
    """What stands on the backbone while it is trained, and is left behind.

    Attributes
    ----------
    hidden, out : int
        Widths of the projection: one hidden layer.
    temperature : float
        Of SimCLR's loss.
    decay : float
        Of BYOL's target at the start; it rises to 1 along half a cosine.
    """

    hidden: int = 512
    out: int = 128
    temperature: float = 0.5
    decay: float = 0.99


@dataclass(frozen=True, kw_only=True)
class OptimizerSettings:
    """How the weights move.

    Attributes
    ----------
    name : str
        ``"lars"``, ``"sgd"``, ``"adamw"`` or ``"rmsprop"``.
    lr : float
        The largest learning rate, for the recipe's batch.
    momentum, weight_decay : float
        Biases and normalisations do not decay.
    schedule : str
        ``"cosine"`` to zero, ``"plateau"`` (multiplied by ``factor`` once the validation loss has
        not fallen for ``patience`` epochs) or ``"constant"``.
    warmup_epochs : float
        The rate rises from zero over so many epochs.
    patience, factor
        Of the plateau.
    clip : float
        Largest norm of the gradient; 0 for any.
    skip : float
        A step whose gradient is longer than this is left out (Child 2021, section 4); 0 for none.
        One that is not finite is always left out.
    """

    name: Literal["lars", "sgd", "adamw", "rmsprop"] = "adamw"
    lr: float = 1e-3
    momentum: float = 0.9
    weight_decay: float = 1e-4
    schedule: Literal["cosine", "plateau", "constant"] = "cosine"
    warmup_epochs: float = 5.0
    patience: int = 10
    factor: float = 0.5
    clip: float = 0.0
    skip: float = 0.0

    def __post_init__(self) -> None:
        for name in ("lr", "momentum", "weight_decay", "warmup_epochs", "clip", "skip"):
            value = getattr(self, name)
            if not 0 <= value < float("inf"):
                raise UsageError(f"optimizer.{name} {value:g}; expected 0 or more")
        if not 0 < self.factor < 1 or self.patience < 1:
            raise UsageError(
                f"optimizer.factor {self.factor:g}, optimizer.patience {self.patience}; expected "
                "between 0 and 1, and at least 1"
            )


@dataclass(frozen=True, kw_only=True)
class LossSettings:
    """Of the VDVAE's loss.

    Attributes
    ----------
    beta : float
        Weight of the KL divergence.
    beta_top : float
        Times this for the top latent, the representation. Below 1, what it says of an image is
        cheaper than what later latents would, which else take over all of it.
    beta_warmup_epochs : float
        It rises from zero over so many epochs.
    top_first_epochs : float
        Over so many epochs the weight of all layers but the top falls from a hundred times beta
        to beta, so that the top latent learns first. Small maps learn faster than a vector, and
        leave it nothing to say.
    """

    beta: float = 1.0
    beta_top: float = 1.0
    beta_warmup_epochs: float = 0.0
    top_first_epochs: float = 0.0

    def __post_init__(self) -> None:
        for name in ("beta", "beta_top", "beta_warmup_epochs", "top_first_epochs"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise UsageError(f"loss.{name} {getattr(self, name):g}; expected 0 or more")


@dataclass(frozen=True, kw_only=True)
class ValidationSettings:
    """What is held out, and what it decides.

    Attributes
    ----------
    share : float
        Of the images; those at one place on the sky stay together.
    group_arcsec : float
        What counts as one place.
    patience : int
        Training stops once the loss has not fallen for so many epochs; 0 for never.
    keep : str
        ``"best"``: the weights of the epoch of least validation loss; ``"last"``.
    neighbours : int
        Of the kNN probe, where labels are given.
    """

    share: float = 0.1
    group_arcsec: float = 2.0
    patience: int = 0
    keep: Literal["best", "last"] = "last"
    neighbours: int = 20

    def __post_init__(self) -> None:
        if not 0 <= self.share < 1:
            raise UsageError(f"validation.share {self.share:g}; expected 0 to below 1")
        if self.patience < 0 or self.neighbours < 1:
            raise UsageError(
                f"validation.patience {self.patience}, validation.neighbours {self.neighbours}; "
                "expected at least 0, and at least 1"
            )


@dataclass(frozen=True, kw_only=True)
class BalanceSettings:
    """Which kinds of images are to be seen equally often.

    Attributes
    ----------
    column : str or None
        Catalogue column of classes, or of a number, whose ranges are the kinds; None for images
        as they come.
    bins : int
        Ranges of a number: of one width between its 1st and 99th percentile, or of one ratio
        where it is positive and spans more than a decade.
    most : float
        An image is drawn at most so many times as often as if all were of its kind.
    """

    column: str | None = None
    bins: int = 10
    most: float = 20.0

    def __post_init__(self) -> None:
        if self.bins < 2 or not self.most >= 1:
            raise UsageError(
                f"balance.bins {self.bins}, balance.most {self.most:g}; expected at least 2, and "
                "at least 1"
            )
