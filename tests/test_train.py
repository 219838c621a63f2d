"""``skytwin train``: killed and resumed, in several processes, with mistakes, and embedded with."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors.numpy import load_file

import skytwin as st
from command import done, skytwin
from forks import Forks
from skytwin.artefact import Manifest
from skytwin.encoders import train_loop
from skytwin.encoders.simclr import SimClr
from skytwin.errors import DamagedArtefact, DataError, Mismatch, UsageError
from skytwin.images.cutouts import Cutouts
from skytwin.images.ingest import ingest_source
from toys import MemorySource, blob, raw

TINY = [
    "--backbone", "test_resnet", "--size", "32", "--batch", "16", "--epochs", "2",
    "--set", "head.hidden=16", "--set", "head.out=8", "--set", "optimizer.warmup_epochs=0",
]  # fmt: skip
TINY_VDVAE = [
    "--method", "vdvae", "--size", "16", "--batch", "16", "--epochs", "2", "--set",
    "vdvae.stages=4", "--set", "vdvae.width=8", "--set", "vdvae.encoder_blocks=1", "--set",
    "vdvae.decoder_blocks=1", "--set", "vdvae.latent_dim=8", "--set", "vdvae.z_channels=2",
    "--set", "ema=0.9",
]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eighty blobs with places on the sky and a label."""
    images = [
        raw(blob(seed, 32), ra=10 + seed / 50, dec=-5.0, pixel_scale=0.5) for seed in range(80)
    ]
    table = pa.table({"kind": ["ab"[row % 2] for row in range(80)], "las": np.arange(1.0, 81.0)})
    path = tmp_path_factory.mktemp("train") / "cutouts"
    ingest_source(MemorySource(images, table), path, quiet=True)
    return path


@pytest.fixture(scope="module")
def trained(folder: Path) -> Path:
    out = folder.parent / "simclr"
    said = done(
        "train", folder, "--method", "simclr", *TINY, "--label", "kind", "--out", out, "--quiet",
        "--save", folder.parent / "curves.png",
    )  # fmt: skip
    assert "trained on 72 images of 32 pixels, 2 epochs; validated on 8" in said
    assert "kNN probe of kind" in said
    assert f"skytwin embed CUTOUTS --encoder {out}" in said
    return out


def weights(folder: Path) -> dict[str, np.ndarray]:
    return load_file(folder / "weights.safetensors")


def same(one: Path, other: Path) -> bool:
    first, second = weights(one), weights(other)
    return first.keys() == second.keys() and all(np.array_equal(first[k], second[k]) for k in first)


def test_the_folder_says_how_it_came_about(trained: Path) -> None:
    manifest = Manifest.open(trained, "encoder")
    assert manifest.recipe["seed"] == 0
    assert manifest.recipe["recipe"]["backbone"] == "test_resnet"
    assert manifest.parents["cutouts"].kind == "cutouts"
    assert {"encoder.json", "weights.safetensors", "curves.csv"} <= set(manifest.files)
    assert not (trained / "parts").exists()
    with (trained / "curves.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert all(float(row["validation_loss"]) > 0 for row in rows)
    assert float(rows[0]["knn_base_rate"]) >= 0.5
    assert any((trained / "tensorboard").iterdir())  # a log, and not part of what is sealed
    assert (trained.parent / "curves.png").stat().st_size > 1000


def test_embed_takes_it_like_any_other(folder: Path, trained: Path, tmp_path: Path) -> None:
    emb = st.embed(folder, trained, tmp_path / "emb", orbit="d4", runtime="torch", quiet=True)
    encoder = st.open(trained)
    assert isinstance(encoder, st.Encoder)
    assert encoder.name == "simclr:test_resnet"
    assert len(emb) == 80
    assert emb.vectors.shape[1] == encoder.dim
    nearest = st.search(emb, str(emb.ids[0]), k=3)
    assert len(nearest) == 3
    # A new image goes through the very same network, found again in the encoder's folder.
    flux = Cutouts(folder).flux([5])[0]
    np.save(tmp_path / "new.npy", flux)
    found = st.search(emb, tmp_path / "new.npy", k=1, include_self=True)
    assert found.ids[0] == emb.ids[5]
    with pytest.raises(UsageError, match="leave out --size"):
        st.embed(folder, trained, tmp_path / "other", size=8, quiet=True)


def test_bands_crop_and_stretch_can_be_overruled(trained: Path, tmp_path: Path) -> None:
    own = st.open(trained)
    assert isinstance(own, st.Encoder)
    pixels = [blob(seed, 32) for seed in range(5)]
    (band,) = own.bands
    images = [
        raw(
            np.concatenate([np.zeros_like(p), p]),
            bands=("dark", "light"),
            pixel_scale=own.pixel_scale,
        )
        for p in pixels
    ]
    two = ingest_source(MemorySource(images), tmp_path / "two", quiet=True)
    alone = [raw(p, bands=(band,), pixel_scale=own.pixel_scale) for p in pixels]
    one = ingest_source(MemorySource(alone), tmp_path / "one", quiet=True)
    with pytest.raises(Mismatch, match=f"takes {band}, and looks at {band}: say with --bands"):
        st.embed(two, trained, tmp_path / "e", quiet=True)
    given = st.embed(two, trained, tmp_path / "e", bands="light", quiet=True)
    plain = st.embed(one, trained, tmp_path / "p", quiet=True)
    np.testing.assert_allclose(given.vectors[:], plain.vectors[:], rtol=1e-5, atol=1e-6)
    near = st.embed(one, trained, tmp_path / "near", crop=16, stretch="asinh", quiet=True)
    assert near.encoder_fingerprint != plain.encoder_fingerprint
    assert not np.allclose(near.vectors[:], plain.vectors[:])
    # A search by image goes the same way.
    np.save(tmp_path / "new.npy", pixels[3])
    found = st.search(near, tmp_path / "new.npy", k=1, include_self=True)
    assert found.distance[0] < 1e-4
    assert found.ids[0] == near.ids[3]


def test_another_pixel_scale_must_be_asked_for(trained: Path, tmp_path: Path) -> None:
    images = [raw(blob(seed, 32), pixel_scale=2.0) for seed in range(5)]
    wide = ingest_source(MemorySource(images), tmp_path / "wide", quiet=True)
    with pytest.raises(Mismatch, match='2" per pixel; expected 0.5"'):
        st.embed(wide, trained, tmp_path / "emb", quiet=True)
    emb = st.embed(wide, trained, tmp_path / "emb", any_scale=True, quiet=True)
    assert emb.pixel_scale == 2.0
    with pytest.raises(UsageError, match="--any-scale is for finished encoders"):
        st.embed(wide, "pca:2", tmp_path / "pca", any_scale=True, quiet=True)


def test_openvino_gives_the_same_vectors(folder: Path, trained: Path, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    flux = Cutouts(folder).flux(slice(0, 9))
    from skytwin.encoders.load import load_saved

    one, other = (load_saved(trained, runtime=name).encode(flux) for name in ("torch", "openvino"))
    np.testing.assert_allclose(one, other, atol=1e-4 * np.abs(one).max())


@pytest.mark.slow
def test_another_process_reads_the_same_encoder(trained: Path) -> None:
    code = (
        "import numpy as np, skytwin as st; e = st.open(__import__('sys').argv[1]);"
        "print(e.fingerprint, *e.encode(np.ones((1, 1, 32, 32)) * np.arange(32)).ravel()[:3])"
    )
    said = subprocess.run(
        [sys.executable, "-c", code, str(trained)], capture_output=True, text=True, check=True
    ).stdout.split()
    encoder = st.open(trained)
    assert isinstance(encoder, st.Encoder)
    assert said[0] == encoder.fingerprint
    flux = (np.ones((1, 1, 32, 32)) * np.arange(32)).astype(np.float32)
    np.testing.assert_allclose([float(v) for v in said[1:]], encoder.encode(flux)[0, :3], rtol=1e-4)


@pytest.mark.parametrize(("method", "settings"), [("byol", TINY), ("vdvae", TINY_VDVAE[2:])])
def test_the_seed_decides(folder: Path, tmp_path: Path, method: str, settings: list[str]) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        done("train", folder, "--method", method, *settings, "--seed", seed, "--out",
             tmp_path / name, "--quiet")  # fmt: skip
    assert same(tmp_path / "a", tmp_path / "b")
    assert not same(tmp_path / "a", tmp_path / "c")


PLAIN = """
import skytwin.encoders.train_batches as b
b._SEGMENT_IMAGES = 32
"""
BROKEN_OFF = (
    PLAIN
    + """
import os, signal
from skytwin.encoders import train_watch
whole = train_watch.Watch.on_train_batch_end
def broken(self, trainer, module, *rest):
    whole(self, trainer, module, *rest)
    if module.global_step == {step}:
        os.kill(os.getpid(), signal.SIGKILL)
train_watch.Watch.on_train_batch_end = broken
train_watch._SAVE_S = {save}
"""
)


@pytest.fixture(scope="module")
def process() -> Iterator[Forks]:
    """Runs commands in processes of their own."""
    with Forks("skytwin.verbs_train", "skytwin.encoders.train", "skytwin.report_train") as started:
        yield started


@pytest.mark.slow
@pytest.mark.parametrize(("method", "settings"), [("byol", TINY), ("vdvae", TINY_VDVAE[2:])])
def test_killed_at_any_step_and_resumed_it_ends_the_same(
    process: Forks, folder: Path, tmp_path: Path, method: str, settings: list[str]
) -> None:
    words = ["train", folder, "--method", method, *settings, "--quiet"]
    assert process(*words, "--out", tmp_path / "whole", before=PLAIN).code == 0
    for step in (1, 3, 6):  # in the first epoch, in its second segment, in the second epoch
        out = tmp_path / f"broken{step}"
        killed = process(*words, "--out", out, before=BROKEN_OFF.format(step=step, save=0))
        assert killed.code == -signal.SIGKILL
        assert (out / "run.json").is_file()
        assert skytwin("info", out).code == 2
        resumed = process(*words, "--out", out, "--resume", before=PLAIN)
        assert (resumed.code, resumed.err) == (0, "")
        assert same(tmp_path / "whole", out)
        first, second = ((p / "curves.csv").read_text() for p in (tmp_path / "whole", out))
        assert first == second


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["before", "after"])
def test_killed_around_the_save_of_an_epoch_its_line_is_in_the_curves(
    process: Forks, folder: Path, tmp_path: Path, moment: str
) -> None:
    words = ["train", folder, *TINY_VDVAE, "--quiet"]
    assert process(*words, "--out", tmp_path / "whole", before=PLAIN).code == 0
    kill = "os.kill(os.getpid(), signal.SIGKILL)"
    code = (kill, "whole(self, trainer)") if moment == "before" else ("whole(self, trainer)", kill)
    killed = process(
        *words, "--out", tmp_path / "broken", before=PLAIN
        + "import os, signal\nfrom skytwin.encoders import train_watch\n"
        + "whole = train_watch.Watch._save\n"
        + f"def broken(self, trainer):\n    {code[0]}\n    {code[1]}\n"
        + "train_watch.Watch._save = broken\n",
    )  # fmt: skip
    assert killed.code == -signal.SIGKILL
    assert process(*words, "--out", tmp_path / "broken", before=PLAIN).code == 0
    whole, broken = ((tmp_path / n / "curves.csv").read_text() for n in ("whole", "broken"))
    assert whole == broken


@pytest.mark.slow
def test_an_interrupt_is_told_and_can_be_resumed(
    process: Forks, folder: Path, tmp_path: Path
) -> None:
    words = ["train", folder, *TINY_VDVAE, "--out", tmp_path / "out", "--quiet"]
    before = BROKEN_OFF.format(step=6, save=0).replace("SIGKILL", "SIGINT")
    ended = process(*words, before=before)
    assert ended.code == 130
    assert ended.err == "skytwin: error: interrupted; repeat the command to resume\n"
    resumed = process(*words, before=PLAIN)
    assert (resumed.code, resumed.err) == (0, "")
    assert Manifest.open(tmp_path / "out", "encoder").summary["epochs"] == 2


def test_interrupted_while_it_prepares_it_starts_again(
    process: Forks, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    words = ["train", folder, *TINY_VDVAE, "--out", out, "--quiet"]
    before = (
        "import skytwin.encoders.training_set as t, os, signal\n"
        "t.write_atomically = lambda *a: os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert process(*words, before=before).code == -signal.SIGKILL
    done(*words)
    assert Manifest.open(out, "encoder").summary["epochs"] == 2


@pytest.mark.slow
def test_two_processes_share_the_work(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    script = tmp_path / "skytwin_main.py"
    script.write_text("from skytwin.cli import main\nmain()\n")
    ended = subprocess.run(
        [sys.executable, str(script), "train", str(folder), "--method", "simclr", *TINY,
         "--devices", "2", "--out", str(out), "--quiet"],
        capture_output=True, text=True, timeout=240,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("Encoder(simclr") == 1
    manifest = Manifest.open(out, "encoder")
    assert (manifest.recipe["world"], manifest.summary["epochs"]) == (2, 2)
    values = weights(out)
    assert all(np.isfinite(v).all() for v in values.values() if v.dtype.kind == "f")


def test_training_brings_the_loss_down(folder: Path, tmp_path: Path) -> None:
    words = [w if w != "2" else "12" for w in TINY_VDVAE]
    done("train", folder, *words, "--set", "optimizer.lr=0.005", "--out", tmp_path / "v", "--quiet")
    manifest = Manifest.open(tmp_path / "v", "encoder")
    with (tmp_path / "v" / "curves.csv").open() as stream:
        loss = [float(row["validation_loss"]) for row in csv.DictReader(stream)]
    assert loss[-1] < loss[0] - 0.5
    assert manifest.summary["encoder"] == "vdvae"
    emb = st.embed(folder, tmp_path / "v", tmp_path / "emb", quiet=True)
    assert emb.vectors.shape == (80, 8)


def test_a_loss_that_is_no_number_keeps_what_was_good(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = SimClr.forward

    def poisoned(self: Any, batch: Any, generator: Any, progress: float) -> Any:
        terms = whole(self, batch, generator, progress)
        return (
            terms
            if progress < 0.5 or not self.training
            else type(terms)(loss=terms.loss * float("nan"))
        )

    monkeypatch.setattr(SimClr, "forward", poisoned)
    monkeypatch.setattr(train_loop, "_BAD_STEPS", 3)
    out = tmp_path / "out"
    ended = skytwin("train", folder, "--method", "simclr", *TINY, "--out", out, "--quiet")
    assert ended.code == 1
    assert "no number 3 times in a row" in ended.err
    assert "holds the encoder as it was after step 4" in ended.err
    manifest = Manifest.open(out, "encoder")
    assert "no number" in manifest.summary["stopped"]
    assert manifest.summary["epochs"] == 1
    encoder = st.open(out)
    assert isinstance(encoder, st.Encoder)
    assert np.isfinite(encoder.encode(Cutouts(folder).flux([0]))).all()

    monkeypatch.setattr(
        SimClr,
        "forward",
        lambda self, b, g, p: type(t := whole(self, b, g, p))(loss=t.loss * float("nan")),
    )
    ended = skytwin(
        "train", folder, "--method", "simclr", *TINY, "--out", tmp_path / "b", "--quiet"
    )
    assert ended.code == 1
    assert "lower optimizer.lr" in ended.err


def test_it_stops_when_the_validation_no_longer_gains(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = [w if w != "2" else "30" for w in TINY]
    said = done(
        "train", folder, "--method", "simsiam", *words, "--set", "validation.patience=2", "--set",
        "optimizer.lr=0.0", "--set", "validation.keep=best", "--out", out, "--quiet",
    )  # fmt: skip
    assert "stopped: the validation loss has not fallen for 2 epochs" in said
    summary = Manifest.open(out, "encoder").summary
    assert summary["epochs"] < 30
    assert summary["kept"] == "best"


def test_the_plateau_halves_the_rate(folder: Path, tmp_path: Path) -> None:
    words = [w if w != "2" else "6" for w in TINY]
    done(
        "train", folder, "--method", "simsiam", *words, "--set", "optimizer.schedule=plateau",
        "--set", "optimizer.patience=1", "--set", "optimizer.lr=1e-12", "--out", tmp_path / "out",
        "--quiet",
    )  # fmt: skip
    with (tmp_path / "out" / "curves.csv").open() as stream:
        rates = [float(row["lr"]) for row in csv.DictReader(stream)]
    assert rates[0] == 1e-12
    assert rates[-1] < 1e-12
    assert all(r in {1e-12 / 2**k for k in range(6)} for r in rates)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--method", "simclr", "--batch", "500"], 2, "a batch of 500 from 72 training images"),
        (["--method", "simclr", "--set", "optimizr.lr=1"], 2, "did you mean: optimizer"),
        (["--method", "simclr", "--device", "cuda"], 2, "torch finds none"),
        (["--method", "simclr", "--set", "precision=16"], 2, "use bf16 or 32"),
        (["--method", "simclr", "--devices", "3"], 2, "batch 16 on 3 devices"),
        (["--method", "simclr", "--devices", "0"], 2, "0 device(s) on 1 node(s)"),
        (["--method", "simclr", "--crop", "64"], 2, "crop '64' is 64 pixels"),
        (["--method", "simclr", "--label", "kin"], 2, "did you mean: kind"),
        (["--method", "simclr", "--label", "kind", "--set", "validation.share=0.0"], 2, "probe"),
        (["--method", "simclr", "--resume"], 2, "holds no unfinished run"),
        (["--method", "simclr", "--exclude", "gone.csv"], 2, "gone.csv"),
        (["--method", "simclr", "--where", "kin = 'a'"], 2, "unknown column"),
        (["--method", "simclr", "--backbone", "resnet35"], 2, "unknown backbone"),
        (["--method", "simclr", "--save", "x.txt"], 2, ".png"),
        (["--method", "vdvae", "--set", "vdvae.stages=9"], 2, "smaller than the network's 9"),
        (["--method", "vdvae", "--set", "vdvae.wide=9"], 2, "did you mean: width"),
        (["--recipe", "rgz"], 2, "unknown recipe 'rgz'"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(
    folder: Path, tmp_path: Path, words: list[str], code: int, said: str
) -> None:
    given = list(TINY)
    if "vdvae" in words:
        given = ["--batch", "16", "--size", "32", "--epochs", "1"]
    if "--batch" in words:
        given = [*given[:4], *given[6:]]
    if "--backbone" in words:
        given = given[2:]
    out = tmp_path / "out"
    ended = skytwin("train", folder, *given, *words, "--out", out, "--quiet")
    assert ended.code == code
    assert said in ended.err
    assert ended.err.count("\n") == 1
    assert not out.exists()


def test_what_lies_in_another_set_is_not_trained_on(folder: Path, tmp_path: Path) -> None:
    table = tmp_path / "labelled.csv"
    table.write_text("name,ra,dec\nx,10.0,-5.0\ny,10.02,-5.0\n")
    said = done(
        "train", folder, "--method", "simclr", *TINY, "--exclude", table, "--out",
        tmp_path / "out", "--quiet",
    )  # fmt: skip
    assert f"left out: 2 in {table}" in said
    table.write_text("name,mag\nx,10.0\n")
    ended = skytwin(
        "train", folder, "--method", "simclr", *TINY, "--exclude", table, "--out", tmp_path / "b"
    )
    assert ended.code == 2
    assert "no columns known as RA and Dec" in ended.err


def test_a_folder_that_was_changed_is_refused(folder: Path, trained: Path, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(trained, copy)
    (copy / "weights.safetensors").write_bytes(b"nonsense")
    with pytest.raises(DamagedArtefact):
        st.open(copy)
    shutil.rmtree(copy)
    shutil.copytree(trained, copy)
    saved = json.loads((copy / "encoder.json").read_text())
    (copy / "manifest.json").unlink()
    other = {key: torch.zeros(3) for key in weights(trained)}
    from safetensors.torch import save_file

    save_file(other, copy / "weights.safetensors")
    with pytest.raises((Mismatch, DataError), match="do not fit simclr:test_resnet"):
        st.embed(folder, copy, tmp_path / "emb", quiet=True)
    (copy / "weights.safetensors").unlink()
    with pytest.raises(UsageError, match="no longer at"):
        st.embed(folder, copy, tmp_path / "emb", quiet=True)
    assert saved["network"] == "simclr:test_resnet"


@pytest.mark.slow
def test_a_second_writer_is_refused(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ["train", str(folder), *TINY_VDVAE, "--out", str(out), "--quiet"]
    words[words.index("2", words.index("--epochs"))] = "500"
    code = "from skytwin.cli import main\nmain()"
    first = subprocess.Popen([sys.executable, "-c", code, *words], stderr=subprocess.DEVNULL)
    try:
        for _ in range(600):
            if (out / "parts" / "pixels.json").is_file():
                break
            time.sleep(0.1)
        ended = skytwin(*words)
    finally:
        first.kill()
        first.wait()
    assert ended.code == 2
    assert "another skytwin process is writing" in ended.err
