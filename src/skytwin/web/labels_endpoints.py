"""The addresses of labelling."""

from __future__ import annotations

import dataclasses
from typing import Any
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response

from skytwin.answers.labelling_question import (
    ANSWERS,
    LONGEST_ABOUT,
    LONGEST_ANSWER,
    LONGEST_ID,
    LONGEST_NAME,
    LONGEST_WHO,
    MOST_ANSWERS,
    Question,
)
from skytwin.web import labels_schemas as schemas
from skytwin.web.ask import Ask
from skytwin.web.bodies import read_body, read_json
from skytwin.web.described import ASK, COLUMNS, LIMIT, LIMITS, OFFSET
from skytwin.web.endpoint import FILE, Endpoint, Values
from skytwin.web.labels import ORDERS
from skytwin.web.library import Library
from skytwin.web.parameters import Parameter
from skytwin.web.replies import json_reply

__all__ = ["label_endpoints"]

_NAME = Parameter(
    name="question", about="Its name.", where="path", required=True, longest=LONGEST_NAME
)
_WHO = Parameter(name="who", about="Whose answers are mine.", longest=LONGEST_WHO)
_POSITIVE = Parameter(
    name="positive",
    about="The answer that is looked for; by default yes, else the first one.",
    longest=LONGEST_ANSWER,
)
# A search needs a reference; labels do without.
_LABEL_ASK = (dataclasses.replace(ASK[0], required=False), *ASK[1:])
_TEXT = {"type": "string"}
_QUESTION = schemas.json_body(
    ("name",),
    name={**_TEXT, "minLength": 1, "maxLength": LONGEST_NAME},
    about={**_TEXT, "maxLength": LONGEST_ABOUT},
    answers={
        "type": "array",
        "items": {**_TEXT, "minLength": 1, "maxLength": LONGEST_ANSWER},
        "minItems": 2,
        "maxItems": MOST_ANSWERS,
    },
)
_ANSWER = schemas.json_body(
    ("who", "object", "answer"),
    who={**_TEXT, "minLength": 1, "maxLength": LONGEST_WHO},
    object={**_TEXT, "minLength": 1, "maxLength": LONGEST_ID},
    answer={**_TEXT, "minLength": 1, "maxLength": LONGEST_ANSWER},
    order={**_TEXT, "enum": list(ORDERS)},
)
_UNDO = schemas.json_body(("who",), who=_ANSWER["application/json"]["schema"]["properties"]["who"])
_FORMATS = {"csv": "text/csv; charset=utf-8", "parquet": "application/vnd.apache.parquet"}


async def _json(request: Request, content: dict[str, Any], library: Library) -> dict[str, Any]:
    schema = content["application/json"]["schema"]
    return await read_json(request, schema, most=library.limits.json_bytes)


async def _questions(library: Library, _values: Values, _: Request) -> Response:
    return json_reply(await library.desk.questions())


async def _new_question(library: Library, _values: Values, request: Request) -> Response:
    given = await _json(request, _QUESTION, library)
    question = Question(
        name=given["name"].strip(),
        about=given.get("about", "").strip(),
        answers=tuple(answer.strip() for answer in given.get("answers", ANSWERS)),
    )
    return json_reply(await library.desk.ask(question), status=201)


async def _objects(library: Library, values: Values, _: Request) -> Response:
    own = ("who", "order", "positive", "others", "offset", "limit", "columns")
    rest = {name: values[name] for name in own}
    return json_reply(await library.desk.objects(values["question"], ask=Ask.of(values), **rest))


async def _answer(library: Library, values: Values, request: Request) -> Response:
    given = await _json(request, _ANSWER, library)
    stored = await library.desk.answer(
        values["question"],
        who=given["who"],
        object_=given["object"],
        answer=given["answer"],
        order=given.get("order", "top"),
    )
    return json_reply(stored, status=201)


async def _undo(library: Library, values: Values, request: Request) -> Response:
    given = await _json(request, _UNDO, library)
    return json_reply(await library.desk.undo(values["question"], given["who"]), status=201)


async def _summary(library: Library, values: Values, _: Request) -> Response:
    rest = {name: values[name] for name in ("who", "positive", "k")}
    return json_reply(await library.desk.summary(values["question"], ask=Ask.of(values), **rest))


async def _next(library: Library, values: Values, _: Request) -> Response:
    return json_reply(await library.desk.next(values["question"]), status=201)


async def _export(library: Library, values: Values, _: Request) -> Response:
    name, ending = values["question"], values["format"]
    content = await library.desk.export(
        name, parquet=ending == "parquet", every=values["resolved"] == "all"
    )
    kept = quote(f"{name}-labels.{ending}", safe="")
    headers = {"Content-Disposition": f"attachment; filename*=UTF-8''{kept}"}
    return Response(content, media_type=_FORMATS[ending], headers=headers)


async def _import(library: Library, values: Values, request: Request) -> Response:
    most = library.limits.import_bytes
    content = await read_body(request, most=most, what="a table", remedy="import it in parts")
    taken = await library.desk.take(values["question"], who=values["who"], content=content)
    return json_reply(taken, status=201)


def label_endpoints() -> tuple[Endpoint, ...]:
    """All addresses of labelling."""
    live: dict[str, Any] = {"tagged": False}
    post: dict[str, Any] = {"method": "POST", "status": 201, **live}
    return (
        Endpoint(
            path="/api/questions",
            summary="What is asked of objects, and how far it is answered",
            handler=_questions,
            answer=schemas.QUESTIONS,
            **live,
        ),
        Endpoint(
            path="/api/questions",
            summary="Ask something new",
            handler=_new_question,
            takes=_QUESTION,
            answer=schemas.QUESTION,
            **post,
        ),
        Endpoint(
            path="/api/labels/{question}/objects",
            summary="The objects to label next",
            handler=_objects,
            parameters=(
                _NAME,
                _WHO,
                Parameter(
                    name="order",
                    about="plan where there is one, else top by default.",
                    choices=ORDERS,
                ),
                _POSITIVE,
                Parameter(
                    name="others",
                    about="Also what others have answered, but not I.",
                    kind="flag",
                    default=True,
                ),
                *_LABEL_ASK,
                OFFSET,
                LIMIT,
                COLUMNS,
            ),
            answer=schemas.LISTED,
            **live,
        ),
        Endpoint(
            path="/api/labels/{question}",
            summary="Answer; on disk before the reply",
            handler=_answer,
            parameters=(_NAME,),
            takes=_ANSWER,
            answer=schemas.ANSWERED,
            **post,
        ),
        Endpoint(
            path="/api/labels/{question}/undo",
            summary="Take back my last answer that holds",
            handler=_undo,
            parameters=(_NAME,),
            takes=_UNDO,
            answer=schemas.UNDONE,
            **post,
        ),
        Endpoint(
            path="/api/labels/{question}/summary",
            summary="Counts, agreement, purity, certificate",
            handler=_summary,
            parameters=(
                _NAME,
                _WHO,
                _POSITIVE,
                Parameter(
                    name="k",
                    about="Purity of the first so many.",
                    kind="integer",
                    default=100,
                    low=1,
                    high=LIMITS.matches,
                ),
                *_LABEL_ASK,
            ),
            answer=schemas.SUMMARY,
            **live,
        ),
        Endpoint(
            path="/api/labels/{question}/next",
            summary="Draw the next round of a plan, as skytwin certify next",
            handler=_next,
            parameters=(_NAME,),
            answer=schemas.QUESTION,
            **post,
        ),
        Endpoint(
            path="/api/labels/{question}/export",
            summary="The answers as a file; CSV, or Parquet",
            handler=_export,
            parameters=(
                _NAME,
                Parameter(
                    name="format",
                    about="Of the file.",
                    default="csv",
                    choices=tuple(_FORMATS),
                ),
                Parameter(
                    name="resolved",
                    about="One answer per object, or all people's.",
                    default="majority",
                    choices=("majority", "all"),
                ),
            ),
            answer={},
            media="text/csv",
            other_media=(_FORMATS["parquet"],),
            **live,
        ),
        Endpoint(
            path="/api/labels/{question}/import",
            summary="Take in answers; the body is a table with id and label, CSV or Parquet",
            handler=_import,
            parameters=(_NAME, dataclasses.replace(_WHO, about="Who answered.")),
            takes=FILE,
            answer=schemas.IMPORTED,
            **post,
        ),
    )
