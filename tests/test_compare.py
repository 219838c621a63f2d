"""Ways of searching, compared by leaving references out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy.spatial.distance import cdist
from scipy.stats import t as student

import skytwin
from command import catalogue, done, images
from command import skytwin as skytwin_command
from durability_verbs import content
from skytwin.answers import figures
from skytwin.answers.compare import WAYS, compare
from skytwin.errors import DataError, UnknownName, UsageError
from stopped import stopped_after

N = 400


def survey(twins: bool = False) -> skytwin.Embeddings:
    """Two classes along one feature; a loud feature that says nothing drowns it unscaled."""
    rng = np.random.default_rng(3)
    x = rng.standard_normal((N, 8))
    x[:80, 0] += 3
    x[:, 1] *= 30
    kind = np.where(np.arange(N) < 80, "odd", "plain").astype(object)
    kind[390:] = None
    table: dict[str, Any] = {"kind": kind}
    if twins:  # every object twice, half an arcsec apart
        x = np.concatenate([x, x])
        table = {
            "kind": np.concatenate([kind, kind]),
            "ra": np.tile(np.linspace(0, 20, N), 2),
            "dec": np.concatenate([np.zeros(N), np.full(N, 0.5 / 3600)]),
        }
    return skytwin.Embeddings.from_arrays(x, [f"s{i}" for i in range(len(x))], table)


def test_purity_by_hand_and_the_better_way_is_named() -> None:
    emb = survey()
    ways = [("euclidean", "mean"), ("standardized", "mean")]
    found = compare(emb, "kind=odd", ways=ways, references=3, draws=6, top=40, seed=4)
    x = np.asarray(emb.vectors, dtype=float)
    z = (x - x.mean(0)) / x.std(0)
    rows = found.table.to_pylist()
    for draw in range(6):
        drawn = np.random.default_rng([4, draw]).permutation(np.arange(80))[:3]
        left = np.setdiff1d(np.arange(390), drawn)
        for number, row in enumerate(rows):
            metric = "euclidean" if row["metric"] == "euclidean" else "cosine"
            space = x if row["metric"] == "euclidean" else z
            apart = cdist(space, space[drawn], metric).mean(1)
            nearest = left[np.argsort(apart[left])[:40]]
            assert found.each[number, draw] == (nearest < 80).mean()
    assert found.best == ("standardized", "mean")
    assert [row["metric"] for row in rows] == ["standardized", "euclidean"]
    assert rows[1]["behind_lower"] > 0
    half = student.ppf(0.975, 5) * found.each[0].std(ddof=1) / np.sqrt(6)
    assert rows[0]["upper"] == pytest.approx(min(1, found.each[0].mean() + half))
    assert found.base.hits, found.base.total == (80, 390)
    assert rows[0]["lift"] == pytest.approx(rows[0]["purity"] / (80 / 390))
    assert "base rate 0.205" in found.summary
    assert "best" in found.summary


def test_the_second_entry_of_an_object_is_neither_drawn_nor_counted() -> None:
    settings: dict[str, Any] = {
        "ways": [("standardized", "mean")], "references": 3, "draws": 5, "top": 50,
    }  # fmt: skip
    once, twice = (compare(survey(t), "kind=odd", **settings) for t in (False, True))
    assert twice.base.total == 390
    # Statistics over the doubled set are the same; so is everything else.
    np.testing.assert_allclose(once.each, twice.each)
    free = compare(survey(True), "kind=odd", same_arcsec=0, **settings)
    assert free.base.total == 780
    assert free.each.mean() > twice.each.mean()


def test_more_references_and_negatives() -> None:
    found = compare(
        survey(), "kind=odd", ways=[("standardized", "mean"), ("standardized", "logistic")],
        references=[1, 5, 20], negatives=[0, 5], draws=5, top=60,
    )  # fmt: skip
    assert len(found.table) == 12
    by = {
        (r["combine"], r["references"], r["negatives"]): r["purity"]
        for r in found.table.to_pylist()
    }
    assert by["mean", 20, 0] > by["mean", 1, 0]
    assert by["logistic", 1, 5] > by["logistic", 1, 0]
    assert figures.comparison(found).get_xlabel() == "number of positive references"
    again = compare(
        survey(), "kind=odd", ways=[("standardized", "logistic")], references=5, draws=5, top=60
    )
    assert again.each.mean() == by["logistic", 5, 0]


def test_every_way_runs() -> None:
    found = compare(survey(), "kind=odd", draws=2, top=30)
    assert len(found.table) == len(WAYS)
    assert np.isfinite(found.each).all()
    axes = figures.comparison(found)
    assert len(axes.get_yticklabels()) == len(WAYS)


def test_bad_input() -> None:
    emb = survey()
    with pytest.raises(DataError, match="80 object.*at least 21 more"):
        compare(emb, "kind=odd", references=100)
    with pytest.raises(DataError, match="a top of 400 needs 15 more"):
        compare(emb, "kind=odd", top=400)
    with pytest.raises(UsageError, match="references 0"):
        compare(emb, "kind=odd", references=0)
    with pytest.raises(UsageError, match="1 draws"):
        compare(emb, "kind=odd", draws=1)
    with pytest.raises(UnknownName, match="unknown metric 'manhattan'"):
        compare(emb, "kind=odd", ways=[("manhattan", "mean")])
    with pytest.raises(UsageError, match="at least one positive class"):
        compare(emb, [])


def test_from_the_command_line(tmp_path: Path) -> None:
    done("ingest", images(tmp_path / "images"), "--catalog", catalogue(tmp_path / "c.csv"),
         "--out", tmp_path / "cuts", "--quiet")  # fmt: skip
    done("embed", tmp_path / "cuts", "--encoder", "pca:6", "--out", tmp_path / "emb", "--quiet")
    out, picture = tmp_path / "compared", tmp_path / "curve.png"
    said = done(
        "compare", tmp_path / "emb", "--positive", "kind=a", "--ways",
        "standardized+mean,euclidean", "--references", "1,3", "--draws", "4", "--top", "5",
        "--out", out, "--save", picture, "--quiet",
    )  # fmt: skip
    assert "3 reference(s), 0 negative(s)" in said
    assert picture.stat().st_size > 1000
    assert len(pq.read_table(out / "comparison.parquet")) == 4
    assert {"report.txt", "comparison.png", "comparison.pdf", "manifest.json"} <= {
        path.name for path in out.iterdir()
    }
    again, found = tmp_path / "again", []
    for most in (1, 2, 9):
        with stopped_after(most) as made:
            skytwin_command(
                "compare", tmp_path / "emb", "--positive", "kind=a", "--ways",
                "standardized+mean,euclidean", "--references", "1,3", "--draws", "4", "--top", "5",
                "--out", again, "--quiet",
            )  # fmt: skip
        found += made
    assert found == [("draw", str(draw)) for draw in range(4)]
    assert content(again) == content(out)
    wrong = skytwin_command(
        "compare", tmp_path / "emb", "--positive", "kind=a", "--references", "2.5"
    )
    assert wrong.code == 2
    assert "expected whole numbers such as 1,5,20" in wrong.err
