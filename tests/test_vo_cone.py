"""Simple Cone Search, asked by pyvo and by Debian's STILTS over a real server on this machine."""

from __future__ import annotations

import contextlib
import io
import shutil
import socket
import subprocess
import threading
import time
import urllib.request
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import astropy.units as u
import numpy as np
import pytest
import pyvo
import uvicorn
from astropy.coordinates import SkyCoord
from astropy.io import votable
from starlette.applications import Starlette

from skytwin.answers.search import search
from skytwin.embeddings.table import Embeddings
from skytwin.errors import UsageError
from skytwin.vo.cone import ConeSearch, routes
from toys import labelled


def everywhere(n: int = 3000) -> Embeddings:
    """Objects all over the sky, thick around the poles and on both sides of RA 0."""
    rng = np.random.default_rng(1)
    dec = np.degrees(np.arcsin(rng.uniform(-1, 1, n)))
    dec[: n // 4] = rng.choice([-1, 1], n // 4) * (90 - rng.exponential(0.5, n // 4))
    ra = rng.uniform(0, 360, n)
    ra[n // 4 : n // 2] = rng.normal(0, 0.5, n // 4) % 360
    dec[n // 4 : n // 2] = rng.normal(0, 0.5, n // 4)
    ra[-1], dec[-1] = 0.0, 90.0
    x = rng.standard_normal((n, 6))
    names = [f"o{i}" for i in range(n)]
    return Embeddings.from_arrays(x, names, {"ra": ra, "dec": dec, "mag": rng.uniform(15, 22, n)})


@contextlib.contextmanager
def served(embeddings: Embeddings) -> Iterator[str]:
    app = Starlette(routes=routes(embeddings))
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", ws="none", lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    deadline = time.monotonic() + 20
    while not server.started:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/cone"
    finally:
        server.should_exit = True
        thread.join()
        listening.close()


@pytest.mark.parametrize(
    ("ra", "dec", "radius"),
    [
        (0.0, 0.0, 0.3), (359.9, 0.1, 0.5), (360.0, 0.0, 0.3), (123.0, 89.9, 0.7), (0.0, 90.0, 0.2),
        (77.0, -90.0, 0.4), (200.0, 30.0, 15.0), (200.0, 30.0, 90.0), (10.0, -20.0, 180.0),
        (10.0, -20.0, 179.0), (45.0, 45.0, 1e-6),
    ],
)  # fmt: skip
def test_what_lies_within_is_what_astropy_says(ra: float, dec: float, radius: float) -> None:
    embeddings = everywhere()
    assert embeddings.positions is not None
    rows, away = ConeSearch(embeddings).within(ra, dec, radius)
    sky = SkyCoord(*embeddings.positions.T, unit="deg")
    want = SkyCoord(ra, dec, unit="deg").separation(sky).deg
    assert set(rows.tolist()) == set(np.flatnonzero(want <= radius).tolist())
    assert np.allclose(away, want[rows], atol=1e-10)
    assert (np.diff(away) >= 0).all()


def test_an_object_itself_is_found_in_the_smallest_cone() -> None:
    embeddings = everywhere()
    assert embeddings.positions is not None
    cones = ConeSearch(embeddings)
    for row in (0, 800, 2000, 2999):
        ra, dec = embeddings.positions[row]
        assert row in cones.within(ra, dec, 1e-9)[0]


def test_rows_without_a_position_are_never_found() -> None:
    embeddings = Embeddings.from_arrays(
        np.eye(3), ["a", "b", "c"], {"ra": [1.0, np.nan, 2.0], "dec": [1.0, 1.0, np.nan]}
    )
    assert ConeSearch(embeddings).within(1.0, 1.0, 180.0)[0].tolist() == [0]
    with pytest.raises(UsageError, match="needs positions"):
        ConeSearch(Embeddings.from_arrays(np.eye(3), ["a", "b", "c"]))


def test_pyvo_finds_objects_and_their_likeness() -> None:
    embeddings = labelled()
    assert embeddings.positions is not None
    with served(embeddings) as url:
        service = pyvo.dal.SCSService(url)
        found = service.search(pos=(0.0, 0.0), radius=0.3)
        assert 0 < len(found) < 400
        row = embeddings.index[str(found[0].id)]
        assert found[0].pos.ra.deg == embeddings.positions[row, 0]
        assert found.to_table()["separation"].unit == u.deg
        like = service.search(pos=(0.0, 0.0), radius=0.3, LIKE="s200").to_table()
    want = search(embeddings, "s200", k=400, include_self=True)
    distance = dict(zip(want.ids, want.distance, strict=True))
    assert like["id"][0] == "s200"
    assert sorted(like["id"]) == sorted(found.to_table()["id"])
    assert np.allclose(like["distance"], [distance[name] for name in like["id"]], atol=1e-6)
    assert (np.diff(like["distance"]) >= 0).all()


def test_errors_reach_pyvo_in_words() -> None:
    with served(labelled()) as url:
        service = pyvo.dal.SCSService(url)
        with pytest.raises(pyvo.dal.DALQueryError, match="unknown id 'nobody'"):
            service.search(pos=(0.0, 0.0), radius=0.3, LIKE="nobody")
        with pytest.raises(pyvo.dal.DALQueryError, match=r"SR='200\.0'; expected a number from 0"):
            service.search(pos=(0.0, 0.0), radius=200.0)
        assert len(service.search(pos=(0.0, 0.0), radius=1.0, MAXREC=5)) == 5


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("stilts") is None, reason="install STILTS (Debian: stilts)")
def test_stilts_asks_for_a_cone_around_each_row(tmp_path: Path) -> None:
    embeddings = labelled()
    places = tmp_path / "places.csv"
    places.write_text("name,ra,dec\na,0.0,0.0\nb,359.8,0.3\n")
    with served(embeddings) as url:
        out = subprocess.run(
            [
                "stilts", "coneskymatch", f"serviceurl={url}", "servicetype=cone", f"in={places}",
                "ifmt=csv", "ra=ra", "dec=dec", "sr=0.2", "verb=3", "find=all", "ofmt=csv",
                "emptyok=true", "parallel=1",
            ],
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        answer = urllib.request.urlopen(f"{url}?RA=0&DEC=0&SR=0.3&LIKE=s3").read()
        missing = urllib.request.urlopen(f"{url}?RA=0&DEC=0").read()
        full = urllib.request.urlopen(f"{url}?ra=0&dec=0&sr=1&maxrec=3&verb=1").read()
    assert out.returncode == 0, out.stderr
    cones = ConeSearch(embeddings)
    want = sum(len(cones.within(ra, dec, 0.2)[0]) for ra, dec in ((0.0, 0.0), (359.8, 0.3)))
    assert len(out.stdout.splitlines()) == want + 1
    for name, content in (("answer", answer), ("error", missing), ("full", full)):
        path = tmp_path / f"{name}.vot"
        path.write_bytes(content)
        lint = subprocess.run(
            ["stilts", "votlint", "ucd=true", str(path)],
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert (lint.stdout + lint.stderr).strip() == "", name


def fields_of(document: bytes) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the standard's UCDs are of the old kind
        return votable.parse(io.BytesIO(document)).get_first_table()


def test_a_radius_of_zero_asks_for_the_columns_alone() -> None:
    cones = ConeSearch(labelled())
    table = fields_of(cones.answer([("RA", "0"), ("DEC", "0"), ("SR", "0")]))
    assert len(table.array) == 0
    ucds = [field.ucd for field in table.fields]
    for ucd in ("ID_MAIN", "POS_EQ_RA_MAIN", "POS_EQ_DEC_MAIN"):
        assert ucds.count(ucd) == 1
    assert {field.name for field in table.fields} >= {"kind", "z"}
    like = [("RA", "0"), ("DEC", "0"), ("SR", "0"), ("LIKE", "s3")]
    assert "distance" in [field.name for field in fields_of(cones.answer(like)).fields]
    brief = fields_of(cones.answer([("ra", "0"), ("dec", "0"), ("sr", "1"), ("verb", "1")]))
    assert [field.name for field in brief.fields] == ["id", "ra", "dec", "separation"]
    assert [str(field.ref) for field in brief.fields[1:3]] == ["ICRS", "ICRS"]


def test_rows_that_are_left_out_are_the_farthest_and_it_is_said() -> None:
    cones = ConeSearch(labelled())
    query = [("RA", "0"), ("DEC", "0"), ("SR", "1")]
    for more, status in (("7", "OVERFLOW"), ("400", "OK")):
        document = cones.answer([*query, ("MAXREC", more)])
        (resource,) = votable.parse(io.BytesIO(document)).resources
        infos = {info.name: info.value for info in resource.infos}
        assert infos["QUERY_STATUS"] == status
    seven = fields_of(cones.answer([*query, ("MAXREC", "7")])).array["id"]
    assert list(seven) == cones.embeddings.ids[cones.within(0.0, 0.0, 1.0)[0][:7]].tolist()


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"DEC": "0", "SR": "1"}, "RA is missing"),
        ({"RA": "0", "DEC": "0"}, "SR is missing"),
        ({"RA": "x", "DEC": "0", "SR": "1"}, "expected a number from 0 to 360"),
        ({"RA": "0", "DEC": "91", "SR": "1"}, "expected a number from -90 to 90"),
        ({"RA": "nan", "DEC": "0", "SR": "1"}, "expected a number from 0 to 360"),
        ({"RA": "0", "DEC": "0", "SR": "-1"}, "expected a number from 0 to 180"),
        ({"RA": "0", "DEC": "0", "SR": "1", "VERB": "4"}, "a whole number from 1 to 3"),
        ({"RA": "0", "DEC": "0", "SR": "1", "MAXREC": "1e9"}, "a whole number from 0 to 100000"),
        ({"RA": "0", "DEC": "0", "SR": "1", "sr": "2"}, "SR is given twice"),
        ({"RA": "0", "DEC": "0", "SR": "1", "LIKE": "/etc/passwd"}, "unknown id"),
        ({"RA": "0", "DEC": "0", "SR": "1", "LIKE": "<\"&'>"}, "unknown id"),
    ],
)
def test_errors_are_votables_too(query: dict[str, str], message: str) -> None:
    document = ConeSearch(labelled()).answer(list(query.items()))
    parsed = votable.parse(io.BytesIO(document), verify="exception")
    (info,) = parsed.infos
    assert info.name == "Error"
    assert message in info.value
    (status,) = parsed.resources[0].infos
    assert (status.name, status.value) == ("QUERY_STATUS", "ERROR")
