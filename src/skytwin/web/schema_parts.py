"""What JSON Schemas are put together from."""

from __future__ import annotations

from typing import Any

__all__ = ["FLAG", "INTEGER", "NUMBER", "TEXT", "Schema", "many", "or_null", "record"]

Schema = dict[str, Any]
TEXT: Schema = {"type": "string"}
INTEGER: Schema = {"type": "integer"}
NUMBER: Schema = {"type": "number"}
FLAG: Schema = {"type": "boolean"}


def or_null(schema: Schema) -> Schema:
    """The same, or null."""
    return {**schema, "type": [schema["type"], "null"]}


def many(schema: Schema) -> Schema:
    """A list of such."""
    return {"type": "array", "items": schema}


def record(**fields: Schema) -> Schema:
    """An object that has these fields, all of them."""
    return {"type": "object", "properties": fields, "required": list(fields)}
