"""``skytwin probe`` and ``skytwin predict``: how well a label is read from vectors, and its use."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from skytwin.cli_options import (
    CutoutsAt,
    Dask,
    GroupArcsec,
    Quiet,
    Result,
    Save,
    Where,
    Workers,
    counts,
    listed,
    tell,
)
from skytwin.errors import UsageError, unknown

__all__ = ["predict", "probe"]


def probe(
    embeddings: Annotated[
        list[Path], typer.Argument(help="Folders that `skytwin embed` wrote, of the same objects.")
    ],
    label: Annotated[str, typer.Option("--label", help="Column of classes.")],
    together: Annotated[
        bool, typer.Option("--together", help="Also all embeddings side by side, as one.")
    ] = False,
    split: Annotated[
        str | None,
        typer.Option(
            "--split", help="Column of train and test (default: a fifth at random tests)."
        ),
    ] = None,
    positive_class: Annotated[
        str | None,
        typer.Option(
            "--positive-class", help="Of two classes the positive one (default: last by name)."
        ),
    ] = None,
    where: Where = None,
    classifiers: Annotated[
        str | None,
        typer.Option(
            "--classifiers",
            help="Some of knn,rf,svc,lr,gb,ext,svc-scale,lda,linear (default: all; no gb beyond "
            "1024 numbers).",
        ),
    ] = None,
    folds: Annotated[
        int, typer.Option("--folds", help="Of the cross-validation on training rows; 0: none.")
    ] = 10,
    repeats: Annotated[int, typer.Option("--repeats", help="Of the cross-validation.")] = 3,
    budget: Annotated[
        str, typer.Option("--budget", help="Numbers of labels to learn from; none: no curve.")
    ] = "10,30,100,300,1000,3000,10000",
    draws: Annotated[int, typer.Option("--draws", help="Of each number of labels.")] = 5,
    bootstrap: Annotated[
        int, typer.Option("--bootstrap", help="Resamples of the test objects.")
    ] = 1000,
    group_arcsec: GroupArcsec = 2.0,
    baselines: Annotated[
        bool, typer.Option("--baselines/--no-baselines", help="Pixels and their PCA beside.")
    ] = True,
    crop: Annotated[
        int | None,
        typer.Option(
            "--crop", help="Central pixels of the baselines (default: as the first embedding)."
        ),
    ] = None,
    cutouts: CutoutsAt = None,
    keep: Annotated[
        str | None,
        typer.Option("--keep", help="Keep this probe in --out for predict: lr, lda or linear."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of splits, folds, draws, forests.")] = 0,
    jobs: Annotated[
        int | None,
        typer.Option(
            "--jobs",
            help="Fits side by side (default: one a processor); with --workers or "
            "--dask, threads of a forest (default: 1).",
        ),
    ] = None,
    workers: Workers = None,
    dask: Dask = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", help="Folder for tables, pictures and manifest; resumed if unfinished."
        ),
    ] = None,
    save: Save = None,
    quiet: Quiet = False,
) -> None:
    """Read a label from frozen vectors with simple classifiers, pixels beside."""
    from skytwin import report_probe
    from skytwin.answers.probe import choose_classifiers
    from skytwin.answers.probe import probe as run
    from skytwin.answers.probe_data import joined_name, widest
    from skytwin.answers.probe_kept import require_keepable
    from skytwin.embeddings.engine import open_engine
    from skytwin.embeddings.table import Embeddings
    from skytwin.images.cutouts import Cutouts
    from skytwin.report_files import check_targets

    check_targets(None, save or [])
    opened = [Embeddings.open(folder) for folder in embeddings]
    chosen, _ = choose_classifiers(listed(classifiers), widest(opened, together))
    if keep is not None:
        require_keepable(keep)
        if out is None:
            raise UsageError(f"--keep {keep} needs a folder to keep it in; give --out FOLDER")
        if keep not in chosen:
            raise unknown("classifier to keep", keep, chosen, "name it in --classifiers, too")
    with open_engine(dask=dask, workers=workers) as engine:
        found = run(
            opened,
            label,
            together=together,
            split=split,
            positive=positive_class,
            where=where,
            classifiers=listed(classifiers),
            folds=folds,
            repeats=repeats,
            group_arcsec=group_arcsec,
            bootstrap=bootstrap,
            budget=[] if budget.strip() == "none" else counts(budget, "--budget"),
            draws=draws,
            baselines=baselines,
            crop=crop,
            cutouts=Cutouts(cutouts) if cutouts is not None else None,
            seed=seed,
            jobs=jobs,
            engine=engine,
            out=out,
            quiet=quiet,
        )
    names = [*found.embeddings, *([joined_name(found.embeddings)] if together else [])]
    kept = [found.fit_final(keep, name) for name in names] if keep is not None else []
    typer.echo(report_probe.describe(found))
    tell(report_probe.save_probe(found, out, save or [], kept))


def predict(
    embeddings: Annotated[
        list[Path],
        typer.Argument(
            help="Folder that `skytwin embed` wrote; several, of the same objects, for a probe of "
            "them together."
        ),
    ],
    probe: Annotated[
        Path, typer.Option("--probe", help="Folder that `skytwin probe --keep` wrote.")
    ],
    where: Where = None,
    seed: Annotated[int, typer.Option("--seed", help="Of the drift's resamples.")] = 0,
    out: Result = None,
    save: Annotated[
        list[Path] | None,
        typer.Option("--save", help="One more file: .vot .fits .parquet .csv .ecsv. Repeatable."),
    ] = None,
) -> None:
    """Give every object the class that a kept probe sees, with its probability."""
    from skytwin.answers.export import FORMATS
    from skytwin.answers.probe_fit import predict as run
    from skytwin.embeddings.table import Embeddings
    from skytwin.files import require_new
    from skytwin.report_files import check_targets
    from skytwin.report_probe import save_predictions

    check_targets(out, [])
    for path in save or []:
        require_new(path, FORMATS)
    opened = [Embeddings.open(folder) for folder in embeddings]
    found = run(opened, probe, where=where, seed=seed)
    typer.echo(found.summary)
    tell(save_predictions(found, out, save or [], probe))
