"""Who may ask what: hosts, tokens, other sites, paths, SQL, and files made to do harm."""

from __future__ import annotations

import gzip
import io
import os
import signal
import socket
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
from astropy.io import fits
from starlette.testclient import TestClient

from served import client, running, settings, survey
from skytwin.cli_serve import serve
from skytwin.errors import BadImage, UsageError
from skytwin.web.settings import Limits, is_loopback
from skytwin.web.uploads import decode

SECRET = "correct horse; battery%2F"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return survey(tmp_path_factory.mktemp("web"))


@pytest.fixture(scope="module")
def web(folder: Path) -> Iterator[TestClient]:
    with client(settings(folder)) as found:
        yield found


def test_only_this_machine_without_a_token(folder: Path) -> None:
    for host in ("0.0.0.0", "192.168.1.5", "::", "example.org"):
        assert not is_loopback(host)
        with pytest.raises(UsageError, match="give --token SECRET"):
            settings(folder, host=host)
    assert all(is_loopback(host) for host in ("127.0.0.1", "::1", "[::1]", "localhost"))
    with pytest.raises(UsageError, match="token of 3 characters"):
        settings(folder, token="abc")


def test_another_name_for_this_machine_is_refused(web: TestClient) -> None:
    for host in ("evil.example", "evil.example:8000", "127.0.0.1.evil.example", "", "localhost.x"):
        answer = web.get("/api/info", headers={"Host": host})
        assert (answer.status_code, list(answer.json())) == (421, ["error"])
    for host in ("localhost:8000", "127.0.0.1", "[::1]:8000"):
        assert web.get("/api/info", headers={"Host": host}).status_code == 200


def test_pages_of_other_sites_get_nothing(web: TestClient) -> None:
    for site in ("cross-site", "same-site"):  # that is, another port of this machine
        headers = {"Sec-Fetch-Site": site}
        assert web.get("/api/search?like=g01", headers=headers).status_code == 403
    own = {"Sec-Fetch-Site": "same-origin"}
    assert web.get("/api/search?like=g01", headers=own).status_code == 200
    from_other = {"Sec-Fetch-Site": "cross-site"}
    framed = {**from_other, "Sec-Fetch-Mode": "no-cors"}
    assert web.get("/static/style.css", headers=framed).status_code == 403
    link = {**from_other, "Sec-Fetch-Mode": "navigate"}
    assert web.get("/", headers=link).status_code == 200
    assert web.get("/api/info", headers=link).status_code == 403


def test_a_change_takes_the_token_of_the_page(web: TestClient) -> None:
    token = web.get("/api/info").json()["csrf"]
    address = "/api/query-image?name=a.png"

    def status(**headers: str) -> int:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        return int(web.post(address, content=b"x", headers=names).status_code)

    assert status() == 403
    assert status(X_Skytwin_Token="wrong") == 403
    assert status(X_Skytwin_Token=token, Origin="http://evil.example") == 403
    assert status(X_Skytwin_Token=token, Origin="null") == 403
    assert status(X_Skytwin_Token=token, Origin="http://127.0.0.1:8000") == 422
    assert web.post("/api/search?like=g01", headers={"X-Skytwin-Token": token}).status_code == 405


def test_a_token_opens_the_door_and_leaves_the_address(folder: Path) -> None:
    asked = settings(folder, token=SECRET, host="0.0.0.0")
    with client(asked, "10.0.0.7:8000") as web:
        for address in ("/", "/api/info", "/static/style.css", "/openapi.json", "/?token=wrong"):
            answer = web.get(address)
            assert (answer.status_code, answer.headers["x-frame-options"]) == (401, "DENY")
        bearer = {"Authorization": f"Bearer {SECRET}"}
        assert web.get("/api/info", headers=bearer).status_code == 200
        broken = {"Cookie": 'a=b; ;;"x"=; skytwin_token_8000="'}
        assert web.get("/api/info", headers=broken).status_code == 401
        opened = web.get("/", params={"like": "g01", "token": SECRET}, follow_redirects=False)
        assert (opened.status_code, opened.headers["location"]) == (303, "/?like=g01")
        cookie = opened.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=lax" in cookie
        assert web.get("/api/info").status_code == 200
        web.cookies.clear()
        address = f"http://10.0.0.7:8000//evil.example/?token={quote(SECRET)}"
        outside = web.get(address, follow_redirects=False)
        assert outside.headers["location"] == "/evil.example/"


def test_every_answer_has_the_headers(web: TestClient) -> None:
    for address in ("/", "/api/info", "/static/gallery.js", "/nothing", "/api/search?like=x"):
        headers = web.get(address).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert "access-control-allow-origin" not in headers


def test_no_path_leads_out(web: TestClient, folder: Path) -> None:
    for path in (
        "/static/../app.py",
        "/static/%2e%2e/app.py",
        "/static/..%2f..%2f..%2fetc/passwd",
        "/static//etc/passwd",
        "/object/../../etc/passwd",
        "/api/object/..%2f..%2fmanifest.json",
        "/api/thumbnail/..%2f..%2fetc%2fpasswd",
        "/api/map/..%2femb",
    ):
        answer = web.get(path)
        assert b"root:" not in answer.content
        assert b"create_app" not in answer.content
    # What names a file or another embedding at the command line names nothing here.
    inside = folder / "files" / "g01.fits"
    for like in (str(inside), "/etc/passwd", f"{folder / 'emb'}:g01", "file:///etc/passwd"):
        answer = web.get("/api/search", params={"like": like})
        assert answer.status_code == 404
        assert "unknown id" in answer.json()["error"]


@pytest.mark.parametrize(
    "where",
    [
        "(select count(*) from read_csv('/etc/passwd')) > 0",
        "(select count(*) from read_text('{inside}')) > 0",
        "(select count(*) from '{inside}') > 0",
        "(select count(*) from read_parquet('http://127.0.0.1:1/x')) > 0",
        "exists (select * from glob('/*'))",
        "mag < 18); copy (select 1) to '{out}'; --",
        "mag < 18; attach '{out}' as x",
        "(select count(*) from pragma_database_list()) > 0 and getenv('HOME') is not null",
    ],
)
def test_a_condition_reaches_no_file(web: TestClient, folder: Path, where: str) -> None:
    out = folder / "made-by-sql"
    text = where.format(inside=folder / "t.csv", out=out)
    for address in ("search?like=g01", "objects?limit=5", "purity?like=g01&metric=cosine"):
        name = "positive" if address.startswith("purity") else "where"
        answer = web.get(f"/api/{address}", params=_with(address, name, text))
        assert answer.status_code in {400, 404, 422}
        assert "root:" not in answer.text
    assert not out.exists()


def _with(address: str, name: str, text: str) -> dict[str, str]:
    given = dict(pair.split("=") for pair in address.partition("?")[2].split("&"))
    return {**given, name: text}


def _png(width: int, height: int, data: bytes) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        crc = struct.pack(">I", zlib.crc32(kind + body))
        return struct.pack(">I", len(body)) + kind + body + crc

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head)
    return start + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def _bombs() -> dict[str, bytes]:
    """Small files that claim, or unpack to, very much."""
    header = fits.Header({"NAXIS1": 1})
    plain = io.BytesIO()
    fits.PrimaryHDU(np.zeros((4, 4), np.float32), header).writeto(plain)
    claims = plain.getvalue().replace(b"=" + b" " * 20 + b"4", b"=" + b" " * 11 + b"4000000000")
    npy = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        npy, {"descr": "<f8", "fortran_order": False, "shape": (200000, 200000)}
    )
    objects = io.BytesIO()
    np.save(objects, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    return {
        "wide.png": _png(100_000, 100_000, zlib.compress(b"\0" * 1000)),
        "real.png": _png(12_000, 12_000, zlib.compress(b"\0" * (12_001 * 12_000), 9)),
        "claims.fits": claims,
        "packed.fits.gz": gzip.compress(claims + bytes(200 << 20)),
        "claims.npy": npy.getvalue(),
        "noise.tif": b"II*\0" + bytes(range(256)) * 40,
        "no.jpg": b"\xff\xd8\xff" + bytes(5000),
        "text.fits": b"SIMPLE  = hello",
        "pickle.npy": objects.getvalue(),
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(_bombs()))
def test_a_file_made_to_do_harm_is_refused_soon(name: str) -> None:
    began = time.monotonic()
    with pytest.raises(BadImage, match=name):
        decode(name, _bombs()[name], Limits())
    assert time.monotonic() - began < 25


@pytest.mark.slow
def test_decoding_is_bounded_in_pixels_memory_and_time() -> None:
    picture = _png(400, 400, zlib.compress((b"\0" + bytes(range(200)) * 2) * 400))
    assert decode("a.png", picture, Limits()).pixels.shape == (1, 400, 400)
    with pytest.raises(BadImage, match="160000 pixels; expected at most 1000"):
        decode("a.png", picture, Limits(upload_pixels=1000))
    with pytest.raises(BadImage, match=r"too much memory|bounds of time and memory|damaged"):
        decode("a.png", picture, Limits(decode_bytes=1 << 20))
    with pytest.raises(BadImage, match=r"not decoded within 0\.01 s"):
        decode("a.png", picture, Limits(decode_seconds=0.01))


def test_an_upload_is_bounded_before_it_is_read(folder: Path) -> None:
    few = replace(Limits(), upload_bytes=10_000)
    with client(settings(folder, limits=few)) as web:
        token = {"X-Skytwin-Token": web.get("/api/info").json()["csrf"]}
        address = "/api/query-image?name=a.png"
        assert web.post(address, content=bytes(20_000), headers=token).status_code == 413

        def pieces() -> Iterator[bytes]:
            yield from [bytes(3000)] * 10

        # Without a length, as chunks.
        assert web.post(address, content=pieces(), headers=token).status_code == 413
        assert web.post(address, content=b"", headers=token).status_code == 400
        odd = web.post("/api/query-image?name=a.exe", content=b"x", headers=token)
        assert "unknown image format '.exe'" in odd.json()["error"]


def test_a_slow_or_lost_client_leaves_nothing_behind(folder: Path) -> None:
    patient = replace(Limits(), patience_seconds=1.0)
    with running(settings(folder, limits=patient)) as address:
        port = int(address.rpartition(":")[2])
        slow = socket.create_connection(("127.0.0.1", port))
        csrf = _get(port, "/api/info").partition(b'"csrf":"')[2].partition(b'"')[0]
        slow.sendall(
            b"POST /api/query-image?name=a.png HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            b"X-Skytwin-Token: " + csrf + b"\r\nContent-Length: 5000\r\n\r\nabc"
        )
        for _ in range(20):  # asks, and is gone before the answer
            lost = socket.create_connection(("127.0.0.1", port))
            lost.sendall(b"GET /api/purity?like=g01 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            lost.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            lost.close()
        assert b" 200 " in _get(port, "/api/search?like=g02")
        slow.settimeout(10)
        assert b" 400 " in slow.recv(200)  # the patience is over
        slow.close()
        assert b" 200 " in _get(port, "/")


def _get(port: int, path: str) -> bytes:
    with socket.create_connection(("127.0.0.1", port)) as link:
        request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
        link.sendall(request.encode())
        parts = []
        while part := link.recv(65536):
            parts.append(part)
    return b"".join(parts)


def test_the_command_serves_until_it_is_interrupted(folder: Path) -> None:
    code = "import typer; from skytwin.cli_serve import serve; typer.run(serve)"
    # The workers of a test runner are deaf to interrupts, and so would be what they start.
    hear = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-u", "-c", hear + code, str(folder / "emb")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    ) as server:
        assert server.stdout is not None
        assert server.stderr is not None
        said = server.stdout.readline()
        port = int(said.rpartition(":")[2].strip("/\n"))
        assert said == f"serving {folder / 'emb'} at http://127.0.0.1:{port}/\n"
        assert b" 200 " in _get(port, "/api/search?like=g01")
        assert b"VOTABLE" in _get(port, "/cone?RA=10.1&DEC=20&SR=0.1")
        silent = socket.create_connection(("127.0.0.1", port))  # keeps nobody from stopping
        server.send_signal(signal.SIGINT)
        assert server.wait(20) == 0
        assert server.stderr.read() == ""
        silent.close()


def test_nothing_of_torch_is_loaded_to_serve() -> None:
    code = "import sys, skytwin.web.serve; sys.exit(int('torch' in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_command_refuses_before_it_serves(folder: Path) -> None:
    with pytest.raises(UsageError, match="give --token"):
        serve(folder / "emb", host="0.0.0.0")
    with pytest.raises(UsageError, match="holds cutouts; expected embeddings"):
        serve(folder / "cut")
    with pytest.raises(UsageError, match="unknown column 'zz'"):
        serve(folder / "emb", positive=["zz=1"])
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(UsageError, match="choose another --port"):
            serve(folder / "emb", port=taken.getsockname()[1])
