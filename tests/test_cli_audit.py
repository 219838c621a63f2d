"""``skytwin audit`` from the command line: a planted offset found, bad calls in one line."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import typer
from typer.testing import CliRunner

from skytwin.artefact import Manifest
from skytwin.cli_audit import audit
from skytwin.embeddings.embed import embed_cutouts
from skytwin.encoders.load import open_encoder
from skytwin.errors import SkytwinError
from skytwin.images.ingest import ingest_source
from toys import MemorySource, blob, raw

POSITIVES, OTHERS = 40, 160

app = typer.Typer()
app.command()(audit)


@pytest.fixture(scope="module")
def embedding(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Blobs, the first of which lie on a brighter background."""
    folder = tmp_path_factory.mktemp("audit")
    images = [raw(blob(i, 24) + 2.0 * (i < POSITIVES)) for i in range(POSITIVES + OTHERS)]
    kinds = np.where(np.arange(len(images)) < POSITIVES, "a", "b")
    z = np.random.default_rng(0).uniform(0, 1, len(images))
    source = MemorySource(images, table=pa.table({"kind": kinds, "z": z}))
    cutouts = ingest_source(source, folder / "cutouts", quiet=True)
    encoder = open_encoder("pca:8", cutouts_like=cutouts, stretch="range:0,8")
    embed_cutouts(cutouts, encoder, folder / "emb", quiet=True)
    return folder / "emb"


LIKE = ["--like", "obj0000", "--like", "obj0001", "--like", "obj0002", "-k", "25"]


def run(*words: object) -> tuple[int, str]:
    """Exit code and output; a `SkytwinError` as the real command shows it."""
    ended = CliRunner().invoke(app, [*map(str, words)])
    if isinstance(ended.exception, SkytwinError):
        return ended.exception.exit_code, str(ended.exception)
    if ended.exception is not None and not isinstance(ended.exception, SystemExit):
        raise ended.exception
    return ended.exit_code, ended.output


def test_a_planted_offset_is_found(embedding: Path, tmp_path: Path) -> None:
    out = tmp_path / "audit"
    words = [embedding, *LIKE, "--positive", "kind=a", "--stability", 6, "--out", out, "--quiet"]
    code, said = run(*words)
    assert code == 0
    assert "SUSPECT" in said
    assert "background" in said
    assert "purity against controls alike in" in said
    manifest = Manifest.open(out, "audit")
    assert any(name.startswith("background") for name in manifest.summary["shortcuts"])
    assert manifest.recipe["audit"]["positive"] == ["kind=a"]
    assert manifest.parents["embeddings"].fingerprint == Manifest.open(embedding).fingerprint
    manifest.verify(out, every_byte=True)
    with (out / "differences.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(line for line in stream if line[0] != "#"))
    assert {row["verdict"] for row in rows} >= {"shortcut", "no difference"}
    assert (out / "summary.txt").read_text(encoding="utf-8").strip() in said
    for name in ("effects.png", "effects.pdf", "stability.png", "labels.vot", "purity.csv"):
        assert (out / name).stat().st_size > 300
    assert run(*words) == (2, f"'{out}' exists and is not empty; choose another --out")


def test_a_command_is_repeatable(embedding: Path) -> None:
    first, again = (run(embedding, *LIKE, "--stability", 0, "--quiet") for _ in range(2))
    assert first == again
    assert first[0] == 0


def test_bad_calls_are_one_line(embedding: Path, tmp_path: Path) -> None:
    for words, said, code in [
        ([*LIKE, "--effect", 2], "effect 2.0; expected", 2),
        ([*LIKE, "--alpha", 0], "alpha 0.0", 2),
        ([*LIKE, "--controls", 3], "controls 3; expected at least 10", 2),
        ([*LIKE, "--stability", -5], "stability -5", 2),
        ([*LIKE, "--positive", "kind=c"], "no object fulfils kind=c", 1),
        ([*LIKE, "--positive", "what=c"], "unknown column 'what'", 2),
        ([*LIKE, "--cutouts", tmp_path / "none"], "", 2),
        (["--like", "obj0000", "-k", 5], "5 match(es) to audit", 1),
        (["--like", "nobody"], "unknown id 'nobody'", 2),
        (["--like", "obj0000", "-k", 199], "a shorter list", 1),
    ]:
        found, text = run(embedding, *words, "--out", tmp_path / "out", "--quiet")
        assert (found, said in text, "\n" in text.strip()) == (code, True, False), (words, text)
    assert not (tmp_path / "out").exists()
