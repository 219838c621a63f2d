"""Groups on the sky against astropy, and splits that never cut one."""

from __future__ import annotations

import time

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord, search_around_sky
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from skytwin.errors import DataError, Mismatch, UsageError
from skytwin.images import groups as module
from skytwin.images.folds import grouped_folds, grouped_split, straddling
from skytwin.images.groups import first_rows, merge_groups, rows_at, sky_groups, sky_pairs

ARCSEC = 1 / 3600


def by_astropy(positions: np.ndarray, arcsec: float) -> np.ndarray:
    """Friends of friends with astropy's separations, numbered in order of first row."""
    sky = SkyCoord(positions, unit="deg")
    one, two, _, _ = search_around_sky(sky, sky, arcsec * u.arcsec)
    count = len(positions)
    links = coo_array((np.ones(len(one), dtype=bool), (one, two)), shape=(count, count))
    group = connected_components(links, directed=False)[1]
    _, first, number = np.unique(group, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[number]


def scattered(rng: np.random.Generator, count: int) -> np.ndarray:
    """Clumps at RA 0, both poles and elsewhere, a few arcsec wide."""
    centres = np.array(
        [[0.0, 0.0], [359.9999, 45.0], [123.0, 90.0], [10.0, -90.0], [200.0, 89.999]]
    )
    chosen = centres[rng.integers(len(centres), size=count)]
    dec = np.clip(chosen[:, 1] + rng.normal(0, 8 * ARCSEC, count), -90, 90)
    wide = np.minimum(8 * ARCSEC / np.maximum(np.cos(np.radians(dec)), 1e-6), 360)
    ra = (chosen[:, 0] + rng.uniform(-wide, wide)) % 360
    return np.stack([ra, dec], axis=1)


@pytest.mark.parametrize("arcsec", [0.1, 2.0, 5.0])
def test_groups_are_those_of_astropy(arcsec: float) -> None:
    positions = scattered(np.random.default_rng(1), 400)
    found = sky_groups(positions, arcsec, 400)
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, by_astropy(positions, arcsec))
    assert 1 < len(np.unique(found)) < 400


def test_a_tenth_of_an_arcsec_is_told_across_ra_zero_and_at_a_pole() -> None:
    near = np.array([[360 - 0.04 * ARCSEC, 0.0], [0.05 * ARCSEC, 0.0], [0.0, 90.0], [180.0, 90.0]])
    np.testing.assert_array_equal(sky_groups(near, 0.1, 4), [0, 0, 1, 1])
    np.testing.assert_array_equal(sky_groups(near, 0.08, 4), [0, 1, 2, 2])
    np.testing.assert_array_equal(
        sky_groups(np.array([[0.0, 0.0], [0.0, 2 * ARCSEC]]), 2.0, 2), [0, 0]
    )


def test_chains_are_one_and_unknown_positions_alone() -> None:
    dec = np.arange(6) * 1.5 * ARCSEC
    positions = np.stack([np.full(6, 50.0), dec], axis=1)
    positions[2] = np.nan
    np.testing.assert_array_equal(sky_groups(positions, 2.0, 6), [0, 0, 1, 2, 2, 2])
    np.testing.assert_array_equal(sky_groups(None, 2.0, 3), [0, 1, 2])
    np.testing.assert_array_equal(sky_groups(positions, 0.0, 6), np.arange(6))
    with pytest.raises(UsageError, match="group-arcsec -1"):
        sky_groups(positions, -1.0, 6)
    with pytest.raises(Mismatch, match=r"\(5, 2\)"):
        sky_groups(positions, 1.0, 5)


def test_a_crowd_gives_the_same_groups_in_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    positions = rng.uniform(0, 60 * ARCSEC, (600, 2))
    positions[::3] += 1.0
    plain = sky_groups(positions, 3.0, 600)
    monkeypatch.setattr(module, "_PAIRS_AT_ONCE", 500)
    np.testing.assert_array_equal(sky_groups(positions, 3.0, 600), plain)
    np.testing.assert_array_equal(sky_groups(np.ones((5000, 2)), 3.0, 5000), np.zeros(5000))


def test_pairs_carry_their_separation() -> None:
    rng = np.random.default_rng(3)
    one, two = scattered(rng, 80), scattered(rng, 60)
    found = sky_pairs(one, 4.0, two)
    assert found is not None
    rows, apart = found
    here, there, separation, _ = search_around_sky(
        SkyCoord(one, unit="deg"), SkyCoord(two, unit="deg"), 4 * u.arcsec
    )
    order = np.lexsort((there, here))
    np.testing.assert_array_equal(rows, np.stack([here, there], axis=1)[order])
    np.testing.assert_allclose(apart, separation.arcsec[order], atol=1e-9)
    within = sky_pairs(one, 4.0)
    assert within is not None
    assert (within[0][:, 0] < within[0][:, 1]).all()
    assert sky_pairs(np.full((3, 2), np.nan), 4.0)[0].shape == (0, 2)  # type: ignore[index]


def test_rows_at_a_place_are_those_of_astropy() -> None:
    positions = scattered(np.random.default_rng(4), 300)
    sky = SkyCoord(positions, unit="deg")
    one, two, _, _ = search_around_sky(sky, sky, 3 * u.arcsec)
    asked = np.arange(0, 300, 7)
    for row, found in zip(asked, rows_at(positions, asked, 3.0), strict=True):
        np.testing.assert_array_equal(found, np.sort(two[one == row]))
    unknown = np.vstack([positions, [np.nan, np.nan]])
    assert [list(each) for each in rows_at(unknown, np.array([300]), 3.0)] == [[300]]
    assert [list(each) for each in rows_at(None, np.array([4, 5]), 3.0)] == [[4], [5]]


def test_merging_joins_what_either_joins() -> None:
    one, two = np.array([0, 0, 1, 2, 3]), np.array([9, 4, 4, 7, 8])
    np.testing.assert_array_equal(merge_groups(one, two), [0, 0, 0, 1, 2])
    np.testing.assert_array_equal(first_rows(merge_groups(one, two)), [0, 3, 4])
    with pytest.raises(Mismatch, match=r"\[4, 5\]"):
        merge_groups(one, two[:4])
    with pytest.raises(DataError, match="whole number"):
        merge_groups(np.array([0.5, 1.0]))
    with pytest.raises(UsageError, match="at least one"):
        merge_groups()


@given(
    st.lists(st.integers(0, 12), min_size=3, max_size=60),
    st.integers(2, 5),
    st.integers(0, 2**32 - 1),
)
def test_no_fold_cuts_a_group(numbers: list[int], folds: int, seed: int) -> None:
    groups = np.array(numbers)
    distinct = len(np.unique(groups))
    if folds > distinct:
        with pytest.raises(UsageError, match="folds"):
            grouped_folds(groups, folds, seed)
        return
    fold = grouped_folds(groups, folds, seed, stratify=groups % 2 == 0)
    assert len(straddling(groups, fold)) == 0
    assert set(fold) <= set(range(folds))
    np.testing.assert_array_equal(fold, grouped_folds(groups, folds, seed, groups % 2 == 0))


def test_folds_are_balanced_in_size_and_in_positives() -> None:
    rng = np.random.default_rng(4)
    groups = np.concatenate([np.arange(5000), rng.integers(0, 300, 1000)])
    positive = rng.random(6000) < 0.05
    fold = grouped_folds(groups, 5, 0, stratify=positive)
    assert np.ptp(np.bincount(fold)) <= 2
    assert np.ptp(np.bincount(fold[positive])) <= 1
    assert (fold != grouped_folds(groups, 5, 1, stratify=positive)).any()
    test = grouped_split(groups, 0.2, 0, stratify=positive)
    assert test.mean() == pytest.approx(0.2, abs=1e-3)
    assert positive[test].mean() == pytest.approx(positive.mean(), abs=2e-3)
    assert len(straddling(groups, test)) == 0
    # What ungrouped splitting does to the same rows.
    assert len(straddling(groups, rng.random(6000) < 0.2)) > 0


def test_bad_splits_are_refused() -> None:
    with pytest.raises(UsageError, match="share 1"):
        grouped_split(np.arange(4), 1.0, 0)
    with pytest.raises(UsageError, match="empty"):
        grouped_split(np.zeros(4, dtype=int), 0.5, 0)
    with pytest.raises(Mismatch, match="stratify"):
        grouped_folds(np.arange(4), 2, 0, stratify=[True])


def test_straddling_rows_are_those_of_groups_on_both_sides() -> None:
    sides = ["train", "test", "train", "train", None, "test"]
    np.testing.assert_array_equal(straddling(np.array([0, 0, 1, 1, 2, 2]), sides), [0, 1])
    assert len(straddling(np.array([0, 0]), [None, None])) == 0


@pytest.mark.slow
def test_a_million_positions_take_seconds() -> None:
    rng = np.random.default_rng(5)
    count = 1_000_000
    dec = np.degrees(np.arcsin(rng.uniform(-1, 1, count)))
    positions = np.stack([rng.uniform(0, 360, count), dec], axis=1)
    positions[-1000:] = positions[:1000]
    start = time.monotonic()
    groups = sky_groups(positions, 2.0, count)
    took = time.monotonic() - start
    np.testing.assert_array_equal(groups[-1000:], groups[:1000])
    print(f"a million positions: {took:.1f} s, {groups.max() + 1} groups")
    assert took < 60
