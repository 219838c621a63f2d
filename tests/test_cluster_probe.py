"""Probes whose fits workers make: the same bytes, whoever made them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cluster import one_killed, tree, two_workers
from command import process
from skytwin.answers import probe_score
from skytwin.answers.probe import Probe, probe
from skytwin.embeddings.adopt import adopt
from skytwin.embeddings.engine import open_engine
from skytwin.embeddings.table import Embeddings
from skytwin.report_probe import save_probe

pytest.importorskip("distributed")
HOW: dict[str, Any] = {
    "classifiers": ["knn", "lr", "lda", "svc-scale"],
    "folds": 3,
    "repeats": 1,
    "budget": [20],
    "draws": 2,
    "bootstrap": 100,
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("probe")
    rng = np.random.default_rng(3)
    kind = rng.integers(0, 2, 240)
    for name, dim in (("one", 40), ("two", 12)):
        x = rng.standard_normal((240, dim)) + 0.5 * kind[:, None]
        ids = np.array([f"o{row}" for row in range(240)])
        np.savez(folder / f"{name}.npz", vectors=x.astype(np.float32), ids=ids, kind=kind)
        adopt(folder / f"{name}.npz", folder / name, quiet=True)
    return folder


def opened(home: Path) -> list[Embeddings]:
    return [Embeddings.open(home / name) for name in ("one", "two")]


def same(one: Probe, other: Probe) -> None:
    assert one.table.equals(other.table)
    assert one.curves.equals(other.curves)
    assert one.comparisons.equals(other.comparisons)
    for mine, theirs in zip(one.scores, other.scores, strict=True):
        assert mine.outputs.values.tobytes() == theirs.outputs.values.tobytes()


@pytest.mark.parametrize("enough", [1, 1000])  # all classifiers of a step in one task, or each
def test_the_same_scores_to_the_last_bit(
    enough: int, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe_score, "_ENOUGH", enough)
    here = probe(opened(home), "kind", together=True, **HOW)
    same(here, probe(opened(home), "kind", together=True, engine=two_workers(), **HOW))
    assert here.best.metrics["accuracy"].value > 0.7


def test_without_folds_and_without_few_labels(home: Path) -> None:
    how = {**HOW, "folds": 0, "budget": []}
    here = probe(opened(home)[0], "kind", **how)
    same(here, probe(opened(home)[0], "kind", engine=two_workers(), **how))


def test_killed_here_it_goes_on_there(home: Path, tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    made = 0

    def count(self: Any, step: Any, arrays: Any) -> None:
        nonlocal made
        made += 1
        if made > 9:
            raise Stop
        put(self, step, arrays)

    put = probe_score.Steps.put
    whole = probe(opened(home), "kind", out=tmp_path / "whole", **HOW)
    save_probe(whole, tmp_path / "whole", [], [])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(probe_score.Steps, "put", count)
        with pytest.raises(Stop):
            probe(opened(home), "kind", out=tmp_path / "out", engine=two_workers(), **HOW)
    assert len((tmp_path / "out" / "journal.jsonl").read_text().splitlines()) == 9
    made = -1000
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(probe_score.Steps, "put", count)
        found = probe(opened(home), "kind", out=tmp_path / "out", engine=two_workers(), **HOW)
    assert made + 1000 == 2 * 4 * 6 - 9  # none twice
    save_probe(found, tmp_path / "out", [], [])
    assert tree(tmp_path / "whole") == tree(tmp_path / "out")


@pytest.mark.slow
def test_a_killed_worker_and_the_number_of_workers_change_nothing(home: Path) -> None:
    how = {**HOW, "classifiers": ["rf", "lda"]}
    here = probe(opened(home), "kind", **how)
    for workers in (1, 3):
        with open_engine(workers=workers) as engine:
            assert engine is not None
            with one_killed(engine, "fitted"):
                same(here, probe(opened(home), "kind", engine=engine, **how))


@pytest.mark.slow
def test_the_command_line_writes_the_same_folder_on_any_number_of_threads(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [
        *("probe", home / "one", "--label", "kind", "--classifiers", "lr,lda,linear,rf"),
        *("--folds", 2, "--repeats", 1, "--budget", 20, "--draws", 1, "--keep", "lr", "--quiet"),
    ]
    for name, threads, more in (
        ("one", "1", []),
        ("two", "2", []),
        ("workers", "2", ["--workers", 2]),
    ):
        before = f"import os; os.environ['OMP_NUM_THREADS'] = '{threads}'"
        ended = process(*words, "--out", tmp_path / name, *more, before=before)
        assert ended.code == 0, ended.err
    assert tree(tmp_path / "one") == tree(tmp_path / "two") == tree(tmp_path / "workers")
