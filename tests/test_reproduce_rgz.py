"""The report of radio galaxies: small simulated surveys, principal components for networks."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import accuracy_score, roc_auc_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler
from typer.testing import CliRunner

from skytwin.artefact import Manifest
from skytwin.cli_reproduce import app
from skytwin.embeddings.table import Embeddings
from skytwin.encoders.recipe import Recipe
from skytwin.errors import DataError, OutputExists, UnknownName, UsageError
from skytwin.images.simulate import simulate_survey
from skytwin.reproduce import rgz_encoders
from skytwin.reproduce import rgz_paper as paper
from skytwin.reproduce.rgz import Asked, reproduce_rgz
from skytwin.verbs import ingest
from test_reproduce import read, require_numbers_of_tables

pytest.importorskip("zuko")
pytest.importorskip("openTSNE")

SECTIONS = (
    "summary", "data", "table", "maps", "importance", "similar", "density", "images",
)  # fmt: skip


def published(folder: Path, count: int) -> Path:
    """A simulated survey as a published set comes: pictures, classes, a split."""
    made = simulate_survey(
        "radio", count, folder / "drawn", seed=7, size=48, eight_bit=True, quiet=True
    )
    (folder / "png").mkdir()
    for name, image in zip(made.ids, made.pixels(slice(None)), strict=True):
        cv2.imwrite(str(folder / "png" / f"{name}.png"), np.asarray(image[0]))
    table = made.catalog.select(["id", "ra", "dec", "fr", "las_arcsec"])
    side = ["test" if row % 8 == 0 else "train" for row in range(count)]
    sure = ["uncertain" if row % 9 == 0 else "confident" for row in range(count)]
    table = table.append_column("split", [side]).append_column("confidence", [sure])
    pa.csv.write_csv(table, folder / "table.csv")
    ingest(
        folder / "png", folder / "cutouts", catalog=folder / "table.csv", bands=["1.4GHz"],
        pixel_scale=1.8, quiet=True,
    )  # fmt: skip
    return folder / "cutouts"


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Asked:
    home = tmp_path_factory.mktemp("sets")
    for name, count, seed, survey in (("free", 220, 0, "first"), ("frdeep", 140, 1, "nvss")):
        simulate_survey(
            "radio", count, home / name, seed=seed, size=48, survey=survey, eight_bit=True,
            quiet=True,
        )  # fmt: skip
    return Asked(
        encoders=("pca:8",),
        unlabelled=home / "free",
        mirabest=published(home, 200),
        frdeep=home / "frdeep",
        classifiers=("knn", "lda"),
        folds=3,
        quiet=True,
    )


@pytest.fixture(scope="module")
def report(asked: Asked, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("rgz") / "report"
    done = reproduce_rgz(out, asked)
    assert {one.outcome for one in done} == {"made"}
    return out


def rows(report: Path, section: str, table: str) -> list[dict[str, Any]]:
    (folder,) = (report / "sections").glob(f"*-{section}")
    return pq.read_table(folder / f"{table}.parquet").to_pylist()


def embedded(report: Path, key: str) -> Embeddings:
    (folder,) = (report / "artefacts").glob(f"{key}-pca-*")
    return Embeddings.open(folder)


def test_the_papers_rows_add_up() -> None:
    for row in paper.ROWS:
        counted = [row.proportion(name) for name in ("specificity", "recall", "accuracy")]
        for one, name in zip(counted, ("specificity", "recall", "accuracy"), strict=True):
            assert abs(one.value - getattr(row, name)) < 0.0051
        assert counted[0].hits + counted[1].hits == counted[2].hits
    for one in paper.SETS.values():
        assert one.fri + one.frii == one.test


def test_the_report_has_every_section_and_needs_nothing_else(report: Path) -> None:
    page = read(report)
    require_numbers_of_tables(report, page)
    assert len(page.numbers) > 150
    folders = sorted(p.name for p in (report / "sections").iterdir())
    assert folders == [f"{i:02d}-{name}" for i, name in enumerate(SECTIONS, start=1)]
    for folder in folders:
        manifest = Manifest.open(report / "sections" / folder, "report-section")
        assert manifest.fingerprint in page.text
        content = json.loads((report / "sections" / folder / "content.json").read_text())
        roles = [block.get("role") for block in content["blocks"]]
        assert "differences" in roles or folder in ("01-summary", "08-images")
    assert len(page.alts) >= 14
    assert all(page.alts)
    for tag, address in page.addresses:
        assert tag != "img" or address.startswith("data:image/webp;base64,")


def test_the_report_says_what_it_ran_on_and_what_it_lacks(report: Path) -> None:
    text = read(report).text
    assert "220 simulated sources of free" in text
    assert "No VDVAE, SimCLR, BYOL, SimSiam is at hand" in text
    assert "Not done: no VDVAE is at hand" in text
    # The labels are not the paper's, and it says so of both.
    assert text.count("The rows are not the paper's") == 2


def test_the_table_against_scikit_learn(report: Path) -> None:
    emb = embedded(report, "mirabest")
    kind, side, sure = (
        np.array(emb.catalog[c].to_pylist(), dtype=object) for c in ("fr", "split", "confidence")
    )
    counts = np.isin(kind, ("FRI", "FRII")) & (sure == "confident")
    train, test = counts & (side == "train"), counts & (side == "test")
    x, y = np.asarray(emb.vectors[:]), (kind == "FRII").astype(int)
    scale = StandardScaler().fit(x[train])
    fitted = KNeighborsClassifier(20).fit(scale.transform(x[train]), y[train])
    chance = fitted.predict_proba(scale.transform(x[test]))[:, 1]
    (row,) = [
        r
        for r in rows(report, "table", "scores")
        if (r["set"], r["classifier"]) == ("mirabest", "knn") and r["encoder"].startswith("PCA 8")
    ]
    assert row["test"] == test.sum()
    assert row["accuracy"] == pytest.approx(accuracy_score(y[test], chance > 0.5))
    assert row["auc"] == pytest.approx(roc_auc_score(y[test], chance))
    assert row["recall"] == pytest.approx((chance > 0.5)[y[test] == 1].mean())
    assert row["accuracy_lower"] < row["accuracy"] < row["accuracy_upper"]
    often = int(y[train].mean() > 0.5)
    assert row["base_rate"] == pytest.approx((y[test] == often).mean())


def test_the_chosen_classifiers_are_the_best_of_their_rule(report: Path) -> None:
    scores = rows(report, "table", "scores")
    assert {row["classifier"] for row in scores} == {"knn", "lda"}
    for row in rows(report, "table", "chosen"):
        own = [r for r in scores if (r["set"], r["encoder"]) == (row["set"], row["encoder"])]
        if row["rule"] == "by cross-validation":
            assert row["cv_accuracy"] == max(r["cv_accuracy"] for r in own)
        elif row["rule"] == "best on the test rows":
            assert row["classifier"] == "knn"  # lda is none of the paper's six
        else:
            assert not own
    theirs = [r for r in rows(report, "table", "chosen") if r["encoder"].endswith("the paper's")]
    assert len(theirs) == len(paper.ROWS)


def test_a_search_in_another_set_against_its_definition(report: Path) -> None:
    own, other = embedded(report, "mirabest"), embedded(report, "frdeep")
    x, y = (np.asarray(e.vectors[:], dtype=np.float64) for e in (own, other))
    kind = np.array(other.catalog["fr"].to_pylist(), dtype=object)
    y, kind = y[np.isin(kind, ("FRI", "FRII"))], kind[np.isin(kind, ("FRI", "FRII"))]
    asked_for = [
        r
        for r in rows(report, "similar", "each")
        if (r["target"], r["metric"]) == ("FR-DEEP NVSS", "cosine")
    ]
    assert len(asked_for) > 10
    for row in asked_for:
        query = x[own.index[row["query"]]]
        cosine = 1 - (y @ query) / np.linalg.norm(y, axis=1) / np.linalg.norm(query)
        order = np.argsort(cosine)[:25]
        assert row["nearest"] == pytest.approx(cosine[order[0]], abs=1e-6)
        assert row["purity"] == pytest.approx((kind[order] == row["kind"]).mean())
        assert row["base_rate"] == pytest.approx((kind == row["kind"]).mean())


def test_the_least_likely_and_their_distances(report: Path) -> None:
    lowest = rows(report, "density", "lowest")
    values = [row["log_likelihood"] for row in lowest]
    assert values == sorted(values)
    likelihood = {row["set"]: row for row in rows(report, "density", "likelihood")}
    assert list(likelihood) == ["unlabelled", "MiraBest Confident", "FR-DEEP NVSS"]
    assert values[0] <= likelihood["MiraBest Confident"]["q1"]
    own, free = embedded(report, "mirabest"), embedded(report, "unlabelled")
    x, z = (np.asarray(e.vectors[:], dtype=np.float64) for e in (own, free))
    worst = x[own.index[lowest[0]["id"]]]
    near = np.linalg.norm((z - worst) / z.std(axis=0), axis=1).min()
    cosine = 1 - z @ worst / np.linalg.norm(z, axis=1) / np.linalg.norm(worst)
    found = [row["nearest"] for row in rows(report, "density", "worst")]
    assert found == [pytest.approx(near, rel=1e-4), pytest.approx(cosine.min(), abs=1e-6)]


def test_the_summary_repeats_the_sections(report: Path) -> None:
    compared = rows(report, "summary", "compared")
    scores = {(r["set"], r["encoder"], r["classifier"]): r for r in rows(report, "table", "scores")}
    titles = {one.title: key for key, one in paper.SETS.items()}
    for row in compared:
        encoder, _, classifier = row["what"].rpartition(" (")
        own = scores[titles[row["set"]], encoder, classifier.removesuffix(")")]
        assert row["here"] == own["accuracy"]
        apart = row["here_upper"] < row["paper_lower"], row["here_lower"] > row["paper_upper"]
        assert row["verdict"] == (
            "ours lower" if apart[0] else "ours higher" if apart[1] else "meet"
        )
    claims = rows(report, "summary", "claims")
    (forest,) = [r for r in rows(report, "importance", "importance") if r["set"] == "unlabelled"]
    assert forest["r2"] in [row["here"] for row in claims]


def test_nothing_is_done_twice_and_a_change_goes_as_far_as_it_reaches(
    report: Path, asked: Asked, tmp_path: Path
) -> None:
    assert {one.outcome for one in reproduce_rgz(report, asked)} == {"kept"}
    # Elsewhere it is the same report; the command line gives it, too.
    out = shutil.copytree(report, tmp_path / "report")
    words = [
        f"--{name}={getattr(asked, name)}" for name in ("unlabelled", "mirabest", "frdeep", "folds")
    ]
    words += [f"--out={out}", "--encoder=pca:8", "--quiet"]
    for classifiers, said in (
        ("knn,lda", "0 section(s) written, 8 unchanged"),
        ("knn", "2 section(s) written, 6 unchanged"),  # the table, and the summary of it
    ):
        outcome = CliRunner().invoke(app, ["rgz", f"--classifiers={classifiers}", *words])
        assert outcome.exit_code == 0, outcome.output
        assert outcome.output.splitlines() == [said, f"written: {out / 'index.html'}"]


def test_what_does_not_go_together_is_refused_at_once(
    asked: Asked, report: Path, tmp_path: Path
) -> None:
    out = tmp_path / "report"
    for changes, error, said in (
        ({"classifiers": ("gb",)}, UsageError, "gb alone"),
        ({"classifiers": ("nonsense",)}, UnknownName, "nonsense"),
        ({"folds": 1}, UsageError, "folds 1"),
        ({"count": 10}, UsageError, "count 10"),
        ({"unlabelled": None, "unlabelled_catalog": tmp_path}, UsageError, "--unlabelled FOLDER"),
        ({"size_column": "nonsense"}, UsageError, "--size-column nonsense"),
        ({"mirabest": tmp_path / "nowhere"}, UsageError, "no file or folder"),
    ):
        with pytest.raises(error, match=said):
            reproduce_rgz(out, replace(asked, **changes))
    simulate_survey("radio", 20, tmp_path / "few", size=48, quiet=True)
    with pytest.raises(DataError, match="expected at least 20"):
        reproduce_rgz(out, replace(asked, mirabest=tmp_path / "few"))
    with pytest.raises(OutputExists):
        reproduce_rgz(tmp_path / "few", asked)


@pytest.mark.slow
@pytest.mark.skipif(find_spec("pytorch_lightning") is None, reason="needs skytwin[train]")
def test_where_no_encoder_is_given_a_small_vdvae_is_trained_for_its_images(
    asked: Asked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SKYTWIN_DATA", raising=False)
    monkeypatch.setattr(rgz_encoders, "_SHOWN_TO_VDVAE", 400)
    # The network that comes along takes larger frames than these.
    monkeypatch.setattr(rgz_encoders, "bundled_encoders", tuple)
    mine = replace(asked, encoders=())
    done = reproduce_rgz(tmp_path / "report", mine)
    assert {one.outcome for one in done} == {"made"}
    encoders = rows(tmp_path / "report", "data", "encoders")
    assert [row["counterpart"] for row in encoders] == ["VDVAE", "none"]
    assert encoders[0]["encoder"] == "VDVAE, trained here for minutes"
    (folder,) = (tmp_path / "report" / "artefacts").glob("vdvae-tiny-*")
    made = Manifest.open(folder, "encoder")
    assert made.summary["epochs"] == 2
    assert made.summary["images"] + made.summary["validation_images"] == 220
    page = read(tmp_path / "report")
    require_numbers_of_tables(tmp_path / "report", page)
    assert "a VDVAE trained as long as the paper's (one was, for minutes)" in page.text
    for name in ("reconstructions", "samples", "nearest", "interpolations", "closeness"):
        (section,) = (tmp_path / "report" / "sections").glob("*-images")
        assert (section / f"{name}.png").stat().st_size > 5000
    likelihoods = {row["set"] for row in rows(tmp_path / "report", "density", "likelihood")}
    assert {"generated, prior latents", "generated, fitted latents"} < likelihoods
    assert {one.outcome for one in reproduce_rgz(tmp_path / "report", mine)} == {"kept"}
    # Another version's recipe of that name is another encoder.
    plain = rgz_encoders.read_recipe

    def other(name: str, changes: list[str]) -> Recipe:
        return plain(name, changes=[*changes, "ema=0.5"])

    def trained(*_: object, **__: object) -> None:
        raise UsageError("trained anew")

    monkeypatch.setattr(rgz_encoders, "read_recipe", other)
    monkeypatch.setattr(rgz_encoders, "train", trained)
    with pytest.raises(UsageError, match="trained anew"):
        reproduce_rgz(tmp_path / "report", mine)
