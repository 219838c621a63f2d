"""Who may ask: Host, token, same origin; and the headers of every answer.

A page of another site must not read the survey (DNS rebinding: the Host header is checked), not
make the server work (`Sec-Fetch-Site`), and not change anything (a token in a header, which such
a page can neither read nor send).
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Mapping
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from skytwin.web.replies import RefusedRequest, failed
from skytwin.web.settings import is_loopback

__all__ = ["Guard"]

COOKIE, CSRF = "skytwin_token", "x-skytwin-token"
_SAFE = {"GET", "HEAD", "OPTIONS"}
_HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


class Guard:
    """ASGI middleware around everything.

    Parameters
    ----------
    app : ASGI application
    host : str
        Address that is listened at.
    token : str or None
        Asked of every client.
    csrf : str
        Asked of every request that is no GET.
    framed : frozenset of str
        Paths for a frame of the page that has no origin, and so no cookie; where there are any,
        the page may have frames of this server.
    patience : float
        Seconds that a client may take to take in a part of an answer, or send one of a request.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        host: str,
        token: str | None,
        csrf: str,
        framed: frozenset[str] = frozenset(),
        patience: float,
    ) -> None:
        self.app, self._host, self._token, self._csrf = app, host, token, csrf
        self._framed, self._patience = framed, patience
        policy = _HEADERS["Content-Security-Policy"] + ("; frame-src 'self'" if framed else "")
        self._headers = {**_HEADERS, "Content-Security-Policy": policy}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, or hand on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(raw=message["headers"])
                for name, value in self._headers.items():
                    headers.setdefault(name, value)
                headers.setdefault("Cache-Control", "private, no-cache")
            await asyncio.wait_for(send(message), self._patience)

        async def patient() -> Message:
            # Only while a request's body is on its way; its end may be waited for long.
            if scope["method"] in _SAFE:
                return await receive()
            try:
                return await asyncio.wait_for(receive(), self._patience)
            except TimeoutError:
                return {"type": "http.disconnect"}

        refused = self._refusal(scope)
        if refused is not None:
            await refused(scope, receive, guarded)
        else:
            await self.app(scope, patient, guarded)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        host = _name(headers.get("host", ""))
        if not (is_loopback(host) or host == self._host or _is_wild(self._host)):
            return failed(RefusedRequest(f"host {host!r}; expected {self._host}", 421))
        if scope["path"] in self._framed and scope["method"] in _SAFE:
            return None
        if headers.get("sec-fetch-site", "none") not in {"same-origin", "none"} and (
            headers.get("sec-fetch-mode") != "navigate" or scope["path"].startswith("/api/")
        ):
            return failed(RefusedRequest("asked for by a page of another site", 403))
        if self._token is not None and (refused := self._without_token(scope, headers)):
            return refused
        if scope["method"] in _SAFE:
            return None
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != headers.get("host"):
            return failed(RefusedRequest(f"origin {origin}; expected this page", 403))
        if not _same(headers.get(CSRF, ""), self._csrf):
            return failed(
                RefusedRequest("header X-Skytwin-Token is missing; take csrf of /api/info", 403)
            )
        return None

    def _without_token(self, scope: Scope, headers: Headers) -> Response | None:
        token = str(self._token)
        # By port, for a browser gives every server of a machine the same cookies.
        name = f"{COOKIE}_{(scope.get('server') or ('', 0))[1]}"
        cookies = cookie_parser(headers.get("cookie", ""))
        bearer = headers.get("authorization", "").removeprefix("Bearer ")
        held = unquote(cookies.get(name, ""))
        if _same(bearer, token) or _same(held, token):
            return None
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        given = [value for name, value in query if name == "token"]
        if not (given and _same(given[0], token)) or scope["method"] not in _SAFE:
            return failed(
                RefusedRequest("a token is needed; open the address that skytwin printed", 401)
            )
        # Into a cookie, and out of the address: an address is shared and remembered.
        rest = urlencode([pair for pair in query if pair[0] != "token"])
        where = "/" + scope["path"].lstrip("/") + (f"?{rest}" if rest else "")
        answer = RedirectResponse(where, 303)
        # Lax: a link in a message opens the page. Requests of other sites are refused as it is.
        answer.set_cookie(name, quote(token), httponly=True, samesite="lax", path="/")
        return answer


def _name(host: str) -> str:
    """The host of a Host header without its port."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0] or host


def _is_wild(host: str) -> bool:
    # Listening everywhere there is no one right name; the token is what keeps others out.
    return host in {"0.0.0.0", "::", ""}  # noqa: S104


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())
