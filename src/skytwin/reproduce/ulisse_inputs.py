"""What a ULISSE study runs on: the user's own data, published ones at hand, or a simulation."""

from __future__ import annotations

import importlib.util
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from skytwin.embeddings.table import Embeddings
from skytwin.errors import Mismatch, UsageError
from skytwin.images.cutouts import Cutouts
from skytwin.images.datasets import FOLDER_VARIABLE
from skytwin.images.simulate import simulate_survey
from skytwin.reproduce.places import ingested, stage

__all__ = [
    "COUNT",
    "LUPTON",
    "Asked",
    "Kind",
    "Network",
    "Survey",
    "data_folder",
    "given_embedding",
    "network",
    "survey",
]

#: Classes that stand in for AGN: Galaxy Zoo's labels are of shape.
GALAXY_ZOO = {
    "EdgeOn": "morphology=EdgeOn",
    "Spiral": "morphology in ('SpiralCW', 'SpiralACW')",
    "Merger": "morphology=Merger",
}
SIMULATED = {
    "edge-on": "morphology=edge-on",
    "disk": "morphology=disk",
    "agn-host": "morphology=agn-host",
}
#: Of flux in nanomaggies, as SDSS calibrates.
LUPTON = "lupton:stretch=0.5,Q=8"
#: Objects of a simulated survey.
COUNT = 2000
_PIXELS = "pca:64"


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a user gave."""

    cutouts: Path | None = None
    catalog: Path | None = None
    labels: tuple[str, ...] = ()
    column: str | None = None
    second: Path | None = None
    second_catalog: Path | None = None
    encoder: str | None = None
    weights: Path | None = None
    recipe_embedding: Path | None = None
    embedding: Path | None = None
    bands: str | None = None
    stretch: str | None = None
    draws: int = 12
    seed: int = 0
    quiet: bool = False


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A class of objects that is looked for."""

    name: str
    condition: str


@dataclass(frozen=True, kw_only=True)
class Network:
    """What makes the vectors, and why this one."""

    spec: str
    weights: Path | None
    why: str

    @property
    def pixels(self) -> bool:
        """Whether it is principal components of pixels: no network at all."""
        return self.spec.startswith("pca:")

    @property
    def recipe(self) -> dict[str, Any]:
        """Settings of the paper: whole frame, 224 pixels, no orbit."""
        return {} if self.pixels else {"preset": "ulisse"}

    def default(self, cutouts: Cutouts) -> dict[str, Any]:
        """Settings that this package recommends: two central crops, orbit, root."""
        side = min(cutouts.shape[2:])
        if self.pixels:
            return {"crop": str(side // 2), "orbit": "d4"}
        return {"crop": f"{side // 2},{3 * side // 4}", "orbit": "d4", "root": True}


@dataclass(frozen=True, eq=False, kw_only=True)
class Survey:
    """The set that is searched.

    Attributes
    ----------
    title : str
    why : str
        How it came to be chosen, for the page.
    galaxy_zoo, simulated : bool
        What its labels are.
    cutouts : Cutouts
    kinds : tuple of Kind
    column : str or None
        With the classes, for compositions.
    bands : str or None
        What the network is given.
    single : str or None
        The i band alone, or what is nearest to it; None where there is one band only.
    stretch : str
    """

    title: str
    why: str
    galaxy_zoo: bool
    simulated: bool
    cutouts: Cutouts
    kinds: tuple[Kind, ...]
    column: str | None
    bands: str | None
    single: str | None
    stretch: str

    @property
    def looked_at(self) -> dict[str, str]:
        """Bands and stretch as `skytwin.embed` takes them."""
        found = {"stretch": self.stretch}
        return found if self.bands is None else {**found, "bands": self.bands}

    @property
    def alone(self) -> dict[str, str]:
        """The same of the single band."""
        return {"stretch": self.stretch, "bands": str(self.single)}


def data_folder() -> Path | None:
    """The folder of published data, where the environment names one.

    Raises
    ------
    UsageError
        It names something else.
    """
    given = os.environ.get(FOLDER_VARIABLE)
    if not given:
        return None
    if not Path(given).is_dir():
        raise UsageError(
            f"{FOLDER_VARIABLE}={given} is no folder; unset it or point it to the data"
        )
    return Path(given).resolve()


def network(asked: Asked) -> Network:
    """The network asked for, else the paper's where its weights are at hand, else the next best."""
    if asked.encoder is not None:
        return Network(spec=asked.encoder, weights=asked.weights, why="as asked for")
    if asked.weights is not None:
        raise UsageError("--weights go with a network; name it with --encoder timm:NAME")
    data = data_folder()
    lacking = [name for name in ("torch", "timm") if importlib.util.find_spec(name) is None]
    if data is not None and not lacking:
        for name in ("efficientnet_b0", "mobilenetv2_100"):
            found = sorted((data / "weights").glob(f"{name}*.safetensors"))
            if found:
                paper = name == "efficientnet_b0"
                return Network(
                    spec=f"timm:{name}",
                    weights=found[0],
                    why="the paper's network"
                    if paper
                    else "ImageNet weights that are at hand; the paper's network is "
                    "EfficientNet-B0, whose weights are not (give them with --encoder "
                    "timm:efficientnet_b0 --weights FILE)",
                )
    reason = f"{' and '.join(lacking)} not installed" if lacking else "no weights at hand"
    return Network(
        spec=_PIXELS,
        weights=None,
        why=f"principal components of the pixels in place of a network: {reason} (the paper's is "
        "EfficientNet-B0: --encoder timm:efficientnet_b0, with --weights FILE or a connection)",
    )


def survey(asked: Asked, home: Path) -> Survey:
    """The set to be searched, as cutouts.

    Raises
    ------
    UsageError
        The user's own images come without a class to look for; options that do not go together.
    """
    if asked.cutouts is not None or asked.recipe_embedding is not None:
        return _own(asked, home)
    if asked.catalog is not None:
        raise UsageError("--catalog goes with --cutouts FOLDER")
    data = data_folder()
    if data is not None and (data / "gz1" / "galaxies.zip").is_file():
        made = ingested(
            home,
            "galaxy-zoo",
            data / "gz1" / "galaxies.zip",
            catalog=data / "gz1" / "catalogue.csv",
            quiet=asked.quiet,
        )
        return _survey(
            asked,
            made,
            f"Galaxy Zoo 1: {len(made)} SDSS colour images",
            f"what lies in {FOLDER_VARIABLE}; give your own with --cutouts",
        )
    folder = stage(home, "simulated", {"count": COUNT, "seed": asked.seed})
    made = (
        Cutouts(folder)
        if (folder / "manifest.json").is_file()
        else simulate_survey("optical", COUNT, folder, seed=asked.seed, quiet=asked.quiet)
    )
    return _survey(
        asked,
        made,
        f"a simulated survey of {len(made)} objects",
        f"no data were given: neither --cutouts nor {FOLDER_VARIABLE}. Nothing here says anything "
        "of real galaxies",
        simulated=True,
    )


def _own(asked: Asked, home: Path) -> Survey:
    if asked.cutouts is not None:
        made = ingested(home, "cutouts", asked.cutouts, catalog=asked.catalog, quiet=asked.quiet)
    else:
        if asked.catalog is not None:
            raise UsageError("--catalog goes with --cutouts FOLDER")
        made = Embeddings.open(asked.recipe_embedding or "").cutouts()
    return _survey(asked, made, f"{len(made)} images of {made.folder.name}", "as given")


def _survey(
    asked: Asked, made: Cutouts, title: str, why: str, *, simulated: bool = False
) -> Survey:
    names = made.catalog.column_names
    known = set(made.catalog["morphology"].to_pylist()) if "morphology" in names else set()
    zoo = {"EdgeOn", "SpiralCW", "SpiralACW", "Merger"} <= known
    kinds = {_short(text): text for text in asked.labels}
    if not kinds:
        if not (zoo or simulated):
            raise UsageError(
                "no class to look for; name it with --label COLUMN=VALUE (columns: "
                f"{', '.join(names)})"
            )
        kinds = GALAXY_ZOO if zoo else SIMULATED
    column = asked.column
    if column is None:
        columns = [
            c for c in (text.partition("=")[0].strip() for text in asked.labels) if c in names
        ]
        column = columns[0] if columns else "morphology" if known else None
    if column is not None and column not in names:
        raise UsageError(f"--column {column}: the catalogue has {', '.join(names)}")
    bands = asked.bands
    if bands is None and {"g", "r", "i"} <= set(made.bands):
        bands = "i,r,g"
    elif bands is None and len(made.bands) not in (1, 3):
        raise UsageError(
            f"the images have {len(made.bands)} bands ({', '.join(made.bands)}) and networks take "
            "three; choose them with --bands, the reddest first"
        )
    red = next((b for b in ("i", "red") if b in made.bands), None)
    eight_bit = made.dtype == np.uint8
    three = bands is not None or len(made.bands) == 3
    fitting = (
        "linear" if eight_bit else LUPTON if made.unit == "nanomaggy" and three else "clip:0.5,99.5"
    )
    return Survey(
        title=f"Galaxy Zoo 1: {len(made)} SDSS images" if zoo and not asked.labels else title,
        why=why,
        galaxy_zoo=zoo and not asked.labels,
        simulated=simulated,
        cutouts=made,
        kinds=tuple(Kind(name=name, condition=text) for name, text in kinds.items()),
        column=column,
        bands=bands,
        single=f"{red},{red},{red}" if red is not None and three else None,
        stretch=asked.stretch or fitting,
    )


def _short(condition: str) -> str:
    column, equals, value = condition.partition("=")
    plain = equals and re.fullmatch(r"\s*\w+\s*", column) and re.fullmatch(r"[\w .+-]+", value)
    return value.strip() if plain else condition


def given_embedding(path: Path, survey: Survey) -> Embeddings:
    """An embedding that the user has, if it is of these cutouts.

    Raises
    ------
    Mismatch
        It is of others.
    """
    found = Embeddings.open(path)
    parent = found.manifest.parents.get("cutouts") if found.manifest else None
    mine = survey.cutouts.manifest.fingerprint
    if parent is None or parent.fingerprint != mine:
        raise Mismatch(
            f"{str(path)!r} was made from other cutouts than {str(survey.cutouts.folder)!r} "
            f"(fingerprint {mine[:12]}); embed these, or leave the option out"
        )
    return found
