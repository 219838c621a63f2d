"""Rows by an SQL condition on the catalogue, with DuckDB shut off from files and network."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from skytwin.errors import UsageError, unknown

__all__ = ["matching_rows", "positive_rows"]


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
    for condition in conditions:
        outcome = _evaluate(table, _as_sql(table, condition))
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


def _evaluate(table: pa.Table, condition: str) -> np.ndarray:
    """1 where the condition holds, 0 where not, -1 where it comes out null; shape (N,) int8."""
    import duckdb  # slow to import, and most searches have no condition

    if not condition.strip():
        raise UsageError('empty condition; expected SQL such as "z < 0.2 and mag_r < 19"')
    connection = duckdb.connect(
        config={"enable_external_access": "false", "python_enable_replacements": "false"}
    )
    try:
        connection.execute("SET lock_configuration = true")
        relation = connection.from_arrow(table)
        # As an expression, never pasted into a statement: it cannot end it and begin another.
        outcome = relation.project(duckdb.SQLExpression(f"({condition})").alias("outcome"))
        if str(outcome.types[0]) != "BOOLEAN":
            raise UsageError(
                f"condition {condition!r} gives {outcome.types[0]}, not yes or no; expected a "
                'comparison such as "z < 0.2"'
            )
        result = outcome.to_arrow_table()
    except duckdb.Error as error:
        first = str(error).splitlines()[0]
        raise UsageError(
            f"condition {condition!r} cannot be used: {first}; columns: "
            f"{', '.join(table.column_names)}"
        ) from None
    finally:
        connection.close()
    values = result["outcome"].cast(pa.int8()).fill_null(-1)
    return np.asarray(values.to_numpy())
