"""The pages: empty forms of HTML that scripts fill from the API."""

from __future__ import annotations

from pathlib import Path

import jinja2
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from skytwin.web.library import Library

__all__ = ["page_routes"]

_TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def page_routes() -> list[Route]:
    """Routes of the pages."""
    return [
        Route("/", _gallery),
        Route("/object/{id:path}", _object),
        Route("/map", _map),
        Route("/beside", _beside),
        Route("/label", _questions),
        Route("/label/{question:path}", _label),
    ]


def _page(request: Request, template: str, **values: object) -> Response:
    library: Library = request.app.state.library
    text = _TEMPLATES.get_template(template).render(
        info=library.info, csrf=request.app.state.csrf, **values
    )
    return HTMLResponse(text)


async def _gallery(request: Request) -> Response:
    return _page(request, "gallery.html", here="gallery", title="Matches")


async def _object(request: Request) -> Response:
    name = request.path_params["id"]
    return _page(request, "object.html", here="object", title=name, name=name)


async def _beside(request: Request) -> Response:
    return _page(request, "beside.html", here="beside", title="Side by side")


async def _map(request: Request) -> Response:
    return _page(request, "map.html", here="map", title="Map")


async def _questions(request: Request) -> Response:
    return _page(request, "label_questions.html", here="label", title="Label")


async def _label(request: Request) -> Response:
    question = request.path_params["question"]
    return _page(request, "label.html", here="label", title=question, question=question)
