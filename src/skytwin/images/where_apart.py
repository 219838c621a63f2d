"""An SQL condition by DuckDB: in this process, or in one of its own that is bounded.

Run as ``python -P -m skytwin.images.where_apart BYTES SECONDS`` with the condition and the table on
standard input; what comes out goes to standard output, or a reason in one line to standard error.
"""

from __future__ import annotations

import json
import struct
import sys
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from skytwin.images.apart import REFUSED, bound_this_process, run_apart

__all__ = ["ROW", "Bounds", "Refused", "evaluate", "evaluate_apart", "is_plain", "main"]

ROW = "__skytwin_row"
_CONFIG: dict[str, Any] = {"enable_external_access": "false", "python_enable_replacements": "false"}

#: What a condition is made of that costs no more than reading its columns does.
_PLAIN_PARTS = {
    *("COMPARISON", "CONJUNCTION", "CONSTANT", "COLUMN_REF", "OPERATOR", "BETWEEN", "CAST"),
    *("CASE", "FUNCTION", "TYPE"),
}
_PLAIN_FUNCTIONS = {
    *("+", "-", "*", "/", "//", "%", "^", "**", "~~", "!~~", "~~*", "!~~*"),
    *("abs", "floor", "ceil", "round", "sqrt", "ln", "log", "log10", "log2", "exp", "pow", "power"),
    *("sin", "cos", "tan", "asin", "acos", "atan", "atan2", "radians", "degrees", "sign"),
    *("greatest", "least", "isnan", "isfinite", "isinf", "lower", "upper", "length", "contains"),
    *("prefix", "suffix", "starts_with", "ends_with", "trim"),
}


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """What one condition may take.

    Attributes
    ----------
    seconds : float
    memory : int
        Bytes beside those of the columns that it names.
    """

    seconds: float
    memory: int

    def after(self, used: float) -> Bounds:
        """What is left of them after some seconds."""
        return replace(self, seconds=max(0.05, self.seconds - used))


class Refused(Exception):
    """A condition cannot be used; the message is the reason."""


def evaluate(table: pa.Table, condition: str) -> np.ndarray:
    """1 where the condition holds, 0 where not, -1 where it comes out null; shape (N,) int8.

    Raises
    ------
    Refused
        It cannot be read, names what is not there, or is neither yes nor no.
    """
    import duckdb  # slow to import, and most searches have no condition

    connection = duckdb.connect(config=_CONFIG)
    try:
        connection.execute("SET lock_configuration = true")
        # With its row number, because window functions return rows in an order of their own.
        relation = connection.from_arrow(table.append_column(ROW, [np.arange(len(table))]))
        # As an expression, never pasted into a statement: it cannot end it and begin another.
        outcome = relation.project(
            duckdb.ColumnExpression(ROW),
            duckdb.SQLExpression(f"({condition})").alias("outcome"),
        )
        if len(outcome.types) != 2:
            raise Refused(f"it gives {len(outcome.types) - 1} values for a row, not one")
        if str(outcome.types[1]) != "BOOLEAN":
            raise Refused(
                f"it gives {outcome.types[1]}, not yes or no; expected a comparison such as "
                '"z < 0.2"'
            )
        result = outcome.to_arrow_table()
    except duckdb.Error as error:
        raise Refused(str(error).splitlines()[0]) from None
    finally:
        connection.close()
    values = np.empty(len(table), dtype=np.int8)
    values[result[ROW].to_numpy()] = result["outcome"].cast(pa.int8()).fill_null(-1).to_numpy()
    return values


def is_plain(condition: str) -> bool:
    """Whether a condition is nothing but comparisons and arithmetic of columns and constants."""
    import duckdb

    connection = duckdb.connect(config=_CONFIG)
    try:
        asked = "select json_serialize_sql(?)"
        (text,) = connection.execute(asked, [f"select ({condition})"]).fetchall()[0]
    except duckdb.Error:  # so deep that its description cannot be written
        return False
    finally:
        connection.close()
    try:
        read = json.loads(text)
    except RecursionError:
        return False
    if read.get("error"):
        return True  # which will be said without anything being worked out
    if len(read["statements"]) != 1 or len(read["statements"][0]["node"]["select_list"]) != 1:
        return False
    return _all_plain(read["statements"][0]["node"]["select_list"])


def _all_plain(part: Any) -> bool:
    if isinstance(part, list):
        return all(map(_all_plain, part))
    if not isinstance(part, dict):
        return True
    kind = part.get("class")
    if kind is not None and kind not in _PLAIN_PARTS:
        return False
    if kind == "FUNCTION" and part.get("function_name") not in _PLAIN_FUNCTIONS:
        return False
    return all(map(_all_plain, part.values()))


def evaluate_apart(table: pa.Table, condition: str, bounds: Bounds) -> np.ndarray:
    """`evaluate` by a process of its own, which may not take more than the bounds.

    Raises
    ------
    Refused
        As `evaluate`; or it takes too long, or too much memory.
    """
    sent = table.select(_named(table, condition))
    content = pa.BufferOutputStream()
    with pa.ipc.new_stream(content, sent.schema) as stream:
        stream.write_table(sent)
    text = condition.encode()
    done = run_apart(
        "skytwin.images.where_apart",
        [str(bounds.memory + 2 * sent.nbytes), str(bounds.seconds)],
        struct.pack("<Q", len(text)) + text + content.getvalue().to_pybytes(),
        seconds=bounds.seconds,
    )
    if done is None:
        raise Refused(f"it takes longer than {bounds.seconds:.3g} s; simplify it")
    if done.returncode == REFUSED:
        raise Refused(done.stderr.decode(errors="replace"))
    if done.returncode != 0 or len(done.stdout) != len(table):
        raise Refused("it takes too much memory or time; simplify it")
    return np.frombuffer(done.stdout, dtype=np.int8)


def _named(table: pa.Table, condition: str) -> list[str]:
    """The columns that a condition can mean, by their names in its text; never none."""
    text = condition.casefold().replace('""', '"')
    every: list[str] = table.column_names
    if "columns" in text or "*" in text.replace("count(*)", ""):
        return every
    return [name for name in every if name.casefold() in text] or every[:1]


def main(arguments: list[str]) -> int:
    """Evaluate what standard input holds; 0, or 3 with the reason on standard error."""
    memory = int(arguments[0])
    bound_this_process(memory, float(arguments[1]))
    # DuckDB holds one processor, and gives up before the system ends the process.
    _CONFIG.update(threads="1", memory_limit=f"{memory // 2}B", temp_directory="")
    content = sys.stdin.buffer.read()
    (size,) = struct.unpack_from("<Q", content)
    condition = content[8 : 8 + size].decode()
    try:
        table = pa.ipc.open_stream(pa.py_buffer(memoryview(content)[8 + size :])).read_all()
        values = evaluate(table, condition)
    except Refused as reason:
        sys.stderr.write(str(reason))
        return REFUSED
    except MemoryError:
        sys.stderr.write("it takes too much memory; simplify it")
        return REFUSED
    sys.stdout.buffer.write(values.tobytes())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
