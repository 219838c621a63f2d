"""The study of Andrianomena & Tang 2023 (arXiv 2311.08331), section by section."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skytwin.answers.probe_classifiers import check_classifiers
from skytwin.artefact import Parent
from skytwin.errors import UsageError
from skytwin.reproduce import (
    rgz_data,
    rgz_density,
    rgz_encoders,
    rgz_inputs,
    rgz_samples,
    rgz_search,
    rgz_space,
    rgz_summary,
    rgz_table,
)
from skytwin.reproduce import rgz_paper as paper
from skytwin.reproduce.page import Facts
from skytwin.reproduce.plan import ARTEFACTS, Done, Section, Study, claimed, run_study
from skytwin.reproduce.rgz_inputs import Asked, Given

__all__ = ["Asked", "reproduce_rgz"]

NAME = "rgz"


def reproduce_rgz(
    out: Path, asked: Asked, *, tell: Callable[[str], None] = lambda _: None
) -> tuple[Done, ...]:
    """Write the report; what an earlier run finished, and still holds, is kept.

    Parameters
    ----------
    out : path
        Folder of the report, new or an earlier one's.
    asked : Asked
    tell : callable
        Is told what is done.

    Raises
    ------
    OutputExists
        The folder holds something else.
    UsageError, DataError, Mismatch
        What was given does not fit, or is too little.
    """
    check_classifiers(asked.classifiers)
    if not set(asked.classifiers) - {"gb"}:
        raise UsageError("classifiers gb alone; expected another beside it, to choose one from")
    if asked.folds < 2:
        raise UsageError(f"folds {asked.folds}; expected at least 2")
    if asked.count < 200:
        raise UsageError(f"count {asked.count}; expected at least 200 simulated sources")
    with claimed(out, NAME):
        home = out / ARTEFACTS
        home.mkdir(exist_ok=True)
        tell("data: cutouts ...")
        sets = tuple(rgz_inputs.labelled(asked, home, key) for key in paper.SETS)
        free = rgz_inputs.unlabelled(asked, home)
        for title, why in (*((each.title, each.why) for each in sets), (free.title, free.why)):
            tell(f"data: {title} ({why})")
        cutouts = {each.key: each.cutouts for each in sets} | {"unlabelled": free.cutouts}
        coded, lacking = rgz_encoders.encoders(asked, home, cutouts, tell)
        given = Given(
            asked=asked,
            home=home,
            labelled=sets,
            unlabelled=free,
            coded=coded,
            main=coded[0],
            lacking=lacking,
        )
        return run_study(_study(given), out, tell=tell)


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """A section before its artefacts are known.

    ``sees``: ``all`` encoders, the ``main`` one, or that and the VDVAE (``flows``);
    ``told``: further settings that shape it.
    """

    name: str
    title: str
    source: str
    write: Any
    sees: str
    uses: tuple[str, ...] = ()
    told: tuple[str, ...] = ()


_PLANS = (
    _Plan(
        name="summary",
        title="What carries over",
        source="The paper's numbers beside ours",
        write=rgz_summary.summary,
        sees="",
        uses=("table", "maps", "importance", "density", "images"),
        told=("encoders",),
    ),
    _Plan(
        name="data",
        title="Data and encoders",
        source="Follows the paper's data and methods",
        write=rgz_data.data,
        sees="all",
        told=("sets", "encoders"),
    ),
    _Plan(
        name="table",
        title="Classes read from vectors",
        source="Follows the paper's Table 2",
        write=rgz_table.table,
        sees="labelled",
        told=("classifiers", "folds"),
    ),
    _Plan(
        name="maps",
        title="Maps of the latent space",
        source="Follows the paper's t-SNE maps and its variance of principal components",
        write=rgz_space.maps,
        sees="all",
        told=("size",),
    ),
    _Plan(
        name="importance",
        title="Components that hold the angular size",
        source="Follows the paper's figure 7",
        write=rgz_space.properties,
        sees="main",
        told=("size",),
    ),
    _Plan(
        name="similar",
        title="Similar sources in other sets",
        source="Follows the paper's similarity search across data sets",
        write=rgz_search.similar,
        sees="main",
    ),
    _Plan(
        name="density",
        title="Likelihoods and outliers",
        source="Follows the paper's figure 11 and its least likely sources",
        write=rgz_density.density,
        sees="flows",
        uses=("images",),
        told=("flow",),
    ),
    _Plan(
        name="images",
        title="Reconstructions and new images",
        source="Follows the paper's images from its VDVAE",
        write=rgz_samples.images,
        sees="images",
    ),
)


def _study(given: Given) -> Study:
    asked = given.asked
    always = {
        "sets": [
            *(f"{each.title}: {each.why}" for each in given.labelled),
            f"{given.unlabelled.title}: {given.unlabelled.why}",
        ],
        "where": {each.key: each.where for each in given.labelled},
        "main": given.main.title,
        "seed": asked.seed,
    }
    some = {
        "sets": [given.lacking],
        "encoders": [f"{each.title} ({each.spec})" for each in given.coded],
        "classifiers": list(asked.classifiers),
        "folds": asked.folds,
        "size": given.unlabelled.size,
        "flow": asked.flow,
    }
    sections = tuple(
        Section(
            name=plan.name,
            title=plan.title,
            source=plan.source,
            write=plan.write,
            given=given,
            settings={**always, **{f"asked_{name}": some[name] for name in plan.told}},
            parents=_parents(given, plan.sees),
            uses=plan.uses,
        )
        for plan in _PLANS
    )
    facts = Facts(
        lead=(
            "A reproduction, section by section, of what vectors learnt from radio images without "
            "labels are good for: classes, sizes, likeness, outliers.",
            f"Run on {given.labelled[0].title}, {given.labelled[1].title} and "
            f"{given.unlabelled.title} ({given.unlabelled.why}), with "
            f"{'; '.join(each.title for each in given.coded)}.",
        ),
        cited=paper.CITED,
        rows=(
            *((each.title, f"{len(each.rows)} objects: {each.why}") for each in given.labelled),
            ("unlabelled", f"{given.unlabelled.title}: {given.unlabelled.why}"),
            ("encoders", "; ".join(each.title for each in given.coded)),
            ("lacking", given.lacking or "nothing"),
            ("size", f"{len(given.unlabelled.cutouts)} unlabelled images here, about "
             f"{paper.UNLABELLED} in the paper"),
            ("classifiers", ", ".join(asked.classifiers)),
            ("seed", str(asked.seed)),
        ),
    )  # fmt: skip
    title = "Radio Galaxy Zoo reproduced: latent representations"
    return Study(name=NAME, title=title, facts=facts, sections=sections)


def _parents(given: Given, sees: str) -> Mapping[str, Parent]:
    found: dict[str, Parent] = {}
    if sees in ("all", "labelled"):
        for number, each in enumerate(given.coded, start=1):
            for key, embeddings in each.embeddings.items():
                if sees == "all" or key != "unlabelled":
                    found[f"{key}-{number}"] = embeddings.as_parent()
    if sees in ("main", "flows"):
        found = {key: one.as_parent() for key, one in given.main.embeddings.items()}
    vdvae = given.vdvae
    if sees == "flows" and vdvae is not None:
        found |= {f"vdvae-{key}": one.as_parent() for key, one in vdvae.embeddings.items()}
    if sees == "images" and vdvae is not None:
        found = {"unlabelled": given.unlabelled.cutouts.as_parent()}
        found |= {"vdvae": vdvae.embeddings["mirabest"].as_parent()}
    return found
