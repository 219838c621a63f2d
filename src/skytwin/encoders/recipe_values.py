"""Settings from tables: every key known, every value of the type that its field states."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar, get_args, get_type_hints

from skytwin.errors import UsageError, unknown

__all__ = ["from_table"]

T = TypeVar("T")


def from_table(cls: type[T], data: Mapping[str, Any], where: str, prefix: str = "") -> T:
    """A settings dataclass from a table, its fields that are dataclasses from tables in it.

    Parameters
    ----------
    cls : type
    data : mapping
    where : str
        What to call the table's home in an error.
    prefix : str
        Of its keys in an error: ``"optimizer."``.

    Raises
    ------
    UnknownName
        A key that the class has not, or a value that is none of its choices.
    UsageError
        A value of another type.
    """
    hints = get_type_hints(cls)
    values: dict[str, Any] = {}
    for key, value in data.items():
        if key not in hints:
            raise unknown(f"key in {where}:", prefix + key, [prefix + name for name in hints])
        hint = hints[key]
        if dataclasses.is_dataclass(hint) and isinstance(hint, type):
            if not isinstance(value, Mapping):
                raise UsageError(f"{where}: {prefix}{key} is {value!r}; expected a table")
            values[key] = from_table(hint, value, where, f"{prefix}{key}.")
        else:
            values[key] = _checked(hint, value, where, prefix + key)
    return cls(**values)


def _checked(hint: Any, value: Any, where: str, name: str) -> Any:
    """A value of the type that its field states, or an error that says so."""
    choices = get_args(hint)
    if choices and all(isinstance(choice, str) for choice in choices):
        value = str(value) if type(value) is int else value  # precision = 16
        if value not in choices:
            raise unknown(f"value of {name} in {where}:", value, choices)
        return value
    good, expected = True, ""
    if hint is bool:
        good, expected = isinstance(value, bool), "true or false"
    elif hint is int:
        good, expected = type(value) is int, "a whole number"
    elif hint is float:
        good, expected = isinstance(value, (int, float)) and type(value) is not bool, "a number"
    elif hint is str or type(None) in choices:
        good, expected = isinstance(value, str) or (hint is not str and value is None), "text"
    elif hint == tuple[str, ...]:
        value = [value] if isinstance(value, str) else value
        good = isinstance(value, (list, tuple)) and all(isinstance(v, str) for v in value)
        expected = "a list of names"
    elif hint == tuple[float, float]:
        good = (
            isinstance(value, (list, tuple))
            and len(value) == 2
            and all(isinstance(v, (int, float)) for v in value)
        )
        expected = "two numbers"
    else:
        good, expected = isinstance(value, Mapping), "a table"
    if not good:
        raise UsageError(f"{where}: {name} is {value!r}; expected {expected}")
    if hint is float:
        return float(value)
    return tuple(value) if isinstance(value, list) else value
