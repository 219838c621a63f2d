"""Asking a web server politely: not too often, again after a while, and never without bounds.

A server is asked at most so many times a second, whatever the number of threads. What may pass
(busy, unreachable, broken off, another content than asked for) is asked again after a pause that
doubles each time, with full jitter (Brooker 2015, *Exponential Backoff and Jitter*, AWS
Architecture Blog); where the server names a pause (Retry-After, RFC 9110 section 10.2.3), all
threads keep it.
"""

from __future__ import annotations

import datetime as dt
import importlib.metadata
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from urllib.parse import urljoin, urlsplit

import numpy as np
import requests
import urllib3

from skytwin.errors import DataError, Unreachable, UsageError

__all__ = ["Answer", "Manners", "Passing", "Pause", "Refused", "Stopped", "Web", "told"]

_REDIRECTS = (301, 302, 303, 307, 308)
_MOST_REDIRECTS = 5
_PASSING = {408, 421, 423, 425, 429, *range(500, 600)} - {501, 505, 510}
_LONGEST_PAUSE_S = 600.0
_LONGEST_WAIT_S = 60.0
_CONNECT_S = 10.0
_CHUNK = 2**16


class Refused(DataError):
    """The answer is no, and will be next time."""


class Passing(Unreachable):
    """No answer, or none of use; another attempt may get one."""


class Pause(Unreachable):
    """The server asks for a longer pause than a running command should make."""


class Stopped(Unreachable):
    """The caller wants no more answers."""


@dataclass(frozen=True, kw_only=True)
class Manners:
    """How a server is asked.

    Attributes
    ----------
    rate : float
        Requests per second at most, those of all threads together.
    retries : int
        Further attempts at one image.
    backoff_s : float
        Longest pause before the first of them, in seconds; doubled for each next one, to a minute
        at most.
    timeout_s : float
        Seconds that one answer may take in all.
    seed : int
        Of the pauses' jitter.
    """

    rate: float
    retries: int = 4
    backoff_s: float = 2.0
    timeout_s: float = 60.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("rate", "timeout_s"):
            if not 0 < getattr(self, name) < float("inf"):
                option = name.removesuffix("_s")
                raise UsageError(f"--{option} {getattr(self, name)}; expected a positive number")
        for name in ("retries", "backoff_s", "seed"):
            if not 0 <= getattr(self, name) < float("inf"):
                option = name.removesuffix("_s")
                raise UsageError(f"--{option} {getattr(self, name)}; expected 0 or more")

    def wait(self, number: int, attempt: int) -> float:
        """Seconds before attempt ``attempt`` (from 1) at image ``number``: full jitter."""
        longest = min(_LONGEST_WAIT_S, self.backoff_s * 2.0 ** (attempt - 1))
        return float(np.random.default_rng([self.seed, number, attempt]).uniform(0, longest))


@dataclass(frozen=True, eq=False, kw_only=True)
class Answer:
    """What a server gave.

    Attributes
    ----------
    content : bytes
    url : str
        Where it was in the end, after redirects.
    attempts : int
    date : str
        When it came, UTC, ISO 8601.
    """

    content: bytes
    url: str
    attempts: int
    date: str


class Web:
    """One server, asked by several threads.

    Parameters
    ----------
    manners : Manners
    """

    def __init__(self, manners: Manners) -> None:
        self.manners = manners
        self._local = threading.local()
        self._sessions: list[requests.Session] = []
        self._lock = threading.Lock()
        self._next = 0.0
        self._stop = threading.Event()
        self._agent = f"skytwin/{importlib.metadata.version('skytwin')} (cutouts by position)"

    def close(self) -> None:
        """Close the connections, when no more is wanted."""
        for session in self._sessions:
            session.close()

    def stop(self) -> None:
        """End all waiting; every further request raises `Stopped`."""
        self._stop.set()

    def fetch(
        self, url: str, number: int, *, largest: int, check: Callable[[bytes], None]
    ) -> Answer:
        """Get one content, again and again if need be.

        Parameters
        ----------
        url : str
        number : int
            Which request this is, for the jitter.
        largest : int
            Bytes of content to take at most.
        check : callable
            Raises `Passing` or `Refused` if the content is not what was asked for.

        Raises
        ------
        Passing
            No attempt gave it.
        Refused
            The server says no, or gives what it should not.
        Pause
            The server wants to be left alone for long.
        Stopped
            `stop` was called.
        """
        attempt = 0
        while True:
            attempt += 1
            try:
                content, last = self._follow(url, largest)
                check(content)
            except Passing as error:
                if attempt > self.manners.retries:
                    tried = f" ({attempt} attempts)" if attempt > 1 else ""
                    raise Passing(f"{error}{tried}") from None
                self._sleep(self.manners.wait(number, attempt))
            else:
                now = dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
                return Answer(content=content, url=last, attempts=attempt, date=now)

    def _follow(self, url: str, largest: int) -> tuple[bytes, str]:
        """One attempt: content and address, redirects followed."""
        longest = self.manners.timeout_s
        for _ in range(_MOST_REDIRECTS + 1):
            self._turn()
            deadline = time.monotonic() + longest
            try:
                with self._session().get(
                    url,
                    stream=True,
                    allow_redirects=False,
                    timeout=(min(_CONNECT_S, longest), longest),
                ) as answer:
                    if answer.status_code in _REDIRECTS and "Location" in answer.headers:
                        url = _next_url(url, answer.headers["Location"])
                        continue
                    self._heed(answer)
                    return self._read(answer, largest, deadline), url
            except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
                raise _as_ours(error) from None
        raise Refused(f"more than {_MOST_REDIRECTS} redirects, the last to {url[:120]}")

    def _heed(self, answer: requests.Response) -> None:
        """Raise unless the answer is a good one; keep the pause that the server asks for."""
        status = answer.status_code
        if status == 200:
            return
        if status not in _PASSING:
            words = told(answer.raw.read1(2048, decode_content=True))
            raise Refused(f"HTTP {status}{': ' + words if words else ''}")
        pause = _retry_after(answer.headers.get("Retry-After"))
        if pause > _LONGEST_PAUSE_S:
            raise Pause(f"HTTP {status}: the server asks for a pause of {pause / 60:.0f} minutes")
        with self._lock:
            self._next = max(self._next, time.monotonic() + pause)
        raise Passing(f"HTTP {status}")

    def _read(self, answer: requests.Response, largest: int, deadline: float) -> bytes:
        length = answer.headers.get("Content-Length", "")
        if length.isdecimal() and int(length) > largest:
            raise Refused(f"an answer of {length} bytes; expected {largest} at most")
        parts: list[bytes] = []
        size = 0
        # read1 gives what has come: a server that drips is noticed at the deadline.
        while part := answer.raw.read1(_CHUNK, decode_content=True):
            parts.append(part)
            size += len(part)
            if size > largest:
                raise Refused(f"an answer of more than {largest} bytes")
            if time.monotonic() > deadline:
                raise Passing(f"too slow: {size} bytes in {self.manners.timeout_s:g} s")
            if self._stop.is_set():
                raise Stopped("stopped")
        encoded = answer.headers.get("Content-Encoding", "identity") != "identity"
        if length.isdecimal() and not encoded and size != int(length):
            raise Passing(f"broken off: {size} of {length} bytes")
        return b"".join(parts)

    def _turn(self) -> None:
        """Wait for a turn: turns are ``1 / rate`` seconds apart."""
        while True:
            with self._lock:
                now = time.monotonic()
                if self._next <= now:
                    self._next = now + 1 / self.manners.rate
                    ahead = 0.0
                else:
                    ahead = self._next - now
            if ahead == 0.0:
                if self._stop.is_set():
                    raise Stopped("stopped")
                return
            self._sleep(ahead)

    def _sleep(self, seconds: float) -> None:
        if self._stop.wait(seconds):
            raise Stopped("stopped")

    def _session(self) -> requests.Session:
        if not hasattr(self._local, "session"):
            session = requests.Session()
            session.headers["User-Agent"] = self._agent
            session.headers["Accept-Encoding"] = "identity"
            self._sessions.append(session)
            self._local.session = session
        found: requests.Session = self._local.session
        return found


def told(content: bytes) -> str:
    """The first words of a web page or a message, without its markup; empty of anything else."""
    text = content[:2048].decode("utf-8", "replace")
    if "\ufffd" in text or "\x00" in text:
        return ""
    text = re.sub(r"(?is)<(style|script).*?(</\1>|$)|<[^>]*(>|$)", " ", text)
    return _short(text)


def _next_url(url: str, location: str) -> str:
    """Where a redirect leads; to no other kind of address, and not from https to http."""
    target = urljoin(url, location)
    ours, theirs = urlsplit(url).scheme, urlsplit(target).scheme
    if theirs not in ("http", "https") or (ours == "https" and theirs == "http"):
        raise Refused(f"a redirect from {ours} to {theirs or 'nowhere'}")
    return target


def _retry_after(text: str | None) -> float:
    """Seconds, from a number or a date; 0 where there is none that can be read."""
    if text is None:
        return 0.0
    if text.strip().isdecimal():
        return float(text)
    try:
        when = parsedate_to_datetime(text)
    except ValueError:
        return 0.0
    if when.tzinfo is None:
        when = when.replace(tzinfo=dt.UTC)
    return max(0.0, (when - dt.datetime.now(dt.UTC)).total_seconds())


def _as_ours(error: Exception) -> Exception:
    """A library's error as `Passing`, or `Refused` where no repetition helps."""
    text = str(error)
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return Refused("the server's certificate is not trusted")
    if isinstance(error, (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema)):
        return Refused(f"no address to ask ({_short(text)})")
    if isinstance(error, (requests.Timeout, urllib3.exceptions.TimeoutError, TimeoutError)):
        return Passing("no answer in time")
    if isinstance(error, urllib3.exceptions.IncompleteRead):
        return Passing(f"broken off: {error.partial} bytes, {error.expected} missing")
    if "Name or service not known" in text or "name resolution" in text.lower():
        return Passing("the server's name is not known")
    if "refused" in text:
        return Passing("connection refused")
    return Passing(f"connection broken ({type(error).__name__})")


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 120 else f"{line[:117]}..."
