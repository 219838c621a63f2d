"""Sets too large to be held: samples of them, blocks of them, and a limit on memory."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.stats import rankdata
from sklearn.neighbors import NearestNeighbors

from skytwin.answers import maps_place, outliers_fit
from skytwin.answers.maps import make_map
from skytwin.answers.maps_place import place
from skytwin.answers.outliers import Outliers, outliers
from skytwin.answers.outliers_check import check_scores
from skytwin.answers.outliers_sets import Part, Scored
from skytwin.answers.outliers_settings import OutlierSettings
from skytwin.answers.probe_metrics import Outputs, Resamples, estimates, replicates
from skytwin.answers.resume import Steps
from skytwin.embeddings.neighbours_many import nearest_many
from skytwin.embeddings.neighbours_quick import nearest_of
from skytwin.embeddings.vectors import Vectors, measure
from skytwin.errors import DamagedArtefact, DataError, UnknownName, UsageError
from skytwin.images.catalog_file import CATALOG, read_catalog
from skytwin.images.row_scan import ScannedIndex
from skytwin.images.rows import RowIndex, first_duplicate
from skytwin.images.tables import read_table
from skytwin.images.texts import numbered, text_array, twice_among
from skytwin.run import Run
from toys import labelled

BENCHMARK = Path(__file__).parent.parent / "benchmarks" / "memory_limit.py"


# ---- identifiers and catalogues ---------------------------------------------------------------


def test_rows_found_by_reading_are_those_of_a_dictionary() -> None:
    names = [f"o{number}" for number in range(400)]
    chunks = pa.chunked_array([names[:150], [], names[150:]])
    found, want = ScannedIndex(chunks), RowIndex(np.array(names, dtype=object))
    for name in [*names[::7], *names[:100]]:  # enough for the dictionary to be made
        assert name in found
        assert found[name] == want[name]
    assert "o400" not in found
    with pytest.raises(UnknownName, match="did you mean: o39"):
        found["o399x"]
    many = ScannedIndex(chunks)
    many.note(names[100:200], range(100, 200))
    assert [many[name] for name in names[100:200]] == list(range(100, 200))
    assert "_whole" not in vars(many)  # the dictionary was not made
    assert many["o3"] == 3
    twice = ScannedIndex(pa.chunked_array([["a", "b"], ["a"]]))
    assert twice["b"] == 1
    with pytest.raises(DataError, match="duplicate id 'a'"):
        twice["a"]


@pytest.mark.parametrize("rows", [0, 1, 250])
def test_a_catalogue_read_in_groups_is_the_catalogue(rows: int, tmp_path: Path) -> None:
    tag = {b"unit": b"mag"}
    schema = pa.schema([pa.field("id", pa.string()), pa.field("m", pa.float32(), metadata=tag)])
    table = pa.table([[f"a{n}" for n in range(rows)], np.arange(rows)], schema=schema)
    pq.write_table(table, tmp_path / CATALOG, row_group_size=100)
    read = read_catalog(tmp_path, rows)
    assert read.equals(pq.read_table(tmp_path / CATALOG), check_metadata=True)
    with pytest.raises(DamagedArtefact, match=f"{rows} rows for {rows + 1} objects"):
        read_catalog(tmp_path, rows + 1)


def test_texts_are_those_of_a_list() -> None:
    names = [f"f[{row:04d}]" for row in range(1200)]
    found = numbered(1200, "f[", "]", width=4)
    assert list(found) == names
    assert (found[7], found[-1], found[3:5]) == (names[7], names[-1], names[3:5])
    rows = np.array([5, 2, 1100])
    for texts in (found, names):
        assert text_array(texts).to_pylist() == names
        assert text_array(texts, rows).to_pylist() == [names[row] for row in rows]


def test_a_text_that_comes_twice_is_the_first_that_does() -> None:
    rng = np.random.default_rng(0)
    words = ["", "a", "ab", "ba", "é", "\0", "xyz", None]
    for _ in range(300):
        drawn = ["q", *(words[n] for n in rng.integers(len(words), size=rng.integers(7)))]
        texts = pa.array(drawn, pa.string()).slice(1)
        assert twice_among(texts) == first_duplicate(w for w in drawn[1:] if w is not None)


@pytest.mark.parametrize("group", [70, 300])
def test_a_table_in_groups_is_the_table(group: int, tmp_path: Path) -> None:
    table = pa.table({"id": [f"a{n}" for n in range(300)], "m": np.arange(300) / 7,
                      "k": [None, "x", "y"] * 100})  # fmt: skip
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=group)
    read = read_table(tmp_path / "t.parquet")
    assert read.equals(table)
    assert {column.num_chunks for column in read.columns} == {1}


# ---- maps --------------------------------------------------------------------------------------


def test_a_map_of_a_sample_says_so_and_takes_the_rest() -> None:
    emb = labelled(500)
    found = make_map(emb, "pca", sample=200, seed=3)
    assert len(found) == 200
    assert "a random 200 of 500 objects" in found.summary
    assert list(found.column("id").to_pylist()) == list(found.ids)
    rows = [emb.index[name] for name in found.ids]
    assert rows == sorted(set(rows))
    np.testing.assert_allclose(found.scores, found.space.scores(emb.vectors.take(rows)))
    placed = place(found, emb)
    np.testing.assert_allclose(placed.xy[rows], found.xy, rtol=1e-5)
    assert not np.array_equal(make_map(emb, "pca", sample=200, seed=4).ids, found.ids)
    assert "random" not in make_map(emb, "pca", sample=500).summary
    with pytest.raises(UsageError, match="sample 3"):
        make_map(emb, "pca", sample=3)


def test_objects_are_placed_alike_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    emb = labelled(300)
    found = make_map(emb, "pca")
    whole = place(found, emb)
    monkeypatch.setattr(maps_place, "_AT_ONCE", 64)
    parts = place(found, emb)
    np.testing.assert_array_equal(whole.xy, parts.xy)
    assert list(whole.nearest) == list(parts.nearest)


# ---- outliers ----------------------------------------------------------------------------------

METHODS = ("knn", "mahalanobis")


def test_a_sample_as_reference_against_scikit_learn() -> None:
    emb = labelled(600)
    settings = OutlierSettings(methods=METHODS, folds=3, reference_rows=200, positive=("kind=a",))
    found = outliers(emb, settings)
    base = found.reference.part.rows
    assert 190 <= len(base) <= 210
    assert f"the reference is {len(base)} of the 600 objects" in found.summary
    assert sorted(found.table["id"].to_pylist()) == sorted(emb.ids)
    x = emb.vectors.take(np.arange(600)).astype(np.float64)
    z = (x - x[base].mean(0)) / x[base].std(0)
    apart, near = NearestNeighbors(algorithm="brute").fit(z[base]).kneighbors(z, 11)
    own = np.isin(np.arange(600), base)
    want = np.where(own, apart[:, 1:].mean(1), apart[:, :10].mean(1))
    np.testing.assert_allclose(found.scored.scores["knn"], want, rtol=1e-4)
    np.testing.assert_array_equal(found.scored.near.rows[~own], base[near[~own, 0]])
    higher = [(found.scored.scores["knn"][base] >= score).mean() for score in want[~own]]
    np.testing.assert_allclose(
        found.scored.percentiles["knn"][~own],
        100 * (1 - (np.array(higher) * len(base) + 1) / (len(base) + 1)),
    )


def test_a_reference_of_all_is_what_it_was() -> None:
    emb = labelled(200)
    settings = OutlierSettings(methods=METHODS, folds=3)
    found, same = (
        outliers(emb, each) for each in (settings, replace(settings, reference_rows=200))
    )
    assert found.table.equals(same.table)
    assert found.own_reference


@pytest.mark.parametrize(
    ("rows", "dim", "spread"), [(2000, 16, 1.0), (1500, 2, 1.0), (1500, 8, 1e19)]
)
def test_nearest_of_many_are_those_that_float64_finds(rows: int, dim: int, spread: float) -> None:
    rng = np.random.default_rng(rows)
    reference = rng.normal(size=(rows, dim)).astype(np.float32)
    asked = (spread * rng.normal(size=(300, dim))).astype(np.float32)
    if dim == 2:  # many at one distance, and many at one place
        reference, asked = reference.round(1), asked.round(1)
        reference[:900] = reference[0]
        asked[0] = reference[0]
    statistics = measure(Vectors([reference]))
    with np.errstate(over="ignore", invalid="ignore"):
        found = nearest_of(reference, statistics, asked, 25)
        want = nearest_many(Vectors([reference]), statistics, asked, 25)
    np.testing.assert_array_equal(found.rows, want.rows)
    np.testing.assert_array_equal(found.distance, want.distance)


def test_areas_without_sorting_are_those_of_the_probe() -> None:
    rng = np.random.default_rng(5)
    truth, groups = rng.random(200) < 0.1, rng.integers(0, 150, 200)
    scores = {"a": np.round(rng.normal(size=200) + truth, 1), "b": rng.normal(size=200)}
    scores["b"][3], scores["b"][9] = np.inf, np.nan
    for one in check_scores("x", scores, truth, groups, level=0.9, seed=2):
        known = ~np.isnan(scores[one.method])
        rank, label = rankdata(scores[one.method][known]), truth[known].astype(np.int64)
        outputs = Outputs(
            values=np.stack([-rank, rank], axis=1), probability=None, predicted=np.zeros_like(label)
        )
        drawn = replicates(outputs, label, Resamples(group=groups[known], count=500, seed=2))
        assert one.auc == estimates(outputs, label, groups[known], drawn, 0.9)["auc"]


def test_other_sets_are_scored_alike_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    emb = labelled(700)
    settings = OutlierSettings(methods=METHODS, folds=3, reference_rows=200)
    whole = outliers(emb, settings)
    monkeypatch.setattr(outliers_fit, "_AT_ONCE", 256)
    assert outliers(emb, settings).table.equals(whole.table)


def test_a_killed_run_scores_no_object_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    emb = labelled(700)
    settings = OutlierSettings(methods=METHODS, folds=3, reference_rows=200)
    whole = outliers(emb, settings)
    monkeypatch.setattr(outliers_fit, "_AT_ONCE", 128)
    score, scored = outliers_fit.scored_by, list[int]()

    def run(killed_at: int) -> Outliers:
        def counted(part: Part, *given: Any, **named: Any) -> Scored:
            if len(scored) == killed_at:
                raise KeyboardInterrupt
            scored.append(len(part.rows))
            return score(part, *given, **named)

        monkeypatch.setattr(outliers_fit, "scored_by", counted)
        with Run(tmp_path / "out", kind="outliers", recipe={}, inputs={}) as folder:
            return outliers(emb, settings, steps=Steps(folder))

    with pytest.raises(KeyboardInterrupt):
        run(killed_at=3)
    assert scored[1:] == [128, 128]  # of the others, after the reference
    found = scored[0]
    scored.clear()
    monkeypatch.setattr(outliers_fit, "nearest_many", None)  # neighbours are not found again
    assert run(killed_at=99).table.equals(whole.table)
    assert scored[0] == found
    assert sum(scored) == 700 - 256


# ---- memory ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_more_rows_than_memory() -> None:
    """``memory_limit.py`` shortened: 300 000 rows (77 MB), and what 5 million may take, less."""
    ended = subprocess.run(
        [sys.executable, str(BENCHMARK), "--rows", "300000", "--limit", "0.6", "--only",
         "adopt,info,search,map pca"],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    if "by control group" not in ended.stdout:
        pytest.skip("this system lets no ordinary user make a control group")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert len(re.findall(r"\| well \|", ended.stdout)) == 4
