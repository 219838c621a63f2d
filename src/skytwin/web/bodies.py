"""The bodies of requests: files, and JSON whose every key is described."""

from __future__ import annotations

import json
from typing import Any

from starlette.requests import ClientDisconnect, Request

from skytwin.errors import UsageError, unknown
from skytwin.web.replies import RefusedRequest

__all__ = ["read_body", "read_json"]


async def read_body(request: Request, *, most: int, what: str, remedy: str) -> bytes:
    """The body of a request.

    Parameters
    ----------
    request : Request
    most : int
        Bytes.
    what, remedy : str
        What it should be, and what to do about a larger one.

    Raises
    ------
    RefusedRequest
        It is larger; the client went away.
    UsageError
        It is empty.
    """
    allowed = f"{most >> 20} MiB" if most >= 1 << 20 else f"{most >> 10} KiB"
    too_large = RefusedRequest(f"{what} of more than {allowed}; {remedy}", 413)
    length = request.headers.get("content-length", "0")
    if length.isdigit() and int(length) > most:
        raise too_large
    parts, size = [], 0
    try:
        async for part in request.stream():
            size += len(part)
            if size > most:
                raise too_large
            parts.append(part)
    except ClientDisconnect:
        raise RefusedRequest(f"the client went away before its {what} was here", 400) from None
    if not size:
        raise UsageError(f"an empty body; send {what}")
    return b"".join(parts)


async def read_json(request: Request, schema: dict[str, Any], *, most: int) -> dict[str, Any]:
    """A JSON object with the fields that a schema has, texts and lists of texts.

    Parameters
    ----------
    request : Request
    schema : dict
        JSON Schema: ``properties`` of type string or array of string, ``required``.
    most : int
        Bytes.

    Raises
    ------
    UsageError
        It is no JSON object; a field is missing, unknown, or not what was described.
    """
    content = await read_body(request, most=most, what="a JSON object", remedy="send less")
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        raise UsageError("the body is no JSON; send an object") from None
    if not isinstance(found, dict):
        raise UsageError("the body is no JSON object; send one with fields")
    fields = schema["properties"]
    for name, value in found.items():
        if name not in fields:
            raise UsageError(str(unknown("field", name, fields)))
        many = fields[name]["type"] == "array"
        texts = value if many and isinstance(value, list) else [value]
        if many != isinstance(value, list) or not all(isinstance(one, str) for one in texts):
            raise UsageError(f"field {name}: expected {'a list of texts' if many else 'a text'}")
        choices = fields[name].get("enum")
        if choices and value not in choices:
            raise UsageError(str(unknown(name, value, choices)))
    for name in schema["required"]:
        if name not in found:
            raise UsageError(f"field {name} is missing")
    return found
