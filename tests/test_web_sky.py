"""The sky panel: footprints, the filter by a MOC, and what the page draws."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import astropy.units as u
import cv2
import numpy as np
import pytest
from mocpy import MOC
from starlette.testclient import TestClient

import skytwin as st
from browsing import BROWSER, opened, until
from command import done
from served import COUNT, client, running, settings, survey
from skytwin.cli_serve import serve
from skytwin.errors import DataError, UsageError
from skytwin.images.moc import corners
from skytwin.vo.footprint import footprint
from skytwin.web.library import Library
from skytwin.web.settings import Settings


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = survey(tmp_path_factory.mktemp("web"))
    # Objects lie at RA 10.00, 10.01, ...; the strip ends between the 24th and the 25th.
    MOC.from_zone(_corners(9.9, 19.9, 10.245, 20.1), max_depth=16).save(made / "strip.fits", "fits")
    MOC.from_cone(lon=200 * u.deg, lat=-30 * u.deg, radius=5 * u.deg, max_depth=8).save(
        made / "elsewhere.json", "json"
    )
    return made


def _corners(ra: float, dec: float, ra2: float, dec2: float) -> object:
    from astropy.coordinates import SkyCoord

    return SkyCoord([[ra, dec], [ra2, dec2]], unit="deg")


@pytest.fixture(scope="module")
def asked(folder: Path) -> Settings:
    return settings(folder, mocs=(folder / "strip.fits", folder / "elsewhere.json"))


@pytest.fixture(scope="module")
def web(asked: Settings) -> Iterator[TestClient]:
    with client(asked) as found:
        yield found


def plane(ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
    ra, dec = np.radians(ra), np.radians(dec)
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=-1)


def lon_lat(vectors: np.ndarray) -> tuple[u.Quantity, u.Quantity]:
    unit = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
    ra = np.degrees(np.arctan2(unit[..., 1], unit[..., 0])) % 360
    return ra * u.deg, np.degrees(np.arcsin(unit[..., 2])) * u.deg


@pytest.mark.parametrize("order", [0, 1, 2, 5, 9, 14, 20])
def test_corners_of_cells_are_those_of_mocpy(order: int) -> None:
    rng = np.random.default_rng(order)
    numbers = np.unique([0, 12 * 4**order - 1, *rng.integers(0, 12 * 4**order, 40)])
    for number, corner in zip(numbers, corners(order, numbers), strict=True):
        cell = MOC.from_healpix_cells(
            np.array([number], np.uint64), np.array([order], np.uint8), max_depth=order
        )
        at = plane(*corner.T)
        middle = at.mean(axis=0)
        # Just within each corner lies in the cell, just beyond it does not.
        assert cell.contains_lonlat(*lon_lat(middle + 0.97 * (at - middle))).all()
        assert not cell.contains_lonlat(*lon_lat(middle + 1.03 * (at - middle))).any()


def test_areas_and_counts_are_those_of_the_library(web: TestClient, folder: Path) -> None:
    found = web.get("/api/sky").json()
    own, strip, elsewhere = found["footprints"]
    whole = footprint(folder / "emb")
    assert own["square_degrees"] == pytest.approx(whole.square_degrees)
    assert own["about"] == whole.summary
    assert (own["objects"], strip["objects"], elsewhere["objects"]) == (COUNT, 25, 0)
    assert (strip["name"], elsewhere["name"]) == ("strip", "elsewhere")
    cap = 2 * np.pi * (1 - np.cos(np.radians(5))) * np.degrees(1) ** 2
    assert elsewhere["square_degrees"] == pytest.approx(cap, rel=0.08)  # the rim is in
    # A circle around all of them.
    positions = st.open(folder / "emb").positions
    assert positions is not None
    away = np.degrees(np.arccos(plane(*positions.T) @ plane(found["ra"], found["dec"])))
    assert away.max() == pytest.approx(found["radius"], rel=1e-3)
    assert web.get("/api/info").json()["mocs"] == ["strip", "elsewhere"]


def test_cells_cover_what_the_moc_covers(web: TestClient, folder: Path) -> None:
    moc = MOC.load(str(folder / "elsewhere.json"), format="json")
    near = {"ra": 200, "dec": -30, "radius": 8}
    cells = np.array(
        web.get("/api/sky-cells", params={"name": "elsewhere", **near}).json()["cells"]
    ).reshape(-1, 4, 2)
    at = plane(cells[..., 0], cells[..., 1])
    assert moc.contains_lonlat(*lon_lat(at.mean(axis=1))).all()
    # The area of the quadrilaterals, each as two flat triangles.
    one, two, three, four = np.moveaxis(at, 1, 0)
    area = np.linalg.norm(np.cross(two - one, three - one), axis=1)
    area += np.linalg.norm(np.cross(three - one, four - one), axis=1)
    square = area.sum() / 2 * np.degrees(1) ** 2
    assert square == pytest.approx(moc.sky_fraction * 41252.96, rel=0.02)
    # What is shown from afar is coarser, and no more than a browser draws.
    whole = {"ra": 180, "dec": 0, "radius": 180}
    far = web.get("/api/sky-cells", params={"name": "elsewhere", **whole}).json()
    assert 0 < len(far["cells"]) < len(cells)
    assert far["order"] < 8
    apart = web.get("/api/sky-cells", params={**near, "ra": 20, "name": "elsewhere"}).json()
    assert apart["cells"] == []
    own = web.get("/api/sky-cells", params={"ra": 10.3, "dec": 20, "radius": 1}).json()
    assert len(own["cells"]) > 0


def test_inside_is_the_filter_of_search(web: TestClient, folder: Path) -> None:
    embeddings = st.open(folder / "emb")
    answer = web.get("/api/search?like=g04&k=60&inside=strip").json()
    want = st.search(embeddings, "g04", k=60, inside=folder / "strip.fits")
    assert [row["id"] for row in answer["rows"]] == list(want.ids)
    assert {int(row["id"][1:]) for row in answer["rows"]} == set(range(25)) - {4}
    assert f"--inside {folder / 'strip.fits'}" in answer["command"]
    both = web.get("/api/search?like=g04&k=60&inside=strip&where=mag<17").json()
    also = st.search(embeddings, "g04", k=60, inside=folder / "strip.fits", where="mag<17")
    assert [row["id"] for row in both["rows"]] == list(also.ids)
    some = web.get("/api/objects?inside=strip&limit=60").json()
    assert (some["total"], sorted(row["row"] for row in some["rows"])) == (25, list(range(25)))
    assert web.get("/api/objects?inside=elsewhere").json()["total"] == 0
    assert web.get("/api/distances?like=g04&inside=strip").json()["total"] == 24


@pytest.mark.parametrize(
    ("address", "status", "words"),
    [
        ("search?like=g01&inside=elsewhere", 422, "no object lies inside the MOC"),
        ("search?like=g01&inside=nothing", 404, "unknown MOC 'nothing'; known: strip, elsewhere"),
        ("search?like=g01&inside=/etc/passwd", 404, "unknown MOC"),
        ("search?like=g01&inside={folder}/strip.fits", 404, "unknown MOC"),
        ("objects?inside=..%2Fstrip", 404, "unknown MOC"),
        ("sky-cells?name=x&ra=1&dec=1&radius=1", 404, "unknown MOC"),
        ("sky-cells?ra=1&dec=91&radius=1", 400, "dec 91; expected a number at least -90"),
        ("sky-cells?ra=1&dec=9", 400, "radius is missing"),
    ],
)
def test_only_what_is_served_by_its_name(
    web: TestClient, folder: Path, address: str, status: int, words: str
) -> None:
    answer = web.get(f"/api/{address.format(folder=folder)}")
    assert answer.status_code == status
    assert words in answer.json()["error"]


def test_what_cannot_be_served_is_refused_at_the_start(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "strip.fits").write_bytes(b"no")
    with pytest.raises(DataError, match="holds no MOC of the sky"):
        serve(folder / "emb", moc=[tmp_path / "strip.fits"])
    with pytest.raises(UsageError, match="two MOCs are called 'strip'"):
        Library(settings(folder, mocs=(folder / "strip.fits", folder / "strip.fits")))
    np.savez(tmp_path / "own.npz", vectors=np.eye(3, dtype="f4"), ids=np.array(["x", "y", "z"]))
    done("adopt", tmp_path / "own.npz", "--out", tmp_path / "own", "--quiet")
    with pytest.raises(UsageError, match="--moc needs positions"):
        serve(tmp_path / "own", moc=[folder / "strip.fits"])
    # Without positions there is no panel, and the address says why.
    with client(Settings(embedding=tmp_path / "own")) as web:
        assert web.get("/api/info").json()["sky"] is False
        assert "sky-panel" not in web.get("/").text
        assert "needs positions" in web.get("/api/sky").json()["error"]


needs_browser = pytest.mark.skipif(BROWSER is None, reason="browser tests need chromium")


@pytest.mark.slow
@needs_browser
@pytest.mark.parametrize("width", [1280, 390])
def test_the_panel_draws_filters_and_leads_to_a_match(asked: Settings, width: int) -> None:
    with running(asked) as address, opened(address, width=width) as page:
        page.goto("/?like=g04&k=30")
        page.wait_for_selector(".card .rank")
        page.wait_for_selector("body[data-sky-ready]")
        words = page.inner_text("#sky-words")
        assert "strip:" in words
        assert "25 of 60 objects lie inside" in words
        assert "30 of those listed are drawn" in words
        assert "square degrees" in page.get_attribute("#sky", "aria-label")
        page.locator("#sky").scroll_into_view_if_needed()
        shot = cv2.imdecode(np.frombuffer(page.locator("#sky").screenshot(), np.uint8), 1)
        for tone in ("own", "moc", "match"):  # each drawn in its colour, over what lies below
            colour = page.eval_on_selector(f"#sky-legend .{tone}", "o => getComputedStyle(o).color")
            red, green, blue = (int(v) for v in colour[4:-1].split(","))
            apart = np.abs(shot.astype(int) - (blue, green, red)).max(axis=2)
            assert (apart < (60 if tone == "match" else 190)).sum() > 20, tone

        # A dot leads to its card: the one whose place the projection gives.
        first = page.eval_on_selector(".card", "one => one.dataset.id")
        ra = 10 + 0.01 * int(first[1:])
        middle, dec, radius = map(float, page.evaluate("document.body.dataset.sky").split(","))
        box = page.locator("#sky").bounding_box()
        scale = box["height"] / 2 / (2 * np.sin(np.radians(radius) / 2))
        east = -np.radians(ra - middle) * np.cos(np.radians(20)) * scale
        north = np.radians(20 - dec) * scale
        x, y = box["x"] + box["width"] / 2 + east, box["y"] + box["height"] / 2 - north
        page.mouse.move(x, y)
        page.wait_for_selector("#sky-hover:not([hidden])")
        assert first in page.inner_text("#sky-hover")
        page.mouse.click(x, y)
        assert page.evaluate("document.activeElement.closest('.card').dataset.id") == first

        page.select_option("#inside", "strip")
        until(page, "location.search.includes('inside=strip')")
        page.wait_for_selector("#summary:has-text('24 most like')")
        page.goto(page.url)
        page.wait_for_selector("#summary:has-text('24 most like')")
        assert page.input_value("#inside") == "strip"
        page.focus("#sky")
        was = page.evaluate("document.body.dataset.sky")
        page.keyboard.press("-")
        until(page, f"document.body.dataset.sky !== '{was}'")
        page.click("#sky-all")
        until(page, "document.body.dataset.sky.endsWith(',90.00')")
        page.wait_for_load_state("networkidle")
        page.click("#sky-more")
        page.wait_for_selector("#sky-large[open] #sky")
        page.keyboard.press("Escape")
        page.wait_for_selector("#sky-home #sky")
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0


@pytest.mark.slow
@needs_browser
@pytest.mark.parametrize(("scheme", "width"), [("dark", 390), ("light", 1280)])
def test_axe_finds_nothing_in_the_panels(asked: Settings, scheme: str, width: int) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    more = {"color_scheme": scheme, "bypass_csp": True}  # for axe itself
    with running(asked) as address, opened(address, width=width, **more) as page:
        page.goto("/?like=g04")
        page.wait_for_selector("body[data-sky-ready]")
        page.click("#samp-panel summary")
        page.wait_for_load_state("networkidle")
        for place in ("", "#sky-more"):
            if place:
                page.click(place)
            found = axe.Axe().run(page).response["violations"]
            assert [(one["id"], one["nodes"][0]["html"][:120]) for one in found] == []
