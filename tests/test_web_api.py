"""The JSON API: the same answers as the functions of the command line, and as plain NumPy."""

from __future__ import annotations

import asyncio
import concurrent.futures
import io
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

import skytwin as st
from command import done, header
from served import COUNT, client, settings, survey
from skytwin.answers.calibrate import calibrate
from skytwin.answers.explain import explain
from skytwin.answers.maps_place import open_map
from skytwin.errors import Mismatch, UsageError
from skytwin.web.app import create_app
from skytwin.web.library import Library
from skytwin.web.once import Busy, Once
from skytwin.web.rows import plain, sorted_by
from skytwin.web.settings import Settings
from toys import blob


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return survey(tmp_path_factory.mktemp("web"))


@pytest.fixture(scope="module")
def web(folder: Path) -> Iterator[TestClient]:
    with client(settings(folder)) as found:
        yield found


def test_search_is_that_of_numpy_and_of_the_library(folder: Path, web: TestClient) -> None:
    embeddings = st.open(folder / "emb")
    x = np.asarray(embeddings.vectors, dtype=np.float64)
    far = np.linalg.norm(x - x[embeddings.index["g07"]], axis=1)
    order = [int(row) for row in np.argsort(far) if embeddings.ids[row] != "g07"]
    answer = web.get("/api/search?like=g07&metric=euclidean&k=10&columns=kind").json()
    assert [row["row"] for row in answer["rows"]] == order[:10]
    assert [row["distance"] for row in answer["rows"]] == pytest.approx(far[order[:10]])
    assert [row["rank"] for row in answer["rows"]] == list(range(1, 11))
    assert (answer["total"], answer["excluded"], answer["how"]) == (10, 1, "euclidean distance")

    asked = "like=g07&like=10.09,20&unlike=g11&where=mag<18&k=20&columns=mag&combine=mean"
    answer = web.get(f"/api/search?{asked}").json()
    found = st.search(
        embeddings, ["g07", (10.09, 20.0)], unlike="g11", where="mag<18", k=20, combine="mean"
    )
    assert [row["id"] for row in answer["rows"]] == list(found.ids)
    assert [row["distance"] for row in answer["rows"]] == list(found.distance)
    assert [one["id"] for one in answer["references"]] == ["g07", "g09", "g11"]
    assert [one["negative"] for one in answer["references"]] == [False, False, True]
    assert [row["reference"] for row in answer["rows"]] == list(found.reference)
    mags = found.table["mag"].to_pylist()
    assert [row["columns"] for row in answer["rows"]] == [{"mag": mag} for mag in mags]
    words = answer["command"].split()
    assert words[:2] == ["skytwin", "search"]
    assert "--unlike g11 -k 20 --where 'mag<18' --combine mean" in answer["command"]


def test_pages_follow_one_another(web: TestClient) -> None:
    whole = web.get("/api/search?like=g01&k=30").json()
    first = web.get("/api/search?like=g01&k=30&limit=12").json()
    rest = web.get("/api/search?like=g01&k=30&limit=500&offset=12").json()
    assert first["total"] == rest["total"] == 30
    assert first["rows"] + rest["rows"] == whole["rows"]
    reach = whole["rows"][4]["distance"]
    within = web.get("/api/search", params={"like": "g01", "radius": reach}).json()
    assert within["rows"] == whole["rows"][:5]
    every = web.get("/api/objects?limit=40").json()["rows"]
    every += web.get("/api/objects?limit=40&offset=40").json()["rows"]
    assert sorted(row["id"] for row in every) == [f"g{i:02d}" for i in range(COUNT)]


def test_purity_and_probability_are_those_of_the_library(folder: Path, web: TestClient) -> None:
    embeddings = st.open(folder / "emb")
    curve = st.purity(embeddings, "g04", "kind=a")
    answer = web.get("/api/purity?like=g04").json()
    assert answer["purity"] == list(curve.purity)
    assert answer["distance"] == list(curve.distance)
    assert answer["lower"] == list(curve.lower)
    assert (answer["base"]["hits"], answer["base"]["total"]) == (14, 59)
    other = web.get("/api/purity", params={"like": "g04", "positive": "mag < 17"}).json()
    assert other["base"]["hits"] == st.purity(embeddings, "g04", "mag < 17").base.hits

    matches = st.search(embeddings, "g04", k=COUNT)
    expected = calibrate(matches, positive="kind=a").predict(matches.distance[:7])
    answer = web.get("/api/search?like=g04&k=7&probability=true").json()
    assert [row["probability"] for row in answer["rows"]] == pytest.approx(list(expected))

    counts = web.get("/api/distances?like=g04").json()
    assert counts["total"] == COUNT - 1
    assert counts["count"] == list(range(1, COUNT))
    assert counts["distance"] == pytest.approx(list(matches.distance))


def test_labels_of_a_file_give_purity(folder: Path, tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    lines = [f"g{i:02d},{'yes' if i < 20 else 'no'}" for i in range(50)]
    table.write_text("\n".join(["id,label", *lines]) + "\n")
    with client(settings(folder, positive=(), labels=table)) as found:
        base = found.get("/api/purity?like=g55").json()["base"]
        assert (base["hits"], base["total"]) == (20, 50)
    with pytest.raises(UsageError, match="--positive and --labels"):
        settings(folder, labels=table)


def test_an_object_and_numbers_that_a_browser_would_round(web: TestClient) -> None:
    found = web.get("/api/object/g03").json()
    assert found["columns"]["sdss_id"] == "587722981733826741"
    assert (found["ra"], found["dec"]) == (10.03, 20.0)
    answer = web.get("/api/object/g99")
    assert answer.status_code == 404
    assert answer.json() == {"error": "unknown id 'g99'; search by a position, or correct it"}
    assert [plain(v) for v in (2**53, 2**53 - 1, float("nan"), b"x", None, True)] == [
        "9007199254740992",
        9007199254740991,
        None,
        "x",
        None,
        True,
    ]


def test_thumbnails_are_pictures_of_the_object(folder: Path, web: TestClient) -> None:
    def drawn(address: str) -> np.ndarray:
        answer = web.get(address)
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "image/png"
        return cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_COLOR)

    flux = fits.getdata(folder / "files" / "g05.fits").astype(float)
    seen = drawn("/api/thumbnail/g05?stretch=minmax")[:, :, 0].astype(float)
    assert seen.shape == flux.shape
    # Linear between the extremes, and north, the last row of a FITS file, on top.
    expected = 255 * (flux - flux.min()) / (flux.max() - flux.min())
    assert np.abs(seen - expected[::-1]).max() <= 1.5
    assert drawn("/api/thumbnail/g05?size=16").shape == (16, 16, 3)
    assert (drawn("/api/thumbnail/g05?stretch=log") != drawn("/api/thumbnail/g05")).any()
    assert web.get("/api/thumbnail/g05?stretch=loud").status_code in {400, 404}
    assert web.get("/api/thumbnail/g05?bands=z").json()["error"].startswith("unknown band 'z'")


def test_an_answer_that_is_held_is_not_worked_out_again(web: TestClient) -> None:
    for address in ("/api/search?like=g08&k=9", "/api/thumbnail/g08", "/api/purity?like=g08"):
        first = web.get(address)
        tag = first.headers["etag"]
        again = web.get(address, headers={"If-None-Match": f'"other", {tag}'})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == tag
        assert web.get(address + "&seed=1").headers.get("etag") != tag
    packed = web.get("/api/search?like=g08&k=50", headers={"Accept-Encoding": "gzip"})
    assert packed.headers["content-encoding"] == "gzip"
    version = web.get("/api/info").json()["version"]
    kept = web.get(f"/api/thumbnail/g08?version={version}").headers["cache-control"]
    assert "immutable" in kept
    assert "immutable" not in web.get("/api/thumbnail/g08?version=x").headers["cache-control"]


def test_a_dropped_image_finds_the_object_it_shows(folder: Path, web: TestClient) -> None:
    token = {"X-Skytwin-Token": web.get("/api/info").json()["csrf"]}
    content = (folder / "files" / "g13.fits").read_bytes()
    answer = web.post("/api/query-image?name=mine.fits", content=content, headers=token)
    assert answer.status_code == 201
    like = answer.json()["like"]
    found = web.get("/api/search", params={"like": like, "k": 3}).json()
    assert found["rows"][0]["id"] == "g13"
    assert found["rows"][0]["distance"] == pytest.approx(0, abs=1e-6)
    assert found["references"][0]["name"] == "mine.fits"
    assert "--like mine.fits" in found["command"]
    picture = web.get(f"/api/thumbnail/{like}").content
    assert picture == web.get("/api/thumbnail/g13").content
    gone = web.get("/api/search?like=image:0000")
    assert gone.status_code == 404
    assert "drop it again" in gone.json()["error"]
    big = io.BytesIO()
    fits.writeto(big, blob(1, 64)[0], header(1, scale=0.1))
    other = web.post("/api/query-image?name=a.fits", content=big.getvalue(), headers=token)
    assert other.status_code == 422  # another pixel scale


def test_map_and_columns_come_as_numbers(folder: Path, web: TestClient) -> None:
    points = np.frombuffer(
        web.get("/api/map/plane").content, dtype=[("x", "<f4"), ("y", "<f4"), ("row", "<u4")]
    )
    found = open_map(folder / "plane")
    assert np.array_equal(np.stack([points["x"], points["y"]], 1), found.xy)
    assert [f"g{row:02d}" for row in points["row"]] == list(found.ids)
    kind = web.get("/api/column/kind").json()
    assert (kind["classes"], kind["counts"]) == (["b", "a"], [45, 15])
    codes = np.frombuffer(web.get("/api/column-values/kind").content, "<f4")
    assert np.array_equal(codes, np.where(np.arange(COUNT) % 4 > 0, 0, 1))
    rows = web.get("/api/rows?row=3&row=1&columns=kind").json()["rows"]
    assert [(row["id"], row["columns"]["kind"]) for row in rows] == [("g03", "b"), ("g01", "b")]
    assert web.get("/api/rows?row=60").json() == {"error": "row 60; expected 0 to 59"}


@pytest.mark.parametrize(
    ("address", "status", "words"),
    [
        ("search", 400, "like is missing"),
        ("search?like=g01&like=&k=3", 404, "unknown id ''"),
        ("search?like=g01&merit=3", 400, "unknown parameter 'merit'; did you mean: metric"),
        ("search?like=g01&k=0", 400, "k 0; expected a whole number at least 1"),
        ("search?like=g01&k=1e3", 400, "k '1e3'; expected a whole number"),
        ("search?like=g01&k=3&k=4", 400, "k 2 times; expected once"),
        ("search?like=g01&radius=nan", 400, "radius nan"),
        ("search?like=g01&metric=far", 400, "unknown metric 'far'"),
        ("search?like=g01&unlike=g01", 400, "as a positive and as a negative"),
        ("search?like=g01&include_self=perhaps", 400, "expected true or false"),
        ("search?like=200,10", 400, "no object within 3 arcsec"),
        ("search?like=g01&where=mag", 400, "not yes or no"),
        ("search?like=g01&where=mag<0", 422, "no object fulfils"),
        ("search?like=g01&columns=nope", 404, "unknown column 'nope'"),
        ("search?like=g01%00", 400, "null character"),
        ("purity?like=g01&positive=kind=zebra", 422, "check the value's spelling"),
        ("map/other", 404, "unknown map 'other'; known: plane"),
        ("nothing", 404, "no such address"),
    ],
)
def test_what_is_off_is_said_in_one_line(
    web: TestClient, address: str, status: int, words: str
) -> None:
    answer = web.get(f"/api/{address}")
    assert answer.status_code == status
    assert list(answer.json()) == ["error"]
    assert words in answer.json()["error"]
    assert "\n" not in answer.json()["error"]


def test_pages_ask_for_nothing_from_elsewhere(web: TestClient) -> None:
    for address in ("/", "/object/g01", "/map"):
        page = web.get(address)
        assert page.status_code == 200
        assert "http://" not in page.text
        assert "https://" not in page.text
        assert " style=" not in page.text
        assert "onclick" not in page.text
    assert web.get("/object/%3Cscript%3E").text.count("<script>") == 0


def test_objects_come_in_the_order_of_a_column(folder: Path, web: TestClient) -> None:
    mags = st.open(folder / "emb").column("mag").to_numpy()
    for descending in (False, True):
        asked = {"sort": "mag", "descending": descending, "limit": 60, "columns": "mag"}
        rows = web.get("/api/objects", params=asked).json()["rows"]
        assert [row["columns"]["mag"] for row in rows] == sorted(mags, reverse=descending)
    some = web.get("/api/objects?sort=kind&where=mag<17&limit=60").json()["rows"]
    order = sorted(np.flatnonzero(mags < 17), key=lambda row: (row % 4 > 0, row))
    assert [row["row"] for row in some] == order
    column = pa.chunked_array([[2.0, None, float("nan"), 1.0]])
    assert list(sorted_by(column, np.arange(4), True)[:2]) == [0, 3]


def test_outliers_come_as_columns(folder: Path, tmp_path: Path) -> None:
    done(
        *("outliers", folder / "emb", "--methods", "knn,forest"),
        *("--out", tmp_path / "odd", "--quiet"),
    )
    table = pq.read_table(tmp_path / "odd" / "outliers.parquet")
    with client(settings(folder, outliers=tmp_path / "odd")) as found:
        asked = "sort=odd_ensemble&descending=true&limit=60&columns=odd_ensemble"
        rows = found.get(f"/api/objects?{asked}").json()["rows"]
        want = dict(
            zip(table["id"].to_pylist(), table["ensemble_percentile"].to_pylist(), strict=True)
        )
        assert [row["columns"]["odd_ensemble"] for row in rows] == sorted(
            want.values(), reverse=True
        )
        assert all(row["columns"]["odd_ensemble"] == want[row["id"]] for row in rows)
        where = found.get("/api/objects", params={"where": "odd_ensemble > 0.9"}).json()
        assert where["total"] == sum(value > 0.9 for value in want.values())


def test_why_is_that_of_explain(folder: Path, web: TestClient) -> None:
    answer = web.get("/api/why/g09?like=g04&unlike=g20&combine=mean").json()
    matches = st.search(st.open(folder / "emb"), "g04", unlike="g20", combine="mean")
    found = explain(matches, "g09", average=16, quiet=True)
    assert answer["score"] == pytest.approx(found.score)
    assert [one["id"] for one in answer["maps"]] == ["g09", "g04", "g20"]
    assert found.map_match is not None
    # North up: the first row of a FITS file is the last of a page.
    cells = np.array(answer["maps"][0]["cells"])[::-1]
    assert cells == pytest.approx(found.map_match.cells, rel=1e-3)
    assert cells.sum() == pytest.approx(answer["maps"][0]["value"], rel=1e-3)
    assert web.get("/api/why/nobody?like=g04").status_code == 404


def test_another_embedding_answers_the_same_query(folder: Path, tmp_path: Path) -> None:
    done("embed", folder / "cut", "--encoder", "pca:3", "--out", tmp_path / "small", "--quiet")
    with client(settings(folder, beside=(tmp_path / "small",))) as found:
        assert found.get("/api/info").json()["beside"] == ["small"]
        assert found.get("/beside").status_code == 200
        answer = found.get("/api/search?like=g06&k=12&embedding=small").json()
        want = st.search(st.open(tmp_path / "small"), "g06", k=12)
        assert [row["id"] for row in answer["rows"]] == list(want.ids)
        assert [row["distance"] for row in answer["rows"]] == list(want.distance)
        own = found.get("/api/search?like=g06&k=12").json()
        assert [row["id"] for row in own["rows"]] != list(want.ids)
        assert found.get("/api/search?like=g06&embedding=tiny").status_code == 404
        refused = found.get("/api/search?like=image:12&embedding=small").json()["error"]
        assert "known to the first embedding only" in refused
    labelled = tmp_path / "own.npz"
    np.savez(labelled, vectors=np.eye(3, dtype=np.float32), ids=np.array(["x", "y", "z"]))
    done("adopt", labelled, "--out", tmp_path / "other", "--quiet")
    with pytest.raises(Mismatch, match="is of other objects"):
        Library(settings(folder, beside=(tmp_path / "other",)))
    # Vectors that were made elsewhere are served too, without what they have no encoder for.
    with client(Settings(embedding=tmp_path / "other")) as found:
        info = found.get("/api/info").json()
        assert (info["images"], info["query_images"]) == (False, False)
        assert found.get("/api/search?like=x&metric=euclidean").json()["total"] == 2
        assert found.get("/api/thumbnail/x").status_code == 404
        token = {"X-Skytwin-Token": info["csrf"]}
        answer = found.post("/api/query-image?name=a.png", content=b"x", headers=token)
        assert (answer.status_code, "no encoder" in answer.json()["error"]) == (400, True)


def test_every_address_is_described(web: TestClient) -> None:
    document = web.get("/openapi.json").json()
    served = {
        path.replace(":path", "")
        for path in (getattr(route, "path", "") for route in web.app.routes)  # type: ignore[attr-defined]
        if path.startswith("/api/")
    }
    assert served == set(document["paths"])
    like = document["paths"]["/api/search"]["get"]["parameters"][0]
    assert (like["name"], like["required"]) == ("like", True)


def test_more_addresses_may_be_added_and_are_guarded(folder: Path) -> None:
    route = Route("/cone", lambda request: PlainTextResponse("cone"))
    app = create_app(Library(settings(folder)), extra=[route])
    with TestClient(app, base_url="http://127.0.0.1") as found:
        assert found.get("/cone").text == "cone"
        assert found.get("/cone", headers={"Host": "evil.example"}).status_code == 421


def test_one_answer_for_all_who_ask_and_no_more_than_may_wait() -> None:
    calls: list[int] = []
    go = threading.Event()

    def make(number: int) -> int:
        calls.append(number)
        go.wait(10)
        return number

    async def ask() -> None:
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            once: Once[int] = Once(pool, room=2, waiting=2)
            same = [asyncio.create_task(once.get("a", lambda: make(1))) for _ in range(5)]
            other = asyncio.create_task(once.get("b", lambda: make(2)))
            await asyncio.sleep(0.05)
            with pytest.raises(Busy, match="ask again"):
                await once.get("c", lambda: make(3))
            same[0].cancel()  # a client that goes away
            go.set()
            assert await asyncio.gather(*same[1:], other) == [1, 1, 1, 1, 2]
            assert await once.get("c", lambda: make(3)) == 3
            assert len(once) == 2
            assert await once.get("b", lambda: make(9)) == 2

    asyncio.run(ask())
    assert calls == [1, 2, 3]


def test_answers_are_json_without_nan(folder: Path, tmp_path: Path) -> None:
    with client(settings(folder)) as found:
        text = found.get("/api/objects?columns=mag&limit=60").text
        assert "NaN" not in text
        assert json.loads(text)["total"] == COUNT
