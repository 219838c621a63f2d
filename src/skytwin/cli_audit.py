"""``skytwin audit``: are the matches alike for a reason that the astronomer wants?"""

from __future__ import annotations

from typing import Annotated

import typer

from skytwin.cli_options import (
    CombineName,
    CutoutsAt,
    Emb,
    Emphasis,
    Like,
    MatchArcsec,
    MetricName,
    Quiet,
    Result,
    SameArcsec,
    Unlike,
    Weights,
    Where,
    numbers,
    tell,
)
from skytwin.embeddings.names import DEFAULT_COMBINE, DEFAULT_METRIC

__all__ = ["audit"]


def audit(
    embedding: Emb,
    like: Like,
    k: Annotated[int, typer.Option("-k", help="How many matches to audit.")] = 100,
    positive: Annotated[
        list[str] | None,
        typer.Option("--positive", help="Labelled positives: column=value or SQL; several: or."),
    ] = None,
    unlike: Unlike = None,
    emphasis: Emphasis = None,
    metric: MetricName = DEFAULT_METRIC,
    combine: CombineName = DEFAULT_COMBINE,
    where: Where = None,
    controls: Annotated[
        int, typer.Option("--controls", help="Random objects to compare with.")
    ] = 1000,
    stability: Annotated[
        int,
        typer.Option("--stability", help="First matches to turn, move, stretch; 0: leave out."),
    ] = 20,
    angle: Annotated[float, typer.Option("--angle", help="Of one of the turns, degrees.")] = 33.0,
    effect: Annotated[
        float, typer.Option("--effect", help="Smallest Cliff's delta that counts.")
    ] = 0.33,
    alpha: Annotated[
        float, typer.Option("--alpha", help="Largest family-wise p-value that counts.")
    ] = 0.01,
    seed: Annotated[int, typer.Option("--seed", help="Of all random choices.")] = 0,
    same_arcsec: SameArcsec = 2.0,
    match_arcsec: MatchArcsec = 3.0,
    weights: Weights = None,
    out: Result = None,
    cutouts: CutoutsAt = None,
    quiet: Quiet = False,
) -> None:
    """Look for what the matches have in common beside what was asked for."""
    from skytwin import report_audit
    from skytwin.answers.audit import audit as run
    from skytwin.answers.audit_groups import Rules
    from skytwin.answers.search import search
    from skytwin.embeddings.table import Embeddings
    from skytwin.report_files import check_targets

    check_targets(out, [])
    rules = Rules(effect=effect, alpha=alpha)
    opened = Embeddings.open(embedding)
    matches = search(
        opened,
        like,
        unlike=unlike or (),
        emphasis=numbers(emphasis, "--emphasis"),
        k=k,
        metric=metric,
        combine=combine,
        seed=seed,
        where=where,
        same_arcsec=same_arcsec,
        match_arcsec=match_arcsec,
        weights=weights,
    )
    found = run(
        matches,
        positive=positive,
        cutouts=opened.cutouts(cutouts) if cutouts is not None else None,
        controls=controls,
        stability=stability,
        angle=angle,
        rules=rules,
        weights=weights,
        seed=seed,
        quiet=quiet,
    )
    tell(report_audit.describe(found))
    tell(report_audit.save_audit(found, out))
