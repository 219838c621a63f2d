"""What an encoder trained without labels knows of FRI and FRII, by how many images it saw.

    python benchmarks/science/encoder_table.py FOLDER --train CUTOUTS --recipe rgz-simclr \\
        --sizes 1000,5000,0 --seeds 3 --embedding mirabest:ImageNet=EMB
    python benchmarks/science/encoder_table.py FOLDER --quick      # minutes, on simulated images

Trains the recipe on nested random parts of the training images for every seed, without labels and
without what lies at the place of a test row on the sky, with ``--shown`` each for as long; embeds
MiraBest (confident) and FR-DEEP NVSS with each; reads FRI or FRII from the vectors with the paper's
six classifiers (Andrianomena & Tang 2023) on the official splits, beside pixels, their principal
components and embeddings given. Classifiers are chosen by cross-validation on the training rows
alone. Prints Markdown, writes ``scores.csv``. Killed and repeated it goes on.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import skytwin
from skytwin.answers.probe import Probe
from skytwin.answers.probe_classifiers import PAPER
from skytwin.answers.probe_metrics import Resamples
from skytwin.answers.probe_run import few_labels
from skytwin.artefact import Manifest
from skytwin.embeddings.table import Embeddings
from skytwin.encoders.recipe import read_recipe
from skytwin.images.cutouts import Cutouts

SETS = {
    "mirabest": ("mirabest", "confidence='confident' and fr in ('FRI','FRII')"),
    "frdeep": ("frdeep-nvss", "fr in ('FRI','FRII')"),
}
LEVEL = 0.95
QUICK = [
    "method=simclr", "backbone=test_resnet", "epochs=2", "batch=32", "input.size=32",
    "input.stretch=sigma:3", 'input.crop="96px"', "head.hidden=32", "head.out=16",
    "optimizer.name=adamw", "optimizer.lr=0.003", "optimizer.warmup_epochs=0",
]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Row:
    """One classifier on one representation of one set, over the seeds of its training."""

    data: str
    name: str
    images: int | None
    classifier: str
    seeds: int
    cv: tuple[float, ...]
    accuracy: tuple[float, float, float]
    auc: tuple[float, float, float]
    test_rows: int
    base_rate: float


def nested(ids: Sequence[str], size: int, seed: int) -> str:
    """An SQL condition that holds for just ``size`` objects; a smaller size is part of a larger."""
    drawn = sorted(hashlib.md5(f"{name}-{seed}".encode()).hexdigest() for name in ids)
    return f"md5(id || '-{seed}') < '{drawn[size]}'"


def tested_places(sets: Mapping[str, Cutouts], folder: Path) -> Path | None:
    """A table of where the test rows lie; what has no positions is named."""
    path, places = folder / "tested.csv", []
    for name, cutouts in sets.items():
        columns = cutouts.catalog.column_names
        if not {"ra", "dec", "split"} <= set(columns):
            print(f"{name} has no positions: not excluded from training by its place\n")
            continue
        places += [
            [row["id"], row["ra"], row["dec"]]
            for row in cutouts.catalog.select(["id", "ra", "dec", "split"]).to_pylist()
            if row["split"] == "test" and row["ra"] is not None
        ]
    if not places:
        return None
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows([["id", "ra", "dec"], *places])
    return path


def changes(given: argparse.Namespace, size: int) -> list[str]:
    """Of the recipe, so that as many images are shown whatever the size of the set.

    What the recipe counts in epochs, warm-ups and the like, keeps its share of the training.
    """
    if not given.shown:
        return list(given.set)
    recipe = read_recipe(given.recipe, changes=given.set)
    epochs = max(1, round(given.shown / size))
    share = epochs / recipe.epochs
    scaled = [
        f"{part}.{name}={share * value}"
        for part, settings in recipe.to_dict().items()
        if isinstance(settings, dict)
        for name, value in settings.items()
        if name.endswith("_epochs") and value
    ]
    return [*given.set, f"epochs={epochs}", *scaled]


def trained(given: argparse.Namespace, out: Path, seed: int, size: int, tests: Path | None) -> Path:
    """The folder of an encoder trained on ``size`` images, 0 for all; what is there is taken."""
    if (out / "manifest.json").exists():
        return out
    cutouts = Cutouts(given.train)
    conditions = [f"({given.where})"] if given.where else []
    if size and size < len(cutouts):
        conditions.append(nested([str(each) for each in cutouts.ids], size, seed))
    has_places = tests is not None and cutouts.positions is not None
    skytwin.train(
        cutouts,
        out,
        recipe=given.recipe,
        changes=changes(given, size or len(cutouts)),
        seed=seed,
        where=" and ".join(conditions) or None,
        exclude=[tests] if has_places else [],
        device=given.device,
        quiet=given.quiet,
    )
    return out


def embedded(encoder: Path, cutouts: Cutouts, out: Path, given: argparse.Namespace) -> Embeddings:
    """Vectors of a set, averaged over the eight flips and turns; what is there is taken."""
    if (out / "manifest.json").exists():
        return Embeddings.open(out)
    return skytwin.embed(
        cutouts, encoder, out, orbit="d4", any_scale=True, device=given.device, quiet=given.quiet
    )


def probed(emb: Embeddings, data: str, out: Path, given: argparse.Namespace, **more: bool) -> Probe:
    """The classifiers on one embedding; the fits stay in ``out``, to be read when repeated."""
    return skytwin.probe(
        emb,
        "fr",
        split="split",
        positive="FRII",
        where=SETS[data][1],
        classifiers=given.classifiers.split(","),
        folds=given.folds,
        repeats=1,
        budget=[],
        seed=0,
        level=LEVEL,
        out=out,
        quiet=given.quiet,
        **{"baselines": False, **more},
    )


def rows_of(
    data: str, images: Mapping[str, int | None], found: Mapping[str, list[Probe]]
) -> list[Row]:
    """One row for each representation and classifier, the seeds of its training taken together.

    The value is the mean over the seeds; the interval is over seeds and test objects, both
    resampled.
    """
    rows = []
    for name, probes in found.items():
        labelled = probes[0].labelled
        again = Resamples(group=labelled.group[labelled.test], count=1000, seed=0)
        by_classifier = defaultdict(list)
        for each in probes:
            for score in each.scores:
                by_classifier[score.embedding if score.baseline else name, score.classifier] += [
                    score
                ]
        for (shown, classifier), scores in by_classifier.items():
            numbers = few_labels([s.outputs for s in scores], probes[0].truth, again, LEVEL)
            rows.append(
                Row(
                    data=data,
                    name=shown,
                    images=None if scores[0].baseline else images[name],
                    classifier=classifier,
                    seeds=len(scores),
                    cv=tuple(s.cv_accuracy.value for s in scores if s.cv_accuracy),
                    accuracy=numbers["accuracy"],
                    auc=numbers["auc"],
                    test_rows=len(probes[0].truth),
                    base_rate=probes[0].base.value,
                )
            )
    return rows


def markdown(rows: Sequence[Row]) -> Iterator[str]:
    """The tables: each representation with its classifier by cross-validation, then all."""
    for data in dict.fromkeys(row.data for row in rows):
        here = [row for row in rows if row.data == data]
        first = here[0]
        rate = f"base rate {first.base_rate:.3f}"
        yield f"\n### {SETS[data][0]}: {first.test_rows} test rows, {rate}\n"
        yield "| representation | images | seeds | by CV | CV accuracy | accuracy | AUC |"
        yield "|---|---|---|---|---|---|---|"
        for name in dict.fromkeys(row.name for row in here):
            best = max((row for row in here if row.name == name), key=lambda r: np.mean(r.cv))
            yield (
                f"| {name} | {best.images or '-'} | {best.seeds} | {best.classifier} "
                f"| {np.mean(best.cv):.3f} | {_span(best.accuracy)} | {_span(best.auc)} |"
            )
        names = list(dict.fromkeys(row.classifier for row in here))
        yield f"\nEvery classifier, accuracy / AUC on the test rows ({SETS[data][0]}):\n"
        yield f"| representation | {' | '.join(names)} |"
        yield "|---" * (len(names) + 1) + "|"
        for name in dict.fromkeys(row.name for row in here):
            of = {row.classifier: row for row in here if row.name == name}
            cells = [f"{of[c].accuracy[0]:.2f} / {of[c].auc[0]:.2f}" for c in names]
            yield f"| {name} | {' | '.join(cells)} |"


def _span(number: tuple[float, float, float]) -> str:
    return "{:.3f} [{:.3f}, {:.3f}]".format(*number)


def save(rows: Sequence[Row], path: Path) -> None:
    """All numbers as CSV."""
    with path.open("w", newline="") as stream:
        out = csv.writer(stream)
        ends = [f"{m}{e}" for m in ("accuracy", "auc") for e in ("", "_lower", "_upper")]
        head = ["set", "representation", "images", "seeds", "classifier", "cv_accuracy", *ends]
        out.writerow([*head, "test_rows", "base_rate"])
        for row in rows:
            known = [row.data, row.name, row.images, row.seeds, row.classifier, np.mean(row.cv)]
            out.writerow([*known, *row.accuracy, *row.auc, row.test_rows, row.base_rate])


def ready(given: argparse.Namespace) -> dict[str, Cutouts]:
    """The labelled sets as cutouts, and with ``--quick`` a small survey to train on."""
    given.folder.mkdir(parents=True, exist_ok=True)
    if given.quick:
        given.train = given.train or given.folder / "simulated.cutouts"
        given.sizes, given.seeds = [100, 0], 2
        given.classifiers, given.folds, given.set = "knn,lr,svc", 3, [*QUICK, *given.set]
        if not (given.train / "manifest.json").exists():
            skytwin.simulate_survey("radio", 300, given.train, seed=1, eight_bit=True, workers=1)
    sets = {}
    for data, (published, _) in SETS.items():
        if data not in given.sets:
            continue
        place = getattr(given, data) or given.folder / f"{data}.cutouts"
        if not (place / "manifest.json").exists():
            skytwin.ingest(published, place, quiet=given.quiet)
        sets[data] = Cutouts(place)
    return sets


def table(given: argparse.Namespace) -> list[Row]:
    """All rows, trained, embedded and probed as needed."""
    sets = ready(given)
    tests = tested_places(sets, given.folder)
    rows: list[Row] = []
    for data, cutouts in sets.items():
        found: dict[str, list[Probe]] = defaultdict(list)
        images: dict[str, int | None] = {}
        for size in given.sizes:
            for seed in range(given.seeds):
                stem = f"{size or 'all'}-{seed}"
                encoder = trained(given, given.folder / f"encoder-{stem}", seed, size, tests)
                made_by = Manifest.open(encoder, "encoder").summary
                emb = embedded(encoder, cutouts, given.folder / f"{data}-{stem}.emb", given)
                name = f"{emb.encoder_name}, {size or 'all'} images"
                images[name] = made_by["images"]
                first = not found
                out = given.folder / f"{data}-{stem}.probe"
                found[name].append(probed(emb, data, out, given, baselines=first))
        for text in given.embedding:
            which, _, rest = text.partition(":")
            name, _, place = rest.partition("=")
            if which == data:
                emb = Embeddings.open(place)
                found[name].append(probed(emb, data, given.folder / f"{data}-{name}.probe", given))
                images[name] = None
        rows += rows_of(data, images, found)
    return rows


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="where all is kept")
    parser.add_argument("--train", type=Path, help="cutouts to train on")
    parser.add_argument("--where", help="SQL on their catalogue, e.g. \"split = 'train'\"")
    parser.add_argument("--recipe", help="of skytwin train")
    parser.add_argument("--set", action="append", default=[], help="change of the recipe")
    parser.add_argument("--sizes", default="0", help="training images; 0: all")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--shown", type=int, help="images in a training, repeats counted")
    parser.add_argument("--sets", default="mirabest,frdeep")
    parser.add_argument("--mirabest", type=Path, help="cutouts, if they are there already")
    parser.add_argument("--frdeep", type=Path, help="cutouts, if they are there already")
    parser.add_argument(
        "--embedding", action="append", default=[], help="one more: mirabest:NAME=FOLDER"
    )
    parser.add_argument("--classifiers", default=",".join(PAPER))
    parser.add_argument("--folds", type=int, default=10)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--quick", action="store_true", help="small, on simulated images")
    parser.add_argument("--quiet", action="store_true")
    given = parser.parse_args()
    given.sizes = [int(each) for each in given.sizes.split(",")]
    given.sets = given.sets.split(",")
    if given.train is None and not given.quick:
        parser.error("give --train CUTOUTS, or --quick")
    rows = table(given)
    save(rows, given.folder / "scores.csv")
    print("\n".join(markdown(rows)))


if __name__ == "__main__":
    main()
