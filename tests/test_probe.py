"""Labels read from frozen vectors: metrics, classifiers, groups, intervals, kept probes, calls."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
from query_algebra import embedding as embedded
from scipy.stats import binomtest
from sklearn import metrics as truthful
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from typer.testing import CliRunner

from skytwin import report_probe
from skytwin.answers import figures_probe, probe_run
from skytwin.answers.probe import Probe, probe
from skytwin.answers.probe_classifiers import (
    CLASSIFIERS,
    LINEAR,
    PAPER,
    Linear,
    check_classifiers,
    fit_classifier,
)
from skytwin.answers.probe_data import gather, named
from skytwin.answers.probe_fit import predict
from skytwin.answers.probe_kept import open_probes
from skytwin.answers.probe_metrics import (
    Outputs,
    Resamples,
    calibration_error,
    cross_validated,
    estimates,
    holm,
    mcnemar,
    measure,
    reliability_of,
    replicates,
)
from skytwin.answers.probe_run import Scaling, budgets_within, draw_labels, folded
from skytwin.artefact import Manifest
from skytwin.cli_probe import predict as predict_command
from skytwin.cli_probe import probe as probe_command
from skytwin.embeddings.embed import embed_cutouts
from skytwin.embeddings.table import Embeddings
from skytwin.embeddings.vectors import Statistics, Vectors
from skytwin.encoders.load import open_encoder
from skytwin.errors import (
    DataError,
    Mismatch,
    OutputExists,
    SkytwinError,
    UnknownName,
    UsageError,
)
from skytwin.images.folds import straddling
from skytwin.images.ingest import ingest_source
from toys import MemorySource, blob, raw

N = 300
QUICK: dict[str, Any] = {
    "classifiers": ["lr"], "folds": 3, "repeats": 1, "bootstrap": 200, "budget": [],
    "baselines": False,
}  # fmt: skip


def survey(
    shift: float = 2.0, n: int = N, dim: int = 6, seed: int = 0, classes: str = "ab", twins: int = 0
) -> Embeddings:
    """Classes apart along a feature each; the first ``twins`` objects are there twice."""
    rng = np.random.default_rng(seed)
    kind = rng.integers(len(classes), size=n)
    x = rng.standard_normal((n, dim))
    x[np.arange(n), kind] += shift
    ra = np.linspace(10, 20, n)
    rows = np.concatenate([np.arange(n), np.arange(twins)])
    names = np.array(list(classes), dtype=object)[kind[rows]]
    side = np.where(np.arange(len(rows)) % 4 == 0, "test", "train")
    return Embeddings.from_arrays(
        x[rows],
        [f"s{i}" for i in range(len(rows))],
        {
            "kind": names,
            "part": side,
            "coin": rng.choice(["h", "t"], len(rows)),
            "ra": ra[rows],
            "dec": np.concatenate([np.zeros(n), np.full(twins, 0.5 / 3600)]),
        },
    )


def outputs(score: np.ndarray) -> Outputs:
    chance = np.stack([1 - score, score], axis=1)
    return Outputs(values=chance, probability=chance, predicted=(score > 0.5).astype(np.int64))


@pytest.mark.parametrize("seed", range(6))
def test_two_class_metrics_are_scikit_learns(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.integers(2, size=80)
    score = np.round(rng.random(80), 1 + seed % 2)  # with ties
    weight = rng.integers(0, 4, size=(3, 80)).astype(float)
    found = measure(outputs(score), truth, weight)
    guess = score > 0.5
    for row, w in enumerate(weight):
        want = {
            "accuracy": truthful.accuracy_score(truth, guess, sample_weight=w),
            "auc": truthful.roc_auc_score(truth, score, sample_weight=w),
            "balanced": truthful.balanced_accuracy_score(truth, guess, sample_weight=w),
            "recall": truthful.recall_score(truth, guess, sample_weight=w),
            "specificity": truthful.recall_score(truth, guess, pos_label=0, sample_weight=w),
            "brier": truthful.brier_score_loss(truth, score, sample_weight=w),
        }
        assert set(found) == set(want)
        for name, value in want.items():
            assert found[name][row] == pytest.approx(value), name


@pytest.mark.parametrize("seed", range(3))
def test_metrics_of_several_classes_are_scikit_learns(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth, chance = rng.integers(4, size=120), rng.dirichlet(np.ones(4), 120)
    said = Outputs(values=chance, probability=chance, predicted=chance.argmax(axis=1))
    found = measure(said, truth, np.ones((1, 120)))
    assert found["auc"][0] == pytest.approx(
        truthful.roc_auc_score(truth, chance, multi_class="ovr", average="macro")
    )
    assert found["balanced"][0] == pytest.approx(
        truthful.balanced_accuracy_score(truth, said.predicted)
    )
    assert found["brier"][0] == pytest.approx(((chance - np.eye(4)[truth]) ** 2).sum(1).mean())
    bins = reliability_of(said, truth, 0.95)
    assert bins is not None
    assert (bins.predicted * bins.count).sum() == pytest.approx(chance.max(axis=1).sum())


def test_calibration_error_by_hand() -> None:
    score = np.repeat([0.15, 0.85], [20, 30])
    truth = np.concatenate([np.arange(20) < 10, np.arange(30) < 27]).astype(int)
    bins = reliability_of(outputs(score), truth, 0.95)
    assert bins is not None
    assert calibration_error(bins) == pytest.approx((20 * 0.35 + 30 * 0.05) / 50)


@pytest.mark.parametrize("seed", range(5))
def test_mcnemar_is_the_exact_sign_test(seed: int) -> None:
    rng = np.random.default_rng(seed)
    one, other = rng.random(60) < 0.8, rng.random(60) < 0.6
    first, second, p = mcnemar(one, other)
    assert (first, second) == ((one & ~other).sum(), (~one & other).sum())
    assert p == pytest.approx(binomtest(first, first + second, 0.5).pvalue)
    assert mcnemar(one, one) == (0, 0, 1.0)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []


@pytest.mark.parametrize(("n", "dim", "classes"), [(60, 90, 2), (200, 12, 2), (80, 120, 3)])
def test_shrunk_discriminant_is_scikit_learns(n: int, dim: int, classes: int) -> None:
    rng = np.random.default_rng(n)
    truth = np.arange(n) % classes
    x = rng.standard_normal((n, dim)) @ rng.standard_normal((dim, dim)) + truth[:, None]
    own = fit_classifier("lda", x, truth, np.arange(n), classes)
    want = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto").fit(x, truth)
    asked = rng.standard_normal((30, dim)) * 3
    np.testing.assert_allclose(own.outputs(asked).probability, want.predict_proba(asked), atol=1e-6)


@pytest.mark.parametrize("classes", [2, 3])
def test_logistic_in_the_basis_of_its_rows_is_scikit_learns(classes: int) -> None:
    rng = np.random.default_rng(1)
    truth = np.arange(50) % classes
    x = rng.standard_normal((50, 200)) + 0.3 * truth[:, None]
    own = fit_classifier("lr", x, truth, np.arange(50), classes)
    want = LogisticRegression(max_iter=1000, tol=1e-8).fit(x, truth)
    asked = rng.standard_normal((20, 200))
    np.testing.assert_allclose(own.outputs(asked).probability, want.predict_proba(asked), atol=2e-3)


def test_the_papers_settings() -> None:
    rng = np.random.default_rng(0)
    x, truth = rng.standard_normal((40, 3)), np.arange(40) % 2
    made = {n: fit_classifier(n, x, truth, np.arange(40), 2) for n in PAPER if n != "lr"}
    assert made["knn"].estimator.n_neighbors == 20  # type: ignore[attr-defined]
    assert made["rf"].estimator.n_estimators == 260  # type: ignore[attr-defined]
    assert made["gb"].estimator.n_estimators == 250  # type: ignore[attr-defined]
    assert made["ext"].estimator.n_estimators == 400  # type: ignore[attr-defined]
    svc = made["svc"].estimator  # type: ignore[attr-defined]
    assert (svc.kernel, svc.gamma, svc.C) == ("rbf", 0.2, 100)
    want = SVC(C=100, gamma=0.2).fit(x, truth).decision_function(x)
    np.testing.assert_array_equal(made["svc"].outputs(x).values[:, 1], want)
    assert made["svc"].outputs(x).probability is None


def test_linear_is_calibrated_where_plain_logistic_is_not() -> None:
    rng = np.random.default_rng(4)
    x = rng.standard_normal((700, 100))
    truth = (x[:, 0] + rng.standard_normal(700) > 0).astype(int)
    loss = {}
    for name in ("lr", "linear"):
        said = fit_classifier(name, x[:150], truth[:150], np.arange(150), 2).outputs(x[150:])
        loss[name] = truthful.log_loss(truth[150:], said.probability)
    assert loss["linear"] < np.log(2) < loss["lr"]


def test_objects_are_never_on_two_sides() -> None:
    emb = survey(twins=120)
    labelled, _ = gather(
        named(emb), "kind", split=None, positive=None, where=None, group_arcsec=2, seed=3
    )
    assert len(labelled.ids) == N + 120
    assert not len(straddling(labelled.group, labelled.test.astype(str)))
    assert 0.15 < labelled.test.mean() < 0.25
    for _, train, out in folded(labelled, 5, 2, 0):
        assert not np.isin(labelled.group[train], labelled.group[out]).any()
        assert not labelled.test[train].any()
        assert not labelled.test[out].any()
    few, more = (draw_labels(labelled, budget, 0) for budget in (20, 60))
    assert (len(few), len(more)) == (20, 60)
    assert np.isin(few, more).all()
    assert len(np.unique(labelled.group[more])) == 60
    assert budgets_within([3, 10, 10_000], labelled) == [10]


def test_training_rows_at_the_place_of_a_test_row_are_dropped() -> None:
    emb = survey(n=N - 1, twins=40)
    part = emb.catalog["part"].to_pylist()
    want = sum({part[i], part[N - 1 + i]} == {"train", "test"} for i in range(40))
    found = probe(emb, "kind", split="part", **QUICK)
    assert want > 0
    assert found.labelled.left_out == {"of train at the place of a test row": want}
    assert len(found.truth) == part.count("test")
    apart = probe(emb, "kind", split="part", **QUICK, group_arcsec=0)
    assert apart.labelled.left_out == {}


def test_contradicting_labels_of_one_object_are_told() -> None:
    emb = survey(n=100, twins=3)
    kinds = emb.catalog["kind"].to_pylist()
    kinds[100] = "a" if kinds[0] == "b" else "b"
    table = {"kind": kinds, "ra": emb.catalog["ra"], "dec": emb.catalog["dec"]}
    found = probe(Embeddings.from_arrays(emb.vectors[:], emb.ids, table), "kind", **QUICK)
    assert "1 label(s) contradict another row of the same object on the sky" in found.notes
    with pytest.raises(DataError, match="1 of 2 classes among 4 training rows"):
        fit_classifier("lr", np.eye(4), np.zeros(4, dtype=int), np.arange(4), 2)


def test_a_planted_label_is_found_and_a_coin_is_not() -> None:
    emb = survey()
    found = probe(emb, "kind", split="part", **QUICK).best
    cells = found.metrics
    assert cells["accuracy"].value > 0.85
    assert found.cv_accuracy is not None
    assert found.cv_accuracy.lower > 0.8
    assert cells["auc"].lower > 0.85
    coin = probe(emb, "coin", split="part", **QUICK).best
    assert coin.metrics["auc"].lower < 0.5 < coin.metrics["auc"].upper
    assert coin.cv_auc is not None
    assert coin.cv_auc.lower < 0.5 < coin.cv_auc.upper
    again = probe(emb, "kind", split="part", **QUICK).best
    assert again.metrics == cells


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    # Two widths apart: accuracy Phi(1), area Phi(2 / sqrt 2); every third object is there twice.
    held = {"accuracy": 0, "auc": 0, "recall": 0}
    want = {"accuracy": 0.8413, "auc": 0.9214, "recall": 0.8413}
    for seed in range(120):
        rng = np.random.default_rng(seed)
        truth = rng.integers(2, size=90)
        score = rng.standard_normal(90) + 2 * truth - 1
        rows = np.concatenate([np.arange(90), np.arange(0, 90, 3)])
        said = outputs(1 / (1 + np.exp(-2 * score[rows])))
        again = Resamples(group=rows, count=200, seed=seed)
        drawn = replicates(said, truth[rows], again)
        found = estimates(said, truth[rows], rows, drawn, 0.9)
        for name in held:
            held[name] += found[name].lower <= want[name] <= found[name].upper
    assert min(held.values()) >= 0.84 * 120
    assert max(held.values()) <= 0.99 * 120


def test_resamples_draw_as_many_objects_as_there_are() -> None:
    group = np.array([70, 3, 3, 9, 200])
    for weight in Resamples(group=group, count=50, seed=0).blocks():
        assert (weight[:, 1] == weight[:, 2]).all()
        assert (weight[:, [0, 1, 3, 4]].sum(axis=1) == 4).all()


def test_a_faultless_test_set_still_has_an_interval() -> None:
    truth = np.arange(30) % 2
    again = Resamples(group=np.arange(30), count=200, seed=0)
    said = outputs(np.where(truth == 1, 0.9, 0.1))
    found = estimates(said, truth, again.group, replicates(said, truth, again), 0.95)
    for name in ("accuracy", "auc", "recall", "specificity", "balanced"):
        assert found[name].value == found[name].upper == 1
        assert 0.75 < found[name].lower < 0.95


def test_the_interval_over_folds_by_hand() -> None:
    found = cross_validated(np.array([0.8, 0.9, 0.7, 0.8]), 4, 0.95)
    reach = 3.182446 * np.sqrt(np.var([0.8, 0.9, 0.7, 0.8], ddof=1) * (1 / 4 + 1 / 3))
    assert found.value == pytest.approx(0.8)
    assert found.lower == pytest.approx(0.8 - reach, abs=1e-6)


def test_every_classifier_on_three_classes() -> None:
    emb = survey(3, n=150, classes="abc")
    found = probe(emb, "kind", split="part", **{**QUICK, "folds": 0, "classifiers": CLASSIFIERS})
    assert [score.classifier for score in found.scores] == list(CLASSIFIERS)
    for score in found.scores:
        assert score.metrics["accuracy"].value > 0.7
        assert "recall" not in score.metrics
        assert score.cv_accuracy is None
        assert score.confusion.sum() == len(found.truth)
        assert np.trace(score.confusion) / len(found.truth) == score.metrics["accuracy"].value
    assert figures_probe.probe_roc(found).get_title("left").endswith("against the rest")
    figures_probe.probe_confusion(found)
    assert np.isnan(found.table["recall"].to_numpy(zero_copy_only=False).astype(float)).all()


def test_several_embeddings_are_matched_and_told_apart() -> None:
    good = survey()
    noise = np.random.default_rng(9).standard_normal((N, 6))
    order = np.random.default_rng(1).permutation(N)[: N - 20]
    poor = Embeddings.from_arrays(noise[order], [f"s{i}" for i in order])
    found = probe({"good": good, "poor": poor}, "kind", split="part", **QUICK)
    assert found.labelled.left_out == {"not in every embedding": 20}
    (row,) = found.comparisons.to_pylist()
    assert (row["one"], row["other"]) == ("good", "poor")
    assert row["accuracy_difference_lower"] > 0.1
    assert row["auc_difference_lower"] > 0.1
    right = [s.outputs.predicted == found.truth for s in found.scores]
    assert (row["only_one_right"], row["only_other_right"], row["p"]) == mcnemar(*right)
    assert row["p_holm"] == row["p"] < 0.001
    assert found.score("lr", "poor").metrics["auc"].value < 0.7
    with pytest.raises(UnknownName, match="unknown embedding 'goood'"):
        found.score("lr", "goood")


def test_rows_without_label_vector_or_side_are_counted() -> None:
    emb = survey()
    x = np.array(emb.vectors[:])
    x[5] = np.nan
    kind = emb.catalog["kind"].to_pylist()
    part = emb.catalog["part"].to_pylist()
    kind[7], kind[8], part[9] = None, "", "validate"
    catalog = emb.catalog.set_column(1, "kind", pa.array(kind)).set_column(2, "part", [part])
    blank = Statistics(mean=np.zeros(6), scale=np.ones(6), norms=np.zeros((N, 2)))
    holed = Embeddings(Vectors([x]), catalog, blank)
    found = probe(holed, "kind", split="part", where="id <> 's1'", **QUICK)
    assert found.labelled.left_out == {
        "outside the condition": 1,
        "without a label": 2,
        "neither train nor test": 1,
        "with NaN among the numbers": 1,
    }


def test_few_labels_know_less() -> None:
    settings = {**QUICK, "folds": 0, "budget": [10, 100], "draws": 8}
    found = probe(survey(1.5, dim=20, n=600), "kind", split="part", **settings)
    rows = found.curves.to_pylist()
    assert [row["labels"] for row in rows] == [10, 100, 450]
    assert rows[0]["accuracy"] < rows[1]["accuracy"] < rows[2]["accuracy"] + 0.02
    assert rows[2]["accuracy"] == found.best.metrics["accuracy"].value
    for row in rows:
        assert row["accuracy_lower"] < row["accuracy"] < row["accuracy_upper"]
    figures_probe.probe_labels(found, "auc")


def test_components_come_from_training_rows_alone() -> None:
    x = np.random.default_rng(0).standard_normal((50, 30)).astype(np.float32)
    scaling = Scaling.of(x, 5)
    z = scaling.apply(x)
    np.testing.assert_allclose(z.mean(0), 0, atol=1e-9)
    np.testing.assert_allclose(z.std(0), 1)
    np.testing.assert_allclose(np.cov(z.T, ddof=0), np.eye(5), atol=1e-6)
    tall = Scaling.of(x[:, :10], 5)
    values = np.linalg.svd(x[:, :10] - x[:, :10].mean(0, dtype=float), compute_uv=False)
    np.testing.assert_allclose(tall.scale, values[:5] / np.sqrt(50), rtol=1e-5)


@pytest.mark.parametrize(
    ("settings", "kind", "said"),
    [
        ({"label": "knd"}, UnknownName, "unknown column 'knd'.*kind"),
        ({"split": "prt"}, UnknownName, "unknown column 'prt'"),
        ({"split": "coin"}, UsageError, "no train and no test .it holds h, t.; expected"),
        ({"positive": "z"}, UnknownName, "unknown positive class 'z'"),
        ({"where": "kind='a'"}, DataError, "all a .*expected at least two classes"),
        ({"where": "id='nobody'"}, DataError, "0 labelled rows, none"),
        ({"folds": 200}, DataError, "class [ab] has .* for 200 folds; expected.*--folds"),
        ({"where": "kind='b' or id='s0' or id='s3'"}, DataError, "class a has . t.* row"),
        ({"folds": 1}, UsageError, "1 folds; expected at least 2, or 0"),
        ({"classifiers": ["lgr"]}, UnknownName, "unknown classifier 'lgr'"),
        ({"classifiers": []}, UsageError, "no classifier; expected some of knn"),
        ({"bootstrap": 5}, UsageError, "at least 100"),
        ({"budget": [0]}, UsageError, "budget .0."),
        ({"level": 95}, UsageError, "level 95"),
        ({"repeats": 0}, UsageError, "0 repeats"),
    ],
)
def test_bad_input(settings: dict[str, Any], kind: type[Exception], said: str) -> None:
    label = settings.pop("label", "kind")
    with pytest.raises(kind, match=said):
        probe(survey(), label, **{**QUICK, "split": "part", **settings})


def test_positive_class_and_conflicting_labels() -> None:
    emb = survey()
    first = probe(emb, "kind", split="part", positive="a", **QUICK)
    second = probe(emb, "kind", split="part", **QUICK)
    assert (first.classes, second.classes) == (("b", "a"), ("a", "b"))
    one, other = first.best.metrics, second.best.metrics
    assert one["recall"].value == other["specificity"].value
    assert one["auc"].value == pytest.approx(other["auc"].value, abs=1e-3)
    with pytest.raises(UsageError, match="goes with two classes; label 'kind' has 3"):
        probe(survey(classes="abc"), "kind", positive="a", **QUICK)
    kinds = emb.catalog["kind"].to_pylist()
    kinds[3] = "a" if kinds[3] == "b" else "b"
    wrong = Embeddings.from_arrays(emb.vectors[:], emb.ids, {"kind": kinds})
    with pytest.raises(Mismatch, match="label 'kind' of 's3' is . in one embedding and"):
        probe([emb, wrong], "kind", **QUICK)
    with pytest.raises(UsageError, match="no embedding"):
        probe([], "kind")
    assert check_classifiers(["lr", "lr"]) == ("lr",)


@pytest.mark.parametrize("classifier", LINEAR)
@pytest.mark.parametrize("classes", ["ab", "abc"])
def test_a_kept_probe_says_the_same(classifier: str, classes: str, tmp_path: Path) -> None:
    emb = survey(classes=classes, n=200)
    found = probe(emb, "kind", split="part", **{**QUICK, "classifiers": [classifier], "folds": 0})
    kept = found.fit_final(classifier)
    said = predict(emb, kept)
    test = found.labelled.test
    rows = [emb.index[str(name)] for name in found.labelled.ids[test]]
    got = np.array(said.table["predicted"].to_pylist())[rows]
    want = np.array(found.classes)[found.best.outputs.predicted]
    assert (got == want).all()
    chance = np.stack([said.table[f"p_{c}"].to_numpy() for c in found.classes], axis=1)
    np.testing.assert_allclose(chance[rows], found.best.outputs.probability, atol=1e-7)
    assert sum(said.table["trained"].to_pylist()) == (~test).sum()
    assert isinstance(kept.linear, Linear)


def test_drift_is_noticed_and_sameness_not_mistaken_for_it() -> None:
    emb = survey(n=2500, seed=1)
    found = probe(emb, "kind", split="part", **{**QUICK, "folds": 0})
    kept = found.fit_final("lr")
    new = survey(n=2500, seed=2)
    fresh = Embeddings.from_arrays(new.vectors[:], [f"n{i}" for i in range(2500)])
    said = predict(fresh, kept)
    assert said.drift is not None
    assert said.drift.verdict == "same"
    assert said.warning is None
    moved = Embeddings.from_arrays(new.vectors[:] + 2 * np.eye(6)[:1], fresh.ids)
    assert "distributed otherwise" in str(predict(moved, kept).warning)
    few = Embeddings.from_arrays(new.vectors[:5], [f"n{i}" for i in range(5)])
    assert "fewer than 20 new objects" in predict(few, kept).summary


def test_what_cannot_be_kept() -> None:
    found = probe(survey(n=80), "kind", split="part", **{**QUICK, "classifiers": ["knn", "lr"]})
    with pytest.raises(UsageError, match="knn cannot be kept: only linear.*lr, lda, linear"):
        found.fit_final("knn")
    with pytest.raises(UnknownName, match="unknown classifier 'lda'"):
        found.fit_final("lda")
    kept = found.fit_final("lr")
    with pytest.raises(Mismatch, match="vectors of 9 numbers; the probe expects 6"):
        predict(survey(dim=9), kept)


# Several embeddings side by side.


def halves(n: int = N, wide: int = 30) -> dict[str, Embeddings]:
    """One class of three is told by one embedding, the others by a longer one; other orders."""
    rng = np.random.default_rng(4)
    kind = rng.integers(3, size=n)
    short, long = rng.standard_normal((n, 4)), 5 * rng.standard_normal((n, wide))
    short[:, 0] += 3 * (kind == 0)
    long[:, 0] += 15 * (kind == 1)
    table = {
        "kind": np.array(list("abc"), dtype=object)[kind],
        "part": np.where(np.arange(n) % 3 == 0, "test", "train"),
    }
    names = np.array([f"s{i}" for i in range(n)])
    order = rng.permutation(n)
    return {
        "short": Embeddings.from_arrays(short, names, table),
        "long": Embeddings.from_arrays(long[order], names[order]),
    }


def side_by_side(both: dict[str, Embeddings]) -> tuple[np.ndarray, np.ndarray]:
    """The vectors of each, in the order of the first."""
    short, long = both.values()
    return np.array(short.vectors[:]), long.vectors[[long.index[str(i)] for i in short.ids]]


def test_blocks_weigh_alike_whatever_their_length() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((200, 12)) * rng.uniform(1, 9, 12) + 5
    x[:, 11] = 3.0  # never varies, and so weighs nothing
    z = Scaling.of(x, None, (4, 8)).apply(x)
    lengths = [(part**2).sum(axis=1).mean() for part in (z[:, :4], z[:, 4:])]
    assert lengths[0] == pytest.approx(lengths[1]) == pytest.approx(11 / 2)
    plain = Scaling.of(x, None).apply(x)
    np.testing.assert_allclose(z[:, 4:], plain[:, 4:] * np.sqrt(11 / 2 / 7))
    np.testing.assert_array_equal(
        Scaling.of(x[:, :10], None, (5, 5)).apply(x[:, :10]), plain[:, :10]
    )


def test_together_is_the_classifier_on_both_blocks() -> None:
    both = halves()
    found = probe(both, "kind", split="part", together=True, **QUICK)
    assert [source.name for source in found.sources] == ["short", "long", "short + long"]
    joined = found.score("lr", "short + long")
    assert joined.dim == 34
    truth = np.array(both["short"].catalog["kind"].to_pylist())
    test = np.array(both["short"].catalog["part"].to_pylist()) == "test"
    blocks = []
    for block in side_by_side(both):
        scaled = StandardScaler().fit(block[~test]).transform(block)
        blocks.append(scaled * np.sqrt(17 / block.shape[1]))
    x = np.hstack(blocks)
    want = LogisticRegression(max_iter=1000, tol=1e-8).fit(x[~test], truth[~test])
    np.testing.assert_allclose(joined.outputs.probability, want.predict_proba(x[test]), atol=1e-4)
    # Each alone cannot tell two of the classes apart; the comparisons say so.
    rows = {(row["one"], row["other"]): row for row in found.comparisons.to_pylist()}
    assert set(rows) == {
        ("short + long", "short"), ("short + long", "long"), ("short", "long")
    }  # fmt: skip
    assert rows["short + long", "short"]["accuracy_difference_lower"] > 0
    assert rows["short + long", "long"]["auc_difference_lower"] > 0
    assert found.best is joined


def test_trees_and_the_discriminant_do_not_see_the_weights() -> None:
    both = halves()
    settings = {**QUICK, "classifiers": ["lda", "ext", "knn"], "folds": 0}
    together = probe(both, "kind", split="part", together=True, **settings)
    short = both["short"]
    whole = Embeddings.from_arrays(np.hstack(side_by_side(both)), short.ids, short.catalog)
    plain = probe({"whole": whole}, "kind", split="part", **settings)
    for name, same in (("lda", True), ("ext", True), ("knn", False)):
        one = together.score(name, "short + long").outputs.values
        other = plain.score(name).outputs.values
        assert np.allclose(one, other, atol=1e-9) is same, name


def test_together_takes_rows_that_are_in_all() -> None:
    both = halves()
    long = both["long"]
    few = Embeddings.from_arrays(
        np.concatenate([long.vectors[:][:-10], np.ones((3, 30))]),
        [*long.ids[:-10], "n1", "n2", "n3"],
    )
    found = probe(
        {"short": both["short"], "few": few}, "kind", split="part", together=True, **QUICK
    )
    assert found.labelled.left_out == {"not in every embedding": 10}
    assert "3 rows of few are not in short: left out" in found.notes
    assert "10 not in every embedding" in report_probe.describe(found)
    with pytest.raises(UsageError, match="one embedding together; expected two"):
        probe(both["short"], "kind", together=True, **QUICK)


def test_a_joined_probe_is_kept_and_applied(tmp_path: Path) -> None:
    both = halves()
    settings = {**QUICK, "classifiers": ["lr", "lda"], "folds": 0}
    found = probe(both, "kind", split="part", together=True, **settings)
    for classifier in ("lr", "lda"):
        kept = found.fit_final(classifier, "short + long")
        assert [part.dim for part in kept.parts] == [4, 30]
        said = predict(list(both.values()), kept)
        test = found.labelled.test
        chance = np.stack([said.table[f"p_{c}"].to_numpy() for c in "abc"], axis=1)[test]
        want = found.score(classifier, "short + long").outputs.probability
        np.testing.assert_allclose(chance, want, atol=1e-7)
        assert sum(said.table["trained"].to_pylist()) == (~test).sum()
    fewer = Embeddings.from_arrays(both["long"].vectors[:][:-25], both["long"].ids[:-25])
    said = predict([both["short"], fewer], kept)
    assert (len(said.table), said.absent) == (N - 25, 25)
    assert "25 not in every embedding: left out" in said.summary
    wanted = predict(list(both.values()), kept).table
    assert said.table["predicted"].to_pylist() == [
        row["predicted"] for row in wanted.to_pylist() if row["id"] in fewer.index
    ]
    with pytest.raises(Mismatch, match=r"fitted on vectors of .* \+ .*; these are of"):
        predict(both["short"], kept)
    strangers = Embeddings.from_arrays(np.ones((5, 30)), [f"x{i}" for i in range(5)])
    with pytest.raises(DataError, match="no object asked for is in every embedding"):
        predict([both["short"], strangers], kept)


def test_predictions_of_some_rows() -> None:
    emb = survey()
    kept = probe(emb, "kind", split="part", **{**QUICK, "folds": 0}).fit_final("lr")
    whole, some = predict(emb, kept), predict(emb, kept, where="ra < 13 and part = 'test'")
    rows = [i for i, row in enumerate(emb.catalog.to_pylist()) if row["ra"] < 13 and i % 4 == 0]
    assert some.table.equals(whole.table.take(rows))
    assert "objects with ra < 13 and part = 'test' by lr" in some.summary
    with pytest.raises(DataError, match="no object fulfils 'ra > 99'"):
        predict(emb, kept, where="ra > 99")
    with pytest.raises(UsageError, match="nonsuch"):
        predict(emb, kept, where="nonsuch > 1")


def peak_of(work: Callable[[], Any]) -> int:
    """Most bytes held at a time beyond those held before."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_one_float64_copy_of_the_training_rows_and_no_more() -> None:
    x = np.random.default_rng(0).standard_normal((60_000, 48), dtype=np.float32)
    truth = (x[:, 0] > 0).astype(np.int64)
    scaling = Scaling.of(x, None, (30, 18))
    z = scaling.apply(x)
    assert peak_of(lambda: Scaling.of(x, None, (30, 18))) < 0.4 * z.nbytes
    assert peak_of(lambda: scaling.apply(x)) < 1.1 * z.nbytes
    # One class at a time.
    assert peak_of(lambda: fit_classifier("lda", z, truth, np.arange(len(x)), 2)) < 1.1 * z.nbytes


# Killed, and repeated.


def test_fits_side_by_side_are_those_of_one_thread() -> None:
    emb = survey()
    settings = {**QUICK, "classifiers": CLASSIFIERS, "folds": 0}
    before = list(warnings.filters)
    one, many = (
        probe({"a": emb, "b": survey()}, "kind", split="part", **settings, jobs=n) for n in (1, 3)
    )
    assert warnings.filters == before
    for name in ("table", "comparisons", "curves", "predictions"):
        assert getattr(one, name).equals(getattr(many, name)), name
    for own, other in zip(one.scores, many.scores, strict=True):
        np.testing.assert_array_equal(own.outputs.values, other.outputs.values)


class Killed(BaseException):
    """What a test stops a run with."""


def test_a_killed_probe_goes_on_to_the_same_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    emb, out = survey(), tmp_path / "out"
    settings = {**QUICK, "classifiers": ["lr", "svc", "ext"], "budget": [20], "draws": 2}
    want = probe(emb, "kind", split="part", **settings)
    settings["jobs"] = 1  # so that what is made before the seventh is kept
    fit, made = probe_run.fit_classifier, []

    def counted(name: str, *rest: Any, **more: Any) -> Any:
        if len(made) == 7:
            raise Killed
        made.append(name)
        return fit(name, *rest, **more)

    monkeypatch.setattr(probe_run, "fit_classifier", counted)
    with pytest.raises(Killed):
        probe(emb, "kind", split="part", out=out, **settings)
    for thread in threading.enumerate():
        if thread.name == "beside":  # it may have begun another fit
            thread.join(30)
    assert not (out / "manifest.json").exists()
    with pytest.raises(
        OutputExists, match="unfinished run with other settings .recipe.seed: 0 then, 1"
    ):
        probe(emb, "kind", split="part", out=out, **settings, seed=1)
    with pytest.raises(UsageError, match="unfinished run"):
        open_probes(out)
    made[:] = [""] * 8  # counts on, kills no more
    found = probe(emb, "kind", split="part", out=out, **settings)
    assert len(made) - 8 == 3 * (3 + 1 + 2) - 7
    for name in ("table", "comparisons", "curves", "predictions"):
        assert getattr(found, name).equals(getattr(want, name)), name
    for one, other in zip(found.scores, want.scores, strict=True):
        np.testing.assert_array_equal(one.outputs.values, other.outputs.values)
    report_probe.save_probe(found, out, [])
    assert Manifest.open(out, "probe").recipe["label"] == "kind"
    assert {path.name for path in out.iterdir()}.isdisjoint({"parts", "journal.jsonl", "run.json"})
    with pytest.raises(OutputExists, match="already holds a finished result"):
        probe(emb, "kind", split="part", out=out, **settings)


@pytest.mark.slow
def test_a_probe_killed_outright_goes_on(embedding: Path, tmp_path: Path) -> None:
    words = [
        "probe", embedding, "--label", "kind", "--split", "part", "--classifiers", "lr,rf",
        "--no-baselines",
        "--budget", "30", "--draws", 2, "--folds", 4, "--repeats", 2, "--quiet",
    ]  # fmt: skip
    assert run(*words, "--out", tmp_path / "whole")[0] == 0
    out = tmp_path / "out"
    code = "from skytwin.cli import main\nmain()"
    started = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, words), "--out", str(out)], start_new_session=True
    )
    journal, until = out / "journal.jsonl", time.monotonic() + 90
    while not (journal.exists() and journal.read_bytes().count(b"\n") > 5):
        assert started.poll() is None
        assert time.monotonic() < until
        time.sleep(0.01)
    os.killpg(started.pid, signal.SIGKILL)
    started.wait()
    assert not (out / "manifest.json").exists()
    assert run(*words, "--out", out)[0] == 0
    for name in ("table", "comparisons", "labels", "test_rows"):
        one, other = (pq.read_table(f / f"{name}.parquet") for f in (out, tmp_path / "whole"))
        assert one.equals(other), name


# From the command line.

app = typer.Typer()
app.command("probe")(probe_command)
app.command("predict")(predict_command)


@pytest.fixture(scope="module")
def embedding(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Blobs, the first of which lie on a brighter background; two encoders."""
    folder = tmp_path_factory.mktemp("probe")
    images = [raw(blob(i, 24) + 0.5 * (i < 50)) for i in range(120)]
    rng = np.random.default_rng(0)
    table = {
        "kind": np.where(np.arange(120) < 50, "bright", "dark"),
        "part": np.where(rng.random(120) < 0.3, "test", "train"),
    }
    cutouts = ingest_source(
        MemorySource(images, table=pa.table(table)), folder / "cutouts", quiet=True
    )
    for dim in (8, 4):
        encoder = open_encoder(f"pca:{dim}", cutouts_like=cutouts, stretch="range:0,8")
        embed_cutouts(cutouts, encoder, folder / f"emb{dim}", quiet=True)
    return folder / "emb8"


def run(*words: object) -> tuple[int, str]:
    """Exit code and output; a `SkytwinError` as the real command shows it."""
    ended = CliRunner().invoke(app, [*map(str, words)])
    if isinstance(ended.exception, SkytwinError):
        return ended.exception.exit_code, str(ended.exception)
    if ended.exception is not None and not isinstance(ended.exception, SystemExit):
        raise ended.exception
    return ended.exit_code, ended.output


SHORT = ["--folds", 3, "--repeats", 1, "--bootstrap", 200, "--draws", 2, "--quiet"]


def test_from_the_command_line(embedding: Path, tmp_path: Path) -> None:
    out, other = tmp_path / "probe", embedding.parent / "emb4"
    code, said = run(
        "probe", embedding, other, "--together", "--label", "kind", "--split", "part",
        "--classifiers",
        "lr,svc", "--budget", "10,30", "--keep", "lr", "--out", out, "--save",
        tmp_path / "t.csv", "--save", tmp_path / "f.png", *SHORT,
    )  # fmt: skip
    assert code == 0, said
    assert "bright or dark (positive)" in said
    assert "baselines: the central 24 x 24 pixels as 24 x 24" in said
    assert "emb8 + emb4 less emb4" in said
    assert "pixels, PCA 64" in said
    assert (tmp_path / "f.png").stat().st_size > 1000
    names = {path.name for path in out.iterdir()}
    assert {f"{n}.{e}" for n in ("scores", "roc", "labels") for e in ("png", "pdf")} <= names
    assert {"table.csv", "comparisons.parquet", "report.txt", "probe-3.json"} <= names
    assert not {name for name in names if name.endswith((".pkl", ".joblib"))}
    assert len(pq.read_table(out / "table.parquet")) == 10
    # The baselines see the planted brightness, too: the pixels hold it.
    assert min(pq.read_table(out / "table.parquet")["auc"].to_pylist()) > 0.6
    assert [len(each.parts) for each in open_probes(out)] == [1, 1, 2]

    for number, words in enumerate(([embedding, other], [other, embedding])):
        saved = tmp_path / f"joined{number}.parquet"
        code, said = run("predict", *words, "--probe", out, "--save", saved)
        assert code == 0, said
    # In whichever order the two are named.
    assert pq.read_table(tmp_path / "joined0.parquet").equals(pq.read_table(saved))
    code, said = run("predict", embedding, embedding, "--probe", out)
    assert (code, "fitted on vectors of pca:8 or pca:4 or pca:8 + pca:4" in said) == (1, True)
    code, said = run("predict", other, "--probe", out, "--where", "kind = 'bright'")
    assert (code, "50 objects with kind = 'bright' by lr" in said) == (0, True)

    code, said = run("predict", other, "--probe", out, "--out", tmp_path / "said")
    assert code == 0, said
    assert "120 objects by lr for kind" in said
    here = pq.read_table(tmp_path / "said" / "predictions.parquet")
    code = (
        "import sys\nfrom skytwin.answers.probe_fit import predict\n"
        "from skytwin.embeddings.table import Embeddings\n"
        "from skytwin.answers.export import write_table\n"
        "write_table(predict(Embeddings.open(sys.argv[1]), sys.argv[2]).table, sys.argv[3], {})\n"
        "assert 'torch' not in sys.modules"
    )  # type: ignore[assignment]
    place = tmp_path / "again.parquet"
    subprocess.run(
        [sys.executable, "-W", "error", "-c", str(code), other, out, place], check=True, timeout=60
    )
    assert pq.read_table(place).equals(here)


def test_bad_calls(embedding: Path, tmp_path: Path) -> None:
    call = ["probe", embedding, "--label", "kind", "--classifiers", "lr", *SHORT]
    code, said = run(*call, "--keep", "lr")
    assert (code, "--out FOLDER" in said) == (2, True)
    code, said = run(*call, "--keep", "svc", "--out", tmp_path / "x")
    assert (code, "svc cannot be kept" in said) == (2, True)
    code, said = run(*call, "--keep", "lda", "--out", tmp_path / "x")
    assert (code, "unknown classifier to keep 'lda'" in said) == (2, True)
    code, said = run(*call, "--budget", "2.5")
    assert (code, "whole numbers" in said) == (2, True)
    assert run(*call, "--no-baselines", "--budget", "none", "--out", tmp_path / "bare")[0] == 0
    code, said = run("predict", embedding, "--probe", tmp_path / "bare")
    assert (code, "keeps no probe; run skytwin probe with --keep" in said) == (2, True)
    code, said = run("predict", embedding, "--probe", embedding)
    assert (code, "expected probe" in said) == (2, True)
    kept = tmp_path / "kept"
    assert run(*call, "--no-baselines", "--keep", "lr", "--out", kept)[0] == 0
    code, said = run("predict", embedding.parent / "emb4", "--probe", kept)
    assert code == 1
    assert "the probe was fitted on vectors of pca" in said


def test_missing_cutouts_are_one_line(embedding: Path, tmp_path: Path) -> None:
    cutouts = embedding.parent / "cutouts"
    cutouts.rename(tmp_path / "moved")
    try:
        emb = Embeddings.open(embedding)
        found = probe(emb, "kind", split="part", **{**QUICK, "baselines": True})
        assert found.notes[-1].startswith("no baselines from pixels: the cutouts of this")
        assert len(found.scores) == 1
    finally:
        (tmp_path / "moved").rename(cutouts)


@pytest.mark.real
@pytest.mark.slow
def test_mirabest_by_its_official_split(made: Path) -> None:
    emb = embedded(made, "object", "mirabest")
    found: Probe = probe(
        emb, "fr", split="split", where="confidence='confident' and fr in ('FRI', 'FRII')",
        classifiers=["lr", "lda", "svc"], folds=5, repeats=1, budget=[100],
    )  # fmt: skip
    assert (int((~found.labelled.test).sum()), len(found.truth)) == (729, 104)
    assert found.score("lr").metrics["accuracy"].value > 0.85
    assert found.score("lda").metrics["auc"].value > 0.93
    # The paper's kernel takes one class for all where vectors are long.
    assert found.score("svc").metrics["accuracy"].value < 0.6
    assert found.score("lr").metrics["auc"].value > found.score("lr", "pixels").metrics["auc"].value
