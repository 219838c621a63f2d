"""Answers over HTTP: JSON, conditional requests, and every error as one line."""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from skytwin.errors import BadImage, DataError, SkytwinError, UnknownName, UsageError
from skytwin.web.once import Busy

__all__ = ["Kept", "RefusedRequest", "etag", "failed", "json_reply", "status_of", "unchanged"]

#: Ask the server each time whether an answer still holds: a tag makes that cheap.
REVALIDATE = "private, no-cache"


class RefusedRequest(UsageError):
    """A request refused with a status of its own.

    Parameters
    ----------
    message : str
    status : int
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class Kept:
    """Bodies of answers by their tag, the one used longest ago forgotten first.

    Parameters
    ----------
    room : int
        Bytes of all of them.
    """

    def __init__(self, room: int) -> None:
        self._room, self._used = room, 0
        self._bodies: OrderedDict[str, bytes] = OrderedDict()

    def get(self, tag: str) -> bytes | None:
        """The body, if it is held."""
        if tag in self._bodies:
            self._bodies.move_to_end(tag)
        return self._bodies.get(tag)

    def put(self, tag: str, body: bytes) -> None:
        """Hold a body."""
        if tag not in self._bodies:
            self._bodies[tag] = body
            self._used += len(body)
        while self._used > self._room:
            self._used -= len(self._bodies.popitem(last=False)[1])


def status_of(error: SkytwinError) -> int:
    """The HTTP status that goes with an error."""
    if isinstance(error, RefusedRequest):
        return error.status
    for kind, status in ((Busy, 503), (UnknownName, 404), (UsageError, 400), (BadImage, 422)):
        if isinstance(error, kind):
            return status
    return 422 if isinstance(error, DataError) else 500


def failed(error: SkytwinError) -> Response:
    """An error as JSON: its message, in one line."""
    message = " ".join(str(error).split())
    headers = {"Retry-After": "1"} if isinstance(error, Busy) else None
    return json_reply({"error": message}, status=status_of(error), headers=headers)


def json_reply(
    content: Any, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """JSON without NaN."""
    body = json.dumps(content, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    return Response(body, status, headers, media_type="application/json")


def etag(version: str, request: Request) -> str:
    """A tag of an answer, known before it is worked out: of what is served and what was asked.

    Weak, for the same answer may come compressed or not.
    """
    asked = sorted(request.query_params.multi_items(), key=lambda pair: pair[0])
    text = json.dumps([version, request.url.path, asked])
    return f'W/"{hashlib.sha256(text.encode()).hexdigest()[:24]}"'


def unchanged(request: Request, tag: str) -> bool:
    """Whether the client holds the answer already."""
    held = [one.strip() for one in request.headers.get("if-none-match", "").split(",")]
    return tag in held
