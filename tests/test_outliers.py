"""Outliers: planted ones are found, by models that have not seen them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy.spatial.distance import mahalanobis
from sklearn.covariance import LedoitWolf
from sklearn.metrics import roc_auc_score

from command import catalogue, done, images
from command import skytwin as skytwin_command
from skytwin.answers.figures_outliers import neighbour_distances, score_histograms
from skytwin.answers.outliers import outliers
from skytwin.answers.outliers_check import check_scores
from skytwin.answers.outliers_scores import fit_forest, fit_mahalanobis, percentile
from skytwin.answers.outliers_settings import OutlierSettings
from skytwin.densities import flow as flows
from skytwin.densities.flow import FlowSettings
from skytwin.densities.flow_store import save_flow
from skytwin.embeddings.metric import scorer
from skytwin.embeddings.neighbours import nearest
from skytwin.embeddings.neighbours_many import nearest_many
from skytwin.embeddings.ranker import Combined
from skytwin.embeddings.table import Embeddings
from skytwin.errors import DataError, Mismatch, UnknownName, UsageError

CHEAP = ("knn", "mahalanobis", "forest")
TINY = FlowSettings(blocks=2, hidden=(16,), epochs=8, lr=5e-3, patience=3)
N, ODD = 400, 12


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """A flow that trains in a moment, by the name of the default."""
    for module in ("outliers", "outliers_settings"):
        monkeypatch.setattr(f"skytwin.answers.{module}.PRESETS", {"default": TINY})
    monkeypatch.setattr(flows, "PRESETS", {"default": TINY})


def survey(
    odd: int = ODD, n: int = N, dim: int = 6, seed: int = 0, shift: float = 0.0
) -> Embeddings:
    """A correlated cloud, and objects on a shell around it."""
    rng = np.random.default_rng(seed)
    mix = np.random.default_rng(9).standard_normal((dim, dim))
    x = rng.standard_normal((n, dim)) @ mix + shift
    away = rng.standard_normal((odd, dim))
    x[:odd] = 6 * away / np.linalg.norm(away, axis=1)[:, None] @ mix
    table = {
        "kind": np.where(np.arange(n) < odd, "odd", "usual"),
        "z": np.arange(n) / n,
        "ra": np.linspace(10 + 50 * seed, 50 + 50 * seed, n),
        "dec": np.zeros(n),
    }
    return Embeddings.from_arrays(x, [f"s{seed}-{i}" for i in range(n)], table)


def settings(*methods: str, **more: object) -> OutlierSettings:
    return OutlierSettings(methods=methods or CHEAP, **more)  # type: ignore[arg-type]


def test_planted_outliers_come_first_by_every_method() -> None:
    found = outliers(survey(), settings(*CHEAP, "flow", positive=("kind=odd",)), label="kind")
    assert [check.method for check in found.checks] == [*CHEAP, "flow", "ensemble"]
    for check in found.checks:
        # A forest cuts along the axes, and the cloud lies across them.
        assert check.auc.value > (0.85 if check.method == "forest" else 0.95), check
        assert check.auc.lower <= check.auc.value <= check.auc.upper
        assert check.purity.total == 50
        assert (check.base.hits, check.base.total) == (ODD, N)
    rows = found.table.to_pylist()
    assert [row["rank"] for row in rows] == list(range(1, N + 1))
    assert rows[0]["kind"] == "odd"
    assert rows[0]["ensemble_percentile"] == pytest.approx(100 * (1 - 1 / N))
    assert rows[0]["nearest_percentile"] > 95
    assert len(found.flows) == 5
    assert sum(flow.rows["test"] for flow in found.flows) == N
    assert "mean held-out log-likelihood" in found.summary
    assert "kind=odd: base rate 0.03 [" in found.summary
    truth = np.arange(N) < ODD
    for check in found.checks:
        score = found.scored.scores[check.method]
        assert check.auc.value == pytest.approx(roc_auc_score(truth, score))
        hits = truth[np.argsort(-score, kind="stable")[:50]].sum()
        assert check.purity.hits == hits


def test_nothing_is_odd_in_a_gaussian_and_percentiles_are_even() -> None:
    found = outliers(survey(odd=0), settings(), reference=survey(odd=0, seed=1, n=1200))
    assert len(found.reference.part.rows) == 1200
    for method in (*CHEAP, "ensemble"):
        got = np.sort(found.scored.percentiles[method])
        # Kolmogorov-Smirnov: beyond 0.097 once in 1000 samples of 400, plus the reference's own.
        assert np.abs(got / 100 - (np.arange(N) + 0.5) / N).max() < 0.12
    (checks,) = ({check.what for check in found.checks},)
    assert checks == {"these among reference"}
    for check in found.checks:
        assert check.auc.lower < 0.55
        assert check.auc.value == pytest.approx(0.5, abs=0.05)


def test_no_object_is_scored_by_a_model_that_has_seen_it() -> None:
    # Twins at one place: without groups each would have the other beside it.
    emb = survey(n=200)
    x = np.repeat(np.asarray(emb.vectors)[:100], 2, axis=0) + 1e-4
    place = np.repeat(np.linspace(0, 40, 100), 2)
    twins = Embeddings.from_arrays(x, range(200), {"ra": place, "dec": np.zeros(200)})
    apart = outliers(twins, settings("knn"))
    mixed = outliers(twins, settings("knn", group_arcsec=0))
    assert apart.scored.near.distance[:, 0].min() > 1e-4
    assert mixed.scored.near.distance[:, 0].max() < 1e-6
    # A far object pulls the covariance that it is held against, unless it is left out.
    x = np.random.default_rng(0).standard_normal((120, 3))
    x[0] = 1000
    far = outliers(Embeddings.from_arrays(x, range(120)), settings("mahalanobis"))
    assert far.scored.scores["mahalanobis"][0] > 500
    assert far.table["id"][0].as_py() == "0"


def test_mahalanobis_and_forest_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((300, 5)) @ rng.standard_normal((5, 5)) + 3
    got = fit_mahalanobis(x, 0)(x[:10])
    z = (x - x.mean(axis=0)) / x.std(axis=0)
    precision = np.linalg.inv(LedoitWolf(assume_centered=True).fit(z).covariance_)
    wanted = [mahalanobis(row, np.zeros(5), precision) for row in z[:10]]
    np.testing.assert_allclose(got, wanted, rtol=1e-8)
    forest = fit_forest(x, 3)(np.concatenate([x, [[99] * 5]]))
    assert forest.argmax() == 300
    with pytest.raises(DataError, match="all alike"):
        fit_mahalanobis(np.ones((9, 2)), 0)


def test_many_neighbours_are_those_of_the_exact_scan() -> None:
    emb, queries = survey(), np.asarray(survey(seed=2, n=30).vectors)
    groups, own = np.arange(N) // 10, np.arange(30) % 5
    found = nearest_many(emb.vectors, emb.statistics, queries, 7)
    apart = nearest_many(emb.vectors, emb.statistics, queries, 7, groups=groups, own=own)
    for number, query in enumerate(queries):
        ranker = Combined(
            score=scorer("euclidean", query[None], emb.statistics), combine="mean",
            weights=np.ones(1), negative_weights=np.empty(0),
        )  # fmt: skip
        for got, mask in ((found, None), (apart, groups != own[number])):
            wanted = nearest(emb.vectors, ranker, 7, keep=mask)
            assert got.rows[number].tolist() == wanted.rows.tolist()
            np.testing.assert_array_equal(got.distance[number], wanted.distance)


def test_percentiles_count_the_reference_by_the_model_of_each_fold() -> None:
    held, fold = np.array([1.0, 3, 2, 9, np.nan]), np.array([0, 0, 1, 1, 1])
    each = np.array([[0.0, 2, 9, 2], [0, 5, 9, np.nan]])
    # Of 4: all four, 3 and 9, 9 alone are at least so odd.
    wanted = [0, 100 * (1 - 3 / 5), 100 * (1 - 2 / 5), np.nan]
    np.testing.assert_allclose(percentile(each, held, fold), wanted)
    own = percentile(held[None, :4], held[:4], np.zeros(4, int), itself=True)
    np.testing.assert_allclose(own, [0, 50, 25, 75])


def test_a_fitted_flow_serves_another_set_and_leaves_out_what_it_has_seen(tmp_path: Path) -> None:
    first = outliers(survey(), settings("flow"))
    assert first.flow is first.flows[0]
    save_flow(first.flows[0], tmp_path / "flow", parents={})
    given = settings("knn", "flow", flow=str(tmp_path / "flow"))
    again = outliers(survey(), given)
    seen = np.isnan(again.scored.scores["flow"])
    assert seen.sum() == len(first.flows[0].ids) == N - first.flows[0].rows["test"]
    assert not np.isnan(again.scored.scores["ensemble"]).any()
    assert f"{seen.sum()} objects without a flow score: the flow has seen them" in again.summary
    own = first.scored.scores["flow"][~seen]
    np.testing.assert_allclose(again.scored.scores["flow"][~seen], own)
    other = outliers(survey(seed=3), given)
    assert not np.isnan(other.scored.scores["flow"]).any()
    odd = other.scored.percentiles["flow"][:ODD]
    assert np.median(odd) > 95
    narrow = Embeddings.from_arrays(np.asarray(survey().vectors)[:, :4], range(N))
    with pytest.raises(Mismatch, match="the flow was fitted on 6 numbers of unknown encoder"):
        outliers(narrow, given)


def test_further_sets_are_scored_by_the_same_models() -> None:
    found = outliers(
        survey(odd=0), settings(), against={"moved": survey(0, seed=4, shift=8.0, n=100)}
    )
    assert list(found.sets) == ["these", "moved"]
    assert {check.what for check in found.checks} == {"moved among these"}
    assert all(check.auc.value > 0.9 for check in found.checks if check.method != "forest")
    drawn = score_histograms(found)
    panels = [ax for ax in drawn.axes if ax.get_xlabel()]
    assert len(panels) == 4
    labels = panels[0].get_legend_handles_labels()[1]
    assert labels == ["these (400)", "moved (100)"]
    near = neighbour_distances(found)
    assert [text.get_text() for text in near.axes[0].texts] == list("12345")
    # The same objects again: all of them are left out, and that is said.
    with pytest.raises(DataError, match=r"again: 0 object\(s\) are left"):
        outliers(survey(), settings(), against={"again": survey()})


def test_an_infinite_score_is_the_oddest() -> None:
    truth = np.arange(60) < 2
    score = np.where(truth, np.inf, np.arange(60.0))
    (check,) = check_scores("x", {"flow": score}, truth, np.arange(60), level=0.95, seed=0)
    assert check.auc.value == 1
    assert check.auc.lower < 1
    assert check.purity.hits == 2


def test_bad_input() -> None:
    emb = survey()
    for wrong, error, words in (
        ({"methods": ("knn", "maf")}, UnknownName, "unknown method 'maf'"),
        ({"methods": ()}, UsageError, "no method"),
        ({"folds": 1}, UsageError, "folds 1; expected at least 2"),
        ({"seed": -1}, UsageError, "seed -1"),
        ({"level": 1.0}, UsageError, "interval level 1"),
    ):
        with pytest.raises(error, match=words):
            OutlierSettings(**wrong)  # type: ignore[arg-type]
    with pytest.raises(UnknownName, match="unknown column 'knid'; did you mean: kind"):
        outliers(emb, settings(), label="knid")
    with pytest.raises(UnknownName, match="unknown column 'knid'"):
        outliers(emb, settings(positive=("knid=odd",)))
    with pytest.raises(UnknownName, match="unknown flow 'papr'"):
        outliers(emb, settings("flow", flow="papr"))
    with pytest.raises(DataError, match=r"3 object\(s\) are left; expected at least 50"):
        outliers(emb, settings(where="z < 0.007"))
    with pytest.raises(Mismatch, match="vectors of 5 numbers; expected 6"):
        outliers(emb, settings(), reference=survey(dim=5))
    emb.vectors._shards[0][17, 2] = np.nan
    with pytest.raises(DataError, match=r"these: 1 vector\(s\) hold NaN or infinity, e.g. s0-17"):
        outliers(emb, settings())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty images, embedded."""
    home = tmp_path_factory.mktemp("outliers")
    done("ingest", images(home / "images", 60), "--catalog", catalogue(home / "c.csv", 60),
         "--out", home / "cuts", "--quiet")  # fmt: skip
    done("embed", home / "cuts", "--encoder", "pca:6", "--out", home / "emb", "--quiet")
    return home


def test_from_the_command_line(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    said = done(
        "outliers", folder / "emb", "--methods", "knn,forest", "--label", "kind", "--side", "3",
        "--positive", "kind=a", "--folds", "3", "--out", out, "--save", tmp_path / "one.pdf",
        "--save", tmp_path / "one.csv", "--quiet",
    )  # fmt: skip
    assert said.startswith("outliers: 60 objects; 60 reference objects, 3 folds")
    assert "kind=a: base rate 0.25 " in said
    assert len(pq.read_table(out / "outliers.parquet")) == 60
    names = {path.name for path in out.iterdir()}
    assert {"histograms.png", "neighbours.pdf", "mosaic.png", "checks.csv", "report.txt"} <= names
    assert {"run.json", "parts", "journal.jsonl", "flow"}.isdisjoint(names)
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["kind"] == "outliers"
    assert manifest["recipe"]["methods"] == ["knn", "forest"]
    wrong = skytwin_command("outliers", folder / "emb", "--label", "kidn", "--quiet")
    assert (wrong.code, wrong.err.count("\n")) == (2, 1)
    wrong = skytwin_command("outliers", folder / "emb", "--against", "x", "--quiet")
    assert (wrong.code, "expected NAME=EMB" in wrong.err) == (2, True)
    again = skytwin_command("outliers", folder / "emb", "--methods", "knn", "--out", out)
    assert "already holds a finished result" in again.err
    left = tmp_path / "left"
    few = skytwin_command("outliers", folder / "emb", "--out", left, "--quiet")
    assert "objects to fit a flow to; expected at least 100" in few.err
    assert not left.exists()


def test_the_flow_is_part_of_the_folder_and_a_killed_run_goes_on(tmp_path: Path) -> None:
    home = tmp_path / "h"
    done("ingest", images(home / "images", 220), "--out", home / "cuts", "--quiet")
    done("embed", home / "cuts", "--encoder", "pca:4", "--out", home / "emb", "--quiet")
    words = ("outliers", home / "emb", "--methods", "flow", "--folds", "2", "--quiet", "--out")
    done(*words, home / "whole")
    from skytwin.answers import outliers_fit

    fit, calls = outliers_fit.fit_flow, []

    def dying(*args: object, **more: object) -> object:
        if calls:
            raise KeyboardInterrupt
        calls.append(1)
        return fit(*args, **more)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(outliers_fit, "fit_flow", dying)
        assert skytwin_command(*words, home / "killed").code != 0
    kept = {path.name for path in (home / "killed" / "parts").iterdir()}
    assert kept == {"flow-0.safetensors", "step-1.npz"}  # and the neighbours
    done(*words, home / "killed")
    one, two = (pq.read_table(home / name / "outliers.parquet") for name in ("whole", "killed"))
    assert one.equals(two)
    said = done("outliers", home / "emb", "--methods", "flow", "--folds", "2", "--quiet",
                "--flow", home / "whole" / "flow")  # fmt: skip
    assert "110 objects without a flow score" in said
    done("info", home / "whole")


def test_it_loads_no_torch_without_a_flow_to_fit() -> None:
    code = (
        "import sys, skytwin.answers.outliers, skytwin.report_outliers, skytwin.cli_outliers\n"
        "assert not {'torch', 'zuko', 'matplotlib'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
