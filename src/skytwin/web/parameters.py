"""One description of every parameter: it reads requests, and it is what OpenAPI shows."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from skytwin.errors import UnknownName, UsageError, one_of, unknown

__all__ = ["Parameter", "read"]

_TRUE, _FALSE = ("true", "1", "yes"), ("false", "0", "no")
_SAFE_INTEGER = 2**53


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """One parameter of a request.

    Attributes
    ----------
    name, about : str
    kind : {"text", "integer", "number", "flag"}
    where : {"query", "path"}
    default : object
        What is taken where it is not given.
    required : bool
    repeated : bool
        May be given several times; read as a tuple.
    low, high : float or None
        Of numbers, both allowed.
    choices : tuple of str
        Of text.
    longest : int
        Characters of text.
    most : int
        How often it may be repeated.
    example : str or None
    """

    name: str
    about: str
    kind: Literal["text", "integer", "number", "flag"] = "text"
    where: Literal["query", "path"] = "query"
    default: Any = None
    required: bool = False
    repeated: bool = False
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    longest: int = 1000
    most: int = 100
    example: str | None = None

    def value(self, texts: Sequence[str]) -> Any:
        """The value of what a request gave under this name.

        Raises
        ------
        UsageError
            It is not what was described.
        """
        if not texts:
            if self.required:
                raise UsageError(f"{self.name} is missing; {self.about}")
            return () if self.repeated and self.default is None else self.default
        if self.repeated:
            if len(texts) > self.most:
                raise UsageError(f"{self.name} {len(texts)} times; expected at most {self.most}")
            return tuple(self._one(text) for text in texts)
        if len(texts) > 1:
            raise UsageError(f"{self.name} {len(texts)} times; expected once")
        return self._one(texts[0])

    def _one(self, text: str) -> Any:
        if self.kind in {"integer", "number"}:
            return self._number(text)
        if self.kind == "flag":
            if text.lower() not in {*_TRUE, *_FALSE}:
                raise UsageError(f"{self.name} {text!r}; expected true or false")
            return text.lower() in _TRUE
        if len(text) > self.longest:
            raise UsageError(f"{self.name} of {len(text)} characters; at most {self.longest}")
        if "\x00" in text:
            raise UsageError(f"{self.name} holds a null character; leave it out")
        return one_of(self.name, text, self.choices) if self.choices else text

    def _number(self, text: str) -> int | float:
        what = "a whole number" if self.kind == "integer" else "a number"
        try:
            value = int(text) if self.kind == "integer" else float(text)
        except ValueError:
            raise UsageError(f"{self.name} {text!r}; expected {what}") from None
        low = -math.inf if self.low is None else self.low
        high = math.inf if self.high is None else self.high
        if not (math.isfinite(value) and abs(value) < _SAFE_INTEGER and low <= value <= high):
            bounds = [f"at least {self.low:g}"] * (self.low is not None)
            bounds += [f"at most {self.high:g}"] * (self.high is not None)
            raise UsageError(f"{self.name} {text}; expected {what} {' and '.join(bounds)}".rstrip())
        return value

    def openapi(self) -> dict[str, Any]:
        """As OpenAPI 3.1 describes it."""
        kinds = {"text": "string", "flag": "boolean"}
        schema: dict[str, Any] = {"type": kinds.get(self.kind, self.kind)}
        if self.kind == "text":
            schema |= {"enum": list(self.choices)} if self.choices else {"maxLength": self.longest}
        if self.low is not None:
            schema["minimum"] = self.low
        if self.high is not None:
            schema["maximum"] = self.high
        if self.repeated:
            schema = {"type": "array", "items": schema, "maxItems": self.most}
            schema |= {"minItems": 1} if self.required else {}
        elif self.default is not None:
            schema["default"] = self.default
        found: dict[str, Any] = {
            "name": self.name,
            "in": self.where,
            "description": self.about,
            "required": self.required or self.where == "path",
            "schema": schema,
        }
        if self.repeated:
            found |= {"style": "form", "explode": True}
        if self.example is not None:
            found["example"] = [self.example] if self.repeated else self.example
        return found


def read(
    parameters: Iterable[Parameter], query: Iterable[tuple[str, str]], path: dict[str, Any]
) -> dict[str, Any]:
    """The values of a request's parameters, by name.

    Raises
    ------
    UsageError
        A value is not what was described, or a parameter is not: a misspelt one must not be
        ignored.
    """
    try:
        return _read({parameter.name: parameter for parameter in parameters}, query, path)
    except UnknownName as error:  # of a parameter, not of something that is served
        raise UsageError(str(error)) from None


def _read(
    known: dict[str, Parameter], query: Iterable[tuple[str, str]], path: dict[str, Any]
) -> dict[str, Any]:
    given: dict[str, list[str]] = {name: [] for name in known}
    for name, text in [*query, *((name, str(text)) for name, text in path.items())]:
        if name not in known:
            raise unknown("parameter", name, known)
        given[name].append(text)
    return {name: parameter.value(given[name]) for name, parameter in known.items()}
