"""What a training run is told: a recipe in TOML, every key checked.

::

    method = "simclr"          # simclr, byol, simsiam, vdvae
    epochs = 100
    [input]                    # how flux becomes the network's input
    stretch = "asinh"
    [optimizer]
    name = "lars"

A key that is left out has its default; one that does not exist is an error.
"""

from __future__ import annotations

import dataclasses
import importlib.resources
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from skytwin.encoders.recipe_settings import (
    BalanceSettings,
    HeadSettings,
    InputSettings,
    LossSettings,
    OptimizerSettings,
    ValidationSettings,
    ViewSettings,
)
from skytwin.encoders.recipe_values import from_table
from skytwin.errors import UsageError, unknown

__all__ = [
    "CURVES",
    "METHODS",
    "Recipe",
    "bundled_recipes",
    "read_recipe",
]

#: Name of the table of curves beside a trained encoder.
CURVES = "curves.csv"
METHODS = ("simclr", "byol", "simsiam", "vdvae")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that shapes a trained encoder but the images and the seed.

    Attributes
    ----------
    method : str
        ``"simclr"``, ``"byol"``, ``"simsiam"`` or ``"vdvae"``.
    backbone : str
        A model of timm, for all but ``vdvae``.
    epochs, batch : int
        The batch is that of all devices together.
    precision : str
        ``"32"``, ``"bf16"`` or ``"16"``, of the network's arithmetic.
    ema : float
        The weights that are kept are a running mean of those trained, with this decay per step;
        0 for the weights themselves.
    conditions : tuple of str
        Numeric catalogue columns the VDVAE is conditioned on; ``log:COLUMN`` for the logarithm.
    vdvae : dict
        Shape of the VDVAE: see `skytwin.encoders.vdvae.VdvaeShape`.
    """

    method: str = "simclr"
    backbone: str = "resnet34"
    epochs: int = 100
    batch: int = 256
    precision: Literal["32", "bf16", "16"] = "32"
    ema: float = 0.0
    conditions: tuple[str, ...] = ()
    input: InputSettings = field(default_factory=InputSettings)
    views: ViewSettings = field(default_factory=ViewSettings)
    head: HeadSettings = field(default_factory=HeadSettings)
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    loss: LossSettings = field(default_factory=LossSettings)
    validation: ValidationSettings = field(default_factory=ValidationSettings)
    balance: BalanceSettings = field(default_factory=BalanceSettings)
    vdvae: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise unknown("method", self.method, METHODS)
        for name in ("epochs", "batch"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} {getattr(self, name)}; expected at least 1")
        if not 0 <= self.ema < 1:
            raise UsageError(f"ema {self.ema:g}; expected 0 to below 1, e.g. 0.999")
        if self.conditions and self.method != "vdvae":
            raise UsageError(
                f"conditions {', '.join(self.conditions)}: only vdvae can be conditioned on "
                f"catalogue columns, not {self.method}"
            )
        if self.input.turned and self.method != "vdvae":
            raise UsageError(
                f"input.turned is for vdvae; {self.method} turns its views: set views.rotate"
            )
        if self.vdvae and self.method != "vdvae":
            raise UsageError(f"[vdvae] in a recipe for {self.method}; leave it out")

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form; `from_dict` is the way back."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], where: str = "the recipe") -> Recipe:
        """A recipe from nested tables.

        Raises
        ------
        UnknownName
            A key that no recipe has.
        UsageError
            A value of another type, or out of range.
        """
        return from_table(cls, data, where)


def bundled_recipes() -> dict[str, Path]:
    """The recipes that come with skytwin, by name."""
    folder = Path(str(importlib.resources.files("skytwin") / "recipes"))
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def read_recipe(
    recipe: str | Path | None, *, method: str | None = None, changes: Sequence[str] = ()
) -> Recipe:
    """A recipe of a file or of those that come with skytwin, with changes.

    Parameters
    ----------
    recipe : str or path, optional
        A ``.toml`` file, or a name such as ``"rgz-simclr"``. By default the defaults.
    method : str, optional
        Must agree with the recipe's, where that names one.
    changes : sequence of str
        ``"optimizer.lr=0.1"``, ``"epochs=10"``; the values as in TOML, text without quotes.

    Raises
    ------
    UnknownName
        No such recipe, or a key that no recipe has.
    UsageError
        The file is no TOML; a value out of range; two methods.
    """
    data: dict[str, Any] = {}
    where = "--set"
    if recipe is not None:
        path = Path(recipe)
        known = bundled_recipes()
        if path.suffix != ".toml":
            if str(recipe) not in known:
                raise unknown("recipe", recipe, known, "or give a .toml file")
            path = known[str(recipe)]
        where = repr(str(path))
        if not path.is_file():
            raise UsageError(f"no recipe {where}; known: {', '.join(known)}")
        try:
            data = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise UsageError(f"recipe {where} cannot be read: {error}") from error
    for change in changes:
        _change(data, change)
    if method is not None:
        if "method" in data and data["method"] != method:
            raise UsageError(
                f"--method {method}, but {where} is a recipe for {data['method']}; leave one out"
            )
        data["method"] = method
    if "method" not in data:
        raise UsageError(f"no method; give --method {', '.join(METHODS)} or --recipe")
    return Recipe.from_dict(data, where)


def _change(data: dict[str, Any], change: str) -> None:
    """``"optimizer.lr=0.1"`` into nested tables."""
    key, equals, text = change.partition("=")
    if not equals or not key:
        raise UsageError(f"--set {change!r}; expected KEY=VALUE, e.g. optimizer.lr=0.1")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    *tables, name = key.strip().split(".")
    place = data
    for table in tables:
        place = place.setdefault(table, {})
        if not isinstance(place, dict):
            raise UsageError(f"--set {change!r}: {table} is no table of the recipe")
    place[name] = value
