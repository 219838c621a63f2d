"""Fetching cutouts by position, from a server that misbehaves on purpose."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pyarrow.parquet as pq
import pytest
from astropy.io import fits

from command import done, skytwin
from fetch_server import CutoutServer, picture, running
from skytwin.artefact import Manifest
from skytwin.errors import DataError, UnknownName, Unreachable, UsageError
from skytwin.images.cutouts import Cutouts
from skytwin.images.fetch import fetch
from skytwin.images.fetch_surveys import choose
from skytwin.images.fetch_web import Manners

FAST: dict[str, Any] = {"rate": 500.0, "backoff_s": 0.01, "timeout_s": 1.0, "quiet": True}


def positions(folder: Path, degrees: Sequence[int], name: str = "list.csv") -> Path:
    path = folder / name
    rows = "".join(f"gal{d:03d},{d}.25,{d / 10 - 2:.2f},{d * 2}\n" for d in degrees)
    path.write_text("id,ra,dec,mag\n" + rows)
    return path


def legacy(server: CutoutServer, table: Path, out: Path, **more: Any) -> Any:
    settings = {
        "survey": "legacy",
        "size_arcsec": 0.262 * 32,
        "base_url": f"{server.url}/fits-cutout",
        **FAST,
    }
    return fetch(table, out, **{**settings, **more})


def failed(folder: Path) -> dict[str, str]:
    with (folder / "failed.csv").open(newline="") as stream:
        return {row["id"]: row["reason"] for row in csv.DictReader(stream)}


# ------------------------------------------------------------------ what the services are asked


@pytest.mark.parametrize(
    ("survey", "more", "host", "path", "asked"),
    [
        (
            "sdss", {"size_arcsec": 50.69}, "skyserver.sdss.org",
            "/dr18/SkyServerWS/ImgCutout/getjpeg",
            {"ra": "10.5000000", "dec": "-1.2000000", "scale": "0.396", "width": "128",
             "height": "128"},
        ),
        (
            "legacy", {"size_arcsec": 67.072}, "www.legacysurvey.org", "/viewer/fits-cutout",
            {"ra": "10.5000000", "dec": "-1.2000000", "layer": "ls-dr10", "pixscale": "0.262",
             "bands": "grz", "size": "256"},
        ),
        (
            "legacy:ls-dr9", {"size_arcsec": 64, "format": "jpeg", "pixel_scale": 0.5},
            "www.legacysurvey.org", "/viewer/jpeg-cutout",
            {"ra": "10.5000000", "dec": "-1.2000000", "layer": "ls-dr9", "pixscale": "0.5",
             "size": "128"},
        ),
        (
            "hips:CDS/P/DSS2/red", {"size_arcsec": 360, "pixel_scale": 1.0},
            "alasky.cds.unistra.fr", "/hips-image-services/hips2fits",
            {"ra": "10.5000000", "dec": "-1.2000000", "hips": "CDS/P/DSS2/red", "width": "360",
             "height": "360", "fov": "0.1", "projection": "TAN", "coordsys": "icrs",
             "format": "fits"},
        ),
    ],
)  # fmt: skip
def test_addresses_of_the_services(
    survey: str, more: dict[str, Any], host: str, path: str, asked: dict[str, str]
) -> None:
    parts = urlsplit(choose(survey, **more).url(10.5, -1.2))
    assert (parts.scheme, parts.hostname, parts.path) == ("https", host, path)
    assert {name: value for name, (value,) in parse_qs(parts.query).items()} == asked


@pytest.mark.parametrize(
    ("survey", "more", "kind", "message"),
    [
        ("sdds", {}, UnknownName, "unknown survey 'sdds'; did you mean: sdss"),
        ("sdss", {"format": "fits"}, UsageError, "sdss has no service that cuts FITS"),
        ("sdss", {"bands": ["g"]}, UsageError, "--bands does not go with JPEG of sdss"),
        ("sdss", {"size_arcsec": 10.0}, UsageError, "are 25 pixels; sdss cuts 64 to 2048"),
        ("legacy", {"format": "tiff"}, UnknownName, "unknown format 'tiff'"),
        ("legacy", {"size_arcsec": 900.0}, UsageError, "legacy cuts 1 to 512"),
        ("legacy", {"size_arcsec": -1.0}, UsageError, "--size -1; expected a positive number"),
        ("hips", {}, UsageError, "--survey hips needs an identifier"),
        ("hips:X", {}, UsageError, "needs --pixel-scale"),
        ("legacy", {"base_url": "ftp://x/y"}, UsageError, "expected http://... or https://"),
        ("legacy", {"base_url": "http://x/y?z=1"}, UsageError, "has parameters"),
    ],
)
def test_what_a_service_cannot_do_is_refused(
    survey: str, more: dict[str, Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message.replace("?", r"\?").replace(".", r"\.")):
        choose(survey, **{"size_arcsec": 60.0, **more})


# ------------------------------------------------------------------------ good and bad servers


def test_images_arrive_unchanged_and_ingest_takes_them(tmp_path: Path) -> None:
    with running(CutoutServer()) as server:
        found = legacy(server, positions(tmp_path, range(12)), tmp_path / "got")
    assert (found.came, found.failed) == (12, {})
    assert [agent.startswith("skytwin/") for agent in server.agents] == [True]
    pixels = fits.getdata(tmp_path / "got/images/gal003.fits")
    assert np.array_equal(pixels, picture(3.25, 32))
    command = found.ingest_command.replace("CUTOUTS", str(tmp_path / "cutouts")).split()
    done(*command[1:], "--quiet")
    cutouts = Cutouts(tmp_path / "cutouts")
    assert cutouts.bands == ("g", "r", "z")
    assert cutouts.pixel_scale == pytest.approx(0.262)
    rows = cutouts.catalog.to_pylist()
    assert [row["mag"] for row in rows] == [2 * d for d in range(12)]
    assert [row["ra"] for row in rows] == [d + 0.25 for d in range(12)]
    assert rows[3]["image_url"].startswith(server.url)
    assert rows[3]["fetched"].startswith("20")
    assert np.array_equal(cutouts.flux(np.array([3]))[0], picture(3.25, 32))


def test_jpegs_of_sdss_become_cutouts_with_their_scale(tmp_path: Path) -> None:
    with running(CutoutServer()) as server:
        out = done(
            "fetch", positions(tmp_path, [1, 2]), "--survey", "sdss", "--size", 25.344,
            "--base-url", f"{server.url}/getjpeg", "--rate", 500, "--out", tmp_path / "got",
        )  # fmt: skip
    assert "2 image(s) of sdss:dr18, 64 x 64 pixels of 0.396 arcsec, JPEG" in out
    command = out.splitlines()[-1].removeprefix("next: skytwin ").split()
    done(*command[:-1], tmp_path / "cutouts", "--quiet")
    cutouts = Cutouts(tmp_path / "cutouts")
    assert (cutouts.bands, cutouts.pixel_scale) == (("i", "r", "g"), 0.396)
    assert cutouts.catalog["ra"].to_pylist() == [1.25, 2.25]


def test_hips_images(tmp_path: Path) -> None:
    with running(CutoutServer()) as server:
        found = fetch(
            positions(tmp_path, [7]), tmp_path / "got", survey="hips:CDS/P/DSS2/red",
            size_arcsec=60.0, pixel_scale=1.5, base_url=f"{server.url}/hips2fits", **FAST,
        )  # fmt: skip
    assert found.came == 1
    assert fits.getdata(tmp_path / "got/images/gal007.fits").shape == (40, 40)


PASSING = {
    1: ["500", "500"],
    2: ["429:0"],
    3: ["drip"],
    4: ["truncated"],
    5: ["chunked"],
    6: ["html"],
    7: ["small"],
    8: ["reset", "reset"],
    9: ["stall"],
    10: ["damaged"],
    11: ["elsewhere"],
    12: ["429-date:0"],
}


def test_what_a_retry_gets_is_kept_whole(tmp_path: Path) -> None:
    with running(CutoutServer(moods=PASSING)) as server:
        found = legacy(server, positions(tmp_path, range(14)), tmp_path / "got")
    assert (found.came, found.failed) == (14, {})
    for degree in range(14):
        assert server.seen(degree) == [*PASSING.get(degree, []), "good"]
        pixels = fits.getdata(tmp_path / f"got/images/gal{degree:03d}.fits")
        assert np.array_equal(pixels, picture(degree + 0.25, 32))


def test_what_will_not_come_is_not_asked_for_again(tmp_path: Path) -> None:
    moods = {1: ["404"], 2: ["blank"], 3: ["loop"] * 9, 4: ["file"], 5: ["huge"], 6: ["redirect"]}
    with running(CutoutServer(moods=moods)) as server:
        found = legacy(server, positions(tmp_path, range(7)), tmp_path / "got")
    assert found.came == 2
    reasons = failed(tmp_path / "got")
    assert reasons["gal001"] == "HTTP 404: Oh no"
    assert reasons["gal002"].startswith("no data there: constant image")
    assert reasons["gal003"].startswith("more than 5 redirects")
    assert reasons["gal004"] == "a redirect from http to file"
    assert reasons["gal005"].startswith("an answer of 5")
    assert set(reasons) == {f"gal00{d}" for d in (1, 2, 3, 4, 5)}
    assert server.seen(1) == ["404"]
    assert server.seen(2) == ["blank"]
    assert server.seen(3) == ["loop"] * 6
    assert server.seen(6) == ["redirect", "good"]
    assert Manifest.open(tmp_path / "got", "images").summary["images"] == 2


def test_words_that_sdss_draws_outside_its_footprint_are_no_galaxy(tmp_path: Path) -> None:
    with running(CutoutServer(moods={2: ["words"]})) as server:
        found = fetch(
            positions(tmp_path, [1, 2]), tmp_path / "got", survey="sdss", size_arcsec=40.0,
            base_url=f"{server.url}/getjpeg", **FAST,
        )  # fmt: skip
    assert found.came == 1
    assert "of the pixels are one colour" in failed(tmp_path / "got")["gal002"]


def test_a_server_that_stays_silent_is_left_alone_and_asked_again_later(tmp_path: Path) -> None:
    table = positions(tmp_path, range(40))
    moods = {3: ["500"] * 3}
    with running(CutoutServer(moods=moods)) as server:
        with pytest.raises(Unreachable, match=r"1 of 40 positions got no answer of use \(e\.g\. "):
            legacy(server, table, tmp_path / "got", retries=1)
        assert failed(tmp_path / "got") == {"gal003": "HTTP 500 (2 attempts)"}
        asked = len(server.log)
        found = legacy(server, table, tmp_path / "got", retries=1)
        assert (found.came, failed(tmp_path / "got")) == (40, {})
        assert [degree for _, degree, _ in server.log[asked:]] == [3, 3]


def test_giving_up_finishes_with_the_list_of_what_failed(tmp_path: Path) -> None:
    with running(CutoutServer(moods={d: ["500"] * 9 for d in range(2, 40)})) as server:
        found = legacy(
            server, positions(tmp_path, range(40)), tmp_path / "got", retries=1, give_up=True
        )
    assert (found.came, found.failed) == (2, {"HTTP 500": 38})
    assert len(failed(tmp_path / "got")) == 38
    assert "38 x HTTP 500" in found.summary
    catalog = pq.read_table(tmp_path / "got/catalog.parquet")
    assert catalog["id"].to_pylist() == ["gal000", "gal001"]


def test_a_dead_server_is_not_asked_for_every_position(tmp_path: Path) -> None:
    with running(CutoutServer(always="500")) as server:
        with pytest.raises(Unreachable, match=r"gave nothing for 1\d images in a row \(HTTP 500\)"):
            legacy(server, positions(tmp_path, range(300)), tmp_path / "got", retries=2)
        assert len(server.log) <= 3 * (10 + 4)
    assert not (tmp_path / "got").exists()
    with pytest.raises(Unreachable, match="connection refused"):
        legacy(server, positions(tmp_path, range(300)), tmp_path / "got", retries=0)


def test_a_server_that_says_no_to_everything_is_asked_no_further(tmp_path: Path) -> None:
    table = positions(tmp_path, range(70))
    with running(CutoutServer(moods={d: ["404"] for d in range(60)})) as server:
        for asked in (30, 60):
            with pytest.raises(DataError, match=r"said no to the first 2\d positions \(HTTP 404"):
                legacy(server, table, tmp_path / "got")
            assert len(server.log) <= asked
        found = legacy(server, table, tmp_path / "got", give_up=True)
    assert (found.came, found.failed) == (10, {"HTTP 404: Oh no": 60})


def test_an_answer_that_is_compressed_on_the_way_is_taken(tmp_path: Path) -> None:
    with running(CutoutServer(moods={1: ["gzip"]})) as server:
        legacy(server, positions(tmp_path, [1]), tmp_path / "got")
        assert server.seen(1) == ["gzip"]
    assert np.array_equal(fits.getdata(tmp_path / "got/images/gal001.fits"), picture(1.25, 32))


def test_requests_keep_the_rate_whatever_the_number_of_threads(tmp_path: Path) -> None:
    with running(CutoutServer()) as server:
        legacy(server, positions(tmp_path, range(15)), tmp_path / "got", rate=20.0, workers=8)
    times = np.array([when for when, _, _ in server.log])
    # Fifteen turns are fourteen steps of 1/20 s.
    assert times[-1] - times[0] > 14 / 20 * 0.95


def test_a_pause_that_a_server_asks_for_is_kept_by_all_threads(tmp_path: Path) -> None:
    with running(CutoutServer(moods={0: ["429:1"]})) as server:
        found = legacy(server, positions(tmp_path, range(20)), tmp_path / "got", workers=2)
    assert found.came == 20
    asked = next(when for when, _, mood in server.log if mood.startswith("429"))
    later = [when - asked for when, _, _ in server.log if when > asked]
    # At most what was under way already comes sooner.
    assert sum(wait < 0.9 for wait in later) <= 2
    with (
        running(CutoutServer(moods={0: ["429:7200"]})) as server,
        pytest.raises(Unreachable, match="asks for a pause of 120 minutes; 0 images are kept"),
    ):
        legacy(server, positions(tmp_path, range(4)), tmp_path / "other", workers=1)


def test_pauses_double_at_most_and_depend_on_the_seed_alone() -> None:
    manners = Manners(rate=1.0, backoff_s=2.0, seed=4)
    waits = np.array([[manners.wait(n, a) for a in range(1, 9)] for n in range(200)])
    limit = np.minimum(2.0 * 2.0 ** np.arange(8), 60.0)
    assert (waits < limit).all()
    assert np.abs(waits.mean(axis=0) / limit - 0.5).max() < 0.1
    assert manners.wait(3, 2) == Manners(rate=9.0, backoff_s=2.0, seed=4).wait(3, 2)
    assert manners.wait(3, 2) != Manners(rate=1.0, backoff_s=2.0, seed=5).wait(3, 2)


# ------------------------------------------------------------------------- resuming, the cache


def command(*words: object) -> subprocess.Popen[str]:
    """The command as a process of its own that hears interrupts."""
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from skytwin.cli import main; main()"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, words)], stderr=subprocess.PIPE, text=True
    )


def wait_for_requests(server: CutoutServer, count: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while len(server.log) < count:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_run_goes_on_without_asking_twice(tmp_path: Path, stop: signal.Signals) -> None:
    table = positions(tmp_path, range(40))
    with running(CutoutServer(moods={5: ["500"]})) as server:
        words = [
            "fetch", table, "--survey", "legacy", "--size", 0.262 * 32, "--rate", 25,
            "--base-url", f"{server.url}/fits-cutout", "--out", tmp_path / "got", "--backoff", 0.01,
        ]  # fmt: skip
        process = command(*words)
        wait_for_requests(server, 12, process)
        os.kill(process.pid, stop)
        _, said = process.communicate(timeout=30)
        assert process.returncode == (130 if stop == signal.SIGINT else -stop)
        if stop == signal.SIGINT:
            assert "interrupted; repeat the command to resume" in said
        before = len((tmp_path / "got/journal.jsonl").read_text().splitlines())
        answered = sum(mood == "good" for _, _, mood in server.log)
        done(*words, "--quiet")
        good = [degree for _, degree, mood in server.log if mood == "good"]
    # Killed outright, what was under way is asked for again; interrupted, only an answer of
    # which the rest had not come.
    under_way = 2 if stop == signal.SIGINT else 5
    assert before >= answered - under_way
    assert set(good) == set(range(40))
    assert len(good) - 40 <= under_way
    for degree in range(40):
        pixels = fits.getdata(tmp_path / f"got/images/gal{degree:03d}.fits")
        assert np.array_equal(pixels, picture(degree + 0.25, 32))
    assert not list((tmp_path / "got").rglob(".partial*"))


@pytest.mark.slow
def test_an_interrupt_does_not_wait_for_a_silent_server(tmp_path: Path) -> None:
    table = positions(tmp_path, range(10))
    with running(CutoutServer(moods={d: ["stall:25"] for d in range(2, 10)})) as server:
        process = command(
            "fetch", table, "--survey", "legacy", "--size", 0.262 * 32, "--rate", 50,
            "--base-url", f"{server.url}/fits-cutout", "--out", tmp_path / "got",
        )  # fmt: skip
        wait_for_requests(server, 6, process)
        start = time.monotonic()
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)
        assert process.returncode == 130
        assert time.monotonic() - start < 12
    assert len((tmp_path / "got/journal.jsonl").read_text().splitlines()) == 2


def test_another_call_does_not_take_over_an_unfinished_folder(tmp_path: Path) -> None:
    table = positions(tmp_path, range(30))
    with running(CutoutServer(moods={2: ["500"] * 9})) as server:
        with pytest.raises(Unreachable):
            legacy(server, table, tmp_path / "got", retries=0)
        with pytest.raises(UsageError, match=r"unfinished run with other settings.*pixels"):
            legacy(server, table, tmp_path / "got", size_arcsec=10.0)
        positions(tmp_path, range(31))
        with pytest.raises(UsageError, match="unfinished run with other settings"):
            legacy(server, table, tmp_path / "got")


def test_a_lost_image_is_fetched_again_on_resuming(tmp_path: Path) -> None:
    table = positions(tmp_path, range(30))
    with running(CutoutServer(moods={2: ["500"]})) as server:
        with pytest.raises(Unreachable):
            legacy(server, table, tmp_path / "got", retries=0)
        (tmp_path / "got/images/gal004.fits").unlink()
        (tmp_path / "got/images/gal005.fits").write_bytes(b"cut")
        asked = len(server.log)
        legacy(server, table, tmp_path / "got")
        assert sorted(degree for _, degree, _ in server.log[asked:]) == [2, 4, 5]


def test_the_cache_answers_for_another_list_and_trusts_no_damaged_entry(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    with running(CutoutServer()) as server:
        legacy(server, positions(tmp_path, range(6)), tmp_path / "one", cache=cache)
        asked = len(server.log)
        victim = next(
            path
            for path in cache.rglob("*.json")
            if "ra=3.25" in json.loads(path.read_text())["asked"]
        )
        content = victim.with_suffix(".image")
        content.write_bytes(content.read_bytes()[:-2880])
        more = positions(tmp_path, range(8), "more.csv")
        found = legacy(server, more, tmp_path / "two", cache=cache)
        assert found.came == 8
        assert sorted(degree for _, degree, _ in server.log[asked:]) == [3, 6, 7]
    for name in ("gal003", "gal005"):
        one, two = ((tmp_path / n / f"images/{name}.fits").read_bytes() for n in ("one", "two"))
        assert one == two


# ---------------------------------------------------------------------------- odd lists


def test_rows_at_one_place_are_one_request_and_unsafe_ids_get_numbers(tmp_path: Path) -> None:
    table = tmp_path / "list.csv"
    table.write_text("id,ra,dec\nNGC 1/a,10,2\n../b,10,2\nc,,\n")
    with running(CutoutServer()) as server:
        found = legacy(server, table, tmp_path / "got")
        assert len(server.log) == 1
    assert found.came == 2
    assert failed(tmp_path / "got") == {"c": "no position"}
    names = sorted(path.name for path in (tmp_path / "got/images").iterdir())
    assert names == ["object-00001.fits", "object-00002.fits"]
    catalog = pq.read_table(tmp_path / "got/catalog.parquet")
    assert catalog["id"].to_pylist() == ["object-00001", "object-00002"]
    assert catalog["id_given"].to_pylist() == ["NGC 1/a", "../b"]


def test_sexagesimal_positions_and_tables_without_ids(tmp_path: Path) -> None:
    table = tmp_path / "list.csv"
    table.write_text("ra,dec\n00:41:00,+01:30:00\n")
    with running(CutoutServer()) as server:
        legacy(server, table, tmp_path / "got")
        assert server.queries[0]["ra"] == "10.2500000"
        assert server.queries[0]["dec"] == "1.5000000"
    assert pq.read_table(tmp_path / "got/catalog.parquet")["id"].to_pylist() == ["list-00001"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n", "no sky position among the columns of list.csv"),
        ("id,ra,dec\nx,1,2\nx,2,3\n", "'x' more than once"),
        ("id,ra,dec\n,1,2\nx,2,3\n", "has a gap"),
        ("ra,dec\n1,95\n", "dec = 95"),
    ],
)
def test_bad_tables_are_refused_before_anything_is_asked(
    tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "list.csv").write_text(text)
    with running(CutoutServer()) as server:
        with pytest.raises((UsageError, DataError), match=message):
            legacy(server, tmp_path / "list.csv", tmp_path / "got")
        assert not server.log
    assert not (tmp_path / "got").exists()


def test_nothing_at_all_is_an_error(tmp_path: Path) -> None:
    with (
        running(CutoutServer(always="blank")) as server,
        pytest.raises(DataError, match="no image of 3 position"),
    ):
        legacy(server, positions(tmp_path, range(3)), tmp_path / "got")


def test_bad_calls_from_the_command_line(tmp_path: Path) -> None:
    table = positions(tmp_path, [1])
    words = ("fetch", table, "--survey", "legacy", "--size", 10, "--out", tmp_path / "got")
    for more, message in (
        (("--rate", 0), "--rate 0.0; expected a positive number"),
        (("--workers", 99), "--workers 99; expected 1 to 16"),
        (("--retries", -1), "--retries -1; expected 0 or more"),
        (("--timeout", 0), "--timeout 0.0; expected a positive number"),
    ):
        outcome = skytwin(*words, *more)
        assert (outcome.code, outcome.out) == (2, "")
        assert message in outcome.err
    assert not (tmp_path / "got").exists()
