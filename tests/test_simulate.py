"""Simulated surveys: the truth is true, and the bytes depend on the seed alone."""

from __future__ import annotations

import importlib.util
import math
import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.stats import sigma_clipped_stats

from skytwin.errors import OutputExists, UnknownName, UsageError
from skytwin.files import hash_file
from skytwin.images.arrow import described
from skytwin.images.cutouts import Cutouts
from skytwin.images.datasets import open_dataset
from skytwin.images.simulate import simulate_survey, simulator
from skytwin.images.simulate_radio import (
    RADIO_MIX,
    RadioSettings,
    RadioSimulator,
    as_published,
)
from skytwin.images.simulate_sky import TILE, Simulator, mixture, sky_positions
from skytwin.images.simulate_survey import OPTICAL_MIX, OpticalSettings

needs_galsim = pytest.mark.skipif(
    importlib.util.find_spec("galsim") is None, reason="an optical survey needs GalSim"
)
KINDS = ["radio", pytest.param("optical", marks=needs_galsim)]


def files(folder: Path) -> dict[str, str]:
    return {
        p.relative_to(folder).as_posix(): hash_file(p)
        for p in sorted(folder.rglob("*"))
        if p.is_file() and p.name != ".verified.json"
    }


def small(kind: str, count: int, out: Path, **settings: Any) -> Cutouts:
    settings = {"size": 32, "shard_rows": 32, "workers": 1, "quiet": True, **settings}
    return simulate_survey(kind, count, out, **settings)


def alone(**settings: Any) -> RadioSimulator:
    """Radio sources without anything that is not in their truth."""
    return RadioSimulator(settings=RadioSettings(neighbours=0.0, sidelobes=0.0, **settings))


def galaxies(seed: int = 0, **settings: Any) -> Any:
    from skytwin.images.simulate_optical import OpticalSimulator

    return OpticalSimulator(settings=OpticalSettings(neighbours=0.0, **settings), seed=seed)


def only(name: str) -> tuple[tuple[str, float], ...]:
    return mixture({name: 1.0}, RADIO_MIX if name in RADIO_MIX else OPTICAL_MIX)


@pytest.mark.parametrize("kind", KINDS)
def test_the_folder_is_a_set_of_cutouts_with_units(tmp_path: Path, kind: str) -> None:
    made = small(kind, 70, tmp_path / "c")
    assert len(made) == 70
    assert made.catalog.column_names[:4] == ["id", "ra", "dec", "origin"]
    assert len(set(made.ids)) == 70
    assert made.unit == {"radio": "Jy/beam", "optical": "nanomaggy"}[kind]
    assert made.bands == {"radio": ("1.4GHz",), "optical": ("g", "r", "i")}[kind]
    assert made.manifest.summary["rejected"] == 0
    assert (made.folder / "rejected.csv").read_text() == "id,origin,reason\n"
    named = {entry.name: described(entry).get("unit") for entry in made.catalog.schema}
    expected = {
        "radio": {"las_arcsec": "arcsec", "flux": "Jy", "noise": "Jy/beam", "ra": "deg"},
        "optical": {"size_arcsec": "arcsec", "flux_r": "nanomaggy", "mag_g": "mag"},
    }
    assert expected[kind].items() <= named.items()
    flux = made.flux(slice(None))
    assert flux.dtype == np.float32
    assert flux.shape == (70, len(made.bands), 32, 32)


@pytest.mark.parametrize("kind", KINDS)
def test_neither_workers_nor_size_change_an_object(tmp_path: Path, kind: str) -> None:
    one = small(kind, 80, tmp_path / "one")
    small(kind, 80, tmp_path / "two", workers=2)
    assert files(tmp_path / "one") == files(tmp_path / "two")
    head = small(kind, 10, tmp_path / "head")
    np.testing.assert_array_equal(head.pixels(slice(None)), one.pixels(slice(10)))
    assert str(head.catalog.to_pylist()) == str(one.catalog.slice(0, 10).to_pylist())  # NaN is NaN
    other = small(kind, 10, tmp_path / "other", seed=1)
    assert (
        not np.isclose(other.pixels(slice(None)), head.pixels(slice(None)))
        .any(axis=(1, 2, 3))
        .all()
    )
    assert not set(other.catalog["ra"].to_pylist()) & set(head.catalog["ra"].to_pylist())


KILLED = """
    import os, signal
    from skytwin.images import simulate

    class Slow(simulate.SimulatedSource):
        def read(self, index):
            if index == {at}:
                os.kill(os.getpid(), signal.SIGKILL)
            return super().read(index)

    simulate.SimulatedSource = Slow
    simulate.simulate_survey(
        "radio", 100, {out!r}, size=32, shard_rows=16, workers=1, quiet=True
    )
"""


def test_killed_and_resumed_is_byte_for_byte_the_unbroken_run(tmp_path: Path) -> None:
    small("radio", 100, tmp_path / "whole", shard_rows=16)
    script = textwrap.dedent(KILLED.format(at=70, out=str(tmp_path / "c")))
    ended = subprocess.run([sys.executable, "-c", script], check=False, env={**os.environ})
    assert ended.returncode == -signal.SIGKILL
    with pytest.raises(OutputExists, match="seed: 0 then, 1 now"):
        small("radio", 100, tmp_path / "c", shard_rows=16, seed=1)
    small("radio", 100, tmp_path / "c", shard_rows=16, workers=2)
    assert files(tmp_path / "c") == files(tmp_path / "whole")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "xray"}, "unknown kind of survey 'xray'; .*optical"),
        ({"count": 0}, "0 images; expected at least 1"),
        ({"workers": 0}, "0 workers; expected at least 1"),
        ({"seed": -1}, "seed is -1; expected"),
        ({"size": 8}, "size is 8 pixels; expected 32 to 2048: .*--crop"),
        ({"pixel_scale": -1.0}, "pixel scale is -1.0; expected a positive number"),
        ({"pixel_scale": 5.0}, "beam of 5.4 arcsec on pixels of 5.0 arcsec"),
        ({"depth": 0.0}, "depth is 0.0; expected a positive number"),
        ({"mix": {"FRIII": 0.5}}, "unknown class 'FRIII'; did you mean: FRII"),
        ({"mix": {"FRI": -0.5}}, "the share of FRI is -0.5; expected a number from 0 up"),
        ({"mix": {"FRI": math.nan}}, "the share of FRI is nan"),
        ({"mix": dict.fromkeys(RADIO_MIX, 0.0)}, "every class has the share 0"),
        ({"bands": ["g"]}, "bands g of a radio survey"),
        ({"survey": "lofar"}, "unknown survey 'lofar'; known: first, nvss"),
        ({"survey": "nvss", "count": 10**6}, "at most [0-9]+ fit on the sky"),
        ({"kind": "optical", "eight_bit": True}, "--eight-bit belongs to radio surveys"),
        ({"kind": "optical", "bands": ["g", "q"]}, "unknown band 'q'"),
        ({"kind": "optical", "bands": ["g", "g"]}, "expected each of some once"),
        ({"kind": "optical", "pixel_scale": 3.0}, "expected 0.05 to 0.6"),
    ],
)
def test_bad_input_is_one_clear_line(
    tmp_path: Path, arguments: dict[str, Any], message: str
) -> None:
    call = {"kind": "radio", "count": 5, **arguments}
    with pytest.raises(UsageError, match=message) as caught:
        simulate_survey(out=tmp_path / "c", quiet=True, **call)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "c").exists()


def test_without_galsim_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"GalSim.*install skytwin\[simulate\]"):
        simulate_survey("optical", 5, tmp_path / "c", quiet=True)


def test_shares_that_are_named_hold_and_the_others_share_the_rest() -> None:
    shares = dict(mixture({"FRI": 0.5}, RADIO_MIX))
    assert shares["FRI"] == 0.5
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["compact"] / shares["FRII"] == pytest.approx(
        RADIO_MIX["compact"] / RADIO_MIX["FRII"]
    )
    assert dict(mixture({"FRI": 2, "FRII": 1}, RADIO_MIX))["FRI"] == pytest.approx(2 / 3)
    assert dict(mixture({"FRI": 1}, RADIO_MIX))["FRII"] == 0
    with pytest.raises(UnknownName):
        mixture({"fr1": 1}, RADIO_MIX)
    made = RadioSimulator(settings=RadioSettings(mix=mixture({"head-tail": 0.3}, RADIO_MIX)))
    drawn = np.concatenate([made.truth(tile)["morphology"] for tile in range(30)])
    assert (drawn == "head-tail").mean() == pytest.approx(0.3, abs=0.04)


def test_no_two_frames_overlap_on_the_sky() -> None:
    frame = 0.075
    ra, dec = np.hstack(
        [
            sky_positions(np.random.default_rng(tile), 3, tile, frame)
            for tile in (*range(8), 399, 400, 401)
        ]
    )
    assert (np.abs(dec) < 90).all()
    assert ((ra >= 0) & (ra < 360)).all()
    sky = SkyCoord(ra * u.deg, dec * u.deg)
    _, apart, _ = sky.match_to_catalog_sky(sky, nthneighbor=2)
    assert apart.deg.min() > 0.99 * frame


# Radio


def test_radio_flux_is_that_of_the_catalogue() -> None:
    made = alone(las_scale=0.5)
    batch = made.batch(0)
    beam = math.pi * 3.0**2 / (4 * math.log(2))
    total = batch.flux.sum(axis=(1, 2, 3), dtype=np.float64) / beam
    np.testing.assert_allclose(total, batch.truth["flux"].to_numpy(), rtol=2e-3)


def test_a_compact_source_is_the_beam() -> None:
    made = alone(mix=only("compact"))
    batch = made.batch(0)
    assert batch.truth["fr"].null_count == TILE
    peak = batch.flux.max(axis=(1, 2, 3))
    ratio = peak / batch.truth["flux"].to_numpy()
    assert ((ratio > 0.6) & (ratio <= 1.001)).all()  # resolved a little, centred anywhere
    y, x = np.indices(batch.flux.shape[2:])
    for image, column, row in zip(
        batch.flux[:, 0], batch.truth["x"].to_numpy(), batch.truth["y"].to_numpy(), strict=True
    ):
        assert (image * x).sum() / image.sum() == pytest.approx(column, abs=0.02)
        assert (image * y).sum() / image.sum() == pytest.approx(row, abs=0.02)


def profile(batch: Any) -> tuple[np.ndarray, np.ndarray]:
    """Distance of the light from the core, and along the axis, in units of half the size."""
    truth = batch.truth
    y, x = np.indices(batch.flux.shape[2:])
    mean, reach = [], []
    for i, image in enumerate(batch.flux[:, 0]):
        column, row, angle, las = (truth[n][i].as_py() for n in ("x", "y", "pa_deg", "las_arcsec"))
        dx, dy, turn = x - column, y - row, math.radians(angle)
        half = las / 1.8 / 2
        along = -dx * math.sin(turn) - dy * math.cos(turn)
        mean.append((image * np.hypot(dx, dy)).sum() / image.sum() / half)
        lit = along[image > 0.01 * image.max()]
        reach.append((lit.max() - lit.min()) / (2 * half))
    return np.array(mean), np.array(reach)


def test_frii_are_brightest_at_their_ends_and_fri_near_their_cores() -> None:
    sizes = {"las_scale": 1.5, "size": 256}
    one = alone(mix=only("FRI"), **sizes).batch(0)
    two = alone(mix=only("FRII"), **sizes).batch(0)
    long = [b.truth["las_arcsec"].to_numpy() > 60 for b in (one, two)]
    fri, frii = (profile(b)[0][keep] for b, keep in zip((one, two), long, strict=True))
    assert np.median(fri) < 0.5 < np.median(frii)
    assert np.percentile(fri, 84) < np.percentile(frii, 16)


def test_radio_sizes_and_position_angles_are_true() -> None:
    batch = alone(mix=only("FRII"), size=256, beam_arcsec=3.6).batch(0)
    las = batch.truth["las_arcsec"].to_numpy()
    _, reach = profile(batch)
    assert np.median(reach[las > 80]) == pytest.approx(1.03, abs=0.08)
    assert (np.abs(reach[las > 80] - 1) < 0.2).mean() > 0.9
    assert las.max() <= 0.95 * 256 * 1.8


@pytest.mark.parametrize("size", [150, 151])
def test_radio_noise_is_that_of_the_catalogue_and_correlated_as_firsts(size: int) -> None:
    made = RadioSimulator(settings=RadioSettings(sidelobes=0.0, size=size))
    residual = (made.render(0) - made.batch(0).flux)[:, 0]
    stated = float(made.truth(0)["noise"][0])
    assert residual.std() == pytest.approx(stated, rel=0.03)
    # Medians of 24 of MiraBest's FITS images, along rows and columns.
    for lag, real in ((1, 0.765), (2, 0.415), (4, 0.25)):
        for a, b in (
            (residual[:, :, lag:], residual[:, :, :-lag]),
            (residual[:, lag:], residual[:, :-lag]),
        ):
            assert (a * b).mean() / residual.var() == pytest.approx(real, abs=0.05)


def test_eight_bit_images_are_made_as_published() -> None:
    made = RadioSimulator()
    flux, eight = made.render(0), replace(made, settings=RadioSettings(eight_bit=True)).render(0)
    noise = float(made.truth(0)["noise"][0])
    assert eight.dtype == np.uint8
    assert (eight.max(axis=(1, 2, 3)) == 255).all()
    y, x = np.indices((150, 150)) - 75
    outside = np.hypot(x, y) > 75
    assert not eight[:, 0, outside].any()
    assert not eight[flux < 3 * noise].any()
    kept = (flux >= 3 * noise) & ~outside
    peak = np.where(kept, flux, 0).max(axis=(1, 2, 3), keepdims=True)
    np.testing.assert_array_equal(eight[kept], np.floor(255 * (flux / peak))[kept])
    np.testing.assert_array_equal(as_published(flux, np.full(TILE, noise)), eight)


@pytest.mark.real
def test_published_images_are_made_to_the_last_pixel(data_dir: Path) -> None:
    source = open_dataset("mirabest", folder=data_dir)
    rows = {name.split("_")[1]: row for row, name in enumerate(source.ids)}
    maps = sorted((data_dir / "mirabest_fits").glob("*.fits"))
    assert len(maps) == 24
    for path in maps:
        whole = np.squeeze(fits.getdata(path)).astype(float)
        noise = sigma_clipped_stats(whole[np.isfinite(whole)], sigma=3)[2]
        centre = np.nan_to_num(whole)[None, None, 75:225, 75:225]
        published = source.read(rows[path.stem.split("_")[1]]).pixels
        np.testing.assert_array_equal(as_published(centre, noise)[0], published)


def test_nvss_has_larger_pixels_and_beam(tmp_path: Path) -> None:
    made = small("radio", 3, tmp_path / "c", survey="nvss", eight_bit=True)
    assert made.pixel_scale == 15.0
    assert made.dtype == np.uint8
    assert made.unit is None
    assert made.catalog["beam_arcsec"].to_pylist() == [45.0] * 3


# Optical


@needs_galsim
@pytest.mark.parametrize(
    ("n", "size", "q"),
    [(1.0, 6.0, 0.5), (1.0, 2.0, 0.8), (2.0, 5.0, 0.3), (4.0, 7.0, 0.7), (5.5, 6.0, 0.6)],
)
def test_fast_drawing_equals_galsims(n: float, size: float, q: float) -> None:
    galsim = pytest.importorskip("galsim")
    from skytwin.images.simulate_profiles import Scene, Shape, psf_transfer, sersic

    side, x, y, pa = 96, 47.8, 47.3, 30.0
    scene = Scene(1, side)
    scene.add(sersic(side, Shape(x=x, y=y, size=size, axis_ratio=q, pa_deg=pa), n), np.ones(1))
    ours = scene.seen(psf_transfer(side, 3.3, 3.5, 0.03, 70.0)[None])[0, 16:80, 16:80]
    fine = galsim.GSParams(folding_threshold=1e-3, maxk_threshold=3e-4)
    turn = (90 - pa) * galsim.degrees
    light = galsim.Sersic(n, half_light_radius=size * q**0.5, gsparams=fine).shear(q=q, beta=turn)
    psf = galsim.Moffat(beta=3.5, fwhm=3.3).shear(g=0.03, beta=20 * galsim.degrees)
    both = galsim.Convolve(light, psf).shift(x - 47.5, y - 47.5)
    theirs = both.drawImage(nx=side, ny=side, scale=1.0, dtype=float).array[16:80, 16:80]
    assert np.abs(ours - theirs).max() < 0.008 * theirs.max()
    assert ours.sum() == pytest.approx(theirs.sum(), rel=0.003)


@needs_galsim
def test_spirals_edge_on_discs_and_lenses_have_unit_flux_and_rings_of_a_disc() -> None:
    from skytwin.images.simulate_profiles import (
        Scene,
        Shape,
        edge_on,
        lensed,
        psf_transfer,
        sersic,
        spiral,
    )

    side = 320
    shape = Shape(x=160.2, y=159.7, size=10.0, axis_ratio=1.0, pa_deg=0.0)
    transfer = psf_transfer(side, 3.3, 4.5, 0.0, 0.0)[None]

    def seen(*parts: tuple[Any, float]) -> np.ndarray:
        scene = Scene(1, side)
        for light, flux in parts:
            scene.add(light, np.array([flux]))
        return np.asarray(scene.seen(transfer)[0])

    about: dict[str, Any] = {"arms": 2, "pitch_deg": 20, "clockwise": True, "phase": 1.0}
    whole = seen((spiral(side, shape, strength=1.0, **about), 1.0))
    plain = seen((sersic(side, shape, 1.0), 1.0))
    y, x = np.indices((side, side))
    ring = np.hypot(x - shape.x, y - shape.y).astype(int)
    sums = [np.bincount(ring.ravel(), image.ravel())[:40] for image in (whole, plain)]
    np.testing.assert_allclose(sums[0][3:], sums[1][3:], rtol=0.08)
    thin = replace(shape, axis_ratio=0.15, pa_deg=30.0)
    source = Shape(x=163.0, y=161.0, size=1.0, axis_ratio=0.7, pa_deg=10.0)
    for image in (
        whole,
        plain,
        seen((edge_on(side, thin, dust=0.6), 1.0)),
        seen((lensed(side, replace(shape, axis_ratio=0.8), 9.0, source), 1.0)),
    ):
        assert image.sum() == pytest.approx(1.0, abs=4e-3)


@needs_galsim
def test_a_lens_makes_a_ring_of_its_einstein_radius() -> None:
    from skytwin.images.simulate_profiles import Scene, Shape, lensed, psf_transfer

    lens = Shape(x=47.5, y=47.5, size=5.0, axis_ratio=0.99, pa_deg=0.0)
    scene = Scene(1, 96)
    scene.add(lensed(96, lens, 12.0, replace(lens, size=0.7)), np.ones(1))
    image = scene.seen(psf_transfer(96, 2.5, 3.5, 0.0, 0.0)[None])[0]
    y, x = np.indices(image.shape)
    r = np.hypot(x - 47.5, y - 47.5)
    assert (image * r).sum() / image.sum() == pytest.approx(12.0, abs=0.5)
    assert image[r < 6].sum() < 0.1


@needs_galsim
def test_optical_flux_is_that_of_the_catalogue() -> None:
    made = galaxies(mix=only("star"), bands=("u", "g", "r", "i", "z"))
    batch = made.batch(0)
    for band, total in zip("ugriz", batch.flux.sum(axis=(2, 3)).T, strict=True):
        flux, mag = (batch.truth[f"{what}_{band}"].to_numpy() for what in ("flux", "mag"))
        np.testing.assert_allclose(total, flux, rtol=0.03)  # the PSF's wings leave the frame
        np.testing.assert_allclose(mag, 22.5 - 2.5 * np.log10(flux), atol=1e-4)
    discs = galaxies(mix=only("disk"), size=128).batch(0)
    size = discs.truth["size_arcsec"].to_numpy()
    ratio = discs.flux[:, 1].sum(axis=(1, 2)) / discs.truth["flux_r"].to_numpy()
    np.testing.assert_allclose(ratio[size < 5], 1.0, atol=0.03)
    assert set(batch.truth["handedness"].to_pylist()) == {None}


def moments(image: np.ndarray) -> tuple[float, float]:
    """Axis ratio and position angle (degrees, north to east) of the bright part."""
    light = np.where(image > 0.08 * image.max(), image, 0)
    y, x = np.indices(image.shape)
    total = light.sum()
    dx, dy = x - (light * x).sum() / total, y - (light * y).sum() / total
    east, north = -dx, -dy
    spread = [(light * part).sum() / total for part in (north**2, east**2, north * east)]
    values, vectors = np.linalg.eigh([[spread[0], spread[2]], [spread[2], spread[1]]])
    return math.sqrt(values[0] / values[1]), math.degrees(math.atan2(*vectors[::-1, 1])) % 180


@needs_galsim
def test_edge_on_discs_are_thin_and_lie_as_stated() -> None:
    edge = galaxies(mix=only("edge-on")).batch(0)
    found = np.array([moments(image) for image in edge.flux[:, 1]])
    assert np.median(found[:, 0]) < 0.45
    off = np.abs((found[:, 1] - edge.truth["pa_deg"].to_numpy() + 90) % 180 - 90)
    assert np.percentile(off, 90) < 3
    round_ = galaxies(mix=only("elliptical")).batch(0)
    assert np.median([moments(image)[0] for image in round_.flux[:, 1]]) > 0.65


@needs_galsim
def test_the_arms_wind_as_their_handedness_says() -> None:
    made = galaxies(mix=only("disk"), size=128)
    right = seen = 0
    y, x = np.indices((128, 128))
    for tile in range(4):
        batch = made.batch(tile)
        for i, row in enumerate(batch.truth.to_pylist()):
            if not (
                row["inclination_deg"] < 40
                and row["arm_strength"] > 0.5
                and row["size_arcsec"] > 4
                and row["arms"] == 2
                and row["pitch_deg"] > 18
            ):
                continue
            dx, dy = x - row["x"], row["y"] - y  # as displayed: y upwards
            r, angle = np.hypot(dx, dy), np.arctan2(dy, dx)
            h = row["size_arcsec"] / 0.396 / 1.678
            phases = []
            for low in np.arange(0.9, 2.3, 0.15):
                ring = (r >= low * h) & (r < (low + 0.15) * h)
                phases.append(np.angle((batch.flux[i, 1][ring] * np.exp(2j * angle[ring])).sum()))
            turned = np.unwrap(phases)[-1] - phases[0]
            seen += 1
            right += (turned > 0) == (row["handedness"] == "clockwise")
    assert seen >= 12
    assert right / seen > 0.9


@needs_galsim
def test_optical_noise_is_that_of_the_catalogue() -> None:
    made = galaxies(mix=only("star"))
    residual = made.render(0) - made.batch(0).flux
    for band, name in enumerate(made.settings.bands):
        corner = residual[:, band, :12, :12]
        assert corner.std() == pytest.approx(float(made.truth(0)[f"noise_{name}"][0]), rel=0.03)
    deep = galaxies(mix=only("star"), depth=10.0)
    assert deep.truth(0)["noise_r"][0] == pytest.approx(made.truth(0)["noise_r"][0] / 10)


@needs_galsim
def test_every_class_and_artefact_is_drawn() -> None:
    made = galaxies(mix=mixture(dict.fromkeys(OPTICAL_MIX, 1.0), OPTICAL_MIX))
    truths = [made.truth(tile) for tile in range(2)]
    assert set(np.concatenate([t["morphology"] for t in truths])) == set(OPTICAL_MIX)
    spoiled = galaxies(mix=only("artefact"), size=128)
    images, kinds = spoiled.render(0), spoiled.truth(0)["artefact"]
    clean = spoiled.batch(0).flux
    for image, kind in zip(images, kinds, strict=True):
        assert np.isnan(image).any() == (kind == "edge")
    changed = np.nanmax(np.abs(images - clean), axis=(1, 2, 3))
    assert (changed > 0.1).all()


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_larger_survey_by_two_processes(tmp_path: Path, kind: str) -> None:
    made = simulate_survey(kind, 1500, tmp_path / "c", workers=2, quiet=True)
    again: Simulator = simulator(kind)
    np.testing.assert_array_equal(made.pixels(slice(1408, 1472)), again.render(1408 // TILE))
