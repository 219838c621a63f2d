"""Footprints, against astropy and what squares on a sphere must cover."""

from __future__ import annotations

from pathlib import Path

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord, SkyOffsetFrame

from command import done, skytwin
from skytwin.errors import DataError, UnknownName, UsageError
from skytwin.images.moc import cover, inside, read_moc
from skytwin.vo.footprint import footprint


def on_the_sky(ra: float, dec: float, n: int, reach: float, seed: int) -> np.ndarray:
    """Places within a square of ``reach`` degrees either side, by astropy's offsets."""
    rng = np.random.default_rng(seed)
    frame = SkyOffsetFrame(origin=SkyCoord(ra, dec, unit="deg"))
    lon, lat = rng.uniform(-reach, reach, (2, n)) * u.deg
    sky = SkyCoord(lon, lat, frame=frame).icrs
    return np.stack([sky.ra.deg, sky.dec.deg], axis=1)


@pytest.mark.parametrize(("ra", "dec"), [(150.0, 2.0), (0.0, 0.0), (0.01, -60.0), (30.0, 89.99)])
def test_a_square_is_covered_and_what_lies_apart_is_not(ra: float, dec: float) -> None:
    size = 120.0
    found = cover(np.array([[ra, dec]]), size, order=17)
    within = on_the_sky(ra, dec, 2000, 0.495 * size / 3600, seed=1)
    assert inside(within, found.moc).all()
    ring = on_the_sky(ra, dec, 4000, size / 3600, seed=2)
    frame = SkyOffsetFrame(origin=SkyCoord(ra, dec, unit="deg"))
    there = SkyCoord(*ring.T, unit="deg").transform_to(frame)
    reach = np.maximum(np.abs(there.lon.wrap_at("180d").arcsec), np.abs(there.lat.arcsec))
    outside = reach > 0.5 * size + 5  # farther off than a cell's diagonal
    centre_and_outside = np.concatenate([[[ra, dec]], ring[outside]])
    assert inside(centre_and_outside, found.moc).tolist() == [True] + [False] * outside.sum()
    assert found.square_degrees == pytest.approx((size / 3600) ** 2, rel=0.1)


def test_the_order_follows_the_size_and_the_union_many_positions() -> None:
    positions = on_the_sky(200.0, 30.0, 25_000, 5.0, seed=3)
    positions[7] = np.nan
    found = cover(positions, 60.0)
    assert found.objects == 24_999
    cell = 58.6323 * 3600 / 2**found.order
    assert 60 / 8 <= cell <= 60 / 4
    mask = inside(positions, found.moc)
    assert not mask[7]
    assert mask.sum() == 24_999
    coarse = cover(positions, None, order=6)
    assert inside(positions, coarse.moc).sum() == 24_999
    assert coarse.square_degrees > found.square_degrees


@pytest.mark.parametrize("ending", [".fits", ".json"])
def test_files_read_back_the_same(tmp_path: Path, ending: str) -> None:
    found = cover(on_the_sky(10.0, 10.0, 50, 1.0, seed=4), 30.0)
    path = tmp_path / f"m{ending}"
    found.save(path)
    assert read_moc(path) == found.moc
    with pytest.raises(UsageError, match="exists"):
        found.save(path)


def test_bad_mocs_and_calls(tmp_path: Path) -> None:
    (tmp_path / "x.fits").write_bytes(b"no")
    (tmp_path / "x.json").write_text("{]")
    for name in ("x.fits", "x.json"):
        with pytest.raises(DataError, match="holds no MOC of the sky"):
            read_moc(tmp_path / name)
    with pytest.raises(UnknownName, match="unknown MOC format '.reg'"):
        read_moc(tmp_path / "x.reg")
    with pytest.raises(UsageError, match="no file"):
        read_moc(tmp_path / "none.fits")
    here = np.array([[10.0, 10.0]])
    with pytest.raises(UsageError, match="needs positions"):
        cover(None, 10.0)
    with pytest.raises(UsageError, match="give --order"):
        cover(here, None)
    with pytest.raises(UsageError, match="order 40"):
        cover(here, 10.0, order=40)
    with pytest.raises(UsageError, match="images of -1 arcsec"):
        cover(here, -1.0, order=10)
    moc = cover(here, 10.0).moc
    with pytest.raises(UsageError, match="--inside needs positions"):
        inside(None, moc)
    with pytest.raises(DataError, match="no object lies inside"):
        inside(np.array([[50.0, 10.0]]), moc)


@pytest.mark.slow
def test_from_the_command_line(tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    rng = np.random.default_rng(0)
    for number in range(12):
        np.save(images / f"g{number}.npy", rng.normal(size=(20, 20)).astype("f4"))
    table = tmp_path / "positions.csv"
    table.write_text("id,ra,dec\n" + "".join(f"g{n},{n},{n}\n" for n in range(12)))
    done(
        "ingest", images, "--catalog", table, "--pixel-scale", 3, "--out", tmp_path / "st",
        "--quiet",
    )  # fmt: skip
    done("embed", tmp_path / "st", "--encoder", "pca:4", "--out", tmp_path / "emb", "--quiet")
    said = done("footprint", tmp_path / "emb", "--out", tmp_path / "a.fits", "--quiet")
    assert said.startswith("12 images of 60 arcsec cover 0.00")
    done("footprint", tmp_path / "st", "--out", tmp_path / "b.json", "--quiet")
    assert read_moc(tmp_path / "a.fits") == read_moc(tmp_path / "b.json")
    done("footprint", table, "--size", 60, "--out", tmp_path / "c.fits", "--quiet")
    assert read_moc(tmp_path / "c.fits") == footprint(tmp_path / "st").moc
    for words, message in (
        ((table, "--out", tmp_path / "d.fits"), "give --order"),
        ((table, "--out", tmp_path / "d.reg"), "unknown format '.reg'"),
        ((table, "--out", tmp_path / "a.fits"), "exists"),
    ):
        outcome = skytwin("footprint", *words, "--quiet")
        assert outcome.code == 2
        assert message in outcome.err
