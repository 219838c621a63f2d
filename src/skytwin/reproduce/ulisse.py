"""The study of Doorenbos et al. 2022 (ULISSE, A&A 666, A171), section by section."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skytwin.artefact import Parent
from skytwin.embeddings.table import Embeddings
from skytwin.errors import Mismatch, UsageError
from skytwin.reproduce import (
    ulisse_carry,
    ulisse_cross,
    ulisse_data,
    ulisse_inputs,
    ulisse_more,
    ulisse_purity,
    ulisse_second,
    ulisse_several,
    ulisse_summary,
)
from skytwin.reproduce import ulisse_paper as paper
from skytwin.reproduce.page import Facts
from skytwin.reproduce.places import embedded
from skytwin.reproduce.plan import ARTEFACTS, Done, Section, Study, claimed, run_study
from skytwin.reproduce.ulisse_inputs import Asked, Network, Survey
from skytwin.reproduce.ulisse_searches import FEWEST, Given, Searches, Way, pool_of

__all__ = ["Asked", "reproduce_ulisse"]

NAME = "ulisse"


def reproduce_ulisse(
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
    if asked.draws < 2:
        raise UsageError(f"draws {asked.draws}; expected at least 2 prototypes a class")
    if asked.second is None and asked.second_catalog is not None:
        raise UsageError("--second-catalog goes with --second FOLDER")
    with claimed(out, NAME):
        chosen = ulisse_inputs.network(asked)
        home = out / ARTEFACTS
        home.mkdir(exist_ok=True)
        tell("data: cutouts and vectors ...")
        survey = ulisse_inputs.survey(asked, home)
        tell(f"data: {survey.title} ({survey.why})")
        tell(f"network: {chosen.spec} ({chosen.why})")
        for kind in survey.kinds:
            pool_of(survey.cutouts, kind, FEWEST)
        given = _given(asked, home, chosen, survey)
        return run_study(_study(given), out, tell=tell)


def _given(asked: Asked, home: Path, chosen: Network, survey: Survey) -> Given:
    def made(name: str, spec: str = chosen.spec, **settings: Any) -> Embeddings:
        weights = chosen.weights if spec == chosen.spec else None
        return embedded(
            home, name, survey.cutouts, spec, weights=weights, quiet=asked.quiet,
            **{**settings, **({} if "bands" in settings else survey.looked_at)},
        )  # fmt: skip

    if asked.recipe_embedding is not None:
        recipe = ulisse_inputs.given_embedding(asked.recipe_embedding, survey)
    else:
        recipe = made("recipe", **chosen.recipe)
    if asked.embedding is not None:
        default = ulisse_inputs.given_embedding(asked.embedding, survey)
    else:
        default = made("default", **chosen.default(survey.cutouts))
    if set(recipe.ids) != set(default.ids):
        raise Mismatch("the two embeddings hold other objects; embed the same cutouts for both")
    alone = made("one-band", **{**chosen.recipe, **survey.alone}) if survey.single else None
    pixels = None if chosen.pixels else made("pixels", f"pca:{min(64, len(recipe) - 1)}")
    frames = ulisse_second.frames(home, chosen, asked.quiet) if survey.galaxy_zoo else None
    found = ulisse_second.second(asked, home, survey, frames)
    other, other_title = None, ""
    if found is not None and recipe.folder is not None:
        cutouts, other_title = found
        other = embedded(
            home, "second", cutouts, recipe.folder, weights=chosen.weights, quiet=asked.quiet,
            any_scale=True,
        )  # fmt: skip

    def paper_way(name: str, title: str, embeddings: Embeddings) -> Way:
        return Way(
            name=name,
            title=title,
            embeddings=embeddings,
            metric="euclidean",
            combine="mean",
            references=1,
        )

    return Given(
        survey=survey,
        network=chosen,
        recipe=paper_way("recipe", "the paper's way", recipe),
        default=Way(
            name="default",
            title="this package's default, 5 references",
            embeddings=default,
            metric="standardized",
            combine="auto",
            references=5,
        ),
        pixels=paper_way("pixels", "pixels (PCA), the paper's way", pixels) if pixels else None,
        alone=paper_way("one-band", "one band", alone) if alone else None,
        other=other,
        other_title=other_title,
        frames=frames,
        searches=Searches(draws=asked.draws, seed=asked.seed, quiet=asked.quiet),
    )


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """A section before its artefacts are known; ``told``: further settings that shape it."""

    name: str
    title: str
    source: str
    write: Any
    made_from: tuple[str, ...]
    uses: tuple[str, ...] = ()
    told: tuple[str, ...] = ()


_PLANS = (
    _Plan(
        name="summary",
        title="What carries over",
        source="The paper's numbers beside ours",
        write=ulisse_summary.summary,
        made_from=(),
        uses=("purity", "composition", "carry", "bands"),
    ),
    _Plan(
        name="data",
        title="Data and network",
        source="Follows the paper's data and method",
        write=ulisse_data.data,
        made_from=("recipe", "default", "pixels"),
        told=("network", "chosen", "data"),
    ),
    _Plan(
        name="mosaics",
        title="The 25 nearest neighbours",
        source="Follows the paper's mosaics of neighbours",
        write=ulisse_data.mosaics,
        made_from=("recipe", "default"),
        told=("column",),
    ),
    _Plan(
        name="purity",
        title="Purity against distance",
        source="Follows the paper's purity curves",
        write=ulisse_purity.purity,
        made_from=("recipe", "default", "pixels"),
    ),
    _Plan(
        name="thresholds",
        title="Thresholds",
        source="Follows the paper's objects 1 and 2",
        write=ulisse_purity.thresholds,
        made_from=("recipe",),
    ),
    _Plan(
        name="carry",
        title="A threshold carried to other objects",
        source="Follows the paper's second 100 000 objects",
        write=ulisse_carry.halves,
        made_from=("recipe", "default"),
    ),
    _Plan(
        name="cross",
        title="A query in another survey",
        source="Follows the paper's query of the LSST AGN data",
        write=ulisse_cross.cross,
        made_from=("recipe", "other"),
        told=("second",),
    ),
    _Plan(
        name="composition",
        title="What the nearest are",
        source="Follows the paper's composition of the nearest 1000",
        write=ulisse_more.composition,
        made_from=("recipe",),
        told=("column",),
    ),
    _Plan(
        name="bands",
        title="One band alone",
        source="Follows the paper's test with the i band",
        write=ulisse_more.bands,
        made_from=("recipe", "alone", "frames", "frames-i"),
    ),
    _Plan(
        name="several",
        title="Several prototypes at once",
        source="What the paper leaves for later",
        write=ulisse_several.several,
        made_from=("recipe", "default", "pixels"),
    ),
)


def _study(given: Given) -> Study:
    parents = _parents(given)
    survey, size = given.survey, len(given.recipe.embeddings)
    always = {
        "classes": {kind.name: kind.condition for kind in given.kinds},
        "prototypes": given.searches.draws,
        "seed": given.searches.seed,
    }
    some = {
        "column": survey.column,
        "network": given.network.spec,
        "chosen": given.network.why,
        "data": f"{survey.title}, {survey.why}",
        "second": given.other_title,
    }
    sections = tuple(
        Section(
            name=plan.name,
            title=plan.title,
            source=plan.source,
            write=plan.write,
            given=given,
            settings={**always, **{name: some[name] for name in plan.told}},
            parents={name: parents[name] for name in plan.made_from if name in parents},
            uses=plan.uses,
        )
        for plan in _PLANS
    )
    labels = (
        "The labels are shapes, not AGN: what is compared is the method, not the purity of AGN."
        if survey.galaxy_zoo
        else "The survey is simulated."
        if survey.simulated
        else "The labels are those of the data given."
    )
    facts = Facts(
        lead=(
            "A reproduction, section by section, of one-shot retrieval with the features of a "
            "network that was never trained on the sky: show it one object, and it ranks a "
            "survey by likeness.",
            f"Run on {survey.title} with {given.recipe.embeddings.encoder_name}. {labels}",
        ),
        cited=paper.CITED,
        rows=(
            ("data", f"{survey.title}: {survey.why}"),
            ("network", f"{given.network.spec}: {given.network.why}"),
            ("size", f"{size} objects here, {paper.SIZE} in the paper"),
            ("classes", ", ".join(kind.name for kind in given.kinds)),
            ("second survey", given.other_title or "none"),
            ("prototypes", f"up to {given.searches.draws} a class, seed {given.searches.seed}"),
        ),
    )
    title = "ULISSE reproduced: one-shot sky exploration"
    return Study(name=NAME, title=title, facts=facts, sections=sections)


def _parents(given: Given) -> Mapping[str, Parent]:
    frames = given.frames
    found: dict[str, Embeddings | None] = {
        "recipe": given.recipe.embeddings,
        "default": given.default.embeddings,
        "pixels": given.pixels.embeddings if given.pixels else None,
        "alone": given.alone.embeddings if given.alone else None,
        "other": given.other,
        "frames": frames.colour if frames else None,
        "frames-i": frames.alone if frames else None,
    }
    return {name: emb.as_parent() for name, emb in found.items() if emb is not None}
