"""Rows by an SQL condition on the catalogue, with DuckDB shut off from files and network."""

from __future__ import annotations

import re
import threading
import time

import numpy as np
import pyarrow as pa

from skytwin.errors import UsageError, unknown
from skytwin.images.where_apart import ROW, Bounds, Refused, evaluate, evaluate_apart, is_plain

__all__ = ["bound_this_thread", "matching_rows", "positive_rows"]

_bounds = threading.local()


def bound_this_thread(bounds: Bounds | None) -> None:
    """Hold the conditions that this thread evaluates to bounds from now on.

    For conditions of others, as a server has them. What is more than comparisons and arithmetic
    of columns is then evaluated by a process of its own, for DuckDB neither stops within a
    function nor counts all of its memory.
    """
    _bounds.held = bounds


def matching_rows(table: pa.Table, condition: str) -> np.ndarray:
    """Which rows fulfil an SQL condition, shape (N,) bool; a null outcome counts as no.

    Parameters
    ----------
    table : pyarrow.Table
        The catalogue.
    condition : str
        For example ``"z < 0.2 and mag_r < 19"``.

    Raises
    ------
    UsageError
        The condition cannot be read, or names what is not there.
    """
    outcome = _evaluate(table, condition)
    return np.asarray(outcome == 1)


def positive_rows(table: pa.Table, conditions: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Which rows are positive, and for which that is known, each shape (N,) bool.

    A condition is ``column=value`` (equal as text or as a number) or SQL; several are joined by
    or. A row is known where no condition comes out null.

    Raises
    ------
    UsageError
        As in `matching_rows`; no row is positive.
    """
    positive = np.zeros(len(table), dtype=bool)
    known = np.ones(len(table), dtype=bool)
    began = time.monotonic()
    for condition in conditions:
        outcome = _evaluate(table, _as_sql(table, condition), time.monotonic() - began)
        positive |= outcome == 1
        known &= outcome >= 0
    return positive & known, known


def _as_sql(table: pa.Table, condition: str) -> str:
    column, equals, value = condition.partition("=")
    column, value = column.strip(), value.strip()
    plain = equals and column.replace("_", "").isalnum() and not value.startswith(("=", "'", '"'))
    if not plain:
        return condition
    if column not in table.column_names:
        raise unknown("column", column, table.column_names)
    kind = table.schema.field(column).type
    name = '"' + column.replace('"', '""') + '"'
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        try:
            return f"{name} = {float(value)!r}"
        except ValueError:
            raise UsageError(
                f"{condition!r}: column {column} holds numbers ({kind}), got {value!r}"
            ) from None
    quoted = value.replace("'", "''")
    return f"CAST({name} AS VARCHAR) = '{quoted}'"


def _evaluate(table: pa.Table, condition: str, used: float = 0.0) -> np.ndarray:
    """1 where the condition holds, 0 where not, -1 where it comes out null; shape (N,) int8."""
    if not condition.strip():
        raise UsageError('empty condition; expected SQL such as "z < 0.2 and mag_r < 19"')
    bounds: Bounds | None = getattr(_bounds, "held", None)
    try:
        if bounds is None or is_plain(condition):
            return evaluate(table, condition)
        return evaluate_apart(table, condition, bounds.after(used))
    except Refused as reason:
        raise _refusal(table, condition, str(reason)) from None


def _refusal(table: pa.Table, condition: str, why: str) -> UsageError:
    missing = re.search(r'Referenced column "(.*)" not found', why)
    if missing:
        return unknown("column", missing[1], table.column_names, f"in {condition!r}")
    if ROW in why:  # what DuckDB says where an aggregate stands beside a plain column
        why = "an aggregate has one value for all rows, not one for each"
    return UsageError(f"condition {condition!r} cannot be used: {why}")
