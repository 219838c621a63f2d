"""What a study of radio galaxies runs on: labelled sets and an unlabelled one."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from skytwin.answers.probe_classifiers import PAPER
from skytwin.artefact import MANIFEST
from skytwin.embeddings.table import Embeddings
from skytwin.errors import DataError, UsageError
from skytwin.images.columns import numbers
from skytwin.images.cutouts import Cutouts
from skytwin.images.datasets import DATASETS, FOLDER_VARIABLE
from skytwin.images.simulate import simulate_survey
from skytwin.images.where import matching_rows
from skytwin.reproduce import rgz_paper as paper
from skytwin.reproduce.places import ingested, stage
from skytwin.reproduce.ulisse_inputs import data_folder
from skytwin.verbs import ingest

__all__ = [
    "CLASSIFIERS",
    "LEVEL",
    "Asked",
    "Coded",
    "Given",
    "LabelledSet",
    "UnlabelledSet",
    "labelled",
    "unlabelled",
]

LEVEL = 0.95
#: The paper's six, and two that its settings lack.
CLASSIFIERS = (*PAPER, "svc-scale", "lda")
_LABEL = "fr"
_TWO = "fr IN ('FRI', 'FRII')"
_SIZES = ("las_arcsec", "angular_size", "las", "max_angular_extent")
_STAND_IN = {"mirabest": "first", "frdeep": "nvss"}
_DATASETS = {"mirabest": "mirabest", "frdeep": "frdeep-nvss"}


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a user gave; see ``skytwin reproduce rgz --help``."""

    encoders: tuple[str, ...] = ()
    weights: Path | None = None
    unlabelled: Path | None = None
    unlabelled_catalog: Path | None = None
    size_column: str | None = None
    mirabest: Path | None = None
    frdeep: Path | None = None
    classifiers: tuple[str, ...] = CLASSIFIERS
    folds: int = 5
    flow: str = "default"
    count: int = 4000
    seed: int = 0
    quiet: bool = False


@dataclass(frozen=True, eq=False, kw_only=True)
class LabelledSet:
    """Radio galaxies of known class.

    Attributes
    ----------
    key : {"mirabest", "frdeep"}
        Whose place it takes in the paper.
    title, why : str
    simulated : bool
    cutouts : Cutouts
    where : str
        SQL condition of the rows that count.
    split : str or None
        Column of train and test.
    rows : ndarray, shape (n,), int
        That fulfil the condition.
    """

    key: str
    title: str
    why: str
    simulated: bool
    cutouts: Cutouts
    where: str
    split: str | None
    rows: np.ndarray

    @property
    def sides(self) -> tuple[int, int]:
        """Rows that train and test, as the split column has them."""
        if self.split is None:
            return len(self.rows), 0
        side = np.array(self.cutouts.catalog[self.split].to_pylist(), dtype=object)[self.rows]
        return int((side == "train").sum()), int((side == "test").sum())

    @property
    def published(self) -> bool:
        """Whether as many rows train and test as in the paper."""
        theirs = paper.SETS[self.key]
        return self.sides == (theirs.train, theirs.test)


@dataclass(frozen=True, eq=False, kw_only=True)
class UnlabelledSet:
    """What encoders may learn from.

    Attributes
    ----------
    title, why : str
    simulated : bool
    cutouts : Cutouts
    size : str or None
        Column of the angular size.
    """

    title: str
    why: str
    simulated: bool
    cutouts: Cutouts
    size: str | None


@dataclass(frozen=True, eq=False, kw_only=True)
class Coded:
    """An encoder, and sets as it sees them.

    Attributes
    ----------
    spec : str
    title : str
    method : str or None
        ``vdvae``, ``simclr``, ``byol`` or ``simsiam``.
    orbit : str
    embeddings : dict of str to Embeddings
        ``mirabest``, ``frdeep``, and ``unlabelled`` where it was needed.
    folder : Path or None
        Where it was trained.
    """

    spec: str
    title: str
    method: str | None
    orbit: str
    embeddings: dict[str, Embeddings] = field(default_factory=dict)
    folder: Path | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class Given:
    """All that the sections work on; ``main`` is the encoder of the sections after the table."""

    asked: Asked
    home: Path
    labelled: tuple[LabelledSet, ...]
    unlabelled: UnlabelledSet
    coded: tuple[Coded, ...]
    main: Coded
    lacking: str

    def of(self, key: str) -> LabelledSet:
        """A labelled set."""
        return next(each for each in self.labelled if each.key == key)

    @property
    def vdvae(self) -> Coded | None:
        """The first VDVAE, if there is one."""
        return next((each for each in self.coded if each.method == "vdvae"), None)


def labelled(asked: Asked, home: Path, key: str) -> LabelledSet:
    """A labelled set of the paper: given, published, or a simulated one in its place."""
    given = asked.mirabest if key == "mirabest" else asked.frdeep
    title, data = paper.SETS[key].title, data_folder()
    if given is not None:
        made = ingested(home, key, given, quiet=asked.quiet)
        return _labelled(key, title, f"as given: {made.folder.name}", made, simulated=_drawn(made))
    if data is not None:
        name = _DATASETS[key]
        folder = stage(home, key, {"dataset": name, "sha256": DATASETS[name].sha256})
        made = _opened(folder) or ingest(name, folder, quiet=asked.quiet)
        return _labelled(key, title, f"what lies in {FOLDER_VARIABLE}", made)
    count = max(asked.count // 5, 200)
    survey = _STAND_IN[key]
    made = _simulated(home, key, count, asked.seed + 1 + (key == "frdeep"), survey, asked.quiet)
    return _labelled(
        key,
        f"simulated, in place of {title}",
        f"no {FOLDER_VARIABLE}, and no --{key}: {count} simulated sources in its place, as "
        f"{survey.upper()} would see them",
        made,
        simulated=True,
    )


def _drawn(made: Cutouts) -> bool:
    """Whether ``skytwin simulate`` made them."""
    return "simulate" in made.manifest.recipe.get("source", {})


def _opened(folder: Path) -> Cutouts | None:
    return Cutouts(folder) if (folder / MANIFEST).is_file() else None


def _simulated(home: Path, name: str, count: int, seed: int, survey: str, quiet: bool) -> Cutouts:
    told = {"count": count, "seed": seed, "survey": survey, "eight_bit": True}
    folder = stage(home, f"simulated-{name}", told)
    return _opened(folder) or simulate_survey(
        "radio", count, folder, seed=seed, survey=survey, eight_bit=True, quiet=quiet
    )


def _labelled(
    key: str, title: str, why: str, made: Cutouts, *, simulated: bool = False
) -> LabelledSet:
    names = made.catalog.column_names
    if _LABEL not in names:
        raise UsageError(
            f"{str(made.folder)!r} has no column {_LABEL!r} of FRI and FRII (columns: "
            f"{', '.join(names)}); join one when you ingest"
        )
    where = f"{_TWO} AND confidence = 'confident'" if "confidence" in names else _TWO
    rows = np.flatnonzero(matching_rows(made.catalog, where))
    classes = made.catalog[_LABEL].take(rows).to_pylist()
    for name in ("FRI", "FRII"):
        if classes.count(name) < 20:
            raise DataError(
                f"{title}: {classes.count(name)} objects of {name}; expected at least 20"
            )
    return LabelledSet(
        key=key,
        title=title,
        why=why,
        simulated=simulated,
        cutouts=made,
        where=where,
        split="split" if "split" in names else None,
        rows=rows,
    )


def unlabelled(asked: Asked, home: Path) -> UnlabelledSet:
    """The set without labels: given, or simulated."""
    if asked.unlabelled is not None:
        made = ingested(
            home,
            "unlabelled",
            asked.unlabelled,
            catalog=asked.unlabelled_catalog,
            quiet=asked.quiet,
        )
        drawn = _drawn(made)
        title = f"{len(made)} {'simulated sources' if drawn else 'images'} of {made.folder.name}"
        return _sized(asked, made, title, "as given", simulated=drawn)
    if asked.unlabelled_catalog is not None:
        raise UsageError("--unlabelled-catalog goes with --unlabelled FOLDER")
    made = _simulated(home, "unlabelled", asked.count, asked.seed, "first", asked.quiet)
    return _sized(
        asked,
        made,
        f"{len(made)} simulated radio sources",
        "in place of RGZ DR1, which was not given (--unlabelled FOLDER); nothing learnt from it "
        "has seen the sky",
        simulated=True,
    )


def _sized(
    asked: Asked, made: Cutouts, title: str, why: str, *, simulated: bool = False
) -> UnlabelledSet:
    names = made.catalog.column_names
    size = asked.size_column or next((name for name in _SIZES if name in names), None)
    if size is not None:
        if size not in names:
            raise UsageError(f"--size-column {size}: the catalogue has {', '.join(names)}")
        numbers(made.catalog, size)
    return UnlabelledSet(title=title, why=why, simulated=simulated, cutouts=made, size=size)
