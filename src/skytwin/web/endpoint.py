"""One address of the JSON API: what it takes, what it answers, who makes the answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from starlette.requests import Request
from starlette.responses import Response

from skytwin.web.parameters import Parameter

if TYPE_CHECKING:
    from skytwin.web.library import Library

__all__ = ["FILE", "Endpoint", "Handler", "Values"]

Values = dict[str, Any]
Handler = Callable[["Library", Values, Request], Awaitable[Response]]

#: A body that is the content of a file, as OpenAPI has it.
FILE: dict[str, Any] = {
    "application/octet-stream": {"schema": {"type": "string", "format": "binary"}}
}


@dataclass(frozen=True, eq=False, kw_only=True)
class Endpoint:
    """One address of the API.

    Attributes
    ----------
    path : str
        With ``{name}`` for parts that are parameters.
    summary : str
    handler : callable
    parameters : tuple of Parameter
    method : {"GET", "POST"}
    takes : dict
        OpenAPI's content of the body of a request; empty where it has none.
    status : int
        Of an answer that is well.
    answer : dict
        JSON Schema of a JSON answer; empty for another medium.
    media : str
    other_media : tuple of str
        That it may have instead, where it is asked for.
    tagged : bool
        The answer depends on nothing but the address and what is served.
    """

    path: str
    summary: str
    handler: Handler
    parameters: tuple[Parameter, ...] = ()
    method: Literal["GET", "POST"] = "GET"
    takes: dict[str, Any] = field(default_factory=dict)
    status: int = 200
    answer: dict[str, Any]
    media: str = "application/json"
    other_media: tuple[str, ...] = ()
    tagged: bool = True
