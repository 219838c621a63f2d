"""``skytwin certify`` from the command line: three rounds of labels, one certificate."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
import pytest

from skytwin.answers.certify_plan import CertifyPlan
from skytwin.artefact import Manifest
from skytwin.cli import main
from skytwin.embeddings.embed import embed_cutouts
from skytwin.encoders.load import open_encoder
from skytwin.images.ingest import ingest_source
from toys import MemorySource, blob, raw

POSITIVES, OTHERS = 60, 440


@pytest.fixture(scope="module")
def embedding(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A survey in which crosses are rare among blobs."""
    folder = tmp_path_factory.mktemp("certify")
    images = []
    for number in range(POSITIVES + OTHERS):
        pixels = blob(number)
        if number < POSITIVES:
            pixels[0, 7:9, :] += 3
            pixels[0, :, 7:9] += 3
        images.append(raw(pixels))
    cutouts = ingest_source(MemorySource(images), folder / "cutouts", quiet=True)
    encoder = open_encoder("pca:8", cutouts_like=cutouts)
    embed_cutouts(cutouts, encoder, folder / "emb", quiet=True)
    return folder / "emb"


def skytwin(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    monkeypatch.setattr(sys, "argv", ["skytwin", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def answer(asked: Path, answers: Path) -> None:
    with asked.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert rows
    assert all(row["label"] == "" for row in rows)
    assert "rank" not in rows[0]
    assert "distance" not in rows[0]
    with answers.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["id", "label"])
        for row in rows:
            writer.writerow([row["id"], "yes" if int(row["id"][3:]) < POSITIVES else "no"])


def test_three_rounds_certify_a_list_that_is_as_pure_as_it_says(
    embedding: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    ask, answers, sheet = tmp_path / "ask.csv", tmp_path / "answers.csv", tmp_path / "sheet.png"
    words = ["--like", "obj0000", "--like", "obj0001", "--purity", 0.8, "--budget", 120]
    out = tmp_path / "plan1"
    files = ["--to-label", ask, "--sheet", sheet]
    assert skytwin(monkeypatch, "certify", "plan", embedding, *words, "--out", out, *files) == 0
    assert "round 1 of 3" in capsys.readouterr().out
    assert sheet.read_bytes().startswith(b"\x89PNG")
    for number in (2, 3):
        answer(ask, answers)
        ask = tmp_path / f"ask{number}.csv"
        after = tmp_path / f"plan{number}"
        more = ["--out", after, "--to-label", ask]
        assert skytwin(monkeypatch, "certify", "next", out, answers, *more) == 0
        out = after
    answer(ask, answers)
    capsys.readouterr()
    cert = tmp_path / "cert"
    assert skytwin(monkeypatch, "certify", "run", out, answers, "--out", cert) == 0
    said = capsys.readouterr().out
    assert "at least 0.8 pure" in said
    assert "base rate" in said
    manifest = Manifest.open(cert, "certificate")
    with (cert / "list.csv").open(newline="") as stream:
        listed = [row["id"] for row in csv.DictReader(stream)]
    assert len(listed) == manifest.summary["size"] >= 20
    assert np.mean([int(name[3:]) < POSITIVES for name in listed]) >= 0.8
    assert not {"obj0000", "obj0001"} & set(listed)
    assert manifest.parents["plan"].fingerprint == Manifest.open(out).fingerprint
    assert CertifyPlan.open(out).finished


def test_bad_calls_are_one_line_and_write_nothing(
    embedding: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    plan = tmp_path / "plan"
    begin = ["certify", "plan", embedding, "--like", "obj0000"]
    assert skytwin(monkeypatch, *begin, "--out", plan, "--budget", 100) == 0
    (tmp_path / "strange.csv").write_text("id,label\nnobody,yes\n")
    (tmp_path / "odd.csv").write_text("id,label\nobj0001,perhaps\n")
    (tmp_path / "taken.csv").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    capsys.readouterr()
    for words, said, code in [
        ([*begin, "--out", plan], "not empty", 2),
        ([*begin, "--out", tmp_path / "p", "--budget", 5], "labels", 2),
        ([*begin, "--out", tmp_path / "p", "--purity", 1.5], "purity", 2),
        ([*begin, "--out", tmp_path / "p", "--to-label", tmp_path / "taken.csv"], "exists", 2),
        ([*begin, "--out", tmp_path / "p", "--sheet", tmp_path / "s.gif"], "'.gif'", 2),
        (["certify", "run", plan, tmp_path / "strange.csv"], "does not ask", 2),
        (["certify", "run", plan, tmp_path / "odd.csv"], "'perhaps'", 1),
        (["certify", "run", embedding, tmp_path / "odd.csv"], "", 1),
    ]:
        assert skytwin(monkeypatch, *words) == code, words
        captured = capsys.readouterr()
        assert captured.err.startswith("skytwin: error: ")
        assert captured.err.count("\n") == 1
        assert said in captured.err
    assert sorted(tmp_path.rglob("*")) == before
