"""``skytwin certify``: plan what to label, take labels in rounds, certify a list."""

from __future__ import annotations

from pathlib import Path
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
    SameArcsec,
    Unlike,
    Weights,
    numbers,
)
from skytwin.embeddings.names import DEFAULT_COMBINE, DEFAULT_METRIC

__all__ = ["app"]

app = typer.Typer(
    help="The largest list that is at least so pure, on a survey without labels.",
    no_args_is_help=True,
)

Plan = Annotated[Path, typer.Argument(help="Folder that `certify plan` or `certify next` wrote.")]
LabelFile = Annotated[
    Path, typer.Argument(help="Table with the columns id and label (yes, no, unsure).")
]
NewPlan = Annotated[Path, typer.Option("--out", help="New folder for the plan.")]
ToLabel = Annotated[
    Path | None, typer.Option("--to-label", help="Also the list to fill in, as .csv.")
]
Sheet = Annotated[
    Path | None, typer.Option("--sheet", help="Also a picture of the objects to label (.png).")
]
IdColumn = Annotated[str | None, typer.Option("--id-column", help="Column of identifiers.")]
LabelColumn = Annotated[str | None, typer.Option("--label-column", help="Column of answers.")]


@app.command()
def plan(
    embedding: Emb,
    like: Like,
    out: NewPlan,
    unlike: Unlike = None,
    emphasis: Emphasis = None,
    purity: Annotated[float, typer.Option("--purity", help="What the list must have.")] = 0.9,
    confidence: Annotated[
        float, typer.Option("--confidence", help="Probability that it has it.")
    ] = 0.95,
    budget: Annotated[int, typer.Option("--budget", help="Labels, all rounds together.")] = 200,
    controls: Annotated[
        int | None, typer.Option("--controls", help="Of these, blind ones; a tenth by default.")
    ] = None,
    rounds: Annotated[int, typer.Option("--rounds", help="2 or 3.")] = 3,
    smallest: Annotated[
        int, typer.Option("--smallest", help="Shorter lists are not certified.")
    ] = 5,
    group_arcsec: Annotated[
        float, typer.Option("--group-arcsec", help="Nearer than this on the sky: one object.")
    ] = 2.0,
    seed: Annotated[int, typer.Option("--seed", help="Of the draw and the blind order.")] = 0,
    metric: MetricName = DEFAULT_METRIC,
    combine: CombineName = DEFAULT_COMBINE,
    same_arcsec: SameArcsec = 2.0,
    match_arcsec: MatchArcsec = 3.0,
    weights: Weights = None,
    to_label: ToLabel = None,
    sheet: Sheet = None,
    cutouts: CutoutsAt = None,
) -> None:
    """Rank the survey and choose the first objects to label."""
    from skytwin import report_certify
    from skytwin.answers.certify_rounds import plan as run
    from skytwin.answers.search import search
    from skytwin.embeddings.table import Embeddings

    report_certify.check_targets(out, to_label, sheet)
    opened = Embeddings.open(embedding)
    ranking = search(
        opened,
        like,
        unlike=unlike or (),
        emphasis=numbers(emphasis, "--emphasis"),
        k=len(opened),
        metric=metric,
        combine=combine,
        seed=seed,
        same_arcsec=same_arcsec,
        match_arcsec=match_arcsec,
        weights=weights,
    )
    made = run(
        ranking,
        purity=purity,
        confidence=confidence,
        budget=budget,
        controls=controls,
        rounds=rounds,
        smallest=smallest,
        group_arcsec=group_arcsec,
        seed=seed,
    )
    typer.echo(report_certify.save_plan(made, out, to_label, sheet, cutouts))


@app.command(name="next")
def next_(
    plan: Plan,
    labels: LabelFile,
    out: NewPlan,
    budget: Annotated[
        int | None, typer.Option("--budget", help="Labels of a round beyond the planned ones.")
    ] = None,
    id_column: IdColumn = None,
    label_column: LabelColumn = None,
    to_label: ToLabel = None,
    sheet: Sheet = None,
    cutouts: CutoutsAt = None,
) -> None:
    """Take the labels of a round and choose the next objects to label."""
    from skytwin import report_certify
    from skytwin.answers.certify_plan import CertifyPlan
    from skytwin.answers.certify_rounds import next_round
    from skytwin.answers.labels import read_labels

    report_certify.check_targets(out, to_label, sheet)
    given = read_labels(labels, id_name=id_column, label_name=label_column)
    made = next_round(CertifyPlan.open(plan), given, budget=budget)
    typer.echo(report_certify.save_plan(made, out, to_label, sheet, cutouts))


@app.command()
def run(
    plan: Plan,
    labels: LabelFile,
    out: Annotated[
        Path | None, typer.Option("--out", help="New folder for the list, the table and manifest.")
    ] = None,
    id_column: IdColumn = None,
    label_column: LabelColumn = None,
) -> None:
    """Certify the largest list that the labels prove pure enough."""
    from skytwin import report_certify
    from skytwin.answers.certify import certify
    from skytwin.answers.certify_plan import CertifyPlan
    from skytwin.answers.labels import read_labels

    report_certify.check_targets(out, None, None)
    given = read_labels(labels, id_name=id_column, label_name=label_column)
    found = certify(CertifyPlan.open(plan), given)
    typer.echo(found.summary)
    if out is not None:
        typer.echo(report_certify.save_certificate(found, out, plan))
