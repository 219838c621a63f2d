"""Which images train: split by place on the sky, others left out, prepared once, gaps kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from skytwin.encoders.balance import balanced, draw
from skytwin.encoders.recipe_settings import BalanceSettings, ValidationSettings
from skytwin.encoders.train_batches import Schedule, training_batches, validation_batches
from skytwin.encoders.training_set import Rows, choose_rows, prepare_images
from skytwin.errors import UnknownName, UsageError
from skytwin.images.cutouts import Cutouts
from skytwin.images.ingest import ingest_source
from skytwin.images.prepare import Prepare, unnormalised
from skytwin.images.stretch import Stretch
from toys import MemorySource, blob, raw

COUNT = 60


@pytest.fixture(scope="module")
def cutouts(tmp_path_factory: pytest.TempPathFactory) -> Cutouts:
    """Twenty places, each three times within an arcsecond; one image with a gap."""
    images = [blob(seed, 16) for seed in range(COUNT)]
    images[7][0, :4, :4] = np.nan
    at = [
        raw(image, ra=10 + (row % 20) / 50, dec=-5 + (row // 20) * 0.2 / 3600)
        for row, image in enumerate(images)
    ]
    table = pa.table(
        {
            "las": pa.array([None if row == 3 else float(row + 1) for row in range(COUNT)]),
            "kind": ["ab"[row % 2] for row in range(COUNT)],
            "flat": [1.0] * COUNT,
        }
    )
    folder = tmp_path_factory.mktemp("set") / "cutouts"
    return ingest_source(MemorySource(at, table), folder, quiet=True)


def chosen(cutouts: Cutouts, **settings: object) -> Rows:
    given = {"seed": 0, **settings}
    share = given.pop("share", 0.3)
    return choose_rows(cutouts, ValidationSettings(share=share), **given)  # type: ignore[arg-type]


def test_one_place_is_on_one_side(cutouts: Cutouts) -> None:
    rows = chosen(cutouts)
    assert set(rows.train % 20).isdisjoint(rows.validate % 20)
    assert sorted([*rows.train, *rows.validate]) == list(range(COUNT))
    assert 0.2 < len(rows.validate) / COUNT < 0.4
    assert chosen(cutouts).digest() == rows.digest()
    assert chosen(cutouts, seed=1).digest() != rows.digest()
    assert len(chosen(cutouts, share=0.0).validate) == 0


def test_what_another_set_shows_is_left_out(cutouts: Cutouts) -> None:
    positions = np.array([[10.0, -5.0], [10.02, -5.0], [np.nan, np.nan], [99.0, 9.0]])
    rows = chosen(cutouts, exclude=[("labelled", positions)], exclude_arcsec=1.0)
    left = np.concatenate([rows.train, rows.validate])
    assert set(left % 20) == set(range(2, 20))
    assert rows.left_out == {"in labelled": 6}
    narrow = chosen(cutouts, exclude=[("labelled", positions)], exclude_arcsec=0.1)
    assert narrow.left_out == {"in labelled": 2}
    with pytest.raises(UsageError, match="'labelled' has no sky positions"):
        chosen(cutouts, exclude=[("labelled", None)])


def test_conditions_are_standardised_and_must_be_known(cutouts: Cutouts) -> None:
    rows = chosen(cutouts, conditions=("log:las",), where="kind = 'b'")
    assert rows.left_out == {"not kind = 'b'": 30, "without log:las": 1}
    assert rows.conditions is not None
    values = rows.conditions.values[rows.train, 0]
    assert values.mean() == pytest.approx(0, abs=1e-6)
    assert values.std() == pytest.approx(1, abs=1e-6)
    back = np.exp(values * rows.conditions.std[0] + rows.conditions.mean[0])
    np.testing.assert_allclose(back, rows.train + 1, rtol=1e-4)
    with pytest.raises(UsageError, match="column flat is the same for all"):
        chosen(cutouts, conditions=("flat",))
    with pytest.raises(UnknownName, match="'lass'; did you mean: las"):
        chosen(cutouts, conditions=("lass",))
    with pytest.raises(UsageError, match="0 of 60 images are left"):
        chosen(cutouts, where="las > 1000")


@pytest.mark.parametrize("masked", [False, True])
def test_images_are_those_that_embed_sees(cutouts: Cutouts, tmp_path: Path, masked: bool) -> None:
    prepare = Prepare(
        bands=cutouts.bands,
        mix=(cutouts.bands,),
        crop=16,
        stretch=Stretch.parse("minmax"),
        size=8,
        channels=1,
        mean=(0.0,),
        std=(1.0,),
        interpolation="area",
    )
    rows = chosen(cutouts)
    data = prepare_images(cutouts, rows, prepare, tmp_path, masked=masked, quiet=True)
    assert data.count == len(rows.train)
    every = np.concatenate([rows.train, rows.validate])
    expected = prepare(cutouts.flux(every))
    gap = int(np.flatnonzero(every == 7)[0])
    if masked:
        assert np.isnan(data.images[gap, 0, :2, :2]).all()
        assert np.isnan(data.images).sum() == 4
    seen = np.where(np.isnan(data.images), expected, data.images)
    np.testing.assert_allclose(seen, expected, atol=6e-4)
    assert data.mean[0] == pytest.approx(np.nanmean(data.images[: data.count]), rel=1e-3)
    again = prepare_images(cutouts, rows, prepare, tmp_path, masked=masked, leader=False)
    assert np.array_equal(again.images, data.images, equal_nan=True)

    schedule = Schedule(images=data.count, batch=10, epochs=2)
    steps = schedule.epoch_steps
    first, second = (
        list(training_batches(data, schedule, 5, lambda s=epoch * steps: s, lambda: 0, 1))
        for epoch in (0, 1)
    )
    assert len(first) == schedule.epoch_steps == data.count // 10
    assert not np.array_equal(first[0].x_BCHW, second[0].x_BCHW, equal_nan=True)
    halves = [
        next(iter(training_batches(data, schedule, 5, lambda: 0, lambda r=rank: r, 2)))
        for rank in (0, 1)
    ]
    both = np.concatenate([half.x_BCHW for half in halves])
    assert sorted(np.nansum(both, axis=(1, 2, 3))) == pytest.approx(
        sorted(np.nansum(first[0].x_BCHW, axis=(1, 2, 3)))
    )
    held = np.concatenate([b.x_BCHW for b in validation_batches(data, 7, lambda: 0, 1)])
    assert np.array_equal(held, data.images[data.count :].astype(np.float32), equal_nan=True)


def test_rare_kinds_are_drawn_as_often_as_common_ones(cutouts: Cutouts, tmp_path: Path) -> None:
    even = BalanceSettings(column="las", bins=4, most=100)
    rows = chosen(cutouts, balance=even)
    assert rows.left_out == {"without las": 1}
    assert rows.balance is not None
    assert sum(rows.balance.images) == len(rows.train)
    assert rows.balance.share == pytest.approx([1 / len(rows.balance.groups)] * 4)
    # The rate of an image is one over how many there are of its kind.
    las = cutouts.catalog["las"].to_numpy()[rows.train]
    edges = [float(name.split(" to ")[0]) for name in rows.balance.groups[1:]]
    counts = np.array(rows.balance.images)
    expected = len(las) / 4 / counts[np.searchsorted(edges, las, side="right")]
    np.testing.assert_allclose(rows.balance.rate, expected)

    kinds = chosen(cutouts, balance=BalanceSettings(column="kind"))
    assert kinds.balance is not None
    assert kinds.balance.groups == ("a", "b")
    with pytest.raises(UnknownName, match="unknown column 'kynd'"):
        chosen(cutouts, balance=BalanceSettings(column="kynd"))
    with pytest.raises(UsageError, match="are of one kind"):
        chosen(cutouts, balance=BalanceSettings(column="flat"))

    prepare = unnormalised(cutouts, crop=8, size=8, stretch="linear")
    data = prepare_images(cutouts, rows, prepare, tmp_path, masked=False, quiet=True)
    schedule = Schedule(images=data.count, batch=data.count, epochs=1)
    (batch,) = training_batches(data, schedule, 5, lambda: 0, lambda: 0, 1)
    assert len(batch.x_BCHW) == data.count
    assert data.rate is not None


def test_no_image_is_drawn_too_often() -> None:
    rate = np.array([8.0] + [0.25] * 28)
    times = np.stack(
        [np.bincount(draw(rate, np.random.default_rng(s)), minlength=29) for s in range(400)]
    )
    assert (abs(times - rate * 29 / rate.sum()) < 1).all()
    np.testing.assert_allclose(times.mean(axis=0), rate * 29 / rate.sum(), atol=0.15)
    table = pa.table({"kind": ["common"] * 98 + ["rare"] * 2})
    found = balanced(table, BalanceSettings(column="kind", most=5), np.arange(100))
    assert found.rate.mean() == pytest.approx(1)
    assert found.rate[-1] / found.rate[0] == pytest.approx(5 / (50 / 98))


def test_segments_cover_an_epoch_once() -> None:
    for images in (20, 50_000, 1_000_000):
        schedule = Schedule(images=images, batch=20, epochs=3)
        for epoch in range(2):
            first = epoch * schedule.segments
            parts = [schedule.segment(first + part) for part in range(schedule.segments)]
            assert {number for number, _ in parts} == {epoch}
            assert [b for _, part in parts for b in part] == list(range(images // 20))
            for number, (_, part) in enumerate(parts):
                for batch in (part[0], part[-1]):
                    step = epoch * schedule.epoch_steps + batch
                    assert schedule.segment_of(step) == first + number
            assert all(len(part) for _, part in parts)
