"""Every command of skytwin at its smallest, for tests that repeat, kill or starve them."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import importlib
import io
import sys
from collections.abc import Sequence
from pathlib import Path
from unittest import mock

import numpy as np

from toys import blob

#: What a folder may differ in between two runs that found the same: time stamps of files
#: (``.verified.json``), an empty file (``.lock``), and TensorBoard's log, which has the time and
#: the process in its name.
BOOKKEEPING = (".verified.json", ".lock")

TINY = (
    "--backbone test_resnet --size 16 --batch 16 --epochs 2 --device cpu --set head.hidden=8 "
    "--set head.out=4 --set optimizer.warmup_epochs=0"
)
_VDVAE = (
    "--method vdvae --size 16 --batch 16 --epochs 1 --device cpu --set vdvae.stages=4 "
    "--set vdvae.width=8 --set vdvae.encoder_blocks=1 --set vdvae.decoder_blocks=1 "
    "--set vdvae.latent_dim=8 --set vdvae.z_channels=2 --set ema=0.9"
)

#: By verb, and what tells two uses of one apart: the words, where ``{home}`` holds the inputs that
#: `prepare` makes. ``{out}`` is the result.
VERBS: dict[str, str] = {
    "ingest": "ingest {home}/stack.npz --catalog {home}/table.csv --out {out} --quiet",
    "ingest folder": "ingest {home}/fits --size 12 --out {out} --quiet",
    "simulate": "simulate radio 24 --size 64 --seed 3 --workers 1 --out {out} --quiet",
    "train": f"train {{home}}/cut --method simclr {TINY} --label kind --out {{out}} --quiet",
    "train vdvae": f"train {{home}}/cut {_VDVAE} --out {{out}} --quiet",
    "generate": "generate {home}/vdvae --latents fitted --count 16 --compared 24 --device cpu "
    "--seed 2 --out {out} --quiet",
    "adopt": "adopt {home}/vectors.npz --catalog {home}/table.csv --out {out} --quiet",
    "join": "join {home}/emb {home}/others --out {out} --quiet",
    "join cutouts": "join {home}/cut {home}/cut2 --out {out} --quiet",
    "index": "index {home}/emb --queries 20 --out {out} --quiet",
    "footprint": "footprint {home}/emb --order 9 --out {out}.json --quiet",
    "embed": "embed {home}/cut --encoder pca:6 --seed 1 --out {out} --quiet",
    "embed network": "embed {home}/cut --encoder {home}/simclr --runtime torch --device cpu "
    "--out {out} --quiet",
    "search": "search {home}/emb --like g000 --like g004 --unlike g001 --positive kind=a -k 20 "
    "--out {out}",
    "purity": "purity {home}/emb --like g000 --positive kind=a --at-purity 0.3 --by kind "
    "--out {out}",
    "compare": "compare {home}/emb --positive kind=a --references 1,3 --negatives 0 --draws 3 "
    "--out {out} --quiet",
    "explain": "explain {home}/emb --like g000 -k 2 --out {out} --quiet",
    "audit": "audit {home}/emb --like g000 -k 20 --stability 8 --out {out} --quiet",
    "twins": "twins {home}/emb --out {out} --quiet",
    "outliers": "outliers {home}/emb --positive kind=a --folds 3 --out {out} --quiet",
    "importance": "importance {home}/emb --target mag --out {out} --quiet",
    "probe": "probe {home}/emb --label kind --classifiers lr,rf --folds 2 --repeats 1 "
    "--keep lr --no-baselines --budget 20 --draws 1 --out {out} --quiet",
    "predict": "predict {home}/emb --probe {home}/probe --out {out}",
    "map": "map {home}/emb --perplexity 10 --color kind --out {out} --quiet",
    "map pca": "map {home}/emb --method pca --thumbnails 6 --out {out} --quiet",
    "map onto": "map {home}/emb --onto {home}/map --out {out} --quiet",
    "certify plan": "certify plan {home}/emb --like g000 --purity 0.3 --budget 60 --out {out}",
    "certify next": "certify next {home}/plan {home}/answers.csv --out {out}",
    "certify run": "certify run {home}/plan {home}/answers.csv --out {out}",
    "labels export": "labels export {home}/book.sqlite --out {out}.csv",
    "reproduce ulisse": "reproduce ulisse --cutouts {home}/cut --label kind=a "
    "--bands band1,band1,band1 --embedding {home}/emb --draws 2 --out {out} --quiet",
    "reproduce rgz": "reproduce rgz --encoder pca:4 --count 200 --classifiers knn,lda --folds 2 "
    "--out {out} --quiet",
    "info": "info {home}/cut --sheet {out}.png",
}
#: What each is made of, and which must therefore be there before.
_NEEDS = {
    "cut": VERBS["ingest"],
    "emb": VERBS["embed"],
    "cut2": "ingest {home}/more.npz --out {out} --quiet",
    "others": "embed {home}/cut2 --encoder {home}/emb --out {out} --quiet",
    "simclr": VERBS["train"],
    "vdvae": VERBS["train vdvae"],
    "probe": VERBS["probe"],
    "map": VERBS["map"],
    "plan": VERBS["certify plan"] + " --to-label {home}/ask.csv",
    "book.sqlite": "labels import {out} {home}/emb {home}/labels.csv --question q --who ann",
}


def _words(name: str) -> list[str]:
    return VERBS[name].split()


#: What `durability_kill` punishes, the slowest last. One line more is one command more.
KILLED: dict[str, list[str]] = {
    name: _words(name)
    for name in (
        "ingest",
        "adopt",
        "embed",
        "index",
        "simulate",
        "search",
        "map",
        "probe",
        "outliers",
        "generate",
        "importance",
        "compare",
        "train",
    )
}


#: Of `skytwin.images.cutouts`, read by its `Geometry`: shards of 24 of the images here, not of
#: thousands.
SMALL_SHARDS = {"_CHUNK_BYTES": 8 << 10, "_SHARD_BYTES": (8 << 10) * 3}


def load(names: Sequence[str]) -> None:
    """Import what the commands will need, so that a fork has it; nothing is run.

    For a process of its own: shards are small in it from here on.
    """
    wanted = [
        "skytwin.cli",
        "skytwin.verbs",
        "skytwin.verbs_embed",
        "skytwin.report",
        "skytwin.answers.figures",
    ]
    more = {
        "train": ["skytwin.verbs_train", "skytwin.encoders.train"],
        "generate": ["skytwin.report_generate"],
        "outliers": ["skytwin.answers.outliers", "skytwin.densities.flow_train"],
        "probe": ["skytwin.report_probe"],
        "map": ["skytwin.report_map", "openTSNE"],
        "simulate": ["skytwin.images.simulate_radio"],
    }
    wanted += [module for name in names for module in more.get(name.split()[0], [])]
    for module in wanted:
        importlib.import_module(module)
    from skytwin.images import cutouts

    for name, size in SMALL_SHARDS.items():
        setattr(cutouts, name, size)


def prepare(home: Path, names: Sequence[str]) -> None:
    """Make the inputs that some commands need."""
    count, size = 160, 16
    rng = np.random.default_rng(5)
    np.savez(
        home / "stack.npz",
        images=np.stack([blob(row, size)[0] for row in range(count)]),
        ids=np.array([f"g{row:03d}" for row in range(count)]),
    )
    np.savez(
        home / "more.npz",
        images=np.stack([blob(row, size)[0] for row in range(count, count + 40)]),
        ids=np.array([f"h{row:03d}" for row in range(40)]),
    )
    np.savez(
        home / "vectors.npz",
        vectors=rng.standard_normal((count, 5)).astype(np.float32),
        ids=np.array([f"g{row:03d}" for row in range(count)]),
    )
    with (home / "table.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["id", "ra", "dec", "kind", "mag"])
        for row in range(count):
            kind = "ab"[row % 4 > 0]
            writer.writerow([f"g{row:03d}", 10 + row / 50, -5, kind, f"{rng.uniform(15, 20):.3f}"])
    lines = [f"g{row:03d},{'yes' if row % 4 == 0 else 'no'}" for row in range(20)]
    (home / "labels.csv").write_text("\n".join(["id,label", *lines]))
    if any("{home}/fits" in VERBS[name] for name in names):
        from command import images

        images(home / "fits", 40)
    pending, wanted = [VERBS[name] for name in names], dict.fromkeys(())
    while pending:
        for need, words in _NEEDS.items():
            if any(f"{{home}}/{need} " in f"{text} " for text in pending) and need not in wanted:
                pending.append(words)
                wanted = {need: None, **wanted}
                break
        else:
            break
    for need in _NEEDS:
        if need in wanted:
            line = [word.format(home=home, out=home / need) for word in _NEEDS[need].split()]
            _done(line)
    if "plan" in wanted:
        _answer(home)


def _answer(home: Path) -> None:
    """Label what the plan asks for."""
    with (home / "table.csv").open(newline="") as stream:
        known = {row["id"]: row["kind"] for row in csv.DictReader(stream)}
    with (home / "ask.csv").open(newline="") as stream:
        kinds = {row["id"]: known[row["id"]] for row in csv.DictReader(stream)}
    with (home / "answers.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["id", "label"])
        writer.writerows([name, "yes" if kind == "a" else "no"] for name, kind in kinds.items())


def _done(words: Sequence[str]) -> None:
    from skytwin.cli import main

    said = io.StringIO()
    with (
        mock.patch.object(sys, "argv", ["skytwin", *words]),
        contextlib.redirect_stdout(said),
        contextlib.redirect_stderr(said),
    ):
        try:
            main()
        except SystemExit as stop:
            if stop.code:
                raise RuntimeError(f"{' '.join(words)}: {said.getvalue()}") from None


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def content(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below a folder, and its folders; bookkeeping aside.

    What stands in a file of where the folder itself lies is read as ``HERE``.
    """
    here = str(folder.resolve()).encode()
    return {
        str(path.relative_to(folder)): _digest(path.read_bytes().replace(here, b"HERE"))
        if path.is_file()
        else "folder"
        for path in sorted(folder.rglob("*"))
        if path.name not in BOOKKEEPING and "tensorboard" not in path.parts
    }
