"""The application: pages, the JSON API beside them, and their files."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from skytwin.errors import SkytwinError
from skytwin.web.aladin import OPEN, aladin_routes
from skytwin.web.endpoints import Endpoint, endpoints
from skytwin.web.library import Library
from skytwin.web.pages import page_routes
from skytwin.web.parameters import read
from skytwin.web.replies import Kept, RefusedRequest, etag, failed, json_reply, unchanged
from skytwin.web.schemas import openapi
from skytwin.web.security import Guard

__all__ = ["create_app"]

HERE = Path(__file__).parent


def create_app(library: Library, extra: Sequence[BaseRoute] = ()) -> Starlette:
    """The application that serves a library.

    Parameters
    ----------
    library : Library
        Reached as ``request.app.state.library``; closed with the application.
    extra : sequence of starlette routes
        More addresses, guarded as the others are.
    """
    described = endpoints()
    document = openapi(described)

    async def described_at(_: Request) -> Response:
        return json_reply(document)

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        library.close()

    kept = Kept(library.limits.reply_bytes)
    csrf = secrets.token_urlsafe(24)
    settings = library.settings
    app = Starlette(
        routes=[
            *page_routes(),
            *(_route(endpoint, kept) for endpoint in described),
            Route("/openapi.json", described_at),
            *aladin_routes(settings),
            Mount("/static", StaticFiles(directory=HERE / "static")),
            *extra,
        ],
        middleware=[
            Middleware(
                Guard,
                host=settings.host,
                token=settings.token,
                csrf=csrf,
                framed=OPEN if settings.aladin else frozenset(),
                patience=settings.limits.patience_seconds,
            ),
            Middleware(GZipMiddleware, minimum_size=1000, compresslevel=4),
        ],
        exception_handlers={SkytwinError: _known, HTTPException: _http},
        lifespan=lifespan,
    )
    app.state.library, app.state.csrf = library, csrf
    return app


def _route(endpoint: Endpoint, kept: Kept) -> Route:
    # An identifier may hold a slash.
    path = endpoint.path.replace("{id}", "{id:path}").replace("{name}", "{name:path}")
    return Route(path, _handler(endpoint, kept), methods=[endpoint.method])


def _handler(endpoint: Endpoint, kept: Kept) -> Callable[[Request], Awaitable[Response]]:
    async def handle(request: Request) -> Response:
        library: Library = request.app.state.library
        query = request.query_params.multi_items()
        values = read(endpoint.parameters, query, request.path_params)
        if not endpoint.tagged:
            return await endpoint.handler(library, values, request)
        tag = etag(library.version, request)
        if unchanged(request, tag):
            return Response(status_code=304, headers={"ETag": tag})
        body = kept.get(tag)
        if body is not None:
            return Response(body, headers={"ETag": tag}, media_type=endpoint.media)
        answer = await endpoint.handler(library, values, request)
        answer.headers["ETag"] = tag
        if endpoint.media == "application/json":
            kept.put(tag, bytes(answer.body))
        return answer

    return handle


async def _known(_: Request, error: Exception) -> Response:
    if not isinstance(error, SkytwinError):
        raise error
    return failed(error)


async def _http(_: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    what = "no such address" if error.status_code == 404 else error.detail
    return failed(RefusedRequest(what, error.status_code))
