"""Aladin Lite behind the matches, in a frame that reaches nothing of the survey.

It is a program of the CDS under the GNU General Public License (Bonnarel et al. 2000, A&AS 143,
33; Boch & Fernique 2014, ASPC 485, 277) and does not come along: where it is allowed, a browser
loads it from the CDS once the user turns it on, or from a folder of this machine. The frame has
an origin of its own (`sandbox`), so that what it loads can neither ask the API nor read the page;
it is told where to look, and no more.
"""

from __future__ import annotations

from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response
from starlette.routing import Route

from skytwin.errors import UsageError
from skytwin.web.settings import Settings

__all__ = ["OPEN", "aladin_routes"]

_SCRIPT = "https://aladin.cds.unistra.fr/AladinLite/api/v3/latest/aladin.js"
_SCRIPTS = "https://aladin.cds.unistra.fr/AladinLite/api/v3/"
#: Of the images, and of the list of surveys.
_HOSTS = (
    "https://aladin.cds.unistra.fr https://alasky.cds.unistra.fr https://alaskybis.cds.unistra.fr"
)
_BOOT, _OWN = "/aladin/frame.js", "/aladin/aladin.js"
#: What a frame without an origin may ask for; nothing in it is of the survey.
OPEN = frozenset({_BOOT, _OWN})
_HERE = Path(__file__).parent / "static"
_FRAME = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Aladin Lite</title></head>
<body><div id="place"></div>
<script src="{script}"></script>
<script src="{boot}"></script>
</body></html>
"""


def aladin_routes(settings: Settings) -> list[Route]:
    """The frame, its script, and Aladin Lite's where it lies on this machine; none if not allowed.

    Raises
    ------
    UsageError
        The folder holds no ``aladin.js``.
    """
    if not settings.aladin:
        return []
    own = None if settings.aladin_from is None else settings.aladin_from / "aladin.js"
    if own is not None and not own.is_file():
        raise UsageError(f"no file {str(own)!r}; expected the script of Aladin Lite")
    page = _FRAME.format(script=_SCRIPT if own is None else _OWN, boot=_BOOT)

    async def frame(request: Request) -> Response:
        # By its name, for 'self' is nothing to a frame without an origin.
        here = f"{request.url.scheme}://{request.url.netloc}"
        scripts = f"{here}{_BOOT} " + (_SCRIPTS if own is None else f"{here}{_OWN}")
        policy = (
            f"sandbox allow-scripts; default-src 'none'; script-src {scripts} 'wasm-unsafe-eval'; "
            f"style-src 'unsafe-inline'; img-src {_HOSTS} data: blob:; font-src data:; "
            f"connect-src {_HOSTS} data: blob:; worker-src blob:; base-uri 'none'; "
            "form-action 'none'; frame-ancestors 'self'"
        )
        headers = {"Content-Security-Policy": policy, "X-Frame-Options": "SAMEORIGIN"}
        return HTMLResponse(page, headers=headers)

    async def boot(_: Request) -> Response:
        return _script(_HERE / "aladin_frame.js")

    routes = [Route("/aladin/frame", frame), Route(_BOOT, boot)]
    if own is not None:
        script = own

        async def library(_: Request) -> Response:
            return _script(script)

        routes.append(Route(_OWN, library))
    return routes


def _script(path: Path) -> Response:
    headers = {"Cross-Origin-Resource-Policy": "cross-origin"}
    return FileResponse(path, media_type="text/javascript", headers=headers)
