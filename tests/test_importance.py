"""Importance of components, beside whether anything is predicted at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import r2_score

from command import catalogue, done, images
from command import skytwin as skytwin_command
from durability_verbs import content
from skytwin.answers import importance_forest
from skytwin.answers.figures_importance import importances
from skytwin.answers.importance import importance
from skytwin.answers.importance_forest import grow, permuted
from skytwin.embeddings.table import Embeddings
from skytwin.errors import DataError, UnknownName, UsageError
from stopped import stopped_after

N, DIM = 600, 20


def survey(twins: bool = False) -> Embeddings:
    """A size that hangs on components 3 and 11, and columns that nothing hangs on."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((N, DIM)) + np.arange(DIM)
    size = 2 * x[:, 3] + x[:, 11] ** 2 / 10 + 0.3 * rng.standard_normal(N)
    size[:20] = np.nan
    table = {
        "size": size,
        "noise": rng.standard_normal(N),
        "flat": np.ones(N),
        "few": np.where(np.arange(N) < 10, 1.0, np.nan),
        "kind": ["ab"[i % 2] for i in range(N)],
        "ra": np.linspace(0, 40, N),
        "dec": np.zeros(N),
    }
    if twins:  # pairs of entries at one place, alike in noise
        table["ra"] = np.repeat(np.linspace(0, 40, N // 2), 2)
        table["noise"] = np.repeat(rng.standard_normal(N // 2), 2)
        x = np.repeat(x[: N // 2], 2, axis=0) + 0.01 * rng.standard_normal((N, DIM))
    return Embeddings.from_arrays(x, [f"s{i}" for i in range(N)], table)


def test_planted_components_come_first() -> None:
    found = importance(survey(), "size", batch=200)
    assert set(found.table["component"].to_pylist()[:2]) == {3, 11}
    assert found.predicts
    assert found.lower < found.r2 < found.upper
    assert found.r2 > 0.8
    assert (found.trained, found.tested, found.left_out, found.trees) == (435, 145, 20, 100)
    impurity = found.table["impurity"].to_numpy()
    assert impurity.sum() == pytest.approx(1)
    assert set(np.argsort(-impurity)[:2]) == {0, 1}
    rows = found.table.to_pylist()
    x = np.asarray(survey().vectors)[20:]
    for row in rows[:3]:
        assert row["mean"] == pytest.approx(x[:, row["component"]].mean(), abs=1e-4)
        assert row["sd"] == pytest.approx(x[:, row["component"]].std(), abs=1e-4)
    assert found.summary.startswith("size: R2 0.")
    assert "20 objects without a value left out" in found.summary
    assert found.noise == max(0, -min(row["permutation"] for row in rows))
    assert rows[1]["permutation"] > found.noise
    again = importance(survey(), "size", batch=200)
    assert again.table.equals(found.table)


def test_a_random_target_is_not_predicted() -> None:
    found = importance(survey(), "noise", batch=200)
    assert found.lower < 0
    assert not found.predicts
    assert found.summary.startswith("noise is not predicted: R2 ")
    assert "not predicted" in importances(found).axes[1].get_title(loc="left")


def test_entries_of_one_object_stay_on_one_side() -> None:
    apart = importance(survey(twins=True), "noise", batch=200, trees=40)
    mixed = importance(survey(twins=True), "noise", batch=200, trees=40, group_arcsec=0)
    assert not apart.predicts
    assert mixed.r2 > apart.r2 + 0.2


def test_as_many_trees_as_batches_where_there_are_many_rows() -> None:
    found = importance(survey(), "size", batch=20, trees=5, repeats=1)
    assert found.trees == -(-435 // 20)
    assert importance(survey(), "size", batch=1000, trees=5, repeats=1).trees == 5


def test_fewer_trees_asked_again_give_the_same_as_the_whole_forest() -> None:
    rng = np.random.default_rng(1)
    x = rng.standard_normal((200, 6)).astype(np.float32)
    y = x[:, 0].astype(float) + 0.5 * x[:, 1]
    emb = Embeddings.from_arrays(x, range(200), {"y": y})
    forest = grow(emb.vectors, np.arange(150), y[:150], 12, 60, 0, True)
    test, truth = x[150:], y[150:]
    each = np.stack([tree.tree_.predict(test)[:, 0] for tree in forest.estimators_])
    np.testing.assert_allclose(each.mean(axis=0), forest.predict(test))
    lost = permuted(forest, test, truth, each, 3, seed=4)
    for component in range(6):
        shuffle = np.random.default_rng([4, 2, component])
        for repeat in range(3):
            changed = test.copy()
            changed[:, component] = shuffle.permutation(test[:, component])
            plain = r2_score(truth, forest.predict(test)) - r2_score(truth, forest.predict(changed))
            assert lost[component, repeat] == pytest.approx(plain, abs=1e-9)


def test_bad_input() -> None:
    emb = survey()
    with pytest.raises(UnknownName, match="unknown column 'sizee'; did you mean: size"):
        importance(emb, "sizee")
    with pytest.raises(DataError, match="column 'kind' holds string, not numbers"):
        importance(emb, "kind")
    with pytest.raises(DataError, match="'flat' is 1 for every object"):
        importance(emb, "flat")
    with pytest.raises(DataError, match="10 object.* have a value of 'few'; expected at least 40"):
        importance(emb, "few")
    with pytest.raises(UsageError, match="trees 0; expected at least 1"):
        importance(emb, "size", trees=0)
    with pytest.raises(UsageError, match="seed -1; expected 0 to"):
        importance(emb, "size", seed=-1)
    with pytest.raises(UsageError, match="share 1"):
        importance(emb, "size", test_share=1.0)
    emb.vectors._shards[0][400:, 2] = np.nan
    with pytest.raises(DataError, match="NaN or infinity"):
        importance(emb, "size")


def test_from_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done("ingest", images(tmp_path / "images", 60), "--catalog", catalogue(tmp_path / "c.csv", 60),
         "--out", tmp_path / "cuts", "--quiet")  # fmt: skip
    emb, out = tmp_path / "emb", tmp_path / "found"
    done("embed", tmp_path / "cuts", "--encoder", "pca:6", "--out", emb, "--quiet")
    said = done(
        "importance", emb, "--target", "mag", "--trees", "20", "--out", out,
        "--save", tmp_path / "one.pdf", "--save", tmp_path / "one.csv", "--quiet",
    )  # fmt: skip
    assert said.startswith("mag is not predicted: R2 ")
    assert len(pq.read_table(out / "importance.parquet")) == 6
    assert {"importance.png", "importance.csv", "report.txt", "manifest.json"} <= {
        path.name for path in out.iterdir()
    }
    wrong = skytwin_command("importance", emb, "--target", "kind", "--quiet")
    assert wrong.code == 1
    assert "holds string, not numbers" in wrong.err
    monkeypatch.setattr(importance_forest, "_AT_ONCE", 2)
    again, found = tmp_path / "again", []
    for most in (1, 1, 9):
        with stopped_after(most) as made:
            skytwin_command(
                "importance", emb, "--target", "mag", "--trees", "20", "--out", again, "--quiet"
            )
        found += made
    assert found == [("shuffle", "0-2"), ("shuffle", "2-4"), ("shuffle", "4-6")]
    assert content(again) == content(out)
