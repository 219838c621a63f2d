"""What the API answers, as JSON Schema; and the OpenAPI document."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from skytwin.web.endpoint import Endpoint

__all__ = ["column_summary", "openapi"]

Schema = dict[str, Any]
_TEXT: Schema = {"type": "string"}
_INTEGER: Schema = {"type": "integer"}
_NUMBER: Schema = {"type": "number"}
_FLAG: Schema = {"type": "boolean"}


def _or_null(schema: Schema) -> Schema:
    return {**schema, "type": [schema["type"], "null"]}


def _many(schema: Schema) -> Schema:
    return {"type": "array", "items": schema}


def _record(**fields: Schema) -> Schema:
    return {"type": "object", "properties": fields, "required": list(fields)}


_PLACE = {"ra": _or_null(_NUMBER), "dec": _or_null(_NUMBER)}
_CELLS: Schema = {
    "type": "object",
    "additionalProperties": {"type": ["string", "number", "boolean", "null"]},
}
_ROW_FIELDS = {"row": _INTEGER, "id": _TEXT, **_PLACE, "columns": _CELLS}

ROW = _record(**_ROW_FIELDS)
ROWS = _record(rows=_many(ROW))
OBJECTS = _record(total=_INTEGER, offset=_INTEGER, rows=_many(ROW))
MATCHES = _record(
    total=_INTEGER,
    offset=_INTEGER,
    references=_many(_record(text=_TEXT, id=_or_null(_TEXT), name=_TEXT, negative=_FLAG, **_PLACE)),
    how=_TEXT,
    scanned=_TEXT,
    excluded=_INTEGER,
    reach=_or_null(_NUMBER),
    command=_TEXT,
    notes=_many(_TEXT),
    rows=_many(
        _record(
            **_ROW_FIELDS,
            rank=_INTEGER,
            distance=_NUMBER,
            reference=_INTEGER,
            probability=_or_null(_NUMBER),
        )
    ),
)
WHY = _record(
    kind=_TEXT,
    score=_NUMBER,
    distance=_NUMBER,
    average=_INTEGER,
    maps=_many(
        _record(
            id=_TEXT,
            crop=_INTEGER,
            value=_NUMBER,
            central=_or_null(_NUMBER),
            cells=_many(_many(_NUMBER)),
        )
    ),
)
WHY_STATE = _record(ready=_FLAG, doing=_TEXT)
PURITY = _record(
    positive=_many(_TEXT),
    base=_record(
        hits=_INTEGER, total=_INTEGER, value=_NUMBER, lower=_NUMBER, upper=_NUMBER, level=_NUMBER
    ),
    unlabelled=_INTEGER,
    repeats=_INTEGER,
    distance=_many(_NUMBER),
    purity=_many(_NUMBER),
    lower=_many(_NUMBER),
    upper=_many(_NUMBER),
    count=_many(_INTEGER),
    positives=_many(_INTEGER),
)
SKY = _record(
    objects=_INTEGER,
    ra=_NUMBER,
    dec=_NUMBER,
    radius=_NUMBER,
    footprints=_many(_record(name=_TEXT, about=_TEXT, square_degrees=_NUMBER, objects=_INTEGER)),
)
CELLS = _record(order=_INTEGER, cells=_many(_many(_NUMBER)))
SAMP = _record(hub=_FLAG, problem=_TEXT, clients=_many(_TEXT), listening=_FLAG, last=_INTEGER)
SENT = _record(rows=_INTEGER, clients=_many(_TEXT))
LISTENING = _record(listening=_FLAG)
RECEIVED = _record(
    listening=_FLAG,
    last=_INTEGER,
    received=_many(_record(number=_INTEGER, client=_TEXT, like=_many(_TEXT), problem=_TEXT)),
)
DISTANCES = _record(total=_INTEGER, distance=_many(_NUMBER), count=_many(_INTEGER))
DROPPED = _record(like=_TEXT, name=_TEXT)
COLUMN = _record(
    name=_TEXT,
    low=_or_null(_NUMBER),
    high=_or_null(_NUMBER),
    classes=_or_null(_many(_TEXT)),
    counts=_or_null(_many(_INTEGER)),
)
INFO = _record(
    name=_TEXT,
    objects=_INTEGER,
    dim=_INTEGER,
    encoder=_TEXT,
    bands=_many(_TEXT),
    pixel_scale=_or_null(_NUMBER),
    frame=_or_null(_record(width=_INTEGER, height=_INTEGER, shown=_INTEGER)),
    images=_FLAG,
    no_images=_TEXT,
    query_images=_FLAG,
    positions=_FLAG,
    samp=_FLAG,
    sky=_FLAG,
    mocs=_many(_TEXT),
    aladin=_FLAG,
    columns=_many(
        _record(name=_TEXT, kind=_TEXT, unit=_or_null(_TEXT), description=_or_null(_TEXT))
    ),
    shown=_many(_TEXT),
    metrics=_many(_TEXT),
    metric=_TEXT,
    combinations=_many(_TEXT),
    combine=_TEXT,
    positive=_many(_TEXT),
    maps=_many(_TEXT),
    beside=_many(_TEXT),
    version=_TEXT,
    csrf=_TEXT,
)
_ERROR = _record(error=_TEXT)
_WRONG = {
    400: "A parameter is off",
    401: "The token is missing",
    403: "From another page",
    404: "There is no such thing",
    413: "Too large",
    421: "Another host",
    422: "The data cannot do this",
    503: "Busy",
}


def column_summary(
    name: str, values: np.ndarray, classes: tuple[str, ...] | None
) -> dict[str, Any]:
    """Range of a column, 2nd to 98th percentile, or its classes and how many have each."""
    finite = values[np.isfinite(values)]
    if classes is not None:
        counts = np.bincount(finite.astype(np.int64), minlength=len(classes))
        return {
            "name": name,
            "low": None,
            "high": None,
            "classes": list(classes),
            "counts": [int(count) for count in counts],
        }
    low, high = np.percentile(finite, (2, 98)) if len(finite) else (None, None)
    return {
        "name": name,
        "low": None if low is None else float(low),
        "high": None if high is None else float(high),
        "classes": None,
        "counts": None,
    }


def openapi(endpoints: Iterable[Endpoint]) -> dict[str, Any]:
    """The OpenAPI 3.1 document of the API."""
    paths: dict[str, Any] = {}
    for endpoint in endpoints:
        media = {"schema": endpoint.answer} if endpoint.answer else {}
        content = {endpoint.media: media, **{other: {} for other in endpoint.other_media}}
        operation: dict[str, Any] = {
            "summary": endpoint.summary,
            "parameters": [parameter.openapi() for parameter in endpoint.parameters],
            "responses": {
                str(endpoint.status): {"description": "Well", "content": content},
                **({"304": {"description": "As it was"}} if endpoint.tagged else {}),
                **{
                    str(status): {
                        "description": about,
                        "content": {"application/json": {"schema": _ERROR}},
                    }
                    for status, about in _WRONG.items()
                },
            },
        }
        if endpoint.takes:
            operation["requestBody"] = {"required": True, "content": endpoint.takes}
        if endpoint.method == "POST":
            operation["parameters"].append(
                {
                    "name": "X-Skytwin-Token",
                    "in": "header",
                    "description": "csrf of /api/info.",
                    "required": True,
                    "schema": _TEXT,
                }
            )
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "skytwin",
            "version": importlib.metadata.version("skytwin"),
            "description": "Find more objects like these, with a purity one can trust.",
        },
        "paths": paths,
    }
