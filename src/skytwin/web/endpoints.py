"""The JSON API: every address, its parameters and its answer, described once."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from skytwin.web import schemas
from skytwin.web.ask import Ask
from skytwin.web.bodies import read_body
from skytwin.web.described import (
    ASK,
    COLUMNS,
    ID,
    INSIDE,
    LIMIT,
    LIMITS,
    OFFSET,
    PICTURE,
    POSITIVE,
    SEARCH,
    SEED,
    WHERE,
)
from skytwin.web.endpoint import FILE, Endpoint, Values
from skytwin.web.endpoints_sky import samp_endpoints, sky_endpoints
from skytwin.web.labels_endpoints import label_endpoints
from skytwin.web.library import Library
from skytwin.web.parameters import Parameter
from skytwin.web.replies import REVALIDATE, json_reply
from skytwin.web.thumbnails import Picture

__all__ = ["Endpoint", "endpoints"]


async def _info(library: Library, _values: Values, request: Request) -> Response:
    return json_reply({**library.info, "csrf": request.app.state.csrf})


async def _object(library: Library, values: Values, _: Request) -> Response:
    return json_reply(library.object(values["id"]))


async def _objects(library: Library, values: Values, _: Request) -> Response:
    return json_reply(await library.objects(**values))


async def _rows(library: Library, values: Values, _: Request) -> Response:
    return json_reply(library.rows_at(values["row"], values["columns"]))


async def _search(library: Library, values: Values, _: Request) -> Response:
    own = {parameter.name for parameter in ASK}
    rest = {name: value for name, value in values.items() if name not in own}
    return json_reply(await library.search(Ask.of(values), **rest))


async def _why(library: Library, values: Values, _: Request) -> Response:
    return json_reply(await library.why(Ask.of(values), values["id"]))


async def _why_state(library: Library, values: Values, _: Request) -> Response:
    return json_reply(await library.why_state(values["load"]))


async def _purity(library: Library, values: Values, _: Request) -> Response:
    return json_reply(await library.purity(Ask.of(values), values["positive"]))


async def _distances(library: Library, values: Values, _: Request) -> Response:
    ask = Ask.of(values)
    return json_reply(await library.distances(ask, values["where"], values["inside"]))


async def _thumbnail(library: Library, values: Values, _: Request) -> Response:
    bands = tuple(band.strip() for band in values["bands"].split(",") if band.strip())
    picture = Picture(
        stretch=values["stretch"], bands=bands, size=values["size"], whole=values["whole"]
    )
    png = await library.thumbnail(values["id"], picture)
    kept = values["version"] == library.version
    control = "private, max-age=604800, immutable" if kept else REVALIDATE
    return Response(png, media_type="image/png", headers={"Cache-Control": control})


async def _query_image(library: Library, values: Values, request: Request) -> Response:
    most = library.limits.upload_bytes
    content = await read_body(request, most=most, what="an image", remedy="cut it out")
    dropped = await library.add_image(values["name"], content)
    return json_reply({"like": dropped.key, "name": dropped.name}, status=201)


async def _points(library: Library, values: Values, _: Request) -> Response:
    return Response(library.points(values["name"]), media_type="application/octet-stream")


async def _column(library: Library, values: Values, _: Request) -> Response:
    numbers, classes = await library.column(values["name"])
    return json_reply(schemas.column_summary(values["name"], numbers, classes))


async def _column_values(library: Library, values: Values, _: Request) -> Response:
    numbers = (await library.column(values["name"]))[0]
    content = numbers.astype("<f4").tobytes()
    return Response(content, media_type="application/octet-stream")


def endpoints() -> tuple[Endpoint, ...]:
    """All addresses of the API; `openapi` describes them, `app` routes them."""
    name = Parameter(name="name", about="Its name.", where="path", longest=500)
    binary: dict[str, Any] = {"media": "application/octet-stream", "answer": {}}
    return (
        Endpoint(
            path="/api/info",
            summary="What is served, and what can be asked of it",
            handler=_info,
            answer=schemas.INFO,
            tagged=False,
        ),
        Endpoint(
            path="/api/object/{id}",
            summary="All that the catalogue has of an object",
            handler=_object,
            parameters=(ID,),
            answer=schemas.ROW,
        ),
        Endpoint(
            path="/api/objects",
            summary="Objects in the order of a column, or in a random one",
            handler=_objects,
            parameters=(
                WHERE,
                INSIDE,
                Parameter(name="sort", about="A column; else the order is random."),
                Parameter(name="descending", about="Largest first.", kind="flag", default=False),
                SEED,
                OFFSET,
                LIMIT,
                COLUMNS,
            ),
            answer=schemas.OBJECTS,
        ),
        Endpoint(
            path="/api/rows",
            summary="Objects by row number",
            handler=_rows,
            parameters=(
                Parameter(
                    name="row",
                    about="Row number, from 0. Repeatable.",
                    kind="integer",
                    required=True,
                    repeated=True,
                    low=0,
                    high=10**9,
                    most=LIMITS.page,
                ),
                COLUMNS,
            ),
            answer=schemas.ROWS,
        ),
        Endpoint(
            path="/api/search",
            summary="The objects most like some references, as skytwin search",
            handler=_search,
            parameters=SEARCH,
            answer=schemas.MATCHES,
        ),
        Endpoint(
            path="/api/why/{id}",
            summary="Where in the images an object's likeness lies, as skytwin explain",
            handler=_why,
            parameters=(ID, *ASK),
            answer=schemas.WHY,
        ),
        Endpoint(
            path="/api/why-state",
            summary="Whether the network that explains is loaded, and what takes time now",
            handler=_why_state,
            parameters=(
                Parameter(name="load", about="Begin to load it.", kind="flag", default=False),
            ),
            answer=schemas.WHY_STATE,
            tagged=False,
        ),
        Endpoint(
            path="/api/purity",
            summary="Purity against distance on labelled objects, as skytwin purity",
            handler=_purity,
            parameters=(*ASK, POSITIVE),
            answer=schemas.PURITY,
        ),
        Endpoint(
            path="/api/distances",
            summary="How many objects lie within every distance",
            handler=_distances,
            parameters=(*ASK, WHERE, INSIDE),
            answer=schemas.DISTANCES,
        ),
        Endpoint(
            path="/api/thumbnail/{id}",
            summary="A picture of an object, or of a dropped image",
            handler=_thumbnail,
            parameters=(ID, *PICTURE),
            answer={},
            media="image/png",
        ),
        Endpoint(
            path="/api/query-image",
            summary="Take in an image file as a reference; the body is the file",
            handler=_query_image,
            method="POST",
            takes=FILE,
            status=201,
            parameters=(
                Parameter(
                    name="name",
                    about="The file's name, whose suffix says what it is.",
                    required=True,
                    longest=200,
                ),
            ),
            answer=schemas.DROPPED,
            tagged=False,
        ),
        Endpoint(
            path="/api/map/{name}",
            summary="A map's points: x, y (float32), row (uint32), little-endian, one by one",
            handler=_points,
            parameters=(name,),
            **binary,
        ),
        Endpoint(
            path="/api/column/{name}",
            summary="Range or classes of a column",
            handler=_column,
            parameters=(name,),
            answer=schemas.COLUMN,
        ),
        Endpoint(
            path="/api/column-values/{name}",
            summary="A column by row, float32 little-endian: numbers, or the number of a class",
            handler=_column_values,
            parameters=(name,),
            **binary,
        ),
        *sky_endpoints(),
        *samp_endpoints(),
        *label_endpoints(),
    )
