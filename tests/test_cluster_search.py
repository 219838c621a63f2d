"""Searches by the shards on workers: the same rows at the same distances, to the last bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cluster import one_killed, tree, two_workers
from command import skytwin as command
from skytwin.answers.search import Matches, search
from skytwin.embeddings import spread, store
from skytwin.embeddings.adopt import adopt
from skytwin.embeddings.engine import open_engine
from skytwin.embeddings.join import join
from skytwin.embeddings.spread import Spread
from skytwin.embeddings.table import Embeddings
from skytwin.errors import Unreachable, UsageError

pytest.importorskip("distributed")
ROWS, DIM = 21_000, 12


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two embeddings of vectors in shards of 9000, and both as one."""
    folder = tmp_path_factory.mktemp("spread")
    rng = np.random.default_rng(4)
    x = np.maximum(rng.standard_normal((ROWS, DIM)) + 0.3, 0).astype(np.float32)
    x[700:710] = x[20_000]  # the same distance: only rows tell them apart
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "_SHARD_BYTES", 9000 * 4 * DIM)
        for name, rows in (("one", slice(0, ROWS)), ("more", slice(0, 4000))):
            ids = np.array([f"{name}{row}" for row in range(ROWS)[rows]])
            np.savez(folder / f"{name}.npz", vectors=x[rows], ids=ids, kind=np.arange(len(ids)) % 7)
            adopt(folder / f"{name}.npz", folder / name, quiet=True)
    join([folder / "one", folder / "more"], folder / "joined", quiet=True)
    join([folder / "one", folder / "more"], folder / "narrow", store="float16", quiet=True)
    return folder


@pytest.fixture(autouse=True)
def small_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spread, "_TASK_BYTES", 1)


def same(one: Matches, other: Matches) -> None:
    for name in ("rows", "distance", "reference"):
        assert getattr(one, name).tobytes() == getattr(other, name).tobytes()
    assert one.settings == other.settings
    assert one.scanned == other.scanned


def both(embeddings: Embeddings, *given: Any, **how: Any) -> Matches:
    here = search(embeddings, *given, **how)
    same(here, search(embeddings, *given, engine=two_workers(), **how))
    return here


@pytest.mark.parametrize(
    ("metric", "combine"),
    [
        *((metric, "mean") for metric in ("euclidean", "cosine", "standardized", "whitened")),
        *(("standardized", name) for name in ("min", "logistic", "lda", "mean+logistic", "auto")),
        ("euclidean", "fusion"),
    ],
)
def test_the_same_matches_by_every_metric_and_combination(
    metric: str, combine: str, home: Path
) -> None:
    embeddings = Embeddings.open(home / "one")
    like, unlike = ["one20000", "one3", "one9001"], ["one40"]
    found = both(embeddings, like, unlike=unlike, metric=metric, combine=combine, k=60)
    assert len(found) == 60
    radius = float(found.distance[40])
    near = both(embeddings, like, unlike=unlike, metric=metric, combine=combine, radius=radius)
    assert len(near) >= 41


@pytest.mark.slow
def test_hub_corrected_distances_too(home: Path) -> None:
    both(Embeddings.open(home / "one"), ["one20000", "one3"], metric="csls", k=60)


def test_one_reference_a_filter_and_many_references(home: Path) -> None:
    embeddings = Embeddings.open(home / "one")
    ties = both(embeddings, "one20000", k=12)
    assert list(ties.rows[:10]) == list(range(700, 710))
    assert set(ties.distance[:10]) == {ties.distance[0]}
    kept = both(embeddings, "one3", where="kind = 2", k=100)
    assert set(kept.rows % 7) == {2}
    few = both(embeddings, "one3", where="id IN ('one8', 'one9', 'one17000')")
    assert len(few) == 3
    both(embeddings, [f"one{row}" for row in range(12)], combine="min", emphasis=None, k=2000)
    both(embeddings, "one3", radius=-0.0)
    assert len(both(embeddings, "one3", k=10 * ROWS)) == ROWS - 1


@pytest.mark.parametrize("name", ["joined", "narrow"])
def test_joined_and_narrow_embeddings(name: str, home: Path) -> None:
    embeddings = Embeddings.open(home / name)
    assert len(both(embeddings, ["one3", "more8"], unlike="one8", k=300)) == 300
    both(embeddings, [f"one{row}" for row in range(12)], metric="euclidean", combine="min", k=50)


def test_what_cannot_be_is_one_clear_line(home: Path) -> None:
    embeddings = Embeddings.open(home / "one")
    with pytest.raises(UsageError, match="an index is searched in one process"):
        search(embeddings, "one3", index=home / "index", engine=two_workers())
    rng = np.random.default_rng(0)
    loose = Embeddings.from_arrays(rng.random((30, 3)), range(30))
    with pytest.raises(UsageError, match="these are in memory"):
        search(loose, "3", engine=two_workers())
    with pytest.raises(UsageError, match="expected at least 1"):
        search(embeddings, "one3", k=0, engine=two_workers())
    with pytest.raises(Unreachable, match=r"the worker on .* sees no '/nowhere'"):
        spread._opened("/nowhere", "")


def test_what_is_sent_is_small(home: Path) -> None:
    embeddings = Embeddings.open(home / "one")
    found = search(embeddings, ["one3", "one9"], combine="mean+logistic")
    packed = spread._packed(found.ranker, embeddings.statistics)
    assert len(packed) < 50_000 < embeddings.statistics.norms.nbytes
    where = (str(home / "one"), embeddings.manifest.fingerprint)  # type: ignore[union-attr]
    query = spread._Query(folder=where[0], fingerprint=where[1], token="t", packed=packed)
    again = spread._ready(query)[1]
    some = embeddings.vectors[:50]
    want, got = found.ranker.exact(some), again.exact(some)
    assert want.distance.tobytes() == got.distance.tobytes()


@pytest.mark.slow
def test_the_number_of_workers_and_a_killed_one_change_nothing(home: Path) -> None:
    embeddings = Embeddings.open(home / "one")
    how: dict[str, Any] = {"metric": "csls", "k": 40}
    here = search(embeddings, ["one20000", "one3"], **how)
    for workers in (1, 3):
        with open_engine(workers=workers) as engine:
            assert engine is not None
            same(here, search(embeddings, ["one20000", "one3"], engine=engine, **how))
            if workers == 1:
                continue
            with one_killed(engine, "_scanned"):
                same(here, search(embeddings, ["one20000", "one3"], engine=engine, **how))
            with one_killed(engine, "_scanned"):
                found = Spread(engine, embeddings).nearest(here.ranker, 40 + 2)
            assert set(here.rows) <= set(found.rows)


@pytest.mark.slow
def test_the_command_line_writes_the_same_folder(home: Path, tmp_path: Path) -> None:
    words = ["search", home / "one", "--like", "one3", "--like", "one9", "-k", 30]
    for name, more in (("here", []), ("there", ["--workers", 2])):
        ended = command(*words, "--out", tmp_path / name, *more)
        assert ended.code == 0, ended.err
    assert tree(tmp_path / "here") == tree(tmp_path / "there")
    both_ways = command(*words, "--workers", 2, "--dask", "tcp://127.0.0.1:1")
    assert both_ways.code == 2
    assert "give one of them" in both_ways.err
