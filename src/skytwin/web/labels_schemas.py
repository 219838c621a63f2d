"""What the addresses of labelling take and answer, as JSON Schema."""

from __future__ import annotations

from typing import Any

from skytwin.web.schema_parts import FLAG, INTEGER, NUMBER, TEXT, Schema, many, or_null, record
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


def json_body(required: tuple[str, ...], **fields: Schema) -> dict[str, Any]:
    """OpenAPI's content of a JSON body that holds these fields and no other."""
    schema = {
        "type": "object",
        "properties": fields,
        "required": list(required),
        "additionalProperties": False,
    }
    return {"application/json": {"schema": schema}}


_COUNTS: Schema = {"type": "object", "additionalProperties": INTEGER}
_PERSON = record(who=TEXT, labels=INTEGER, last=TEXT)
QUESTION = record(
    name=TEXT,
    about=TEXT,
    answers=many(TEXT),
    kind={"type": "string", "enum": ["free", "certify"]},
    objects=INTEGER,
    labelled=INTEGER,
    people=many(_PERSON),
    round=or_null(INTEGER),
    rounds=or_null(INTEGER),
)
QUESTIONS = record(questions=many(QUESTION), book=TEXT, writable=FLAG, notes=many(TEXT))
LISTED = record(
    total=INTEGER,
    offset=INTEGER,
    order=TEXT,
    model=or_null(
        record(
            trained_on=record(yes=INTEGER, no=INTEGER, references=INTEGER),
            seconds=NUMBER,
            note=TEXT,
        )
    ),
    rows=many(
        record(
            **ROW["properties"],
            probability=or_null(NUMBER),
            score=or_null(NUMBER),
            label=or_null(TEXT),
            labels={"type": "object", "additionalProperties": TEXT},
        )
    ),
)
ANSWERED = record(number=INTEGER, object=TEXT, answer=TEXT, labelled=INTEGER)
UNDONE = record(object=TEXT, answer=or_null(TEXT), undone=INTEGER, labelled=INTEGER)
IMPORTED = record(
    taken=INTEGER, same=INTEGER, unknown=many(TEXT), unknown_count=INTEGER, labelled=INTEGER
)
_SHARE = record(hits=INTEGER, total=INTEGER, value=NUMBER, low=NUMBER, high=NUMBER)
SUMMARY = record(
    counts=_COUNTS,
    mine=_COUNTS,
    people=many(_PERSON),
    conflicts=INTEGER,
    both=INTEGER,
    agreement=or_null(
        record(
            statistic=TEXT,
            value=NUMBER,
            low=NUMBER,
            high=NUMBER,
            objects=INTEGER,
            pairs=INTEGER,
        )
    ),
    purity=or_null(
        record(
            kind={"type": "string", "enum": ["exact", "estimate", "share of the labelled"]},
            k=INTEGER,
            labelled=INTEGER,
            yes=INTEGER,
            value=or_null(NUMBER),
            low=or_null(NUMBER),
            high=or_null(NUMBER),
            base_rate=or_null(_SHARE),
            lines=many(TEXT),
        )
    ),
    certificate=or_null(
        record(
            state={"type": "string", "enum": ["labels missing", "ready", "refused"]},
            round=INTEGER,
            rounds=INTEGER,
            next=FLAG,
            missing=INTEGER,
            headline=TEXT,
            lines=many(TEXT),
            size=or_null(INTEGER),
            purity=or_null(NUMBER),
            low=or_null(NUMBER),
        )
    ),
    notes=many(TEXT),
)
