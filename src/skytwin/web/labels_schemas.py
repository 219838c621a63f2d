"""What the addresses of labelling take and answer, as JSON Schema."""

from __future__ import annotations

from typing import Any

from skytwin.web.schemas import ROW

__all__ = [
    "ANSWERED",
    "IMPORTED",
    "LISTED",
    "QUESTION",
    "QUESTIONS",
    "SUMMARY",
    "UNDONE",
    "json_body",
]

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


def json_body(required: tuple[str, ...], **fields: Schema) -> dict[str, Any]:
    """OpenAPI's content of a JSON body that holds these fields and no other."""
    schema = {
        "type": "object",
        "properties": fields,
        "required": list(required),
        "additionalProperties": False,
    }
    return {"application/json": {"schema": schema}}


_COUNTS: Schema = {"type": "object", "additionalProperties": _INTEGER}
_PERSON = _record(who=_TEXT, labels=_INTEGER, last=_TEXT)
QUESTION = _record(
    name=_TEXT,
    about=_TEXT,
    answers=_many(_TEXT),
    kind={"type": "string", "enum": ["free", "certify"]},
    objects=_INTEGER,
    labelled=_INTEGER,
    people=_many(_PERSON),
    round=_or_null(_INTEGER),
    rounds=_or_null(_INTEGER),
)
QUESTIONS = _record(questions=_many(QUESTION), book=_TEXT, writable=_FLAG, notes=_many(_TEXT))
LISTED = _record(
    total=_INTEGER,
    offset=_INTEGER,
    order=_TEXT,
    model=_or_null(
        _record(
            trained_on=_record(yes=_INTEGER, no=_INTEGER, references=_INTEGER),
            seconds=_NUMBER,
            note=_TEXT,
        )
    ),
    rows=_many(
        _record(
            **ROW["properties"],
            probability=_or_null(_NUMBER),
            score=_or_null(_NUMBER),
            label=_or_null(_TEXT),
            labels={"type": "object", "additionalProperties": _TEXT},
        )
    ),
)
ANSWERED = _record(number=_INTEGER, object=_TEXT, answer=_TEXT, labelled=_INTEGER)
UNDONE = _record(object=_TEXT, answer=_or_null(_TEXT), undone=_INTEGER, labelled=_INTEGER)
IMPORTED = _record(
    taken=_INTEGER, same=_INTEGER, unknown=_many(_TEXT), unknown_count=_INTEGER, labelled=_INTEGER
)
_SHARE = _record(hits=_INTEGER, total=_INTEGER, value=_NUMBER, low=_NUMBER, high=_NUMBER)
SUMMARY = _record(
    counts=_COUNTS,
    mine=_COUNTS,
    people=_many(_PERSON),
    conflicts=_INTEGER,
    both=_INTEGER,
    agreement=_or_null(
        _record(
            statistic=_TEXT,
            value=_NUMBER,
            low=_NUMBER,
            high=_NUMBER,
            objects=_INTEGER,
            pairs=_INTEGER,
        )
    ),
    purity=_or_null(
        _record(
            kind={"type": "string", "enum": ["exact", "estimate", "share of the labelled"]},
            k=_INTEGER,
            labelled=_INTEGER,
            yes=_INTEGER,
            value=_or_null(_NUMBER),
            low=_or_null(_NUMBER),
            high=_or_null(_NUMBER),
            base_rate=_or_null(_SHARE),
            lines=_many(_TEXT),
        )
    ),
    certificate=_or_null(
        _record(
            state={"type": "string", "enum": ["labels missing", "ready", "refused"]},
            round=_INTEGER,
            rounds=_INTEGER,
            next=_FLAG,
            missing=_INTEGER,
            headline=_TEXT,
            lines=_many(_TEXT),
            size=_or_null(_INTEGER),
            purity=_or_null(_NUMBER),
            low=_or_null(_NUMBER),
        )
    ),
    notes=_many(_TEXT),
)
