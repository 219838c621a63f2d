"""A cutout server on this machine that misbehaves on purpose, and keeps a log of what it did."""

from __future__ import annotations

import contextlib
import gzip
import io
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

import numpy as np
from astropy.io import fits
from PIL import Image


def picture(ra: float, pixels: int, planes: int = 3) -> np.ndarray:
    """The image of a place: noise that belongs to it, (planes, H, W) float32."""
    rng = np.random.default_rng(round(ra * 1e4))
    return rng.normal(100, 30, (planes, pixels, pixels)).astype(np.float32)


def jpeg(ra: float, pixels: int) -> bytes:
    stream = io.BytesIO()
    values = np.clip(picture(ra, pixels), 0, 255).astype(np.uint8)
    Image.fromarray(values.transpose(1, 2, 0)).save(stream, "JPEG", quality=90)
    return stream.getvalue()


def cube(ra: float, dec: float, pixels: int, scale: float, planes: int) -> bytes:
    header = fits.Header(
        {
            "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": ra, "CRVAL2": dec,
            "CRPIX1": pixels / 2 + 0.5, "CRPIX2": pixels / 2 + 0.5,
            "CDELT1": -scale / 3600, "CDELT2": scale / 3600,
        }
    )  # fmt: skip
    values = picture(ra, pixels, planes)
    stream = io.BytesIO()
    fits.PrimaryHDU(values if planes > 1 else values[0], header).writeto(stream)
    return stream.getvalue()


@dataclass
class CutoutServer:
    """What it does at each attempt, by the whole degrees of RA; afterwards it answers well.

    ``"500"``, ``"404"``, ``"429:SECONDS"``, ``"429-date:SECONDS"``, ``"drip"``,
    ``"stall:SECONDS"``, ``"truncated"``, ``"chunked"``, ``"html"``, ``"small"``, ``"blank"``,
    ``"words"``, ``"loop"``, ``"file"``, ``"redirect"``, ``"reset"``, ``"huge"``,
    ``"elsewhere"``, ``"damaged"``, ``"gzip"``.
    """

    moods: Mapping[int, Sequence[str]] = field(default_factory=dict)
    always: str | None = None
    log: list[tuple[float, int, str]] = field(default_factory=list)
    queries: list[dict[str, str]] = field(default_factory=list)
    agents: set[str] = field(default_factory=set)
    url: str = ""

    def seen(self, degree: int) -> list[str]:
        """What was done at the attempts at one place."""
        return [mood for _, at, mood in self.log if at == degree]


class Handler(BaseHTTPRequestHandler):
    """Answers in the mood that is due."""

    script: CutoutServer
    lock: threading.Lock
    counts: Counter[int]

    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        query = dict(parse_qsl(urlsplit(self.path).query))
        degree = int(float(query.get("ra", "0")))
        script = self.script
        with self.lock:
            moods = script.moods.get(degree, ())
            number = self.counts[degree]
            self.counts[degree] += 1
            mood = script.always or (moods[number] if number < len(moods) else "good")
            script.log.append((time.monotonic(), degree, mood))
            script.queries.append(query)
            script.agents.add(self.headers["User-Agent"])
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.behave(mood, query)

    def behave(self, mood: str, query: dict[str, str]) -> None:
        kind, _, detail = mood.partition(":")
        if kind in {"500", "404"}:
            return self.send(b"<html><h1>Oh no</h1></html>", "text/html", int(kind))
        if kind == "429":
            return self.send(b"", "text/plain", 429, {"Retry-After": detail})
        if kind == "429-date":
            when = formatdate(time.time() + float(detail), usegmt=True)
            return self.send(b"", "text/plain", 429, {"Retry-After": when})
        if kind == "html":
            return self.send(b"<html><title>Down for maintenance</title></html>", "text/html")
        if kind == "loop":
            return self.send(b"", "text/plain", 302, {"Location": self.path})
        if kind == "file":
            return self.send(b"", "text/plain", 302, {"Location": "file:///etc/passwd"})
        if kind == "redirect":
            return self.send(b"", "text/plain", 302, {"Location": self.path + "&moved=1"})
        if kind == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            return self.connection.close()
        if kind == "stall":
            time.sleep(float(detail or 1.5))
            self.close_connection = True
            return None
        return self.give(kind, *self.image(kind, query))

    def give(self, kind: str, content: bytes, about: str) -> None:
        if kind == "damaged":
            content = content[: len(content) // 3]
        if kind == "gzip":
            headers = {"Content-Encoding": "gzip"}
            return self.send(gzip.compress(content), about, headers=headers)
        if kind == "huge":
            content += b"\0" * 50_000_000
        if kind in {"truncated", "drip"}:
            self.head(about, len(content))
            self.end_headers()
            if kind == "truncated":
                self.wfile.write(content[: len(content) // 2])
            for byte in content[:30] if kind == "drip" else b"":
                self.wfile.write(bytes([byte]))
                self.wfile.flush()
                time.sleep(0.05)
            self.close_connection = True
            return None
        if kind == "chunked":
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            half = content[: len(content) // 2]
            self.wfile.write(f"{len(content):x}\r\n".encode() + half)
            self.close_connection = True
            return None
        return self.send(content, about)

    def image(self, kind: str, query: dict[str, str]) -> tuple[bytes, str]:
        ra, dec = float(query["ra"]), float(query["dec"])
        pixels = int(query.get("size") or query["width"])
        if kind == "small":
            pixels //= 2
        if kind == "elsewhere":
            dec += 0.1
        if "getjpeg" in self.path or "jpeg-cutout" in self.path or query.get("format") == "jpg":
            if kind in {"blank", "words"}:
                plain = np.zeros((pixels, pixels, 3), np.uint8)
                plain[10:14, 10:40] = 255 if kind == "words" else 0
                stream = io.BytesIO()
                Image.fromarray(plain).save(stream, "JPEG")
                return stream.getvalue(), "image/jpeg"
            return jpeg(ra, pixels), "image/jpeg"
        scale = float(query.get("pixscale", 0) or float(query["fov"]) * 3600 / pixels)
        planes = len(query.get("bands", "r"))
        if kind == "blank":
            stream = io.BytesIO()
            fits.PrimaryHDU(np.zeros((planes, pixels, pixels), "f4")).writeto(stream)
            return stream.getvalue(), "image/fits"
        return cube(ra, dec, pixels, scale, planes), "image/fits"

    def head(self, about: str, length: int, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Type", about)
        self.send_header("Content-Length", str(length))

    def send(
        self,
        content: bytes,
        about: str,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.head(about, len(content), status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)


class Quiet(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        pass  # clients of these tests hang up on purpose


@contextlib.contextmanager
def running(server: CutoutServer) -> Iterator[CutoutServer]:
    """Serve on a free port of the loopback."""
    scripted = type(
        "Scripted",
        (Handler,),
        {"script": server, "lock": threading.Lock(), "counts": Counter()},
    )
    with Quiet(("127.0.0.1", 0), scripted) as listening:
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        server.url = f"http://127.0.0.1:{listening.server_address[1]}"
        try:
            yield server
        finally:
            listening.shutdown()
            thread.join()
