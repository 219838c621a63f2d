"""Pickles of plain arrays, read without running anything that a pickle can name.

A pickle is a program: it may call whatever it can import. Here the few names that NumPy's arrays
need stand for small recorders of our own, which turn bytes into arrays by `numpy.frombuffer`;
every other name is refused. No NumPy code that restores objects is ever called.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import re
from typing import Any

import numpy as np

from skytwin.errors import DataError, in_words

__all__ = ["load_plain"]

# Plain numbers, bytes and text; never objects ("O"), records ("V") or dates with their own state.
_SPEC = re.compile(r"[|<>=]?[?biufcSU]\d{0,9}")


class _Dtype:
    __slots__ = ("value",)

    def __init__(self, spec: object, *_: object) -> None:
        text = spec.decode("ascii") if isinstance(spec, bytes) else str(spec)
        if _SPEC.fullmatch(text) is None:
            raise DataError(f"refuses to load an array of type {text!r}: not a plain array")
        self.value = np.dtype(text)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if state[1] in {"<", ">"}:
            self.value = self.value.newbyteorder(state[1])


class _Array:
    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = np.empty(0)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran, data = state
        self.value = _frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")


class _Call:
    """A function that a pickle may call, as an object whose attributes it cannot set."""

    __slots__ = ("_name",)
    _name: str

    def __init__(self, name: str) -> None:
        object.__setattr__(self, "_name", name)

    def __setattr__(self, name: str, value: object) -> None:
        raise DataError("refuses to load a pickle that alters functions: not a plain array")

    def __call__(self, *args: Any) -> object:
        if self._name == "dtype":
            return _Dtype(*args)
        if self._name == "_reconstruct":
            return _Array()
        if self._name == "scalar":
            return _frombuffer(args[1], args[0])[0]
        if self._name == "_frombuffer":
            array = _Array()
            array.value = _frombuffer(args[0], args[1]).reshape(args[2], order=args[3])
            return array
        if self._name == "encode" and args[1] in {"latin1", "latin-1"}:
            return str(args[0]).encode("latin-1")
        raise DataError(f"refuses to call {self._name}: not a plain array")


def _frombuffer(data: Any, dtype: Any) -> np.ndarray:
    if not isinstance(dtype, _Dtype):
        raise DataError("refuses to load an array without a type: not a plain array")
    # Pickles of Python 2 hold bytes as text.
    content = data.encode("latin-1") if isinstance(data, str) else bytes(data)
    return np.frombuffer(content, dtype.value)


_KNOWN = {
    (module, name)
    for core in ("numpy.core", "numpy._core")
    for module, name in (
        (f"{core}.multiarray", "_reconstruct"),
        (f"{core}.multiarray", "scalar"),
        (f"{core}.numeric", "_frombuffer"),
        ("numpy", "ndarray"),
        ("numpy", "dtype"),
        ("_codecs", "encode"),
    )
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> object:
        if (module, name) not in _KNOWN:
            # The name comes from the file: a damaged one may hold a line break.
            what = f"{module}.{name}".encode("unicode_escape").decode()
            raise DataError(f"refuses to load {what}: not a plain array")
        return _Call(name)

    def persistent_load(self, pid: object) -> object:
        raise DataError(f"refuses to load the reference {pid!r}: not a plain array")


def load_plain(content: bytes) -> Any:
    """The dicts, lists, numbers, texts and arrays of numbers or text in a pickle.

    Raises
    ------
    DataError
        It names anything else, or is damaged.
    """
    try:
        _require_sound(content)
        return _bare(_Unpickler(io.BytesIO(content), encoding="latin1").load())
    except DataError:
        raise
    except Exception as error:  # a damaged pickle fails in every way there is
        reason = in_words(error)
        raise DataError(f"damaged pickle: {reason}") from None


def _require_sound(content: bytes) -> None:
    """Refuse a pickle that numbers what it keeps beyond reason: room is made for all below."""
    for operation, argument, _ in pickletools.genops(content):
        kept = operation.name in {"PUT", "BINPUT", "LONG_BINPUT"}
        if kept and isinstance(argument, int) and argument > len(content):
            raise DataError(f"damaged pickle: it keeps something as number {argument}")


def _bare(value: Any, depth: int = 0) -> Any:
    """Put arrays in the recorders' places."""
    if depth > 20:
        raise DataError("damaged pickle: nested too deeply")
    if isinstance(value, _Array):
        return value.value
    if isinstance(value, dict):
        return {_bare(key, depth + 1): _bare(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_bare(item, depth + 1) for item in value]
    if isinstance(value, _Call | _Dtype):
        raise DataError("refuses to load a bare function or type: not a plain array")
    return value
