"""Maps: layout, how far they can be trusted, and more objects placed on them."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import openTSNE
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.spatial.distance import cdist
from sklearn.decomposition import PCA
from sklearn.manifold import trustworthiness
from sklearn.metrics import silhouette_score

from command import catalogue, done, images
from command import skytwin as skytwin_command
from durability_verbs import content
from skytwin.answers import figures_map, maps_layout
from skytwin.answers.maps import Map, make_map
from skytwin.answers.maps_layout import nearest_scores
from skytwin.answers.maps_place import open_map, place, stored
from skytwin.answers.maps_quality import measure_quality
from skytwin.answers.maps_space import Variance
from skytwin.embeddings.table import Embeddings
from skytwin.errors import DataError, Mismatch, UnknownName, UsageError
from skytwin.report_files import resumed
from skytwin.report_map import Look, save_map
from stopped import stopped_after

N, GROUPS, DIM = 240, 4, 12


def vectors(seed: int = 0, count: int = N) -> tuple[np.ndarray, np.ndarray]:
    """Four clouds far apart, and which one each is in."""
    middle = np.random.default_rng(7).standard_normal((GROUPS, DIM)) * 6
    group = np.arange(count) % GROUPS
    return middle[group] + np.random.default_rng(seed).standard_normal((count, DIM)), group


def survey(seed: int = 0, count: int = N, name: str = "s") -> Embeddings:
    x, group = vectors(seed, count)
    size = np.where(np.arange(count) % 10 == 0, np.nan, x[:, 0])
    table: dict[str, Any] = {
        "kind": pa.array([None if i % 20 == 0 else "abcd"[g] for i, g in enumerate(group)]),
        "many": [f"type{i % 12}" for i in range(count)],
        "size": size,
        "group": group,
        "empty": np.full(count, np.nan),
        "x": np.arange(count),
    }
    return Embeddings.from_arrays(x, [f"{name}{i}" for i in range(count)], table)


@pytest.fixture(scope="module")
def tsne() -> Map:
    return make_map(survey(), perplexity=20)


def test_the_same_seed_gives_the_same_map_and_planted_groups_separate(tsne: Map) -> None:
    again = make_map(survey(), perplexity=20)
    np.testing.assert_array_equal(tsne.xy, again.xy)
    assert tsne.xy.dtype == np.float32
    assert not np.allclose(tsne.xy, make_map(survey(), perplexity=20, seed=1).xy)
    assert silhouette_score(tsne.xy, vectors()[1]) > 0.6
    np.testing.assert_array_equal(tsne.ids, survey().ids)
    quality = tsne.quality
    assert quality.trustworthiness > 0.95
    assert quality.continuity > quality.chance[1] + 0.3
    assert quality.preservation > quality.components[2]
    assert "t-SNE, standardized metric, 12 principal components" in tsne.summary
    assert "240 objects among 240" in tsne.summary


@pytest.mark.parametrize("metric", ["standardized", "cosine", "euclidean"])
def test_quality_is_that_of_scikit_learn(metric: str) -> None:
    x = vectors()[0]
    found = make_map(survey(), "pca", metric=metric)
    seen = (x - x.mean(0)) / x.std(0) if metric == "standardized" else x
    if metric != "euclidean":
        seen = seen / np.linalg.norm(seen, axis=1, keepdims=True)
    assert found.quality.trustworthiness == pytest.approx(
        trustworthiness(seen, found.xy, n_neighbors=15), abs=1e-4
    )
    assert found.quality.continuity == pytest.approx(
        trustworthiness(found.xy, seen, n_neighbors=15), abs=1e-4
    )
    near = [
        np.argsort(cdist(a, a) + np.diag([np.inf] * N), axis=1)[:, :15] for a in (seen, found.xy)
    ]
    kept = np.mean([len(np.intersect1d(a, b)) / 15 for a, b in zip(*near, strict=True)])
    assert found.quality.preservation == pytest.approx(kept, abs=1e-3)
    own = PCA(2).fit(seen)
    np.testing.assert_allclose(
        np.abs(found.xy), np.abs(own.transform(seen)), atol=1e-4 * np.abs(seen).max()
    )
    np.testing.assert_allclose(found.space.share[:2], own.explained_variance_ratio_, rtol=1e-6)


def test_chance_is_what_random_places_give() -> None:
    x = vectors()[0]
    rng = np.random.default_rng(5)
    drawn = [measure_quality(lambda r: x[r], rng.random((N, 2)), x[:, :2], DIM) for _ in range(5)]
    for which, name in enumerate(("trustworthiness", "continuity", "preservation")):
        mean = np.mean([getattr(each, name) for each in drawn])
        assert mean == pytest.approx(drawn[0].chance[which], abs=0.01)


@pytest.mark.parametrize("count", [300, 30])
def test_variance_of_components_is_that_of_scikit_learn(count: int) -> None:
    x = np.random.default_rng(2).standard_normal((count, 40)) * np.linspace(1, 30, 40) + 100
    found = make_map(Embeddings.from_arrays(x, range(count)), "pca", pca=5).variance
    z = (x - x.mean(0)) / x.std(0)
    for given, shares in ((z, found.standardized), (x, found.raw)):
        expected = PCA().fit(given).explained_variance_ratio_
        np.testing.assert_allclose(shares, expected[: len(shares)], atol=1e-6)
        for share in (0.9, 0.95, 0.99):
            needed = int(np.searchsorted(np.cumsum(expected), share)) + 1
            assert Variance.needed(shares, share) == needed
    assert len(found.table) == 6


def test_neighbours_are_exact_and_never_oneself() -> None:
    x = np.random.default_rng(0).standard_normal((200, 5)).astype(np.float32)
    x[50:60] = x[0]
    rows, apart = nearest_scores(x, 5)
    assert (rows != np.arange(200)[:, None]).all()
    full = cdist(x, x) + np.diag([np.inf] * 200)
    np.testing.assert_allclose(np.sort(full, axis=1)[:, :5], apart, atol=1e-3)


def test_approximate_neighbours_of_many_objects_are_nearly_exact() -> None:
    x = survey(count=600).vectors[:]
    exact = nearest_scores(x, 30)[0]
    near = maps_layout._annoy(x, 30, 0, threads=1, quiet=True)[0]
    shared = [len(np.intersect1d(a, b)) for a, b in zip(exact, near, strict=True)]
    assert np.mean(shared) > 29


def saved(found: Map, folder: Path, embeddings: Embeddings) -> Path:
    with resumed(folder, "map", stored(found)[0], {"embeddings": found.origin.parent}) as run:
        save_map(found, embeddings, Look(color=["kind", "x"]), None, run, [])
    return folder


@pytest.mark.parametrize("method", ["tsne", "pca", pytest.param("umap", marks=pytest.mark.slow)])
def test_placed_objects_land_near_their_own(method: str, tmp_path: Path) -> None:
    emb = survey()
    found = make_map(emb, method, perplexity=20)
    width = found.xy.std()
    twins = Embeddings.from_arrays(
        emb.vectors[:60] + np.float32(1e-4), [f"twin{i}" for i in range(60)]
    )
    placed = place(found, twins)
    assert list(placed.nearest) == [f"s{i}" for i in range(60)]
    assert np.median(np.linalg.norm(placed.xy - found.xy[:60], axis=1)) < 0.1 * width
    others = place(found, survey(seed=9, name="new"))
    apart = cdist(others.xy, found.xy)
    assert (vectors()[1][apart.argmin(axis=1)] == vectors()[1]).mean() > 0.97
    assert others.farther_than.mean() < 0.7
    reopened = open_map(saved(found, tmp_path / "map", emb))
    again = place(reopened, twins)
    np.testing.assert_array_equal(placed.xy, again.xy)
    np.testing.assert_array_equal(placed.table["farther_than"], again.table["farther_than"])
    assert reopened.summary == found.summary
    assert "objects placed on a map of 240" in placed.summary


def test_what_is_like_nothing_on_the_map_is_told(tsne: Map) -> None:
    odd = Embeddings.from_arrays(
        np.random.default_rng(1).standard_normal((3, DIM)) * [[90.0], [0.1], [90.0]], "abc"
    )
    placed = place(tsne, odd)
    assert (placed.farther_than == 1).all()
    assert "3 (100.0%) lie farther" in placed.summary
    legend = figures_map.map_placed(placed).get_legend()
    said = [text.get_text() for text in legend.get_texts()]
    assert said == ["0 placed", "3 unlike all on the map"]


def test_the_folder_holds_no_pickle(tsne: Map, tmp_path: Path) -> None:
    folder = saved(tsne, tmp_path / "map", survey())
    names = {path.name for path in folder.iterdir()}
    assert {"map.parquet", "map_kind.png", "map_density.pdf", "model", "report.txt"} <= names
    for file in (folder / "model").iterdir():
        assert file.suffix == ".npy"
        np.load(file, allow_pickle=False)
    table = pq.read_table(folder / "map.parquet")
    assert table.column_names == ["id", "x", "y", "kind", "x_catalog"]
    assert table["x_catalog"].to_pylist() == list(range(N))


def test_only_some_objects(tsne: Map) -> None:
    emb = survey()
    some = make_map(emb, "pca", where="kind = 'a'")
    assert set(some.column("kind").to_pylist()) == {"a"}
    assert some.ids.tolist() == [f"s{i}" for i in range(0, N, 4) if i % 20]
    assert some.to_pandas().shape[0] == len(some)


def test_pictures(tsne: Map) -> None:
    ax = figures_map.map_scatter(tsne, "kind")
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert texts == ["b (60)", "c (60)", "d (60)", "a (48)", "no value (12)"]
    more = figures_map.map_scatter(tsne, "many").get_legend().get_texts()
    assert [text.get_text() for text in more][-1] == "5 more (100)"
    assert figures_map.map_scatter(tsne, "group").get_legend() is not None
    ax = figures_map.map_scatter(tsne, "size")
    bar = ax.figure.axes[1]
    known = tsne.column("size").to_numpy()
    low, high = np.nanquantile(known, [0.02, 0.98])
    assert bar.get_ylim() == pytest.approx((low, high))
    assert "24 without a value" in ax.texts[0].get_text()
    assert figures_map.map_density(tsne).figure.axes[1].get_ylabel() == "objects per cell"
    with pytest.raises(UnknownName, match="unknown column 'sise'; did you mean: size"):
        figures_map.map_scatter(tsne, "sise")
    with pytest.raises(DataError, match="no value for any object"):
        figures_map.map_scatter(tsne, "empty")


def test_nodes_take_the_object_nearest_to_the_middle_of_each_cell() -> None:
    xy = np.array([[0.0, 0.0], [0.4, 0.6], [0.5, 0.5], [3.0, 1.0], [2.4, 0.4], [2.2, 0.1]])
    rows, column, row, shape = figures_map._nodes(xy, 3)
    assert shape == (3, 1)
    assert dict(zip(column.tolist(), rows.tolist(), strict=True)) == {0: 2, 2: 4}
    assert row.tolist() == [0, 0]


def test_bad_input(tsne: Map, monkeypatch: pytest.MonkeyPatch) -> None:
    emb = survey()
    with pytest.raises(UnknownName, match="unknown method 'tsnee'; did you mean: tsne"):
        make_map(emb, "tsnee")
    with pytest.raises(UnknownName, match="unknown metric of a map 'whitened'"):
        make_map(emb, metric="whitened")
    with pytest.raises(UsageError, match="perplexity 90 needs at least 271; lower --perplexity to"):
        make_map(emb, perplexity=90)
    with pytest.raises(UsageError, match="perplexity 0; expected 1 or more"):
        make_map(emb, perplexity=0)
    with pytest.raises(UsageError, match="perplexity inf; expected"):
        make_map(emb, perplexity=np.inf)
    with pytest.raises(UsageError, match="seed -1; expected 0 to"):
        make_map(emb, seed=-1)
    with pytest.raises(UsageError, match="1 object"):
        make_map(emb, "pca", where="kind = 'a' and x = 4")
    with pytest.raises(UsageError, match="pca 1; expected at least 1 and 2"):
        make_map(emb, pca=1)
    with pytest.raises(UsageError, match="neighbours needs at least 301"):
        make_map(emb, "umap", neighbours=300)
    with pytest.raises(DataError, match="vectors are all alike"):
        make_map(Embeddings.from_arrays(np.ones((200, 3)), range(200)))
    with pytest.raises(DataError, match="vary in 1 direction"):
        line = np.outer(np.arange(200.0), [1, 2, 3])
        make_map(Embeddings.from_arrays(line, range(200)), "pca", metric="euclidean")
    hurt = survey()
    hurt.vectors._shards[0][3, 2] = np.nan
    with pytest.raises(DataError, match=r"1 vector\(s\) hold NaN or infinity"):
        make_map(hurt)
    with pytest.raises(Mismatch, match="vectors of 3 numbers; the map is of 12"):
        place(tsne, Embeddings.from_arrays(np.eye(3), "abc"))
    monkeypatch.setattr(emb, "encoder_fingerprint", "another")
    with pytest.raises(Mismatch, match="made by another encoder or with other settings"):
        place(tsne, emb)
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(UsageError, match=r"install skytwin\[umap\] or choose --method pca"):
        make_map(survey(), "umap")


@pytest.mark.slow
@pytest.mark.parametrize("gradient", ["bh", "fft"])
def test_stopped_anywhere_it_goes_on_to_the_same_map(
    gradient: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "vectors.npy", survey().vectors[:])
    emb = tmp_path / "emb"
    done("adopt", tmp_path / "vectors.npy", "--out", emb, "--quiet")
    monkeypatch.setattr(maps_layout, "_WORTH", N)
    plain = openTSNE.TSNEEmbedding
    monkeypatch.setattr(
        openTSNE, "TSNEEmbedding", partial(plain, negative_gradient_method=gradient)
    )
    words = ("map", emb, "--perplexity", "20", "--quiet", "--out")
    done(*words, tmp_path / "whole")
    found = []
    for most in (0, 1, 2, 1, 9):  # in the early part, at its end, in the late one
        with stopped_after(most) as made:
            skytwin_command(*words, tmp_path / "again")
        found += made
    assert found == [("neighbours",), *(("t-SNE", str(end)) for end in range(125, 751, 125))]
    assert content(tmp_path / "again") == content(tmp_path / "whole")


def test_from_the_command_line(tmp_path: Path) -> None:
    done("ingest", images(tmp_path / "images"), "--catalog", catalogue(tmp_path / "c.csv"),
         "--out", tmp_path / "cuts", "--quiet")  # fmt: skip
    emb, out = tmp_path / "emb", tmp_path / "map"
    done("embed", tmp_path / "cuts", "--encoder", "pca:6", "--out", emb, "--quiet")
    said = done(
        "map", emb, "--perplexity", "10", "--color", "kind", "--color", "mag", "--color", "density",
        "--thumbnails", "5", "--out", out, "--save", tmp_path / "one.png",
        "--save", tmp_path / "one.vot", "--quiet",
    )  # fmt: skip
    assert "map of 40 objects, 6 numbers each; t-SNE" in said
    assert (tmp_path / "one.png").stat().st_size > 1000
    names = {path.name for path in out.iterdir()}
    assert {f"map_{name}.png" for name in ("kind", "mag", "density", "images")} <= names
    assert pq.read_table(out / "map.parquet").column_names == ["id", "x", "y", "kind", "mag"]
    said = done("map", emb, "--onto", out, "--out", tmp_path / "more", "--quiet")
    assert "40 objects placed on a map of 40" in said
    assert {"placed.png", "placed.csv"} <= {path.name for path in (tmp_path / "more").iterdir()}
    for words, said in (
        (("--color", "knd"), "unknown column 'knd'; did you mean: kind"),
        ((), "perplexity 30 needs at least 91; lower --perplexity to 13"),
        (("--method", "som"), "unknown method 'som'; known: tsne, umap, pca"),
        (("--onto", emb), "holds embeddings; expected map"),
        (("--onto", out, "--color", "mag"), "do not go with --onto"),
        (("--thumbnails", "1"), "--thumbnails 1; expected 2 to 60, or 0 for none"),
        (("--perplexity", "9", "--out", out), "already holds a finished result"),
    ):
        wrong = skytwin_command("map", emb, *words, "--quiet")
        assert wrong.code == 2
        assert said in wrong.err
    done("embed", tmp_path / "cuts", "--encoder", "pca:5", "--out", tmp_path / "other", "--quiet")
    wrong = skytwin_command("map", tmp_path / "other", "--onto", out)
    assert wrong.code == 1
    assert "vectors of 5 numbers; the map is of 6" in wrong.err


@pytest.mark.slow
def test_umap() -> None:
    found = make_map(survey(), "umap")
    np.testing.assert_array_equal(found.xy, make_map(survey(), "umap").xy)
    assert silhouette_score(found.xy, vectors()[1]) > 0.6
    assert "UMAP, standardized metric" in found.summary
