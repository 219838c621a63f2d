"""Indexes: every answer held against the exact scan, and what they may miss against its count."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pyarrow.parquet as pq
import pytest

from command import contents, done, process, skytwin
from skytwin.answers import scan
from skytwin.answers.indexing import build_index
from skytwin.answers.indexing_recall import AIMS
from skytwin.answers.query import reference_at
from skytwin.answers.ranking import How, make_ranker
from skytwin.answers.search import search
from skytwin.cli_index import index as index_command
from skytwin.embeddings import index_build
from skytwin.embeddings.index import KINDS, Effort, Index
from skytwin.embeddings.join import join
from skytwin.embeddings.neighbours import nearest, nearest_each
from skytwin.embeddings.table import Embeddings
from skytwin.embeddings.vectors import write_array
from skytwin.errors import DamagedArtefact, Mismatch, OutputExists, UsageError
from skytwin.run import Run

N, DIM = 2400, 24


def survey(n: int = N, seed: int = 0, shift: float = 0.0) -> Embeddings:
    """Clusters of decaying width, features of unequal scale, a few of them always zero."""
    rng = np.random.default_rng(seed)
    centres = 2 * np.random.default_rng(1).standard_normal((20, 8))
    mixing = np.random.default_rng(2).standard_normal((8, DIM)) * np.linspace(2, 0.1, DIM)
    latent = centres[rng.integers(0, 20, n)] + rng.standard_normal((n, 8))
    x = latent @ mixing + 0.05 * rng.standard_normal((n, DIM)) + shift
    x[:, 5] = 1.5
    names = [f"o{seed}_{i}" for i in range(n)]
    table = {"z": rng.uniform(0, 1, n), "ra": rng.uniform(0, 90, n), "dec": rng.uniform(0, 60, n)}
    return Embeddings.from_arrays(x.astype(np.float32), names, table)


@pytest.fixture(scope="module")
def galaxies() -> Embeddings:
    return survey()


@pytest.fixture(scope="module")
def built(galaxies: Embeddings, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Index]:
    folder = tmp_path_factory.mktemp("index")
    return {
        kind: build_index(galaxies, folder / kind, kind=kind, queries=40, quiet=True).index
        for kind in KINDS
    }


def everything(index: Index) -> Effort:
    return Effort(probes=index.manifest.recipe.get("cells", 2 * N), candidates=N)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("combine", ["mean", "min", "logistic", "lda", "mean+logistic"])
@pytest.mark.parametrize("references", [1, 4])
def test_with_every_list_probed_an_index_is_exact(
    galaxies: Embeddings, built: dict[str, Index], kind: str, combine: Any, references: int
) -> None:
    index = built[kind]
    group = [reference_at(galaxies, row) for row in (3, 700, 41, 5)[:references]]
    if references == 4:
        group[-1] = reference_at(galaxies, 5, negative=True)
    ranker = make_ranker(galaxies, group, How(combine=combine))
    keep = np.ones(N, dtype=bool)
    keep[3] = False
    some = np.arange(N) % 3 == 0
    for rows in (None, keep, some):
        truth = nearest(galaxies.vectors, ranker, 100, keep=rows)
        found = index.nearest(galaxies.vectors, ranker, 100, everything(index), keep=rows)
        np.testing.assert_array_equal(found.rows, truth.rows)
        np.testing.assert_array_equal(found.distance, truth.distance)
        np.testing.assert_array_equal(found.reference, truth.reference)


def test_the_measured_recall_is_what_a_search_reaches(
    galaxies: Embeddings, built: dict[str, Index]
) -> None:
    index = built["ivf-sq8"]
    measured = index.manifest.summary["recall"]
    assert set(measured) == {
        "standardized", "cosine", "euclidean", "mean", "min", "logistic", "lda", "mean+logistic",
    }  # fmt: skip
    for kind, depths in measured.items():
        for depth, found in depths.items():
            assert found["lower"] <= found["value"] <= found["upper"] <= 1
            assert found["reached"] == (found["value"] >= AIMS[int(depth)]), kind
    # The same queries, one by one, as a search asks them.
    rows = np.random.default_rng([0, 1]).choice(N, size=40, replace=False)
    for depth, k in (("25", 25), ("1000", 1000)):
        recall = measured["standardized"][depth]
        effort = Effort(probes=recall["probes"], candidates=recall["candidates"])
        shares = []
        for row in rows:
            ranker = make_ranker(galaxies, [reference_at(galaxies, row)], How(combine="mean"))
            keep = np.arange(N) != row
            truth = nearest(galaxies.vectors, ranker, k, keep=keep)
            found = index.nearest(galaxies.vectors, ranker, k, effort, keep=keep)
            shares.append(np.isin(truth.rows, found.rows).mean())
        assert np.mean(shares) == pytest.approx(recall["value"], abs=1e-3)


def test_search_says_what_answered(galaxies: Embeddings, built: dict[str, Index]) -> None:
    index = built["ivf-sq8"]
    exact = search(galaxies, "o0_3")
    assert exact.scanned == f"exact scan of {N - 1} objects"
    assert exact.settings["scan"] == "exact"
    assert exact.settings["recall"] is None
    found = search(galaxies, "o0_3", index=index)
    value = re.match(
        r"approximate, ivf-sq8 index: recall@25 (\S+) \[\S+, \S+\], measured on 40 queries;",
        found.scanned,
    )
    assert value
    recall = index.manifest.summary["recall"]["standardized"]["25"]
    assert float(value[1]) == pytest.approx(recall["value"], abs=1e-3)
    assert found.settings["index"] == index.manifest.fingerprint
    assert found.settings["recall"]["value"] == recall["value"]
    assert np.isin(found.rows, exact.rows).mean() > 0.9
    shared = np.isin(found.rows, exact.rows)
    np.testing.assert_array_equal(
        found.distance[shared], exact.distance[np.isin(exact.rows, found.rows)]
    )
    several = search(galaxies, ["o0_3", "o0_9", "o0_77"], index=index.folder)
    assert "queries of 5 references" in several.scanned
    for asked, why in (
        ({"radius": 0.2}, "all within a radius"),
        ({"k": 1001}, "known for the nearest 1000"),
        ({"where": "z < 0.02"}, "the filter leaves"),
        ({"metric": "csls"}, "does not serve csls"),
        ({"metric": "whitened"}, "does not serve whitened"),
    ):
        answer = search(galaxies, "o0_3", index=index, **asked)  # type: ignore[arg-type]
        truth = search(galaxies, "o0_3", **asked)  # type: ignore[arg-type]
        assert answer.scanned.startswith("exact scan of ")
        assert why in answer.scanned
        np.testing.assert_array_equal(answer.rows, truth.rows)
    fused = search(galaxies, ["o0_3", "o0_9"], combine="fusion", index=index)
    assert "does not serve standardized fusion" in fused.scanned
    half = search(galaxies, "o0_3", where="z < 0.5", index=index)
    assert half.scanned.startswith("approximate")
    assert set(half.rows) <= set(np.flatnonzero(galaxies.catalog["z"].to_numpy() < 0.5))
    with pytest.raises(UsageError, match="leave out --exact or --index"):
        search(galaxies, "o0_3", exact=True, index=index)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> tuple[Embeddings, Index]:
    """So many that an index reads a small part of them."""
    galaxies = survey(20_000, seed=3)
    folder = tmp_path_factory.mktemp("many")
    return galaxies, build_index(galaxies, folder / "i", queries=20, quiet=True).index


def test_a_filter_does_not_lower_the_recall(many: tuple[Embeddings, Index]) -> None:
    galaxies, index = many
    rng, count = np.random.default_rng(0), len(galaxies)
    filters: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "a random half": lambda place: rng.random(count) < 0.5,
        "a random tenth": lambda place: rng.random(count) < 0.1,
        "the nearest tenth": lambda place: place < 2000,
        "none of the nearest 1500": lambda place: place >= 1500,
        "the farthest half": lambda place: place >= 10_000,
        "a random hundredth": lambda place: rng.random(count) < 0.01,
    }
    how, ways, shares = How(combine="mean"), [], dict.fromkeys(filters, 0.0)
    for row in rng.choice(count, 6, replace=False):
        reference = [reference_at(galaxies, int(row))]
        ranker = make_ranker(galaxies, reference, how)
        place = np.argsort(nearest(galaxies.vectors, ranker, count).rows)
        for name, kept in filters.items():
            keep = kept(place)
            keep[row] = False
            truth = nearest(galaxies.vectors, ranker, 25, keep=keep).rows
            found = scan.find(
                galaxies, ranker, how, reference,
                k=25, radius=None, keep=keep, exact=False, index=index,
            )  # fmt: skip
            ways.append(found.told.split()[0])
            shares[name] += float(np.isin(truth, found.neighbours.rows).mean()) / 6
    assert ways == 6 * (3 * ["approximate,"] + 3 * ["exact"])
    for name, share in shares.items():
        assert share > 0.95, name
    assert [shares[name] for name in list(filters)[3:]] == pytest.approx([1, 1, 1])


def test_only_what_is_among_the_nearest_counts(many: tuple[Embeddings, Index]) -> None:
    galaxies, index = many
    ranker = make_ranker(galaxies, [reference_at(galaxies, 8)], How(combine="mean"))
    truth = nearest(galaxies.vectors, ranker, 1525).rows
    keep = ~np.isin(np.arange(len(galaxies)), truth[:1500])
    effort = Effort(probes=8, candidates=4000)
    every = index.nearest(galaxies.vectors, ranker, 4000, effort).rows
    loose = index.nearest(galaxies.vectors, ranker, 25, effort, keep=keep)
    np.testing.assert_array_equal(loose.rows, every[keep[every]][:25])
    assert np.isin(loose.rows, truth).mean() < 0.9  # what the check is there for
    among = int(np.flatnonzero(keep[every])[10])
    strict = index.nearest(galaxies.vectors, ranker, 25, effort, keep=keep, among=among)
    np.testing.assert_array_equal(strict.rows, loose.rows[:10])


def stored(folder: Path, embeddings: Embeddings) -> Path:
    """An embedding as a folder, as one encoder would have left it."""
    with Run(folder, kind="embeddings", recipe={"toy": True}, inputs={}) as run:
        run.write("vectors/000000.npy", partial(write_array, np.asarray(embeddings.vectors)))
        for name, values in vars(embeddings.statistics).items():
            run.write(f"statistics/{name}.npy", partial(write_array, values))
        run.write("catalog.parquet", lambda path: pq.write_table(embeddings.catalog, path))
        run.finish({"shape": [len(embeddings), DIM], "encoder": "toy", "encoder_fingerprint": "t"})
    return folder


def test_the_command_finds_the_index_beside_a_large_embedding(
    galaxies: Embeddings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    emb = stored(tmp_path / "emb", galaxies)
    index_command(emb, queries=30, quiet=True)
    said = capsys.readouterr().out
    assert said.startswith(f"Index(ivf-sq8, {N} x {DIM}, ")
    assert re.search(r"standardized +25 +0\.99|standardized +25 +1\.000", said)
    assert "30 queries of 1 reference and 15 queries of 5 references" in said
    query = ["search", emb, "--like", "o0_3", "--null-queries", 0]
    assert f"exact scan of {N - 1} objects\n" in done(*query)  # too small to be worth it
    monkeypatch.setattr(scan, "WORTH_BYTES", 0)
    assert "approximate, ivf-sq8 index: recall@25 " in done(*query)
    assert "exact scan" in done(*query, "--exact")
    out = tmp_path / "found"
    done(*query, "--out", out)
    recipe = json.loads((out / "manifest.json").read_text())["recipe"]
    assert recipe["scan"] == "ivf-sq8"
    assert recipe["recall"]["depth"] == 25
    assert "recall@25" in (out / "report.txt").read_text()
    assert "ivf-sq8" in (out / "matches.vot").read_text()
    info = done("info", tmp_path / "emb.index")
    assert "index, " in info

    # Another embedding in its place: not used, and where it was named refused.
    shutil.rmtree(emb)
    stored(emb, survey(seed=4))
    query[3] = "o4_3"
    assert "emb.index is the index of another embedding" in done(*query)
    refused = skytwin(*query, "--index", tmp_path / "emb.index")
    assert refused.code == 1
    assert "is the index of another embedding" in refused.err
    with pytest.raises(OutputExists, match="already holds a finished result"):
        build_index(Embeddings.open(emb), quiet=True)


@pytest.mark.parametrize("name", ["index.faiss", "lists.bin", "sizes.npy", "order.npy"])
def test_a_damaged_file_is_refused_before_faiss_reads_it(
    galaxies: Embeddings, built: dict[str, Index], tmp_path: Path, name: str
) -> None:
    shutil.copytree(built["ivf-sq8"].folder, tmp_path / "i")
    path = tmp_path / "i" / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(DamagedArtefact, match=f"the content of {name} has changed"):
        Index.open(tmp_path / "i", galaxies)
    path.write_bytes(data[:-9])
    with pytest.raises(DamagedArtefact, match=f"{name} has "):
        Index.open(tmp_path / "i", galaxies)


class _KilledError(BaseException):
    pass


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_build_ends_in_the_same_bytes(
    galaxies: Embeddings, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    faiss.omp_set_num_threads(1)  # a graph is the same only from one thread
    monkeypatch.setattr(index_build, "_BLOCK_BYTES", 4 * DIM * 300)
    build_index(galaxies, tmp_path / "whole", kind=kind, queries=10, quiet=True)
    broken, kills = tmp_path / "broken", 0
    blocks = index_build._Job.blocks

    def three(self: Any, done: int) -> Any:
        for number, block in enumerate(blocks(self, done)):
            if number == 3:
                raise _KilledError
            yield block

    while True:
        with monkeypatch.context() as patched:
            patched.setattr(index_build._Job, "blocks", three)
            try:
                build_index(galaxies, broken, kind=kind, queries=10, quiet=True)
                break
            except _KilledError:
                kills += 1
    assert kills >= 2
    assert {Path(p).name: h for p, h in contents(tmp_path / "whole").items()} == {
        Path(p).name: h for p, h in contents(broken).items()
    }


@pytest.mark.slow
def test_a_part_s_index_is_carried_on(tmp_path: Path) -> None:
    first, second = survey(2000, seed=7), survey(900, seed=8, shift=0.1)
    a, b = stored(tmp_path / "a", first), stored(tmp_path / "b", second)
    old = build_index(Embeddings.open(a), queries=30, quiet=True).index
    both = join([b, a], tmp_path / "all", quiet=True)  # not in the order of the index
    made = build_index(both, queries=30, quiet=True)
    assert made.added == 900
    assert made.source is not None
    assert made.source.fingerprint == old.manifest.fingerprint
    before = (old.folder / "index.faiss").read_bytes()
    assert (made.index.folder / "index.faiss").read_bytes() == before
    assert lists(made.index, only=2000) == lists(old)
    order = np.load(made.index.folder / "order.npy")
    np.testing.assert_array_equal(order[:2000], np.arange(900, 2900))
    assert sorted(order) == list(range(2900))
    np.testing.assert_array_equal(made.index.space.mean, old.space.mean)
    assert made.recall["standardized"]["25"]["value"] > 0.95
    assert made.recall != old.manifest.summary["recall"]
    effort = Effort(probes=made.index.manifest.recipe["cells"], candidates=2900)
    ranker = make_ranker(both, [reference_at(both, 5)], How(combine="mean"))
    truth = nearest(both.vectors, ranker, 50)
    found = made.index.nearest(both.vectors, ranker, 50, effort)
    np.testing.assert_array_equal(found.rows, truth.rows)

    again = build_index(both, tmp_path / "anew", anew=True, queries=10, quiet=True)
    assert (again.added, again.source) == (2900, None)
    # And once more upon the joined one.
    third = stored(tmp_path / "c", survey(300, seed=9))
    more = build_index(join([both, third], tmp_path / "more", quiet=True), queries=10, quiet=True)
    assert more.added == 300
    assert lists(more.index, only=2900) == lists(made.index)


def lists(index: Index, only: int | None = None) -> list[tuple[bytes, bytes]]:
    """Codes and numbers of every cell, of the first ``only`` entries."""
    held = index_build._Codes.of_index(index.folder, DIM)
    found = []
    for cell in range(len(held.sizes)):
        codes, ids = held.read(cell)
        numbers = np.frombuffer(ids, dtype=np.int64)
        count = int((numbers < only).sum()) if only is not None else len(numbers)
        assert only is None or (numbers[:count] < only).all()
        found.append((codes[: count * DIM], ids[: count * 8]))
    os.close(held.handle)
    return found


def test_several_queries_in_one_pass_equal_one_by_one(galaxies: Embeddings) -> None:
    rankers = [
        make_ranker(galaxies, [reference_at(galaxies, row)], How(metric=metric, combine="mean"))
        for row, metric in ((1, "standardized"), (2, "euclidean"), (3, "csls"))
    ]
    for each, ranker in zip(nearest_each(galaxies.vectors, rankers, 40), rankers, strict=True):
        one = nearest(galaxies.vectors, ranker, 40)
        np.testing.assert_array_equal(each.rows, one.rows)
        np.testing.assert_array_equal(each.distance, one.distance)


def test_small_sets_and_bad_calls(tmp_path: Path) -> None:
    few = survey(30)
    made = build_index(few, tmp_path / "few", queries=10, quiet=True)
    assert len(search(few, "o0_3", k=29, index=made.index)) == 29
    with pytest.raises(UsageError, match="unknown kind of index 'flat'"):
        build_index(few, tmp_path / "x", kind="flat")
    with pytest.raises(UsageError, match="0 queries"):
        build_index(few, tmp_path / "x", queries=0)
    with pytest.raises(UsageError, match="no folder"):
        build_index(few)
    with pytest.raises(Mismatch, match="another embedding"):
        Index.open(tmp_path / "few", survey(30, seed=3))
    with pytest.raises(UsageError, match="expected index"):
        Index.open(stored(tmp_path / "emb", few))


def test_without_faiss_a_search_is_exact_and_an_index_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    emb = stored(tmp_path / "emb", survey(300))
    hide = """
import importlib.util, sys
sys.modules["faiss"] = None
there = importlib.util.find_spec
importlib.util.find_spec = lambda name, *a: None if name == "faiss" else there(name, *a)
"""
    build_index(Embeddings.open(emb), queries=5, quiet=True)
    hide += "\nfrom skytwin.answers import scan\nscan.WORTH_BYTES = 0"
    query = ["search", emb, "--like", "o0_3", "--null-queries", 0]
    found = process(*query, before=hide)
    assert (found.code, found.err) == (0, "")
    assert "exact scan of 299 objects: emb.index needs faiss, which is not installed" in found.out
    monkeypatch.setitem(sys.modules, "faiss", None)
    refused = skytwin(*query, "--index", tmp_path / "emb.index")
    assert refused.code == 2
    assert "pip install 'skytwin[index]', or search with --exact" in refused.err
