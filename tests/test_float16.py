"""Vectors stored in two bytes a number: the same scan, exact for what is stored."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from command import done, images, skytwin
from skytwin.embeddings import half
from skytwin.embeddings.metric import scorer
from skytwin.embeddings.neighbours import nearest
from skytwin.embeddings.neighbours_many import nearest_many
from skytwin.embeddings.product import product
from skytwin.embeddings.ranker import Combined
from skytwin.embeddings.table import Embeddings
from skytwin.embeddings.vectors import Vectors, measure, stored_as, widened
from skytwin.errors import DataError


def test_every_finite_float16_widens_to_its_own_value() -> None:
    every = np.arange(65536, dtype=np.uint16).view(np.float16)
    finite = every[np.isfinite(every)][None]
    wide = widened(finite)
    assert wide.dtype == np.float32
    np.testing.assert_array_equal(wide.view(np.uint32), finite.astype(np.float32).view(np.uint32))


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 700), st.integers(1, 60), st.integers(1, 12), st.integers(0, 2**32 - 1))
def test_product_stays_within_its_bound(n: int, d: int, q: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, d)).astype(np.float16)
    w = rng.standard_normal((d, q)).astype(np.float32)
    exact = x.astype(np.float64) @ w.astype(np.float64)
    for values in (x, x.astype(np.float32)):
        assert np.abs(product(values, w) - exact).max() < 1e-5 * d
    into = np.empty((1000, d), dtype=np.float32)
    np.testing.assert_array_equal(widened(x, into), x.astype(np.float32))


def test_faiss_multiplies_every_finite_float16_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(half, "_loaded", half._Loaded())
    every = np.arange(65536, dtype=np.uint16).view(np.float16)
    finite = np.ascontiguousarray(every[np.isfinite(every)][:63488].reshape(-1, 8))
    found = np.full((len(finite), 8), np.nan, dtype=np.float32)
    unit = np.eye(8, dtype=np.float32)
    assert not half.products(finite, unit, found)  # so few are not worth loading it
    assert np.isnan(found).all()
    monkeypatch.setattr(half, "_WORTH", 0)
    assert half.products(finite, unit, found)
    np.testing.assert_array_equal(found, finite.astype(np.float32))
    rng = np.random.default_rng(0)
    columns = rng.standard_normal((3, 8)).astype(np.float32)
    found = np.empty((len(finite), 3), dtype=np.float32)
    assert half.products(finite, columns, found)
    exact = finite.astype(np.float64) @ columns.T.astype(np.float64)
    most = np.abs(finite.astype(np.float64)) @ np.abs(columns.T.astype(np.float64))
    assert (np.abs(found - exact) <= 1e-6 * most + 1e-40).all()
    # What it cannot do is left to the other way.
    assert not half.products(finite.reshape(-1, 4), columns[:, :4], found)
    assert not half.products(finite[::2], columns, found)
    assert not half.products(np.full((5, 8), np.inf, dtype=np.float16), columns, found[:5])
    monkeypatch.setattr(half, "_loaded", half._Loaded())
    monkeypatch.setitem(sys.modules, "faiss", None)
    assert not half.products(finite, columns, found)


@pytest.mark.parametrize("metric", ["euclidean", "cosine", "standardized"])
@pytest.mark.parametrize("references", [1, 3, 12])
@pytest.mark.parametrize("worth", [0, 1 << 60], ids=["faiss", "numpy"])
def test_the_scan_is_exact_for_the_stored_numbers(
    metric: str, references: int, worth: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(half, "_loaded", half._Loaded())
    monkeypatch.setattr(half, "_WORTH", worth)
    rng = np.random.default_rng(3)
    x = np.maximum(rng.standard_normal((9000, 40)) + 0.5, 0).astype(np.float16)
    narrow, wide = (Vectors(np.array_split(v, 3)) for v in (x, x.astype(np.float32)))
    assert narrow.nbytes * 2 == wide.nbytes
    np.testing.assert_array_equal(narrow[[8999, 0]], wide[[8999, 0]])
    np.testing.assert_array_equal(np.asarray(narrow), np.asarray(wide))
    found = []
    for vectors in (narrow, wide):
        statistics = measure(vectors)
        score = scorer(metric, wide[:references], statistics)  # type: ignore[arg-type]
        ranker = Combined(
            score=score, combine="mean", weights=np.ones(references), negative_weights=np.empty(0)
        )
        found.append(nearest(vectors, ranker, 300))
        found.append(nearest_many(vectors, statistics, wide[:references], 30, metric=metric))  # type: ignore[arg-type]
    np.testing.assert_array_equal(found[0].rows, found[2].rows)
    np.testing.assert_array_equal(found[0].distance, found[2].distance)
    np.testing.assert_array_equal(found[1].rows, found[3].rows)


def test_what_float16_cannot_hold_is_refused() -> None:
    with pytest.raises(DataError, match=r"7e\+04; float16 reaches to 65504"):
        stored_as("float16", np.array([[1.0, -70000.0]], dtype=np.float32))
    assert stored_as("float16", np.array([[-65504.0]], dtype=np.float32))[0, 0] == -65504


def test_embed_and_search_with_float16(tmp_path: Path) -> None:
    done("ingest", images(tmp_path / "im"), "--out", tmp_path / "cut", "--quiet")
    for store in ("float32", "float16"):
        done(
            "embed", tmp_path / "cut", "--encoder", "pca:8", "--out", tmp_path / store,
            "--store", store, "--quiet",
        )  # fmt: skip
    wide, narrow = (Embeddings.open(tmp_path / store) for store in ("float32", "float16"))
    shard = np.load(tmp_path / "float16" / "vectors" / "000000.npy")
    assert shard.dtype == np.float16
    np.testing.assert_array_equal(shard, np.asarray(wide.vectors).astype(np.float16))
    np.testing.assert_allclose(narrow.vectors[:], wide.vectors[:], rtol=1e-3, atol=1e-6)
    assert narrow.manifest is not None
    assert narrow.manifest.recipe["store"] == "float16"
    assert narrow.encoder_fingerprint == wide.encoder_fingerprint
    assert "exact scan of 39 objects" in done(
        "search", tmp_path / "float16", "--like", "g03", "--null-queries", 0
    )
    refused = skytwin(
        "embed", tmp_path / "cut", "--encoder", "pca:8", "--out", tmp_path / "x", "--store", "int8"
    )
    assert refused.code == 2
    assert "unknown store 'int8'" in refused.err
    assert not (tmp_path / "x").exists()


@pytest.mark.real
@pytest.mark.slow
def test_float16_hardly_moves_neighbours_of_galaxies(components: Embeddings) -> None:
    wide = components
    stored = Vectors([stored_as("float16", np.asarray(wide.vectors))])
    rows = np.arange(0, len(wide), 20)
    found = [
        nearest_many(v, measure(v), v.take(rows), 25, metric="standardized").rows
        for v in (wide.vectors, stored)
    ]
    shared = [len(np.intersect1d(a, b)) / 25 for a, b in zip(*found, strict=True)]
    assert np.mean(shared) > 0.98
