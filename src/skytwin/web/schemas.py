"""What the API answers, as JSON Schema; and the OpenAPI document."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from skytwin.web.schema_parts import FLAG, INTEGER, NUMBER, TEXT, Schema, many, or_null, record

if TYPE_CHECKING:
    from skytwin.web.endpoint import Endpoint

__all__ = ["column_summary", "openapi"]

_PLACE = {"ra": or_null(NUMBER), "dec": or_null(NUMBER)}
_CELLS: Schema = {
    "type": "object",
    "additionalProperties": {"type": ["string", "number", "boolean", "null"]},
}
_ROW_FIELDS = {"row": INTEGER, "id": TEXT, **_PLACE, "columns": _CELLS}

ROW = record(**_ROW_FIELDS)
ROWS = record(rows=many(ROW))
OBJECTS = record(total=INTEGER, offset=INTEGER, rows=many(ROW))
MATCHES = record(
    total=INTEGER,
    offset=INTEGER,
    references=many(record(text=TEXT, id=or_null(TEXT), name=TEXT, negative=FLAG, **_PLACE)),
    how=TEXT,
    scanned=TEXT,
    excluded=INTEGER,
    reach=or_null(NUMBER),
    command=TEXT,
    notes=many(TEXT),
    rows=many(
        record(
            **_ROW_FIELDS,
            rank=INTEGER,
            distance=NUMBER,
            reference=INTEGER,
            probability=or_null(NUMBER),
        )
    ),
)
WHY = record(
    kind=TEXT,
    score=NUMBER,
    distance=NUMBER,
    average=INTEGER,
    maps=many(
        record(
            id=TEXT,
            crop=INTEGER,
            value=NUMBER,
            central=or_null(NUMBER),
            cells=many(many(NUMBER)),
        )
    ),
)
WHY_STATE = record(ready=FLAG, doing=TEXT)
PURITY = record(
    positive=many(TEXT),
    base=record(
        hits=INTEGER, total=INTEGER, value=NUMBER, lower=NUMBER, upper=NUMBER, level=NUMBER
    ),
    unlabelled=INTEGER,
    repeats=INTEGER,
    distance=many(NUMBER),
    purity=many(NUMBER),
    lower=many(NUMBER),
    upper=many(NUMBER),
    count=many(INTEGER),
    positives=many(INTEGER),
)
SKY = record(
    objects=INTEGER,
    ra=NUMBER,
    dec=NUMBER,
    radius=NUMBER,
    footprints=many(record(name=TEXT, about=TEXT, square_degrees=NUMBER, objects=INTEGER)),
)
CELLS = record(order=INTEGER, cells=many(many(NUMBER)))
SAMP = record(hub=FLAG, problem=TEXT, clients=many(TEXT), listening=FLAG, last=INTEGER)
SENT = record(rows=INTEGER, clients=many(TEXT), refused=many(TEXT))
LISTENING = record(listening=FLAG)
RECEIVED = record(
    listening=FLAG,
    last=INTEGER,
    received=many(record(number=INTEGER, client=TEXT, like=many(TEXT), problem=TEXT)),
)
DISTANCES = record(total=INTEGER, distance=many(NUMBER), count=many(INTEGER))
DROPPED = record(like=TEXT, name=TEXT)
COLUMN = record(
    name=TEXT,
    low=or_null(NUMBER),
    high=or_null(NUMBER),
    classes=or_null(many(TEXT)),
    counts=or_null(many(INTEGER)),
)
INFO = record(
    name=TEXT,
    objects=INTEGER,
    dim=INTEGER,
    encoder=TEXT,
    bands=many(TEXT),
    pixel_scale=or_null(NUMBER),
    frame=or_null(record(width=INTEGER, height=INTEGER, shown=INTEGER)),
    images=FLAG,
    no_images=TEXT,
    query_images=FLAG,
    positions=FLAG,
    samp=FLAG,
    sky=FLAG,
    mocs=many(TEXT),
    aladin=FLAG,
    columns=many(record(name=TEXT, kind=TEXT, unit=or_null(TEXT), description=or_null(TEXT))),
    shown=many(TEXT),
    metrics=many(TEXT),
    metric=TEXT,
    combinations=many(TEXT),
    combine=TEXT,
    positive=many(TEXT),
    maps=many(TEXT),
    beside=many(TEXT),
    version=TEXT,
    csrf=TEXT,
)
_ERROR = record(error=TEXT)
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
                    "schema": TEXT,
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
