"""Recipes: every key checked, every mistake one clear line."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skytwin.encoders.recipe import Recipe, bundled_recipes, read_recipe
from skytwin.errors import UnknownName, UsageError


def test_those_that_come_along_are_whole_and_are_the_papers() -> None:
    named = bundled_recipes()
    assert set(named) >= {"rgz-simclr", "rgz-byol", "rgz-simsiam", "rgz-vdvae", "vdvae-tiny"}
    for name, path in named.items():
        recipe = read_recipe(name)
        assert Recipe.from_dict(recipe.to_dict()) == recipe
        given_keys = tomllib.loads(path.read_text())
        assert recipe.method == given_keys["method"]
    for name in ("rgz-simclr", "rgz-byol", "rgz-simsiam"):
        recipe = read_recipe(name)
        assert (recipe.backbone, recipe.batch, recipe.epochs) == ("resnet34", 1024, 1000)
        assert recipe.optimizer.name == "lars"
        assert recipe.head.out == 128
    vdvae = read_recipe("rgz-vdvae")
    assert (vdvae.batch, vdvae.epochs, vdvae.optimizer.name) == (32, 100, "rmsprop")
    assert (vdvae.optimizer.lr, vdvae.optimizer.momentum) == (2e-5, 0.9)
    assert (vdvae.optimizer.weight_decay, vdvae.optimizer.patience) == (1e-4, 10)
    assert (vdvae.vdvae["latent_dim"], vdvae.vdvae["stages"]) == (256, 6)


def test_changes_overrule_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('method = "byol"\nepochs = 7\n[views]\narea = [0.3, 0.9]\n')
    recipe = read_recipe(path, changes=["epochs=9", "input.stretch=asinh", "views.flip=false"])
    assert (recipe.method, recipe.epochs, recipe.input.stretch) == ("byol", 9, "asinh")
    assert (recipe.views.area, recipe.views.flip) == ((0.3, 0.9), False)
    assert read_recipe(path, changes=['input.crop="64"']).input.crop == "64"
    assert read_recipe(None, method="vdvae", changes=["conditions=las_arcsec"]).conditions == (
        "las_arcsec",
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("epoch = 3", "unknown key in .*'epoch'; did you mean: epochs"),
        ("[optimizer]\nrate = 1", "'optimizer.rate'.*optimizer"),
        ("[optimizer]\nname = 'adam'", "optimizer.name.*did you mean: adamw"),
        ("epochs = 2.5", "epochs is 2.5; expected a whole number"),
        ("epochs = true", "epochs is True; expected a whole number"),
        ("batch = 0", "batch 0; expected at least 1"),
        ("[views]\narea = [0.5]", "views.area is .*expected two numbers"),
        ("[views]\narea = [0.9, 0.5]", "0 < low <= high <= 1"),
        ("[views]\nflip = 1", "expected true or false"),
        ("[views]\nblur_sigma = [0, 1]", "0 < low <= high"),
        ("[optimizer]\nlr = -1.0", "optimizer.lr -1; expected 0 or more"),
        ("[optimizer]\nlr = '1'", "optimizer.lr is '1'; expected a number"),
        ("[validation]\nshare = 1.0", "validation.share 1; expected 0 to below 1"),
        ("input = 3", "input is 3; expected a table"),
        ("ema = 1.0", "ema 1; expected 0 to below 1"),
        ("conditions = ['z']", "only vdvae can be conditioned"),
        ("[vdvae]\nwidth = 3", "leave it out"),
        ("[input]\nturned = true", "input.turned is for vdvae; simclr turns its views"),
        ("method = ", "cannot be read"),
        ("method = 'moco'", "--method simclr, but .* is a recipe for moco"),
    ],
)
def test_mistakes_are_told_in_one_line(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=said) as caught:
        read_recipe(path, method="simclr")
    assert "\n" not in str(caught.value)


def test_what_is_not_there() -> None:
    with pytest.raises(UnknownName, match="unknown recipe 'rgz-simclrr'; did you mean: rgz-simclr"):
        read_recipe("rgz-simclrr")
    with pytest.raises(UsageError, match=r"no recipe 'gone.toml'"):
        read_recipe("gone.toml")
    with pytest.raises(UsageError, match="no method; give --method"):
        read_recipe(None)
    with pytest.raises(UnknownName, match="unknown method 'simclt'; did you mean: simclr"):
        read_recipe(None, method="simclt")
    with pytest.raises(UsageError, match="expected KEY=VALUE"):
        read_recipe(None, method="byol", changes=["epochs"])
    with pytest.raises(UsageError, match="epochs is no table"):
        read_recipe(None, method="byol", changes=["epochs=1", "epochs.x=2"])


@given(epochs=st.integers(1, 10_000), lr=st.floats(0, 1e3), crop=st.none() | st.just("64"))
def test_a_recipe_comes_back_as_it_was(epochs: int, lr: float, crop: str | None) -> None:
    data = {"method": "byol", "epochs": epochs, "optimizer": {"lr": lr}, "input": {"crop": crop}}
    recipe = Recipe.from_dict(data)
    assert Recipe.from_dict(recipe.to_dict()) == recipe
    assert (recipe.epochs, recipe.optimizer.lr, recipe.input.crop) == (epochs, lr, crop)
